"""Real stores, segments and logs over one directory, without the floors above."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from kalamdb_lab.clock import FakeClock
from kalamdb_lab.model.datatypes import BIGINT, TEXT, decimal
from kalamdb_lab.model.ids import PartitionKey, TableId
from kalamdb_lab.model.tables import ColumnDef, SchemaChange, TableDef, TableKind
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.partition import PartitionSnapshot
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.store.sqlite import SqliteStore

COLUMNS = (
    ColumnDef(1, "id", BIGINT, nullable=False, position=1, primary_key=True),
    ColumnDef(2, "body", TEXT, position=2),
    ColumnDef(3, "price", decimal(9, 2), position=3),
)
TABLE = TableDef(
    1_001,
    TableId("lab", "events"),
    TableKind.USER,
    (SchemaChange(1, 0, "root", "CREATE TABLE", COLUMNS),),
)
ALICE = PartitionKey(1_001, "alice")
BOB = PartitionKey(1_001, "bob")


@dataclass
class World:
    """One process' view of a directory."""

    log: CommitLog
    home: SegmentHome
    reader: SegmentReader
    clock: FakeClock

    def insert(self, *ids: int, key: PartitionKey = ALICE, table: TableDef = TABLE) -> int:
        width = len(table.columns) - 1
        with self.log.commit() as commit:
            return commit.append_rows(key, table, [(i, *([None] * width)) for i in ids])

    def delete(self, *seqs: int, key: PartitionKey = ALICE) -> None:
        with self.log.commit() as commit:
            commit.append_rows(key, TABLE, [], deleted=list(seqs))

    def replace(self, seq: int, row: int, key: PartitionKey = ALICE) -> int:
        with self.log.commit() as commit:
            return commit.append_rows(key, TABLE, [(row, "new", None)], replaces=[seq])

    def snapshot(self, key: PartitionKey = ALICE, table: TableDef = TABLE) -> PartitionSnapshot:
        (snapshot,) = self.log.snapshot([(key, table)])
        return snapshot

    def ids(self, key: PartitionKey = ALICE, table: TableDef = TABLE) -> list[int]:
        """All live ids, hot and flushed, read as a query reads them."""
        snapshot = self.snapshot(key, table)
        found = snapshot.hot.column("id").to_pylist()
        for view in snapshot.segments:
            rows = self.reader.read(view.meta, table, ["id", "_seq"])
            gone = set(view.removed.tolist())
            pairs = zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True)
            found += [row for row, seq in pairs if seq not in gone]
        return sorted(found)


def world(directory: Path, clock: FakeClock) -> World:
    storage = Storage("local", directory / "storage")
    storage.create_base()
    reader = SegmentReader(lambda _: storage, SegmentCache(10_000_000))
    home = SegmentHome(
        lambda table, scope: (storage, storage.directory(table.table_id, scope)),
        lambda _: storage,
        clock,
    )
    store = SqliteStore(directory / "catalog.sqlite", durability="normal")
    return World(CommitLog(store, clock, reader.seq_numbers), home, reader, clock)


def with_column(table: TableDef, column: ColumnDef) -> TableDef:
    step = SchemaChange(table.schema_version + 1, 0, "root", "ADD COLUMN", (*table.columns, column))
    return replace(table, history=(*table.history, step))
