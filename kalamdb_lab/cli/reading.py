"""Files of rows, read block by block: CSV, Parquet, Arrow and JSON lines."""

from __future__ import annotations

import csv
import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kalamdb_lab.arrow.schemas import KALAM_TYPE, kalam_type, logical_field
from kalamdb_lab.arrow.text_types import type_of_texts
from kalamdb_lab.cli.formats import STANDARD_STREAM, FileFormat
from kalamdb_lab.cli.text_columns import (
    column_of_json,
    column_of_texts,
    type_of_json,
)
from kalamdb_lab.errors import InvalidDefinitionError, InvalidValueError
from kalamdb_lab.model.datatypes import KalamDataType, parse_type
from kalamdb_lab.model.tables import compression_of
from kalamdb_lab.segments.csv_files import BLOCK_BYTES, Continued, CsvText, reason
from kalamdb_lab.segments.physical import file_type, from_file

PORTION_ROWS: Final = 1_966_080
"""Rows that are inserted at once, at most: those of one segment."""
PORTION_BYTES: Final = 256 * 2**20
"""Memory that the rows of one insert take, about."""

_BLOCK_ROWS: Final = 20_000
_ARROW_FILE: Final = b"ARROW1"

Types = Mapping[str, KalamDataType]
"""Types of a table's columns by their names in lower case."""


class RowFile(ABC):
    """The rows of one open file."""

    @abstractmethod
    def columns(self) -> list[tuple[str, KalamDataType]]:
        """Return names and types; those of text files are inferred from their first block."""

    @abstractmethod
    def blocks(self, types: Types) -> Iterator[pa.Table]:
        """Yield the rows, once, in a form that INSERT converts to ``types``."""

    def portions(self, types: Types) -> Iterator[pa.Table]:
        """Yield the rows in as few pieces as memory allows; see `PORTION_BYTES`."""
        waiting: list[pa.Table] = []
        rows = size = 0
        for block in self.blocks(types):
            if waiting and (
                rows + block.num_rows > PORTION_ROWS or size + block.nbytes > PORTION_BYTES
            ):
                yield _joined(waiting)
                waiting, rows, size = [], 0, 0
            waiting.append(block)
            rows, size = rows + block.num_rows, size + block.nbytes
        if waiting:
            yield _joined(waiting)


def _joined(blocks: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(blocks, promote_options="permissive")


@contextmanager
def open_rows(file: str, file_format: FileFormat, *, delimiter: str = ",") -> Iterator[RowFile]:
    """Open a file, or standard input for ``-``; texts may be compressed as their suffix says.

    Raises
    ------
    InvalidValueError
        The file is not of its format; within the block too, when what is wrong is reached.
    OSError
        It cannot be read.
    """
    try:
        with _source(file) as source:
            match file_format:
                case FileFormat.PARQUET:
                    yield _ParquetRows(source)
                case FileFormat.ARROW:
                    yield _ArrowRows(source)
                case FileFormat.CSV:
                    yield _CsvRows(source, delimiter)
                case FileFormat.JSONL:
                    yield _JsonRows(source)
    except (pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        raise InvalidValueError(
            f"This is not valid {file_format.spoken}: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "its text is not UTF-8"
    first = str(error).partition("\n")[0]
    if "straddl" in first or "UTF8" in first:
        return reason(error)
    for start in ("CSV parse error: ", "Could not open Parquet input source '<Buffer>': "):
        first = first.removeprefix(start)
    return first[:200]


@contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    if file == STANDARD_STREAM:
        yield sys.stdin.buffer
        return
    compression = compression_of(file)
    if compression is None:
        with Path(file).open("rb") as plain:
            yield plain
    else:
        with pa.input_stream(file, compression=compression) as stream:
            yield io.BufferedReader(stream, BLOCK_BYTES)


class _ParquetRows(RowFile):
    def __init__(self, source: BinaryIO) -> None:
        if not source.seekable():
            raise InvalidValueError("Parquet cannot be read from a pipe; give a file")
        self._file = pq.ParquetFile(source)
        self._schema = _stated(self._file.schema_arrow)

    def columns(self) -> list[tuple[str, KalamDataType]]:
        return [(field.name, kalam_type(field)) for field in self._schema]

    def blocks(self, types: Types) -> Iterator[pa.Table]:
        for batch in self._file.iter_batches(batch_size=_BLOCK_ROWS):
            columns = [
                from_file(pa.chunked_array([column]), kalam_type(field))
                if field.metadata and KALAM_TYPE in field.metadata
                else pa.chunked_array([column])
                for column, field in zip(batch.columns, self._schema, strict=True)
            ]
            yield pa.Table.from_arrays(columns, schema=self._schema)


def _stated(schema: pa.Schema) -> pa.Schema:
    """Return the schema of rows that were written from a table, in the types of that table."""
    fields = []
    for field in schema:
        stated = None
        if field.metadata and KALAM_TYPE in field.metadata:
            try:
                stated = parse_type(field.metadata[KALAM_TYPE].decode())
            except (UnicodeDecodeError, InvalidDefinitionError):
                stated = None
        if stated is not None and _same_layout(file_type(stated), field.type):
            fields.append(logical_field(field.name, stated))
        else:
            fields.append(pa.field(field.name, field.type))
    return pa.schema(fields)


def _same_layout(left: pa.DataType, right: pa.DataType) -> bool:
    return bool(left == right) or str(left) == str(right)


class _ArrowRows(RowFile):
    def __init__(self, source: BinaryIO) -> None:
        start = source.read(len(_ARROW_FILE))
        if start == _ARROW_FILE and source.seekable():
            source.seek(0)
            reader = pa.ipc.open_file(source)
            self._schema = reader.schema
            numbers = range(reader.num_record_batches)
            self._batches: Iterator[pa.RecordBatch] = map(reader.get_batch, numbers)
        elif start == _ARROW_FILE:
            raise InvalidValueError("An Arrow file cannot be read from a pipe; an Arrow stream can")
        else:
            stream = pa.ipc.open_stream(Continued(start, source))
            self._schema, self._batches = stream.schema, iter(stream)

    def columns(self) -> list[tuple[str, KalamDataType]]:
        return [(field.name, kalam_type(field)) for field in self._schema]

    def blocks(self, types: Types) -> Iterator[pa.Table]:
        return (pa.Table.from_batches([batch]) for batch in self._batches)


class _CsvRows(RowFile):
    """Cells are read as text: which value a text is, the conversions of INSERT say."""

    def __init__(self, source: BinaryIO, delimiter: str) -> None:
        text = CsvText(source, delimiter)
        self._names = text.names
        self._batches = text.batches()
        self._first = next(self._batches, None)

    def columns(self) -> list[tuple[str, KalamDataType]]:
        first = pa.Table.from_batches(
            [self._first] if self._first is not None else [], self._schema
        )
        return [
            (name, type_of_texts(column))
            for name, column in zip(self._names, first.columns, strict=True)
        ]

    @property
    def _schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self._names])

    def blocks(self, types: Types) -> Iterator[pa.Table]:
        first = [] if self._first is None else [self._first]
        for batch in chain(first, self._batches):
            block = pa.Table.from_batches([batch])
            columns = {
                name: column_of_texts(column, types[name.lower()], name)
                if name.lower() in types
                else column
                for name, column in zip(self._names, block.columns, strict=True)
            }
            yield pa.table(columns)


class _JsonRows(RowFile):
    _read = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

    def __init__(self, source: BinaryIO) -> None:
        self._lines = enumerate(source, start=1)
        self._first = self._next_objects()

    def _next_objects(self) -> list[dict[str, msgspec.Raw]]:
        found = []
        for number, line in islice(self._lines, _BLOCK_ROWS):
            text = line.strip().removeprefix(b"\xef\xbb\xbf")
            if not text:
                continue
            try:
                found.append(self._read(text))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                hint = (
                    "; a list is not read, one object on each line is" if text[:1] == b"[" else ""
                )
                raise InvalidValueError(f"Line {number} is not a JSON object{hint}") from None
        return found

    def columns(self) -> list[tuple[str, KalamDataType]]:
        return [(name, type_of_json(raws)) for name, raws in _by_name(self._first).items()]

    def blocks(self, types: Types) -> Iterator[pa.Table]:
        objects, seen = self._first, list[str]()
        while objects:
            by_name = _by_name(objects, seen)
            seen = list(by_name)
            columns, fields = [], []
            for name, raws in by_name.items():
                data_type = types.get(name.lower()) or type_of_json(raws)
                columns.append(column_of_json(raws, data_type, name))
                fields.append(logical_field(name, data_type))
            yield pa.Table.from_arrays(columns, schema=pa.schema(fields))
            objects = self._next_objects()


def _by_name(
    objects: list[dict[str, msgspec.Raw]], seen: Iterable[str] = ()
) -> dict[str, list[bytes | None]]:
    """Return the values of each key, None where an object lacks it; seen ones come first."""
    names = dict.fromkeys([*seen, *(name for item in objects for name in item)])
    return {
        name: [bytes(item[name]) if name in item else None for item in objects] for name in names
    }
