"""Rows into tables: NOT NULL, keys, and the way in for few rows and for many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.errors import (
    DuplicateKeyError,
    NotNullError,
    ReadOnlyError,
    TransactionStateError,
)
from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind
from kalamdb_lab.partitions.bulk import append_bulk
from kalamdb_lab.partitions.commit import Commit, RowCommit, StagedRows
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.eviction import evict_expired
from kalamdb_lab.partitions.partition import fold_rows
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.tables.embedding import fillings
from kalamdb_lab.tables.keys import (
    KeyLookup,
    duplicate_key,
    refuse_repeated,
    shown,
    storage_rows,
)


class SchemaChangedError(Exception):
    """The definition changed between planning and the write lock: plan again, run again."""


@dataclass(frozen=True, slots=True)
class Written:
    """Rows written by one statement: the first version number and how many."""

    first_seq: int
    count: int


def refuse_unwritable(table: TableDef) -> None:
    """Refuse writing to system tables, views and registered tables."""
    if table.kind is TableKind.SYSTEM:
        raise ReadOnlyError(f"System table {table.table_id} is read-only")
    if table.kind is TableKind.VIEW:
        raise ReadOnlyError(f"{table.table_id} is a view and cannot be written")
    if table.registered is not None:
        raise ReadOnlyError(f"{table.table_id} is a registered table and is read-only")


class TableWriter:
    """The rules of writing, for rows as storage values and for Arrow tables.

    Every method works within a commit that holds the write lock, so what it checks cannot
    change before the commit ends.
    """

    def __init__(
        self,
        log: CommitLog,
        keys: KeyLookup,
        home: SegmentHome,
        table_by_key: Callable[[int], TableDef | None],
        system: SystemKeeper,
        *,
        bulk_rows: int,
    ) -> None:
        self._log = log
        self.keys = keys
        self._home = home
        self._table_by_key = table_by_key
        self._system = system
        self.bulk_rows = bulk_rows

    def check_current(self, table: TableDef) -> None:
        """Raise `SchemaChangedError` if the table is no longer as the statement was planned.

        Raises
        ------
        TransactionStateError
            For a STREAM table inside a transaction.
        """
        if table.kind is TableKind.STREAM and self._log.is_in_transaction:
            raise TransactionStateError("STREAM tables take no part in transactions")
        now = self._table_by_key(table.table_key)
        if now is None or now.schema_version != table.schema_version or now.kind is not table.kind:
            raise SchemaChangedError
        if now is not table and fillings(now) != fillings(table):
            raise SchemaChangedError

    def check_not_null(self, table: TableDef, rows: Sequence[Row]) -> None:
        """Raise `NotNullError` if a row has NULL where its column takes none."""
        for at, column in enumerate(table.columns):
            if not column.nullable and any(row[at] is None for row in rows):
                raise null_error(table, column)

    def insert(
        self,
        commit: RowCommit,
        table: TableDef,
        partition: PartitionKey,
        rows: Sequence[Row],
        *,
        keys_are_new: bool = False,
    ) -> Written:
        """Insert rows given in the order of ``table.columns``.

        Parameters
        ----------
        keys_are_new : bool
            True if the engine generated all keys: they are not looked up.

        Raises
        ------
        NotNullError, DuplicateKeyError
            Before anything is staged.
        """
        self.check_not_null(table, rows)
        expired = self._evict(commit, table, partition)
        at = _key_at(table)
        if at is not None and not keys_are_new:
            column = table.columns[at]
            offered = [row[at] for row in rows]
            refuse_repeated(column, offered)
            taken = self._taken(table, partition, offered, expired)
            if taken:
                first = next(value for value in offered if value in taken)
                raise duplicate_key(table, column, first)
        return Written(commit.append_rows(partition, table, rows), len(rows))

    def taken(
        self,
        commit: RowCommit,
        table: TableDef,
        partition: PartitionKey,
        values: Sequence[StorageValue],
    ) -> dict[StorageValue, int]:
        """Return the live version of each key that is taken; expired events take none, and go."""
        return self._taken(table, partition, values, self._evict(commit, table, partition))

    def _taken(
        self,
        table: TableDef,
        partition: PartitionKey,
        values: Sequence[StorageValue],
        expired: frozenset[int],
    ) -> dict[StorageValue, int]:
        found = self.keys.find(table, partition, values)
        return {value: seq for value, seq in found.items() if seq not in expired}

    def _evict(self, commit: RowCommit, table: TableDef, partition: PartitionKey) -> frozenset[int]:
        """Stage the end of expired events, and return their versions: they are still in memory."""
        if table.options.ttl_seconds is None:
            return frozenset()
        assert isinstance(commit, Commit), "streams take no part in transactions"
        before_us = commit.at_us - table.options.ttl_seconds * 1_000_000
        with self._log.at_newest([partition]):
            expired = self._log.partition(partition).expired_seqs(before_us)
            evict_expired(self._log, commit, partition, before_us)
        return frozenset(expired.tolist())

    def insert_arrow(
        self,
        commit: RowCommit,
        table: TableDef,
        partition: PartitionKey,
        rows: pa.Table,
        *,
        keys_are_new: bool = False,
    ) -> list[SegmentMeta]:
        """Insert many rows (all columns of the newest schema, canonical types) as segments.

        Small batches, those of transactions and of STREAM tables become log entries as `insert`
        makes them; then the returned list is empty.
        """
        for column in table.columns:
            if not column.nullable and rows.column(column.name).null_count:
                raise null_error(table, column)
        few = rows.num_rows < self.bulk_rows
        if table.kind is TableKind.STREAM or few or not isinstance(commit, Commit):
            plain = storage_rows(table, rows)
            self.insert(commit, table, partition, plain, keys_are_new=keys_are_new)
            return []
        if not keys_are_new:
            self._check_arrow_keys(table, partition, rows)
        return append_bulk(commit, self._home, table, partition, rows)

    def append_staged(
        self, commit: Commit, staged: StagedRows, *, final: dict[int, int], is_last_word: bool
    ) -> bool:
        """Append what one statement of a transaction changed; return whether as a segment.

        Parameters
        ----------
        final : dict of int to int
            The number of each version that the transaction made, by its number within it; the
            rows of ``staged`` are added.
        is_last_word : bool
            True if no later statement of the transaction changed any of the rows.
        """
        changes, table = staged.changes, staged.table
        is_bulk = len(changes.rows) >= self.bulk_rows and not changes.replaces
        if is_bulk and is_last_word and not changes.deleted:
            numbered = [(seq, changes.schema_version, row) for seq, row in enumerate(changes.rows)]
            rows = fold_rows(table, numbered).drop_columns(["_seq"])
            append_bulk(commit, self._home, table, staged.partition, rows)
            return True
        first = commit.append_rows(
            staged.partition,
            table,
            changes.rows,
            replaces=[final.get(seq, seq) for seq in changes.replaces],
            deleted=[final.get(seq, seq) for seq in changes.deleted],
        )
        final.update(zip(staged.seqs, range(first, first + len(staged.seqs)), strict=True))
        return False

    def published(self, table: TableDef, partition: PartitionKey) -> None:
        """Bring manifest and system tables on disk up to date after segments were committed."""
        self._home.published(table, partition, self._log.store)
        self._system.keep()

    def _check_arrow_keys(self, table: TableDef, partition: PartitionKey, rows: pa.Table) -> None:
        column = table.primary_key
        if column is None:
            return
        offered = rows.column(column.name)
        # Keys mostly come in order, and to see that costs a hundredth of counting them.
        if not _is_ascending(offered) and pc.count_distinct(offered).as_py() != rows.num_rows:
            counts = pc.value_counts(offered.combine_chunks())
            repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
            (value,) = storage_from_array(repeated.slice(0, 1), column.data_type)
            raise DuplicateKeyError(
                f"Duplicate primary key: {column.name} = {shown(value, column)} "
                "appears twice in this statement"
            )
        held = self._log.partition(partition)
        if not held.rows and not held.segments:
            return
        values = storage_from_array(offered, column.data_type)
        taken = self.keys.find(table, partition, values)
        if taken:
            raise duplicate_key(table, column, next(v for v in values if v in taken))


def _is_ascending(keys: pa.ChunkedArray) -> bool:
    whole = keys.combine_chunks()
    if not pa.types.is_integer(whole.type) or not len(whole):
        return False
    return bool(pc.all(pc.greater(whole[1:], whole[:-1])).as_py())


def _key_at(table: TableDef) -> int | None:
    return next((at for at, column in enumerate(table.columns) if column.primary_key), None)


def null_error(table: TableDef, column: ColumnDef) -> NotNullError:
    """Return the error for a NULL that the column does not take."""
    why = ": it is the primary key" if column.primary_key else ""
    return NotNullError(f"Column '{column.name}' of {table.table_id} cannot be NULL{why}")
