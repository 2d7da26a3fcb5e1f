"""Where segments of a partition are written, and how their files come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import pyarrow as pa

from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import KalamError, NotFoundError, StorageError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.segments.layout import index_path, segment_id_in, segment_paths
from kalamdb_lab.segments.manifest_file import delete_manifest, write_manifest
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.vector_index import write_index
from kalamdb_lab.segments.writer import write_segment
from kalamdb_lab.store.log import ListedSegment, Store
from kalamdb_lab.vectors.inverted_lists import InvertedLists


class SegmentHome:
    """Writes, lists and deletes segment files through the storage of their table.

    Parameters
    ----------
    place : callable
        Storage and directory for new segments of a partition.
    storage : callable
        A storage by its id, for segments that lie already.
    """

    def __init__(
        self,
        place: Callable[[TableDef, str], tuple[Storage, str]],
        storage: Callable[[str], Storage],
        clock: Clock,
    ) -> None:
        self._place = place
        self._storage = storage
        self._clock = clock

    def write(
        self,
        table: TableDef,
        key: PartitionKey,
        rows: pa.Table,
        store: Store,
        *,
        replaces: Sequence[int] = (),
    ) -> SegmentMeta:
        """Write rows (newest schema and ``_seq``, ascending) as a new segment, not yet listed."""
        with store.write() as transaction:
            segment_id = transaction.next_segment_id()
        return self.write_as(table, key, rows, segment_id, replaces=replaces)

    def write_as(
        self,
        table: TableDef,
        key: PartitionKey,
        rows: pa.Table,
        segment_id: int,
        *,
        replaces: Sequence[int] = (),
    ) -> SegmentMeta:
        """Write rows under an id that the caller took; ``replaces`` lists segments it merges."""
        storage, directory = self._place(table, key.scope)
        return write_segment(
            storage,
            table,
            key,
            directory,
            segment_id,
            rows,
            created_at_us=self._clock.now_us(),
            replaces=replaces,
        )

    def published(
        self,
        table: TableDef,
        key: PartitionKey,
        store: Store,
        *,
        merged: Iterable[SegmentMeta] = (),
    ) -> None:
        """Write ``manifest.json`` beside the segments that are live now, in each of their places.

        The commit that it follows is done whether or not this succeeds: a storage that cannot
        be written leaves the old one, which only a lost catalog would be made from.

        Parameters
        ----------
        merged : iterable of SegmentMeta
            Taken off the list by that commit; the manifests beside them stop naming them.
        """
        storage, directory = self._place(table, key.scope)
        # Where new segments go comes first: a manifest that names a merged segment may only be
        # found together with one that names what it was merged into.
        places = dict.fromkeys([(storage.storage_id, directory), *map(_place_of, merged)])
        written: list[ListedSegment] | None = None
        listed, last_segment_id = _listed(store, key)
        # Another process may publish meanwhile: whoever writes last writes the newest.
        while listed != written:
            written = listed
            for storage_id, path in places | dict.fromkeys(_place_of(s.meta) for s in listed):
                with suppress(StorageError, NotFoundError):
                    write_manifest(
                        self._storage(storage_id),
                        path,
                        table.table_id,
                        key,
                        [item for item in listed if _place_of(item.meta) == (storage_id, path)],
                        last_segment_id=last_segment_id,
                    )
            listed, last_segment_id = _listed(store, key)

    def require(self, meta: SegmentMeta) -> None:
        """Raise `NotFoundError` if the storage of a new segment was dropped since it was written.

        To be called in the commit that lists it: DROP STORAGE looks at listed segments only.
        """
        self._storage(meta.storage_id)

    def discard(self, meta: SegmentMeta) -> None:
        """Delete the files of a segment that is not listed; a failure leaves an orphan."""
        with suppress(NotFoundError):
            storage = self._storage(meta.storage_id)
            for path in segment_paths(meta):
                storage.discard(path)

    def discard_unlisted(self, meta: SegmentMeta, store: Store) -> None:
        """Delete the files of a segment after a failure, unless its commit came through.

        What fails after COMMIT, an interrupt say, must not take a published segment's files. If
        the manifest cannot be asked, they stay: an orphan does no harm.
        """
        with suppress(KalamError):
            with store.read() as transaction:
                is_listed = bool(transaction.segments_by_id([meta.segment_id]))
            if not is_listed:
                self.discard(meta)

    def write_index(
        self, meta: SegmentMeta, column_id: int, number: int, index: InvertedLists
    ) -> str:
        """Write an ANN index beside its segment, not yet listed; return its digest."""
        path = index_path(meta.path, column_id, number)
        return write_index(self._storage(meta.storage_id), path, index)

    def discard_index(self, meta: SegmentMeta, column_id: int, number: int) -> None:
        """Delete the files of an ANN index that is not listed; a failure leaves an orphan."""
        with suppress(NotFoundError):
            storage = self._storage(meta.storage_id)
            storage.discard(index_path(meta.path, column_id, number))

    def delete_retired(self, store: Store, retired: Iterable[SegmentMeta]) -> int:
        """Delete the files of retired segments, and what is then empty; return how many."""
        gone = [meta for meta in retired if self._is_deleted(meta)]
        if gone:
            with store.write() as transaction:
                transaction.forget_segments([meta.segment_id for meta in gone])
                for place, key in {(_place_of(meta), meta.partition) for meta in gone}:
                    # Under the lock: nobody publishes into the directory meanwhile.
                    if all(_place_of(item.meta) != place for item in transaction.segments(key)):
                        with suppress(StorageError, NotFoundError):
                            storage = self._storage(place[0])
                            delete_manifest(storage, place[1], key)
                            storage.delete_empty(place[1])
        return len(gone)

    def sweep(
        self, table: TableDef, key: PartitionKey, store: Store, *, upto_segment_id: int
    ) -> None:
        """Delete what crashes left of a partition that was dropped, where its segments go.

        Parameters
        ----------
        upto_segment_id : int
            The last id taken when it was dropped: what has a higher one came later.
        """
        with suppress(StorageError, NotFoundError):
            storage, directory = self._place(table, key.scope)
            with store.read() as transaction:
                retired = transaction.retired_segments()
            kept = {path for segment in retired for path in segment_paths(segment.meta)}
            for file in list(storage.walk(directory)):
                is_inside = file.path.rpartition("/")[0] == directory
                segment_id = segment_id_in(file.name)
                if is_inside and file.path not in kept and 0 < segment_id <= upto_segment_id:
                    storage.delete(file.path)
            with store.write() as transaction:
                if not transaction.segments(key):
                    delete_manifest(storage, directory, key)
                    storage.delete_empty(directory)

    def _is_deleted(self, meta: SegmentMeta) -> bool:
        """Delete the files of a segment; False if their storage is out of reach now."""
        try:
            storage = self._storage(meta.storage_id)
            for path in segment_paths(meta):
                storage.delete(path)
        except NotFoundError:
            return True  # the storage was dropped, and its files with it
        except StorageError:
            return False
        return True


def _place_of(meta: SegmentMeta) -> tuple[str, str]:
    return meta.storage_id, meta.path.rpartition("/")[0]


def _listed(store: Store, key: PartitionKey) -> tuple[list[ListedSegment], int]:
    with store.read() as transaction:
        return transaction.segments(key), transaction.last_segment_id()
