"""Partitions as the planner reads them: one snapshot for a whole statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from kalamdb_lab.clock import Clock
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.partition import PartitionSnapshot
from kalamdb_lab.query.batches import Batch
from kalamdb_lab.query.cancellation import Cancellation
from kalamdb_lab.query.duck import COUNTS_ARROW_ROWS
from kalamdb_lab.query.explained_searches import ranked_by_engine, searched
from kalamdb_lab.query.partition_scans import PartitionScans
from kalamdb_lab.query.registered_scans import RegisteredScans
from kalamdb_lab.query.relation_keys import (
    AllScopesRef,
    DerivedRef,
    LocalRef,
    RegisteredRef,
    TableRef,
)
from kalamdb_lab.query.relations import ArrowPart, BoundPredicate, Part, ScanRequest
from kalamdb_lab.query.scan_parts import segment_predicates, unexpired
from kalamdb_lab.query.scans import empty_table
from kalamdb_lab.query.vector_scans import (
    Passing,
    ReadPartition,
    Search,
    is_few,
    is_searched,
)
from kalamdb_lab.segments.pruning import may_match
from kalamdb_lab.tables.writing import SchemaChangedError
from kalamdb_lab.vectors.rows import Float32s

MANY_RELATIONS = 3
"""Joins of more are left to files where the engine cannot tell how many rows Arrow has."""


class TableScans:
    """A `ScanProvider` over partitions, files, derived tables and the session's own relations.

    Parameters
    ----------
    partitions : PartitionScans
        Reads the rows of one.
    tables : callable
        The present definition of a table by its key.
    registered : RegisteredScans
        Rows of registered tables.
    derived : callable
        The present rows of a derived table.
    """

    def __init__(
        self,
        log: CommitLog,
        partitions: PartitionScans,
        tables: Callable[[int], TableDef | None],
        clock: Clock,
        *,
        registered: RegisteredScans,
        derived: Callable[[DerivedRef], pa.Table],
    ) -> None:
        self._log = log
        self._tables = tables
        self._clock = clock
        self.registered = registered
        self._derived = derived
        self.partitions = partitions

    @property
    def visible_seq(self) -> int:
        """The number of the log that a snapshot taken now stands at, or an earlier one."""
        return self._log.visible_seq

    def at_snapshot(
        self, requests: Sequence[ScanRequest], scope: str, local: Mapping[str, pa.Table]
    ) -> StatementScans:
        """Return the rows of these requests at the newest commit, all at one number of the log.

        Parameters
        ----------
        scope : str
            The effective user.
        local : mapping
            The session's own relations by name.
        """
        wanted: dict[PartitionKey, TableDef] = {}
        scopes: dict[int, list[str]] = {}
        registered: dict[RegisteredRef, TableDef] = {}
        # Before the state is held: the columns of views are planned for it.
        derived = {
            key: self._derived(key)
            for key in (request.relation.key for request in requests)
            if isinstance(key, DerivedRef)
        }
        with self._log.visible() as state:  # definitions, rows and what expired go together
            seq = state.applied_seq
            for request in requests:
                match request.relation.key:
                    case TableRef(table_key, version):
                        table = self._current(table_key, version)
                        key = PartitionKey(table_key, scope if table.kind.is_scoped else "")
                        wanted[key] = table
                    case AllScopesRef(table_key, version):
                        scopes[table_key] = self._log.scopes(table_key)
                        table = self._current(table_key, version)
                        wanted |= {
                            PartitionKey(table_key, name): table for name in scopes[table_key]
                        }
                    case RegisteredRef(table_key, version) as ref:
                        registered[ref] = self._current(table_key, version)
            snapshots = dict(zip(wanted, self._log.snapshot(list(wanted.items())), strict=True))
            for key, table in wanted.items():
                if table.kind is TableKind.STREAM:
                    expired = state.partition(key).expired_seqs(self._expired_before_us(table))
                    snapshots[key] = unexpired(snapshots[key], expired)
        from_files = not COUNTS_ARROW_ROWS and len(requests) > MANY_RELATIONS
        return StatementScans(
            self,
            wanted,
            snapshots,
            scopes,
            scope,
            {LocalRef(name): rows for name, rows in local.items()} | derived,
            registered,
            seq=seq,
            from_files=from_files,
        )

    @contextmanager
    def current(self, table: TableDef) -> Iterator[None]:
        """Hold the newest state, in which the table must be as the statement was planned."""
        with self._log.at_newest():
            self._current(table.table_key, table.schema_version)
            yield

    def _current(self, table_key: int, schema_version: int) -> TableDef:
        table = self._tables(table_key)
        if table is None or table.schema_version != schema_version:
            raise SchemaChangedError  # altered or dropped by another thread since it was planned
        return table

    def _expired_before_us(self, table: TableDef) -> int:
        assert table.options.ttl_seconds is not None
        return self._clock.now_us() - table.options.ttl_seconds * 1_000_000


class StatementScans:
    """The scans of one statement at number `seq` of the log; made by `TableScans.at_snapshot`."""

    def __init__(
        self,
        scans: TableScans,
        tables: Mapping[PartitionKey, TableDef],
        snapshots: Mapping[PartitionKey, PartitionSnapshot],
        scopes: Mapping[int, Sequence[str]],
        scope: str,
        in_memory: Mapping[LocalRef | DerivedRef, pa.Table],
        registered: Mapping[RegisteredRef, TableDef],
        *,
        seq: int,
        from_files: bool = False,
    ) -> None:
        self.seq = seq
        self._from_files = from_files
        self._scans = scans
        self._tables = tables
        self._snapshots = snapshots
        self._scopes = scopes
        self._scope = scope
        self._in_memory = in_memory
        self._registered = registered
        self.searches: list[Search] = []
        """What the vector searches of the statement did."""

    def scan(
        self, request: ScanRequest, predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        """Return the parts of one request; the promise is that of `ScanProvider`."""
        match request.relation.key:
            case LocalRef() | DerivedRef() as ref:
                return (ArrowPart(self._in_memory[ref].select(list(request.columns))),)
            case RegisteredRef() as ref:
                return self._scans.registered.read(self._registered[ref], request, predicates)
            case _:
                parts = [
                    part
                    for prefix, table, snapshot in self._partitions(request)
                    for part in self._scans.partitions.read(
                        table, snapshot, request, predicates, prefix, from_files=self._from_files
                    )
                ]
                return tuple(parts) or (ArrowPart(empty_table(request)),)

    def nearest(
        self, request: ScanRequest, vector: Any, count: int, passing: Passing | None
    ) -> tuple[Part, ...] | None:
        """Return the nearest rows of one request; the promise is that of `ScanProvider`."""
        assert request.nearest is not None
        found = self._scans.partitions.vectors.nearest(
            list(self._partitions(request)), request, vector, count, passing
        )
        if found is None:
            return None
        parts, search = found
        self.searches.append(search)
        return parts

    def batch(
        self,
        request: ScanRequest,
        queries: Float32s,
        count: int,
        passing: pa.ChunkedArray | None,
        cancellation: Cancellation | None = None,
    ) -> Batch:
        """Return the nearest rows for each of several vectors.

        Parameters
        ----------
        passing : (n,) int64 or None
            The ``_seq`` of the rows that are meant; all by default.
        """
        batch, search = self._scans.partitions.vectors.batch(
            list(self._partitions(request)), request, queries, count, passing, cancellation
        )
        self.searches.append(search)
        return batch

    def is_searched(self, request: ScanRequest, count: int, *, is_filtered: bool) -> bool:
        """Return whether so many nearest rows are found faster without the engine.

        Asking it first who can come through costs more than ranking few rows.
        """
        partitions = list(self._partitions(request))
        rows = sum(partition.snapshot.row_count for partition in partitions)
        return is_searched(partitions, count) if is_filtered else is_few(rows, count)

    def explained(
        self, request: ScanRequest, count: int, *, is_filtered: bool, is_plain: bool
    ) -> str:
        """Return in words how so many nearest rows of one request would be found.

        Parameters
        ----------
        is_plain : bool
            True for a statement that needs no engine.
        """
        assert request.nearest is not None
        partitions = list(self._partitions(request))
        if not self.is_searched(request, count, is_filtered=is_filtered or not is_plain):
            rows = sum(partition.snapshot.row_count for partition in partitions)
            return ranked_by_engine(request.nearest, rows)
        sources = self._scans.partitions.vectors.sources(partitions, request, None)
        return searched(request.nearest, sources, count, is_filtered=is_filtered)

    def _partitions(self, request: ScanRequest) -> Iterator[ReadPartition]:
        match request.relation.key:
            case TableRef(table_key=table_key):
                partition = PartitionKey(table_key, self._scope)
                if partition not in self._tables:
                    partition = PartitionKey(table_key, "")
                yield ReadPartition(None, self._tables[partition], self._snapshots[partition])
            case AllScopesRef(table_key=table_key):
                for scope in self._scopes[table_key]:
                    partition = PartitionKey(table_key, scope)
                    prefix = ("user_id", scope)
                    yield ReadPartition(prefix, self._tables[partition], self._snapshots[partition])
            case key:
                raise AssertionError(f"a relation of an unknown kind: {key!r}")

    def is_scoped(self, request: ScanRequest) -> bool:
        """Return whether the relation is the reader's own partition of a table."""
        match request.relation.key:
            case TableRef(table_key=table_key):
                return PartitionKey(table_key, self._scope) in self._tables
        return False

    def estimate(
        self, request: ScanRequest, predicates: tuple[BoundPredicate, ...]
    ) -> tuple[int, int, int | None]:
        """Return segments kept by pruning, segments in all, and rows in what is kept if known."""
        match request.relation.key:
            case LocalRef() | DerivedRef() as ref:
                return 0, 0, int(self._in_memory[ref].num_rows)
            case RegisteredRef() as ref:
                return 0, 0, self._scans.registered.row_count(self._registered[ref], predicates)
            case TableRef(table_key=table_key) | AllScopesRef(table_key=table_key):
                kept = total = rows = 0
                for partition, table in self._tables.items():
                    if partition.table_key != table_key:
                        continue
                    snapshot = self._snapshots[partition]
                    conditions = segment_predicates(table, predicates)
                    rows += snapshot.hot.num_rows
                    for view in snapshot.segments:
                        total += 1
                        if may_match(view.meta, table, conditions):
                            kept += 1
                            rows += view.meta.row_count - len(view.removed)
                return kept, total, rows
            case key:
                raise AssertionError(f"a relation of an unknown kind: {key!r}")
