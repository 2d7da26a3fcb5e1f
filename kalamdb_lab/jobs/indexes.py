"""ANN indexes as work of jobs: building what segments lack, and noticing that they lack it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import CorruptError
from kalamdb_lab.jobs.run import JobRun
from kalamdb_lab.model.ids import PartitionKey, TableId
from kalamdb_lab.model.readable import plural
from kalamdb_lab.model.tables import TableDef, VectorIndex
from kalamdb_lab.partitions.commit_log import CommitLog, Definition
from kalamdb_lab.partitions.indexing import (
    Wanted,
    drop_stale_indexes,
    index_segment,
    wanted_in,
)
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.store.log import EntryKind, Store

INDEX: Final = "index_name"
"""The parameter that says which index a job builds; other jobs of its kind compact."""

_PUBLISHES: Final = frozenset({EntryKind.SEGMENT, EntryKind.FLUSH, EntryKind.COMPACT})


def index_job_key(table: TableDef, index: VectorIndex) -> str:
    """Return the idempotency key of building an index."""
    return f"index:{table.table_id.namespace}:{table.table_id.name}:{index.name}"


class IndexWork:
    """Builds and clears away indexes, all scopes of a table. Safe to run twice, beside others.

    Parameters
    ----------
    from_rows : int
        A segment with fewer vectors is searched without an index.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        home: SegmentHome,
        reader: SegmentReader,
        *,
        from_rows: int,
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._home = home
        self._reader = reader
        self._from_rows = from_rows

    def build(self, table_id: TableId, name: str, run: JobRun) -> str:
        """Build an index for each segment that lacks it; return what was done in words.

        Each segment is listed by itself, so what stops the job leaves whole ones done. A segment
        that is damaged hinders the others not; its error is raised at the end.
        """
        rows, segments, found = 0, 0, 0.0
        given_up: set[tuple[int, int]] = set()
        fault: CorruptError | None = None
        # Flushes and another CREATE INDEX under the name may come while it works.
        while lacking := self._lacking(table_id, name, given_up, run):
            total = sum(wanted.meta.row_count for wanted in lacking)
            done = 0
            for wanted in lacking:
                meta = wanted.meta
                progress = _scaled(run, done, meta.row_count, total)
                progress(0, 1)
                # What others merge from here on is not kept for this work.
                self._log.reads_from_now()
                try:
                    listed = index_segment(
                        self._log,
                        self._home,
                        self._reader,
                        self._definition(meta.partition),
                        wanted,
                        progress=progress,
                    )
                except CorruptError as error:
                    fault = error
                    given_up.add((meta.segment_id, wanted.index.index_key))
                    listed = None
                done += meta.row_count
                if listed is not None:
                    rows, segments = rows + meta.row_count, segments + 1
                    found += listed.recall * meta.row_count
        if fault is not None:
            raise fault
        if not segments:
            return "Indexed 0 rows: nothing to do"
        return (
            f"Indexed {plural(rows, 'row')} of {plural(segments, 'segment')} with a recall of "
            f"{found / rows:.3f}"
        )

    def clear(self, table: TableDef, run: JobRun) -> str:
        """Take away what was built for indexes that were dropped; return what was done in words."""
        keys = self._partitions(table)
        cleared = 0
        for done, key in enumerate(keys):
            run.progress(done, len(keys))
            cleared += drop_stale_indexes(self._log, self._home, self._definition(key), key)
        if not cleared:
            return "Deleted the index of 0 segments: nothing to do"
        return f"Deleted the index of {plural(cleared, 'segment')}"

    def _lacking(
        self, table_id: TableId, name: str, given_up: set[tuple[int, int]], run: JobRun
    ) -> list[Wanted]:
        """Return what there is to build now; nothing if the index was dropped."""
        run.check()
        self._log.look_again()
        table = self._catalog.find_table(table_id)
        index = None if table is None else _named(table, name)
        if table is None or index is None:
            return []
        found: list[Wanted] = []
        for key in self._partitions(table):
            run.check()
            drop_stale_indexes(self._log, self._home, self._definition(key), key)
            with self._log.store.read() as transaction:
                found += wanted_in(transaction, table, key, from_rows=self._from_rows)
        return [
            wanted
            for wanted in found
            if wanted.index == index and (wanted.meta.segment_id, index.index_key) not in given_up
        ]

    def _partitions(self, table: TableDef) -> list[PartitionKey]:
        scopes = self._log.scopes(table.table_key)
        return [PartitionKey(table.table_key, scope) for scope in scopes]

    def _definition(self, key: PartitionKey) -> Definition:
        return partial(self._catalog.table_by_key, key.table_key)


def _named(table: TableDef, name: str) -> VectorIndex | None:
    return next((index for index in table.indexes if index.name == name), None)


def _scaled(run: JobRun, before: int, row_count: int, total: int) -> Callable[[int, int], None]:
    """Return what tells the progress within one segment as rows of all of them."""

    def progress(done: int, of: int) -> None:
        share = done / of if of else 1.0
        run.progress(before + int(row_count * share), total, "rows")

    return progress


class IndexNeeds:
    """Which tables may have segments without their index, in step with the log.

    Not thread-safe. Without an index in the database a look costs a dictionary access. Else it
    costs as much as was committed since the last one: only partitions that got a segment are
    looked at, and all of a table once, when it is first seen.
    """

    def __init__(self, catalog: Catalog, store: Store, *, from_rows: int) -> None:
        self._catalog = catalog
        self._store = store
        self._from_rows = from_rows
        self._revision = -1
        self._indexed: dict[int, TableDef] = {}
        self._suspects: dict[int, set[PartitionKey]] = {}
        self._seq: int | None = None

    def suspects(self) -> list[tuple[TableDef, VectorIndex]]:
        """Return the indexes that segments may lack; `is_lacking` looks."""
        self._follow()
        return [
            (table, index)
            for table_key, table in self._indexed.items()
            if self._suspects.get(table_key)
            for index in table.indexes
        ]

    def is_lacking(self, table: TableDef, index: VectorIndex) -> bool:
        """Return whether a segment lacks an index that it should have."""
        self._follow()
        now = self._indexed.get(table.table_key)
        suspects = self._suspects.get(table.table_key, set())
        if now is None or index not in now.indexes:
            return False
        for key in list(suspects):
            with self._store.read() as transaction:
                wanted = wanted_in(transaction, now, key, from_rows=self._from_rows)
            if any(item.index == index for item in wanted):
                return True
            if not wanted:
                suspects.discard(key)
        return False

    def _follow(self) -> None:
        revision = self._catalog.tables.revision
        if revision != self._revision:
            tables = self._catalog.tables.all().values()
            before, self._indexed = self._indexed, {t.table_key: t for t in tables if t.indexes}
            self._revision = revision
            known = {
                key
                for key, table in self._indexed.items()
                if key in before and before[key].indexes == table.indexes
            }
            self._suspects = {key: self._suspects.get(key, set()) for key in known}
        if not self._indexed:
            self._seq = None
            return
        with self._store.read() as transaction:
            last_seq = transaction.last_seq()
            if self._seq is None or self._seq < transaction.log_start():
                self._suspects = {}  # entries that were never seen may be trimmed
            elif last_seq > self._seq:
                for change in transaction.changes_after(self._seq):
                    suspects = self._suspects.get(change.partition.table_key)
                    if suspects is not None and change.kind in _PUBLISHES:
                        suspects.add(change.partition)
            for key in self._indexed.keys() - self._suspects.keys():
                scopes = transaction.scopes(key)
                self._suspects[key] = {PartitionKey(key, scope) for scope in scopes}
            self._seq = last_seq
