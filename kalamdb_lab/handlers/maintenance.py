"""STORAGE FLUSH and STORAGE COMPACT, run at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.catalog.system_tables import SYSTEM_TABLES
from kalamdb_lab.clock import Clock
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.compaction import compact_partition
from kalamdb_lab.partitions.flush import flush_partition
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.sql.commands import CompactAll, CompactTable, FlushAll, FlushTable

_HOUR_US = 3_600_000_000


class MaintenanceHandler:
    """Flush and compact tables, all scopes, one answer row per table."""

    def __init__(
        self,
        catalog: Catalog,
        targets: Targets,
        queries: Queries,
        log: CommitLog,
        home: SegmentHome,
        reader: SegmentReader,
        system: SystemKeeper,
        clock: Clock,
        *,
        log_retention_s: int,
        grace_s: int,
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._queries = queries
        self._log = log
        self._home = home
        self._reader = reader
        self._system = system
        self._clock = clock
        self._log_retention_s = log_retention_s
        self._grace_s = grace_s

    def flush_table(self, statement: FlushTable, request: Request) -> Result:
        """Run STORAGE FLUSH TABLE."""
        table = self._targets.flushable(statement.table, request.context, verb="flushed")
        return self._each(statement.kind, "flush", [table], self.flush)

    def flush_all(self, statement: FlushAll, request: Request) -> Result:
        """Run STORAGE FLUSH ALL."""
        tables = self._tables(statement.namespace, request)
        return self._each(statement.kind, "flush", tables, self.flush)

    def compact_table(self, statement: CompactTable, request: Request) -> Result:
        """Run STORAGE COMPACT TABLE."""
        table = self._targets.flushable(statement.table, request.context, verb="compacted")
        return self._each(statement.kind, "compact", [table], self.compact)

    def compact_all(self, statement: CompactAll, request: Request) -> Result:
        """Run STORAGE COMPACT ALL."""
        tables = self._tables(statement.namespace, request)
        return self._each(statement.kind, "compact", tables, self.compact)

    def flush(self, table: TableDef) -> str:
        """Flush all scopes of a table; return what was done in words."""
        rows = segments = 0
        for key, newest in self._partitions(table):
            done = flush_partition(
                self._log,
                self._home,
                newest,
                key,
                purge_before_seq=self._purge_before_seq(newest),
            )
            rows, segments = rows + done.row_count, segments + done.segment_count
        self._system.keep()
        with self._log.store.write() as transaction:
            transaction.trim_log(self._clock.now_us() - self._log_retention_s * 1_000_000)
        if not segments:
            return "Flushed 0 rows: nothing to do"
        return f"Flushed {rows:,} rows into {segments} segment{'s' if segments > 1 else ''}"

    def compact(self, table: TableDef) -> str:
        """Compact all scopes of a table; return what was done in words."""
        retired = written = dropped = 0
        for key, newest in self._partitions(table):
            done = compact_partition(
                self._log,
                self._home,
                self._reader,
                newest,
                key,
                purge_before_seq=self._purge_before_seq(newest),
            )
            retired, written = retired + done.retired, written + done.written
            dropped += done.dropped_versions
        self._home.forget_retired(self._log.store, self._grace_s)
        if not retired:
            return "Compacted 0 segments: nothing to do"
        return (
            f"Compacted {retired} segment{'s' if retired > 1 else ''} into {written}, "
            f"{dropped:,} removed versions dropped"
        )

    def _partitions(self, table: TableDef) -> Iterator[tuple[PartitionKey, TableDef]]:
        """Yield the partitions of a table, each with the definition that its rows have by now."""
        for scope in self._log.scopes(table.table_key):
            key = PartitionKey(table.table_key, scope)
            with self._log.at_newest([key]):
                newest = self._catalog.table_by_key(table.table_key)
            if newest is not None:  # else it was dropped meanwhile
                yield key, newest

    def _purge_before_seq(self, table: TableDef) -> int:
        """Return the number before which deleted rows are past their retention."""
        hours = table.options.deleted_retention_hours
        if hours is None:
            return 0
        before_us = self._clock.now_us() - hours * _HOUR_US
        with self._log.store.read() as transaction:
            seq = transaction.last_seq_before(before_us)
        return seq + 1 if seq else 0

    def _tables(self, namespace: str | None, request: Request) -> list[TableDef]:
        if namespace is not None:
            self._queries.check_namespace(namespace, request.context)
        tables = self._catalog.tables_in(namespace)
        if namespace is None:
            tables = [*tables, *SYSTEM_TABLES.values()]
        return [t for t in tables if t.kind not in (TableKind.STREAM, TableKind.VIEW)]

    def _each(
        self, kind: str, job_type: str, tables: Sequence[TableDef], work: Callable[[TableDef], str]
    ) -> Result:
        messages = [work(table) for table in tables]
        schema = pa.schema(
            [
                ("job_id", pa.string()),
                ("job_type", pa.string()),
                ("table_name", pa.string()),
                ("status", pa.string()),
                ("message", pa.string()),
            ]
        )
        rows = [
            # Run at once, not as a job: there is no job id to wait for.
            {
                "job_id": None,
                "job_type": job_type,
                "table_name": str(table.table_id),
                "status": "completed",
                "message": message,
            }
            for table, message in zip(tables, messages, strict=True)
        ]
        return Result.of_table(kind, pa.Table.from_pylist(rows, schema=schema))
