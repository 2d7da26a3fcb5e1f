"""ANN indexes in the definition of a table: what CREATE INDEX and DROP INDEX take."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidDefinitionError,
    InvalidOptionError,
    NotFoundError,
    NotSupportedError,
)
from kalamdb_lab.model.datatypes import TypeKind
from kalamdb_lab.model.ids import TableId, checked_name
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind, VectorIndex
from kalamdb_lab.tables.definition import present_column
from kalamdb_lab.tables.options import OptionValue, given_once
from kalamdb_lab.vectors.rows import Metric

MOST_LISTS: Final = 65_536
_KNOWN: Final = ("METRIC", "LISTS", "PROBES")


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """WITH (...) of CREATE INDEX, checked; as `VectorIndex` has them."""

    metric: str
    lists: int | None
    probes: int | None


def index_options(options: Sequence[tuple[str, OptionValue]]) -> IndexOptions:
    """Return the options of an index; cosine is the metric where none is said."""
    for name, _ in options:
        if name.upper() not in _KNOWN:
            raise InvalidOptionError(f"Unknown index option '{name[:40]}'")
    given = given_once(options, thing="Index")
    metric = str(given.get("METRIC", Metric.COSINE))
    if metric.lower() not in list(Metric):
        raise InvalidOptionError(
            f"Unknown METRIC '{metric[:40]}'; use 'cosine', 'l2' or 'inner_product'"
        )
    lists, probes = _count(given, "LISTS"), _count(given, "PROBES")
    if lists is not None and probes is not None and probes > lists:
        raise InvalidOptionError(f"PROBES must not exceed LISTS, which is {lists}")
    return IndexOptions(metric.lower(), lists, probes)


def _count(given: dict[str, OptionValue], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_LISTS:
        raise InvalidOptionError(f"{name} must be a whole number from 1 to {MOST_LISTS}")
    return value


def index_name(table: TableDef, column: ColumnDef, given: str | None) -> str:
    """Return the name of a new index: ``<table>_<column>_ann`` unless one is given.

    Raises
    ------
    InvalidNameError
        The column's name gives no name that an index may have.
    """
    if given is not None:
        return given
    return checked_name(f"{table.table_id.name}_{column.name}_ann".lower())


def embedding_column(table: TableDef, name: str) -> ColumnDef:
    """Return the column of a new index, or refuse what holds no vectors."""
    column = present_column(table, name)
    if column.data_type.kind is not TypeKind.EMBEDDING:
        raise InvalidDefinitionError(f"Column '{column.name}' is not an EMBEDDING column")
    return column


def refuse_unindexable(table: TableDef) -> None:
    """Refuse tables without segments of their own."""
    if table.kind is TableKind.VIEW:
        raise NotSupportedError(f"{table.table_id} is a view and cannot be indexed")
    if table.kind is TableKind.SYSTEM:
        raise NotSupportedError(f"System table {table.table_id} cannot be indexed")
    if table.registered is not None:
        raise NotSupportedError(f"{table.table_id} is a registered table and cannot be indexed")
    if table.kind is TableKind.STREAM:
        raise NotSupportedError(f"STREAM tables are not indexed: {table.table_id}")


def with_index(table: TableDef, index: VectorIndex, *, at_us: int) -> TableDef:
    """Return the table with one more index; its schema version stays."""
    present = table.index_on(index.column_id)
    if present is not None:
        column = next(c.name for c in table.columns if c.column_id == index.column_id)
        raise InvalidDefinitionError(
            f"Column '{column}' of {table.table_id} has an index already: {present.name}; drop "
            "it first"
        )
    return replace(table, indexes=(*table.indexes, index), updated_at_us=at_us)


def without_index(table: TableDef, index: VectorIndex, *, at_us: int) -> TableDef:
    """Return the table without an index; its schema version stays."""
    kept = tuple(item for item in table.indexes if item.index_key != index.index_key)
    return replace(table, indexes=kept, updated_at_us=at_us)


def find_index(tables: Sequence[TableDef], name: str) -> tuple[TableDef, VectorIndex] | None:
    """Return the index of this name among the tables of its namespace, and its table."""
    return next(
        ((table, index) for table in tables for index in table.indexes if index.name == name), None
    )


def check_index_free(tables: Sequence[TableDef], namespace: str, name: str) -> None:
    """Raise `AlreadyExistsError` if an index of the namespace has this name."""
    if find_index(tables, name) is not None:
        raise AlreadyExistsError("Index", f"{namespace}.{name}")


def index_not_found(tables: Sequence[TableDef], index_id: TableId) -> NotFoundError:
    """Return the error for an index that is not there, with the near miss."""
    names = [index.name for table in tables for index in table.indexes]
    near = difflib.get_close_matches(index_id.name, names, n=1, cutoff=0.6)
    return NotFoundError(
        "Index", str(index_id), nearby=[f"{index_id.namespace}.{name}" for name in near]
    )
