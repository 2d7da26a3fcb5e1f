"""What the engine answers, in our types."""

import uuid
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from kalamdb_lab.arrow import schemas
from kalamdb_lab.arrow.arrays import python_from_array
from kalamdb_lab.arrow.results import result_batch, result_table
from kalamdb_lab.errors import InvalidValueError, TypeMismatchError, ValueOutOfRangeError
from kalamdb_lab.model import datatypes as types

ID = "0190a5de-7c1f-7abc-8def-0123456789ab"
COLUMNS = [("u", types.UUID), ("j", types.JSON)]


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    # Else UUID and JSON come out as texts.
    connection.execute("SET arrow_lossless_conversion = true")
    return connection


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    return connection.sql(sql).to_arrow_table()


@pytest.mark.parametrize(
    ("expression", "name", "value"),
    [
        ("true", "BOOLEAN", True),
        ("5", "INT", 5),
        ("5::UTINYINT", "UTINYINT", 5),
        ("sum(5)", "DECIMAL(38, 0)", Decimal(5)),
        (f"(-{10**37})::HUGEINT", "DECIMAL(38, 0)", Decimal(-(10**37))),
        ("5::UHUGEINT", "DECIMAL(38, 0)", Decimal(5)),
        ("[5::HUGEINT, NULL]", "DECIMAL(38, 0)[]", [Decimal(5), None]),
        ("{'a': 5::HUGEINT}", "STRUCT(a DECIMAL(38, 0))", {"a": Decimal(5)}),
        ("MAP {'a': 5::HUGEINT}", "MAP(TEXT, DECIMAL(38, 0))", {"a": Decimal(5)}),
        ("1.5", "DECIMAL(2, 1)", Decimal("1.5")),
        ("1.5::FLOAT", "FLOAT", 1.5),
        ("'x'", "TEXT", "x"),
        ("'a'::ENUM ('a', 'b')", "TEXT", "a"),
        ("'x'::BLOB", "BYTES", b"x"),
        (f"'{ID}'::UUID", "UUID", uuid.UUID(ID)),
        (f"['{ID}'::UUID]", "UUID[]", [uuid.UUID(ID)]),
        ("""'{"a": 1}'::JSON""", "JSON", '{"a": 1}'),
        ("""'{"a": 1}'::JSON -> 'a'""", "JSON", "1"),
        ("[1, 2]::FLOAT[2]", "EMBEDDING(2)", [1.0, 2.0]),
        ("[1, NULL]::FLOAT[2]", "FLOAT[]", [1.0, None]),
        ("[1, 2]::INTEGER[2]", "INT[]", [1, 2]),
        ("NULL", None, None),
    ],
)
def test_engine_types_have_a_place(
    connection: duckdb.DuckDBPyConnection, expression: str, name: str | None, value: object
) -> None:
    table = result_table(answer(connection, f"SELECT {expression} AS c"))
    data_type = schemas.kalam_type(table.schema.field("c"))
    assert name is None or str(data_type) == name
    assert python_from_array(table["c"], data_type) == [value]


def test_times_become_microseconds_in_utc(connection: duckdb.DuckDBPyConnection) -> None:
    table = result_table(
        answer(
            connection,
            """SELECT TIMESTAMP_S '2031-04-30 10:00:00' AS s,
               TIMESTAMP_MS '2031-04-30 10:00:00' AS ms,
               TIMESTAMP_NS '2031-04-30 10:00:00' AS ns, TIMESTAMPTZ '2031-04-30 10:00:00+02' AS tz,
               DATE '2031-04-30' AS d, TIME '10:00:00' AS t, INTERVAL 1 MONTH AS i""",
        )
    )
    names = [str(schemas.kalam_type(field)) for field in table.schema]
    assert names == [*["TIMESTAMP"] * 3, "DATETIME", "DATE", "TIME", "INTERVAL"]
    assert table.schema.field("tz").type == pa.timestamp("us", "UTC")
    assert table["ns"].equals(table["s"])


def test_what_is_finer_or_larger_is_refused_by_column(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    finer = answer(connection, "SELECT TIMESTAMP_NS '2031-04-30 10:00:00.123456789' AS c")
    with pytest.raises(InvalidValueError, match=r"^Column 'c': TIMESTAMP is exact to the micro"):
        result_table(finer)
    larger = answer(connection, "SELECT 170141183460469231731687303715884105727 AS c")
    with pytest.raises(ValueOutOfRangeError, match=r"^Column 'c': value is out of range"):
        result_table(larger)
    unsigned = answer(connection, f"SELECT {2**128 - 1}::UHUGEINT AS c")
    with pytest.raises(ValueOutOfRangeError):
        result_table(unsigned)


@pytest.mark.parametrize("expression", ["'101'::BIT", "TIMETZ '10:00:00+02'"])
def test_types_without_a_place_are_refused_without_naming_the_engine(
    connection: duckdb.DuckDBPyConnection, expression: str
) -> None:
    table = answer(connection, f"SELECT {expression} AS c")
    with pytest.raises(TypeMismatchError, match=r"^Column 'c': there is no type for") as caught:
        result_table(table)
    assert "duck" not in str(caught.value).lower()


def test_columns_that_have_the_form_are_shared() -> None:
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    result = result_table(table)
    assert result["a"].chunk(0).buffers()[1].address == table["a"].chunk(0).buffers()[1].address
    assert result.equals(table)


def test_doubled_and_empty_results_pass() -> None:
    doubled = pa.Table.from_arrays([pa.array([1]), pa.array(["x"])], names=["a", "a"])
    assert result_table(doubled).column(1).to_pylist() == ["x"]
    assert result_table(pa.table({"a": pa.array([], pa.uuid())})).schema.field(
        "a"
    ).type == pa.binary(16)
    assert result_table(pa.table({})).num_columns == 0


def test_batches_of_a_stream_have_one_schema(connection: duckdb.DuckDBPyConnection) -> None:
    table = answer(connection, f"SELECT '{ID}'::UUID AS u, range AS n FROM range(3)")
    batches = [result_batch(batch) for batch in table.to_batches(max_chunksize=2)]
    assert pa.Table.from_batches(batches).equals(result_table(table))


@pytest.mark.parametrize("form", ["plain", "extended"])
def test_the_engine_reads_uuid_and_json_after_a_cast(
    connection: duckdb.DuckDBPyConnection, form: str
) -> None:
    """Scans of hot rows and segments write these casts: they hold for both forms."""
    fields = [schemas.logical_field(name, kind) for name, kind in COLUMNS]
    table = pa.Table.from_arrays(
        [pa.array([uuid.UUID(ID).bytes], pa.binary(16)), pa.array(['{"a": 1}'])],
        schema=pa.schema(fields),
    )
    connection.register("hot", table if form == "plain" else schemas.extended(table))
    rows = connection.sql(
        f"""WITH scan AS (SELECT CAST(u AS UUID) AS u, CAST(j AS JSON) AS j FROM hot)
            SELECT u::TEXT, typeof(u), typeof(j), j ->> 'a' FROM scan WHERE u = '{ID.upper()}'"""
    ).fetchall()
    assert rows == [(ID, "UUID", "JSON", "1")]
