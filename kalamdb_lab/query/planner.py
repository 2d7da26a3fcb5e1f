"""From a tree to Arrow: a plan is made once and executed often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.query import allowed, rewrite
from kalamdb_lab.query.batches import Batch
from kalamdb_lab.query.binding import Binder, with_source
from kalamdb_lab.query.cancellation import Cancellation
from kalamdb_lab.query.duck import (
    NO_BOUNDS,
    Bounds,
    DuckEngine,
    EngineError,
    PythonFunction,
)
from kalamdb_lab.query.engine_errors import StatementNames, translated
from kalamdb_lab.query.names import ResolvedTree, resolve_names
from kalamdb_lab.query.outcome import canonical_reader, canonical_table
from kalamdb_lab.query.parameters import StatementContext
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.relations import (
    ArrowPart,
    BoundPredicate,
    NameResolver,
    Part,
    ScanProvider,
    ScanRequest,
)
from kalamdb_lab.query.row_filters import CHANGES
from kalamdb_lab.query.scans import arrow_source, empty_table
from kalamdb_lab.query.second_opinion import confirm
from kalamdb_lab.query.table_scans import StatementScans
from kalamdb_lab.sql.stack import with_deep_stack
from kalamdb_lab.tables.embedding import Unread

_NO_FUNCTIONS: Mapping[str, PythonFunction] = {}


class Planner:
    """Plans trees and runs plans on one `DuckEngine`."""

    def __init__(self, engine: DuckEngine) -> None:
        self.engine = engine
        self._binder = Binder(engine)

    def plan(
        self,
        tree: exp.Expression,
        resolver: NameResolver,
        *,
        text_semantics: bool = True,
        functions: Mapping[str, PythonFunction] = _NO_FUNCTIONS,
    ) -> Plan:
        """Return the plan of a query; ``tree`` is left as it is.

        Parameters
        ----------
        tree : sqlglot expression
            A query: SELECT, a set operation, VALUES.
        text_semantics : bool
            True for SQL text (``/`` of whole numbers is whole), False for trees of ibis.
        functions : mapping
            Functions of the session by name, beside those on the list.

        Raises
        ------
        NotAllowedError, NotFoundError, NotSupportedError, PermissionDeniedError, ...
            As the language says; nothing was run.
        """
        # Most statements are shallow; one that is not is planned again on a deep stack.
        return with_deep_stack(
            lambda: self._plan(tree, resolver, text_semantics, functions), depth=0
        )

    def _plan(
        self,
        tree: exp.Expression,
        resolver: NameResolver,
        text_semantics: bool,
        functions: Mapping[str, PythonFunction],
    ) -> Plan:
        tree = tree.copy()
        called = allowed.check(tree, text=text_semantics, local=functions.keys())
        quoted: frozenset[str] = frozenset()
        if text_semantics:
            quoted = frozenset(name.name for name in tree.find_all(exp.Identifier) if name.quoted)
            rewrite.prepare_text(tree)
        for call in tree.find_all(exp.Anonymous) if called else ():
            function = functions.get(call.name.lower())
            if function is not None and dict(function.options).get("side_effects"):
                call.meta[CHANGES] = True
        resolved = resolve_names(tree, resolver, _prepared_view)
        local = tuple(functions[name] for name in sorted(called))
        filters = {
            marker: self._planned(filtering, text_semantics, quoted, local)
            for marker, filtering in resolved.filters.items()
        }
        planned = self._planned(resolved, text_semantics, quoted, local)
        return replace(planned, filters=filters, plain=resolved.plain)

    def _planned(
        self,
        resolved: ResolvedTree,
        text_semantics: bool,
        quoted: frozenset[str],
        functions: tuple[PythonFunction, ...],
    ) -> Plan:
        relations = [request.relation for request in resolved.requests.values()]
        try:
            written = rewrite.rewrite(resolved.tree, relations, text=text_semantics)
        except EngineError as fault:  # a column that no table has, found before the engine is asked
            names = StatementNames(resolved.aliases, resolved.views, frozenset(), quoted)
            raise translated(fault, names) from None
        is_limited = any(written.tree.args.get(clause) for clause in ("limit", "offset"))
        template = rewrite.generated_sql(written.tree, text=text_semantics)
        names = StatementNames(resolved.aliases, resolved.views, written.literals, quoted)
        arrow_sql = template
        for marker, request in resolved.requests.items():
            arrow_sql = with_source(arrow_sql, marker, arrow_source(marker, request))
        try:
            confirm(
                self.engine,
                arrow_sql,
                frozenset(resolved.requests),
                resolved.ctes,
                local=frozenset(function.name for function in functions),
            )
        except EngineError as fault:
            raise translated(fault, names) from None
        return Plan(
            template,
            arrow_sql,
            tuple(resolved.requests.items()),
            written.parameters,
            written.context,
            written.sums,
            resolved.ctes,
            is_limited,
            names,
            functions,
            resolved.vectors,
            written.operands,
        )

    def execute(
        self,
        plan: Plan,
        provider: ScanProvider,
        parameters: Sequence[object],
        context: StatementContext,
        *,
        bounds: Bounds = NO_BOUNDS,
        cancellation: Cancellation | None = None,
    ) -> pa.Table:
        """Run a plan and return all rows in the canonical Arrow types.

        Raises
        ------
        LimitError, InterruptedStatementError, InternalError, ...
        """
        if plan.plain is not None and isinstance(provider, StatementScans):
            rows = self._binder.plain(plan, provider, parameters, context, cancellation)
            if rows is not None:
                bounds.check(rows.num_rows, rows.nbytes)
                return rows
        call = self._binder.call(plan, provider, parameters, context, cancellation)
        try:
            table = self.engine.run(
                call.sql,
                call.relations,
                call.values,
                directories=call.directories,
                functions=plan.functions,
                bounds=bounds,
                cancellation=cancellation,
            )
        except EngineError as fault:
            raise translated(fault, plan.names, call.values) from None
        return canonical_table(table, sums=plan.sums)

    def stream(
        self,
        plan: Plan,
        provider: ScanProvider,
        parameters: Sequence[object],
        context: StatementContext,
        *,
        batch_rows: int = 122_880,
        bounds: Bounds = NO_BOUNDS,
        cancellation: Cancellation | None = None,
    ) -> pa.RecordBatchReader:
        """Run a plan and return its rows in batches, read as they are asked for.

        Faults that show up later come as errors of the same classes from the reader.
        """
        call = self._binder.call(plan, provider, parameters, context, cancellation)
        try:
            schema, batches = self.engine.stream(
                call.sql,
                call.relations,
                call.values,
                batch_rows=batch_rows,
                directories=call.directories,
                functions=plan.functions,
                bounds=bounds,
                cancellation=cancellation,
            )
        except EngineError as fault:
            raise translated(fault, plan.names, call.values) from None

        def translating() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except EngineError as fault:
                raise translated(fault, plan.names, call.values) from None

        return canonical_reader(schema, translating(), sums=plan.sums)

    def batch(
        self,
        plan: Plan,
        scans: StatementScans,
        parameters: Sequence[object],
        vectors: Sequence[object],
        context: StatementContext,
        *,
        cancellation: Cancellation | None = None,
    ) -> Batch | None:
        """Return the nearest rows of a ranking for several vectors; see `Binder.batch`."""
        return self._binder.batch(plan, scans, parameters, vectors, context, cancellation)

    def describe(
        self, plan: Plan, parameters: Sequence[object], context: StatementContext
    ) -> pa.Schema:
        """Return the names and types of a plan's result; no row is read."""
        unread = replace(context, embedder=Unread())
        call = self._binder.call(plan, _NoRows(), parameters, unread)
        # In a subquery, names that repeat would be changed.
        sql = f"FROM ({call.sql}) LIMIT 0" if plan.is_limited else f"{call.sql} LIMIT 0"
        try:
            table = self.engine.run(sql, call.relations, call.values, functions=plan.functions)
        except EngineError as fault:
            raise translated(fault, plan.names, call.values) from None
        return canonical_table(table, sums=plan.sums).schema


class _NoRows:
    """A scan provider for statements that are described and not run."""

    def scan(
        self, request: ScanRequest, _predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        return (ArrowPart(empty_table(request)),)

    def nearest(
        self,
        request: ScanRequest,
        _vector: object,
        _count: int,
        _passing: Callable[[], pa.ChunkedArray | None] | None,
    ) -> tuple[Part, ...]:
        return (ArrowPart(empty_table(request)),)


def _prepared_view(tree: exp.Expression) -> exp.Expression:
    allowed.check(tree, text=True)
    rewrite.prepare_text(tree)
    return tree
