"""Rows as text, and read back from it."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalamdb_lab.arrow.arrays import array_from_storage, coerce_array, storage_from_array
from kalamdb_lab.arrow.schemas import arrow_type, logical_field
from kalamdb_lab.cli.reading import _CsvRows, _JsonRows
from kalamdb_lab.cli.row_text import csv_header, csv_rows, json_rows
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind, parse_type
from kalamdb_lab.testing.strategies import cells, data_types


def table_of(values: list[Any], data_type: KalamDataType, name: str = "c") -> pa.Table:
    array = array_from_storage(values, data_type)
    return pa.Table.from_arrays([array], schema=pa.schema([logical_field(name, data_type)]))


def inserted(block: pa.Table, data_type: KalamDataType) -> list[Any]:
    """Return the values of the only column as INSERT takes them."""
    field = block.schema.field(0)
    column = coerce_array(block.column(0), field, data_type, column="c")
    return storage_from_array(column, data_type)


def through_csv(values: list[Any], data_type: KalamDataType) -> list[Any]:
    text = csv_header(["c"]) + csv_rows(table_of(values, data_type))
    found: list[Any] = []
    for block in _CsvRows(io.BytesIO(text), ",").blocks({"c": data_type}):
        found += inserted(block, data_type)
    return found


def through_json(values: list[Any], data_type: KalamDataType) -> list[Any]:
    text = json_rows(table_of(values, data_type))
    assert all(set(json.loads(line)) == {"c"} for line in text.splitlines())
    found: list[Any] = []
    for block in _JsonRows(io.BytesIO(text)).blocks({"c": data_type}):
        found += inserted(block, data_type)
    return found


typed_values = data_types.flatmap(
    lambda data_type: st.tuples(st.just(data_type), st.lists(cells(data_type), max_size=4))
)


@settings(max_examples=150)
@given(typed=typed_values)
def test_csv_brings_every_value_of_every_type_back(typed: tuple[KalamDataType, list[Any]]) -> None:
    data_type, values = typed
    assert repr(through_csv(values, data_type)) == repr(values)  # NaN equals nothing else


@settings(max_examples=150)
@given(typed=typed_values)
def test_json_lines_bring_every_value_of_every_type_back(
    typed: tuple[KalamDataType, list[Any]],
) -> None:
    data_type, values = typed
    if data_type.kind is TypeKind.JSON:
        # On one line; and null is all that JSON has for two things.
        lines = [value and re.sub("[\r\n]", " ", value) for value in values]
        values = [None if line is None or json.loads(line) is None else line for line in lines]
    assert repr(through_json(values, data_type)) == repr(values)


@given(rows=st.lists(st.lists(st.none() | st.text(), min_size=2, max_size=2), max_size=5))
def test_other_readers_find_the_same_cells(rows: list[list[str | None]]) -> None:
    rows = [[cell and cell.replace("\0", "") for cell in row] for row in rows]
    names = ["a", 'b "quoted", named']
    fields = [logical_field(name, types.TEXT) for name in names]
    columns = [pa.array([row[at] for row in rows], pa.string()) for at in range(2)]
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    text = (csv_header(names) + csv_rows(table)).decode()
    found = list(csv.reader(io.StringIO(text, newline="")))
    assert found == [names, *([cell or "" for cell in row] for row in rows)]


@pytest.mark.parametrize(
    ("spelled", "value", "cell", "in_json"),
    [
        ("BOOLEAN", True, "true", "true"),
        ("BIGINT", 2**63 - 1, "9223372036854775807", "9223372036854775807"),
        ("DOUBLE", 0.1, "0.1", "0.1"),
        ("DOUBLE", float("nan"), "nan", '"nan"'),
        ("FLOAT", 0.1, "0.1", "0.1"),
        ("DECIMAL(38, 10)", "0.0000000001", "0.0000000001", "0.0000000001"),
        ("TEXT", 'say "no"', '"say ""no"""', '"say \\"no\\""'),
        ("TEXT", "", '""', '""'),
        ("JSON", '{"a": [1,\n2]}', '"{""a"": [1,\n2]}"', '{"a": [1, 2]}'),
        ("BYTES", b"\x0a\xff", "0AFF", '"0AFF"'),
        ("BYTES", b"", '""', '""'),
        ("TIMESTAMP", "2031-04-30 18:05:00", "2031-04-30T18:05:00", '"2031-04-30T18:05:00"'),
        ("DATETIME", "2031-04-30 18:05:00.5Z", "2031-04-30T18:05:00.500000Z", None),
        ("DATE", "0001-01-02", "0001-01-02", '"0001-01-02"'),
        ("TIME", "18:05:00", "18:05:00", '"18:05:00"'),
        ("UUID", "0190A6B4-8C1B-7C3E-9F00-0123456789AB", "0190a6b4-8c1b-7c3e-9f00-0123456789ab", None),
        ("INTERVAL", "14 months 3 days -0.5 seconds", "14 months 3 days -0.5 seconds", None),
        ("EMBEDDING(2)", [0.1, -2.0], '"[0.1, -2]"', "[0.1, -2]"),
        ("INT[]", [1, None], '"[1, null]"', "[1, null]"),
        ("STRUCT(a INT, b TEXT)", {"a": 1, "b": None}, '"{""a"": 1, ""b"": null}"', None),
        ("MAP(TEXT, INT)", {"x": 1}, '"{""x"": 1}"', '{"x": 1}'),
        ("MAP(INT, TEXT)", {1: "x"}, '"[[1, ""x""]]"', '[[1, "x"]]'),
    ],
)  # fmt: skip
def test_each_type_has_its_form(spelled: str, value: Any, cell: str, in_json: str | None) -> None:
    from kalamdb_lab.model.values import to_storage

    data_type = parse_type(spelled)
    table = table_of([to_storage(value, data_type), None], data_type)
    assert csv_rows(table).decode() == f"{cell}\n\n"
    in_json = in_json or f'"{cell}"'
    if spelled.startswith("STRUCT"):
        in_json = '{"a": 1, "b": null}'
    assert json_rows(table).decode() == f'{{"c": {in_json}}}\n{{"c": null}}\n'


def test_parts_of_larger_arrays_are_whole() -> None:
    """A batch that is a slice has its own rows and no others."""
    for spelled in ("TEXT", "INT[]", "UUID", "EMBEDDING(1)", "INTERVAL", "MAP(TEXT, INT)"):
        data_type = parse_type(spelled)
        array = pa.nulls(3, arrow_type(data_type))
        batch = pa.record_batch([array], schema=pa.schema([logical_field("c", data_type)]))
        assert csv_rows(batch.slice(1, 1)) == b"\n"
    numbers = pa.record_batch({"n": pa.array(range(10), pa.int64())})
    assert csv_rows(numbers.slice(8)) == b"8\n9\n"
