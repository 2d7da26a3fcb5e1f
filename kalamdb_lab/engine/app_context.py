"""The only wiring: every shared part of one open directory, made once and given what it needs."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Hashable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import pyarrow as pa

from kalamdb_lab.catalog.catalog import Catalog, StorageRegistry
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.catalog.system_tables import AUDIT_LOGS, LIVE_QUERIES, SYSTEM_TABLES
from kalamdb_lab.clock import Clock, IdGenerator
from kalamdb_lab.config import SETTINGS_FILE, Settings
from kalamdb_lab.engine.audit import AuditTrail
from kalamdb_lab.engine.copy import BackupReport, copy_database
from kalamdb_lab.engine.directory import CATALOG_FILE, STORAGE_DIRECTORY, prepare_directory
from kalamdb_lab.engine.login import Logins
from kalamdb_lab.engine.pipeline import ParseCache
from kalamdb_lab.engine.stats import DatabaseStats
from kalamdb_lab.handlers.backup import BackupHandler
from kalamdb_lab.handlers.dispatch import Handlers
from kalamdb_lab.jobs.backups import NamespaceCopies
from kalamdb_lab.jobs.cleanup import CleanUp
from kalamdb_lab.jobs.executors import Executors
from kalamdb_lab.jobs.housekeeping import Housekeeping
from kalamdb_lab.jobs.indexes import IndexNeeds, IndexWork
from kalamdb_lab.jobs.journal import JOURNAL_FILE, JobJournal
from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.jobs.schedules import Schedules
from kalamdb_lab.jobs.upkeep import TableUpkeep
from kalamdb_lab.live.manager import LiveQueryManager
from kalamdb_lab.live.workers import LiveResults
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.change_feed import ChangeFeed
from kalamdb_lab.partitions.changes import ChangeReader
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.leases import Leases
from kalamdb_lab.partitions.retired import RetiredFiles
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.query.derived import DerivedTables
from kalamdb_lab.query.direct import DirectQueries
from kalamdb_lab.query.duck import DuckEngine
from kalamdb_lab.query.partition_scans import PartitionScans
from kalamdb_lab.query.planner import Planner
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.registered_scans import RegisteredScans
from kalamdb_lab.query.relation_keys import DerivedRef
from kalamdb_lab.query.table_scans import TableScans
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.keys import SegmentKeys
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.registered_files import RegisteredFilesReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.store.presence import Presence
from kalamdb_lab.store.sqlite import SqliteStore
from kalamdb_lab.tables.backup import NamespaceBackup, NamespaceRestore
from kalamdb_lab.tables.embedding import EmbeddingFunctions
from kalamdb_lab.tables.keys import KeyLookup
from kalamdb_lab.tables.options import default_flush_policy
from kalamdb_lab.tables.writing import TableWriter
from kalamdb_lab.transactions.transaction import SessionTransaction

_EXIT_S: Final = 0.5
"""How long the end of the interpreter waits for each kind of threads of live queries."""

_open: weakref.WeakSet[AppContext] = weakref.WeakSet()

# Finalizers run at exit in the place of the first one that was made: before `_stop_all` is
# registered, so that the engine's instances are closed after the threads that use them.
weakref.finalize(_open, _open.clear)


class AppContext:
    """Owner of the node id and of every part that sessions share.

    Nothing below receives this object: a constructor lists what it needs.

    Parameters
    ----------
    system_tables : mapping of str to TableDef
        The stored system tables by name; older ones that the database holds are upgraded.
    """

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        shown_as: str,
        create: bool,
        system_tables: Mapping[str, TableDef] = SYSTEM_TABLES,
    ) -> None:
        # First: what is wrong there must not leave a new directory half made.
        self.settings = Settings.read(directory) if directory.is_dir() else Settings()
        default_policy = default_flush_policy(self.settings.flush_policy)
        prepare_directory(directory, shown_as, create=create)
        self._directory = directory
        self._pid = os.getpid()
        self._closed = False
        self.sessions: weakref.WeakSet[Hashable] = weakref.WeakSet()
        self.clock = clock
        # Before anything is read: who is alone deletes files that others may be reading.
        self.presence = Presence(directory)
        try:
            self.store = SqliteStore(
                directory / CATALOG_FILE,
                durability=self.settings.durability,
                busy_timeout_s=self.settings.busy_timeout_s,
                shown_as=shown_as,
            )
        except BaseException:
            self.presence.leave()
            raise
        self.ids = IdGenerator(clock, self.store.node_id)
        cache = SegmentCache(self.settings.cache_bytes)
        self.reader = SegmentReader(self._storage, cache)
        self.log = CommitLog(self.store, clock, self.reader.seq_numbers)
        self.log.on_retired(self.reader.forget)
        self.feed = ChangeFeed(self.log)
        self.changes = ChangeReader(self.store, self.reader)
        self.catalog = Catalog(self.log, self.reader, system=system_tables)
        self.storages = StorageRegistry(self.catalog, directory, directory / STORAGE_DIRECTORY)
        self.home = SegmentHome(self.storages.place, self._storage, clock)
        try:
            self.catalog.bootstrap()
        except BaseException:
            self.store.close()
            self.presence.leave()
            raise
        self.jobs = JobManager(
            self.catalog,
            self.log,
            self.presence,
            JobJournal(directory),
            backoff_s=self.settings.job_retry_s,
        )
        self.jobs.release_abandoned()
        files = RegisteredFilesReader(directory, self._own_files, cache)
        partitions = PartitionScans(self.reader, cache_bytes=self.settings.cache_bytes)
        self.log.on_retired(partitions.forget)
        self.scans = TableScans(
            self.log,
            partitions,
            self.catalog.table_by_key,
            clock,
            registered=RegisteredScans(files),
            derived=self._derived_rows,
        )
        self.duck = DuckEngine(self.ids, memory_bytes=self.settings.query_memory_bytes)
        leases = Leases(self.store, clock, grace_s=self.settings.retired_segment_grace_s)
        retired = RetiredFiles(
            self.log,
            self.home,
            leases,
            clock,
            is_alone=self.presence.is_alone,
            is_dropped=lambda table_key: self.catalog.table_by_key(table_key) is None,
            sync=self.store.sync,
            grace_s=self.settings.retired_segment_grace_s,
            dropped_retention_s=self.settings.dropped_table_retention_hours * 3_600,
        )
        system = SystemKeeper(self.log, self.home, self.reader, retired, system=system_tables)
        keys = KeyLookup(self.log, SegmentKeys(self.reader, cache), self.reader)
        self._leases = leases
        direct = DirectQueries(self.log, keys, self.ids)
        planner = Planner(self.duck)
        self.queries = Queries(
            self.catalog,
            self.scans,
            planner,
            direct,
            leases,
            result_bytes=self.settings.result_bytes,
        )
        stats = DatabaseStats(
            self.catalog, self.store, clock, cache, self.queries.plans, lambda: len(self.sessions)
        )
        self.derived = DerivedTables(self.catalog, self.queries.views.columns, stats.metrics)
        self.writer = TableWriter(
            self.log,
            keys,
            self.home,
            self.catalog.table_by_key,
            system,
            bulk_rows=self.settings.bulk_rows,
        )
        self.audit = AuditTrail(
            self.log,
            clock,
            system,
            system_tables[AUDIT_LOGS.table_id.name],
            audits_dml=self.settings.audit_dml,
        )
        self.logins = Logins(self.catalog, self.queries, self.log, self.audit, clock)
        self.parsed = ParseCache()
        self.embedding_functions = EmbeddingFunctions()
        upkeep = TableUpkeep(
            self.catalog,
            self.log,
            self.home,
            self.reader,
            retired,
            system,
            clock,
            log_retention_s=self.settings.log_retention_s,
        )
        cleanup = CleanUp(
            self.catalog,
            self.log,
            self.home,
            retired,
            self.jobs.is_active,
            self._storage,
            clock,
            grace_s=self.settings.retired_segment_grace_s,
            user_retention_days=self.settings.dropped_user_retention_days,
        )
        copies = NamespaceCopies(
            self.catalog,
            self.log,
            NamespaceBackup(self.log, self.reader, leases, self._storage, clock),
            NamespaceRestore(self.catalog, self.log, self.home, self._storage, system, clock),
            directory,
        )
        from_rows = self.settings.index_from_rows
        indexes = IndexWork(self.catalog, self.log, self.home, self.reader, from_rows=from_rows)
        executors = Executors(self.catalog, upkeep, cleanup, copies, indexes, self.store.scrub)
        self.live = LiveQueryManager(
            self.feed,
            self.changes,
            self.log,
            self.catalog,
            self.queries,
            planner,
            self.presence,
            clock,
            queue_events=self.settings.live_queue_events,
        )
        self.live_results = LiveResults(
            self.feed,
            self.log,
            self.queries,
            self.catalog,
            self.changes,
            clock,
            self.live.registrations,
        )
        self.live.refresh()
        self.queries.before_reading[LIVE_QUERIES.table_key] = self.live.refresh
        self.handlers = Handlers(
            catalog=self.catalog,
            log=self.log,
            storages=self.storages,
            reader=self.reader,
            system=system,
            queries=self.queries,
            files=files,
            writer=self.writer,
            ids=self.ids,
            settings=self.settings,
            jobs=self.jobs,
            upkeep=upkeep,
            cleanup=cleanup,
            backups=BackupHandler(self.catalog, self.jobs, self.storages, copies, directory),
            live=self.live,
        )
        self.jobs.start(executors.by_kind)
        house = Housekeeping(
            upkeep, cleanup, system, self.live.remove_abandoned, now_us=clock.now_us()
        )
        self.schedules = Schedules(
            self.catalog,
            self.store,
            self.jobs,
            cleanup,
            house,
            self.presence,
            JobJournal(directory),
            clock,
            IndexNeeds(self.catalog, self.store, from_rows=from_rows),
            default_policy=default_policy,
        )
        self.schedules.start()
        _open.add(self)

    def _storage(self, storage_id: str) -> Storage:
        return self.storages.storage(storage_id)

    def _own_files(self) -> Iterator[str]:
        """Yield what the paths of files begin with that nobody may register as a table."""
        for name in (CATALOG_FILE, SETTINGS_FILE, JOURNAL_FILE):
            yield str(self._directory / name)
        for storage_id in self.catalog.storages.all():
            base = self.storages.storage(storage_id).base_directory
            yield os.path.join(os.path.realpath(base), "")  # noqa: PTH118 - ends in a slash

    def _derived_rows(self, ref: DerivedRef) -> pa.Table:
        return self.derived.rows(ref)

    def transaction(self) -> SessionTransaction:
        """Return the transaction slot of a new session."""
        return SessionTransaction(self.log, self.writer, self.catalog, self._leases)

    def back_up(self, target: str | os.PathLike[str]) -> BackupReport:
        """Copy the whole database into a directory."""
        return copy_database(
            self._directory, target, store=self.store, leases=self._leases, clock=self.clock
        )

    def is_stale(self) -> bool:
        """Return whether it was closed, or belongs to the process this one was forked from."""
        return self._closed or os.getpid() != self._pid

    def stop_threads(self) -> None:
        """Let the threads of live queries and schedules end: the interpreter does."""
        if not self.is_stale():
            self.schedules.close()
            self.live_results.close(wait_s=_EXIT_S)
            self.feed.close(wait_s=_EXIT_S)
            self.live.stop(_EXIT_S)

    def close(self, *, is_interrupted: bool = False) -> None:
        """Finish the jobs, unless the user interrupted it; give files and memory back."""
        if not self._closed:
            self._closed = True
            with ExitStack() as ends:
                ends.callback(self.presence.leave)
                ends.callback(self.store.close)
                ends.callback(self.duck.close)
                ends.callback(self._leases.close)
                ends.callback(self.audit.close)
                ends.push(
                    lambda _, error, __: self.jobs.close(
                        is_interrupted=is_interrupted or isinstance(error, KeyboardInterrupt)
                    )
                )
                ends.callback(self.schedules.close)
                ends.callback(self.feed.close)
                ends.callback(self.live.close)
                ends.callback(self.live_results.close)


@atexit.register
def _stop_all() -> None:
    # A thread that is still in the engine when the interpreter is gone takes the process with it.
    for context in list(_open):
        with suppress(Exception, KeyboardInterrupt):  # the others are stopped all the same
            context.stop_threads()
