"""The table that a statement names, as its user may use it."""

from __future__ import annotations

from kalamdb_lab.authorization.gateway import (
    authorize_namespace,
    authorize_read,
    authorize_write,
)
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import InvalidNameError, NotSupportedError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.ids import (
    RESERVED_NAMESPACES,
    TableId,
    checked_name,
)
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.sql.statements import TableName
from kalamdb_lab.tables.writing import refuse_unwritable


class Targets:
    """Looks tables up for handlers; rights come before existence where a role lacks them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def table_id(self, name: TableName, context: ExecutionContext) -> TableId:
        """Return the full name; refuses the system namespace to user and service."""
        table_id = TableId.of(name, namespace=context.namespace)
        authorize_namespace(table_id.namespace, context.role)
        return table_id

    def table(self, name: TableName, context: ExecutionContext) -> TableDef:
        """Return a table or view whose definition the user may know."""
        return self._catalog.table(self.table_id(name, context))

    def writable(self, name: TableName, context: ExecutionContext) -> TableDef:
        """Return a table that the user may write."""
        table = self.table(name, context)
        refuse_unwritable(table)
        authorize_write(table, context)
        return table

    def readable(self, name: TableName, context: ExecutionContext) -> TableDef:
        """Return a table that the user may read."""
        table = self.table(name, context)
        authorize_read(table, context)
        return table

    def new(self, name: TableName, context: ExecutionContext) -> TableId:
        """Return the name of a table or view to be created, in a namespace that exists."""
        table_id = TableId.of(name, namespace=context.namespace)
        checked_name(table_id.name)
        if table_id.namespace in RESERVED_NAMESPACES:
            raise InvalidNameError(f"Namespace '{table_id.namespace}' is reserved")
        self._catalog.namespace(table_id.namespace)
        return table_id

    def droppable(self, name: TableName, context: ExecutionContext) -> TableId:
        """Return the full name of what is to be dropped, which is in no reserved namespace."""
        table_id = self.table_id(name, context)
        if table_id.namespace in RESERVED_NAMESPACES:
            raise InvalidNameError(f"Namespace '{table_id.namespace}' is reserved")
        return table_id

    def flushable(self, name: TableName, context: ExecutionContext, *, verb: str) -> TableDef:
        """Return a table with segments; ``verb`` is "flushed" or "compacted"."""
        table = self.stored(name, context, verb=verb)
        if table.kind is TableKind.STREAM:
            raise NotSupportedError(f"STREAM tables are not {verb}: {table.table_id}")
        return table

    def stored(self, name: TableName, context: ExecutionContext, *, verb: str) -> TableDef:
        """Return a table with rows of its own; ``verb`` says in errors what others cannot be."""
        table = self.table(name, context)
        if table.kind is TableKind.VIEW:
            raise NotSupportedError(f"{table.table_id} is a view and cannot be {verb}")
        if table.registered is not None:
            raise NotSupportedError(f"{table.table_id} is a registered table and cannot be {verb}")
        if table.is_derived:
            raise NotSupportedError(f"{table.table_id} keeps no rows and cannot be {verb}")
        return table
