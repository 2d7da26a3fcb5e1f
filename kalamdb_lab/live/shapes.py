"""Which aggregates can be kept up to date from changes, and what becomes of them then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlglot import exp

from kalamdb_lab.model.datatypes import KalamDataType, TypeKind
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.query.names import INLINED
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.relation_keys import TableRef
from kalamdb_lab.query.relations import Relation

GROUPS: Final = "groups_of_a_live_result"
"""What the outer query calls the groups."""

_FUNCTIONS: Final[dict[type[exp.Expression], str]] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
}
_CORE_CLAUSES: Final = frozenset(
    {"expressions", "from_", "where", "group", "having", "order", "limit", "offset", "kind"}
)
_ROW_CONDITIONS: Final = (
    *(exp.And, exp.Or, exp.Not, exp.Paren, exp.Column, exp.Identifier, exp.Literal),
    *(exp.Boolean, exp.Null, exp.Placeholder, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE),
    *(exp.NullSafeEQ, exp.NullSafeNEQ, exp.Is, exp.In, exp.Between, exp.Like, exp.ILike),
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.Abs, exp.DPipe),
    *(exp.Cast, exp.DataType, exp.DataTypeParam, exp.Coalesce, exp.Lower, exp.Upper, exp.Length),
    *(exp.Case, exp.If, exp.Escape, exp.Tuple),
)
"""What a condition may be made of whose answer depends on its row alone, at any time."""
_COMPARING: Final = (
    *(exp.And, exp.Or, exp.Not, exp.Paren, exp.Literal, exp.Boolean, exp.Null, exp.Neg),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.Between, exp.In),
    *(exp.Ordered, exp.Order, exp.Having),
)
"""What HAVING and ORDER BY may do with groups: nothing that depends on the type of a sum."""
_ORDERED: Final = frozenset(
    {
        *(TypeKind.TEXT, TypeKind.BYTES, TypeKind.DATE, TypeKind.TIME),
        *(TypeKind.TIMESTAMP, TypeKind.DATETIME, TypeKind.DECIMAL),
    }
)
"""Types whose storage values are ordered as the engine orders them, beside whole numbers."""
_GROUPED: Final = _ORDERED | {TypeKind.BOOLEAN, TypeKind.UUID, TypeKind.JSON}


class NotMaintained(Exception):  # noqa: N818 - a verdict, not a fault
    """The query is none of those that are kept up to date from changes."""


@dataclass(frozen=True, slots=True)
class Output:
    """One value of each group: a column that groups, or a function of a column.

    Attributes
    ----------
    function : str
        ``column``, ``count``, ``sum``, ``avg``, ``min`` or ``max``.
    column : str or None
        As the table spells it; None for ``count(*)``.
    """

    function: str
    column: str | None


@dataclass(slots=True)
class Shape:
    """An aggregate of one table, and what is done with its groups.

    Attributes
    ----------
    groups, arguments : list of str
        The columns that group, and those that are aggregated.
    outputs : list of Output
        The select list, then what HAVING and ORDER BY need beside it.
    visible : int
        How many of them are the select list.
    outer : exp.Expression or None
        A query over the relation `GROUPS`, whose columns are ``o0``, ``o1``, ...; None if the
        groups are the result.
    """

    relation: Relation
    table: exp.Table
    where: exp.Expression | None
    groups: list[str]
    outputs: list[Output]
    visible: int = 0
    outer: exp.Expression | None = None
    arguments: list[str] = field(default_factory=list)

    def described(self) -> exp.Select:
        """Return the query for all outputs, to know their types."""
        return self._select([_call(output) for output in self.outputs], self.table, [])

    def partials(self, source: exp.Table | None = None, sign: str | None = None) -> exp.Select:
        """Return the query for what is kept of each group: of the table, or of changed rows.

        Its columns are those that group, the number of rows, and of each argument how many there
        are, their sum where it is a number, the least and the greatest.

        Parameters
        ----------
        source : exp.Table, optional
            A relation with the table's columns.
        sign : str, optional
            A further column of ``source`` that tells added rows from removed ones; it comes first.
        """
        values: list[exp.Expression] = [_column(name) for name in self.groups]
        values.append(exp.Count(this=exp.Star()))
        for name in self.arguments:
            values.append(exp.Count(this=_column(name)))
            for function, kind in (("sum", exp.Sum), ("min", exp.Min), ("max", exp.Max)):
                wanted = self.needs(name, function)
                values.append(kind(this=_column(name)) if wanted else exp.Null())
        first = [] if sign is None else [_column(sign)]
        table = self.table
        if source is not None:
            alias = exp.TableAlias(this=exp.to_identifier(table.alias_or_name, quoted=True))
            table = exp.Table(this=source.this.copy(), alias=alias)
        return self._select([*first, *values], table, first)

    def needs(self, name: str, function: str) -> bool:
        """Return whether a sum, the least or the greatest of a column is asked for."""
        wanted = ("sum", "avg") if function == "sum" else (function,)
        return any(o.column == name and o.function in wanted for o in self.outputs)

    def _select(
        self, values: Sequence[exp.Expression], table: exp.Table, first: list[exp.Column]
    ) -> exp.Select:
        named = [
            exp.Alias(this=value.copy(), alias=exp.to_identifier(f"o{at}", quoted=True))
            for at, value in enumerate(values)
        ]
        select = exp.Select(expressions=named, from_=exp.From(this=table.copy()))
        if self.where is not None:
            select.set("where", exp.Where(this=self.where.copy()))
        grouped = [column.copy() for column in first] + [_column(name) for name in self.groups]
        if grouped:
            select.set("group", exp.Group(expressions=grouped))
        return select


def shape_of(tree: exp.Expression, plan: Plan, namespace: str) -> Shape:
    """Return what is kept up to date for a query that was planned.

    Raises
    ------
    NotMaintained
        It is evaluated anew after each change.
    """
    if len(plan.requests) != 1 or plan.context or plan.functions or plan.vectors:
        raise NotMaintained
    request = plan.requests[0][1]
    tables = list(tree.find_all(exp.Table))
    if not isinstance(request.relation.key, TableRef) or len(tables) != 1:
        raise NotMaintained
    tree = _without_filter_below(tree)
    table = next(tree.find_all(exp.Table))
    core = table.parent.parent if isinstance(table.parent, exp.From) else None
    if not isinstance(core, exp.Select) or tree.find(exp.With, exp.SetOperation) is not None:
        raise NotMaintained
    if any(INLINED in node.meta for node in tree.walk()):
        raise NotMaintained  # another arithmetic begins somewhere in it
    if any(value and name not in ("this", "db", "alias") for name, value in table.args.items()):
        raise NotMaintained
    written = TableId.of(tuple(part.name for part in table.parts), namespace=namespace)
    if str(written) != request.relation.name:
        raise NotMaintained  # a view
    return _Reader(request.relation, table).read(tree, core)


def _without_filter_below(tree: exp.Expression) -> exp.Expression:
    """Return ``FROM (SELECT * FROM t WHERE c) AS q`` as ``FROM t AS q WHERE c``, as ibis means."""
    copied = tree.copy()
    table = copied.find(exp.Table)
    select = None if table is None else table.find_ancestor(exp.Select)
    below = None if select is None else select.parent
    if table is None or select is None or not isinstance(below, exp.Subquery):
        return tree
    core = below.parent.parent if isinstance(below.parent, exp.From) else None
    where = select.args.get("where")
    is_filter = select.expressions == [exp.Star()] and not any(
        value and name not in ("expressions", "from_", "where", "kind")
        for name, value in select.args.items()
    )
    has_alias = bool(below.alias) and not below.args["alias"].args.get("columns")
    if not isinstance(core, exp.Select) or where is None or not is_filter or not has_alias:
        return tree
    for column in where.find_all(exp.Column):
        if column.table.lower() == table.alias_or_name.lower():
            column.set("table", exp.to_identifier(below.alias, quoted=True))
    own = core.args.get("where")
    condition = where.this if own is None else exp.and_(where.this, own.this)
    table.set("alias", exp.TableAlias(this=exp.to_identifier(below.alias, quoted=True)))
    below.replace(table)
    core.set("where", exp.Where(this=condition))
    return copied


class _Reader:
    def __init__(self, relation: Relation, table: exp.Table) -> None:
        self._relation = relation
        self._table = table
        self._types = {column.name.lower(): column for column in relation.columns}
        self._aliases: dict[str, int] = {}

    def read(self, tree: exp.Expression, core: exp.Select) -> Shape:
        if any(value and name not in _CORE_CLAUSES for name, value in core.args.items()):
            raise NotMaintained
        where = core.args.get("where")
        condition = None if where is None else where.this
        if condition is not None:
            self._check_condition(condition)
        shape = Shape(self._relation, self._table.copy(), condition, [], [])
        shape.groups = self._groups(core)
        for at, projection in enumerate(core.expressions):
            output = self._output(projection.unalias())
            if output is None:
                raise NotMaintained
            shape.outputs.append(output)
            if isinstance(projection, exp.Alias):
                self._aliases.setdefault(projection.alias.lower(), at)
        shape.visible = len(shape.outputs)
        if all(output.function == "column" for output in shape.outputs):
            raise NotMaintained  # as well a DISTINCT, which is no matter of numbers
        after = any(core.args.get(name) for name in ("having", "order", "limit", "offset"))
        if after or core is not tree:
            shape.outer = self._outer(tree, core, shape)
        used = {o.column for o in shape.outputs if o.column and o.function == "column"}
        if not used <= set(shape.groups):
            raise NotMaintained
        shape.arguments = list(
            dict.fromkeys(o.column for o in shape.outputs if o.column and o.function != "column")
        )
        return shape

    def _check_condition(self, condition: exp.Expression) -> None:
        for node in condition.walk():
            if not isinstance(node, _ROW_CONDITIONS) or node.args.get("query"):
                raise NotMaintained
            if isinstance(node, exp.Column):
                self._named(node)

    def _named(self, node: exp.Expression) -> str:
        """Return the column of the table that a node is."""
        if not isinstance(node, exp.Column) or node.args.get("db"):
            raise NotMaintained
        if node.table and node.table.lower() != self._table.alias_or_name.lower():
            raise NotMaintained
        column = self._types.get(node.name.lower())
        if column is None:
            raise NotMaintained
        return column.name

    def _groups(self, core: exp.Select) -> list[str]:
        group = core.args.get("group")
        if group is None:
            return []
        names: list[str] = []
        if any(value for name, value in group.args.items() if name != "expressions"):
            raise NotMaintained
        for node in group.expressions:
            found = node
            if isinstance(node, exp.Literal) and not node.is_string:
                at = int(node.name) - 1
                if not 0 <= at < len(core.expressions):
                    raise NotMaintained
                found = core.expressions[at].unalias()
            elif any(
                isinstance(p, exp.Alias) and p.alias.lower() == node.name.lower() and p.this != node
                for p in core.expressions
            ):
                raise NotMaintained  # the name may mean either
            name = self._named(found)
            kind = self._types[name.lower()].data_type
            if kind.kind not in _GROUPED and not kind.is_integer:
                raise NotMaintained
            if name not in names:
                names.append(name)
        return names

    def _output(self, node: exp.Expression) -> Output | None:
        if isinstance(node, exp.Column):
            return Output("column", self._named(node))
        function = _FUNCTIONS.get(type(node))
        if function is None or node.expressions:
            return None
        if function == "count" and isinstance(node.this, exp.Star):
            return Output("count", None)
        if not isinstance(node.this, exp.Column):
            return None
        name = self._named(node.this)
        if not _is_exact(function, self._types[name.lower()].data_type):
            raise NotMaintained
        return Output(function, name)

    def _outer(self, tree: exp.Expression, core: exp.Select, shape: Shape) -> exp.Expression:
        """Return the query with its aggregate replaced by a reading of the groups."""
        shown = [
            exp.Alias(
                this=_column(f"o{at}"),
                alias=exp.to_identifier(
                    f"o{at}" if core is tree else _output_name(projection), quoted=True
                ),
            )
            for at, projection in enumerate(core.expressions)
        ]
        reading = exp.Select(
            expressions=shown, from_=exp.From(this=exp.Table(this=exp.to_identifier(GROUPS)))
        )
        having = core.args.get("having")
        if having is not None:
            condition = self._over_groups(having.this, shape, aliases=False)
            reading.set("where", exp.Where(this=condition))
        order = core.args.get("order")
        if order is not None:
            ordered = order.copy()
            for item in ordered.expressions:
                item.set("this", self._over_groups(item.this, shape, aliases=True))
            reading.set("order", ordered)
        for name in ("limit", "offset"):
            if (clause := core.args.get(name)) is not None:
                if not isinstance(clause.expression, (exp.Literal, exp.Placeholder)):
                    raise NotMaintained
                reading.set(name, clause.copy())
        if core is tree:
            return reading
        root = tree.copy()
        table = root.find(exp.Table)
        inner = None if table is None else table.find_ancestor(exp.Select)
        assert inner is not None
        inner.replace(reading)
        return root

    def _over_groups(self, node: exp.Expression, shape: Shape, *, aliases: bool) -> exp.Expression:
        """Return what HAVING or ORDER BY says, over the columns of the groups."""
        if isinstance(node, (exp.Literal, exp.Placeholder)):
            return node.copy()
        if aliases and isinstance(node, exp.Column) and not node.table:
            at = self._aliases.get(node.name.lower())
            if at is not None:
                return _column(f"o{at}")
        elif isinstance(node, exp.Column) and node.name.lower() in self._aliases:
            raise NotMaintained  # the alias or the column
        output = self._output(node)
        if output is not None:
            if output not in shape.outputs:
                shape.outputs.append(output)
            return _column(f"o{shape.outputs.index(output)}")
        if not isinstance(node, _COMPARING) or node.args.get("query"):
            raise NotMaintained
        copied = node.copy()
        for name, value in node.args.items():
            if isinstance(value, exp.Expression):
                copied.set(name, self._over_groups(value, shape, aliases=False))
            elif isinstance(value, list):
                copied.set(name, [self._over_groups(v, shape, aliases=False) for v in value])
        return copied


def _is_exact(function: str, data_type: KalamDataType) -> bool:
    """Return whether changes give the same value as all rows do, to the last bit."""
    match function:
        case "count":
            return True
        case "sum" | "avg":
            return data_type.is_integer or data_type.kind is TypeKind.DECIMAL
        case _:
            return data_type.is_integer or data_type.kind in _ORDERED


def _output_name(projection: exp.Expression) -> str:
    if isinstance(projection, (exp.Alias, exp.Column)):
        return str(projection.alias_or_name)
    raise NotMaintained  # a name that the planner makes up; ORDER BY and outer queries may use it


def _call(output: Output) -> exp.Expression:
    if output.column is None:
        return exp.Count(this=exp.Star())
    column = _column(output.column)
    if output.function == "column":
        return column
    kind = next(kind for kind, name in _FUNCTIONS.items() if name == output.function)
    return kind(this=column)


def _column(name: str) -> exp.Column:
    return exp.Column(this=exp.to_identifier(name, quoted=True))
