"""Names to relations: every table of a tree becomes a marker that the caller may read.

CTEs have real scope (later siblings see one, itself too when it is recursive) and get random
names, so that no name a user writes is ever looked up in the engine.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlglot import exp

from kalamdb_lab.errors import (
    InvalidDefinitionError,
    NotAllowedError,
    NotFoundError,
    NotSupportedError,
    SqlSyntaxError,
)
from kalamdb_lab.query.markers import marker_table, new_marker
from kalamdb_lab.query.nearest import Cut
from kalamdb_lab.query.plain_rankings import PlainRanking
from kalamdb_lab.query.relations import NameResolver, Relation, ScanRequest, View
from kalamdb_lab.query.row_filters import placed
from kalamdb_lab.query.scopes import Needs, Occurrence, Scope
from kalamdb_lab.query.vectors import Vectors, VectorValue
from kalamdb_lab.query.views import BrokenViewError, renamed

MAX_VIEW_DEPTH = 32
INLINED = "kalam_inlined"
"""Key in ``meta``: true where SQL text begins in another tree (a view), false where it ends."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NO_CTES: Mapping[str, str] = {}
_PLAIN_TABLE_ARGS = frozenset({"this", "db", "catalog", "alias", "joins", "sample"})
"""Text cannot sample: that node is on the list of trees only."""


@dataclass(frozen=True, slots=True)
class ResolvedTree:
    """A tree whose tables are markers.

    Attributes
    ----------
    requests : dict of str to ScanRequest
        By marker.
    ctes : frozenset of str
        The names that CTEs were given.
    aliases : dict of str to tuple of Relation
        What the statement calls its relations, folded; for near misses.
    views : dict of str to frozenset of str
        The views inlined, with all names in them.
    vectors : tuple of VectorValue
        The vectors that distances are measured to, where the statement says them.
    filters : dict of str to ResolvedTree
        By marker of a relation of which only the nearest rows are needed: which of them can come
        through. Without one, every row can.
    plain : PlainRanking or None
        What it shows, if it is a ranking of columns and the distance alone.
    """

    tree: exp.Expression
    requests: dict[str, ScanRequest]
    ctes: frozenset[str]
    aliases: dict[str, tuple[Relation, ...]]
    views: dict[str, frozenset[str]]
    vectors: tuple[VectorValue, ...] = ()
    filters: dict[str, ResolvedTree] = field(default_factory=dict)
    plain: PlainRanking | None = None


def resolve_names(
    tree: exp.Expression,
    resolver: NameResolver,
    prepare_view: Callable[[exp.Expression], exp.Expression],
) -> ResolvedTree:
    """Resolve every table of ``tree`` and rewrite it in place.

    Parameters
    ----------
    prepare_view
        Checks and rewrites the query of a view, which is text whatever ``tree`` is.

    Raises
    ------
    NotFoundError, PermissionDeniedError
        From the resolver.
    SqlSyntaxError, NotAllowedError, NotSupportedError, InvalidDefinitionError
    """
    return _Walker(resolver, prepare_view).run(tree)


class _Walker:
    def __init__(
        self, resolver: NameResolver, prepare_view: Callable[[exp.Expression], exp.Expression]
    ) -> None:
        self._resolver = resolver
        self._prepare_view = prepare_view
        self._needs = Needs()
        self._view_stack: list[str] = []
        self.requests: dict[str, ScanRequest] = {}
        self.ctes: set[str] = set()
        self.views: dict[str, frozenset[str]] = {}

    def run(self, tree: exp.Expression) -> ResolvedTree:
        # A root of its own, so that even the top node can be replaced.
        root = exp.Paren(this=tree)
        self._query(tree, None, _NO_CTES)
        tree = root.this
        vectors = Vectors(tree, self._needs.occurrences)
        for cut in vectors.cuts:
            cut.occurrence.nearest = cut.nearest
        self._needs.finish(tree)
        markers = self._place_markers()
        ctes, aliases = frozenset(self.ctes), self._aliases()
        resolved = ResolvedTree(tree, self.requests, ctes, aliases, self.views)
        filters = {
            markers[id(cut.occurrence)]: self._filter(cut, markers, resolved)
            for cut in vectors.cuts
            if cut.filter is not None
        }
        plain = vectors.cuts[0].plain if len(vectors.cuts) == 1 else None
        return replace(resolved, vectors=vectors.write(), filters=filters, plain=plain)

    def _filter(self, cut: Cut, markers: Mapping[int, str], around: ResolvedTree) -> ResolvedTree:
        """Return a filter with markers for its relations."""
        assert cut.filter is not None
        requests: dict[str, ScanRequest] = {}
        for node, at in placed(cut.filter):
            occurrence = self._needs.occurrences[at]
            is_cut = occurrence is cut.occurrence
            marker = new_marker() if is_cut else markers[id(occurrence)]
            requests[marker] = cut.request() if is_cut else self.requests[marker]
            self._place(node, marker, occurrence.alias)
        return replace(around, tree=cut.filter, requests=requests)

    def _aliases(self) -> dict[str, tuple[Relation, ...]]:
        found: dict[str, list[Relation]] = {}
        for occurrence in self._needs.occurrences:
            found.setdefault(occurrence.alias.lower(), []).append(occurrence.relation)
        return {alias: tuple(relations) for alias, relations in found.items()}

    # --- queries ------------------------------------------------------------------------

    def _query(self, node: exp.Expression, parent: Scope | None, ctes: Mapping[str, str]) -> None:
        pending = [(node, ctes)]
        while pending:  # a thousand UNIONs are a deep tree on the left
            query, visible = pending.pop()
            visible = self._with(query, parent, visible)
            if isinstance(query, exp.Select):
                self._select(query, parent, visible)
            elif isinstance(query, exp.SetOperation):
                pending += [(query.expression, visible), (query.this, visible)]
                self._rest(query, parent, visible, done=("with_", "this", "expression"))
            elif isinstance(query, exp.Subquery):
                if isinstance(query.this, exp.Table):
                    raise SqlSyntaxError(f"Syntax error near '{query.this.name}'")
                pending.append((query.this, visible))
                self._rest(query, parent, visible, done=("with_", "this"))
            else:
                self._expressions([query], parent or Scope(None), visible)

    def _with(
        self, query: exp.Expression, parent: Scope | None, ctes: Mapping[str, str]
    ) -> Mapping[str, str]:
        clause = query.args.get("with_")
        if clause is None:
            return ctes
        visible = dict(ctes)
        own: set[str] = set()
        for cte in clause.expressions:
            name = cte.alias.lower()
            if name in own:
                raise InvalidDefinitionError(f"CTE '{name}' appears twice in WITH")
            own.add(name)
            hidden = f"__c_{secrets.token_hex(8)}"
            self.ctes.add(hidden)
            inner = visible
            if clause.args.get("recursive"):
                inner = {**visible, name: hidden}
            self._query(cte.this, parent, inner)
            cte.args["alias"].set("this", exp.to_identifier(hidden, quoted=True))
            visible[name] = hidden
        return visible

    def _select(self, select: exp.Select, parent: Scope | None, ctes: Mapping[str, str]) -> None:
        scope = Scope(parent)
        from_ = select.args.get("from_")
        joins = select.args.get("joins") or []
        sources = [join.this for join in joins]
        if from_ is not None:
            sources.insert(0, from_.this)
        sources += select.args.get("laterals") or []
        for source in sources:
            self._source(source, scope, ctes)
        for join in joins:
            self._rest(join, scope, ctes, done=("this",))
        self._rest(select, scope, ctes, done=("with_", "from_", "joins", "laterals"))
        self._needs.close(scope, select)

    def _rest(
        self,
        node: exp.Expression,
        scope: Scope | None,
        ctes: Mapping[str, str],
        done: tuple[str, ...],
    ) -> None:
        children: list[Any] = []
        for name, value in node.args.items():
            if name not in done:
                children += value if isinstance(value, list) else [value]
        self._expressions(children, scope or Scope(None), ctes)

    def _expressions(self, nodes: Iterable[Any], scope: Scope, ctes: Mapping[str, str]) -> None:
        pending = list(nodes)
        while pending:
            node = pending.pop()
            if not isinstance(node, exp.Expression):
                continue
            if isinstance(node, exp.Query):
                self._query(node, scope, ctes)
            elif isinstance(node, exp.Table):
                raise SqlSyntaxError(f"Syntax error near '{node.name}'")
            else:
                if isinstance(node, exp.Column):
                    scope.columns.append(node)
                pending.extend(node.iter_expressions())

    # --- FROM ---------------------------------------------------------------------------

    def _source(self, node: exp.Expression, scope: Scope, ctes: Mapping[str, str]) -> None:
        if isinstance(node, exp.Table):
            joins = list(node.args.get("joins") or [])  # of (a JOIN b) in parentheses
            if isinstance(node.this, exp.Identifier):
                self._table(node, scope, ctes)
            else:
                self._table_function(node, scope, ctes)
            for join in joins:
                self._source(join.this, scope, ctes)
                self._rest(join, scope, ctes, done=("this",))
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            inner = Scope(scope) if node.alias else scope
            self._source(node.this, inner, ctes)
            if node.alias:  # (a JOIN b) AS j: what is in it shows under the one name
                for source in inner.relations():
                    source.needs_all, source.hides_system = True, True
                self._name(scope, node.alias, None)
        elif isinstance(node, exp.Query):
            self._query(node, scope, ctes)
            self._name(scope, node.alias_or_name, None)
        elif isinstance(node, exp.Lateral):
            self._source(node.this, scope, ctes)
            self._name(scope, node.alias, None)
        elif isinstance(node, (exp.Values, exp.Unnest, exp.Func)):
            self._expressions(node.iter_expressions(), scope, ctes)
            self._name(scope, node.alias, None)
        else:
            raise NotSupportedError(f"{node.key.upper()} in FROM is not supported")

    def _name(self, scope: Scope, alias: str, source: Occurrence | None) -> None:
        if not alias:
            return
        folded = alias.lower()
        if folded in scope.sources:
            raise InvalidDefinitionError(
                f"Table or alias '{alias}' appears twice in FROM; give each its own alias"
            )
        scope.sources[folded] = source

    def _table(self, node: exp.Table, scope: Scope, ctes: Mapping[str, str]) -> None:
        for name, value in node.args.items():
            if value and name not in _PLAIN_TABLE_ARGS:
                word = {"sample": "SAMPLE", "pivots": "PIVOT"}.get(name, name.upper())
                raise NotSupportedError(f"{word} is not supported")
        parts = tuple(part.name for part in node.parts)
        alias = node.alias
        if len(parts) == 1 and parts[0].lower() in ctes:
            node.set("this", exp.to_identifier(ctes[parts[0].lower()], quoted=True))
            self._set_alias(node, alias or parts[0])
            self._name(scope, alias or parts[0], None)
            return
        try:
            found = self._lookup(parts)
        except NotFoundError:
            if any(_NAME.fullmatch(part) is None for part in parts):
                raise NotAllowedError("A quoted text is not a table name") from None
            raise
        if isinstance(found, View):
            self._inline(node, found, alias or parts[-1])
            self._name(scope, alias or parts[-1], None)
            if not alias and len(parts) == 2:
                scope.qualified[parts[0].lower(), parts[1].lower()] = parts[-1]
            return
        occurrence = Occurrence(node, found, alias or self._free_alias(scope, found, parts))
        occurrence.needs_all = bool(node.args.get("alias") and node.args["alias"].columns)
        if not alias and len(parts) == 2:
            scope.qualified[parts[0].lower(), parts[1].lower()] = occurrence.alias
        self._needs.occurrences.append(occurrence)
        self._name(scope, occurrence.alias, occurrence)

    def _free_alias(self, scope: Scope, relation: Relation, parts: tuple[str, ...]) -> str:
        """Return what an unaliased table is called: ``a.t`` and ``b.t`` may meet in one FROM."""
        name = parts[-1]
        other = scope.sources.get(name.lower())
        if other is None or other.relation.name == relation.name:
            return name
        return relation.name

    def _lookup(self, parts: tuple[str, ...]) -> Relation | View:
        try:
            return self._resolver.resolve(parts)
        except BrokenViewError:
            raise
        except NotFoundError as error:
            if not self._view_stack:
                raise
            raise BrokenViewError(
                f"View {self._view_stack[-1]} references missing table {'.'.join(parts)}"
            ) from error

    def _set_alias(self, node: exp.Expr, name: str) -> None:
        alias = node.args.get("alias") or exp.TableAlias()
        alias.set("this", exp.to_identifier(name, quoted=True))
        node.set("alias", alias)

    def _inline(self, node: exp.Table, view: View, alias: str) -> None:
        if view.name in self._view_stack:
            raise InvalidDefinitionError(f"View {view.name} refers to itself")
        if len(self._view_stack) >= MAX_VIEW_DEPTH:
            raise InvalidDefinitionError(f"Views nest deeper than {MAX_VIEW_DEPTH}")
        query = self._prepare_view(view.query.copy())
        names = {identifier.name.lower() for identifier in query.find_all(exp.Identifier)}
        self.views[view.name] = frozenset(names)
        subquery = exp.Subquery(this=query)
        subquery.meta[INLINED] = True
        self._view_stack.append(view.name)
        try:
            self._query(query, None, _NO_CTES)
        finally:
            self._view_stack.pop()
        if view.columns:
            subquery.set("this", renamed(subquery.this, view.name, view.columns))
        given = node.args.get("alias")
        subquery.set("alias", given or exp.TableAlias())
        self._set_alias(subquery, alias)
        subquery.set("joins", node.args.get("joins"))
        subquery.set("sample", node.args.get("sample"))
        node.replace(subquery)

    def _table_function(self, node: exp.Table, scope: Scope, ctes: Mapping[str, str]) -> None:
        function = node.this
        name = function.name if isinstance(function, exp.Anonymous) else ""
        if name.lower() == "all_users":
            relation = self._all_users(function)
            occurrence = Occurrence(node, relation, node.alias or "all_users")
            occurrence.needs_all = bool(node.args.get("alias") and node.args["alias"].columns)
            self._needs.occurrences.append(occurrence)
            self._name(scope, occurrence.alias, occurrence)
            return
        self._expressions([function], scope, ctes)
        self._name(scope, node.alias, None)

    def _all_users(self, function: exp.Anonymous) -> Relation:
        arguments = function.expressions
        if len(arguments) != 1 or not (
            isinstance(arguments[0], exp.Literal) and arguments[0].is_string
        ):
            raise SqlSyntaxError("Syntax error: expected a quoted table name in all_users()")
        if self._view_stack:
            raise NotSupportedError("all_users() is not supported in a view")
        return self._resolver.all_users(arguments[0].name)

    def _place_markers(self) -> dict[int, str]:
        """Put markers in the place of tables; return them by the identity of the occurrence."""
        markers: dict[ScanRequest, str] = {}
        placed: dict[int, str] = {}
        for occurrence in self._needs.occurrences:
            request = ScanRequest(
                occurrence.relation,
                occurrence.columns,
                occurrence.predicates,
                occurrence.include_deleted,
                occurrence.nearest,
            )
            marker = markers.get(request)
            if marker is None:
                marker = markers[request] = new_marker()
                self.requests[marker] = request
            self._place(occurrence.node, marker, occurrence.alias)
            placed[id(occurrence)] = marker
        return placed

    def _place(self, node: exp.Expr, marker: str, alias: str) -> None:
        for name, value in marker_table(marker).args.items():
            node.set(name, value)
        self._set_alias(node, alias)
