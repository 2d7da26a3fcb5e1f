"""What `kalam check` finds: every listed segment is read and compared, nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kalamdb_lab.catalog.catalog import Catalog, StorageRegistry
from kalamdb_lab.catalog.system_tables import SYSTEM_TABLES
from kalamdb_lab.clock import Clock, SystemClock
from kalamdb_lab.config import Settings
from kalamdb_lab.engine.directory import CATALOG_FILE, STORAGE_DIRECTORY, check_is_database
from kalamdb_lab.errors import CorruptError, NotFoundError, StorageError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.indexing import indexed_column
from kalamdb_lab.partitions.partition import Partition
from kalamdb_lab.partitions.payload import decode_rows
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.layout import segment_paths
from kalamdb_lab.segments.manifest_file import orphans
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.verification import SegmentState, read_footer, segment_state
from kalamdb_lab.store.catalog_file import is_sound
from kalamdb_lab.store.log import ListedSegment, ReadTransaction, Store
from kalamdb_lab.store.sqlite import SqliteStore

_FRESH_US = 3_600_000_000
"""A file that nobody lists may belong to a flush that is running: leave it alone for an hour."""


@dataclass(slots=True)
class TableReport:
    """What a table holds and what of it cannot be read.

    Attributes
    ----------
    partitions : int
        For USER and STREAM tables the users that have, or had, rows.
    rows : int
        Rows that a SELECT over all partitions would count, lost ones included.
    size_bytes : int
        Of the Parquet files; vectors and indexes beside them are not counted.
    damaged, missing : int
        Segments whose files are not what was written, or not there.
    lost_rows : int
        Rows of those segments.
    damaged_commits : int
        Commits that are not flushed and cannot be read.
    damaged_indexes : int
        Segments whose ANN index is damaged or missing; they are searched without it.
    """

    name: str
    partitions: int = 0
    segments: int = 0
    rows: int = 0
    size_bytes: int = 0
    damaged: int = 0
    missing: int = 0
    lost_rows: int = 0
    damaged_commits: int = 0
    damaged_indexes: int = 0

    @property
    def is_sound(self) -> bool:
        return not (self.damaged or self.missing or self.damaged_commits)


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes
    ----------
    path : str
        The directory as it was given.
    catalog_is_sound : bool
        False if the catalog is missing or damaged; then nothing else was looked at.
    tables : tuple of TableReport
        By name, system tables last.
    orphans : int
        Files and folders of segments that nothing names and that are older than an hour.
    """

    path: str
    catalog_is_sound: bool
    tables: tuple[TableReport, ...] = ()
    orphans: int = 0

    @property
    def is_sound(self) -> bool:
        """True if every row of every table can be read."""
        return self.catalog_is_sound and all(table.is_sound for table in self.tables)

    @property
    def affected(self) -> list[TableReport]:
        """The tables of which something cannot be read."""
        return [table for table in self.tables if not table.is_sound]


class CatalogParts:
    """The parts that look into a catalog: no sessions, no engine, no write.

    Parameters
    ----------
    directory : Path
        Of the database; storages lie in it.
    """

    def __init__(self, directory: Path, store: Store, clock: Clock) -> None:
        self.store = store
        self.reader = SegmentReader(self.storage, SegmentCache(0))
        self.log = CommitLog(store, clock, self.reader.seq_numbers)
        self.catalog = Catalog(self.log, self.reader)
        self.storages = StorageRegistry(self.catalog, directory, directory / STORAGE_DIRECTORY)

    def storage(self, storage_id: str) -> Storage:
        """Return a storage by its id."""
        return self.storages.storage(storage_id)


def check_database(path: str | os.PathLike[str], *, clock: Clock | None = None) -> Report:
    """Read everything that a database lists, and count what is damaged, missing or left over.

    Others may read and write it meanwhile; nothing is changed.

    Raises
    ------
    StorageError
        If there is no database at ``path``, or it is of a newer format or cannot be read.
    """
    shown = os.fspath(path)
    directory = Path(os.path.realpath(shown))
    check_is_database(directory, shown)
    settings = Settings.read(directory)
    if not is_sound(directory / CATALOG_FILE, shown_as=shown):
        return Report(shown, catalog_is_sound=False)
    store = SqliteStore(
        directory / CATALOG_FILE, busy_timeout_s=settings.busy_timeout_s, shown_as=shown
    )
    try:
        clock = clock or SystemClock()
        return _Check(shown, CatalogParts(directory, store, clock), clock).report()
    finally:
        store.close()


class _Check:
    def __init__(self, shown: str, parts: CatalogParts, clock: Clock) -> None:
        self._shown = shown
        self._parts = parts
        self._clock = clock
        self._tables: dict[int, TableReport] = {}
        self._definitions: dict[int, TableDef] = {}

    def report(self) -> Report:
        self._name_tables()
        with self._parts.store.read() as transaction:
            listed = list(transaction.all_segments())
            for table_key in sorted(self._tables):
                for scope in transaction.scopes(table_key):
                    self._count_commits(transaction, PartitionKey(table_key, scope))
        for segment in listed:
            self._count_segment(segment)
        ordered = sorted(
            self._tables.items(), key=lambda item: (item[0] in _SYSTEM_KEYS, item[1].name)
        )
        return Report(
            self._shown,
            catalog_is_sound=True,
            tables=tuple(table for _, table in ordered),
            orphans=self._count_orphans(listed),
        )

    def _name_tables(self) -> None:
        names = {table.table_key: str(table.table_id) for table in SYSTEM_TABLES.values()}
        try:
            tables = self._parts.catalog.tables.all().values()
            names |= {t.table_key: str(t.table_id) for t in tables if t.is_stored}
            self._definitions = {table.table_key: table for table in tables}
        except CorruptError:
            # The definitions themselves are damaged; segments still say whose they are.
            with self._parts.store.read() as transaction:
                listed = list(transaction.all_segments())
            for segment in listed:
                if segment.meta.partition.table_key not in names:
                    names[segment.meta.partition.table_key] = self._name_in_footer(segment)
        self._tables = {key: TableReport(name) for key, name in names.items()}

    def _name_in_footer(self, segment: ListedSegment) -> str:
        try:
            storage = self._parts.storage(segment.meta.storage_id)
            return read_footer(storage, segment.meta.path).table
        except (CorruptError, NotFoundError, StorageError):
            return f"table {segment.meta.partition.table_key}"

    def _count_commits(self, transaction: ReadTransaction, key: PartitionKey) -> None:
        """Count the rows that are not flushed, and what is removed from those that are."""
        table = self._tables[key.table_key]
        partition = Partition(key, self._parts.reader.seq_numbers)
        entries = list(transaction.hot_entries(key))
        for entry in entries:
            try:
                partition.add_rows(entry.seq, entry.at_us, decode_rows(entry.payload))
            except CorruptError:
                table.damaged_commits += 1
        table.partitions += bool(entries or transaction.segments(key))
        table.rows += sum(1 for _ in partition.live_rows())
        table.rows -= sum(not removal.hot for removal in partition.removed.values())

    def _count_segment(self, segment: ListedSegment) -> None:
        meta = segment.meta
        table = self._tables.get(meta.partition.table_key)
        if table is None:
            return  # made meanwhile
        rows = meta.row_count - segment.removed.count
        state = self._state(segment)
        if state is not SegmentState.SOUND and self._now(meta) is None:
            return  # merged meanwhile
        table.segments += 1
        table.rows += rows
        table.size_bytes += meta.size_bytes
        table.damaged_indexes += self._has_damaged_index(meta)
        if state is not SegmentState.SOUND:
            table.damaged += state is SegmentState.DAMAGED
            table.missing += state is SegmentState.MISSING
            table.lost_rows += rows

    def _state(self, segment: ListedSegment) -> SegmentState:
        try:
            storage = self._parts.storage(segment.meta.storage_id)
        except (CorruptError, NotFoundError):
            return SegmentState.MISSING
        return segment_state(storage, segment.meta)

    def _has_damaged_index(self, meta: SegmentMeta) -> bool:
        table = self._definitions.get(meta.partition.table_key)
        if table is None:
            return False
        reader = self._parts.reader
        is_damaged = any(
            meta.built(index) is not None
            and reader.vector_index(meta, table, indexed_column(table, index)) is None
            for index in table.indexes
        )
        now = self._now(meta) if is_damaged else None
        return now is not None and now.indexes == meta.indexes  # else it was dropped meanwhile

    def _now(self, meta: SegmentMeta) -> SegmentMeta | None:
        """Return what is listed of a segment now; None if it was merged or dropped."""
        with self._parts.store.read() as transaction:
            live = transaction.segments(meta.partition)
        return next((item.meta for item in live if item.meta.segment_id == meta.segment_id), None)

    def _count_orphans(self, listed: Iterable[ListedSegment]) -> int:
        with self._parts.store.read() as transaction:
            known = [segment.meta for segment in transaction.retired_segments()]
            known += [segment.meta for segment in transaction.all_segments()]
        known += [segment.meta for segment in listed]
        paths: dict[str, set[str]] = {}
        for meta in known:
            paths.setdefault(meta.storage_id, set()).update(segment_paths(meta))
        found = 0
        for storage_id in self._storage_ids(paths):
            try:
                storage = self._parts.storage(storage_id)
                # Files carry the machine's time, whatever clock the database runs on.
                before_us = SystemClock().now_us() - _FRESH_US
                left = orphans(storage, paths.get(storage_id, ()), older_than_us=before_us)
                found += sum(1 for _ in left)
            except (CorruptError, NotFoundError, StorageError):
                continue  # its segments count as missing
        return found

    def _storage_ids(self, used: Iterable[str]) -> set[str]:
        try:
            return {*used, *self._parts.catalog.storages.all()}
        except CorruptError:
            return set(used)


_SYSTEM_KEYS = frozenset(table.table_key for table in SYSTEM_TABLES.values())
