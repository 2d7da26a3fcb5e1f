"""Analysis: what the manifest says of segments, recomputed from their files."""

from __future__ import annotations

from dataclasses import replace

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit_log import CommitLog, Definition
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.statistics import column_statistics
from kalamdb_lab.store.log import EntryKind


def analyze_partition(
    log: CommitLog,
    home: SegmentHome,
    reader: SegmentReader,
    definition: Definition,
    key: PartitionKey,
) -> int:
    """Recompute bounds and null counts of a partition's segments; return how many were wrong.

    Raises
    ------
    CorruptError
        A file is damaged; what the others say was not changed.
    """
    with log.at_newest([key]):
        found = log.defined(key, definition)
        if found is None:
            return 0
        table, partition = found
        metas = [listed.meta for listed in partition.segments.values()]
    restated = {
        meta.segment_id: new.statistics
        for meta in metas
        if (new := _restated(reader, table, meta)) != meta
    }
    if not restated:
        return 0
    with log.commit() as commit:
        # What else was said of a segment since its file was read, of an index say, stays.
        for listed in commit.transaction.segments(key):
            if (statistics := restated.get(listed.meta.segment_id)) is not None:
                meta = replace(listed.meta, statistics=statistics)
                commit.transaction.restate_segment(meta)
        commit.append_event(key, EntryKind.COMPACT)  # whoever holds the list reads it again
    home.published(table, key, log.store)
    return len(restated)


def _restated(reader: SegmentReader, table: TableDef, meta: SegmentMeta) -> SegmentMeta:
    # Statistics are those of the columns that the segment was written with.
    reader.forget([meta.segment_id])  # the files count, not what was decoded once
    written = replace(table, history=table.history[: meta.schema_version])
    rows = reader.read(meta, written, [column.name for column in written.columns])
    statistics = {
        column.column_id: column_statistics(rows.column(column.name), column.data_type)
        for column in written.columns
    }
    return replace(meta, statistics=statistics)
