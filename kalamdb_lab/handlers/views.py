"""CREATE VIEW and DROP VIEW."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.system_tables import FIRST_FREE_TABLE_KEY
from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidDefinitionError,
    NotSupportedError,
    ParametersError,
)
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.model.tables import SchemaChange, TableDef, TableKind, TableOptions
from kalamdb_lab.partitions.commit_log import CommitLog
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
        if present is not None and statement.if_not_exists:
            return Result.of_message(
                statement.kind, f"View '{view_id}' already exists; nothing was done"
            )
        if present is not None and not statement.or_replace:
            raise AlreadyExistsError("View", str(view_id))
        if statement.query.find(exp.Placeholder) is not None:
            raise ParametersError("Parameters are not allowed in CREATE VIEW")
        query = qualified(statement.query, context.namespace)
        if present is not None and _names(query, present):
            raise InvalidDefinitionError(f"View '{view_id}' cannot read from itself")
        fields = self._queries.query_fields(query, request.without_relations())
        names = statement.columns
        if names is not None:
            refuse_repeated_names(names)
            if len(names) != len(fields):
                raise InvalidDefinitionError(
                    f"View {view_id} lists {len(names)} columns but its query returns {len(fields)}"
                )
            fields = [(name, kind) for name, (_, kind) in zip(names, fields, strict=True)]
        columns = columns_of_query(fields)
        text = query.sql(dialect=KALAM_SQL, comments=False)
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
            else:
                self._catalog.check_free(view_id)
        return Result.of_message(statement.kind, f"View '{view_id}' created")

    def drop(self, statement: DropView, request: Request) -> Result:
        """Run DROP VIEW."""
        view_id = self._targets.table_id(statement.view, request.context)
        if statement.if_exists and self._catalog.find_table(view_id) is None:
            return Result.of_message(
                statement.kind, f"View '{view_id}' does not exist; nothing was done"
            )
        with self._log.commit() as commit:
            view = self._targets.definable(statement.view, request.context)
            if view.kind is not TableKind.VIEW:
                raise NotSupportedError(f"{view_id} is a table, not a view; use DROP TABLE")
            self._catalog.drop_tables(commit, [view])
        return Result.of_message(statement.kind, f"View '{view_id}' dropped")


def _names(query: exp.Expression, view: TableDef) -> bool:
    return any(
        (table.db, table.name) == (view.table_id.namespace, view.table_id.name)
        for table in query.find_all(exp.Table)
    )
