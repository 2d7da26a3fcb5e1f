"""Columns as CREATE TABLE and ALTER TABLE write them."""

from __future__ import annotations

from typing import Final

from sqlglot import TokenType

from kalamdb_lab.errors import (
    InvalidDefinitionError,
    InvalidNameError,
    KalamError,
)
from kalamdb_lab.model.datatypes import BIGINT, KalamDataType, parse_type
from kalamdb_lab.model.ids import checked_column_name
from kalamdb_lab.sql.cursor import LONGEST_NAME, Cursor
from kalamdb_lab.sql.queries import expression_of
from kalamdb_lab.sql.statement_tokens import StatementTokens
from kalamdb_lab.sql.statements import ColumnSpec

_REFUSED_WORDS: Final = ("UNIQUE", "CHECK", "REFERENCES", "COLLATE", "GENERATED")
_CONSTRAINT_WORDS: Final = frozenset(
    {"PRIMARY", "AUTO_INCREMENT", "AUTOINCREMENT", "CONSTRAINT", *_REFUSED_WORDS}
)
_LONG_TYPES: Final = (("VARYING",), ("WITH", "TIME", "ZONE"), ("WITHOUT", "TIME", "ZONE"))
_SERIAL: Final = ("SERIAL", "BIGSERIAL")


def refuse_constraint(cursor: Cursor) -> None:
    """Refuse by name a constraint, other than PRIMARY KEY, that begins here."""
    if cursor.word() in ("UNIQUE", "CHECK", "REFERENCES"):
        raise cursor.refused(cursor.word())
    if cursor.word() == "FOREIGN" and cursor.word(1) == "KEY":
        raise cursor.refused("FOREIGN KEY")
    if cursor.word() == "CONSTRAINT" and cursor.word(2):
        cursor.at += 2
        refuse_constraint(cursor)
        raise cursor.refused("CONSTRAINT")


def new_column(cursor: Cursor) -> tuple[str, bool]:
    """Return the checked name of a column to be, and whether it is quoted."""
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


def column_spec(cursor: Cursor, *, new: bool = True) -> ColumnSpec:
    """Read ``name type [NOT NULL|NULL] [DEFAULT expr] [PRIMARY KEY] [AUTO_INCREMENT]``.

    Parameters
    ----------
    new : bool
        False for a column that exists: its name is not checked.
    """
    name, quoted = new_column(cursor) if new else cursor.column_name("a column name")
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
                raise cursor.refused(cursor.word())
            if cursor.word() == "AS":
                raise cursor.refused("GENERATED")
            raise cursor.near()
    return ColumnSpec(
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
