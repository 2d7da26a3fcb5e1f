"""Random types, values and tables for the tests of segments."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from kalamdb_lab.arrow.arrays import array_from_storage, storage_from_array
from kalamdb_lab.arrow.schemas import field_for
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import INTEGER_BOUNDS, KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.ids import PartitionKey, TableId
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, SchemaChange, TableDef, TableKind
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.reader import SEQ_FIELD, SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.versions import converted_value
from kalamdb_lab.segments.writer import write_segment

PARTITION = PartitionKey(7, "alice")

SCALARS = [
    types.BOOLEAN,
    types.TINYINT,
    types.SMALLINT,
    types.INT,
    types.BIGINT,
    types.UTINYINT,
    types.USMALLINT,
    types.UINTEGER,
    types.UBIGINT,
    types.FLOAT,
    types.DOUBLE,
    types.TEXT,
    types.BYTES,
    types.JSON,
    types.TIMESTAMP,
    types.DATETIME,
    types.DATE,
    types.TIME,
    types.UUID,
    types.INTERVAL,
    types.decimal(9, 2),
    types.decimal(18, 0),
    types.decimal(38, 10),
    types.decimal(4, 4),
    types.embedding(1),
    types.embedding(3),
]
KEYS = [data_type for data_type in SCALARS if data_type.can_be_key]
US_PER_DAY = 86_400_000_000
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
INSTANTS = st.integers(FIRST_DAY * US_PER_DAY, (LAST_DAY + 1) * US_PER_DAY - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=90)


def data_types() -> st.SearchStrategy[KalamDataType]:
    names = st.sampled_from(["a", "b", "A b", "a.b", 'q"', "ö"])
    keys = st.sampled_from([types.INT, types.TEXT, types.UUID, types.DATE])
    return st.recursive(
        st.sampled_from(SCALARS),
        lambda inner: st.one_of(
            inner.map(types.list_of),
            st.lists(
                st.tuples(names, inner), min_size=1, max_size=3, unique_by=lambda f: f[0].lower()
            ).map(types.struct_of),
            st.builds(types.map_of, keys, inner),
        ),
        max_leaves=4,
    )


def storage_values(  # noqa: C901
    data_type: KalamDataType,
) -> st.SearchStrategy[StorageValue]:
    """Values that are not NULL themselves; their parts may be."""
    kind = data_type.kind
    if kind in INTEGER_BOUNDS:
        return st.integers(*INTEGER_BOUNDS[kind])
    match kind:
        case TypeKind.BOOLEAN:
            return st.booleans()
        case TypeKind.FLOAT:
            return st.floats(width=32)
        case TypeKind.DOUBLE:
            return st.floats()
        case TypeKind.TEXT:
            return TEXTS
        case TypeKind.JSON:
            return st.sampled_from(["{}", '{"a": [1, 2]}', "null", "1e3", '"ö"'])
        case TypeKind.BYTES:
            return st.binary(max_size=90)
        case TypeKind.TIMESTAMP | TypeKind.DATETIME:
            return INSTANTS
        case TypeKind.DATE:
            return st.integers(FIRST_DAY, LAST_DAY)
        case TypeKind.TIME:
            return st.integers(0, US_PER_DAY - 1)
        case TypeKind.UUID:
            return st.binary(min_size=16, max_size=16)
        case TypeKind.DECIMAL:
            bound = 10**data_type.precision - 1
            return st.integers(-bound, bound).map(
                lambda n: Decimal(f"{n}e-{data_type.scale}") if data_type.scale else Decimal(n)
            )
        case TypeKind.EMBEDDING:
            component = st.floats(width=32, allow_nan=False, allow_infinity=False)
            size = data_type.dimension
            return st.lists(component, min_size=size, max_size=size).map(
                lambda numbers: struct.pack(f"<{size}f", *numbers)
            )
        case TypeKind.INTERVAL:
            int32 = st.integers(-(2**31) + 1, 2**31 - 1)
            return st.tuples(int32, int32, st.integers(-(10**15), 10**15).map(lambda us: us * 1000))
        case TypeKind.LIST:
            return st.lists(nullable(data_type.item), max_size=4)
        case TypeKind.STRUCT:
            return st.fixed_dictionaries(
                {name: nullable(child) for name, child in data_type.children}
            )
        case TypeKind.MAP:
            (_, key), (_, value) = data_type.children
            return st.dictionaries(storage_values(key), nullable(value), max_size=3).map(
                lambda pairs: [[key, value] for key, value in pairs.items()]
            )
    raise AssertionError(kind)


def nullable(data_type: KalamDataType) -> st.SearchStrategy[StorageValue]:
    return st.none() | storage_values(data_type)


def table_of(*versions: Sequence[ColumnDef], table_key: int = 7, name: str = "tracks") -> TableDef:
    """A USER table with these columns in each of its versions, oldest first."""
    history = tuple(
        SchemaChange(number, 0, "root", "", tuple(columns))
        for number, columns in enumerate(versions, 1)
    )
    return TableDef(table_key, TableId("studio", name), TableKind.USER, history)


def older(table: TableDef, schema_version: int) -> TableDef:
    """The table as it was in an older version."""
    return TableDef(table.table_key, table.table_id, table.kind, table.history[:schema_version])


def rows_of(
    table: TableDef, values: dict[str, Sequence[StorageValue]], *, first_seq: int = 100
) -> pa.Table:
    """Rows as `write_segment` takes them, from storage values by column."""
    arrays = [
        array_from_storage(list(values[column.name]), column.data_type) for column in table.columns
    ]
    count = len(arrays[0])
    seqs = pa.array(range(first_seq, first_seq + 2 * count, 2), pa.int64())
    schema = pa.schema([*(field_for(column) for column in table.columns), SEQ_FIELD])
    return pa.Table.from_arrays([*arrays, seqs], schema=schema)


def same(left: Any, right: Any) -> bool:
    """Equality of storage values to the bit, NaN included."""
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return type(left) is type(right) and bool(left == right)


Values = dict[str, Sequence[StorageValue]]


def written(storage: Storage, table: TableDef, rows: pa.Table, segment_id: int = 1) -> SegmentMeta:
    directory = storage.directory(table.table_id, PARTITION.scope)
    return write_segment(
        storage, table, PARTITION, directory, segment_id, rows, created_at_us=1_000
    )


def reader_of(storage: Storage, budget_bytes: int = 50_000_000) -> SegmentReader:
    return SegmentReader({"local": storage}.__getitem__, SegmentCache(budget_bytes))


def stored_values(rows: pa.Table, name: str, data_type: KalamDataType) -> list[StorageValue]:
    return storage_from_array(rows.column(name), data_type)


@st.composite
def tables(draw: st.DrawFn) -> tuple[TableDef, Values]:
    chosen = draw(st.lists(data_types(), min_size=1, max_size=5))
    names = draw(
        st.lists(
            st.sampled_from(["a", "a.b", "b", "Select", 'quo"te', "ö b", "s.a", "list", "x" * 64]),
            min_size=len(chosen),
            max_size=len(chosen),
            unique=True,
        )
    )
    columns = [
        ColumnDef(10 + number, name, data_type)
        for number, (name, data_type) in enumerate(zip(names, chosen, strict=True))
    ]
    count = draw(st.integers(1, 12))
    values: Values = {
        column.name: draw(st.lists(nullable(column.data_type), min_size=count, max_size=count))
        for column in columns
    }
    return table_of(columns), values


WIDENINGS = [
    (types.SMALLINT, types.BIGINT),
    (types.INT, types.decimal(12, 2)),
    (types.UBIGINT, types.DOUBLE),
    (types.BIGINT, types.DOUBLE),
    (types.decimal(9, 2), types.decimal(38, 10)),
    (types.decimal(38, 10), types.DOUBLE),
    (types.FLOAT, types.DOUBLE),
    (types.DATE, types.TIMESTAMP),
    (types.TIMESTAMP, types.DATETIME),
    (types.DATETIME, types.TIMESTAMP),
    (types.JSON, types.TEXT),
    (types.INT, types.TEXT),
    (types.BOOLEAN, types.TEXT),
    (types.UUID, types.TEXT),
]


@st.composite
def histories(draw: st.DrawFn) -> tuple[TableDef, Values]:
    """A table of two versions: columns kept, renamed, retyped, dropped, added with a fill."""
    kept = draw(st.lists(st.sampled_from(SCALARS), min_size=1, max_size=3))
    retyped = draw(st.lists(st.sampled_from(WIDENINGS), max_size=3))
    added = draw(st.lists(st.sampled_from(SCALARS), max_size=3))
    first, second = [], []
    for number, data_type in enumerate(kept):
        first.append(ColumnDef(number + 1, f"kept_{number}", data_type))
        # Names change places: values follow the column.
        second.append(ColumnDef(number + 1, f"kept_{(number + 1) % len(kept)}", data_type))
    for number, (old, new) in enumerate(retyped, 10):
        first.append(ColumnDef(number, f"retyped_{number}", old))
        second.append(ColumnDef(number, f"retyped_{number}", new))
    first.append(ColumnDef(20, "gone", types.INT))
    for number, data_type in enumerate(added, 30):
        fill = draw(nullable(data_type))
        name = "gone" if number == 30 else f"added_{number}"
        second.append(ColumnDef(number, name, data_type, fill=fill))
    count = draw(st.integers(1, 6))
    values: Values = {
        column.name: draw(st.lists(nullable(column.data_type), min_size=count, max_size=count))
        for column in first
    }
    return table_of(first, second), values


def expected(table: TableDef, values: Values, column: ColumnDef) -> list[StorageValue]:
    for old in table.columns_at(1):
        if old.column_id == column.column_id:
            return [
                converted_value(value, old.data_type, column.data_type, column=column.name)
                for value in values[old.name]
            ]
    return [column.fill] * len(next(iter(values.values())))
