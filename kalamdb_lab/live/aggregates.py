"""Aggregates of one table that changes keep up to date: counts, exact sums, extremes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.arrow.arrays import array_from_storage, storage_from_array
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.live.shapes import GROUPS, Output, Shape
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.changes import Change, ChangedRows, ChangeReader
from kalamdb_lab.query.duck import VERSION
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import LocalRelations, Request

MOST_GROUPS: Final = 20_000
"""With more groups, making the result takes as long as reading the table."""

_BATCH: Final = "changes_of_a_live_result"
_EXACT_IN_DOUBLE: Final = 1 << 53
_DIVIDES_TWICE: Final = VERSION >= (2, 0)
"""The mean of DECIMALs is their sum as a DOUBLE divided by their number; before, the digits of
the sum were divided once, in long double."""
_DIGITS: Final = Context(prec=100)
_MOST_DIGITS: Final = 10**38

_numbers = itertools.count()

Key: TypeAlias = tuple[StorageValue, ...]


class Unsure(Exception):  # noqa: N818 - a verdict, not a fault
    """Changes do not tell the new state: all rows must be read."""


class TooManyGroups(Exception):  # noqa: N818 - a verdict, not a fault
    """Keeping the groups is not worth it."""


@dataclass(slots=True)
class _Kept:
    """Of the non-NULL values of one argument in one group.

    ``total`` is the sum of whole numbers, or of the digits of DECIMALs.
    """

    count: int = 0
    total: int = 0
    least: Any = None
    greatest: Any = None


@dataclass(slots=True)
class _Group:
    rows: int
    kept: list[_Kept]


@dataclass(frozen=True, slots=True)
class _Partial:
    """What changed rows, or all rows, say of one group."""

    sign: int
    key: Key
    rows: int
    kept: list[_Kept]


class AggregateState:
    """The groups of a live aggregate at one number of the log.

    Parameters
    ----------
    shape : Shape
    table : TableDef
        As the query was planned for.
    wanted : pa.Schema
        The columns of the result.
    text_semantics : bool
        What the arithmetic of the query is.
    """

    def __init__(
        self,
        queries: Queries,
        changes: ChangeReader,
        shape: Shape,
        table: TableDef,
        wanted: pa.Schema,
        *,
        text_semantics: bool,
    ) -> None:
        self._queries = queries
        self._changes = changes
        self.shape = shape
        self._table = table
        self._wanted = wanted
        self._text_semantics = text_semantics
        self._number = next(_numbers)
        self._columns = [c.name for c in table.columns if self._is_used(c.name)]
        kinds = {column.name: column.data_type for column in table.columns}
        self._scales = [kinds[name].scale for name in shape.arguments]
        self._sign = _free_name("sign", [column.name for column in table.columns])
        self._groups: dict[Key, _Group] = {}
        self._outputs: pa.Schema | None = None
        self.seq = -1

    def _is_used(self, name: str) -> bool:
        named = {*self.shape.groups, *self.shape.arguments}
        where = self.shape.where
        if where is not None:
            lowered = {column.name.lower() for column in where.find_all(exp.Column)}
            return name in named or name.lower() in lowered
        return name in named

    # --- the state ----------------------------------------------------------------------------

    def begin(self, request: Request) -> None:
        """Read all rows once.

        Raises
        ------
        TooManyGroups
        KalamError
            What the query itself would raise, or a sum beyond BIGINT where only a mean is asked.
        """
        plan = self._plan(self.shape.partials(), request, "all")
        scans = self._queries.provider(plan, request)
        partials = self._partials(self._queries.execute(plan, request, scans), signed=False)
        self._groups = {part.key: _Group(part.rows, part.kept) for part in partials}
        self._check_size()
        self.seq = scans.seq

    def apply(self, changes: Sequence[Change], request: Request) -> None:
        """Take over changes in the order of the log; those that were seen before are left out.

        Raises
        ------
        Unsure, KalamError
            The state is of no use any more.
        TooManyGroups
        """
        fresh = [change for change in changes if change.seq > self.seq]
        if not fresh:
            return
        batch = self._batch(fresh)
        if batch is not None:
            local = replace(request, local=LocalRelations({_BATCH: batch}))
            source = exp.Table(this=exp.to_identifier(_BATCH))
            plan = self._plan(self.shape.partials(source, self._sign), local, "changes")
            self._merge(self._partials(self._queries.execute(plan, local), signed=True))
            self._check_size()
        self.seq = fresh[-1].last_seq

    def _batch(self, changes: Sequence[Change]) -> pa.Table | None:
        """Return the rows that the changes added and removed, those that came and went not."""
        parts: list[ChangedRows] = []
        for change in changes:
            if not change.is_known:
                raise Unsure
            parts += self._changes.rows(change, self._table, self._columns)
        added = pa.concat_tables([part.new for part in parts]) if parts else None
        if added is None:
            return None
        removed = pa.concat_tables([part.old for part in parts])
        new, old = (rows.column("_seq").to_numpy() for rows in (added, removed))
        passing = np.intersect1d(new, old)
        if len(passing):
            added = added.filter(pa.array(~np.isin(new, passing)))
            removed = removed.filter(pa.array(~np.isin(old, passing)))
        signs = [np.ones(added.num_rows, np.int64), -np.ones(removed.num_rows, np.int64)]
        rows = pa.concat_tables([added, removed]).drop_columns(["_seq"])
        return rows.append_column(self._sign, pa.array(np.concatenate(signs))).combine_chunks()

    def _partials(self, table: pa.Table, *, signed: bool) -> Iterable[_Partial]:
        columns = [
            storage_from_array(column, kalam_type(field))
            for field, column in zip(table.schema, table.columns, strict=True)
        ]
        signs: list[Any] = columns.pop(0) if signed else [1] * table.num_rows
        width = len(self.shape.groups)
        keys = list(zip(*columns[:width], strict=True)) if width else [()] * table.num_rows
        for at, key in enumerate(keys):
            values: list[Any] = [column[at] for column in columns[width:]]
            kept = [
                _Kept(values[p], _digits(values[p + 1], scale), values[p + 2], values[p + 3])
                for p, scale in zip(range(1, len(values), 4), self._scales, strict=True)
            ]
            yield _Partial(signs[at], key, values[0], kept)

    def _merge(self, partials: Iterable[_Partial]) -> None:
        added: dict[Key, _Partial] = {}
        removed: dict[Key, _Partial] = {}
        for part in partials:
            (added if part.sign > 0 else removed)[part.key] = part
        for key in added.keys() | removed.keys():
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _Group(0, [_Kept() for _ in self.shape.arguments])
            plus, minus = added.get(key), removed.get(key)
            group.rows += (plus.rows if plus else 0) - (minus.rows if minus else 0)
            for at, kept in enumerate(group.kept):
                _change(kept, plus.kept[at] if plus else None, minus.kept[at] if minus else None)
            if group.rows < 0:
                raise Unsure
            if not group.rows and self.shape.groups:
                del self._groups[key]

    def _check_size(self) -> None:
        if len(self._groups) > MOST_GROUPS:
            raise TooManyGroups

    # --- the result -----------------------------------------------------------------------------

    def result(self, request: Request) -> pa.Table:
        """Return the query's result, equal to what evaluating it anew would give.

        Raises
        ------
        Unsure
            A sum or a mean is not exact, or out of range.
        """
        if self._outputs is None:
            plan = self._plan(self.shape.described(), request, "outputs")
            self._outputs = self._queries.described(plan, request)
        groups = list(self._groups.items())
        arrays = [
            array_from_storage(self._values(output, kalam_type(field), groups), kalam_type(field))
            for output, field in zip(self.shape.outputs, self._outputs, strict=True)
        ]
        outer = self.shape.outer
        if outer is None:
            return pa.Table.from_arrays(arrays, schema=self._wanted)
        fields = [field.with_name(f"o{at}") for at, field in enumerate(self._outputs)]
        rows = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
        local = replace(request, local=LocalRelations({GROUPS: rows}))
        table = self._queries.execute(self._plan(outer, local, "outer"), local)
        if table.schema.types != self._wanted.types:
            raise Unsure
        return pa.Table.from_arrays(table.columns, schema=self._wanted)

    def _values(
        self, output: Output, data_type: KalamDataType, groups: Sequence[tuple[Key, _Group]]
    ) -> list[StorageValue]:
        if output.function == "column":
            assert output.column is not None
            place = self.shape.groups.index(output.column)
            return [key[place] for key, _ in groups]
        if output.column is None:
            return [group.rows for _, group in groups]
        at = self.shape.arguments.index(output.column)
        value = _FUNCTIONS[output.function]
        return [value(group.kept[at], data_type, self._scales[at]) for _, group in groups]

    def _plan(self, tree: exp.Expression, request: Request, part: str) -> Any:
        return self._queries.plan(
            tree,
            request,
            text_semantics=self._text_semantics,
            cache_key=("live", self._number, part),
        )


def _change(kept: _Kept, plus: _Kept | None, minus: _Kept | None) -> None:
    before = replace(kept)
    kept.count += (plus.count if plus else 0) - (minus.count if minus else 0)
    kept.total += (plus.total if plus else 0) - (minus.total if minus else 0)
    if kept.count < 0:
        raise Unsure
    kept.least = _extreme(kept, before.least, _of(plus, "least"), _of(minus, "least"), min)
    kept.greatest = _extreme(
        kept, before.greatest, _of(plus, "greatest"), _of(minus, "greatest"), max
    )


def _of(kept: _Kept | None, name: str) -> Any:
    return None if kept is None else getattr(kept, name)


def _extreme(
    kept: _Kept, before: Any, added: Any, removed: Any, better: Callable[[Any, Any], Any]
) -> Any:
    """Return the new least (or greatest) value.

    What was removed stood in the state before, so it is no better than ``before``. Only if it was
    as good, and nothing as good was added, does another value take its place.
    """
    if not kept.count:
        return None
    if removed is not None and removed == before:
        if added is None or better(added, removed) != added:
            raise Unsure
        return added
    known = [value for value in (before, added) if value is not None]
    return better(*known) if len(known) == 2 else known[0] if known else None


def _digits(value: Any, scale: int) -> int:
    if isinstance(value, Decimal):
        return int(value.scaleb(scale, _DIGITS))
    return int(value or 0)


def _count(kept: _Kept, _: KalamDataType, __: int) -> StorageValue:
    return kept.count


def _sum(kept: _Kept, data_type: KalamDataType, scale: int) -> StorageValue:
    if not kept.count:
        return None
    if data_type.kind is TypeKind.DECIMAL:
        if abs(kept.total) >= _MOST_DIGITS:
            raise Unsure
        return Decimal(kept.total).scaleb(-scale, _DIGITS)
    if not -(1 << 63) <= kept.total < 1 << 63:
        raise Unsure
    return kept.total


def _mean(kept: _Kept, _: KalamDataType, scale: int) -> StorageValue:
    if not kept.count:
        return None
    if abs(kept.total) > _EXACT_IN_DOUBLE:
        raise Unsure
    if _DIVIDES_TWICE:
        return float(kept.total) / 10.0**scale / kept.count
    return float(np.longdouble(kept.total) / np.longdouble(kept.count * 10.0**scale))


def _least(kept: _Kept, _: KalamDataType, __: int) -> Any:
    return kept.least


def _greatest(kept: _Kept, _: KalamDataType, __: int) -> Any:
    return kept.greatest


_FUNCTIONS: Final[dict[str, Callable[[_Kept, KalamDataType, int], StorageValue]]] = {
    "count": _count,
    "sum": _sum,
    "avg": _mean,
    "min": _least,
    "max": _greatest,
}


def _free_name(name: str, taken: Sequence[str]) -> str:
    lowered = {known.lower() for known in taken}
    while name in lowered:
        name += "_"
    return name
