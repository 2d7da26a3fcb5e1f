"""One partition into a backup, and out of one again as rows of a new table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.partition import SEQ_FIELD, Partition, fold_rows
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.partitions.removals import Removal, decode_removed, encode_removed, owners
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.backup_file import (
    CopiedFile,
    CopiedPartition,
    CopiedSegment,
    Step,
    copy_segment,
    segment_files,
)
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.layout import damaged, segment_path
from kalamdb_lab.segments.manifest_file import listed_record, listed_segment
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.writer import write_segment
from kalamdb_lab.store.log import ListedSegment


class PartitionCopier:
    """Writes partitions into the directory of a backup.

    Parameters
    ----------
    reader : SegmentReader
        Of the database.
    storage : callable
        A storage of the database by its id.
    target : Storage
        The directory of the backup.
    first_segment_id : int
        Hot rows become segments with ids from here on.
    at_us : int
        The time of the backup: events that have expired by then are left out.
    """

    def __init__(
        self,
        reader: SegmentReader,
        storage: Callable[[str], Storage],
        target: Storage,
        *,
        first_segment_id: int,
        at_us: int,
        step: Step,
    ) -> None:
        self._reader = reader
        self._storage = storage
        self._target = target
        self._next_segment_id = first_segment_id
        self._at_us = at_us
        self._step = step
        self.row_count = 0
        """Live rows that were written."""
        self.size_bytes = 0

    def copy(self, table: TableDef, partition: Partition) -> CopiedPartition:
        """Write all rows of a partition that can be seen, deleted ones included.

        Raises
        ------
        CorruptError
            A segment is damaged; the error names the table.
        """
        key = partition.key
        directory = self._target.directory(
            table.table_id, key.scope if table.kind.is_scoped else None
        )
        fresh = owners(
            partition.removed, partition.segments.values(), self._reader.seq_numbers, table
        )
        copied = [
            self._copy_segment(table, listed, fresh.get(segment_id, {}), directory)
            for segment_id, listed in partition.segments.items()
        ]
        kept, events = self._hot(table, partition)
        if kept:
            copied.append(self._write_hot(table, partition, kept, directory))
        return CopiedPartition(key.scope, copied, events)

    def _hot(
        self, table: TableDef, partition: Partition
    ) -> tuple[list[tuple[int, int, Row]], list[tuple[int, int]]]:
        """Return the hot rows that are to be kept, and the commits that events came with."""
        rows = [(seq, version, row) for seq, (version, row) in partition.rows.items()]
        if table.kind is not TableKind.STREAM:
            return rows, []
        ttl_us = (table.options.ttl_seconds or 0) * 1_000_000
        gone = set(partition.expired_seqs(self._at_us - ttl_us).tolist()) | partition.removed.keys()
        rows = [row for row in rows if row[0] not in gone]
        return rows, [(seq, at_us) for seq, _, at_us in partition.entries if rows]

    def _copy_segment(
        self, table: TableDef, listed: ListedSegment, fresh: dict[int, Removal], directory: str
    ) -> CopiedSegment:
        meta = listed.meta
        path = segment_path(directory, meta.segment_id)
        files = copy_segment(self._storage(meta.storage_id), meta, self._target, path, self._step)
        if files is None:
            raise damaged(table)
        removed = encode_removed(decode_removed(listed.removed) | fresh)
        self._count(meta.row_count - removed.count, files)
        copy = ListedSegment(replace(meta, path=path), removed)
        return CopiedSegment(listed_record(table.table_id, copy), files)

    def _write_hot(
        self,
        table: TableDef,
        partition: Partition,
        kept: list[tuple[int, int, Row]],
        directory: str,
    ) -> CopiedSegment:
        meta = write_segment(
            self._target,
            table,
            partition.key,
            directory,
            self._next_segment_id,
            fold_rows(table, kept),
            created_at_us=self._at_us,
        )
        self._next_segment_id += 1
        own = {seq: partition.removed[seq] for seq, _, _ in kept if seq in partition.removed}
        files = segment_files(self._target, meta, self._step)
        self._count(len(kept) - len(own), files)
        listed = ListedSegment(meta, encode_removed(own))
        return CopiedSegment(listed_record(table.table_id, listed), files)

    def _count(self, live_rows: int, files: list[CopiedFile]) -> None:
        self.row_count += live_rows
        self.size_bytes += sum(file.size_bytes for file in files)


@dataclass(frozen=True, slots=True)
class RestoredPartition:
    """Rows of a backup that are written, and not yet part of the database.

    Attributes
    ----------
    segments : list of ListedSegment
        Their files are complete; no manifest names them.
    events : list of (int, list of Row)
        Of STREAM tables: when they happened, and what is to be appended to the log.
    """

    table: TableDef
    key: PartitionKey
    segments: list[ListedSegment]
    events: list[tuple[int, list[Row]]]


class PartitionRestorer:
    """Writes rows of a backup as segments of new tables.

    Parameters
    ----------
    source : Storage
        The directory of the backup.
    shift : int
        What is added to the number of each version: numbers of another database, or of another
        time, may be taken here.
    segment_ids : iterator of int
        Ids that were taken for this.
    now_us : int
        Events that have expired by now are left out.

    Attributes
    ----------
    written : list of SegmentMeta
        All segments so far, whatever becomes of them.
    """

    def __init__(
        self,
        source: Storage,
        home: SegmentHome,
        *,
        shift: int,
        segment_ids: Iterator[int],
        now_us: int,
        step: Step,
    ) -> None:
        self._source = source
        self._reader = SegmentReader(lambda _: source, SegmentCache(0))
        self._home = home
        self._shift = shift
        self._segment_ids = segment_ids
        self._now_us = now_us
        self._step = step
        self.written: list[SegmentMeta] = []

    def restore(self, copied: CopiedPartition, old: TableDef, table: TableDef) -> RestoredPartition:
        """Write the rows that were in the table ``old`` for the same table under its new key.

        Versions that were replaced go; those that were deleted stay so. Its files must have been
        verified.
        """
        key = PartitionKey(table.table_key, copied.scope)
        restored = RestoredPartition(table, key, [], [])
        for segment in copied.segments:
            self._step()
            listed = listed_segment(segment.listed, self._source.storage_id)
            names = [column.name for column in old.columns]
            rows = self._reader.read(listed.meta, old, [*names, "_seq"])
            if table.kind is TableKind.STREAM:
                restored.events.extend(self._events(copied, table, rows))
            elif (written := self._write(table, key, rows, listed)) is not None:
                restored.segments.append(written)
        return restored

    def _write(
        self, table: TableDef, key: PartitionKey, rows: pa.Table, listed: ListedSegment
    ) -> ListedSegment | None:
        removed = decode_removed(listed.removed)
        seqs = rows.column("_seq").to_numpy()
        replaced = [seq for seq, removal in removed.items() if not removal.deleted]
        if replaced:
            kept = ~np.isin(seqs, np.array(replaced, np.int64))
            rows, seqs = rows.filter(pa.array(kept)), seqs[kept]
        if not rows.num_rows:
            return None
        moved = rows.set_column(
            rows.num_columns - 1, SEQ_FIELD, pa.array(seqs + self._shift, pa.int64())
        )
        meta = self._home.write_as(table, key, moved, next(self._segment_ids))
        self.written.append(meta)
        deleted = {
            seq + self._shift: Removal(removal.at_seq + self._shift, deleted=True)
            for seq, removal in removed.items()
            if removal.deleted
        }
        return ListedSegment(meta, encode_removed(deleted))

    def _events(
        self, copied: CopiedPartition, table: TableDef, rows: pa.Table
    ) -> Iterator[tuple[int, list[Row]]]:
        """Yield the events that are not too old by now, as they were committed together."""
        columns = [
            storage_from_array(rows.column(column.name), column.data_type)
            for column in table.columns
        ]
        values = list(zip(*columns, strict=True))
        starts = np.searchsorted(rows.column("_seq").to_numpy(), [seq for seq, _ in copied.events])
        oldest_us = self._now_us - (table.options.ttl_seconds or 0) * 1_000_000
        ends = [*starts.tolist()[1:], len(values)]
        for (_, at_us), start, end in zip(copied.events, starts.tolist(), ends, strict=True):
            if at_us > oldest_us and end > start:
                yield at_us, values[start:end]
