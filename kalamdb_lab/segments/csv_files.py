"""CSV as tables: what a file does not say of its types is found by reading all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc

from kalamdb_lab.model.tables import RegisteredFiles
from kalamdb_lab.segments.storage import Storage, StoredFile

Types = dict[str, pa.DataType]

_BLOCK_BYTES = 4 * 2**20
_BAD_COLUMN = re.compile(r"In CSV column #(\d+)")
_WIDER: dict[pa.DataType, pa.DataType] = {
    pa.null(): pa.int64(),
    pa.int64(): pa.float64(),
    pa.date32(): pa.timestamp("us"),
    pa.string(): pa.binary(),
}
"""What to read a column as whose values are not all of a type; text if it is not in here."""


def infer(storage: Storage, found: Sequence[StoredFile], files: RegisteredFiles) -> list[Types]:
    """Return the columns of each file; a column that several files have is alike in them.

    Raises
    ------
    pyarrow.ArrowException, StorageError
        A file is not CSV, or cannot be read.
    """
    known: Types = {}
    columns: list[list[str]] = []
    for file in found:
        first = _first_types(storage, file, files)
        columns.append(list(first))
        for name, kind in first.items():
            known[name] = _common(known[name], kind) if name in known else kind
    for file, names in zip(found, columns, strict=True):
        while (bad := _misfit(storage, file, files, names, known)) is not None:
            if known[bad] == pa.binary():
                raise pa.ArrowInvalid("no type holds the values")
            known[bad] = _WIDER.get(known[bad], pa.string())
    return [{name: known[name] for name in names} for names in columns]


def read(
    storage: Storage, file: StoredFile, files: RegisteredFiles, types: Mapping[str, pa.DataType]
) -> pa.Table:
    """Return columns of a file, each as the type given for it."""
    names = _names(storage, file, files) if not files.header else None
    with storage.reading(file.path) as source:
        return pc.read_csv(
            _text(source, file),
            read_options=pc.ReadOptions(column_names=names, block_size=_BLOCK_BYTES),
            parse_options=_parse(files),
            convert_options=_conversion(types, include_columns=list(types)),
        )


def _first_types(storage: Storage, file: StoredFile, files: RegisteredFiles) -> Types:
    """Return the types that the beginning of a file suggests."""
    with storage.reading(file.path) as source:
        reader = pc.open_csv(
            _text(source, file),
            read_options=pc.ReadOptions(
                autogenerate_column_names=not files.header, block_size=_BLOCK_BYTES
            ),
            parse_options=_parse(files),
            convert_options=_conversion({}),
        )
        found = list(reader.schema)
    if not files.header:
        found = [field.with_name(f"column{at}") for at, field in enumerate(found, start=1)]
    if len({field.name for field in found}) < len(found):
        raise pa.ArrowInvalid("a name appears twice")
    return {field.name: _kept(field.type) for field in found}


def _names(storage: Storage, file: StoredFile, files: RegisteredFiles) -> list[str]:
    return list(_first_types(storage, file, files))


def _misfit(
    storage: Storage,
    file: StoredFile,
    files: RegisteredFiles,
    names: Sequence[str],
    types: Mapping[str, pa.DataType],
) -> str | None:
    """Return a column of a file in which a value is not of its type, if there is one."""
    with storage.reading(file.path) as source:
        try:
            reader = pc.open_csv(
                _text(source, file),
                read_options=pc.ReadOptions(
                    column_names=None if files.header else list(names), block_size=_BLOCK_BYTES
                ),
                parse_options=_parse(files),
                convert_options=_conversion({name: types[name] for name in names}),
            )
            for _ in reader:
                pass
        except pa.ArrowInvalid as error:
            at = _BAD_COLUMN.search(str(error))
            if at is None:
                raise
            return names[int(at[1])]
    return None


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return what holds the values of two types."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    for narrow, wide in ((one, other), (other, one)):
        if _WIDER.get(narrow) == wide:
            return wide
    return pa.string()


def _kept(kind: pa.DataType) -> pa.DataType:
    """Return the type that is suggested, as fine as we keep it."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz=None if kind.tz is None else "UTC")
    return pa.time64("us") if pa.types.is_time(kind) else kind


def _parse(files: RegisteredFiles) -> pc.ParseOptions:
    return pc.ParseOptions(delimiter=files.delimiter, newlines_in_values=True)


def _conversion(types: Mapping[str, pa.DataType], **options: Any) -> pc.ConvertOptions:
    """Return how texts become values: nothing between two delimiters is NULL, ``""`` is not."""
    return pc.ConvertOptions(
        column_types=dict(types),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        **options,
    )


def _text(source: pa.NativeFile, file: StoredFile) -> pa.NativeFile:
    return pa.CompressedInputStream(source, "gzip") if file.name.endswith(".gz") else source
