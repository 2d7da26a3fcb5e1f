"""Errors as a cell shows them: what is wrong, and where in the cell, in at most six lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.readable import printable
from kalamdb_lab.notebook.binding import BoundStatement
from kalamdb_lab.notebook.cell_text import CellStatement, Kind, place_of, scan

_RED, _BOLD, _PLAIN = "\x1b[31m", "\x1b[1m", "\x1b[0m"
_LINE_WIDTH = 100
_MASK = "'***'"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a cell: line and column from 1, and the number of the statement of several."""

    line: int
    column: int
    statement: int | None = None
    statement_count: int = 1


def shorten(error: Exception, cell: str, place: Place | None, secrets: Sequence[str] = ()) -> None:
    """Let an error show itself in short; it stays the same error to whoever catches it.

    Parameters
    ----------
    cell : str
        As the user sees it, with the line of the magic.
    secrets : sequence of str
        Literals that must not be shown, quotes included.
    """
    lines = [f"{_BOLD}{_RED}{type(error).__name__}{_PLAIN}: {_message(error)}"]
    if place is not None:
        lines += _location(cell, place, secrets)
    # IPython calls it instead of making a traceback. A partial can be pickled with the error.
    error._render_traceback_ = partial(list, lines)  # type: ignore[attr-defined]


def move_into_cell(
    error: KalamError, bound: BoundStatement, cell: str, statement: CellStatement
) -> None:
    """Let an error speak of a place in the cell instead of one in the text that was run."""
    if error.line is None or error.column is None:
        return
    former = f"(line {error.line}, column {error.column})"
    line, column = bound.place_in_cell(cell, error.line, error.column)
    begin = len(bound.sql) - len(bound.sql.lstrip())
    if (error.line, error.column) == place_of(bound.sql, begin):
        # It was only known which statement failed; the message mostly names what is at fault.
        named = _first_named(error, cell, statement)
        if named is not None:
            line, column = place_of(cell, named)
    message = error.message.replace(former, f"(line {line}, column {column})")
    if message != error.message:
        error.message, error.args = message, (message,)
    error.line, error.column = line, column


def _first_named(error: KalamError, cell: str, statement: CellStatement) -> int | None:
    """Return the offset in the cell of the first thing that an error names."""
    text = cell[statement.start : statement.end]
    for name in error.message.split("'")[1::2]:
        last = name.rpartition(".")[2].lower()
        for lexeme in scan(text):
            if lexeme.kind in (Kind.WORD, Kind.QUOTED, Kind.STRING):
                written = text[lexeme.start : lexeme.end].strip("'\"").lower()
                if written == last:
                    return statement.start + lexeme.start
    return None


def masked(text: str, secrets: Sequence[str]) -> str:
    """Return a text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    return text


def _message(error: Exception) -> str:
    if isinstance(error, KalamError):
        return printable(str(error))
    first = str(error).partition("\n")[0][:300]
    return printable(first)


def _location(cell: str, place: Place, secrets: Sequence[str]) -> list[str]:
    lines = cell.split("\n")
    if not 1 <= place.line <= len(lines):
        return []
    where = f"line {place.line}" if len(lines) > 1 else ""
    if place.statement_count > 1 and place.statement is not None:
        number = f"statement {place.statement} of {place.statement_count}"
        where = f"{number}, {where}" if where else number
    line = lines[place.line - 1]
    column = min(place.column, len(line) + 1)
    # In the line of the magic two dashes begin an option.
    width = _width(line.replace("--", "  ") if place.line == 1 else line, column)
    before = masked(line[: column - 1], secrets)
    line = masked(line, secrets)
    column = len(before) + 1
    if len(line) > _LINE_WIDTH:
        start = max(0, min(column - 1 - _LINE_WIDTH // 3, len(line) - _LINE_WIDTH))
        line, column = line[start : start + _LINE_WIDTH], column - start
        line = ("…" if start else "") + line
        column += bool(start)
    shown = printable(line.replace("\t", " "))
    caret = " " * (column - 1) + "^" * max(1, min(width, len(line) - column + 1))
    location = [f"    {shown}", f"    {_BOLD}{_RED}{caret}{_PLAIN}"]
    return [f"{where}:", *location] if where else location


def _width(line: str, column: int) -> int:
    """Return how long the word at a place is."""
    try:
        for lexeme in scan(line):
            if lexeme.start <= column - 1 < lexeme.end:
                return lexeme.end - (column - 1)
    except KalamError:
        pass
    return 1
