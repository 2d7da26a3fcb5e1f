"""Arrays of numpy become vectors as single ones do, without a call per row."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.arrow.arrays import coerce_array, storage_from_array
from kalamdb_lab.arrow.frames import normalise_table
from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.datatypes import StorageValue, embedding
from kalamdb_lab.model.values import to_storage

V = embedding(3)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=64),
    # Around the largest float32, ties of whole numbers, and the smallest float32.
    st.sampled_from([3.4028235677973366e38, -3.4028235677973362e38, 2**53 + 1, 1e-45, 7e-46]),
)


def given_at_once(data: Any) -> pa.ChunkedArray:
    table = normalise_table(data, wanted={"v": V})
    return coerce_array(table["v"], table.schema.field("v"), V, column="v")


def made(row: tuple[float, ...], dtype: str, at: int) -> np.ndarray[Any, Any]:
    with np.errstate(all="ignore"):
        return np.array(row, ("f4", "i8", "f8")[at % 3] if dtype == "mixed" else dtype)


@given(
    rows=st.lists(st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4),
    dtype=st.sampled_from(["f2", "f4", ">f4", "f8", "i8", "mixed"]),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy makes what is too large infinite
def test_vectors_given_at_once_get_the_bits_or_the_sentence_of_single_ones(
    rows: list[tuple[float, ...] | None], dtype: str
) -> None:
    try:
        arrays = [row if row is None else made(row, dtype, at) for at, row in enumerate(rows)]
    except (ValueError, OverflowError):  # NaN is no integer
        return
    expected: list[StorageValue] | str
    try:
        expected = [to_storage(array, V, column="v") for array in arrays]
    except KalamError as error:
        expected = str(error)
    forms: list[Any] = [{"v": arrays}, pd.DataFrame({"v": pd.Series(arrays, dtype=object)})]
    if None not in rows and dtype != "mixed":
        forms.append({"v": np.stack(arrays)})
    for form in forms:
        try:
            found: object = storage_from_array(given_at_once(form), V)
        except KalamError as error:
            found = str(error)
        assert found == expected


def forms_of(count: int) -> dict[str, Any]:
    rows = np.random.default_rng(1).normal(size=(count, 3))
    flat = pa.array(rows.reshape(-1))
    offsets = pa.array(np.arange(0, 3 * count + 1, 3, dtype=np.int32))
    return {
        "numpy": {"v": rows.astype("f4")},
        "numpy doubles": {"v": rows},
        "numpy halves": {"v": rows.astype("f2")},
        "fixed": pa.table({"v": pa.FixedSizeListArray.from_arrays(flat.cast(pa.float32()), 3)}),
        "fixed doubles": pa.table({"v": pa.FixedSizeListArray.from_arrays(flat, 3)}),
        "lists": pa.table({"v": pa.ListArray.from_arrays(offsets, flat)}),
        "list of arrays": {"v": list(rows)},
        "pandas": pd.DataFrame({"v": list(rows.astype("f4"))}),
    }


def calls_within(data: Any) -> int:
    """Python calls that it takes to make vectors of this."""
    count = 0

    def count_call(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(count_call)
    try:
        given_at_once(data)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("form", forms_of(1))
def test_ten_times_the_rows_take_no_more_python_calls(form: str) -> None:
    given_at_once(forms_of(1)[form])
    few, many = calls_within(forms_of(200)[form]), calls_within(forms_of(2_000)[form])
    assert abs(many - few) < 30
    assert few > 0


@pytest.mark.parametrize("form", ["numpy", "fixed"])
def test_float32_is_not_copied(form: str) -> None:
    data = forms_of(100_000)[form]
    before = pa.total_allocated_bytes()
    vectors = given_at_once(data)
    assert pa.total_allocated_bytes() - before < 10_000
    components = vectors.chunk(0).values.to_numpy()
    given_rows = data["v"]
    if form == "fixed":
        given_rows = given_rows.chunk(0).values.to_numpy()
    assert np.shares_memory(components, given_rows)
