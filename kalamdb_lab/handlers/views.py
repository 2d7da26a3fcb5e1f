"""CREATE VIEW and DROP VIEW."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.system_tables import FIRST_FREE_TABLE_KEY
from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidDefinitionError,
    NotFoundError,
    NotSupportedError,
    ParametersError,
)
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.tables import ColumnDef, SchemaChange, TableDef, TableKind, TableOptions
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.names import MAX_VIEW_DEPTH
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.query.views import qualified
from kalamdb_lab.sql.dialect import KALAM_SQL
from kalamdb_lab.sql.statements import CreateView, DropView
from kalamdb_lab.tables.definition import columns_of_query, refuse_repeated_names


class ViewHandler:
    """Define views: stored SELECTs that run with their reader's rights."""

    def __init__(
        self, catalog: Catalog, targets: Targets, queries: Queries, log: CommitLog
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._queries = queries
        self._log = log

    def create(self, statement: CreateView, request: Request) -> Result:
        """Run CREATE VIEW; unqualified names are fixed to the creator's namespace."""
        context = request.context
        view_id = self._targets.new(statement.view, context)
        present = self._catalog.find_table(view_id)
        if present is not None and present.kind is not TableKind.VIEW:
            raise AlreadyExistsError("Table", str(view_id))
        is_there = Result.of_message(
            statement.kind, f"View '{view_id}' already exists; nothing was done"
        )
        if present is not None and statement.if_not_exists:
            return is_there
        if present is not None and not statement.or_replace:
            raise AlreadyExistsError("View", str(view_id))
        if statement.query.find(exp.Placeholder) is not None:
            raise ParametersError("Parameters are not allowed in CREATE VIEW")
        query = qualified(statement.query, context.namespace)
        assert isinstance(query, exp.Query)
        if any(call.name.lower() == "all_users" for call in query.find_all(exp.Anonymous)):
            raise NotSupportedError("all_users() is not supported in a view")
        if statement.columns is None:
            refuse_repeated_names(name for name in query.named_selects if name not in ("", "*"))
        if self._depth(query, view_id, {}) > MAX_VIEW_DEPTH:
            raise InvalidDefinitionError(f"Views nest deeper than {MAX_VIEW_DEPTH}")
        names = statement.columns
        columns = self._columns(query, view_id, names, request)
        text = query.sql(dialect=KALAM_SQL, comments=False, unsupported_level=ErrorLevel.IGNORE)
        with self._log.commit() as commit:
            now = self._catalog.find_table(view_id)
            change = SchemaChange(1, commit.at_us, context.user_id, "CREATE VIEW", columns)
            if now is None:
                view = TableDef(
                    table_key=FIRST_FREE_TABLE_KEY + commit.transaction.last_seq() + 1,
                    table_id=view_id,
                    kind=TableKind.VIEW,
                    history=(change,),
                    options=TableOptions(storage_id=None),
                    created_at_us=commit.at_us,
                    updated_at_us=commit.at_us,
                    created_by=context.user_id,
                    view_sql=text,
                    view_columns=names,
                )
                self._catalog.create_table(commit, view)
            elif statement.or_replace and now.kind is TableKind.VIEW:
                step = replace(change, schema_version=now.schema_version + 1)
                view = replace(
                    now,
                    history=(*now.history, step),
                    updated_at_us=commit.at_us,
                    view_sql=text,
                    view_columns=names,
                )
                self._catalog.tables.put(commit, view)
            elif statement.if_not_exists and now.kind is TableKind.VIEW:
                return is_there  # others were faster
            else:
                self._catalog.check_free(view_id)
        return Result.of_message(statement.kind, f"View '{view_id}' created")

    def drop(self, statement: DropView, request: Request) -> Result:
        """Run DROP VIEW."""
        view_id = self._targets.droppable(statement.view, request.context)
        with self._log.commit() as commit:
            view = self._catalog.find_table(view_id)
            if view is None and not statement.if_exists:
                raise NotFoundError("View", str(view_id))
            if view is None:
                return Result.of_message(
                    statement.kind, f"View '{view_id}' does not exist; nothing was done"
                )
            if view.kind is not TableKind.VIEW:
                raise NotSupportedError(f"{view_id} is a table, not a view; use DROP TABLE")
            self._catalog.drop_tables(commit, [view])
        return Result.of_message(statement.kind, f"View '{view_id}' dropped")

    def _columns(
        self,
        query: exp.Expression,
        view_id: TableId,
        names: tuple[str, ...] | None,
        request: Request,
    ) -> tuple[ColumnDef, ...]:
        fields = self._queries.query_fields(query, request.without_relations())
        if names is not None:
            refuse_repeated_names(names)
            if len(names) != len(fields):
                raise InvalidDefinitionError(
                    f"View {view_id} lists {len(names)} columns but its query returns {len(fields)}"
                )
            fields = [(name, kind) for name, (_, kind) in zip(names, fields, strict=True)]
        return columns_of_query(fields)

    def _depth(self, query: exp.Expression, view_id: TableId, known: dict[TableId, int]) -> int:
        """Return how deep views nest once ``query`` is the SELECT of ``view_id``."""
        deepest = 0
        for table in query.find_all(exp.Table):
            if not table.db:
                continue  # a CTE: all other names are qualified
            table_id = TableId(table.db, table.name)
            if table_id == view_id:
                raise InvalidDefinitionError(f"View {view_id} refers to itself")
            found = self._catalog.find_table(table_id)
            if found is None or found.kind is not TableKind.VIEW:
                continue
            if table_id not in known:
                known[table_id] = self._depth(self._queries.views.query(found), view_id, known)
            deepest = max(deepest, known[table_id])
        return deepest + 1
