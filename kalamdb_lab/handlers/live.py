"""SUBSCRIBE, SHOW LIVE QUERIES and KILL LIVE QUERY."""

from __future__ import annotations

from typing import NoReturn

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import NotSupportedError
from kalamdb_lab.handlers.listing import Columns, listing
from kalamdb_lab.live.manager import LiveQueryManager
from kalamdb_lab.model.datatypes import BIGINT, DATETIME, TEXT
from kalamdb_lab.model.roles import Role
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.commands import KillLiveQuery, ShowLiveQueries, Subscribe

_LIVE_QUERIES: Columns = [
    ("live_id", TEXT),
    ("user_id", TEXT),
    ("namespace_id", TEXT),
    ("table_name", TEXT),
    ("query", TEXT),
    ("changes", BIGINT),
    ("created_at", DATETIME),
]


class LiveHandler:
    """Answers about open subscriptions; those of others are seen from dba on."""

    def __init__(self, catalog: Catalog, live: LiveQueryManager) -> None:
        self._catalog = catalog
        self._live = live

    def subscribe(self, statement: Subscribe, request: Request) -> NoReturn:
        """Refuse SUBSCRIBE, which has no result: it goes on."""
        raise NotSupportedError(f"{statement.kind} is not supported here; use session.subscribe")

    def show(self, statement: ShowLiveQueries, request: Request) -> Result:
        """Run SHOW LIVE QUERIES: the own ones, or all for dba and system."""
        context = request.context
        self._live.refresh()
        rows = [
            (
                entry.live_id,
                entry.user_id,
                entry.namespace,
                entry.table_name,
                entry.query,
                entry.changes,
                entry.created_at_us,
            )
            for _, entry in sorted(self._catalog.live_queries.all().items())
            if context.role >= Role.DBA or entry.user_id == context.user_id
        ]
        return listing(statement.kind, _LIVE_QUERIES, rows)

    def kill(self, statement: KillLiveQuery, request: Request) -> Result:
        """Run KILL LIVE QUERY; an unknown id, an ended one and another user's look alike."""
        self._live.kill(statement.live_id, request.context)
        return Result.of_message(statement.kind, f"Killed live query {statement.live_id}")
