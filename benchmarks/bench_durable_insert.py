"""What does one durable INSERT through SQL cost?

Sketch: SQLite appends a WAL frame and syncs it, 0.3 ms where a disk syncs in that time; without
the sync 0.012 ms. On top come a cached parse (a dict), a row template, the key's look-up (a dict),
msgpack, and the row in memory: five steps of about 10 us, so 0.1 ms is reachable and 0.3 ms the
budget. A DuckDB file writes and syncs its WAL in about 4 ms.
Data: a table of (id BIGINT key, body TEXT, n INT), empty at first, one row in each commit, keys
given by the statement.
Peers: Python's sqlite3 in WAL mode with the same ``synchronous``, and a DuckDB file; both keep the
key unique too.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

from benchmarks.databases import NAMESPACE, duckdb_file, kalam_database, sqlite_file
from benchmarks.measure import Budget, Figure, Finding, Scale, interleaved

BODY = "a line of text, as long as a short message"
INSERT = "INSERT INTO events (id, body, n) VALUES (?, ?, ?)"
SUM = "SELECT count(*), sum(id) FROM events"


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Insert rows one by one into five databases, in turns."""
    repeats = scale.of(5, 400)
    full = kalam_database(folder / "full.kalam")
    normal = kalam_database(folder / "normal.kalam", durability="normal")
    ours = {
        name: database.session(namespace=NAMESPACE)
        for name, database in (("full", full), ("normal", normal))
    }
    for session in ours.values():
        session.execute("CREATE TABLE events (id BIGINT PRIMARY KEY, body TEXT, n INT)")
    sqlite = {
        durability: sqlite_file(folder / f"{durability}.sqlite", durability=durability)
        for durability in ("full", "normal")
    }
    duck = duckdb_file(folder / "events.duckdb")
    for connection in (*sqlite.values(), duck):
        connection.execute("CREATE TABLE events (id BIGINT PRIMARY KEY, body TEXT, n INT)")

    ids = {name: count(1) for name in ("full", "normal", "sqlite", "sqlite normal", "duckdb")}

    def row(name: str) -> list[object]:
        number = next(ids[name])
        return [number, BODY, number % 1_000]

    times = interleaved(
        {
            "full": lambda: ours["full"].execute(INSERT, row("full")),
            "normal": lambda: ours["normal"].execute(INSERT, row("normal")),
            "sqlite": lambda: sqlite["full"].execute(INSERT, row("sqlite")),
            "sqlite normal": lambda: sqlite["normal"].execute(INSERT, row("sqlite normal")),
            "duckdb": lambda: duck.execute(INSERT, row("duckdb")),
        },
        repeats,
        warm_up=min(repeats, 20),
    )
    rows = repeats + min(repeats, 20)
    expected = (rows, rows * (rows + 1) // 2)
    for session in ours.values():
        assert session.execute(SUM).rows() == [expected]
    for connection in (*sqlite.values(), duck):
        assert connection.execute(SUM).fetchone() == expected
        connection.close()
    full.close()
    normal.close()
    one = "one INSERT of one row"
    return [
        Figure(
            f"{one}, durable",
            times["full"],
            "sqlite3, synchronous=FULL",
            times["sqlite"],
            Budget("ratio", 3),
        ),
        Figure(
            f"{one}, durable", times["full"], "a DuckDB file", times["duckdb"], Budget("ratio", 0.2)
        ),
        Figure(
            f"{one}, no sync: our own work",
            times["normal"],
            "sqlite3, synchronous=NORMAL",
            times["sqlite normal"],
            Budget("ms", 0.3),
        ),
    ]


def test_every_database_holds_every_row_once(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
