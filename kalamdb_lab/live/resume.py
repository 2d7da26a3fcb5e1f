"""What a reader who comes back has missed: rows that are gone since a number of the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.errors import ConflictError
from kalamdb_lab.live.scope import SubscriptionScope
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.changes import Change, ChangeReader
from kalamdb_lab.partitions.partition import fold_rows
from kalamdb_lab.partitions.payload import Row, RowChanges, decode_rows
from kalamdb_lab.store.log import Entry, EntryKind, ListedSegment, ReadTransaction, Store

_LOOK_BACK: Final = 1_024


@dataclass(slots=True)
class _Removals:
    """What happened after a number: which version replaced which, and which were deleted."""

    replaced: dict[int, int] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)

    def now(self, seq: int) -> int:
        """Return the last version of the row that had this one; it may have been deleted."""
        while seq in self.replaced:
            seq = self.replaced[seq]
        return seq


@dataclass(frozen=True, slots=True)
class GoneRows:
    """Rows that a reader may still have.

    Attributes
    ----------
    rows : pa.Table
        As they were at that number, with ``_seq``, ascending; all columns.
    now : mapping of int to int
        By ``_seq`` the last version of each, which may be deleted.
    """

    rows: pa.Table
    now: Mapping[int, int]


class MissedChanges:
    """Tells what was removed since a number, for as long as the log knows."""

    def __init__(self, store: Store, reader: ChangeReader) -> None:
        self._store = store
        self._reader = reader

    def since(
        self,
        seq: int,
        upto_seq: int,
        key: PartitionKey,
        table: TableDef,
        segments: Mapping[int, ListedSegment],
    ) -> GoneRows | None:
        """Return the versions up to ``seq`` that were removed after it, up to ``upto_seq``.

        Returns
        -------
        GoneRows or None
            None if that cannot be told any more, because the log was trimmed or the partition
            dropped, or its versions are purged, or because the number is of another database.
        """
        nothing = GoneRows(fold_rows(table, []), {})
        if seq == 0:
            return nothing  # no version is as old
        if seq > upto_seq:
            return None
        with self._store.read() as transaction:
            found = _removals(transaction, seq, upto_seq, key)
            if found is None:
                return None
            wanted = sorted(old for old in {*found.replaced, *found.deleted} if old <= seq)
            if not wanted:
                return nothing
            entries = [e for e in transaction.hot_entries(key) if e.seq <= wanted[-1]]
        rows = self._read(wanted, entries, key, table, segments)
        if rows is None:
            with self._store.read() as transaction:
                entries = [
                    entry
                    for entry in transaction.entries_after(0)
                    if entry.partition == key and entry.seq <= wanted[-1]
                ]
            rows = self._read(wanted, entries, key, table, segments)
        if rows is None:
            return None
        return GoneRows(rows.sort_by("_seq"), {old: found.now(old) for old in wanted})

    def _read(
        self,
        wanted: list[int],
        entries: list[Entry],
        key: PartitionKey,
        table: TableDef,
        segments: Mapping[int, ListedSegment],
    ) -> pa.Table | None:
        """Return these versions from entries of the log and segments; None if one is missing."""
        held: dict[int, tuple[int, Row]] = {}
        remaining = set(wanted)
        for entry in entries:
            if entry.kind is EntryKind.ROWS:
                changes = decode_rows(entry.payload)
                for old in remaining.intersection(range(entry.seq, entry.seq + len(changes.rows))):
                    held[old] = changes.schema_version, changes.rows[old - entry.seq]
        # Read like the rows that a change of today would remove.
        removal = RowChanges(table.schema_version, [], [], wanted)
        at = Change(
            wanted[-1] + 1,
            wanted[-1] + len(wanted),
            0,
            key,
            EntryKind.ROWS,
            removal,
            held,
            segments,
        )
        try:
            (rows,) = self._reader.rows(at, table)
        except ConflictError:
            return None
        return rows.old


def _removals(
    transaction: ReadTransaction, since: int, upto_seq: int, key: PartitionKey
) -> _Removals | None:
    """Return the removals of a partition between two numbers; None if not all are known."""
    if since < transaction.log_start():
        return None
    found = _Removals()
    is_whole = since == transaction.last_seq()
    for entry in _entries_around(transaction, since):
        if entry.seq <= since or entry.seq == since + 1:
            is_whole = True  # the entry that the number is of, or the next one, is there
        if entry.seq > upto_seq:
            break
        if entry.partition != key:
            continue
        if entry.kind is EntryKind.DROP and entry.seq > since:
            return None
        if entry.kind is EntryKind.ROWS:
            _take(found, entry, since)
    return found if is_whole else None


def _entries_around(transaction: ReadTransaction, seq: int) -> list[Entry]:
    """Return the entry that a number is of, if it is still there, and all after it."""
    back = _LOOK_BACK
    while True:
        entries = list(transaction.entries_after(max(seq - back, 0)))
        before = [at for at, entry in enumerate(entries) if entry.seq <= seq]
        if before:
            return entries[before[-1] :]
        if back >= seq:
            return entries
        back *= 16


def _take(found: _Removals, entry: Entry, since: int) -> None:
    changes = decode_rows(entry.payload)
    for at, old in enumerate(changes.replaces, start=entry.seq):
        if old and at > since:
            found.replaced[old] = at
    for at, old in enumerate(changes.deleted, start=entry.seq + len(changes.rows)):
        if at > since:
            found.deleted.add(old)


def left(scope: SubscriptionScope, rows: pa.Table, gone: GoneRows | None) -> pa.Table:
    """Return the rows of a reader who resumes that are gone, or do not match any more.

    Parameters
    ----------
    rows : pa.Table
        The first rows that the reader gets. One with the key of a row that is gone took its
        place: the reader must not take that away again.
    """
    if gone is None or not gone.now:
        return fold_rows(scope.table, [])
    old = gone.rows
    matching = set(rows.column("_seq").to_pylist())
    missing = {seq for seq, now in gone.now.items() if now not in matching}
    if scope.filter is not None:
        missing &= set(scope.filter.matching_alone(old).tolist())
    seqs = old.column("_seq").to_pylist()
    key = scope.table.primary_key
    if key is not None and key.name in scope.columns:
        taken = set(storage_from_array(rows.column(key.name), key.data_type))
        keys = storage_from_array(old.column(key.name), key.data_type)
        missing -= {seq for seq, value in zip(seqs, keys, strict=True) if value in taken}
    return old.filter(pa.array([seq in missing for seq in seqs], pa.bool_()))
