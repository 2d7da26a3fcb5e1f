"""ANN indexes of segments: which ones are wanted, how one is built and listed, how others go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from kalamdb_lab.errors import CorruptError, KalamError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentIndex, SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef, VectorIndex
from kalamdb_lab.partitions.commit_log import CommitLog, Definition
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.versions import column_at
from kalamdb_lab.store.log import EntryKind, ReadTransaction
from kalamdb_lab.vectors.inverted_lists import build, recall
from kalamdb_lab.vectors.rows import Metric

Progress = Callable[[int, int], None]
"""Called often with what is done of what; it may raise to stop."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A segment that an index has nothing for yet."""

    meta: SegmentMeta
    index: VectorIndex


def is_wanted(meta: SegmentMeta, table: TableDef, index: VectorIndex, *, from_rows: int) -> bool:
    """Return whether a segment lacks an index that is worth having.

    It is for ``from_rows`` vectors and more, of the dimension that the column has now: what was
    written before is searched without one until a compaction rewrites it.
    """
    column = indexed_column(table, index)
    if meta.built(index) is not None or index.column_id not in meta.vectors:
        return False
    if vector_count(meta, index.column_id) < max(from_rows, 1):
        return False
    written = column_at(table, index.column_id, meta.schema_version)
    return written is not None and written.data_type == column.data_type


def indexed_column(table: TableDef, index: VectorIndex) -> ColumnDef:
    """Return the column of an index; an index never outlives it."""
    return next(column for column in table.columns if column.column_id == index.column_id)


def vector_count(meta: SegmentMeta, column_id: int) -> int:
    """Return how many rows of a segment have a vector, removed ones included."""
    statistics = meta.statistics.get(column_id)
    return meta.row_count - (0 if statistics is None else statistics.null_count)


def wanted_in(
    transaction: ReadTransaction, table: TableDef, key: PartitionKey, *, from_rows: int
) -> list[Wanted]:
    """Return what is wanted of a partition, for all indexes of its table."""
    return [
        Wanted(listed.meta, index)
        for listed in transaction.segments(key)
        for index in table.indexes
        if is_wanted(listed.meta, table, index, from_rows=from_rows)
    ]


def index_segment(
    log: CommitLog,
    home: SegmentHome,
    reader: SegmentReader,
    definition: Definition,
    wanted: Wanted,
    *,
    progress: Progress,
) -> SegmentIndex | None:
    """Build an index of one segment, measure its recall, and list it.

    Its files are complete before the commit that lists them; a crash before leaves an orphan.
    Rows are read and written by others meanwhile, and no answer changes.

    Returns
    -------
    SegmentIndex or None
        None if the index was dropped meanwhile, or the segment merged: then nothing was done.

    Raises
    ------
    CorruptError
        The vectors of the segment are damaged.
    """
    meta, index = wanted.meta, wanted.index
    table = definition()
    if table is None or index not in table.indexes:
        return None
    try:
        rows = reader.vectors(meta, table, indexed_column(table, index))
    except CorruptError:
        if _is_live(log, meta):
            raise
        return None  # merged, and its files are gone
    with log.store.write() as transaction:
        number = transaction.next_segment_id()
    lists = None if index.lists is None else min(index.lists, rows.row_count)
    built = build(rows, Metric(index.metric), lists=lists, progress=progress)
    if index.probes is not None:  # the recall is that of the searches to come
        built = replace(built, probes=min(index.probes, built.list_count))
    share = recall(built, rows, progress=lambda _done, _queries: progress(1, 1))
    try:
        listed = SegmentIndex(
            index_key=index.index_key,
            number=number,
            digest=home.write_index(meta, index.column_id, number, built),
            metric=index.metric,
            list_count=built.list_count,
            recall=share,
        )
        if _publish(log, definition, wanted, listed):
            return listed
    except BaseException:
        _discard_unlisted(log, home, wanted, number)
        raise
    home.discard_index(meta, index.column_id, number)
    return None


def _publish(log: CommitLog, definition: Definition, wanted: Wanted, listed: SegmentIndex) -> bool:
    meta, index = wanted.meta, wanted.index
    with log.commit() as commit:
        transaction = commit.transaction
        table = definition()
        live = {item.meta.segment_id: item.meta for item in transaction.segments(meta.partition)}
        # What others said of the segment since it was read stays.
        now = live.get(meta.segment_id)
        if table is None or index not in table.indexes or now is None:
            return False
        if now.built(index) is not None:
            return False
        transaction.restate_segment(replace(now, indexes=now.indexes | {index.column_id: listed}))
        commit.append_event(meta.partition, EntryKind.COMPACT)
    return True


def drop_stale_indexes(
    log: CommitLog, home: SegmentHome, definition: Definition, key: PartitionKey
) -> int:
    """Take what was built for dropped indexes off the list and off the disk; return how many.

    A reader who still finds it listed does without it.
    """
    table = definition()
    with log.store.read() as transaction:
        metas = [listed.meta for listed in transaction.segments(key)]
    if table is None or all(_kept(meta, table) == meta.indexes for meta in metas):
        return 0
    stale: list[tuple[SegmentMeta, int, int]] = []
    with log.commit() as commit:
        table = definition()
        if table is None:
            return 0  # its segments are retired with all that belongs to them
        for listed in commit.transaction.segments(key):
            meta = listed.meta
            kept = _kept(meta, table)
            if len(kept) < len(meta.indexes):
                commit.transaction.restate_segment(replace(meta, indexes=kept))
                stale += [
                    (meta, column_id, item.number)
                    for column_id, item in meta.indexes.items()
                    if column_id not in kept
                ]
        if stale:
            commit.append_event(key, EntryKind.COMPACT)
    for meta, column_id, number in stale:
        home.discard_index(meta, column_id, number)
    return len(stale)


def _kept(meta: SegmentMeta, table: TableDef) -> dict[int, SegmentIndex]:
    """Return what of a segment's indexes is built for indexes that its table has."""
    return {
        column_id: item
        for column_id, item in meta.indexes.items()
        if (index := table.index_on(column_id)) is not None and item == meta.built(index)
    }


def _is_live(log: CommitLog, meta: SegmentMeta) -> bool:
    with log.store.read() as transaction:
        live = transaction.segments(meta.partition)
    return any(item.meta.segment_id == meta.segment_id for item in live)


def _discard_unlisted(log: CommitLog, home: SegmentHome, wanted: Wanted, number: int) -> None:
    """Delete files after a failure, unless their commit came through; see `SegmentHome`."""
    column_id = wanted.index.column_id
    with suppress(KalamError):
        with log.store.read() as transaction:
            found = transaction.segments_by_id([wanted.meta.segment_id])
        listed = {
            item.meta.indexes[column_id].number for item in found if column_id in item.meta.indexes
        }
        if number not in listed:
            home.discard_index(wanted.meta, column_id, number)
