"""Retired files: segments that were merged or dropped go when no read needs them any more."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from kalamdb_lab.clock import Clock
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.leases import Leases
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.store.log import RetiredSegment


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many segments lost their files, and how many wait for reads or for their time."""

    segments: int
    waiting: int


class RetiredFiles:
    """Decides which retired segments nobody needs, and deletes their files.

    This process knows its own reads, and waits for them in any case. Those of others are known by
    their leases once they are long; short ones have none, so that files stay for a grace time
    unless nobody else has the database open.

    Parameters
    ----------
    is_alone : callable
        True if no other process has the database open.
    is_dropped : callable
        True for the key of a table that was dropped.
    sync : callable
        Makes the commits durable that retired the segments: without them the files are needed.
    grace_s, dropped_retention_s : int
        How long files stay at least for readers, and those of dropped tables in any case.
    """

    def __init__(
        self,
        log: CommitLog,
        home: SegmentHome,
        leases: Leases,
        clock: Clock,
        *,
        is_alone: Callable[[], bool],
        is_dropped: Callable[[int], bool],
        sync: Callable[[], None],
        grace_s: int,
        dropped_retention_s: int,
    ) -> None:
        self._log = log
        self._home = home
        self._leases = leases
        self._clock = clock
        self._is_alone = is_alone
        self._is_dropped = is_dropped
        self._sync = sync
        self._grace_us = grace_s * 1_000_000
        self._dropped_us = dropped_retention_s * 1_000_000

    def delete(self, *, erased: Collection[str] = ()) -> Deleted:
        """Delete what no read needs.

        Parameters
        ----------
        erased : collection of str
            Scopes whose files wait neither for the grace time nor for the retention of dropped
            tables, only for reads that are known.
        """
        with self._log.store.read() as transaction:
            retired = transaction.retired_segments()
            leased_from = transaction.oldest_lease(self._clock.now_us() - self._grace_us)
        if not retired:
            return Deleted(0, 0)
        reads = [self._leases.oldest_read(), self._log.oldest_statement()]
        read_from = min((seq for seq in reads if seq is not None), default=None)
        is_alone = self._is_alone()

        def is_free(segment: RetiredSegment) -> bool:
            if _needs(read_from, segment):
                return False
            age_us = self._clock.now_us() - segment.retired_at_us
            is_erased = segment.meta.partition.scope in erased
            if (
                not is_erased
                and age_us < self._dropped_us
                and self._is_dropped(segment.meta.partition.table_key)
            ):
                return False
            if is_alone:
                return True
            if _needs(leased_from, segment):
                return False
            return is_erased or age_us > self._grace_us

        free = [segment.meta for segment in retired if is_free(segment)]
        if free:
            self._sync()
        deleted = self._home.delete_retired(self._log.store, free)
        return Deleted(deleted, len(retired) - deleted)


def _needs(seq: int | None, segment: RetiredSegment) -> bool:
    return seq is not None and seq < segment.retired_seq
