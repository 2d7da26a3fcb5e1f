"""Statement class to handler: one literal table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kalamdb_lab.catalog.catalog import Catalog, StorageRegistry
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.clock import IdGenerator
from kalamdb_lab.config import Settings
from kalamdb_lab.handlers.alter import AlterHandler
from kalamdb_lab.handlers.backup import BackupHandler
from kalamdb_lab.handlers.change import ChangeHandler
from kalamdb_lab.handlers.explain import ExplainHandler
from kalamdb_lab.handlers.indexes import IndexHandler
from kalamdb_lab.handlers.insert import InsertHandler
from kalamdb_lab.handlers.jobs import JobHandler
from kalamdb_lab.handlers.live import LiveHandler
from kalamdb_lab.handlers.maintenance import MaintenanceHandler
from kalamdb_lab.handlers.namespaces import NamespaceHandler
from kalamdb_lab.handlers.registered import RegisteredHandler
from kalamdb_lab.handlers.rows import RowBuilder
from kalamdb_lab.handlers.select import ExecuteAsHandler, SelectHandler
from kalamdb_lab.handlers.show import ShowHandler
from kalamdb_lab.handlers.storages import StorageHandler
from kalamdb_lab.handlers.tables import TableDropper, TableHandler
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.handlers.transactions import TransactionHandler, refuse_in_transaction
from kalamdb_lab.handlers.users import UserHandler
from kalamdb_lab.handlers.views import ViewHandler
from kalamdb_lab.jobs.cleanup import CleanUp
from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.jobs.upkeep import TableUpkeep
from kalamdb_lab.live.manager import LiveQueryManager
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.registered_files import RegisteredFilesReader
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql import statements as s
from kalamdb_lab.tables.writing import TableWriter

Handle = Callable[[Any, Request], Result]


class Handlers:
    """All handlers of one database, by the class of their statement."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        log: CommitLog,
        storages: StorageRegistry,
        reader: SegmentReader,
        system: SystemKeeper,
        queries: Queries,
        files: RegisteredFilesReader,
        writer: TableWriter,
        ids: IdGenerator,
        settings: Settings,
        jobs: JobManager,
        upkeep: TableUpkeep,
        cleanup: CleanUp,
        backups: BackupHandler,
        live: LiveQueryManager,
    ) -> None:
        targets = Targets(catalog)
        rows = RowBuilder(queries, ids)
        waits = settings.dropped_table_retention_hours > 0
        dropper = TableDropper(system, jobs, waits=waits)
        namespaces = NamespaceHandler(catalog, queries, log, dropper)
        tables = TableHandler(catalog, targets, queries, writer, log, dropper)
        views = ViewHandler(catalog, targets, queries, log)
        indexes = IndexHandler(catalog, targets, log, jobs)
        registered = RegisteredHandler(catalog, targets, files, log)
        users = UserHandler(catalog, log)
        transactions = TransactionHandler()
        live_queries = LiveHandler(catalog, live)
        places = StorageHandler(catalog, log, storages)
        show = ShowHandler(catalog, targets, queries, log)
        changes = ChangeHandler(targets, queries, writer, log, ids)
        maintenance = MaintenanceHandler(targets, queries, jobs, upkeep, cleanup, show)
        job_list = JobHandler(jobs)
        self._insert = InsertHandler(targets, queries, rows, writer, log)
        self.by_class: dict[type[s.Statement], Handle] = {
            s.CreateNamespace: namespaces.create,
            s.AlterNamespace: namespaces.alter,
            s.DropNamespace: namespaces.drop,
            s.UseNamespace: namespaces.use,
            s.CreateTable: tables.create,
            s.DropTable: tables.drop,
            s.AlterTable: AlterHandler(catalog, targets, queries, rows, log, reader).alter,
            s.CreateView: views.create,
            s.DropView: views.drop,
            s.CreateIndex: indexes.create,
            s.DropIndex: indexes.drop,
            c.Begin: transactions.begin,
            c.Commit: transactions.commit,
            c.Rollback: transactions.rollback,
            s.Insert: self._insert.insert,
            s.Update: changes.update,
            s.Delete: changes.delete,
            s.Select: SelectHandler(queries).select,
            s.Explain: ExplainHandler(targets, queries, self._insert.conflicts).explain,
            s.ExecuteAs: ExecuteAsHandler(catalog, self.handle).execute_as,
            c.RegisterTable: registered.register,
            c.UnregisterTable: registered.unregister,
            c.Describe: show.describe,
            c.ShowNamespaces: show.namespaces,
            c.ShowTables: show.tables,
            c.ShowStorages: show.storages,
            c.ShowStats: show.stats,
            c.ShowManifest: show.manifest,
            c.ShowUsers: show.users,
            c.ShowLiveQueries: live_queries.show,
            c.KillLiveQuery: live_queries.kill,
            c.Subscribe: live_queries.subscribe,
            c.FlushTable: maintenance.flush_table,
            c.FlushAll: maintenance.flush_all,
            c.CompactTable: maintenance.compact_table,
            c.CompactAll: maintenance.compact_all,
            c.Vacuum: maintenance.vacuum,
            c.Analyze: maintenance.analyze,
            c.ShowJobs: job_list.show,
            c.KillJob: job_list.kill,
            c.BackupDatabase: backups.backup,
            c.RestoreDatabase: backups.restore,
            c.ShowBackups: backups.show,
            c.CreateStorage: places.create,
            c.AlterStorage: places.alter,
            c.DropStorage: places.drop,
            c.CheckStorage: places.check,
            c.SetUserStorage: users.set_storage,
            c.CreateUser: users.create,
            c.AlterUser: users.alter,
            c.DropUser: users.drop,
        }

    def handle(self, statement: s.Statement, request: Request) -> Result:
        """Run a statement whose kind the role may use."""
        refuse_in_transaction(statement, request)
        return self.by_class[type(statement)](statement, request)

    def insert_rows(self, table: str, rows: object, request: Request) -> Result:
        """Insert a dataframe or Arrow data."""
        return self._insert.insert_data(table, rows, request)
