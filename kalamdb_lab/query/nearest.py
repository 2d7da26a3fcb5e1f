"""Which relation of a ranking needs only its nearest rows, and what decides who may be among them.

``SELECT ... FROM t WHERE ... ORDER BY COSINE_DISTANCE(t.e, ?) LIMIT k`` shows rows of the k rows
of ``t`` that are nearest of all that can come through. Those who can come through are found by a
query of their own, the filter; the nearest of them by vector search; and the statement then
reads them alone. It stays as it is, so its answer does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from kalamdb_lab.query.origins import Origins
from kalamdb_lab.query.plain_rankings import PlainRanking, plain_ranking
from kalamdb_lab.query.rankings import Distance, Ranking, selected
from kalamdb_lab.query.relation_keys import AllScopesRef, TableRef
from kalamdb_lab.query.relations import Nearest, Parameter, ScanRequest
from kalamdb_lab.query.row_filters import Level, conjuncts, filter_of, is_star
from kalamdb_lab.query.scopes import Occurrence
from kalamdb_lab.vectors.rows import Metric

_METRICS: Final = {
    "cosine_distance": Metric.COSINE,
    "l2_distance": Metric.L2,
    "inner_product": Metric.INNER_PRODUCT,
}
_PLAIN: Final = frozenset({"expressions", "from_", "joins", "laterals", "where", "order", "with_"})
_RANKED: Final = _PLAIN | {"limit", "offset"}
_ROWS_MADE: Final = (exp.Window, exp.AggFunc, exp.Unnest, exp.Explode)


@dataclass(slots=True)
class Cut:
    """One relation of which only the nearest rows are needed.

    Attributes
    ----------
    filter : Select or None
        The rows that can come through; see `row_filters`. None if every row can.
    plain : PlainRanking or None
        What the whole statement shows, if that is columns and the distance alone.
    """

    occurrence: Occurrence
    nearest: Nearest
    filter: exp.Select | None
    plain: PlainRanking | None = None

    def request(self) -> ScanRequest:
        """Return what the filter needs of the relation."""
        assert self.filter is not None
        named = {node.name.lower() for node in self.filter.find_all(exp.Identifier)}
        starred = self.filter.find(exp.Star) is not None
        occurrence = self.occurrence
        columns = (
            name
            for name in occurrence.columns
            if name.lower() in named or (starred and name != self.nearest.column)
        )
        return ScanRequest(
            occurrence.relation,
            tuple(dict.fromkeys((*columns, "_seq"))),
            occurrence.predicates,
        )


def cuts_of(
    rankings: Iterable[exp.Select],
    distances: Mapping[int, Distance],
    origins: Origins,
    occurrences: Sequence[Occurrence],
    written: frozenset[int],
) -> Iterator[Cut]:
    """Yield what can be cut; SELECTs in which that is not plain are left alone.

    Parameters
    ----------
    rankings
        SELECTs that may rank by a distance.
    distances
        By the identity of their calls.
    written : frozenset of int
        The identities of the SELECTs whose rows without a distance are left out anyway.
    """
    for select in rankings:
        cut = _Search(select, distances, origins, occurrences).cut(is_safe=id(select) in written)
        if cut is not None:
            yield cut


class _Search:
    def __init__(
        self,
        select: exp.Select,
        distances: Mapping[int, Distance],
        origins: Origins,
        occurrences: Sequence[Occurrence],
    ) -> None:
        self._select = select
        self._distances = distances
        self._origins = origins
        self._occurrences = occurrences
        self._distance: Distance | None = None

    def cut(self, *, is_safe: bool) -> Cut | None:
        select = self._select
        order = select.args.get("order")
        first = order.expressions[0] if order is not None and order.expressions else None
        counts = _counts(select)
        if counts is None or not isinstance(first, exp.Ordered) or not _is_plain(select, _RANKED):
            return None
        self._distance = distance = self._found(select, first.this)
        if distance is None or distance.column is None or distance.given is None:
            return None
        metric = _METRICS[distance.function]
        descends = bool(first.args.get("desc"))
        levels = self._levels(distance.column)
        if levels is None or descends != (metric is Metric.INNER_PRODUCT):
            return None
        bounds = [self._drop_bounds(level, descends=descends) for level in levels]
        if None in bounds:
            return None
        is_safe = is_safe or any(bounds)
        if first.args.get("nulls_first", descends) and not is_safe:
            return None  # rows without a distance come first
        return self._cut(levels, metric, distance.given, counts, is_safe=is_safe)

    def _cut(
        self,
        levels: list[Level],
        metric: Metric,
        given: str,
        counts: tuple[int | Parameter, int | Parameter],
        *,
        is_safe: bool,
    ) -> Cut | None:
        assert self._distance is not None
        assert self._distance.column is not None
        occurrence = self._occurrence(levels[-1].source)
        if occurrence is None or not isinstance(occurrence.relation.key, (TableRef, AllScopesRef)):
            return None
        wanted = self._distance.column.name.lower()
        names = (column.name for column in occurrence.relation.columns)
        column = next((name for name in names if name.lower() == wanted), None)
        if column is None or occurrence.include_deleted or _renames(occurrence.node):
            return None
        filtering = None
        if any(self._is_filtered(level) for level in levels):
            calls = [distance.call for distance in self._distances.values()]
            filtering = filter_of(levels, self._occurrences, calls)
            if filtering is None or self._reads_rows(levels, filtering):
                return None
        nearest = Nearest(column, metric, given, *counts, is_null_safe=is_safe)
        plain = None
        if len(levels) == 1 and not levels[0].dropped and is_safe:
            plain = plain_ranking(self._select, occurrence, self._distance)
        return Cut(occurrence, nearest, filtering, plain)

    def _found(
        self, select: exp.Select, key: exp.Expr, *, in_where: bool = False
    ) -> Distance | None:
        """Return the distance that a key of ORDER BY, or a value in WHERE, stands for."""
        node: exp.Expr | None = key.unnest()
        if not in_where or (isinstance(node, exp.Column) and not self._is_of_source(select, node)):
            node = selected(select, key, self._origins) or node
        while True:
            distance = self._distances.get(id(node))
            if distance is not None:
                return distance
            if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star):
                return None
            below = self._below(select, node)
            if below is None:
                return None
            select, name = below
            node = _item(select, name)
            if node is None and any(is_star(item) for item in select.expressions):
                node = exp.column(name)

    def _is_of_source(self, select: exp.Select, column: exp.Column) -> bool:
        """Return whether a column is, or may be, of what stands in FROM."""
        sources = [source for _, source in self._origins.sources(select)]
        return any(
            _has(self._origins, source, column.name) or not self._origins.columns(source)
            for source in sources
        )

    def _shows_once(self, select: exp.Select, name: str) -> bool:
        """Return whether one column of a SELECT has a name, as far as all of them are known."""
        sources = [source for _, source in self._origins.sources(select)]
        starred = any(is_star(item) for item in select.expressions)
        if starred and not all(self._origins.columns(source) for source in sources):
            return False
        names = [output.name.lower() for output in self._origins.outputs(select)]
        return names.count(name.lower()) == 1

    def _reads_rows(self, levels: list[Level], filtering: exp.Select) -> bool:
        """Return whether a filter, whose rows have fewer columns, reads a row as a value."""
        rows = {
            level.alias.lower()
            for level in levels
            if not _has(self._origins, level.source, level.alias)
        }
        columns = filtering.find_all(exp.Column)
        return any(not column.table and column.name.lower() in rows for column in columns)

    def _below(self, select: exp.Select, column: exp.Column) -> tuple[exp.Select, str] | None:
        """Return the SELECT in FROM that a column comes from, and its name there."""
        for alias, source in self._origins.sources(select):
            if column.table and alias.lower() != column.table.lower():
                continue
            inner = _inner(source)
            if inner is not None and _has(self._origins, source, column.name):
                return (inner, column.name) if self._shows_once(inner, column.name) else None
        return None

    def _levels(self, column: exp.Column) -> list[Level] | None:
        """Return the way from the ranking to the relation that holds the vectors.

        The name of the column is changed to the one that it has there.
        """
        owner = column.find_ancestor(exp.Select)
        levels: list[Level] = []
        select: exp.Select | None = self._select
        while select is not None and select is not owner:
            if levels and not _is_plain(select, _PLAIN):
                return None
            sources = list(self._origins.sources(select))
            around = [
                (alias, source)
                for alias, source in sources
                if (inner := _inner(source)) is not None and _holds(inner, owner)
            ]
            if len(around) != 1:
                return None
            alias, source = around[0]
            levels.append(Level(select, source, alias))
            select = _inner(source)
        while select is not None:
            if levels and not _is_plain(select, _PLAIN):
                return None
            found = next(
                (
                    (alias, source)
                    for alias, source in self._origins.sources(select)
                    if (not column.table or alias.lower() == column.table.lower())
                    and _has(self._origins, source, column.name)
                ),
                None,
            )
            if found is None:
                return None
            alias, source = found
            levels.append(Level(select, source, alias))
            select = _inner(source)
            if select is not None:
                if not self._shows_once(select, column.name):
                    return None
                item = _item(select, column.name)
                if isinstance(item, exp.Column):
                    column = item
                elif item is None and any(is_star(item) for item in select.expressions):
                    column = exp.column(column.name)
                else:
                    return None
        assert self._distance is not None
        self._distance.column = column
        return levels

    def _drop_bounds(self, level: Level, *, descends: bool) -> bool | None:
        """Note the conditions on the distance that the nearest rows meet first.

        True if one of them leaves out rows without a distance; None if one is not of that kind.
        """
        where = level.select.args.get("where")
        is_safe = False
        for condition in () if where is None else conjuncts(where.this):
            if not any(self._is_distance(level.select, node) for node in condition.walk()):
                continue
            value, known = _bounded(condition, descends=descends)
            if value is None or not known or not self._is_ranking(level.select, value):
                return None
            level.dropped.append(condition)
            is_safe = True
        return is_safe

    def _is_distance(self, select: exp.Select, node: exp.Expr) -> bool:
        return id(node) in self._distances or (
            isinstance(node, exp.Column) and self._found(select, node, in_where=True) is not None
        )

    def _is_ranking(self, select: exp.Select, value: exp.Expr) -> bool:
        found, ranking = self._found(select, value, in_where=True), self._distance
        if found is None or ranking is None:
            return False
        return found is ranking or found.call == ranking.call

    def _occurrence(self, source: exp.Expr) -> Occurrence | None:
        return next((item for item in self._occurrences if item.node is source), None)

    def _is_filtered(self, level: Level) -> bool:
        where = level.select.args.get("where")
        conditions = [] if where is None else conjuncts(where.this)
        sources = list(self._origins.sources(level.select))
        return len(conditions) > len(level.dropped) or len(sources) > 1


def _bounded(condition: exp.Expr, *, descends: bool) -> tuple[exp.Expr | None, bool]:
    """Return the value that a condition keeps near, and whether it is clear how near.

    ``value IS NOT NULL`` is such a condition, and ``value < 0.5``; none that keeps what is far.
    """
    if isinstance(condition, exp.Not) and isinstance(condition.this.unnest(), exp.Is):
        tested = condition.this.unnest()
        return tested.this, isinstance(tested.expression, exp.Null)
    is_less = isinstance(condition, (exp.LT, exp.LTE))
    if not is_less and not isinstance(condition, (exp.GT, exp.GTE)):
        return None, False
    value, limit = condition.this, condition.expression
    if is_less == descends:
        value, limit = limit, value
    limit = limit.unnest()
    if isinstance(limit, exp.Neg):
        limit = limit.this.unnest()
    return value, isinstance(limit, (exp.Literal, exp.Placeholder))


def _counts(select: exp.Select) -> tuple[int | Parameter, int | Parameter] | None:
    """Return LIMIT and OFFSET, if they are known without the engine."""
    limit = _count_of(select.args.get("limit"), exp.Limit)
    skipped = select.args.get("offset")
    offset = 0 if skipped is None else _count_of(skipped, exp.Offset)
    return None if limit is None or offset is None else (limit, offset)


def _count_of(clause: exp.Expr | None, kind: type[exp.Expr]) -> int | Parameter | None:
    if type(clause) is not kind or clause.args.get("expressions"):
        return None
    value = clause.args.get("expression")
    if isinstance(value, exp.Literal) and not value.is_string and value.name.isdecimal():
        return int(value.name)
    if isinstance(value, exp.Placeholder) and value.name.isdecimal():
        return Parameter(int(value.name))
    return None


def _is_plain(select: exp.Select, clauses: frozenset[str]) -> bool:
    """Return whether each row of a SELECT is made of one row of each source, without the others."""
    if any(value and name not in clauses for name, value in select.args.items()):
        return False
    for join in select.find_all(exp.Join):
        # ASOF picks among rows. After a FULL join with one row, the engine finds its vector empty.
        if join.args.get("method") or join.side == "FULL":
            return False
    if select.find(exp.TableSample) is not None:
        return False
    return not any(isinstance(node, _ROWS_MADE) for node in Ranking.own_nodes(select))


def _inner(source: exp.Expr) -> exp.Select | None:
    """Return the SELECT that a source in FROM is, if it is one and keeps its names."""
    if not isinstance(source, exp.Subquery) or not isinstance(source.this, exp.Select):
        return None
    return None if _renames(source) else source.this


def _renames(source: exp.Expr) -> bool:
    """Return whether an alias gives the columns of a source other names: ``AS s (a, b)``."""
    alias = source.args.get("alias")
    return isinstance(alias, exp.TableAlias) and bool(alias.args.get("columns"))


def _holds(select: exp.Select, owner: exp.Expr | None) -> bool:
    while owner is not None and owner is not select:
        owner = owner.parent
    return owner is select


def _has(origins: Origins, source: exp.Expr, name: str) -> bool:
    return any(output.name.lower() == name.lower() for output in origins.columns(source))


def _item(select: exp.Select, name: str) -> exp.Expr | None:
    for item in select.expressions:
        if not is_star(item) and item.alias_or_name.lower() == name.lower():
            value: exp.Expr = item.unalias().unnest()
            return value
    return None
