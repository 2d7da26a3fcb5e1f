"""Arrow schemas: the logical type survives every way that keeps field metadata."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.arrow import schemas
from kalamdb_lab.arrow.arrays import array_from_storage, storage_from_array
from kalamdb_lab.errors import TypeMismatchError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, parse_type
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.tables import ColumnDef, SchemaChange, TableDef, TableKind
from kalamdb_lab.testing.strategies import cells, data_types


def table_of(*versions: tuple[ColumnDef, ...]) -> TableDef:
    history = tuple(
        SchemaChange(number, 0, "root", "", columns) for number, columns in enumerate(versions, 1)
    )
    return TableDef(7, TableId("air", "planes"), TableKind.SHARED, history)


@given(data_type=data_types)
def test_a_field_tells_its_logical_type(data_type: KalamDataType) -> None:
    field = schemas.field_for(ColumnDef(3, "c", data_type))
    assert schemas.kalam_type(field) == data_type
    assert field.metadata[b"PARQUET:field_id"] == b"3"


@given(data=st.data(), data_type=data_types)
def test_extended_tables_hold_the_same_values(
    data: st.DataObject, data_type: KalamDataType
) -> None:
    values = data.draw(st.lists(cells(data_type), max_size=4))
    field = schemas.logical_field("c", data_type)
    table = pa.Table.from_arrays([array_from_storage(values, data_type)], schema=pa.schema([field]))
    extended = schemas.extended(table)
    assert schemas.kalam_type(extended.schema.field(0)) == data_type
    back = schemas.plain(extended)
    assert back.schema.equals(table.schema, check_metadata=True)
    assert repr(storage_from_array(back["c"], data_type)) == repr(values)


@pytest.mark.parametrize(
    "name",
    ["UUID", "JSON", "DATETIME", "DECIMAL(9, 4)", "EMBEDDING(2)", "STRUCT(u UUID, j JSON[])"],
)
@pytest.mark.parametrize("way", ["ipc", "parquet", "extended parquet"])
def test_files_keep_the_logical_type(name: str, way: str) -> None:
    data_type = parse_type(name)
    column = array_from_storage([None], data_type)
    field = schemas.logical_field("c", data_type)
    table = pa.Table.from_arrays([column], schema=pa.schema([field]))
    buffer = io.BytesIO()
    if way == "ipc":
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
        back = pa.ipc.open_stream(buffer.getvalue()).read_all()
    else:
        pq.write_table(schemas.extended(table) if way.startswith("ext") else table, buffer)
        back = pq.read_table(buffer)
    assert schemas.kalam_type(back.schema.field("c")) == data_type
    assert schemas.plain(back).column("c").to_pylist() == [None]


@pytest.mark.parametrize(
    ("arrow", "name"),
    [
        (pa.null(), "TEXT"),
        (pa.dictionary(pa.int8(), pa.large_string()), "TEXT"),
        (pa.large_binary(), "BYTES"),
        (pa.binary(5), "BYTES"),
        (pa.binary(16), "UUID"),
        (pa.uuid(), "UUID"),
        (pa.json_(pa.utf8()), "JSON"),
        (pa.float16(), "FLOAT"),
        (pa.timestamp("ns"), "TIMESTAMP"),
        (pa.timestamp("s", "Europe/Berlin"), "DATETIME"),
        (pa.time32("s"), "TIME"),
        (pa.date64(), "DATE"),
        (pa.duration("ms"), "INTERVAL"),
        (pa.decimal256(20, 3), "DECIMAL(20, 3)"),
        (pa.decimal128(5, -2), "DECIMAL(7, 0)"),
        (pa.list_(pa.float32(), 3), "EMBEDDING(3)"),
        (pa.list_(pa.float64(), 3), "DOUBLE[]"),
        (pa.large_list(pa.int32()), "INT[]"),
        (pa.list_view(pa.string_view()), "TEXT[]"),
        (pa.struct([("a", pa.uint8())]), "STRUCT(a UTINYINT)"),
        (pa.map_(pa.string(), pa.float64()), "MAP(TEXT, DOUBLE)"),
    ],
)
def test_foreign_types_have_a_place(arrow: pa.DataType, name: str) -> None:
    assert str(schemas.kalam_type(pa.field("c", arrow))) == name


@pytest.mark.parametrize(
    "arrow",
    [
        pa.dense_union([pa.field("a", pa.int8())]),
        pa.struct([]),
        pa.opaque(pa.binary(8), "time_tz", "Some Engine"),
        pa.list_(pa.dense_union([pa.field("a", pa.int8())])),
    ],
)
def test_types_without_a_place_are_refused_by_column(arrow: pa.DataType) -> None:
    with pytest.raises(TypeMismatchError, match=r"^Column 'c': there is no type for ") as caught:
        schemas.kalam_type(pa.field("c", arrow))
    assert "Engine" not in str(caught.value)


def test_metadata_that_no_longer_fits_is_not_believed() -> None:
    """A dataframe library may cast a column and keep the metadata of the old one."""
    stale = schemas.logical_field("c", types.JSON).with_type(pa.int64())
    assert schemas.kalam_type(stale) == types.BIGINT
    large = schemas.logical_field("c", types.JSON).with_type(pa.large_string())
    assert schemas.kalam_type(large) == types.JSON
    garbled = pa.field("c", pa.string(), metadata={b"kalam_type": b"\xffMONEY"})
    assert schemas.kalam_type(garbled) == types.TEXT


def test_repeated_schema_lookups_build_nothing() -> None:
    first = (ColumnDef(1, "id", types.BIGINT, nullable=False, primary_key=True),)
    second = (*first, ColumnDef(2, "model", types.TEXT), ColumnDef(3, "x", types.INT, hidden=True))
    memo = schemas.ArrowSchemas(limit=2)
    newest = memo.of(second)
    assert newest.names == ["id", "model", "x"]
    assert [field.nullable for field in newest] == [False, True, True]
    assert memo.of(first).names == ["id"]
    assert memo.of(second) is newest
    assert (memo.hits, memo.misses) == (1, 2)
    memo.of((*first, *first))  # one too many: the oldest is forgotten
    assert memo.of(second).equals(schemas.schema_of(second), check_metadata=True)
    assert memo.misses == 4
