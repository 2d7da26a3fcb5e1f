"""How long after a commit does a subscriber hold the event, and what do subscribers cost a writer?

Sketch: the committing thread hands the change over and wakes one thread, 0.1 ms. Filters of one
shape are a join of one changed row with a table of constants: one DuckDB statement, 1.2 ms for
1,000 of them. A change of another process is found when the log is looked at next, every 10 ms, so
5 ms on average and 10 ms at most on top. Nobody listening costs one look at an empty dictionary.
Data: a table of (id BIGINT key, k INT, at BIGINT); subscriptions ``WHERE k = <number>``, each
another number; single inserts that each match exactly one of them. The writer puts its monotonic
clock, which processes share, into the row.
Peers: none; for the cost of listening the same INSERT while nobody listens.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import Self

from benchmarks.databases import NAMESPACE, kalam_database
from benchmarks.measure import Budget, Figure, Finding, Samples, Scale, interleaved, pooled, timed
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.events import LiveEvent

TABLE = "CREATE TABLE events (id BIGINT PRIMARY KEY, k INT, at BIGINT)"
INSERT = "INSERT INTO events VALUES (?, ?, ?)"
DEADLINE_S = 60

WRITER = """
import sys, time
import kalamdb_lab as kalam
session = kalam.open(sys.argv[1]).session(namespace=sys.argv[2])
first, commits, keys = (int(item) for item in sys.argv[3:])
for number in range(first, first + commits):
    time.sleep(0.002 * (number % 7))  # at no fixed moment of the other process' looks
    row = [number, number % keys, time.monotonic_ns()]
    session.execute("INSERT INTO events VALUES (?, ?, ?)", row)
"""


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Insert rows one by one, in this process and in another, with 1, 100 and 1,000 listeners."""
    commits = scale.of(5, 300)
    path = folder / "live.kalam"
    findings: list[Finding] = []
    with kalam_database(path) as database:
        session = database.session(namespace=NAMESPACE)
        session.execute(TABLE)
        ids = count()
        for listeners, limit_ms in ((1, 5), (scale.of(3, 100), 5), (scale.of(5, 1_000), 20)):
            with Listeners(database, listeners) as heard:
                for _ in range(scale.of(1, 20)):
                    heard.write(session, next(ids))
                heard.forget()
                for _ in range(commits):
                    heard.write(session, next(ids))
                findings += _latencies(
                    heard.after(commits), f"{listeners:,} subscriptions, one process", limit_ms
                )
                heard.forget()
                first = next(ids)
                ids = count(first + commits)
                _other_process(path, first, commits, listeners)
                findings += _latencies(
                    heard.after(commits), f"{listeners:,} subscriptions, written by another", 50
                )
        findings.append(_cost_of_listening(database, scale, ids))
    return findings


class Listeners:
    """Subscriptions with distinct filters, and when each event reached them."""

    def __init__(self, database: Database, listeners: int) -> None:
        self._keys = listeners
        self._session = database.session(namespace=NAMESPACE)
        self._heard: dict[int, float] = {}
        self._told = threading.Condition()
        self._subscriptions = [
            self._session.subscribe(
                "SUBSCRIBE TO events WHERE k = ?", [k], last_rows=0, callback=self._hear
            )
            for k in range(listeners)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def _hear(self, event: LiveEvent) -> None:
        now_ns = time.monotonic_ns()
        if event.kind == "insert":
            (row,) = event.rows
            with self._told:
                assert row["id"] not in self._heard, "an event came twice"
                self._heard[row["id"]] = (now_ns - row["at"]) / 1e9
                self._told.notify_all()

    def write(self, session: Session, number: int) -> None:
        """Insert a row and wait until it was heard: commits do not queue up behind each other."""
        session.execute(INSERT, [number, number % self._keys, time.monotonic_ns()])
        with self._told:
            assert self._told.wait_for(lambda: number in self._heard, DEADLINE_S)

    def forget(self) -> None:
        """Begin anew."""
        with self._told:
            self._heard.clear()

    def after(self, commits: int) -> list[float]:
        """Return how long each event took, in seconds, when all have come."""
        with self._told:
            assert self._told.wait_for(lambda: len(self._heard) == commits, DEADLINE_S)
            return list(self._heard.values())


def _other_process(path: Path, first: int, commits: int, keys: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), NAMESPACE, *map(str, (first, commits, keys))],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _latencies(taken_s: list[float], what: str, limit_ms: float) -> list[Finding]:
    p99 = statistics.quantiles(taken_s, n=100, method="inclusive")[98]
    note = "from before the INSERT, which is durable, so its own time is in it"
    return [
        Figure(f"{what}: p50", Samples(tuple(taken_s), (0.0,)), note=note),
        Figure(f"{what}: p99", Samples((p99,), (0.0,)), budget=Budget("ms", limit_ms)),
    ]


def _cost_of_listening(database: Database, scale: Scale, ids: count[int]) -> Finding:
    """Insert into a table that nobody listens to, while somebody listens elsewhere and not."""
    session = database.session(namespace=NAMESPACE)
    session.execute("CREATE TABLE unheard (id BIGINT PRIMARY KEY, k INT, at BIGINT)")
    other = database.session(namespace=NAMESPACE)

    def insert() -> None:
        session.execute("INSERT INTO unheard VALUES (?, 1, 1)", [next(ids)])

    def batch() -> None:
        for _ in range(20):
            insert()

    def while_listening() -> None:
        with other.subscribe("SUBSCRIBE TO events", last_rows=0):
            _, samples = timed(batch)
            listening.append(samples.each(20))

    listening: list[Samples] = []
    times = interleaved({"alone": batch, "beside": while_listening}, scale.of(1, 15))
    return Figure(
        "one INSERT while somebody listens to another table",
        pooled(listening[1:] or listening),  # the first is the warm-up
        "nobody listens",
        times["alone"].each(20),
    )


def test_every_insert_is_heard_once(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
