"""Leases: files of merged segments stay while a long read may still open them."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import KalamError
from kalamdb_lab.store.log import Store

_SHORTEST_US: Final = 15_000_000
"""A lease is renewed in good time, also where files have no grace time at all."""

_RETRY_S: Final = 1.0
"""How long the keeper waits after a lease that could not be written."""


class Leases:
    """The long reads of one process.

    Files of retired segments outlive a grace time, so a read needs no lease until half of that
    has gone by, unless it is too short for that; then a thread says so in the catalog, where
    other processes see it, and renews it for all reads at once.

    Parameters
    ----------
    grace_s : int
        How long retired files stay in any case.
    """

    def __init__(self, store: Store, clock: Clock, *, grace_s: int) -> None:
        self._store = store
        self._clock = clock
        self._first_us = grace_s * 500_000
        self._every_us = max(self._first_us, _SHORTEST_US)
        # No lock: an abandoned read ends in the garbage collector, which may run anywhere.
        self._reads: dict[object, int] = {}
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()  # may be filled there, too
        self._writing = threading.Lock()
        self._leased_from: int | None = None
        self._renew_at_us = 0
        self._starting = threading.Lock()
        self._keeper: threading.Thread | None = None

    @contextmanager
    def holding(self, seq: int, *, at_once: bool = False) -> Iterator[None]:
        """Hold what a snapshot at ``seq`` may read, however long nobody asks for it.

        The lease ends with the block, or by itself if the process dies.

        Parameters
        ----------
        at_once : bool
            The lease is there when the block begins, however long the grace time: for work that
            is known to be long.

        Raises
        ------
        BusyError, StorageError
            If it cannot be written ``at_once``; else it is tried again until the block ends.
        """
        token = object()
        if not self._reads and self._leased_from is None:
            self._renew_at_us = self._clock.now_us() + self._first_us
        self._reads[token] = seq
        is_abandoned = False
        try:
            self._assure_keeper()
            if at_once:
                self._lease(seq)
            elif self._first_us < _SHORTEST_US:
                try:
                    self._lease(seq)
                except KalamError:
                    self._wake.put(True)
            yield
        except GeneratorExit:
            is_abandoned = True
            raise
        finally:
            self._reads.pop(token, None)
            # Whoever abandoned it may be amid a write of this thread.
            if is_abandoned or not self._released():
                self._wake.put(True)

    def oldest_read(self) -> int | None:
        """Return the lowest number that a read of this process stands at, or None."""
        return min(list(self._reads.values()), default=None)

    def renew(self) -> None:
        """Do what is due: the keeper's turn, which raises nothing."""
        with suppress(KalamError):  # busy, or a full disk: the lease still has time, so have we
            if self._reads and self._clock.now_us() >= self._renew_at_us:
                self._lease()
        with self._writing:
            if not self._release(wait_s=None):
                self._leased_from = None  # it expires by itself

    def close(self) -> None:
        """Release what is leased, if that can be at once, and let the keeper end."""
        self._wake.put(False)
        self._reads.clear()
        self._released()

    def _lease(self, seq: int | None = None) -> None:
        """Write the lease for all reads; one that is there is enough for a read at ``seq``."""
        with self._writing:
            now_us = self._clock.now_us()
            is_fresh = self._leased_from is not None and now_us < self._renew_at_us
            if is_fresh and seq is not None and (self._leased_from or 0) <= seq:
                return
            oldest = self.oldest_read()
            if oldest is None:
                return
            self._store.lease(self._store.node_id(), oldest, now_us + 4 * self._every_us)
            self._leased_from = oldest
            self._renew_at_us = now_us + self._every_us

    def _released(self) -> bool:
        """Return whether no lease is left that nobody needs; waits for nobody."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            return self._release(wait_s=0)
        finally:
            self._writing.release()

    def _release(self, *, wait_s: float | None) -> bool:
        if self._leased_from is None or self._reads:
            return True
        try:
            self._store.release(self._store.node_id(), wait_s=wait_s)
        except KalamError:
            return False
        self._leased_from = None
        return True

    # --- the keeper ---------------------------------------------------------------------------

    def _assure_keeper(self) -> None:
        if self._keeper is None:
            with self._starting:
                if self._keeper is None:
                    wake = self._wake
                    mine = weakref.ref(self, lambda _: wake.put(False))
                    self._keeper = threading.Thread(
                        target=_keep,
                        args=(mine, wake, self._every_us / 1_000_000),
                        name="kalam-lease",
                        daemon=True,
                    )
                    with suppress(RuntimeError):  # the interpreter ends: no read is long now
                        self._keeper.start()

    def pause_s(self) -> float:
        """Return the time to the keeper's next turn; a read that begins meanwhile has as much."""
        every_s = self._every_us / 1_000_000
        if not self._reads:
            return every_s
        due_s = (self._renew_at_us - self._clock.now_us()) / 1_000_000
        return min(max(due_s, _RETRY_S), every_s)


def _keep(mine: weakref.ref[Leases], wake: queue.SimpleQueue[bool], pause_s: float) -> None:
    while True:
        goes_on = True
        with suppress(queue.Empty):
            goes_on = wake.get(timeout=pause_s)
        leases = mine()
        if leases is None or not goes_on:
            return
        leases.renew()
        pause_s = leases.pause_s()
        del leases  # while it waits, it keeps nothing alive
