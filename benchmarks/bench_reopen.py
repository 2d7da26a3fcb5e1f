"""What does opening a database that exists cost, and the first answer from it?

Sketch: opening reads the catalog's header, takes a node id (one commit, so one sync), and reads the
system tables: one pass over their log entries, msgpack at 1 us a column. 1,000 tables are
1,000 entries that become definitions, 30 us each: 30 ms. No segment is touched, so the size of
the tables plays no part.
Data: a database with the flights (336,776 rows, flushed), and one with 1,000 empty tables of five
columns. Modules are loaded already.
Peers: opening a DuckDB file with the same 1,000 tables and asking it for one row.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

import kalamdb_lab as kalam
from benchmarks import flights
from benchmarks.databases import NAMESPACE, kalam_database
from benchmarks.measure import Budget, Figure, Finding, Scale, interleaved

TABLE = "CREATE TABLE t{} (id BIGINT PRIMARY KEY, a TEXT, b INT, c DOUBLE, d TEXT)"


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Open and close; open, ask and close."""
    tables = scale.of(5, 1_000)
    path, peer_path = folder / "tables.kalam", folder / "tables.duckdb"
    with (
        kalam_database(path, durability="normal") as database,
        duckdb.connect(str(peer_path)) as peer,
    ):
        session = database.session(namespace=NAMESPACE)
        for number in range(tables):
            session.execute(TABLE.format(number))
            peer.execute(TABLE.format(number))
    loaded = flights.flushed_database(folder, 1)
    count = "SELECT count(*) FROM flights"
    with kalam.open(loaded) as database:
        assert database.session(namespace=NAMESPACE).execute(count).rows() == [(flights.ROWS,)]
    with kalam.open(path) as database:
        assert len(database.session(namespace=NAMESPACE).definitions()) == tables
    few = tables // 2

    def theirs() -> None:
        with duckdb.connect(str(peer_path)) as peer:
            peer.execute(f"SELECT * FROM t{few}").fetchall()

    times = interleaved(
        {
            "open": _opening(loaded, None),
            "open and count": _opening(loaded, count),
            "open many": _opening(path, None),
            "open many and read": _opening(path, f"SELECT * FROM t{few}"),
            "duckdb": theirs,
        },
        scale.of(1, 15),
    )
    many = f"{tables:,} tables"
    return [
        Figure("open a database of 2 tables", times["open"], budget=Budget("ms", 100)),
        Figure("open it, and count the flights", times["open and count"]),
        Figure(f"open a database of {many}", times["open many"], budget=Budget("ms", 100)),
        Figure(
            f"open a database of {many}, and read one table",
            times["open many and read"],
            "a DuckDB file",
            times["duckdb"],
        ),
    ]


def _opening(path: Path, question: str | None) -> Callable[[], None]:
    def run() -> None:
        with kalam.open(path, create=False) as database:
            session = database.session(namespace=NAMESPACE)
            if question is not None:
                session.execute(question)

    return run


def test_an_opened_database_knows_its_tables(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
