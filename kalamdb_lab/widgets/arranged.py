"""A table as a reader sorted and filtered it, and slices of that."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.arrays import python_from_array
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.model.datatypes import TypeKind
from kalamdb_lab.model.readable import value_text

_TERM: Final = re.compile(
    r"""(?:"(?P<quoted>[^"]*)"|(?P<name>[^\s"<>=!:]+))
        (?P<sign><=|>=|!=|=|<|>|:)
        (?:"(?P<text>[^"]*)"|(?P<word>[^\s"]+))
        |"(?P<phrase>[^"]*)"|(?P<any>\S+)""",
    re.VERBOSE,
)
_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_NULL: Final = "null"
_CASTABLE: Final = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_temporal,
)


@dataclass(frozen=True, slots=True)
class _Term:
    """One condition of a filter; without a column any of them may hold the text."""

    column: int | None
    sign: str
    text: str


class ArrangedTable:
    """The newest table, and which of its rows are shown in what order.

    All of it is computed when it is first asked for after a change. The calls are not safe
    against each other: one thread at a time.

    Attributes
    ----------
    table : pa.Table
        All rows, in the order in which they came.
    sort : (column, is_descending) or None
        NULL comes last either way, and equal rows stay in the order in which they came.
    filter : str
        Words that a row has in any column, without regard to case; ``"two words"``;
        ``name:text`` for one column; ``name=value`` and ``!= < <= > >=`` compare it, with
        ``null`` for NULL. A row must fulfil all of them. A word whose name is no column is text.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.sort: tuple[int, bool] | None = None
        self.filter = ""
        self._order: pa.Array | None = None
        self._is_arranged = False
        self._texts: dict[int, pa.ChunkedArray | None] = {}

    def show(self, table: pa.Table) -> None:
        """Take a newer table; sort and filter stay, unless its columns are others."""
        if table is self.table:
            return
        if not table.schema.equals(self.table.schema):
            self.sort = None
        self.table = table
        self._texts.clear()
        self._is_arranged = False

    def sort_by(self, column: int | None, *, is_descending: bool = False) -> None:
        """Sort by a column that can be sorted; None is the order in which the rows came."""
        sort = None
        if column is not None and 0 <= column < self.table.num_columns:
            sort = (column, is_descending) if sortable(self.table.schema.types[column]) else None
        if sort != self.sort:
            self.sort = sort
            self._is_arranged = False

    def filter_by(self, text: str) -> None:
        """Show the rows that fulfil a filter; the empty one shows all."""
        text = text.encode("utf-8", "replace").decode().strip()  # a page may send half characters
        if text != self.filter:
            self.filter = text
            self._is_arranged = False
            if not text:
                self._texts.clear()

    def __len__(self) -> int:
        """How many rows are shown."""
        order = self._arranged()
        return int(self.table.num_rows if order is None else len(order))

    def rows(self, first: int, count: int) -> pa.Table:
        """Return the rows at ``count`` places from ``first`` on; fewer at the end."""
        order = self._arranged()
        if order is None:
            return self.table.slice(first, count)
        return self.table.take(order.slice(first, count))

    def _arranged(self) -> pa.Array | None:
        """Return the shown rows in order; None if they are all rows as they came."""
        if self._is_arranged:
            return self._order
        order: pa.Array | None = None
        mask = self._mask()
        if mask is not None:
            order = pc.indices_nonzero(mask)
        if self.sort is not None:
            column, is_descending = self.sort
            values = self.table.column(column)
            if order is not None:
                values = values.take(order)
            places = pc.array_sort_indices(
                _one_chunk(values), order="descending" if is_descending else "ascending"
            )
            order = places if order is None else order.take(places)
        self._order, self._is_arranged = order, True
        return order

    # --- the filter -------------------------------------------------------------------------------

    def _mask(self) -> pa.ChunkedArray | None:
        mask = None
        for term in _terms(self.filter, self.table.column_names):
            fits = self._fits(term)
            mask = fits if mask is None else pc.and_(mask, fits)
        return mask

    def _fits(self, term: _Term) -> Any:
        if term.column is not None:
            return pc.fill_null(self._fits_column(term, term.column), False)
        found = None
        for at in range(self.table.num_columns):
            if not _may_hold(self.table.schema.types[at], term.text):
                continue
            fits = pc.fill_null(self._fits_column(term, at), False)
            found = fits if found is None else pc.or_(found, fits)
        return self._none() if found is None else found

    def _none(self) -> pa.Array:
        return pa.repeat(pa.scalar(False), self.table.num_rows)

    def _fits_column(self, term: _Term, at: int) -> Any:
        column = self.table.column(at)
        if term.sign in ("=", "!=") and term.text.lower() == _NULL:
            return pc.is_null(column) if term.sign == "=" else pc.is_valid(column)
        if term.sign != ":":
            try:
                value = pa.scalar(term.text).cast(column.type)
                return _COMPARISONS[term.sign](column, value)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                pass  # not a value of that type: then it is compared as text
        texts = self._text_of(at)
        if texts is None:
            return self._none()
        if term.sign == ":":
            return pc.match_substring(texts, term.text, ignore_case=True)
        return _COMPARISONS[term.sign](texts, pa.scalar(term.text, texts.type))

    def _text_of(self, at: int) -> pa.ChunkedArray | None:
        """Return a column as text; None for vectors, which nobody searches for digits."""
        if at not in self._texts:
            self._texts[at] = _text_of(self.table.column(at), self.table.schema.field(at))
        return self._texts[at]


def sortable(kind: pa.DataType) -> bool:
    """Return whether rows can be ordered by values of a type."""
    try:
        pc.array_sort_indices(pa.array([], kind))
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid):
        return False
    return True


def _one_chunk(values: Any) -> pa.Array:
    if not isinstance(values, pa.ChunkedArray):
        return values
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def _terms(text: str, names: Sequence[str]) -> list[_Term]:
    places: dict[str, int] = {}
    for at, name in enumerate(names):
        places.setdefault(name.lower(), at)
    terms = []
    for found in _TERM.finditer(text):
        name = found["quoted"] if found["quoted"] is not None else found["name"]
        if found["sign"] is None:
            phrase = found["phrase"]
            terms.append(_Term(None, ":", found["any"] if phrase is None else phrase))
        elif name.lower() in places:
            value = found["word"] if found["text"] is None else found["text"]
            terms.append(_Term(places[name.lower()], found["sign"], value))
        else:
            terms.append(_Term(None, ":", found[0]))
    return terms


def _may_hold(kind: pa.DataType, text: str) -> bool:
    """Return False if no text of a value of that type has ``text`` in it: it saves the search."""
    if pa.types.is_integer(kind):
        return not set(text) - set("-0123456789")
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return not set(text.lower()) - set("+-.0123456789einfa")
    if pa.types.is_temporal(kind):
        return not set(text.upper()) - set("+-.:0123456789 TZ")
    return True


def _text_of(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray | None:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if any(holds(kind) for holds in _CASTABLE):
        try:
            return column.cast(pa.string())
        except pa.ArrowNotImplementedError:  # intervals and the like
            pass
    data_type = kalam_type(field)
    if data_type.kind is TypeKind.EMBEDDING:
        return None
    values = python_from_array(column, data_type)
    texts = [None if value is None else value_text(value) for value in values]
    return pa.chunked_array([pa.array(texts, pa.string())])
