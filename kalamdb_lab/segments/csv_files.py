"""CSV as tables: what a file does not say of its types is found by reading all of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.csv as pc

from kalamdb_lab.arrow.arrays import coerce_array
from kalamdb_lab.arrow.text_types import TextType
from kalamdb_lab.errors import InvalidDefinitionError
from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.model.tables import RegisteredFiles, compression_of
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.stored_file import StoredFile

Columns = list[tuple[str, KalamDataType | None]]
"""Names and types; None where there is no value."""

BLOCK_BYTES: Final = 16 * 2**20


class CsvText:
    """An open CSV file as columns of text, read once.

    Nothing between two delimiters is NULL, ``""`` is an empty text. In a file of one column an
    empty line is a NULL.

    Parameters
    ----------
    source : BinaryIO
        Bytes of the text, decompressed.
    header : bool
        True if the first line names the columns; else they are ``column1``, ``column2`` and so on.

    Raises
    ------
    pyarrow.ArrowInvalid
        The file is empty, or its first line is no text or no CSV; `reason` says why.
    InvalidDefinitionError
        A name appears twice.
    """

    def __init__(self, source: BinaryIO, delimiter: str, *, header: bool = True) -> None:
        line = _first_line(source, header=header)
        cells = _cells(line, delimiter)
        self.names = cells if header else [f"column{at}" for at in range(1, len(cells) + 1)]
        if not header:
            self.names = self.names or ["column1"]
        _refuse_equal_names(self.names)
        self._delimiter = delimiter
        start = source.read(1) if header else line
        self._rest = Continued(start, source) if start else None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all columns, block by block.

        Raises
        ------
        pyarrow.ArrowInvalid
            Some rows are no CSV of these columns; `reason` says why.
        """
        if self._rest is not None:
            yield from pc.open_csv(self._rest, **self._options(self.names))

    def read(self, names: Sequence[str]) -> pa.Table:
        """Return some of the columns, whole; raises as `batches` does."""
        if self._rest is None:
            return pa.schema([(name, pa.string()) for name in names]).empty_table()
        return pc.read_csv(self._rest, **self._options(names))

    def _options(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "read_options": pc.ReadOptions(column_names=self.names, block_size=BLOCK_BYTES),
            "parse_options": pc.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=True,
                ignore_empty_lines=len(self.names) > 1,
            ),
            "convert_options": pc.ConvertOptions(
                column_types=dict.fromkeys(self.names, pa.string()),
                include_columns=list(names),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        }


class Continued(io.RawIOBase):
    """A stream that goes on after what was read of it already."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._start = start
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        start = self._start[: len(buffer)]
        self._start = self._start[len(start) :]
        # Filled as far as it goes: a short first block would be taken for a short first row.
        data = start + self._rest.read(len(buffer) - len(start))
        buffer[: len(data)] = data
        return len(data)


def infer(storage: Storage, found: Sequence[StoredFile], files: RegisteredFiles) -> list[Columns]:
    """Return the columns of each file; a column that several files have is alike in them.

    Raises
    ------
    pyarrow.ArrowInvalid, StorageError
        A file is not CSV, or cannot be read.
    InvalidDefinitionError
        A name appears twice in a file.
    """
    seen: dict[str, TextType] = {}
    columns: list[list[str]] = []
    for file in found:
        with opened(storage, file, files) as text:
            columns.append(text.names)
            for batch in text.batches():
                for name, texts in zip(text.names, batch.columns, strict=True):
                    seen.setdefault(name, TextType()).see(texts)
    known = {name: texts.data_type for name, texts in seen.items()}
    return [[(name, known.get(name)) for name in names] for names in columns]


@contextmanager
def opened(storage: Storage, file: StoredFile, files: RegisteredFiles) -> Iterator[CsvText]:
    """Open one of the files of a registered table; raises as `CsvText` does."""
    compression = compression_of(file.name)
    with storage.reading(file.path) as stored:
        plain = stored if compression is None else pa.CompressedInputStream(stored, compression)
        yield CsvText(io.BufferedReader(plain, BLOCK_BYTES), files.delimiter, header=files.header)


def read(text: CsvText, columns: Mapping[str, KalamDataType]) -> pa.Table:
    """Return columns of a file, each as the type given for it.

    Raises
    ------
    KalamError
        The first value that does not fit.
    pyarrow.ArrowInvalid
        Some rows are no CSV of the file's columns.
    """
    rows = text.read(list(columns))
    arrays = [
        coerce_array(texts, None, data_type, column=name)
        for texts, (name, data_type) in zip(rows.columns, columns.items(), strict=True)
    ]
    return pa.Table.from_arrays(arrays, names=list(columns))


def reason(error: pa.ArrowException) -> str:
    """Return in words why rows are no CSV of the columns of their file."""
    message = str(error)
    if "straddl" in message:
        return f"a row is longer than {BLOCK_BYTES // 2**20} MiB"
    if "UTF8" in message:
        return "its text is not UTF-8"
    if "columns, got" in message:
        return "a row has not as many values as there are columns"
    return message.partition("\n")[0].removeprefix("CSV parse error: ")[:200]


def _first_line(source: BinaryIO, *, header: bool) -> bytes:
    """Read the first line, which may go on within quotes; empty ones come before no header."""
    line = b""
    while more := source.readline():
        line += more
        if line.count(b'"') % 2 == 0 and (line.strip() or not header):
            return line
    if not line.strip():
        raise pa.ArrowInvalid("it is empty" + ("; its first line should name the columns" * header))
    return line


def _cells(line: bytes, delimiter: str) -> list[str]:
    try:
        text = line.decode("utf-8-sig").strip("\r\n")
        return next(csv.reader([text], delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        why = "invalid UTF8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise pa.ArrowInvalid(why) from None


def _refuse_equal_names(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise InvalidDefinitionError(f"Column '{name}' appears twice")
        seen.add(name.lower())
