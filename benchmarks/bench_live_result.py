"""How long after a commit is a live aggregate over a million rows what it must be?

Sketch: kept up to date from changes, a commit of one row costs one small DuckDB statement over that
row, 1.5 ms, and 20 groups made into Arrow, whatever the size of the table. Read anew, it costs the
aggregation of a million rows of which all columns are in memory, some 20 ms on two cores. What lies
between two states of a million rows is found by comparing columns, never rows: 0.5 s at most.
Data: 1,000,000 rows (id BIGINT key, line INT of 20, seconds INT, cents DECIMAL(9, 2)), seed 7,
flushed; updates of one row by its key.
Peers: the same aggregates in a form that is read anew after each change.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.databases import NAMESPACE, kalam_database
from benchmarks.measure import Budget, Figure, Finding, Samples, Scale
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.difference import Difference, changes_between
from kalamdb_lab.live.results import LiveResult

TABLE = "CREATE TABLE rides (id BIGINT PRIMARY KEY, line INT, seconds INT, cents DECIMAL(9, 2))"
VALUES = "count(*) AS n, sum(seconds) AS s, avg(cents) AS mean, max(seconds) AS longest"
KEPT = f"SELECT line, {VALUES} FROM rides GROUP BY line"
READ = f"SELECT line, {VALUES}, count(*) FILTER (WHERE true) AS again FROM rides GROUP BY line"
DEADLINE_S = 60


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Change one row after the other and wait for each difference."""
    count, changes = scale.of(1_000, 1_000_000), scale.of(3, 100)
    with kalam_database(folder / "live.kalam") as database:
        session = database.session(namespace=NAMESPACE)
        session.execute(TABLE)
        session.insert("rides", rides(count))
        times = {}
        longest = 7_200
        for name, text, how in (("kept", KEPT, "incremental"), ("read", READ, "recomputed")):
            longest += changes
            with session.live(text, throttle_s=0) as live:
                assert live.maintenance == how
                times[name] = _follow(session, live, range(longest, longest + changes))
                expected = sorted(session.execute(text).rows())
                shown = zip(*live.snapshot().to_pydict().values(), strict=True)
                assert sorted(shown) == expected
    return [
        Figure(
            f"commit to difference of an aggregate over {count:,} rows",
            times["kept"],
            "read anew",
            times["read"],
            note="both with the UPDATE, which is durable",
        ),
        _difference(count, scale),
    ]


def rides(count: int) -> pa.Table:
    """Return the rows that the table begins with."""
    random = np.random.default_rng(7)
    cents = pa.array(random.integers(100, 10_000, count)).cast(pa.decimal128(19, 0))
    return pa.table(
        {
            "id": np.arange(count),
            "line": random.integers(0, 20, count).astype(np.int32),
            "seconds": random.integers(0, 7_200, count).astype(np.int32),
            "cents": cents.cast(pa.decimal128(21, 2)).cast(pa.decimal128(9, 2)),
        }
    )


def _follow(session: Session, live: LiveResult, seconds: range) -> Samples:
    heard = threading.Event()

    def listener(_: Difference) -> None:
        heard.set()

    stop = live.watch(listener)
    taken, worked = [], []
    for at, longest in enumerate(seconds):
        heard.clear()
        begun, cpu = time.perf_counter(), time.process_time()
        session.execute("UPDATE rides SET seconds = ? WHERE id = ?", [longest, at])
        assert heard.wait(DEADLINE_S)
        taken.append(time.perf_counter() - begun)
        worked.append(time.process_time() - cpu)
    stop()
    return Samples(tuple(taken), tuple(worked))


def _difference(count: int, scale: Scale) -> Finding:
    old = rides(count).append_column("name", pa.array([f"name {at % 5000}" for at in range(count)]))
    seconds = old.column("seconds").to_numpy().copy()
    seconds[::3] += 1
    new = old.set_column(2, "seconds", pa.array(seconds))
    taken = []
    for _ in range(scale.of(1, 9)):
        begun = time.perf_counter()
        changes = changes_between(old, new, [0])
        taken.append(time.perf_counter() - begun)
        assert len(changes.updated) == len(range(0, count, 3))
    return Figure(
        f"difference of two states of {count:,} rows x 5, a third of them updated",
        Samples(tuple(taken), (0.0,)),
        budget=Budget("ms", 500),
    )


def test_a_live_aggregate_is_right_after_each_change(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
