"""Definitions and users kept in segments, so that the files alone can tell what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from kalamdb_lab.catalog.system_tables import NAMESPACES, STORAGES, SYSTEM_TABLES, TABLES, USERS
from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.compaction import compact_partition
from kalamdb_lab.partitions.flush import flush_partition
from kalamdb_lab.partitions.retired import RetiredFiles
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.reader import SegmentReader

_DEFINITIONS = frozenset(
    PartitionKey(table.table_key, "") for table in (USERS, NAMESPACES, STORAGES, TABLES)
)
_MOST_ENTRIES = 1_000
_MOST_SEGMENTS = 16
_KEEP_NONE = 2**62
"""System tables have no retention: versions that were removed are not kept."""


class SystemKeeper:
    """Flushes the system tables whenever a segment of another table was published.

    Definitions and users always; what only tells of the past, jobs and the audit trail, when it
    is much: nothing is made from it when a catalog is lost.

    Parameters
    ----------
    retired : RetiredFiles, optional
        Deletes the files of merged segments.
    system : mapping of str to TableDef
        The stored system tables by name.
    """

    def __init__(
        self,
        log: CommitLog,
        home: SegmentHome,
        reader: SegmentReader,
        retired: RetiredFiles | None = None,
        *,
        system: Mapping[str, TableDef] = SYSTEM_TABLES,
    ) -> None:
        self._log = log
        self._home = home
        self._reader = reader
        self._retired = retired
        self._tables = {PartitionKey(table.table_key, ""): table for table in system.values()}

    def keep(self) -> None:
        """Flush what is hot in the system tables, and merge their segments when they are many.

        Costs nothing when there is nothing to do. The commit that it follows is done already, so
        whatever hinders this, a busy database, a full disk, a damaged segment of old jobs, only
        leaves the work to the next call.
        """
        with suppress(KalamError):
            with self._log.at_newest(self._tables):
                hot = [key for key in self._tables if self._is_due(key)]
            for key in hot:
                self._flush(key)

    def _is_due(self, key: PartitionKey) -> bool:
        entries = len(self._log.partition(key).entries)
        return entries > (0 if key in _DEFINITIONS else _MOST_ENTRIES)

    def _flush(self, key: PartitionKey) -> None:
        def definition() -> TableDef:
            return self._tables[key]

        flush_partition(self._log, self._home, definition, key, purge_before_seq=_KEEP_NONE)
        if len(self._log.partition(key).segments) > _MOST_SEGMENTS:
            compact_partition(
                self._log, self._home, self._reader, definition, key, purge_before_seq=_KEEP_NONE
            )
            if self._retired is not None:
                self._retired.delete()
