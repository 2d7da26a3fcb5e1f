"""What a store counts without reading payloads, and the times that it remembers."""

from __future__ import annotations

from stored_segments import A, B, segment

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.store.log import EntryKind, HotCount, PartitionChange, RemovedVersions, Store


def test_hot_counts_sum_what_is_not_flushed_by_partition(store: Store) -> None:
    with store.write() as transaction:
        transaction.append(A, EntryKind.ROWS, 3, 30, b"x")
        transaction.append(B, EntryKind.ROWS, 1, 20, b"x")
        transaction.append(A, EntryKind.ROWS, 2, 10, b"x")
        transaction.append(A, EntryKind.COMPACT, 1, 5, b"")
    both = [HotCount(A, 5, 10), HotCount(B, 1, 20)]
    with store.write() as transaction:
        assert sorted(transaction.hot_counts(), key=lambda hot: hot.partition) == both
        assert transaction.hot_counts([B, PartitionKey(9, "")]) == both[1:]
        transaction.mark_flushed(A, [5])
        transaction.mark_flushed(B, [4])
        assert transaction.hot_counts([B]) == []
        assert transaction.hot_counts() == [HotCount(A, 3, 30)]
        assert [entry.seq for entry in transaction.hot_entries(A, after_seq=0)] == [1]
        assert not list(transaction.hot_entries(A, after_seq=1))


def test_changes_are_told_by_partition_and_kind(store: Store) -> None:
    with store.write() as transaction:
        seen = transaction.append(A, EntryKind.ROWS, 3, 10, b"x").seq
        transaction.append(A, EntryKind.ROWS, 2, 30, b"x")
        transaction.append(A, EntryKind.FLUSH, 1, 40, b"x")
        transaction.append(B, EntryKind.ROWS, 4, 20, b"x")
        transaction.append(A, EntryKind.ROWS, 1, 25, b"x")
    with store.read() as transaction:
        assert set(transaction.changes_after(seen)) == {
            PartitionChange(A, EntryKind.ROWS, 3, 25),
            PartitionChange(A, EntryKind.FLUSH, 1, 40),
            PartitionChange(B, EntryKind.ROWS, 4, 20),
        }
        assert transaction.changes_after(transaction.last_seq()) == []


def test_deletions_are_those_of_live_segments_of_the_table(store: Store) -> None:
    deleted = RemovedVersions(b"1" * 16, b"2" * 16, b"\x00\x01")
    replaced = RemovedVersions(b"1" * 8, b"2" * 8, b"\x00")
    other = PartitionKey(1, "alice")
    with store.write() as transaction:
        transaction.add_segment(segment(1), replaced)
        transaction.add_segment(segment(2, other), deleted)
        transaction.add_segment(segment(3, B), deleted)
    with store.write() as transaction:
        assert transaction.deletions(1) == [deleted]
        transaction.retire_segments([2], at_us=10)
        assert transaction.deletions(1) == []


def test_a_number_is_known_to_be_taken_since_the_first_time_that_tells(store: Store) -> None:
    with store.write() as transaction:
        transaction.append(A, EntryKind.ROWS, 3, 10, b"x")
        transaction.append(B, EntryKind.ROWS, 2, 20, b"x")
        assert [transaction.taken_at_us(seq) for seq in (1, 3, 4, 5, 6)] == [10, 10, 20, 20, None]
        transaction.mark_flushed(A, [1])
        transaction.trim_log(before_us=15)
    with store.read() as transaction:
        assert [transaction.taken_at_us(seq) for seq in (1, 3, 4, 6)] == [10, 10, 20, None]


def test_trimming_keeps_when_numbers_were_taken_to_five_seconds(store: Store) -> None:
    second = 1_000_000
    with store.write() as transaction:
        for at in (11, 13, 21, 99):
            transaction.append(A, EntryKind.ROWS, 1, at * second, b"x")
        transaction.mark_flushed(A, [1, 2, 3, 4])
        assert transaction.trim_log(before_us=50 * second) == 3
        assert [transaction.last_seq_before(at * second) for at in (12, 13, 20, 21)] == [0, 2, 2, 3]
        assert [transaction.taken_at_us(seq) for seq in (1, 2, 3)] == [
            13 * second, 13 * second, 21 * second,
        ]  # fmt: skip
    with store.write() as transaction:
        assert transaction.trim_log(before_us=100 * second, times_from_us=50 * second) == 1
        assert [transaction.last_seq_before(at * second) for at in (13, 21, 99)] == [0, 3, 4]
