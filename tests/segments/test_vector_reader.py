"""EMBEDDING columns as they are searched: mapped, verified, and right after ALTER."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from segment_samples import (
    Values,
    expected,
    histories,
    older,
    reader_of,
    rows_of,
    table_of,
    written,
)

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import StorageValue, TypeKind
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.segments import vectors
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.layout import segment_paths, vectors_path
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.rows import VectorRows

COUNT, DIMENSION = 1_200, 8
ID, V = ColumnDef(1, "id", types.INT), ColumnDef(2, "v", types.embedding(DIMENSION))
TABLE = table_of([ID, V])
ROWS = np.random.default_rng(3).normal(size=(COUNT, DIMENSION)).astype(np.float32)
ARRAYS = ["f32/c/0/0", "q8/c/0/0", "scale/c/0", "remainder/c/0", "norm/c/0"]


def values_of(rows: np.ndarray[Any, Any], nulls: tuple[int, ...] = ()) -> Values:
    stored = [None if at in nulls else row.tobytes() for at, row in enumerate(rows)]
    return {"id": list(range(len(rows))), "v": stored}


def segment(
    storage: Storage, nulls: tuple[int, ...] = (), rows: Any = ROWS, segment_id: int = 1
) -> SegmentMeta:
    return written(storage, TABLE, rows_of(TABLE, values_of(rows, nulls)), segment_id)


def stored_values(found: VectorRows) -> list[StorageValue]:
    rows = np.concatenate(found.chunks)
    assert rows.shape == (found.row_count, found.dimension)
    there = np.ones(len(rows), np.bool_) if found.valid is None else found.valid
    return [row.tobytes() if is_there else None for row, is_there in zip(rows, there, strict=True)]


@pytest.mark.parametrize("chunk_bytes", [vectors.CHUNK_BYTES, 5_000], ids=["one", "many"])
def test_rows_and_codes_are_mapped_as_they_were_written(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(vectors, "CHUNK_BYTES", chunk_bytes)
    meta = segment(storage)
    assert meta.codes.keys() == meta.vectors.keys() == {2}
    before = pa.total_allocated_bytes()
    found = reader_of(storage).vectors(meta, TABLE, V)
    assert pa.total_allocated_bytes() - before < 1_000
    assert (found.dimension, found.row_count, found.valid) == (DIMENSION, COUNT, None)
    assert found.codes is not None
    assert (len(found.chunks) > 1) is (len(found.codes) > 1) is (chunk_bytes == 5_000)
    np.testing.assert_array_equal(np.concatenate(found.chunks), ROWS)
    whole = encode(ROWS)
    for name in ("codes", "scale", "remainder", "norm"):
        joined = np.concatenate([getattr(chunk, name) for chunk in found.codes])
        np.testing.assert_array_equal(joined, getattr(whole, name))
        with pytest.raises(ValueError, match="read-only"):
            getattr(found.codes[0], name)[0] = 1


def test_small_segments_carry_only_the_rows(storage: Storage) -> None:
    meta = segment(storage, rows=ROWS[: vectors.CODES_FROM_ROWS - 1])
    assert meta.codes == {}
    assert reader_of(storage).vectors(meta, TABLE, V).codes is None
    assert not storage.absolute(f"{vectors_path(meta.path)}/2/q8").exists()


def test_null_vectors_are_not_valid_and_have_no_norm(storage: Storage) -> None:
    nulls = (0, 7, COUNT - 1)
    meta = segment(storage, nulls)
    found = reader_of(storage).vectors(meta, TABLE, V)
    assert found.valid is not None
    assert found.codes is not None
    assert np.flatnonzero(~found.valid).tolist() == list(nulls)
    norm = np.concatenate([chunk.norm for chunk in found.codes])
    assert np.flatnonzero(np.isnan(norm)).tolist() == list(nulls)
    assert stored_values(found) == values_of(ROWS, nulls)["v"]


def test_only_a_segment_with_null_vectors_has_its_parquet_file_read(storage: Storage) -> None:
    whole, holed = segment(storage), segment(storage, (3,), segment_id=2)
    for meta in (whole, holed):
        storage.delete(meta.path)
    assert reader_of(storage).vectors(whole, TABLE, V).row_count == COUNT
    with pytest.raises(CorruptError):
        reader_of(storage).vectors(holed, TABLE, V)


def test_asking_again_reads_nothing_until_the_segment_is_forgotten(storage: Storage) -> None:
    cache = SegmentCache(10_000_000)
    reader = SegmentReader({"local": storage}.__getitem__, cache)
    meta = segment(storage, (3,))
    found = reader.vectors(meta, TABLE, V)
    for path in segment_paths(meta):
        storage.delete(path)
    assert reader.vectors(meta, TABLE, V) is found
    reader.forget([meta.segment_id + 1])
    assert reader.vectors(meta, TABLE, V) is found
    reader.forget([meta.segment_id])
    assert cache.used_bytes == 0
    with pytest.raises(CorruptError):
        reader.vectors(meta, TABLE, V)


CHUNKED = pytest.mark.parametrize("small_rows", [250_000, 100], ids=["whole", "by row groups"])
MANY = np.tile(ROWS, (100, 1))
PLACES = [len(MANY) - 1, 5, 70_000, 3, 70_001, 5]


@CHUNKED
def test_single_rows_are_read_in_their_order_from_any_chunk(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, small_rows: int
) -> None:
    monkeypatch.setattr("kalamdb_lab.segments.reader._SMALL_ROWS", small_rows)
    monkeypatch.setattr(vectors, "CHUNK_BYTES", 1 << 19)
    meta = segment(storage, nulls=(5,), rows=MANY)
    reader = reader_of(storage)
    seqs = reader.seq_numbers(meta, TABLE)[PLACES].tolist()
    assert reader.read_rows(meta, TABLE, ["v"], seqs).column("v").to_pylist() == [
        None if place == 5 else MANY[place].tolist() for place in PLACES
    ]
    assert reader.read_rows(meta, TABLE, ["v"], []).num_rows == 0


_CHILD = """
import sys
import pyarrow as pa
sys.path.insert(0, sys.argv[1])
from test_vector_reader import MANY, PLACES, TABLE, reader_of, segment, vectors
from kalamdb_lab.segments import reader as module
from kalamdb_lab.segments.storage import Storage

module._SMALL_ROWS = int(sys.argv[3])
vectors.CHUNK_BYTES = 1 << 19
storage = Storage("local", sys.argv[2])
storage.create_base()
reader, meta = reader_of(storage), segment(storage, rows=MANY)
seqs = reader.seq_numbers(meta, TABLE)[PLACES].tolist()
reader.read(meta, TABLE, ["v"])
before = pa.default_memory_pool().max_memory()
held = pa.allocate_buffer(max(0, before - pa.total_allocated_bytes()))
reader.read_rows(meta, TABLE, ["v"], seqs)
print(pa.default_memory_pool().max_memory() - before)
"""


@CHUNKED
def test_single_rows_are_read_without_a_copy_of_the_others(tmp_path: Path, small_rows: int) -> None:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", _CHILD, here, str(tmp_path / "storage"), str(small_rows)]
    copied_bytes = int(subprocess.run(command, check=True, capture_output=True).stdout)
    assert copied_bytes < MANY.nbytes / 10


def test_a_retired_number_is_verified_again(storage: Storage) -> None:
    reader = reader_of(storage)
    meta = segment(storage)
    reader.vectors(meta, TABLE, V)
    reader.forget([meta.segment_id])
    place = storage.absolute(f"{vectors_path(meta.path)}/2/q8/c/0/0")
    place.write_bytes(place.read_bytes()[::-1])
    with pytest.raises(CorruptError):
        reader.vectors(meta, TABLE, V)


@pytest.mark.parametrize("array", ARRAYS)
def test_each_of_50_flipped_bits_is_noticed_in_any_array(storage: Storage, array: str) -> None:
    meta = segment(storage)
    place = storage.absolute(f"{vectors_path(meta.path)}/2/{array}")
    sound = place.read_bytes()
    chance = random.Random(array)
    for _ in range(50):
        bit = chance.randrange(len(sound) * 8)
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        place.write_bytes(damaged)
        with pytest.raises(CorruptError, match=r"^A segment of studio\.tracks is damaged; "):
            reader_of(storage).vectors(meta, TABLE, V)
    place.write_bytes(sound)
    assert reader_of(storage).vectors(meta, TABLE, V).row_count == COUNT


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize(
    "harm",
    [Path.unlink, lambda place: place.write_bytes(b""), lambda place: place.open("ab").write(b"x")],
    ids=["missing", "empty", "longer"],
)
def test_files_of_another_size_are_noticed(
    storage: Storage, array: str, harm: Callable[[Path], object]
) -> None:
    meta = segment(storage)
    harm(storage.absolute(f"{vectors_path(meta.path)}/2/{array}"))
    with pytest.raises(CorruptError):
        reader_of(storage).vectors(meta, TABLE, V)


def test_a_renamed_column_is_the_same_and_one_added_under_its_name_is_not(
    storage: Storage,
) -> None:
    renamed = ColumnDef(2, "w", V.data_type)
    again = ColumnDef(3, "v", types.embedding(DIMENSION))
    wider = ColumnDef(4, "wide", types.embedding(5), fill=np.arange(5, dtype="<f4").tobytes())
    table = table_of([ID, V], [ID, renamed, again, wider])
    meta = written(storage, older(table, 1), rows_of(older(table, 1), values_of(ROWS)))
    reader = reader_of(storage)
    np.testing.assert_array_equal(np.concatenate(reader.vectors(meta, table, renamed).chunks), ROWS)
    assert reader.vectors(meta, table, renamed).codes is not None
    assert stored_values(reader.vectors(meta, table, again)) == [None] * COUNT
    filled = reader.vectors(meta, table, wider)
    assert filled.valid is None
    assert stored_values(filled) == [wider.fill] * COUNT


def test_a_million_rows_older_than_the_column_take_little_memory(storage: Storage) -> None:
    column = ColumnDef(3, "w", types.embedding(384), fill=np.ones(384, "<f4").tobytes())
    table = table_of([ID], [ID, column])
    ids = pa.chunked_array([pa.array(np.arange(1_000_000, dtype=np.int32))])
    meta = written(storage, older(table, 1), pa.table({"id": ids, "_seq": ids.cast(pa.int64())}))
    cache = SegmentCache(10_000_000)
    reader = SegmentReader({"local": storage}.__getitem__, cache)
    found = reader.vectors(meta, table, column)
    assert sum(map(len, found.chunks)) == 1_000_000
    assert all(rows.flags.c_contiguous and rows[-1, -1] == 1 for rows in found.chunks)
    assert 0 < cache.used_bytes < 3_000_000


def test_text_that_became_vectors_is_searched_as_such(storage: Storage) -> None:
    text = ColumnDef(2, "v", types.TEXT)
    table = table_of([ID, text], [ID, ColumnDef(2, "v", types.embedding(2))])
    values: Values = {"id": [1, 2, 3], "v": ["[1, 2]", None, "[3, 4.5]"]}
    meta = written(storage, older(table, 1), rows_of(older(table, 1), values))
    found = reader_of(storage).vectors(meta, table, table.columns[1])
    vectors_there = [np.array(row, "<f4").tobytes() for row in ([1, 2], [3, 4.5])]
    assert stored_values(found) == [vectors_there[0], None, vectors_there[1]]


@pytest.mark.slow
@given(case=histories())
def test_after_any_alter_vectors_are_what_a_read_shows(case: tuple[TableDef, Values]) -> None:
    table, values = case
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patched:
        patched.setattr(vectors, "CODES_FROM_ROWS", 3)
        storage = Storage("local", directory)
        meta = written(storage, older(table, 1), rows_of(older(table, 1), values))
        reader = reader_of(storage)
        for column in table.columns:
            if column.data_type.kind is TypeKind.EMBEDDING:
                found = reader.vectors(meta, table, column)
                assert stored_values(found) == expected(table, values, column)
