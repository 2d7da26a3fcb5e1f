"""SQL made of what a method of a session was given: names, and a condition of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from kalamdb_lab.errors import SqlSyntaxError, TypeMismatchError
from kalamdb_lab.model.datatypes import TypeKind
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.sql.parameters import NO_PARAMETERS, ParameterStyle, bind_count
from kalamdb_lab.sql.statements import Select
from kalamdb_lab.tables.definition import column_not_found

if TYPE_CHECKING:
    from kalamdb_lab.engine.pipeline import ParseCache


@dataclass(frozen=True, slots=True)
class Condition:
    """WHERE as it is written after a table.

    Attributes
    ----------
    text : str
        `` WHERE (...)``, or nothing.
    next_parameter : str
        How one more parameter is written after those in it.
    """

    text: str
    next_parameter: str


def condition_of(
    parsed: ParseCache, table: str, where: str | None, params: Sequence[object]
) -> Condition:
    """Return a condition over a table, which must be one and no more.

    Raises
    ------
    SqlSyntaxError
        It is none, or goes on after its end.
    ParametersError
        There are more or fewer parameters than placeholders in it.
    """
    if where is None:
        bind_count("SELECT", NO_PARAMETERS, params)
        return Condition("", "?")
    text = f" WHERE ({where}\n)"
    (statement, *others) = parsed.statements(f"SELECT 1 FROM {table}{text}")
    tree = statement.query if isinstance(statement, Select) else None
    clauses = {name for name, value in tree.args.items() if value} if tree is not None else set()
    is_one = not others and clauses - {"kind"} == {"expressions", "from_", "where"}
    if tree is None or not is_one or not isinstance(tree.args["where"].this, exp.Paren):
        raise SqlSyntaxError("Syntax error: where must be one condition")
    parameters = statement.parameters
    bind_count(statement.kind, parameters, params)
    is_numbered = parameters.style is ParameterStyle.NUMBERED
    return Condition(text, f"${parameters.count + 1}" if is_numbered else "?")


def column_of(table: TableDef, name: str, kind: TypeKind) -> ColumnDef:
    """Return a column of a table by its name.

    Raises
    ------
    NotFoundError, TypeMismatchError
        It is not there, or of another type.
    """
    column = table.column(name)
    if column is None:
        raise column_not_found(table, name)
    if column.data_type.kind is not kind:
        article = "a TEXT" if kind is TypeKind.TEXT else "an EMBEDDING"
        raise TypeMismatchError(f"Column '{column.name}' is not {article} column")
    return column


def quoted(name: str) -> str:
    """Return a name as SQL that nothing in it can end."""
    doubled = str(name).replace('"', '""')
    return f'"{doubled}"'
