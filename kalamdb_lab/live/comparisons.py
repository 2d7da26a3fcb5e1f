"""Conditions that are comparisons and nothing else: a handful of rows needs no engine for them.

TEXT compares by code point and whole numbers by value, here as there; NULL meets no condition.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from sqlglot import exp

Value = str | int

_OPERATORS: Final[dict[type[exp.Expression], Callable[[Any, Any], bool]]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
}
_MIRRORED: Final[dict[type[exp.Expression], Callable[[Any, Any], bool]]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.gt,
    exp.LTE: operator.ge,
    exp.GT: operator.lt,
    exp.GTE: operator.le,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column compared with a parameter.

    Attributes
    ----------
    column : str
        As the table spells it.
    parameter : int
        The place of the constant among those of a filter.
    """

    column: str
    holds: Callable[[Any, Any], bool]
    parameter: int


Place = Callable[[exp.Expression], int | None]
"""Gives the place of a parameter, None for other nodes."""
Known = Callable[[exp.Expression], str | None]
"""Gives the column that a node names, None for other nodes."""


def comparisons_of(
    condition: exp.Expression, column_of: Known, place_of: Place
) -> tuple[Comparison, ...] | None:
    """Return the comparisons that a condition is the conjunction of; None if it is more."""
    found: list[Comparison] = []
    pending = [condition]
    while pending:
        node = pending.pop()
        if isinstance(node, exp.And):
            pending += [node.this, node.expression]
        elif isinstance(node, exp.Paren):
            pending.append(node.this)
        elif isinstance(node, exp.Between) and not node.args.get("symmetric"):
            low = exp.GTE(this=node.this.copy(), expression=node.args["low"].copy())
            high = exp.LTE(this=node.this.copy(), expression=node.args["high"].copy())
            pending += [low, high]
        elif type(node) in _OPERATORS:
            comparison = _comparison(node, column_of, place_of)
            if comparison is None:
                return None
            found.append(comparison)
        else:
            return None
    return tuple(found)


def _comparison(node: exp.Expression, column_of: Known, place_of: Place) -> Comparison | None:
    left, right = node.this, node.expression
    holds = _OPERATORS[type(node)]
    if place_of(left) is not None:
        left, right, holds = right, left, _MIRRORED[type(node)]
    column, place = column_of(left), place_of(right)
    return None if column is None or place is None else Comparison(column, holds, place)


class Index:
    """The constants of many filters of one shape, to be looked up.

    Parameters
    ----------
    values : sequence of tuple
        The constants of each filter.
    """

    def __init__(
        self, comparisons: Sequence[Comparison], values: Sequence[tuple[Value, ...]]
    ) -> None:
        self._values = values
        equal = next((c for c in comparisons if c.holds is operator.eq), None)
        self._equal = equal
        self._rest = [comparison for comparison in comparisons if comparison is not equal]
        self._columns = sorted({comparison.column for comparison in comparisons})
        self._by_value: dict[object, list[int]] = {}
        if equal is not None:
            for number, row in enumerate(values):
                self._by_value.setdefault(row[equal.parameter], []).append(number)

    def matching(self, rows: pa.Table) -> Iterator[tuple[int, int]]:
        """Yield ``_seq`` of each row with the number of each filter that it meets."""
        columns = [rows.column(name).to_pylist() for name in self._columns]
        seqs = rows.column("_seq").to_pylist()
        for seq, *cells in zip(seqs, *columns, strict=True):
            row = dict(zip(self._columns, cells, strict=True))
            for number in self._candidates(row):
                given = self._values[number]
                if all(
                    row[c.column] is not None and c.holds(row[c.column], given[c.parameter])
                    for c in self._rest
                ):
                    yield seq, number

    def _candidates(self, row: Mapping[str, object]) -> Sequence[int]:
        if self._equal is None:
            return range(len(self._values))
        value = row[self._equal.column]
        return () if value is None else self._by_value.get(value, ())
