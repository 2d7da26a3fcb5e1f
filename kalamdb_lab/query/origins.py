"""Where a value in a tree comes from: the column of a relation behind it, as far as it is plain.

Only what the tree says is followed: through subqueries, CTEs, views and set operations, aliases
and stars. What cannot be told is None, and left to the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from kalamdb_lab.errors import InvalidDefinitionError
from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.model.ids import SYSTEM_COLUMNS
from kalamdb_lab.query.scopes import Occurrence
from kalamdb_lab.sql.cast_types import data_type_of
from kalamdb_lab.tables.embedding import EmbeddedColumn, embedded_column

_ONE_OF_ITS_ARGUMENT = (
    *(exp.Max, exp.Min, exp.AnyValue, exp.First, exp.Last, exp.ArgMax, exp.ArgMin, exp.Mode),
    *(exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue),
    *(exp.Window, exp.Filter, exp.IgnoreNulls, exp.RespectNulls),
)
"""Functions, and what stands around them, whose result is a value of their first argument."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a value.

    Attributes
    ----------
    column : str or None
        The column of a relation that it is a value of, as that spells it.
    is_key : bool
        True if it is the primary key of its relation, unchanged.
    is_kept : bool
        True if every value is NULL or kept in a table, where it was checked.
    embedded : EmbeddedColumn or None
        Whose function the vectors are made by, if they are.
    """

    data_type: KalamDataType
    column: str | None = None
    is_key: bool = False
    is_kept: bool = False
    embedded: EmbeddedColumn | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One column of a query or of a source; ``node`` is the item of the select list behind it."""

    name: str
    origin: Origin | None = None
    node: exp.Expr | None = None


class Origins:
    """Looks values up in a tree whose CTEs have names of their own.

    Parameters
    ----------
    occurrences
        The relations of the tree, by the node that names each.
    """

    def __init__(self, tree: exp.Expr, occurrences: Iterable[Occurrence]) -> None:
        self._occurrences = {id(occurrence.node): occurrence for occurrence in occurrences}
        self._ctes = {cte.alias: cte for cte in tree.find_all(exp.CTE)}
        self._known: dict[int, Sequence[Output]] = {}

    def of(self, node: exp.Expr | None) -> Origin | None:
        """Return what is known of an expression where it stands."""
        while isinstance(node, (exp.Paren, exp.Alias)):
            node = node.this
        if isinstance(node, exp.Column):
            _, origin = self.source_of(node)
            return origin
        if isinstance(node, (exp.Cast, exp.TryCast)):
            try:
                return Origin(data_type_of(node.args["to"]))
            except InvalidDefinitionError:
                return None
        if isinstance(node, exp.Query):
            outputs = self.outputs(node)
            return outputs[0].origin if outputs else None
        if isinstance(node, exp.Coalesce):
            return self._first([node.this, *node.expressions])
        if isinstance(node, exp.Case):
            return self._first([*(branch.args["true"] for branch in node.args["ifs"]),
                                node.args.get("default")])  # fmt: skip
        if isinstance(node, exp.If):
            return self._first([node.args["true"], node.args.get("false")])
        if isinstance(node, _ONE_OF_ITS_ARGUMENT):
            return self._first(filter(None, [node.this, node.args.get("default")]))
        return None

    def _first(self, nodes: Iterable[exp.Expr | None]) -> Origin | None:
        found = [self.of(node) for node in nodes if node is not None]
        origin = next(filter(None, found), None)
        if origin is None:
            return None
        is_kept = all(item is not None and item.is_kept for item in found)
        made = {item and item.embedded and item.embedded.function for item in found}
        embedded = origin.embedded if len(made) == 1 else None
        return replace(origin, is_key=False, is_kept=is_kept, embedded=embedded)

    def source_of(self, column: exp.Column) -> tuple[str, Origin | None]:
        """Return the alias of the source that a column is of, and what is known of it."""
        name, table = column.name.lower(), column.table.lower()
        query = column.find_ancestor(exp.Query)
        while query is not None:
            if isinstance(query, exp.Select):
                for alias, source in self.sources(query):
                    if not table or alias.lower() == table:
                        for output in self.columns(source):
                            if output.name.lower() == name:
                                return alias, output.origin
            if not table:
                for output in self.outputs(query):
                    if output.name.lower() == name:
                        return "", output.origin
            query = query.find_ancestor(exp.Query)
        return "", None

    def lacks(self, column: exp.Column) -> bool:
        """Return whether there is no such column where it stands, as far as that can be told."""
        name, table = column.name.lower(), column.table.lower()
        if name in SYSTEM_COLUMNS or column.find_ancestor(exp.Lambda) is not None:
            return False
        is_in_from = not table
        query = column.find_ancestor(exp.Query)
        while query is not None:
            if isinstance(query, exp.Select):
                for alias, source in self.sources(query):
                    if table and alias.lower() != table:
                        continue
                    is_in_from = True
                    named = {output.name.lower() for output in self.columns(source)}
                    if name in {*named, alias.lower()} or not self._is_told(source):
                        return False
            if not table and any(name == output.name.lower() for output in self.outputs(query)):
                return False
            query = query.find_ancestor(exp.Query)
        return is_in_from

    def _is_told(self, source: exp.Expr, within: tuple[exp.Expr, ...] = ()) -> bool:
        """Return whether `columns` are all columns of a source."""
        if source.args.get("pivots") or source in within:
            return False
        if id(source) in self._occurrences:
            return True
        if isinstance(source, exp.Table):
            cte = self._ctes.get(source.name)
            return cte is not None and self._is_told(cte.this, (*within, source))
        if isinstance(source, exp.SetOperation):
            return self._is_told(source.this, within)
        if isinstance(source, exp.Subquery):
            inner = [source.this]
            if isinstance(source.this, exp.Table):
                inner = [node for _, node in self._flattened(source.this)]
            return all(self._is_told(node, within) for node in inner)
        if not isinstance(source, exp.Select):
            return False
        # The fields of a STRUCT that is unnested are columns.
        if any(item.find(exp.Unnest, exp.Explode) for item in source.expressions):
            return False
        return not source.is_star or all(
            self._is_told(node, within) for _, node in self.sources(source)
        )

    # --- FROM -------------------------------------------------------------------------------

    def sources(self, select: exp.Select) -> Iterator[tuple[str, exp.Expr]]:
        """Yield what stands in FROM, in order, by alias."""
        from_ = select.args.get("from_")
        if from_ is not None:
            yield from self._flattened(from_.this)
        for join in select.args.get("joins") or []:
            yield from self._flattened(join.this)
        for lateral in select.args.get("laterals") or []:
            yield from self._flattened(lateral)

    def _flattened(self, node: exp.Expr) -> Iterator[tuple[str, exp.Expr]]:
        if isinstance(node, exp.Lateral):
            yield node.alias, node.this
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table) and not node.alias:
            yield from self._flattened(node.this)
        else:
            occurrence = self._occurrences.get(id(node))
            yield node.alias_or_name if occurrence is None else occurrence.alias, node
        for join in node.args.get("joins") or []:
            yield from self._flattened(join.this)

    def columns(self, source: exp.Expr) -> Sequence[Output]:
        """Return the columns of a source, under the names that its alias gives them."""
        occurrence = self._occurrences.get(id(source))
        if occurrence is not None:
            relation = occurrence.relation
            found: Sequence[Output] = [
                Output(
                    column.name,
                    Origin(
                        column.data_type,
                        column.name,
                        column.primary_key,
                        # The session's own relations may hold anything.
                        relation.has_system_columns,
                        embedded_column(relation.name, column),
                    ),
                )
                for column in relation.columns
            ]
        elif isinstance(source, exp.Table):
            cte = self._ctes.get(source.name)
            found = [] if cte is None else _named(self.outputs(cte.this), cte)
        elif isinstance(source, exp.Subquery) and isinstance(source.this, exp.Table):
            inner = self._flattened(source.this)
            found = [output for _, node in inner for output in self.columns(node)]
        elif isinstance(source, exp.Query):
            found = self.outputs(source)
        else:
            found = []
        return _named(found, source)

    def keys(self, source: exp.Expr) -> list[str]:
        """Return the columns that tell the rows of a source apart, as far as it shows them."""
        outputs = self.columns(source)
        names = [output.name.lower() for output in outputs]
        keys = [
            output.name
            for output, name in zip(outputs, names, strict=True)
            if output.origin is not None and output.origin.is_key and names.count(name) == 1
        ]
        occurrence = self._occurrences.get(id(source))
        if occurrence is not None and occurrence.relation.has_system_columns:
            is_one_scope = isinstance(occurrence.node.this, exp.Identifier)
            if not keys or occurrence.include_deleted or not is_one_scope:
                keys.append("_seq")
        return keys

    # --- select lists -----------------------------------------------------------------------

    def outputs(self, query: exp.Expr) -> Sequence[Output]:
        """Return the columns of a query, stars written out as far as they are known."""
        if isinstance(query, exp.Subquery):
            return self.outputs(query.this)
        if isinstance(query, exp.SetOperation):  # of the other side nothing is known
            return [
                replace(
                    output,
                    origin=output.origin and replace(output.origin, is_kept=False, embedded=None),
                )
                for output in self.outputs(query.this)
            ]
        known = self._known.get(id(query))
        if known is None:
            self._known[id(query)] = ()  # a recursive CTE comes by again
            known = self._known[id(query)] = self._outputs(query)
        return known

    def _outputs(self, query: exp.Expr) -> Sequence[Output]:
        if not isinstance(query, exp.Select):
            return ()
        outputs: list[Output] = []
        for item in query.expressions:
            star = item.this if isinstance(item, exp.Column) else item
            if isinstance(star, exp.Star):
                table = item.table.lower() if isinstance(item, exp.Column) else ""
                for alias, source in self.sources(query):
                    if not table or alias.lower() == table:
                        outputs += self._starred(star, self.columns(source))
            else:
                outputs.append(Output(item.alias_or_name, self.of(item), item))
        return outputs

    def _starred(self, star: exp.Star, columns: Sequence[Output]) -> Iterator[Output]:
        left_out = {item.name.lower() for item in star.args.get("except_") or []}
        replaced = {item.alias.lower(): item for item in star.args.get("replace") or []}
        renamed = {item.name.lower(): item.alias for item in star.args.get("rename") or []}
        for output in columns:
            name = output.name.lower()
            if name in replaced:
                yield Output(output.name, self.of(replaced[name]))
            elif name not in left_out:
                yield Output(renamed.get(name, output.name), output.origin)


def _named(outputs: Sequence[Output], source: exp.Expr) -> Sequence[Output]:
    """Return columns under the names in an alias: ``AS s (a, b)``."""
    alias = source.args.get("alias")
    names = alias.args.get("columns") or [] if isinstance(alias, exp.TableAlias) else []
    renamed = [
        Output(name.name, output.origin) for name, output in zip(names, outputs, strict=False)
    ]
    return [*renamed, *outputs[len(renamed) :]] if renamed else outputs
