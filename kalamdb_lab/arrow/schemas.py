"""Arrow types and schemas of Kalam types; the logical type travels in field metadata.

The Arrow form is plain: UUID is 16 fixed bytes and JSON a string. `extended` turns these two
into the extension types that DuckDB and Parquet know, `plain` turns them back; both share the
memory of what they were given.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyarrow as pa

from kalamdb_lab.errors import InvalidDefinitionError, TypeMismatchError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind, parse_type
from kalamdb_lab.model.tables import ColumnDef

KALAM_TYPE = b"kalam_type"
"""Metadata key of the SQL name of a field's logical type."""
FIELD_ID = b"PARQUET:field_id"
"""Metadata key of the column id; Parquet keeps it as the field id."""

_ARROW: dict[TypeKind, pa.DataType] = {
    TypeKind.BOOLEAN: pa.bool_(),
    TypeKind.TINYINT: pa.int8(),
    TypeKind.SMALLINT: pa.int16(),
    TypeKind.INT: pa.int32(),
    TypeKind.BIGINT: pa.int64(),
    TypeKind.UTINYINT: pa.uint8(),
    TypeKind.USMALLINT: pa.uint16(),
    TypeKind.UINTEGER: pa.uint32(),
    TypeKind.UBIGINT: pa.uint64(),
    TypeKind.FLOAT: pa.float32(),
    TypeKind.DOUBLE: pa.float64(),
    TypeKind.TEXT: pa.string(),
    TypeKind.JSON: pa.string(),
    TypeKind.BYTES: pa.binary(),
    TypeKind.TIMESTAMP: pa.timestamp("us"),
    TypeKind.DATETIME: pa.timestamp("us", tz="UTC"),
    TypeKind.DATE: pa.date32(),
    TypeKind.TIME: pa.time64("us"),
    TypeKind.UUID: pa.binary(16),
    TypeKind.INTERVAL: pa.month_day_nano_interval(),
}
_EXTENDED = {TypeKind.UUID: pa.uuid(), TypeKind.JSON: pa.json_(pa.utf8())}

_BY_ARROW: dict[pa.DataType, KalamDataType] = {
    pa.null(): types.TEXT,
    pa.bool_(): types.BOOLEAN,
    pa.int8(): types.TINYINT,
    pa.int16(): types.SMALLINT,
    pa.int32(): types.INT,
    pa.int64(): types.BIGINT,
    pa.uint8(): types.UTINYINT,
    pa.uint16(): types.USMALLINT,
    pa.uint32(): types.UINTEGER,
    pa.uint64(): types.UBIGINT,
    pa.float16(): types.FLOAT,
    pa.float32(): types.FLOAT,
    pa.float64(): types.DOUBLE,
    pa.string(): types.TEXT,
    pa.large_string(): types.TEXT,
    pa.string_view(): types.TEXT,
    pa.binary(): types.BYTES,
    pa.large_binary(): types.BYTES,
    pa.binary_view(): types.BYTES,
    pa.date32(): types.DATE,
    pa.date64(): types.DATE,
    pa.month_day_nano_interval(): types.INTERVAL,
    pa.uuid(): types.UUID,
    pa.bool8(): types.BOOLEAN,
}


@lru_cache(maxsize=4096)
def arrow_type(data_type: KalamDataType) -> pa.DataType:
    """Return the plain Arrow type of a Kalam type."""
    match data_type.kind:
        case TypeKind.DECIMAL:
            return pa.decimal128(data_type.precision, data_type.scale)
        case TypeKind.EMBEDDING:
            return pa.list_(pa.float32(), data_type.dimension)
        case TypeKind.LIST:
            return pa.list_(arrow_type(data_type.item))
        case TypeKind.STRUCT:
            return pa.struct([(name, arrow_type(child)) for name, child in data_type.children])
        case TypeKind.MAP:
            (_, key), (_, item) = data_type.children
            return pa.map_(arrow_type(key), arrow_type(item))
        case _:
            return _ARROW[data_type.kind]


Columns = tuple[ColumnDef, ...]


@lru_cache(maxsize=4096)
def logical_field(name: str, data_type: KalamDataType, *, nullable: bool = True) -> pa.Field:
    """Return a field that carries its logical type."""
    metadata = {KALAM_TYPE: str(data_type).encode()}
    return pa.field(name, arrow_type(data_type), nullable=nullable, metadata=metadata)


def field_for(column: ColumnDef) -> pa.Field:
    """Return the field of a column: logical type and column id are in its metadata."""
    metadata = {
        KALAM_TYPE: str(column.data_type).encode(),
        FIELD_ID: str(column.column_id).encode(),
    }
    return pa.field(
        column.name, arrow_type(column.data_type), nullable=column.nullable, metadata=metadata
    )


class ArrowSchemas:
    """Arrow schemas by the columns of one schema version: a repeated look-up is a dict access.

    The columns of a table stay the same object until it is altered, and no two versions share
    one, so they are looked up by identity.

    Parameters
    ----------
    limit : int
        Schemas that are kept at most; the oldest go first.

    Attributes
    ----------
    hits, misses : int
        Look-ups answered from memory, and schemas built.
    """

    def __init__(self, limit: int = 4_096) -> None:
        self._limit = limit
        self._schemas: dict[int, tuple[Columns, pa.Schema]] = {}
        self.hits = 0
        self.misses = 0

    def of(self, columns: Columns) -> pa.Schema:
        """Return the schema of the columns of a table, hidden ones included."""
        known = self._schemas.get(id(columns))
        if known is not None and known[0] is columns:
            self.hits += 1
            return known[1]
        self.misses += 1
        schema = schema_of(columns)
        self._schemas[id(columns)] = (columns, schema)
        while len(self._schemas) > self._limit:
            self._schemas.pop(next(iter(self._schemas)), None)
        return schema


def schema_of(columns: Columns) -> pa.Schema:
    """Build the Arrow schema of columns."""
    return pa.schema([field_for(column) for column in columns])


SCHEMAS = ArrowSchemas()
"""Those of all tables of this process."""


def kalam_type(field: pa.Field) -> KalamDataType:
    """Return the logical type of a field: that of its metadata if it fits, else by Arrow type.

    Raises
    ------
    TypeMismatchError
        No Kalam type holds values of the Arrow type; names the column and the type.
    """
    arrow, metadata = field.type, field.metadata
    try:
        found = _from_arrow(arrow)
    except (LookupError, InvalidDefinitionError):
        name = arrow.type_name if isinstance(arrow, pa.OpaqueType) else str(arrow)[:80]
        raise TypeMismatchError(
            f"Column '{field.name}': there is no type for {name} values"
        ) from None
    if metadata is not None and KALAM_TYPE in metadata:
        stated = _parsed(metadata[KALAM_TYPE])
        if stated is not None and arrow_type(stated) == arrow_type(found):
            return stated
    return found


@lru_cache(maxsize=4096)
def _parsed(name: bytes) -> KalamDataType | None:
    try:
        return parse_type(name.decode())
    except (UnicodeDecodeError, InvalidDefinitionError):
        return None


@lru_cache(maxsize=4096)
def _from_arrow(arrow: pa.DataType) -> KalamDataType:
    """Return the Kalam type of an Arrow type. Raises LookupError if there is none.

    Metadata of nested fields plays no part: types that differ in it only are equal.
    """
    known = _BY_ARROW.get(arrow)
    if known is not None:
        return known
    is_ = pa.types
    if isinstance(arrow, pa.BaseExtensionType):
        return _from_extension(arrow)
    if is_.is_dictionary(arrow) or is_.is_run_end_encoded(arrow):
        return _from_arrow(arrow.value_type)
    if is_.is_nested(arrow):
        return _from_nested(arrow)
    if is_.is_decimal(arrow):
        return _decimal_for(arrow.precision, arrow.scale)
    if is_.is_timestamp(arrow):
        return types.TIMESTAMP if arrow.tz is None else types.DATETIME
    if is_.is_time(arrow):
        return types.TIME
    if is_.is_duration(arrow):
        return types.INTERVAL
    if is_.is_fixed_size_binary(arrow):
        return types.UUID if arrow.byte_width == 16 else types.BYTES
    raise LookupError(arrow)


def _from_nested(arrow: Any) -> KalamDataType:
    is_ = pa.types
    if is_.is_fixed_size_list(arrow):
        size = arrow.list_size
        if arrow.value_type == pa.float32() and 1 <= size <= types.MAX_EMBEDDING_DIMENSION:
            return types.embedding(size)
    if is_.is_map(arrow):
        return types.map_of(_from_arrow(arrow.key_type), _from_arrow(arrow.item_type))
    if is_.is_struct(arrow):
        return types.struct_of((child.name, _from_arrow(child.type)) for child in arrow)
    if is_.is_union(arrow):
        raise LookupError(arrow)
    return types.list_of(_from_arrow(arrow.value_type))


def _from_extension(arrow: Any) -> KalamDataType:
    if arrow.extension_name == "arrow.json":
        return types.JSON
    if is_hugeint(arrow):
        return types.decimal(38, 0)
    raise LookupError(arrow)


def is_hugeint(arrow: pa.DataType) -> bool:
    """Return whether this is DuckDB's form of a 128-bit whole number, signed or not."""
    return isinstance(arrow, pa.OpaqueType) and arrow.type_name in ("hugeint", "uhugeint")


def _decimal_for(precision: int, scale: int) -> KalamDataType:
    """Return the DECIMAL that holds Arrow's, whose scale may be negative or beyond 38 digits."""
    if scale < 0:
        precision, scale = precision - scale, 0
    scale = min(scale, types.MAX_DECIMAL_PRECISION)
    return types.decimal(min(max(precision, scale), types.MAX_DECIMAL_PRECISION), scale)


@lru_cache(maxsize=4096)
def extended_type(data_type: KalamDataType) -> pa.DataType:
    """Return the Arrow type with ``arrow.uuid`` and ``arrow.json`` where they belong."""
    match data_type.kind:
        case TypeKind.LIST:
            return pa.list_(extended_type(data_type.item))
        case TypeKind.STRUCT:
            return pa.struct([(name, extended_type(child)) for name, child in data_type.children])
        case TypeKind.MAP:
            (_, key), (_, item) = data_type.children
            return pa.map_(extended_type(key), extended_type(item))
        case _:
            return _EXTENDED.get(data_type.kind) or arrow_type(data_type)


def extended(table: pa.Table) -> pa.Table:
    """Return the table with UUID and JSON, nested ones too, as Arrow's extension types."""
    return _retyped(table, [extended_type(kalam_type(field)) for field in table.schema])


def plain(table: pa.Table) -> pa.Table:
    """Return the table that `extended` was given; Parquet files come back extended."""
    return _retyped(table, [arrow_type(kalam_type(field)) for field in table.schema])


def _retyped(table: pa.Table, arrow: list[pa.DataType]) -> pa.Table:
    fields = list(table.schema)
    if all(field.type == wanted for field, wanted in zip(fields, arrow, strict=True)):
        return table
    columns = [
        column if column.type == wanted else column.cast(wanted)
        for column, wanted in zip(table.columns, arrow, strict=True)
    ]
    schema = pa.schema(
        [field.with_type(wanted) for field, wanted in zip(fields, arrow, strict=True)]
    )
    return pa.Table.from_arrays(columns, schema=schema)
