"""What a text says, one class per statement.

Names of namespaces, tables and views are folded; column names are as written. Trees are
sqlglot's: a placeholder is ``exp.Placeholder(this="1")``, counted from 1, in either style.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias

from sqlglot import exp

from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.model.tables import TableKind
from kalamdb_lab.sql.parameters import NO_PARAMETERS, Parameters

TableName: TypeAlias = tuple[str, ...]
"""``(table,)`` or ``(namespace, table)``, folded."""

OptionValue: TypeAlias = str | int | float | bool
"""A literal after ``=`` in WITH (...)."""


class DefaultMarker(enum.Enum):
    """The word DEFAULT where a value may stand."""

    DEFAULT = "DEFAULT"


DEFAULT: Final = DefaultMarker.DEFAULT

Value: TypeAlias = exp.Expression | DefaultMarker


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What all statements have.

    Attributes
    ----------
    kind : str
        What authorization, audit and errors call it.
    text : str
        The statement as written, without its ``;``. Passwords are masked.
    line, column : int
        1-based place of its first word in the text it came from.
    parameters : Parameters
        The placeholders it holds.
    depth : int
        How deep it nests; see `stack.with_deep_stack`.
    """

    kind: ClassVar[str]
    text: str
    line: int
    column: int
    parameters: Parameters = NO_PARAMETERS
    depth: int = 0


# Namespaces


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNamespace(Statement):
    """CREATE NAMESPACE [IF NOT EXISTS] n."""

    kind = "CREATE NAMESPACE"
    name: str
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DropNamespace(Statement):
    """DROP NAMESPACE [IF EXISTS] n [CASCADE]."""

    kind = "DROP NAMESPACE"
    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterNamespace(Statement):
    """ALTER NAMESPACE n SET DESCRIPTION 'text'."""

    kind = "ALTER NAMESPACE"
    name: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UseNamespace(Statement):
    """USE [NAMESPACE] n, SET NAMESPACE n."""

    kind = "USE"
    name: str


# Tables


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column as CREATE TABLE and ALTER TABLE write it.

    Attributes
    ----------
    nullable : bool or None
        None if neither NULL nor NOT NULL was written.
    default_sql, default : str or None, expression or None
        The DEFAULT as written, and its tree.
    auto_increment : bool
        AUTO_INCREMENT, SERIAL or BIGSERIAL was written.
    """

    name: str
    data_type: KalamDataType
    quoted: bool = False
    nullable: bool | None = None
    default_sql: str | None = None
    default: exp.Expression | None = field(default=None, compare=False)
    primary_key: bool = False
    auto_increment: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTable(Statement):
    """CREATE [USER|SHARED|STREAM] TABLE.

    Attributes
    ----------
    table_kind : TableKind or None
        The word before TABLE, if there was one; the option TYPE is among the options.
    primary_key : str or None
        The column of a PRIMARY KEY clause of the table.
    options : tuple of (str, literal)
        As written, in order, unchecked; names in upper case.
    query, query_sql : expression or None, str or None
        Of CREATE TABLE ... AS; then there are no columns.
    """

    kind = "CREATE TABLE"
    table: TableName
    table_kind: TableKind | None = None
    if_not_exists: bool = False
    columns: tuple[ColumnSpec, ...] = ()
    primary_key: str | None = None
    options: tuple[tuple[str, OptionValue], ...] = ()
    query: exp.Expression | None = None
    query_sql: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTable(Statement):
    """DROP [USER|SHARED|STREAM] TABLE [IF EXISTS] t."""

    kind = "DROP TABLE"
    table: TableName
    table_kind: TableKind | None = None
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class AddColumn:
    """ADD [COLUMN] c type [NOT NULL|NULL] [DEFAULT expr]."""

    column: ColumnSpec


@dataclass(frozen=True, slots=True)
class DropColumn:
    """DROP [COLUMN] c."""

    name: str


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """RENAME [COLUMN] c TO d."""

    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class ModifyColumn:
    """MODIFY [COLUMN] c type ...: what is None in the column was not said and is kept."""

    column: ColumnSpec


@dataclass(frozen=True, slots=True)
class SetAccessLevel:
    """SET TBLPROPERTIES (ACCESS_LEVEL = '...') or SET ACCESS LEVEL ...; the level unchecked."""

    level: str


@dataclass(frozen=True, slots=True)
class EmbedColumn:
    """Fill c from the texts of another column; no SQL says it, `Session.embed` does.

    Attributes
    ----------
    source : str
        The column with the texts.
    function : str
        The name of the embedding function, whose vectors have ``dimension`` components.
    replace : bool
        True if vectors that another function made may stay.
    """

    name: str
    source: str
    function: str
    dimension: int
    replace: bool = False


AlterAction: TypeAlias = (
    AddColumn | DropColumn | RenameColumn | ModifyColumn | SetAccessLevel | EmbedColumn
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterTable(Statement):
    """ALTER TABLE t, one action."""

    kind = "ALTER TABLE"
    table: TableName
    action: AlterAction


# Views


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateView(Statement):
    """CREATE [OR REPLACE] VIEW [IF NOT EXISTS] v [(c1, ...)] AS select."""

    kind = "CREATE VIEW"
    view: TableName
    query: exp.Expression
    query_sql: str
    columns: tuple[str, ...] | None = None
    or_replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DropView(Statement):
    """DROP VIEW [IF EXISTS] v."""

    kind = "DROP VIEW"
    view: TableName
    if_exists: bool = False


# Vector indexes


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateIndex(Statement):
    """CREATE INDEX [IF NOT EXISTS] [i] ON t USING ANN (c), ALTER TABLE t CREATE [VECTOR] INDEX c.

    Attributes
    ----------
    name : str or None
        None for the default name.
    options : tuple of (str, literal)
        As written, in order, unchecked; names in upper case.
    """

    kind = "CREATE INDEX"
    name: str | None = None
    table: TableName
    indexed_column: str
    if_not_exists: bool = False
    options: tuple[tuple[str, OptionValue], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIndex(Statement):
    """DROP INDEX [IF EXISTS] i, or ALTER TABLE t DROP [VECTOR] INDEX c: then ``name`` is None."""

    kind = "DROP INDEX"
    name: TableName | None = None
    table: TableName | None = None
    indexed_column: str | None = None
    if_exists: bool = False


# Rows


@dataclass(frozen=True, slots=True)
class Assignment:
    """``column = value`` in SET."""

    column: str
    value: Value


@dataclass(frozen=True, slots=True)
class OnConflict:
    """ON CONFLICT [(column)] DO NOTHING | DO UPDATE SET ... [WHERE ...].

    Attributes
    ----------
    column : str or None
        None only with DO NOTHING.
    assignments : tuple of Assignment
        Empty with DO NOTHING. ``excluded.c`` in a tree is the offered row.
    """

    column: str | None
    assignments: tuple[Assignment, ...] = ()
    where: exp.Expression | None = None

    @property
    def do_nothing(self) -> bool:
        return not self.assignments


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert(Statement):
    """INSERT INTO t [(cols)] VALUES ... | select | DEFAULT VALUES.

    Attributes
    ----------
    columns : tuple of str or None
        None if no list was written.
    rows : tuple of tuples, or None
        The rows of VALUES, which may differ in length; None if there is a query.
    default_values : bool
        DEFAULT VALUES was written: ``columns`` is empty, and ``rows`` is one empty row.
    returning : tuple of expression
        Empty without RETURNING; may hold ``exp.Alias`` and ``exp.Star``.
    """

    kind = "INSERT"
    table: TableName
    columns: tuple[str, ...] | None = None
    rows: tuple[tuple[Value, ...], ...] | None = None
    default_values: bool = False
    query: exp.Expression | None = None
    on_conflict: OnConflict | None = None
    returning: tuple[exp.Expression, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Statement):
    """UPDATE t [AS a] SET c = expr, ... WHERE cond [RETURNING ...]."""

    kind = "UPDATE"
    table: TableName
    alias: str | None = None
    assignments: tuple[Assignment, ...]
    where: exp.Expression
    returning: tuple[exp.Expression, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(Statement):
    """DELETE FROM t [AS a] WHERE cond [RETURNING ...]."""

    kind = "DELETE"
    table: TableName
    alias: str | None = None
    where: exp.Expression
    returning: tuple[exp.Expression, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Statement):
    """A query: SELECT, WITH, VALUES and their set operations."""

    kind = "SELECT"
    query: exp.Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Statement):
    """EXPLAIN of SELECT, INSERT, UPDATE or DELETE."""

    kind = "EXPLAIN"
    statement: Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteAs(Statement):
    """EXECUTE AS USER 'name' (statement)."""

    kind = "EXECUTE AS"
    user_id: str
    statement: Statement
