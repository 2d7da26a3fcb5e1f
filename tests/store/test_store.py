"""Every store does what the memory model does, and the SQLite one survives its process."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_segments import A, B, segment

from kalamdb_lab.errors import BusyError, ClosedError, StorageError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import ColumnStatistics
from kalamdb_lab.store.log import (
    EntryKind,
    HotCount,
    RemovedVersions,
    RetiredSegment,
    Store,
)
from kalamdb_lab.store.sqlite import FORMAT_VERSION, SqliteStore
from kalamdb_lab.testing.memory_store import MemoryStore


def test_a_commit_of_n_rows_takes_n_consecutive_numbers(store: Store) -> None:
    with store.write() as transaction:
        first = transaction.append(A, EntryKind.ROWS, 3, 10, b"x")
        second = transaction.append(B, EntryKind.ROWS, 2, 10, b"y")
    assert (first.seq, second.seq) == (1, 4)
    with store.read() as transaction:
        assert transaction.last_seq() == 5


def test_a_block_that_raises_leaves_nothing_behind(store: Store) -> None:
    def fail() -> None:
        with store.write() as transaction:
            transaction.append(A, EntryKind.ROWS, 1, 10, b"x")
            transaction.add_segment(segment(1), RemovedVersions())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as transaction:
        assert transaction.last_seq() == 0
        assert not list(transaction.entries_after(0))
        assert not transaction.segments(A)


def test_segments_come_back_as_they_were_given(store: Store) -> None:
    removed = RemovedVersions(b"12345678", b"87654321", b"\x01")
    with store.write() as transaction:
        transaction.add_segment(segment(transaction.next_segment_id()), removed)
    with store.read() as transaction:
        (listed,) = transaction.segments(A)
    assert listed.meta == segment(1)
    assert listed.removed == removed


def test_a_lease_holds_retired_segments(store: Store) -> None:
    with store.write() as transaction:
        transaction.append(A, EntryKind.ROWS, 5, 0, b"")
        transaction.add_segment(segment(1), RemovedVersions())
    store.lease(7, 2, expires_us=1_000)
    with store.write() as transaction:
        transaction.retire_segments([1], at_us=10)
    with store.read() as transaction:
        assert not transaction.segments(A)
        assert transaction.retired_segments() == [RetiredSegment(segment(1), 6, 10)]
        assert transaction.oldest_lease(999) == 2
        assert transaction.oldest_lease(1_000) is None
    store.lease(8, 1, expires_us=2_000)
    with store.read() as transaction:
        assert transaction.oldest_lease(100) == 1
    store.release(8)
    store.release(7)
    with store.read() as transaction:
        assert transaction.oldest_lease(100) is None


def test_remnants_of_a_scope_are_entries_and_segments(store: Store) -> None:
    other = PartitionKey(3, "alice")
    with store.write() as transaction:
        transaction.append(B, EntryKind.ROWS, 1, 10, b"x")
        transaction.add_segment(segment(1, other), RemovedVersions())
        transaction.append(PartitionKey(2, "bob"), EntryKind.ROWS, 1, 10, b"x")
    with store.read() as transaction:
        assert transaction.remnants({"alice"}) == [B, other]
    with store.write() as transaction:
        for partition in (B, other):
            transaction.drop_partition(partition, 20)
            transaction.append(partition, EntryKind.DROP, 1, 20, b"")
    with store.read() as transaction:
        assert transaction.remnants({"alice"}) == [other], "its file may still be there"
        assert [entry.kind for entry in transaction.entries_after(0)] == [
            EntryKind.ROWS,
            EntryKind.DROP,
            EntryKind.DROP,
        ]
        assert transaction.last_seq_before(15) == 2, "when numbers were taken is still known"
    with store.write() as transaction:
        transaction.forget_segments([1])
        assert transaction.forget_partitions() == 0, "an entry says that it was dropped"
        transaction.trim_log(30)
        assert transaction.forget_partitions() == 2
        assert transaction.scopes(2) == ["bob"]
        assert transaction.remnants({"alice"}) == []


def test_what_is_said_of_a_live_segment_can_be_replaced(store: Store) -> None:
    better = replace(segment(1), statistics={1: ColumnStatistics(0, 0, 9)})
    removed = RemovedVersions(b"12345678", b"87654321", b"\x01")
    with store.write() as transaction:
        transaction.add_segment(segment(1), removed)
        transaction.restate_segment(better)
    with store.write() as transaction:
        (listed,) = transaction.segments(A)
        assert (listed.meta, listed.removed) == (better, removed)
        transaction.retire_segments([1], at_us=10)
        transaction.restate_segment(segment(1))
        assert transaction.retired_segments()[0].meta == better


def test_a_scrubbed_file_holds_nothing_of_what_was_deleted(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    store = SqliteStore(path)
    store._writer.execute("PRAGMA secure_delete=OFF")  # as SQLite is built in some places
    marks = [b"marker-%03d" % at * 40 for at in range(200)]
    with store.write() as transaction:
        for mark in marks:
            transaction.append(A, EntryKind.ROWS, 1, 10, mark)
        transaction.append(B, EntryKind.ROWS, 1, 10, b"kept" * 40)
    with store.write() as transaction:
        transaction.drop_partition(A, 20)

    def everything() -> bytes:
        return b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert b"marker-" in everything()
    with store.hold().read():
        assert not store.scrub(), "a reader holds on to the write-ahead log"
    store.close()
    store = SqliteStore(path)
    assert store.scrub()
    assert b"marker-" not in everything()
    assert b"kept" in everything()
    store.close()


def test_a_store_that_scrubs_waits_for_the_lock(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "catalog.sqlite", busy_timeout_s=0.05)
    second = SqliteStore(tmp_path / "catalog.sqlite", busy_timeout_s=0.05)
    with first.write(), pytest.raises(BusyError):
        second.scrub()
    assert second.scrub()
    first.close()
    second.close()


def test_trimming_takes_flushed_entries_only(store: Store) -> None:
    with store.write() as transaction:
        for at_us in (10, 20, 30):
            transaction.append(A, EntryKind.ROWS, 1, at_us, b"x")
        assert transaction.mark_flushed(A, [1, 3]) == 2
    with store.write() as transaction:
        assert transaction.trim_log(before_us=25) == 1
    with store.read() as transaction:
        assert [entry.seq for entry in transaction.entries_after(0)] == [2, 3]
        assert transaction.log_start() == 1
        assert transaction.last_seq_before(25) == 2


def test_a_store_that_starts_after_others_goes_on_with_their_numbers(store: Store) -> None:
    with store.write() as transaction:
        transaction.start_after(40, 7, at_us=10)
        transaction.start_after(30, 6, at_us=20)
        assert transaction.append(A, EntryKind.ROWS, 1, 30, b"").seq == 41
        assert transaction.next_segment_id() == 8
    with store.read() as transaction:
        assert (transaction.last_seq(), transaction.last_segment_id()) == (41, 8)
        assert transaction.log_start() == 40
        assert transaction.last_seq_before(20) == 40


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(ClosedError), store.read():
        pass


_time = st.integers(0, 50).map(lambda seconds: seconds * 1_000_000)
_step = st.one_of(
    st.tuples(st.just("append"), st.sampled_from([A, B]), st.integers(1, 3), _time),
    st.tuples(st.just("flush"), st.sampled_from([A, B])),
    st.tuples(st.just("segment"), st.sampled_from([A, B])),
    st.tuples(st.just("retire"), st.integers(1, 4), _time),
    st.tuples(st.just("drop"), st.sampled_from([A, B])),
    st.tuples(st.just("forget"), st.integers(1, 4)),
    st.tuples(st.just("trim"), _time, _time),
    st.tuples(st.just("start"), st.integers(0, 9), st.integers(0, 5), _time),
    st.tuples(st.just("fail"), st.sampled_from([A, B])),
)


def _apply(store: Store, step: tuple[Any, ...]) -> None:
    try:
        with store.write() as transaction:
            match step:
                case ("append", partition, count, at_us):
                    transaction.append(partition, EntryKind.ROWS, count, at_us, b"p")
                case ("flush", partition):
                    hot = [entry.seq for entry in transaction.hot_entries(partition)]
                    transaction.mark_flushed(partition, hot)
                case ("segment", partition):
                    made = segment(transaction.next_segment_id(), partition)
                    removed = RemovedVersions(b"1" * 8, b"2" * 8, bytes([made.segment_id % 2]))
                    transaction.add_segment(made, removed)
                case ("retire", segment_id, at_us):
                    if transaction.segments_by_id([segment_id]):
                        transaction.retire_segments([segment_id], at_us)
                case ("drop", partition):
                    transaction.drop_partition(partition, 5)
                case ("forget", segment_id):
                    transaction.forget_segments([segment_id])
                    transaction.forget_partitions()
                case ("trim", before_us, times_from_us):
                    transaction.trim_log(before_us, times_from_us=times_from_us)
                case ("start", last_seq, last_segment_id, at_us):
                    transaction.start_after(last_seq, last_segment_id, at_us)
                case ("fail", partition):
                    transaction.append(partition, EntryKind.ROWS, 1, 0, b"")
                    raise RuntimeError
    except RuntimeError:
        pass


def _seen(store: Store) -> tuple[object, ...]:
    with store.read() as t:
        return (
            t.last_seq(),
            t.last_segment_id(),
            t.log_start(),
            list(t.entries_after(0)),
            [list(t.hot_entries(p)) for p in (A, B)],
            [t.segments(p) for p in (A, B)],
            t.retired_segments(),
            t.remnants({"", "alice"}),
            [t.last_seq_before(seconds * 1_000_000) for seconds in (9, 25, 26)],
            t.scopes(1),
            t.scopes(2),
            _by_partition(t.hot_counts()),
            set(t.changes_after(2)),
            t.deletions(1),
            [t.taken_at_us(seq) for seq in range(1, 8)],
        )


def _by_partition(counts: list[HotCount]) -> list[HotCount]:
    return sorted(counts, key=lambda hot: hot.partition)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(_step, max_size=12))
def test_sqlite_agrees_with_the_model(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    path = tmp_path_factory.mktemp("store") / "catalog.sqlite"
    real, model = SqliteStore(path, durability="normal"), MemoryStore()
    for step in steps:
        _apply(real, step)
        _apply(model, step)
        assert _seen(real) == _seen(model)
    real.close()
    reopened = SqliteStore(path)
    assert _seen(reopened) == _seen(model)
    reopened.close()


# --- the file ---------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"a letter to a friend, long enough to have a header" * 20)
    with pytest.raises(StorageError, match=r"is not a KalamDB Lab database$"):
        SqliteStore(path, shown_as="lab.kalam")
    assert path.read_bytes().startswith(b"a letter")


def test_somebody_elses_sqlite_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (text)")
    with pytest.raises(StorageError, match=r"^'lab\.kalam' is not a KalamDB Lab database$"):
        SqliteStore(path, shown_as="lab.kalam")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    SqliteStore(path).close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version={FORMAT_VERSION + 1}")
    with pytest.raises(StorageError, match="was written by a newer KalamDB Lab"):
        SqliteStore(path)


def _hold_lock(path: Path, held: Any, done: Any) -> None:
    store = SqliteStore(path)
    with store.write() as transaction:
        transaction.append(A, EntryKind.ROWS, 1, 0, b"x")
        held.set()
        done.wait(20)


def _in_process(target: Callable[..., None], *arguments: Any) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


def test_a_lock_held_for_long_is_busy_and_readers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    SqliteStore(path).close()
    spawn = multiprocessing.get_context("spawn")
    held, done = spawn.Event(), spawn.Event()
    other = _in_process(_hold_lock, path, held, done)
    assert held.wait(20)
    store = SqliteStore(path, busy_timeout_s=0.2)
    try:
        with store.read() as transaction:
            assert transaction.last_seq() == 0
        with pytest.raises(BusyError, match="^The database is busy; try again$"), store.write():
            pass
    finally:
        done.set()
        other.join(20)
    with store.write() as transaction:
        assert transaction.append(A, EntryKind.ROWS, 1, 0, b"x").seq == 2
    store.close()


def test_another_connection_sees_the_data_version_change(tmp_path: Path) -> None:
    one = SqliteStore(tmp_path / "catalog.sqlite")
    two = SqliteStore(tmp_path / "catalog.sqlite")
    before = two.data_version()
    assert two.data_version() == before
    with one.write() as transaction:
        transaction.append(A, EntryKind.ROWS, 1, 0, b"x")
    assert two.data_version() != before
    one.close()
    two.close()
