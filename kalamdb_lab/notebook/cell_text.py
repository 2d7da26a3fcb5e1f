"""The text of a cell: its statements, and the holes in them that Python values fill.

A scanner of the language's lexical rules finds them: what is inside a string, a quoted name or a
comment is never looked at, and a colon that belongs to a cast, a slice, a struct, a path or a
time is no parameter. ``?`` and ``$1`` are found too, because a cell has no values for them.
"""

from __future__ import annotations

import ast
import contextlib
import enum
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from kalamdb_lab.errors import ParametersError, SqlSyntaxError

IDENT_FILTER: Final = "ident"

_OPENERS: Final = {"(": ")", "[": "]", "{": "}"}
_BEFORE_OPERAND: Final = frozenset(
    "ALL AND ANY ARRAY AS BETWEEN BY CASE DISTINCT ELSE FROM HAVING IN IS LIKE LIMIT NOT OFFSET ON "
    "OR QUALIFY RETURNING SELECT SET SOME THEN USING VALUES WHEN WHERE WITH".split()
)
"""After these words a bracket opens a list; after other words it is a subscript."""


class Kind(enum.Enum):
    """What a lexeme is; `WORD` stands for names, keywords and numbers alike."""

    WORD = "word"
    STRING = "string"
    QUOTED = "quoted name"
    COMMENT = "comment"
    MARK = "mark"
    VARIABLE = ":name"
    EXPRESSION = "{{expression}}"
    PLACEHOLDER = "placeholder"


_OPERANDS: Final = frozenset(
    {Kind.WORD, Kind.STRING, Kind.QUOTED, Kind.VARIABLE, Kind.EXPRESSION, Kind.PLACEHOLDER}
)


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A piece of the text, by its offsets; ``depth`` counts the brackets open around it."""

    kind: Kind
    start: int
    end: int
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Hole:
    """A place that a Python value fills.

    Attributes
    ----------
    code : str
        The Python expression; for ``:name`` the name.
    is_name : bool
        True for ``{{...|ident}}``: the value names a column or table.
    is_whole_list, is_in_list : bool
        It is all that stands after IN, with or without parentheses; it is one of several there.
    """

    start: int
    end: int
    code: str
    is_variable: bool
    is_name: bool = False
    is_whole_list: bool = False
    is_in_list: bool = False
    has_parentheses: bool = False


@dataclass(frozen=True, slots=True)
class CellStatement:
    """One statement of a cell: offsets into the cell's text, and its holes in order."""

    start: int
    end: int
    holes: tuple[Hole, ...]


def place_of(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of an offset, both from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def scan(text: str) -> list[Lexeme]:
    """Return the lexemes of a text in order; blanks are left out.

    What is not closed reaches to the end of the text: the engine says what is wrong with it.

    Raises
    ------
    SqlSyntaxError
        What stands between ``{{`` and ``}}`` is no Python expression.
    """
    return _Scanner(text).lexemes()


def scan_leniently(text: str) -> list[Lexeme]:
    """Return the lexemes of a text as far as it can be read; never raises."""
    scanner = _Scanner(text)
    with contextlib.suppress(SqlSyntaxError):
        scanner.lexemes()
    return scanner.found


def statements(text: str) -> list[CellStatement]:
    """Return the statements of a cell; empty ones are left out.

    Raises
    ------
    SqlSyntaxError
        A hole is no Python expression, or touches a word: it stands for a whole value.
    ParametersError
        A ``?`` or ``$1`` stands in the cell.
    """
    found: list[CellStatement] = []
    pending: list[Lexeme] = []
    for lexeme in scan(text):
        if lexeme.kind is Kind.MARK and text[lexeme.start] == ";" and lexeme.depth == 0:
            if pending:
                found.append(_statement(text, pending))
            pending = []
        elif lexeme.kind is not Kind.COMMENT:
            pending.append(lexeme)
    if pending:
        found.append(_statement(text, pending))
    return found


def _statement(text: str, lexemes: list[Lexeme]) -> CellStatement:
    holes: list[Hole] = []
    for at, lexeme in enumerate(lexemes):
        if lexeme.kind is Kind.PLACEHOLDER:
            written = text[lexeme.start : lexeme.end]
            raise ParametersError(
                f"'{written}' has no value in a cell; write :name or {{{{expression}}}}"
            ).at(*place_of(text, lexeme.start))
        if lexeme.kind in (Kind.VARIABLE, Kind.EXPRESSION):
            _check_alone(text, lexeme)
            holes.append(_hole(text, lexemes, at))
    return CellStatement(lexemes[0].start, lexemes[-1].end, tuple(holes))


def secret_literals(text: str) -> list[str]:
    """Return the passwords and credentials in a text, in their quotes; never raises."""
    lexemes = [lexeme for lexeme in scan_leniently(text) if lexeme.kind is not Kind.COMMENT]
    return [
        text[lexeme.start : lexeme.end]
        for before, lexeme in pairwise(lexemes)
        if lexeme.kind is Kind.STRING
        and text[before.start : before.end].upper() in ("PASSWORD", "CREDENTIALS")
    ]


def _check_alone(text: str, lexeme: Lexeme) -> None:
    around = text[lexeme.start - 1 : lexeme.start] + text[lexeme.end : lexeme.end + 1]
    if any(_is_word(character) or character in "'\"$" for character in around):
        raise SqlSyntaxError(
            "Syntax error: a parameter stands for a whole value and cannot touch a word or a "
            "quote; {{name|ident}} stands for a whole name"
        ).at(*place_of(text, lexeme.start))


def _hole(text: str, lexemes: list[Lexeme], at: int) -> Hole:
    lexeme = lexemes[at]
    if lexeme.kind is Kind.VARIABLE:
        code, is_name = text[lexeme.start + 1 : lexeme.end], False
    else:
        code, is_name = _expression(text[lexeme.start + 2 : lexeme.end - 2])

    def written(index: int) -> str:
        inside = 0 <= index < len(lexemes)
        return text[lexemes[index].start : lexemes[index].end].upper() if inside else ""

    is_bare = written(at - 1) == "IN"
    around = (index for index in range(at - 1, -1, -1) if lexemes[index].depth < lexeme.depth)
    opener = next(around, 0)
    is_inside = written(opener) == "(" and written(opener - 1) == "IN"
    is_only = is_inside and opener == at - 1 and written(at + 1) == ")"
    return Hole(
        lexeme.start,
        lexeme.end,
        code,
        is_variable=lexeme.kind is Kind.VARIABLE,
        is_name=is_name,
        is_whole_list=is_bare or is_only,
        is_in_list=is_inside and not is_only and _is_item(written(at - 1), written(at + 1)),
        has_parentheses=is_only,
    )


def _is_item(before: str, after: str) -> bool:
    return before in ("(", ",") and after in (")", ",")


def _expression(inside: str) -> tuple[str, bool]:
    """Return the Python expression of ``{{inside}}``, and whether it names something."""
    code, mark, last = inside.rpartition("|")
    if mark and last.strip() == IDENT_FILTER:
        return code.strip(), True
    return inside.strip(), False


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


class _Scanner:
    """Walks over a text once, keeping the brackets that are open."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.found: list[Lexeme] = []
        self._before: Lexeme | None = None  # the last that is no comment
        self._open: list[tuple[str, bool]] = []  # the closer; whether a colon means its own there

    def lexemes(self) -> list[Lexeme]:
        text, at = self._text, 0
        while at < len(text):
            if text[at].isspace():
                at += 1
            else:
                at = self._next(at)
        return self.found

    def _add(self, kind: Kind, start: int, end: int) -> int:
        lexeme = Lexeme(kind, start, end, len(self._open))
        self.found.append(lexeme)
        if kind is not Kind.COMMENT:
            self._before = lexeme
        return end

    def _next(self, at: int) -> int:
        text, character = self._text, self._text[at]
        if character in "'\"":
            kind = Kind.STRING if character == "'" else Kind.QUOTED
            return self._add(kind, at, self._quoted_end(at))
        if text.startswith("--", at):
            ends = [end for end in (text.find("\n", at), text.find("\r", at)) if end >= 0]
            return self._add(Kind.COMMENT, at, min(ends, default=len(text)))
        if text.startswith("/*", at):
            return self._add(Kind.COMMENT, at, self._comment_end(at))
        if text.startswith("{{", at):
            return self._add(Kind.EXPRESSION, at, self._expression_end(at))
        if _is_word(character):
            return self._add(Kind.WORD, at, self._word_end(at))
        if character == "?":
            return self._add(Kind.PLACEHOLDER, at, at + 1)
        if character == "$" and text[at + 1 : at + 2].isdigit():
            return self._add(Kind.PLACEHOLDER, at, self._word_end(at + 1))
        if character == ":":
            return self._colon(at)
        return self._mark(at)

    def _quoted_end(self, at: int) -> int:
        quote, end = self._text[at], at + 1
        while True:
            end = self._text.find(quote, end)
            if end < 0:
                return len(self._text)
            if not self._text.startswith(quote, end + 1):
                return end + 1
            end += 2

    def _comment_end(self, at: int) -> int:
        depth, end = 1, at + 2
        while depth:
            closer, opener = self._text.find("*/", end), self._text.find("/*", end)
            if closer < 0:
                return len(self._text)
            depth += 1 if 0 <= opener < closer else -1
            end = (opener if 0 <= opener < closer else closer) + 2
        return end

    def _expression_end(self, at: int) -> int:
        """Return the end of the first ``}}`` before which a whole Python expression stands."""
        end = at
        while (end := self._text.find("}}", end + 1)) >= 0:
            code, _ = _expression(self._text[at + 2 : end])
            try:
                ast.parse(f"({code}\n)", mode="eval")
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                continue
            return end + 2
        raise SqlSyntaxError(
            "Syntax error: what stands between {{ and }} is not a Python expression"
        ).at(*place_of(self._text, at))

    def _word_end(self, at: int) -> int:
        while at < len(self._text) and _is_word(self._text[at]):
            at += 1
        return at

    def _mark(self, at: int) -> int:
        character, before = self._text[at], self._before
        if character in _OPENERS:
            end = self._add(Kind.MARK, at, at + 1)
            is_subscript = before is not None and self._is_operand(before)
            owns_colons = character == "{" or (character == "[" and is_subscript)
            self._open.append((_OPENERS[character], owns_colons))
            return end
        if self._open and character == self._open[-1][0]:
            self._open.pop()
        elif character == "," and self._open and self._open[-1][0] == "}":
            self._open[-1] = ("}", True)
        return self._add(Kind.MARK, at, at + 1)

    def _is_operand(self, lexeme: Lexeme) -> bool:
        written = self._text[lexeme.start : lexeme.end]
        if lexeme.kind is Kind.MARK:
            return written in (")", "]", "}")
        return lexeme.kind in _OPERANDS and written.upper() not in _BEFORE_OPERAND

    def _colon(self, at: int) -> int:
        text, before = self._text, self._before
        following = text[at + 1 : at + 2]
        if following in (":", "="):
            return self._add(Kind.MARK, at, at + 2)
        is_separator = bool(self._open) and self._open[-1][1]
        if is_separator and self._open[-1][0] == "}":
            self._open[-1] = ("}", False)  # the key is read; its value may be a parameter
        touches = before is not None and before.end == at and self._is_adjoined(before)
        starts_name = following == "_" or following.isalpha()
        if is_separator or touches or not starts_name:
            return self._add(Kind.MARK, at, at + 1)
        return self._add(Kind.VARIABLE, at, self._word_end(at + 1))

    def _is_adjoined(self, before: Lexeme) -> bool:
        return before.kind in _OPERANDS or self._text[before.start] in ")]}"
