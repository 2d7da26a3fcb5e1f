"""A plan with its values and its rows: what the engine is handed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa

from kalamdb_lab.errors import InternalError, TypeMismatchError
from kalamdb_lab.query import rewrite
from kalamdb_lab.query.batches import Batch
from kalamdb_lab.query.cancellation import Cancellation
from kalamdb_lab.query.duck import DuckEngine, EngineError
from kalamdb_lab.query.engine_errors import translated
from kalamdb_lab.query.markers import marker_sql
from kalamdb_lab.query.parameters import StatementContext, checked_count, engine_value
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.predicates import bind
from kalamdb_lab.query.relations import (
    ArrowPart,
    Parameter,
    Part,
    ScanProvider,
    ScanRequest,
)
from kalamdb_lab.query.scans import joined, mixed_source
from kalamdb_lab.query.second_opinion import confirm
from kalamdb_lab.query.table_scans import StatementScans
from kalamdb_lab.query.vectors import bound

_CONFIRMED_TEXTS = 256


@dataclass(frozen=True, slots=True)
class Call:
    """What the engine is handed to run a plan once."""

    sql: str
    relations: dict[str, pa.Table]
    values: dict[str, object]
    directories: frozenset[str]


class Binder:
    """Brings plans, values and rows together."""

    def __init__(self, engine: DuckEngine) -> None:
        self._engine = engine
        self._confirmed: dict[str, None] = {}

    def call(
        self,
        plan: Plan,
        provider: ScanProvider,
        parameters: Sequence[object],
        context: StatementContext,
        cancellation: Cancellation | None = None,
    ) -> Call:
        """Return what runs a plan once, its vector searches done.

        Raises
        ------
        ParametersError, NotAllowedError, InterruptedStatementError, ...
        """
        return self._bound(plan, provider, _given(plan, parameters), context, cancellation)

    def plain(
        self,
        plan: Plan,
        scans: StatementScans,
        parameters: Sequence[object],
        context: StatementContext,
        cancellation: Cancellation | None = None,
    ) -> pa.Table | None:
        """Return the answer of a ranking that shows columns and the distance alone.

        None where the engine answers better: a filter over few rows, one that it must put into
        words, or most of many rows.
        """
        assert plan.plain is not None
        marker, request = next(item for item in plan.requests if item[1].nearest is not None)
        nearest = request.nearest
        assert nearest is not None
        given = _given(plan, parameters)
        counts = nearest.counts(given)
        vector = bound(plan.vectors, given, context.embedder)[nearest.vector]
        is_filtered = marker in plan.filters
        if vector is None or counts is None:
            return None
        if not scans.is_searched(request, sum(counts), is_filtered=is_filtered):
            return None
        passing = None
        if is_filtered:
            filtering = plan.filters[marker]
            passing = self._passing(filtering, scans, given, context, cancellation)
            if passing is None:
                return None
        matrix = np.array([vector], np.float32)
        batch = scans.batch(request, matrix, sum(counts), passing, cancellation)
        return plan.plain.answer(batch, *counts)

    def batch(
        self,
        plan: Plan,
        scans: StatementScans,
        parameters: Sequence[object],
        vectors: Sequence[object],
        context: StatementContext,
        cancellation: Cancellation | None = None,
    ) -> Batch | None:
        """Return the nearest rows of a ranking for several vectors in the place of its own.

        The vector is the last of the plan's parameters, and not among those given. None if the
        plan has no ranking whose rows can be found so, as over a view that groups.

        Raises
        ------
        DimensionMismatchError, InvalidValueError, TypeMismatchError, ...
            As for each vector alone.
        """
        number = len(parameters) + 1
        (own,) = (vector for vector in plan.vectors if vector.source == Parameter(number))
        rankings = ((m, r, r.nearest) for m, r in plan.requests if r.nearest is not None)
        ranking = next((ranking for ranking in rankings if ranking[2].vector == own.name), None)
        if ranking is None:
            return None
        marker, request, nearest = ranking
        given = _given(plan, [*parameters, None])
        several = [
            replace(own, name=str(at), source=Parameter(number + at)) for at in range(len(vectors))
        ]
        told = {number + at: vector for at, vector in enumerate(vectors)}
        queries = bound(several, told, context.embedder)
        if any(vector is None for vector in queries.values()):
            raise TypeMismatchError("A vector to search for cannot be NULL")
        matrix = np.array([queries[str(at)] for at in range(len(vectors))], np.float32)
        passing = None
        if marker in plan.filters:
            filtering = plan.filters[marker]
            call = self._bound(filtering, scans, given, context, cancellation)
            try:
                passing = self._filtered(filtering, call, cancellation)
            except EngineError as fault:
                raise translated(fault, plan.names, call.values) from None
        assert isinstance(nearest.limit, int)
        return scans.batch(request, matrix, nearest.limit, passing, cancellation)

    def _nearest(
        self,
        plan: Plan,
        marker: str,
        request: ScanRequest,
        provider: ScanProvider,
        given: Mapping[int, object],
        values: Mapping[str, object],
        context: StatementContext,
        cancellation: Cancellation | None,
    ) -> tuple[Part, ...] | None:
        """Return only the nearest rows; None where all are to be read."""
        nearest = request.nearest
        assert nearest is not None
        vector = values[nearest.vector]
        counts = nearest.counts(given)
        if vector is None or counts is None:
            return None  # the engine has the words for it
        filtering = plan.filters.get(marker)
        passing = None
        if filtering is not None:
            passing = partial(self._passing, filtering, provider, given, context, cancellation)
        return provider.nearest(request, vector, sum(counts), passing)

    def _passing(
        self,
        filtering: Plan,
        provider: ScanProvider,
        given: Mapping[int, object],
        context: StatementContext,
        cancellation: Cancellation | None,
    ) -> pa.ChunkedArray | None:
        """Return the ``_seq`` of the rows that can come through a statement.

        None where the filter cannot stand alone: it looks at rows of the query around it.
        """
        call = self._bound(filtering, provider, given, context, cancellation)
        try:
            return self._filtered(filtering, call, cancellation)
        except EngineError:
            return None  # the statement itself has the words for it

    def _filtered(
        self, filtering: Plan, call: Call, cancellation: Cancellation | None
    ) -> pa.ChunkedArray:
        table = self._engine.run(
            call.sql,
            call.relations,
            call.values,
            directories=call.directories,
            functions=filtering.functions,
            cancellation=cancellation,
        )
        return table.column(0)

    def _bound(
        self,
        plan: Plan,
        provider: ScanProvider,
        given: Mapping[int, object],
        context: StatementContext,
        cancellation: Cancellation | None,
    ) -> Call:
        values: dict[str, object] = {
            f"p{number}": engine_value(given[number]) for number in plan.parameters
        }
        for name in plan.operands:
            if isinstance(text := values[name], str):
                values[name] = engine_value(rewrite.number_in(text))
        values |= bound(plan.vectors, given, context.embedder)
        for name in plan.context:
            values[f"k_{name}"] = context.value(name)
        sql = plan.arrow_sql
        relations: dict[str, pa.Table] = {}
        directories: frozenset[str] = frozenset()
        scans: list[tuple[str, ScanRequest, tuple[Part, ...]]] = []
        for marker, request in plan.requests:
            parts = None
            if request.nearest is not None:
                parts = self._nearest(
                    plan, marker, request, provider, given, values, context, cancellation
                )
            if parts is None:
                parts = provider.scan(request, bind(request, given))
            scans.append((marker, request, parts))
        if all(isinstance(part, ArrowPart) for _, _, parts in scans for part in parts):
            for marker, _, parts in scans:
                relations[marker] = joined(parts)
            return Call(sql, relations, values, directories)
        sql = plan.template
        files: frozenset[str] = frozenset()
        for marker, request, parts in scans:
            source = mixed_source(marker, request, parts)
            sql = with_source(sql, marker, source.sql)
            relations |= source.relations
            directories |= source.directories
            files |= source.files
        self._confirm_files(plan, sql, relations, files)
        return Call(sql, relations, values, directories)

    def _confirm_files(
        self, plan: Plan, sql: str, relations: Mapping[str, pa.Table], files: frozenset[str]
    ) -> None:
        """Ask for the second opinion on a text that reads files, once for the same text."""
        if sql in self._confirmed:
            return
        try:
            local = frozenset(function.name for function in plan.functions)
            confirm(self._engine, sql, frozenset(relations), plan.ctes, files, local=local)
        except EngineError as fault:
            raise translated(fault, plan.names) from None
        while len(self._confirmed) >= _CONFIRMED_TEXTS:
            self._confirmed.pop(next(iter(self._confirmed)), None)
        self._confirmed[sql] = None


def _given(plan: Plan, parameters: Sequence[object]) -> dict[int, object]:
    in_vectors = (number for vector in plan.vectors for number in vector.numbers)
    return checked_count((*plan.parameters, *in_vectors), parameters)


def with_source(sql: str, marker: str, source: str) -> str:
    """Return ``sql`` with a source in the place of a marker, which must be there."""
    reference = marker_sql(marker)
    if reference not in sql:
        raise InternalError("The statement could not be planned safely; it was not run")
    return sql.replace(reference, source)
