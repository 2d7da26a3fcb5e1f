"""One partition in memory: what the log says of it that no segment holds yet.

The only way to change a partition is to apply the next entry of the log, whoever wrote it, so
the state of a process is always the log up to one number.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import pyarrow as pa

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.arrow.schemas import SCHEMAS
from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.partitions.payload import Row, RowChanges, decode_rows
from kalamdb_lab.partitions.removals import (
    Removal,
    SegmentView,
    SeqNumbers,
    Seqs,
    holds,
    owners,
    view_of,
)
from kalamdb_lab.segments.versions import converted, converted_value
from kalamdb_lab.store.log import ListedSegment, ReadTransaction

_NO_SEQS: Seqs = np.empty(0, np.int64)
_MANY_CHUNKS = 16
_FEW = 64
_CHANGED_IN_PLACE = (
    *("rows", "removed", "entries", "segments"),
    *("_keys", "_unkeyed", "_chunks", "_unfolded"),
)
_revisions = itertools.count()
SEQ_FIELD = pa.field("_seq", pa.int64(), nullable=False)


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    """One partition at one number of the log; nothing in it ever changes.

    Attributes
    ----------
    hot : pa.Table
        Live hot rows in the newest schema (hidden columns too) and ``_seq``, ascending.
    hot_deleted : pa.Table
        Hot rows that were deleted, alike.
    """

    partition: PartitionKey
    hot: pa.Table
    hot_deleted: pa.Table
    segments: tuple[SegmentView, ...]

    @property
    def row_count(self) -> int:
        """Live rows."""
        flushed = sum(view.meta.row_count - len(view.removed) for view in self.segments)
        return int(self.hot.num_rows) + flushed


class Partition:
    """The hot rows, removals and live segments of one (table, scope).

    Not thread-safe: its `CommitLog` holds a lock around every call.
    """

    def __init__(self, key: PartitionKey, seq_numbers: SeqNumbers) -> None:
        self.key = key
        self._seq_numbers = seq_numbers
        self.revision = next(_revisions)
        """Changes with every change; no two states of a process share one, reloaded ones too."""
        self.rows: dict[int, tuple[int, Row]] = {}
        """Version number to (schema version, row): live or deleted, not replaced; ascending."""
        self.removed: dict[int, Removal] = {}
        """Removals that no segment's list holds yet, by the version removed."""
        self.entries: list[tuple[int, int, int]] = []
        """(seq, rows, time in µs) of the hot entries, ascending by seq."""
        self.segments: dict[int, ListedSegment] = {}
        self._keys: dict[StorageValue, int] = {}
        self._keys_version = 0
        self._unkeyed: list[int] = []
        self._chunks: list[pa.Table] = []
        self._chunks_version = 0
        self._unfolded: list[int] = []
        self._views: list[SegmentView] | None = None
        self._snapshot: PartitionSnapshot | None = None
        self._snapshot_for = (-1, -1)
        self.changed_at_seq = 0
        """The number of the log at which it last changed, or was read from the store."""

    def copy(self) -> Partition:
        """Return a partition in the same state that goes its own way from here."""
        twin = copy.copy(self)
        for name in _CHANGED_IN_PLACE:
            setattr(twin, name, getattr(self, name).copy())
        return twin

    # --- applying the log ---------------------------------------------------------------

    def add_rows(self, seq: int, at_us: int, changes: RowChanges) -> None:
        """Apply a ROWS entry."""
        version = changes.schema_version
        for offset, row in enumerate(changes.rows):
            self.rows[seq + offset] = (version, row)
        new = range(seq, seq + len(changes.rows))
        self._unkeyed.extend(new)
        self._unfolded.extend(new)
        self.entries.append((seq, len(changes.rows), changes.at_us or at_us))
        if changes.replaces or changes.deleted:
            self._views = None
        for offset, replaced in enumerate(changes.replaces):
            if replaced:
                hot = self.rows.pop(replaced, None) is not None
                self.removed[replaced] = Removal(seq + offset, deleted=False, hot=hot)
        for offset, deleted in enumerate(changes.deleted):
            at_seq = seq + len(changes.rows) + offset
            self.removed[deleted] = Removal(at_seq, deleted=True, hot=deleted in self.rows)
        self.revision = next(_revisions)

    def set_segments(self, segments: Iterable[ListedSegment]) -> None:
        """Take over the manifest's list of live segments."""
        self.segments = {listed.meta.segment_id: listed for listed in segments}
        self._views = None
        self.revision = next(_revisions)

    def forget_flushed(self, upto_seq: int) -> None:
        """Drop what a flush moved into segments: everything up to that number."""
        self.rows = {seq: row for seq, row in self.rows.items() if seq > upto_seq}
        # What was removed while the flush wrote its file is in the new segment now.
        self.removed = {
            seq: removal._replace(hot=removal.hot and seq > upto_seq)
            for seq, removal in self.removed.items()
            if removal.at_seq > upto_seq
        }
        self.entries = [entry for entry in self.entries if entry[0] > upto_seq]
        self._forget_derived()

    def forget_entries(self, entry_seqs: Iterable[int]) -> None:
        """Drop whole entries: expired events of a stream."""
        gone = set(entry_seqs)
        for seq, count, _ in self.entries:
            if seq in gone:
                for version in range(seq, seq + count):
                    self.rows.pop(version, None)
                    self.removed.pop(version, None)
        self.entries = [entry for entry in self.entries if entry[0] not in gone]
        self._forget_derived()

    def forget_all(self) -> None:
        """Drop everything: the partition was dropped."""
        self.rows, self.removed, self.entries, self.segments = {}, {}, [], {}
        self._forget_derived()

    def _forget_derived(self) -> None:
        self._keys, self._unkeyed = {}, list(self.rows)
        self._chunks, self._unfolded = [], list(self.rows)
        self._views = None
        self.revision = next(_revisions)

    # --- looking up -----------------------------------------------------------------------

    def live_seq(self, key: StorageValue, table: TableDef) -> int | None:
        """Return the version of the live hot row with this primary key, if there is one."""
        if self._keys_version != table.schema_version:
            # The key's type may be wider now.
            self._keys, self._unkeyed = {}, list(self.rows)
            self._keys_version = table.schema_version
        if self._unkeyed:
            readers: dict[int, Callable[[Row], StorageValue]] = {}
            for seq in self._unkeyed:
                if (entry := self.rows.get(seq)) is not None:
                    version, row = entry
                    if version not in readers:
                        readers[version] = key_reader(table, version)
                    self._keys[readers[version](row)] = seq
            self._unkeyed = []
        found = self._keys.get(key)
        return found if found in self.rows and found not in self.removed else None

    def holds_live(self, seq: int, table: TableDef) -> bool:
        """Return whether this version is here, hot or in a segment, and was not removed."""
        if seq in self.removed:
            return False
        if seq in self.rows:
            return True
        for view in self.segment_views(table):
            meta = view.meta
            if meta.min_seq <= seq <= meta.max_seq and not holds(view.removed, seq):
                is_whole = meta.max_seq - meta.min_seq + 1 == meta.row_count
                if is_whole or holds(self._seq_numbers(meta, table), seq):
                    return True
        return False

    def first_gone(self, seqs: Collection[int], table: TableDef) -> int | None:
        """Return the first of these versions that is not live here; None if all of them are."""
        if len(seqs) <= _FEW:
            return next((seq for seq in seqs if not self.holds_live(seq, table)), None)
        wanted = np.fromiter(seqs, np.int64, len(seqs))
        live = np.isin(wanted, np.fromiter(self.rows, np.int64, len(self.rows)))
        for view in self.segment_views(table):
            near = (wanted >= view.meta.min_seq) & (wanted <= view.meta.max_seq)
            if near.any():
                held = np.isin(wanted[near], self._seq_numbers(view.meta, table))
                live[near] |= held & ~np.isin(wanted[near], view.removed)
        live &= ~np.isin(wanted, np.fromiter(self.removed, np.int64, len(self.removed)))
        return None if live.all() else int(wanted[~live][0])

    def live_rows(self) -> Iterator[tuple[int, int, Row]]:
        """Yield (version, schema version, row) of the live hot rows, ascending."""
        for seq, (version, row) in self.rows.items():
            if seq not in self.removed:
                yield seq, version, row

    def segment_views(self, table: TableDef) -> list[SegmentView]:
        """Return the live segments with their removed versions as of now, by segment id."""
        if self._views is None:
            fresh = owners(self.removed, self.segments.values(), self._seq_numbers, table)
            self._views = [
                view_of(listed, fresh.get(segment_id, {}))
                for segment_id, listed in self.segments.items()
            ]
        return self._views

    # --- Arrow ----------------------------------------------------------------------------

    def snapshot(self, table: TableDef) -> PartitionSnapshot:
        """Return the partition as it is now; repeated calls without a change are free."""
        wanted = (self.revision, table.schema_version)
        if self._snapshot is None or self._snapshot_for != wanted:
            hot, hot_deleted = self._hot_tables(table)
            views = tuple(self.segment_views(table))
            self._snapshot = PartitionSnapshot(self.key, hot, hot_deleted, views)
            self._snapshot_for = wanted
        return self._snapshot

    def expired_seqs(self, before_us: int) -> Seqs:
        """Return the versions of entries not younger than that time, ascending."""
        ranges = [
            np.arange(seq, seq + count, dtype=np.int64)
            for seq, count, at_us in self.entries
            if at_us <= before_us
        ]
        return np.concatenate(ranges) if ranges else _NO_SEQS

    def _hot_tables(self, table: TableDef) -> tuple[pa.Table, pa.Table]:
        if self._chunks_version != table.schema_version:
            self._chunks, self._unfolded = [], list(self.rows)
            self._chunks_version = table.schema_version
        if self._unfolded:
            fresh = [(seq, *self.rows[seq]) for seq in self._unfolded if seq in self.rows]
            self._unfolded = []
            if fresh:
                self._chunks.append(fold_rows(table, fresh))
        if len(self._chunks) > _MANY_CHUNKS:
            # DuckDB pays per chunk; merging everything now and then keeps the sum linear enough.
            self._chunks = [pa.concat_tables(self._chunks).combine_chunks()]
        if not self._chunks:
            empty = fold_rows(table, [])
            return empty, empty
        everything = pa.concat_tables(self._chunks)
        if not self.removed:
            return everything, everything.slice(0, 0)
        seqs = everything.column("_seq").to_numpy()
        gone = np.isin(seqs, np.fromiter(self.removed, np.int64, len(self.removed)))
        if not gone.any():
            return everything, everything.slice(0, 0)
        live = everything.filter(pa.array(~gone))
        deleted_seqs = [seq for seq, removal in self.removed.items() if removal.deleted]
        deleted = np.isin(seqs, np.array(deleted_seqs, np.int64))
        return live, everything.filter(pa.array(deleted))


def loaded(key: PartitionKey, transaction: ReadTransaction, seq_numbers: SeqNumbers) -> Partition:
    """Return a partition as a transaction of the store has it."""
    partition = Partition(key, seq_numbers)
    partition.set_segments(transaction.segments(key))
    for entry in transaction.hot_entries(key):
        partition.add_rows(entry.seq, entry.at_us, decode_rows(entry.payload))
    return partition


def key_reader(table: TableDef, version: int) -> Callable[[Row], StorageValue]:
    """Return what gives the primary key, in its present type, of rows of that schema version."""
    key = table.primary_key
    assert key is not None
    for at, old in enumerate(table.columns_at(version)):
        if old.column_id == key.column_id:
            if old.data_type == key.data_type:
                return itemgetter(at)
            return lambda row: converted_value(
                row[at], old.data_type, key.data_type, column=key.name
            )
    raise AssertionError("a primary key cannot be dropped")


def fold_rows(table: TableDef, rows: list[tuple[int, int, Row]]) -> pa.Table:
    """Return (version, schema version, row) triples as Arrow in the table's newest schema.

    Rows of older schema versions are read through their column ids: what was dropped is left
    out, what came later shows the column's fill, what changed its type is converted.
    """
    parts: list[list[pa.Array]] = []
    start = 0
    while start < len(rows):
        version = rows[start][1]
        end = start
        while end < len(rows) and rows[end][1] == version:
            end += 1
        parts.append(_fold_version(table, version, rows[start:end]))
        start = end
    schema = SCHEMAS.of(table.columns).append(SEQ_FIELD)
    if not parts:
        return schema.empty_table()
    tables = [pa.Table.from_arrays(arrays, schema=schema) for arrays in parts]
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables).combine_chunks()


def _fold_version(
    table: TableDef, version: int, rows: list[tuple[int, int, Row]]
) -> list[pa.Array]:
    written = {
        column.column_id: (at, column) for at, column in enumerate(table.columns_at(version))
    }
    arrays: list[pa.Array] = []
    for column in table.columns:
        at_and_old = written.get(column.column_id)
        if at_and_old is None:
            arrays.append(array_from_storage([column.fill] * len(rows), column.data_type))
            continue
        at, old = at_and_old
        values = array_from_storage([row[at] for _, _, row in rows], old.data_type)
        arrays.append(_converted(values, old, column))
    arrays.append(pa.array([seq for seq, _, _ in rows], pa.int64()))
    return arrays


def _converted(values: pa.Array, old: ColumnDef, new: ColumnDef) -> pa.Array:
    if old.data_type == new.data_type:
        return values
    column = pa.chunked_array([values])
    return converted(column, old.data_type, new.data_type, column=new.name).combine_chunks()
