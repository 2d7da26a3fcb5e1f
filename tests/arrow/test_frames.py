"""Dataframes and their like: every column gets a type, or is refused by its name."""

import datetime as dt
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kalamdb_lab.arrow.frames import normalise_table
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.errors import (
    InvalidDefinitionError,
    InvalidValueError,
    KalamError,
    TypeMismatchError,
)
from kalamdb_lab.model import datatypes as types

ID = uuid.UUID(int=5)


def names_of(table: pa.Table) -> dict[str, str]:
    return {field.name: str(kalam_type(field)) for field in table.schema}


def test_pandas_columns() -> None:
    frame = pd.DataFrame(
        {
            "BIGINT": [1, 2],
            "TEXT": ["x", None],
            "TEXT category": pd.Categorical(["u", "v"]),
            "TEXT empty": [None, None],
            "TIMESTAMP": pd.to_datetime(["2031-01-01", None]),
            "DATETIME": pd.to_datetime(["2031-01-01", None]).tz_localize("Europe/Berlin"),
            "DOUBLE": [1.5, np.nan],
            "FLOAT": np.array([1, 2], "float16"),
            "UUID": [ID, None],
            "INTERVAL": pd.to_timedelta([1, 90_000], unit="s"),
            "DECIMAL(2, 1)": [Decimal("1.5"), None],
            "DATE": [dt.date(2031, 1, 1), None],
            "TIME": [dt.time(1, 2), None],
            "BYTES": [b"x", None],
            "BOOLEAN": pd.array([True, None], dtype="boolean"),
            "INT": pd.array([1, None], dtype="Int32"),
            "DOUBLE[]": [np.array([1.0]), [2.0, None]],
            "STRUCT(a BIGINT)": [{"a": 1}, None],
        }
    )
    table = normalise_table(frame)
    assert {name: name.partition(" ")[0] for name in table.column_names if "(" not in name} == {
        name: kind for name, kind in names_of(table).items() if "(" not in name
    }
    assert names_of(table)["DECIMAL(2, 1)"] == "DECIMAL(2, 1)"
    assert names_of(table)["STRUCT(a BIGINT)"] == "STRUCT(a BIGINT)"
    assert table["DOUBLE"].to_pylist() == [1.5, None]
    assert table["DATETIME"].to_pylist()[0] == dt.datetime(2030, 12, 31, 23, tzinfo=dt.UTC)


def test_a_pandas_index_stays_if_it_has_a_name() -> None:
    frame = pd.DataFrame({"x": [1, 2]})
    assert normalise_table(frame).column_names == ["x"]
    assert normalise_table(frame[frame.x > 1]).column_names == ["x"]
    assert normalise_table(frame.rename_axis("k")).column_names == ["k", "x"]
    pairs = frame.assign(a=1, b=2).set_index(["a", "b"])
    assert normalise_table(pairs).column_names == ["a", "b", "x"]


def test_polars_frames_and_lazy_ones() -> None:
    frame = pl.DataFrame(
        {
            "t": ["x", None],
            "c": pl.Series(["a", "b"], dtype=pl.Categorical),
            "l": [[1], None],
            "d": [Decimal("1.5"), None],
            "n": [None, None],
            "at": [dt.datetime.fromisoformat("2031-01-01"), None],
            "of": [dt.time(1), None],
        }
    )
    expected = {"t": "TEXT", "c": "TEXT", "l": "BIGINT[]", "n": "TEXT", "at": "TIMESTAMP"}
    assert expected.items() <= names_of(normalise_table(frame)).items()
    assert names_of(normalise_table(frame.lazy())) == names_of(normalise_table(frame))
    assert normalise_table(frame)["of"].to_pylist() == [dt.time(1), None]


def test_arrow_in_all_its_shapes() -> None:
    table = pa.table(
        {"a": pa.array(["x"]).dictionary_encode(), "b": pa.array([b"1"], "large_binary")}
    )
    batch = table.to_batches()[0]

    class Stream:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return table.__arrow_c_stream__(requested_schema)

    reader = pa.RecordBatchReader.from_batches(table.schema, [batch])
    for shape in (table, batch, reader, Stream()):
        result = normalise_table(shape)
        assert names_of(result) == {"a": "TEXT", "b": "BYTES"}
        assert result.to_pylist() == [{"a": "x", "b": b"1"}]


def test_python_columns_and_rows() -> None:
    columns = normalise_table(
        {"a": [1, None], "b": np.array([1.5, 2.5]), "v": np.zeros((2, 3), "f4")}
    )
    assert names_of(columns) == {"a": "BIGINT", "b": "DOUBLE", "v": "EMBEDDING(3)"}
    rows = normalise_table([{"a": 1}, {"b": "x", "a": 2}])
    assert rows.to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_wanted_types_read_python_objects() -> None:
    """Inference would make a STRUCT with the fields of all rows, and refuse mixed values."""
    frame = pd.DataFrame(
        {"J": [{"a": 1}, [2]], "u": [str(ID), np.nan], "n": [1, "2"]}, dtype=object
    )
    wanted = {"j": types.JSON, "U": types.UUID, "n": types.INT, "absent": types.TEXT}
    table = normalise_table(frame, wanted=wanted)
    assert names_of(table) == {"J": "JSON", "u": "UUID", "n": "INT"}
    assert table["J"].to_pylist() == ['{"a": 1}', "[2]"]
    assert table["u"].to_pylist() == [ID.bytes, None]
    with pytest.raises(TypeMismatchError, match=r"^Column 'n': cannot convert 'ten' to INT$"):
        normalise_table({"n": ["ten"]}, wanted=wanted)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (5, TypeMismatchError, "int is not a table; give a dataframe"),
        ([], TypeMismatchError, "list is not a table; give a dataframe"),
        ({"a": 5}, TypeMismatchError, "Column 'a': a column is a list or an array of values"),
        ({"a": "xy"}, TypeMismatchError, "Column 'a': a column is a list or an array of values"),
        ({"a": [1, "x"]}, TypeMismatchError, "Column 'a': its values have no common type"),
        (pd.DataFrame({"a": [1, "x"]}), TypeMismatchError, "Column 'a': its values have no common"),
        ({"a": [1], "b": []}, TypeMismatchError, "The columns have different numbers of values"),
        (pd.DataFrame([[1, 2]], columns=["a", "A"]), InvalidDefinitionError,
         "Column 'A' appears twice"),
        ({"a": pa.array([1_001], pa.timestamp("ns"))}, InvalidValueError,
         "Column 'a': TIMESTAMP is exact to the microsecond"),
        ({"a": pd.period_range("2031", periods=1, freq="Y")}, TypeMismatchError,
         "Column 'a': there is no type for"),
        (pl.DataFrame({"a": [object()]}), TypeMismatchError, "Column 'a': there is no type for"),
        (pl.DataFrame({"a": [2**100]}), TypeMismatchError, "Column 'a': there is no type for"),
        ({"a": [2**64]}, TypeMismatchError, "Column 'a': its values have no common type"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), TypeMismatchError,
         "Column names of several levels are not supported"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_by_name(
    data: object, error: type[KalamError], message: str
) -> None:
    with pytest.raises(error) as caught:
        normalise_table(data)
    assert str(caught.value).startswith(message)
    assert caught.value.__cause__ is None
