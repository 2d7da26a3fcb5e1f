"""What jobs do to tables: flush, compact, purge, recompute statistics; all scopes of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import BusyError, StorageError
from kalamdb_lab.jobs.manager import JobRun
from kalamdb_lab.model.ids import PartitionKey
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

    def flush(self, table: TableDef, run: JobRun) -> str:
        """Move the hot rows of all scopes into segments; return what was done in words."""
        rows = segments = 0
        for key in self._partitions(table, run):
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
        self.trim()
        if not segments:
            return "Flushed 0 rows: nothing to do"
        return f"Flushed {plural(rows, 'row')} into {plural(segments, 'segment')}"

    def compact(self, table: TableDef, run: JobRun) -> str:
        """Compact all scopes of a table; return what was done in words."""
        retired = written = dropped = 0
        for key in self._partitions(table, run):
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
        with suppress(BusyError, StorageError):  # the files can go later
            self._retired.delete()
        if not retired:
            return "Compacted 0 segments: nothing to do"
        return (
            f"Compacted {retired} segment{'s' if retired > 1 else ''} into {written}, "
            f"{dropped:,} removed versions dropped"
        )

    def purge(self, table: TableDef, run: JobRun) -> int:
        """Drop versions that were replaced, deleted rows past retention, and expired events.

        Only partitions and segments that hold some are written anew. Returns how many went.
        """
        dropped = 0
        for key in self._partitions(table, run):
            if table.kind is TableKind.STREAM:
                dropped += self._evict(key)
                continue
            definition, purge_before_seq = self._definition(key), self._purge_before_seq(key)
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
        before_us = self._clock.now_us() - self._log_retention_us
        with self._log.store.write() as transaction:
            transaction.trim_log(before_us)
            if forgets:
                transaction.forget_partitions()

    def _partitions(self, table: TableDef, run: JobRun) -> Iterator[PartitionKey]:
        scopes = self._log.scopes(table.table_key)
        for done, scope in enumerate(scopes):
            run.progress(done, len(scopes))
            yield PartitionKey(table.table_key, scope)

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
