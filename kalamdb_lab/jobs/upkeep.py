"""What jobs do to tables: flush, compact, purge, recompute statistics; all scopes of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import BusyError, StorageError
from kalamdb_lab.jobs.run import JobRun
from kalamdb_lab.model.ids import SYSTEM_NAMESPACE, PartitionKey
from kalamdb_lab.model.readable import plural
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.analysis import analyze_partition
from kalamdb_lab.partitions.commit_log import CommitLog, Definition
from kalamdb_lab.partitions.compaction import compact_partition
from kalamdb_lab.partitions.eviction import evict_expired
from kalamdb_lab.partitions.flush import flush_partition
from kalamdb_lab.partitions.retired import RetiredFiles
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.reader import SegmentReader

_HOUR_US = 3_600_000_000


class TableUpkeep:
    """Work on tables that no answer shows. Everything is safe to run twice, and beside others.

    Definitions are asked for as each partition is reached: others may alter a table meanwhile.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        home: SegmentHome,
        reader: SegmentReader,
        retired: RetiredFiles,
        system: SystemKeeper,
        clock: Clock,
        *,
        log_retention_s: int,
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._home = home
        self._reader = reader
        self._retired = retired
        self._system = system
        self._clock = clock
        self._log_retention_us = log_retention_s * 1_000_000

    def tables(self, namespace: str | None, *, streams: bool) -> list[TableDef]:
        """Return the tables with rows of their own; of all namespaces, ``system`` last, if None."""
        tables = self._catalog.tables_in(namespace)
        if namespace is None:
            tables = [*tables, *self._catalog.tables_in(SYSTEM_NAMESPACE)]
        return [t for t in tables if t.is_stored and (streams or t.kind is not TableKind.STREAM)]

    def flush(self, table: TableDef, run: JobRun) -> str:
        """Move the hot rows of all scopes into segments; return what was done in words."""
        rows = segments = 0
        for _, key in self._partitions([table], run):
            done = flush_partition(
                self._log,
                self._home,
                self._definition(key),
                key,
                purge_before_seq=self._purge_before_seq(key),
                check=run.check,
            )
            rows, segments = rows + done.row_count, segments + done.segment_count
        self._system.keep()
        with suppress(BusyError, StorageError):  # or its next try would find nothing to flush
            self.trim()
        self._delete_retired()
        if not segments:
            return "Flushed 0 rows: nothing to do"
        return f"Flushed {plural(rows, 'row')} into {plural(segments, 'segment')}"

    def compact(self, table: TableDef, run: JobRun) -> str:
        """Compact all scopes of a table; return what was done in words."""
        retired = written = dropped = 0
        for _, key in self._partitions([table], run):
            done = compact_partition(
                self._log,
                self._home,
                self._reader,
                self._definition(key),
                key,
                purge_before_seq=self._purge_before_seq(key),
                check=run.check,
            )
            retired, written = retired + done.retired, written + done.written
            dropped += done.dropped_versions
        self._delete_retired()
        if not retired:
            return "Compacted 0 segments: nothing to do"
        return (
            f"Compacted {plural(retired, 'segment')} into {written}, "
            f"{dropped:,} removed versions dropped"
        )

    def purge(self, tables: Sequence[TableDef], run: JobRun) -> int:
        """Drop versions that were replaced, deleted rows past retention, and expired events.

        Only partitions and segments that hold some are written anew. Returns how many went, not
        counting those of system tables.
        """
        dropped = 0
        for table, key in self._partitions(tables, run):
            count = self._purge(table, key, run)
            dropped += 0 if table.kind is TableKind.SYSTEM else count
        return dropped

    def _purge(self, table: TableDef, key: PartitionKey, run: JobRun) -> int:
        if table.kind is TableKind.STREAM:
            return self._evict(key)
        definition, purge_before_seq = self._definition(key), self._purge_before_seq(key)
        dropped = 0
        if self._has_hot_removals(key, purge_before_seq):
            dropped += flush_partition(
                self._log,
                self._home,
                definition,
                key,
                purge_before_seq=purge_before_seq,
                check=run.check,
            ).dropped_versions
        dropped += compact_partition(
            self._log,
            self._home,
            self._reader,
            definition,
            key,
            purge_before_seq=purge_before_seq,
            merges=False,
            check=run.check,
        ).dropped_versions
        return dropped

    def analyze(self, table: TableDef) -> None:
        """Recompute the statistics of all segments of a table from their files."""
        for scope in self._log.scopes(table.table_key):
            key = PartitionKey(table.table_key, scope)
            analyze_partition(self._log, self._home, self._reader, self._definition(key), key)

    def trim(self, *, forgets: bool = False) -> None:
        """Delete flushed entries past the retention of the log.

        With ``forgets`` also what is left of partitions that have neither entries nor segments.
        """
        now_us = self._clock.now_us()
        tables = self._catalog.tables.all().values()
        longest_hours = max((t.options.deleted_retention_hours or 0 for t in tables), default=0)
        times_from_us = now_us - longest_hours * _HOUR_US
        with self._log.store.write() as transaction:
            transaction.trim_log(now_us - self._log_retention_us, times_from_us=times_from_us)
            if forgets:
                transaction.forget_partitions()

    def _partitions(
        self, tables: Sequence[TableDef], run: JobRun
    ) -> Iterator[tuple[TableDef, PartitionKey]]:
        keys = [
            (table, PartitionKey(table.table_key, scope))
            for table in tables
            for scope in self._log.scopes(table.table_key)
        ]
        for done, item in enumerate(keys):
            run.progress(done, len(keys))
            # What was merged before is kept for others, not for the rest of this work.
            self._log.reads_from_now()
            yield item

    def _delete_retired(self) -> None:
        self._log.reads_no_more()
        with suppress(BusyError, StorageError):  # the files can go later
            self._retired.delete()

    def _definition(self, key: PartitionKey) -> Definition:
        return partial(self._catalog.table_by_key, key.table_key)

    def _purge_before_seq(self, key: PartitionKey) -> int:
        """Return the number before which deleted rows are past their retention."""
        table = self._catalog.table_by_key(key.table_key)
        hours = None if table is None else table.options.deleted_retention_hours
        if hours is None:
            return 0
        before_us = self._clock.now_us() - hours * _HOUR_US
        with self._log.store.read() as transaction:
            seq = transaction.last_seq_before(before_us)
        return seq + 1 if seq else 0

    def _has_hot_removals(self, key: PartitionKey, purge_before_seq: int) -> bool:
        with self._log.at_newest([key]):
            removals = self._log.partition(key).removed.values()
            return any(not r.deleted or r.at_seq < purge_before_seq for r in removals)

    def _evict(self, key: PartitionKey) -> int:
        table = self._catalog.table_by_key(key.table_key)
        if table is None or table.options.ttl_seconds is None:
            return 0
        before_us = self._clock.now_us() - table.options.ttl_seconds * 1_000_000
        with self._log.at_newest([key]):
            count = len(self._log.partition(key).expired_seqs(before_us))
        if count:
            with self._log.commit() as commit:
                evict_expired(self._log, commit, key, before_us)
        return count
