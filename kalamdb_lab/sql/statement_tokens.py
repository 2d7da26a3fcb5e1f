"""The tokens of a statement, and the errors that point at one of them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import Token, TokenType

from kalamdb_lab.errors import SqlSyntaxError
from kalamdb_lab.sql.parameters import Parameters


@dataclass(slots=True)
class StatementTokens:
    """The tokens of one statement, with where it stands in its text.

    Attributes
    ----------
    source : str
        The whole text: ``start`` and ``end`` of a token are offsets into it.
    depth : int
        How deep it nests.
    """

    tokens: list[Token]
    source: str
    depth: int
    parameters: Parameters

    @property
    def text(self) -> str:
        """The statement as it was written, comments within it included."""
        return self.source[self.tokens[0].start : self.tokens[-1].end + 1]

    def part(self, start: int, stop: int) -> StatementTokens:
        """Return the tokens from ``start`` up to ``stop`` as a statement of their own."""
        return StatementTokens(self.tokens[start:stop], self.source, self.depth, self.parameters)


def near(token: Token, source: str) -> SqlSyntaxError:
    """Return the error for a token that cannot stand where it stands.

    A string is not quoted: it may be a password.
    """
    if token.token_type is TokenType.STRING:
        what = "a quoted text"
    else:
        what = f"'{source[token.start : token.end + 1][:40]}'"
    return SqlSyntaxError(f"Syntax error near {what} (line {token.line}, column {token.col})").at(
        token.line, token.col
    )


def expected(what: str, token: Token) -> SqlSyntaxError:
    """Return the error for something that is missing at ``token``."""
    return SqlSyntaxError(f"Syntax error: expected {what}").at(token.line, token.col)
