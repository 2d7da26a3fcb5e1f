"""The tally of hot rows says what the store holds, however it came there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.partitions.hot_tally import (
    HotTally,
    oldest_event_us,
    oldest_flushed_deletion_us,
    oldest_hot_deletion_us,
)
from kalamdb_lab.partitions.payload import RowChanges
from kalamdb_lab.store.log import EntryKind, RemovedVersions
from kalamdb_lab.store.sqlite import SqliteStore
from kalamdb_lab.store.wire import encoder
from kalamdb_lab.testing.memory_store import MemoryStore

MIA, TOM, NOTES = PartitionKey(1, "mia"), PartitionKey(1, "tom"), PartitionKey(2, "")
KEYS = [MIA, TOM, NOTES]

_key = st.sampled_from(KEYS)
_step = st.one_of(
    st.tuples(st.just("rows"), _key, st.integers(1, 4), st.integers(0, 50)),
    st.tuples(st.just("flush"), _key, st.integers(0, 3)),
    st.tuples(st.just("evict"), _key, st.integers(0, 3)),
    st.tuples(st.just("drop"), _key),
    st.tuples(st.just("trim"), st.integers(0, 60)),
    st.tuples(st.just("follow")),
)


def _apply(store: MemoryStore, step: tuple[Any, ...]) -> None:
    with store.write() as transaction:
        match step:
            case ("rows", key, count, at_us):
                transaction.append(key, EntryKind.ROWS, count, at_us, b"")
            case ("flush", key, count):
                seqs = [entry.seq for entry in transaction.hot_entries(key)][:count]
                transaction.mark_flushed(key, seqs)
                transaction.append(key, EntryKind.FLUSH, 1, 55, b"")
            case ("evict", key, count):
                seqs = [entry.seq for entry in transaction.hot_entries(key)][-count:]
                transaction.delete_entries(key, seqs)
                transaction.append(key, EntryKind.EVICT, 1, 55, b"")
            case ("drop", key):
                transaction.drop_partition(key, 55)
                transaction.append(key, EntryKind.DROP, 1, 55, b"")
            case ("trim", before_us):
                transaction.trim_log(before_us)


def _counted(tally: HotTally) -> dict[int, tuple[dict[str, tuple[int, int]], int, int]]:
    return {
        key: (table.scopes, table.most_rows, table.first_at_us)
        for key, table in tally.tables.items()
    }


def test_a_table_of_many_scopes_is_dropped_at_the_price_of_each_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "catalog.sqlite", durability="normal")
    keys = [PartitionKey(1, f"u{number}") for number in range(5_000)]
    tally = HotTally(store)

    def followed_s() -> float:
        began_s = time.perf_counter()
        tally.follow()
        return time.perf_counter() - began_s

    with store.write() as transaction:
        for key in keys:
            transaction.append(key, EntryKind.ROWS, 1, 1, b"")
    counting_s = followed_s()
    with store.write() as transaction:
        for key in keys:
            transaction.drop_partition(key, 2)
            transaction.append(key, EntryKind.DROP, 1, 2, b"")
    dropping_s = followed_s()
    store.close()
    assert not tally.tables
    assert dropping_s < 10 * counting_s


@given(steps=st.lists(_step, max_size=25))
def test_following_the_log_gives_what_counting_anew_gives(steps: list[tuple[Any, ...]]) -> None:
    store = MemoryStore()
    tally = HotTally(store)
    for step in steps:
        _apply(store, step)
        if step == ("follow",):
            tally.follow()
    tally.follow()
    fresh = HotTally(store)
    fresh.follow()
    assert _counted(tally) == _counted(fresh)
    with store.read() as transaction:
        held = {key: list(transaction.hot_entries(key)) for key in KEYS}
    expected = {
        (key.table_key, key.scope): (sum(e.count for e in entries), min(e.at_us for e in entries))
        for key, entries in held.items()
        if entries
    }
    found = {
        (table_key, scope): hot
        for table_key, table in tally.tables.items()
        for scope, hot in table.scopes.items()
    }
    assert found == expected


def test_following_tells_what_is_new_and_nothing_twice() -> None:
    store = MemoryStore()
    tally = HotTally(store)
    assert tally.follow() is None
    _apply(store, ("rows", MIA, 2, 10))
    changes = tally.follow()
    assert changes is not None
    assert [(c.partition, c.kind, c.count) for c in changes] == [(MIA, EntryKind.ROWS, 2)]
    assert tally.follow() == []


def _rows(*, deleted: list[int] | None = None, at_us: int = 0) -> bytes:
    # A row with a value of a type that only the whole payload's decoder knows.
    return encoder.encode(RowChanges(1, [["a", b"\x00", None]], [], deleted or [], at_us))


def test_the_oldest_event_is_as_old_as_it_was_when_it_was_restored() -> None:
    store = MemoryStore()
    with store.write() as transaction:
        for at_us, payload in ((50, _rows()), (60, _rows(at_us=20)), (70, _rows())):
            transaction.append(MIA, EntryKind.ROWS, 1, at_us, payload)
    assert oldest_event_us(store, MIA) == 20
    assert oldest_event_us(store, MIA, after_seq=2) == 70
    assert oldest_event_us(store, TOM) is None


def test_only_entries_that_deleted_rows_count_as_deletions() -> None:
    store = MemoryStore()
    with store.write() as transaction:
        for at_us, payload in ((50, _rows()), (60, _rows(deleted=[1])), (70, _rows(deleted=[2]))):
            transaction.append(MIA, EntryKind.ROWS, 2, at_us, payload)
    assert oldest_hot_deletion_us(store, MIA) == 60
    assert oldest_hot_deletion_us(store, MIA, after_seq=3) == 70
    assert oldest_hot_deletion_us(store, MIA, after_seq=5) is None


def test_more_entries_than_are_read_at_once_are_all_looked_at() -> None:
    store = MemoryStore()
    with store.write() as transaction:
        for at_us in range(2_500, 0, -1):
            transaction.append(MIA, EntryKind.ROWS, 1, at_us, _rows())
    assert oldest_event_us(store, MIA) == 1


def test_a_damaged_entry_is_told_in_our_words() -> None:
    store = MemoryStore()
    with store.write() as transaction:
        transaction.append(MIA, EntryKind.ROWS, 1, 5, b"\xc1")
    with pytest.raises(CorruptError, match="entry of the commit log is damaged"):
        oldest_event_us(store, MIA)


def _segment(partition: PartitionKey) -> SegmentMeta:
    return SegmentMeta(
        segment_id=1,
        partition=partition,
        schema_version=1,
        storage_id="local",
        path="a/s-000001.parquet",
        row_count=3,
        size_bytes=100,
        min_seq=1,
        max_seq=3,
        digest="0" * 32,
        vectors={},
        statistics={},
        created_at_us=5,
    )


def test_a_deletion_in_a_segment_is_as_old_as_its_number() -> None:
    store = MemoryStore()
    with store.write() as transaction:
        for at_us in (10, 20, 30):
            transaction.append(NOTES, EntryKind.ROWS, 1, at_us, b"")
        removed = RemovedVersions(
            b"".join(n.to_bytes(8, "little") for n in (1, 2)),
            b"".join(n.to_bytes(8, "little") for n in (2, 3)),
            b"\x00\x01",
        )
        transaction.add_segment(_segment(NOTES), removed)
    assert oldest_flushed_deletion_us(store, NOTES.table_key) == 30, "the other was replaced"
    assert oldest_flushed_deletion_us(store, MIA.table_key) is None
