"""Threads that run what must not hold up the feed: callbacks, and commits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_MOST_THREADS: Final = 8
_IDLE_S: Final = 1.0
_HELD_UP_S: Final = 0.1


class Delivery:
    """A few threads that come when there is work and go when there is none."""

    def __init__(self) -> None:
        self._work: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._taken_at_s = 0.0
        self._is_stopped = False

    def submit(self, work: Callable[[], None]) -> None:
        """Run something soon, in another thread; it must not raise."""
        with self._changed:
            if self._is_stopped:
                return
            if not self._work:
                self._taken_at_s = time.monotonic()
            self._work.append(work)
            if len(self._work) > self._idle and len(self._threads) < _MOST_THREADS:
                self._start()
            else:
                self._changed.notify()

    def relieve(self) -> None:
        """Start one more thread if all are held up, by callbacks that wait for something.

        Called every now and then: so callbacks that never return hold up nobody else's.
        """
        if not self._work:
            return
        with self._changed:
            now_s = time.monotonic()
            if self._work and not self._idle and now_s - self._taken_at_s > _HELD_UP_S:
                self._taken_at_s = now_s
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="kalam-delivery", daemon=True)
        self._threads.add(thread)
        thread.start()

    def close(self) -> None:
        """Let idle threads end now; what was submitted is still run."""
        with self._changed:
            self._changed.notify_all()

    def stop(self, wait_s: float) -> None:
        """Begin nothing more, and wait so long at most for what runs."""
        until_s = time.monotonic() + wait_s
        with self._changed:
            self._is_stopped = True
            self._work.clear()
            self._changed.notify_all()
            threads = self._threads - {threading.current_thread()}
        for thread in threads:
            thread.join(max(until_s - time.monotonic(), 0.0))

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                work()
                del work  # it may hold a subscription that everybody else has forgotten
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            if not self._work:
                self._idle += 1
                self._changed.wait(_IDLE_S)
                self._idle -= 1
            self._taken_at_s = time.monotonic()
            return self._work.popleft() if self._work else None
