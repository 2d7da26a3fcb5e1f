"""The rules of registered tables: their options, their columns, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence

from kalamdb_lab.errors import InvalidDefinitionError, InvalidOptionError, NotSupportedError
from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.model.ids import TableId, checked_column_name
from kalamdb_lab.model.tables import (
    AccessLevel,
    ColumnDef,
    FileFormat,
    RegisteredFiles,
    SchemaChange,
    TableDef,
    TableKind,
    TableOptions,
    compression_of,
)
from kalamdb_lab.tables.definition import columns_of_query
from kalamdb_lab.tables.options import OptionValue, access_level, flag, given_once

_BY_SUFFIX = {
    "parquet": FileFormat.PARQUET,
    "pq": FileFormat.PARQUET,
    "arrow": FileFormat.ARROW,
    "feather": FileFormat.ARROW,
    "ipc": FileFormat.ARROW,
    "csv": FileFormat.CSV,
    "tsv": FileFormat.CSV,
}
_OPTIONS = frozenset({"FORMAT", "HEADER", "DELIMITER", "ACCESS_LEVEL"})
_CSV_ONLY = ("HEADER", "DELIMITER")
_NO_DELIMITERS = frozenset('"\r\n\0')


def registered_files(
    pattern: str, options: Sequence[tuple[str, OptionValue]]
) -> tuple[RegisteredFiles, TableOptions]:
    """Return what REGISTER TABLE says of the files and of who may read them."""
    given = given_once(options)
    for name, _ in options:
        if name.upper() not in _OPTIONS:
            raise InvalidOptionError(f"Unknown table option '{name}'")
    suffix = _suffix(pattern)
    kind = _format(pattern, suffix, given.get("FORMAT"))
    for name in _CSV_ONLY:
        if name in given and kind is not FileFormat.CSV:
            raise InvalidOptionError(f"{name} is only supported for CSV files")
    delimiter = given.get("DELIMITER", "\t" if suffix == "tsv" else ",")
    if delimiter == r"\t":
        delimiter = "\t"
    if (
        not isinstance(delimiter, str)
        or len(delimiter) != 1
        or not delimiter.isascii()
        or delimiter in _NO_DELIMITERS
    ):
        raise InvalidOptionError("DELIMITER must be one character, as in ';'")
    header = flag("HEADER", given.get("HEADER", True))
    access = access_level(given.get("ACCESS_LEVEL", AccessLevel.PRIVATE.value))
    return (
        RegisteredFiles(pattern, kind, header, delimiter),
        TableOptions(storage_id=None, access_level=access),
    )


def registered_table(
    table_key: int,
    table_id: TableId,
    files: RegisteredFiles,
    options: TableOptions,
    columns: tuple[ColumnDef, ...],
    *,
    at_us: int,
    created_by: str,
) -> TableDef:
    """Return the definition of a registered table."""
    return TableDef(
        table_key=table_key,
        table_id=table_id,
        kind=TableKind.SHARED,
        history=(SchemaChange(1, at_us, created_by, "REGISTER TABLE", columns),),
        options=options,
        created_at_us=at_us,
        updated_at_us=at_us,
        created_by=created_by,
        registered=files,
    )


def registered_columns(fields: Sequence[tuple[str, KalamDataType]]) -> tuple[ColumnDef, ...]:
    """Return the columns that files have; refuses names that no column may have."""
    for name, _ in fields:
        if not name:
            raise InvalidDefinitionError("A column of the files has no name")
        checked_column_name(name, quoted=True)
    return columns_of_query(fields)


def refuse_drop(table: TableDef) -> None:
    """Refuse DROP TABLE of a registered table: it would sound as if its files went."""
    if table.registered is not None:
        raise NotSupportedError(f"{table.table_id} is a registered table; use UNREGISTER TABLE")


def refuse_unregister(table: TableDef) -> None:
    """Refuse UNREGISTER TABLE of what was not registered."""
    if table.kind is TableKind.VIEW:
        raise NotSupportedError(
            f"{table.table_id} is a view, not a registered table; use DROP VIEW"
        )
    if table.registered is None:
        raise NotSupportedError(f"{table.table_id} is not a registered table; use DROP TABLE")


def _suffix(pattern: str) -> str:
    """Return the last suffix of a pattern in lower case, without that of compression."""
    name = pattern.replace("\\", "/").rpartition("/")[2].lower()
    if compression_of(name) is not None:
        name = name.rpartition(".")[0]
    return name.rpartition(".")[2] if "." in name else ""


def _format(pattern: str, suffix: str, given: OptionValue) -> FileFormat:
    if given is not None:
        try:
            kind = FileFormat(str(given).lower())
        except ValueError:
            raise InvalidOptionError(
                f"Unknown FORMAT '{given}'; use PARQUET, ARROW or CSV"
            ) from None
    elif suffix in _BY_SUFFIX:
        kind = _BY_SUFFIX[suffix]
    else:
        raise InvalidOptionError(
            f"The format of '{pattern}' does not follow from its name; say WITH (FORMAT = '...')"
        )
    if compression_of(pattern) is not None and kind is not FileFormat.CSV:
        raise InvalidOptionError(f"Compressed files are only supported as CSV, not '{pattern}'")
    return kind
