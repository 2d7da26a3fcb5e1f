"""SELECT, and EXECUTE AS USER around another statement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kalamdb_lab.authorization.gateway import authorize_execute_as, authorize_kind
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
        """Run one query."""
        table = self._queries.run(statement.query, request, cache_key=statement.text)
        return Result.of_table(statement.kind, table)


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
        authorize_kind(statement.statement.kind, role)
        return self._handle(statement.statement, request.within(inner))
