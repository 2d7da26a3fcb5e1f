"""Whole columns on their way into a column of a table: the rules are those of single values."""

import time
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kalamdb_lab.arrow.arrays import array_from_storage, coerce_array, storage_from_array
from kalamdb_lab.arrow.schemas import arrow_type, logical_field
from kalamdb_lab.errors import (
    DimensionMismatchError,
    InvalidValueError,
    KalamError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind, parse_type
from kalamdb_lab.model.values import from_storage, to_storage
from kalamdb_lab.testing.strategies import cells, scalar_types

numeric_types = scalar_types.filter(lambda data_type: data_type.is_numeric)

literals = st.sampled_from(
    [
        "5", "-0", " 7 ", "+3", "40000", "99999999999", "2.50", ".5", "1e3", "1e400", "nan", "ten",
        "", "2031-04-30", "2031-04-31", " 2031-04-30", "2031-04-30 10:00:00", "2031-04-30T10:00",
        "2031-04-30 10:00:00.1234567", "2031-04-30 10:00:00Z", "2031-04-30 10:00:00+02:00",
        "2031-04-30T10", "0000-01-01", "18:05:00", "18:05", "24:00:00", "18:05:00.5", "true",
        "0190A5DE-7c1f-7abc-8def-0123456789ab", "0190a5de7c1f7abc8def0123456789ab", "{}", "[1, 2]",
        "{", "a\0b", "1 day",
    ]
)  # fmt: skip


def one_by_one(values: list[StorageValue], source: KalamDataType, target: KalamDataType) -> str:
    """Return the storage values, or the class of the first error, of values taken singly."""
    try:
        stored = [to_storage(from_storage(value, source), target, column="c") for value in values]
    except KalamError as error:
        return type(error).__name__
    return repr(stored)


def as_column(values: list[StorageValue], source: KalamDataType, target: KalamDataType) -> str:
    array = array_from_storage(values, source)
    try:
        result = coerce_array(array, logical_field("x", source), target, column="c")
    except KalamError as error:
        return type(error).__name__
    result.validate(full=True)
    assert result.type == arrow_type(target)
    return repr(storage_from_array(result, target))


@given(data=st.data(), source=scalar_types, target=scalar_types)
def test_columns_convert_like_single_values(
    data: st.DataObject, source: KalamDataType, target: KalamDataType
) -> None:
    values = data.draw(st.lists(cells(source), max_size=3))
    assert as_column(values, source, target) == one_by_one(values, source, target)


@given(data=st.data(), source=numeric_types, target=numeric_types)
@example(data=None, source=types.DOUBLE, target=types.decimal(9, 2))
def test_numbers_convert_like_single_numbers(
    data: st.DataObject | None, source: KalamDataType, target: KalamDataType
) -> None:
    """Small ones too, which random values of a type seldom are."""
    if data is None:
        values: list[StorageValue] = [2.675, -2.675, 1.005, 0.125, -0.004, 9_999_999.985, None]
    else:
        small = st.integers(-300, 300).map(lambda number: small_number(number, source))
        values = data.draw(st.lists(small | cells(source), min_size=1, max_size=3))
    assert as_column(values, source, target) == one_by_one(values, source, target)


def small_number(number: int, data_type: KalamDataType) -> StorageValue:
    value = number if data_type.is_integer else Decimal(number) / 8
    try:
        return to_storage(value, data_type)
    except KalamError:
        return None


@given(texts=st.lists(literals | st.none(), min_size=1, max_size=3), target=scalar_types)
def test_columns_of_text_are_read_like_literals(
    texts: list[StorageValue], target: KalamDataType
) -> None:
    if target.kind is TypeKind.EMBEDDING:
        target = types.embedding(2)
    assert as_column(texts, types.TEXT, target) == one_by_one(texts, types.TEXT, target)


@given(
    rows=st.lists(
        st.none() | st.lists(st.none() | st.floats(), min_size=2, max_size=2), max_size=4
    ),
    single=st.booleans(),
)
def test_lists_become_vectors_like_single_lists(
    rows: list[list[float | None] | None], *, single: bool
) -> None:
    item = types.FLOAT if single else types.DOUBLE
    values = [
        None if row is None else [None if x is None else to_float(x, item) for x in row]
        for row in rows
    ]
    source, target = types.list_of(item), types.embedding(2)
    assert as_column(values, source, target) == one_by_one(values, source, target)


def to_float(number: float, item: KalamDataType) -> StorageValue:
    try:
        return to_storage(number, item)
    except KalamError:
        return 0.0


FAULTS: list[tuple[pa.Array, str, type[KalamError], str]] = [
    (pa.array([40_000]), "SMALLINT", ValueOutOfRangeError,
     "Column 'n': value is out of range for SMALLINT"),
    (pa.array([1e39]), "FLOAT", ValueOutOfRangeError,
     "Column 'n': value is out of range for FLOAT"),
    (pa.array(["ten"]), "INT", TypeMismatchError, "Column 'n': cannot convert 'ten' to INT"),
    (pa.array([2.5]), "INT", TypeMismatchError, "Column 'n': cannot convert '2.5' to INT"),
    (pa.array([True]), "INT", TypeMismatchError, "Column 'n': cannot convert 'true' to INT"),
    (pa.array([1]), "BOOLEAN", TypeMismatchError, "Column 'n': cannot convert '1' to BOOLEAN"),
    (pa.array(["2031-04-31"]), "DATE", InvalidValueError,
     "Column 'n': invalid DATE '2031-04-31'"),
    (pa.array([0], pa.timestamp("us", "UTC")), "TIMESTAMP", InvalidValueError,
     "Column 'n': TIMESTAMP takes no offset; use DATETIME"),
    (pa.array([1], pa.timestamp("ns")), "TIMESTAMP", InvalidValueError,
     "Column 'n': TIMESTAMP is exact to the microsecond; round the values first"),
    (pa.array([2**62], pa.timestamp("us")), "TIMESTAMP", ValueOutOfRangeError,
     "Column 'n': value is out of range for TIMESTAMP"),
    (pa.array([1], pa.duration("ns")), "INTERVAL", InvalidValueError,
     "Column 'n': INTERVAL is exact to the microsecond; round the values first"),
    (pa.array(["{"]), "JSON", InvalidValueError, "Column 'n': invalid JSON"),
    (pa.array(["x"]), "UUID", InvalidValueError, "Column 'n': invalid UUID"),
    (pa.array(["a\0"]), "TEXT", InvalidValueError,
     "Column 'n': TEXT holds Unicode without the character NUL"),
    (pa.array([[1.0, 2.0], [1.0]]), "EMBEDDING(2)", DimensionMismatchError,
     "Column 'n' expects 2 dimensions, got 1"),
    (pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)), "EMBEDDING(3)", DimensionMismatchError,
     "Column 'n' expects 3 dimensions, got 2"),
    (pa.array([None, [1.0, np.nan]], pa.list_(pa.float32(), 2)), "EMBEDDING(2)",
     InvalidValueError, "Column 'n': component 2 is not a finite number"),
    (pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int32())), "MAP(TEXT, INT)",
     InvalidValueError, "Column 'n': a MAP key appears twice"),
]  # fmt: skip


@pytest.mark.parametrize(("array", "name", "error", "message"), FAULTS)
def test_faults_of_given_columns(
    array: pa.Array, name: str, error: type[KalamError], message: str
) -> None:
    with pytest.raises(error) as caught:
        coerce_array(array, None, parse_type(name), column="n")
    assert str(caught.value) == message


@pytest.mark.parametrize("number", [340_282_366_921, 2**63 - 1, -(10**11)])
def test_decimals_beyond_128_bits_do_not_wrap(number: int) -> None:
    """Arrow's own cast to more digits after the point wraps silently."""
    for array in (pa.array([number]), pa.array([Decimal(number)], pa.decimal128(20, 0))):
        with pytest.raises(ValueOutOfRangeError):
            coerce_array(array, None, types.decimal(38, 27), column="n")
        fits = coerce_array(array, None, types.decimal(38, 18), column="n")
        assert fits.to_pylist() == [Decimal(number)]


def test_columns_of_decimals_round_half_away_from_zero() -> None:
    array = pa.array([Decimal("0.125"), Decimal("-0.125"), Decimal("9.995")])
    result = coerce_array(array, None, types.decimal(5, 2), column="n")
    assert result.to_pylist() == [Decimal("0.13"), Decimal("-0.13"), Decimal("10.00")]


def test_text_that_is_no_unicode_is_refused() -> None:
    damaged = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    )
    with pytest.raises(InvalidValueError, match="TEXT holds Unicode"):
        coerce_array(damaged, None, types.TEXT, column="n")


@pytest.mark.parametrize(
    ("array", "name", "fits"),
    [
        (pa.array([5]), "SMALLINT", True),
        (pa.array([5]), "DOUBLE", True),
        (pa.array([5.0]), "INT", True),
        (pa.array([0], pa.date32()), "TIMESTAMP", True),
        (pa.array([0], pa.timestamp("us", "UTC")), "TIMESTAMP", True),
        (pa.array([0], pa.timestamp("us")), "DATETIME", True),
        (pa.array([str(uuid.UUID(int=1))]), "UUID", True),
        (pa.array([bytes(16)], pa.binary(16)), "TEXT", True),
        (pa.array([[1, 2]]), "EMBEDDING(2)", True),
        (pa.array([[1, 2]]), "SMALLINT[]", True),
        (pa.array([None]), "DATE", True),
        (pa.array(["5"]), "INT", False),
        (pa.array(["2031-04-30"]), "DATE", False),
        (pa.array([5]), "TEXT", False),
        (pa.array([True]), "INT", False),
        (pa.array([0], pa.timestamp("us")), "DATE", False),
        (pa.array(["x"]), "TEXT[]", False),
        (pa.array(["secret"], pa.string()), "INT", False),
    ],
)
def test_stored_values_convert_only_where_types_widen(
    array: pa.Array, name: str, *, fits: bool
) -> None:
    target = parse_type(name)
    if fits:
        result = coerce_array(array, None, target, column="n", stored=True)
        assert result.type == arrow_type(target)
        return
    with pytest.raises(TypeMismatchError, match=r"^Cannot cast .+ to .+ in column 'n'$") as caught:
        coerce_array(array, None, target, column="n", stored=True)
    assert "secret" not in str(caught.value)


def test_stored_values_are_never_quoted() -> None:
    with pytest.raises(TypeMismatchError, match=r"^Cannot cast DOUBLE to INT in column 'n'$"):
        coerce_array(pa.array([2.5]), None, types.INT, column="n", stored=True)


def test_a_column_of_its_own_type_is_shared() -> None:
    array = pa.array(["a", None])
    assert coerce_array(array, None, types.TEXT, column="n") is array


def test_chunks_stay_chunks() -> None:
    chunked = pa.chunked_array([[1], [2, None]])
    result = coerce_array(chunked, None, types.INT, column="n")
    assert result.type == pa.int32()
    assert result.to_pylist() == [1, 2, None]
    empty = coerce_array(pa.chunked_array([], pa.int64()), None, types.INT, column="n")
    assert empty.type == pa.int32()


@pytest.mark.slow
def test_a_million_rows_take_no_loop() -> None:
    """It takes 0.2 s of CPU; one loop over the rows of a column takes more than 1 s."""
    rng = np.random.default_rng(7)
    rows = 1_000_000
    cents = pa.array(np.round(rng.normal(0, 100, rows), 2))
    columns = [
        (pa.array(rng.integers(0, 1_000, rows)), types.INT),
        (pa.array(rng.normal(size=rows)), types.FLOAT),
        (cents, types.decimal(12, 2)),
        (pa.array(rng.integers(0, 10**15, rows) * 1_000, pa.timestamp("ns")), types.TIMESTAMP),
        (pa.array(np.full(rows, "some text")), types.TEXT),
        (pa.array(np.full(rows, "2031-04-30")), types.DATE),
        (pa.array(rng.normal(size=rows * 8)), types.embedding(8)),
    ]
    columns[-1] = (pa.FixedSizeListArray.from_arrays(columns[-1][0], 8), columns[-1][1])
    started = time.process_time()
    for array, data_type in columns:
        coerce_array(array, None, data_type, column="c")
    assert time.process_time() - started < 1.5
