"""A consistent copy of a whole database while it is in use: a directory that opens as it is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kalamdb_lab.catalog.catalog import LOCAL_STORAGE
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.catalog.system_tables import SYSTEM_TABLES
from kalamdb_lab.clock import Clock
from kalamdb_lab.config import SETTINGS_FILE
from kalamdb_lab.engine.check import CatalogParts
from kalamdb_lab.engine.directory import CATALOG_FILE, STORAGE_DIRECTORY
from kalamdb_lab.errors import CorruptError, InvalidOptionError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.leases import Leases
from kalamdb_lab.partitions.partition import loaded
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.backup_file import copy_segment, move_up, new_backup
from kalamdb_lab.segments.base_directory import claiming, lies_within
from kalamdb_lab.segments.layout import damaged
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.store.catalog_file import copy_catalog
from kalamdb_lab.store.log import Store
from kalamdb_lab.store.sqlite import SqliteStore

_UNFINISHED = "unfinished.tmp"
_STORAGES = "storages"


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a copy of a database holds.

    Attributes
    ----------
    path : str
        The directory as it was given.
    files, bytes : int
        All files of the copy.
    rows : int
        Rows that can be seen, of all tables but the system's.
    seq : int
        The number of the log that the copy stands at.
    """

    path: str
    files: int
    bytes: int
    rows: int
    seq: int


def copy_database(
    source: Path, target: str | os.PathLike[str], *, store: Store, leases: Leases, clock: Clock
) -> BackupReport:
    """Copy a database into a new or empty directory, as it is at one moment; others go on.

    Storages that lie outside of the database directory are copied too, and lie in the copy's
    directory then: it needs nothing of the original. If this fails the directory is as it was.

    Parameters
    ----------
    source : Path
        The directory of the open database.

    Raises
    ------
    NotEmptyError, InvalidOptionError
        The directory holds something, or lies in a storage of the database.
    CorruptError
        A segment is damaged; the error names its table.
    StorageError
        A disk is full, or cannot be read or written.
    """
    shown = os.fspath(target)
    place = Path(os.path.abspath(shown))  # noqa: PTH100  # `resolve` would follow links
    with store.read() as transaction:
        seq = transaction.last_seq()
    # Files that the copied catalog names are kept from before it is copied on.
    with leases.holding(seq, at_once=True), new_backup(place, shown) as directory:
        work = place / _UNFINISHED
        Storage(shown, work).create_base()
        copy_catalog(source / CATALOG_FILE, work / CATALOG_FILE, shown_as=shown)
        copy = SqliteStore(work / CATALOG_FILE, shown_as=shown)
        try:
            copied = _Copy(source, work, shown, copy, clock)
            copied.run(place)
        finally:
            copy.close()
        move_up(directory, _UNFINISHED, last=CATALOG_FILE)
    files = [file for file in directory.walk() if not file.is_directory]
    size_bytes = sum(file.size_bytes for file in files)
    return BackupReport(shown, len(files), size_bytes, copied.rows, copied.seq)


class _Copy:
    def __init__(
        self, source: Path, work: Path, shown: str, store: SqliteStore, clock: Clock
    ) -> None:
        self._source = source
        self._work = work
        self._shown = shown
        self._store = store
        self._clock = clock
        # One catalog, the copied one, seen from two places: where files lie, and where they go.
        self._here = CatalogParts(source, store, clock)
        self._there = CatalogParts(work, store, clock)
        self.seq = self._here.log.applied_seq
        self.rows = 0

    def run(self, place: Path) -> None:
        """Copy what the copied catalog names; ``place`` is where it will lie."""
        sources = {
            storage_id: self._here.storage(storage_id)
            for storage_id in sorted(self._here.catalog.storages.all())
        }
        for storage_id, storage in sources.items():
            if lies_within(place, storage.base_directory):
                raise InvalidOptionError(
                    f"'{self._shown}' lies in storage '{storage_id}'; choose a directory outside "
                    "of it"
                )
        settings = Storage(self._shown, self._source).read(SETTINGS_FILE)
        if settings is not None:
            Storage(self._shown, self._work).write(SETTINGS_FILE, settings)
        # The system tables lie in `local`: the copied catalog can be read there from then on.
        local = Storage(LOCAL_STORAGE, self._work / STORAGE_DIRECTORY)
        local.create_base()
        self._copy_segments(sources[LOCAL_STORAGE], local)
        has_moved = self._bring_in(sources)
        for storage_id in sorted(sources.keys() - {LOCAL_STORAGE}):
            target = self._there.storage(storage_id)
            with claiming(target.base_directory, shown_as=self._shown, with_parents=True):
                self._copy_segments(sources[storage_id], target)
        self._count_rows()
        home = SegmentHome(self._there.storages.place, self._there.storage, self._clock)
        if has_moved:
            # Of the copy's segments alone, its storages must be found in the copy, too.
            SystemKeeper(self._there.log, home, self._there.reader).keep()
        self._write_manifests(home)

    def _bring_in(self, sources: dict[str, Storage]) -> bool:
        """Let storages that lie elsewhere lie in the copy; return whether there were any."""
        taken = {
            storage_id: self._there.storage(storage_id).base_directory for storage_id in sources
        }
        outside = [
            storage_id
            for storage_id, base in taken.items()
            if not Path(os.path.normpath(base)).is_relative_to(self._work)
        ]
        if not outside:
            return False
        for storage_id in outside:
            del taken[storage_id]
        with self._there.log.commit() as commit:
            storages = self._there.catalog.storages
            for storage_id in outside:
                definition = storages.all()[storage_id]
                name = f"{_STORAGES}/{storage_id}"
                while any(base.is_relative_to(self._work / name) for base in taken.values()):
                    name += "_"
                storages.put(commit, replace(definition, base_directory=name))
        return True

    def _copy_segments(self, source: Storage, target: Storage) -> None:
        with self._store.read() as transaction:
            listed = [segment.meta for segment in transaction.all_segments()]
        # An index is built again in the copy, as what is written meanwhile would be.
        with self._store.write() as transaction:
            for meta in listed:
                if meta.indexes:
                    transaction.restate_segment(replace(meta, indexes={}))
        for meta in listed:
            if meta.storage_id != source.storage_id:
                continue
            if copy_segment(source, meta, target, meta.path, lambda: None) is None:
                table = self._here.catalog.table_by_key(meta.partition.table_key)
                raise CorruptError("A segment is damaged") if table is None else damaged(table)

    def _count_rows(self) -> None:
        now_us = self._clock.now_us()
        for table, key in self._partitions(self._there.catalog.tables_in(None)):
            with self._store.read() as transaction:
                partition = loaded(key, transaction, self._there.reader.seq_numbers)
            gone: set[int] = set()
            if table.options.ttl_seconds is not None:
                before_us = now_us - table.options.ttl_seconds * 1_000_000
                gone = set(partition.expired_seqs(before_us).tolist())
            self.rows += sum(seq not in gone for seq, _, _ in partition.live_rows())
            self.rows -= sum(not removal.hot for removal in partition.removed.values())
            self.rows += sum(
                item.meta.row_count - item.removed.count for item in partition.segments.values()
            )

    def _write_manifests(self, home: SegmentHome) -> None:
        """Write the manifests of this moment: those of the original may be younger."""
        tables = [*self._there.catalog.tables_in(None), *SYSTEM_TABLES.values()]
        for table, key in self._partitions(tables):
            with self._store.read() as transaction:
                has_segments = bool(transaction.segments(key))
            if has_segments:
                home.published(table, key, self._store)

    def _partitions(self, tables: Iterable[TableDef]) -> list[tuple[TableDef, PartitionKey]]:
        with self._store.read() as transaction:
            return [
                (table, PartitionKey(table.table_key, scope))
                for table in tables
                if table.is_stored
                for scope in transaction.scopes(table.table_key)
            ]
