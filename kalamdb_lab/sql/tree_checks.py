"""What sqlglot reads and the language does not say.

sqlglot is lenient: it drops what it takes for noise (``FROM t *``), fills in what is missing
(``FROM a JOIN b`` becomes a cross join), and knows the clauses of twenty dialects. A tree passes
here only if it says what its text says. Which functions and node classes a query may hold is
decided where it is planned.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from types import NoneType
from typing import Final, TypeAlias

from sqlglot import TokenType, exp

from kalamdb_lab.errors import NotSupportedError, SqlSyntaxError
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, RESERVED_KEYWORDS
from kalamdb_lab.sql.cast_types import data_type_of
from kalamdb_lab.sql.dialect import INTERVAL_UNITS
from kalamdb_lab.sql.statement_tokens import StatementTokens, expected, near

_MODIFIERS = frozenset(
    {
        *("with_", "joins", "where", "group", "having", "qualify"),
        *("windows", "order", "limit", "offset"),
    }
)
_ALLOWED_ARGS: Final[dict[type[exp.Expr], frozenset[str]]] = {
    exp.Select: _MODIFIERS | {"expressions", "distinct", "from_"},
    exp.Subquery: _MODIFIERS | {"this", "alias"},
    exp.Union: _MODIFIERS | {"this", "expression", "distinct", "by_name"},
    exp.Except: _MODIFIERS | {"this", "expression", "distinct", "by_name"},
    exp.Intersect: _MODIFIERS | {"this", "expression", "distinct", "by_name"},
    exp.Values: frozenset({"expressions", "alias"}),
    exp.Table: frozenset({"this", "db", "alias", "joins"}),
    exp.TableAlias: frozenset({"this", "columns"}),
    exp.Join: frozenset({"this", "on", "using", "side", "kind", "method"}),
    exp.Lateral: frozenset({"this", "alias"}),
    exp.Unnest: frozenset({"expressions", "alias"}),
    exp.With: frozenset({"expressions", "recursive"}),
    exp.CTE: frozenset({"this", "alias", "materialized"}),
    exp.Group: frozenset({"expressions", "grouping_sets", "cube", "rollup", "all"}),
    exp.Ordered: frozenset({"this", "desc", "nulls_first"}),
    exp.Limit: frozenset({"expression"}),
    exp.Offset: frozenset({"expression"}),
    exp.Star: frozenset({"except_", "replace", "rename"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.TryCast: frozenset({"this", "to", "safe"}),
    exp.Column: frozenset({"this", "table", "db", "catalog"}),
    exp.Window: frozenset({"this", "partition_by", "order", "spec", "alias", "over"}),
    exp.Insert: frozenset({"this", "expression", "conflict", "returning", "default"}),
    exp.Update: frozenset({"this", "expressions", "where", "returning"}),
    exp.Delete: frozenset({"this", "where", "returning"}),
    exp.OnConflict: frozenset({"conflict_keys", "action", "expressions", "where"}),
    exp.Returning: frozenset({"expressions"}),
}
_REFUSED_ARGS: Final = {
    "into": "INTO",
    "locks": "FOR UPDATE",
    "pivots": "PIVOT",
    "sample": "SAMPLE",
}
_REFUSED_NODES: Final[dict[type[exp.Expr], str]] = {
    exp.Summarize: "SUMMARIZE",
    exp.Pivot: "PIVOT",
    exp.Comprehension: "A list comprehension",
    exp.Insert: "INSERT inside a query",
    exp.Update: "UPDATE inside a query",
    exp.Delete: "DELETE inside a query",
    exp.Merge: "MERGE",
}
_STATEMENTS = (exp.Command, exp.DDL, exp.DML, exp.Describe, exp.Show, exp.Set, exp.Use)
_NAMES_ONLY: Final = frozenset({"alias", "db", "catalog", "table", "unit", "to", "kind"})
"""Arguments that are names: no placeholder may stand there, whatever sqlglot thinks."""
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")
_NO_COLUMNS = (TokenType.FROM, TokenType.WHERE, TokenType.R_PAREN)
_QUERIES = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)


def check_tree(root: exp.Expr, statement: StatementTokens) -> None:
    """Refuse a tree that does not say what its text says.

    Raises
    ------
    SqlSyntaxError
        Something was dropped, filled in, or taken from another dialect.
    NotSupportedError
        By name, for what is known and refused.
    InvalidDefinitionError
        An unknown type in a cast.
    """
    _TreeCheck(statement).run(root)


class _TreeCheck:
    """One walk over all nodes, counting what must be there as often as in the text."""

    def __init__(self, statement: StatementTokens) -> None:
        self._tokens = statement.tokens
        self._source = statement.source
        self._stars = 0
        self._joins = 0
        self._placeholders = 0
        self._offsets = 0

    def run(self, root: exp.Expr) -> None:
        stack: list[tuple[exp.Expr, exp.Expr | None, str]] = [(root, None, "")]
        pop, push = stack.pop, stack.append
        while stack:
            node, parent, key = pop()
            cls = type(node)
            if cls is exp.Identifier:
                self._identifier(node, parent, key)
                continue
            if cls is exp.DataType:
                data_type_of(node)
                continue
            allowed = _ALLOWED_ARGS.get(cls)
            if allowed is not None:
                self._arguments(node, allowed)
            look = _LOOKS.get(cls)
            if look is not None:
                look(self, node, parent, key)
            for name, value in node.args.items():
                if isinstance(value, exp.Expr):
                    push((value, node, name))
                elif value.__class__ is list:
                    for item in value:
                        if isinstance(item, exp.Expr):
                            push((item, node, name))
        self._compare_counts()

    def _arguments(self, node: exp.Expr, allowed: frozenset[str]) -> None:
        for name, value in node.args.items():
            if value and name not in allowed:
                refused = _REFUSED_ARGS.get(name)
                if refused is not None:
                    raise self._not_supported(refused)
                if name == "catalog":
                    raise self._too_many_parts(node)
                raise self._somewhere(node)

    def star(self, node: exp.Expr, parent: exp.Expr | None, _key: str) -> None:
        self._stars += 1
        if type(node) is exp.Star and isinstance(parent, (exp.Paren, exp.Tuple)):
            raise self._last(TokenType.STAR)

    def placeholder(self, node: exp.Expr, parent: exp.Expr | None, key: str) -> None:
        self._placeholders += 1
        if key in _NAMES_ONLY or (key == "this" and isinstance(parent, _NAMED)):
            raise self._at_placeholder(node)

    def select(self, node: exp.Expr, _parent: exp.Expr | None, _key: str) -> None:
        from_ = node.args.get("from_")
        if node.args.get("joins") and not from_:
            raise self._somewhere(node)
        if (
            from_
            and isinstance(from_.this, exp.Values)
            and from_.this.alias == "_values"
            and "start" not in from_.this.args["alias"].this.meta
        ):
            self._stars -= 1  # sqlglot reads VALUES as SELECT * FROM (VALUES ...) AS _values
        if not node.args.get("expressions"):
            # PostgreSQL's SELECT of no columns.
            for token, following in pairwise(self._tokens):
                if token.token_type is TokenType.SELECT and following.token_type in _NO_COLUMNS:
                    raise near(following, self._source)
            raise self._somewhere(node)

    def cte(self, node: exp.Expr, _parent: exp.Expr | None, _key: str) -> None:
        if not isinstance(node.this, _QUERIES):
            raise self._refused_node(node.this) or self._somewhere(node.this)

    def interval(self, node: exp.Expr, _parent: exp.Expr | None, _key: str) -> None:
        unit = node.args.get("unit")
        if not isinstance(unit, exp.Var) or unit.name.upper() not in INTERVAL_UNITS:
            raise self._somewhere(node)

    def alias(self, node: exp.Expr, parent: exp.Expr | None, _key: str) -> None:
        if isinstance(parent, (exp.Paren, exp.Tuple)) or node.this.is_star:
            raise self._somewhere(node)

    def table_alias(self, node: exp.Expr, _parent: exp.Expr | None, _key: str) -> None:
        if not all(isinstance(column, exp.Identifier) for column in node.args.get("columns") or ()):
            raise self._somewhere(node)

    def named_argument(self, node: exp.Expr, parent: exp.Expr | None, _key: str) -> None:
        if not isinstance(parent, exp.Func):
            raise self._somewhere(node)

    def offset(self, _node: exp.Expr, _parent: exp.Expr | None, _key: str) -> None:
        self._offsets += 1

    def var(self, node: exp.Expr, parent: exp.Expr | None, _key: str) -> None:
        values = parent.parent if isinstance(parent, exp.Tuple) else None
        if node.name == "DEFAULT" and not (
            isinstance(values, exp.Values) and isinstance(values.parent, exp.Insert)
        ):
            raise self._somewhere(node)

    def statement(self, node: exp.Expr, parent: exp.Expr | None, _key: str) -> None:
        if parent is not None:
            raise self._refused_node(node) or self._somewhere(node)

    def _refused_node(self, node: exp.Expr) -> NotSupportedError | None:
        name = _REFUSED_NODES.get(type(node))
        return None if name is None else self._not_supported(name)

    def _identifier(self, node: exp.Expr, parent: exp.Expr | None, key: str) -> None:
        if key == "this" and type(parent) is exp.PropertyEQ:
            return  # a field of a struct: {'from': 1}
        place = node._meta  # noqa: SLF001 - reading ``meta`` would make a dictionary per name
        start = None if place is None else place.get("start")
        first = "" if start is None else self._source[start]
        if first == "'":
            if key in ("this", "db") and type(parent) is exp.Table:
                raise self._located(SqlSyntaxError("A quoted text is not a table name"), start)
            raise self._near_offset(start)
        if first == '"' or (node.args.get("quoted") and start is None):
            return
        word = node.args["this"]
        if not isinstance(word, str) or _PLAIN_NAME.fullmatch(word) is None:
            raise self._near_offset(start)
        if word.lower() in RESERVED_KEYWORDS:
            if word.lower() != DEFAULT_NAMESPACE or key not in ("db", "table"):
                raise self._near_offset(start)
            node.set("quoted", True)

    def table(self, node: exp.Expr, _parent: exp.Expr | None, _key: str) -> None:
        for part in (node.this, node.args.get("db")):
            if isinstance(part, exp.Dot):
                raise self._too_many_parts(node)
            if not isinstance(part, (exp.Identifier, exp.Func, exp.Placeholder, NoneType)):
                raise self._somewhere(node)

    def join(self, node: exp.Expr, _parent: exp.Expr | None, _key: str) -> None:
        args = node.args
        method, kind = args.get("method"), args.get("kind")
        condition = args.get("on") or args.get("using")
        if method == "POSITIONAL":
            raise self._not_supported("POSITIONAL JOIN")
        if method or kind or args.get("side") or condition:
            self._joins += 1
            unconditional = method == "NATURAL" or kind == "CROSS"
            if bool(condition) is unconditional:
                raise self._join_fault(unconditional=unconditional)

    def _join_fault(self, *, unconditional: bool) -> SqlSyntaxError:
        token = next(
            (token for token in self._tokens if token.token_type is TokenType.JOIN),
            self._tokens[0],
        )
        return near(token, self._source) if unconditional else expected("ON or USING", token)

    def _compare_counts(self) -> None:
        types = [token.token_type for token in self._tokens]
        if types.count(TokenType.STAR) != self._stars:
            raise self._last(TokenType.STAR)
        if types.count(TokenType.PARAMETER) != self._placeholders:
            raise self._last(TokenType.PARAMETER)
        if types.count(TokenType.OFFSET) != self._offsets:
            raise self._last(TokenType.LIMIT)  # LIMIT 5, 10
        if types.count(TokenType.JOIN) != self._joins:
            raise self._join_fault(unconditional=False)

    def _last(self, token_type: TokenType) -> SqlSyntaxError:
        # What is noise to sqlglot mostly stands behind what is not.
        matching = [token for token in self._tokens if token.token_type is token_type]
        return near(matching[-1] if matching else self._tokens[0], self._source)

    def _not_supported(self, name: str) -> NotSupportedError:
        first = self._tokens[0]
        return NotSupportedError(f"{name} is not supported").at(first.line, first.col)

    def _too_many_parts(self, node: exp.Expr) -> SqlSyntaxError:
        parts = [node.args.get(key) for key in ("catalog", "db", "this")]
        names = [
            name.name
            for part in parts
            if isinstance(part, exp.Expr)
            for name in part.find_all(exp.Identifier, bfs=False)
        ]
        shown = ".".join(names)[:128]
        error = SqlSyntaxError(f"Name '{shown}' has too many parts; write namespace.table")
        return self._located(error, None)

    def _somewhere(self, node: exp.Expr) -> SqlSyntaxError:
        """Return the error for a node that has no place of its own: the first name in it."""
        for inner in node.walk(bfs=False):
            start = inner.meta.get("start")
            if start is not None:
                return self._near_offset(start)
        return near(self._tokens[0], self._source)

    def _near_offset(self, start: int | None) -> SqlSyntaxError:
        for token in self._tokens:
            if token.start == start:
                return near(token, self._source)
        return near(self._tokens[0], self._source)

    def _at_placeholder(self, node: exp.Expr) -> SqlSyntaxError:
        for token, following in pairwise(self._tokens):
            if token.token_type is TokenType.PARAMETER and following.text == node.name:
                return near(token, self._source)
        return self._somewhere(node)

    def _located(self, error: SqlSyntaxError, start: int | None) -> SqlSyntaxError:
        token = next((t for t in self._tokens if t.start == start), self._tokens[0])
        return error.at(token.line, token.col)


_NAMED = (exp.Table, exp.Column, exp.TableAlias, exp.Schema, exp.Var, exp.Extract, exp.DataType)
_Look: TypeAlias = Callable[[_TreeCheck, exp.Expr, exp.Expr | None, str], None]
_LOOKS: Final[dict[type[exp.Expr], _Look]] = {
    **{
        cls: _TreeCheck.statement
        for cls in vars(exp).values()
        if isinstance(cls, type)
        and issubclass(cls, exp.Expr)
        and issubclass(cls, (*_STATEMENTS, *_REFUSED_NODES))
    },
    exp.Star: _TreeCheck.star,
    exp.Mul: _TreeCheck.star,
    exp.Placeholder: _TreeCheck.placeholder,
    exp.Join: _TreeCheck.join,
    exp.Select: _TreeCheck.select,
    exp.Table: _TreeCheck.table,
    exp.CTE: _TreeCheck.cte,
    exp.Interval: _TreeCheck.interval,
    exp.Alias: _TreeCheck.alias,
    exp.TableAlias: _TreeCheck.table_alias,
    exp.PropertyEQ: _TreeCheck.named_argument,
    exp.Offset: _TreeCheck.offset,
    exp.Var: _TreeCheck.var,
}
