"""From ibis expressions to sqlglot trees, and from trees to text of our own SQL."""

from __future__ import annotations

from typing import Any, cast

import ibis.expr.operations as ops
import sqlglot
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.duckdb import DuckDBCompiler
from sqlglot.dialects.duckdb import DuckDB

from kalamdb_lab.errors import SqlSyntaxError
from kalamdb_lab.ibis_backend.vectors import VectorDistance
from kalamdb_lab.query.names import INLINED as TEXT
from kalamdb_lab.query.rewrite import prepare_text
from kalamdb_lab.sql.dialect import KalamSql
from kalamdb_lab.sql.queries import parse_query


class Kalam(DuckDB):
    """The sqlglot dialect of the name that ibis knows this backend by.

    It is DuckDB's: the trees of ibis say what they mean, arithmetic and order of NULLs included.
    """


class KalamCompiler(DuckDBCompiler):  # type: ignore[misc]
    """ibis' compiler for DuckDB; SQL text inside an expression passes our own parser.

    The text that a user wrote is never parsed by anything else, and is one query or refused.
    """

    __slots__ = ()

    dialect = Kalam

    # They need an extension of the engine, which loads none.
    UNSUPPORTED_OPS = tuple(
        op
        for name, op in vars(ops).items()
        if name.startswith("Geo") and isinstance(op, type) and issubclass(op, ops.Value)
    )

    def visit_ArrayStringJoin(self, _: Any, *, arg: Any, sep: Any) -> sge.Expression:  # noqa: N802
        """Return the items joined; nothing joined is NULL, as ibis has it."""
        joined = self.f.array_to_string(arg, sep)
        return cast("sge.Expression", self.if_(self.f.len(arg).eq(0), sge.Null(), joined))

    def visit_SQLQueryResult(self, _: Any, *, query: str, **__: Any) -> sge.Subquery:  # noqa: N802
        """Return the query of ``con.sql(text)``."""
        return sge.Subquery(this=as_text(parse_query(query)))

    def visit_SQLStringView(self, _: Any, *, query: str, **__: Any) -> sge.Expression:  # noqa: N802
        """Return the query of ``table.sql(text)``."""
        return as_text(parse_query(query))

    def visit_InSubquery(self, op: Any, *, rel: Any, needle: Any) -> sge.Expression:  # noqa: N802
        """Return ``needle IN (SELECT ...)``; ibis leaves the namespace of a bare table away."""
        if not isinstance(rel, sge.Table):
            return cast("sge.Expression", super().visit_InSubquery(op, rel=rel, needle=needle))
        names = {part: rel.args.get(part) for part in ("this", "db", "catalog")}
        everything = sge.Select(expressions=[sge.Star()], from_=sge.From(this=sge.Table(**names)))
        return sge.In(this=needle, query=sge.Subquery(this=everything))

    def visit_VectorDistance(  # noqa: N802
        self, _: Any, *, arg: Any, vector: Any, function: str
    ) -> sge.Expression:
        """Return a call of our own SQL."""
        return sge.Anonymous(this=function.upper(), expressions=[arg, vector])

    def visit_GivenVector(self, _: Any, *, text: str) -> sge.Expression:  # noqa: N802
        """Return a text, which our SQL takes for a vector."""
        return sge.Literal.string(text)

    def visit_VectorParameter(self, _: Any, *, number: int) -> sge.Expression:  # noqa: N802
        """Return ``$1``, ``$2`` and so on."""
        return sge.Placeholder(this=str(number))

    def visit_Select(self, op: Any, **kwargs: Any) -> sge.Expression:  # noqa: N802
        """Return a SELECT; one that is ordered by a distance which it shows, by the name of it."""
        select = cast("sge.Expression", super().visit_Select(op, **kwargs))
        if any(isinstance(key.arg, VectorDistance) for key in op.sort_keys):
            shown = {
                item.this: item.args["alias"]
                for item in select.expressions
                if isinstance(item, sge.Alias) and item.alias not in op.parent.schema
            }
            for key in select.args["order"].expressions:
                if key.this in shown:  # the vector is one value then, and not two
                    key.set("this", sge.Column(this=shown[key.this].copy()))
        return select

    def visit_RowID(self, _: Any, *, table: Any) -> sge.Expression:  # noqa: N802
        """Return the version number of a row, which no other row has."""
        return sge.column("_seq", table=table.alias_or_name, quoted=True)

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:  # noqa: N802
        """Return a literal."""
        if dtype.is_json():
            return self.cast(value, dtype)
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)

    def to_sqlglot(self, *args: Any, **kwargs: Any) -> sge.Expression:
        """Return the tree of an expression."""
        tree: sge.Expression = super().to_sqlglot(*args, **kwargs)
        _list_tuples(tree)
        if tree.meta.get(TEXT):
            _unmark_ctes(tree)
        return tree

    def view_over(self, name: str, table: Any, query: str) -> sge.Expression:
        """Return ``query`` with ``table`` as a CTE called ``name`` before all others."""
        tree = as_text(parse_query(query))
        below = self.to_sqlglot(table)
        clause = below.args.pop("with_", None)
        ctes = clause.expressions if clause is not None else []
        alias = sge.TableAlias(this=sge.to_identifier(name, quoted=True))
        ctes = [*ctes, sge.CTE(this=below, alias=alias)]
        own = tree.args.get("with_")
        if own is None:
            tree.set("with_", sge.With(expressions=ctes))
        else:
            own.set("expressions", [*ctes, *own.expressions])
        _unmark_ctes(tree)
        return tree


def as_text(tree: sge.Expression) -> sge.Expression:
    """Mark a tree as parsed from text, whose arithmetic is PostgreSQL's."""
    prepare_text(tree)
    clause = tree.args.get("with_")
    for cte in clause.expressions if clause is not None else []:
        cte.this.meta[TEXT] = True  # ibis makes the CTE itself anew
    tree.meta[TEXT] = True
    return tree


def _list_tuples(tree: sge.Expression) -> None:
    """Make lists of tuples of nodes, which ibis uses here and there and sqlglot does not walk."""
    pending: list[Any] = [tree]
    while pending:
        node = pending.pop()
        for name, value in list(node.args.items()):
            if type(value) is tuple:
                node.set(name, list(value))
        pending.extend(node.iter_expressions())


def _unmark_ctes(tree: sge.Expression) -> None:
    """Mark the CTEs that ibis put before a text as what they are: no text."""
    clause = tree.args.get("with_")
    for cte in clause.expressions if clause is not None else []:
        cte.this.meta.setdefault(TEXT, False)


def view_text(tree: sge.Expression | sge.Query) -> str:
    """Return the text of a tree in our own SQL, for a view.

    Text means by ``/`` between whole numbers a whole number, and division by zero is an error in
    it; trees of ibis never mean that.
    """
    root = sge.Paren(this=tree.copy())  # so that every node has a parent
    pending: list[tuple[Any, bool]] = [(root, False)]
    while pending:
        node, is_text = pending.pop()
        is_text = node.meta.get(TEXT, is_text)
        children = list(node.iter_expressions())
        if not is_text and isinstance(node, sge.Div) and not node.args.get("typed"):
            node.replace(_quotient(node.this, node.expression))
        elif not is_text and isinstance(node, (sge.IntDiv, sge.Mod)):
            node.set("expression", sge.Nullif(this=node.expression, expression=_number(0)))
        pending.extend((child, is_text) for child in children)
    text: str = root.this.sql(KalamSql, comments=False)
    return text


def _quotient(left: Any, right: Any) -> sge.Expression:
    """Return a division of DOUBLEs, by zero too: infinite, or NaN of zero."""
    double = sge.Cast(this=left, to=sge.DataType.build("double"))
    quotient = sge.Div(this=double, expression=right)
    if isinstance(right, sge.Literal) and not right.is_string and float(right.name) != 0:
        return quotient
    is_zero = sge.EQ(this=sge.paren(right), expression=_number(0))
    infinity = sge.Cast(this=sge.Literal.string("inf"), to=sge.DataType.build("double"))
    case = sge.If(this=is_zero, true=sge.Mul(this=double.copy(), expression=infinity))
    return sge.Case(ifs=[case], default=quotient)


def _number(value: int) -> sge.Expression:
    return sge.Literal.number(value)


def transpiled(text: str, dialect: str) -> str:
    """Return a query in another dialect of SQL as text of our own.

    Raises
    ------
    SqlSyntaxError
        It is not one statement of that dialect.
    """
    try:
        trees = sqlglot.parse(text, read=dialect)
    except (sqlglot.errors.SqlglotError, ValueError):
        raise SqlSyntaxError(f"Syntax error: this is no query of the dialect {dialect}") from None
    if len(trees) != 1 or not isinstance(trees[0], sge.Query):
        raise SqlSyntaxError("Syntax error: expected one query")
    return view_text(trees[0])
