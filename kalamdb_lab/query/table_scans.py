"""Partitions as the planner reads them: one snapshot for a whole statement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa

from kalamdb_lab.clock import Clock
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.partition import PartitionSnapshot
from kalamdb_lab.partitions.removals import SegmentView
from kalamdb_lab.query.duck import COUNTS_ARROW_ROWS
from kalamdb_lab.query.registered_scans import RegisteredScans
from kalamdb_lab.query.relation_keys import (
    AllScopesRef,
    DerivedRef,
    LocalRef,
    RegisteredRef,
    TableRef,
)
from kalamdb_lab.query.relations import (
    ArrowPart,
    BoundPredicate,
    ParquetPart,
    Part,
    ScanRequest,
)
from kalamdb_lab.query.repeated_reads import LiveColumns, RepeatedReads, mask_of
from kalamdb_lab.query.scan_parts import (
    is_empty,
    left_out,
    prefixed,
    segment_predicates,
    selected,
    together,
    unexpired,
)
from kalamdb_lab.query.scans import empty_table
from kalamdb_lab.segments.pruning import may_match
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.tables.writing import SchemaChangedError

SMALL_ROWS = 200_000
"""Segments of a partition up to this many rows in all are decoded once and kept as Arrow."""
MANY_RELATIONS = 3
"""Joins of more are left to files where the engine cannot tell how many rows Arrow has."""


class TableScans:
    """A `ScanProvider` over partitions, files, derived tables and the session's own relations.

    Parameters
    ----------
    tables : callable
        The present definition of a table by its key.
    registered : RegisteredScans
        Rows of registered tables.
    derived : callable
        The present rows of a derived table.
    cache_bytes : int
        Decoded columns beyond this are not worth keeping.
    """

    def __init__(
        self,
        log: CommitLog,
        reader: SegmentReader,
        tables: Callable[[int], TableDef | None],
        clock: Clock,
        *,
        registered: RegisteredScans,
        derived: Callable[[DerivedRef], pa.Table],
        cache_bytes: int,
    ) -> None:
        self._log = log
        self._reader = reader
        self._tables = tables
        self._clock = clock
        self.registered = registered
        self._derived = derived
        self._cache_bytes = cache_bytes
        self._repeated = RepeatedReads()
        self._live = LiveColumns(reader, budget_bytes=cache_bytes // 4)

    @property
    def visible_seq(self) -> int:
        """The number of the log that a snapshot taken now stands at, or an earlier one."""
        return self._log.visible_seq

    def forget(self, segment_ids: Collection[int]) -> None:
        """Drop what is kept of retired segments."""
        self._live.forget(segment_ids)

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

    def read(
        self,
        table: TableDef,
        snapshot: PartitionSnapshot,
        request: ScanRequest,
        predicates: tuple[BoundPredicate, ...],
        prefix: tuple[str, str] | None,
        *,
        from_files: bool = False,
    ) -> list[Part]:
        """Return the parts of one partition.

        Parameters
        ----------
        prefix : (str, str) or None
            A constant first column: its name and its value.
        from_files : bool
            True to leave to the engine whatever it can read itself.
        """
        columns = tuple(name for name in request.columns if prefix is None or name != prefix[0])
        parts: list[Part] = [self._hot(snapshot, request, columns, prefix)]
        conditions = segment_predicates(table, predicates)
        views = [v for v in snapshot.segments if may_match(v.meta, table, conditions)]
        if not views:
            return parts
        files: dict[tuple[int, tuple[tuple[str, str], ...]], list[ParquetPart]] = {}
        decoded = not from_files and self._decode_now(table, views, columns, predicates)
        for view in views:
            direct = (
                None
                if decoded
                else self._reader.parquet_projection(
                    view.meta, table, [name for name in columns if name != "_deleted"]
                )
            )
            if direct is None:
                parts.append(self._from_arrow(table, view, request, columns, prefix))
            else:
                file = self._from_parquet(table, view, request, direct, prefix)
                alike = (view.meta.schema_version, file.projections)
                if file.removed is not None or file.deleted is not None:
                    parts.append(file)
                else:
                    files.setdefault(alike, []).append(file)
        parts += map(together, files.values())
        return [part for part in parts if not is_empty(part)] or parts[:1]

    def _decode_now(
        self,
        table: TableDef,
        views: Sequence[SegmentView],
        columns: tuple[str, ...],
        predicates: tuple[BoundPredicate, ...],
    ) -> bool:
        rows = sum(view.meta.row_count for view in views)
        if rows <= SMALL_ROWS:
            return True
        seen = [self._repeated.again(view.meta.segment_id, columns) for view in views]
        # Decoding gives up skipping row groups, so what asks for few rows stays with Parquet: by
        # its key, that is. Values of other columns are all over the segment as a rule.
        key = table.primary_key
        selective = key is not None and any(
            predicate.op in ("=", "in") and predicate.column == key.name for predicate in predicates
        )
        share = len(columns) / max(len(table.columns), 1)
        decoded_bytes = 6 * share * sum(view.meta.size_bytes for view in views)
        return all(seen) and not selective and decoded_bytes < self._cache_bytes

    def _hot(
        self,
        snapshot: PartitionSnapshot,
        request: ScanRequest,
        columns: tuple[str, ...],
        prefix: tuple[str, str] | None,
    ) -> ArrowPart:
        hot, hot_deleted = snapshot.hot, snapshot.hot_deleted
        columns = columns or ("_seq",)  # a table without columns would have no rows
        rows = selected(hot, columns, deleted=None)
        if request.include_deleted and hot_deleted.num_rows:
            rows = pa.concat_tables([rows, selected(hot_deleted, columns, deleted=True)])
        return ArrowPart(prefixed(rows, request.columns, prefix))

    def _expired_before_us(self, table: TableDef) -> int:
        assert table.options.ttl_seconds is not None
        return self._clock.now_us() - table.options.ttl_seconds * 1_000_000

    def _from_arrow(
        self,
        table: TableDef,
        view: SegmentView,
        request: ScanRequest,
        columns: tuple[str, ...],
        prefix: tuple[str, str] | None,
    ) -> ArrowPart:
        shown = columns or ("_seq",)
        stored = [name for name in shown if name != "_deleted"] or ["_seq"]
        if len(view.removed) and not request.include_deleted:
            rows = self._live.read(view.meta, table, stored, view.removed)
            return ArrowPart(
                prefixed(selected(rows, shown, deleted=False), request.columns, prefix)
            )
        needs_seq = len(view.removed) > 0 and "_seq" not in stored
        rows = self._reader.read(
            view.meta, table, [*stored, *(["_seq"] if needs_seq else [])], keep_dictionaries=True
        )
        flags = None
        if "_deleted" in columns and len(view.deleted):
            flags = mask_of(rows.column("_seq").to_numpy(), view.deleted)
        hidden = left_out(view, request)
        if len(hidden):
            kept = ~mask_of(rows.column("_seq").to_numpy(), hidden)
            rows = rows.filter(pa.array(kept))
            flags = None if flags is None else flags[kept]
        chosen = selected(rows, shown, deleted=False if flags is None else pa.array(flags))
        return ArrowPart(prefixed(chosen, request.columns, prefix))

    def _from_parquet(
        self,
        table: TableDef,
        view: SegmentView,
        request: ScanRequest,
        direct: list[tuple[str, str]],
        prefix: tuple[str, str] | None,
    ) -> ParquetPart:
        projections = list(direct)
        if prefix is not None:
            quoted = "'" + prefix[1].replace("'", "''") + "'"
            projections.append((quoted, prefix[0]))
        order = {name: at for at, name in enumerate(request.columns)}
        projections.sort(key=lambda item: order[item[1]])
        path = self._reader.verified_path(view.meta, table)
        hidden = left_out(view, request)
        return ParquetPart(
            paths=(path,),
            directories=(path.rpartition("/")[0],),
            projections=tuple(projections),
            removed=hidden if len(hidden) else None,
            deleted=view.deleted if request.include_deleted and len(view.deleted) else None,
        )


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

    def scan(
        self, request: ScanRequest, predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        """Return the parts of one request; the promise is that of `ScanProvider`."""
        match request.relation.key:
            case LocalRef() | DerivedRef() as ref:
                return (ArrowPart(self._in_memory[ref].select(list(request.columns))),)
            case RegisteredRef() as ref:
                return self._scans.registered.read(self._registered[ref], request, predicates)
            case TableRef(table_key=table_key):
                partition = PartitionKey(table_key, self._scope)
                if partition not in self._tables:
                    partition = PartitionKey(table_key, "")
                table = self._tables[partition]
                snapshot = self._snapshots[partition]
                return tuple(
                    self._scans.read(
                        table, snapshot, request, predicates, None, from_files=self._from_files
                    )
                )
            case AllScopesRef(table_key=table_key):
                parts: list[Part] = []
                for scope in self._scopes[table_key]:
                    partition = PartitionKey(table_key, scope)
                    parts += self._scans.read(
                        self._tables[partition],
                        self._snapshots[partition],
                        request,
                        predicates,
                        ("user_id", scope),
                        from_files=self._from_files,
                    )
                return tuple(parts) or (ArrowPart(empty_table(request)),)
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
