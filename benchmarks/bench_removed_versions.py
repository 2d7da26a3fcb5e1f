"""What do removed versions cost a reader, before compaction applies them?

Sketch: 1 % of 1,000,000 rows are 10,000 numbers, 80 KB. From Parquet they are an anti-join on
`_seq`, which reads one more column (delta-encoded, 1 ms) and probes a small hash table. Decoded,
the rows that are left out are found by bisection once. Budget 1.2x.
Data: two tables of 1,000,000 rows (id BIGINT key, g TEXT of 50 values, x DOUBLE), seed 11; in one,
every hundredth row was deleted and the removals flushed to the segment's list.
Peers: the same table without removals.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

import kalamdb_lab as kalam
from benchmarks.databases import NAMESPACE, kalam_database
from benchmarks.measure import Budget, Figure, Finding, Samples, Scale, interleaved, pooled, timed
from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

QUERY = "SELECT g, count(*) AS n, avg(x) AS m FROM {} WHERE x > 0.1 GROUP BY g"
SEED = 11
PEER = "the same rows, none removed"


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Group both tables, when just opened and again."""
    count = scale.of(6_000, 1_000_000)
    values = np.random.default_rng(SEED).random(count)
    group = pa.array([f"group {number % 50}" for number in range(count)])
    rows = pa.table({"id": np.arange(count), "g": group, "x": values})
    path = folder / "removed.kalam"
    with kalam_database(path) as database:
        session = database.session(namespace=NAMESPACE)
        for table in ("clean", "holed"):
            session.execute(f"CREATE TABLE {table} (id BIGINT PRIMARY KEY, g TEXT, x DOUBLE)")
            session.insert(table, rows)
        deleted = session.execute("DELETE FROM holed WHERE id % 100 = 3").rows_affected
        assert deleted == count // 100
        finished(session, "STORAGE FLUSH TABLE holed")
    first: dict[str, list[Samples]] = {"clean": [], "holed": []}
    for _ in range(scale.of(1, 5)):
        with kalam.open(path) as database:
            session = database.session(namespace=NAMESPACE)
            for table, samples in first.items():
                samples.append(timed(_asking(session, table))[1])
    with kalam.open(path) as database:
        session = database.session(namespace=NAMESPACE)
        live = session.execute("SELECT count(*), count(DISTINCT id) FROM holed").rows()
        assert live == [(count - deleted, count - deleted)]
        for table in first:
            session.execute(QUERY.format(table))
        again = interleaved(
            {table: _asking(session, table) for table in first},
            scale.of(2, 40),
            warm_up=2,
        )
    budget = Budget("ratio", 1.2)
    return [
        Figure(
            "GROUP BY, 1 % removed: first",
            pooled(first["holed"]),
            PEER,
            pooled(first["clean"]),
            budget,
        ),
        Figure("GROUP BY, 1 % removed: again", again["holed"], PEER, again["clean"], budget),
    ]


def _asking(session: Session, table: str) -> Callable[[], object]:
    return lambda: session.execute(QUERY.format(table))


def test_removed_rows_are_not_counted(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
