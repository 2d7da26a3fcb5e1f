"""New tables and changed ones, as pure functions from definition to definition."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kalamdb_lab.errors import (
    AlreadyExistsError,
    DimensionMismatchError,
    InvalidDefinitionError,
    NotFoundError,
    NotSupportedError,
    TypeMismatchError,
)
from kalamdb_lab.model.datatypes import BIGINT, KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.ids import SYSTEM_COLUMNS, TableId
from kalamdb_lab.model.tables import (
    ColumnDef,
    EmbeddingSource,
    SchemaChange,
    TableDef,
    TableKind,
    TableOptions,
)
from kalamdb_lab.sql.statements import ColumnSpec, EmbedColumn

GENERATED_DEFAULT = "SNOWFLAKE_ID()"


def column_not_found(table: TableDef, name: str) -> NotFoundError:
    """Return the error for a column that a table does not have, with the near miss."""
    names = [column.name for column in table.visible_columns]
    folded = {column.lower(): column for column in names}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return NotFoundError(
        "Column", name, within=str(table.table_id), nearby=[folded[item] for item in near]
    )


def refuse_repeated_names(names: Iterable[str]) -> None:
    """Refuse a list of columns that holds one twice; case does not tell names apart."""
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise InvalidDefinitionError(f"Column '{name}' appears twice")
        seen.add(name.lower())


def new_columns(
    specs: Sequence[ColumnSpec], key_column: str | None, kind: TableKind
) -> tuple[ColumnDef, ...]:
    """Return the columns of CREATE TABLE, checked.

    Parameters
    ----------
    key_column : str or None
        The column of a table-level PRIMARY KEY clause.
    """
    if not specs:
        raise InvalidDefinitionError("A table needs at least one column")
    refuse_repeated_names(spec.name for spec in specs)
    keys = [spec.name for spec in specs if spec.primary_key]
    if key_column is not None:
        if not any(spec.name.lower() == key_column.lower() for spec in specs):
            raise InvalidDefinitionError(
                f"Primary key column '{key_column}' is not a column of the table"
            )
        keys.append(key_column)
    if len(keys) > 1:
        raise InvalidDefinitionError("Only one PRIMARY KEY is allowed")
    if kind is TableKind.USER and not keys:
        raise InvalidDefinitionError("USER tables require a PRIMARY KEY column")
    key = keys[0].lower() if keys else None
    columns = []
    for at, spec in enumerate(specs, start=1):
        is_key = spec.name.lower() == key
        if is_key and not spec.data_type.can_be_key:
            raise InvalidDefinitionError(
                f"Column '{spec.name}' of type {spec.data_type} cannot be a primary key"
            )
        if is_key and spec.nullable is True:
            raise InvalidDefinitionError(
                f"Primary key column '{spec.name}' cannot be declared NULL"
            )
        columns.append(_column(spec, at, at, is_key))
    return tuple(columns)


def _column(spec: ColumnSpec, column_id: int, position: int, is_key: bool) -> ColumnDef:
    default, data_type, nullable = spec.default_sql, spec.data_type, spec.nullable
    if spec.auto_increment:
        if default is not None:
            raise InvalidDefinitionError(
                f"Column '{spec.name}' cannot have both AUTO_INCREMENT and DEFAULT"
            )
        default, data_type, nullable = GENERATED_DEFAULT, BIGINT, False
    return ColumnDef(
        column_id=column_id,
        name=spec.name,
        data_type=data_type,
        nullable=nullable is not False and not is_key,
        default=default,
        position=position,
        primary_key=is_key,
    )


def new_table(
    table_key: int,
    table_id: TableId,
    kind: TableKind,
    columns: tuple[ColumnDef, ...],
    options: TableOptions,
    *,
    at_us: int,
    created_by: str,
) -> TableDef:
    """Return a table of schema version 1."""
    return TableDef(
        table_key=table_key,
        table_id=table_id,
        kind=kind,
        history=(SchemaChange(1, at_us, created_by, "CREATE TABLE", columns),),
        options=options,
        created_at_us=at_us,
        updated_at_us=at_us,
        created_by=created_by,
    )


def changed(
    table: TableDef, columns: tuple[ColumnDef, ...], change: str, *, at_us: int, changed_by: str
) -> TableDef:
    """Return the table with one more schema version.

    An index goes with its column, and when that holds no vectors any more.
    """
    step = SchemaChange(table.schema_version + 1, at_us, changed_by, change, columns)
    vectors = {c.column_id for c in columns if c.data_type.kind is TypeKind.EMBEDDING}
    indexes = tuple(index for index in table.indexes if index.column_id in vectors)
    return replace(table, history=(*table.history, step), updated_at_us=at_us, indexes=indexes)


def refuse_unalterable(table: TableDef) -> None:
    """Refuse ALTER TABLE on what is not a USER, SHARED or STREAM table of our own."""
    if table.kind is TableKind.VIEW:
        raise NotSupportedError(f"{table.table_id} is a view and cannot be altered")
    if table.kind is TableKind.SYSTEM:
        raise NotSupportedError(f"System table {table.table_id} cannot be altered")
    if table.registered is not None:
        raise NotSupportedError(f"{table.table_id} is a registered table and cannot be altered")


def present_column(table: TableDef, name: str) -> ColumnDef:
    """Return a column that ALTER names, or refuse a system column and an unknown one."""
    if name.lower() in SYSTEM_COLUMNS:
        raise InvalidDefinitionError(f"{name.lower()} is a system column and cannot be changed")
    column = table.column(name)
    if column is None:
        raise column_not_found(table, name)
    return column


def with_added(table: TableDef, spec: ColumnSpec, fill: StorageValue) -> tuple[ColumnDef, ...]:
    """Return the columns after ADD COLUMN; rows that exist show ``fill``."""
    _refuse_taken(table, spec.name)
    if spec.primary_key:
        raise InvalidDefinitionError("A primary key cannot be added to a table that exists")
    used = [column for change in table.history for column in change.columns]
    column = _column(
        spec,
        max(column.column_id for column in used) + 1,
        max(column.position for column in used) + 1,
        is_key=False,
    )
    return (*table.columns, replace(column, fill=fill))


def with_dropped(table: TableDef, name: str) -> tuple[ColumnDef, ...]:
    """Return the columns after DROP COLUMN."""
    column = present_column(table, name)
    if column.primary_key:
        raise InvalidDefinitionError(
            f"Column '{column.name}' is the primary key and cannot be dropped"
        )
    if len(table.visible_columns) == 1:
        raise InvalidDefinitionError("A table needs at least one column")
    return tuple(c for c in table.columns if c.column_id != column.column_id)


def with_renamed(table: TableDef, name: str, new_name: str) -> tuple[ColumnDef, ...]:
    """Return the columns after RENAME COLUMN; values follow the column."""
    column = present_column(table, name)
    if new_name.lower() != column.name.lower():
        _refuse_taken(table, new_name)
    return tuple(
        replace(c, name=new_name) if c.column_id == column.column_id else c for c in table.columns
    )


def with_modified(
    table: TableDef,
    column: ColumnDef,
    data_type: KalamDataType,
    *,
    nullable: bool,
    default: str | None,
    fill: StorageValue,
) -> tuple[ColumnDef, ...]:
    """Return the columns after MODIFY COLUMN; whether the values fit is not looked up here."""
    if column.primary_key and nullable:
        raise InvalidDefinitionError(f"Primary key column '{column.name}' cannot be declared NULL")
    if column.primary_key and not (
        data_type == column.data_type or column.data_type.widens_to(data_type)
    ):
        raise InvalidDefinitionError(
            f"Column '{column.name}' is the primary key; its type may only widen"
        )
    if column.primary_key and not data_type.can_be_key:
        raise InvalidDefinitionError(
            f"Column '{column.name}' of type {data_type} cannot be a primary key"
        )
    is_filled = data_type == column.data_type
    new = replace(
        column,
        data_type=data_type,
        nullable=nullable,
        default=default,
        fill=fill,
        embedding=column.embedding if is_filled else None,
    )
    return tuple(new if c.column_id == column.column_id else c for c in table.columns)


def with_embedding(table: TableDef, action: EmbedColumn) -> tuple[ColumnDef, ...]:
    """Return the columns when one is filled by an embedding function from another.

    Raises
    ------
    TypeMismatchError
        It is no EMBEDDING column, or the other one no TEXT.
    DimensionMismatchError
        The function makes vectors of another dimension.
    """
    column, source = present_column(table, action.name), present_column(table, action.source)
    if column.data_type.kind is not TypeKind.EMBEDDING:
        raise TypeMismatchError(f"Column '{column.name}' is not an EMBEDDING column")
    if source.data_type.kind is not TypeKind.TEXT:
        raise TypeMismatchError(f"Column '{source.name}' is not a TEXT column")
    if column.data_type.dimension != action.dimension:
        raise DimensionMismatchError(
            f"Column '{column.name}' expects {column.data_type.dimension} dimensions, "
            f"'{action.function}' makes {action.dimension}"
        )
    made_by = EmbeddingSource(action.function, source.column_id)
    return tuple(
        replace(c, embedding=made_by) if c.column_id == column.column_id else c
        for c in table.columns
    )


def _refuse_taken(table: TableDef, name: str) -> None:
    if table.column(name) is not None:
        raise AlreadyExistsError("Column", name, within=str(table.table_id))


def columns_of_query(fields: Sequence[tuple[str, KalamDataType]]) -> tuple[ColumnDef, ...]:
    """Return the columns of CREATE TABLE ... AS: named and typed by the query, without a key."""
    if not fields:
        raise InvalidDefinitionError("A table needs at least one column")
    refuse_repeated_names(name for name, _ in fields)
    return tuple(
        ColumnDef(column_id=at, name=name, data_type=data_type, position=at)
        for at, (name, data_type) in enumerate(fields, start=1)
    )


def is_generated(default: str | None) -> bool:
    """Return whether a default is one of the id functions: fresh for every row, never taken."""
    return default is not None and default.strip().upper() in (
        "SNOWFLAKE_ID()",
        "UUID_V7()",
        "ULID()",
    )


def exactly_widens(old: KalamDataType, new: KalamDataType) -> bool:
    """Return whether every value of ``old`` is a value of ``new`` without being looked at."""
    return old == new or (
        old.widens_to(new)
        and not (old.kind is TypeKind.BIGINT and new.kind in (TypeKind.DOUBLE, TypeKind.FLOAT))
    )
