"""Which type texts have by their looks: one that holds each value just as it is written."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.arrays import coerce_array
from kalamdb_lab.errors import KalamError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType

_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = r"[0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?"
# No plus and no leading zeros: those are the numbers of telephones and post offices.
_WHOLE: Final = r"0|-?[1-9][0-9]{0,18}"
_NUMBER: Final = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|-?(nan|inf|NaN|Infinity)"
_UNQUOTED: Final[tuple[tuple[KalamDataType, str], ...]] = (
    (types.BOOLEAN, "(?i:true|false)"),
    (types.BIGINT, _WHOLE),
    (types.DOUBLE, _NUMBER),
)
_QUOTED: Final[tuple[tuple[KalamDataType, str], ...]] = (
    (types.DATE, _DATE),
    (types.TIMESTAMP, rf"{_DATE}([ T]{_TIME})?"),
    (types.DATETIME, rf"{_DATE}[ T]{_TIME}(Z|[+-][0-9]{{2}}:?[0-9]{{2}})"),
    (types.TIME, _TIME),
    (types.UUID, r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
)
"""Types whose values JSON writes in quotes."""

_SURE_DOUBLE: Final = 2**53
"""Beyond it a DOUBLE does not hold every whole number."""
_HEAD_ROWS: Final = 64


class TextType:
    """The narrowest type that holds all texts seen so far.

    Digits with leading zeros, whole numbers beyond 64 bits, and whole numbers beyond 2**53 among
    fractions stay TEXT. A fraction is rounded as any DOUBLE is.

    Parameters
    ----------
    was_quoted : bool
        True if the file says that these are texts: then digits stay text.
    """

    def __init__(self, *, was_quoted: bool = False) -> None:
        self._possible = [*(() if was_quoted else _UNQUOTED), *_QUOTED]
        self._has_values = False

    @property
    def data_type(self) -> KalamDataType:
        """The type; TEXT if no other holds the texts, or if all were NULL."""
        return self._possible[0][0] if self._possible and self._has_values else types.TEXT

    def see(self, texts: pa.Array | pa.ChunkedArray) -> None:
        """Take the next texts into account; NULL tells nothing."""
        if not self._possible:
            return
        given = texts.drop_null()
        if not len(given):
            return
        self._has_values = True
        self._possible = [
            (data_type, pattern)
            for data_type, pattern in self._possible
            if _all_match(given.slice(0, _HEAD_ROWS), pattern)
            and _all_match(given, pattern)
            and _holds(data_type, given)
        ]


def type_of_texts(texts: pa.Array | pa.ChunkedArray, *, was_quoted: bool = False) -> KalamDataType:
    """Return the type of one column of texts; see `TextType`."""
    seen = TextType(was_quoted=was_quoted)
    seen.see(texts)
    return seen.data_type


def _all_match(texts: pa.Array | pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, f"^({pattern})$")).as_py())


def _holds(data_type: KalamDataType, texts: pa.Array | pa.ChunkedArray) -> bool:
    """Return whether all texts, which look like values of a type, are values of it."""
    try:
        values = coerce_array(texts, None, data_type, column="")
    except KalamError:
        return False
    if data_type != types.DOUBLE:
        return True
    large = pc.greater_equal(pc.abs(values), float(_SURE_DOUBLE))
    digits = texts.filter(pc.and_(large, pc.is_finite(values)))
    return bool(pc.all(pc.match_substring_regex(digits, "[eE]"), min_count=0).as_py())
