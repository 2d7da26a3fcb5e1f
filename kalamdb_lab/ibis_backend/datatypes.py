"""Data types of ibis and of our own, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import ibis.common.exceptions as exc
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import pyarrow as pa

from kalamdb_lab.arrow.schemas import kalam_type, logical_field
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind

if TYPE_CHECKING:
    from kalamdb_lab.model.tables import ColumnDef

_TO_IBIS: dict[TypeKind, Callable[..., dt.DataType]] = {
    TypeKind.BOOLEAN: dt.Boolean,
    TypeKind.TINYINT: dt.Int8,
    TypeKind.SMALLINT: dt.Int16,
    TypeKind.INT: dt.Int32,
    TypeKind.BIGINT: dt.Int64,
    TypeKind.UTINYINT: dt.UInt8,
    TypeKind.USMALLINT: dt.UInt16,
    TypeKind.UINTEGER: dt.UInt32,
    TypeKind.UBIGINT: dt.UInt64,
    TypeKind.FLOAT: dt.Float32,
    TypeKind.DOUBLE: dt.Float64,
    TypeKind.TEXT: dt.String,
    TypeKind.JSON: dt.JSON,
    TypeKind.BYTES: dt.Binary,
    TypeKind.DATE: dt.Date,
    TypeKind.TIME: dt.Time,
    TypeKind.UUID: dt.UUID,
}

_FROM_IBIS: dict[type[dt.DataType], KalamDataType] = {
    dt.Boolean: types.BOOLEAN,
    dt.Int8: types.TINYINT,
    dt.Int16: types.SMALLINT,
    dt.Int32: types.INT,
    dt.Int64: types.BIGINT,
    dt.UInt8: types.UTINYINT,
    dt.UInt16: types.USMALLINT,
    dt.UInt32: types.UINTEGER,
    dt.UInt64: types.UBIGINT,
    dt.Float16: types.FLOAT,
    dt.Float32: types.FLOAT,
    dt.Float64: types.DOUBLE,
    dt.String: types.TEXT,
    dt.INET: types.TEXT,
    dt.MACADDR: types.TEXT,
    dt.JSON: types.JSON,
    dt.Binary: types.BYTES,
    dt.Date: types.DATE,
    dt.Time: types.TIME,
    dt.UUID: types.UUID,
    dt.Interval: types.INTERVAL,
    dt.Null: types.TEXT,
}


def ibis_type(data_type: KalamDataType, *, nullable: bool = True) -> dt.DataType:
    """Return what ibis calls a type; ``EMBEDDING(n)`` is ``array<float32, n>``."""
    match data_type.kind:
        case TypeKind.TIMESTAMP:
            return dt.Timestamp(scale=6, nullable=nullable)
        case TypeKind.DATETIME:
            return dt.Timestamp(timezone="UTC", scale=6, nullable=nullable)
        case TypeKind.DECIMAL:
            return dt.Decimal(data_type.precision, data_type.scale, nullable=nullable)
        case TypeKind.INTERVAL:
            return dt.Interval("us", nullable=nullable)
        case TypeKind.EMBEDDING:
            return dt.Array(dt.float32, length=data_type.dimension, nullable=nullable)
        case TypeKind.LIST:
            return dt.Array(ibis_type(data_type.item), nullable=nullable)
        case TypeKind.STRUCT:
            fields = {name: ibis_type(child) for name, child in data_type.children}
            return dt.Struct(fields, nullable=nullable)
        case TypeKind.MAP:
            (_, key), (_, item) = data_type.children
            return dt.Map(ibis_type(key), ibis_type(item), nullable=nullable)
        case kind:
            return _TO_IBIS[kind](nullable=nullable)


def kalam_type_of(dtype: dt.DataType, column: str) -> KalamDataType:
    """Return the type that holds values of an ibis type.

    Raises
    ------
    UnsupportedBackendType
        There is none; names the column.
    """
    if dtype.is_decimal():
        precision, scale = _decimal_bounds(dtype)
        if precision > types.MAX_DECIMAL_PRECISION:
            raise _unsupported(dtype, column)
        return types.decimal(precision, scale)
    if dtype.is_timestamp():
        return types.TIMESTAMP if dtype.timezone is None else types.DATETIME
    if dtype.is_array():
        length = dtype.length
        if (
            length is not None
            and dtype.value_type.is_float32()
            and 1 <= length <= types.MAX_EMBEDDING_DIMENSION
        ):
            return types.embedding(length)
        return types.list_of(kalam_type_of(dtype.value_type, column))
    if dtype.is_struct():
        return types.struct_of(
            (name, kalam_type_of(child, column)) for name, child in dtype.items()
        )
    if dtype.is_map():
        key, item = dtype.key_type, dtype.value_type
        return types.map_of(kalam_type_of(key, column), kalam_type_of(item, column))
    found = _FROM_IBIS.get(type(dtype))
    if found is None:
        raise _unsupported(dtype, column)
    return found


def _decimal_bounds(dtype: Any) -> tuple[int, int]:
    precision = 38 if dtype.precision is None else dtype.precision
    return precision, min(10, precision) if dtype.scale is None else dtype.scale


def _unsupported(dtype: dt.DataType, column: str) -> exc.UnsupportedBackendType:
    return exc.UnsupportedBackendType(f"Column '{column}': there is no type for {dtype}")


def table_schema(columns: Iterable[ColumnDef]) -> sch.Schema:
    """Return the schema of a table's columns."""
    return sch.Schema(
        {column.name: ibis_type(column.data_type, nullable=column.nullable) for column in columns}
    )


def arrow_schema(schema: pa.Schema) -> sch.Schema:
    """Return the ibis schema of Arrow fields that carry their logical types."""
    return sch.Schema(
        {field.name: ibis_type(kalam_type(field), nullable=field.nullable) for field in schema}
    )


def kalam_schema(schema: sch.Schema) -> pa.Schema:
    """Return Arrow fields in our types that carry their logical types."""
    return pa.schema(
        [
            logical_field(name, kalam_type_of(dtype, name), nullable=dtype.nullable)
            for name, dtype in schema.items()
        ]
    )
