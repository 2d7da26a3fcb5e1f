"""From a tree to Arrow: a plan is made once and executed often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.query import allowed, rewrite
from kalamdb_lab.query.duck import (
    NO_BOUNDS,
    Bounds,
    Cancellation,
    DuckEngine,
    EngineError,
)
from kalamdb_lab.query.engine_errors import StatementNames, translated
from kalamdb_lab.query.names import marker_sql, resolve_names
from kalamdb_lab.query.outcome import canonical_reader, canonical_table
from kalamdb_lab.query.parameters import StatementContext, checked_count, engine_value
from kalamdb_lab.query.predicates import bind
from kalamdb_lab.query.relations import (
    ArrowPart,
    BoundPredicate,
    NameResolver,
    Part,
    ScanProvider,
    ScanRequest,
)
from kalamdb_lab.query.scans import arrow_source, empty_table, joined, mixed_source
from kalamdb_lab.query.second_opinion import confirm
from kalamdb_lab.sql.stack import with_deep_stack

__all__ = ["Plan", "Planner", "StatementContext"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked statement, ready to run for whoever the relations were resolved for.

    Attributes
    ----------
    template : str
        The SQL, with a marker for each request.
    requests : tuple of (str, ScanRequest)
        What to scan, by marker.
    parameters : tuple of int
        The placeholders in it.
    context : frozenset of str
        What it needs to know of the statement: ``user``, ``now``, ``today``, ``time``.
    sums : bool
        True if a whole number too large for BIGINT may be a sum.
    """

    template: str
    arrow_sql: str
    requests: tuple[tuple[str, ScanRequest], ...]
    parameters: tuple[int, ...]
    context: frozenset[str]
    sums: bool
    names: StatementNames = field(compare=False)


class Planner:
    """Plans trees and runs plans on one `DuckEngine`."""

    def __init__(self, engine: DuckEngine) -> None:
        self.engine = engine

    def plan(
        self, tree: exp.Expression, resolver: NameResolver, *, text_semantics: bool = True
    ) -> Plan:
        """Return the plan of a query; ``tree`` is left as it is.

        Parameters
        ----------
        tree : sqlglot expression
            A query: SELECT, a set operation, VALUES.
        text_semantics : bool
            True for SQL text (``/`` of whole numbers is whole), False for trees of ibis.

        Raises
        ------
        NotAllowedError, NotFoundError, NotSupportedError, PermissionDeniedError, ...
            As the language says; nothing was run.
        """
        # Most statements are shallow; one that is not is planned again on a deep stack.
        return with_deep_stack(lambda: self._plan(tree, resolver, text_semantics), depth=0)

    def _plan(self, tree: exp.Expression, resolver: NameResolver, text_semantics: bool) -> Plan:
        tree = tree.copy()
        allowed.check(tree, text=text_semantics)
        if text_semantics:
            rewrite.prepare_text(tree)
        resolved = resolve_names(tree, resolver, _prepared_view)
        relations = [request.relation for request in resolved.requests.values()]
        written = rewrite.rewrite(resolved.tree, relations, text=text_semantics)
        template = rewrite.generated_sql(written.tree, text=text_semantics)
        names = StatementNames(resolved.aliases, resolved.views, written.literals)
        try:
            confirm(self.engine, template, frozenset(resolved.requests), resolved.ctes)
        except EngineError as fault:
            raise translated(fault, names) from None
        arrow_sql = template
        for marker, request in resolved.requests.items():
            arrow_sql = arrow_sql.replace(marker_sql(marker), arrow_source(marker, request))
        return Plan(
            template,
            arrow_sql,
            tuple(resolved.requests.items()),
            written.parameters,
            written.context,
            written.sums,
            names,
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
        call = self._call(plan, provider, parameters, context)
        try:
            table = self.engine.run(
                call.sql,
                call.relations,
                call.values,
                directories=call.directories,
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
        call = self._call(plan, provider, parameters, context)
        try:
            schema, batches = self.engine.stream(
                call.sql,
                call.relations,
                call.values,
                batch_rows=batch_rows,
                directories=call.directories,
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

    def describe(
        self, plan: Plan, parameters: Sequence[object], context: StatementContext
    ) -> pa.Schema:
        """Return the names and types of a plan's result; no row is read."""
        call = self._call(plan, _NoRows(), parameters, context)
        try:
            table = self.engine.run(f"FROM ({call.sql}) LIMIT 0", call.relations, call.values)
        except EngineError as fault:
            raise translated(fault, plan.names, call.values) from None
        return canonical_table(table, sums=plan.sums).schema

    def _call(
        self,
        plan: Plan,
        provider: ScanProvider,
        parameters: Sequence[object],
        context: StatementContext,
    ) -> _Call:
        given = checked_count(plan.parameters, parameters)
        values: dict[str, object] = {
            f"p{number}": engine_value(given[number]) for number in plan.parameters
        }
        for name in plan.context:
            values[f"k_{name}"] = context.value(name)
        sql = plan.arrow_sql
        relations: dict[str, pa.Table] = {}
        directories: frozenset[str] = frozenset()
        scans = [
            (marker, request, provider.scan(request, bind(request, given)))
            for marker, request in plan.requests
        ]
        if all(isinstance(part, ArrowPart) for _, _, parts in scans for part in parts):
            for marker, _, parts in scans:
                relations[marker] = joined(parts)
            return _Call(sql, relations, values, directories)
        sql = plan.template
        for marker, request, parts in scans:
            source = mixed_source(marker, request, parts)
            sql = sql.replace(marker_sql(marker), source.sql)
            relations |= source.relations
            directories |= source.directories
        return _Call(sql, relations, values, directories)


@dataclass(frozen=True, slots=True)
class _Call:
    sql: str
    relations: dict[str, pa.Table]
    values: dict[str, object]
    directories: frozenset[str]


class _NoRows:
    """A scan provider for statements that are described and not run."""

    def scan(
        self, request: ScanRequest, _predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        return (ArrowPart(empty_table(request)),)


def _prepared_view(tree: exp.Expression) -> exp.Expression:
    allowed.check(tree, text=True)
    rewrite.prepare_text(tree)
    return tree
