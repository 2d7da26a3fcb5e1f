"""Rows written as a file, batch by batch: CSV, Parquet, Arrow and JSON lines."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.cli.formats import FileFormat
from kalamdb_lab.cli.row_text import csv_header, csv_rows, json_rows
from kalamdb_lab.errors import InvalidDefinitionError
from kalamdb_lab.model.tables import compression_of
from kalamdb_lab.segments.physical import file_type, to_file

_SLICE_BYTES: Final = 16 * 2**20
_ROW_GROUP_BYTES: Final = 128 * 2**20

Write = Callable[[pa.RecordBatch], None]


@contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name when the block ends; if it raises, nothing is left behind.

    What is written is compressed as the last suffix says. A file that is replaced hands on its
    permissions, a link stays one to the file, and what is no regular file is written into.

    Raises
    ------
    OSError
        It cannot be written.
    """
    compression = compression_of(path.name)
    path = Path(os.path.realpath(path))
    old = path.stat() if path.exists() else None
    if old is not None and not stat.S_ISREG(old.st_mode):
        with path.open("wb") as plain, _packed(plain, compression) as out:
            yield out
        return
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with unfinished.open("xb") as plain:
            if old is not None:
                unfinished.chmod(0o600)  # nobody reads meanwhile what nobody may read then
            with _packed(plain, compression) as out:
                yield out
        with unfinished.open("rb+") as whole:  # the other may have been closed for us
            os.fsync(whole.fileno())
        if old is not None:
            with suppress(PermissionError):
                os.chown(unfinished, old.st_uid, old.st_gid)
            unfinished.chmod(stat.S_IMODE(old.st_mode))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _packed(plain: BinaryIO, compression: str | None) -> Iterator[BinaryIO]:
    if compression is None:
        yield plain
    else:
        with pa.CompressedOutputStream(plain, compression) as packed:
            yield packed


@contextmanager
def row_writer(
    out: BinaryIO, schema: pa.Schema, file_format: FileFormat, *, is_stream: bool = False
) -> Iterator[Write]:
    """Give a function that writes the next rows; the file is whole when the block ends.

    Parameters
    ----------
    is_stream : bool
        True for a pipe: Arrow is written in the form that needs no seeking.
    """
    match file_format:
        case FileFormat.PARQUET:
            with _parquet(out, schema) as write:
                yield write
        case FileFormat.ARROW:
            new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
            writer = new(out, schema)
            yield writer.write_batch
            writer.close()
        case FileFormat.CSV:
            out.write(csv_header(schema.names))
            yield lambda batch: _sliced(batch, lambda part: out.write(csv_rows(part)))
        case FileFormat.JSONL:
            yield lambda batch: _sliced(batch, lambda part: out.write(json_rows(part)))


def refuse_equal_names(schema: pa.Schema) -> None:
    """Raise `InvalidDefinitionError` if two columns have one name: no reader tells them apart."""
    for at, name in enumerate(schema.names):
        if name in schema.names[:at]:
            raise InvalidDefinitionError(f"Column '{name}' appears twice; name one by AS")


def _sliced(batch: pa.RecordBatch, write: Callable[[pa.RecordBatch], object]) -> None:
    """Write a batch in parts: the text of a column must stay below 2 GiB."""
    row_bytes = max(batch.nbytes // max(batch.num_rows, 1), 1)
    step = max(_SLICE_BYTES // row_bytes, 1)
    for start in range(0, batch.num_rows, step):
        write(batch.slice(start, step))


@contextmanager
def _parquet(out: BinaryIO, schema: pa.Schema) -> Iterator[Write]:
    """Write UUID, JSON and INTERVAL in the forms that Parquet has for them."""
    types = [kalam_type(field) for field in schema]
    fields = [
        field.with_type(file_type(data_type))
        for field, data_type in zip(schema, types, strict=True)
    ]
    stored = pa.schema(fields)
    waiting: list[pa.RecordBatch] = []

    def flush() -> None:
        if not waiting:
            return
        table = pa.Table.from_batches(waiting)
        waiting.clear()
        columns = [
            to_file(column, data_type)
            for column, data_type in zip(table.columns, types, strict=True)
        ]
        writer.write_table(pa.Table.from_arrays(columns, schema=stored))

    def write(batch: pa.RecordBatch) -> None:
        waiting.append(batch)
        if sum(part.nbytes for part in waiting) >= _ROW_GROUP_BYTES:
            flush()

    with pq.ParquetWriter(out, stored, compression="zstd") as writer:
        yield write
        flush()
