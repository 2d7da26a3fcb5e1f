"""The line of a magic: options, then a command or SQL."""

from __future__ import annotations

import difflib
import keyword
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from kalamdb_lab.errors import InvalidOptionError, ParametersError

COMMANDS: Final = (
    *("open", "close", "connections", "status", "tables"),
    *("snippets", "jobs", "system"),
)
COMMAND_OPTIONS: Final = {"open": ("--user", "--namespace", "--name"), "snippets": ("--delete",)}
OPTIONS: Final = ("--all", "--as", "--explain", "--live", "--save", "--debug")
_SWITCHES: Final = {"--all": "shows_all", "--explain": "explains", "--live": "is_live"}
_EXCLUDED: Final = (
    ("--explain", "--live"),
    ("--explain", "--save"),
    ("--live", "--save"),
    ("--live", "--as"),
    ("--live", "--all"),
)
"""Options that say different things of the same statement."""
_ALONE: Final = frozenset({"begin", "commit", "end", "rollback"})
"""SQL statements of one word."""

Evaluate = Callable[[str, int], object]
"""Gives the value of the ``{{expression}}`` at an offset."""


@dataclass(slots=True)
class CommandLine:
    """What the line of a magic says.

    Attributes
    ----------
    connection : str or None
        After ``@``.
    user : str or None
        After ``--as``.
    shows_all, explains, is_live : bool
        ``--all``, ``--explain`` and ``--live``.
    save : str or None
        After ``--save``: the name of a snippet.
    target : str or None
        The variable before ``<<``.
    command : str or None
        One of `COMMANDS`, with its ``words`` and ``options``; None if what follows is SQL.
    sql_start : int
        Where the SQL begins in the line.
    """

    connection: str | None = None
    user: str | None = None
    shows_all: bool = False
    explains: bool = False
    is_live: bool = False
    save: str | None = None
    target: str | None = None
    debug: bool | None = None
    command: str | None = None
    words: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    sql_start: int = 0

    @property
    def needs_sql(self) -> bool:
        """True if it says something about SQL, so that there must be some."""
        return bool(
            self.user or self.target or self.shows_all or self.explains or self.is_live or self.save
        )


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int
    is_plain: bool


def parse_line(line: str, *, evaluate: Evaluate, is_cell: bool) -> CommandLine:
    """Read the options of a magic, which stand before the SQL.

    Raises
    ------
    InvalidOptionError
        An option or command that is not known, or lacks its value.
    """
    parsed = CommandLine()
    given: set[str] = set()
    reader = _Words(line, evaluate)
    while (word := reader.peek()) is not None and word.is_plain:
        text = word.text
        if text.startswith("@"):
            parsed.connection = reader.value_of("@") if text == "@" else text[1:]
            reader.skip(word)
        elif text.startswith("--") and text != "--":
            reader.skip(word)
            _read_option(text, parsed, reader)
        elif (target_end := reader.target_end(word)) is not None:
            parsed.target = text.removesuffix("<<")
            if not parsed.target.isidentifier() or keyword.iskeyword(parsed.target):
                raise InvalidOptionError(f"'{parsed.target}' cannot be the name of a variable")
            reader.at = target_end
        else:
            break
        given.add(text)
    for one, other in _EXCLUDED:
        if one in given and other in given:
            raise InvalidOptionError(f"{one} and {other} cannot be used together")
    parsed.sql_start = reader.at
    if not is_cell:
        _read_command(parsed, reader)
        misplaced = sorted(given & {"--all", "--as", "--explain", "--live", "--save"})
        if parsed.command is not None and misplaced:
            raise InvalidOptionError(f"{misplaced[0]} goes with SQL, not with {parsed.command}")
    return parsed


def _read_option(option: str, parsed: CommandLine, reader: _Words) -> None:
    if option in _SWITCHES:
        setattr(parsed, _SWITCHES[option], True)
    elif option == "--as":
        parsed.user = reader.value_of(option)
    elif option == "--save":
        parsed.save = reader.value_of(option)
    elif option == "--debug":
        parsed.debug = _switch(reader.value_of(option))
    else:
        raise _unknown_option(option, OPTIONS)


def _read_command(parsed: CommandLine, reader: _Words) -> None:
    word = reader.peek()
    if word is None or not word.is_plain:
        return
    if word.text in COMMANDS:
        parsed.command = word.text
        reader.skip(word)
        while (word := reader.peek()) is not None:
            reader.skip(word)
            if not word.text.startswith("--") or not word.is_plain:
                parsed.words.append(reader.value(word))
            elif word.text not in (allowed := COMMAND_OPTIONS.get(parsed.command, ())):
                raise _unknown_option(word.text, allowed)
            else:
                parsed.options[word.text[2:]] = reader.value_of(word.text)
    elif word.text.isalpha() and not reader.rest(word) and word.text.lower() not in _ALONE:
        near = difflib.get_close_matches(word.text, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"use {', '.join(COMMANDS)}, or SQL"
        raise InvalidOptionError(f"Unknown command '{word.text}'; {hint}")


def _switch(value: str) -> bool:
    if value not in ("on", "off"):
        raise InvalidOptionError(f"--debug is on or off, not '{value}'")
    return value == "on"


def _unknown_option(option: str, allowed: tuple[str, ...]) -> InvalidOptionError:
    hint = f"use {_listed(allowed)}" if allowed else "it takes no options"
    return InvalidOptionError(f"Unknown option '{option}'; {hint}")


def _listed(items: tuple[str, ...]) -> str:
    if len(items) == 1:
        return items[0]
    return f"{', '.join(items[:-1])} or {items[-1]}"


class _Words:
    """Words of a line: bare, in quotes, or ``{{expression}}``."""

    def __init__(self, line: str, evaluate: Evaluate) -> None:
        self._line = line
        self._evaluate = evaluate
        self.at = 0

    def _start(self) -> int:
        at = self.at
        while at < len(self._line) and self._line[at].isspace():
            at += 1
        return at

    def peek(self) -> _Word | None:
        start, line = self._start(), self._line
        if start >= len(line):
            return None
        if line.startswith("{{", start):
            end = line.find("}}", start)
            if end >= 0:
                return _Word(line[start : end + 2], start, end + 2, is_plain=False)
        if line[start] in "'\"":
            end = line.find(line[start], start + 1)
            if end >= 0:
                return _Word(line[start + 1 : end], start, end + 1, is_plain=False)
        end = start
        while end < len(line) and not line[end].isspace():
            end += 1
        return _Word(line[start:end], start, end, is_plain=True)

    def skip(self, word: _Word) -> None:
        self.at = word.end

    def rest(self, word: _Word) -> str:
        return self._line[word.end :].strip()

    def target_end(self, word: _Word) -> int | None:
        """Return where ``name <<`` ends, if the word begins one."""
        if word.text.endswith("<<"):
            return word.end
        end = word.end
        while end < len(self._line) and self._line[end].isspace():
            end += 1
        return end + 2 if self._line.startswith("<<", end) else None

    def value_of(self, option: str) -> str:
        word = self.peek()
        if word is None or (word.is_plain and word.text.startswith("--")):
            raise InvalidOptionError(f"'{option}' needs a value")
        self.skip(word)
        return self.value(word)

    def value(self, word: _Word) -> str:
        """Return what a word stands for: its text, or the value of its expression."""
        if word.is_plain or self._line[word.start] != "{":
            return word.text
        value = self._evaluate(word.text[2:-2], word.start)
        if not isinstance(value, str | os.PathLike):
            raise ParametersError(f"'{word.text}' must be a text here")
        return str(os.fspath(value))
