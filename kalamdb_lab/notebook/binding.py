"""From Python values to the parameters of a statement. No value ever becomes SQL text."""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kalamdb_lab.errors import InvalidNameError, KalamError, NotFoundError, ParametersError
from kalamdb_lab.notebook.cell_text import CellStatement, Hole, place_of

_Error = TypeVar("_Error", bound=KalamError)

_NO_ROWS = "SELECT NULL WHERE FALSE"
"""What an empty list is after IN: it holds nothing, and ``x NOT IN`` it is true."""


class ExpressionError(Exception):
    """The Python expression of a hole raised ``error``; ``offset`` is where the hole stands."""

    def __init__(self, error: Exception, offset: int) -> None:
        super().__init__(error, offset)
        self.error, self.offset = error, offset


@dataclass(frozen=True, slots=True)
class BoundStatement:
    """A statement ready to run.

    Attributes
    ----------
    sql : str
        Each hole is a ``$n`` in it. It stands on the lines, and mostly in the columns, where the
        user's cell has it: what came before it is blank.
    values : list
        The value of ``$1`` first.
    pieces : list of (int, int, int)
        Ascending offset into ``sql``, offset into the cell, and length there.
    """

    sql: str
    values: list[Any]
    pieces: list[tuple[int, int, int]]

    def place_in_cell(self, cell: str, line: int, column: int) -> tuple[int, int]:
        """Return line and column in the cell of a place in ``sql``, all from 1."""
        start = 0
        for _ in range(line - 1):
            start = self.sql.find("\n", start) + 1
        return place_of(cell, self.offset_in_cell(start + column - 1))

    def offset_in_cell(self, at: int) -> int:
        """Return the offset in the cell of an offset into ``sql``."""
        begin, original, length = self.pieces[self._piece_at(at)]
        return original + max(0, min(at - begin, length))

    def placed(self, error: _Error, cell: str, at: int) -> _Error:
        """Return ``error`` with the place in the cell of an offset into ``sql``."""
        error.at(*place_of(cell, self.offset_in_cell(at)))
        return error

    def inserted(self, at: int, text: str, *, shown_at: int) -> BoundStatement:
        """Return the statement with ``text`` at an offset into ``sql``.

        Parameters
        ----------
        shown_at : int
            The offset into ``sql`` where errors in ``text`` are shown.
        """
        number = self._piece_at(at)
        begin, original, length = self.pieces[number]
        before = max(0, min(at - begin, length))
        pieces = [
            *self.pieces[:number],
            (begin, original, before),
            (at, self.offset_in_cell(shown_at), 0),
            (at + len(text), original + before, length - before),
            *((b + len(text), o, n) for b, o, n in self.pieces[number + 1 :]),
        ]
        return BoundStatement(self.sql[:at] + text + self.sql[at:], self.values, pieces)

    def alone(self) -> BoundStatement:
        """Return the statement without the blanks that keep the place of what was before it."""
        start = len(self.sql) - len(self.sql.lstrip())
        pieces = []
        for begin, original, length in self.pieces:
            cut = max(0, min(start - begin, length))
            pieces.append((max(0, begin - start), original + cut, length - cut))
        return BoundStatement(self.sql.strip(), self.values, pieces)

    def _piece_at(self, at: int) -> int:
        return max(bisect_right([begin for begin, _, _ in self.pieces], at) - 1, 0)


def bind(
    cell: str,
    statement: CellStatement,
    names: Mapping[str, Any],
    values: list[Any] | None = None,
) -> BoundStatement:
    """Evaluate the holes of a statement and put parameters in their places.

    Parameters
    ----------
    names : mapping
        Where ``:name`` and the names of ``{{expression}}`` are looked up.
    values : list, optional
        Values of parameters before these; those of the statement are appended to it.

    Raises
    ------
    NotFoundError
        There is no variable for ``:name``.
    ExpressionError
        An expression raised.
    ParametersError, InvalidNameError
        A value cannot stand where it stands.
    """
    before = cell[: statement.start]
    blanks = "".join("\n" if character == "\n" else " " for character in before)
    parts, pieces = [blanks], [(0, 0, len(blanks))]
    values = [] if values is None else values
    numbers: dict[str, int] = {}
    at, written = statement.start, len(blanks)
    for hole in statement.holes:
        plain = cell[at : hole.start]
        filled = _filled(cell, hole, names, values, numbers)
        pieces.append((written, at, len(plain)))
        pieces.append((written + len(plain), hole.start, 0))
        parts += [plain, filled]
        at, written = hole.end, written + len(plain) + len(filled)
    pieces.append((written, at, statement.end - at))
    parts.append(cell[at : statement.end])
    return BoundStatement("".join(parts), values, pieces)


def _filled(
    cell: str, hole: Hole, names: Mapping[str, Any], values: list[Any], numbers: dict[str, int]
) -> str:
    """Return what stands in a hole's place, as wide as the hole where that is enough."""
    if hole.is_variable and hole.code in numbers and not hole.is_whole_list:
        text = f"${numbers[hole.code]}"
    else:
        value = _value(cell, hole, names)
        if hole.is_name:
            text = _quoted_name(cell, hole, value)
        elif hole.is_whole_list:
            text = _list(hole, value, values)
        else:
            text = _single(cell, hole, value, values)
            if hole.is_variable:
                numbers[hole.code] = len(values)
    original = cell[hole.start : hole.end]
    lines = original.count("\n")
    if lines:
        return text + "\n" * lines + " " * (len(original) - original.rfind("\n") - 1)
    return text.ljust(len(original))


def _value(cell: str, hole: Hole, names: Mapping[str, Any]) -> Any:
    if hole.is_variable:
        if hole.code in names:
            return names[hole.code]
        known = [name for name in names if not name.startswith("_")]
        nearby = difflib.get_close_matches(hole.code, known, n=1, cutoff=0.7)
        raise NotFoundError("Variable", hole.code, nearby=nearby).at(*place_of(cell, hole.start))
    return evaluated(hole.code, names, hole.start)


def evaluated(code: str, names: Mapping[str, Any], offset: int) -> Any:
    """Return the value of a Python expression of the user's cell."""
    try:
        return eval(f"({code}\n)", dict(names))  # noqa: S307 - it is the user's own code
    except Exception as error:
        raise ExpressionError(error, offset) from error


def _single(cell: str, hole: Hole, value: Any, values: list[Any]) -> str:
    items = as_list(value)
    if items is not None and hole.is_in_list:
        raise ParametersError(
            f"'{cell[hole.start : hole.end]}' is a list; it must stand alone after IN"
        ).at(*place_of(cell, hole.start))
    values.append(value if items is None else items)
    return f"${len(values)}"


def _list(hole: Hole, value: Any, values: list[Any]) -> str:
    items = as_list(value)
    items = [value] if items is None else items
    first = len(values) + 1
    values += items
    text = ", ".join(f"${number}" for number in range(first, len(values) + 1)) or _NO_ROWS
    return text if hole.has_parentheses else f"({text})"


def as_list(value: Any) -> list[Any] | None:
    """Return the items of a list, tuple, set, range, series or one-dimensional array, else None."""
    if isinstance(value, list | tuple | set | frozenset | range):
        return list(value)
    if isinstance(value, str | bytes | bytearray | memoryview) or getattr(value, "shape", ()) == ():
        method = getattr(value, "to_pylist", None)  # Arrow arrays have no shape
    else:
        method = getattr(value, "to_list", None) or getattr(value, "tolist", None)
        if len(value.shape) != 1:
            method = None
    return list(method()) if callable(method) and hasattr(value, "__len__") else None


def _quoted_name(cell: str, hole: Hole, value: Any) -> str:
    parts = value if isinstance(value, tuple) else (value,)
    for part in parts:
        if not isinstance(part, str):
            kind = type(part).__name__
            raise InvalidNameError(
                f"'{cell[hole.start : hole.end]}' needs a text, or a tuple of texts, not {kind}"
            ).at(*place_of(cell, hole.start))
        if not 1 <= len(part) <= 128 or not part.isprintable():
            raise InvalidNameError(
                f"'{cell[hole.start : hole.end]}' is no name: names have 1 to 128 characters "
                "and no control characters"
            ).at(*place_of(cell, hole.start))
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
