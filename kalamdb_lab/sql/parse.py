"""From text to typed statements. Each SELECT, INSERT, UPDATE and DELETE is parsed once, here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from sqlglot import TokenType

from kalamdb_lab.errors import KalamError, NotSupportedError, SqlSyntaxError
from kalamdb_lab.sql import (
    administration,
    definitions,
    dml,
    indexes,
    kalam_parser,
    live,
    storage_statements,
)
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.cursor import Cursor
from kalamdb_lab.sql.parameters import refuse_placeholders
from kalamdb_lab.sql.queries import as_query, parse_tokens
from kalamdb_lab.sql.refusals import refuse_known, spoken_kind
from kalamdb_lab.sql.statement_tokens import StatementTokens
from kalamdb_lab.sql.tokens import tokenize


def parse_script(text: str | bytes) -> list[s.Statement]:
    """Return the statements of a text, in order.

    Raises
    ------
    KalamError
        At the first fault: with ``statement_number``, ``line`` and ``column``.
    """
    return list(iterate_script(text))


def iterate_script(text: str | bytes) -> Iterator[s.Statement]:
    """Yield the statements of a text, each read when it is asked for.

    A fault is raised when it is reached, so that the statements before it can be run.
    """
    number = 1
    try:
        for tokens in tokenize(text):
            yield parse_statement(tokens)
            number += 1
    except KalamError as error:
        if error.statement_number is None:
            error.statement_number = number
        raise


def parse_statement(tokens: StatementTokens) -> s.Statement:
    """Return one statement."""
    cursor = Cursor(tokens)
    try:
        if tokens.parameters.count and (kind := spoken_kind(cursor)) is not None:
            refuse_placeholders(kind, tokens.parameters)
        semicolon = next((t for t in tokens.tokens if t.token_type is TokenType.SEMICOLON), None)
        if semicolon is not None and cursor.words[0] != "EXECUTE":
            raise SqlSyntaxError("Syntax error: expected )").at(semicolon.line, semicolon.col)
        read = _FIRST_WORDS.get(cursor.words[0])
        if read is None:
            refuse_known(cursor)
            raise cursor.near()
        return read(cursor)
    except KalamError as error:
        raise error.at(tokens.tokens[0].line, tokens.tokens[0].col) from None


def _select(cursor: Cursor) -> s.Select:
    if cursor.words[0] == "WITH":
        _refuse_with_before_change(cursor)
    tree = as_query(parse_tokens(cursor.statement), cursor.statement)
    return s.Select(query=tree, **cursor.place())


def _refuse_with_before_change(cursor: Cursor) -> None:
    depth = 0
    for at, word in enumerate(cursor.words):
        depth += (word in _OPEN) - (word in _CLOSE)
        if depth == 0 and word in ("INSERT", "UPDATE", "DELETE"):
            raise cursor.located(NotSupportedError(f"WITH ... {word} is not supported"), at)


def _explain(cursor: Cursor) -> s.Explain:
    cursor.at = 1
    if cursor.word() == "ANALYZE" or (cursor.word() == "(" and cursor.word(1) == "ANALYZE"):
        raise NotSupportedError("EXPLAIN ANALYZE is not supported")
    if cursor.word() not in _EXPLAINED:
        raise cursor.missing("SELECT, INSERT, UPDATE or DELETE after EXPLAIN")
    return s.Explain(statement=parse_statement(cursor.rest()), **cursor.place())


def _execute_as(cursor: Cursor) -> s.ExecuteAs:
    cursor.at = 1
    if not cursor.accept("AS", "USER"):
        raise cursor.missing("AS USER after EXECUTE")
    user_id = kalam_parser.user_id(cursor, "EXECUTE AS USER")
    cursor.expect("(")
    opened = cursor.at
    depth = 1
    pieces: list[tuple[int, int]] = []
    start = at = opened
    while True:
        mark = cursor.words[at]
        depth += (mark in _OPEN) - (mark in _CLOSE)
        if depth == 0 or (depth == 1 and mark == ";"):
            if at > start:
                pieces.append((start, at))
            start = at + 1
        if depth == 0:
            break
        at += 1
    cursor.at = at + 1
    cursor.end()
    if len(pieces) != 1:
        raise cursor.located(
            SqlSyntaxError("EXECUTE AS USER takes exactly one statement"), opened - 1
        )
    inner = cursor.statement.part(*pieces[0])
    if inner.tokens[0].text.upper() not in _EXECUTED:
        raise _not_in_execute_as(Cursor(inner))
    return s.ExecuteAs(user_id=user_id, statement=parse_statement(inner), **cursor.place())


def _not_in_execute_as(inner: Cursor) -> KalamError:
    kind = spoken_kind(inner)
    if kind is None:
        return inner.near()
    if kind == "EXECUTE AS":
        kind = "EXECUTE AS USER"
    return inner.located(
        NotSupportedError(
            f"{kind} is not allowed in EXECUTE AS USER; it takes SELECT, INSERT, UPDATE, DELETE "
            "or EXPLAIN"
        )
    )


def _create(cursor: Cursor) -> s.Statement:
    cursor.at = 1
    or_replace = cursor.accept("OR", "REPLACE")
    if cursor.accept("VIEW"):
        return definitions.create_view(cursor, or_replace=or_replace)
    if or_replace:
        raise NotSupportedError(f"CREATE OR REPLACE {cursor.word()[:40]} is not supported")
    if _is_table(cursor):
        return definitions.create_table(cursor)
    if cursor.accept("USER"):
        return kalam_parser.create_user(cursor)
    if cursor.accept("NAMESPACE"):
        return kalam_parser.create_namespace(cursor)
    if cursor.accept("STORAGE"):
        return storage_statements.create_storage(cursor)
    if cursor.accept("INDEX"):
        return indexes.create_index(cursor)
    return _unknown_object(cursor)


def _alter(cursor: Cursor) -> s.Statement:
    cursor.at = 1
    if cursor.accept("TABLE"):
        return indexes.of_table(cursor) or definitions.alter_table(cursor)
    if cursor.accept("USER"):
        return kalam_parser.alter_user(cursor)
    if cursor.accept("NAMESPACE"):
        return kalam_parser.alter_namespace(cursor)
    if cursor.accept("STORAGE"):
        return storage_statements.alter_storage(cursor)
    return _unknown_object(cursor)


def _drop(cursor: Cursor) -> s.Statement:
    cursor.at = 1
    if _is_table(cursor):
        return definitions.drop_table(cursor)
    if cursor.accept("VIEW"):
        return definitions.drop_view(cursor)
    if cursor.accept("USER"):
        return kalam_parser.drop_user(cursor)
    if cursor.accept("NAMESPACE"):
        return kalam_parser.drop_namespace(cursor)
    if cursor.accept("STORAGE"):
        return storage_statements.drop_storage(cursor)
    if cursor.accept("INDEX"):
        return indexes.drop_index(cursor)
    return _unknown_object(cursor)


def _is_table(cursor: Cursor) -> bool:
    return cursor.word() == "TABLE" or (
        cursor.word() in ("USER", "SHARED", "STREAM") and cursor.word(1) == "TABLE"
    )


def _unknown_object(cursor: Cursor) -> s.Statement:
    refuse_known(cursor)
    cursor.at = 1
    raise cursor.near()


def _after_first(read: Callable[[Cursor], s.Statement]) -> Callable[[Cursor], s.Statement]:
    def read_rest(cursor: Cursor) -> s.Statement:
        refuse_known(cursor)
        cursor.at = 1
        return read(cursor)

    return read_rest


_OPEN: Final = frozenset("([{")
_CLOSE: Final = frozenset(")]}")
_EXPLAINED: Final = ("SELECT", "WITH", "VALUES", "(", "INSERT", "UPDATE", "DELETE")
_EXECUTED: Final = (*_EXPLAINED, "EXPLAIN")
_FIRST_WORDS: Final[dict[str, Callable[[Cursor], s.Statement]]] = {
    "SELECT": _select,
    "WITH": _select,
    "VALUES": _select,
    "(": _select,
    "INSERT": dml.insert,
    "UPDATE": dml.update,
    "DELETE": dml.delete,
    "EXPLAIN": _explain,
    "EXECUTE": _execute_as,
    "CREATE": _create,
    "ALTER": _alter,
    "DROP": _drop,
    "USE": _after_first(kalam_parser.use),
    "SET": _after_first(kalam_parser.use),
    "DESCRIBE": _after_first(kalam_parser.describe),
    "DESC": _after_first(kalam_parser.describe),
    "SHOW": _after_first(kalam_parser.show),
    "STORAGE": _after_first(kalam_parser.storage),
    "FLUSH": _after_first(kalam_parser.flush),
    "OPTIMIZE": _after_first(kalam_parser.optimize),
    "VACUUM": _after_first(administration.vacuum),
    "ANALYZE": _after_first(administration.analyze),
    "REGISTER": _after_first(storage_statements.register_table),
    "UNREGISTER": _after_first(storage_statements.unregister_table),
    "BACKUP": _after_first(administration.backup),
    "RESTORE": _after_first(administration.restore),
    "KILL": _after_first(administration.kill),
    "CANCEL": _after_first(administration.cancel),
    "BEGIN": _after_first(administration.begin),
    "START": _after_first(administration.start_transaction),
    "COMMIT": _after_first(administration.commit),
    "END": _after_first(administration.end),
    "ROLLBACK": _after_first(administration.rollback),
    "SUBSCRIBE": _after_first(live.subscribe),
    "LIVE": _after_first(live.live),
}
STATEMENT_WORDS: Final = frozenset(word for word in _FIRST_WORDS if word.isalpha())
"""What statements begin with."""
