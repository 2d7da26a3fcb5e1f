"""Laws of subscriptions: what they told amounts to what a SELECT answers, however it came about."""

from __future__ import annotations

import threading
import time
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.events import LiveEvent
from kalamdb_lab.live.subscription import Subscription
from kalamdb_lab.model.jobs import JobStatus

SOON = 30

SLOWLY = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Rows = dict[int, dict[str, Any]]

KEYS = st.integers(0, 6)
GENRES = st.sampled_from(["jz", "fk", "ää"])
CONDITIONS = st.sampled_from(
    [
        ("true", ()),
        ("genre = 'jz'", ()),
        ("genre = ? AND n > ?", ("jz", 3)),
        ("n % 2 = 0 OR genre = 'fk'", ()),
        ("n BETWEEN 2 AND ?", (6,)),
        ("genre LIKE '%k' AND n + 1 > 2", ()),
        ("n IS NULL", ()),
    ]
)
STATEMENTS = st.one_of(
    st.tuples(st.just("INSERT INTO t VALUES (?, ?, ?) ON CONFLICT DO NOTHING"),
              st.tuples(KEYS, GENRES, st.none() | st.integers(0, 9))),
    st.tuples(st.just("INSERT INTO t VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET n = excluded.n"),
              st.tuples(KEYS, GENRES, st.integers(0, 9))),
    st.tuples(st.just("UPDATE t SET genre = ? WHERE id >= ?"), st.tuples(GENRES, KEYS)),
    st.tuples(st.just("UPDATE t SET n = n + ? WHERE id = ?"), st.tuples(st.integers(0, 2), KEYS)),
    st.tuples(st.just("DELETE FROM t WHERE id = ?"), st.tuples(KEYS)),
    st.tuples(st.just("DELETE FROM t WHERE n > ?"), st.tuples(st.integers(0, 9))),
    st.tuples(st.just("BULK"), st.tuples(st.integers(6, 12))),
    st.tuples(st.sampled_from(["BEGIN", "COMMIT", "ROLLBACK"]), st.just(())),
    st.tuples(st.sampled_from(["STORAGE FLUSH TABLE t", "STORAGE COMPACT TABLE t"]), st.just(())),
)  # fmt: skip


class World:
    """A table, a writer, and what its statements do."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self.root = opened.session()
        self.writer = opened.session("mia")
        self._bulk = count(100)
        self.root.execute("CREATE USER TABLE t (id INT PRIMARY KEY, genre TEXT, n INT)")

    def run(self, sql: str, params: tuple[Any, ...]) -> None:
        """Run a statement, or leave it if it does not fit where it stands."""
        if sql == "BULK":
            ids = [next(self._bulk) for _ in range(params[0])]
            rows = [{"id": at, "genre": "jz" if at % 2 else "fk", "n": at % 10} for at in ids]
            self.writer.insert("t", rows)
        elif sql.startswith("STORAGE"):
            for job_id, *_ in self.root.execute(sql).rows():
                job = self._opened.database.jobs.wait(job_id, timeout=SOON)
                assert job.status is JobStatus.COMPLETED
        elif sql in ("BEGIN", "COMMIT", "ROLLBACK"):
            if self.writer.in_transaction != (sql == "BEGIN"):
                self.writer.execute(sql)
        else:
            try:
                self.writer.execute(sql, params)
            except KalamError as error:
                assert error.code == "CONFLICT"

    def finish(self) -> None:
        if self.writer.in_transaction:
            self.writer.execute("COMMIT")

    def selected(self, condition: str, params: tuple[Any, ...]) -> Rows:
        answer = self.writer.execute(f"SELECT *, _seq FROM t WHERE {condition}", params)
        rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows()]
        return {row["id"]: row for row in rows}

    def close(self) -> None:
        self.writer.close()
        self.root.execute("DROP TABLE t")


def fold(rows: Rows, event: LiveEvent) -> None:
    """Do to the rows of a reader what an event says, which must fit them."""
    if event.kind == "initial":
        if event.get("reset"):
            rows.clear()
        for row in event.rows:
            rows[row["id"]] = row
    elif event.kind == "insert":
        (row,) = event.rows
        assert row["id"] not in rows
        rows[row["id"]] = row
    elif event.kind == "update":
        (row,), (old,) = event.rows, event.old_rows
        assert rows[row["id"]] == old
        rows[row["id"]] = row
    else:
        assert event.kind == "delete"
        (old,) = event.old_rows
        assert rows.pop(old["id"]) == old


def read_to(subscription: Subscription, writer: Session, rows: Rows) -> list[LiveEvent]:
    """Fold all events so far: a row that is put and taken away again is the last of them."""
    writer.execute("INSERT INTO t VALUES (-1, 'jz', 4)")
    writer.execute("DELETE FROM t WHERE id = -1")
    events = []
    while True:
        event = subscription.next(SOON)
        assert event is not None
        if event.kind == "delete" and event.old_rows[0]["id"] == -1:
            return events
        if event.kind != "insert" or event.rows[0]["id"] != -1:
            fold(rows, event)
            events.append(event)


@pytest.mark.slow
@SLOWLY
@given(
    before=st.lists(STATEMENTS, max_size=6),
    after=st.lists(STATEMENTS, min_size=1, max_size=15),
    condition=CONDITIONS,
    batch_size=st.sampled_from([1, 3, 1_000]),
)
def test_first_rows_and_changes_amount_to_the_answer(
    studio: Any, before: Any, after: Any, condition: Any, batch_size: int
) -> None:
    world = World(studio)
    try:
        for statement in before:
            world.run(*statement)
        world.finish()
        sql, params = condition
        condition_sql = f"({sql}) OR id = -1"
        with world.writer.subscribe(
            f"SUBSCRIBE TO t WHERE {condition_sql}", params, batch_size=batch_size
        ) as subscription:
            for statement in after:
                world.run(*statement)
            world.finish()
            rows: Rows = {}
            events = read_to(subscription, world.writer, rows)
            assert rows == world.selected(sql, params)
            numbers = [event.seq for event in events if event.kind != "initial"]
            assert numbers == sorted(set(numbers)), "each change once, in order"
    finally:
        world.close()


@pytest.mark.slow
@SLOWLY
@given(
    before=st.lists(STATEMENTS, max_size=8),
    between=st.lists(STATEMENTS, max_size=8),
    after=st.lists(STATEMENTS, max_size=8),
    condition=CONDITIONS,
    stop_after=st.integers(1, 8),
)
def test_who_stops_anywhere_and_comes_back_has_the_answer(
    studio: Any, before: Any, between: Any, after: Any, condition: Any,
    stop_after: int,
) -> None:  # fmt: skip
    world = World(studio)
    sql, params = condition
    statement = f"SUBSCRIBE TO t WHERE ({sql}) OR id = -1"
    try:
        for item in before:
            world.run(*item)
        world.finish()
        rows: Rows = {}
        with world.writer.subscribe(statement, params, batch_size=2) as subscription:
            for item in between:
                world.run(*item)
            world.finish()
            seq = 0
            for _ in range(stop_after):
                event = subscription.next(0.3)
                if event is None:
                    break
                fold(rows, event)
                seq = event.seq
        for item in after:
            world.run(*item)
        world.finish()
        with world.writer.subscribe(statement, params, batch_size=3, from_seq=seq) as subscription:
            gone: list[LiveEvent] = []
            while True:
                event = subscription.next(SOON)
                assert event is not None
                if event.kind == "delete":  # of a row that the reader may never have read
                    rows.pop(event.old_rows[0]["id"], None)
                    gone.append(event)
                else:
                    fold(rows, event)
                if event.kind == "initial" and not event.has_more:
                    break
            while subscription._queue._initial is not None:
                event = subscription.next(0)
                if event is not None:
                    assert event.kind == "delete"
                    rows.pop(event.old_rows[0]["id"], None)
            read_to(subscription, world.writer, rows)
        assert rows == world.selected(sql, params)
    finally:
        world.close()


@pytest.mark.slow
def test_a_hundred_subscribers_hear_each_event_once_in_order(studio: Any, s: Session) -> None:
    s.execute("CREATE TABLE heard (id INT PRIMARY KEY, k INT) WITH (ACCESS_LEVEL = 'PUBLIC')")
    threads = threading.active_count()
    sessions = [studio.session(user) for user in ("mia", "tom", "sven", "dora")]
    subscriptions = [
        sessions[at % 4].subscribe("SUBSCRIBE TO heard WHERE k = ?", [at % 50]) for at in range(100)
    ]
    told: list[list[int]] = [[] for _ in subscriptions]

    def read(at: int) -> None:
        for event in subscriptions[at]:
            told[at] += [row["id"] for row in event.rows]

    readers = [threading.Thread(target=read, args=(at,)) for at in range(100)]
    for reader in readers:
        reader.start()

    def write(first: int) -> None:
        session = studio.session("sven")
        for at in range(first, first + 250):
            session.execute("INSERT INTO heard VALUES (?, ?)", [at, at % 50])

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 250)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    order = [row[0] for row in s.execute("SELECT id FROM heard ORDER BY _seq").rows()]
    until(lambda: sum(map(len, told)) == 1_000)
    for session in sessions:
        session.close()
    for reader in readers:
        reader.join(SOON)
        assert not reader.is_alive()
    for at, numbers in enumerate(told):
        assert numbers == [number for number in order if number % 50 == at % 50]
    live = studio.database._context.live
    assert (live.open_count, live._registry._hubs, live._watch.wanted) == (0, {}, {})
    assert s.execute("SELECT count(*) FROM system.live_queries").rows() == [(0,)]
    until(lambda: threading.active_count() <= threads)


@pytest.mark.slow
def test_a_thousand_opened_and_closed_leave_nothing(studio: Any, mia: Session, s: Session) -> None:
    import gc
    import tracemalloc

    s.execute("CREATE USER TABLE heard (id INT PRIMARY KEY, k INT)")

    def cycle(first: int, cycles: int) -> None:
        for at in range(first, first + cycles):
            with mia.subscribe("SUBSCRIBE TO heard WHERE k = ?", [at], last_rows=0) as subscription:
                if at % 20 == 0:
                    mia.execute("INSERT INTO heard VALUES (?, ?)", [at, at])
                    subscription.next(SOON)
                    assert subscription.next(SOON).rows[0]["id"] == at  # type: ignore[union-attr]

    cycle(0, 100)
    gc.collect()
    threads = threading.active_count()
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    cycle(100, 1_000)
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    until(lambda: threading.active_count() <= threads)
    ours = [tracemalloc.Filter(True, "*/kalamdb_lab/live/*")]
    grown = sum(
        item.size_diff
        for item in after.filter_traces(ours).compare_to(before.filter_traces(ours), "filename")
    )
    assert grown < 200_000, "bytes that the live queries keep"
    assert studio.database._context.live.open_count == 0
    assert s.execute("SELECT count(*) FROM system.live_queries").rows() == [(0,)]


def until(fact: Any) -> None:
    """Wait until something holds, which another thread brings about."""
    deadline = time.monotonic() + SOON
    while not fact():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
