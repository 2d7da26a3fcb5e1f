"""Partitions kept in step with the commit log: every read and every commit passes here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from kalamdb_lab.clock import Clock
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.changes import Change, WatchedPartitions, capture
from kalamdb_lab.partitions.commit import Commit, RowCommit
from kalamdb_lab.partitions.partition import Partition, PartitionSnapshot, loaded
from kalamdb_lab.partitions.payload import (
    RowChanges,
    decode_evicted,
    decode_flush,
    decode_rows,
)
from kalamdb_lab.partitions.removals import SeqNumbers
from kalamdb_lab.partitions.transaction_view import TransactionView
from kalamdb_lab.store.log import Entry, EntryKind, ReadTransaction, Store

Definition: TypeAlias = Callable[[], TableDef | None]
"""The present definition of a table; None if it was dropped."""


class _Statement(threading.local):
    """What a thread knows of the statement that it runs."""

    is_open = False
    has_looked = False
    view: TransactionView | None = None
    staging: Callable[[RowCommit], None] | None = None


class CommitLog:
    """The partitions of one database, as the log has them up to `applied_seq`.

    Parameters
    ----------
    store : Store
    clock : Clock
    seq_numbers : callable
        All versions that a segment holds, for removals that bounds alone cannot place.

    Notes
    -----
    Thread-safe. A reader never waits for a writer of another process; within the process it
    waits only while an entry is applied, never while one is made durable.
    """

    def __init__(self, store: Store, clock: Clock, seq_numbers: SeqNumbers) -> None:
        self._store = store
        self._seq_numbers = seq_numbers
        self._clock = clock
        self._state = threading.RLock()
        self._partitions: dict[PartitionKey, Partition] = {}
        self._data_version = -1
        self._statement = _Statement()
        self._open_statements: dict[int, int] = {}
        self._on_retired: list[Callable[[Collection[int]], None]] = []
        self.watched = WatchedPartitions()
        with store.read() as transaction:
            self._applied_seq = transaction.last_seq()

    @property
    def applied_seq(self) -> int:
        """The number up to which this process has read the log."""
        return self._applied_seq

    @property
    def visible_seq(self) -> int:
        """The number of the log that `visible` shows this thread, or an earlier one."""
        view = self._statement.view
        return self._applied_seq if view is None else view.base_seq

    @property
    def is_in_transaction(self) -> bool:
        """True while this thread runs a statement of a transaction."""
        return self._statement.view is not None

    @property
    def seq_numbers(self) -> SeqNumbers:
        """How the versions of a segment are looked up."""
        return self._seq_numbers

    @property
    def store(self) -> Store:
        """The store below, for work on segments that needs its transactions."""
        return self._store

    # --- reading ------------------------------------------------------------------------------

    @contextmanager
    def at_newest(self, wanted: Iterable[PartitionKey] = ()) -> Iterator[int]:
        """Hold the state at the newest commit, with these partitions loaded, during the block.

        Yields the number of the log that the state stands at. The block must be short: it may
        take snapshots and look keys up, not run queries.
        """
        with self._state:
            keys = tuple(wanted)
            is_missing = any(key not in self._partitions for key in keys)
            if is_missing or not self._statement.has_looked:
                version = self._store.data_version()
                if version != self._data_version or is_missing:
                    with self._store.read() as transaction:
                        self._follow(transaction)  # which may forget partitions
                        for key in keys:
                            if key not in self._partitions:
                                self._load(key, transaction)
                    self._data_version = version
                self._statement.has_looked = self._statement.is_open
            yield self._applied_seq

    @contextmanager
    def statement(
        self,
        view: TransactionView | None = None,
        staging: Callable[[RowCommit], None] | None = None,
    ) -> Iterator[None]:
        """Look for commits of others once, at the first `at_newest` of the block in this thread.

        A statement asks for a dozen definitions and looking costs 10 us each time. Its own
        `commit` reads what others committed in any case.

        Parameters
        ----------
        view : TransactionView, optional
            What `visible`, `snapshot` and `changing` mean in this thread during the block: the
            transaction that the statement is part of.
        staging : callable, optional
            Gets each commit of this thread during the block that staged something, before it is
            made durable or part of the transaction, and may stage more or raise; by default that
            of the block around this one.
        """
        mine = self._statement
        outer = mine.is_open, mine.has_looked, mine.view, mine.staging
        mine.is_open, mine.view = True, view
        if staging is not None:
            mine.staging = staging
        thread = threading.get_ident()
        is_outermost = thread not in self._open_statements
        if is_outermost:
            self._open_statements[thread] = self._applied_seq
        try:
            yield
        finally:
            mine.is_open, mine.has_looked, mine.view, mine.staging = outer
            if is_outermost:
                self._open_statements.pop(thread, None)

    def oldest_statement(self) -> int | None:
        """Return the lowest number at which a statement of another thread began, or None."""
        others = dict(self._open_statements)
        others.pop(threading.get_ident(), None)
        return min(others.values(), default=None)

    def read_since(self, reader: object, seq: int | None) -> None:
        """Count a reader of changes as a statement that began at a number, until it is None."""
        with self._state:
            if seq is None:
                self._open_statements.pop(id(reader), None)
            else:
                self._open_statements[id(reader)] = seq

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Let no entry be applied during the block, which must be short."""
        with self._state:
            yield

    def reads_from_now(self) -> None:
        """Say that the statement of this thread reads nothing from before now.

        Files of segments that were merged or dropped until now are not kept for it.
        """
        thread = threading.get_ident()
        if thread in self._open_statements:
            self._open_statements[thread] = self._applied_seq

    def reads_no_more(self) -> None:
        """Say that the statement of this thread reads no rows of tables until it ends."""
        self._open_statements.pop(threading.get_ident(), None)

    @property
    def staging(self) -> Callable[[RowCommit], None] | None:
        """What the statement of this thread stages with its commits; see `statement`."""
        return self._statement.staging

    def look_again(self) -> None:
        """Let the next `at_newest` of this thread look for commits of others once more.

        For work that goes on for long within one statement.
        """
        self._statement.has_looked = False

    @contextmanager
    def visible(self, wanted: Sequence[PartitionKey] = ()) -> Iterator[CommitLog | TransactionView]:
        """Hold what the statement of this thread may see, during the block.

        That is the newest commit, or inside a transaction its snapshot with its own changes.
        Ask what this yields for ``applied_seq`` and ``partition(key)``; the block must be short.
        """
        view = self._statement.view
        if view is None:
            with self.at_newest(wanted):
                yield self
        else:
            with view.loaded(wanted):
                yield view

    def partition(self, key: PartitionKey) -> Partition:
        """Return a partition as it stands; call it within `at_newest` or `commit`."""
        with self._state:
            found = self._partitions.get(key)
            if found is None:
                with self._store.read() as transaction:
                    self._follow(transaction)
                    found = self._load(key, transaction)
            return found

    def defined(
        self, key: PartitionKey, definition: Definition
    ) -> tuple[TableDef, Partition] | None:
        """Return a table as the rows of a partition need it, and the partition; None if dropped.

        Call it within `at_newest` and read the partition there: a row that was written after the
        table was altered cannot be read with the definition before.
        """
        with self._state:
            while True:
                at_seq = self._applied_seq
                table = definition()  # which may follow the log
                partition = self.partition(key)
                if self._applied_seq == at_seq:
                    return None if table is None else (table, partition)

    def snapshot(self, wanted: Sequence[tuple[PartitionKey, TableDef]]) -> list[PartitionSnapshot]:
        """Return the partitions at one number of the log: what is `visible` now."""
        with self.visible([key for key, _ in wanted]) as state:
            return [state.partition(key).snapshot(table) for key, table in wanted]

    def scopes(self, table_key: int) -> list[str]:
        """Return the scopes in which a table has or had rows, in ascending order."""
        view = self._statement.view
        if view is not None:
            return view.scopes(table_key)
        with self._store.read() as transaction:
            return transaction.scopes(table_key)

    def on_retired(self, forget: Callable[[Collection[int]], None]) -> None:
        """Call ``forget`` with the ids of segments that left their partition, under the lock.

        What is kept of them can go; a reader of the past may still read them once more.
        """
        with self._state:
            self._on_retired.append(forget)

    def _load(self, key: PartitionKey, transaction: ReadTransaction) -> Partition:
        partition = loaded(key, transaction, self._seq_numbers)
        partition.changed_at_seq = transaction.last_seq()
        self._partitions[key] = partition
        return partition

    def _follow(self, transaction: ReadTransaction) -> None:
        if self._applied_seq < transaction.log_start():
            # Entries that we never saw were trimmed: what we hold cannot be brought up to date.
            self._partitions.clear()
            self._applied_seq = transaction.last_seq()
            self.watched.lose()
            return
        for entry in transaction.entries_after(self._applied_seq):
            self._apply(entry, None, transaction)

    def _apply(
        self, entry: Entry, changes: RowChanges | None, transaction: ReadTransaction
    ) -> None:
        partition = self._partitions.get(entry.partition)
        change: Change | None = None
        try:
            if self.watched.concerns(entry):
                if changes is None and entry.kind is EntryKind.ROWS:
                    changes = decode_rows(entry.payload)
                change = capture(partition, entry, changes)
            if partition is not None:
                known = partition.segments
                self._change(partition, entry, changes, transaction)
                if partition.segments is not known and (gone := known.keys() - partition.segments):
                    for forget in self._on_retired:
                        forget(gone)
                partition.changed_at_seq = entry.seq + max(entry.count, 1) - 1
            self._applied_seq = entry.seq + max(entry.count, 1) - 1
        except BaseException:
            # Half applied, by an interrupt say: who asks for it next loads it anew.
            self._partitions.pop(entry.partition, None)
            raise
        if change is not None:
            self.watched.take(change, partition)

    def _change(
        self,
        partition: Partition,
        entry: Entry,
        changes: RowChanges | None,
        transaction: ReadTransaction,
    ) -> None:
        match entry.kind:
            case EntryKind.DROP:
                partition.forget_all()
            case EntryKind.SEGMENT | EntryKind.COMPACT:
                partition.set_segments(transaction.segments(entry.partition))
            case EntryKind.ROWS:
                decoded = decode_rows(entry.payload) if changes is None else changes
                partition.add_rows(entry.seq, entry.at_us, decoded)
            case EntryKind.FLUSH:
                partition.forget_flushed(decode_flush(entry.payload).upto_seq)
                partition.set_segments(transaction.segments(entry.partition))
            case EntryKind.EVICT:
                partition.forget_entries(decode_evicted(entry.payload).entry_seqs)

    # --- writing ------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[RowCommit]:
        """Commit the rows that the block appends; inside a transaction, stage them for it.

        Raises
        ------
        BusyError, StorageError
            As `commit` does.
        """
        view = self._statement.view
        if view is None:
            with self.commit() as commit:
                yield commit
        else:
            with view.commit() as staged:
                yield staged
                if staged.rows and self._statement.staging is not None:
                    self._statement.staging(staged)

    def begin(self) -> TransactionView:
        """Return the newest commit as a view that stays as it is."""
        return TransactionView(self._store, self._clock, self._seq_numbers, self._unchanged_since)

    def _unchanged_since(self, key: PartitionKey, seq: int) -> Partition | None:
        """Return a copy of a partition that is as it was at that number; None if none is known."""
        with self._state:
            partition = self._partitions.get(key)
            if partition is None or partition.changed_at_seq > seq or self._applied_seq < seq:
                return None
            return partition.copy()

    @contextmanager
    def commit(self, *, wait_s: float | None = None) -> Iterator[Commit]:
        """Take the write lock, read what others committed, and commit what the block stages.

        Parameters
        ----------
        wait_s : float, optional
            Wait no longer than this for the lock; by default for the busy timeout.

        Raises
        ------
        BusyError
            If the lock is not free in time.
        StorageError
            If the commit could not be made durable; nothing of it happened then.
        """
        with self._store.write(wait_s=wait_s) as transaction:
            with self._state:
                self._follow(transaction)
            commit = Commit(transaction, self._clock.now_us())
            yield commit
            if commit.staged and self._statement.staging is not None:
                self._statement.staging(commit)
        commit.is_done = True
        if commit.staged:
            self._apply_own(commit)

    def _apply_own(self, commit: Commit) -> None:
        with self._state:
            first = commit.staged[0][0].seq
            if self._applied_seq >= first:
                return  # a reader in another thread was faster and took it from the store
            if self._applied_seq == first - 1 and all(
                changes is not None for _, changes in commit.staged
            ):
                for entry, changes in commit.staged:
                    self._apply(entry, changes, commit.transaction)
                return
            with self._store.read() as transaction:
                self._follow(transaction)
