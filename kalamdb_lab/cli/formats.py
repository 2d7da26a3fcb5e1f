"""The formats that the command line reads and writes."""

from __future__ import annotations

import enum
from pathlib import PurePath
from typing import Final

from kalamdb_lab.errors import InvalidOptionError
from kalamdb_lab.model.tables import compression_of

STANDARD_STREAM: Final = "-"
"""Stands for standard input or output where a file is asked for."""


class ResultFormat(enum.StrEnum):
    """How the rows of a result are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    ARROW = "arrow"


class FileFormat(enum.StrEnum):
    """What a file of rows is."""

    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"
    JSONL = "jsonl"

    @property
    def spoken(self) -> str:
        """The name in a sentence."""
        return {"csv": "CSV", "parquet": "Parquet", "arrow": "Arrow", "jsonl": "JSON lines"}[self]

    @property
    def is_text(self) -> bool:
        """True if files may be compressed as a whole; the others compress their columns."""
        return self in (FileFormat.CSV, FileFormat.JSONL)


_BY_SUFFIX: Final = {
    ".csv": FileFormat.CSV,
    ".parquet": FileFormat.PARQUET,
    ".pq": FileFormat.PARQUET,
    ".arrow": FileFormat.ARROW,
    ".arrows": FileFormat.ARROW,
    ".feather": FileFormat.ARROW,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".json": FileFormat.JSONL,
}


def format_of(file: str, stated: FileFormat | None, option: str) -> FileFormat:
    """Return the format of a file: as stated, else by its suffix.

    Raises
    ------
    InvalidOptionError
        The suffix says nothing; names the ``option`` that would.
    """
    if stated is not None:
        return stated
    name = PurePath(file)
    compression = compression_of(file)
    if compression is not None:
        name = name.with_suffix("")
    found = _BY_SUFFIX.get(name.suffix.lower())
    if found is None or (compression is not None and not found.is_text):
        where = "standard input or output" if file == STANDARD_STREAM else f"'{file}'"
        raise InvalidOptionError(
            f"Nothing tells the format of {where}; use {option} {', '.join(FileFormat)}"
        )
    return found
