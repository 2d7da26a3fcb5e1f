"""SUBSCRIBE and LIVE SELECT: one table, a row condition, and options."""

from __future__ import annotations

from typing import Final

from sqlglot import Token, TokenType, exp

from kalamdb_lab.errors import (
    InvalidDefinitionError,
    InvalidOptionError,
    KalamError,
    NotFoundError,
    NotSupportedError,
)
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.cursor import Cursor
from kalamdb_lab.sql.queries import as_query, parse_tokens
from kalamdb_lab.sql.statement_tokens import StatementTokens

_LARGEST: Final = 2**63 - 1
_RANGES: Final = {
    "last_rows": (0, _LARGEST),
    "batch_size": (1, 100_000),
    "from_seq_id": (0, _LARGEST),
}
_QUERY_STARTS: Final = ("SELECT", "WITH", "VALUES", "(")
_OPEN: Final = frozenset("([{")
_CLOSE: Final = frozenset(")]}")


def subscribe(cursor: Cursor) -> c.Subscribe:
    """Read what follows SUBSCRIBE."""
    if not cursor.accept("TO"):
        raise cursor.missing("SUBSCRIBE TO")
    if cursor.word() in _QUERY_STARTS:
        return _subscription(cursor, cursor.at, ())
    start = cursor.at
    cursor.table_name("SUBSCRIBE TO")
    return _subscription(cursor, start, _select_all_from(cursor.tokens[start]))


def live(cursor: Cursor) -> c.Subscribe:
    """Read what follows LIVE."""
    if cursor.word() != "SELECT":
        raise cursor.missing("SELECT after LIVE")
    return _subscription(cursor, cursor.at, ())


def as_subscription(select: s.Select) -> c.Subscribe:
    """Return a plain SELECT as LIVE SELECT reads it.

    Raises
    ------
    NotSupportedError, NotFoundError, InvalidDefinitionError
        It is more than the rows of one table.
    """
    table, alias = _only_table(select.query)
    return c.Subscribe(
        text=select.text,
        line=select.line,
        column=select.column,
        parameters=select.parameters,
        depth=select.depth,
        table=table,
        alias=alias,
        columns=_columns(select.query, alias or table[-1]),
        where=_condition(select.query),
    )


def checked_option(name: str, value: object) -> int:
    """Return the value of an option, in SQL or beside it.

    Raises
    ------
    InvalidOptionError
        An unknown name, or no whole number in the range of the option.
    """
    known = _RANGES.get(name)
    if known is None:
        raise InvalidOptionError(
            f"Unknown subscription option '{name[:40]}'; use last_rows, batch_size or from_seq_id"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidOptionError(
            f"Option {name} must be a whole number, not '{_shown(value)[:40]}'"
        )
    lowest, highest = known
    if not lowest <= value <= highest:
        if highest == _LARGEST and value < lowest:
            raise InvalidOptionError(f"Option {name} must be 0 or more, not {_shown(value)[:40]}")
        raise InvalidOptionError(
            f"Option {name} must be {lowest} to {highest:,}, not {_shown(value)[:40]}"
        )
    return value


def _shown(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than Python writes
        return "a larger number"


def _subscription(cursor: Cursor, start: int, before: tuple[Token, ...]) -> c.Subscribe:
    """Return what the tokens from ``start`` on ask for, read as SELECT behind ``before``."""
    stop = _start_of_options(cursor)
    part = cursor.statement.part(start, stop)
    select = as_query(
        parse_tokens(
            StatementTokens([*before, *part.tokens], part.source, part.depth, part.parameters)
        ),
        part,
    )
    cursor.at = stop
    options = _options(cursor) if cursor.accept("OPTIONS") else {}
    cursor.end()
    try:
        table, alias = _only_table(select)
        return c.Subscribe(
            table=table,
            alias=alias,
            columns=_columns(select, alias or table[-1]),
            where=_condition(select),
            last_rows=options.get("last_rows"),
            batch_size=options.get("batch_size"),
            from_seq_id=options.get("from_seq_id"),
            **cursor.place(),
        )
    except KalamError as error:
        raise cursor.located(error, start) from None


def _select_all_from(place: Token) -> tuple[Token, ...]:
    words = ((TokenType.SELECT, "SELECT"), (TokenType.STAR, "*"), (TokenType.FROM, "FROM"))
    return tuple(
        Token(kind, text, place.line, place.col, place.start, place.start) for kind, text in words
    )


def _start_of_options(cursor: Cursor) -> int:
    """Return the index of ``OPTIONS (``, or that of the end; a column may be called options."""
    depth = 0
    for at in range(cursor.at, len(cursor.words)):
        word = cursor.words[at]
        if depth == 0 and word == "OPTIONS" and cursor.words[at + 1 : at + 2] == ["("]:
            return at
        depth += (word in _OPEN) - (word in _CLOSE)
    return len(cursor.words)


def _options(cursor: Cursor) -> dict[str, int]:
    options: dict[str, int] = {}
    cursor.expect("(")
    while True:
        at, name = cursor.at, cursor.word().lower()
        if not name[:1].isalpha():  # a reserved word too: people try LIMIT
            raise cursor.missing("an option name")
        cursor.at += 1
        cursor.expect("=")
        try:
            value = checked_option(name, _value(cursor))
            if name in options:
                raise InvalidOptionError(f"Option {name} appears twice")
        except KalamError as error:
            raise cursor.located(error, at) from None
        options[name] = value
        if not cursor.accept(","):
            break
    cursor.expect(")")
    return options


def _value(cursor: Cursor) -> int | str:
    """Return a whole number, or the text of what stands in its place."""
    sign = "-" if cursor.accept("-") else ""
    if cursor.is_at_end() or cursor.word() in (",", ")"):
        raise cursor.missing("a value after =")
    token = cursor.tokens[cursor.at]
    cursor.at += 1
    if token.token_type is TokenType.NUMBER and token.text.isdigit():
        # int() gives up on thousands of digits; no option is as large.
        return int(sign + token.text[:40])
    if token.token_type is TokenType.PARAMETER:
        cursor.at += 1  # the lexer adds its number
        return "?"
    return sign + token.text


def _only_table(select: exp.Expression) -> tuple[s.TableName, str | None]:
    """Return the name and the alias of the one table of a SELECT without further clauses."""
    source = select.args.get("from_")
    table = None if source is None else source.this
    if (
        not isinstance(select, exp.Select)
        or any(
            value and name not in ("expressions", "from_", "where")
            for name, value in select.args.items()
        )
        or not isinstance(table, exp.Table)
        or not isinstance(table.this, exp.Identifier)
        or any(value and name not in ("this", "db", "alias") for name, value in table.args.items())
    ):
        raise more_than_a_table()
    alias = table.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        raise more_than_a_table()
    parts = (table.db, table.name) if table.db else (table.name,)
    return tuple(part.lower() for part in parts), alias.name if alias is not None else None


def _columns(select: exp.Expression, name: str) -> tuple[str, ...] | None:
    """Return the names in the column list, or None for ``*``."""
    columns: list[str] = []
    items = select.expressions
    for item in items:
        if isinstance(item, exp.Column) and item.table and item.table.lower() != name.lower():
            error = NotFoundError("Table or alias", item.table[:40])
            error.message = f"Table or alias '{error.name}' is not in FROM"
            raise error
        is_star = item.is_star and not isinstance(item, exp.AggFunc)
        star = item.this if isinstance(item, exp.Column) else item
        if is_star and len(items) == 1 and not any(star.args.values()):
            return None
        if is_star or not isinstance(item, exp.Column) or item.args.get("db"):
            if item.find(exp.AggFunc, exp.Window, exp.Query) is not None:
                raise more_than_a_table()
            raise NotSupportedError("A live query lists columns or *; other values are not allowed")
        if item.name.lower() in (column.lower() for column in columns):
            raise InvalidDefinitionError(f"Column '{item.name[:40]}' appears twice")
        columns.append(item.name)
    return tuple(columns)


def _condition(select: exp.Expression) -> exp.Expression | None:
    where = select.args.get("where")
    if where is None:
        return None
    for refused, kinds in _REFUSED_IN_CONDITION.items():
        if where.find(*kinds) is not None:
            raise NotSupportedError(f"{refused} are not supported in the WHERE of a live query")
    if any(call.name.lower() in _NEW_EACH_TIME for call in where.find_all(exp.Anonymous)):
        raise NotSupportedError(f"{_RANDOM} are not supported in the WHERE of a live query")
    condition = where.this
    assert isinstance(condition, exp.Expression)
    return condition


def more_than_a_table() -> NotSupportedError:
    """Return the error for what is more, or other, than the rows of one table."""
    return NotSupportedError(
        "Live queries read one table; joins, grouping, ORDER BY, LIMIT and views are not supported"
    )


_RANDOM: Final = "Random values and new ids"
_REFUSED_IN_CONDITION: Final[dict[str, tuple[type[exp.Expr], ...]]] = {
    "Subqueries": (exp.Query, exp.Exists),
    "Window functions": (exp.Window,),
    "Aggregates": (exp.AggFunc,),
    _RANDOM: (exp.Rand, exp.Uuid),
}
_NEW_EACH_TIME: Final = frozenset(
    {"random", "uuid", "uuidv4", "uuidv7", "uuid_v7", "gen_random_uuid", "ulid", "snowflake_id"}
)
"""Functions after which nobody can tell whether a row matched before it changed."""
