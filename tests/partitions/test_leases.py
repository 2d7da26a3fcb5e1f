"""Long reads keep the files of merged segments, also from other processes."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kalamdb_lab.clock import FakeClock
from kalamdb_lab.errors import BusyError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.partitions.leases import Leases
from kalamdb_lab.store.log import EntryKind, RemovedVersions
from kalamdb_lab.store.sqlite import SqliteStore
from kalamdb_lab.testing.memory_store import MemoryStore

A = PartitionKey(1, "")
GRACE_S = 600


def _store_with_segment() -> MemoryStore:
    store = MemoryStore()
    with store.write() as transaction:
        transaction.append(A, EntryKind.ROWS, 5, 0, b"")
        transaction.add_segment(
            SegmentMeta(1, A, 1, "local", "a/s-000001.parquet", 5, 9, 1, 5, "0" * 32, {}, {}, 0),
            RemovedVersions(),
        )
    return store


def _retire(store: MemoryStore, at_us: int) -> None:
    with store.write() as transaction:
        transaction.retire_segments([1], at_us)


def _forgettable(store: MemoryStore, clock: FakeClock) -> list[int]:
    before_us = clock.now_us() - GRACE_S * 1_000_000
    with store.read() as transaction:
        retired, leased_from = transaction.retired_segments(), transaction.oldest_lease(before_us)
    return [
        segment.meta.segment_id
        for segment in retired
        if segment.retired_at_us < before_us
        and (leased_from is None or leased_from >= segment.retired_seq)
    ]


def _leased_from(store: MemoryStore, clock: FakeClock) -> int | None:
    with store.read() as transaction:
        return transaction.oldest_lease(clock.now_us())


def test_a_read_longer_than_the_grace_time_keeps_its_files() -> None:
    store, clock = _store_with_segment(), FakeClock()
    leases = Leases(store, clock, grace_s=GRACE_S)
    with leases.holding(5):
        _retire(store, clock.now_us())
        for _ in range(10):
            clock.advance(200)
            leases.renew()
        assert _forgettable(store, clock) == []
    assert _forgettable(store, clock) == [1]


def test_a_process_knows_its_own_reads_without_a_lease() -> None:
    leases = Leases(_store_with_segment(), FakeClock(), grace_s=GRACE_S)
    assert leases.oldest_read() is None
    with leases.holding(7), leases.holding(5):
        assert leases.oldest_read() == 5
    assert leases.oldest_read() is None


def test_a_short_read_writes_nothing() -> None:
    store, clock = _store_with_segment(), FakeClock()
    leases = Leases(store, clock, grace_s=GRACE_S)
    before = store.data_version()
    with leases.holding(5):
        leases.renew()
    assert store.data_version() == before


def test_the_oldest_of_several_reads_counts() -> None:
    store, clock = _store_with_segment(), FakeClock()
    leases = Leases(store, clock, grace_s=GRACE_S)
    with leases.holding(5):
        _retire(store, clock.now_us())
        with leases.holding(99):
            clock.advance(400)
            leases.renew()
        clock.advance(400)
        leases.renew()
        clock.advance(300)
        assert _forgettable(store, clock) == []


def test_the_lease_of_a_dead_process_ends_by_itself() -> None:
    store, clock = _store_with_segment(), FakeClock()
    leases = Leases(store, clock, grace_s=GRACE_S)
    read = leases.holding(5)
    read.__enter__()
    _retire(store, clock.now_us())
    clock.advance(400)
    leases.renew()
    clock.advance(4 * GRACE_S)
    assert _forgettable(store, clock) == [1]


def test_long_work_holds_its_files_from_its_start_without_any_grace_time() -> None:
    store, clock = _store_with_segment(), FakeClock()
    with Leases(store, clock, grace_s=0).holding(5, at_once=True), store.read() as transaction:
        assert transaction.oldest_lease(clock.now_us()) == 5
    with store.read() as transaction:
        assert transaction.oldest_lease(clock.now_us()) is None


def test_files_without_grace_time_are_leased_as_soon_as_a_read_begins() -> None:
    store, clock = _store_with_segment(), FakeClock()
    leases = Leases(store, clock, grace_s=0)
    with leases.holding(5):
        assert _leased_from(store, clock) == 5
        before = store.data_version()
        with leases.holding(7):
            assert store.data_version() == before, "the lease that is there is enough"
        with leases.holding(3):
            assert _leased_from(store, clock) == 3
    assert _leased_from(store, clock) is None


class _Busy(MemoryStore):
    """A store whose lock somebody else holds, now and then."""

    is_busy = False
    tried = 0

    def lease(self, node_id: int, seq: int, expires_us: int) -> None:
        self._try()
        super().lease(node_id, seq, expires_us)

    def release(self, node_id: int, *, wait_s: float | None = None) -> None:
        self._try()
        super().release(node_id, wait_s=wait_s)

    def _try(self) -> None:
        self.tried += 1
        if self.is_busy:
            raise BusyError


def test_a_lease_that_cannot_be_written_is_tried_again_and_ends_no_read() -> None:
    store, clock = _Busy(), FakeClock()
    leases = Leases(store, clock, grace_s=GRACE_S)
    with leases.holding(5):
        clock.advance(400)
        store.is_busy = True
        leases.renew()
        assert (store.tried, _leased_from(store, clock)) == (1, None)
        store.is_busy = False
        leases.renew()
        assert _leased_from(store, clock) == 5
        store.is_busy = True
    assert store.tried >= 3, "the end of the read raised nothing"


def test_work_that_must_be_leased_at_once_does_not_begin_without() -> None:
    store = _Busy()
    store.is_busy = True
    leases = Leases(store, FakeClock(), grace_s=GRACE_S)
    with pytest.raises(BusyError), leases.holding(5, at_once=True):
        pass
    assert leases.oldest_read() is None


def test_the_end_of_a_read_waits_for_nobody(tmp_path: Path) -> None:
    path, clock = tmp_path / "catalog.sqlite", FakeClock()
    store, other = SqliteStore(path, busy_timeout_s=10), SqliteStore(path)
    leases = Leases(store, clock, grace_s=GRACE_S)
    read = leases.holding(5)
    read.__enter__()
    clock.advance(400)
    leases.renew()
    with other.write():
        started = time.monotonic()
        read.__exit__(None, None, None)
        assert time.monotonic() - started < 5
    leases.close()
    store.close()
    other.close()


def _abandoned(leases: Leases) -> None:
    def batches() -> Iterator[object]:
        with leases.holding(5):
            yield cycle

    cycle: list[object] = []
    read = batches()
    next(read)
    cycle.append(read)


def test_a_read_that_the_collector_ends_amid_a_write_leaves_the_write_alone() -> None:
    released = threading.Event()
    by: set[str] = set()

    class Told(_Busy):
        def release(self, node_id: int, *, wait_s: float | None = None) -> None:
            by.add(threading.current_thread().name)
            super().release(node_id, wait_s=wait_s)
            released.set()

    store, clock = Told(), FakeClock()
    leases = Leases(store, clock, grace_s=GRACE_S)
    gc.disable()
    try:
        _abandoned(leases)
        clock.advance(400)
        leases.renew()
        with store.write() as transaction:
            gc.collect()
            transaction.append(A, EntryKind.ROWS, 1, 0, b"x")
            assert leases.oldest_read() is None
            assert not released.is_set()
    finally:
        gc.enable()
    with store.read() as transaction:
        assert transaction.last_seq() == 1
    assert released.wait(20)
    assert by == {"kalam-lease"}, "the collector wrote nothing itself"


def test_one_thread_keeps_the_leases_of_all_reads_and_ends_with_them() -> None:
    before = set(threading.enumerate())
    leases = Leases(_store_with_segment(), FakeClock(), grace_s=GRACE_S)
    with leases.holding(5), leases.holding(6), leases.holding(7):
        (keeper,) = set(threading.enumerate()) - before
    del leases
    keeper.join(20)
    assert not keeper.is_alive()


def test_the_keeper_renews_a_read_that_asks_for_nothing() -> None:
    leased = threading.Event()

    class Told(_Busy):
        def lease(self, node_id: int, seq: int, expires_us: int) -> None:
            super().lease(node_id, seq, expires_us)
            leased.set()

    store, clock = Told(), FakeClock()
    store.is_busy = True
    leases = Leases(store, clock, grace_s=0)
    with leases.holding(5):  # it could not be leased: the keeper tries again
        assert not leased.is_set()
        store.is_busy = False
        assert leased.wait(20)
