"""How far a running statement is: one display that is updated, and is empty in the end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from IPython.display import display

from kalamdb_lab.model.readable import duration

AFTER_S: Final = 0.5
"""Statements that end sooner show nothing."""

_EVERY_S: Final = 0.2
_WIDTH: Final = 24
_BACK: Final = "\r\x1b[K"


class Progress:
    """What is shown while one statement runs; all of it from the thread that waits.

    Parameters
    ----------
    share : callable
        Gives the share that is done, 0 to 1, or None where it is not known.
    has_front_end : bool
        True in a kernel, whose displays can be updated. Elsewhere a line of a terminal is
        written over, and what is no terminal gets nothing.
    """

    def __init__(self, share: Callable[[], float | None], *, has_front_end: bool) -> None:
        self._share = share
        self._has_front_end = has_front_end
        self._handle: Any = None
        self._next_s = AFTER_S
        self._furthest = 0.0

    def step(self, elapsed_s: float) -> None:
        """Show how far the statement is, if it is time to."""
        if elapsed_s < self._next_s:
            return
        self._next_s = elapsed_s + _EVERY_S
        # An answer is read in several steps, and of some nothing is known: never go back.
        self._furthest = max(self._furthest, self._share() or 0.0)
        share = self._furthest or None
        if self._has_front_end:
            self._show(bundle(share, elapsed_s))
        elif sys.stderr.isatty():
            self._handle = True
            _write_over(line(share, elapsed_s))

    def end(self) -> None:
        """Take away what was shown."""
        if self._handle is None:
            return
        if self._has_front_end:
            self._show({"text/plain": "", "text/html": ""})
        else:
            _write_over("")
        self._handle = None

    def _show(self, shown: dict[str, str]) -> None:
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown, raw=True)


def _write_over(text: str) -> None:
    sys.stderr.write(_BACK + text)
    sys.stderr.flush()


def line(share: float | None, elapsed_s: float) -> str:
    """Return progress as text: a bar where the share is known, and the time."""
    time = duration(elapsed_s * 1_000)
    if share is None:
        return f"running · {time}"
    done = round(share * _WIDTH)
    return f"{'█' * done}{'░' * (_WIDTH - done)} {share:.0%} · {time}"


def bundle(share: float | None, elapsed_s: float) -> dict[str, str]:
    """Return progress as the representations of a display."""
    value = "" if share is None else f' value="{share:.3f}"'
    time = duration(elapsed_s * 1_000)
    said = time if share is None else f"{share:.0%} · {time}"
    return {
        "text/plain": line(share, elapsed_s),
        "text/html": (
            f'<div class="kalam-progress"><progress max="1"{value} aria-label="progress">'
            f'</progress> <span style="opacity:.65;font-size:12px">{said}</span></div>'
        ),
    }
