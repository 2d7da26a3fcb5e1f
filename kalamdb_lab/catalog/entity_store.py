"""The typed face over a system partition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any, Generic, TypeVar

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.catalog.upgrade import newer_error
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit import Commit
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.partition import Partition
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.versions import converted_value
from kalamdb_lab.store.log import ListedSegment

V = TypeVar("V")


class EntityStore(Generic[V]):
    """Entities of one kind, held in memory and following the log.

    Parameters
    ----------
    log, reader
        Where the rows are.
    table : TableDef
        The system table; its primary key is the entity's key, a text.
    to_row, from_row : callable
        An entity as a row of ``table`` and back.
    """

    def __init__(
        self,
        log: CommitLog,
        reader: SegmentReader,
        table: TableDef,
        to_row: Callable[[V], Row],
        from_row: Callable[[Row], V],
    ) -> None:
        self._log = log
        self._reader = reader
        self.table = table
        self._partition = PartitionKey(table.table_key, "")
        self._to_row = to_row
        self._from_row = from_row
        self._key_at = next(at for at, c in enumerate(table.columns) if c.primary_key)
        self._revision = -1
        self._by_seq: dict[int, tuple[str, V]] = {}
        self._held: dict[int, dict[int, tuple[str, V]]] = {}
        self._segments: dict[int, ListedSegment] | None = None
        self._upto_seq = 0
        self._by_key: dict[str, V] = {}
        self._seqs: dict[str, int] = {}

    def all(self) -> Mapping[str, V]:
        """Return all entities by key as of the newest commit; do not change the mapping."""
        with self._log.at_newest([self._partition]) as seq:
            partition = self._log.partition(self._partition)
            if partition.revision != self._revision:
                if partition.segments is self._segments:
                    self._extend(partition)
                else:
                    self._rebuild(partition)
                self._revision, self._upto_seq = partition.revision, seq
            return self._by_key

    def get(self, key: str) -> V | None:
        """Return the entity with this key, or None."""
        return self.all().get(key)

    @property
    def revision(self) -> int:
        """A number that changes with every change of any entity."""
        self.all()
        return self._revision

    def put(self, commit: Commit, entity: V) -> None:
        """Add the entity, or replace the one with its key."""
        self.change(commit, put=[entity])

    def delete(self, commit: Commit, key: str) -> None:
        """Remove the entity with this key, which must exist."""
        self.change(commit, deleted=[key])

    def change(self, commit: Commit, *, put: Iterable[V] = (), deleted: Iterable[str] = ()) -> None:
        """Put entities and delete others, which must exist, in one entry; no key twice."""
        self.all()
        rows = []
        for entity in put:
            row = self._to_row(entity)
            # What a newer version of the table has beside them keeps its fill.
            rows.append((*row, *(column.fill for column in self.table.columns[len(row) :])))
        replaces = [self._seqs.get(str(row[self._key_at]), 0) for row in rows]
        gone = [self._seqs[key] for key in deleted]
        if rows or gone:
            commit.append_rows(
                self._partition,
                self.table,
                rows,
                replaces=replaces if any(replaces) else [],
                deleted=gone,
            )

    def _extend(self, partition: Partition) -> None:
        """Take over what was committed since, while the segments are the same."""
        # Others may still read the old ones: new dictionaries, whose copies cost next to nothing.
        by_seq, by_key, seqs = dict(self._by_seq), dict(self._by_key), dict(self._seqs)
        for seq, removal in reversed(partition.removed.items()):
            if removal.at_seq <= self._upto_seq:
                break
            if seq in by_seq:
                key, _ = by_seq.pop(seq)
                del by_key[key], seqs[key]
        fresh = list(takewhile(lambda seq: seq > self._upto_seq, reversed(partition.rows)))
        for seq in reversed(fresh):
            if seq not in partition.removed:
                key, entity = by_seq[seq] = self._entity(self._newest(*partition.rows[seq]))
                by_key[key], seqs[key] = entity, seq
        self._by_seq, self._by_key, self._seqs = by_seq, by_key, seqs

    def _rebuild(self, partition: Partition) -> None:
        by_seq: dict[int, tuple[str, V]] = {}
        segments: dict[int, dict[int, tuple[str, V]]] = {}
        for view in partition.segment_views(self.table):
            self._refuse_newer(view.meta.schema_version)
            held = self._held.get(view.meta.segment_id)
            if held is None:
                held = {
                    seq: self._by_seq.get(seq) or self._entity(row)
                    for seq, row in self._segment_rows(view.meta)
                }
            segments[view.meta.segment_id] = held
            gone = set(view.removed.tolist())
            by_seq |= {seq: item for seq, item in held.items() if seq not in gone} if gone else held
        for seq, version, row in partition.live_rows():
            by_seq[seq] = self._by_seq.get(seq) or self._entity(self._newest(version, row))
        self._held, self._segments = segments, partition.segments
        self._by_seq = by_seq
        self._by_key = dict(by_seq.values())
        self._seqs = {key: seq for seq, (key, _) in by_seq.items()}

    def _newest(self, version: int, row: Row) -> Row:
        """Return a row of an older schema version as the newest one has it."""
        if version == self.table.schema_version:
            return row
        self._refuse_newer(version)
        held = {
            old.column_id: (row[at], old.data_type)
            for at, old in enumerate(self.table.columns_at(version))
        }
        return tuple(
            converted_value(*held[c.column_id], c.data_type, column=c.name)
            if c.column_id in held
            else c.fill
            for c in self.table.columns
        )

    def _refuse_newer(self, version: int) -> None:
        if version > self.table.schema_version:
            raise newer_error(self.table.table_id, version, self.table.schema_version)

    def _entity(self, row: Row) -> tuple[str, V]:
        return str(row[self._key_at]), self._from_row(row)

    def _segment_rows(self, meta: Any) -> list[tuple[int, Row]]:
        names = [column.name for column in self.table.columns]
        rows = self._reader.read(meta, self.table, [*names, "_seq"])
        columns = [
            storage_from_array(rows.column(column.name), column.data_type)
            for column in self.table.columns
        ]
        seqs = rows.column("_seq").to_pylist()
        return list(zip(seqs, zip(*columns, strict=True), strict=True))
