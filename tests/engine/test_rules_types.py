"""Section 3 of the language, rule by rule: types, literals, coercion and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.query.duck import VERSION
from kalamdb_lab.testing.jobs import finished

NOON = datetime.fromisoformat("2031-04-30 12:00:00")
SOME_UUID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def root(shared: Any) -> Session:
    """Root in the database of all tests, for what needs no table."""
    return shared.session(namespace="default")  # type: ignore[no-any-return]


# --- names of types -------------------------------------------------------------------------------

SPELLINGS: dict[str, tuple[str, pa.DataType]] = {
    "BOOLEAN": ("BOOLEAN BOOL", pa.bool_()),
    "SMALLINT": ("SMALLINT INT2", pa.int16()),
    "INT": ("INT INTEGER INT4 MEDIUMINT", pa.int32()),
    "BIGINT": ("BIGINT INT8", pa.int64()),
    "FLOAT": ("FLOAT REAL FLOAT4", pa.float32()),
    "DOUBLE": ("DOUBLE FLOAT8 FLOAT64", pa.float64()),
    "DECIMAL(38, 10)": ("DECIMAL NUMERIC", pa.decimal128(38, 10)),
    "DECIMAL(9, 0)": ("DECIMAL(9) NUMERIC(9,0)", pa.decimal128(9, 0)),
    "DECIMAL(9, 4)": ("DECIMAL(9,4)", pa.decimal128(9, 4)),
    "TEXT": ("TEXT VARCHAR CHAR STRING NVARCHAR VARCHAR(3) CHAR(2)", pa.string()),
    "BYTES": ("BYTES BINARY VARBINARY BLOB BYTEA", pa.binary()),
    "JSON": ("JSON JSONB", pa.string()),
    "TIMESTAMP": ("TIMESTAMP", pa.timestamp("us")),
    "DATETIME": ("DATETIME TIMESTAMPTZ", pa.timestamp("us", "UTC")),
    "DATE": ("DATE", pa.date32()),
    "TIME": ("TIME", pa.time64("us")),
    "UUID": ("UUID", pa.binary(16)),
    "EMBEDDING(3)": ("EMBEDDING(3)", pa.list_(pa.float32(), 3)),
    "TINYINT": ("TINYINT", pa.int8()),
    "UTINYINT": ("UTINYINT", pa.uint8()),
    "USMALLINT": ("USMALLINT", pa.uint16()),
    "UINTEGER": ("UINTEGER", pa.uint32()),
    "UBIGINT": ("UBIGINT", pa.uint64()),
    "INTERVAL": ("INTERVAL", pa.month_day_nano_interval()),
    "INT[]": ("INT[]", pa.list_(pa.int32())),
}


def test_every_name_of_a_type_means_its_first_name_and_its_arrow_type(s: Session) -> None:
    columns = [
        (f"c{at}_{number}", spelling, name, arrow)
        for at, (name, (spellings, arrow)) in enumerate(SPELLINGS.items())
        for number, spelling in enumerate(spellings.split())
    ]
    s.execute(f"CREATE TABLE t ({', '.join(f'{name} {kind}' for name, kind, *_ in columns)})")
    s.execute('ALTER TABLE t ADD c STRUCT(a INT, "b c" TEXT); ALTER TABLE t ADD m MAP(TEXT, INT)')
    s.execute("ALTER TABLE t ADD COLUMN p DOUBLE PRECISION")
    assert [row[:2] for row in s.execute("DESCRIBE t")] == [
        *((name, first) for name, _, first, _ in columns),
        ("c", 'STRUCT(a INT, "b c" TEXT)'),
        ("m", "MAP(TEXT, INT)"),
        ("p", "DOUBLE"),
    ]
    schema = s.execute("SELECT * FROM t").to_arrow().schema
    for name, _, first, arrow in columns:
        field = schema.field(name)
        assert (field.type, (field.metadata or {})[b"kalam_type"]) == (arrow, first.encode())


@pytest.mark.parametrize("kind", ["SERIAL", "BIGSERIAL", "BIGINT AUTO_INCREMENT"])
def test_serial_is_a_bigint_of_our_ids_that_is_not_null(s: Session, kind: str) -> None:
    s.execute(f"CREATE TABLE t (n INT, id {kind})")
    assert s.execute("DESCRIBE t").rows()[1] == (
        "id", "BIGINT", False, False, "SNOWFLAKE_ID()", 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ENUM('a', 'b')", "Unknown type 'ENUM'"),
        ("MONEY", "Unknown type 'MONEY'"),
        ("money(3)", "Unknown type 'MONEY'"),
        ("HUGEINT", "Unknown type 'HUGEINT'"),
        ("DECIMAL(39)", "DECIMAL precision must be 1 to 38, not 39"),
        ("DECIMAL(0)", "DECIMAL precision must be 1 to 38, not 0"),
        ("DECIMAL(4, 5)", "DECIMAL scale must be 0 to the precision, not 5"),
        ("EMBEDDING(0)", "Embedding dimension must be 1 to 8192, not 0"),
        ("EMBEDDING(8193)", "Embedding dimension must be 1 to 8192, not 8193"),
        ("EMBEDDING", "EMBEDDING needs a dimension, as in EMBEDDING(384)"),
    ],
)
def test_a_type_that_cannot_be_is_told_in_a_definition_and_a_cast(
    s: Session, refused: Any, kind: str, message: str
) -> None:
    s.execute("CREATE TABLE u (id INT)")
    for sql in (
        f"CREATE TABLE t (a {kind})",
        f"ALTER TABLE u ADD COLUMN a {kind}",
        f"ALTER TABLE u MODIFY COLUMN id {kind}",
        *([] if "ENUM" in kind else [f"SELECT CAST(NULL AS {kind})", f"SELECT NULL::{kind}"]),
    ):
        error = refused(s, sql)
        assert (error.code, str(error)) == ("INVALID_DEFINITION", message)
    s.execute("CREATE TABLE t (a DECIMAL(38, 38), b EMBEDDING(8192), c EMBEDDING(1))")


# --- what a column takes --------------------------------------------------------------------------

COLUMNS = {
    "b": "BOOLEAN", "si": "SMALLINT", "i": "INT", "bi": "BIGINT", "f": "FLOAT", "d": "DOUBLE",
    "n": "DECIMAL(8, 3)", "t": "TEXT", "y": "BYTES", "j": "JSON", "ts": "TIMESTAMP",
    "dt": "DATETIME", "da": "DATE", "ti": "TIME", "u": "UUID", "e": "EMBEDDING(2)",
    "ub": "UBIGINT", "iv": "INTERVAL", "l": "INT[]",
}  # fmt: skip


@pytest.fixture
def w(s: Session) -> Session:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    s.execute(f"CREATE TABLE w (id INT PRIMARY KEY, {columns})")
    return s


def stored(w: Session, column: str, value: str, params: Sequence[object] = ()) -> object:
    """Put a value into a column, by INSERT, by UPDATE of the key and by UPDATE of a query."""
    w.execute("DELETE FROM w WHERE true; INSERT INTO w (id) VALUES (2), (3)")
    w.execute(f"INSERT INTO w (id, {column}) VALUES (1, {value})", params)
    w.execute(f"UPDATE w SET {column} = {value} WHERE id = 2", params)
    w.execute(f"UPDATE w SET {column} = {value} WHERE {column} IS NULL", params)
    found = [row[0] for row in w.execute(f"SELECT {column} FROM w ORDER BY id")]
    assert len(found) == 3
    assert repr(found[0]) == repr(found[1]) == repr(found[2]), found
    return found[0]


TAKEN: list[tuple[str, str, object]] = [
    ("b", "'true'", True),
    ("si", "1.0", 1),
    ("si", "'7'", 7),
    ("i", "2e3", 2000),
    ("i", "7.00", 7),
    ("bi", "-9223372036854775808", -(2**63)),
    ("ub", "18446744073709551615", 2**64 - 1),
    ("f", "0.1", 0.10000000149011612),
    ("d", "0.1", 0.1),
    ("d", "'-Infinity'", -math.inf),
    ("n", "1.0005", Decimal("1.001")),
    ("n", "-1.0005", Decimal("-1.001")),
    ("n", "99999.9994", Decimal("99999.999")),
    ("n", "'1.0005'", Decimal("1.001")),
    ("n", "3", Decimal("3.000")),
    ("t", "''", ""),
    ("t", "'trailing  '", "trailing  "),
    ("y", "X'00ff'", b"\x00\xff"),
    ("j", '\' {"b": 1,  "a": [null]}\'', ' {"b": 1,  "a": [null]}'),
    ("j", "'5'", "5"),
    ("ts", "'2031-04-30 12:00:00'", NOON),
    ("ts", "'2031-04-30T12:00:00.000001'", NOON.replace(microsecond=1)),
    ("ts", "DATE '2031-04-30'", NOON.replace(hour=0)),
    ("dt", "'2031-04-30 14:00:00+02:00'", NOON.replace(tzinfo=UTC)),
    ("dt", "'2031-04-30T12:00:00Z'", NOON.replace(tzinfo=UTC)),
    ("dt", "'2031-04-30 12:00:00'", NOON.replace(tzinfo=UTC)),
    ("dt", "TIMESTAMP '2031-04-30 12:00:00'", NOON.replace(tzinfo=UTC)),
    ("ts", "DATETIME '2031-04-30 14:00:00+02:00'", NOON),
    ("da", "'0001-01-01'", date(1, 1, 1)),
    ("da", "'9999-12-31'", date(9999, 12, 31)),
    ("ti", "'18:05:00.123456'", time(18, 5, 0, 123456)),
    ("u", f"'{SOME_UUID.upper()}'", UUID(SOME_UUID)),
    ("e", "[0.5, 2]", [0.5, 2.0]),
    ("e", "'[0.5, 2]'", [0.5, 2.0]),
    ("iv", "INTERVAL '1 day'", timedelta(days=1)),
    ("l", "[1, NULL]", [1, None]),
]


def test_a_literal_takes_the_type_of_its_column(w: Session) -> None:
    for column, value, expected in TAKEN:
        found = stored(w, column, value)
        assert (found, type(found)) == (expected, type(expected)), (column, value)


def test_a_parameter_takes_the_type_of_its_column(w: Session) -> None:
    zone = NOON.replace(tzinfo=UTC)
    for column, value, expected in [
        ("i", Decimal("1.0"), 1),
        ("i", 1.0, 1),
        ("j", {"a": [1, None]}, '{"a": [1, null]}'),
        ("j", [1, 2], "[1, 2]"),
        ("ts", NOON, NOON),
        ("ts", date(2031, 4, 30), NOON.replace(hour=0)),
        ("dt", zone, zone),
        ("dt", NOON, zone),
        ("t", UUID(SOME_UUID), SOME_UUID),
        ("u", UUID(SOME_UUID), UUID(SOME_UUID)),
        ("e", (1, 0.5), [1.0, 0.5]),
        ("f", math.inf, math.inf),
        ("d", math.nan, math.nan),
        ("y", bytearray(b"x"), b"x"),
        ("iv", timedelta(hours=3), timedelta(hours=3)),
        ("ti", time(1, 2, 3), time(1, 2, 3)),
    ]:
        w.execute("DELETE FROM w WHERE true")
        w.execute(f"INSERT INTO w (id, {column}) VALUES (1, ?)", [value])
        ((found,),) = w.execute(f"SELECT {column} FROM w").rows()
        assert (repr(found), type(found)) == (repr(expected), type(expected)), (column, value)


REFUSED: list[tuple[str, str, str, str]] = [
    ("b", "1", "TYPE_MISMATCH", "cannot convert '1' to BOOLEAN"),
    ("si", "32768", "OUT_OF_RANGE", "value is out of range for SMALLINT"),
    ("si", "1.5", "TYPE_MISMATCH", "cannot convert '1.5' to SMALLINT"),
    ("i", "TRUE", "TYPE_MISMATCH", "cannot convert 'true' to INT"),
    ("i", "'1.0'", "TYPE_MISMATCH", "cannot convert '1.0' to INT"),
    ("bi", "9223372036854775808", "OUT_OF_RANGE", "value is out of range for BIGINT"),
    ("ub", "-1", "OUT_OF_RANGE", "value is out of range for UBIGINT"),
    ("f", "1e39", "OUT_OF_RANGE", "value is out of range for FLOAT"),
    ("d", "'1e400'", "OUT_OF_RANGE", "value is out of range for DOUBLE"),
    ("n", "99999.9995", "OUT_OF_RANGE", "value is out of range for DECIMAL(8, 3)"),
    ("n", "'nan'", "TYPE_MISMATCH", "cannot convert 'nan' to DECIMAL(8, 3)"),
    ("t", "5", "TYPE_MISMATCH", "cannot convert '5' to TEXT"),
    ("t", "DATE '2031-01-01'", "TYPE_MISMATCH", "cannot convert '2031-01-01' to TEXT"),
    ("y", "'abc'", "TYPE_MISMATCH", "cannot convert 'abc' to BYTES"),
    ("j", "'{a'", "INVALID_VALUE", "invalid JSON"),
    ("ts", "'noon'", "INVALID_VALUE", "invalid TIMESTAMP 'noon'"),
    ("ts", "'2031-04-30 12:00:00Z'", "INVALID_VALUE", "TIMESTAMP takes no offset; use DATETIME"),
    ("ts", "'2031-04-30 12:00:00.1234567'", "INVALID_VALUE",
     "invalid TIMESTAMP '2031-04-30 12:00:00.1234567'"),
    ("dt", "'2031-02-30 12:00:00'", "INVALID_VALUE", "invalid DATETIME '2031-02-30 12:00:00'"),
    ("da", "'2031-04-31'", "INVALID_VALUE", "invalid DATE '2031-04-31'"),
    ("da", "'31.4.2031'", "INVALID_VALUE", "invalid DATE '31.4.2031'"),
    ("ti", "'25:00:00'", "INVALID_VALUE", "invalid TIME '25:00:00'"),
    ("u", "'550e8400e29b41d4a716446655440000'", "INVALID_VALUE", "invalid UUID"),
    ("e", "[1, 2, 3]", "DIMENSION_MISMATCH", "expects 2 dimensions, got 3"),
    ("e", "'[1]'", "DIMENSION_MISMATCH", "expects 2 dimensions, got 1"),
    ("e", "'[1, NaN]'", "INVALID_VALUE", "component 2 is not a finite number"),
    ("e", "[NULL, 1]", "INVALID_VALUE", "component 1 is not a finite number"),
]  # fmt: skip


def test_what_a_column_cannot_take_is_refused_by_its_name(w: Session, refused: Any) -> None:
    w.execute("INSERT INTO w (id) VALUES (1)")
    for column, value, code, fault in REFUSED:
        between = "" if fault.startswith("expects") else ":"
        for sql in (
            f"INSERT INTO w (id, {column}) VALUES (2, NULL), (3, {value})",
            f"UPDATE w SET {column} = {value} WHERE id = 1",
            f"UPDATE w SET {column} = {value} WHERE {column} IS NULL",
        ):
            error = refused(w, sql)
            assert (error.code, str(error)) == (code, f"Column '{column}'{between} {fault}"), sql
    assert w.execute("SELECT count(*) FROM w").rows() == [(1,)]


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("SELECT CAST('ten' AS INT)", "TYPE_MISMATCH", "Cannot convert 'ten' to INT"),
        ("SELECT DATE '2031-04-31'", "INVALID_VALUE", "Invalid DATE '2031-04-31'"),
        ("SELECT DATE '10000-01-01'", "INVALID_VALUE", "Invalid DATE '10000-01-01'"),
        ("SELECT TIME '25:00:00'", "INVALID_VALUE", "Invalid TIME '25:00:00'"),
        ("SELECT TIME '18:05:00.1234567'", "INVALID_VALUE", "Invalid TIME '18:05:00.1234567'"),
        ("SELECT TIMESTAMP '2031-04-30 1'", "INVALID_VALUE", "Invalid TIMESTAMP '2031-04-30 1'"),
        ("SELECT TIMESTAMP '2031-04-30 10:00:00Z'", "INVALID_VALUE",
         "TIMESTAMP takes no offset; use DATETIME"),
        ("SELECT TIMESTAMP '2031-04-30 10:00:00+01'", "INVALID_VALUE",
         "TIMESTAMP takes no offset; use DATETIME"),
        ("SELECT DATETIME '2031-04-31 10:00:00'", "INVALID_VALUE",
         "Invalid DATETIME '2031-04-31 10:00:00'"),
        ("SELECT CAST('{' AS JSON)", "INVALID_VALUE", "Invalid JSON"),
        ("SELECT CAST('x' AS UUID)", "INVALID_VALUE", "Invalid UUID"),
        ("SELECT CAST([1] AS EMBEDDING(2))", "DIMENSION_MISMATCH",
         "Expected 2 dimensions, got 1"),
        ("SELECT CAST('[1, 2]' AS EMBEDDING(3))", "DIMENSION_MISMATCH",
         "Expected 3 dimensions, got 2"),
        ("SELECT CAST('x' AS EMBEDDING(3))", "TYPE_MISMATCH",
         "Cannot convert 'x' to EMBEDDING(3)"),
        ("SELECT 1e400", "OUT_OF_RANGE", "A value is out of range for DOUBLE"),
    ],
)  # fmt: skip
def test_outside_a_column_the_fault_stands_alone(
    root: Session, refused: Any, sql: str, code: str, message: str
) -> None:
    error = refused(root, sql)
    assert (error.code, str(error)) == (code, message)


def test_stored_columns_widen_and_nothing_else(w: Session, refused: Any) -> None:
    kinds = {"a": "SMALLINT", "b": "INT", "c": "BIGINT", "d": "DECIMAL(9, 2)", "f": "FLOAT",
             "g": "DATE", "h": "DATETIME", "k": "TIMESTAMP", "t": "TEXT", "o": "BOOLEAN"}  # fmt: skip
    w.execute(f"CREATE TABLE src ({', '.join(f'{name} {kind}' for name, kind in kinds.items())})")
    w.execute(
        "INSERT INTO src VALUES (1, 2, 3, 4.5, 0.5, '2031-04-30', '2031-04-30 12:00:00', "
        "'2031-04-30 12:00:00', '7', true)"
    )
    for target, source, expected in [
        ("i", "a", 1), ("bi", "b", 2), ("n", "c", Decimal("3.000")), ("d", "d", 4.5),
        ("d", "f", 0.5), ("d", "a", 1.0), ("ts", "g", NOON.replace(hour=0)), ("ts", "h", NOON),
        ("dt", "k", NOON.replace(tzinfo=UTC)),
    ]:  # fmt: skip
        w.execute("DELETE FROM w WHERE true")
        w.execute(f"INSERT INTO w (id, {target}) SELECT 1, {source} FROM src")
        assert w.execute(f"SELECT {target} FROM w").rows() == [(expected,)], (target, source)
    for target, source in [
        ("i", "t"), ("t", "b"), ("b", "b"), ("i", "o"), ("da", "h"), ("da", "t"), ("d", "t"),
        ("e", "t"), ("y", "t"),
    ]:  # fmt: skip
        error = refused(w, f"INSERT INTO w (id, {target}) SELECT 9, {source} FROM src")
        kind = f"Cannot cast {kinds[source]} to {COLUMNS[target]} in column '{target}'"
        assert (error.code, str(error)) == ("TYPE_MISMATCH", kind)


def test_now_goes_into_a_timestamp_as_the_wall_time_in_utc(studio: Any) -> None:
    s = studio.session()
    s.execute(
        """CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP DEFAULT NOW(), n INT);
        INSERT INTO t (id) VALUES (1); INSERT INTO t (id, at) VALUES (2, CURRENT_TIMESTAMP);
        INSERT INTO t (id, at) SELECT 3, NOW(); INSERT INTO t (id, at) VALUES (4, NULL), (5, NULL);
        UPDATE t SET at = NOW() WHERE id = 4; UPDATE t SET at = NOW() WHERE at IS NULL;
        INSERT INTO t (id, at) VALUES (6, NULL); INSERT INTO t (id) VALUES (6)
        ON CONFLICT (id) DO UPDATE SET at = NOW();
        INSERT INTO t (id, at) VALUES (7, (SELECT max(NOW())))"""
    )
    now = datetime.fromtimestamp(studio.clock.now_us() / 1e6, UTC).replace(tzinfo=None)
    assert s.execute("SELECT DISTINCT at, count(*) FROM t GROUP BY at").rows() == [(now, 7)]
    assert s.execute("SELECT count(*) FROM t WHERE at = NOW()").rows() == [(7,)]


# --- operands -------------------------------------------------------------------------------------


OPERANDS: list[tuple[str, list[object]]] = [
    ("u = ?", [SOME_UUID.upper()]),
    ("da = ?", ["2031-04-30"]),
    ("ts = ?", ["2031-04-30 12:00:00"]),
    ("dt = ?", ["2031-04-30 14:00:00+02:00"]),
    ("dt = '2031-04-30 14:00:00+02:00'", []),
    ("ti = ?", ["12:00:00"]),
    ("n = ?", ["1.5"]),
    ("n + ? = 2.5", ["1"]),
    ("i * '2' = 14", []),
    ("i - ? = 2", ["5"]),
    ("i / ? = 3", ["2"]),
    ("? + i = 8.5", ["1.5"]),
    ("i = '7' AND i = ?", [Decimal("7.0")]),
    ("ts = dt", []),
    ("da < dt AND da < ts AND i < 8", []),
    ("i < n + 5.6 AND si < bi", []),
    ("d > 1e300", []),
]


def test_a_value_takes_the_type_of_the_operand_it_meets(w: Session) -> None:
    w.execute(
        f"""INSERT INTO w (id, u, da, ts, dt, ti, n, i, si, bi, d) VALUES (1, '{SOME_UUID}',
        '2031-04-30', '2031-04-30 12:00:00', '2031-04-30 12:00:00', '12:00:00', 1.5, 7, 1, 2,
        'Infinity'), (2, '{SOME_UUID[:-1]}1', '2031-05-30', '2031-05-30 12:00:00',
        '2031-05-30 13:00:00', '13:00:00', 9, 100, 5, 2, 0)"""
    )
    for condition, params in OPERANDS:
        found = w.execute(f"SELECT id FROM w WHERE {condition}", params).rows()
        assert found == [(1,)], condition


def test_nan_sorts_above_all_and_equals_itself(s: Session) -> None:
    for kind in ("FLOAT", "DOUBLE"):
        s.execute(f"CREATE TABLE t (id INT PRIMARY KEY, x {kind})")
        s.execute("INSERT INTO t VALUES (1, 'nan'), (2, 'inf'), (3, 0), (4, '-inf'), (5, NULL)")
        for _ in range(2):
            found = [row[0] for row in s.execute("SELECT id FROM t ORDER BY x")]
            assert found == [4, 3, 2, 1, 5]
            assert s.execute("SELECT id FROM t WHERE x = 'nan'").rows() == [(1,)]
            assert s.execute("SELECT id FROM t WHERE x > 'inf'").rows() == [(1,)]
            ((high, low),) = s.execute("SELECT max(x), min(x) FROM t").rows()
            assert repr(high) == "nan"
            assert low == -math.inf
            finished(s, "STORAGE FLUSH TABLE t")
        s.execute("DROP TABLE t")


def test_a_component_of_an_embedding_is_finite_by_every_way_in(w: Session, refused: Any) -> None:
    message = "Column 'e': component 2 is not a finite number"
    for sql, params in [
        ("INSERT INTO w (id, e) VALUES (1, ?)", [[1.0, math.nan]]),
        ("INSERT INTO w (id, e) VALUES (1, ?)", [[1.0, None]]),
        ("INSERT INTO w (id, e) VALUES (1, [1e0, CAST('inf' AS DOUBLE)])", None),
        ("INSERT INTO w (id, e) SELECT 1, CAST('[1, nan]' AS EMBEDDING(2))", None),
    ]:
        error = refused(w, sql, params)
        assert (error.code, str(error)) == ("INVALID_VALUE", message)
    with pytest.raises(Exception, match="component 2 is not a finite number"):
        w.insert("w", pa.table({"id": [1], "e": [[1.0, math.inf]]}))


def test_a_literal_beyond_double_is_refused_and_never_infinite(w: Session, refused: Any) -> None:
    for sql in (
        "INSERT INTO w (id, d) VALUES (1, 1e400)",
        "INSERT INTO w (id, d) VALUES (1, -1e400)",
        "INSERT INTO w (id, d) SELECT 1, 1e400",
    ):
        error = refused(w, sql)
        assert error.code == "OUT_OF_RANGE"
        assert str(error).endswith("out of range for DOUBLE")
    assert refused(w, "INSERT INTO w (id, i) VALUES (1, 1e400)").code == "OUT_OF_RANGE"
    for number in ("1e308", "1e30", "1e300"):
        assert w.execute(f"SELECT id FROM w WHERE i = {number} OR n = {number}").rows() == []
        assert w.execute(f"DELETE FROM w WHERE id = {number}").rows_affected == 0
    assert w.execute("SELECT id FROM w WHERE i = ?", [Decimal("1E+30")]).rows() == []


# --- arithmetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value", "kind"),
    [
        ("9 / 4", 2, "INT"),
        ("-9 / 4", -2, "INT"),
        ("9 / -4", -2, "INT"),
        ("9.0 / 4", 2.25, "DOUBLE"),
        ("-9 % 4", -1, "INT"),
        ("9 % -4", 1, "INT"),
        ("sum(x)", 6, "BIGINT"),
        ("sum(x * 1.50)", Decimal("9.00"), "DECIMAL(38, 2)"),
        ("avg(x)", 2.0, "DOUBLE"),
        ("avg(x * 1.5)", 3.0, "DOUBLE"),
        ("sum(x * 0.5e0)", 3.0, "DOUBLE"),
        ("factorial(20)", Decimal(math.factorial(20)), "DECIMAL(38, 0)"),
        ("CAST(0.25 AS TEXT)", "0.25", "TEXT"),
        ("CAST(0.1 AS BOOLEAN)", True, "BOOLEAN"),
        ("CAST(-3 AS BOOLEAN)", True, "BOOLEAN"),
        ("CAST(0.00 AS BOOLEAN)", False, "BOOLEAN"),
        ("CAST(-2.5 AS DECIMAL(3, 0))", Decimal(-3), "DECIMAL(3, 0)"),
        ("'5' + 1", 6, "INT"),
    ],
)
def test_arithmetic_is_that_of_postgresql(
    root: Session, expression: str, value: object, kind: str
) -> None:
    answer = root.execute(f"SELECT {expression} FROM (VALUES (1), (2), (3)) v (x) LIMIT 1")
    ((found,),) = answer.rows()
    assert (found, type(found), str(answer.types[0])) == (value, type(value), kind)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("CAST(32767 AS SMALLINT) + CAST(1 AS SMALLINT)", "addition is out of range for SMALLINT"),
        ("2147483647 + 1", "addition is out of range for INT"),
        pytest.param(
            "-2147483648 - 1",
            "subtraction is out of range for INT",
            marks=pytest.mark.skipif(VERSION < (2, 0), reason="DuckDB 1 reads it as BIGINT"),
        ),
        ("2147483647 * 2", "multiplication is out of range for INT"),
        ("9223372036854775807 + 1", "addition is out of range for BIGINT"),
        (f"{'9' * 38} * 10", "multiplication is out of range for DECIMAL(38, 0)"),
        ("-9223372036854775808 / -1", "A value is out of range"),
        ("abs(-9223372036854775808)", "A value is out of range"),
        ("CAST(300 AS TINYINT)", "A value is out of range for TINYINT"),
        ("CAST(123456 AS DECIMAL(5, 2))", "A value is out of range for DECIMAL(5, 2)"),
        ("CAST('Infinity'::DOUBLE AS INT)", "A value is out of range for INT"),
    ],
)
def test_overflow_is_an_error(root: Session, refused: Any, expression: str, message: str) -> None:
    error = refused(root, f"SELECT {expression}")
    assert error.code == "OUT_OF_RANGE"
    assert str(error).removeprefix("The result of ") == message


@pytest.mark.parametrize("expression", ["1 / 0", "1 % 0", "1.5 / 0", "1e0 / 0", "x / (x - x)"])
def test_division_by_zero_is_an_error(root: Session, refused: Any, expression: str) -> None:
    error = refused(root, f"SELECT {expression} FROM (SELECT 1 AS x) v")
    assert (error.code, str(error)) == ("DIVISION_BY_ZERO", "Division by zero")
