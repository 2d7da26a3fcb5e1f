"""Types of ibis and ours, both ways."""

from __future__ import annotations

import ibis.common.exceptions as exc
import ibis.expr.datatypes as dt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.ibis_backend.datatypes import (
    arrow_schema,
    ibis_type,
    kalam_schema,
    kalam_type_of,
)
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType

PLAIN = [
    types.BOOLEAN, types.TINYINT, types.SMALLINT, types.INT, types.BIGINT, types.UTINYINT,
    types.USMALLINT, types.UINTEGER, types.UBIGINT, types.FLOAT, types.DOUBLE, types.TEXT,
    types.JSON, types.BYTES, types.TIMESTAMP, types.DATETIME, types.DATE, types.TIME, types.UUID,
    types.INTERVAL,
]  # fmt: skip


def data_types() -> st.SearchStrategy[KalamDataType]:
    leaves = st.one_of(
        st.sampled_from(PLAIN),
        st.integers(1, 8192).map(types.embedding),
        st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: types.decimal(p, s))),
    )
    names = st.text("abcxyz", min_size=1, max_size=3)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(types.list_of),
            st.dictionaries(names, inner, min_size=1, max_size=3).map(
                lambda fields: types.struct_of(fields.items())
            ),
            inner.map(lambda item: types.map_of(types.TEXT, item)),
        ),
        max_leaves=5,
    )


@given(data_types())
def test_every_type_comes_back_from_ibis(data_type: KalamDataType) -> None:
    assert kalam_type_of(ibis_type(data_type), "c") == data_type


@given(data_types(), st.booleans())
def test_arrow_fields_of_a_schema_tell_the_same_schema(
    data_type: KalamDataType, nullable: bool
) -> None:
    schema = {"c": ibis_type(data_type, nullable=nullable)}
    again = arrow_schema(kalam_schema(schema))  # type: ignore[arg-type]
    assert dict(again.items()) == schema


def test_embedding_is_a_fixed_array_of_float32() -> None:
    assert ibis_type(types.embedding(3)) == dt.dtype("array<float32, 3>")
    assert kalam_type_of(dt.dtype("array<float64, 3>"), "c") == types.list_of(types.DOUBLE)


@pytest.mark.parametrize("dtype", [dt.Decimal(76, 38), dt.point, dt.unknown])
def test_a_type_without_a_place_is_refused_by_column(dtype: dt.DataType) -> None:
    with pytest.raises(exc.UnsupportedBackendType, match=r"^Column 'c': there is no type for"):
        kalam_type_of(dtype, "c")
