"""Vectors on disk: plain zarr v3 that others read, and theirs that we read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.segments import vectors
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.vectors import (
    CHUNK_BYTES,
    blocks_of,
    digest_of,
    digest_of_codes,
    map_codes,
    map_vectors,
    rows_per_chunk,
    write_vectors,
)
from kalamdb_lab.vectors.codes import encode

ROWS = np.random.default_rng(4).normal(size=(21, 5)).astype(np.float32)
SCALARS = ("scale", "remainder", "norm")


def column_of(rows: np.ndarray[Any, Any], pieces: int = 3) -> pa.ChunkedArray:
    parts = [part for part in np.array_split(rows, pieces) if len(part)]
    return pa.chunked_array(
        [
            pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), rows.shape[1])
            for part in parts
        ]
    )


@given(row_count=st.integers(1, 10**9), dimension=st.integers(1, 8192))
def test_a_chunk_is_all_rows_or_the_largest_power_of_two_within_96_mib(
    row_count: int, dimension: int
) -> None:
    assert rows_per_chunk(row_count, 4 * dimension, component_bytes=1) == rows_per_chunk(
        row_count, dimension
    )
    rows = rows_per_chunk(row_count, dimension)
    assert rows * dimension * 4 <= CHUNK_BYTES
    if rows != row_count:
        assert rows & (rows - 1) == 0
        assert 2 * rows * dimension * 4 > CHUNK_BYTES
        assert row_count * dimension * 4 > CHUNK_BYTES
    assert rows_per_chunk(10**7, 384) == 65_536
    assert rows_per_chunk(10**7, 8192) == 2_048


@pytest.mark.parametrize("chunk_bytes", [CHUNK_BYTES, 200], ids=["one chunk", "many chunks"])
def test_zarr_reads_what_we_write(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(vectors, "CHUNK_BYTES", chunk_bytes)
    rows = np.random.default_rng(2).normal(size=(21, 5)).astype(np.float32)
    digests, _ = write_vectors(
        storage, "s.vectors", {4: (column_of(rows), 5), 9: (column_of(rows), 5)}
    )
    group: Any = zarr.open_group(storage.absolute("s.vectors"), mode="r", zarr_format=3)
    assert sorted(group.group_keys()) == ["4", "9"]
    array = group["4/f32"]
    assert array.shape == (21, 5)
    np.testing.assert_array_equal(array[:], rows)
    np.testing.assert_array_equal(array[13:17, 2], rows[13:17, 2])
    chunks = map_vectors(storage, "s.vectors", 9, row_count=21, dimension=5)
    assert chunks is not None
    assert (len(chunks) > 1) is (chunk_bytes == 200)
    np.testing.assert_array_equal(np.concatenate(chunks), rows)
    assert digests == {4: digest_of(chunks), 9: digest_of([rows])}


@pytest.mark.parametrize("chunk_bytes", [CHUNK_BYTES, 200], ids=["one chunk", "many chunks"])
def test_we_read_what_zarr_writes_in_this_layout(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(vectors, "CHUNK_BYTES", chunk_bytes)
    rows = np.random.default_rng(2).normal(size=(21, 5)).astype(np.float32)
    array = zarr.create_array(
        store=storage.absolute("s.vectors/4/f32"),
        shape=rows.shape,
        chunks=(rows_per_chunk(*rows.shape), 5),
        dtype="float32",
        compressors=None,
        zarr_format=3,
    )
    array[:] = rows
    chunks = map_vectors(storage, "s.vectors", 4, row_count=21, dimension=5)
    assert chunks is not None
    np.testing.assert_array_equal(np.concatenate(chunks), rows)
    assert digest_of(chunks) == digest_of([rows])


def write_by_zarr(path: Path, rows: np.ndarray[Any, Any], chunk_rows: int) -> None:
    array = zarr.create_array(
        store=path,
        shape=rows.shape,
        chunks=(chunk_rows, *rows.shape[1:]),
        dtype=rows.dtype,
        compressors=None,
        zarr_format=3,
    )
    array[:] = rows


@pytest.mark.parametrize("chunk_bytes", [CHUNK_BYTES, 60], ids=["one chunk", "many chunks"])
def test_zarr_reads_the_codes_beside_the_rows(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(vectors, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(vectors, "CODES_FROM_ROWS", 21)
    monkeypatch.setattr(vectors, "_BLOCK_BYTES", 100)
    _, digests = write_vectors(storage, "s.vectors", {4: (column_of(ROWS), 5)})
    group: Any = zarr.open_group(storage.absolute("s.vectors/4"), mode="r", zarr_format=3)
    assert sorted(group.array_keys()) == ["f32", "norm", "q8", "remainder", "scale"]
    codes = map_codes(storage, "s.vectors", 4, row_count=21, dimension=5)
    assert codes is not None
    assert (len(codes) > 1) is (chunk_bytes == 60)
    assert digests == {4: digest_of_codes(codes)} == {4: digest_of_codes([encode(ROWS)])}
    np.testing.assert_array_equal(group["f32"][:], ROWS)
    for array, part in (("q8", "codes"), *((name, name) for name in SCALARS)):
        ours = np.concatenate([getattr(chunk, part) for chunk in codes])
        assert group[array].dtype == ours.dtype
        np.testing.assert_array_equal(group[array][:], ours)
        np.testing.assert_array_equal(ours, getattr(encode(ROWS), part))


@pytest.mark.parametrize("chunk_bytes", [CHUNK_BYTES, 60], ids=["one chunk", "many chunks"])
def test_we_read_the_codes_that_zarr_writes_in_this_layout(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(vectors, "CHUNK_BYTES", chunk_bytes)
    made, group = encode(ROWS), storage.absolute("s.vectors/4")
    chunk_rows = rows_per_chunk(21, 5, component_bytes=1)
    write_by_zarr(group / "q8", made.codes, chunk_rows)
    for name in SCALARS:
        write_by_zarr(group / name, getattr(made, name), chunk_rows)
    codes = map_codes(storage, "s.vectors", 4, row_count=21, dimension=5)
    assert codes is not None
    assert (len(codes) > 1) is (chunk_bytes == 60)
    assert digest_of_codes(codes) == digest_of_codes([made])
    storage.delete("s.vectors/4/norm")
    assert map_codes(storage, "s.vectors", 4, row_count=21, dimension=5) is None


def test_a_column_is_cut_into_small_blocks_that_are_not_copied() -> None:
    rows = np.ones((100_000, 32), np.float32)
    blocks = list(blocks_of(column_of(rows, pieces=1), 32))
    assert max(block.nbytes for block, _ in blocks) <= 2 * 1024 * 1024
    assert all(np.shares_memory(block, rows) and valid is None for block, valid in blocks)
    assert sum(len(block) for block, _ in blocks) == len(rows)


def test_null_vectors_are_zeros_whatever_lies_beneath(storage: Storage) -> None:
    values = pa.array(np.arange(8, dtype=np.float32))
    array = pa.FixedSizeListArray.from_arrays(values, 2, mask=pa.array([False, True, False, True]))
    write_vectors(storage, "s.vectors", {1: (pa.chunked_array([array]).slice(1), 2)})
    chunks = map_vectors(storage, "s.vectors", 1, row_count=3, dimension=2)
    assert chunks is not None
    assert np.concatenate(chunks).tolist() == [[0, 0], [4, 5], [0, 0]]


def test_mapped_rows_cannot_be_written(storage: Storage, tmp_path: Path) -> None:
    write_vectors(storage, "s.vectors", {1: (column_of(np.ones((3, 2), np.float32)), 2)})
    chunks = map_vectors(storage, "s.vectors", 1, row_count=3, dimension=2)
    assert chunks is not None
    with pytest.raises(ValueError, match="read-only"):
        chunks[0][0, 0] = 5
    assert map_vectors(storage, "s.vectors", 1, row_count=4, dimension=2) is None
    assert map_vectors(storage, "s.vectors", 2, row_count=3, dimension=2) is None
