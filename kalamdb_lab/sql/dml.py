"""INSERT, UPDATE and DELETE: their frame is read here, their expressions by sqlglot.

The frame is checked on the tokens because sqlglot takes almost any word of it for optional.
Values of SET are put in parentheses before sqlglot sees them: its SET knows no AND and no OR.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from sqlglot import Token, TokenType, exp

from kalamdb_lab.errors import KalamError, MissingWhereError
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.cursor import Cursor
from kalamdb_lab.sql.queries import as_query, parse_tokens
from kalamdb_lab.sql.statement_tokens import StatementTokens, near

_OPEN: Final = frozenset("([{")
_CLOSE: Final = frozenset(")]}")
_QUERY_STARTS: Final = ("SELECT", "WITH", "(")
_QUERY_TOKENS: Final = (TokenType.SELECT, TokenType.WITH, TokenType.VALUES)
_ENDS_SET: Final = (",", ")", "WHERE", "RETURNING", "FROM", "ORDER BY", "LIMIT")

_Target: TypeAlias = tuple[str, int, int]
"""A column of SET, and where its value begins and ends among the tokens."""
_Targets: TypeAlias = Sequence[_Target]


def insert(cursor: Cursor) -> s.Insert:
    """Read an INSERT from its first word on."""
    cursor.expect("INSERT")
    if cursor.word() == "OR":
        raise cursor.refused(f"INSERT OR {cursor.word(1)[:40]}")
    cursor.expect("INTO")
    table = cursor.table_name("INSERT INTO")
    columns = _column_list(cursor)
    start = cursor.at
    conflict = _on_conflict_frame(cursor)
    defaults = cursor.accept("DEFAULT", "VALUES")
    has_rows = not defaults and cursor.word() == "VALUES"
    if has_rows:
        _check_rows(cursor)
    elif not defaults and cursor.word() not in _QUERY_STARTS:
        if cursor.is_at_end():
            raise cursor.missing("VALUES, a query or DEFAULT VALUES")
        raise cursor.near()
    tree = parse_tokens(_with_values_wrapped(cursor, () if conflict is None else conflict[1]))
    if not isinstance(tree, exp.Insert):
        raise near(cursor.tokens[0], cursor.source)
    source = tree.args.get("expression")
    rows: tuple[tuple[s.Value, ...], ...] | None = None
    query: exp.Expression | None = None
    if defaults:
        rows = ((),)
    elif has_rows and isinstance(source, exp.Values):
        rows = tuple(tuple(_value(item) for item in row.expressions) for row in source.expressions)
    elif isinstance(source, exp.Expression):
        query = as_query(source, cursor.statement.part(start, len(cursor.tokens)))
    else:
        raise near(cursor.tokens[start], cursor.source)
    return s.Insert(
        table=table,
        columns=() if defaults else columns,
        rows=rows,
        default_values=defaults,
        query=query,
        on_conflict=_on_conflict(cursor, tree, conflict),
        returning=_returning(tree),
        **cursor.place(),
    )


def update(cursor: Cursor) -> s.Update:
    """Read an UPDATE from its first word on."""
    cursor.expect("UPDATE")
    table = cursor.table_name("UPDATE")
    alias = _alias(cursor, before="SET")
    cursor.expect("SET")
    targets = _set_frame(cursor)
    _refuse_clauses(cursor, "UPDATE")
    if cursor.word() != "WHERE":
        raise _no_where(cursor, "UPDATE")
    tree = parse_tokens(_with_values_wrapped(cursor, targets))
    where = tree.args.get("where")
    if not isinstance(tree, exp.Update) or where is None:
        raise near(cursor.tokens[0], cursor.source)
    return s.Update(
        table=table,
        alias=alias,
        assignments=_assignments(cursor, tree.expressions, targets),
        where=where.this,
        returning=_returning(tree),
        **cursor.place(),
    )


def delete(cursor: Cursor) -> s.Delete:
    """Read a DELETE from its first word on."""
    cursor.expect("DELETE")
    cursor.expect("FROM")
    table = cursor.table_name("DELETE FROM")
    alias = _alias(cursor, before="WHERE")
    _refuse_clauses(cursor, "DELETE")
    if cursor.word() != "WHERE":
        raise _no_where(cursor, "DELETE")
    tree = parse_tokens(cursor.statement)
    where = tree.args.get("where")
    if not isinstance(tree, exp.Delete) or where is None:
        raise near(cursor.tokens[0], cursor.source)
    return s.Delete(
        table=table, alias=alias, where=where.this, returning=_returning(tree), **cursor.place()
    )


def _column_list(cursor: Cursor) -> tuple[str, ...] | None:
    if cursor.word() != "(" or cursor.word(1) in (*_QUERY_STARTS, "VALUES"):
        return None
    cursor.expect("(")
    columns = [cursor.column_name("a column name")[0]]
    while cursor.accept(","):
        columns.append(cursor.column_name("a column name")[0])
    cursor.expect(")")
    return tuple(columns)


def _check_rows(cursor: Cursor) -> None:
    """Refuse rows of VALUES that are not in parentheses, and what may not follow them."""
    at = cursor.at + 1
    while True:
        if at >= len(cursor.words) or cursor.words[at] != "(":
            cursor.at = at
            raise cursor.missing("(")
        at = _skipped(cursor, at)
        if at >= len(cursor.words) or cursor.words[at] != ",":
            break
        at += 1
    if at < len(cursor.words) and cursor.words[at] not in ("ON", "RETURNING"):
        raise near(cursor.tokens[at], cursor.source)


def _skipped(cursor: Cursor, at: int) -> int:
    """Return the index behind the bracket that closes the one at ``at``."""
    depth = 0
    while at < len(cursor.words):
        word = cursor.words[at]
        depth += (word in _OPEN) - (word in _CLOSE)
        at += 1
        if depth == 0:
            break
    return at


def _alias(cursor: Cursor, *, before: str) -> str | None:
    if cursor.accept("AS"):
        name = cursor.name_or_none()
        if name is None:
            raise cursor.missing("an alias after AS")
        return name[0]
    if cursor.word() in (before, "RETURNING", "ORDER BY", "FROM", "LIMIT", "USING"):
        return None
    name = cursor.name_or_none()
    return None if name is None else name[0]


def _set_frame(cursor: Cursor) -> list[_Target]:
    """Read ``c = value, ...`` and return each column with the places of its value.

    The cursor stops at the word that ends the list.
    """
    targets: list[_Target] = []
    while True:
        name, _ = cursor.column_name("a column name after SET")
        cursor.expect("=")
        start = at = cursor.at
        while at < len(cursor.words) and cursor.words[at] not in _ENDS_SET:
            word = cursor.words[at]
            is_distinct_from = word == "DISTINCT" and cursor.words[at + 1 : at + 2] == ["FROM"]
            at = _skipped(cursor, at) if word in _OPEN else at + 1 + is_distinct_from
        if at == start:
            raise cursor.missing(f"a value for column '{name[:40]}'")
        if cursor.tokens[start].token_type in _QUERY_TOKENS:
            raise cursor.near()
        targets.append((name, start, at))
        cursor.at = at
        if not cursor.accept(","):
            return targets


def _with_values_wrapped(cursor: Cursor, targets: _Targets) -> StatementTokens:
    """Return the statement with the values of SET in parentheses, and NULL for DEFAULT."""
    if not targets:
        return cursor.statement
    tokens: list[Token] = []
    done = 0
    for _, start, stop in targets:
        first, last = cursor.tokens[start], cursor.tokens[stop - 1]
        tokens += cursor.tokens[done:start]
        tokens.append(
            Token(TokenType.L_PAREN, "(", first.line, first.col, first.start, first.start)
        )
        if _is_default(cursor, start, stop):
            tokens.append(
                Token(TokenType.NULL, "NULL", first.line, first.col, first.start, first.end)
            )
        else:
            tokens += cursor.tokens[start:stop]
        tokens.append(Token(TokenType.R_PAREN, ")", last.line, last.col, last.end, last.end))
        done = stop
    tokens += cursor.tokens[done:]
    whole = cursor.statement
    return StatementTokens(tokens, whole.source, whole.depth + 1, whole.parameters)


def _is_default(cursor: Cursor, start: int, stop: int) -> bool:
    return stop == start + 1 and cursor.words[start] == "DEFAULT"


def _assignments(
    cursor: Cursor, equations: Sequence[exp.Expr], targets: _Targets
) -> tuple[s.Assignment, ...]:
    if len(equations) != len(targets):
        raise near(cursor.tokens[0], cursor.source)
    assignments: list[s.Assignment] = []
    for equation, (name, start, stop) in zip(equations, targets, strict=True):
        value = equation.args.get("expression")
        if not isinstance(equation, exp.EQ) or not isinstance(value, exp.Paren | exp.Subquery):
            raise near(cursor.tokens[start], cursor.source)
        new = s.DEFAULT if _is_default(cursor, start, stop) else value.this
        assignments.append(s.Assignment(name, new))
    return tuple(assignments)


def _value(node: exp.Expr) -> s.Value:
    if isinstance(node, exp.Var):
        return s.DEFAULT
    assert isinstance(node, exp.Expression)
    return node


def _returning(tree: exp.Expression) -> tuple[exp.Expression, ...]:
    clause = tree.args.get("returning")
    return () if clause is None else tuple(clause.expressions)


def _on_conflict_frame(cursor: Cursor) -> tuple[str | None, _Targets] | None:
    """Read ON CONFLICT, wherever it stands behind the cursor: its column, and its SET list.

    None without one. The cursor stays where it is.
    """
    start = cursor.at
    at = _find_on_conflict(cursor)
    if at is None:
        return None
    cursor.at = at + 2
    column: str | None = None
    if cursor.word() == "ON":
        raise cursor.refused("ON CONSTRAINT")
    if cursor.accept("("):
        column, _ = cursor.column_name("a column name after ON CONFLICT")
        if cursor.word() == ",":
            raise cursor.refused("ON CONFLICT with several columns")
        cursor.expect(")")
    cursor.expect("DO")
    targets: _Targets = ()
    if not cursor.accept("NOTHING"):
        if not cursor.accept("UPDATE"):
            raise cursor.missing("NOTHING or UPDATE after DO")
        if column is None:
            cursor.at = at + 2
            raise cursor.missing("a column in parentheses after ON CONFLICT")
        cursor.expect("SET")
        targets = _set_frame(cursor)
    if not cursor.is_at_end() and cursor.word() not in ("RETURNING", "WHERE"):
        raise cursor.near()
    if cursor.word() == "WHERE" and not targets:
        raise cursor.near()
    cursor.at = start
    return column, targets


def _find_on_conflict(cursor: Cursor) -> int | None:
    words, at = cursor.words, cursor.at
    while at < len(words):
        if words[at] == "ON" and words[at + 1 : at + 2] == ["DUPLICATE"]:
            cursor.at = at
            raise cursor.refused("ON DUPLICATE KEY")
        if words[at] == "ON" and words[at + 1 : at + 2] == ["CONFLICT"]:
            # A join of INSERT ... SELECT may be ON a column that is called conflict.
            behind = at + 2
            if words[behind : behind + 1] == ["("]:
                behind = _skipped(cursor, behind)
            if words[behind : behind + 1] in (["DO"], ["ON"], ["WHERE"], []):
                return at
        at = _skipped(cursor, at) if words[at] in _OPEN else at + 1
    return None


def _on_conflict(
    cursor: Cursor, tree: exp.Expression, frame: tuple[str | None, _Targets] | None
) -> s.OnConflict | None:
    clause = tree.args.get("conflict")
    if (clause is None) is not (frame is None):
        raise near(cursor.tokens[0], cursor.source)
    if clause is None or frame is None:
        return None
    column, targets = frame
    where = clause.args.get("where")
    return s.OnConflict(
        column,
        _assignments(cursor, clause.expressions, targets),
        None if where is None else where.this,
    )


def _refuse_clauses(cursor: Cursor, kind: str) -> None:
    """Refuse by name what other databases allow behind SET and the table of DELETE."""
    if cursor.word() in ("FROM", "USING"):
        raise cursor.refused(f"{kind} ... {cursor.word()}")
    at = cursor.at
    while at < len(cursor.words):
        word = cursor.words[at]
        if word in ("LIMIT", "ORDER BY"):
            cursor.at = at
            raise cursor.refused(f"{kind} ... {word}")
        at = _skipped(cursor, at) if word in _OPEN else at + 1


def _no_where(cursor: Cursor, kind: str) -> KalamError:
    if not cursor.is_at_end() and cursor.word() != "RETURNING":
        return cursor.near()
    message = f"{kind} needs a WHERE clause; use WHERE true for all rows"
    return cursor.located(MissingWhereError(message), 0)
