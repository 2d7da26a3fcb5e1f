"""Stopping the statement that runs on a cursor of the engine, and seeing how far it is."""

from __future__ import annotations

import threading
from typing import Any, Final

from kalamdb_lab.errors import InterruptedStatementError

_REPEAT_INTERRUPT_S: Final = 0.05

WATCHED: Final = {
    "enable_progress_bar": "true",
    "enable_progress_bar_print": "false",
    "progress_bar_time": "0",
}
"""What lets the engine count how far a statement is; it cannot be said for all cursors at once."""


class Cancellation:
    """Stops the statement it is given to, from any thread, before or while that runs.

    Parameters
    ----------
    is_watched : bool
        Whether `progress` is asked for, which costs each statement some 0.3 ms.
    """

    def __init__(self, *, is_watched: bool = False) -> None:
        self._is_watched = is_watched
        self._lock = threading.Lock()
        self._cursor: Any = None
        self._finished = threading.Event()
        self.cancelled = False
        self.timed_out = False

    def cancel(self) -> None:
        """Interrupt the statement; one that has not begun will not run."""
        with self._lock:
            self.cancelled = True
            if self._cursor is not None:
                threading.Thread(target=self._insist, daemon=True).start()

    def _insist(self) -> None:
        # The engine forgets an interrupt that comes just before a statement begins.
        while not self._finished.is_set():
            with self._lock:
                if self._cursor is not None:
                    self._cursor.interrupt()
            self._finished.wait(_REPEAT_INTERRUPT_S)

    def progress(self) -> float | None:
        """Return the share of the running statement that is done, 0 to 1, where it is known."""
        with self._lock:
            percent = -1.0 if self._cursor is None else float(self._cursor.query_progress())
        return percent / 100 if percent > 0 else None  # of rows in memory it says 0 to the end

    def check(self) -> None:
        """Raise if the statement is to stop; for work outside the engine, between its steps.

        Raises
        ------
        InterruptedStatementError
        """
        if self.cancelled:
            raise InterruptedStatementError

    def begin(self, cursor: Any) -> None:
        """Note the cursor of the statement that begins now."""
        with self._lock:
            if self.cancelled:
                raise InterruptedStatementError
            if self._is_watched:
                for name, value in WATCHED.items():
                    cursor.execute(f"SET {name} = {value}")
            self._finished.clear()
            self._cursor = cursor

    def end(self) -> None:
        """Note that the statement is over."""
        with self._lock:
            self._cursor = None
            self._finished.set()
