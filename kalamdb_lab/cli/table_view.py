"""A result as a table for people to read in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from kalamdb_lab.model.readable import decimals_for, number_text, plural, printable, value_text

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

_GAP: Final = 2
_NARROWEST: Final = 8
"""Columns are cut down to this width before some are left out."""


class _Column:
    def __init__(self, name: str, cells: list[str | None], *, is_number: bool) -> None:
        self.name = printable(name)
        self.cells = cells
        self.is_number = is_number
        texts = (self.name, *("NULL" if cell is None else cell for cell in cells))
        self.width = max(map(cell_len, texts))

    def text(self, cell: str | None, width: int, style: str = "") -> Text:
        """Return a cell filled or cut to a width."""
        shown = "NULL" if cell is None else cell
        length = cell_len(shown)
        if length > width:
            shown = set_cell_size(shown, width - 1).rstrip() + "…"
            length = cell_len(shown)
        blanks = " " * (width - length)
        padded = blanks + shown if self.is_number else shown + blanks
        return Text(padded, "dim" if cell is None else style)


def print_table(
    console: Console, rows: pa.Table, total: int, *, notes: tuple[str, ...] = (), hint: str = ""
) -> None:
    """Print rows with a footer: numbers to the right, NULL dim, cut to the terminal's width.

    Where there is no terminal nothing is cut.

    Parameters
    ----------
    total : int
        How many rows there are; more than ``rows`` if only the first are shown.
    notes : tuple of str
        What the footer says after the number of rows.
    hint : str
        How to see what is left out, said if something is.
    """
    columns = [_column(rows, at) for at in range(rows.num_columns)]
    widths = [column.width for column in columns]
    if console.is_terminal:
        widths = _fitting(widths, console.width)
    shown = columns[: len(widths)]
    is_cut = any(column.width > width for column, width in zip(shown, widths, strict=True))
    pairs = list(zip(shown, widths, strict=True))
    _print_line(console, [column.text(column.name, width, "bold") for column, width in pairs])
    _print_line(console, [Text("─" * width, "dim") for width in widths])
    for at in range(rows.num_rows):
        _print_line(console, [column.text(column.cells[at], width) for column, width in pairs])
    parts = [plural(total, "row") if total else "no rows"]
    if rows.num_rows < total:
        parts = [f"showing {rows.num_rows:,} of {parts[0]}"]
    if len(shown) < len(columns):
        parts.append(f"{len(shown)} of {plural(len(columns), 'column')}")
    if is_cut:
        parts.append("cut to fit")
    if hint and (rows.num_rows < total or len(shown) < len(columns) or is_cut):
        parts.append(hint)
    console.print(Text(" · ".join([*parts, *notes]), "dim"), soft_wrap=True)


def _print_line(console: Console, cells: list[Text]) -> None:
    line = Text(" " * _GAP).join(cells)
    line.rstrip()
    console.print(line, soft_wrap=True)


def _fitting(widths: list[int], space: int) -> list[int]:
    """Return the widths of the columns that fit: the widest are cut first, the last left out."""
    count = len(widths)
    while count > 1 and sum(min(w, _NARROWEST) + _GAP for w in widths[:count]) - _GAP > space:
        count -= 1
    kept = widths[:count]
    left = space - _GAP * (count - 1)
    limit = min(max(kept, default=0), left)
    while limit > 2 and sum(min(width, limit) for width in kept) > left:
        limit -= 1
    return [min(width, limit) for width in kept]


def _column(rows: pa.Table, at: int) -> _Column:
    from kalamdb_lab.arrow.arrays import python_from_array
    from kalamdb_lab.arrow.schemas import kalam_type
    from kalamdb_lab.errors import ValueOutOfRangeError

    field = rows.schema.field(at)
    data_type = kalam_type(field)
    values: list[Any]
    try:
        values = python_from_array(rows.column(at), data_type)
    except ValueOutOfRangeError:  # a date that Python does not have
        values = rows.column(at).cast("string").to_pylist()
    decimals = decimals_for(values)
    cells = [
        None
        if value is None
        else number_text(value, decimals)
        if isinstance(value, float)
        else printable(value_text(value))
        for value in values
    ]
    return _Column(field.name, cells, is_number=data_type.is_numeric)
