"""Tables whose rows are computed when they are read: information_schema and system.stats.

What they show is the catalog itself, so they cannot disagree with it (ADR 0007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.arrow.schemas import SCHEMAS
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.system_tables import ALL_COLUMNS, ALL_TABLES, SCHEMATA, STATS
from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import SYSTEM_NAMESPACE
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind
from kalamdb_lab.query.relation_keys import DerivedRef

CATALOG_NAME = "kalam"

Row = Sequence[StorageValue]
Metric = tuple[str, float, str]
"""A row of ``system.stats``: metric, value, unit."""


class DerivedTables:
    """The rows of derived tables as of now.

    Parameters
    ----------
    columns_of : callable
        The columns that a view has now.
    metrics : callable
        The rows of ``system.stats``.
    """

    def __init__(
        self,
        catalog: Catalog,
        columns_of: Callable[[TableDef], Sequence[ColumnDef]],
        metrics: Callable[[], Iterable[Metric]],
    ) -> None:
        self._catalog = catalog
        self._columns_of = columns_of
        self._metrics = metrics
        self._known: dict[DerivedRef, tuple[tuple[int, int], pa.Table]] = {}

    def rows(self, ref: DerivedRef) -> pa.Table:
        """Return all rows of a derived table; those of information_schema are kept.

        They depend on the definitions only, so they hold until the next change of any.
        """
        if ref.name == str(STATS.table_id):
            metrics = [(name, float(value), unit) for name, value, unit in self._metrics()]
            return _arrow(STATS, metrics)
        # The revision is read before the definitions: rows are never older than what they are
        # kept for.
        revision = self._catalog.revision
        known = self._known.get(ref)
        if known is None or known[0] != revision:
            known = self._known[ref] = revision, self._definitions(ref)
        return known[1]

    def _definitions(self, ref: DerivedRef) -> pa.Table:
        catalog = self._catalog
        if ref.name == str(SCHEMATA.table_id):
            names = [*catalog.namespaces.all(), *([SYSTEM_NAMESPACE] if ref.shows_system else [])]
            return _arrow(SCHEMATA, [(CATALOG_NAME, name) for name in sorted(names)])
        tables = catalog.tables_in(None)
        if ref.shows_system:
            tables = sorted(
                [*tables, *catalog.tables_in(SYSTEM_NAMESPACE)], key=lambda table: table.table_id
            )
        if ref.name == str(ALL_TABLES.table_id):
            return _arrow(ALL_TABLES, [(*_names(table), _type(table)) for table in tables])
        assert ref.name == str(ALL_COLUMNS.table_id)
        return _arrow(
            ALL_COLUMNS,
            [
                (
                    *_names(table),
                    column.name,
                    column.position,
                    column.default,
                    "YES" if column.nullable else "NO",
                    str(column.data_type),
                    "YES" if column.primary_key else "NO",
                )
                for table in tables
                for column in (
                    self._columns_of(table)
                    if table.kind is TableKind.VIEW
                    else table.visible_columns
                )
            ],
        )


def _names(table: TableDef) -> tuple[str, str, str]:
    return CATALOG_NAME, table.table_id.namespace, table.table_id.name


def _type(table: TableDef) -> str:
    return "VIEW" if table.kind is TableKind.VIEW else "BASE TABLE"


def _arrow(table: TableDef, rows: Sequence[Row]) -> pa.Table:
    arrays = [
        array_from_storage([row[at] for row in rows], column.data_type)
        for at, column in enumerate(table.columns)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMAS.of(table.columns))
