"""``ORDER BY`` a distance with LIMIT: the rows nearest to a vector.

Rows without a distance never come, and equal distances go by primary key, then by ``_seq``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from kalamdb_lab.query import guards
from kalamdb_lab.query.origins import Origins

_DESCENDING: Final = "inner_product"
"""The function that grows with likeness."""


@dataclass(slots=True)
class Distance:
    """A call.

    Attributes
    ----------
    vectors : two expressions
        Each FLOAT[n]; before it is written only where ``are_typed`` says so.
    owner : str
        The alias of the source that the first vector is a column of; may be empty.
    are_finite : bool
        True if the vectors have been checked: a value of the statement, or kept in a column.
    column, given : exp.Column and str, or None
        The column that is measured, and the parameter that it is measured to, if it is so.
    value : expression
        What the call has become: a DOUBLE or NULL; until it is written, the call itself.
    """

    call: exp.Expr
    function: str
    dimension: int
    vectors: tuple[exp.Expr, ...]
    are_typed: tuple[bool, ...]
    owner: str
    are_finite: bool
    column: exp.Column | None = None
    given: str | None = None
    value: exp.Expr | None = None


def rankings_of(
    tree: exp.Expr, distances: Mapping[int, Distance], origins: Origins
) -> Iterator[Ranking]:
    """Yield the rankings in a tree, whose ties now go by key.

    Parameters
    ----------
    distances
        By the identity of their calls.
    """
    for select in tree.find_all(exp.Select):
        distance = _ranked_by(select, distances, origins)
        if distance is not None:
            ranking = Ranking(select, distance)
            if ranking.can_have_ties:
                order = select.args["order"]
                for key in list(_ties(select, distance.owner, origins)):
                    order.append("expressions", exp.Ordered(this=key))
            yield ranking


def _ranked_by(
    select: exp.Select, distances: Mapping[int, Distance], origins: Origins
) -> Distance | None:
    order = select.args.get("order")
    first = order.expressions[0] if order is not None and order.expressions else None
    if select.args.get("limit") is None or not isinstance(first, exp.Ordered):
        return None
    distance = distances.get(id(selected(select, first.this, origins)))
    descends = bool(first.args.get("desc"))
    if distance is None or descends != (distance.function == _DESCENDING):
        return None
    if not descends and first.args.get("nulls_first"):
        return None  # NULLs are asked for
    return distance


def selected(select: exp.Select, key: exp.Expr, origins: Origins) -> exp.Expr | None:
    """Return what a key of ORDER BY stands for: an alias, a position, or itself."""
    key = key.unnest()
    item: exp.Expr | None = None
    if isinstance(key, exp.Literal) and not key.is_string and key.name.isdecimal():
        items = origins.outputs(select)
        at = int(key.name)
        item = items[at - 1].node if 1 <= at <= len(items) else None
    elif isinstance(key, exp.Column) and not key.table:
        name = key.name.lower()
        item = next((item for item in select.expressions if item.alias.lower() == name), None)
    else:
        return key
    return None if item is None else item.unalias().unnest()


def _ties(select: exp.Select, owner: str, origins: Origins) -> Iterator[exp.Expr]:
    """Yield the keys of the rows: those of the source of the vectors first."""
    sources = list(origins.sources(select))
    for alias, source in sorted(sources, key=lambda item: item[0] != owner):
        if alias or len(sources) == 1:
            for key in origins.keys(source):
                yield exp.column(key, table=alias or None, quoted=True)


@dataclass(slots=True)
class Ranking:
    """One SELECT that ranks its rows."""

    select: exp.Select
    distance: Distance

    @property
    def can_have_ties(self) -> bool:
        """False where the rows to be ranked are not those of the sources any more."""
        distinct = self.select.args.get("distinct")
        is_distinct = distinct is not None and distinct.args.get("on") is None
        return not is_distinct and not self._is_grouped()

    def write(self) -> None:
        """Leave out the rows without a distance."""
        if any(isinstance(node, exp.Window) for node in self.own_nodes(self.select)):
            self._require(exp.Qualify, self._is_known())  # windows see all rows
        elif self._is_grouped():
            self._require(exp.Having, self._is_known())
        else:
            self._require(exp.Where, self._has_distance())

    def _is_grouped(self) -> bool:
        return self.select.args.get("group") is not None or any(
            isinstance(node, exp.AggFunc) and not isinstance(node.parent, exp.Window)
            for node in self.own_nodes(self.select)
        )

    @staticmethod
    def own_nodes(select: exp.Select) -> Iterator[exp.Expr]:
        """Yield what is selected and sorted by, without the nodes of queries in it."""
        pending = [*select.expressions, select.args.get("qualify"), select.args.get("order")]
        while pending:
            node = pending.pop()
            if node is not None and not isinstance(node, exp.Query):
                yield node
                pending.extend(node.iter_expressions())

    def _require(self, clause: type[exp.Expr], condition: exp.Expr) -> None:
        present = self.select.args.get(clause.key)
        if present is not None:
            condition = exp.And(
                this=exp.paren(present.this, copy=False), expression=exp.paren(condition)
            )
        self.select.set(clause.key, clause(this=condition))

    def _is_known(self) -> exp.Expr:
        value = self.distance.value
        assert value is not None
        return _is_not_null(value)

    def _has_distance(self) -> exp.Expr:
        """Return a condition that says the same as `_is_known`, in a tenth of the time."""
        if not self.distance.are_finite:
            return self._is_known()
        conditions: Iterable[exp.Expr] = map(self._is_usable, self.distance.vectors)
        return exp.and_(*conditions)

    def _is_usable(self, vector: exp.Expr) -> exp.Expr:
        if self.distance.function != "cosine_distance":
            return _is_not_null(vector)
        # Of a vector without a direction there is none. To compare whole vectors takes as long
        # as a distance, and the first component nearly always says that they differ.
        dimension = self.distance.dimension
        zeros = guards.call(
            "list_transform",
            guards.call("range", exp.Literal.number(dimension)),
            exp.Lambda(
                this=exp.Literal.number(0), expressions=[exp.to_identifier("__g")], colon=True
            ),
        )
        first = guards.call("array_extract", vector.copy(), exp.Literal.number(1))
        return exp.or_(
            exp.NEQ(this=first, expression=exp.Literal.number(0)),
            exp.NEQ(this=vector.copy(), expression=typed(zeros, "FLOAT", dimension)),
        )


def typed(node: exp.Expr, item: str, dimension: int) -> exp.Expr:
    """Return a value as an array of so many ``item``; the node may be of another tree."""
    kind = exp.DataType.build(f"{item}[{dimension}]", dialect="duckdb")
    return exp.Cast(this=node.copy(), to=kind)


def _is_not_null(node: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=node.copy(), expression=exp.Null()))
