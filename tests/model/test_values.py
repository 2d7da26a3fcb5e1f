"""Python values into storage values: what fits, and the exact words for what does not."""

import datetime as dt
import math
import struct
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.errors import (
    DimensionMismatchError,
    InvalidValueError,
    KalamError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, parse_type
from kalamdb_lab.model.values import Interval, from_storage, to_storage
from kalamdb_lab.testing.strategies import cells, data_types

UUID_TEXT = "0190a5de-7c1f-7abc-8def-0123456789ab"
ZONE = dt.timezone(dt.timedelta(hours=2))


@given(data=st.data(), data_type=data_types)
def test_values_come_back_as_they_were_stored(
    data: st.DataObject, data_type: KalamDataType
) -> None:
    value = data.draw(cells(data_type))
    again = to_storage(from_storage(value, data_type), data_type)
    # By repr: NaN is unequal to itself, and -0.0 equal to 0.0.
    assert repr(again) == repr(value)


def storage(value: object, name: str) -> StorageValue:
    return to_storage(value, parse_type(name))


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("INT", 7, 7),
        ("INT", "  -7 ", -7),
        ("INT", "+" + "0" * 60 + "7", 7),
        ("INT", 7.0, 7),
        ("INT", Decimal("7.00"), 7),
        ("INT", np.int64(7), 7),
        ("INT", np.float32(7), 7),
        ("INT", pa.scalar(7), 7),
        ("UBIGINT", 2**64 - 1, 2**64 - 1),
        ("BIGINT", -(2**63), -(2**63)),
        ("BOOLEAN", True, True),
        ("BOOLEAN", "FALSE", False),
        ("BOOLEAN", np.bool_(True), True),
        ("DOUBLE", 3, 3.0),
        ("DOUBLE", "1e-3", 0.001),
        ("DOUBLE", "-Infinity", -math.inf),
        ("DOUBLE", Decimal("0.1"), 0.1),
        ("DOUBLE", np.float64(0.1), 0.1),
        ("FLOAT", 0.1, struct.unpack("f", struct.pack("f", 0.1))[0]),
        ("FLOAT", math.inf, math.inf),
        ("DECIMAL(5, 2)", "2.675", Decimal("2.68")),
        ("DECIMAL(5, 2)", 2.675, Decimal("2.68")),
        ("DECIMAL(5, 2)", Decimal("-2.675"), Decimal("-2.68")),
        ("DECIMAL(5, 2)", 3, Decimal("3.00")),
        ("DECIMAL(5, 2)", "-0.001", Decimal("0.00")),
        ("DECIMAL(38, 38)", "1e-400000", Decimal("0E-38")),
        ("TEXT", "", ""),
        ("TEXT", uuid.UUID(UUID_TEXT), UUID_TEXT),
        ("TEXT", np.str_("x"), "x"),
        ("BYTES", bytearray(b"\0\xff"), b"\0\xff"),
        ("JSON", ' {"a": 1}', ' {"a": 1}'),
        ("JSON", {"a": [1, None]}, '{"a": [1, null]}'),
        ("JSON", "9" * 5_000, "9" * 5_000),
        ("UUID", UUID_TEXT.upper(), uuid.UUID(UUID_TEXT).bytes),
        ("UUID", uuid.UUID(UUID_TEXT), uuid.UUID(UUID_TEXT).bytes),
        ("DATE", "0001-01-01", -719_162),
        ("DATE", dt.date(9999, 12, 31), 2_932_896),
        ("DATE", pd.Timestamp("1970-01-02"), 1),
        ("TIME", "18:05:00.5", 65_100_500_000),
        ("TIME", dt.time(0, 0, 1), 1_000_000),
        ("TIMESTAMP", "1970-01-01 00:00:01", 1_000_000),
        ("TIMESTAMP", "1970-01-01T00:00:00.000001", 1),
        ("TIMESTAMP", "1970-01-02", 86_400_000_000),
        ("TIMESTAMP", dt.date(1970, 1, 2), 86_400_000_000),
        ("TIMESTAMP", np.datetime64("1970-01-01T00:00:01", "s"), 1_000_000),
        ("TIMESTAMP", pd.Timestamp("1970-01-01 00:00:01"), 1_000_000),
        ("DATETIME", "1970-01-01 02:00:01+02", 1_000_000),
        ("DATETIME", "1970-01-01T00:00:01Z", 1_000_000),
        ("DATETIME", "1970-01-01 00:00:01", 1_000_000),
        ("DATETIME", dt.datetime(1970, 1, 1, 2, 0, 1, tzinfo=ZONE), 1_000_000),
        ("INTERVAL", dt.timedelta(days=-1, hours=1), (0, 0, -82_800_000_000_000)),
        ("INTERVAL", "3 hours 5 minutes", (0, 0, 11_100_000_000_000)),
        ("INTERVAL", "1 year 2 mons, -3 days 04:05", (14, -3, 14_700_000_000_000)),
        ("INTERVAL", Interval(1, 2, 3_000), (1, 2, 3_000)),
        ("EMBEDDING(2)", [1, 0.5], struct.pack("<2f", 1, 0.5)),
        ("EMBEDDING(2)", "[1, 0.5]", struct.pack("<2f", 1, 0.5)),
        ("EMBEDDING(2)", np.array([1, 0.5]), struct.pack("<2f", 1, 0.5)),
        ("EMBEDDING(2)", (Decimal(1), np.float16(0.5)), struct.pack("<2f", 1, 0.5)),
        ("INT[]", np.array([1, 2]), [1, 2]),
        ("STRUCT(a INT, b TEXT)", {"B": "x"}, {"a": None, "b": "x"}),
        ("MAP(TEXT, INT)", {"k": "1"}, [["k", 1]]),
        ("MAP(TEXT, INT)", [("k", None)], [["k", None]]),
    ],
)
def test_what_converts(name: str, value: object, stored: StorageValue) -> None:
    result = storage(value, name)
    assert result == stored
    assert type(result) is type(stored)


@pytest.mark.parametrize("name", ["INT", "TEXT", "DOUBLE", "DATE", "TIMESTAMP", "JSON", "UUID"])
@pytest.mark.parametrize(
    "missing", [None, pd.NA, pd.NaT, np.datetime64("NaT")], ids=["None", "NA", "NaT", "numpy"]
)
def test_missing_values_are_null(name: str, missing: object) -> None:
    assert storage(missing, name) is None


@pytest.mark.parametrize(
    ("name", "value", "error", "fault"),
    [
        ("SMALLINT", 40_000, ValueOutOfRangeError, "value is out of range for SMALLINT"),
        ("UTINYINT", -1, ValueOutOfRangeError, "value is out of range for UTINYINT"),
        ("INT", 2**31, ValueOutOfRangeError, "value is out of range for INT"),
        ("INT", "9" * 5_000, ValueOutOfRangeError, "value is out of range for INT"),
        ("INT", math.inf, ValueOutOfRangeError, "value is out of range for INT"),
        ("INT", Decimal("1E+999999"), ValueOutOfRangeError, "value is out of range for INT"),
        ("BIGINT", 2.0**63, ValueOutOfRangeError, "value is out of range for BIGINT"),
        ("DECIMAL(8, 3)", 10**5, ValueOutOfRangeError, "value is out of range for DECIMAL(8, 3)"),
        ("DECIMAL(3, 2)", "9.995", ValueOutOfRangeError, "value is out of range for DECIMAL(3, 2)"),
        ("DECIMAL(3, 2)", "1e9999999999999999999", ValueOutOfRangeError,
         "value is out of range for DECIMAL(3, 2)"),
        ("FLOAT", 1e39, ValueOutOfRangeError, "value is out of range for FLOAT"),
        ("DOUBLE", "1e400", ValueOutOfRangeError, "value is out of range for DOUBLE"),
        ("DOUBLE", 10**400, ValueOutOfRangeError, "value is out of range for DOUBLE"),
        ("DATETIME", "0001-01-01 00:00:00+02", ValueOutOfRangeError,
         "value is out of range for DATETIME"),
        ("INT", "ten", TypeMismatchError, "cannot convert 'ten' to INT"),
        ("INT", "1.0", TypeMismatchError, "cannot convert '1.0' to INT"),
        ("INT", "1_000", TypeMismatchError, "cannot convert '1_000' to INT"),
        ("INT", "٣", TypeMismatchError, "cannot convert '٣' to INT"),
        ("INT", 2.5, TypeMismatchError, "cannot convert '2.5' to INT"),
        ("INT", math.nan, TypeMismatchError, "cannot convert 'nan' to INT"),
        ("INT", True, TypeMismatchError, "cannot convert 'true' to INT"),
        ("INT", np.bool_(True), TypeMismatchError, "cannot convert 'true' to INT"),
        ("DOUBLE", False, TypeMismatchError, "cannot convert 'false' to DOUBLE"),
        ("DECIMAL(3, 2)", math.nan, TypeMismatchError, "cannot convert 'nan' to DECIMAL(3, 2)"),
        ("BOOLEAN", 1, TypeMismatchError, "cannot convert '1' to BOOLEAN"),
        ("BOOLEAN", "maybe", TypeMismatchError, "cannot convert 'maybe' to BOOLEAN"),
        ("TEXT", 5, TypeMismatchError, "cannot convert '5' to TEXT"),
        ("TEXT", ["a"], TypeMismatchError, "cannot convert a list value to TEXT"),
        ("INT", "x" * 41, TypeMismatchError, f"cannot convert '{'x' * 40}' to INT"),
        ("TEXT", "a\0b", InvalidValueError, "TEXT holds Unicode without the character NUL"),
        ("TEXT", "\ud800", InvalidValueError, "TEXT holds Unicode without the character NUL"),
        ("BYTES", "ab", TypeMismatchError, "cannot convert 'ab' to BYTES"),
        ("DATE", "2031-04-31", InvalidValueError, "invalid DATE '2031-04-31'"),
        ("DATE", "31-4-1", InvalidValueError, "invalid DATE '31-4-1'"),
        ("DATE", "0000-01-01", InvalidValueError, "invalid DATE '0000-01-01'"),
        ("DATE", "2031-04-30 00:00:00", InvalidValueError, "invalid DATE '2031-04-30 00:00:00'"),
        ("DATE", dt.datetime.fromisoformat("2031-01-01T05:00:00"), TypeMismatchError,
         "cannot convert '2031-01-01T05:00:00' to DATE"),
        ("TIME", "25:00:00", InvalidValueError, "invalid TIME '25:00:00'"),
        ("TIME", "24:00:00", InvalidValueError, "invalid TIME '24:00:00'"),
        ("TIME", "18:05:60", InvalidValueError, "invalid TIME '18:05:60'"),
        ("TIMESTAMP", "noon", InvalidValueError, "invalid TIMESTAMP 'noon'"),
        ("TIMESTAMP", "2031-04-30 10:00:00.1234567", InvalidValueError,
         "invalid TIMESTAMP '2031-04-30 10:00:00.1234567'"),
        ("TIMESTAMP", np.datetime64(1, "ns"), InvalidValueError,
         "invalid TIMESTAMP '1970-01-01T00:00:00.000000001'"),
        ("TIMESTAMP", pd.Timestamp(1), InvalidValueError,
         "invalid TIMESTAMP '1970-01-01 00:00:00.000000001'"),
        ("TIMESTAMP", "2031-04-30 10:00:00Z", InvalidValueError,
         "TIMESTAMP takes no offset; use DATETIME"),
        ("TIMESTAMP", dt.datetime(2031, 1, 1, tzinfo=dt.UTC), InvalidValueError,
         "TIMESTAMP takes no offset; use DATETIME"),
        ("DATETIME", "2031-02-30 10:00:00Z", InvalidValueError,
         "invalid DATETIME '2031-02-30 10:00:00Z'"),
        ("DATETIME", 5, TypeMismatchError, "cannot convert '5' to DATETIME"),
        ("JSON", "{a: 1}", InvalidValueError, "invalid JSON"),
        ("JSON", "NaN", InvalidValueError, "invalid JSON"),
        ("JSON", "", InvalidValueError, "invalid JSON"),
        ("JSON", "[" * 100_000, InvalidValueError, "invalid JSON"),
        ("JSON", {"a": math.nan}, InvalidValueError, "invalid JSON"),
        ("JSON", {"a": object()}, InvalidValueError, "invalid JSON"),
        ("UUID", "0190a5de7c1f7abc8def0123456789ab", InvalidValueError, "invalid UUID"),
        ("UUID", b"short", InvalidValueError, "invalid UUID"),
        ("EMBEDDING(2)", [1, math.nan], InvalidValueError, "component 2 is not a finite number"),
        ("EMBEDDING(2)", [1e39, 1], InvalidValueError, "component 1 is not a finite number"),
        ("EMBEDDING(2)", [1, None], InvalidValueError, "component 2 is not a finite number"),
        ("EMBEDDING(2)", [1, True], TypeMismatchError, "cannot convert 'true' to EMBEDDING(2)"),
        ("EMBEDDING(2)", "1, 2", TypeMismatchError, "cannot convert '1, 2' to EMBEDDING(2)"),
        ("INTERVAL", "3 parsecs", InvalidValueError, "invalid INTERVAL '3 parsecs'"),
        ("INTERVAL", np.timedelta64(1, "ns"), InvalidValueError,
         "invalid INTERVAL '1 nanoseconds'"),
        ("INTERVAL", (2**31, 0, 0), ValueOutOfRangeError, "value is out of range for INTERVAL"),
        ("INT[]", [1, "ten"], TypeMismatchError, "cannot convert 'ten' to INT"),
        ("STRUCT(a INT)", {"b": 1}, TypeMismatchError, "STRUCT has no field 'b'"),
        ("MAP(TEXT, INT)", [("k", 1), ("k", 2)], InvalidValueError, "a MAP key appears twice"),
        ("MAP(TEXT, INT)", [(None, 1)], InvalidValueError, "a MAP key cannot be NULL"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_and_without_a_column(
    name: str, value: object, error: type[KalamError], fault: str
) -> None:
    data_type = parse_type(name)
    with pytest.raises(error) as caught:
        to_storage(value, data_type, column="n")
    assert str(caught.value) == f"Column 'n': {fault}"
    with pytest.raises(error) as caught:
        to_storage(value, data_type)
    assert str(caught.value) == fault[0].upper() + fault[1:]
    assert caught.value.__cause__ is None


def test_a_vector_of_another_dimension_is_told() -> None:
    with pytest.raises(DimensionMismatchError) as caught:
        to_storage([0.5] * 383, types.embedding(384), column="v")
    assert str(caught.value) == "Column 'v' expects 384 dimensions, got 383"
    with pytest.raises(DimensionMismatchError) as caught:
        to_storage("[]", types.embedding(384))
    assert str(caught.value) == "Expected 384 dimensions, got 0"


@given(number=st.integers(-(2**70), 2**70))
def test_whole_numbers_never_wrap_or_clip(number: int) -> None:
    for kind, (low, high) in types.INTEGER_BOUNDS.items():
        data_type = KalamDataType(kind)
        if low <= number <= high:
            assert to_storage(number, data_type) == number
            assert to_storage(str(number), data_type) == number
        else:
            with pytest.raises(ValueOutOfRangeError):
                to_storage(number, data_type)
            with pytest.raises(ValueOutOfRangeError):
                to_storage(str(number), data_type)


@given(
    number=st.decimals(allow_nan=False, allow_infinity=False, places=9)
    | st.integers(-(10**9), 10**9).map(lambda digits: Decimal(digits) / 2000)
)
def test_decimals_round_half_away_from_zero(number: Decimal) -> None:
    try:
        rounded = to_storage(number, types.decimal(20, 3))
    except ValueOutOfRangeError:
        assert abs(number) >= Decimal(10) ** 17 - 1
        return
    assert isinstance(rounded, Decimal)
    error = rounded - number
    assert abs(error) <= Decimal("0.0005")
    if abs(error) == Decimal("0.0005"):
        assert abs(rounded) > abs(number)


@given(instant=st.datetimes(timezones=st.just(dt.UTC) | st.just(ZONE)))
def test_datetime_literals_mean_their_instant(instant: dt.datetime) -> None:
    try:
        stored = to_storage(instant.isoformat(" "), types.DATETIME)
    except ValueOutOfRangeError:
        with pytest.raises(OverflowError):
            instant.astimezone(dt.UTC)
        return
    assert from_storage(stored, types.DATETIME) == instant


def test_python_out_has_the_promised_classes() -> None:
    assert from_storage(0, types.DATETIME) == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    naive = from_storage(0, types.TIMESTAMP)
    assert isinstance(naive, dt.datetime)
    assert naive.tzinfo is None
    assert from_storage((0, 1, 1_000), types.INTERVAL) == dt.timedelta(days=1, microseconds=1)
    assert from_storage((1, 0, 0), types.INTERVAL) == Interval(1, 0, 0)
    assert from_storage('{"a": 1}', types.JSON) == '{"a": 1}'
    assert from_storage(struct.pack("<2f", 1, 2), types.embedding(2)) == [1.0, 2.0]
    assert from_storage([["k", 0]], parse_type("MAP(TEXT, DATE)")) == {"k": dt.date(1970, 1, 1)}
