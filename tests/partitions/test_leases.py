"""Long reads keep the files of merged segments, also from other processes."""

from __future__ import annotations

from kalamdb_lab.clock import FakeClock
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.partitions.leases import Leases
from kalamdb_lab.store.log import EntryKind, RemovedVersions
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


def test_a_read_longer_than_the_grace_time_keeps_its_files() -> None:
    store, clock = _store_with_segment(), FakeClock()
    leases = Leases(store, clock, grace_s=GRACE_S)
    with leases.reading(5) as renew:
        _retire(store, clock.now_us())
        for _ in range(10):
            clock.advance(200)
            renew()
        assert _forgettable(store, clock) == []
    assert _forgettable(store, clock) == [1]


def test_a_process_knows_its_own_reads_without_a_lease() -> None:
    leases = Leases(_store_with_segment(), FakeClock(), grace_s=GRACE_S)
    assert leases.oldest_read() is None
    with leases.reading(7), leases.reading(5):
        assert leases.oldest_read() == 5
    assert leases.oldest_read() is None


def test_a_short_read_writes_nothing() -> None:
    store, clock = _store_with_segment(), FakeClock()
    leases = Leases(store, clock, grace_s=GRACE_S)
    before = store.data_version()
    with leases.reading(5) as renew:
        renew()
    assert store.data_version() == before


def test_the_oldest_of_several_reads_counts() -> None:
    store, clock = _store_with_segment(), FakeClock()
    leases = Leases(store, clock, grace_s=GRACE_S)
    with leases.reading(5) as renew:
        _retire(store, clock.now_us())
        with leases.reading(99) as other:
            clock.advance(400)
            other()
        clock.advance(400)
        renew()
        clock.advance(300)
        assert _forgettable(store, clock) == []


def test_the_lease_of_a_dead_process_ends_by_itself() -> None:
    store, clock = _store_with_segment(), FakeClock()
    reading = Leases(store, clock, grace_s=GRACE_S).reading(5)
    renew = reading.__enter__()
    _retire(store, clock.now_us())
    clock.advance(400)
    renew()
    clock.advance(4 * GRACE_S)
    assert _forgettable(store, clock) == [1]


def test_long_work_holds_its_files_from_its_start_without_any_grace_time() -> None:
    store, clock = _store_with_segment(), FakeClock()
    with Leases(store, clock, grace_s=0).holding(5, at_once=True), store.read() as transaction:
        assert transaction.oldest_lease(clock.now_us()) == 5
    with store.read() as transaction:
        assert transaction.oldest_lease(clock.now_us()) is None
