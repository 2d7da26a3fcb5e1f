"""The grid in the page: what it is told, in frames of bounded size."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anywidget
import ipywidgets
import pyarrow as pa
import traitlets

from kalamdb_lab.arrow.pictures import Cell, columns_of
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.live.difference import Difference
from kalamdb_lab.widgets.arranged import ArrangedTable, sortable

FRAME_BYTES: Final = 200_000
"""At most so many bytes of JSON in one message to the page."""

_FRAME_ROWS: Final = 500
_CELL_WIDTHS: Final = (60, 59, 30, 12)  # the first with tooltips
_SAMPLE_ROWS: Final = 8
_MARKED_ROWS: Final = 5_000


class Grid(anywidget.AnyWidget):
    """Rows by position, whatever they are about; one module of the page shows them.

    Attributes
    ----------
    label : str
        What the rows are, for screen readers.
    height : int
        How many rows are in sight at most.
    fading : str
        ``quiet`` where rows change all the time: then changes do not flash, and rows leave grey.
    has_tools : bool
        Whether there is a filter and a Pause button.
    """

    # As text: of a path anywidget makes something that holds every widget for ever.
    _esm = Path(__file__).with_name("grid.js").read_text("utf-8")
    _css = Path(__file__).with_name("grid.css").read_text("utf-8")
    uid = traitlets.Unicode().tag(sync=True)
    label = traitlets.Unicode("live table").tag(sync=True)
    height = traitlets.Int(14).tag(sync=True)
    fading = traitlets.Unicode("deleted").tag(sync=True)
    has_tools = traitlets.Bool(default_value=True).tag(sync=True)

    @traitlets.default("uid")
    def _new_uid(self) -> str:
        return uuid.uuid4().hex


def close_whole(widget: ipywidgets.Widget) -> None:
    """Close a widget with its children, its layout and its style."""
    parts = [getattr(widget, name) for name in widget.keys]
    widget.close()
    for part in [*parts, *getattr(widget, "children", ())]:
        if isinstance(part, ipywidgets.Widget):
            close_whole(part)


class Marks:
    """Which rows changed since the last frame, by their names; of many the first and the last."""

    def __init__(self) -> None:
        self.inserted: set[str] = set()
        self.updated: set[str] = set()
        self.deleted: set[str] = set()

    def add(self, change: Difference, key: Sequence[str] | None) -> None:
        """Add what a difference changed."""
        inserted = _names_of_some(change.table, change.inserted, key)
        updated = _names_of_some(change.table, change.updated, key)
        deleted = _names_of_some(change.deleted, range(change.deleted.num_rows), key)
        self.updated = (self.updated | (inserted & self.deleted) | updated) - self.inserted
        self.inserted |= inserted - self.deleted
        self.deleted = (self.deleted | deleted) - inserted
        self.inserted -= self.deleted
        self.updated -= self.deleted

    def of(self, name: str) -> str:
        """Return ``i``, ``u`` or a blank."""
        return "i" if name in self.inserted else "u" if name in self.updated else " "


def names_of(rows: pa.Table, key: Sequence[str] | None) -> list[str]:
    """Return a name for each row: equal for equal keys, or for equal rows without a key."""
    chosen = rows if key is None else rows.select(list(key))
    if not chosen.num_columns:
        return ["0"] * rows.num_rows
    columns = [column.to_pylist() for column in chosen.columns]
    return [f"{hash(repr(row)) & 0xFFFF_FFFF_FFFF:x}" for row in zip(*columns, strict=True)]


def _names_of_some(rows: pa.Table, places: Any, key: Sequence[str] | None) -> set[str]:
    if not len(places):
        return set()
    if len(places) > _MARKED_ROWS:
        half = _MARKED_ROWS // 2
        places = [*places[:half], *places[-half:]]
    taken = (rows if key is None else rows.select(list(key))).take(pa.array(places, pa.int64()))
    return set(names_of(taken, None)) if taken.num_columns else {"0"}


@dataclass(slots=True)
class Window:
    """The rows that one view of the grid wants.

    Attributes
    ----------
    sent : int
        How many of them went out since something changed.
    names : set of str
        The rows that the view has.
    """

    first: int
    count: int
    sent: int = 0
    names: set[str] = field(default_factory=set)


def header_of(schema: pa.Schema, looks: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what the page has to know of the columns.

    Parameters
    ----------
    looks : mapping of str to str
        Columns that are no text: ``bar`` for a share from 0 to 1, ``button`` for what can be
        pressed where there is a text, ``state`` for a word with a dot.
    """
    return [
        {
            "name": column.name,
            "type": str(kalam_type(column)),
            "right": kalam_type(column).is_numeric and column.name not in looks,
            "sorts": looks.get(column.name) != "button" and sortable(column.type),
            "look": looks.get(column.name, "text"),
        }
        for column in schema
    ]


def slice_for(
    window: Window,
    table: ArrangedTable,
    key: Sequence[str] | None,
    marks: Marks,
    decimals: dict[int, int],
    limit_bytes: int,
) -> dict[str, Any]:
    """Return the next rows of a window, as many as fit into ``limit_bytes``, one at least.

    Long texts are cut shorter before rows are left for the next frame.
    """
    first = window.first + window.sent
    count = min(window.count - window.sent, _FRAME_ROWS)
    rows = table.rows(first, count)
    names = names_of(rows, key)
    for width in _CELL_WIDTHS:
        sample, sizes = _lines(rows.slice(0, _SAMPLE_ROWS), width, decimals)
        if sum(sizes) * rows.num_rows <= limit_bytes * len(sample):
            break
    lines, sizes = _lines(rows, width, decimals)
    fit, total = 0, 0
    for size in sizes:
        total += size
        if fit and total > limit_bytes:
            break
        fit += 1
    gone = window.names & marks.deleted if not window.sent else set()
    window.names = (window.names if window.sent else set()) | set(names[:fit])
    slice_ = {
        "first": first,
        "rows": lines[:fit],
        "names": names[:fit],
        "marks": "".join(map(marks.of, names[:fit])),
        "gone": sorted(gone),
        "more": window.sent > 0,
    }
    is_end = fit == len(names) < count
    window.sent = window.count if is_end else window.sent + fit
    return slice_


def _lines(
    rows: pa.Table, width: int, decimals: dict[int, int]
) -> tuple[list[list[Any]], list[int]]:
    """Return the cells of each row as they are sent, and its size in bytes."""
    has_tooltips = width == _CELL_WIDTHS[0]
    columns = [
        [_on_wire(cell, has_tooltip=has_tooltips) for cell in column.cells]
        for column in columns_of(rows, width, decimals)
    ]
    lines = [list(line) for line in zip(*columns, strict=True)]
    return lines, [len(json.dumps(line)) for line in lines]


def _on_wire(cell: Cell, *, has_tooltip: bool) -> str | list[str] | None:
    if cell.is_null:
        return None
    return [cell.text, cell.tooltip] if cell.tooltip and has_tooltip else cell.text
