"""Definitions of tables as rows of ``system.tables`` and back."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.tables import (
    AccessLevel,
    ColumnDef,
    EmbeddingSource,
    FileFormat,
    FlushPolicy,
    RegisteredFiles,
    SchemaChange,
    TableDef,
    TableKind,
    TableOptions,
    VectorIndex,
)
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.store.wire import encoder, extension, to_wire


class _Column(msgspec.Struct, array_like=True):
    column_id: int
    name: str
    data_type: bytes
    nullable: bool
    default: str | None
    position: int
    primary_key: bool
    fill: Any
    hidden: bool
    # What was written before there were embedding functions ends here.
    function: str | None = None
    text_column_id: int = 0


class _Change(msgspec.Struct, array_like=True):
    schema_version: int
    changed_at_us: int
    changed_by: str
    change: str
    columns: list[_Column]


class _Options(msgspec.Struct, array_like=True):
    storage_id: str | None
    use_user_storage: bool
    flush_rows: int | None
    flush_interval_s: int | None
    deleted_retention_hours: int | None
    ttl_seconds: int | None
    access_level: str | None


class _Files(msgspec.Struct, array_like=True):
    pattern: str
    format: str
    header: bool
    delimiter: str


class _Index(msgspec.Struct, array_like=True):
    name: str
    index_key: int
    column_id: int
    metric: str
    lists: int | None
    probes: int | None


class _Definition(msgspec.Struct, array_like=True):
    table_key: int
    kind: str
    history: list[_Change]
    options: _Options
    view_columns: list[str] | None
    registered: _Files | None = None
    is_derived: bool = False
    # What was written before there were indexes ends here.
    indexes: list[_Index] = []


_decoder = msgspec.msgpack.Decoder(_Definition, ext_hook=extension)


def table_row(table: TableDef) -> Row:
    """Return the row of ``system.tables``."""
    key = table.primary_key
    access = table.options.access_level
    return (
        table.table_id.namespace,
        table.table_id.name,
        table.kind.value,
        table.options.storage_id,
        None if access is None else access.value,
        table.schema_version,
        None if key is None or key.hidden else key.name,
        _options_json(table),
        table.registered is not None,
        table.view_sql,
        table.created_at_us,
        table.updated_at_us,
        table.created_by,
        str(table.table_id),
        _encode_definition(table),
    )


def table_of(row: Any) -> TableDef:
    """Return the table of a row."""
    try:
        definition = _decoder.decode(row[14])
    except (msgspec.MsgspecError, ArithmeticError):
        raise CorruptError(
            f"The definition of {row[0]}.{row[1]} is damaged; restore a backup"
        ) from None
    options, files = definition.options, definition.registered
    policy = None
    if options.flush_rows is not None or options.flush_interval_s is not None:
        policy = FlushPolicy(options.flush_rows, options.flush_interval_s)
    return TableDef(
        table_key=definition.table_key,
        table_id=TableId(row[0], row[1]),
        kind=TableKind(definition.kind),
        history=tuple(
            SchemaChange(
                change.schema_version,
                change.changed_at_us,
                change.changed_by,
                change.change,
                tuple(
                    ColumnDef(
                        column_id=column.column_id,
                        name=column.name,
                        data_type=KalamDataType.decode(column.data_type),
                        nullable=column.nullable,
                        default=column.default,
                        position=column.position,
                        primary_key=column.primary_key,
                        fill=column.fill,
                        hidden=column.hidden,
                        embedding=None
                        if column.function is None
                        else EmbeddingSource(column.function, column.text_column_id),
                    )
                    for column in change.columns
                ),
            )
            for change in definition.history
        ),
        options=TableOptions(
            storage_id=options.storage_id,
            use_user_storage=options.use_user_storage,
            flush_policy=policy,
            deleted_retention_hours=options.deleted_retention_hours,
            ttl_seconds=options.ttl_seconds,
            access_level=None
            if options.access_level is None
            else AccessLevel(options.access_level),
        ),
        created_at_us=row[10],
        updated_at_us=row[11],
        created_by=row[12],
        view_sql=row[9],
        view_columns=None if definition.view_columns is None else tuple(definition.view_columns),
        registered=None
        if files is None
        else RegisteredFiles(
            files.pattern, FileFormat(files.format), files.header, files.delimiter
        ),
        is_derived=definition.is_derived,
        indexes=tuple(
            VectorIndex(
                name=index.name,
                index_key=index.index_key,
                column_id=index.column_id,
                metric=index.metric,
                lists=index.lists,
                probes=index.probes,
            )
            for index in definition.indexes
        ),
    )


def _encode_definition(table: TableDef) -> bytes:
    options, files = table.options, table.registered
    policy = options.flush_policy
    return encoder.encode(
        _Definition(
            table.table_key,
            table.kind.value,
            [
                _Change(
                    change.schema_version,
                    change.changed_at_us,
                    change.changed_by,
                    change.change,
                    [
                        _Column(
                            column.column_id,
                            column.name,
                            column.data_type.encode(),
                            column.nullable,
                            column.default,
                            column.position,
                            column.primary_key,
                            to_wire(column.fill),
                            column.hidden,
                            None if column.embedding is None else column.embedding.function,
                            0 if column.embedding is None else column.embedding.column_id,
                        )
                        for column in change.columns
                    ],
                )
                for change in table.history
            ],
            _Options(
                options.storage_id,
                options.use_user_storage,
                None if policy is None else policy.rows,
                None if policy is None else policy.interval_s,
                options.deleted_retention_hours,
                options.ttl_seconds,
                None if options.access_level is None else options.access_level.value,
            ),
            None if table.view_columns is None else list(table.view_columns),
            None
            if files is None
            else _Files(files.pattern, files.format.value, files.header, files.delimiter),
            table.is_derived,
            [
                _Index(
                    index.name,
                    index.index_key,
                    index.column_id,
                    index.metric,
                    index.lists,
                    index.probes,
                )
                for index in table.indexes
            ],
        )
    )


def _options_json(table: TableDef) -> str:
    options, files = table.options, table.registered
    is_csv = files is not None and files.format is FileFormat.CSV
    said: dict[str, object] = {
        "FROM": None if files is None else files.pattern,
        "FORMAT": None if files is None else files.format.value,
        "HEADER": files.header if files is not None and is_csv else None,
        "DELIMITER": files.delimiter if files is not None and is_csv else None,
        "STORAGE_ID": options.storage_id,
        "USE_USER_STORAGE": options.use_user_storage or None,
        "FLUSH_POLICY": None if options.flush_policy is None else str(options.flush_policy),
        "DELETED_RETENTION_HOURS": options.deleted_retention_hours,
        "TTL_SECONDS": options.ttl_seconds,
        "ACCESS_LEVEL": None
        if options.access_level is None
        else options.access_level.value.upper(),
        "indexes": [_index_said(table, index) for index in table.indexes] or None,
        "embeddings": _embeddings_said(table) or None,
    }
    return json.dumps({name: value for name, value in said.items() if value is not None})


def _embeddings_said(table: TableDef) -> list[dict[str, object]]:
    names = {column.column_id: column.name for column in table.columns}
    return [
        {
            "column": column.name,
            "source": names.get(column.embedding.column_id),
            "function": column.embedding.function,
        }
        for column in table.columns
        if column.embedding is not None
    ]


def _index_said(table: TableDef, index: VectorIndex) -> dict[str, object]:
    column = next(c.name for c in table.columns if c.column_id == index.column_id)
    said = {
        "name": index.name,
        "column": column,
        "metric": index.metric,
        "lists": index.lists,
        "probes": index.probes,
    }
    return {name: value for name, value in said.items() if value is not None}
