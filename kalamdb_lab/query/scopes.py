"""The sources of a statement, and what it needs of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from kalamdb_lab.errors import NotFoundError
from kalamdb_lab.model.ids import SYSTEM_COLUMNS
from kalamdb_lab.query.predicates import Conjunct, conjuncts_of
from kalamdb_lab.query.relations import Nearest, Predicate, Relation

_ENGINE_VALUES = frozenset(
    """user session_user current_role current_schema current_catalog localtime
    localtimestamp""".split()
)


@dataclass(slots=True)
class Occurrence:
    """One place in FROM where a relation stands."""

    node: exp.Table
    relation: Relation
    alias: str
    needs_all: bool = False
    hides_system: bool = False
    include_deleted: bool = False
    predicates: tuple[Predicate, ...] = ()
    columns: tuple[str, ...] = ()
    nearest: Nearest | None = None

    def has(self, column: str) -> bool:
        """Return whether a statement may name ``column`` (folded) of it."""
        if column in SYSTEM_COLUMNS:
            return self.relation.has_system_columns
        return any(known.name.lower() == column for known in self.relation.columns)


@dataclass(slots=True)
class Scope:
    """The sources of one SELECT. A source that is no relation of ours has the value None."""

    parent: Scope | None
    sources: dict[str, Occurrence | None] = field(default_factory=dict)
    columns: list[exp.Column] = field(default_factory=list)
    qualified: dict[tuple[str, str], str] = field(default_factory=dict)

    def alias_of(self, namespace: str, table: str) -> str | None:
        """Return what ``namespace.table`` is called in the nearest scope that has it."""
        scope: Scope | None = self
        while scope is not None:
            if (namespace, table) in scope.qualified:
                return scope.qualified[namespace, table]
            scope = scope.parent
        return None

    def relations(self) -> list[Occurrence]:
        return [source for source in self.sources.values() if source is not None]

    def find(self, alias: str) -> Occurrence | None:
        """Return the relation of the nearest source called ``alias``, if it is one."""
        scope: Scope | None = self
        while scope is not None:
            if alias in scope.sources:
                return scope.sources[alias]
            scope = scope.parent
        return None


class Needs:
    """Which columns and rows a statement needs, gathered SELECT by SELECT, inner ones first."""

    def __init__(self) -> None:
        self.occurrences: list[Occurrence] = []
        self._stars: list[tuple[Scope, exp.Select]] = []
        self._claimed: set[int] = set()

    def finish(self, tree: exp.Expression) -> None:
        """Choose the columns of every relation, and keep the system columns out of ``*``."""
        self._choose_columns(tree)
        self._exclude_system_columns()

    def close(self, scope: Scope, select: exp.Select) -> None:
        """Note what the clauses of one SELECT, all walked by now, say of its relations."""
        self._stars.append((scope, select))
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
                self._refuse_engine_value(scope, select, column)
                self._refuse_whole_row(scope, select, column, opaque)
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

    def _refuse_engine_value(self, scope: Scope, select: exp.Select, column: exp.Column) -> None:
        """The engine answers some bare names that are no column with facts about itself."""
        name = column.name.lower()
        if name not in _ENGINE_VALUES or any(i.alias.lower() == name for i in select.expressions):
            return
        around: Scope | None = scope
        while around is not None:
            relations = around.relations()
            owners = [source for source in relations if source.has(name)]
            if owners and around is not scope:  # the engine's own would come before it
                column.set("table", exp.to_identifier(owners[0].alias, quoted=True))
            if owners or len(relations) < len(around.sources):
                return
            around = around.parent
        raise NotFoundError("Column", column.name)

    def _refuse_whole_row(
        self, scope: Scope, select: exp.Select, column: exp.Column, opaque: bool
    ) -> None:
        """A table's name as a value would be its row, with columns we did not ask for.

        Where a result has the same name, that is meant: ``count(*) AS flights FROM flights``.
        """
        name = column.name.lower()
        source = scope.sources.get(name)
        if source is None or any(other.has(name) for other in scope.relations()):
            return
        meant = next((i for i in select.expressions if i.alias.lower() == name), None)
        if meant is not None and _is_after_projection(column, select):
            if not isinstance(column.parent, exp.Ordered):
                column.replace(exp.Paren(this=meant.unalias().copy()))
            return
        if not opaque and scope.parent is None:
            raise NotFoundError("Column", name)
        source.needs_all = True

    def _show_deleted(self, scope: Scope, column: exp.Column) -> None:
        for source in self._owners(scope, column):
            source.include_deleted = source.relation.has_system_columns

    def _owners(self, scope: Scope, column: exp.Column) -> list[Occurrence]:
        """Return the relations of this SELECT that a column may be of."""
        name = column.name.lower()
        if column.table:
            source = scope.sources.get(column.table.lower())
            return [source] if source is not None and source.has(name) else []
        return [source for source in scope.relations() if source.has(name)]

    def _prune(self, scope: Scope, select: exp.Select, conjuncts: list[Conjunct]) -> None:
        joins = [join for clause in _sources(select) for join in clause.find_all(exp.Join)]
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
        for occurrence in self.occurrences:
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
        under: dict[str, set[str]] = {o.alias.lower(): set() for o in self.occurrences}
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


def _sources(select: exp.Select) -> Iterator[exp.Expr]:
    from_ = select.args.get("from_")
    if from_ is not None:
        yield from_
    yield from select.args.get("joins") or []


def _system_of(source: Occurrence) -> list[str]:
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


def _is_after_projection(column: exp.Column, select: exp.Select) -> bool:
    """Return whether a column stands where a SELECT's own results may be named."""
    node: exp.Expr | None = column
    while node is not None and node.parent is not select:
        if isinstance(node, exp.Select):
            return False
        node = node.parent
    return node is not None and node.arg_key in ("order", "group", "having", "qualify")
