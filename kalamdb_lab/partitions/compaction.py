"""Compaction: many or outdated segments of a partition become few, and removals become real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.bulk import SEGMENT_ROWS
from kalamdb_lab.partitions.commit_log import CommitLog, Definition
from kalamdb_lab.partitions.removals import Removal, decode_removed, encode_removed
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.store.log import EntryKind, ListedSegment


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did: segments taken away, segments made, versions dropped for good."""

    retired: int
    written: int
    dropped_versions: int


def compact_partition(
    log: CommitLog,
    home: SegmentHome,
    reader: SegmentReader,
    definition: Definition,
    key: PartitionKey,
    *,
    purge_before_seq: int,
    merges: bool = True,
    check: Callable[[], None] = lambda: None,
) -> Compacted:
    """Merge segments, apply removals and bring rows to the newest schema; no answer changes.

    Versions that were replaced go; deleted rows go if they were deleted before
    ``purge_before_seq``. Memory is bounded by one group of segments of `SEGMENT_ROWS` rows. Each
    group is its own commit, so a crash, or ``check``, which is called before each and may raise,
    leaves whole groups done and the rest as it was.

    Parameters
    ----------
    merges : bool
        With False only segments with versions that go are written anew, each for itself.
    """
    with log.at_newest([key]):
        found = log.defined(key, definition)
        if found is None:
            return Compacted(0, 0, 0)
        table, partition = found
        listed = [partition.segments[segment_id] for segment_id in sorted(partition.segments)]
    retired = written = dropped = 0
    merged: list[SegmentMeta] = []
    for group in _groups(listed, table, purge_before_seq, merges=merges):
        check()
        done = _merge(log, home, reader, table, key, group, purge_before_seq)
        if done.retired:
            merged += [segment.meta for segment in group]
        retired, written = retired + done.retired, written + done.written
        dropped += done.dropped_versions
    if retired:
        home.published(table, key, log.store, merged=merged)
    return Compacted(retired, written, dropped)


def _groups(
    listed: Sequence[ListedSegment], table: TableDef, purge_before_seq: int, *, merges: bool
) -> list[list[ListedSegment]]:
    """Split into groups worth rewriting, each at most `SEGMENT_ROWS` rows."""
    if not merges:
        return [[segment] for segment in listed if _gone(segment, purge_before_seq)]
    groups: list[list[ListedSegment]] = []
    current: list[ListedSegment] = []
    rows = 0
    for segment in sorted(listed, key=lambda item: item.meta.min_seq):
        if current and rows + segment.meta.row_count > SEGMENT_ROWS:
            groups.append(current)
            current, rows = [], 0
        current.append(segment)
        rows += segment.meta.row_count
    if current:
        groups.append(current)

    def worth(group: list[ListedSegment]) -> bool:
        return len(group) > 1 or any(
            segment.meta.schema_version != table.schema_version or _gone(segment, purge_before_seq)
            for segment in group
        )

    return [group for group in groups if worth(group)]


def _gone(segment: ListedSegment, purge_before_seq: int) -> list[int]:
    """Return the versions that a rewritten segment leaves out."""
    return [
        seq
        for seq, removal in decode_removed(segment.removed).items()
        if not removal.deleted or removal.at_seq < purge_before_seq
    ]


def _merge(
    log: CommitLog,
    home: SegmentHome,
    reader: SegmentReader,
    table: TableDef,
    key: PartitionKey,
    group: Sequence[ListedSegment],
    purge_before_seq: int,
) -> Compacted:
    names = [column.name for column in table.columns]
    parts: list[pa.Table] = []
    for segment in group:
        rows = reader.read(segment.meta, table, [*names, "_seq"])
        gone = _gone(segment, purge_before_seq)
        if gone:
            kept = ~np.isin(rows.column("_seq").to_numpy(), np.array(gone, np.int64))
            rows = rows.filter(pa.array(kept))
        parts.append(rows)
    merged = pa.concat_tables(parts)
    seqs = merged.column("_seq").to_numpy()
    if (np.diff(seqs) < 0).any():
        merged = merged.take(pa.array(np.argsort(seqs, kind="stable")))
        seqs = merged.column("_seq").to_numpy()
    meta = None
    if merged.num_rows:
        replaces = [segment.meta.segment_id for segment in group]
        meta = home.write(table, key, merged, log.store, replaces=replaces)
    try:
        published = _publish(log, home, key, group, meta, seqs)
    except BaseException:
        if meta is not None:
            home.discard_unlisted(meta, log.store)
        raise
    if not published:
        if meta is not None:
            home.discard(meta)
        return Compacted(0, 0, 0)
    before = sum(segment.meta.row_count for segment in group)
    return Compacted(len(group), 0 if meta is None else 1, before - merged.num_rows)


def _publish(
    log: CommitLog,
    home: SegmentHome,
    key: PartitionKey,
    group: Sequence[ListedSegment],
    meta: SegmentMeta | None,
    seqs: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> bool:
    ids = [segment.meta.segment_id for segment in group]
    with log.commit() as commit:
        transaction = commit.transaction
        live = {segment.meta.segment_id: segment for segment in transaction.segments(key)}
        if any(segment_id not in live for segment_id in ids):
            return False  # another compaction was faster
        if meta is not None:
            home.require(meta)
            # Lists may have grown by a flush since the files were read.
            removals: dict[int, Removal] = {}
            for segment_id in ids:
                removals |= decode_removed(live[segment_id].removed)
            present = set(seqs[np.isin(seqs, np.fromiter(removals, np.int64))].tolist())
            kept = {seq: removal for seq, removal in removals.items() if seq in present}
            transaction.add_segment(meta, encode_removed(kept))
        transaction.retire_segments(ids, commit.at_us)
        commit.append_event(key, EntryKind.COMPACT)
    return True
