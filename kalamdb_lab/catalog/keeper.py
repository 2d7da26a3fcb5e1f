"""Definitions and users kept in segments, so that the files alone can tell what they hold."""

from __future__ import annotations

from contextlib import suppress

from kalamdb_lab.catalog.system_tables import SYSTEM_TABLES
from kalamdb_lab.errors import BusyError, StorageError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.compaction import compact_partition
from kalamdb_lab.partitions.flush import flush_partition
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.reader import SegmentReader

_MOST_SEGMENTS = 16
_KEEP_NONE = 2**62
"""System tables have no retention: versions that were removed are not kept."""


class SystemKeeper:
    """Flushes the system tables whenever a segment of another table was published.

    Parameters
    ----------
    grace_s : int
        How long files of merged segments stay.
    """

    def __init__(
        self, log: CommitLog, home: SegmentHome, reader: SegmentReader, *, grace_s: int
    ) -> None:
        self._log = log
        self._home = home
        self._reader = reader
        self._grace_s = grace_s
        self._tables = {
            PartitionKey(table.table_key, ""): table for table in SYSTEM_TABLES.values()
        }

    def keep(self) -> None:
        """Flush what is hot in the system tables, and merge their segments when they are many.

        Costs nothing when there is nothing to do. The commit that it follows is done already, so
        a busy database or a full disk only leaves the work to the next call.
        """
        with self._log.at_newest(self._tables):
            hot = [key for key in self._tables if self._log.partition(key).entries]
        with suppress(BusyError, StorageError):
            for key in hot:
                table = self._tables[key]
                flush_partition(self._log, self._home, table, key, purge_before_seq=_KEEP_NONE)
                if len(self._log.partition(key).segments) > _MOST_SEGMENTS:
                    compact_partition(
                        self._log,
                        self._home,
                        self._reader,
                        table,
                        key,
                        purge_before_seq=_KEEP_NONE,
                    )
                    self._home.forget_retired(self._log.store, self._grace_s)
