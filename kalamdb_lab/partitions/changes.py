"""What an entry of the log changed, with the rows that it replaced: what live readers are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from kalamdb_lab.errors import ConflictError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.partition import Partition, fold_rows
from kalamdb_lab.partitions.payload import Row, RowChanges
from kalamdb_lab.partitions.removals import Seqs, holds
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.store.log import Entry, EntryKind, ListedSegment, Store

_CHUNK_ROWS = 100_000
_NONE = -1
_CHANGING = frozenset({EntryKind.ROWS, EntryKind.SEGMENT, EntryKind.DROP})
"""The kinds of entries that change an answer."""

Watched: TypeAlias = PartitionKey | int
"""One partition, or the key of a table for all its scopes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the log that changed rows of a partition.

    Attributes
    ----------
    seq, last_seq : int
        The numbers that the entry took.
    at_us : int
        When it was committed, in µs since 1970.
    kind : EntryKind
        ROWS, SEGMENT (a bulk insert) or DROP (all rows are gone, the table or the user too).
    rows : RowChanges or None
        What a ROWS entry says.
    hot : mapping of int to (schema version, row), or None
        The hot rows among those that were replaced or deleted, by version; None if the partition
        was not loaded, so that nobody knows them.
    segments : mapping of int to ListedSegment
        By id: where the other ones are; for SEGMENT where the new rows are.
    """

    seq: int
    last_seq: int
    at_us: int
    partition: PartitionKey
    kind: EntryKind
    rows: RowChanges | None
    hot: Mapping[int, tuple[int, Row]] | None
    segments: Mapping[int, ListedSegment]

    @property
    def is_known(self) -> bool:
        """False if the partition was not loaded, so that nobody can tell which rows changed."""
        return self.hot is not None


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """Rows of one change in the order of their numbers.

    Attributes
    ----------
    seqs : (n,) int64, ascending
        The number of each change.
    new, old : pa.Table
        New and old versions with their ``_seq``, in the table's newest schema.
    new_at, old_at : (n,) int64
        For change ``i`` the row of ``new`` and of ``old`` that it is about, or -1: an insert has
        no old row, a delete no new one.
    """

    seqs: Seqs
    new: pa.Table
    old: pa.Table
    new_at: Seqs
    old_at: Seqs


class ChangeSink(Protocol):
    """Takes changes of what is watched, under the lock of the log."""

    def take(self, change: Change) -> None:
        """Take over the next change, in the order of the log."""
        ...

    def lose(self) -> None:
        """Take note that entries were trimmed before they were seen."""
        ...


class WatchedPartitions:
    """Which partitions somebody watches, and who is told; all calls are under the log's lock."""

    def __init__(self) -> None:
        self._counts: Counter[Watched] = Counter()
        self._sink: ChangeSink | None = None

    def add(self, wanted: Watched, sink: ChangeSink) -> None:
        """Give ``sink`` all changes of a partition, or of all of a table; there is one sink."""
        self._sink = sink
        self._counts[wanted] += 1

    def discard(self, wanted: Watched) -> None:
        """Take back one `add`."""
        self._counts[wanted] -= 1
        if not self._counts[wanted]:
            del self._counts[wanted]

    def concerns(self, entry: Entry) -> bool:
        """Return whether anybody wants to know of an entry."""
        if not self._counts:
            return False
        key = entry.partition
        return entry.kind in _CHANGING and (key in self._counts or key.table_key in self._counts)

    def take(self, change: Change, partition: Partition | None) -> None:
        """Pass on the change of an entry that was applied now."""
        if partition is not None and change.kind is EntryKind.SEGMENT:
            change = replace(change, segments=partition.segments)
        if self._sink is not None:
            self._sink.take(change)

    def lose(self) -> None:
        """Pass on that entries were trimmed before they were seen."""
        if self._sink is not None:
            self._sink.lose()


def capture(partition: Partition | None, entry: Entry, rows: RowChanges | None) -> Change:
    """Return the change of an entry that is about to be applied to its partition."""
    hot: dict[int, tuple[int, Row]] | None = None
    segments: Mapping[int, ListedSegment] = {}
    if partition is not None:
        held = partition.rows
        removed = () if rows is None else _removed(rows)
        hot = {seq: held[seq] for seq in removed if seq in held}
        segments = partition.segments
    last_seq = entry.seq + max(entry.count, 1) - 1
    return Change(
        entry.seq, last_seq, entry.at_us, entry.partition, entry.kind, rows, hot, segments
    )


class ChangeReader:
    """Reads the rows that changes are about."""

    def __init__(self, store: Store, reader: SegmentReader) -> None:
        self._store = store
        self._reader = reader

    def rows(
        self, change: Change, table: TableDef, columns: Sequence[str] | None = None
    ) -> Iterator[ChangedRows]:
        """Yield the rows of a change, 100,000 at a time at most; none for DROP.

        Parameters
        ----------
        change : Change
            One that is known.
        table : TableDef
            Its present definition: rows of older versions are converted.
        columns : sequence of str, optional
            Which columns are wanted, as they are spelled in ``table``; all by default.

        Raises
        ------
        CorruptError, StorageError
            A segment cannot be read.
        """
        names = [column.name for column in table.columns] if columns is None else list(columns)
        wanted = [*names, "_seq"]
        if change.kind is EntryKind.SEGMENT:
            yield from self._of_segment(change, table, wanted)
        elif change.rows is not None:
            yield self._of_rows(change, change.rows, table, wanted)

    def _of_segment(
        self, change: Change, table: TableDef, wanted: Sequence[str]
    ) -> Iterator[ChangedRows]:
        empty = _empty(table, wanted)
        for meta in self._segments(change, [change.seq]):
            if meta.min_seq != change.seq:
                continue
            rows = self._reader.read(meta, table, wanted)
            for start in range(0, rows.num_rows, _CHUNK_ROWS):
                part = rows.slice(start, _CHUNK_ROWS)
                seqs = part.column("_seq").to_numpy()
                count = len(seqs)
                yield ChangedRows(seqs, part, empty, np.arange(count), np.full(count, _NONE))
            return
        raise _missed(table)

    def _of_rows(
        self, change: Change, rows: RowChanges, table: TableDef, wanted: Sequence[str]
    ) -> ChangedRows:
        count, added = len(rows.rows) + len(rows.deleted), len(rows.rows)
        seqs = np.arange(change.seq, change.seq + count, dtype=np.int64)
        new = fold_rows(
            table,
            [(change.seq + at, rows.schema_version, row) for at, row in enumerate(rows.rows)],
        ).select(wanted)
        new_at = np.where(np.arange(count) < added, np.arange(count), _NONE)
        replaces = rows.replaces or [0] * added
        removed = np.array([*replaces, *rows.deleted], np.int64)
        old = self._old_rows(change, removed[removed > 0].tolist(), table, wanted)
        old_at = np.full(count, _NONE, np.int64)
        if old.num_rows:
            old_seqs = old.column("_seq").to_numpy()
            order = np.argsort(old_seqs)
            places = np.searchsorted(old_seqs, removed, sorter=order)
            places[places == len(order)] = 0
            found = order[places]
            old_at = np.where(old_seqs[found] == removed, found, _NONE)
        return ChangedRows(seqs, new, old, new_at, old_at)

    def _old_rows(
        self, change: Change, removed: list[int], table: TableDef, wanted: Sequence[str]
    ) -> pa.Table:
        hot = change.hot or {}
        parts = []
        if hot:
            parts.append(fold_rows(table, [(seq, *hot[seq]) for seq in sorted(hot)]).select(wanted))
        missing = [seq for seq in removed if seq not in hot]
        for meta in self._segments(change, missing):
            inside = [seq for seq in missing if meta.min_seq <= seq <= meta.max_seq]
            if inside and meta.max_seq - meta.min_seq + 1 != meta.row_count:
                numbers = self._reader.seq_numbers(meta, table)
                inside = [seq for seq in inside if holds(numbers, seq)]
            if inside:
                parts.append(self._reader.read_rows(meta, table, wanted, inside))
                missing = sorted(set(missing) - set(inside))
            if not missing:
                break
        if missing:
            raise _missed(table)
        return pa.concat_tables(parts) if parts else _empty(table, wanted)

    def _segments(self, change: Change, seqs: list[int]) -> Iterator[SegmentMeta]:
        """Yield the segments that may hold these versions, live ones first.

        Whoever follows a log that others have compacted sees their newest segments only.
        """
        if not seqs:
            return
        for listed in change.segments.values():
            yield listed.meta
        with self._store.read() as transaction:
            retired = transaction.retired_segments()
        for segment in retired:
            if segment.meta.partition == change.partition:
                yield segment.meta


def _missed(table: TableDef) -> ConflictError:
    return ConflictError(f"Changes of {table.table_id} came too fast to follow; subscribe again")


def _removed(rows: RowChanges) -> Iterator[int]:
    yield from (seq for seq in rows.replaces if seq)
    yield from rows.deleted


def _empty(table: TableDef, wanted: Sequence[str]) -> pa.Table:
    return fold_rows(table, []).select(wanted)
