"""Finding rows of a segment by primary key, for uniqueness checks and point reads."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.segments import ColumnStatistics, SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.layout import SEQ_COLUMN
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.versions import bounds_now

_BY_BYTES = frozenset({TypeKind.TEXT, TypeKind.BYTES, TypeKind.UUID, TypeKind.DECIMAL})
_EXACT = Context(prec=100)
_ROWS_PER_PROBE = 200
"""Searching one key among bytes costs about as much as hashing this many rows."""

_Numbers = np.ndarray[Any, np.dtype[Any]]


class KeyIndex:
    """The keys of one segment, sorted. A key that occurs more than once is its latest row.

    Parameters
    ----------
    column : pa.ChunkedArray
        The keys, none NULL, in ascending ``_seq``.
    seqs : numpy.ndarray of int64
        ``_seq`` of each row.
    """

    def __init__(self, column: pa.ChunkedArray, seqs: _Numbers, data_type: KalamDataType) -> None:
        self._data_type = data_type
        self._seqs = seqs
        if data_type.kind in _BY_BYTES:
            self._column = _whole(column)
            ordered = _is_ordered(self._column)
            self._order = None if ordered else _order(self._column)
            self._at = _reader(self._column, data_type)
            self.size_bytes = self._column.get_total_buffer_size()
            self.size_bytes += 0 if self._order is None else self._order.nbytes
        else:
            self._values = _as_numbers(column)
            if not bool(np.all(self._values[:-1] <= self._values[1:])):
                # A stable sort keeps rows of one key in the order of _seq.
                order = np.argsort(self._values, kind="stable")
                self._values, self._seqs = self._values[order], seqs[order]
            self.size_bytes = self._values.nbytes + self._seqs.nbytes

    def find(self, keys: Sequence[StorageValue]) -> dict[StorageValue, int]:
        """Return ``_seq`` of the latest row of each key that is there.

        ``keys`` are storage values of the column's type; NULL is never found.
        """
        if self._data_type.kind not in _BY_BYTES:
            return self._find_numbers([key for key in keys if key is not None])
        if len(keys) * _ROWS_PER_PROBE > len(self._seqs) and len(keys) > 1:
            return self._probe(keys)
        return {key: seq for key in keys if (seq := self._find_bytes(key)) is not None}

    def _find_numbers(self, keys: Sequence[Any]) -> dict[StorageValue, int]:
        values = self._values
        low, high = int(values[0]), int(values[-1])
        inside = [key for key in keys if low <= key <= high]
        if not inside:
            return {}
        # A plain list would be searched as int64, or worse, as float64 among uint64.
        wanted = np.array(inside, values.dtype)
        places = values.searchsorted(wanted, "right") - 1
        hits = np.flatnonzero(values[places] == wanted)
        return {inside[hit]: int(self._seqs[places[hit]]) for hit in hits.tolist()}

    def _find_bytes(self, key: Any) -> int | None:
        wanted = _comparable(key, self._data_type)
        if wanted is None:
            return None
        place = bisect_right(range(len(self._seqs)), wanted, key=self._sorted_at) - 1
        if place < 0 or self._sorted_at(place) != wanted:
            return None
        return int(self._seqs[self._row(place)])

    def _sorted_at(self, place: int) -> Any:
        return self._at(self._row(place))

    def _row(self, place: int) -> int:
        return place if self._order is None else int(self._order[place])

    def _probe(self, keys: Sequence[StorageValue]) -> dict[StorageValue, int]:
        wanted = array_from_storage(keys, self._data_type).cast(self._column.type)
        matches = pc.index_in(self._column, value_set=wanted.drop_null())
        rows = np.flatnonzero(matches.is_valid().to_numpy(zero_copy_only=False))
        present = [key for key in keys if key is not None]
        which = matches.take(pa.array(rows)).to_pylist()
        # Later rows replace earlier ones of the same key.
        return {
            present[index]: int(self._seqs[row])
            for index, row in zip(which, rows.tolist(), strict=True)
        }


class SegmentKeys:
    """Key indexes of segments, built when first needed and kept in the cache.

    Parameters
    ----------
    cache : SegmentCache
        The same one that ``reader`` uses, so that one budget holds for both.
    """

    def __init__(self, reader: SegmentReader, cache: SegmentCache) -> None:
        self._reader = reader
        self._cache = cache

    def find(
        self, meta: SegmentMeta, table: TableDef, keys: Sequence[StorageValue]
    ) -> dict[StorageValue, int]:
        """Return ``_seq`` of the latest row of each key that the segment holds.

        The segment's file is read only if a key lies within its bounds.
        """
        column = table.primary_key
        if column is None:
            return {}
        bounds = bounds_now(meta, table, column.column_id)
        if bounds is not None:
            keys = [key for key in keys if key is not None and _is_within(key, bounds)]
        if not keys:
            return {}
        cache_key = (meta.segment_id, column.column_id, ("keys", column.data_type))
        index: KeyIndex | None = self._cache.get(cache_key)
        if index is None:
            rows = self._reader.read(meta, table, [column.name, SEQ_COLUMN])
            seqs = rows.column(1).to_numpy()
            index = KeyIndex(rows.column(0), seqs, column.data_type)
            self._cache.put(cache_key, index, index.size_bytes)
        return index.find(keys)


def _is_within(key: Any, bounds: ColumnStatistics) -> bool:
    low: Any = bounds.low
    high: Any = bounds.high
    return (low is None or low <= key) and (high is None or key <= high)


def _whole(column: pa.ChunkedArray) -> Any:
    """Return the keys as one array; 64-bit offsets hold text of any size."""
    if not pa.types.is_fixed_size_binary(column.type) and not pa.types.is_decimal(column.type):
        column = column.cast(pa.large_binary())
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks()


def _is_ordered(column: Any) -> bool:
    if len(column) < 2:
        return True
    pairs = pc.less_equal(column.slice(0, len(column) - 1), column.slice(1))
    return bool(pc.all(pairs).as_py())


def _order(column: Any) -> _Numbers:
    places: Any = pc.sort_indices(column)
    return np.asarray(places.to_numpy(zero_copy_only=False), np.uint32)


def _as_numbers(column: pa.ChunkedArray) -> _Numbers:
    whole: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if pa.types.is_boolean(whole.type):
        whole = whole.cast(pa.uint8())
    elif pa.types.is_date32(whole.type):
        whole = whole.view(pa.int32())
    elif pa.types.is_temporal(whole.type):
        whole = whole.view(pa.int64())
    return np.asarray(whole.to_numpy())


def _reader(column: Any, data_type: KalamDataType) -> Callable[[int], Any]:
    """Return the function that gives the key of a row in a form that Python orders alike."""
    buffers = column.buffers()
    data = memoryview(buffers[-1]) if buffers[-1] is not None else memoryview(b"")
    offset = column.offset
    if data_type.kind is TypeKind.UUID:
        return lambda row: data[16 * (row + offset) : 16 * (row + offset) + 16].tobytes()
    if data_type.kind is TypeKind.DECIMAL:
        return lambda row: int.from_bytes(
            data[16 * (row + offset) : 16 * (row + offset) + 16], "little", signed=True
        )
    ends = np.frombuffer(buffers[1], np.int64)[offset : offset + len(column) + 1]
    return lambda row: data[ends[row] : ends[row + 1]].tobytes()


def _comparable(key: Any, data_type: KalamDataType) -> bytes | int | None:
    match key:
        case str():
            return key.encode("utf-8", "surrogatepass")
        case Decimal():
            scaled = _EXACT.scaleb(key, data_type.scale)
            return int(scaled) if scaled == scaled.to_integral_value() else None
        case bytes():
            return key
        case _:
            return None
