"""The queries of a statement, and the tables that they name and do not define themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlglot import Token, TokenType, exp

from kalamdb_lab.errors import KalamError
from kalamdb_lab.sql.queries import parse_tokens
from kalamdb_lab.sql.tokens import tokenize

_WITH_QUERIES: Final = frozenset(
    "SELECT WITH VALUES ( INSERT UPDATE DELETE EXPLAIN EXECUTE CREATE".split()
)
"""First words of the statements in which snippets and local dataframes may be read."""

_SET_OPERATIONS: Final = ("UNION", "EXCEPT", "INTERSECT")
_OPEN: Final = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSE: Final = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)


@dataclass(frozen=True, slots=True)
class TableReference:
    """A table that a query names: its name as written, and the offset where it stands."""

    parts: tuple[str, ...]
    start: int


@dataclass(frozen=True, slots=True)
class OuterQuery:
    """A query of a statement that is in no other query.

    Attributes
    ----------
    start : int
        The offset where a CTE may be put before all others.
    has_with : bool
        True if it has CTEs of its own, so that what is put there ends in a comma.
    ctes : frozenset of str
        The names of its own CTEs, folded.
    tables : tuple of TableReference
        What it reads that is no CTE where it is named.
    """

    start: int
    has_with: bool
    ctes: frozenset[str]
    tables: tuple[TableReference, ...]


def outer_queries(sql: str) -> list[OuterQuery]:
    """Return the queries of one statement; none of one that cannot be read."""
    try:
        tokens = next(iter(tokenize(sql)))
        if tokens.tokens[0].text.upper() not in _WITH_QUERIES:
            return []
        found = []
        for start, stop in _spans(tokens.tokens):
            tree = parse_tokens(tokens.part(start, stop))
            found.append(_outer_query(tree, tokens.tokens[start:stop]))
    except KalamError:
        return []  # whoever runs the statement says what is wrong with it
    return found


def _spans(tokens: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """Yield from which token up to which each outer query reaches."""
    depth = base = 0
    start: int | None = None
    for at, token in enumerate(tokens):
        if token.token_type in _CLOSE:
            depth -= 1
            if start is not None and depth < base:
                yield start, at
                start = None
        elif start is None and _begins_query(tokens, at):
            start, base = at, depth
        elif start is not None and depth == base and _follows_query(tokens, at):
            yield start, at
            start = None
        depth += token.token_type in _OPEN
    if start is not None:
        yield start, len(tokens)


def _begins_query(tokens: Sequence[Token], at: int) -> bool:
    kind = tokens[at].token_type
    if kind is TokenType.WITH:  # of a table come options, of a user a password
        return _word(tokens, at + 1) not in ("(", "PASSWORD")
    return kind is TokenType.SELECT or (
        kind is TokenType.L_PAREN and _word(tokens, _closing(tokens, at) + 1) in _SET_OPERATIONS
    )


def _closing(tokens: Sequence[Token], at: int) -> int:
    """Return where the parenthesis is closed that is opened at ``at``."""
    depth = 0
    for end in range(at, len(tokens)):
        depth += (tokens[end].token_type in _OPEN) - (tokens[end].token_type in _CLOSE)
        if depth == 0:
            return end
    return len(tokens)


def _follows_query(tokens: Sequence[Token], at: int) -> bool:
    """Return whether what stands here belongs to an INSERT around the query."""
    kind = tokens[at].token_type
    if kind in (TokenType.RETURNING, TokenType.SEMICOLON):
        return True
    return (
        kind is TokenType.ON
        and _word(tokens, at + 1) == "CONFLICT"
        and _word(tokens, at + 2) in ("(", "DO")
    )


def _word(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].text.upper() if at < len(tokens) else ""


def _outer_query(tree: exp.Expression, tokens: Sequence[Token]) -> OuterQuery:
    has_with = tokens[0].token_type is TokenType.WITH
    start, names = tokens[0].start, frozenset[str]()
    if has_with:
        start = tokens[2 if _word(tokens, 1) == "RECURSIVE" else 1].start
        clause = next(node.args["with_"] for node in tree.walk() if node.args.get("with_"))
        names = frozenset(cte.alias.lower() for cte in clause.expressions)
    tables = sorted(_free_tables(tree), key=lambda table: table.start)
    return OuterQuery(start, has_with, names, tuple(tables))


def _free_tables(tree: exp.Expression) -> Iterator[TableReference]:
    pending: list[tuple[Any, frozenset[str]]] = [(tree, frozenset())]
    while pending:
        node, bound = pending.pop()
        clause = node.args.get("with_")
        if clause is not None:
            for cte in clause.expressions:
                name = cte.alias.lower()
                inner = bound | {name} if clause.args.get("recursive") else bound
                pending.append((cte.this, inner))
                bound = bound | {name}
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            parts = tuple(part.name for part in node.parts)
            if len(parts) > 1 or parts[0].lower() not in bound:
                yield TableReference(parts, int(node.parts[0].meta.get("start", 0)))
        for key, value in node.args.items():
            if key != "with_":
                children = value if isinstance(value, list) else [value]
                pending += [(child, bound) for child in children if isinstance(child, exp.Expr)]
