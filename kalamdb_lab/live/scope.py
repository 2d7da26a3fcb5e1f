"""What one subscription looks at: the rows, the columns and the condition, and by what right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kalamdb_lab.authorization.gateway import authorize_namespace, authorize_read
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import KalamError, PermissionDeniedError
from kalamdb_lab.live.filters import Condition, Filter, Shapes
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.partition import fold_rows


class EndedError(Exception):
    """A subscription cannot go on; never leaves `live`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason, self.message = reason, message


@dataclass(frozen=True, slots=True)
class SubscriptionScope:
    """What a subscription looks at, under one definition of its table.

    Attributes
    ----------
    listed : tuple of int or None
        Ids of the columns in the column list; None for ``*``.
    used : mapping of int to str
        The names of the columns that are named, by id.
    columns : tuple of str
        The fields of a row, ``_seq`` last.
    session_id : str
        Whose end is the end of the subscription.
    """

    context: ExecutionContext
    table: TableDef
    partition: PartitionKey
    listed: tuple[int, ...] | None
    condition: Condition | None
    used: Mapping[int, str]
    columns: tuple[str, ...]
    filter: Filter | None
    session_id: str = field(compare=False)

    def now(self, catalog: Catalog, shapes: Shapes) -> SubscriptionScope:
        """Return the scope under the newest definitions and rights: itself if they are the same.

        Raises
        ------
        EndedError
            The user, the table, the right or a column that is named is gone.
        """
        context = self.context
        user = catalog.users.get(context.user_id)
        if user is not None and user.deleted_at_us is not None:
            raise EndedError("user dropped", f"User '{context.user_id}' was dropped")
        table = catalog.table_by_key(self.table.table_key)
        if table is None:
            raise EndedError("table dropped", f"Table {self.table.table_id} was dropped")
        role = Role.USER if user is None else user.role
        if table is self.table and role is context.role:
            return self
        context = replace(context, role=role)
        try:
            authorize_namespace(table.table_id.namespace, role)
            authorize_read(table, context)
        except PermissionDeniedError as error:
            raise EndedError("access revoked", error.message) from None
        if table.schema_version == self.table.schema_version:
            return replace(self, context=context, table=table)
        return self._altered(context, table, shapes)

    def _altered(
        self, context: ExecutionContext, table: TableDef, shapes: Shapes
    ) -> SubscriptionScope:
        present = {column.column_id: column for column in table.visible_columns}
        for column_id, name in self.used.items():
            column = present.get(column_id)
            if column is None or column.name.lower() != name.lower():
                raise EndedError("schema changed", f"Column '{name}' of {table.table_id} is gone")
        made = None
        if self.condition is not None:
            try:
                made = shapes.filter(self.condition, table)
                made.matching_alone(fold_rows(table, []))
            except KalamError as error:
                raise EndedError("schema changed", error.message) from None
        return replace(
            self,
            context=context,
            table=table,
            columns=columns_of(table, self.listed),
            filter=made,
        )


def columns_of(table: TableDef, listed: tuple[int, ...] | None) -> tuple[str, ...]:
    """Return the fields of a row: the columns of a list by id, or all, and ``_seq``."""
    if listed is None:
        return (*(column.name for column in table.visible_columns), "_seq")
    names = {column.column_id: column.name for column in table.visible_columns}
    return (*(names[column_id] for column_id in listed), "_seq")
