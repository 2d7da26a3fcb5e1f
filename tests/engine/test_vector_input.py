"""Vectors in all the forms that they are given in, and what is said of those that do not fit."""

from __future__ import annotations

import array
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError

ROWS = np.array([[0, 1, 2], [3, 4, 5]], np.float32)
IDS = [1, 2]
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def t(s: Session) -> Session:
    s.execute("CREATE TABLE docs (id BIGINT PRIMARY KEY, v EMBEDDING(3))")
    return s


def stored(session: Session) -> list[Any]:
    return [row for (row,) in session.execute("SELECT v FROM docs ORDER BY id").rows()]


def lists(rows: Any, data_type: pa.DataType) -> pa.Table:
    return pa.table({"id": IDS, "v": pa.array(rows, data_type)})


def fixed(rows: np.ndarray[Any, Any]) -> pa.Table:
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return pa.table({"id": IDS, "v": column})


def sliced(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table]).combine_chunks().slice(2)


NUMPY = {
    str(dtype): ROWS.astype(dtype)
    for dtype in ("f2", "f4", "f8", ">f4", ">f8", "i1", "i8", "u8", object)
} | {
    "columns first": np.asfortranarray(ROWS),
    "strided": np.repeat(ROWS, 2, axis=1)[:, ::2],
    "arrays in an array": pd.Series(list(ROWS)).to_numpy(),
}
TABLES: dict[str, Any] = {
    **{f"numpy {name}": {"id": IDS, "v": rows} for name, rows in NUMPY.items()},
    **{f"lists of {item}": lists(ROWS.tolist(), pa.list_(item)) for item in (pa.float32(), pa.float64(), pa.int16())},
    **{f"fixed {dtype}": fixed(ROWS.astype(dtype)) for dtype in ("f2", "f4", "f8", "i4")},
    "sliced": sliced(fixed(ROWS)),
    "sliced doubles": sliced(fixed(ROWS.astype(float))),
    "sliced lists": sliced(lists(ROWS.tolist(), pa.list_(pa.float32()))),
    "large lists": lists(ROWS.tolist(), pa.large_list(pa.float32())),
    "list views": lists(ROWS.tolist(), pa.list_view(pa.float32())),
    "half lists": lists([list(row) for row in ROWS.astype("f2")], pa.list_(pa.float16())),
    "not null components": lists(ROWS.tolist(), pa.list_(pa.field("x", pa.float32(), nullable=False), 3)),
    "text in Arrow": lists(["[0, 1, 2]", "[3, 4, 5]"], pa.string()),
    "lists": {"id": IDS, "v": ROWS.tolist()},
    "tuples": {"id": IDS, "v": tuple(map(tuple, ROWS.tolist()))},
    "list of arrays": {"id": IDS, "v": list(ROWS)},
    "arrays of several types": {"id": IDS, "v": [ROWS[0], ROWS[1].astype("i8")]},
    "text": {"id": IDS, "v": ["[0, 1, 2]", "[3, 4, 5]"]},
    "dicts": [{"id": id_, "v": row} for id_, row in zip(IDS, ROWS, strict=True)],
    "pandas lists": pd.DataFrame({"id": IDS, "v": ROWS.tolist()}),
    "pandas arrays": pd.DataFrame({"id": IDS, "v": list(ROWS)}),
    "pandas doubles": pd.DataFrame({"id": IDS, "v": list(ROWS.astype(float))}),
    "pandas over Arrow": fixed(ROWS).to_pandas(types_mapper=pd.ArrowDtype),
    "polars arrays": pl.DataFrame({"id": IDS, "v": ROWS}),
    "polars lists": pl.DataFrame({"id": IDS, "v": ROWS.tolist()}),
    "a Series of polars": {"id": IDS, "v": pl.Series(ROWS)},
    "a Series of pandas": {"id": IDS, "v": pd.Series(list(ROWS))},
}  # fmt: skip


@pytest.mark.parametrize("form", TABLES)
def test_vectors_of_any_form_are_stored(t: Session, form: str) -> None:
    t.insert("docs", TABLES[form])
    assert stored(t) == ROWS.tolist()


NULLS: dict[str, Any] = {
    "fixed": lists([None, [3, 4, 5]], pa.list_(pa.float32(), 3)),
    "fixed doubles": lists([None, [3, 4, 5]], pa.list_(pa.float64(), 3)),
    "lists": lists([None, [3, 4, 5]], pa.list_(pa.float64())),
    "list of arrays": {"id": IDS, "v": [None, ROWS[1]]},
    "NaN among arrays": pd.DataFrame({"id": IDS, "v": [NAN, ROWS[1]]}),
    "NA among arrays": pd.DataFrame({"id": IDS, "v": [pd.NA, ROWS[1]]}),
    "polars": pl.DataFrame({"id": IDS, "v": [None, [3, 4, 5]]}),
}


@pytest.mark.parametrize("form", NULLS)
def test_a_missing_vector_is_null(t: Session, form: str) -> None:
    t.insert("docs", NULLS[form])
    assert stored(t) == [None, [3, 4, 5]]


def with_component(number: Any) -> list[list[Any]]:
    return [[0.0, 1.0, 2.0], [3.0, number, 5.0]]


def bad_forms(number: float | None) -> dict[str, Any]:
    rows = with_component(number)
    forms: dict[str, Any] = {
        "lists in Arrow": lists(rows, pa.list_(pa.float64())),
        "fixed": lists(rows, pa.list_(pa.float32(), 3)),
        "fixed doubles": lists(rows, pa.list_(pa.float64(), 3)),
        "lists": {"id": IDS, "v": rows},
        "pandas lists": pd.DataFrame({"id": IDS, "v": rows}),
        "polars": pl.DataFrame({"id": IDS, "v": rows}),
    }
    if number is not None:
        array = np.array(rows)
        forms["numpy"] = {"id": IDS, "v": array}
        forms["list of arrays"] = {"id": IDS, "v": list(array)}
        forms["pandas arrays"] = pd.DataFrame({"id": IDS, "v": list(array.astype("f4"))})
    return forms


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy makes 1e300 so
@pytest.mark.parametrize("number", [NAN, INF, -INF, 1e300, None])
def test_a_component_that_is_no_number_is_told_by_its_place(
    t: Session, number: float | None
) -> None:
    for form in bad_forms(number).values():
        with pytest.raises(KalamError) as caught:
            t.insert("docs", form)
        assert str(caught.value) == "Column 'v': component 2 is not a finite number"
    assert stored(t) == []


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        (ROWS[:, :2], 2),
        (ROWS[:, :0], 0),
        (np.zeros((2, 9_000), np.float32), 9_000),
        (fixed(ROWS[:, :2])["v"], 2),
        (fixed(ROWS[:, :2].astype(float))["v"], 2),
        ([[1, 2, 3], [1, 2]], 2),
        ([ROWS[0], ROWS[1, :2]], 2),
        (pa.array([[1.0, 2.0, 3.0], [1.0, 2.0]]), 2),
        (["[1, 2, 3]", "[1, 2]"], 2),
        (pl.Series(ROWS[:, :2]), 2),
    ],
    ids=str,
)
def test_a_wrong_dimension_names_both_numbers(t: Session, rows: Any, got: int) -> None:
    with pytest.raises(KalamError) as caught:
        t.insert("docs", {"id": IDS, "v": rows})
    assert str(caught.value) == f"Column 'v' expects 3 dimensions, got {got}"
    assert stored(t) == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (ROWS, "ndarray is not a table; give a dataframe, an Arrow table, a dict of columns or a "
               "list of dicts"),
        ({"id": IDS, "v": ROWS[:, :, None]},
         "Column 'v': an array of 3 axes is no column; give (rows, dimension)"),
        ({"id": IDS, "v": np.vstack([ROWS, ROWS])}, "The columns have different numbers of values"),
        ({"id": IDS, "v": ROWS > 1}, "Column 'v': cannot convert 'false' to EMBEDDING(3)"),
        ({"id": IDS, "v": ROWS.astype(str)}, "Column 'v': cannot convert '0.0' to EMBEDDING(3)"),
    ],
    ids=["bare array", "three axes", "other length", "booleans", "texts"],
)  # fmt: skip
def test_what_is_no_column_of_vectors_says_what_to_give(
    t: Session, data: Any, sentence: str
) -> None:
    with pytest.raises(KalamError) as caught:
        t.insert("docs", data)
    assert str(caught.value) == sentence


PARAMETERS = {
    "list": [1, 2, 3],
    "tuple": (1, 2.0, 3),
    "f2": np.array([1, 2, 3], "f2"),
    "f4": np.array([1, 2, 3], "f4"),
    "f8": np.array([1, 2, 3], "f8"),
    "integers": np.array([1, 2, 3]),
    "text": "[1, 2, 3]",
    "decimals": [Decimal(1), Decimal(2), Decimal(3)],
    "Arrow array": pa.array([1.0, 2.0, 3.0]),
    "Arrow scalar": pa.array([[1.0, 2.0, 3.0]])[0],
    "pandas": pd.Series([1.0, 2.0, 3.0]),
    "polars": pl.Series([1.0, 2.0, 3.0]),
    "array": array.array("f", [1, 2, 3]),
}


@pytest.mark.parametrize("form", PARAMETERS)
def test_a_parameter_may_be_a_vector_of_any_form(t: Session, form: str) -> None:
    t.execute("INSERT INTO docs VALUES (1, ?)", [PARAMETERS[form]])
    assert stored(t) == [[1, 2, 3]]
    t.execute("UPDATE docs SET v = NULL WHERE true")
    t.execute("UPDATE docs SET v = ? WHERE true", [PARAMETERS[form]])
    assert stored(t) == [[1, 2, 3]]


@pytest.mark.parametrize("literal", ["'[1, 2, 3]'", "[1, 2, 3]", "ARRAY[1, 2, 3]", "[1e0, 2.0, 3]"])
def test_a_literal_may_be_text_or_an_array(t: Session, literal: str) -> None:
    t.execute(f"INSERT INTO docs VALUES (1, {literal})")
    assert stored(t) == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("[1, 2]", "Column 'v' expects 3 dimensions, got 2"),
        ([1, 2], "Column 'v' expects 3 dimensions, got 2"),
        (np.zeros((1, 3)), "Column 'v' expects 3 dimensions, got 1"),
        ("[1, 2, NaN]", "Column 'v': component 3 is not a finite number"),
        ("[1, null, 2]", "Column 'v': component 2 is not a finite number"),
        ([INF, 2, 3], "Column 'v': component 1 is not a finite number"),
        (np.array([1, 2, NAN], "f4"), "Column 'v': component 3 is not a finite number"),
        ([1, 1e39, 3], "Column 'v': component 2 is not a finite number"),
        ([1, None, 3], "Column 'v': component 2 is not a finite number"),
        ("hello", "Column 'v': cannot convert 'hello' to EMBEDDING(3)"),
        ([1, True, 3], "Column 'v': cannot convert 'true' to EMBEDDING(3)"),
    ],
    ids=str,
)
def test_a_parameter_that_is_no_such_vector_is_refused(
    t: Session, value: Any, sentence: str
) -> None:
    with pytest.raises(KalamError) as caught:
        t.execute("INSERT INTO docs VALUES (1, ?)", [value])
    assert str(caught.value) == sentence
