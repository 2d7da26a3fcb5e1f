"""The only wiring: every shared part of one open directory, made once and given what it needs."""

from __future__ import annotations

import os
from pathlib import Path

from kalamdb_lab.catalog.catalog import Catalog, StorageRegistry
from kalamdb_lab.clock import Clock, IdGenerator
from kalamdb_lab.config import SETTINGS_FILE, Settings
from kalamdb_lab.engine.pipeline import ParseCache
from kalamdb_lab.errors import StorageError
from kalamdb_lab.handlers.dispatch import Handlers
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.query.direct import DirectQueries
from kalamdb_lab.query.duck import DuckEngine
from kalamdb_lab.query.planner import Planner
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.table_scans import TableScans
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.keys import SegmentKeys
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.store.sqlite import SqliteStore
from kalamdb_lab.tables.keys import KeyLookup
from kalamdb_lab.tables.writing import TableWriter

CATALOG_FILE = "catalog.sqlite"
STORAGE_DIRECTORY = "storage"


class AppContext:
    """Owner of the node id and of every part that sessions share.

    Nothing below receives this object: a constructor lists what it needs.
    """

    def __init__(self, directory: Path, clock: Clock, *, shown_as: str, create: bool) -> None:
        prepare_directory(directory, shown_as, create=create)
        self._pid = os.getpid()
        self._closed = False
        self.clock = clock
        self.settings = Settings.read(directory)
        self.store = SqliteStore(
            directory / CATALOG_FILE,
            durability=self.settings.durability,
            busy_timeout_s=self.settings.busy_timeout_s,
            shown_as=shown_as,
        )
        self.ids = IdGenerator(clock, self.store.node_id)
        cache = SegmentCache(self.settings.cache_bytes)
        self.reader = SegmentReader(self._storage, cache)
        self.log = CommitLog(self.store, clock, self.reader.seq_numbers)
        self.catalog = Catalog(self.log, self.reader)
        self.storages = StorageRegistry(self.catalog, directory / STORAGE_DIRECTORY)
        self.home = SegmentHome(self.storages.place, self._storage, clock)
        self.catalog.bootstrap()
        self.scans = TableScans(
            self.log,
            self.reader,
            self.catalog.table_by_key,
            clock,
            cache_bytes=self.settings.cache_bytes,
        )
        self.duck = DuckEngine(self.ids, memory_bytes=self.settings.query_memory_bytes)
        keys = KeyLookup(self.log, SegmentKeys(self.reader, cache), self.reader)
        direct = DirectQueries(self.log, keys, self.ids)
        self.queries = Queries(self.catalog, self.scans, Planner(self.duck), direct)
        self.writer = TableWriter(
            self.log,
            keys,
            self.home,
            self.catalog.table_by_key,
            bulk_rows=self.settings.bulk_rows,
        )
        self.parsed = ParseCache()
        self.handlers = Handlers(
            catalog=self.catalog,
            log=self.log,
            home=self.home,
            reader=self.reader,
            queries=self.queries,
            writer=self.writer,
            ids=self.ids,
            clock=clock,
            settings=self.settings,
        )

    def _storage(self, storage_id: str) -> Storage:
        return self.storages.storage(storage_id)

    def is_stale(self) -> bool:
        """Return whether it was closed, or belongs to the process this one was forked from."""
        return self._closed or os.getpid() != self._pid

    def close(self) -> None:
        """Give the files and the engine's memory back."""
        if not self._closed:
            self._closed = True
            self.duck.close()
            self.store.close()


def prepare_directory(directory: Path, shown_as: str, *, create: bool) -> None:
    """Make a new database directory, or check that an old one is one.

    Raises
    ------
    StorageError
        With the path as the user wrote it.
    """
    if directory.is_dir():
        if (directory / CATALOG_FILE).is_file():
            return
        others = [item.name for item in directory.iterdir() if item.name != SETTINGS_FILE]
        if STORAGE_DIRECTORY in others:
            raise StorageError(
                f"'{shown_as}' has lost its catalog; run kalam check --rebuild to make it from "
                "the segments"
            )
        if others:
            raise StorageError(f"'{shown_as}' is not a KalamDB Lab database: it holds other files")
    elif directory.exists():
        raise StorageError(f"'{shown_as}' is a file, not a KalamDB Lab database directory")
    if not create:
        raise StorageError(f"There is no database at '{shown_as}'")
    try:
        directory.mkdir(exist_ok=True)
        (directory / STORAGE_DIRECTORY).mkdir(exist_ok=True)
        if not (directory / SETTINGS_FILE).exists():
            Settings.write_template(directory)
    except FileNotFoundError:
        raise StorageError(
            f"'{shown_as}' cannot be created: the directory it should lie in does not exist"
        ) from None
    except OSError as error:
        raise StorageError(f"'{shown_as}' cannot be created: {error.strerror}") from None
