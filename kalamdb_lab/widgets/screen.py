"""The newest rows as the page has them: sorted, filtered, and cut to what is in sight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.pictures import Grid as Rows
from kalamdb_lab.arrow.pictures import Look
from kalamdb_lab.live.difference import Difference
from kalamdb_lab.widgets.arranged import ArrangedTable
from kalamdb_lab.widgets.grid import (
    FRAME_BYTES,
    Marks,
    Window,
    header_of,
    names_of,
    slice_for,
)

_SLICE_BYTES: Final = int(FRAME_BYTES * 0.9)  # the rest is for the state
_SAVED_ROWS: Final = 50
_SAVED_CELLS: Final = 3_000  # fewer rows of wide tables
_SAVED_CHARACTERS: Final = 200
_VIEWS: Final = 4


@dataclass(frozen=True, slots=True)
class Manner:
    """How a view shows what its source has.

    Attributes
    ----------
    word : str
        What the saved picture calls it.
    looks : mapping of str to str
        See `header_of`.
    arrange : callable, optional
        Makes the shown table of the source's one, anew each second: it may tell ages.
    act : callable, optional
        Takes the row whose button was pressed; a `KalamError` of it is said in the page.
    about : str
        Which rows of all there are it has, where that is not all of them.
    total : callable, optional
        Takes how many rows the source has, and returns how many they are the first of.
    is_one_of_many : bool
        Whether the view outlives the source, as another one may take its place.
    """

    word: str = "live"
    looks: Mapping[str, str] = field(default_factory=dict)
    arrange: Callable[[pa.Table], pa.Table] | None = None
    act: Callable[[dict[str, Any]], None] | None = None
    about: str = ""
    total: Callable[[int], int] | None = None
    is_one_of_many: bool = False


class Screen:
    """The rows of one source, and the windows in which views of the grid look at them.

    Its calls are not safe against each other.

    Attributes
    ----------
    table : ArrangedTable
        What is shown: the newest rows as of the last `arrange`.
    is_dirty : bool
        True if there are newer ones.
    """

    def __init__(self, newest: pa.Table, key: Sequence[str] | None, manner: Manner) -> None:
        self.key, self.manner = key, manner
        self.table = ArrangedTable(newest.schema.empty_table())
        self.is_dirty = True
        self.windows: dict[str, Window] = {}
        self._newest = newest
        self._version = 0
        self._marks = Marks()
        self._decimals: dict[int, int] = {}
        self._has_header = False

    def succeed(self, former: Screen) -> None:
        """Go on in the windows of another screen, at its first row."""
        self._version = former._version + 1
        self.windows = {view: Window(0, w.count) for view, w in former.windows.items()}

    def take(self, change: Difference, key: Sequence[str] | None) -> None:
        """Take over a newer state."""
        self.key = key
        self._marks.add(change, key)
        self._newest = change.table
        self.is_dirty = True

    def grow_older(self) -> None:
        """Let what tells ages be made anew."""
        if self.manner.arrange is not None and self._newest.num_rows:
            self.is_dirty = True

    def arrange(self) -> None:
        """Show the newest rows."""
        if not self.is_dirty:
            return
        table = self._newest
        if self.manner.arrange is not None:
            before = set(names_of(self.table.table, self.key))
            table = self.manner.arrange(table)
            # Rows may leave because of their age, which is no difference.
            self._marks.deleted |= before - set(names_of(table, self.key))
        if table.schema != self.table.table.schema:
            self._has_header = False
        self.table.show(table)
        self.is_dirty = False
        self._rearranged()

    def _rearranged(self) -> None:
        self._version += 1
        for window in self.windows.values():
            window.sent = 0

    # --- windows ----------------------------------------------------------------------------------

    def look(self, view: str, first: int, count: int, *, is_new: bool) -> None:
        """Let a view see ``count`` rows from ``first`` on; the oldest of many views is blind."""
        known = self.windows.pop(view, None)
        names = set() if known is None else known.names
        self.windows[view] = Window(max(0, first), max(0, count), names=names)
        self._has_header = self._has_header and not is_new
        if len(self.windows) > _VIEWS:
            del self.windows[next(iter(self.windows))]

    def sort_by(self, column: int | None, *, is_descending: bool) -> None:
        """Sort, or show the rows as they come."""
        self.table.sort_by(column, is_descending=is_descending)
        self._rearranged()

    def filter_by(self, text: str) -> None:
        """Show the rows that fulfil a filter."""
        self.table.filter_by(text)
        self._rearranged()

    def show_all(self) -> None:
        """Show the rows as they come, all of them."""
        self.sort_by(None, is_descending=False)
        self.filter_by("")

    @property
    def lacks_rows(self) -> bool:
        """True if a view has not all it looks at, newer rows aside."""
        if not self._has_header:
            return bool(self.windows)
        return any(window.sent < window.count for window in self.windows.values())

    def messages(self) -> list[dict[str, Any]]:
        """Return what the page has to be told for its windows, a frame last."""
        messages: list[dict[str, Any]] = []
        if not self._has_header:
            columns = header_of(self.table.table.schema, self.manner.looks)
            messages.append({"kind": "header", "columns": columns})
            self._has_header = True
        limit_bytes = _SLICE_BYTES // max(1, len(self.windows))
        slices = {
            view: slice_for(window, self.table, self.key, self._marks, self._decimals, limit_bytes)
            for view, window in self.windows.items()
            if window.sent < window.count
        }
        return [*messages, {"kind": "frame", "version": self._version, "slices": slices}]

    def forget_marks(self) -> None:
        """Begin to note changes from now on."""
        self._marks = Marks()

    # --- what others see --------------------------------------------------------------------------

    def row_named(self, name: str) -> dict[str, Any] | None:
        """Return a shown row."""
        names = names_of(self.table.table, self.key)
        if name not in names:
            return None
        row: dict[str, Any] = self.table.table.slice(names.index(name), 1).to_pylist()[0]
        return row

    def counts(self) -> dict[str, Any]:
        """Return what the page is told of sort, filter and numbers of rows."""
        return {
            "shown": len(self.table),
            "all": self.table.table.num_rows,
            "count": self._count(),
            "sort": self.table.sort,
            "filter": self.table.filter,
        }

    def _extent(self) -> str:
        held = self.table.table.num_rows
        total = held if self.manner.total is None else self.manner.total(held)
        return f"first {held:,} of {total:,} rows" if total > held else ""

    def _count(self) -> str:
        held, extent = self.table.table.num_rows, self._extent()
        rows = extent or f"{held:,} row{'' if held == 1 else 's'}"
        if self.table.filter:
            rows = f"{len(self.table):,} of {'the ' if extent else ''}{rows}"
        return f"{rows} · {self.manner.about}" if self.manner.about else rows

    def picture(self, notes: Sequence[str]) -> Rows:
        """Return the first rows as a saved notebook keeps them."""
        columns = max(1, self.table.table.num_columns)
        rows = _shortened(self.table.rows(0, max(1, min(_SAVED_ROWS, _SAVED_CELLS // columns))))
        for name in [name for name in rows.column_names if name in self.manner.looks]:
            look, at = self.manner.looks[name], rows.column_names.index(name)
            if look == "button":
                rows = rows.remove_column(at)
            elif look == "bar":
                shares = [f"{share:.0%}" for share in rows.column(at).to_pylist()]
                rows = rows.set_column(at, name, pa.array(shares, pa.string()))
        filtered = f"filter: {self.table.filter}" if self.table.filter else ""
        said = [self.manner.word, self.manner.about, self._extent(), filtered, *notes]
        return Rows(rows, len(self.table), said, Look())


def _shortened(rows: pa.Table) -> pa.Table:
    """Return rows without the ends of long texts, which would make every saved file large."""
    for at, column in enumerate(rows.columns):
        if pa.types.is_string(column.type):
            short = pc.utf8_slice_codeunits(column, 0, _SAVED_CHARACTERS)
            rows = rows.set_column(at, rows.schema.field(at), short)
    return rows
