"""Pruning keeps every segment with a matching row, and drops what it can."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from segment_samples import PARTITION, SCALARS, nullable, older, rows_of, storage_values, table_of

from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.segments.layout import SEQ_FIELD_ID
from kalamdb_lab.segments.pruning import Comparison, Predicate, may_match, prune
from kalamdb_lab.segments.statistics import LONGEST_BOUND, column_statistics
from kalamdb_lab.segments.versions import converted_value

ORDERED = [
    data_type
    for data_type in SCALARS
    if data_type.kind not in (TypeKind.EMBEDDING, TypeKind.INTERVAL)
]


def meta_of(table: TableDef, values: dict[str, Sequence[StorageValue]]) -> SegmentMeta:
    rows = rows_of(table, values)
    statistics = {
        column.column_id: column_statistics(rows.column(column.name), column.data_type)
        for column in table.columns
    }
    seqs = rows.column("_seq").to_pylist()
    return SegmentMeta(
        1, PARTITION, table.schema_version, "local", "s", rows.num_rows, 0,
        seqs[0], seqs[-1], "", {}, statistics, 0,
    )  # fmt: skip


def order(value: Any) -> tuple[bool, Any]:
    """NaN is equal to itself and above every number."""
    if isinstance(value, float) and math.isnan(value):
        return (True, 0)
    return (False, value)


def is_true(value: Any, comparison: Comparison, constant: Any) -> bool:
    if comparison == "is null":
        return value is None
    if comparison == "is not null":
        return value is not None
    if comparison == "in":
        return any(is_true(value, "=", item) for item in constant)
    if value is None or constant is None:
        return False
    left, right = order(value), order(constant)
    return {
        "=": left == right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[comparison]


@st.composite
def cases(draw: st.DrawFn) -> tuple[KalamDataType, list[StorageValue], Comparison, Any]:
    data_type = draw(st.sampled_from(ORDERED))
    values = draw(st.lists(nullable(data_type), min_size=1, max_size=6))
    # Constants near the values are the ones that could be lost.
    constants = st.sampled_from(values) | nullable(data_type)
    if data_type.is_text_like:
        constants |= st.sampled_from([v for v in values if v] or [""]).map(
            lambda text: text[:LONGEST_BOUND] + "a"
        )
    comparison = draw(st.sampled_from(get_args(Comparison)))
    constant = draw(st.lists(constants, max_size=3) if comparison == "in" else constants)
    return data_type, values, comparison, constant


@settings(max_examples=250)
@given(case=cases())
@example(case=(types.DOUBLE, [1.0, math.nan], ">", 5.0))
@example(case=(types.DOUBLE, [1.0], "=", math.nan))
@example(case=(types.DOUBLE, [0.0], "=", -0.0))
@example(case=(types.TEXT, ["x" * 70], ">", "x" * 64))
@example(case=(types.TEXT, ["x" * 70], "=", "x" * 70))
@example(case=(types.BYTES, [b"\xff" * 70], ">=", b"\xff" * 65))
def test_a_segment_with_a_matching_row_is_never_dropped(
    case: tuple[KalamDataType, list[StorageValue], Comparison, Any],
) -> None:
    data_type, values, comparison, constant = case
    table = table_of([ColumnDef(1, "c", data_type)])
    meta = meta_of(table, {"c": values})
    predicate = Predicate(1, comparison, constant)
    if any(is_true(value, comparison, constant) for value in values):
        assert may_match(meta, table, [predicate])
    elif data_type == types.INT and len(values) == 1:
        # One row of a plain number: the bounds are the row, so the answer is exact.
        assert not may_match(meta, table, [predicate])


RETYPED = [
    (types.INT, types.BIGINT),
    (types.BIGINT, types.DOUBLE),
    (types.UBIGINT, types.DOUBLE),
    (types.BIGINT, types.decimal(38, 10)),
    (types.decimal(38, 10), types.DOUBLE),
    (types.DATE, types.TIMESTAMP),
    (types.TIMESTAMP, types.DATETIME),
    (types.INT, types.TEXT),
    (types.FLOAT, types.DOUBLE),
]


@settings(max_examples=100)
@given(data=st.data(), pair=st.sampled_from(RETYPED))
def test_bounds_of_an_older_type_drop_nothing_that_matches(
    data: st.DataObject, pair: tuple[KalamDataType, KalamDataType]
) -> None:
    old, new = pair
    table = table_of([ColumnDef(1, "c", old)], [ColumnDef(1, "c", new)])
    values = data.draw(st.lists(storage_values(old), min_size=1, max_size=5))
    meta = meta_of(older(table, 1), {"c": values})
    now = [converted_value(value, old, new, column="c") for value in values]
    constant = data.draw(st.sampled_from(now) | storage_values(new))
    comparison = data.draw(st.sampled_from(["=", "<", "<=", ">", ">="]))
    assume(any(is_true(value, comparison, constant) for value in now))
    assert may_match(meta, table, [Predicate(1, comparison, constant)])


@pytest.mark.parametrize(
    ("predicate", "kept"),
    [
        (Predicate(2, "=", 5), True),
        (Predicate(2, "=", 6), False),
        (Predicate(2, "in", [6, 5]), True),
        (Predicate(2, "is null"), False),
        (Predicate(2, "is not null"), True),
        (Predicate(3, "is null"), True),
        (Predicate(3, "=", "x"), False),
        (Predicate(3, "is not null"), False),
        (Predicate(SEQ_FIELD_ID, ">", 102), False),
        (Predicate(SEQ_FIELD_ID, ">=", 102), True),
        (Predicate(99, "=", 1), True),
        (Predicate(1, "=", "text"), True),
    ],
)
def test_newer_columns_and_seq_are_known_without_statistics(
    predicate: Predicate, kept: bool
) -> None:
    first = ColumnDef(1, "id", types.INT)
    table = table_of(
        [first], [first, ColumnDef(2, "n", types.INT, fill=5), ColumnDef(3, "t", types.TEXT)]
    )
    meta = meta_of(older(table, 1), {"id": [1, 2]})
    assert may_match(meta, table, [predicate]) is kept


def test_all_predicates_must_be_possible_at_once() -> None:
    table = table_of([ColumnDef(1, "a", types.INT), ColumnDef(2, "b", types.TEXT)])
    one = meta_of(table, {"a": [1, 5], "b": ["a", "c"]})
    other = meta_of(table, {"a": [7, None], "b": ["b", "d"]})
    assert prune([one, other], table, []) == [one, other]
    assert prune([one, other], table, [Predicate(1, ">", 5)]) == [other]
    assert prune([one, other], table, [Predicate(1, "<", 9), Predicate(2, "<", "b")]) == [one]
    assert prune([one, other], table, [Predicate(1, "=", 3), Predicate(2, "=", "z")]) == []


def test_long_text_keeps_a_low_bound_only() -> None:
    table = table_of([ColumnDef(1, "t", types.TEXT), ColumnDef(2, "u", types.TEXT)])
    meta = meta_of(table, {"t": ["ö" * 80, "zz"], "u": ["a", "ö" * 64]})
    assert meta.statistics[1].low == "zz"
    assert meta.statistics[1].high is None
    assert meta.statistics[2].high == "ö" * 64
    assert meta_of(table, {"t": ["b" * 80], "u": ["x"]}).statistics[1].low == "b" * 64
