"""What is hot in every partition, without loading any: counts that follow the log."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.partitions.payload import RowsSummary, summarize_rows
from kalamdb_lab.store.log import EntryKind, HotCount, PartitionChange, Store

_MOVES_HOT = frozenset({EntryKind.FLUSH, EntryKind.EVICT, EntryKind.DROP})
_CHUNK_ENTRIES = 1_000
_CHUNK_BYTES = 4_000_000
"""So much is read at once: other readers wait behind it for some milliseconds."""


@dataclass(slots=True)
class TableHot:
    """The hot rows of one table, by scope.

    Each version that was written counts, one that an UPDATE replaced or that a DELETE removed
    too: that is what the log holds and what a flush takes out of it.
    """

    scopes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Rows, and the time in µs of the first."""
    most_rows: int = 0
    """Rows of the scope that has the most."""
    first_at_us: int = 0
    """The time of the first hot row of any scope."""

    def put(self, hot: Iterable[HotCount], gone: Iterable[str] = ()) -> None:
        """Replace what is known of some scopes, and forget others."""
        for count in hot:
            self.scopes[count.partition.scope] = (count.count, count.first_at_us)
        for scope in gone:
            self.scopes.pop(scope, None)
        self.most_rows = max((rows for rows, _ in self.scopes.values()), default=0)
        self.first_at_us = min((at_us for _, at_us in self.scopes.values()), default=0)

    def add(self, change: PartitionChange) -> None:
        """Count further rows of a scope."""
        rows, first_at_us = self.scopes.get(change.partition.scope, (0, change.first_at_us))
        rows, first_at_us = rows + change.count, min(first_at_us, change.first_at_us)
        self.first_at_us = min(self.first_at_us, first_at_us) if self.scopes else first_at_us
        self.most_rows = max(self.most_rows, rows)
        self.scopes[change.partition.scope] = (rows, first_at_us)


class HotTally:
    """Counts of hot rows of all tables, as the log has them up to a number.

    Not thread-safe. It reads the store itself, what other processes write too, and costs as much
    as was written since it was asked last.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.tables: dict[int, TableHot] = {}
        """By the key of the table; tables with nothing hot are left out."""
        self.seq: int | None = None
        """The last number of the log that is counted in; None before the first `follow`."""
        self.log_start = 0
        """The number below which the log was trimmed by then."""

    def follow(self) -> Sequence[PartitionChange] | None:
        """Take in what was committed since; return it, or None if all was counted anew."""
        with self._store.read() as transaction:
            last_seq, self.log_start = transaction.last_seq(), transaction.log_start()
            if self.seq is None or self.seq < self.log_start:
                # Entries that were never seen may be trimmed.
                self.tables = {}
                self._put(transaction.hot_counts())
                self.seq = last_seq
                return None
            if last_seq == self.seq:
                return []
            changes = transaction.changes_after(self.seq)
            moved = {change.partition for change in changes if change.kind in _MOVES_HOT}
            self._put(transaction.hot_counts(moved), moved)
        for change in changes:
            if change.kind is EntryKind.ROWS and change.partition not in moved:
                self.tables.setdefault(change.partition.table_key, TableHot()).add(change)
        self.seq = last_seq
        return changes

    def _put(self, counts: list[HotCount], partitions: Collection[PartitionKey] = ()) -> None:
        """Replace what is known of these partitions, and of those that have counts."""
        hot: dict[int, list[HotCount]] = {}
        gone: dict[int, set[str]] = {}
        for partition in partitions:
            gone.setdefault(partition.table_key, set()).add(partition.scope)
        for count in counts:
            key = count.partition
            hot.setdefault(key.table_key, []).append(count)
            gone.setdefault(key.table_key, set()).discard(key.scope)
        # All scopes of a table at once: each time costs a look at every one of them.
        for table_key, scopes in gone.items():
            table = self.tables.setdefault(table_key, TableHot())
            table.put(hot.get(table_key, ()), scopes)
            if not table.scopes:
                del self.tables[table_key]


def oldest_event_us(store: Store, key: PartitionKey, *, after_seq: int = 0) -> int | None:
    """Return when the oldest hot row of a partition came to be, of those after that number."""
    times = [at_us if s.at_us == 0 else s.at_us for at_us, s in _summaries(store, key, after_seq)]
    return min(times, default=None)


def oldest_hot_deletion_us(store: Store, key: PartitionKey, *, after_seq: int = 0) -> int | None:
    """Return the time of the first hot entry after that number that deleted rows."""
    times = (at_us for at_us, summary in _summaries(store, key, after_seq) if summary.deleted)
    return min(times, default=None)


def oldest_flushed_deletion_us(store: Store, table_key: int) -> int | None:
    """Return when the first of the rows was deleted that the segments of a table still hold."""
    with store.read() as transaction:
        first: int | None = None
        for removed in transaction.deletions(table_key):
            deleted = np.frombuffer(removed.deleted, np.uint8).astype(bool)
            seq = int(np.frombuffer(removed.removed_at, np.int64)[deleted].min())
            first = seq if first is None else min(first, seq)
        return None if first is None else transaction.taken_at_us(first)


def _summaries(
    store: Store, key: PartitionKey, after_seq: int
) -> Iterator[tuple[int, RowsSummary]]:
    """Yield the time of each hot entry, and what its payload says but for the rows."""
    while True:
        found: list[tuple[int, RowsSummary]] = []
        size_bytes, is_full = 0, False
        with store.read() as transaction:
            for entry in transaction.hot_entries(key, after_seq=after_seq):
                found.append((entry.at_us, summarize_rows(entry.payload)))
                after_seq, size_bytes = entry.seq, size_bytes + len(entry.payload)
                is_full = len(found) == _CHUNK_ENTRIES or size_bytes > _CHUNK_BYTES
                if is_full:
                    break
        yield from found
        if not is_full:
            return
