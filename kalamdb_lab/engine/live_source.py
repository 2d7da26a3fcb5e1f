"""What `Session.live` is given, SQL text or an ibis expression, and with whose rights it runs."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kalamdb_lab.authorization.names import authorize_statement
from kalamdb_lab.errors import (
    KalamError,
    NotSupportedError,
    ParametersError,
    PermissionDeniedError,
    TypeMismatchError,
)
from kalamdb_lab.live.evaluation import LiveQuery
from kalamdb_lab.live.results import LiveResult
from kalamdb_lab.query.request import Interruption, LocalRelations, Request
from kalamdb_lab.sql.dialect import KALAM_SQL
from kalamdb_lab.sql.parameters import bind_count
from kalamdb_lab.sql.statements import Select

if TYPE_CHECKING:
    import pyarrow as pa

    from kalamdb_lab.engine.app_context import AppContext
    from kalamdb_lab.engine.audit import Attempt
    from kalamdb_lab.engine.pipeline import RequestFor
    from kalamdb_lab.engine.session import Session

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A query as `Session.live` is given it.

    Attributes
    ----------
    text : str
        As it is shown.
    namespace : str
        Where its unqualified names are looked up.
    relations : mapping of str to pa.Table
        Arrow tables that it may name; those of its session at this moment.
    functions : mapping
        Python functions that it may call.
    """

    statement: Select
    text: str
    text_semantics: bool
    cache_key: Hashable
    namespace: str
    relations: Mapping[str, pa.Table]
    functions: Mapping[str, Any]


def live_source(
    source: object, params: tuple[Any, ...], session: Session, context: AppContext
) -> LiveSource:
    """Return what a text or an expression asks.

    Raises
    ------
    NotSupportedError
        It is no query.
    PermissionDeniedError
        The expression belongs to another user's connection, or to another database.
    TypeMismatchError
        It is neither a text nor an ibis expression.
    """
    if isinstance(source, str):
        return _of_text(source, params, session, context)
    if not hasattr(source, "op") or not hasattr(source, "_find_backends"):
        raise TypeMismatchError("live() takes SQL text or an ibis expression")
    if params:
        raise ParametersError("Parameters go with SQL text; an expression has its values in it")
    backends, _ = source._find_backends()  # noqa: SLF001 - no public way asks for all of them
    if not backends:
        raise NotSupportedError("The expression reads no table of a database")
    for backend in backends:
        owner = getattr(backend, "session", None)
        if owner is None or owner not in context.sessions:
            raise NotSupportedError("The expression reads another database than this session's")
        if owner.user != session.user:
            raise PermissionDeniedError(
                "The expression belongs to another user's connection; make it of your own"
            )
    backend, owner = backends[0], backends[0].session
    tree, cache_key = backend.live_query(source)
    return LiveSource(
        Select(query=tree, text="", line=1, column=1),
        tree.sql(dialect=KALAM_SQL, comments=False),
        text_semantics=False,
        cache_key=cache_key or ("live expression", next(_numbers)),
        namespace=owner.namespace,
        relations=dict(owner.relations),
        functions=dict(owner.relations.functions),
    )


def _of_text(
    text: str, params: tuple[Any, ...], session: Session, context: AppContext
) -> LiveSource:
    try:
        statements = list(context.parsed.statements(text))
    except KalamError as fault:
        fault.statement_number = fault.statement_number or 1
        raise fault.at(1, 1) from None
    statement = statements[0]
    if len(statements) > 1:
        refusal = NotSupportedError(
            f"A live result is that of one query; this text has {len(statements)} statements"
        )
        raise refusal.at(statements[1].line, statements[1].column)
    if not isinstance(statement, Select):
        refusal = NotSupportedError(f"{statement.kind} has no live result; write a SELECT")
        raise refusal.at(statement.line, statement.column)
    bind_count(statement.kind, statement.parameters, params)
    return LiveSource(
        statement,
        statement.text,
        text_semantics=True,
        cache_key=statement.text,
        namespace=session.namespace,
        relations=dict(session.relations),
        functions=dict(session.relations.functions),
    )


class _Requests:
    """Makes a request with the user's present rights for each evaluation.

    The first is a statement of the session: audited, and stopped by its interrupt. The others
    are not; each is the same use.
    """

    def __init__(
        self,
        source: LiveSource,
        params: tuple[Any, ...],
        request_for: RequestFor,
        interruption: Interruption,
    ) -> None:
        self._source = source
        self._params = params
        self._request_for = request_for
        self._interruption = interruption
        self._local = LocalRelations(source.relations, source.functions)
        self.attempt: Attempt | None = None

    def __call__(self) -> Request:
        request = self._request_for(self._params)
        request = replace(
            request,
            context=replace(request.context, namespace=self._source.namespace),
            local=self._local,
            transaction=None,
        )
        if self.attempt is None:
            return replace(request, interruption=self._interruption)
        self.attempt.request = request
        authorize_statement(self._source.statement, request.context.role)
        return request


def open_live(
    source: LiveSource,
    params: tuple[Any, ...],
    context: AppContext,
    request_for: RequestFor,
    *,
    key: object,
    throttle_s: float,
    holds: object,
) -> LiveResult:
    """Return a live result of a source, evaluated for the first time.

    Parameters
    ----------
    request_for : callable
        Makes requests of the session with its user's present rights; called from other threads.
    key, throttle_s, holds
        See `LiveResults.open`.
    """
    statement = source.statement
    interruption = Interruption()
    requests = _Requests(source, params, request_for, interruption)
    query = LiveQuery(
        statement.query,
        source.text,
        source.text_semantics,
        source.cache_key,
        source.namespace,
        requests,
    )
    try:
        with context.audit.watch(statement) as attempt:
            requests.attempt = attempt
            try:
                return context.live_results.follow(
                    query, key=key, throttle_s=throttle_s, interruption=interruption, holds=holds
                )
            finally:
                requests.attempt = None
    except KalamError as error:
        error.statement_number = 1
        raise error.at(statement.line, statement.column) from None
