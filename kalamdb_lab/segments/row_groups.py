"""Which row groups of a Parquet file may hold a matching row, by the file's own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.datatypes import StorageValue, TypeKind
from kalamdb_lab.model.segments import ColumnStatistics
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.model.values import storage_converter
from kalamdb_lab.segments.pruning import Predicate, may_hold

_ORDERED_ALIKE = frozenset(
    {
        TypeKind.BOOLEAN,
        TypeKind.TINYINT,
        TypeKind.SMALLINT,
        TypeKind.INT,
        TypeKind.BIGINT,
        TypeKind.FLOAT,
        TypeKind.DOUBLE,
        TypeKind.DECIMAL,
        TypeKind.TEXT,
        TypeKind.DATE,
        TypeKind.TIMESTAMP,
        TypeKind.DATETIME,
    }
)
"""Types whose values Parquet orders as we do."""


def kept_row_groups(
    meta: pq.FileMetaData, table: TableDef, predicates: Sequence[Predicate]
) -> list[int]:
    """Return the row groups of a file that may hold a row for which all predicates are true."""
    by_id = {column.column_id: column for column in table.columns}
    paths = [meta.schema.column(at).path for at in range(meta.num_columns)] if predicates else []
    # A path with a dot may be a column's name or a part of a nested column.
    places = {path: at for at, path in enumerate(paths) if "." not in path}
    checks = [
        (predicate, column, places[column.name])
        for predicate in predicates
        if (column := by_id.get(predicate.column_id)) is not None and column.name in places
    ]
    return [
        number
        for number in range(meta.num_row_groups)
        if all(
            _may_hold(meta.row_group(number), place, column, predicate)
            for predicate, column, place in checks
        )
    ]


def _may_hold(group: Any, place: int, column: ColumnDef, predicate: Predicate) -> bool:
    kind, statistics = column.data_type.kind, group.column(place).statistics
    if kind not in _ORDERED_ALIKE or statistics is None or not statistics.has_null_count:
        return True
    low: StorageValue = None
    high: StorageValue = None
    if statistics.has_min_max:
        convert = storage_converter(column.data_type)
        try:
            low = convert(statistics.min, column.name)
            high = convert(statistics.max, column.name)
        except (KalamError, pa.ArrowException, ValueError, OverflowError):
            return True
        if kind in (TypeKind.FLOAT, TypeKind.DOUBLE):
            high = None  # NaN is above all numbers and in no statistics
    bounds = ColumnStatistics(statistics.null_count, low, high)
    return may_hold(bounds, group.num_rows, predicate)
