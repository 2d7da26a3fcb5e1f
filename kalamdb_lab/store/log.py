"""The commit log as values, and what a store of it promises.

An entry is what one commit changed in one partition. Entries are ordered by ``seq``, the first
of the consecutive numbers that the entry took from the database's one counter. Publishing a
segment is an entry too, so whoever reads the log in order knows all there is to know.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta

TIMES_APART_US: Final = 5_000_000
"""How exactly it stays known when the numbers of trimmed entries were taken."""


class EntryKind(enum.IntEnum):
    """What an entry did to its partition."""

    ROWS = 1
    """Added row versions, removed others, or both."""
    SEGMENT = 2
    """Added the rows of a segment, written directly."""
    FLUSH = 3
    """Moved hot rows into segments; changes no answer."""
    COMPACT = 4
    """Replaced segments by others; changes no answer."""
    EVICT = 5
    """Forgot expired entries of a stream."""
    DROP = 6
    """Dropped the partition with all its rows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log; ``payload`` is encoded by the floor above."""

    seq: int
    count: int
    partition: PartitionKey
    kind: EntryKind
    at_us: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class RemovedVersions:
    """Removed versions of one segment: int64 little-endian blobs of equal length.

    ``seqs`` ascends; ``removed_at`` holds the ``_seq`` of the removing commit; ``deleted`` has
    one byte per version, 1 if the row was deleted and 0 if another version replaced it.
    """

    seqs: bytes = b""
    removed_at: bytes = b""
    deleted: bytes = b""

    @property
    def count(self) -> int:
        """How many versions there are."""
        return len(self.deleted)


@dataclass(frozen=True, slots=True)
class ListedSegment:
    """A live segment of the manifest and what was removed from it."""

    meta: SegmentMeta
    removed: RemovedVersions


@dataclass(frozen=True, slots=True)
class RetiredSegment:
    """A segment that was taken off the manifest, and whose files may still be there.

    A snapshot at a number below ``retired_seq`` may read it.
    """

    meta: SegmentMeta
    retired_seq: int
    retired_at_us: int


@dataclass(frozen=True, slots=True)
class HotCount:
    """What of a partition is not flushed: how many numbers it took, and since when."""

    partition: PartitionKey
    count: int
    first_at_us: int


@dataclass(frozen=True, slots=True)
class PartitionChange:
    """The entries of one kind that a partition got: how many numbers, and since when."""

    partition: PartitionKey
    kind: EntryKind
    count: int
    first_at_us: int


class ReadTransaction(Protocol):
    """The catalog as it was at one moment."""

    def last_seq(self) -> int:
        """Return the last number taken; 0 in a new database."""
        ...

    def last_segment_id(self) -> int:
        """Return the last segment id taken; 0 in a new database."""
        ...

    def log_start(self) -> int:
        """Return the number below which flushed entries may have been deleted."""
        ...

    def entries_after(self, seq: int) -> Iterator[Entry]:
        """Yield all entries with a greater ``seq``, in order."""
        ...

    def hot_entries(self, partition: PartitionKey, *, after_seq: int = 0) -> Iterator[Entry]:
        """Yield the entries of one partition that are not flushed, in order."""
        ...

    def hot_counts(self, partitions: Collection[PartitionKey] | None = None) -> list[HotCount]:
        """Return what is hot in each of these partitions, or in all, where something is."""
        ...

    def changes_after(self, seq: int) -> list[PartitionChange]:
        """Return what the entries with a greater ``seq`` changed, by partition and kind.

        Costs as much as there are such entries; their payloads are not read.
        """
        ...

    def deletions(self, table_key: int) -> list[RemovedVersions]:
        """Return the lists of a table's live segments that name deleted rows."""
        ...

    def taken_at_us(self, seq: int) -> int | None:
        """Return a time at which that number had been taken: the first that is still known."""
        ...

    def segments(self, partition: PartitionKey) -> list[ListedSegment]:
        """Return the live segments of one partition by ``segment_id``."""
        ...

    def segments_by_id(self, segment_ids: Sequence[int]) -> list[ListedSegment]:
        """Return these segments, live or retired, by ``segment_id``; unknown ids are left out."""
        ...

    def all_segments(self) -> Iterator[ListedSegment]:
        """Yield all live segments of the database, by ``segment_id``."""
        ...

    def last_seq_before(self, at_us: int) -> int:
        """Return a number that was taken before that time: the latest still known, or 0."""
        ...

    def retired_segments(self) -> list[RetiredSegment]:
        """Return all segments that are retired and not forgotten, by ``segment_id``."""
        ...

    def oldest_lease(self, at_us: int) -> int | None:
        """Return the lowest number that a lease holds which ends after that time, or None."""
        ...

    def scopes(self, table_key: int) -> list[str]:
        """Return the scopes of a table that hold or held rows, in ascending order."""
        ...

    def remnants(self, scopes: Collection[str]) -> list[PartitionKey]:
        """Return the partitions of these scopes that have entries or segments, in order.

        Retired segments count, the entries that say that a partition was dropped do not.
        """
        ...


class WriteTransaction(ReadTransaction, Protocol):
    """The only writer at that moment; all of it becomes durable together, or nothing."""

    def append(
        self, partition: PartitionKey, kind: EntryKind, count: int, at_us: int, payload: bytes
    ) -> Entry:
        """Add an entry that takes ``count`` numbers (at least 1), and return it."""
        ...

    def mark_flushed(self, partition: PartitionKey, seqs: Sequence[int]) -> int:
        """Mark these entries as flushed; return how many were still hot."""
        ...

    def delete_entries(self, partition: PartitionKey, seqs: Sequence[int]) -> None:
        """Forget entries of one partition (expired events, purged versions)."""
        ...

    def next_segment_id(self) -> int:
        """Take the next segment id; numbers of work that failed are never used again."""
        ...

    def add_segment(self, meta: SegmentMeta, removed: RemovedVersions) -> None:
        """List a segment in the manifest."""
        ...

    def set_removed(self, segment_id: int, removed: RemovedVersions) -> None:
        """Replace the list of removed versions of a segment."""
        ...

    def retire_segments(self, segment_ids: Sequence[int], at_us: int) -> None:
        """Take segments off the manifest; their files stay until they are forgotten."""
        ...

    def forget_segments(self, segment_ids: Sequence[int]) -> None:
        """Forget retired segments whose files are gone."""
        ...

    def drop_partition(self, partition: PartitionKey, at_us: int) -> None:
        """Delete all entries of a partition and retire all its segments."""
        ...

    def forget_partitions(self) -> int:
        """Forget the partitions that have neither entries nor segments; return how many."""
        ...

    def restate_segment(self, meta: SegmentMeta) -> None:
        """Replace what the manifest says of a live segment; its files stay as they are."""
        ...

    def start_after(self, last_seq: int, last_segment_id: int, at_us: int) -> None:
        """Go on after these numbers, as of that time: what came before is no longer in the log.

        Numbers that are behind those taken already change nothing.
        """
        ...

    def trim_log(self, before_us: int, *, times_from_us: int = 0) -> int:
        """Delete flushed entries older than that time; return how many.

        When their numbers were taken stays known to `TIMES_APART_US`, but for what is older than
        ``times_from_us``: of that only which number was the last.
        """
        ...


class HeldRead(Protocol):
    """The catalog as it was when this was opened, for as long as it stays open."""

    def read(self) -> AbstractContextManager[ReadTransaction]:
        """Read at that moment, as often as wanted; one thread at a time gets in."""
        ...

    def close(self) -> None:
        """Let go of that moment; a second call does nothing."""
        ...


class Store(Protocol):
    """A catalog that several threads and processes may use at once."""

    def data_version(self) -> int:
        """Return a number that changes when anybody may have committed; costs microseconds."""
        ...

    def read(self) -> AbstractContextManager[ReadTransaction]:
        """Open a read transaction: never blocks a writer, is never blocked by one."""
        ...

    def hold(self) -> HeldRead:
        """Open a read that outlives the call: commits of others do not reach it.

        Raises
        ------
        NotSupportedError
            Where write-ahead logging does not work: there a long read would stop all writers.
        """
        ...

    def write(self, *, wait_s: float | None = None) -> AbstractContextManager[WriteTransaction]:
        """Take the write lock; commit at the end of the block, roll back if it raises.

        Parameters
        ----------
        wait_s : float, optional
            Wait no longer than this for the lock, if the store's busy timeout is longer.

        Raises
        ------
        BusyError
            If the lock is not free within the store's busy timeout.
        StorageError
            If the disk is full or cannot be written; then nothing was changed.
        KalamError
            If this thread is within such a block already, which goes on unharmed.
        """
        ...

    def lease(self, node_id: int, seq: int, expires_us: int) -> None:
        """Hold all segments that a snapshot at ``seq`` may read, until ``expires_us``."""
        ...

    def release(self, node_id: int, *, wait_s: float | None = None) -> None:
        """End the lease of a node; waits for the lock as `write` does."""
        ...

    def node_id(self) -> int:
        """Return the number of this opening of the database: they grow from 1.

        It is taken with the first write transaction, and may be asked for within one.
        """
        ...

    def close(self) -> None:
        """Give the files back; further calls raise `ClosedError`."""
        ...
