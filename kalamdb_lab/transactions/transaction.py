"""Transactions: snapshot isolation, and the first committer wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from kalamdb_lab.authorization.gateway import authorize_execute_as, authorize_write
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import BusyError, ConflictError, TransactionStateError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.commit import StagedRows
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.leases import Leases
from kalamdb_lab.partitions.payload import RowChanges
from kalamdb_lab.partitions.transaction_view import TransactionView
from kalamdb_lab.tables.embedding import fillings
from kalamdb_lab.tables.keys import shown
from kalamdb_lab.tables.writing import TableWriter


class SessionTransaction:
    """The transaction that a session has open, if it has one.

    Nothing of it is visible to anyone else before `commit`, and nothing stays of it after
    `rollback`; it takes no lock before `commit`.

    Parameters
    ----------
    catalog : Catalog
        The present definitions, and roles.
    leases : Leases
        Keep the segment files of the snapshot while the transaction is open.
    """

    def __init__(
        self,
        log: CommitLog,
        writer: TableWriter,
        catalog: Catalog,
        leases: Leases,
    ) -> None:
        self._log = log
        self._writer = writer
        self._keys = writer.keys
        self._catalog = catalog
        self._definitions: Mapping[str, TableDef] = {}
        self._leases = leases
        self._view: TransactionView | None = None
        self._held = ExitStack()

    @property
    def view(self) -> TransactionView | None:
        """What the statements of the session see; None outside a transaction."""
        return self._view

    @property
    def is_open(self) -> bool:
        """True between BEGIN and COMMIT or ROLLBACK."""
        return self._view is not None

    def begin(self) -> None:
        """Take the snapshot; raises `TransactionStateError` if a transaction is open."""
        if self._view is not None:
            raise TransactionStateError(
                "A transaction is already active; COMMIT or ROLLBACK it first"
            )
        self._definitions = self._catalog.tables.all()  # nobody changes what it returned
        with ExitStack() as held:
            view = self._log.begin()
            held.callback(view.close)
            held.enter_context(self._leases.holding(view.base_seq))
            self._held = held.pop_all()
        self._view = view

    def commit(self, context: ExecutionContext) -> int:
        """Make all changes durable and visible in one commit; return how many rows changed.

        The transaction is over afterwards, but for a `BusyError`: then COMMIT may be tried again.

        Raises
        ------
        ConflictError
            If a row that it changed, a key that it took, or a table that it wrote was changed
            by others since its snapshot. Nothing of it stays.
        TransactionStateError
            If none is open.
        """
        view = self._active()
        try:
            count = self._publish(view, context) if view.staged else 0
        except BusyError:
            raise
        except BaseException:
            self._end()
            raise
        self._end()
        return count

    def rollback(self) -> None:
        """Forget all changes; raises `TransactionStateError` if no transaction is open."""
        self._active()
        self._end()

    def close(self) -> None:
        """Roll back what is open, if anything is."""
        if self._view is not None:
            self._end()

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Roll a transaction back that the block began and, by failing, did not end."""
        before = self._view
        try:
            yield
        except BaseException:
            if self._view is not None and self._view is not before:
                self._end()
            raise

    def _active(self) -> TransactionView:
        if self._view is None:
            raise TransactionStateError("There is no active transaction")
        return self._view

    def _end(self) -> None:
        self._view = None
        self._held.close()

    # --- COMMIT --------------------------------------------------------------------------------

    def _publish(self, view: TransactionView, context: ExecutionContext) -> int:
        written = _by_partition(view)
        count = 0
        published: dict[PartitionKey, TableDef] = {}
        changed_later = {seq for partition in written.values() for seq in partition.changed()}
        with self._log.statement(), self._log.commit() as commit:
            for partition in written.values():
                self._check(partition, view, context)
            final: dict[int, int] = {}
            for staged in _lasting(view.staged):
                changes = staged.changes
                is_last_word = changed_later.isdisjoint(staged.seqs)
                if self._writer.append_staged(
                    commit, staged, final=final, is_last_word=is_last_word
                ):
                    published[staged.partition] = staged.table
                count += len(changes.rows) + len(changes.deleted)
        for key, table in published.items():
            self._writer.published(table, key)
        return count

    def _check(self, written: _Written, view: TransactionView, context: ExecutionContext) -> None:
        """Raise `ConflictError` unless all that the partition's changes rest on is still so."""
        table = written.table
        now = self._catalog.table_by_key(table.table_key)
        before = self._definitions.get(str(table.table_id), table)
        if now is None or before.table_key != now.table_key:
            raise _conflict(f"{table.table_id} was dropped")
        known = [before, *(staged.table for staged in written.staged)]
        if any(definition.schema_version != now.schema_version for definition in known):
            raise _conflict(f"{table.table_id} was altered")
        if any(fillings(staged.table) != fillings(now) for staged in written.staged):
            raise _conflict(f"{table.table_id} was altered")
        key = written.partition
        # A right may have gone since the statement.
        if now.kind is TableKind.SHARED:
            authorize_write(now, context)
        elif key.scope != context.user_id:
            target_role = self._catalog.role_of(key.scope)
            authorize_execute_as(context.actor_id, context.role, key.scope, target_role)
        changed = {seq: None for seq in written.changed() if seq <= view.base_seq}
        with self._log.at_newest([key]):
            partition = self._log.partition(key)
            gone = partition.first_gone(changed, now)
        if gone is not None:
            raise _conflict(f"{self._row(written, view, gone)} was changed")
        if table.primary_key is not None:
            offered = _live_keys(view, key, table)
            for value, seq in self._keys.find(table, key, offered).items():
                if seq not in changed:
                    name = f"{table.primary_key.name} = {shown(value, table.primary_key)}"
                    raise _conflict(f"primary key {name} of {table.table_id} was taken")

    def _row(self, written: _Written, view: TransactionView, seq: int) -> str:
        """Name a row of the snapshot by its key, which its user has seen."""
        table = written.table
        column = table.primary_key
        if column is None:
            return f"a row of {table.table_id}"
        value = written.key_of_replaced(seq)
        if value is None:
            with self._log.statement(view):
                value = self._keys.key_of(table, written.partition, seq)
        return f"{table.table_id} {column.name} = {shown(value, column)}"


@dataclass(slots=True)
class _Written:
    """What a transaction changed in one partition."""

    partition: PartitionKey
    table: TableDef
    staged: list[StagedRows] = field(default_factory=list)

    def changed(self) -> Iterator[int]:
        """Yield the versions that were replaced or deleted, in order."""
        for staged in self.staged:
            yield from (seq for seq in staged.changes.replaces if seq)
            yield from staged.changes.deleted

    def key_of_replaced(self, seq: int) -> StorageValue:
        """Return the key of a version that was replaced: its successor has the same one."""
        at = _key_at(self.table)
        for staged in self.staged:
            for row, replaced in zip(staged.changes.rows, staged.changes.replaces, strict=False):
                if replaced == seq:
                    return cast("StorageValue", row[at])
        return None


def _by_partition(view: TransactionView) -> dict[PartitionKey, _Written]:
    written: dict[PartitionKey, _Written] = {}
    for staged in view.staged:
        found = written.get(staged.partition)
        if found is None:
            found = written[staged.partition] = _Written(staged.partition, staged.table)
        found.staged.append(staged)
    return written


def _lasting(staged: Sequence[StagedRows]) -> Iterator[StagedRows]:
    """Yield the changes without rows that the transaction both made and deleted.

    They were never anybody else's, and their keys may have been taken by others meanwhile.
    """
    made = {seq for rows in staged for seq in rows.seqs}
    replaced = {
        seq: old
        for rows in staged
        for seq, old in zip(rows.seqs, rows.changes.replaces, strict=False)
    }
    gone: set[int] = set()
    for rows in staged:
        for deleted in rows.changes.deleted:
            chain, seq = [], deleted
            while seq in made:
                chain.append(seq)
                seq = replaced.get(seq, 0)
            if not seq:  # it did not begin with a row of the snapshot
                gone.update(chain)
    for rows in staged:
        if gone.isdisjoint(rows.seqs) and gone.isdisjoint(rows.changes.deleted):
            yield rows
            continue
        kept = [at for at, seq in enumerate(rows.seqs) if seq not in gone]
        changes = rows.changes
        left = RowChanges(
            changes.schema_version,
            [changes.rows[at] for at in kept],
            [changes.replaces[at] for at in kept] if changes.replaces else [],
            [seq for seq in changes.deleted if seq not in gone],
        )
        if left.rows or left.deleted:
            yield replace(rows, seqs=[rows.seqs[at] for at in kept], changes=left)


def _live_keys(view: TransactionView, key: PartitionKey, table: TableDef) -> list[StorageValue]:
    """Return the keys of the rows that the transaction added and still has."""
    at = _key_at(table)
    rows = view.partition(key).live_rows()
    return [row[at] for seq, _, row in rows if seq > view.base_seq]


def _key_at(table: TableDef) -> int:
    return next(at for at, column in enumerate(table.columns) if column.primary_key)


def _conflict(what: str) -> ConflictError:
    return ConflictError(f"Conflict: {what} since this transaction began; run it again")
