"""Differences of tables: laws over random tables of all types, and what equality means."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalamdb_lab.arrow.arrays import array_from_storage, storage_from_array
from kalamdb_lab.arrow.schemas import kalam_type, logical_field
from kalamdb_lab.errors import DuplicateKeyError
from kalamdb_lab.live.difference import changes_between, check_unique
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.testing import strategies as own

COLUMN_TYPES = [
    types.BIGINT,
    types.DOUBLE,
    types.TEXT,
    types.BOOLEAN,
    types.decimal(9, 2),
    types.embedding(2),
    types.list_of(types.INT),
    types.DATETIME,
    types.UUID,
    types.INTERVAL,
]


def table(columns: list[tuple[types.KalamDataType, list[Any]]]) -> pa.Table:
    fields = [logical_field(f"c{at}", kind) for at, (kind, _) in enumerate(columns)]
    arrays = [array_from_storage(values, kind) for kind, values in columns]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def content(rows: pa.Table) -> list[tuple[Any, ...]]:
    """Rows as values that compare as the difference does: NaN is itself, zero has no sign."""
    columns = [
        storage_from_array(column, kalam_type(field))
        for column, field in zip(rows.columns, rows.schema, strict=True)
    ]
    return [tuple(_plain(value) for value in row) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if value != value else value + 0.0
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    return value


@st.composite
def states(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    """Two states of a result: few rows and fewer values, so that most things happen."""
    kinds = draw(st.lists(st.sampled_from(COLUMN_TYPES), min_size=1, max_size=3))
    pools = [
        draw(st.lists(st.none() | own.storage_values(kind), min_size=1, max_size=3))
        for kind in kinds
    ]
    both = []
    for _ in range(2):
        count = draw(st.integers(0, 7))
        rows = [[draw(st.sampled_from(pool)) for _ in range(count)] for pool in pools]
        both.append(table(list(zip(kinds, rows, strict=True))))
    return both[0], both[1]


@given(states())
@settings(deadline=None, max_examples=300)
def test_deleting_and_inserting_turns_the_old_rows_into_the_new_ones(
    both: tuple[pa.Table, pa.Table],
) -> None:
    old, new = both
    changes = changes_between(old, new)
    before, after = content(old), content(new)
    kept = [row for at, row in enumerate(before) if at not in set(changes.deleted.tolist())]
    result = kept + [after[at] for at in changes.inserted]
    assert sorted(map(repr, result)) == sorted(map(repr, after))
    assert not len(changes.updated)
    gone = {repr(before[at]) for at in changes.deleted}
    assert not gone & {repr(after[at]) for at in changes.inserted}, "a row that stayed was told"


@given(states(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_a_state_that_is_itself_in_another_order_has_no_difference(
    both: tuple[pa.Table, pa.Table], random: Any
) -> None:
    old, _ = both
    order = list(range(old.num_rows))
    random.shuffle(order)
    moved = old.take(pa.array(order, pa.int64()))
    assert not changes_between(old, moved)
    assert not changes_between(old, old)


@given(
    st.dictionaries(st.integers(-3, 8) | st.none(), st.tuples(st.floats(), st.text(max_size=2))),
    st.dictionaries(st.integers(-3, 8) | st.none(), st.tuples(st.floats(), st.text(max_size=2))),
)
@settings(deadline=None, max_examples=300)
def test_rows_with_a_key_are_inserted_updated_and_deleted_as_dictionaries_say(
    old: dict[Any, Any], new: dict[Any, Any]
) -> None:
    def of(rows: dict[Any, Any]) -> pa.Table:
        return table(
            [
                (types.BIGINT, list(rows)),
                (types.DOUBLE, [value for value, _ in rows.values()]),
                (types.TEXT, [text.replace("\0", "") for _, text in rows.values()]),
            ]
        )

    before, after = of(old), of(new)
    changes = changes_between(before, after, [0])
    was, now = ({row[0]: row[1:] for row in content(rows)} for rows in (before, after))
    keys = after.column(0).to_pylist()
    assert {keys[at] for at in changes.inserted} == now.keys() - was.keys()
    assert {keys[at] for at in changes.updated} == {
        key for key in now.keys() & was.keys() if now[key] != was[key]
    }
    gone = before.column(0).to_pylist()
    assert {gone[at] for at in changes.deleted} == was.keys() - now.keys()
    check_unique(after, [0])


def test_nan_null_and_the_sign_of_zero_are_no_difference_and_null_is_none_of_the_others() -> None:
    old = table([(types.DOUBLE, [float("nan"), None, 0.0, 1.0])])
    assert not changes_between(old, table([(types.DOUBLE, [float("nan"), None, -0.0, 1.0])]))
    changes = changes_between(old, table([(types.DOUBLE, [None, None, 0.0, 1.0])]))
    assert changes.inserted.tolist() == [0]
    assert changes.deleted.tolist() == [0]


def test_a_row_that_only_moved_is_no_update_and_the_order_is_told() -> None:
    old = table([(types.BIGINT, [1, 2, 3]), (types.TEXT, ["a", "b", "c"])])
    changes = changes_between(old, old.take(pa.array([2, 0, 1])), [0])
    assert not changes
    assert changes.is_reordered
    assert not changes_between(old, old.slice(1), [0]).is_reordered


def test_without_key_columns_there_is_one_row_and_it_is_updated() -> None:
    one, other = (table([(types.BIGINT, [count])]) for count in (4, 5))
    assert changes_between(one, other, []).updated.tolist() == [0]


def test_equal_rows_are_counted() -> None:
    old = table([(types.TEXT, ["x", "x", "y"])])
    changes = changes_between(old, table([(types.TEXT, ["y", "x", "x", "x"])]))
    assert len(changes.inserted) == 1
    assert not len(changes.deleted)


def test_other_columns_are_another_table() -> None:
    old = table([(types.INT, [1, 2])])
    changes = changes_between(old, table([(types.BIGINT, [1, 2])]), [0])
    assert (len(changes.inserted), len(changes.deleted)) == (2, 2)


def test_a_key_that_stands_twice_is_refused_by_its_columns() -> None:
    rows = table([(types.BIGINT, [7, 9, 7]), (types.decimal(9, 2), [Decimal(1)] * 3)])
    with pytest.raises(DuplicateKeyError, match=r"The key \(c0\) does not tell the rows"):
        check_unique(rows, [0])
    with pytest.raises(DuplicateKeyError, match=r"The key \(c0, c1\)"):
        check_unique(rows, [0, 1])
    check_unique(rows.slice(0, 2), [0])


@pytest.mark.slow
def test_a_million_rows_of_five_columns_are_compared_without_looking_at_each() -> None:
    """A loop over the rows in Python takes longer than this by an order of magnitude."""
    count = 1_000_000
    random = np.random.default_rng(7)
    old = pa.table(
        {
            "id": np.arange(count),
            "group": random.integers(0, 1000, count),
            "value": random.random(count),
            "name": pa.array([f"name {at % 5000}" for at in range(count)]),
            "level": random.integers(0, 10, count),
        }
    )
    values = old.column("group").to_numpy().copy()
    values[::3] += 1
    new = old.set_column(1, "group", pa.array(values))
    begun = time.process_time()
    changes = changes_between(old, new, [0])
    assert time.process_time() - begun < 3
    assert len(changes.updated) == len(range(0, count, 3))
