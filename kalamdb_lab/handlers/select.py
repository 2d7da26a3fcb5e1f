"""SELECT, and EXECUTE AS USER around another statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlglot import exp

from kalamdb_lab.authorization.gateway import authorize_execute_as
from kalamdb_lab.authorization.names import authorize_statement
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.model.ids import checked_user_id
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.statements import ExecuteAs, Select, Statement


class SelectHandler:
    """Run queries; plans are kept by the text."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    def select(self, statement: Select, request: Request) -> Result:
        """Run one query; with a row limit only its first rows, and count the others."""
        limit = request.row_limit
        if limit is None:
            table = self._queries.run(statement.query, request, cache_key=statement.text)
            return Result.of_table(statement.kind, table)
        first = _first_rows(statement.query, limit + 1)
        key = statement.text if first is None else ("first", limit, statement.text)
        table = self._queries.run(first or statement.query, request, cache_key=key)
        shown = table.slice(0, limit)
        if first is None or table.num_rows <= limit:
            return Result.of_table(statement.kind, shown, total_rows=table.num_rows)
        counting = exp.select(exp.Count(this=exp.Star())).from_(_subquery(statement.query))
        counted = self._queries.run(counting, request, cache_key=("count", statement.text))
        # Others may have deleted rows meanwhile; those that are shown were there.
        total = max(counted.column(0)[0].as_py(), table.num_rows)
        return Result.of_table(statement.kind, shown, total_rows=total)


def _first_rows(query: exp.Expression, count: int) -> exp.Expression | None:
    """Return a query for the first rows of another; None if that one says its own limit."""
    limit = query.args.get("limit")
    if limit is not None:
        bound = limit.expression if isinstance(limit, exp.Limit) else None
        if not isinstance(bound, exp.Literal) or not str(bound.this).isdigit():
            return None
        if int(bound.this) <= count:
            return None
    first = query.copy()
    first.set("limit", exp.Limit(expression=exp.Literal.number(count)))
    return first


def _subquery(query: exp.Expression) -> exp.Subquery:
    """Return a query as what FROM may hold; an order that changes no count is left out."""
    inner = query.copy()
    order = inner.args.get("order")
    is_whole = not inner.args.get("limit") and not inner.args.get("offset")
    if order is not None and is_whole and order.find(exp.Placeholder) is None:
        inner.set("order", None)  # one with a parameter stays: each must keep its place
    return exp.Subquery(
        this=inner, alias=exp.TableAlias(this=exp.to_identifier("counted", quoted=True))
    )


class ExecuteAsHandler:
    """Run one statement as another user: its scope, its role, its CURRENT_USER()."""

    def __init__(self, catalog: Catalog, handle: Callable[[Statement, Request], Result]) -> None:
        self._catalog = catalog
        self._handle = handle

    def execute_as(self, statement: ExecuteAs, request: Request) -> Result:
        """Run EXECUTE AS USER; afterwards the session is its own user again."""
        context = request.context
        target = checked_user_id(statement.user_id)
        role = self._catalog.role_of(target)
        authorize_execute_as(context.actor_id, context.role, target, role)
        inner = replace(context, user_id=target, role=role, acts_for_other=True)
        authorize_statement(statement.statement, role)
        return self._handle(statement.statement, request.within(inner))
