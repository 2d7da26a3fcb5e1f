"""Do subscriptions and jobs that came and went leave anything behind?

Sketch: a subscription is a queue, an entry of a registry, a row of a table of constants and one of
``system.live_queries``; all go when it closes, and the thread with the last one. A job is a row,
which stays listed on purpose: some 1.5 kB of Python objects, so 1.5 MB for 1,000.
Data: 1,000 subscriptions opened, told of one insert and closed, one after the other; 1,000 flushes
of a table with one new row. Each after a warm-up of a tenth.
Peers: none; the process before.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench_memory import resident_mb
from benchmarks.databases import NAMESPACE, kalam_database
from benchmarks.measure import Figure, Finding, Scale, Skipped, timed
from kalamdb_lab.testing.jobs import finished

MOST_GROWTH = 1.05


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Compare threads and resident memory before and after."""
    rounds = scale.of(10, 1_000)
    if resident_mb() is None:
        return [Skipped("resident memory", "this system does not tell it in /proc")]
    with kalam_database(folder / "live-memory.kalam", durability="normal") as database:
        session = database.session(namespace=NAMESPACE)
        session.execute("CREATE TABLE heard (id BIGINT PRIMARY KEY, k INT)")
        session.execute("CREATE TABLE flushed (id BIGINT PRIMARY KEY)")

        def subscribe(start: int, count: int) -> None:
            for number in range(start, start + count):
                with session.subscribe("SUBSCRIBE TO heard WHERE k = ?", [number]) as events:
                    assert events.next(timeout=30).kind == "initial"
                    session.execute("INSERT INTO heard VALUES (?, ?)", [number, number])
                    assert events.next(timeout=30).kind == "insert"
            assert session.execute("SELECT * FROM system.live_queries").row_count == 0

        def flush(start: int, count: int) -> None:
            for number in range(start, start + count):
                session.execute("INSERT INTO flushed VALUES (?)", [number])
                (row,) = finished(session, "STORAGE FLUSH TABLE flushed").rows()
                assert database.jobs.wait(row[0], timeout=60).status.value == "completed"

        return [
            _grown(f"{rounds:,} subscriptions opened, told and closed, in all", subscribe, rounds),
            _grown(f"{rounds:,} inserts and flush jobs, in all", flush, rounds),
        ]


def _grown(what: str, work: Callable[[int, int], None], rounds: int) -> Finding:
    work(0, rounds // 10)
    gc.collect()
    before, threads = resident_mb(), threading.active_count()
    _, samples = timed(lambda: work(rounds, rounds))
    gc.collect()
    after = resident_mb()
    assert before is not None
    assert after is not None
    note = (
        f"{before:.0f} MB before, {after:.0f} MB after: {after / before:.3f}x, "
        f"budget {MOST_GROWTH}x; threads {threads} before, {threading.active_count()} after"
    )
    return Figure(what, samples, note=note)


def test_subscriptions_and_jobs_come_and_go(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
