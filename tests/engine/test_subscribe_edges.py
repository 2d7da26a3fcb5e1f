"""Subscriptions at their edges: ended while they begin, held up, resumed late, left open at exit."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from subscribed import SOON, TRACKS, ids, nexts

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live import event_queue, hub, manager
from kalamdb_lab.live.event_queue import EventQueue
from kalamdb_lab.live.events import LiveEvent
from kalamdb_lab.live.results import LiveResult


@pytest.fixture
def tracks(s: Session) -> None:
    s.execute(TRACKS)


class Held:
    """Holds the first read of one thread until it is let go; all that it does is done."""

    def __init__(self, studio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reached, self._go_on = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        queries = studio.database._context.queries
        execute = queries.execute

        def held(*args: Any) -> Any:
            rows = execute(*args)
            if threading.current_thread() is self._thread:
                self._reached.set()
                assert self._go_on.wait(SOON)
            return rows

        monkeypatch.setattr(queries, "execute", held)

    def during(self, begin: Callable[[], Any], meanwhile: Callable[[], object]) -> Any:
        """Return what ``begin`` gives, while whose first rows are read something happens."""
        given: list[Any] = []
        self._thread = threading.Thread(target=lambda: given.append(begin()))
        self._thread.start()
        assert self._reached.wait(SOON)
        meanwhile()
        self._go_on.set()
        self._thread.join(SOON)
        return given[0]


@pytest.fixture
def held(studio: Any, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(studio, monkeypatch)


def listed(s: Session) -> list[tuple[Any, ...]]:
    return s.execute("SELECT query FROM system.live_queries").rows()


def until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not fact():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


# --- ended while it begins --------------------------------------------------------------------


def test_one_whose_table_goes_while_it_begins_is_told_so_and_not_listed(
    held: Held, studio: Any, mia: Session, s: Session, tracks: None
) -> None:
    live = studio.database._context.live

    def drop() -> None:
        s.execute("DROP TABLE tracks")
        until(lambda: live.open_count == 0)

    subscription = held.during(lambda: mia.subscribe("SUBSCRIBE TO tracks"), drop)
    assert [event.reason for event in subscription] == [None, "table dropped"]
    assert listed(s) == []


@pytest.mark.parametrize("begin", ["subscribe", "live"])
def test_one_that_begins_while_its_session_is_closed_ends_with_it(
    held: Held, mia: Session, s: Session, tracks: None, begin: str
) -> None:
    one = held.during(lambda: getattr(mia, begin)("SELECT * FROM tracks"), mia.close)
    if isinstance(one, LiveResult):
        assert one.ended == "session ended"
    else:
        assert [event.reason for event in one][-1] == "session ended"
    assert listed(s) == []


def test_who_reads_while_an_end_is_being_written_does_not_find_it_listed(
    studio: Any, mia: Session, s: Session, tracks: None
) -> None:
    subscription = mia.subscribe("SUBSCRIBE TO tracks")
    registrations = studio.database._context.live.registrations
    found: list[Any] = []
    writing = threading.Thread(target=subscription.close)
    reading = threading.Thread(target=lambda: found.extend(listed(s)))
    with studio.database._context.log.commit():  # the end has to wait for its turn
        writing.start()
        until(registrations._writing.locked)
        until(lambda: not registrations._ended)
        reading.start()
        reading.join(0.1)
    writing.join(SOON)
    reading.join(SOON)
    assert found == []


def test_a_listener_who_ends_a_live_result_is_not_ahead_of_the_other_listeners(
    mia: Session, tracks: None
) -> None:
    live = mia.live("SELECT id FROM tracks", throttle_s=0)
    told: list[tuple[int, str | None]] = []
    live.watch(lambda difference: live.close() if len(difference.inserted) else None)
    live.watch(lambda difference: told.append((len(difference.inserted), difference.ended)))
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    until(lambda: len(told) == 3)
    assert told == [(0, None), (1, None), (0, "closed")]


# --- what holds up nobody ---------------------------------------------------------------------


def test_an_async_reader_who_gives_up_during_a_large_batch_gets_it_next(
    mia: Session, tracks: None
) -> None:
    mia.insert("tracks", [{"id": at, "genre": "jz", "seconds": 1} for at in range(30_000)])

    async def main() -> list[int]:
        subscription = mia.subscribe("SUBSCRIBE TO tracks", batch_size=10_000)
        told: list[int] = []
        for timeout in [0.0, 0.0001, 0.001, *[SOON] * 3]:
            try:
                event = await asyncio.wait_for(anext(subscription), timeout)
            except TimeoutError:
                continue
            told += ids(event)
            if not event.has_more:
                break
        subscription.close()
        return told

    assert asyncio.run(main()) == list(range(30_000))


def test_callbacks_that_never_return_hold_up_no_other(mia: Session, tracks: None) -> None:
    go_on, told = threading.Event(), threading.Event()
    try:
        blocked = [
            mia.subscribe("SUBSCRIBE TO tracks", callback=lambda _: go_on.wait()) for _ in range(12)
        ]
        last = mia.subscribe("SUBSCRIBE TO tracks", callback=lambda _: told.set())
        assert told.wait(SOON)
    finally:
        go_on.set()
    for subscription in (*blocked, last):
        subscription.close()


# --- one change of very many rows -------------------------------------------------------------


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_MOST_PAIRS", 300)


def test_many_filters_over_many_rows_are_asked_in_parts_with_the_same_answer(
    in_parts: None, mia: Session, tracks: None
) -> None:
    bounds = [at % 40 for at in range(50)]
    subscriptions = [
        mia.subscribe("SUBSCRIBE TO tracks WHERE seconds >= ? OR genre = 'fk'", [bound])
        for bound in bounds
    ]
    rows = [{"id": at, "genre": "jz", "seconds": at % 40} for at in range(100)]
    mia.insert("tracks", rows)
    mia.execute("UPDATE tracks SET seconds = 39 - seconds WHERE id >= 0")
    for bound, subscription in zip(bounds, subscriptions, strict=True):
        want = Counter(("insert", row["id"]) for row in rows if row["seconds"] >= bound)
        for row in rows:
            was, now = row["seconds"] >= bound, 39 - row["seconds"] >= bound
            if was or now:
                kind = "update" if was and now else "insert" if now else "delete"
                want["second", kind, row["id"]] += 1
        events = nexts(subscription, 1 + sum(want.values()))[1:]
        first = sum(row["seconds"] >= bound for row in rows)
        got = Counter((event.kind, event.rows[0]["id"]) for event in events[:first])
        for event in events[first:]:
            (row,) = event.rows or event.old_rows
            got["second", event.kind, row["id"]] += 1
        assert got == want
        assert [event.seq for event in events] == sorted(event.seq for event in events)
        subscription.close()


def test_those_who_meet_the_same_rows_of_a_large_change_share_its_events(
    mia: Session, tracks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: list[int] = []
    taken = EventQueue.put

    def noted(self: EventQueue, rows: Any, *rest: Any) -> bool:
        put.append(id(rows))
        return taken(self, rows, *rest)

    monkeypatch.setattr(EventQueue, "put", noted)
    subscriptions = [
        mia.subscribe("SUBSCRIBE TO tracks WHERE seconds > ?", [at]) for at in range(20)
    ]
    mia.insert("tracks", [{"id": at, "genre": "jz", "seconds": 100} for at in range(200)])
    assert all(nexts(subscription, 2)[1].kind == "insert" for subscription in subscriptions)
    assert (len(put), len(set(put))) == (20, 1)
    for subscription in subscriptions:
        subscription.close()


def test_of_one_change_no_more_rows_wait_than_a_bound(
    mia: Session, tracks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kalamdb_lab.partitions import changes

    monkeypatch.setattr(changes, "_CHUNK_ROWS", 4_000)
    monkeypatch.setattr(event_queue, "_MOST_OF_ONE_CHANGE", 15_000)
    monkeypatch.setattr(manager, "_PATIENCE_S", 3600.0)
    subscription = mia.subscribe("SUBSCRIBE TO tracks")
    mia.insert("tracks", [{"id": at, "genre": "jz", "seconds": 1} for at in range(30_000)])
    until(lambda: not subscription.is_open)
    kinds = [event.kind for event in subscription]
    assert kinds[-2:] == ["lagged", "closed"]


# --- coming back late -------------------------------------------------------------------------


def test_who_stopped_within_a_statement_hears_of_the_rest_after_the_log_was_trimmed(
    studio: Any, mia: Session, s: Session, tracks: None
) -> None:
    s.execute("CREATE TABLE others (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')")
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1), (2, 'jz', 1), (3, 'jz', 1)")
    with mia.subscribe("SUBSCRIBE TO tracks") as subscription:
        nexts(subscription, 1)
        s.execute("INSERT INTO others VALUES (1)")  # stays in the log: it is not flushed
        mia.execute("DELETE FROM tracks WHERE id > 0")
        gone = nexts(subscription, 1)[0]
    (job,) = s.execute("STORAGE FLUSH TABLE tracks").rows()
    studio.database.jobs.wait(job[0], timeout=SOON)
    log = studio.database._context.log
    with log.store.read() as transaction:
        (deleted,) = (e for e in transaction.entries_after(gone.seq - 1) if e.seq == gone.seq)
    with log.commit() as commit:  # what a run of retention would trim, up to this statement
        commit.transaction.connection.execute(
            "UPDATE log SET at_us = at_us + 9000000000 WHERE seq > ?", (deleted.seq,)
        )
        commit.transaction.trim_log(deleted.at_us + 1)
    with mia.subscribe("SUBSCRIBE TO tracks", from_seq=gone.seq) as again:
        event = nexts(again, 1)[0]
        assert (event.get("reset"), event.rows) == (True, []), "2 and 3 are to be forgotten"


def test_who_lags_before_hearing_of_a_reset_hears_of_it_when_coming_back(
    mia: Session, tracks: None
) -> None:
    queue = mia.subscribe("SUBSCRIBE TO tracks", from_seq=999_999_999)._queue
    assert queue._resume_seq == 999_999_999


# --- what a condition may be ------------------------------------------------------------------


@pytest.mark.parametrize(
    "call", ["random()", "uuid()", "gen_random_uuid()", "UUID_V7()", "ULID()", "SNOWFLAKE_ID()"]
)
def test_what_is_another_value_each_time_is_no_condition(
    mia: Session, tracks: None, refused: Any, call: str
) -> None:
    message = "Random values and new ids are not supported in the WHERE of a live query"
    with pytest.raises(KalamError) as caught:
        mia.subscribe(f"SUBSCRIBE TO tracks WHERE CAST({call} AS TEXT) <> genre")
    assert (caught.value.code, caught.value.message) == ("NOT_SUPPORTED", message)
    assert mia.execute(f"SELECT CAST({call} AS TEXT) <> genre FROM tracks").rows() == []
    with mia.subscribe("SUBSCRIBE TO tracks WHERE lower(genre) <> 'random'") as subscription:
        assert nexts(subscription, 1)[0].kind == "initial"


# --- left open --------------------------------------------------------------------------------

LEFT_OPEN = """
import sys, threading, time
import kalamdb_lab as kalam
session = kalam.open(sys.argv[1]).session()
session.execute("CREATE TABLE t (id INT PRIMARY KEY, n INT)")
subscriptions = [session.subscribe("SUBSCRIBE TO t WHERE n + 1 > ?", [at]) for at in range(5)]
lives = [session.live("SELECT n % 2, count(*) FROM t GROUP BY 1", throttle_s=0) for _ in range(2)]
print(subscriptions[0].next(20).kind, flush=True)
for at in range(60):
    session.execute("INSERT INTO t VALUES (?, ?)", [at, at % 7])
print("end", flush=True)
"""


@pytest.mark.slow
def test_the_interpreter_ends_at_once_with_subscriptions_left_open(tmp_path: Path) -> None:
    for attempt in range(3):  # whether a thread is at work then is a matter of chance
        begun = subprocess.Popen(
            [sys.executable, "-c", LEFT_OPEN, str(tmp_path / f"{attempt}.kalam")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        out, err = begun.communicate(timeout=60)
        assert (begun.returncode, out, err) == (0, "initial\nend\n", "")


# --- callbacks --------------------------------------------------------------------------------


def test_what_a_callback_gets_nobody_else_reads(mia: Session, tracks: None) -> None:
    told: queue.SimpleQueue[LiveEvent] = queue.SimpleQueue()
    subscription = mia.subscribe("SUBSCRIBE TO tracks", callback=told.put)
    with pytest.raises(KalamError, match="go to its callback; subscribe again to read them"):
        subscription.next(timeout=0)
    with pytest.raises(KalamError, match="go to its callback"):
        list(subscription)
    assert told.get(timeout=SOON).kind == "initial"
    subscription.close()


def test_a_callback_is_a_function(mia: Session, tracks: None) -> None:
    with pytest.raises(KalamError, match=r"^callback must be a function that takes an event$"):
        mia.subscribe("SUBSCRIBE TO tracks", callback=3)  # type: ignore[arg-type]
