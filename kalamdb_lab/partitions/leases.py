"""Leases: files of merged segments stay while a long read may still open them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import BusyError, ClosedError, StorageError
from kalamdb_lab.store.log import Store

_SHORTEST_US = 15_000_000
"""A lease is renewed in good time, also where files have no grace time at all."""


class Leases:
    """The long reads of one process.

    Files of retired segments outlive a grace time, so a read needs no lease until half of that
    has gone by; then it says so in the catalog, where other processes see it, and renews it.

    Parameters
    ----------
    grace_s : int
        How long retired files stay in any case.
    """

    def __init__(self, store: Store, clock: Clock, *, grace_s: int) -> None:
        self._store = store
        self._clock = clock
        self._half_us = grace_s * 500_000
        self._lock = threading.Lock()
        self._reads: dict[object, int] = {}
        self._leased = False
        self._renew_at_us = 0

    @contextmanager
    def reading(self, seq: int) -> Iterator[Callable[[], None]]:
        """Hold what a snapshot at ``seq`` may read; call what this yields now and then.

        The lease ends with the block, or by itself if the process dies.
        """
        token = object()
        with self._lock:
            if not self._reads:
                self._renew_at_us = self._clock.now_us() + self._half_us
            self._reads[token] = seq
        try:
            yield self._renew
        finally:
            with self._lock:
                del self._reads[token]
                if self._leased and not self._reads:
                    self._leased = False
                    self._store.release(self._store.node_id())

    @contextmanager
    def holding(self, seq: int, *, at_once: bool = False) -> Iterator[None]:
        """Hold what a snapshot at ``seq`` may read, however long nobody asks for it.

        With ``at_once`` the lease is there when the block begins, however short the grace time:
        for work that is known to be long.
        """
        done = threading.Event()
        with self.reading(seq) as renew:
            if at_once:
                self._lease(self._clock.now_us())

            def keep() -> None:
                while not done.wait(max(self._half_us, _SHORTEST_US) / 1_000_000):
                    # A busy database or a full disk now: the lease still has time, and so have we.
                    with suppress(BusyError, StorageError, ClosedError):
                        renew()

            thread = threading.Thread(target=keep, name="kalam-lease", daemon=True)
            thread.start()
            try:
                yield
            finally:
                done.set()
                thread.join()

    def oldest_read(self) -> int | None:
        """Return the lowest number that a read of this process stands at, or None."""
        with self._lock:
            return min(self._reads.values(), default=None)

    def _renew(self) -> None:
        now_us = self._clock.now_us()
        if now_us >= self._renew_at_us:
            self._lease(now_us)

    def _lease(self, now_us: int) -> None:
        with self._lock:
            if self._reads:
                self._leased = True
                self._renew_at_us = now_us + self._half_us
                oldest = min(self._reads.values())
                duration_us = 4 * max(self._half_us, _SHORTEST_US)
                self._store.lease(self._store.node_id(), oldest, now_us + duration_us)
