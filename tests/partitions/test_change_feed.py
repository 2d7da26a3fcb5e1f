"""The feed: every change of every process, once, in order, with the rows before it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from partition_world import ALICE, BOB, TABLE, World, world

from kalamdb_lab.clock import FakeClock
from kalamdb_lab.errors import ConflictError
from kalamdb_lab.partitions.bulk import append_bulk
from kalamdb_lab.partitions.change_feed import ChangeFeed, Watch
from kalamdb_lab.partitions.changes import Change, ChangeReader
from kalamdb_lab.partitions.compaction import compact_partition
from kalamdb_lab.partitions.flush import flush_partition
from kalamdb_lab.store.log import EntryKind

FOR_EVER = 0
PURGE_ALL = 2**62
DEADLINE_S = 10


class Listener:
    """Keeps what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.losses = 0
        self._told = threading.Condition()

    def changed(self, changes: list[Change]) -> None:
        with self._told:
            self.changes += changes
            self._told.notify_all()

    def lost(self) -> None:
        with self._told:
            self.losses += 1
            self._told.notify_all()

    def tick(self) -> None:
        pass

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._told:
            assert self._told.wait_for(condition, DEADLINE_S)

    def count(self, wanted: int) -> list[Change]:
        self.wait(lambda: len(self.changes) >= wanted)
        return self.changes


@pytest.fixture
def feed(here: World) -> Iterator[ChangeFeed]:
    made = ChangeFeed(here.log)
    yield made
    made.close()


def watching(feed: ChangeFeed, *wanted: object) -> tuple[Listener, Watch]:
    listener = Listener()
    watch = feed.watch(listener)
    for item in wanted:
        watch.add(item)
    return listener, watch


def rows_of(here: World, change: Change) -> list[tuple[int, int | None, int | None]]:
    """(number, id before, id after) of each row that changed."""
    found = []
    for rows in ChangeReader(here.log.store, here.reader).rows(change, TABLE, ["id"]):
        new, old = rows.new.column("id").to_pylist(), rows.old.column("id").to_pylist()
        found += [
            (seq, None if o < 0 else old[o], None if n < 0 else new[n])
            for seq, n, o in zip(
                rows.seqs.tolist(), rows.new_at.tolist(), rows.old_at.tolist(), strict=True
            )
        ]
    return found


def flush(world: World) -> None:
    flush_partition(world.log, world.home, lambda: TABLE, ALICE, purge_before_seq=FOR_EVER)


def compact(world: World, *, purge_before_seq: int = FOR_EVER) -> None:
    compact_partition(
        world.log,
        world.home,
        world.reader,
        lambda: TABLE,
        ALICE,
        purge_before_seq=purge_before_seq,
    )


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_an_insert_an_update_and_a_delete_come_with_the_rows_before(
    here: World, feed: ChangeFeed
) -> None:
    listener, _ = watching(feed, ALICE)
    first = here.insert(1, 2)
    second = here.replace(first, 10)
    here.delete(first + 1)
    told = [rows_of(here, change) for change in listener.count(3)]
    assert told == [
        [(first, None, 1), (first + 1, None, 2)],
        [(second, 1, 10)],
        [(second + 1, 2, None)],
    ]


def test_rows_before_are_found_in_segments_too(here: World, feed: ChangeFeed) -> None:
    first = here.insert(1, 2, 3)
    flush(here)
    listener, _ = watching(feed, ALICE)
    here.replace(first + 1, 20)
    here.delete(first)
    assert [row[1:] for c in listener.count(2) for row in rows_of(here, c)] == [(2, 20), (1, None)]


def test_flush_and_compaction_are_no_changes(here: World, feed: ChangeFeed) -> None:
    listener, _ = watching(feed, ALICE)
    here.insert(1)
    flush(here)
    here.insert(2)
    flush(here)
    compact(here)
    here.insert(3)
    assert [row[2] for c in listener.count(3) for row in rows_of(here, c)] == [1, 2, 3]


def test_a_bulk_insert_is_one_change_of_all_its_rows(here: World, feed: ChangeFeed) -> None:
    listener, _ = watching(feed, ALICE)
    here.insert(1)
    rows = here.snapshot().hot.drop_columns(["_seq"])
    with here.log.commit() as commit:
        append_bulk(commit, here.home, TABLE, ALICE, rows)
    _, change = listener.count(2)
    assert change.kind is EntryKind.SEGMENT
    assert [row[1:] for row in rows_of(here, change)] == [(None, 1)]


def test_other_partitions_stay_silent_unless_the_table_is_watched(
    here: World, feed: ChangeFeed
) -> None:
    own, _ = watching(feed, ALICE)
    whole, _ = watching(feed, ALICE.table_key)
    here.insert(1, key=BOB)
    here.insert(2)
    assert [change.partition for change in whole.count(2)] == [BOB, ALICE]
    assert [change.partition for change in own.count(1)] == [ALICE]


def test_changes_of_other_processes_come_the_same_way(
    here: World, there: World, feed: ChangeFeed
) -> None:
    listener, _ = watching(feed, ALICE)
    first = there.insert(1)
    there.delete(first)
    assert [row[1:] for c in listener.count(2) for row in rows_of(here, c)] == [
        (None, 1),
        (1, None),
    ]


def test_what_others_flushed_deleted_and_compacted_in_one_go_is_still_told(
    here: World, there: World
) -> None:
    """Who looks late sees segments of the end only; the rows before lie in retired ones."""
    slow = ChangeFeed(here.log, poll_s=3_600)
    listener, _ = watching(slow, ALICE)
    first = there.insert(1, 2)
    flush(there)
    there.delete(first)
    flush(there)
    compact(there, purge_before_seq=PURGE_ALL)
    slow.wake()
    told = [rows_of(here, change) for change in listener.count(2)]
    slow.close()
    assert [row[1:] for rows in told for row in rows] == [(None, 1), (None, 2), (1, None)]


def test_what_was_there_before_is_not_told(here: World, feed: ChangeFeed) -> None:
    here.insert(1)
    listener, watch = watching(feed)
    with here.log.at_newest([ALICE]) as seq:
        assert watch.add(ALICE) == seq
    here.insert(2)
    assert [row[2] for c in listener.count(1) for row in rows_of(here, c)] == [2]


def test_a_loss_is_told_where_the_log_was_trimmed(here: World, there: World) -> None:
    slow = ChangeFeed(here.log, poll_s=3_600)
    listener, _ = watching(slow, ALICE)
    there.insert(1)
    flush(there)
    there.clock.advance(10_000)
    with there.log.store.write() as transaction:
        transaction.trim_log(there.clock.now_us())
    slow.wake()
    listener.wait(lambda: listener.losses > 0)
    slow.close()


def test_a_row_that_nobody_can_find_is_an_error_and_no_guess(here: World, feed: ChangeFeed) -> None:
    listener, _ = watching(feed, ALICE)
    here.delete(999_999)
    (change,) = listener.count(1)
    with pytest.raises(ConflictError, match=r"lab\.events came too fast"):
        rows_of(here, change)


class Faulty(Listener):
    """Fails at its first change, and at a loss too if it is told so."""

    def __init__(self, *, for_good: bool) -> None:
        super().__init__()
        self.for_good = for_good

    def changed(self, changes: list[Change]) -> None:
        if not self.changes:
            super().changed(changes)
            raise RuntimeError
        super().changed(changes)

    def lost(self) -> None:
        super().lost()
        if self.for_good:
            raise RuntimeError


@pytest.mark.parametrize("for_good", [False, True])
def test_a_watcher_that_fails_is_told_so_and_the_others_hear_on(
    here: World, feed: ChangeFeed, for_good: bool
) -> None:
    failing = Faulty(for_good=for_good)
    feed.watch(failing).add(ALICE)
    listener, _ = watching(feed, ALICE)
    here.insert(1)
    failing.wait(lambda: failing.losses == 1)
    listener.count(1)
    here.insert(2)
    listener.count(2)
    assert len(failing.changes) == (1 if for_good else 2)


def test_the_thread_is_there_only_while_somebody_watches(here: World, feed: ChangeFeed) -> None:
    assert "kalam-live" not in thread_names()
    listener, watch = watching(feed, ALICE, ALICE)
    (thread,) = [t for t in threading.enumerate() if t.name == "kalam-live"]
    watch.discard(ALICE)
    here.insert(1)
    listener.count(1)
    watch.discard(ALICE)
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    here.insert(2)
    assert len(listener.changes) == 1


def test_a_watch_that_comes_back_is_told_again(here: World, feed: ChangeFeed) -> None:
    _, watch = watching(feed, ALICE)
    watch.close()
    listener, _ = watching(feed, ALICE)
    here.insert(1)
    listener.count(1)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.sampled_from(["insert", "insert2", "replace", "delete", "flush", "compact"]),
        min_size=1,
        max_size=25,
    ),
    by_other=st.lists(st.booleans(), min_size=25, max_size=25),
)
def test_changes_laid_over_the_start_give_the_end(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], by_other: list[bool]
) -> None:
    directory: Path = tmp_path_factory.mktemp("law")
    clock = FakeClock()
    here, there = world(directory, clock), world(directory, clock)
    feed = ChangeFeed(here.log)
    listener, _ = watching(feed, ALICE)
    live: dict[int, int] = {}
    commits = ids = 0
    for step, other in zip(steps, by_other, strict=False):
        writer = there if other else here
        if step in ("insert", "insert2"):
            new = list(range(ids, ids + (2 if step == "insert2" else 1)))
            ids += len(new)
            first = writer.insert(*new)
            live |= {first + at: row for at, row in enumerate(new)}
            commits += 1
        elif step == "replace" and live:
            seq = min(live)
            row = live.pop(seq)
            live[writer.replace(seq, row)] = row
            commits += 1
        elif step == "delete" and live:
            seq = max(live)
            writer.delete(seq)
            del live[seq]
            commits += 1
        elif step == "flush":
            flush(writer)
        elif step == "compact":
            compact(writer)
    folded: dict[int, int] = {}
    seen: list[int] = []
    for change in listener.count(commits):
        for seq, before, after in rows_of(here, change):
            seen.append(seq)
            if before is not None:
                (old,) = [known for known, row in folded.items() if row == before]
                del folded[old]
            if after is not None:
                folded[seq] = after
    assert folded == live
    assert seen == sorted(set(seen))
    feed.close()
    for one in (here, there):
        one.log.store.close()
