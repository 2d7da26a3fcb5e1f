"""Vectors of a segment: one zarr v3 group per EMBEDDING column, row for row beside the Parquet.

``f32`` holds the rows. From `CODES_FROM_ROWS` rows on there are their codes too: ``q8``, ``scale``,
``remainder`` and ``norm``, as `CodeChunk` explains them. All chunks are uncompressed and hold
whole rows, so reading is mapping a file. zarr libraries read what is written here; the shapes are
known from the manifest, so nothing here reads ``zarr.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import xxhash

from kalamdb_lab.segments.storage import NewDirectory, Storage
from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.rows import CodeChunk, Float32s

CHUNK_BYTES = 96 * 1024 * 1024

CODES_FROM_ROWS = 1_000
"""Smaller segments carry no codes: reading all their rows takes no longer."""

_BLOCK_BYTES = 2 * 1024 * 1024
"""What is encoded and written at once: small enough to stay in the processor's cache."""

_SCALARS = ("scale", "remainder", "norm")

_Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

_GROUP = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}, indent=2).encode()


def rows_per_chunk(row_count: int, dimension: int, *, component_bytes: int = 4) -> int:
    """Return the rows of a chunk: all of them up to 96 MiB, else a power of two below that."""
    row_bytes = component_bytes * dimension
    if row_count * row_bytes <= CHUNK_BYTES:
        return row_count
    return 1 << (CHUNK_BYTES // row_bytes).bit_length() - 1


def write_vectors(
    storage: Storage, path: str, columns: Mapping[int, tuple[pa.ChunkedArray, int]]
) -> tuple[dict[int, str], dict[int, str]]:
    """Write the groups of a segment's columns under the directory ``path``, all or none.

    Rows go to the disk block by block; beside a block only 12 bytes a row are held in memory.

    Parameters
    ----------
    columns : mapping of int to (pa.ChunkedArray, int)
        By column id: fixed-size lists of float32, and their dimension. NULL becomes zeros.

    Returns
    -------
    vectors, codes : dict of int to str
        By column id, as `SegmentMeta` has them.
    """
    vectors: dict[int, str] = {}
    codes: dict[int, str] = {}
    with storage.writing_directory(path) as directory:
        directory.write("zarr.json", _GROUP)
        for column_id, (column, dimension) in columns.items():
            directory.write(f"{column_id}/zarr.json", _GROUP)
            vectors[column_id] = _write_rows(directory, str(column_id), column, dimension)
            if len(column) >= CODES_FROM_ROWS:
                codes[column_id] = _write_codes(directory, str(column_id), column, dimension)
    return vectors, codes


def map_vectors(
    storage: Storage, path: str, column_id: int, *, row_count: int, dimension: int
) -> list[Float32s] | None:
    """Return a column's rows as mapped arrays (rows of the chunk, dimension), in order.

    None if a file is missing or has another size than it must have.
    """
    chunk_rows = rows_per_chunk(row_count, dimension)
    chunks: list[Float32s] = []
    for number, start in enumerate(range(0, row_count, chunk_rows)):
        shape = (chunk_rows, dimension)
        rows = map_array(storage, f"{path}/{column_id}/f32/c/{number}/0", "<f4", shape)
        if rows is None:
            return None
        chunks.append(rows[: row_count - start])
    return chunks


def map_codes(
    storage: Storage, path: str, column_id: int, *, row_count: int, dimension: int
) -> tuple[CodeChunk, ...] | None:
    """Return a column's codes as mapped arrays, in order.

    None if a file is missing or has another size than it must have.
    """
    return map_code_arrays(storage, f"{path}/{column_id}", row_count=row_count, dimension=dimension)


def map_code_arrays(
    storage: Storage, group: str, *, row_count: int, dimension: int
) -> tuple[CodeChunk, ...] | None:
    """Return the codes of a zarr group, of a column or of an index, as `map_codes` does."""
    chunk_rows = rows_per_chunk(row_count, dimension, component_bytes=1)
    chunks: list[CodeChunk] = []
    for number, start in enumerate(range(0, row_count, chunk_rows)):
        codes = map_array(storage, f"{group}/q8/c/{number}/0", "i1", (chunk_rows, dimension))
        scalars = [
            map_array(storage, f"{group}/{name}/c/{number}", "<f4", (chunk_rows,))
            for name in _SCALARS
        ]
        if codes is None or any(array is None for array in scalars):
            return None
        chunks.append(CodeChunk(*(array[: row_count - start] for array in (codes, *scalars))))
    return tuple(chunks)


def digest_of(chunks: Sequence[Float32s]) -> str:
    """Return the xxh3_128 of all rows, without the padding of the last chunk."""
    digest = xxhash.xxh3_128()
    for rows in chunks:
        digest.update(rows.data)
    return digest.hexdigest()


def digest_of_codes(chunks: Sequence[CodeChunk]) -> str:
    """Return the xxh3_128 of all codes, then all scales, remainders and norms, unpadded."""
    digest = xxhash.xxh3_128()
    for name in ("codes", *_SCALARS):
        for chunk in chunks:
            digest.update(getattr(chunk, name).data)
    return digest.hexdigest()


def blocks_of(column: pa.ChunkedArray, dimension: int) -> Iterator[tuple[Float32s, _Bools | None]]:
    """Return a column of fixed-size lists of float32, cut into blocks that a cache holds.

    Each is (rows, valid): NULL rows are zeros, and False in ``valid``, which is None if all rows
    of the block are there. Rows without NULL are not copied.
    """
    block_rows = max(1, _BLOCK_BYTES // (4 * dimension))
    for chunk in column.chunks:
        for start in range(0, len(chunk), block_rows):
            array: Any = chunk.slice(start, block_rows)
            values = array.values.slice(array.offset * dimension, len(array) * dimension)
            rows = values.to_numpy(zero_copy_only=not values.null_count).reshape(-1, dimension)
            valid = None
            if array.null_count:
                valid = array.is_valid().to_numpy(zero_copy_only=False)
                rows = np.where(valid[:, None], rows, np.float32(0))
            yield np.ascontiguousarray(rows, "<f4"), valid


def map_array(storage: Storage, path: str, dtype: str, shape: tuple[int, ...]) -> Any:
    """Return a file as a mapped array; None if it is missing or has another size."""
    data = storage.map(path)
    if data is None or data.size != math.prod(shape) * np.dtype(dtype).itemsize:
        return None
    return np.frombuffer(data, dtype).reshape(shape)


def _write_rows(directory: NewDirectory, path: str, column: pa.ChunkedArray, dimension: int) -> str:
    row_count = len(column)
    chunk_rows = rows_per_chunk(row_count, dimension)
    describe_array(directory, f"{path}/f32", "float32", (row_count, dimension), chunk_rows)
    digest = xxhash.xxh3_128()
    for number, start in enumerate(range(0, row_count, chunk_rows)):
        with directory.writing(f"{path}/f32/c/{number}/0") as file:
            for rows, _ in blocks_of(column.slice(start, chunk_rows), dimension):
                digest.update(rows.data)
                file.write(rows.data)
            # Every chunk of a zarr array has the full size; the hole costs no disk.
            file.truncate(chunk_rows * dimension * 4)
    return digest.hexdigest()


def _write_codes(
    directory: NewDirectory, path: str, column: pa.ChunkedArray, dimension: int
) -> str:
    row_count = len(column)
    chunk_rows = rows_per_chunk(row_count, dimension, component_bytes=1)
    describe_array(directory, f"{path}/q8", "int8", (row_count, dimension), chunk_rows)
    scalars = {name: np.empty(row_count, "<f4") for name in _SCALARS}
    digest = xxhash.xxh3_128()
    at = 0
    for number, start in enumerate(range(0, row_count, chunk_rows)):
        with directory.writing(f"{path}/q8/c/{number}/0") as file:
            for rows, valid in blocks_of(column.slice(start, chunk_rows), dimension):
                block = encode(rows, valid)
                digest.update(block.codes.data)
                file.write(block.codes.data)
                for name, values in scalars.items():
                    values[at : at + len(rows)] = getattr(block, name)
                at += len(rows)
            file.truncate(chunk_rows * dimension)
    for name, values in scalars.items():
        describe_array(directory, f"{path}/{name}", "float32", (row_count,), chunk_rows)
        digest.update(values.data)
        for number, start in enumerate(range(0, row_count, chunk_rows)):
            with directory.writing(f"{path}/{name}/c/{number}") as file:
                file.write(values[start : start + chunk_rows].data)
                file.truncate(chunk_rows * 4)
    return digest.hexdigest()


def describe_array(
    directory: NewDirectory, path: str, data_type: str, shape: tuple[int, ...], chunk_rows: int
) -> None:
    """Write the ``zarr.json`` of an array whose chunks hold ``chunk_rows`` whole rows."""
    codec: dict[str, Any] = {"name": "bytes"}
    if data_type != "int8":
        codec["configuration"] = {"endian": "little"}
    description = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [chunk_rows, *shape[1:]]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if data_type == "float32" else 0,
        "codecs": [codec],
        "attributes": {},
    }
    directory.write(f"{path}/zarr.json", json.dumps(description, indent=2).encode())
