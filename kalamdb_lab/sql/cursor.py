"""Reading the tokens of a statement one after the other."""

from __future__ import annotations

from typing import TypedDict

from sqlglot import Token, TokenType

from kalamdb_lab.errors import (
    InvalidNameError,
    KalamError,
    NotSupportedError,
    SqlSyntaxError,
)
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, RESERVED_KEYWORDS, checked_name
from kalamdb_lab.sql.parameters import Parameters
from kalamdb_lab.sql.statement_tokens import StatementTokens, expected, near

LONGEST_NAME = 128


class Place(TypedDict):
    """What `Statement` asks of every statement."""

    text: str
    line: int
    column: int
    parameters: Parameters
    depth: int


class Cursor:
    """A place in the tokens of one statement, and the small steps that a grammar is made of.

    Attributes
    ----------
    at : int
        Index of the token to be read next.
    words : list of str
        For each token its word in upper case or its mark; empty for what is quoted.
    """

    def __init__(self, statement: StatementTokens) -> None:
        self.statement = statement
        self.source = statement.source
        self.tokens = statement.tokens
        self.at = 0
        self.words = [
            ""
            if token.token_type is TokenType.STRING or statement.source[token.start] == '"'
            else token.text.upper().rstrip()
            for token in statement.tokens
        ]

    def place(self, *, masked: Token | None = None) -> Place:
        """Return the common fields of the statement, with one token of its text masked."""
        text, first = self.statement.text, self.tokens[0]
        if masked is not None:
            text = (
                f"{self.source[first.start : masked.start]}'***'"
                f"{self.source[masked.end + 1 : self.tokens[-1].end + 1]}"
            )
        return Place(
            text=text,
            line=first.line,
            column=first.col,
            parameters=self.statement.parameters,
            depth=self.statement.depth,
        )

    def word(self, ahead: int = 0) -> str:
        """Return the word or mark ``ahead`` tokens from here; empty at the end."""
        at = self.at + ahead
        return self.words[at] if at < len(self.words) else ""

    def is_at_end(self) -> bool:
        return self.at >= len(self.tokens)

    def is_last(self) -> bool:
        """Return whether no token follows the one that stands here."""
        return self.at + 1 >= len(self.tokens)

    def accept(self, *words: str) -> bool:
        """Step over ``words`` if they stand here, and return whether they do."""
        end = self.at + len(words)
        if tuple(self.words[self.at : end]) != words:
            return False
        self.at = end
        return True

    def expect(self, *words: str) -> None:
        """Step over ``words``, or raise `SqlSyntaxError`."""
        for word in words:
            if not self.accept(word):
                raise self.missing(word)

    def end(self) -> None:
        """Raise `SqlSyntaxError` unless all tokens have been read."""
        if not self.is_at_end():
            raise self.near()

    def near(self) -> SqlSyntaxError:
        """Return the error for the token that stands here."""
        return near(self._here(), self.source)

    def missing(self, what: str) -> SqlSyntaxError:
        """Return the error for something that is expected here."""
        return expected(what, self._here())

    def located(self, error: KalamError, at: int | None = None) -> KalamError:
        """Return ``error`` with the place of a token: that at ``at``, or the next one."""
        token = self._here() if at is None else self.tokens[at]
        return error.at(token.line, token.col)

    def refused(self, name: str, hint: str = "") -> KalamError:
        """Return the error for something known that the language does not have."""
        return self.located(NotSupportedError(f"{name} is not supported{hint}"))

    def rest(self) -> StatementTokens:
        """Return all tokens from here on and step over them."""
        if self.is_at_end():
            raise self.missing("a query")
        part = self.statement.part(self.at, len(self.tokens))
        self.at = len(self.tokens)
        return part

    def string(self, what: str) -> str:
        """Return the quoted text that stands here."""
        if self.is_at_end() or self.tokens[self.at].token_type is not TokenType.STRING:
            raise self.missing(what)
        self.at += 1
        return self.tokens[self.at - 1].text

    def name_or_none(self) -> tuple[str, bool] | None:
        """Step over a name and return it as written and whether it is quoted.

        None, and no step, if there is something else; a reserved word is not a name.
        """
        if self.is_at_end():
            return None
        token, first = self.tokens[self.at], self.source[self.tokens[self.at].start]
        quoted = first == '"'
        if not quoted and (
            not (first.isalpha() or first == "_")
            or self.words[self.at].lower() in RESERVED_KEYWORDS
        ):
            return None
        self.at += 1
        return token.text, quoted

    def column_name(self, what: str) -> tuple[str, bool]:
        """Return a column name as written and whether it is quoted."""
        name = self.name_or_none()
        if name is None:
            if self.word().lower() in RESERVED_KEYWORDS:
                raise self.near()
            raise self.missing(what)
        return name

    def plain_name(self, thing: str, after: str, *, new: bool = False) -> str:
        """Return the folded name of a namespace; checked if it names a ``new`` one."""
        return self._part(f"{thing} after {after}", new=new)

    def table_name(
        self, after: str, *, thing: str = "a table name", new: bool = False
    ) -> tuple[str, ...]:
        """Return ``(table,)`` or ``(namespace, table)``, folded; checked if it is ``new``."""
        start = self.at
        what = f"{thing} after {after}"
        parts = [self._part(what, new=new and self.word(1) != ".")]
        while self.accept("."):
            parts.append(self._part(what, new=new and self.word(1) != "."))
        if len(parts) > 2:
            shown = ".".join(parts)[:LONGEST_NAME]
            raise self.located(
                SqlSyntaxError(f"Name '{shown}' has too many parts; write namespace.table"), start
            )
        return tuple(parts)

    def _part(self, what: str, *, new: bool) -> str:
        at = self.at
        name = self.name_or_none()
        if name is None:
            reserved = self.word().lower()
            if reserved != DEFAULT_NAMESPACE and not (new and reserved in RESERVED_KEYWORDS):
                raise self.missing(what)
            self.at += 1
            name = reserved, False
        text = name[0]
        try:
            if len(text) > LONGEST_NAME:
                raise InvalidNameError(
                    f"Invalid name '{text[:40]}...': use letters, digits and underscores, "
                    "starting with a letter, at most 64 characters"
                )
            if not new:
                return text.lower()
            return checked_name(text, namespace=what.startswith("a namespace"))
        except KalamError as error:
            raise self.located(error, at) from None

    def _here(self) -> Token:
        return self.tokens[min(self.at, len(self.tokens) - 1)]
