"""CREATE, ALTER and DROP of tables and views."""

from __future__ import annotations

from sqlglot import TokenType

from kalamdb_lab.errors import (
    InvalidDefinitionError,
    InvalidOptionError,
    NotSupportedError,
)
from kalamdb_lab.model.tables import TableKind
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.columns import column_spec, new_column, refuse_constraint
from kalamdb_lab.sql.cursor import Cursor
from kalamdb_lab.sql.queries import as_query, parse_tokens


def table_kind(cursor: Cursor) -> TableKind | None:
    """Step over ``[USER|SHARED|STREAM] TABLE`` and return the kind, if one is written."""
    kind = None if cursor.word() == "TABLE" else TableKind(cursor.word().lower())
    cursor.at += 1 if kind is None else 2
    return kind


def create_table(cursor: Cursor) -> s.CreateTable:
    """Read CREATE TABLE from the kind on."""
    kind = table_kind(cursor)
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    table = cursor.table_name("CREATE TABLE", new=True)
    columns: tuple[s.ColumnSpec, ...] = ()
    key = query = query_sql = None
    if cursor.word() == "LIKE":
        raise cursor.refused("CREATE TABLE ... LIKE")
    has_columns = cursor.accept("(")
    if has_columns:
        columns, key = _table_elements(cursor)
    options = with_options(cursor) if cursor.accept("WITH") else ()
    if not has_columns:
        if not cursor.accept("AS"):
            raise cursor.missing("( or AS after the table name")
        part = cursor.rest()
        query, query_sql = as_query(parse_tokens(part), part), part.text
    cursor.end()
    return s.CreateTable(
        table=table,
        table_kind=kind,
        if_not_exists=if_not_exists,
        columns=columns,
        primary_key=key,
        options=options,
        query=query,
        query_sql=query_sql,
        **cursor.place(),
    )


def drop_table(cursor: Cursor) -> s.DropTable:
    """Read DROP TABLE from the kind on."""
    kind = table_kind(cursor)
    if_exists = cursor.accept("IF", "EXISTS")
    table = cursor.table_name("DROP TABLE")
    cursor.end()
    return s.DropTable(table=table, table_kind=kind, if_exists=if_exists, **cursor.place())


def create_view(cursor: Cursor, *, or_replace: bool) -> s.CreateView:
    """Read what follows CREATE VIEW."""
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    if or_replace and if_not_exists:
        cursor.at -= 3
        raise cursor.near()
    view = cursor.table_name("CREATE VIEW", thing="a view name", new=True)
    columns: list[str] | None = None
    if cursor.accept("("):
        columns = [new_column(cursor)[0]]
        while cursor.accept(","):
            columns.append(new_column(cursor)[0])
        cursor.expect(")")
    cursor.expect("AS")
    part = cursor.rest()
    return s.CreateView(
        view=view,
        query=as_query(parse_tokens(part), part),
        query_sql=part.text,
        columns=None if columns is None else tuple(columns),
        or_replace=or_replace,
        if_not_exists=if_not_exists,
        **cursor.place(),
    )


def drop_view(cursor: Cursor) -> s.DropView:
    """Read what follows DROP VIEW."""
    if_exists = cursor.accept("IF", "EXISTS")
    view = cursor.table_name("DROP VIEW", thing="a view name")
    cursor.end()
    return s.DropView(view=view, if_exists=if_exists, **cursor.place())


def alter_table(cursor: Cursor) -> s.AlterTable:
    """Read what follows ALTER TABLE; what concerns an index is read by `indexes.of_table`."""
    table = cursor.table_name("ALTER TABLE")
    action = _alter_action(cursor)
    cursor.end()
    return s.AlterTable(table=table, action=action, **cursor.place())


def _alter_action(cursor: Cursor) -> s.AlterAction:
    if cursor.accept("ADD"):
        refuse_constraint(cursor)
        cursor.accept("COLUMN")
        return s.AddColumn(column_spec(cursor))
    if cursor.accept("MODIFY"):
        cursor.accept("COLUMN")
        return s.ModifyColumn(column_spec(cursor, new=False))
    if cursor.accept("DROP"):
        refuse_constraint(cursor)
        if not cursor.is_last():
            cursor.accept("COLUMN")
        return s.DropColumn(cursor.column_name("a column name after DROP COLUMN")[0])
    if cursor.accept("RENAME"):
        if cursor.word() == "TO":
            raise cursor.refused("ALTER TABLE ... RENAME TO")
        cursor.accept("COLUMN")
        name, _ = cursor.column_name("a column name after RENAME COLUMN")
        cursor.expect("TO")
        return s.RenameColumn(name, new_column(cursor)[0])
    if cursor.accept("SET"):
        return _access_level(cursor)
    if cursor.word() == "ALTER":
        raise cursor.refused("ALTER COLUMN", "; use MODIFY COLUMN")
    raise cursor.missing("ADD, DROP, RENAME, MODIFY or SET after ALTER TABLE")


def _access_level(cursor: Cursor) -> s.SetAccessLevel:
    if cursor.accept("ACCESS", "LEVEL"):
        at = cursor.at
        name = cursor.name_or_none()
        return s.SetAccessLevel(
            cursor.string("PUBLIC, PRIVATE or RESTRICTED after ACCESS LEVEL")
            if name is None
            else cursor.tokens[at].text
        )
    if not cursor.accept("TBLPROPERTIES"):
        raise cursor.missing("TBLPROPERTIES or ACCESS LEVEL after SET")
    at = cursor.at
    options = with_options(cursor)
    for option, _ in options:
        if option != "ACCESS_LEVEL":
            raise cursor.located(
                InvalidOptionError(
                    f"Option '{option[:40]}' cannot be changed; TBLPROPERTIES takes ACCESS_LEVEL"
                ),
                at,
            )
    if len(options) > 1:
        raise cursor.located(InvalidOptionError("Table option 'ACCESS_LEVEL' appears twice"), at)
    return s.SetAccessLevel(str(options[0][1]))


def _table_elements(cursor: Cursor) -> tuple[tuple[s.ColumnSpec, ...], str | None]:
    """Return the columns and the column of a PRIMARY KEY clause, up to the closing ``)``."""
    columns: list[s.ColumnSpec] = []
    key: str | None = None
    if cursor.accept(")"):
        return (), None
    while True:
        if cursor.word() == "LIKE":
            raise cursor.refused("CREATE TABLE ... LIKE")
        at = cursor.at
        if cursor.accept("CONSTRAINT"):
            cursor.column_name("a name after CONSTRAINT")
            if cursor.word() != "PRIMARY":
                refuse_constraint(cursor)
                raise cursor.missing("PRIMARY KEY")
        if cursor.accept("PRIMARY", "KEY"):
            if key is not None:
                raise cursor.located(InvalidDefinitionError("Only one PRIMARY KEY is allowed"), at)
            key = _key_column(cursor)
        else:
            refuse_constraint(cursor)
            columns.append(column_spec(cursor))
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return tuple(columns), key


def _key_column(cursor: Cursor) -> str:
    cursor.expect("(")
    at = cursor.at
    name, _ = cursor.column_name("a column name after PRIMARY KEY")
    if cursor.word() == ",":
        raise cursor.located(
            NotSupportedError("Composite primary keys are not supported; use one column"), at
        )
    cursor.expect(")")
    return name


def with_options(cursor: Cursor) -> tuple[tuple[str, s.OptionValue], ...]:
    """Read ``(name = literal, ...)`` behind WITH; names come in upper case, unchecked."""
    cursor.expect("(")
    options = [_option(cursor)]
    while cursor.accept(","):
        options.append(_option(cursor))
    cursor.expect(")")
    return tuple(options)


def _option(cursor: Cursor) -> tuple[str, s.OptionValue]:
    name = cursor.name_or_none()
    if name is None:
        raise cursor.missing("an option name")
    cursor.expect("=")
    return name[0].upper(), _literal(cursor)


def _literal(cursor: Cursor) -> s.OptionValue:
    sign = -1 if cursor.accept("-") else 1
    if not cursor.is_at_end():
        token = cursor.tokens[cursor.at]
        if token.token_type is TokenType.NUMBER:
            cursor.at += 1
            return sign * (int(token.text) if token.text.isdigit() else float(token.text))
        if sign > 0:
            if token.token_type is TokenType.STRING:
                return cursor.string("")
            if cursor.accept("TRUE"):
                return True
            if cursor.accept("FALSE"):
                return False
            word = cursor.name_or_none()
            if word is not None and not word[1]:
                return word[0]
    raise cursor.missing("a value after =")
