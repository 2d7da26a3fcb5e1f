"""SQL over the Parquet file gives what reading the segment gives."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from typing import Any

import duckdb
from hypothesis import given, settings
from segment_samples import (
    Values,
    expected,
    histories,
    older,
    reader_of,
    rows_of,
    same,
    table_of,
    tables,
    written,
)

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.segments.physical import from_file
from kalamdb_lab.segments.projection import engine_type
from kalamdb_lab.segments.storage import Storage


@lru_cache(maxsize=1)
def engine() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET arrow_lossless_conversion = true; SET TimeZone = 'Asia/Tokyo'")
    return connection


def from_engine(
    pairs: list[tuple[str, str]], path: str, data_type: KalamDataType
) -> list[StorageValue]:
    ((expression, name),) = pairs
    quoted = name.replace('"', '""')
    relation: Any = engine().sql(
        f'SELECT {expression} AS "{quoted}" FROM read_parquet($1)', params=[path]
    )
    column = relation.to_arrow_table().column(0)
    if data_type.kind is not TypeKind.INTERVAL:
        column = from_file(column, data_type)
    return storage_from_array(column, data_type)


@settings(max_examples=40)
@given(case=tables())
def test_sql_over_the_file_gives_what_reading_gives(case: tuple[TableDef, Values]) -> None:
    table, values = case
    with tempfile.TemporaryDirectory() as place:
        storage = Storage("local", place)
        meta = written(storage, table, rows_of(table, values))
        reader = reader_of(storage)
        path = reader.verified_path(meta, table)
        for column in table.columns:
            pairs = reader.parquet_projection(meta, table, [column.name])
            if column.data_type.kind is TypeKind.EMBEDDING:
                assert pairs is None
            elif pairs is not None:
                assert same(from_engine(pairs, path, column.data_type), list(values[column.name]))


@settings(max_examples=40)
@given(case=histories())
def test_sql_over_a_file_of_an_older_version_gives_what_reading_gives(
    case: tuple[TableDef, Values],
) -> None:
    table, values = case
    before = older(table, 1)
    with tempfile.TemporaryDirectory() as place:
        storage = Storage("local", place)
        meta = written(storage, before, rows_of(before, values))
        reader = reader_of(storage)
        path = reader.verified_path(meta, table)
        for column in table.columns:
            pairs = reader.parquet_projection(meta, table, [column.name])
            if pairs is not None:
                found = from_engine(pairs, path, column.data_type)
                assert same(found, expected(table, values, column)), (column, pairs)


def test_plain_columns_are_named_and_others_are_cast(storage: Storage) -> None:
    first = [
        ColumnDef(1, "id", types.INT),
        ColumnDef(2, 'a "b"', types.UUID),
        ColumnDef(3, "n", types.INT),
        ColumnDef(4, "v", types.embedding(2)),
    ]
    second = [
        ColumnDef(1, "key", types.INT),
        first[1],
        ColumnDef(3, "n", types.BIGINT),
        first[3],
        ColumnDef(5, "late", types.TEXT, fill="it's"),
        ColumnDef(6, "empty", types.list_of(types.UUID)),
    ]
    table = table_of(first, second)
    values: Values = {"id": [1], 'a "b"': [bytes(16)], "n": [2], "v": [None]}
    meta = written(storage, older(table, 1), rows_of(older(table, 1), values))
    reader = reader_of(storage)
    names = ["key", 'a "b"', "n", "late", "empty", "_seq"]
    assert reader.parquet_projection(meta, table, names) == [
        ('"id"', "key"),
        ('CAST("a ""b""" AS UUID)', 'a "b"'),
        ('CAST("n" AS BIGINT)', "n"),
        ("CAST('it''s' AS VARCHAR)", "late"),
        ("CAST(NULL AS UUID[])", "empty"),
        ('"_seq"', "_seq"),
    ]
    assert reader.parquet_projection(meta, table, ["key", "v"]) is None


def test_types_are_spelled_for_the_engine() -> None:
    nested = types.map_of(
        types.TEXT, types.struct_of([("a b", types.decimal(9, 2)), ("v", types.embedding(3))])
    )
    assert engine_type(nested) == 'MAP(VARCHAR, STRUCT("a b" DECIMAL(9, 2), "v" FLOAT[3]))'
    assert engine_type(types.list_of(types.DATETIME)) == "TIMESTAMP WITH TIME ZONE[]"
