"""Rows as text: cells of CSV and values of JSON, a column at a time.

Every form is one that the language reads back into a column of the same type: `text_files` and
the conversions of INSERT take them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.arrow.canonical import flat_items, map_entries
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind

_NOT_FINITE: Final = r"^-?(nan|inf)$"
_SPECIAL: Final = r'[",\r\n]|^$|^\s|\s$'
_IN_QUOTES: Final = frozenset(
    {
        TypeKind.TIMESTAMP,
        TypeKind.DATETIME,
        TypeKind.DATE,
        TypeKind.TIME,
        TypeKind.UUID,
        TypeKind.BYTES,
        TypeKind.INTERVAL,
    }
)
"""Kinds whose text holds nothing that JSON would escape."""
_MAY_NEED_QUOTES: Final = (TypeKind.EMBEDDING, TypeKind.BYTES)


def csv_header(names: Sequence[str]) -> bytes:
    """Return the first line of a CSV file."""
    return ",".join(map(_quoted_cell, names)).encode() + b"\n"


def csv_rows(batch: pa.RecordBatch | pa.Table) -> bytes:
    """Return rows as lines of CSV: quoted as RFC 4180 has it, where they must be.

    NULL is an empty cell, an empty text is ``""``. Lines end with a line feed.
    """
    return _lines([_cells(*column) for column in _columns(batch)], ",")


def json_rows(batch: pa.RecordBatch | pa.Table) -> bytes:
    """Return rows as JSON objects, one on each line."""
    parts: list[Any] = []
    for number, (name, (array, data_type)) in enumerate(
        zip(batch.schema.names, _columns(batch), strict=True)
    ):
        parts.append(f"{', ' if number else '{'}{json.dumps(name, ensure_ascii=False)}: ")
        parts.append(json_texts(array, data_type).fill_null("null"))
    return _lines([*parts, "}"], "") if parts else b"{}\n" * batch.num_rows


def _columns(batch: pa.RecordBatch | pa.Table) -> list[tuple[pa.Array, KalamDataType]]:
    types = [kalam_type(field) for field in batch.schema]
    arrays = [
        column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        for column in batch.columns
    ]
    return list(zip(arrays, types, strict=True))


def _lines(parts: Sequence[Any], separator: str) -> bytes:
    if not any(isinstance(part, pa.Array) and len(part) for part in parts):
        return b""
    rows = pc.binary_join_element_wise(
        *parts, separator, null_handling="replace", null_replacement=""
    )
    lines = pc.binary_join_element_wise(rows, "\n", "")
    first = int.from_bytes(lines.buffers()[1].slice(4 * lines.offset, 4), "little")
    end_at = 4 * (lines.offset + len(lines))
    end = int.from_bytes(lines.buffers()[1].slice(end_at, 4), "little")
    return bytes(lines.buffers()[2].slice(first, end - first))


def _cells(array: pa.Array, data_type: KalamDataType) -> pa.Array:
    cells = texts(array, data_type)
    if data_type.is_text_like or data_type.is_nested or data_type.kind in _MAY_NEED_QUOTES:
        special = pc.match_substring_regex(cells, _SPECIAL)
        if pc.any(special).as_py():
            doubled = pc.replace_substring(cells, '"', '""')
            return pc.if_else(special, _between('"', doubled, '"'), cells)
    return cells


def _quoted_cell(text: str) -> str:
    return f'"{text.replace(chr(34), 2 * chr(34))}"' if re.search(_SPECIAL, text) else text


def _between(before: str, array: pa.Array, after: str) -> pa.Array:
    return pc.binary_join_element_wise(before, array, after, "")


def texts(array: pa.Array, data_type: KalamDataType) -> pa.Array:
    """Return each value as text, without quotes; NULL stays NULL.

    BYTES are hexadecimal digits, INTERVAL reads ``2 months 3 days 4.5 seconds``, and values that
    hold others are JSON.
    """
    match data_type.kind:
        case TypeKind.TEXT | TypeKind.JSON:
            return array
        case TypeKind.DECIMAL:
            return _decimals(array)
        case TypeKind.TIMESTAMP | TypeKind.DATETIME | TypeKind.TIME:
            whole = pc.replace_substring_regex(array.cast(pa.string()), r"\.000000", "")
            return pc.replace_substring(whole, " ", "T")
        case TypeKind.UUID:
            return _mapped(array, lambda raw: _uuid(raw.hex()))
        case TypeKind.BYTES:
            return _mapped(array, lambda raw: raw.hex().upper())
        case TypeKind.INTERVAL:
            values = storage_from_array(array, data_type)
            return pa.array([v if v is None else _interval(*v) for v in values], pa.string())  # type: ignore[misc]
        case TypeKind.EMBEDDING | TypeKind.LIST | TypeKind.STRUCT | TypeKind.MAP:
            return json_texts(array, data_type)
        case _:
            return array.cast(pa.string())


def _mapped(array: pa.Array, text_of: Any) -> pa.Array:
    return pa.array([v if v is None else text_of(v) for v in array.to_pylist()], pa.string())


def _decimals(array: pa.Array) -> pa.Array:
    written = array.cast(pa.string())
    if pc.any(pc.match_substring(written, "E")).as_py():
        return _mapped(array, lambda number: f"{number:f}")
    return written


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _interval(months: int, days: int, nanoseconds: int) -> str:
    parts = [f"{n} {unit}" for n, unit in ((months, "months"), (days, "days")) if n]
    if nanoseconds or not parts:
        seconds = Decimal(nanoseconds).scaleb(-9).normalize()
        parts.append(f"{seconds:f} seconds")
    return " ".join(parts)


def json_texts(array: pa.Array, data_type: KalamDataType, *, is_inner: bool = False) -> pa.Array:
    """Return each value as JSON; NULL stays NULL.

    Numbers have all their digits, also where readers would round them; NaN and infinity are
    texts. MAP is an object if its keys are TEXT, and a list of pairs if not. A document is itself,
    but within other values a text: there it must be told from NULL, and stay as it is written.
    """
    match data_type.kind:
        case TypeKind.TEXT:
            return _mapped(array, lambda text: json.dumps(text, ensure_ascii=False))
        case TypeKind.JSON if is_inner:
            return json_texts(array, types.TEXT)
        case TypeKind.JSON:
            # A document may be written on several lines; within its strings they are escaped.
            return pc.replace_substring_regex(array, r"[\r\n]", " ")
        case TypeKind.FLOAT | TypeKind.DOUBLE:
            return _json_floats(array)
        case kind if kind in _IN_QUOTES:
            return _between('"', texts(array, data_type), '"')
        case TypeKind.EMBEDDING:
            items, offsets, nulls = flat_items(array)
            return _grouped("[", _json_floats(items), offsets, nulls, "]")
        case TypeKind.LIST:
            items, offsets, nulls = flat_items(array)
            return _grouped(
                "[", json_texts(items, data_type.item, is_inner=True), offsets, nulls, "]"
            )
        case TypeKind.MAP:
            return _map(array, data_type)
        case TypeKind.STRUCT:
            parts: list[Any] = []
            for part, (name, child) in zip(array.flatten(), data_type.children, strict=True):
                parts.append(f"{', ' if parts else '{'}{json.dumps(name, ensure_ascii=False)}: ")
                parts.append(json_texts(part, child, is_inner=True).fill_null("null"))
            objects = pc.binary_join_element_wise(*parts, "}", "")
            return pc.if_else(array.is_null(), None, objects)
        case _:
            return texts(array, data_type)


def _json_floats(array: pa.Array) -> pa.Array:
    # Without a point minus zero would be read as a whole number, which has no sign.
    numbers = pc.replace_substring_regex(array.cast(pa.string()), "^-0$", "-0.0")
    strange = pc.match_substring_regex(numbers, _NOT_FINITE)
    return pc.if_else(strange, _between('"', numbers, '"'), numbers)


def _map(array: pa.Array, data_type: KalamDataType) -> pa.Array:
    entries, offsets, nulls = flat_items(map_entries(array))
    (_, key), (_, item) = data_type.children
    keys, items = entries.flatten()
    values = json_texts(items, item, is_inner=True).fill_null("null")
    written = json_texts(keys, key, is_inner=True)
    if key.kind is TypeKind.TEXT:
        pairs = pc.binary_join_element_wise(written, values, ": ")
        return _grouped("{", pairs, offsets, nulls, "}")
    pairs = pc.binary_join_element_wise(written, values, ", ")
    return _grouped("[", _between("[", pairs, "]"), offsets, nulls, "]")


def _grouped(
    opener: str, items: pa.Array, offsets: pa.Array, nulls: pa.Array, closer: str
) -> pa.Array:
    lists = pa.ListArray.from_arrays(offsets, items.fill_null("null"))
    return pc.if_else(nulls, None, _between(opener, pc.binary_join(lists, ", "), closer))
