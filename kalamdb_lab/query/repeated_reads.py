"""What is known of segments that are read again: that they are, and what is live in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.removals import Seqs
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.reader import SegmentReader


class RepeatedReads:
    """Remembers which segments were read lately: what is read again is worth decoding.

    Parquet is read directly the first time, because decoding it for the cache costs more than
    one query saves.
    """

    def __init__(self, limit: int = 4_096) -> None:
        self._limit = limit
        self._seen: dict[tuple[int, tuple[str, ...]], None] = {}

    def again(self, segment_id: int, columns: tuple[str, ...]) -> bool:
        """Note a read and return whether it was noted before."""
        key = (segment_id, columns)
        seen = self._seen.pop(key, 0) is None
        self._seen[key] = None
        while len(self._seen) > self._limit:
            self._seen.pop(next(iter(self._seen)), None)
        return seen


class LiveColumns:
    """Columns of segments without the rows that were removed from them.

    Leaving rows out copies all others, which takes longer than most queries over them; so the
    copies are kept, within a budget, until other rows are removed.
    """

    def __init__(self, reader: SegmentReader, *, budget_bytes: int) -> None:
        self._reader = reader
        self._kept = SegmentCache(budget_bytes)

    def read(
        self, meta: SegmentMeta, table: TableDef, columns: Sequence[str], removed: Seqs
    ) -> pa.Table:
        """Return the rows of a segment whose ``_seq`` is not in ``removed`` (ascending).

        Text may come as dictionaries; else as `SegmentReader.read` says.
        """
        found: dict[str, tuple[pa.Field, pa.ChunkedArray]] = {}
        for name in columns:
            kept = self._kept.get(_key(meta, table, name))
            if kept is not None and np.array_equal(kept[0], removed):
                found[name] = kept[1:]
        missing = [name for name in columns if name not in found]
        if missing:
            wanted = list(dict.fromkeys([*missing, "_seq"]))
            rows = self._reader.read(meta, table, wanted, keep_dictionaries=True)
            is_live = pa.array(~mask_of(rows.column("_seq").to_numpy(), removed))
            for name in missing:
                field, column = rows.schema.field(name), rows.column(name).filter(is_live)
                found[name] = field, column
                size_bytes = column.get_total_buffer_size() + removed.nbytes
                self._kept.put(_key(meta, table, name), (removed, field, column), size_bytes)
        schema = pa.schema([found[name][0] for name in columns])
        return pa.Table.from_arrays([found[name][1] for name in columns], schema=schema)

    def forget(self, segment_ids: Collection[int]) -> None:
        """Drop what is kept of retired segments."""
        self._kept.forget(segment_ids)


def _key(meta: SegmentMeta, table: TableDef, name: str) -> tuple[int, tuple[int, str], str]:
    return meta.segment_id, (table.schema_version, name), "live"


def mask_of(seqs: Seqs, wanted: Seqs) -> npt.NDArray[np.bool_]:
    """Return which of ``seqs`` (ascending) are in ``wanted`` (ascending)."""
    mask = np.zeros(len(seqs), bool)
    at = np.searchsorted(seqs, wanted)
    inside = at < len(seqs)
    at, wanted = at[inside], wanted[inside]
    mask[at[seqs[at] == wanted]] = True
    return mask
