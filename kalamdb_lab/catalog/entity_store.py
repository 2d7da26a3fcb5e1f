"""The typed face over a system partition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit_log import Commit, CommitLog
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.segments.reader import SegmentReader

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
        self._by_key: dict[str, V] = {}
        self._seqs: dict[str, int] = {}

    def all(self) -> Mapping[str, V]:
        """Return all entities by key as of the newest commit; do not change the mapping."""
        with self._log.at_newest([self._partition]):
            partition = self._log.partition(self._partition)
            if partition.revision != self._revision:
                self._rebuild()
                self._revision = partition.revision
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
        row = self._to_row(entity)
        self.all()
        key = row[self._key_at]
        replaced = self._seqs.get(str(key), 0)
        commit.append_rows(
            self._partition, self.table, [row], replaces=[replaced] if replaced else []
        )

    def delete(self, commit: Commit, key: str) -> None:
        """Remove the entity with this key, which must exist."""
        self.all()
        commit.append_rows(self._partition, self.table, [], deleted=[self._seqs[key]])

    def _rebuild(self) -> None:
        partition = self._log.partition(self._partition)
        by_seq: dict[int, tuple[str, V]] = {}
        for view in partition.segment_views(self.table):
            gone = set(view.removed.tolist())
            for seq, row in self._segment_rows(view.meta):
                if seq not in gone:
                    by_seq[seq] = self._by_seq.get(seq) or self._entity(row)
        for seq, _, row in partition.live_rows():
            by_seq[seq] = self._by_seq.get(seq) or self._entity(row)
        self._by_seq = by_seq
        self._by_key = dict(by_seq.values())
        self._seqs = {key: seq for seq, (key, _) in by_seq.items()}

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
