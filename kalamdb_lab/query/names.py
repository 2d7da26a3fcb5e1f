"""Names to relations: every table of a tree becomes a marker that the caller may read.

CTEs have real scope (later siblings see one, itself too when it is recursive) and get random
names, so that no name a user writes is ever looked up in the engine.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from kalamdb_lab.errors import (
    InvalidDefinitionError,
    KalamError,
    NotAllowedError,
    NotFoundError,
    NotSupportedError,
    SqlSyntaxError,
)
from kalamdb_lab.model.ids import SYSTEM_COLUMNS
from kalamdb_lab.query.predicates import Conjunct, conjuncts_of
from kalamdb_lab.query.relations import NameResolver, Predicate, Relation, ScanRequest, View

MAX_VIEW_DEPTH = 32
INLINED = "kalam_inlined"
"""Key in ``meta``: true where SQL text begins in another tree (a view), false where it ends."""

VIEW_ALIAS = "__view "
"""What a view with named columns is called inside; its own name follows."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NO_CTES: Mapping[str, str] = {}
_PLAIN_TABLE_ARGS = frozenset({"this", "db", "catalog", "alias", "joins"})


class BrokenViewError(NotFoundError):
    """A view names a table or column that is gone."""

    def __init__(self, message: str) -> None:
        KalamError.__init__(self, message)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message,))


@dataclass(slots=True)
class _Occurrence:
    """One place in FROM where a relation stands."""

    node: exp.Table
    relation: Relation
    alias: str
    needs_all: bool = False
    hides_system: bool = False
    include_deleted: bool = False
    predicates: tuple[Predicate, ...] = ()
    columns: tuple[str, ...] = ()

    def has(self, column: str) -> bool:
        """Return whether a statement may name ``column`` (folded) of it."""
        if column in SYSTEM_COLUMNS:
            return self.relation.has_system_columns
        return any(known.name.lower() == column for known in self.relation.columns)


@dataclass(slots=True)
class _Scope:
    """The sources of one SELECT. A source that is no relation of ours has the value None."""

    parent: _Scope | None
    sources: dict[str, _Occurrence | None] = field(default_factory=dict)
    columns: list[exp.Column] = field(default_factory=list)
    qualified: dict[tuple[str, str], str] = field(default_factory=dict)

    def alias_of(self, namespace: str, table: str) -> str | None:
        """Return what ``namespace.table`` is called in the nearest scope that has it."""
        scope: _Scope | None = self
        while scope is not None:
            if (namespace, table) in scope.qualified:
                return scope.qualified[namespace, table]
            scope = scope.parent
        return None

    def relations(self) -> list[_Occurrence]:
        return [source for source in self.sources.values() if source is not None]

    def find(self, alias: str) -> _Occurrence | None:
        """Return the relation of the nearest source called ``alias``, if it is one."""
        scope: _Scope | None = self
        while scope is not None:
            if alias in scope.sources:
                return scope.sources[alias]
            scope = scope.parent
        return None


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
    """

    tree: exp.Expression
    requests: dict[str, ScanRequest]
    ctes: frozenset[str]
    aliases: dict[str, tuple[Relation, ...]]
    views: dict[str, frozenset[str]]


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
    walker = _Walker(resolver, prepare_view)
    root = walker.run(tree)
    return ResolvedTree(
        root, walker.requests, frozenset(walker.ctes), walker.aliases(), walker.views
    )


def marker_table(marker: str) -> exp.Table:
    """Return the reference to a registered marker, which nothing a user writes can shadow."""
    return exp.Table(
        this=exp.to_identifier(marker, quoted=True),
        db=exp.to_identifier("main"),
        catalog=exp.to_identifier("temp"),
    )


def marker_sql(marker: str) -> str:
    """Return how `marker_table` prints."""
    return f'temp.main."{marker}"'


class _Walker:
    def __init__(
        self, resolver: NameResolver, prepare_view: Callable[[exp.Expression], exp.Expression]
    ) -> None:
        self._resolver = resolver
        self._prepare_view = prepare_view
        self._occurrences: list[_Occurrence] = []
        self._stars: list[tuple[_Scope, exp.Select]] = []
        self._view_stack: list[str] = []
        self._claimed: set[int] = set()
        self.requests: dict[str, ScanRequest] = {}
        self.ctes: set[str] = set()
        self.views: dict[str, frozenset[str]] = {}

    def run(self, tree: exp.Expression) -> exp.Expression:
        # A root of its own, so that even the top node can be replaced.
        root = exp.Paren(this=tree)
        self._query(tree, None, _NO_CTES)
        tree = root.this
        self._choose_columns(tree)
        self._exclude_system_columns()
        self._place_markers()
        return tree

    def aliases(self) -> dict[str, tuple[Relation, ...]]:
        found: dict[str, tuple[Relation, ...]] = {}
        for occurrence in self._occurrences:
            alias = occurrence.alias.lower()
            found[alias] = (*found.get(alias, ()), occurrence.relation)
        return found

    # --- queries ------------------------------------------------------------------------

    def _query(
        self, node: exp.Expression, parent: _Scope | None, ctes: Mapping[str, str]
    ) -> None:
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
                self._expressions([query], parent or _Scope(None), visible)

    def _with(
        self, query: exp.Expression, parent: _Scope | None, ctes: Mapping[str, str]
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

    def _select(
        self, select: exp.Select, parent: _Scope | None, ctes: Mapping[str, str]
    ) -> None:
        scope = _Scope(parent)
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
        self._stars.append((scope, select))
        self._use_columns(scope, select)

    def _rest(
        self,
        node: exp.Expression,
        scope: _Scope | None,
        ctes: Mapping[str, str],
        done: tuple[str, ...],
    ) -> None:
        children: list[Any] = []
        for name, value in node.args.items():
            if name not in done:
                children += value if isinstance(value, list) else [value]
        self._expressions(children, scope or _Scope(None), ctes)

    def _expressions(
        self, nodes: Iterable[Any], scope: _Scope, ctes: Mapping[str, str]
    ) -> None:
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

    def _source(self, node: exp.Expression, scope: _Scope, ctes: Mapping[str, str]) -> None:
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
            inner = _Scope(scope) if node.alias else scope
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

    def _name(
        self, scope: _Scope, alias: str, source: _Occurrence | None
    ) -> None:
        if not alias:
            return
        folded = alias.lower()
        if folded in scope.sources:
            raise InvalidDefinitionError(
                f"Table or alias '{alias}' appears twice in FROM; give each its own alias"
            )
        scope.sources[folded] = source

    def _table(self, node: exp.Table, scope: _Scope, ctes: Mapping[str, str]) -> None:
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
        occurrence = _Occurrence(node, found, alias or self._free_alias(scope, found, parts))
        occurrence.needs_all = bool(node.args.get("alias") and node.args["alias"].columns)
        if not alias and len(parts) == 2:
            scope.qualified[parts[0].lower(), parts[1].lower()] = occurrence.alias
        self._occurrences.append(occurrence)
        self._name(scope, occurrence.alias, occurrence)

    def _free_alias(self, scope: _Scope, relation: Relation, parts: tuple[str, ...]) -> str:
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

    def _set_alias(self, node: exp.Expression, name: str) -> None:
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
            subquery.set("this", _renamed(subquery.this, view.name, view.columns))
        given = node.args.get("alias")
        subquery.set("alias", given or exp.TableAlias())
        self._set_alias(subquery, alias)
        subquery.set("joins", node.args.get("joins"))
        node.replace(subquery)

    def _table_function(
        self, node: exp.Table, scope: _Scope, ctes: Mapping[str, str]
    ) -> None:
        function = node.this
        name = function.name if isinstance(function, exp.Anonymous) else ""
        if name.lower() == "all_users":
            relation = self._all_users(function)
            occurrence = _Occurrence(node, relation, node.alias or "all_users")
            occurrence.needs_all = bool(node.args.get("alias") and node.args["alias"].columns)
            self._occurrences.append(occurrence)
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

    # --- columns ------------------------------------------------------------------------

    def _use_columns(self, scope: _Scope, select: exp.Select) -> None:
        """Note what the clauses of one SELECT say of its relations."""
        relations = scope.relations()
        opaque = len(relations) < len(scope.sources)
        for column in scope.columns:
            database = column.args.get("db")
            if database is not None:
                alias = scope.alias_of(database.name.lower(), column.table.lower())
                if alias is not None:
                    column.set("db", None)
                    column.set("table", exp.to_identifier(alias, quoted=True))
            elif not column.args.get("table") and isinstance(column.this, exp.Identifier):
                self._refuse_whole_row(scope, column.name.lower(), opaque)
        where = select.args.get("where")
        if where is not None:
            for column in where.find_all(exp.Column):
                if column.name.lower() == "_deleted" and id(column) not in self._claimed:
                    self._show_deleted(scope, column)
            self._prune(scope, select, conjuncts_of(where.this))
        # A column of an inner SELECT that is not of its sources belongs to an outer one.
        for column in scope.columns:
            if column.name.lower() == "_deleted" and self._owners(scope, column):
                self._claimed.add(id(column))

    def _refuse_whole_row(self, scope: _Scope, name: str, opaque: bool) -> None:
        """A table's name as a value would be its row, with columns we did not ask for."""
        source = scope.sources.get(name)
        if source is None or any(other.has(name) for other in scope.relations()):
            return
        if not opaque and scope.parent is None:
            raise NotFoundError("Column", name)
        source.needs_all = True

    def _show_deleted(self, scope: _Scope, column: exp.Column) -> None:
        for source in self._owners(scope, column):
            source.include_deleted = source.relation.has_system_columns

    def _owners(self, scope: _Scope, column: exp.Column) -> list[_Occurrence]:
        """Return the relations of this SELECT that a column may be of."""
        name = column.name.lower()
        if column.table:
            source = scope.sources.get(column.table.lower())
            return [source] if source is not None and source.has(name) else []
        return [source for source in scope.relations() if source.has(name)]

    def _prune(
        self, scope: _Scope, select: exp.Select, conjuncts: list[Conjunct]
    ) -> None:
        joins = select.args.get("joins") or []
        if any(join.args.get("method") for join in joins):
            return  # ASOF picks among rows: leaving some out would change its pick
        outer = any(join.args.get("side") for join in joins)
        opaque = len(scope.relations()) < len(scope.sources)
        for conjunct in conjuncts:
            if outer and conjunct.op in ("is null", "is not null"):
                continue
            owners = self._owners(scope, conjunct.column)
            if len(owners) != 1 or (opaque and not conjunct.column.table):
                continue
            spelled = _spelled(owners[0].relation, conjunct.column.name.lower())
            owners[0].predicates += (Predicate(spelled, conjunct.op, conjunct.operand),)

    def _choose_columns(self, tree: exp.Expression) -> None:
        for scope, select in self._stars:
            for projection in select.expressions:
                if isinstance(projection, exp.Star):
                    for source in scope.relations():
                        source.needs_all = True
                elif isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star):
                    found = scope.find(projection.table.lower())
                    if found is not None:
                        found.needs_all = True
        anywhere, under = self._named(tree)
        for occurrence in self._occurrences:
            relation = occurrence.relation
            named = anywhere | under.get(occurrence.alias.lower(), set())
            visible = [
                column.name
                for column in relation.columns
                if occurrence.needs_all or column.name.lower() in named
            ]
            has_system = relation.has_system_columns and not occurrence.hides_system
            system = [name for name in SYSTEM_COLUMNS if has_system and name in named]
            if not visible and not system:
                visible = [_narrowest(relation)]
            occurrence.columns = (*visible, *system)

    def _named(self, tree: exp.Expression) -> tuple[set[str], dict[str, set[str]]]:
        """Return the names that may be columns of any relation, and those of one alias only."""
        under: dict[str, set[str]] = {o.alias.lower(): set() for o in self._occurrences}
        anywhere: set[str] = set()
        pending: list[exp.Expr] = [tree]
        while pending:
            node = pending.pop()
            if isinstance(node, exp.Identifier):
                anywhere.add(node.name.lower())
            elif isinstance(node, exp.Column) and node.table.lower() in under:
                under[node.table.lower()].add(node.name.lower())
            else:
                pending.extend(node.iter_expressions())
        return anywhere, under

    def _exclude_system_columns(self) -> None:
        """Keep ``_seq`` and ``_deleted``, where they are read at all, out of every ``*``."""
        for scope, select in self._stars:
            for projection in select.expressions:
                if isinstance(projection, exp.Star):
                    hidden = [
                        exp.column(name, table=source.alias, quoted=True)
                        for source in scope.relations()
                        for name in _system_of(source)
                    ]
                    _exclude(projection, hidden)
                elif isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star):
                    found = scope.find(projection.table.lower())
                    if found is not None:
                        hidden = [exp.column(name, quoted=True) for name in _system_of(found)]
                        _exclude(projection.this, hidden)

    def _place_markers(self) -> None:
        markers: dict[ScanRequest, str] = {}
        for occurrence in self._occurrences:
            request = ScanRequest(
                occurrence.relation,
                occurrence.columns,
                occurrence.predicates,
                occurrence.include_deleted,
            )
            marker = markers.get(request)
            if marker is None:
                marker = markers[request] = f"__k_{secrets.token_hex(8)}"
                self.requests[marker] = request
            node = occurrence.node
            for name, value in marker_table(marker).args.items():
                node.set(name, value)
            self._set_alias(node, occurrence.alias)


def _renamed(query: exp.Expression, view: str, columns: tuple[str, ...]) -> exp.Expression:
    """Return ``query`` with the column names that CREATE VIEW gave."""
    names = [exp.to_identifier(column, quoted=True) for column in columns]
    alias = exp.TableAlias(this=exp.to_identifier(VIEW_ALIAS + view, quoted=True), columns=names)
    inner = exp.Subquery(this=query, alias=alias)
    return exp.Select(expressions=[exp.Star()], from_=exp.From(this=inner))


def _system_of(source: _Occurrence) -> list[str]:
    return [name for name in source.columns if name in SYSTEM_COLUMNS]


def _exclude(star: exp.Star, hidden: list[exp.Column]) -> None:
    if hidden:
        star.set("except_", [*(star.args.get("except_") or []), *hidden])


def _spelled(relation: Relation, name: str) -> str:
    for column in relation.columns:
        if column.name.lower() == name:
            return column.name
    return name


def _narrowest(relation: Relation) -> str:
    """Return the column to read where only the number of rows counts."""
    for column in relation.columns:
        if column.data_type.is_integer and not column.data_type.is_nested:
            return column.name
    return relation.columns[0].name if relation.columns else SYSTEM_COLUMNS[0]
