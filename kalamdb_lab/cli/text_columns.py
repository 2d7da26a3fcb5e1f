"""Columns of text files: their values in the form that INSERT takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
import pyarrow as pa

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.arrow.text_types import type_of_texts
from kalamdb_lab.errors import InvalidValueError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model import faults
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind
from kalamdb_lab.model.values import storage_converter

_NEEDS_HELP: Final = frozenset({TypeKind.BYTES, TypeKind.LIST, TypeKind.STRUCT, TypeKind.MAP})
"""Kinds that no text converts to in the language itself."""


def type_of_json(raws: Sequence[bytes | None]) -> KalamDataType:
    """Return the type of a column of JSON values; those that hold others are JSON."""
    values = [value for value in _decoded(raws) if value is not None]
    kinds = set(map(type, values))
    if not kinds:
        return types.TEXT
    if kinds == {bool}:
        return types.BOOLEAN
    if kinds == {str}:
        return type_of_texts(pa.array(values, pa.string()), was_quoted=True)
    if kinds <= {int, float}:
        written = [raw for raw in raws if raw is not None and raw != b"null"]
        return type_of_texts(pa.array(written, pa.binary()).cast(pa.string()))
    return types.JSON


def column_of_texts(
    column: pa.ChunkedArray, data_type: KalamDataType, name: str
) -> pa.ChunkedArray:
    """Return a column of CSV cells in a form that INSERT converts to ``data_type``.

    Raises
    ------
    TypeMismatchError, InvalidValueError
        A cell that is no hexadecimal text or no JSON where the type asks for it.
    """
    if data_type.kind not in _NEEDS_HELP:
        return column
    if data_type.kind is TypeKind.BYTES:
        values = [_inner(text, data_type, name) for text in column.to_pylist()]
    else:
        try:
            read = json.JSONDecoder(parse_float=Decimal).decode
            values = [text if text is None else read(text) for text in column.to_pylist()]
        except (ValueError, RecursionError):
            raise faults.invalid(types.JSON, name) from None
        values = [_inner(value, data_type, name) for value in values]
    return pa.chunked_array([_stored(values, data_type, name)])


def column_of_json(raws: Sequence[bytes | None], data_type: KalamDataType, name: str) -> pa.Array:
    """Return a column of JSON values, as they are written, as values of ``data_type``.

    A document for a JSON column is kept as it is written; a number for a TEXT column too.

    Raises
    ------
    KalamError
        The first value that does not fit; names the column.
    """
    values: list[Any]
    if data_type.kind is TypeKind.JSON:
        values = [None if raw is None or raw == b"null" else raw.decode() for raw in raws]
    elif data_type.kind is TypeKind.TEXT:
        values = [
            value if raw is None or value is None or isinstance(value, str) else raw.decode()
            for raw, value in zip(raws, _decoded(raws), strict=True)
        ]
    else:
        exact = data_type.kind is TypeKind.DECIMAL or data_type.is_nested
        values = [_inner(value, data_type, name) for value in _decoded(raws, exact=exact)]
    return _stored(values, data_type, name)


def _stored(values: Sequence[Any], data_type: KalamDataType, name: str) -> pa.Array:
    convert = storage_converter(data_type)
    return array_from_storage([convert(value, name) for value in values], data_type)


def _decoded(raws: Sequence[bytes | None], *, exact: bool = False) -> list[Any]:
    text = b"[" + b",".join(b"null" if raw is None else raw for raw in raws) + b"]"
    try:
        if exact:
            return list(json.loads(text, parse_float=Decimal))
        return list(msgspec.json.decode(text))
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise InvalidValueError("A number of the file is out of range") from None


def _inner(value: Any, data_type: KalamDataType, name: str) -> Any:
    """Return a value of JSON with BYTES read from their digits, and inner documents as texts."""
    if value is None:
        return None
    match data_type.kind:
        case TypeKind.BYTES:
            try:
                return bytes.fromhex(value)
            except (TypeError, ValueError):
                raise faults.not_convertible(value, data_type, name) from None
        case TypeKind.LIST if isinstance(value, list):
            return [_inner(item, data_type.item, name) for item in value]
        case TypeKind.STRUCT if isinstance(value, dict):
            fields = {field.lower(): child for field, child in data_type.children}
            return {
                key: _inner(item, fields.get(key.lower(), types.TEXT), name)
                for key, item in value.items()
            }
        case TypeKind.MAP if isinstance(value, (dict, list)):
            (_, key_type), (_, item_type) = data_type.children
            pairs = value.items() if isinstance(value, dict) else value
            return [
                [_inner(pair[0], key_type, name), _inner(pair[1], item_type, name)]
                if isinstance(pair, (list, tuple)) and len(pair) == 2
                else pair
                for pair in pairs
            ]
        case TypeKind.JSON if not isinstance(value, str):
            return json.dumps(value, ensure_ascii=False, default=float)
        case _:
            return value
