"""The only wiring: every shared part of one open directory, made once and given what it needs."""

from __future__ import annotations

import os
from pathlib import Path

from kalamdb_lab.catalog.catalog import Catalog, StorageRegistry
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.clock import Clock, IdGenerator
from kalamdb_lab.config import Settings
from kalamdb_lab.engine.directory import CATALOG_FILE, STORAGE_DIRECTORY, prepare_directory
from kalamdb_lab.engine.pipeline import ParseCache
from kalamdb_lab.handlers.dispatch import Handlers
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.leases import Leases
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
from kalamdb_lab.transactions.transaction import SessionTransaction


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
        system = SystemKeeper(
            self.log, self.home, self.reader, grace_s=self.settings.retired_segment_grace_s
        )
        keys = KeyLookup(self.log, SegmentKeys(self.reader, cache), self.reader)
        leases = Leases(self.store, clock, grace_s=self.settings.retired_segment_grace_s)
        self._keys, self._leases = keys, leases
        direct = DirectQueries(self.log, keys, self.ids)
        self.queries = Queries(
            self.catalog,
            self.scans,
            Planner(self.duck),
            direct,
            leases,
            result_bytes=self.settings.result_bytes,
        )
        self.writer = TableWriter(
            self.log,
            keys,
            self.home,
            self.catalog.table_by_key,
            system,
            bulk_rows=self.settings.bulk_rows,
        )
        self.parsed = ParseCache()
        self.handlers = Handlers(
            catalog=self.catalog,
            log=self.log,
            home=self.home,
            reader=self.reader,
            system=system,
            queries=self.queries,
            writer=self.writer,
            ids=self.ids,
            clock=clock,
            settings=self.settings,
        )

    def _storage(self, storage_id: str) -> Storage:
        return self.storages.storage(storage_id)

    def transaction(self) -> SessionTransaction:
        """Return the transaction slot of a new session."""
        return SessionTransaction(self.log, self._keys, self.catalog.table_by_key, self._leases)

    def is_stale(self) -> bool:
        """Return whether it was closed, or belongs to the process this one was forked from."""
        return self._closed or os.getpid() != self._pid

    def close(self) -> None:
        """Give the files and the engine's memory back."""
        if not self._closed:
            self._closed = True
            self.duck.close()
            self.store.close()
