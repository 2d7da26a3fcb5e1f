"""ANN indexes of segments as they are searched: mapped files, each verified once."""

from __future__ import annotations

from collections.abc import Callable, Collection

from kalamdb_lab.errors import NotFoundError, StorageError
from kalamdb_lab.model.segments import SegmentIndex, SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.segments.layout import index_path
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.vector_index import index_digest, map_index
from kalamdb_lab.vectors.inverted_lists import InvertedLists
from kalamdb_lab.vectors.rows import Metric


def sound_index(
    storage: Storage, meta: SegmentMeta, column_id: int, built: SegmentIndex, dimension: int
) -> InvertedLists | None:
    """Return what was built of an index; None if its files are not what was written."""
    index = map_index(
        storage,
        index_path(meta.path, column_id, built.number),
        row_count=meta.row_count,
        dimension=dimension,
        metric=Metric(built.metric),
        list_count=built.list_count,
    )
    return index if index is not None and index_digest(index) == built.digest else None


class IndexReader:
    """Hands out indexes; what is missing or damaged is done without, as nothing needs an index.

    The files are compared with their digest before this process uses them for the first time,
    and not again. Safe for threads.

    Parameters
    ----------
    storage_of : callable
        Gives the storage of an id.
    """

    def __init__(self, storage_of: Callable[[str], Storage]) -> None:
        self._storage_of = storage_of
        self._known: dict[tuple[int, int], tuple[int, InvertedLists | None]] = {}

    def index(self, meta: SegmentMeta, table: TableDef, column: ColumnDef) -> InvertedLists | None:
        """Return what was built for the index that a column has now, as `SegmentReader` says."""
        wanted = table.index_on(column.column_id)
        built = None if wanted is None else meta.built(wanted)
        if built is None:
            return None
        item = meta.segment_id, column.column_id
        known = self._known.get(item)
        if known is None or known[0] != built.number:
            try:
                storage = self._storage_of(meta.storage_id)
                dimension = column.data_type.dimension
                found = sound_index(storage, meta, column.column_id, built, dimension)
            except (NotFoundError, StorageError):
                return None  # the storage may be back for the next search
            known = built.number, found
            self._known[item] = known
        return known[1]

    def forget(self, segment_ids: Collection[int]) -> None:
        """Drop what is known of retired segments."""
        known = self._known.copy()  # other threads add to it
        self._known = {item: found for item, found in known.items() if item[0] not in segment_ids}
