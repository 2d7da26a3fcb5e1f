"""The query of the rows that can come through a ranking, whatever their distance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlglot import exp

from kalamdb_lab.query.scopes import Occurrence

SEQ_ALIAS: Final = "__kalam_seq"
"""The first column of such a query: the ``_seq`` of a row, or NULL after an outer join."""

_PLACE, _LEVEL, _DROPPED, _CALL = "kalam_place", "kalam_level", "kalam_dropped", "kalam_call"
CHANGES: Final = "kalam_changes"
"""Key in ``meta``: true for calls of the session's functions that have side effects."""
_CHANGING: Final = (exp.Rand, exp.Uuid)
_CHANGING_NAMES: Final = frozenset(
    {"random", "snowflake_id", "ulid", "gen_random_uuid", "uuid_v7", "uuidv4", "uuidv7"}
)


@dataclass(slots=True)
class Level:
    """One SELECT on the way from a ranking down to the relation.

    Attributes
    ----------
    source, alias
        What leads on in its FROM: the next SELECT, or the relation.
    dropped : list of expression
        Conditions that the nearest rows meet first, so that they need not be asked.
    """

    select: exp.Select
    source: exp.Expr
    alias: str
    dropped: list[exp.Expr] = field(default_factory=list)


def filter_of(
    levels: Sequence[Level], occurrences: Sequence[Occurrence], calls: Iterable[exp.Expr]
) -> exp.Select | None:
    """Return the query; None if it would not say the same alone, or not twice.

    Its relations are marked with their places among ``occurrences``, for `placed`.

    Parameters
    ----------
    levels
        The SELECTs, the ranking first.
    calls
        The calls of distances, none of which may be in it.
    """
    tree = _marked_copy(levels, occurrences, calls)
    selects = {node.meta[_LEVEL]: node for node in tree.find_all(exp.Select) if _LEVEL in node.meta}
    needed: set[str] = set()
    for at, level in enumerate(levels):
        select = selects[at]
        for clause in ("limit", "offset", "order"):
            select.set(clause, None)
        _keep_conditions(select)
        is_last = at == len(levels) - 1
        name = "_seq" if is_last else SEQ_ALIAS
        seq = exp.column(name, table=level.alias or None, quoted=True)
        where = select.args.get("where")
        own = set() if where is None else _named_above(where, None)
        kept = [
            item
            for item in select.expressions
            if (at and (is_star(item) or item.alias_or_name.lower() in needed))
            or (item.alias.lower() in own and not any(_CALL in node.meta for node in item.walk()))
        ]
        select.set("expressions", [exp.alias_(seq, SEQ_ALIAS, quoted=True), *kept])
        needed = _named_above(select, None if is_last else selects[at + 1])
    if any(_CALL in node.meta or _changes(node) for node in tree.walk()):
        return None
    if any(select.args.get("joins") or select.args.get("laterals") for select in selects.values()):
        tree.set("distinct", exp.Distinct())  # one row may meet very many
    ctes = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        is_named = isinstance(table.this, exp.Identifier)
        if is_named and _PLACE not in table.meta and table.name not in ctes:
            return None  # a CTE of the statement around
    return tree


def placed(tree: exp.Select) -> list[tuple[exp.Table, int]]:
    """Return the relations of a filter, each with its place among the occurrences."""
    tables = tree.find_all(exp.Table)
    return [(node, node.meta.pop(_PLACE)) for node in tables if _PLACE in node.meta]


def conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    """Return what a condition demands, all of it together."""
    found: list[exp.Expr] = []
    pending = [condition]
    while pending:
        node = pending.pop().unnest()
        if isinstance(node, exp.And):
            pending += [node.expression, node.this]
        else:
            found.append(node)
    return found


def is_star(item: exp.Expr) -> bool:
    """Return whether an item of a select list gives columns under their own names."""
    star = item.this if isinstance(item, exp.Column) else item
    return isinstance(star, exp.Star) and not (star.args.get("replace") or star.args.get("rename"))


def _marked_copy(
    levels: Sequence[Level], occurrences: Sequence[Occurrence], calls: Iterable[exp.Expr]
) -> exp.Select:
    """Return the ranking with notes in ``meta``: nodes of a copy have no identity to go by."""
    marks: list[tuple[exp.Expr, str, object]] = [
        *((occurrence.node, _PLACE, at) for at, occurrence in enumerate(occurrences)),
        *((level.select, _LEVEL, at) for at, level in enumerate(levels)),
        *((node, _DROPPED, True) for level in levels for node in level.dropped),
        *((call, _CALL, True) for call in calls),
    ]
    for node, mark, value in marks:
        node.meta[mark] = value
    tree = levels[0].select.copy()
    for node, mark, _ in marks:
        node.meta.pop(mark, None)
    return tree


def _keep_conditions(select: exp.Select) -> None:
    where = select.args.get("where")
    if where is None:
        return
    kept = [node for node in conjuncts(where.this) if _DROPPED not in node.meta]
    select.set("where", exp.Where(this=exp.and_(*kept)) if kept else None)


def _named_above(node: exp.Expr, below: exp.Select | None) -> set[str]:
    """Return the columns that are read, without those that only the SELECT below reads."""
    names: set[str] = set()
    pending: list[exp.Expr] = [node]
    while pending:
        node = pending.pop()
        if node is below:
            continue
        if isinstance(node, exp.Column) or node.arg_key == "using":
            names.add(node.name.lower())
        pending.extend(node.iter_expressions())
    return names


def _changes(node: exp.Expr) -> bool:
    """Return whether a function gives another value each time."""
    if isinstance(node, exp.Anonymous):
        return CHANGES in node.meta or node.name.lower() in _CHANGING_NAMES
    return isinstance(node, _CHANGING)
