"""What does a statement cost on top of the engine below, when there is next to nothing to compute?

Sketch: with a cached plan a statement is a dict look-up, a snapshot (one PRAGMA, 3 us), a cursor
with one registered table (0.1 ms), the engine itself, and a Result: 0.5 ms of ours is the budget.
Cold, sqlglot parses and generates (0.3 ms each), names are resolved, and the engine's own parser
confirms what was generated (0.2 ms): 2 ms.
Data: 200 rows of (id BIGINT key, g TEXT, x DOUBLE), hot; one GROUP BY with a filter. Cold
statements differ in a constant, so that no cache knows them.
Peers: DuckDB in memory on the same Arrow table, `con.sql(...).to_arrow_table()`.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import duckdb

from benchmarks.databases import NAMESPACE, kalam_database, same_rows
from benchmarks.measure import Budget, Figure, Finding, Scale, interleaved

QUERY = "SELECT g, count(*) AS n, avg(x) AS m FROM small WHERE x > {} GROUP BY g ORDER BY g"
FILL = "INSERT INTO small SELECT i, 'g' || (i % 7), i * 0.5 FROM range(200) r(i)"


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Ask one statement again and again, and statements that were never asked before."""
    repeats = scale.of(2, 300)
    database = kalam_database(folder / "small.kalam")
    session = database.session(namespace=NAMESPACE)
    session.execute("CREATE TABLE small (id BIGINT PRIMARY KEY, g TEXT, x DOUBLE)")
    session.execute(FILL)
    small = session.execute("SELECT * FROM small").to_arrow()
    peer = duckdb.connect()
    peer.register("small", small)
    same = QUERY.format(3)
    assert same_rows(session.execute(same).to_arrow(), peer.sql(same).to_arrow_table())
    numbers = {"ours": count(1), "duckdb": count(1)}

    def new(name: str) -> str:
        return QUERY.format(f"{next(numbers[name]) / 1_000:.3f}")

    warm = interleaved(
        {
            "ours": lambda: session.execute(same).to_arrow(),
            "duckdb": lambda: peer.sql(same).to_arrow_table(),
        },
        repeats,
        warm_up=min(repeats, 20),
    )
    cold = interleaved(
        {
            "ours": lambda: session.execute(new("ours")).to_arrow(),
            "duckdb": lambda: peer.sql(new("duckdb")).to_arrow_table(),
        },
        repeats,
        warm_up=min(repeats, 20),
    )
    peer.close()
    database.close()
    name = "DuckDB on the same Arrow table"
    return [
        Figure(
            "GROUP BY over 200 rows, plan cached",
            warm["ours"],
            name,
            warm["duckdb"],
            Budget("extra_ms", 0.5),
        ),
        Figure(
            "GROUP BY over 200 rows, never seen before",
            cold["ours"],
            name,
            cold["duckdb"],
            Budget("extra_ms", 2),
        ),
    ]


def test_both_give_the_same_groups(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
