"""`kalam check --rebuild`: a lost or damaged catalog made again from the segments."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from kalamdb_lab.catalog.catalog import LOCAL_STORAGE
from kalamdb_lab.catalog.system_tables import SYSTEM_TABLES
from kalamdb_lab.clock import Clock, SystemClock
from kalamdb_lab.config import Settings
from kalamdb_lab.engine.check import CatalogParts
from kalamdb_lab.engine.directory import CATALOG_FILE, STORAGE_DIRECTORY, check_is_database
from kalamdb_lab.errors import StorageError
from kalamdb_lab.model.entities import Namespace
from kalamdb_lab.model.ids import ROOT_USER, PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.recovery import Recovered, find_files, recover
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.verification import read_footer
from kalamdb_lab.store.catalog_file import discard_catalog, is_sound, replace_catalog
from kalamdb_lab.store.log import ListedSegment
from kalamdb_lab.store.sqlite import SqliteStore

_UNKNOWN = "unknown tables"


@dataclass(slots=True)
class Rebuilt:
    """What a new catalog holds and what is lost.

    Attributes
    ----------
    path : str
        The directory as it was given.
    kept_as : str or None
        Name of the file that keeps the old catalog, if there was one.
    tables, users, segments, rows : int
        In the new catalog, without system tables; ``rows`` that a SELECT would count.
    lost : dict of str to int
        Segments that are damaged or missing, by table.
    lost_rows : int
        Rows of those of them that are known by their size.
    unremembered : list of str
        Tables of which nothing says which rows had been deleted or replaced.
    undefined : dict of str to int
        Segments of tables that no definition names, by the name they had: the table was
        dropped, or its definition is lost. Their files stay as they are.
    left_out : int
        Segments that were merged into others or never finished; alike.
    """

    path: str
    kept_as: str | None = None
    tables: int = 0
    users: int = 0
    segments: int = 0
    rows: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    lost_rows: int = 0
    unremembered: list[str] = field(default_factory=list)
    undefined: dict[str, int] = field(default_factory=dict)
    left_out: int = 0

    @property
    def is_whole(self) -> bool:
        """True if nothing that was flushed is known to be lost."""
        return not self.lost and not self.unremembered


def rebuild_database(path: str | os.PathLike[str], *, clock: Clock | None = None) -> Rebuilt:
    """Make the catalog again from the segments; nobody may have the database open.

    The old catalog is kept aside. Until the new one is complete nothing is changed; a crash
    meanwhile leaves a database without a catalog at worst, and this can be run again.

    Raises
    ------
    StorageError
        If there is no database at ``path``, its catalog is sound, or a storage is unreachable.
    """
    shown = os.fspath(path)
    directory = Path(os.path.realpath(shown))
    check_is_database(directory, shown)
    Settings.read(directory)
    catalog = directory / CATALOG_FILE
    if is_sound(catalog, shown_as=shown):
        raise StorageError(f"The catalog of '{shown}' is sound: there is nothing to rebuild")
    new = catalog.with_name(f"{CATALOG_FILE}.new")
    discard_catalog(new)  # of a rebuild that was cut short
    try:
        store = SqliteStore(new, shown_as=shown)
        try:
            work = _Rebuild(directory, store, clock or SystemClock())
            rebuilt = work.run(shown)
        finally:
            store.close()
        aside = replace_catalog(catalog, new)
    except BaseException:
        discard_catalog(new)
        raise
    rebuilt.kept_as = None if aside is None else aside.name
    return rebuilt


class _Rebuild:
    def __init__(self, directory: Path, store: SqliteStore, clock: Clock) -> None:
        self._directory = directory
        self._store = store
        self._clock = clock
        self._found = Recovered()

    def run(self, shown: str) -> Rebuilt:
        files = [find_files(Storage(LOCAL_STORAGE, self._directory / STORAGE_DIRECTORY))]
        local = recover(*files)
        with self._store.write() as transaction:
            for segment in local.segments:
                if _is_system(segment):
                    transaction.add_segment(segment.meta, segment.removed)
            transaction.start_after(local.last_seq, local.last_segment_id, self._clock.now_us())
        # The definitions are in the new catalog now: from here on it is read like any other.
        parts = CatalogParts(self._directory, self._store, self._clock)
        others = sorted(parts.catalog.storages.all().keys() - {LOCAL_STORAGE})
        files += [find_files(parts.storage(storage_id)) for storage_id in others]
        self._found = recover(*files)
        self._take_numbers()
        parts.catalog.bootstrap()
        rebuilt = Rebuilt(shown)
        tables = {
            table.table_key: table for table in parts.catalog.tables_in(None) if table.is_stored
        }
        self._list(parts, tables, rebuilt)
        self._complete_namespaces(parts)
        self._write_manifests(parts, tables)
        self._count_lost(tables, rebuilt)
        rebuilt.tables = len(tables)
        rebuilt.users = len(parts.catalog.users.all())
        return rebuilt

    def _take_numbers(self) -> None:
        """Let what is committed from here on have numbers that nothing has, in any storage."""
        found = self._found
        with self._store.write() as transaction:
            transaction.start_after(found.last_seq, found.last_segment_id, self._clock.now_us())

    def _list(self, parts: CatalogParts, tables: dict[int, TableDef], rebuilt: Rebuilt) -> None:
        """List the segments of tables that have a definition."""
        found = self._found
        rebuilt.left_out += found.left_out
        with self._store.write() as transaction:
            for segment in found.segments:
                meta = segment.meta
                if _is_system(segment):
                    continue
                table = tables.get(meta.partition.table_key)
                if table is None or meta.schema_version > table.schema_version:
                    name = read_footer(parts.storage(meta.storage_id), meta.path).table
                    rebuilt.undefined[name] = rebuilt.undefined.get(name, 0) + 1
                    continue
                transaction.add_segment(meta, segment.removed)
                rebuilt.segments += 1
                rebuilt.rows += meta.row_count - segment.removed.count

    def _complete_namespaces(self, parts: CatalogParts) -> None:
        """Define the namespaces that tables name but that no segment remembers."""
        named = {str(table.table_id.namespace) for table in parts.catalog.tables_in(None)}
        missing = sorted(named - set(parts.catalog.namespaces.all()))
        if missing:
            with parts.log.commit() as commit:
                for name in missing:
                    count = len(parts.catalog.tables_in(name))
                    namespace = Namespace(name, commit.at_us, ROOT_USER, table_count=count)
                    parts.catalog.namespaces.put(commit, namespace)

    def _write_manifests(self, parts: CatalogParts, tables: dict[int, TableDef]) -> None:
        """Let manifests name what counts now, so that the next rebuild finds the same."""
        known = tables | {table.table_key: table for table in SYSTEM_TABLES.values()}
        home = SegmentHome(parts.storages.place, parts.storage, self._clock)
        outdated: dict[PartitionKey, list[SegmentMeta]] = {}
        for meta in self._found.outdated:
            outdated.setdefault(meta.partition, []).append(meta)
        for key in sorted(self._found.unlisted):
            if key.table_key in known:
                merged = outdated.get(key, ())
                home.published(known[key.table_key], key, self._store, merged=merged)

    def _count_lost(self, tables: dict[int, TableDef], rebuilt: Rebuilt) -> None:
        names = {key: str(table.table_id) for key, table in tables.items()}
        names |= {table.table_key: str(table.table_id) for table in SYSTEM_TABLES.values()}
        for lost in self._found.lost:
            if lost.table_key is not None and lost.table_key not in names:
                rebuilt.left_out += 1  # of a table that was dropped
                continue
            name = _UNKNOWN if lost.table_key is None else names[lost.table_key]
            rebuilt.lost[name] = rebuilt.lost.get(name, 0) + 1
            rebuilt.lost_rows += lost.row_count
        unremembered = {names[key] for key in self._found.unremembered if key in names}
        rebuilt.unremembered = sorted(unremembered)


def _is_system(segment: ListedSegment) -> bool:
    return segment.meta.partition.table_key in _SYSTEM_KEYS


_SYSTEM_KEYS = frozenset(table.table_key for table in SYSTEM_TABLES.values())
