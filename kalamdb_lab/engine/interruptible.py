"""A call that an interrupt of the user stops: a notebook's button, Ctrl-C in a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from kalamdb_lab.errors import InterruptedStatementError

_T = TypeVar("_T")

STEP_S = 0.05
"""How often the main thread looks up; KeyboardInterrupt reaches it between two steps."""

GRACE_S = 0.35
"""How long an interrupted call may take to stop before the prompt comes back without it."""

FINISHED = "Interrupted, but the statement had finished; what it changed stays"
STOPPING = "Interrupted; the statement is still stopping, and the next one waits for it"


class _Call(Generic[_T]):
    def __init__(self, function: Callable[[], _T]) -> None:
        self._function = function
        self._done = threading.Event()
        self.result: _T | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="kalam-statement", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def has_started(self) -> bool:
        return self._thread.ident is not None

    def _run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self.error = error
        finally:
            self._done.set()

    def wait(self, timeout_s: float) -> bool:
        return self._done.wait(timeout_s)


class Interruptible:
    """Runs calls one after the other on threads of their own, while the caller's thread waits.

    Parameters
    ----------
    interrupt : callable
        Asks the running call to stop; called from the waiting thread, perhaps several times.
    grace_s : float
        How long an interrupted call may take to stop. With ``math.inf`` its end is waited for, so
        that what it did is known; a second interrupt gives up waiting.
    """

    def __init__(self, interrupt: Callable[[], None], *, grace_s: float = GRACE_S) -> None:
        self._interrupt = interrupt
        self._grace_s = grace_s
        self._left_behind: _Call[object] | None = None

    def run(
        self, function: Callable[[], _T], *, watch: Callable[[float], None] | None = None
    ) -> _T:
        """Return what ``function`` returns, or raise what it raises.

        Parameters
        ----------
        watch : callable, optional
            Called in the waiting thread every `STEP_S`, with the seconds since the call began.

        Raises
        ------
        InterruptedStatementError
            The user interrupted; raised when the call has stopped, or after the grace time.
        """
        call: _Call[_T] | None = None
        try:
            while self._left_behind is not None and not self._left_behind.wait(STEP_S):
                self._interrupt()
            self._left_behind = None
            call = _Call(function)
            started = time.monotonic()
            call.start()
            while not call.wait(STEP_S):
                if watch is not None:
                    watch(time.monotonic() - started)
        except KeyboardInterrupt:
            raise self._stopped(call) from None
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def _stopped(self, call: _Call[_T] | None) -> InterruptedStatementError:
        error = InterruptedStatementError()
        if call is None or not call.has_started:
            return error
        until = time.monotonic() + self._grace_s
        try:
            # Asked again and again: what has not begun yet cannot hear it.
            self._interrupt()
            while not call.wait(STEP_S) and time.monotonic() < until:
                self._interrupt()
        except KeyboardInterrupt:
            pass
        if not call.wait(0):
            self._left_behind = call  # type: ignore[assignment]
            error.message = STOPPING
        elif not isinstance(call.error, InterruptedStatementError):
            if call.error is None:
                error.message = FINISHED
            elif isinstance(call.error, Exception):
                error.message = f"Interrupted; {call.error}"
        return error
