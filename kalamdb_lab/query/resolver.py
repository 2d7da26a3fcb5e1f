"""Names of a statement as one user may see them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.authorization.gateway import (
    authorize_all_users,
    authorize_namespace,
    authorize_read,
)
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import InvalidDefinitionError, NotFoundError, NotSupportedError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.datatypes import TEXT
from kalamdb_lab.model.ids import SYSTEM_COLUMNS, TableId
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind
from kalamdb_lab.query.relation_keys import (
    AllScopesRef,
    DerivedRef,
    LocalRef,
    RegisteredRef,
    TableRef,
)
from kalamdb_lab.query.relations import Relation, View
from kalamdb_lab.query.view_columns import ViewColumns

LOCAL: Final = "local"
"""What a statement may write before the name of a relation called ``local.name``."""


class CatalogResolver:
    """A `NameResolver` for one statement of one user.

    Parameters
    ----------
    local : mapping
        Relations of the session only; they hide tables of the same unqualified name.
    views : ViewColumns
        The queries of views.
    """

    def __init__(
        self,
        catalog: Catalog,
        context: ExecutionContext,
        local: Mapping[str, pa.Table],
        views: ViewColumns,
    ) -> None:
        self._catalog = catalog
        self._context = context
        self._local = local
        self._views = views

    def resolve(self, parts: tuple[str, ...]) -> Relation | View:
        """Return the relation or view of a name; the promise is that of `NameResolver`."""
        if len(parts) == 1 or (len(parts) == 2 and parts[0].lower() == LOCAL):
            name = self._local_name(".".join(parts))
            if name is not None:
                return local_relation(name, self._local[name])
        table_id = TableId.of(parts, namespace=self._context.namespace)
        authorize_namespace(table_id.namespace, self._context.role)
        table = self._catalog.find_table(table_id)
        if table is None:
            raise NotFoundError("Table", str(table_id), nearby=self._nearby(table_id))
        authorize_read(table, self._context)
        if table.kind is TableKind.VIEW:
            query = self._views.query(table)
            if table.view_columns is not None and query.find(exp.Star) is not None:
                # A column that was added since would come along under its own name.
                self._check_count(table, len(table.view_columns))
            return View(str(table_id), query, table.view_columns)
        key: object = TableRef(table.table_key, table.schema_version)
        if table.is_derived:
            key = DerivedRef(str(table.table_id), self._context.role >= Role.DBA)
        elif table.registered is not None:
            key = RegisteredRef(table.table_key, table.schema_version)
        return Relation(
            key=key,
            name=str(table_id),
            columns=table.visible_columns,
            has_system_columns=table.is_stored,
        )

    def all_users(self, table: str) -> Relation:
        """Return the relation of ``all_users('table')``."""
        authorize_all_users(self._context.role)
        table_id = TableId.of(tuple(table.split(".")), namespace=self._context.namespace)
        found = self._catalog.table(table_id)
        if not found.kind.is_scoped:
            raise NotSupportedError("all_users() works on USER and STREAM tables only")
        if found.column("user_id") is not None:
            raise InvalidDefinitionError(
                f"{table_id} has a column 'user_id' of its own; all_users() cannot add one"
            )
        user_id = ColumnDef(column_id=0, name="user_id", data_type=TEXT, position=0)
        return Relation(
            key=AllScopesRef(found.table_key, found.schema_version),
            name=str(table_id),
            columns=(user_id, *found.visible_columns),
            has_system_columns=True,
        )

    def _check_count(self, view: TableDef, lists: int) -> None:
        returned = self._views.returned(view)
        if returned is not None and returned != lists:
            raise InvalidDefinitionError(
                f"View {view.table_id} lists {lists} columns but its query returns {returned}"
            )

    def _local_name(self, name: str) -> str | None:
        if name in self._local:
            return name
        folded = name.lower()
        return next((known for known in self._local if known.lower() == folded), None)

    def _nearby(self, table_id: TableId) -> list[str]:
        """Return a near miss among what the caller may know: definitions are public."""
        names = {table.table_id.name for table in self._catalog.tables_in(table_id.namespace)}
        near = difflib.get_close_matches(table_id.name, sorted(names), n=1, cutoff=0.6)
        if near:
            return [f"{table_id.namespace}.{near[0]}"]
        elsewhere = [t for t in self._catalog.tables_in(None) if t.table_id.name == table_id.name]
        return [str(elsewhere[0].table_id)] if elsewhere else []


def local_relation(name: str, table: pa.Table) -> Relation:
    """Return the relation of a session's own Arrow table."""
    columns = tuple(
        ColumnDef(column_id=at, name=field.name, data_type=kalam_type(field), position=at)
        for at, field in enumerate(table.schema, start=1)
        if field.name not in SYSTEM_COLUMNS and not field.name.startswith("__kalam")
    )
    return Relation(LocalRef(name), name, columns, has_system_columns="_seq" in table.schema.names)
