"""What tables lose with age: when the next event expires, and the next deleted row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import CorruptError
from kalamdb_lab.jobs.due import NEVER_US, kept_us
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.hot_tally import (
    HotTally,
    oldest_event_us,
    oldest_flushed_deletion_us,
    oldest_hot_deletion_us,
)
from kalamdb_lab.store.log import EntryKind, PartitionChange, Store


@dataclass(slots=True)
class _Age:
    """When the oldest came to be of what a table loses: not before ``oldest_us``.

    Exactly then if it ``is_exact``. None: there is nothing.
    """

    oldest_us: int | None
    is_exact: bool


class TableAges:
    """The ages of STREAM tables and of tables with DELETED_RETENTION_HOURS; not thread-safe.

    A table is read through once when it is first seen, and again only when what was the oldest
    may be gone; else what is new is enough.

    Parameters
    ----------
    tally : HotTally
        Followed here, and by nobody else.
    """

    def __init__(self, catalog: Catalog, store: Store, tally: HotTally) -> None:
        self._catalog = catalog
        self._store = store
        self._tally = tally
        self._ages: dict[int, _Age] = {}
        self._definitions: dict[int, TableDef] = {}
        self._aged: list[TableDef] = []
        self._revision = -1

    def follow(self) -> None:
        """Take in what was committed since; the tally does too."""
        before_seq, log_start = self._tally.seq or 0, self._tally.log_start
        changes = self._tally.follow()
        if changes is None:
            self._ages.clear()
            return
        if self._tally.log_start != log_start:
            for known in self._ages.values():
                known.is_exact = False  # times of what was trimmed are known less well
        try:
            for change in changes:
                self._take_in(change, before_seq)
        except BaseException:
            self._ages.clear()  # the rest of the changes will not come again
            raise

    def _take_in(self, change: PartitionChange, before_seq: int) -> None:
        key = change.partition
        age = self._ages.get(key.table_key)
        if age is None or change.kind is EntryKind.SEGMENT:
            return
        if change.kind is not EntryKind.ROWS:
            age.is_exact = False  # some of the oldest may be gone
            return
        table = self._catalog.table_by_key(key.table_key)
        try:
            oldest_us = None if table is None else self._oldest_us(table, key, before_seq)
        except CorruptError:
            del self._ages[key.table_key]  # to be found damaged when it is asked for, alone
            return
        if oldest_us is not None:
            known_us = oldest_us if age.oldest_us is None else age.oldest_us
            age.oldest_us = min(known_us, oldest_us)

    def definitions(self) -> Mapping[int, TableDef]:
        """Return all tables and views by their keys; for many of them, cheaper than each alone."""
        revision = self._catalog.tables.revision
        if self._revision != revision:
            tables = self._catalog.tables.all().values()
            self._definitions = {table.table_key: table for table in tables}
            self._aged = [table for table in tables if kept_us(table) is not None]
            kept = {table.table_key for table in self._aged}
            self._ages = {key: age for key, age in self._ages.items() if key in kept}
            self._revision = revision
        return self._definitions

    def tables(self) -> list[TableDef]:
        """Return the tables that lose something with age."""
        self.definitions()
        return self._aged

    def due_us(self, table: TableDef, *, exactly: bool = False) -> int:
        """Return when something of a table comes of age, or a time before; `NEVER_US` if nothing.

        With ``exactly`` no time before; what is not known for sure is `NEVER_US` then.

        Raises
        ------
        CorruptError
            Rows of the table are damaged; the others are not touched by that.
        """
        kept, age = kept_us(table), self._age(table)
        if kept is None or age.oldest_us is None or (exactly and not age.is_exact):
            return NEVER_US
        return age.oldest_us + kept

    def measure(self, table: TableDef) -> None:
        """Find the oldest of a table again, if what was the oldest may be gone."""
        age = self._age(table)
        if not age.is_exact:
            self._ages[table.table_key] = self._measured(table)

    def _age(self, table: TableDef) -> _Age:
        age = self._ages.get(table.table_key)
        if age is None:
            age = self._ages[table.table_key] = self._measured(table)
        return age

    def _measured(self, table: TableDef) -> _Age:
        hot = self._tally.tables.get(table.table_key)
        keys = [PartitionKey(table.table_key, scope) for scope in (hot.scopes if hot else ())]
        times = [self._oldest_us(table, key) for key in keys]
        if table.kind is not TableKind.STREAM:
            times.append(oldest_flushed_deletion_us(self._store, table.table_key))
        oldest_us = min((at_us for at_us in times if at_us is not None), default=None)
        return _Age(oldest_us, is_exact=True)

    def _oldest_us(self, table: TableDef, key: PartitionKey, after_seq: int = 0) -> int | None:
        if table.kind is TableKind.STREAM:
            return oldest_event_us(self._store, key, after_seq=after_seq)
        return oldest_hot_deletion_us(self._store, key, after_seq=after_seq)
