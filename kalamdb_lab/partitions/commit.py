"""What a writer appends to: a commit of its own, or the transaction of its statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.payload import Row, RowChanges, encode_rows
from kalamdb_lab.store.log import Entry, EntryKind, RemovedVersions, WriteTransaction


@dataclass
class Commit:
    """What a writer stages while it holds the write lock.

    Reads through `CommitLog` show the state before the commit; what is staged becomes visible,
    and durable, all together when the block of `CommitLog.commit` ends.

    Attributes
    ----------
    is_done : bool
        True once what was staged is durable.
    """

    transaction: WriteTransaction
    at_us: int
    staged: list[tuple[Entry, RowChanges | None]] = field(default_factory=list)
    is_done: bool = False

    def append_rows(
        self,
        partition: PartitionKey,
        table: TableDef,
        rows: Sequence[Row],
        *,
        replaces: Sequence[int] = (),
        deleted: Sequence[int] = (),
        at_us: int = 0,
    ) -> int:
        """Add row versions and remove others; return the first number that was taken.

        Parameters
        ----------
        rows
            Storage values in the order of ``table.columns``; row ``i`` becomes version
            ``first + i``.
        replaces
            For each row the version it replaces or 0; empty if none replaces any.
        deleted
            Versions to delete.
        at_us
            When the rows came to be, if that was before this commit.
        """
        payload = encode_rows(table, rows, replaces, deleted, at_us=at_us)
        count = len(rows) + len(deleted)
        entry = self.transaction.append(partition, EntryKind.ROWS, count, self.at_us, payload)
        changes = RowChanges(table.schema_version, list(rows), list(replaces), list(deleted), at_us)
        self.staged.append((entry, changes))
        return entry.seq

    def append_segment(self, meta: SegmentMeta) -> None:
        """List a segment whose rows are new; its versions are the numbers it takes.

        The segment must have been written with ``min_seq = transaction.last_seq() + 1``.
        """
        entry = self.transaction.append(
            meta.partition, EntryKind.SEGMENT, meta.row_count, self.at_us, b""
        )
        assert entry.seq == meta.min_seq
        self.transaction.add_segment(meta, RemovedVersions())
        self.staged.append((entry, None))

    def append_event(self, partition: PartitionKey, kind: EntryKind, payload: bytes = b"") -> int:
        """Tell other readers of the log that segments or entries of a partition moved."""
        entry = self.transaction.append(partition, kind, 1, self.at_us, payload)
        self.staged.append((entry, None))
        return entry.seq


@dataclass(frozen=True, slots=True)
class StagedRows:
    """What one statement of a transaction changed in one partition.

    Attributes
    ----------
    first_seq : int
        The number that it began with, within the transaction. COMMIT gives it others.
    seqs : sequence of int
        The number of each row, within the transaction.
    at_us : int
        When the statement changed them.
    """

    partition: PartitionKey
    table: TableDef
    first_seq: int
    seqs: Sequence[int]
    at_us: int
    changes: RowChanges


class StagedCommit:
    """The commit of one statement inside a transaction; see `Commit`."""

    def __init__(self, at_us: int, last_seq: int) -> None:
        self.at_us = at_us
        self.last_seq = last_seq
        self.rows: list[StagedRows] = []

    def append_rows(
        self,
        partition: PartitionKey,
        table: TableDef,
        rows: Sequence[Row],
        *,
        replaces: Sequence[int] = (),
        deleted: Sequence[int] = (),
    ) -> int:
        """Stage row versions and removals; return the number of the first, for now."""
        first = self.last_seq + 1
        changes = RowChanges(table.schema_version, list(rows), list(replaces), list(deleted))
        seqs = range(first, first + len(rows))
        self.rows.append(StagedRows(partition, table, first, seqs, self.at_us, changes))
        self.last_seq += len(rows) + len(deleted)
        return first


RowCommit: TypeAlias = Commit | StagedCommit
"""What rows are appended to, inside a transaction or not."""
