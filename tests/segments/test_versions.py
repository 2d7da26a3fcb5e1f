"""What MODIFY of a column does to the values that are stored."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from kalamdb_lab.arrow.arrays import array_from_storage, storage_from_array
from kalamdb_lab.errors import TypeMismatchError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.segments.versions import converted, converted_value


@pytest.mark.parametrize(
    ("value", "old", "new", "wanted"),
    [
        (12, types.BIGINT, types.SMALLINT, 12),
        (2**53 + 1, types.BIGINT, types.DOUBLE, 2.0**53),
        (3.0, types.DOUBLE, types.INT, 3),
        (0.25, types.DOUBLE, types.decimal(4, 2), Decimal("0.25")),
        (Decimal("1.50"), types.decimal(4, 2), types.decimal(3, 1), Decimal("1.5")),
        (5, types.INT, types.FLOAT, 5.0),
        ("12", types.TEXT, types.INT, 12),
        ("2031-04-30", types.TEXT, types.DATE, 22_399),
        (86_400_000_000, types.TIMESTAMP, types.DATE, 1),
        (True, types.BOOLEAN, types.TEXT, "true"),
        (Decimal("1.50"), types.decimal(4, 2), types.TEXT, "1.50"),
        (0.10000000149011612, types.FLOAT, types.TEXT, "0.1"),
        (1, types.TIMESTAMP, types.TEXT, "1970-01-01 00:00:00.000001"),
        (bytes(15) + b"\1", types.UUID, types.TEXT, "00000000-0000-0000-0000-000000000001"),
        ([1], types.list_of(types.INT), types.list_of(types.BIGINT), [1]),
    ],
)
def test_a_value_that_fits_is_converted_alone_and_in_a_column(
    value: Any, old: KalamDataType, new: KalamDataType, wanted: Any
) -> None:
    found = converted_value(value, old, new, column="c")
    assert (found, type(found)) == (wanted, type(wanted))
    assert converted_value(None, old, new, column="c") is None
    column = pa.chunked_array([array_from_storage([None, value], old)])
    assert storage_from_array(converted(column, old, new, column="c"), new) == [None, wanted]


@pytest.mark.parametrize(
    ("value", "old", "new"),
    [
        (2**40, types.BIGINT, types.INT),
        (-1, types.BIGINT, types.UBIGINT),
        (3.5, types.DOUBLE, types.INT),
        (0.1, types.DOUBLE, types.FLOAT),
        (2**24 + 1, types.INT, types.FLOAT),
        (0.255, types.DOUBLE, types.decimal(4, 2)),
        (Decimal("1.55"), types.decimal(4, 2), types.decimal(4, 1)),
        ("secret", types.TEXT, types.INT),
        (86_400_000_001, types.TIMESTAMP, types.DATE),
        ([1], types.list_of(types.INT), types.TEXT),
        (b"ab", types.BYTES, types.TEXT),
    ],
)
def test_a_value_that_does_not_fit_exactly_is_refused_and_not_quoted(
    value: Any, old: KalamDataType, new: KalamDataType
) -> None:
    message = f"Cannot cast {old} to {new} in column 'c'"
    column = pa.chunked_array([array_from_storage([value], old)])
    for action in (
        lambda: converted_value(value, old, new, column="c"),
        lambda: converted(column, old, new, column="c"),
    ):
        with pytest.raises(TypeMismatchError) as refusal:
            action()
        assert str(refusal.value) == message


def test_a_column_of_nulls_becomes_any_type() -> None:
    column = pa.chunked_array([array_from_storage([None, None], types.embedding(3))])
    found = converted(column, types.embedding(3), types.embedding(4), column="v")
    assert storage_from_array(found, types.embedding(4)) == [None, None]
