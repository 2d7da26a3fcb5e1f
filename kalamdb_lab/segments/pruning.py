"""Which segments may hold a matching row, by their statistics alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.segments import ColumnStatistics, SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.segments.layout import SEQ_FIELD_ID
from kalamdb_lab.segments.versions import bounds_now

Comparison = Literal["=", "<", "<=", ">", ">=", "in", "is null", "is not null"]


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition on one column, against constants.

    Attributes
    ----------
    column_id : int
        `SEQ_FIELD_ID` stands for ``_seq``.
    value : StorageValue or sequence of StorageValue
        Of the column's present type; a sequence for ``in``; nothing for ``is [not] null``.
    """

    column_id: int
    comparison: Comparison
    value: StorageValue | Sequence[StorageValue] = None


def prune(
    segments: Iterable[SegmentMeta], table: TableDef, predicates: Sequence[Predicate]
) -> list[SegmentMeta]:
    """Return the segments that may hold a row for which all predicates are true."""
    return [meta for meta in segments if may_match(meta, table, predicates)]


def may_match(meta: SegmentMeta, table: TableDef, predicates: Sequence[Predicate]) -> bool:
    """Return False only if no row of the segment makes all predicates true.

    A comparison with NULL is never true; NaN is equal to itself and above every number.
    """
    return all(_may_hold(meta, table, predicate) for predicate in predicates)


def _may_hold(meta: SegmentMeta, table: TableDef, predicate: Predicate) -> bool:
    if predicate.column_id == SEQ_FIELD_ID:
        bounds: ColumnStatistics | None = ColumnStatistics(0, meta.min_seq, meta.max_seq)
    else:
        bounds = bounds_now(meta, table, predicate.column_id)
    return bounds is None or may_hold(bounds, meta.row_count, predicate)


def may_hold(bounds: ColumnStatistics, row_count: int, predicate: Predicate) -> bool:
    """Return False only if no value within the bounds of a column makes a predicate true."""
    if predicate.comparison == "is null":
        return bounds.null_count > 0
    if bounds.null_count == row_count:
        return False
    if predicate.comparison == "is not null":
        return True
    if predicate.comparison == "in":
        values: Any = predicate.value
        return any(_may_compare(bounds, "=", value) for value in values or ())
    return _may_compare(bounds, predicate.comparison, predicate.value)


def _may_compare(bounds: ColumnStatistics, comparison: Comparison, value: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, float) and math.isnan(value):
        return True
    low: Any = bounds.low
    high: Any = bounds.high
    try:
        above_low = low is None or low <= value
        below_high = high is None or value <= high
        match comparison:
            case "=":
                return above_low and below_high
            case "<":
                return low is None or low < value
            case "<=":
                return above_low
            case ">":
                return high is None or value < high
            case _:
                return below_high
    except TypeError:
        return True
