"""CREATE, ALTER and DROP of tables and views."""

from __future__ import annotations

from typing import Final

from sqlglot import TokenType

from kalamdb_lab.errors import (
    InvalidDefinitionError,
    InvalidNameError,
    InvalidOptionError,
    KalamError,
    NotSupportedError,
)
from kalamdb_lab.model.datatypes import BIGINT, KalamDataType, parse_type
from kalamdb_lab.model.ids import checked_column_name
from kalamdb_lab.model.tables import TableKind
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.cursor import LONGEST_NAME, Cursor
from kalamdb_lab.sql.queries import as_query, expression_of, parse_tokens
from kalamdb_lab.sql.statement_tokens import StatementTokens

_REFUSED_WORDS: Final = ("UNIQUE", "CHECK", "REFERENCES", "COLLATE", "GENERATED")
_CONSTRAINT_WORDS: Final = frozenset(
    {"PRIMARY", "AUTO_INCREMENT", "AUTOINCREMENT", "CONSTRAINT", *_REFUSED_WORDS}
)
_LONG_TYPES: Final = (("VARYING",), ("WITH", "TIME", "ZONE"), ("WITHOUT", "TIME", "ZONE"))
_SERIAL: Final = ("SERIAL", "BIGSERIAL")


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
        raise _refused(cursor, "CREATE TABLE ... LIKE")
    has_columns = cursor.accept("(")
    if has_columns:
        columns, key = _table_elements(cursor)
    options = _options(cursor) if cursor.accept("WITH") else ()
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
        columns = [_new_column(cursor)[0]]
        while cursor.accept(","):
            columns.append(_new_column(cursor)[0])
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
    """Read what follows ALTER TABLE."""
    table = cursor.table_name("ALTER TABLE")
    action = _alter_action(cursor)
    cursor.end()
    return s.AlterTable(table=table, action=action, **cursor.place())


def _alter_action(cursor: Cursor) -> s.AlterAction:
    if cursor.accept("ADD"):
        _refuse_constraint(cursor)
        cursor.accept("COLUMN")
        return s.AddColumn(_column_spec(cursor))
    if cursor.accept("MODIFY"):
        cursor.accept("COLUMN")
        return s.ModifyColumn(_column_spec(cursor))
    if cursor.accept("DROP"):
        if cursor.word() in ("INDEX", "VECTOR") and cursor.word(1):
            raise _refused(cursor, "DROP INDEX", " yet")
        _refuse_constraint(cursor)
        if cursor.word(1):
            cursor.accept("COLUMN")
        return s.DropColumn(cursor.column_name("a column name after DROP COLUMN")[0])
    if cursor.accept("RENAME"):
        if cursor.word() == "TO":
            raise _refused(cursor, "ALTER TABLE ... RENAME TO")
        cursor.accept("COLUMN")
        name, _ = cursor.column_name("a column name after RENAME COLUMN")
        cursor.expect("TO")
        return s.RenameColumn(name, _new_column(cursor)[0])
    if cursor.accept("SET"):
        return _access_level(cursor)
    if cursor.word() == "CREATE":
        raise _refused(cursor, "CREATE INDEX", " yet")
    if cursor.word() == "ALTER":
        raise _refused(cursor, "ALTER COLUMN", "; use MODIFY COLUMN")
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
    options = _options(cursor)
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
            raise _refused(cursor, "CREATE TABLE ... LIKE")
        at = cursor.at
        if cursor.accept("CONSTRAINT"):
            cursor.column_name("a name after CONSTRAINT")
            if cursor.word() != "PRIMARY":
                _refuse_constraint(cursor)
                raise cursor.missing("PRIMARY KEY")
        if cursor.accept("PRIMARY", "KEY"):
            if key is not None:
                raise cursor.located(InvalidDefinitionError("Only one PRIMARY KEY is allowed"), at)
            key = _key_column(cursor)
        else:
            _refuse_constraint(cursor)
            columns.append(_column_spec(cursor))
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


def _refuse_constraint(cursor: Cursor) -> None:
    if cursor.word() in ("UNIQUE", "CHECK", "REFERENCES") and cursor.word() != "":
        raise _refused(cursor, cursor.word())
    if cursor.word() == "FOREIGN" and cursor.word(1) == "KEY":
        raise _refused(cursor, "FOREIGN KEY")
    if cursor.word() == "CONSTRAINT" and cursor.word(2):
        cursor.at += 2
        _refuse_constraint(cursor)
        raise _refused(cursor, "CONSTRAINT")


def _new_column(cursor: Cursor) -> tuple[str, bool]:
    at = cursor.at
    name, quoted = cursor.column_name("a column name")
    try:
        if len(name) > LONGEST_NAME:
            raise InvalidNameError(
                f"Invalid column name '{name[:40]}...': use at most {LONGEST_NAME} characters"
            )
        return checked_column_name(name, quoted=quoted), quoted
    except KalamError as error:
        raise cursor.located(error, at) from None


def _column_spec(cursor: Cursor) -> s.ColumnSpec:
    name, quoted = _new_column(cursor)
    auto_increment = cursor.word() in _SERIAL
    data_type = _data_type(cursor, name)
    nullable: bool | None = None
    default_sql = default = None
    primary_key = False
    while not cursor.is_at_end() and cursor.word() not in (",", ")"):
        if cursor.accept("NOT", "NULL"):
            said: bool | None = False
        elif cursor.accept("NULL"):
            said = True
        else:
            said = None
        if said is not None:
            if nullable is not None:
                cursor.at -= 1
                raise cursor.near()
            nullable = said
        elif default_sql is None and cursor.accept("DEFAULT"):
            part = _default_tokens(cursor)
            default_sql, default = part.text, expression_of(part)
        elif not primary_key and cursor.accept("PRIMARY", "KEY"):
            primary_key = True
        elif not auto_increment and (
            cursor.accept("AUTO_INCREMENT") or cursor.accept("AUTOINCREMENT")
        ):
            auto_increment = True
            if not data_type.is_integer:
                raise cursor.located(
                    InvalidDefinitionError(f"Column '{name}': AUTO_INCREMENT needs a whole number"),
                    cursor.at - 1,
                )
        else:
            if cursor.word() in _REFUSED_WORDS:
                raise _refused(cursor, cursor.word())
            if cursor.word() == "AS":
                raise _refused(cursor, "GENERATED")
            raise cursor.near()
    return s.ColumnSpec(
        name=name,
        data_type=data_type,
        quoted=quoted,
        nullable=nullable,
        default_sql=default_sql,
        default=default,
        primary_key=primary_key,
        auto_increment=auto_increment,
    )


def _data_type(cursor: Cursor, column: str) -> KalamDataType:
    start = cursor.at
    first = cursor.word()
    if not first[:1].isalpha() or first in _CONSTRAINT_WORDS | {"NOT", "NULL", "DEFAULT", "AS"}:
        raise cursor.missing(f"a type after column '{column[:40]}'")
    cursor.at += 1
    _accept_long_type(cursor)
    if cursor.word() == "(":
        cursor.at = _closing(cursor) + 1
        _accept_long_type(cursor)
    while cursor.word() == "[":
        cursor.at = _closing(cursor) + 1
    if first in _SERIAL and cursor.at == start + 1:
        return BIGINT
    written = (
        cursor.source[token.start : token.end + 1] for token in cursor.tokens[start : cursor.at]
    )
    try:
        return parse_type(" ".join(written))
    except KalamError as error:
        raise cursor.located(error, start) from None


def _accept_long_type(cursor: Cursor) -> None:
    for words in _LONG_TYPES:
        if cursor.accept(*words):
            return


def _closing(cursor: Cursor) -> int:
    """Return the index of the bracket that closes the one that stands here."""
    depth = 0
    for at in range(cursor.at, len(cursor.words)):
        depth += _BRACKETS.get(cursor.words[at], 0)
        if depth == 0:
            return at
    raise cursor.missing(")")


_BRACKETS: Final = {"(": 1, "[": 1, "{": 1, "CASE": 1, ")": -1, "]": -1, "}": -1, "END": -1}


def _default_tokens(cursor: Cursor) -> StatementTokens:
    """Return the tokens of the expression after DEFAULT and step over them.

    It ends at a comma or closing parenthesis, or where the next constraint begins.
    """
    start, depth = cursor.at, 0
    at = start
    while at < len(cursor.words):
        word = cursor.words[at]
        depth += _BRACKETS.get(word, 0)
        if depth < 0 or (depth == 0 and _ends_default(cursor, at, start)):
            break
        at += 1
    if at == start:
        raise cursor.missing("an expression after DEFAULT")
    cursor.at = at
    return cursor.statement.part(start, at)


def _ends_default(cursor: Cursor, at: int, start: int) -> bool:
    word = cursor.words[at]
    if word == ",":
        return True
    if at == start:
        return False
    before = cursor.words[at - 1]
    if word == "NOT":
        return at + 1 < len(cursor.words) and cursor.words[at + 1] == "NULL" and before != "IS"
    if word == "NULL":
        kind = cursor.tokens[at - 1].token_type
        return before not in ("IS", "NOT") and (
            before in (")", "]", "}", "END", "NULL", "TRUE", "FALSE")
            or kind in (TokenType.STRING, TokenType.NUMBER, TokenType.IDENTIFIER, TokenType.VAR)
            or before[:1].isalpha()
        )
    return word in _CONSTRAINT_WORDS


def _options(cursor: Cursor) -> tuple[tuple[str, s.OptionValue], ...]:
    """Return ``(name = literal, ...)``, names in upper case."""
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


def _refused(cursor: Cursor, name: str, hint: str = "") -> KalamError:
    return cursor.located(NotSupportedError(f"{name} is not supported{hint}"))
