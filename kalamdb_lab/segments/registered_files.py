"""Files that are not the database's own: found by a pattern, described, and read."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from kalamdb_lab.arrow.canonical import canonical
from kalamdb_lab.arrow.conversions import refuse_unfit
from kalamdb_lab.arrow.results import canonical_column, column_type
from kalamdb_lab.arrow.schemas import field_for, kalam_type
from kalamdb_lab.errors import (
    InvalidDefinitionError,
    InvalidValueError,
    KalamError,
    NotFoundError,
    StorageError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.model.datatypes import TEXT, KalamDataType
from kalamdb_lab.model.tables import ColumnDef, FileFormat, RegisteredFiles, TableDef
from kalamdb_lab.segments import csv_files
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.pruning import Predicate
from kalamdb_lab.segments.row_groups import kept_row_groups
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.stored_file import StoredFile

Fields = list[tuple[str, KalamDataType]]

_NO_SEGMENT = -1
"""In the place of a segment's id in keys of the cache."""
_ARROW_FILE = b"ARROW1"


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The files of a pattern as they are now: where, and which."""

    storage: Storage
    files: tuple[StoredFile, ...]


class RegisteredFilesReader:
    """Reads files where they lie; keeps decoded columns within the budget of the cache.

    A file is known by its path, size and time of change, so one that was replaced is read anew.

    Parameters
    ----------
    directory : Path
        Where patterns start that are not absolute: the directory of the database.
    own : callable
        What the paths of files begin with that are the database's own.
    cache : SegmentCache
    """

    def __init__(
        self, directory: Path, own: Callable[[], Iterable[str]], cache: SegmentCache
    ) -> None:
        self._directory = directory
        self._own = own
        self._cache = cache

    def find(self, pattern: str, table: TableDef | None = None) -> FoundFiles:
        """Return the files that a pattern names now, perhaps none; ``table`` is for errors.

        Raises
        ------
        StorageError
            They cannot be looked at, or one of them is the database's own.
        """
        base, rest = _split(self._directory / pattern)
        storage = Storage("registered", base)
        if not os.path.isdir(base):  # noqa: PTH112 - a name may be too long
            return FoundFiles(storage, ())
        try:
            files = storage.glob(rest)
        except StorageError:
            subject = f"'{pattern}'" if table is None else str(table.table_id)
            raise StorageError(f"The files of {subject} cannot be read") from None
        # Not by case: there are file systems that do not tell it apart.
        own = tuple(place.casefold() for place in self._own())
        for file in files:
            if os.path.realpath(storage.absolute(file.path)).casefold().startswith(own):
                if table is not None:
                    raise StorageError(f"{table.table_id} names files of the database itself")
                raise StorageError("Files of the database itself cannot be registered")
        return FoundFiles(storage, tuple(files))

    def fields(self, files: RegisteredFiles) -> Fields:
        """Return the columns on which all files agree.

        Raises
        ------
        NotFoundError
            There is no file.
        StorageError
            A file cannot be read, or is not of the format.
        TypeMismatchError, InvalidValueError, ValueOutOfRangeError
            A column has values for which there is no type.
        InvalidDefinitionError
            The files do not agree.
        """
        found = self.find(files.pattern)
        if not found.files:
            raise NotFoundError("File", files.pattern)
        subject = f"'{files.pattern}'"
        with _readable(subject, f"as {files.format.value.upper()}"):
            if files.format is FileFormat.CSV:
                schemas = csv_files.infer(found.storage, found.files, files)
            else:
                schemas = [_columns(found.storage, file, files.format) for file in found.files]
        fields: dict[str, KalamDataType | None] = {}
        for schema in schemas:
            for name, kind in schema:
                known = fields.get(name)
                if known is None or kind is None:
                    fields[name] = known or kind
                elif known != kind:
                    raise InvalidDefinitionError(
                        f"The files of {subject} do not agree: column '{name}' is {known} in "
                        f"one and {kind} in another"
                    )
        names = [name for name, _ in schemas[0]]
        for name in (*names, *fields):
            if any(name not in dict(schema) for schema in schemas):
                raise InvalidDefinitionError(
                    f"The files of {subject} do not agree: not all have a column '{name}'"
                )
        return [(name, fields[name] or TEXT) for name in names]

    def read(
        self, table: TableDef, names: Sequence[str], predicates: Sequence[Predicate]
    ) -> list[pa.Table]:
        """Return columns of a registered table, a part for each file in the order of their paths.

        Rows that fail a predicate may be left out.

        Raises
        ------
        StorageError
            No file is there any more, or one cannot be read.
        InvalidDefinitionError
            A file no longer fits the columns of the table.
        """
        columns = [column for name in names if (column := table.column(name)) is not None]
        found = self._present(table)
        return [self._part(table, found.storage, file, columns, predicates) for file in found.files]

    def row_count(self, table: TableDef, predicates: Sequence[Predicate]) -> int | None:
        """Return how many rows there are in what `read` does not leave out; None if unknown."""
        files = _files_of(table)
        found = self._present(table)
        if files.format is not FileFormat.PARQUET:
            return None
        count = 0
        for file in found.files:
            with _opened_parquet(table, found.storage, file) as parquet:
                _check_fit(table, parquet.schema_arrow)
                groups = kept_row_groups(parquet.metadata, table, predicates)
                count += sum(parquet.metadata.row_group(group).num_rows for group in groups)
        return count

    def _present(self, table: TableDef) -> FoundFiles:
        found = self.find(_files_of(table).pattern, table)
        if not found.files:
            raise StorageError(f"The files of {table.table_id} are gone")
        return found

    def _part(
        self,
        table: TableDef,
        storage: Storage,
        file: StoredFile,
        columns: Sequence[ColumnDef],
        predicates: Sequence[Predicate],
    ) -> pa.Table:
        keys = [_key(storage, file, table, column) for column in columns]
        known = [self._cache.get(key) for key in keys]
        if all(array is not None for array in known):
            return _table(columns, known)
        is_whole = True
        if _files_of(table).format is FileFormat.PARQUET:
            with _opened_parquet(table, storage, file) as parquet:
                _check_fit(table, parquet.schema_arrow)
                groups = kept_row_groups(parquet.metadata, table, predicates)
                is_whole = len(groups) == parquet.num_row_groups
                rows = parquet.read_row_groups(groups, columns=[c.name for c in columns])
        else:
            rows = _rows(table, storage, file, columns)
        arrays = [_canonical(table, rows, column) for column in columns]
        if is_whole:
            for key, array in zip(keys, arrays, strict=True):
                self._cache.put(key, array, array.get_total_buffer_size())
        return _table(columns, arrays)


# --- where ------------------------------------------------------------------------------------


def _split(path: Path) -> tuple[Path, str]:
    """Return the directory that a pattern stays in and the rest of it."""
    fixed: list[str] = []
    parts = Path(os.path.normpath(path)).parts
    for part in parts[:-1]:
        if glob.has_magic(part) and not os.path.isdir(Path(*fixed, part)):  # noqa: PTH112
            break
        fixed.append(part)
    return Path(*fixed), "/".join(parts[len(fixed) :])


def _files_of(table: TableDef) -> RegisteredFiles:
    assert table.registered is not None
    return table.registered


def _key(
    storage: Storage, file: StoredFile, table: TableDef, column: ColumnDef
) -> tuple[int, Any, Any]:
    files = _files_of(table)
    state = (str(storage.absolute(file.path)), file.size_bytes, file.state)
    # By table: what is known of a file has passed the check against that table's columns.
    form = (table.table_key, column.data_type, files.format, files.header, files.delimiter)
    return _NO_SEGMENT, (state, column.name), form


# --- what is in them --------------------------------------------------------------------------


@contextmanager
def _readable(subject: str, how: str = "in its format") -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, StorageError, OSError):
        raise StorageError(f"A file of {subject} cannot be read {how}") from None


@contextmanager
def _opened_parquet(
    table: TableDef, storage: Storage, file: StoredFile
) -> Iterator[pq.ParquetFile]:
    with _readable(str(table.table_id)), storage.reading(file.path) as source:
        yield pq.ParquetFile(source)


def _columns(storage: Storage, file: StoredFile, kind: FileFormat) -> csv_files.Columns:
    """Return the columns of a file; those whose type may not hold their values are read."""
    with storage.reading(file.path) as source:
        if kind is FileFormat.PARQUET:
            parquet = pq.ParquetFile(source)
            schema = parquet.schema_arrow
        else:
            schema = _arrow_reader(source).schema
        columns = [
            (field.name, None if pa.types.is_null(field.type) else kalam_type(field))
            for field in schema
        ]
        finer = {
            name: own
            for (name, own), field in zip(columns, schema, strict=True)
            if own is not None and _is_finer(field.type)
        }
        if finer and kind is FileFormat.PARQUET:
            batches = parquet.iter_batches(columns=list(finer))
        elif finer:
            source.seek(0)
            batches = _arrow_reader(source, list(finer)).read_all().to_batches()
        else:
            batches = []
        for batch in batches:
            for name, own in finer.items():
                canonical(batch.column(batch.schema.get_field_index(name)), own, name)
        return columns


def _is_finer(kind: pa.DataType) -> bool:
    """Return whether a type tells nanoseconds, which ours do not."""
    if getattr(kind, "unit", None) == "ns":
        return True
    if pa.types.is_dictionary(kind):
        return _is_finer(kind.value_type)
    return any(_is_finer(kind.field(at).type) for at in range(kind.num_fields))


def _arrow_reader(
    source: pa.NativeFile, names: Sequence[str] | None = None
) -> ipc.RecordBatchFileReader | ipc.RecordBatchStreamReader:
    """Open what is written as one file, or as a stream, and only decode the columns named."""
    is_file = source.read(len(_ARROW_FILE)) == _ARROW_FILE
    source.seek(0)
    opened = ipc.open_file if is_file else ipc.open_stream
    reader = opened(source)
    if names is None or not set(names) <= set(reader.schema.names):
        return reader
    places = [reader.schema.get_field_index(name) for name in names]
    source.seek(0)
    return opened(source, options=ipc.IpcReadOptions(included_fields=places))


def _rows(
    table: TableDef, storage: Storage, file: StoredFile, columns: Sequence[ColumnDef]
) -> pa.Table:
    files, names = _files_of(table), [column.name for column in columns]
    with _readable(str(table.table_id)):
        if files.format is FileFormat.CSV:
            return _csv_rows(table, storage, file, columns)
        with storage.reading(file.path) as source:
            _check_fit(table, _arrow_reader(source).schema)
            source.seek(0)
            return _arrow_reader(source, names).read_all()


def _csv_rows(
    table: TableDef, storage: Storage, file: StoredFile, columns: Sequence[ColumnDef]
) -> pa.Table:
    try:
        with csv_files.opened(storage, file, _files_of(table)) as text:
            for column in table.columns:
                if column.name not in text.names:
                    raise _misfit(table, f"it has no column '{column.name}'")
            return csv_files.read(text, {column.name: column.data_type for column in columns})
    except pa.ArrowInvalid as error:
        raise _misfit(table, csv_files.reason(error)) from None
    except (TypeMismatchError, ValueOutOfRangeError, InvalidValueError):
        raise _misfit(table, "a value is not of its column's type") from None


def _check_fit(table: TableDef, schema: pa.Schema) -> None:
    """Refuse a file whose columns are not those of the table; it may have further ones."""
    for column in table.columns:
        places = schema.get_all_field_indices(column.name)
        if len(places) != 1:
            raise _misfit(table, f"it has no column '{column.name}'")
        if pa.types.is_null(schema.field(places[0]).type):
            continue
        try:
            kind = kalam_type(schema.field(places[0]))
        except TypeMismatchError:
            raise _misfit(table, f"column '{column.name}' is not {column.data_type}") from None
        if kind != column.data_type:
            raise _misfit(table, f"column '{column.name}' is {kind}, not {column.data_type}")


def _misfit(table: TableDef, why: str) -> InvalidDefinitionError:
    return InvalidDefinitionError(f"A file of {table.table_id} no longer fits: {why}")


def _canonical(table: TableDef, rows: pa.Table, column: ColumnDef) -> pa.ChunkedArray:
    # A name with a dot makes a Parquet file give more columns than were asked for.
    at = rows.schema.get_field_index(column.name)
    array = rows.column(at)
    try:
        if column_type(rows.schema.field(at), array) != column.data_type and not pa.types.is_null(
            array.type
        ):
            raise _misfit(table, f"column '{column.name}' has NULL in a vector")
        plain = canonical_column(array, column.data_type, column.name)
        for chunk in plain.chunks:
            refuse_unfit(chunk, column.data_type, column.name, trusted=True)
        return plain
    except InvalidDefinitionError:
        raise
    except (KalamError, pa.ArrowException):
        raise _misfit(
            table, f"a value of column '{column.name}' is no {column.data_type}"
        ) from None


def _table(columns: Sequence[ColumnDef], arrays: Sequence[pa.ChunkedArray]) -> pa.Table:
    return pa.Table.from_arrays(list(arrays), schema=pa.schema([field_for(c) for c in columns]))
