"""How many rows a partition holds, from the manifest and the heads of log entries alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.store.log import Entry, ReadTransaction


class _Counted(msgspec.Struct, array_like=True):
    """A `RowChanges` whose rows are counted and not decoded."""

    schema_version: int
    rows: list[msgspec.Raw]
    replaces: list[int] = []
    deleted: list[int] = []
    at_us: int = 0


_decoder = msgspec.msgpack.Decoder(_Counted)


@dataclass(frozen=True, slots=True)
class RowCounts:
    """What partitions hold: live rows, how many of them no segment has yet, and segments."""

    rows: int = 0
    hot_rows: int = 0
    segments: int = 0
    size_bytes: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(
            self.rows + other.rows,
            self.hot_rows + other.hot_rows,
            self.segments + other.segments,
            self.size_bytes + other.size_bytes,
        )


def row_counts(
    transaction: ReadTransaction, key: PartitionKey, *, expired_before_us: int | None = None
) -> RowCounts:
    """Return the counts of one partition; no row is decoded, and nothing is kept in memory.

    Parameters
    ----------
    expired_before_us : int or None
        For STREAM tables: entries not younger than that count as gone.

    Raises
    ------
    msgspec.MsgspecError
        An entry is damaged.
    """
    hot, removed = _hot(transaction.hot_entries(key), expired_before_us)
    listed = transaction.segments(key)
    flushed = sum(item.meta.row_count - item.removed.count for item in listed)
    hot_removed = sum(seq in hot for seq in removed)
    if expired_before_us is None:
        flushed -= len(removed) - hot_removed
    return RowCounts(
        rows=flushed + len(hot) - hot_removed,
        hot_rows=len(hot) - hot_removed,
        segments=len(listed),
        size_bytes=sum(item.meta.size_bytes for item in listed),
    )


def _hot(entries: Iterable[Entry], expired_before_us: int | None) -> tuple[set[int], list[int]]:
    """Return the versions that entries added, and those that they removed."""
    added: set[int] = set()
    removed: list[int] = []
    for entry in entries:
        changes = _decoder.decode(entry.payload)
        removed += [seq for seq in (*changes.replaces, *changes.deleted) if seq]
        if expired_before_us is None or (changes.at_us or entry.at_us) > expired_before_us:
            added.update(range(entry.seq, entry.seq + len(changes.rows)))
    return added, removed
