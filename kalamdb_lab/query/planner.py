"""From a tree to Arrow: a plan is made once and executed often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.errors import InternalError
from kalamdb_lab.query import allowed, rewrite
from kalamdb_lab.query.cancellation import Cancellation
from kalamdb_lab.query.duck import (
    NO_BOUNDS,
    Bounds,
    DuckEngine,
    EngineError,
    PythonFunction,
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
from kalamdb_lab.query.vectors import VectorValue
from kalamdb_lab.sql.stack import with_deep_stack

_CONFIRMED_TEXTS = 256
_NO_FUNCTIONS: Mapping[str, PythonFunction] = {}

__all__ = ["Plan", "Planner", "StatementContext"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked statement, ready to run for whoever the relations were resolved for.

    Attributes
    ----------
    template : str
        The SQL, with a marker for each request.
    arrow_sql : str
        The SQL for scans that are all in memory; the engine's parser has confirmed it.
    ctes : frozenset of str
        The random names of its CTEs.
    is_limited : bool
        True if the query has a LIMIT or OFFSET of its own.
    requests : tuple of (str, ScanRequest)
        What to scan, by marker.
    parameters : tuple of int
        The placeholders in it.
    context : frozenset of str
        What it needs to know of the statement: ``user``, ``now``, ``today``, ``time``.
    sums : bool
        True if a whole number too large for BIGINT may be a sum.
    functions : tuple of PythonFunction
        The session's functions that it calls.
    vectors : tuple of VectorValue
        What distances are measured to.
    operands : frozenset of str
        The placeholders in arithmetic.
    """

    template: str
    arrow_sql: str
    requests: tuple[tuple[str, ScanRequest], ...]
    parameters: tuple[int, ...]
    context: frozenset[str]
    sums: bool
    ctes: frozenset[str]
    is_limited: bool
    names: StatementNames = field(compare=False)
    functions: tuple[PythonFunction, ...] = ()
    vectors: tuple[VectorValue, ...] = ()
    operands: frozenset[str] = frozenset()


class Planner:
    """Plans trees and runs plans on one `DuckEngine`."""

    def __init__(self, engine: DuckEngine) -> None:
        self.engine = engine
        self._confirmed: dict[str, None] = {}

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
        resolved = resolve_names(tree, resolver, _prepared_view)
        relations = [request.relation for request in resolved.requests.values()]
        written = rewrite.rewrite(resolved.tree, relations, text=text_semantics)
        is_limited = any(written.tree.args.get(clause) for clause in ("limit", "offset"))
        template = rewrite.generated_sql(written.tree, text=text_semantics)
        names = StatementNames(resolved.aliases, resolved.views, written.literals, quoted)
        arrow_sql = template
        for marker, request in resolved.requests.items():
            arrow_sql = _placed(arrow_sql, marker, arrow_source(marker, request))
        try:
            confirm(
                self.engine,
                arrow_sql,
                frozenset(resolved.requests),
                resolved.ctes,
                local=called,
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
            tuple(functions[name] for name in sorted(called)),
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
        call = self._call(plan, provider, parameters, context)
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
        call = self._call(plan, provider, parameters, context)
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

    def describe(
        self, plan: Plan, parameters: Sequence[object], context: StatementContext
    ) -> pa.Schema:
        """Return the names and types of a plan's result; no row is read."""
        call = self._call(plan, _NoRows(), parameters, context)
        # In a subquery, names that repeat would be changed.
        sql = f"FROM ({call.sql}) LIMIT 0" if plan.is_limited else f"{call.sql} LIMIT 0"
        try:
            table = self.engine.run(sql, call.relations, call.values, functions=plan.functions)
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
        in_vectors = (number for vector in plan.vectors for number in vector.numbers)
        given = checked_count((*plan.parameters, *in_vectors), parameters)
        values: dict[str, object] = {
            f"p{number}": engine_value(given[number]) for number in plan.parameters
        }
        for name in plan.operands:
            if isinstance(text := values[name], str):
                values[name] = engine_value(rewrite.number_in(text))
        for vector in plan.vectors:
            values[vector.name] = vector.bind(given)
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
        files: frozenset[str] = frozenset()
        for marker, request, parts in scans:
            source = mixed_source(marker, request, parts)
            sql = _placed(sql, marker, source.sql)
            relations |= source.relations
            directories |= source.directories
            files |= source.files
        self._confirm_files(plan, sql, relations, files)
        return _Call(sql, relations, values, directories)

    def _confirm_files(
        self, plan: Plan, sql: str, relations: Mapping[str, pa.Table], files: frozenset[str]
    ) -> None:
        """Ask for the second opinion on a text that reads files, once for the same text."""
        if sql in self._confirmed:
            return
        try:
            local = frozenset(function.name for function in plan.functions)
            confirm(self.engine, sql, frozenset(relations), plan.ctes, files, local=local)
        except EngineError as fault:
            raise translated(fault, plan.names) from None
        while len(self._confirmed) >= _CONFIRMED_TEXTS:
            self._confirmed.pop(next(iter(self._confirmed)), None)
        self._confirmed[sql] = None


def _placed(sql: str, marker: str, source: str) -> str:
    """Return ``sql`` with a source in the place of a marker, which must be there."""
    reference = marker_sql(marker)
    if reference not in sql:
        raise InternalError("The statement could not be planned safely; it was not run")
    return sql.replace(reference, source)


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
