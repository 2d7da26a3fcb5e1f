"""What a table is: its columns through all versions, its kind, its options."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from kalamdb_lab.model.datatypes import KalamDataType, StorageValue
from kalamdb_lab.model.ids import TableId


class TableKind(enum.Enum):
    """USER and STREAM tables have one partition per user, SHARED and SYSTEM tables one."""

    USER = "user"
    SHARED = "shared"
    STREAM = "stream"
    SYSTEM = "system"
    VIEW = "view"

    @property
    def is_scoped(self) -> bool:
        """True if each user has a partition of its own."""
        return self in (TableKind.USER, TableKind.STREAM)


class AccessLevel(enum.Enum):
    """Who reaches a SHARED table; RESTRICTED is treated as PRIVATE."""

    PUBLIC = "public"
    PRIVATE = "private"
    RESTRICTED = "restricted"


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When a partition's hot rows become a segment: at ``rows`` rows, after ``interval_s``."""

    rows: int | None = None
    interval_s: int | None = None

    def __str__(self) -> str:
        parts = []
        if self.rows is not None:
            parts.append(f"rows:{self.rows}")
        if self.interval_s is not None:
            parts.append(f"interval:{self.interval_s}")
        return ",".join(parts)


@dataclass(frozen=True, slots=True)
class TableOptions:
    """The options of CREATE TABLE, checked and with their defaults filled in."""

    storage_id: str | None = "local"
    use_user_storage: bool = False
    flush_policy: FlushPolicy | None = None
    deleted_retention_hours: int | None = None
    ttl_seconds: int | None = None
    access_level: AccessLevel | None = None


class FileFormat(enum.Enum):
    """What the files of a registered table are."""

    PARQUET = "parquet"
    ARROW = "arrow"
    CSV = "csv"


_COMPRESSIONS: Final = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}


def compression_of(file: str) -> str | None:
    """Return how a text file is compressed, as pyarrow calls it, by the last suffix of its name."""
    return _COMPRESSIONS.get(PurePath(file).suffix.lower())


@dataclass(frozen=True, slots=True)
class RegisteredFiles:
    """Where the rows of a registered table lie, which are not the database's own.

    Attributes
    ----------
    pattern : str
        A file or a glob as it was written: absolute, or from the directory of the database.
    header : bool
        Of CSV: True if the first line of each file names the columns.
    delimiter : str
        Of CSV: one character.
    """

    pattern: str
    format: FileFormat
    header: bool = True
    delimiter: str = ","


@dataclass(frozen=True, slots=True)
class EmbeddingSource:
    """What an EMBEDDING column is filled from.

    Attributes
    ----------
    function : str
        The name of the embedding function.
    column_id : int
        The column with the texts, which may be gone.
    """

    function: str
    column_id: int


@dataclass(frozen=True, slots=True)
class ColumnDef:
    """One column of one schema version.

    Attributes
    ----------
    column_id : int
        Identity within the table, from 1, never reused: values follow it, not the name.
    name : str
        As it was created; matched without regard to case.
    position : int
        Ordinal position, from 1; never changes, gaps stay.
    default : str or None
        The DEFAULT as SQL text, as written.
    fill : StorageValue
        What rows show that were written before the column existed (ADD COLUMN ... DEFAULT).
    hidden : bool
        True for columns of system tables that no statement may name.
    embedding : EmbeddingSource or None
        Of EMBEDDING columns that a function fills; it is no part of the schema version.
    """

    column_id: int
    name: str
    data_type: KalamDataType
    nullable: bool = True
    default: str | None = None
    position: int = 0
    primary_key: bool = False
    fill: StorageValue = None
    hidden: bool = False
    embedding: EmbeddingSource | None = None


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An ANN index as CREATE INDEX defines it; what is built of it lies beside the segments.

    Attributes
    ----------
    name : str
        Unique in the namespace of its table.
    index_key : int
        Identity: an index dropped and created again has another.
    column_id : int
        The EMBEDDING column, whatever its name is by now.
    metric : str
        "cosine", "l2" or "inner_product".
    lists, probes : int or None
        Inverted lists of a segment, and how many of them a search reads; None: chosen when the
        index is built or searched.
    """

    name: str
    index_key: int
    column_id: int
    metric: str
    lists: int | None = None
    probes: int | None = None


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One row of DESCRIBE TABLE ... HISTORY, with the columns that the version has."""

    schema_version: int
    changed_at_us: int
    changed_by: str
    change: str
    columns: tuple[ColumnDef, ...]


@dataclass(frozen=True, slots=True)
class TableDef:
    """A table or view.

    Attributes
    ----------
    table_key : int
        Identity of the table for ever; a table dropped and created again has another.
    history : tuple of SchemaChange
        One entry per schema version, oldest first; the last one holds the present columns.
    view_sql, view_columns
        Of views only: the SELECT with all names qualified, and the columns it was given.
    registered : RegisteredFiles or None
        Of registered tables only: the files that it reads.
    is_derived : bool
        True for system tables whose rows are computed when they are read.
    indexes : tuple of VectorIndex
        At most one per column.
    """

    table_key: int
    table_id: TableId
    kind: TableKind
    history: tuple[SchemaChange, ...]
    options: TableOptions = field(default_factory=TableOptions)
    created_at_us: int = 0
    updated_at_us: int = 0
    created_by: str = "root"
    view_sql: str | None = None
    view_columns: tuple[str, ...] | None = None
    registered: RegisteredFiles | None = None
    is_derived: bool = False
    indexes: tuple[VectorIndex, ...] = ()

    @property
    def is_stored(self) -> bool:
        """True if it has rows of its own: False for views, registered and derived tables."""
        return not (self.kind is TableKind.VIEW or self.registered is not None or self.is_derived)

    @property
    def schema_version(self) -> int:
        """The newest version, 1 at CREATE."""
        return self.history[-1].schema_version

    @property
    def columns(self) -> tuple[ColumnDef, ...]:
        """The present columns, in declaration order."""
        return self.history[-1].columns

    @property
    def visible_columns(self) -> tuple[ColumnDef, ...]:
        """The present columns that statements may name."""
        return tuple(column for column in self.columns if not column.hidden)

    @property
    def primary_key(self) -> ColumnDef | None:
        """The key column, if the table has one."""
        return next((column for column in self.columns if column.primary_key), None)

    def index_on(self, column_id: int) -> VectorIndex | None:
        """Return the index of a column, if it has one."""
        return next((index for index in self.indexes if index.column_id == column_id), None)

    def columns_at(self, schema_version: int) -> tuple[ColumnDef, ...]:
        """Return the columns that rows of ``schema_version`` were written with."""
        return self.history[schema_version - 1].columns

    def column(self, name: str) -> ColumnDef | None:
        """Return the visible column called ``name`` in any case, if there is one."""
        folded = name.lower()
        for column in self.columns:
            if column.name.lower() == folded and not column.hidden:
                return column
        return None
