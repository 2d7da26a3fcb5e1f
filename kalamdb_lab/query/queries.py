"""Queries of one user: names, rights, plan cache, snapshot and engine brought together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.authorization.gateway import authorize_namespace
from kalamdb_lab.authorization.names import authorize_tree
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import NotFoundError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue
from kalamdb_lab.model.ids import (
    DEFAULT_NAMESPACE,
    INFORMATION_SCHEMA,
    ROOT_USER,
    SYSTEM_NAMESPACE,
    TableId,
)
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.leases import Leases
from kalamdb_lab.query.batches import Batch
from kalamdb_lab.query.cancellation import Cancellation
from kalamdb_lab.query.direct import Direct, DirectQueries, only_table, recognised
from kalamdb_lab.query.duck import Bounds
from kalamdb_lab.query.parameters import StatementContext
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.plan_cache import PlanCache
from kalamdb_lab.query.planner import Planner
from kalamdb_lab.query.predicates import bind
from kalamdb_lab.query.relation_keys import AllScopesRef, TableRef
from kalamdb_lab.query.relations import Relation
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.resolver import CatalogResolver
from kalamdb_lab.query.table_scans import StatementScans, TableScans
from kalamdb_lab.query.view_columns import ViewColumns

_ANYBODY = ExecutionContext(
    user_id=ROOT_USER,
    actor_id=ROOT_USER,
    role=Role.SYSTEM,
    namespace=DEFAULT_NAMESPACE,
    request_id="",
    origin="catalog",
    now_us=0,
)
"""For whom definitions are planned: they are public, and no row is read."""


@dataclass(frozen=True, slots=True)
class ScanEstimate:
    """What one relation of a query would cost: EXPLAIN's row about it.

    Attributes
    ----------
    detail : str
        Scope, columns and the conditions that prune segments.
    search : str or None
        How the nearest rows would be found, where only they are read.
    """

    name: str
    detail: str
    segments_kept: int
    segments_total: int
    estimated_rows: int | None
    search: str | None = None


class Queries:
    """Runs trees as the user of a request, at the newest snapshot.

    Plans are kept by the caller's key, the user's role and namespace, and the revision of the
    catalog: whatever could change the meaning or the right of a statement makes a new plan.

    Attributes
    ----------
    before_reading : dict of int to callable
        What is called before the rows of a table are read, by the key of the table.
    """

    def __init__(
        self,
        catalog: Catalog,
        scans: TableScans,
        planner: Planner,
        direct: DirectQueries,
        leases: Leases,
        *,
        result_bytes: int,
    ) -> None:
        self._bounds = Bounds(size_bytes=result_bytes)
        self._catalog = catalog
        self._scans = scans
        self._planner = planner
        self.before_reading: dict[int, Callable[[], None]] = {}
        self._direct_queries = direct
        self._leases = leases
        self._directs: PlanCache[tuple[Direct, TableDef] | None] = PlanCache()
        self.plans: PlanCache[Plan] = PlanCache()
        self.views = ViewColumns(catalog, lambda tree: self.query_fields(tree, Request(_ANYBODY)))

    # --- queries ----------------------------------------------------------------------------

    def plan(
        self,
        tree: exp.Expression,
        request: Request,
        *,
        text_semantics: bool = True,
        cache_key: Hashable | None = None,
    ) -> Plan:
        """Return the checked plan of a query; raises what the user must not or cannot ask."""
        context = request.context

        def make() -> Plan:
            authorize_tree(tree, context.role)
            resolver = self._resolver(request)
            return self._planner.plan(
                tree,
                resolver,
                text_semantics=text_semantics,
                functions=request.local.functions,
            )

        if cache_key is None:
            return make()
        return self.plans.get_or_make((text_semantics, self._key(cache_key, request)), make)

    def _resolver(self, request: Request) -> CatalogResolver:
        return CatalogResolver(self._catalog, request.context, request.local, self.views)

    def _key(self, cache_key: Hashable, request: Request) -> Hashable:
        context = request.context
        return (
            cache_key,
            context.role,
            context.namespace,
            context.acts_for_other,
            self._catalog.revision,
            request.local.identity,
        )

    def _direct(
        self, tree: exp.Expression, request: Request, cache_key: Hashable
    ) -> pa.Table | None:
        """Answer a query without the engine, if it is of a kind that needs none."""
        context = request.context

        def recognise() -> tuple[Direct, TableDef] | None:
            named = only_table(tree)
            if named is None:
                return None
            resolver = self._resolver(request)
            try:
                found = resolver.resolve(tuple(part.name for part in named.parts))
            except NotFoundError:
                return None  # the planner finds the words
            if not isinstance(found, Relation) or not isinstance(found.key, TableRef):
                return None
            table = self._catalog.table_by_key(found.key.table_key)
            direct = None if table is None else recognised(tree, table)
            return None if direct is None or table is None else (direct, table)

        known = self._directs.get_or_make(self._key(cache_key, request), recognise)
        if known is None:
            return None
        direct, table = known
        if table.table_key in self.before_reading:
            self.before_reading[table.table_key]()
        with self._scans.current(table):
            return self._direct_queries.answer(direct, table, context.partition(table), request)

    def run(
        self,
        tree: exp.Expression,
        request: Request,
        *,
        text_semantics: bool = True,
        cache_key: Hashable | None = None,
    ) -> pa.Table:
        """Return all rows of a query, in canonical Arrow types with the logical types."""
        if cache_key is not None:
            answer = self._direct(tree, request, cache_key)
            if answer is not None:
                return answer
        plan = self.plan(tree, request, text_semantics=text_semantics, cache_key=cache_key)
        return self.execute(plan, request)

    def described(self, plan: Plan, request: Request) -> pa.Schema:
        """Return the columns of a plan's result; no row is read."""
        return self._planner.describe(plan, request.params, _statement_context(request))

    def execute(
        self, plan: Plan, request: Request, scans: StatementScans | None = None
    ) -> pa.Table:
        """Run a plan made by `plan` for the same request, at the newest commit by default."""
        scans = scans or self._newest(plan, request)
        with self._cancellable(request) as cancellation:
            rows = self._planner.execute(
                plan,
                scans,
                request.params,
                _statement_context(request),
                bounds=self._bounds,
                cancellation=cancellation,
            )
        request.searches.extend(scans.searches)
        return rows

    def batch(
        self,
        tree: exp.Expression,
        request: Request,
        vectors: Sequence[object],
        *,
        cache_key: Hashable,
    ) -> Batch | None:
        """Return the nearest rows of a ranking for several vectors; see `Binder.batch`."""
        plan = self.plan(tree, request, cache_key=cache_key)
        scans = self._newest(plan, request)
        with self._cancellable(request) as cancellation:
            batch = self._planner.batch(
                plan,
                scans,
                request.params,
                vectors,
                _statement_context(request),
                cancellation=cancellation,
            )
        request.searches.extend(scans.searches)
        return batch

    def stream(
        self,
        tree: exp.Expression,
        request: Request,
        *,
        text_semantics: bool = True,
        batch_rows: int,
    ) -> pa.RecordBatchReader:
        """Return a query's rows in batches; the snapshot is taken now and held to the end."""
        plan = self.plan(tree, request, text_semantics=text_semantics)
        lease = ExitStack()  # from now on, also if the first batch is asked for much later
        lease.enter_context(self._leases.holding(self._scans.visible_seq))
        with self._cancellable(request) as cancellation:
            reader = self._planner.stream(
                plan,
                self._newest(plan, request),
                request.params,
                _statement_context(request),
                batch_rows=batch_rows,
                cancellation=cancellation,
            )

        def held() -> Iterator[pa.RecordBatch]:
            with lease:
                batches = iter(reader)
                while True:
                    request.interruption.running(cancellation.cancel, cancellation.progress)
                    try:
                        batch = next(batches, None)
                    finally:
                        request.interruption.running(None)
                    if batch is None:
                        return
                    yield batch

        return pa.RecordBatchReader.from_batches(reader.schema, held())

    def describe(
        self, tree: exp.Expression, request: Request, *, text_semantics: bool = True
    ) -> pa.Schema:
        """Return the columns of a query without running it."""
        return self.described(self.plan(tree, request, text_semantics=text_semantics), request)

    def query_fields(
        self, tree: exp.Expression, request: Request
    ) -> list[tuple[str, KalamDataType]]:
        """Return name and type of each column of a query."""
        return [(item.name, kalam_type(item)) for item in self.describe(tree, request)]

    def evaluate(
        self, expressions: Sequence[exp.Expression], request: Request
    ) -> list[tuple[StorageValue, KalamDataType]]:
        """Return the values of expressions that name no columns, and their types."""
        if not expressions:
            return []
        aliases = [
            # exp.alias_ would give a subquery the alias of a table
            exp.Alias(this=expression.copy(), alias=exp.to_identifier(f"v{at}", quoted=True))
            for at, expression in enumerate(expressions)
        ]
        row = self.run(exp.Select(expressions=aliases), request)
        values = []
        for at, field in enumerate(row.schema):
            data_type = kalam_type(field)
            values.append((storage_from_array(row.column(at), data_type)[0], data_type))
        return values

    def estimates(self, tree: exp.Expression, request: Request) -> list[ScanEstimate]:
        """Return what a query would scan, in the order in which it names its relations."""
        plan = self.plan(tree, request)
        provider, estimates = self.provider(plan, request), []
        for marker, scan in plan.requests:
            kept, total, rows = provider.estimate(scan, bind(scan, _numbered(request.params)))
            said = [f"columns {', '.join(scan.columns)}"]
            if provider.is_scoped(scan):
                said.insert(0, f"scope '{request.context.user_id}'")
            if scan.predicates:
                said.append("pruned by " + ", ".join(sorted({p.column for p in scan.predicates})))
            search = None
            if scan.nearest is not None:
                count = sum(scan.nearest.counts(_numbered(request.params)) or (0,))
                is_filtered, is_plain = marker in plan.filters, plan.plain is not None
                search = provider.explained(scan, count, is_filtered=is_filtered, is_plain=is_plain)
            name, detail = scan.relation.name, "; ".join(said)
            estimates.append(ScanEstimate(name, detail, kept, total, rows, search))
        return estimates

    # --- definitions --------------------------------------------------------------------------

    def definition(self, parts: tuple[str, ...], context: ExecutionContext) -> TableDef:
        """Return a definition; those of all namespaces but ``system`` are public."""
        table_id = TableId.of(parts, namespace=context.namespace)
        authorize_namespace(table_id.namespace, context.role)
        table = self._catalog.table(table_id)
        if table.kind is not TableKind.VIEW:
            return _as_known(table, context.role)
        newest = replace(table.history[-1], columns=self.views.columns(table))
        return _as_known(replace(table, history=(*table.history[:-1], newest)), context.role)

    def definitions(self, namespace: str, context: ExecutionContext) -> list[TableDef]:
        """Return the definitions of one namespace, by name."""
        namespace = namespace.lower()
        self.check_namespace(namespace, context)
        return [_as_known(table, context.role) for table in self._catalog.tables_in(namespace)]

    def namespaces(self, context: ExecutionContext) -> list[str]:
        """Return the namespaces by name; ``system`` for dba and system only."""
        names = sorted(self._catalog.namespaces.all())
        return sorted([*names, SYSTEM_NAMESPACE]) if context.role >= Role.DBA else names

    def check_namespace(self, namespace: str, context: ExecutionContext) -> None:
        """Raise if the namespace is not there, or is ``system`` and closed to the role."""
        authorize_namespace(namespace, context.role)
        if namespace not in (SYSTEM_NAMESPACE, INFORMATION_SCHEMA):
            self._catalog.namespace(namespace)

    # --- the statement ------------------------------------------------------------------------

    def provider(self, plan: Plan, request: Request) -> StatementScans:
        """Return the rows of a plan's relations at the newest commit, to `execute` it over."""
        for _, scan in plan.requests:
            if isinstance(scan.relation.key, AllScopesRef):
                request.all_users.append(scan.relation.name)
        return self._scans.at_snapshot(
            [scan for _, scan in plan.requests], request.context.user_id, request.local
        )

    def _newest(self, plan: Plan, request: Request) -> StatementScans:
        """Return what `provider` does, after whoever is behind with its rows has caught up."""
        for _, scan in plan.requests:
            key = scan.relation.key
            if isinstance(key, TableRef) and key.table_key in self.before_reading:
                self.before_reading[key.table_key]()
        return self.provider(plan, request)

    @contextmanager
    def _cancellable(self, request: Request) -> Iterator[Cancellation]:
        cancellation = Cancellation(is_watched=request.interruption.is_watched)
        request.interruption.running(cancellation.cancel, cancellation.progress)
        try:
            yield cancellation
        finally:
            request.interruption.running(None)


def _as_known(table: TableDef, role: Role) -> TableDef:
    """Return a definition without the SELECT of a view and paths: for dba and system only."""
    if role >= Role.DBA or (table.view_sql is None and table.registered is None):
        return table
    files = table.registered and replace(table.registered, pattern="")
    return replace(table, view_sql=None, registered=files)


def _statement_context(request: Request) -> StatementContext:
    return StatementContext(request.context.user_id, request.context.now_us, request.embedder)


def _numbered(params: Sequence[object]) -> dict[int, object]:
    return dict(enumerate(params, start=1))
