"""Where in a magic the cursor stands, for completion."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from kalamdb_lab.errors import SqlSyntaxError
from kalamdb_lab.notebook.cell_text import Kind, Lexeme, scan, scan_leniently
from kalamdb_lab.notebook.command_line import OPTIONS

_TAKES_VALUE: Final = ("--as", "--save", "--debug")
_BEFORE_TABLE: Final = frozenset("FROM JOIN INTO UPDATE TABLE DESCRIBE DESC TO OPTIMIZE".split())
_CLAUSES: Final = frozenset("SELECT FROM WHERE GROUP ORDER HAVING ON USING SET VALUES".split())
_NO_ALIAS: Final = frozenset(
    """AS ON USING WHERE GROUP ORDER HAVING LIMIT OFFSET UNION EXCEPT INTERSECT JOIN LEFT RIGHT FULL
    INNER CROSS NATURAL ASOF SEMI ANTI SET VALUES SELECT QUALIFY WINDOW RETURNING DEFAULT WITH
    """.split()
)
_CURSOR: Final = "\u02e3"
"""Stands at the cursor, so that there is a word; a letter that no plain name has."""

_LAST_NAME: Final = re.compile(r"\w*$")


class Spot(enum.Enum):
    """What may stand where the cursor is."""

    OPTION = "option"
    COMMAND = "rest of a command"
    SQL = "SQL"
    VALUE = "variable after a colon"
    PYTHON = "Python expression"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class MagicText:
    """The magic that the cursor is in.

    Attributes
    ----------
    text : str
        What follows the name of the magic.
    at : int
        Offset of the cursor into it.
    """

    text: str
    at: int
    is_cell: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where the cursor stands.

    Attributes
    ----------
    fragment : str
        What is typed of the word.
    words : tuple of str
        Before it: the words of the line, or those of the statement in upper case.
    may_begin : bool
        True where the SQL, or the command, begins.
    qualifier : tuple of str
        The names before the dots before it.
    is_quoted : bool
        It is in double quotes that are not closed.
    wants_table : bool
        A table's name is what is expected.
    tables : mapping of str to tuple of str
        Alias or last name to the name of each table of the statement, folded.
    connection : str or None
        What the line says after ``@``.
    """

    spot: Spot
    fragment: str = ""
    words: tuple[str, ...] = ()
    may_begin: bool = False
    qualifier: tuple[str, ...] = ()
    is_quoted: bool = False
    wants_table: bool = False
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    connection: str | None = None


def magic_at(full_text: str, line: int, column: int) -> MagicText | None:
    """Return the magic at a line and column (from 0) of a cell, if there is one."""
    lines = full_text.split("\n")
    offset = sum(len(text) + 1 for text in lines[:line]) + column
    start = len(full_text) - len(full_text.lstrip())
    if full_text.startswith("%%kalam", start):
        begin = start + len("%%kalam")
        return _magic(full_text[begin:], offset - begin, is_cell=True)
    text = lines[line]
    begin = text.find("%kalam")
    before = text[:begin].strip() if begin >= 0 else "?"
    if before and not before.endswith("="):
        return None
    begin += len("%kalam")
    return _magic(text[begin:], column - begin, is_cell=False)


def _magic(text: str, at: int, *, is_cell: bool) -> MagicText | None:
    return MagicText(text, at, is_cell) if at > 0 and text[0].isspace() else None


def place_of_cursor(magic: MagicText) -> Place:
    """Return where the cursor stands in a magic."""
    text, at = magic.text, magic.at
    head = text.partition("\n")[0]
    options, start = _options(head[:at] if at <= len(head) else f"{head} ")
    named = [word[1:] for word in options if word.startswith("@")]
    connection = named[-1] if named else None
    if at <= len(head) and not any(character.isspace() for character in head[start:at]):
        return Place(Spot.OPTION, head[start:at], options, may_begin=True, connection=connection)
    words = head[start:at].split()
    if not magic.is_cell and words and words[0] in _COMMANDS:
        fragment = "" if head[at - 1].isspace() else words.pop()
        return Place(Spot.COMMAND, fragment, tuple(words))
    return replace(_sql_place(" " * start + text[start:], at), connection=connection)


_COMMANDS: Final = frozenset("open close connections status tables snippets jobs system".split())


def _options(head: str) -> tuple[tuple[str, ...], int]:
    """Return the complete options of a line, and the offset of what follows them."""
    words: list[str] = []
    for match in re.finditer(r"\S+", head):
        word, is_complete = match[0], match.end() < len(head)
        takes = bool(words) and words[-1] in _TAKES_VALUE
        is_option = takes or word in OPTIONS or word.startswith("@") or word.endswith("<<")
        followed = head[match.end() :].lstrip().startswith("<<")
        if not is_complete or not (is_option or followed):
            return tuple(words), match.start()
        words.append(word)
    return tuple(words), len(head)


def _sql_place(text: str, at: int) -> Place:
    before = text[:at]
    try:
        lexemes = scan(before + _CURSOR)
    except SqlSyntaxError:  # braces that are not closed
        match = _LAST_NAME.search(before)
        fragment = match[0] if match is not None else ""
        is_filter = before[: len(before) - len(fragment)].rstrip().endswith("|")
        return Place(Spot.PYTHON, fragment, words=("|",) if is_filter else ())
    last = lexemes[-1]
    if last.kind is Kind.VARIABLE:
        return Place(Spot.VALUE, before[last.start + 1 :])
    if last.kind not in (Kind.WORD, Kind.QUOTED) or last.end <= at:
        return Place(Spot.NOTHING)
    is_quoted = last.kind is Kind.QUOTED
    fragment = before[last.start + is_quoted :]
    qualifier = _qualifier(before, lexemes)
    if fragment[:1].isdigit() or any(part[:1].isdigit() for part in qualifier):
        return Place(Spot.NOTHING)
    mine = _statement(before, lexemes[:-1], last.start)
    words = tuple(before[item.start : item.end].upper() for item in mine)
    rest = text[at:].removeprefix('"') if is_quoted else text[at:]
    whole = before[: last.start] + _CURSOR + rest
    names = _Words(whole, _statement(whole, scan_leniently(whole), last.start))
    return Place(
        Spot.SQL,
        fragment,
        words,
        may_begin=not words,
        qualifier=qualifier,
        is_quoted=is_quoted,
        wants_table=not qualifier and _wants_table(words, mine, last.depth),
        tables=dict(names.tables()),
    )


def _qualifier(text: str, lexemes: Sequence[Lexeme]) -> tuple[str, ...]:
    parts: list[str] = []
    at, start = len(lexemes) - 2, lexemes[-1].start
    while at >= 1 and lexemes[at].end == start and text[lexemes[at].start] == ".":
        name = lexemes[at - 1]
        if name.kind not in (Kind.WORD, Kind.QUOTED) or name.end != lexemes[at].start:
            break
        parts.insert(0, _unquoted(text[name.start : name.end]))
        at, start = at - 2, name.start
    return tuple(parts)


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _statement(text: str, lexemes: Sequence[Lexeme], at: int) -> list[Lexeme]:
    """Return the lexemes of the statement around an offset, comments left out."""
    found: list[Lexeme] = []
    for lexeme in lexemes:
        if (
            lexeme.kind is Kind.MARK
            and lexeme.depth == 0
            and text[lexeme.start : lexeme.end] == ";"
        ):
            if lexeme.start >= at:
                break
            found = []
        elif lexeme.kind is not Kind.COMMENT:
            found.append(lexeme)
    return found


def _wants_table(words: Sequence[str], lexemes: Sequence[Lexeme], depth: int) -> bool:
    if not words or words[-1] in _BEFORE_TABLE:
        return bool(words)
    if words[-1] != ",":
        return False
    around = zip(reversed(words), reversed(lexemes), strict=True)
    clause = (word for word, item in around if item.depth == depth and word in _CLAUSES)
    return next(clause, "") == "FROM"


class _Words:
    """The words of a statement, from which its tables are read."""

    def __init__(self, text: str, lexemes: Sequence[Lexeme]) -> None:
        self._lexemes = lexemes
        self._words = [text[item.start : item.end] for item in lexemes]

    def tables(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield alias and name of the tables that the statement names."""
        for at, word in enumerate(self._words):
            if word.upper() in _BEFORE_TABLE:
                yield from self._from(at + 1)
            elif (
                word.upper() == "AS" and self._word(at + 1) == "(" and self._is_name(at - 1)
            ):  # a CTE
                name = _unquoted(self._words[at - 1]).lower()
                yield from self._named(name, (name,))

    def _from(self, at: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        while self._is_name(at):
            parts = [_unquoted(self._words[at]).lower()]
            at += 1
            while self._word(at) == "." and self._is_name(at + 1):
                parts.append(_unquoted(self._words[at + 1]).lower())
                at += 2
            yield from self._named(parts[-1], parts)
            at += self._word(at) == "AS"
            if self._is_name(at) and self._word(at) not in _NO_ALIAS:
                yield from self._named(_unquoted(self._words[at]).lower(), parts)
                at += 1
            if self._word(at) != ",":
                return
            at += 1

    def _word(self, at: int) -> str:
        return self._words[at].upper() if at < len(self._words) else ""

    def _is_name(self, at: int) -> bool:
        return 0 <= at < len(self._words) and self._lexemes[at].kind in (Kind.WORD, Kind.QUOTED)

    def _named(self, name: str, parts: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield a name and what it names, unless it is still being typed."""
        if _CURSOR not in name and _CURSOR not in parts[-1]:
            yield name, tuple(parts)
