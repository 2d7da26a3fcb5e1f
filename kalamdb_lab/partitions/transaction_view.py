"""What one open transaction sees: a snapshot of the log, and its own changes over it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kalamdb_lab.clock import Clock
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.partitions.commit import StagedCommit, StagedRows
from kalamdb_lab.partitions.partition import Partition, loaded
from kalamdb_lab.partitions.removals import SeqNumbers
from kalamdb_lab.store.log import Store

_numbers = itertools.count(1)

Known = Callable[[PartitionKey, int], Partition | None]


class TransactionView:
    """The partitions as they were when the transaction began, with what it changed since.

    Own changes take numbers above the snapshot's, which mean nothing outside: at COMMIT they are
    appended to the log, and numbered, in the order in which they were made.

    Parameters
    ----------
    known : callable, optional
        A copy of a partition as it was at a number of the log, where that is at hand: reading
        it from the store takes as long as it has hot rows.

    Attributes
    ----------
    base_seq : int
        The number of the log that the snapshot stands at.
    staged : list of StagedRows
        In the order in which they were made.
    """

    def __init__(
        self, store: Store, clock: Clock, seq_numbers: SeqNumbers, known: Known | None = None
    ) -> None:
        self._known = known
        self._clock = clock
        self._seq_numbers = seq_numbers
        self._lock = threading.RLock()
        self._number = next(_numbers)
        self._partitions: dict[PartitionKey, Partition] = {}
        self._held = store.hold()
        with self._held.read() as transaction:
            self.base_seq = transaction.last_seq()
        self._last_seq = self.base_seq
        self.staged: list[StagedRows] = []

    @property
    def applied_seq(self) -> int:
        """The number up to which this view has changes, its own included."""
        return self._last_seq

    @property
    def position(self) -> int:
        """A negative number that no other state of this process shares."""
        return -((self._number << 32) + len(self.staged))

    @contextmanager
    def loaded(self, wanted: Sequence[PartitionKey]) -> Iterator[None]:
        """Hold the view as it is, with these partitions loaded, during the block."""
        with self._lock:
            for key in wanted:
                if key not in self._partitions:
                    self._partitions[key] = self._load(key)
            yield

    def _load(self, key: PartitionKey) -> Partition:
        partition = None if self._known is None else self._known(key, self.base_seq)
        if partition is None:
            with self._held.read() as transaction:
                partition = loaded(key, transaction, self._seq_numbers)
        for rows in self.staged:
            if rows.partition == key:
                partition.add_rows(rows.first_seq, rows.at_us, rows.changes)
        return partition

    def partition(self, key: PartitionKey) -> Partition:
        """Return a partition of the snapshot with the changes of this transaction."""
        with self.loaded([key]):
            return self._partitions[key]

    def scopes(self, table_key: int) -> list[str]:
        """Return the scopes in which a table has or had rows, in ascending order."""
        with self._held.read() as transaction:
            known = set(transaction.scopes(table_key))
        return sorted(known | {s.partition.scope for s in self.staged if _of(s, table_key)})

    @contextmanager
    def commit(self) -> Iterator[StagedCommit]:
        """Take over what the block stages; nothing of it if the block raises."""
        with self._lock:
            commit = StagedCommit(self._clock.now_us(), self._last_seq)
            yield commit
            count = len(self.staged)
            try:
                for rows in commit.rows:
                    self.partition(rows.partition).add_rows(
                        rows.first_seq, rows.at_us, rows.changes
                    )
                self._last_seq = commit.last_seq
                self.staged += commit.rows
            except BaseException:
                # Half applied, by an interrupt say: the partitions are loaded anew.
                del self.staged[count:]
                for rows in commit.rows:
                    self._partitions.pop(rows.partition, None)
                raise

    def close(self) -> None:
        """Let go of the snapshot."""
        self._held.close()


def _of(staged: StagedRows, table_key: int) -> bool:
    return staged.partition.table_key == table_key
