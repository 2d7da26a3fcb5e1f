"""What was written comes back equal, in every type and after every change of the columns."""

from __future__ import annotations

import random
import struct
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_samples import (
    SCALARS,
    Values,
    expected,
    histories,
    older,
    reader_of,
    rows_of,
    same,
    storage_values,
    stored_values,
    table_of,
    tables,
    written,
)

from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.errors import CorruptError, StorageError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.layout import segment_paths, vectors_path
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.writer import ROW_GROUP_ROWS


@settings(max_examples=50)
@given(case=tables())
def test_rows_of_any_type_come_back_to_the_bit(case: tuple[TableDef, Values]) -> None:
    table, values = case
    rows = rows_of(table, values)
    with tempfile.TemporaryDirectory() as place:
        storage = Storage("local", place)
        # A slice in two chunks, as hot rows and dataframes come.
        cut = pa.concat_tables([rows, rows]).slice(rows.num_rows // 2, rows.num_rows)
        meta = written(storage, table, rows)
        cut_meta = written(storage, table, cut, 2)
        reader = reader_of(storage)
        for found, given_rows in ((meta, rows), (cut_meta, cut)):
            read = reader.read(found, table, [*(item.name for item in table.columns), "_seq"])
            assert read.schema.equals(rows.schema, check_metadata=True)
            read.validate(full=True)
            for column in table.columns:
                wanted = stored_values(given_rows, column.name, column.data_type)
                assert same(stored_values(read, column.name, column.data_type), wanted)
            assert read.column("_seq").equals(given_rows.column("_seq"))


@settings(max_examples=50)
@given(case=histories())
def test_rows_of_an_older_version_show_in_the_newest_one(case: tuple[TableDef, Values]) -> None:
    table, values = case
    before = older(table, 1)
    names = [column.name for column in table.columns]
    with tempfile.TemporaryDirectory() as place:
        storage = Storage("local", place)
        meta = written(storage, before, rows_of(before, values))
        assert meta.schema_version == 1
        reader = reader_of(storage)
        for _ in range(2):  # decoded, then from the cache
            read = reader.read(meta, table, names)
            for column in table.columns:
                found = stored_values(read, column.name, column.data_type)
                assert kalam_type(read.schema.field(column.name)) == column.data_type
                assert same(found, expected(table, values, column))


def test_vectors_are_mapped_and_null_ones_stay_null(
    storage: Storage, reader: SegmentReader
) -> None:
    table = table_of([ColumnDef(1, "id", types.INT), ColumnDef(2, "v", types.embedding(2))])
    vector = struct.pack("<2f", 1.5, -2)
    meta = written(storage, table, rows_of(table, {"id": [1, 2], "v": [None, vector]}))
    before = pa.total_allocated_bytes()
    column = reader.read(meta, table, ["v"]).column(0)
    assert column.to_pylist() == [None, [1.5, -2.0]]
    assert column.chunk(0).values.to_numpy().base is not None
    assert pa.total_allocated_bytes() - before < 10_000
    assert list(meta.vectors) == [2]
    assert meta.statistics[2].null_count == 1


def test_a_repeated_read_takes_the_decoded_columns(storage: Storage) -> None:
    cache = SegmentCache(1_000_000)
    reader = SegmentReader({"local": storage}.__getitem__, cache)
    table = table_of([ColumnDef(1, "id", types.BIGINT), ColumnDef(2, "body", types.TEXT)])
    meta = written(storage, table, rows_of(table, {"id": [1, 2], "body": ["a", None]}))
    first = reader.read(meta, table, ["id", "body"])
    assert cache.used_bytes > 0
    for path in segment_paths(meta):
        storage.delete(path)
    assert reader.read(meta, table, ["body", "id"]).column(1).equals(first.column(0))
    reader.forget([meta.segment_id])
    assert cache.used_bytes == 0
    with pytest.raises(CorruptError):
        reader.read(meta, table, ["id"])


@pytest.mark.parametrize("budget_bytes", [0, 100_000_000], ids=["row groups", "whole columns"])
def test_single_rows_of_a_segment_of_several_row_groups(
    storage: Storage, budget_bytes: int
) -> None:
    count = 2 * ROW_GROUP_ROWS + 10
    before = [
        ColumnDef(1, "id", types.INT),
        ColumnDef(2, "v", types.embedding(1)),
    ]
    table = table_of(
        before,
        [ColumnDef(1, "key", types.BIGINT), before[1], ColumnDef(3, "n", types.TEXT, fill="-")],
    )
    ids = pa.chunked_array([pa.array(np.arange(count, dtype=np.int32))])
    vectors = pa.FixedSizeListArray.from_arrays(ids.cast(pa.float32()).chunk(0), 1)
    rows = pa.table({"id": ids, "v": vectors, "_seq": ids.cast(pa.int64())})
    meta = written(storage, older(table, 1), rows)
    reader = reader_of(storage, budget_bytes)
    seqs = [count - 1, 3, -5, ROW_GROUP_ROWS, ROW_GROUP_ROWS - 1, count + 7, 3]
    read = reader.read_rows(meta, table, ["n", "key", "v", "_seq"], seqs)
    found = [count - 1, 3, ROW_GROUP_ROWS, ROW_GROUP_ROWS - 1, 3]
    assert read.column("_seq").to_pylist() == found
    assert read.column("key").to_pylist() == found
    assert read.column("v").to_pylist() == [[number] for number in found]
    assert read.column("n").to_pylist() == ["-"] * 5
    assert reader.read_rows(meta, table, ["key"], []).num_rows == 0


def test_threads_that_read_at_once_see_the_same_rows(storage: Storage) -> None:
    table = table_of([ColumnDef(number, f"c{number}", types.BIGINT) for number in range(1, 9)])
    values: Values = {f"c{number}": list(range(number, 500 + number)) for number in range(1, 9)}
    rows = rows_of(table, values)
    metas = [written(storage, table, rows, number) for number in (1, 2, 3)]
    reader = reader_of(storage, 30_000)  # room for a few columns: they push each other out

    def work(number: int) -> bool:
        names = [f"c{1 + (number + step) % 8}" for step in range(3)]
        return reader.read(metas[number % 3], table, names).equals(rows.select(names))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(120)))


def test_a_version_that_is_only_tried_out_leaves_nothing_behind(
    storage: Storage, reader: SegmentReader
) -> None:
    first = ColumnDef(1, "id", types.INT)
    late = ColumnDef(2, "late", types.list_of(types.INT), fill=[1])
    tried = table_of([first], [first, late])
    meta = written(storage, older(tried, 1), rows_of(older(tried, 1), {"id": [1]}))
    assert reader.read(meta, tried, ["late"]).to_pylist() == [{"late": [1]}]
    kept = table_of([first], [first, replace(late, fill=[2, 3])])
    assert reader.read(meta, kept, ["late"]).to_pylist() == [{"late": [2, 3]}]
    other = table_of([first], [first, replace(late, data_type=types.TEXT, fill="x")])
    assert reader.read(meta, other, ["late"]).to_pylist() == [{"late": "x"}]
    again = written(storage, kept, rows_of(kept, {"id": [5], "late": [None]}), 2)
    assert reader.read(again, kept, ["late"]).to_pylist() == [{"late": None}]


@pytest.fixture(scope="module")
def damaged_case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, TableDef, SegmentMeta]:
    storage = Storage("local", tmp_path_factory.mktemp("damage"))
    chance = random.Random(11)
    table = table_of(
        [
            ColumnDef(1, "id", types.BIGINT),
            ColumnDef(2, "body", types.TEXT),
            ColumnDef(3, "v", types.embedding(8)),
        ]
    )
    values: Values = {
        "id": [chance.randrange(10**12) for _ in range(500)],
        "body": [f"{chance.random()} text" for _ in range(500)],
        "v": [np.float32([chance.random()] * 8).tobytes() for _ in range(500)],
    }
    return storage, table, written(storage, table, rows_of(table, values))


@pytest.mark.parametrize("part", ["parquet", "vectors"])
def test_each_of_150_flipped_bits_is_noticed(
    damaged_case: tuple[Storage, TableDef, SegmentMeta], part: str
) -> None:
    storage, table, meta = damaged_case
    path = meta.path if part == "parquet" else f"{vectors_path(meta.path)}/3/f32/c/0/0"
    place = storage.absolute(path)
    sound = place.read_bytes()
    chance = random.Random(5)
    noticed = 0
    for _ in range(150):
        bit = chance.randrange(len(sound) * 8)
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        place.write_bytes(damaged)
        with pytest.raises(CorruptError, match=r"^A segment of studio\.tracks is damaged; "):
            reader_of(storage).read(meta, table, ["id", "body", "v"])
        noticed += 1
    place.write_bytes(sound)
    assert reader_of(storage).read(meta, table, ["id", "body", "v"]).num_rows == 500
    assert noticed == 150


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_truncated_or_missing_files_are_noticed(
    damaged_case: tuple[Storage, TableDef, SegmentMeta], size: int
) -> None:
    storage, table, meta = damaged_case
    for path in (meta.path, f"{vectors_path(meta.path)}/3/f32/c/0/0"):
        place = storage.absolute(path)
        sound = place.read_bytes()
        place.write_bytes(sound[:size])
        with pytest.raises(CorruptError):
            reader_of(storage).read(meta, table, ["v"])
        place.unlink()
        with pytest.raises(CorruptError):
            reader_of(storage).read(meta, table, ["v"])
        place.write_bytes(sound)
    assert reader_of(storage).read(meta, table, ["v"]).num_rows == 500


def test_a_storage_that_is_gone_is_no_damage(tmp_path: Path) -> None:
    storage = Storage("local", tmp_path / "disk")
    storage.create_base()
    table = table_of([ColumnDef(1, "id", types.INT)])
    meta = written(storage, table, rows_of(table, {"id": [1]}))
    (tmp_path / "disk").rename(tmp_path / "unmounted")
    with pytest.raises(StorageError, match=r"^Storage 'local' is unreachable$"):
        reader_of(storage).read(meta, table, ["id"])
    (tmp_path / "unmounted").rename(tmp_path / "disk")
    assert reader_of(storage).read(meta, table, ["id"]).num_rows == 1


@settings(max_examples=40)
@given(data=st.data(), data_type=st.sampled_from(SCALARS))
def test_a_fill_is_what_every_older_row_shows(
    data: st.DataObject, data_type: KalamDataType
) -> None:
    fill = data.draw(storage_values(data_type))
    table = table_of(
        [ColumnDef(1, "id", types.INT)],
        [ColumnDef(1, "id", types.INT), ColumnDef(2, "late", data_type, fill=fill)],
    )
    with tempfile.TemporaryDirectory() as place:
        storage = Storage("local", place)
        meta = written(storage, older(table, 1), rows_of(older(table, 1), {"id": [1, 2]}))
        read = reader_of(storage).read(meta, table, ["late"])
        assert same(stored_values(read, "late", data_type), [fill, fill])
