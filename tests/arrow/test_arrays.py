"""Storage values and Arrow arrays: nothing is lost in either direction."""

import datetime as dt
import uuid

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.arrow.arrays import array_from_storage, python_from_array, storage_from_array
from kalamdb_lab.arrow.schemas import arrow_type
from kalamdb_lab.errors import ValueOutOfRangeError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, parse_type
from kalamdb_lab.model.values import from_storage
from kalamdb_lab.testing.strategies import cells, data_types


@given(data=st.data(), data_type=data_types)
def test_storage_values_come_back_from_arrow(data: st.DataObject, data_type: KalamDataType) -> None:
    values = data.draw(st.lists(cells(data_type), max_size=5))
    array = array_from_storage(values, data_type)
    array.validate(full=True)
    assert array.type == arrow_type(data_type)
    assert repr(storage_from_array(array, data_type)) == repr(values)
    python = [from_storage(value, data_type) for value in values]
    assert repr(python_from_array(array, data_type)) == repr(python)


@given(data=st.data(), data_type=data_types)
def test_slices_and_chunks_read_as_the_whole(data: st.DataObject, data_type: KalamDataType) -> None:
    values = data.draw(st.lists(cells(data_type), min_size=1, max_size=6))
    at = data.draw(st.integers(0, len(values)))
    array = array_from_storage(values, data_type)
    chunked = pa.chunked_array([array.slice(0, at), array.slice(at)], array.type)
    assert repr(storage_from_array(chunked, data_type)) == repr(values)
    assert repr(storage_from_array(array.slice(at), data_type)) == repr(values[at:])


def test_python_values_have_the_promised_classes() -> None:
    row = {
        "UUID": uuid.UUID(int=5),
        "DATETIME": dt.datetime(2031, 4, 30, tzinfo=dt.UTC),
        "TIMESTAMP": dt.datetime.fromisoformat("2031-04-30"),
        "EMBEDDING(2)": [0.5, 1.0],
        "MAP(TEXT, DATE)": {"a": dt.date(2031, 4, 30)},
        "JSON": "{}",
    }
    stored = {
        "UUID": uuid.UUID(int=5).bytes,
        "DATETIME": 1_935_273_600_000_000,
        "TIMESTAMP": 1_935_273_600_000_000,
        "EMBEDDING(2)": bytes.fromhex("0000003f0000803f"),
        "MAP(TEXT, DATE)": [["a", 22_399]],
        "JSON": "{}",
    }
    for name, value in row.items():
        data_type = parse_type(name)
        array = array_from_storage([stored[name]], data_type)
        assert python_from_array(array, data_type) == [value]


@pytest.mark.parametrize("data_type", [types.TIMESTAMP, types.DATETIME])
def test_an_instant_beyond_pythons_years_is_told(data_type: KalamDataType) -> None:
    """The engine's infinity is the largest number of microseconds."""
    array = pa.array([2**63 - 1], arrow_type(data_type))
    with pytest.raises(ValueOutOfRangeError):
        python_from_array(array, data_type)
