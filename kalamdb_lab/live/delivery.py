"""Threads that run what must not hold up the feed: callbacks, and commits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

_MOST_THREADS: Final = 8
_IDLE_S: Final = 1.0


class Delivery:
    """A few threads that come when there is work and go when there is none."""

    def __init__(self) -> None:
        self._work: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run something soon, in another thread; it must not raise."""
        with self._changed:
            self._work.append(work)
            if len(self._work) > self._idle and self._threads < _MOST_THREADS:
                self._threads += 1
                threading.Thread(target=self._run, name="kalam-delivery", daemon=True).start()
            else:
                self._changed.notify()

    def close(self) -> None:
        """Let idle threads end now; what was submitted is still run."""
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                work()
                del work  # it may hold a subscription that everybody else has forgotten
        finally:
            with self._changed:
                self._threads -= 1

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            if not self._work:
                self._idle += 1
                self._changed.wait(_IDLE_S)
                self._idle -= 1
            return self._work.popleft() if self._work else None
