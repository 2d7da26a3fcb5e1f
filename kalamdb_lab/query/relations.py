"""The protocol between the planner and the tables it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    from sqlglot import exp

    from kalamdb_lab.model.datatypes import StorageValue
    from kalamdb_lab.model.tables import ColumnDef
    from kalamdb_lab.vectors.rows import Metric

Comparison: TypeAlias = Literal["=", "<", "<=", ">", ">=", "in", "is null", "is not null"]


@dataclass(frozen=True, slots=True)
class Relation:
    """Something with rows that a statement may read: authorised, and of one scope.

    Attributes
    ----------
    key : object
        What the catalog calls it; hashable, and opaque here.
    name : str
        ``namespace.table`` as users know it.
    has_system_columns : bool
        True if ``_seq`` and ``_deleted`` may be named.
    """

    key: object
    name: str
    columns: tuple[ColumnDef, ...]
    has_system_columns: bool


@dataclass(frozen=True, slots=True)
class View:
    """A stored SELECT whose names are all qualified; it is inlined where it is named.

    Attributes
    ----------
    columns : tuple of str or None
        The names that CREATE VIEW gave, if it gave any.
    """

    name: str
    query: exp.Expression
    columns: tuple[str, ...] | None


class NameResolver(Protocol):
    """The catalog as one reader may see it."""

    def resolve(self, parts: tuple[str, ...]) -> Relation | View:
        """Return what ``table`` or ``namespace.table`` names.

        Raises
        ------
        NotFoundError, PermissionDeniedError, SqlSyntaxError
            Alike for a table that is not there and one that is hidden.
        """
        ...

    def all_users(self, table: str) -> Relation:
        """Return the relation of ``all_users('table')``: ``user_id`` first, then all columns."""
        ...


@dataclass(frozen=True, slots=True)
class Parameter:
    """The number of a placeholder, from 1, where a value is not known yet."""

    number: int


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition that every row the statement needs meets; others may be left unread.

    Attributes
    ----------
    column : str
        As the relation spells it.
    op : Comparison
    operand : object
        In a `ScanRequest` a Python value or a `Parameter` (a tuple of them for ``in``); None for
        the null tests. What `ScanProvider.scan` gets are storage values of the column's type.
    """

    column: str
    op: Comparison
    operand: Any = None


@dataclass(frozen=True, slots=True)
class BoundPredicate:
    """A `Predicate` with its values known: storage values of the column's type, never None."""

    column: str
    op: Comparison
    values: tuple[StorageValue, ...] = ()


@dataclass(frozen=True, slots=True)
class Nearest:
    """Only the rows nearest to a vector are needed, with all that tie with the last of them.

    Attributes
    ----------
    column : str
        The EMBEDDING column, as the relation spells it.
    vector : str
        Name of the engine's parameter that holds the vector.
    limit, offset : int or Parameter
        As many rows as both together.
    is_null_safe : bool
        False if rows without a distance may be needed where there are fewer.
    """

    column: str
    metric: Metric
    vector: str
    limit: int | Parameter
    offset: int | Parameter
    is_null_safe: bool

    def counts(self, given: Mapping[int, object]) -> tuple[int, int] | None:
        """Return LIMIT and OFFSET with the placeholders given; None if one is no whole number."""
        counts = tuple(
            given[count.number] if isinstance(count, Parameter) else count
            for count in (self.limit, self.offset)
        )
        match counts:
            case (int(limit), int(offset)) if bool not in map(type, counts):
                return (limit, offset) if limit >= 0 and offset >= 0 else None
        return None


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What a statement needs of one relation.

    Attributes
    ----------
    columns : tuple of str
        At least one, as the relation spells them, in its order; ``_seq`` and ``_deleted`` last,
        when they are named.
    include_deleted : bool
        True if rows that DELETE removed and retention keeps are wanted too.
    nearest : Nearest or None
        Which rows are enough, if not all are needed.
    """

    relation: Relation
    columns: tuple[str, ...]
    predicates: tuple[Predicate, ...] = ()
    include_deleted: bool = False
    nearest: Nearest | None = None


@dataclass(frozen=True, slots=True)
class ArrowPart:
    """Rows in memory.

    Attributes
    ----------
    table : pyarrow.Table
        Exactly the columns of the request, in its order, in the canonical Arrow types.
    """

    table: pa.Table


@dataclass(frozen=True, slots=True)
class ParquetPart:
    """Rows in Parquet files that the engine reads itself. All files have one schema version.

    Attributes
    ----------
    paths : tuple of str
        Absolute; each in one of ``directories``.
    directories : tuple of str
        What the engine may open for this part: folders that the reader may read anyway.
    projections : tuple of (str, str)
        SQL over columns of the file, and the requested column that it gives, in the order of the
        request; ``_deleted`` is left out.
    seq_column : str
        Name of the ``_seq`` column in the files.
    removed : (n,) int64 or None
        Versions to leave out.
    deleted : (m,) int64 or None
        Versions that show ``_deleted`` as true, when the request includes deleted rows.
    """

    paths: tuple[str, ...]
    directories: tuple[str, ...]
    projections: tuple[tuple[str, str], ...]
    seq_column: str = "_seq"
    removed: npt.NDArray[np.int64] | None = field(default=None, compare=False)
    deleted: npt.NDArray[np.int64] | None = field(default=None, compare=False)


Part: TypeAlias = "ArrowPart | ParquetPart"


class ScanProvider(Protocol):
    """Rows of the relations of a plan, at one snapshot for the whole statement."""

    def scan(
        self, request: ScanRequest, predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        """Return the rows of the request, each once; at least one part, which may be empty.

        Rows that fail a predicate may be left out, never others.
        """
        ...

    def nearest(
        self,
        request: ScanRequest,
        vector: Any,
        count: int,
        passing: Callable[[], pa.ChunkedArray | None] | None,
    ) -> tuple[Part, ...] | None:
        """Return the rows of a request whose vectors are nearest to ``vector``.

        Parameters
        ----------
        vector : (d,) float32
        count : int
            How many rows at least, if there are as many; with all that tie with the last one.
        passing : callable or None
            Gives the ``_seq`` of the rows that are meant, int64, in any order and repeated;
            None if that cannot be said. Without it, all rows are meant.

        Returns
        -------
        tuple of Part or None
            None where `scan` serves as well: few rows, or a search that would tell too little.
        """
        return None
