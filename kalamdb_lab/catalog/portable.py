"""Definitions as bytes that another database, or a later version, can read."""

from __future__ import annotations

from typing import Any

import msgspec

from kalamdb_lab.catalog.definitions import namespace_of, namespace_row
from kalamdb_lab.catalog.system_tables import NAMESPACES, TABLES
from kalamdb_lab.catalog.table_rows import table_of, table_row
from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.entities import Namespace
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.store.wire import encoder, extension


def table_to_bytes(table: TableDef) -> bytes:
    """Return a table, view or registered table with its options and all its versions."""
    return _encoded(TABLES, table_row(table))


def table_from_bytes(data: bytes) -> TableDef:
    """Return the table, with the key it had; raises `CorruptError`."""
    return table_of(_decoded(TABLES, data))


def namespace_to_bytes(namespace: Namespace) -> bytes:
    """Return a namespace with its description."""
    return _encoded(NAMESPACES, namespace_row(namespace))


def namespace_from_bytes(data: bytes) -> Namespace:
    """Return the namespace; raises `CorruptError`."""
    return namespace_of(_decoded(NAMESPACES, data))


def _encoded(system_table: TableDef, row: Row) -> bytes:
    # By name: a version of KalamDB Lab may add columns to its system tables.
    names = [column.name for column in system_table.columns]
    return encoder.encode(dict(zip(names, row, strict=False)))


def _decoded(system_table: TableDef, data: bytes) -> tuple[Any, ...]:
    try:
        values = msgspec.msgpack.decode(data, type=dict[str, Any], ext_hook=extension)
    except msgspec.MsgspecError:
        raise CorruptError("A definition is damaged; restore another backup") from None
    return tuple(values.get(column.name, column.fill) for column in system_table.columns)
