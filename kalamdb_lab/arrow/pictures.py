"""How rows look in a notebook and in a terminal."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from kalamdb_lab.errors import LimitError
from kalamdb_lab.model.readable import decimals_for, number_text, plural, printable, value_text

if TYPE_CHECKING:
    import pyarrow as pa

_TOOLTIP_LIMIT: Final = 1_000

# The colours are the reader's own, so that it looks right on light and dark pages alike.
STYLE: Final = """<style>
.kalam{--kalam-line:color-mix(in srgb,currentColor 16%,transparent);\
--kalam-page:var(--jp-layout-color0,var(--md-default-bg-color,\
var(--vscode-editor-background,Canvas)));font-size:13px;line-height:1.4}
.kalam .kalam-scroll{display:inline-block;vertical-align:top;max-width:100%;\
max-height:32em;overflow:auto;\
border:1px solid var(--kalam-line);border-radius:4px}
.kalam .kalam-scroll table{border-collapse:separate;border-spacing:0;margin:0;font-size:13px;\
color:inherit;font-variant-numeric:tabular-nums}
.kalam.kalam table th,.kalam.kalam table td{text-align:left;padding:3px 10px;white-space:pre;\
max-width:none;border:0;vertical-align:top;background:none}
.kalam.kalam table thead th{position:sticky;top:0;z-index:1;font-weight:600;cursor:default;\
background:var(--kalam-page);border-bottom:1px solid var(--kalam-line)}
.kalam.kalam table tbody tr:nth-child(n){background:none}
.kalam.kalam table tbody tr:nth-child(even){\
background:color-mix(in srgb,currentColor 3.5%,transparent)}
.kalam.kalam table tbody tr:hover{background:color-mix(in srgb,currentColor 8%,transparent)}
.kalam.kalam table .n{text-align:right}
.kalam.kalam table .z{opacity:.4;font-size:.85em}
.kalam .kalam-foot{opacity:.65;font-size:12px;margin:4px 1px 2px}
</style>"""


@dataclass(frozen=True, slots=True)
class Look:
    """How much is shown.

    Attributes
    ----------
    rows, text_rows : int or None
        At most so many rows; the second where there is no HTML. None is no limit.
    cell_width : int
        Longer texts are cut there, with the whole in the tooltip.
    """

    rows: int | None = 1_000
    text_rows: int | None = 20
    cell_width: int = 60
    show_time: bool = True


class Line:
    """One line that says what was done."""

    def __init__(self, *parts: str) -> None:
        self.text = " · ".join(part for part in parts if part)

    def __repr__(self) -> str:
        return printable(self.text)

    def _repr_html_(self) -> str:
        return (
            f'{STYLE}<div class="kalam"><div class="kalam-foot">{_escaped(self.text)}</div></div>'
        )


class Grid:
    """Rows as a table with a footer.

    Parameters
    ----------
    rows : pyarrow.Table
        What is shown, with logical types in its metadata.
    total : int
        How many rows there are; more than ``rows`` has when they were capped.
    notes : sequence of str
        What the footer says after the number of rows.
    hint : str
        How to see the rest, said when there is one.
    """

    def __init__(
        self,
        rows: pa.Table,
        total: int,
        notes: Sequence[str] = (),
        look: Look | None = None,
        *,
        hint: str = "",
    ) -> None:
        self._rows = rows
        self._hint = hint
        self._notes = tuple(note for note in notes if note)
        self._look = look or Look()
        self.total = total

    @property
    def shown(self) -> int:
        """How many rows are shown where there is HTML."""
        return int(self._rows.num_rows)

    def __repr__(self) -> str:
        limit = self._look.text_rows
        rows = self._rows if limit is None else self._rows.slice(0, limit)
        columns = columns_of(rows, min(self._look.cell_width, 40))
        lines = [" ".join(["", *(column.padded(column.name) for column in columns)])]
        lines.append(" ".join(["", *("─" * column.width for column in columns)]))
        for at in range(rows.num_rows):
            cells = (column.padded(column.cells[at].text) for column in columns)
            lines.append(" ".join(["", *cells]))
        lines.append(self._footer(rows.num_rows))
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        columns = columns_of(self._rows, self._look.cell_width)
        head = "".join(
            f'<th{column.css} title="{_escaped(column.type_name)}">{_escaped(column.name)}</th>'
            for column in columns
        )
        marked = [column.html_cells() for column in columns]
        body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in zip(*marked, strict=True))
        return (
            f'{STYLE}<div class="kalam"><div class="kalam-scroll"><table>'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
            f'<div class="kalam-foot">{_escaped(self._footer(self.shown))}</div></div>'
        )

    def _footer(self, shown: int) -> str:
        rest = (self._hint,) if self._hint and shown < self.total else ()
        if shown < self.total:
            count = f"showing {shown:,} of {plural(self.total, 'row')}"
        else:
            count = plural(self.total, "row") if self.total else "no rows"
        return " · ".join((count, *self._notes, *rest))


class Preview(Grid):
    """The first rows of a larger answer: it can be looked at, and not be taken for the whole."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._rows.column_names)

    def _refuse(self, *_: object) -> NoReturn:
        raise LimitError(
            f"Only {self.shown:,} of {self.total:,} rows were read, to be shown; assign the "
            "result (name << SELECT ...) to work with all of them"
        )

    __len__ = __iter__ = __arrow_c_stream__ = _refuse
    rows = to_arrow = to_pandas = to_polars = to_ibis = _refuse


@dataclass(frozen=True, slots=True)
class Cell:
    """One value as it is shown, and the whole of it where that is more."""

    text: str
    tooltip: str = ""
    is_null: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one column as they are shown."""

    name: str
    type_name: str
    is_number: bool
    cells: list[Cell]

    @property
    def css(self) -> str:
        """The class of its cells, as an attribute."""
        return ' class="n"' if self.is_number else ""

    @property
    def width(self) -> int:
        """How many characters its longest cell has."""
        return max((len(self.name), *(len(cell.text) for cell in self.cells)))

    def padded(self, text: str) -> str:
        """Return a text as wide as the column."""
        return text.rjust(self.width) if self.is_number else text.ljust(self.width)

    def html_cells(self) -> list[str]:
        """Return the cells as HTML."""
        found = []
        for cell in self.cells:
            names = [name for name, holds in (("n", self.is_number), ("z", cell.is_null)) if holds]
            css = f' class="{" ".join(names)}"' if names else ""
            title = f' title="{_escaped(cell.tooltip)}"' if cell.tooltip else ""
            found.append(f"<td{css}{title}>{html.escape(cell.text)}</td>")
        return found


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def columns_of(
    rows: pa.Table, cell_width: int, decimals: dict[int, int] | None = None
) -> list[Column]:
    """Return the columns of a table as they are shown, longer texts cut.

    Parameters
    ----------
    decimals : dict, optional
        How many decimals each column was shown with before; it is not shown with fewer now.
    """
    from kalamdb_lab.arrow.arrays import python_from_array
    from kalamdb_lab.arrow.schemas import kalam_type
    from kalamdb_lab.errors import ValueOutOfRangeError

    columns = []
    for at, field in enumerate(rows.schema):
        data_type = kalam_type(field)
        try:
            values = python_from_array(rows.column(at), data_type)
        except ValueOutOfRangeError:
            values = rows.column(at).cast("string").to_pylist()
        cells = _cells(values, cell_width, at, {} if decimals is None else decimals)
        name = printable(field.name)
        columns.append(Column(name, str(data_type), data_type.is_numeric, cells))
    return columns


def _cells(values: list[Any], width: int, at: int, known: dict[int, int]) -> list[Cell]:
    decimals = decimals_for(values)
    if decimals is not None and decimals < known.get(at, 0):
        decimals = known[at]
    elif decimals is not None and any(isinstance(value, float) for value in values):
        known[at] = decimals
    cells = []
    for value in values:
        if value is None:
            cells.append(Cell("NULL", is_null=True))
        elif isinstance(value, float):
            text = number_text(value, decimals)
            whole = repr(value)
            cells.append(Cell(text, "" if float(text) == value or math.isnan(value) else whole))
        else:
            cells.append(_cut(printable(value_text(value)), width))
    return cells


def _cut(text: str, width: int) -> Cell:
    if len(text) <= width:
        return Cell(text)
    tooltip = text
    if len(text) > _TOOLTIP_LIMIT:
        tooltip = f"{text[:_TOOLTIP_LIMIT]}… ({len(text):,} characters)"
    return Cell(f"{text[: width - 1]}…", tooltip)
