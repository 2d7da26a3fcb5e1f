"""Hypothesis strategies for types and their values."""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model import literals
from kalamdb_lab.model.datatypes import INTEGER_BOUNDS, KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.time_values import interval_of_ns

_PARAMETRIC = (
    TypeKind.DECIMAL,
    TypeKind.EMBEDDING,
    TypeKind.LIST,
    TypeKind.STRUCT,
    TypeKind.MAP,
)
_PLAIN = [KalamDataType(kind) for kind in TypeKind if kind not in _PARAMETRIC]
_NO_MAP_KEY = (TypeKind.EMBEDDING, TypeKind.INTERVAL, TypeKind.FLOAT, TypeKind.DOUBLE)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
"""Texts that TEXT holds."""

field_names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)
"""Names of columns and of STRUCT fields."""

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
"""What a JSON text means."""

decimals = st.integers(1, types.MAX_DECIMAL_PRECISION).flatmap(
    lambda precision: st.integers(0, precision).map(lambda scale: types.decimal(precision, scale))
)
"""DECIMAL of any precision and scale."""

scalar_types = st.sampled_from(_PLAIN) | decimals | st.integers(1, 5).map(types.embedding)
"""All types but lists, structs and maps."""

data_types = st.recursive(
    scalar_types,
    lambda inner: (
        inner.map(types.list_of)
        | st.lists(
            st.tuples(field_names, inner),
            min_size=1,
            max_size=3,
            unique_by=lambda field: field[0].lower(),
        ).map(types.struct_of)
        | st.builds(
            types.map_of, scalar_types.filter(lambda key: key.kind not in _NO_MAP_KEY), inner
        )
    ),
    max_leaves=4,
)
"""All types."""


def cells(data_type: KalamDataType) -> SearchStrategy[StorageValue]:
    """Return storage values of a type, among them NULL."""
    return st.none() | storage_values(data_type)


def storage_values(data_type: KalamDataType) -> SearchStrategy[StorageValue]:  # noqa: C901
    """Return storage values of a type that are not NULL."""
    kind = data_type.kind
    if kind in INTEGER_BOUNDS:
        return st.integers(*INTEGER_BOUNDS[kind])
    match kind:
        case TypeKind.BOOLEAN:
            return st.booleans()
        case TypeKind.FLOAT:
            return st.floats(width=32)
        case TypeKind.DOUBLE:
            return st.floats()
        case TypeKind.DECIMAL:
            largest = 10**data_type.precision - 1
            digits = st.integers(-largest, largest)
            return digits.map(lambda number: Decimal(f"{number}E-{data_type.scale}"))
        case TypeKind.TEXT:
            return texts
        case TypeKind.JSON:
            return documents.map(json.dumps)
        case TypeKind.BYTES:
            return st.binary(max_size=12)
        case TypeKind.UUID:
            return st.binary(min_size=16, max_size=16)
        case TypeKind.TIMESTAMP | TypeKind.DATETIME:
            return st.integers(literals.FIRST_US, literals.LAST_US)
        case TypeKind.DATE:
            return st.integers(literals.FIRST_DAY, literals.LAST_DAY)
        case TypeKind.TIME:
            return st.integers(0, literals.US_PER_DAY - 1)
        case TypeKind.INTERVAL:
            whole_us = st.integers(-(2**45), 2**45)
            return whole_us.map(lambda us: interval_of_ns(us * 1_000)) | st.tuples(
                st.integers(1, 2**31 - 1),
                st.integers(-(2**31) + 1, 2**31 - 1),
                st.integers(-(2**50), 2**50).map(lambda us: us * 1_000),
            )
        case TypeKind.EMBEDDING:
            return _vectors(data_type.dimension)
        case TypeKind.LIST:
            return st.lists(cells(data_type.item), max_size=4)
        case TypeKind.STRUCT:
            names = [name for name, _ in data_type.children]
            fields = st.tuples(*(cells(child) for _, child in data_type.children))
            return fields.map(lambda row: dict(zip(names, row, strict=True)))
        case _:
            return _maps(data_type)


def _vectors(dimension: int) -> SearchStrategy[bytes]:
    component = st.floats(width=32, allow_nan=False, allow_infinity=False)
    vector = st.lists(component, min_size=dimension, max_size=dimension)
    return vector.map(lambda numbers: struct.pack(f"<{dimension}f", *numbers))


def _maps(data_type: KalamDataType) -> SearchStrategy[StorageValue]:
    (_, key), (_, item) = data_type.children
    keys: SearchStrategy[Any] = storage_values(key)
    maps = st.lists(keys, max_size=3, unique=True).flatmap(
        lambda drawn: st.tuples(*(st.tuples(st.just(one), cells(item)).map(list) for one in drawn))
    )
    return maps.map(list)
