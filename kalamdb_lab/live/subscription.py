"""One subscription as its reader holds it."""

from __future__ import annotations

import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from kalamdb_lab.errors import NotSupportedError
from kalamdb_lab.live.event_queue import EventQueue
from kalamdb_lab.live.events import LiveEvent
from kalamdb_lab.live.scope import SubscriptionScope

_STEP_S: Final = 0.2
_QUICK_ROWS: Final = 1_000


class Subscription:
    """Row events of one table, from `Session.subscribe`.

    Iterate it, with ``for`` or ``async for``, or call `next`; iteration ends after the event
    ``closed``, or when the subscription is closed by its reader, who is then told nothing more.
    With a callback the events go to that instead. It holds its session; a subscription that
    nobody holds any more ends, unless it has a callback, which goes on as long as the session.
    """

    def __init__(self, queue: EventQueue, holds: object) -> None:
        self._queue = queue
        self._holds = holds

    @property
    def live_id(self) -> str:
        """What ``system.live_queries`` and KILL LIVE QUERY call it."""
        return self._queue.live_id

    @property
    def table(self) -> str:
        """The table that it is to, as ``namespace.table``."""
        return str(self._queue.scope.table.table_id)

    @property
    def scope(self) -> SubscriptionScope:
        """What it looks at, under the newest definition of its table: table and columns."""
        return self._queue.scope

    @property
    def is_open(self) -> bool:
        """True until it was closed, by whomever; events from before may still wait."""
        return self._queue.is_open

    @property
    def error(self) -> Exception | None:
        """What the callback raised; it is also logged, and closes the subscription."""
        return self._queue.error

    def next(self, timeout: float | None = None) -> LiveEvent | None:
        """Return the next event, and wait for it.

        Parameters
        ----------
        timeout : float, optional
            Wait no longer than so many seconds; for ever by default.

        Returns
        -------
        LiveEvent or None
            None after the last one, or if none came in time: `is_open` tells which.

        Raises
        ------
        NotSupportedError
            The events go to a callback.
        """
        self._refuse_callback()
        deadline_s = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self._queue.take()
            if event is not None or self._queue.is_over():
                return event
            wait_s = _STEP_S  # short steps: an interrupt of the keyboard gets through everywhere
            if deadline_s is not None:
                wait_s = min(wait_s, deadline_s - time.monotonic())
                if wait_s <= 0:
                    return None
            self._queue.wait(wait_s)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LiveEvent:
        event = self.next()
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LiveEvent:
        import asyncio

        self._refuse_callback()
        loop = asyncio.get_running_loop()
        while True:
            if self._queue.next_rows > _QUICK_ROWS:
                # Taken only here: who is cancelled while the thread works must not lose an event.
                await asyncio.to_thread(self._queue.prepare)
            event = self._queue.take()
            if event is not None:
                return event
            if self._queue.is_over():
                raise StopAsyncIteration
            ready = asyncio.Event()

            def wake(ready: asyncio.Event = ready) -> None:
                with suppress(RuntimeError):  # its loop was closed
                    loop.call_soon_threadsafe(ready.set)

            if self._queue.call_when_ready(wake):
                try:
                    await ready.wait()
                finally:
                    self._queue.forget_call(wake)

    def _refuse_callback(self) -> None:
        if self._queue.has_callback:
            raise NotSupportedError(
                "The events of this subscription go to its callback; subscribe again to read them"
            )

    def close(self) -> None:
        """End the subscription: its reader is told nothing more, not even ``closed``."""
        self._queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self.is_open else ", closed"
        return f"<kalamdb_lab.Subscription '{self.live_id}' to {self.table}{state}>"
