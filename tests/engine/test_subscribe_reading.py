"""The ways to read a subscription: iterators, callbacks, a bounded queue, and going on later."""

from __future__ import annotations

import asyncio
import os
import pickle
import queue
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.events import LiveEvent
from kalamdb_lab.live.subscription import Subscription
from kalamdb_lab.model.jobs import JobStatus

SOON = 20
TRACKS = "CREATE USER TABLE tracks (id INT PRIMARY KEY, genre TEXT, seconds INT)"


@pytest.fixture
def tracks(s: Session) -> None:
    s.execute(TRACKS)


@pytest.fixture
def narrow(tmp_path: Path) -> Any:
    """A database of its own whose subscribers may keep ten events waiting."""
    path = tmp_path / "narrow.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text(
        'durability = "normal"\nbulk_rows = 30\nlive_queue_events = 10\n'
    )
    with kalam.open(path) as db:
        session = db.session()
        session.execute("CREATE NAMESPACE studio")
        session.execute("USE studio")
        session.execute(TRACKS)
        yield session


def nexts(subscription: Subscription, count: int) -> list[LiveEvent]:
    events = [subscription.next(SOON) for _ in range(count)]
    assert None not in events
    return [event for event in events if event is not None]


def until(fact: Any) -> None:
    """Wait until something holds, which another thread brings about."""
    deadline = time.monotonic() + SOON
    while not fact():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def finished(session: Session, database: Any, sql: str) -> None:
    for job_id, *_ in session.execute(sql).rows():
        assert database.jobs.wait(job_id, timeout=SOON).status is JobStatus.COMPLETED


# --- events -----------------------------------------------------------------------------------


def test_an_event_is_a_dict_with_attributes(mia: Session, tracks: None) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    with mia.subscribe("SUBSCRIBE TO tracks") as subscription:
        mia.execute("UPDATE tracks SET seconds = 2 WHERE id = 1")
        initial, update = nexts(subscription, 2)
    assert isinstance(initial, dict)
    assert (initial.kind, initial.has_more, initial.old_rows) == ("initial", False, [])
    assert (update.kind, update.rows, update.old_rows) == (
        "update", update["rows"], update["old_values"],
    )  # fmt: skip
    again = pickle.loads(pickle.dumps(update))
    assert (again, again.seq, type(again)) == (update, update.seq, LiveEvent)


# --- iterators --------------------------------------------------------------------------------


def test_a_loop_ends_after_closed(mia: Session, tracks: None) -> None:
    subscription = mia.subscribe("SUBSCRIBE TO tracks")
    kinds = []
    for event in subscription:
        kinds.append(event.kind)
        if event.kind == "initial":
            mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
        elif event.kind == "insert":
            mia.execute(f"KILL LIVE QUERY '{subscription.live_id}'")
    assert kinds == ["initial", "insert", "closed"]


def test_next_gives_up_after_its_time_and_the_subscription_goes_on(
    mia: Session, tracks: None
) -> None:
    with mia.subscribe("SUBSCRIBE TO tracks") as subscription:
        nexts(subscription, 1)
        started = time.monotonic()
        assert subscription.next(0.05) is None
        assert time.monotonic() - started >= 0.05
        assert subscription.is_open


def test_closing_it_wakes_who_waits(mia: Session, tracks: None) -> None:
    subscription = mia.subscribe("SUBSCRIBE TO tracks")
    nexts(subscription, 1)
    got: queue.SimpleQueue[LiveEvent | None] = queue.SimpleQueue()
    waiting = threading.Thread(target=lambda: got.put(subscription.next()))
    waiting.start()
    subscription.close()
    assert got.get(timeout=SOON) is None
    waiting.join(SOON)


def test_async_iterators_wait_beside_each_other(mia: Session, tracks: None) -> None:
    async def main() -> list[list[str]]:
        subscriptions = [mia.subscribe("SUBSCRIBE TO tracks") for _ in range(3)]
        told: list[list[str]] = [[] for _ in subscriptions]

        async def read(at: int) -> list[str]:
            async for event in subscriptions[at]:
                told[at].append(event.kind)
            return told[at]

        async def reached(kinds: list[str]) -> None:
            while any(one != kinds for one in told):  # noqa: ASYNC110 - readers have no event
                await asyncio.sleep(0.01)  # the loop turns while all wait

        tasks = [asyncio.create_task(read(at)) for at in range(3)]
        await asyncio.wait_for(reached(["initial"]), SOON)
        threads = {thread.name for thread in threading.enumerate()}
        assert not any("asyncio" in name for name in threads), "nobody waits in a thread"
        mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
        await asyncio.wait_for(reached(["initial", "insert"]), SOON)
        for subscription in subscriptions[:2]:
            mia.execute(f"KILL LIVE QUERY '{subscription.live_id}'")
        subscriptions[2].close()
        return await asyncio.wait_for(asyncio.gather(*tasks), SOON)

    one, two, three = asyncio.run(main())
    assert one == two == ["initial", "insert", "closed"]
    assert three == ["initial", "insert"]


def test_an_async_reader_that_is_cancelled_loses_nothing(mia: Session, tracks: None) -> None:
    async def main() -> None:
        subscription = mia.subscribe("SUBSCRIBE TO tracks")
        assert (await anext(subscription)).kind == "initial"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(subscription), 0.02)
        mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
        event = await asyncio.wait_for(anext(subscription), SOON)
        assert event.rows[0]["id"] == 1
        subscription.close()

    asyncio.run(main())


# --- callbacks --------------------------------------------------------------------------------


def test_a_callback_gets_each_event_once_in_order_on_another_thread(
    mia: Session, tracks: None
) -> None:
    told: queue.SimpleQueue[tuple[str, LiveEvent]] = queue.SimpleQueue()

    def tell(event: LiveEvent) -> None:
        told.put((threading.current_thread().name, event))

    subscription = mia.subscribe("SUBSCRIBE TO tracks", callback=tell)
    for at in range(300):
        mia.execute("INSERT INTO tracks VALUES (?, 'jz', 1)", [at])
    events = [told.get(timeout=SOON) for _ in range(301)]
    assert [event.rows[0]["id"] for _, event in events[1:]] == list(range(300))
    assert {name for name, _ in events}.isdisjoint({"kalam-live", threading.current_thread().name})
    mia.execute(f"KILL LIVE QUERY '{subscription.live_id}'")
    assert told.get(timeout=SOON)[1].reason == "killed"


def test_a_slow_callback_holds_nobody_else_up(mia: Session, tracks: None) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(event: LiveEvent) -> None:
        begun.set()
        assert go_on.wait(SOON)

    told: queue.SimpleQueue[LiveEvent] = queue.SimpleQueue()
    with (
        mia.subscribe("SUBSCRIBE TO tracks", callback=slow),
        mia.subscribe("SUBSCRIBE TO tracks", callback=told.put),
        mia.subscribe("SUBSCRIBE TO tracks") as subscription,
    ):
        assert begun.wait(SOON)
        mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
        assert [event.kind for event in nexts(subscription, 2)] == ["initial", "insert"]
        assert [told.get(timeout=SOON).kind for _ in range(2)] == ["initial", "insert"]
        go_on.set()


def test_what_a_callback_raises_closes_its_subscription_and_is_kept(
    mia: Session, tracks: None, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: LiveEvent) -> None:
        raise ValueError("a fault of the user")

    subscription = mia.subscribe("SUBSCRIBE TO tracks", callback=fail)
    until(lambda: not subscription.is_open)
    assert str(subscription.error) == "a fault of the user"
    assert f"The callback of live query {subscription.live_id} failed" in caplog.text
    until(lambda: mia.execute("SHOW LIVE QUERIES").rows() == [])


# --- the bounded queue ------------------------------------------------------------------------


def test_who_does_not_read_is_told_where_to_go_on(narrow: Session) -> None:
    subscription = narrow.subscribe("SUBSCRIBE TO tracks")
    for at in range(3):
        narrow.execute("INSERT INTO tracks VALUES (?, 'jz', 1)", [at])
    events = nexts(subscription, 2)
    for at in range(3, 30):
        narrow.execute("INSERT INTO tracks VALUES (?, 'jz', 1)", [at])
    until(lambda: not subscription.is_open)
    events += list(subscription)
    lagged, closed = events[-2:]
    assert lagged == {"type": "lagged", "from_seq": events[-3].seq}
    assert (closed.kind, closed.reason) == ("closed", "lagged")
    told = [row["id"] for event in events for row in event.rows]
    with narrow.subscribe("SUBSCRIBE TO tracks", from_seq=lagged.from_seq) as again:
        (event,) = nexts(again, 1)
        told += [row["id"] for row in event.rows]
        assert "reset" not in event
    assert told == list(range(30)), "nothing is missing, nothing comes twice"
    assert narrow.execute("SELECT count(*) FROM system.live_queries").rows() == [(0,)]


def test_who_has_read_nothing_goes_on_from_the_start(narrow: Session) -> None:
    narrow.execute("INSERT INTO tracks VALUES (-1, 'jz', 1), (-2, 'jz', 1)")
    subscription = narrow.subscribe("SUBSCRIBE TO tracks", last_rows=1)
    for at in range(30):
        narrow.execute("INSERT INTO tracks VALUES (?, 'jz', 1)", [at])
    until(lambda: not subscription.is_open)
    lagged, _ = list(subscription)
    with narrow.subscribe("SUBSCRIBE TO tracks", from_seq=lagged.from_seq) as again:
        assert [row["id"] for row in nexts(again, 1)[0].rows] == [-2, *range(30)]


def test_one_change_larger_than_the_queue_reaches_who_reads(narrow: Session) -> None:
    with narrow.subscribe("SUBSCRIBE TO tracks WHERE seconds >= 5") as subscription:
        nexts(subscription, 1)
        rows = {"id": np.arange(3_000), "genre": ["jz"] * 3_000, "seconds": np.arange(3_000)}
        narrow.insert("tracks", rows)
        events = nexts(subscription, 2_995)
        assert [event.rows[0]["id"] for event in events] == list(range(5, 3_000))
        assert subscription.is_open


def test_one_change_larger_than_the_queue_lags_who_does_not_read(narrow: Session) -> None:
    subscription = narrow.subscribe("SUBSCRIBE TO tracks")
    nexts(subscription, 1)
    narrow.insert("tracks", {"id": np.arange(3_000), "genre": ["jz"] * 3_000})
    until(lambda: not subscription.is_open)
    lagged, closed = list(subscription)
    assert (lagged.kind, closed.reason) == ("lagged", "lagged")
    with narrow.subscribe("SUBSCRIBE TO tracks", from_seq=lagged.from_seq) as again:
        assert len(nexts(again, 3)[0].rows) == 1_000


def test_a_reader_who_lags_slows_no_writer_and_no_other_reader(narrow: Session) -> None:
    lazy = narrow.subscribe("SUBSCRIBE TO tracks")
    with narrow.subscribe("SUBSCRIBE TO tracks") as keen:
        nexts(keen, 1)
        for at in range(40):
            narrow.execute("INSERT INTO tracks VALUES (?, 'jz', 1)", [at])
            assert nexts(keen, 1)[0].rows[0]["id"] == at
        until(lambda: not lazy.is_open)


# --- going on later ---------------------------------------------------------------------------


def test_who_comes_back_hears_what_is_gone(mia: Session, studio: Any, tracks: None) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1), (2, 'jz', 2), (3, 'jz', 3), (4, 'fk', 4)")
    with mia.subscribe("SUBSCRIBE TO tracks WHERE genre = 'jz'") as subscription:
        (event,) = nexts(subscription, 1)
        seq = event.seq
    mia.execute("DELETE FROM tracks WHERE id = 1")
    finished(studio.session(), studio.database, "STORAGE FLUSH TABLE tracks")
    mia.execute("UPDATE tracks SET genre = 'fk' WHERE id = 2")
    mia.execute("UPDATE tracks SET seconds = 30 WHERE id = 3")
    mia.execute("UPDATE tracks SET seconds = 31 WHERE id = 3")
    mia.execute("DELETE FROM tracks WHERE id = 4")
    mia.execute("INSERT INTO tracks VALUES (5, 'jz', 5), (6, 'jz', 6)")
    mia.execute("DELETE FROM tracks WHERE id = 6")
    with mia.subscribe("SUBSCRIBE TO tracks WHERE genre = 'jz'", from_seq=seq) as subscription:
        initial, *gone = nexts(subscription, 3)
        mia.execute("INSERT INTO tracks VALUES (7, 'jz', 7)")
        (live,) = nexts(subscription, 1)
    assert initial.kind == "initial"
    assert "reset" not in initial
    assert [(row["id"], row["seconds"]) for row in initial.rows] == [(3, 31), (5, 5)]
    assert [(e.kind, e.old_rows[0]["id"], e.old_rows[0]["genre"]) for e in gone] == [
        ("delete", 1, "jz"),
        ("delete", 2, "jz"),
    ]
    assert (initial.seq, gone[0].seq) == (seq, seq), "who stops here must hear of all again"
    assert (live.kind, live.rows[0]["id"]) == ("insert", 7)


def test_who_comes_back_does_not_lose_a_row_that_took_the_key_of_another(
    mia: Session, tracks: None
) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1), (2, 'jz', 2)")
    with mia.subscribe("SUBSCRIBE TO tracks WHERE genre = 'jz'") as subscription:
        seq = nexts(subscription, 1)[0].seq
    mia.execute("DELETE FROM tracks WHERE id > 0")
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 10), (2, 'fk', 20)")
    with mia.subscribe("SUBSCRIBE TO tracks WHERE genre = 'jz'", from_seq=seq) as subscription:
        initial, gone = nexts(subscription, 2)
        assert [(row["id"], row["seconds"]) for row in initial.rows] == [(1, 10)]
        assert (gone.kind, gone.old_rows[0]["id"]) == ("delete", 2)
        mia.execute("INSERT INTO tracks VALUES (3, 'jz', 1)")
        assert nexts(subscription, 1)[0].kind == "insert"


def test_who_comes_back_after_all_is_purged_begins_anew(
    studio: Any, mia: Session, s: Session
) -> None:
    s.execute(TRACKS)
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1), (2, 'jz', 2)")
    with mia.subscribe("SUBSCRIBE TO tracks", batch_size=1) as subscription:
        _first, second = nexts(subscription, 2)
    mia.execute("DELETE FROM tracks WHERE id = 1")
    finished(s, studio.database, "STORAGE FLUSH TABLE tracks")
    with studio.database._context.log.commit() as commit:
        commit.transaction.trim_log(commit.at_us + 1)
    mia.execute("INSERT INTO tracks VALUES (3, 'jz', 1)")
    with mia.subscribe("SUBSCRIBE TO tracks", from_seq=second.seq, batch_size=1) as subscription:
        events = nexts(subscription, 2)
    assert [[row["id"] for row in event.rows] for event in events] == [[2], [3]]
    assert [event.get("reset") for event in events] == [True, None]


def test_a_number_of_the_future_is_of_another_database(mia: Session, tracks: None) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    with mia.subscribe("SUBSCRIBE TO tracks OPTIONS (from_seq_id = 999999999)") as subscription:
        (event,) = nexts(subscription, 1)
        assert (event["reset"], [row["id"] for row in event.rows]) == (True, [1])


def test_from_the_beginning_there_is_nothing_to_forget(
    studio: Any, mia: Session, tracks: None
) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    with studio.database._context.log.commit() as commit:
        commit.transaction.trim_log(commit.at_us + 1)
    with mia.subscribe("SUBSCRIBE TO tracks", from_seq=0) as subscription:
        assert "reset" not in nexts(subscription, 1)[0]


# --- no gap and no repeat ---------------------------------------------------------------------


def test_what_the_first_rows_show_is_not_told_again(mia: Session, tracks: None) -> None:
    with mia.subscribe("SUBSCRIBE TO tracks") as early:
        nexts(early, 1)
        with early._queue._changed:  # the feed cannot get past the first insert
            mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
            mia.execute("INSERT INTO tracks VALUES (2, 'jz', 1)")
            late = mia.subscribe("SUBSCRIBE TO tracks")
            mia.execute("INSERT INTO tracks VALUES (3, 'jz', 1)")
        assert [event.rows[0]["id"] for event in nexts(early, 3)] == [1, 2, 3]
        initial, insert = nexts(late, 2)
        assert [row["id"] for row in initial.rows] == [1, 2]
        assert [row["id"] for row in insert.rows] == [3]
        late.close()


# --- processes --------------------------------------------------------------------------------


def test_a_fork_owns_no_subscription(mia: Session, tracks: None) -> None:
    with mia.subscribe("SUBSCRIBE TO tracks") as subscription:
        child = os.fork()
        if child == 0:
            ends = subscription.next() is None and not subscription.is_open
            subscription.close()
            os._exit(0 if ends else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert subscription.is_open
        mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
        assert [event.kind for event in nexts(subscription, 2)] == ["initial", "insert"]
