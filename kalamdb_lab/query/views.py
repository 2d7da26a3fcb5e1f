"""What a view's SELECT means for every reader: its names, fixed when it is created."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from kalamdb_lab.errors import KalamError, NotFoundError
from kalamdb_lab.model.ids import TableId

VIEW_ALIAS = "__view "
"""What a view with named columns is called inside; its own name follows."""


class BrokenViewError(NotFoundError):
    """A view names a table or column that is gone."""

    def __init__(self, message: str) -> None:
        KalamError.__init__(self, message)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message,))


def qualified(query: exp.Expression, namespace: str) -> exp.Expression:
    """Return a copy whose table names are ``namespace.table``; names of CTEs stay."""
    query = query.copy()
    _qualify(query, namespace, frozenset())
    return query


def _qualify(node: exp.Expression, namespace: str, ctes: frozenset[str]) -> None:
    with_ = node.args.get("with_")
    if isinstance(with_, exp.With):
        for cte in with_.expressions:
            name = cte.alias.lower()
            # A CTE sees the earlier ones, and itself only when it is recursive.
            _qualify(cte.this, namespace, ctes | {name} if with_.args.get("recursive") else ctes)
            ctes |= {name}
    if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
        parts = tuple(part.name for part in node.parts)
        if len(parts) > 1 or parts[0].lower() not in ctes:
            table_id = TableId.of(parts, namespace=namespace)
            if not node.alias:
                node.set("alias", exp.TableAlias(this=exp.to_identifier(parts[-1], quoted=True)))
            node.set("this", exp.to_identifier(table_id.name, quoted=True))
            node.set("db", exp.to_identifier(table_id.namespace, quoted=True))
    for child in _children(node):
        if child is not with_:
            _qualify(child, namespace, ctes)


def _children(node: exp.Expression) -> Iterator[exp.Expression]:
    for value in node.args.values():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, exp.Expression):
                yield item


def renamed(query: exp.Expression, view: str, columns: tuple[str, ...]) -> exp.Expression:
    """Return ``query`` with the column names that CREATE VIEW gave."""
    names = [exp.to_identifier(column, quoted=True) for column in columns]
    alias = exp.TableAlias(this=exp.to_identifier(VIEW_ALIAS + view, quoted=True), columns=names)
    inner = exp.Subquery(this=query, alias=alias)
    return exp.Select(expressions=[exp.Star()], from_=exp.From(this=inner))
