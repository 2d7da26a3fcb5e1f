"""Where segments of a partition are written, and how their files come and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import pyarrow as pa

from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import KalamError, StorageError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.segments.layout import segment_paths
from kalamdb_lab.segments.manifest_file import delete_manifest, write_manifest
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.writer import write_segment
from kalamdb_lab.store.log import ListedSegment, Store


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

    def published(self, table: TableDef, key: PartitionKey, store: Store) -> None:
        """Write ``manifest.json`` beside the segments that are live now.

        The commit that it follows is done whether or not this succeeds: a storage that cannot
        be written leaves the old one, which only a lost catalog would be made from.
        """
        storage, directory = self._place(table, key.scope)
        listed, last_segment_id = _listed(store, key)
        written: list[ListedSegment] | None = None
        with suppress(StorageError):
            # Another process may publish meanwhile: whoever writes last writes the newest.
            while listed != written:
                write_manifest(
                    storage,
                    directory,
                    table.table_id,
                    key,
                    listed,
                    last_segment_id=last_segment_id,
                )
                written = listed
                listed, last_segment_id = _listed(store, key)

    def discard(self, meta: SegmentMeta) -> None:
        """Delete the files of a segment that is not listed; a failure leaves an orphan."""
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

    def forget_retired(self, store: Store, grace_s: int) -> int:
        """Delete the files of segments retired longer ago than the grace time; return how many."""
        before_us = self._clock.now_us() - grace_s * 1_000_000
        with store.read() as transaction:
            gone = transaction.retired_segments(before_us)
        for meta in gone:
            storage = self._storage(meta.storage_id)
            for path in segment_paths(meta):
                storage.delete(path)
        if gone:
            with store.write() as transaction:
                transaction.forget_segments([meta.segment_id for meta in gone])
                places = {
                    (meta.storage_id, meta.path.rpartition("/")[0], meta.partition) for meta in gone
                }
                for storage_id, directory, key in places:
                    # Under the lock: nobody publishes into the directory meanwhile.
                    if not transaction.segments(key):
                        delete_manifest(self._storage(storage_id), directory, key)
        return len(gone)


def _listed(store: Store, key: PartitionKey) -> tuple[list[ListedSegment], int]:
    with store.read() as transaction:
        return transaction.segments(key), transaction.last_segment_id()
