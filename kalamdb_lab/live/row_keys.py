"""Which columns of a result tell its rows apart, by the form of the query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlglot import exp

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import AmbiguousError, InvalidOptionError, NotFoundError
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.relation_keys import TableRef

_MANY_ROWS = (exp.Unnest, exp.Explode, exp.Posexplode, exp.Inline)


def row_key(
    tree: exp.Expression, plan: Plan, catalog: Catalog, namespace: str, columns: Sequence[str]
) -> tuple[int, ...] | None:
    """Return the positions of the columns that tell the rows of a result apart.

    Those that group it, the primary key of its only table, or all columns of a DISTINCT; none of
    them (an empty tuple) for an aggregate that gives one row. None where the form does not say.
    """
    key = _Reader(plan, catalog, namespace).key(tree, list(columns))
    if key is None:
        return None
    lowered = [name.lower() for name in columns]
    if any(lowered.count(name.lower()) != 1 for name in key):
        return None
    return tuple(lowered.index(name.lower()) for name in key)


class _Reader:
    def __init__(self, plan: Plan, catalog: Catalog, namespace: str) -> None:
        self._plan = plan
        self._catalog = catalog
        self._namespace = namespace

    def key(self, tree: exp.Expr, columns: list[str] | None) -> tuple[str, ...] | None:
        """Return the names that the columns of the key have in a query's result."""
        while isinstance(tree, (exp.Subquery, exp.Paren)) and not tree.args.get("joins"):
            tree = tree.this
        if not isinstance(tree, exp.Select) or tree.args.get("laterals"):
            return None
        if any(tree.args.get(name) for name in ("with_", "joins", "pivots", "connect")):
            return None
        if any(isinstance(node, _MANY_ROWS) for p in tree.expressions for node in p.walk()):
            return None
        distinct = tree.args.get("distinct")
        if distinct is not None:
            return tuple(columns) if columns and distinct.args.get("on") is None else None
        group = tree.args.get("group")
        if group is not None:
            return self._group_key(tree, group)
        if any(
            node.find_ancestor(exp.Window, exp.Subquery) is None
            for p in tree.expressions
            for node in p.find_all(exp.AggFunc)
        ):
            return ()
        return self._source_key(tree)

    def _group_key(self, tree: exp.Select, group: exp.Group) -> tuple[str, ...] | None:
        if any(value for name, value in group.args.items() if name != "expressions"):
            return None
        names = []
        for node in group.expressions:
            name = _shown(tree, node)
            if name is None:
                return None
            names.append(name)
        return tuple(names)

    def _source_key(self, tree: exp.Select) -> tuple[str, ...] | None:
        clause = tree.args.get("from_")
        source = None if clause is None else clause.this
        inner: tuple[str, ...] | None = None
        if isinstance(source, exp.Subquery):
            inner = self.key(source.this, None)
        elif isinstance(source, exp.Table):
            inner = self._primary_key(source)
        if inner is None:
            return None
        names: list[str] = []
        for column in inner:
            named = [
                str(p.alias_or_name)
                for p in tree.expressions
                if isinstance(p.unalias(), exp.Column)
                and not p.is_star
                and p.unalias().name.lower() == column.lower()
            ]
            if not named and any(_is_whole_star(p) for p in tree.expressions):
                named = [column]
            if not named:
                return None
            names.append(named[0])
        return tuple(names)

    def _primary_key(self, source: exp.Table) -> tuple[str, ...] | None:
        if not isinstance(source.this, exp.Identifier) or len(self._plan.requests) != 1:
            return None
        if any(v and name not in ("this", "db", "alias") for name, v in source.args.items()):
            return None
        relation = self._plan.requests[0][1].relation
        written = TableId.of(tuple(p.name for p in source.parts), namespace=self._namespace)
        if not isinstance(relation.key, TableRef) or relation.name != str(written):
            return None
        if self._plan.requests[0][1].include_deleted:
            return None  # a deleted row may have the key of a living one
        table = self._catalog.table_by_key(relation.key.table_key)
        key = None if table is None else table.primary_key
        return None if key is None or key.hidden else (key.name,)


def _is_whole_star(projection: exp.Expr) -> bool:
    return projection.is_star and not any(
        node.args.get(name)
        for node in projection.find_all(exp.Star)
        for name in ("except_", "except", "replace", "rename")
    )


def _shown(tree: exp.Select, node: exp.Expr) -> str | None:
    """Return the name under which the select list shows an expression of GROUP BY."""
    if isinstance(node, exp.Literal) and not node.is_string:
        at = int(node.name) - 1
        chosen = tree.expressions[at] if 0 <= at < len(tree.expressions) else None
        return None if chosen is None or not chosen.alias_or_name else str(chosen.alias_or_name)
    matches: list[Callable[[exp.Expr], bool]] = [lambda p: p.unalias() == node]
    if isinstance(node, exp.Column):
        name = node.name.lower()
        matches.append(
            lambda p: isinstance(p.unalias(), exp.Column) and p.unalias().name.lower() == name
        )
        if not node.table:
            matches.append(lambda p: p.alias.lower() == name)
    for is_shown in matches:
        for projection in tree.expressions:
            if is_shown(projection) and projection.alias_or_name:
                return str(projection.alias_or_name)
    return None


def place_of(name: str, names: Sequence[str]) -> int:
    """Return where a result has a column.

    Raises
    ------
    NotFoundError, AmbiguousError
    """
    found = [at for at, known in enumerate(names) if known == name]
    found = found or [at for at, known in enumerate(names) if known.lower() == name.lower()]
    if not found:
        raise NotFoundError("Column", name, within="the result")
    if len(found) > 1:
        raise AmbiguousError(f"Column '{name}' is ambiguous: the result has it {len(found)} times")
    return found[0]


def checked_key(key: Any) -> tuple[str, ...] | None:
    """Return the columns of a key as the user gave them.

    Raises
    ------
    InvalidOptionError
    """
    if key is None:
        return None
    names = (key,) if isinstance(key, str) else tuple(key)
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidOptionError("key must be a list of column names")
    return names
