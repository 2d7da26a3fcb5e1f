"""What ``system.stats`` shows: counts of what the database and this process hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import msgspec

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.jobs import JobStatus
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.row_counts import RowCounts, row_counts
from kalamdb_lab.query.derived import Metric
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.plan_cache import PlanCache
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.store.log import ReadTransaction, Store


class DatabaseStats:
    """Counts tables, jobs and subscriptions of the database; sessions and caches of the process.

    Parameters
    ----------
    open_sessions : callable
        How many sessions of this process are open.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        clock: Clock,
        cache: SegmentCache,
        plans: PlanCache[Plan],
        open_sessions: Callable[[], int],
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._clock = clock
        self._cache = cache
        self._plans = plans
        self._open_sessions = open_sessions

    def metrics(self) -> Iterator[Metric]:
        """Yield metric, value and unit; rows, segments and bytes are those of users' tables.

        Bytes are those of Parquet files, without the vectors and indexes beside them.
        """
        held = self._held()
        yield "rows", held.rows, "rows"
        yield "hot_rows", held.hot_rows, "rows"
        yield "segments", held.segments, "segments"
        yield "bytes", held.size_bytes, "bytes"
        yield "open_sessions", self._open_sessions(), "sessions"
        yield "subscriptions", len(self._catalog.live_queries.all()), "subscriptions"
        jobs = Counter(job.status for job in self._catalog.jobs.all().values())
        for status in JobStatus:
            yield f"jobs_{status.value}", jobs[status], "jobs"
        yield "cache_hits", self._cache.hits, "lookups"
        yield "cache_misses", self._cache.misses, "lookups"
        yield "cache_bytes", self._cache.used_bytes, "bytes"
        yield "plan_hits", self._plans.hits, "lookups"
        yield "plan_misses", self._plans.misses, "lookups"
        yield from self._indexes()

    def _indexes(self) -> Iterator[Metric]:
        """Yield how much of each ANN index is built, and what share of the nearest it finds."""
        for table in self._catalog.tables_in(None):
            for index in table.indexes:
                live = built = 0
                found = 0.0
                with self._store.read() as transaction:
                    for scope in transaction.scopes(table.table_key):
                        key = PartitionKey(table.table_key, scope)
                        live += self._counted(transaction, table, key, None).rows
                        for listed in transaction.segments(key):
                            part = listed.meta.built(index)
                            if part is not None:
                                rows = listed.meta.row_count - listed.removed.count
                                built, found = built + rows, found + rows * part.recall
                name = f"index {table.table_id.namespace}.{index.name}"
                if built:
                    yield f"{name} recall", found / built, "ratio"
                yield f"{name} rows indexed", built, "rows"
                yield f"{name} rows not indexed", max(live - built, 0), "rows"

    def _held(self) -> RowCounts:
        now_us, held = self._clock.now_us(), RowCounts()
        tables = [table for table in self._catalog.tables_in(None) if table.is_stored]
        with self._store.read() as transaction:
            for table in tables:
                ttl_s = table.options.ttl_seconds
                expired_before_us = None if ttl_s is None else now_us - ttl_s * 1_000_000
                for scope in transaction.scopes(table.table_key):
                    key = PartitionKey(table.table_key, scope)
                    held += self._counted(transaction, table, key, expired_before_us)
        return held

    def _counted(
        self,
        transaction: ReadTransaction,
        table: TableDef,
        key: PartitionKey,
        expired_before_us: int | None,
    ) -> RowCounts:
        try:
            return row_counts(transaction, key, expired_before_us=expired_before_us)
        except msgspec.MsgspecError:
            raise CorruptError(
                f"An entry of {table.table_id} in the commit log is damaged; restore a backup"
            ) from None
