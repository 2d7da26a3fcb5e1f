"""The bounded queue between the feed and one reader."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from kalamdb_lab.live.events import EventRows, InitialRows, LiveEvent

if TYPE_CHECKING:
    from kalamdb_lab.live.delivery import Delivery
    from kalamdb_lab.live.scope import SubscriptionScope

_log = logging.getLogger(__name__)

_CONVERTED: Final = 256
_CALLBACKS_AT_ONCE: Final = 100
_MOST_OF_ONE_CHANGE: Final = 1_000_000

Callback = Callable[[LiveEvent], object]
Wake = Callable[[], object]


class EventQueue:
    """The events of one subscription on their way to its reader; thread-safe.

    Attributes
    ----------
    live_id : str
        What ``system.live_queries`` and KILL LIVE QUERY call the subscription.
    scope : SubscriptionScope
        What it looks at.
    changes : int
        How many changes were put here.
    error : Exception or None
        What a callback raised.
    """

    def __init__(
        self,
        live_id: str,
        scope: SubscriptionScope,
        delivery: Delivery,
        forget: Callable[[EventQueue], None],
        *,
        limit: int,
        callback: Callback | None,
    ) -> None:
        self.live_id = live_id
        self.scope = scope
        self.error: Exception | None = None
        self.changes = 0
        self._forget = forget
        self._delivery = delivery
        self._limit = limit
        self._callback = callback
        self._pid = os.getpid()
        self._reading = threading.RLock()
        self._changed = threading.Condition()
        self._wakes: list[Wake] = []
        self._initial: InitialRows | None = None
        self._waiting: deque[tuple[EventRows, Sequence[str]]] = deque()
        self._waiting_count = 0
        self._ready: deque[LiveEvent] = deque()
        self._resume_seq = 0
        self._newest_change = -1
        self._taken_at_s = 0.0
        self._last: list[LiveEvent] | None = None
        self._is_lagged = False
        self._is_begun = False
        self._is_scheduled = False

    # --- reading ------------------------------------------------------------------------------

    def close(self) -> None:
        """End the subscription: its reader is told nothing more, not even ``closed``."""
        if os.getpid() == self._pid:
            self.finish(None, None)
            self._forget(self)

    @property
    def is_open(self) -> bool:
        """True until it was closed, by whomever; events from before may still wait."""
        return self._last is None and os.getpid() == self._pid

    @property
    def next_rows(self) -> int:
        """How many rows `take` makes into dicts at most, before it returns."""
        initial = self._initial
        return _CONVERTED if initial is None or self._ready else initial.next_rows

    def wait(self, timeout_s: float) -> None:
        """Wait until there may be something to `take`, or for so long."""
        with self._changed:
            if not self._has_something():
                self._changed.wait(timeout_s)

    def call_when_ready(self, wake: Wake) -> bool:
        """Call something once, in any thread, when there is something to `take`.

        Returns
        -------
        bool
            False if there is something now; it will not be called then.
        """
        with self._changed:
            if self._has_something():
                return False
            self._wakes.append(wake)
            return True

    def forget_call(self, wake: Wake) -> None:
        """Take back `call_when_ready`."""
        with self._changed:
            if wake in self._wakes:
                self._wakes.remove(wake)

    # --- what the manager calls ---------------------------------------------------------------

    def begin(self, initial: InitialRows) -> None:
        """Give the initial rows, after which changes are read; those waiting come behind."""
        with self._changed:
            self._taken_at_s = time.monotonic()
            self._resume_seq = initial.resume_seq
            self._is_begun = True
            if not self._is_lagged:
                self._initial = initial
        self._wake()

    def put(self, rows: EventRows, columns: Sequence[str], change_seq: int) -> bool:
        """Queue events of a change; return False if the reader lags behind and is told so now.

        A change is taken as a whole while the queue is not full: what it takes beyond that are
        Arrow rows that all subscriptions share. Of one of millions of rows so many wait at most.
        """
        with self._changed:
            if self._last is not None:
                return True
            is_full = self._waiting_count >= self._limit and change_seq != self._newest_change
            if is_full or self._waiting_count >= max(self._limit, _MOST_OF_ONE_CHANGE):
                return False
            if self._waiting_count < self._limit:
                self._taken_at_s = max(self._taken_at_s, time.monotonic())
            self._newest_change = change_seq
            self._waiting.append((rows, columns))
            self._waiting_count += len(rows)
            self.changes += len(rows)
        self._wake()
        return True

    def is_overfull(self) -> bool:
        """Return whether more waits than the queue should hold."""
        return self._waiting_count > self._limit and self._last is None

    def stalled_s(self) -> float:
        """Return for how long nobody has read, once there was something to read."""
        return time.monotonic() - self._taken_at_s if self._is_begun else 0.0

    def finish(self, reason: str | None, message: str | None, *, drops: bool = False) -> bool:
        """End it, with the event ``closed`` if there is a reason; return False if it had ended.

        Parameters
        ----------
        drops : bool
            True if events that wait are not given any more.
        """
        with self._changed:
            if self._last is not None:
                return False
            self._is_lagged = reason == "lagged"
            if drops or reason is None:
                self._initial = None
                self._waiting.clear()
                self._waiting_count = 0
            self._last = []
            if reason is not None:
                self._last = [LiveEvent("closed", 0, reason=reason, message=message)]
        if reason is None or (drops and not self._is_lagged):
            with self._reading:
                self._ready.clear()
        self._wake()
        return True

    # --- within -------------------------------------------------------------------------------

    def _has_something(self) -> bool:
        """Return whether a reader need not wait."""
        return bool(
            self._ready
            or self._initial is not None
            or (self._is_begun and self._waiting)
            or self._last is not None
        )

    def is_over(self) -> bool:
        """Return whether nothing comes any more."""
        if os.getpid() != self._pid:
            return True
        with self._changed:
            return self._is_finished()

    @property
    def has_callback(self) -> bool:
        """True if the events go to a callback."""
        return self._callback is not None

    def take(self) -> LiveEvent | None:
        """Return the next event if there is one; rows are made into dicts here, by the reader."""
        if os.getpid() != self._pid:
            return None
        with self._reading:
            event = self._ready.popleft() if self._ready else self._converted()
            if event is not None:
                self._resume_seq = max(self._resume_seq, event.seq)
                self._taken_at_s = time.monotonic()
            return event

    def prepare(self) -> None:
        """Make the rows of the next event into dicts; `take` has nothing left to do then."""
        with self._reading:
            event = None if self._ready else self._converted()
            if event is not None:
                self._ready.appendleft(event)

    def _converted(self) -> LiveEvent | None:
        with self._changed:
            initial, batch = self._initial, None
            if initial is None and self._is_begun and self._waiting:
                batch = self._waiting.popleft()
        if initial is not None:
            event = initial.next()
            if event is not None:
                return event
            with self._changed:
                self._initial = None
            return self._converted()
        if batch is not None:
            rows, columns = batch
            count = len(rows)
            events = rows.events(0, _CONVERTED, columns)
            self._ready.extend(events)
            with self._changed:
                if self._waiting_count:  # else it lagged meanwhile
                    self._waiting_count -= min(count, _CONVERTED)
                    if count > _CONVERTED:
                        rest = EventRows(
                            rows.rows, rows.places[_CONVERTED:], rows.kinds[_CONVERTED:]
                        )
                        self._waiting.appendleft((rest, columns))
            return self._ready.popleft()
        with self._changed:
            return self._ending()

    def _ending(self) -> LiveEvent | None:
        if not self._last:
            return None
        if self._is_lagged and self._is_begun:
            self._is_lagged = False
            return LiveEvent("lagged", self._resume_seq, from_seq=self._resume_seq)
        event = self._last.pop()
        event.seq = self._resume_seq
        return event

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
            wakes, self._wakes = self._wakes, []
            is_due = self._callback is not None and self._is_begun and not self._is_scheduled
            self._is_scheduled = self._is_scheduled or is_due
        for wake in wakes:
            wake()
        if is_due:
            self._delivery.submit(self._call)

    def _call(self) -> None:
        """Give the callback what there is, on a thread for that."""
        assert self._callback is not None
        for _ in range(_CALLBACKS_AT_ONCE):
            event = self.take()
            if event is None:
                with self._changed:
                    self._is_scheduled = bool(self._has_something() and not self._is_finished())
                    if not self._is_scheduled:
                        return
                continue
            try:
                self._callback(event)
            except Exception as error:  # noqa: BLE001 - whatever the callback of a user raises
                _log.exception("The callback of live query %s failed", self.live_id)
                self.error = error
                self.close()
                return
        self._delivery.submit(self._call)

    def _is_finished(self) -> bool:
        return self._last == [] and not (self._ready or self._initial or self._waiting)
