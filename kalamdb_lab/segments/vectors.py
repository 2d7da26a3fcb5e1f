"""Vectors of a segment: one zarr v3 array per EMBEDDING column, row for row beside the Parquet.

The chunks are plain float32 rows, uncompressed and whole, so reading is mapping a file. zarr
libraries read what is written here; the shape is known from the manifest, so nothing here reads
``zarr.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from kalamdb_lab.segments.storage import NewDirectory, Storage

CHUNK_BYTES = 96 * 1024 * 1024

_GROUP = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}, indent=2).encode()


def rows_per_chunk(row_count: int, dimension: int) -> int:
    """Return the rows of a chunk: all of them up to 96 MiB, else a power of two below that."""
    row_bytes = 4 * dimension
    if row_count * row_bytes <= CHUNK_BYTES:
        return row_count
    return 1 << (CHUNK_BYTES // row_bytes).bit_length() - 1


def write_vectors(
    storage: Storage, path: str, columns: Mapping[int, tuple[pa.ChunkedArray, int]]
) -> dict[int, str]:
    """Write the arrays of a segment under the directory ``path``, all or none.

    Parameters
    ----------
    columns : mapping of int to (pa.ChunkedArray, int)
        By column id: fixed-size lists of float32, and their dimension. NULL becomes zeros.

    Returns
    -------
    dict of int to str
        xxh3_128 of the float32 rows of each column.
    """
    with storage.writing_directory(path) as directory:
        directory.write("zarr.json", _GROUP)
        return {
            column_id: _write_array(directory, str(column_id), column, dimension)
            for column_id, (column, dimension) in columns.items()
        }


def map_vectors(
    storage: Storage, path: str, column_id: int, *, row_count: int, dimension: int
) -> list[np.ndarray[Any, np.dtype[np.float32]]] | None:
    """Return a column's rows as mapped arrays (rows of the chunk, dimension), in order.

    None if a file is missing or has another size than it must have.
    """
    chunk_rows = rows_per_chunk(row_count, dimension)
    chunks: list[np.ndarray[Any, np.dtype[np.float32]]] = []
    for number, start in enumerate(range(0, row_count, chunk_rows)):
        data = storage.map(f"{path}/{column_id}/f32/c/{number}/0")
        if data is None or data.size != chunk_rows * dimension * 4:
            return None
        rows = np.frombuffer(data, "<f4").reshape(chunk_rows, dimension)
        chunks.append(rows[: row_count - start])
    return chunks


def digest_of(chunks: list[np.ndarray[Any, np.dtype[np.float32]]]) -> str:
    """Return the xxh3_128 of all rows, without the padding of the last chunk."""
    digest = xxhash.xxh3_128()
    for rows in chunks:
        digest.update(rows.data)
    return digest.hexdigest()


def _write_array(
    directory: NewDirectory, path: str, column: pa.ChunkedArray, dimension: int
) -> str:
    row_count = len(column)
    chunk_rows = rows_per_chunk(row_count, dimension)
    directory.write(f"{path}/zarr.json", _GROUP)
    directory.write(f"{path}/f32/zarr.json", _array_description(row_count, dimension, chunk_rows))
    digest = xxhash.xxh3_128()
    for number, start in enumerate(range(0, row_count, chunk_rows)):
        with directory.writing(f"{path}/f32/c/{number}/0") as file:
            for rows in _rows(column.slice(start, chunk_rows), dimension):
                digest.update(rows.data)
                file.write(rows.data)
            # Every chunk of a zarr array has the full size; the hole costs no disk.
            file.truncate(chunk_rows * dimension * 4)
    return digest.hexdigest()


def _rows(
    column: pa.ChunkedArray, dimension: int
) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    for chunk in column.chunks:
        array: Any = chunk
        values = array.values.slice(array.offset * dimension, len(array) * dimension)
        rows = values.to_numpy(zero_copy_only=not values.null_count).reshape(-1, dimension)
        if array.null_count:
            rows = np.where(array.is_valid().to_numpy(zero_copy_only=False)[:, None], rows, 0)
        yield np.ascontiguousarray(rows, "<f4")


def _array_description(row_count: int, dimension: int, chunk_rows: int) -> bytes:
    description = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [row_count, dimension],
        "data_type": "float32",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [chunk_rows, dimension]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
    }
    return json.dumps(description, indent=2).encode()
