"""What a `Relation` stands for: keys that resolvers give and scans read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableRef:
    """The key of a `Relation` over a table: the partition of one scope.

    Attributes
    ----------
    schema_version : int
        The version that the plan was made for.
    """

    table_key: int
    schema_version: int


@dataclass(frozen=True, slots=True)
class AllScopesRef:
    """The key of ``all_users(...)``: every partition of a table."""

    table_key: int
    schema_version: int


@dataclass(frozen=True, slots=True)
class RegisteredRef:
    """The key of a registered table: files that are not the database's own."""

    table_key: int
    schema_version: int


@dataclass(frozen=True, slots=True)
class DerivedRef:
    """The key of a table whose rows are computed when it is read.

    Attributes
    ----------
    name : str
        ``namespace.table``.
    shows_system : bool
        True if the reader may know of the system tables.
    """

    name: str
    shows_system: bool


@dataclass(frozen=True, slots=True)
class LocalRef:
    """The key of a relation that lives in the session only."""

    name: str
