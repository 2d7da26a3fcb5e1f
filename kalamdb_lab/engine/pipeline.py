"""The way of a statement: text, parse, role, handler, result."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from kalamdb_lab.authorization.names import authorize_statement
from kalamdb_lab.engine.audit import Attempt
from kalamdb_lab.errors import ConflictError, KalamError, NotSupportedError, ParametersError
from kalamdb_lab.live.event_queue import Callback, EventQueue
from kalamdb_lab.live.statement import options_of
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.query.batches import Batch
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.commands import Describe, ShowTables, Subscribe
from kalamdb_lab.sql.live import as_subscription
from kalamdb_lab.sql.parameters import bind_count, refuse_script_with_values
from kalamdb_lab.sql.parse import iterate_script
from kalamdb_lab.sql.statements import ExecuteAs, Insert, Select, Statement
from kalamdb_lab.tables.writing import SchemaChangedError

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

    from kalamdb_lab.engine.app_context import AppContext
    from kalamdb_lab.transactions.transaction import SessionTransaction

_ATTEMPTS = 5
T = TypeVar("T")
RequestFor = Callable[[tuple[Any, ...]], Request]


class ParseCache:
    """Parsed scripts by their text: a repeated text is not parsed again."""

    def __init__(self, limit: int = 1_024, text_limit: int = 10_000) -> None:
        self._limit = limit
        self._text_limit = text_limit
        self._parsed: OrderedDict[str, tuple[Statement, ...]] = OrderedDict()
        self._lock = Lock()

    def statements(self, text: str) -> Iterator[Statement]:
        """Yield the statements of a text, parsed at most once while it stays in the cache.

        Each is parsed when it is reached: a fault in a later one leaves the earlier ones run.
        """
        with self._lock:
            found = self._parsed.get(text)
            if found is not None:
                self._parsed.move_to_end(text)
        if found is not None:
            yield from found
            return
        parsed = []
        for statement in iterate_script(text):
            parsed.append(statement)
            yield statement
        if len(text) <= self._text_limit:
            with self._lock:
                self._parsed[text] = tuple(parsed)
                while len(self._parsed) > self._limit:
                    self._parsed.popitem(last=False)


class Pipeline:
    """Runs what one session hands over; its transaction is all the state between statements."""

    def __init__(self, context: AppContext, transaction: SessionTransaction) -> None:
        self._context = context
        self._transaction = transaction

    def run_text(
        self,
        text: str,
        params: tuple[Any, ...],
        request_for: RequestFor,
        as_user: str | None,
    ) -> list[Result]:
        """Run a script; the session's role and namespace are read anew for each statement."""
        # A closed session or dropped user is told before its text is looked at.
        request: Request | None = request_for(params)
        try:
            statements: Iterable[Statement] = self._context.parsed.statements(text)
            if params:
                statements = list(statements)
                refuse_script_with_values(len(statements), params)
            with self._transaction.undone_on_failure():
                return self._run_all(statements, params, request_for, request, as_user)
        except KalamError as error:
            error.statement_number = error.statement_number or 1
            raise error.at(1, 1) from None

    def run_statement(self, statement: Statement, request_for: RequestFor) -> Result:
        """Run a statement that a method said and no text, with the same checks."""
        with self._watch(statement) as attempt:
            return self._run(attempt, statement, (), request_for, None)

    def _run_all(
        self,
        statements: Iterable[Statement],
        params: tuple[Any, ...],
        request_for: RequestFor,
        request: Request | None,
        as_user: str | None,
    ) -> list[Result]:
        results = []
        for number, statement in enumerate(statements, start=1):
            try:
                wanted = statement if as_user is None else _as_user(as_user, statement)
                with self._watch(wanted) as attempt:
                    results.append(self._run(attempt, wanted, params, request_for, request))
                request = None
            except KalamError as error:
                error.statement_number = number
                raise error.at(statement.line, statement.column) from None
        return results

    def _run(
        self,
        attempt: Attempt,
        statement: Statement,
        params: tuple[Any, ...],
        request_for: RequestFor,
        request: Request | None,
    ) -> Result:
        started = time.perf_counter()
        bind_count(statement.kind, statement.parameters, params)
        first = request

        def handle() -> Result:
            nonlocal first
            request, first = first or request_for(params), None
            attempt.request = request
            authorize_statement(statement, request.context.role)
            result = self._context.handlers.handle(statement, request)
            return result.searched(request.searches)

        return _retried(handle).timed((time.perf_counter() - started) * 1_000)

    def subscribe(
        self,
        text: str,
        params: tuple[Any, ...],
        request_for: RequestFor,
        options: Mapping[str, int | None],
        session_id: str,
        callback: Callback | None,
    ) -> EventQueue:
        """Begin a subscription: SUBSCRIBE TO, LIVE SELECT, or a plain SELECT."""
        request: Request | None = request_for(params)
        try:
            statements = list(self._context.parsed.statements(text))
            refuse_script_with_values(len(statements), (text,))  # there is one reader, for one
            statement = statements[0]
        except KalamError as error:
            error.statement_number = error.statement_number or 1
            raise error.at(1, 1) from None
        try:
            wanted = _subscription_of(statement)
            # The newest commit is what it begins with, inside a transaction too.
            with self._context.audit.watch(wanted) as attempt:
                bind_count(wanted.kind, wanted.parameters, params)
                first = request

                def begin() -> EventQueue:
                    nonlocal first
                    now, first = first or request_for(params), None
                    attempt.request = now
                    authorize_statement(wanted, now.context.role)
                    return self._context.live.subscribe(
                        wanted,
                        now,
                        options_of(wanted, **options),
                        session_id=session_id,
                        callback=callback,
                    )

                return _retried(begin)
        except KalamError as error:
            error.statement_number = 1
            raise error.at(statement.line, statement.column) from None

    def run_tree(
        self,
        tree: exp.Expression,
        params: tuple[Any, ...],
        request_for: RequestFor,
        relations: Mapping[str, pa.Table],
        cache_key: Hashable | None,
    ) -> Result:
        """Run a query given as a tree."""
        started = time.perf_counter()

        def run() -> Result:
            request = attempt.request = request_for(params).with_relations(relations)
            table = self._context.queries.run(
                tree, request, text_semantics=False, cache_key=cache_key
            )
            return Result.of_table("SELECT", table).searched(request.searches)

        with self._watch(_query_of(tree)) as attempt:
            result = _retried(run)
        return result.timed((time.perf_counter() - started) * 1_000)

    def run_batch(
        self,
        ranking: Select,
        params: tuple[Any, ...],
        vectors: Sequence[object],
        request_for: RequestFor,
        answer: Callable[[Batch | None], pa.Table],
    ) -> Result:
        """Run a ranking for several vectors; each takes the place of its last parameter."""
        started = time.perf_counter()
        bind_count(ranking.kind, ranking.parameters, (*params, None))

        def run() -> Result:
            request = attempt.request = request_for(params)
            key = ("batch", ranking.text)
            batch = self._context.queries.batch(ranking.query, request, vectors, cache_key=key)
            return Result.of_table("SELECT", answer(batch)).searched(request.searches)

        with self._watch(ranking) as attempt:
            result = _retried(run)
        return result.timed((time.perf_counter() - started) * 1_000)

    def stream_tree(
        self,
        tree: exp.Expression,
        request_for: RequestFor,
        relations: Mapping[str, pa.Table],
        batch_rows: int,
        *,
        text_semantics: bool,
    ) -> pa.RecordBatchReader:
        """Run a query given as a tree and read it in batches."""

        def stream() -> pa.RecordBatchReader:
            request = attempt.request = request_for(()).with_relations(relations)
            return self._context.queries.stream(
                tree, request, text_semantics=text_semantics, batch_rows=batch_rows
            )

        with self._watch(_query_of(tree)) as attempt:
            return _retried(stream)

    def describe_tree(
        self,
        tree: exp.Expression,
        request_for: RequestFor,
        relations: Mapping[str, pa.Table],
        *,
        text_semantics: bool,
    ) -> pa.Schema:
        """Return the columns a query would give."""
        with self._watch(_query_of(tree)) as attempt:
            request = attempt.request = request_for(()).with_relations(relations)
            return self._context.queries.describe(tree, request, text_semantics=text_semantics)

    def insert_rows(self, table: str, rows: object, request_for: RequestFor) -> Result:
        """Insert a dataframe or Arrow data."""
        started = time.perf_counter()

        def insert() -> Result:
            attempt.request = request_for(())
            return self._context.handlers.insert_rows(table, rows, attempt.request)

        name = tuple(str(table).split("."))
        with self._watch(Insert(table=name, text="", line=1, column=1)) as attempt:
            result = _retried(insert)
        return result.timed((time.perf_counter() - started) * 1_000)

    def _watch(self, statement: Statement) -> Attempt:
        return self._context.audit.watch(statement, self._transaction.view)

    def definition(self, parts: tuple[str, ...], request: Request) -> TableDef:
        """Return the definition of a table that the user may know of."""
        with self._watch(Describe(table=parts, text="", line=1, column=1)) as attempt:
            attempt.request = request
            return self._context.queries.definition(parts, request.context)

    def definitions(self, namespace: str, request: Request) -> list[TableDef]:
        """Return the definitions of one namespace."""
        with self._watch(ShowTables(namespace=namespace, text="", line=1, column=1)) as attempt:
            attempt.request = request
            return self._context.queries.definitions(namespace, request.context)

    def namespaces(self, request: Request) -> list[str]:
        """Return the namespaces that the user may use."""
        return self._context.queries.namespaces(request.context)


def listed(params: object) -> tuple[Any, ...]:
    """Return the parameters that a caller gave; raises `ParametersError` for a text or a set."""
    if params is None:
        return ()
    if isinstance(params, str | bytes) or not isinstance(params, Sequence):
        raise ParametersError("Parameters must be a list or a tuple")
    return tuple(params)


def _query_of(tree: exp.Expression) -> Select:
    return Select(query=tree, text="", line=1, column=1)


def _subscription_of(statement: Statement) -> Subscribe:
    match statement:
        case Subscribe():
            return statement
        case Select():
            return as_subscription(statement)
    raise NotSupportedError(
        f"{statement.kind} is not a live query; write SUBSCRIBE TO, LIVE SELECT or SELECT"
    )


def _retried(run: Callable[[], T]) -> T:
    """Run again what others altered a table under, after it was planned."""
    for _ in range(_ATTEMPTS):
        try:
            return run()
        except SchemaChangedError:
            continue
    raise ConflictError("The table is being altered by others; run the statement again")


def _as_user(user_id: str, statement: Statement) -> ExecuteAs:
    """Return the statement as ``EXECUTE AS USER 'user_id' (statement)`` would read."""
    if statement.kind not in ("SELECT", "INSERT", "UPDATE", "DELETE", "EXPLAIN"):
        raise NotSupportedError(
            f"{statement.kind} is not allowed in EXECUTE AS USER; it takes SELECT, INSERT, UPDATE, "
            "DELETE or EXPLAIN"
        )
    return ExecuteAs(
        text=statement.text,
        line=statement.line,
        column=statement.column,
        parameters=statement.parameters,
        depth=statement.depth,
        user_id=user_id,
        statement=statement,
    )
