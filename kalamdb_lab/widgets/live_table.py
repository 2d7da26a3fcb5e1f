"""The live table: a result that changes by itself in the page."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets
import pyarrow as pa

from kalamdb_lab.errors import InvalidOptionError
from kalamdb_lab.live.results import LiveResult
from kalamdb_lab.live.subscription import Subscription
from kalamdb_lab.widgets.live_view import LiveView
from kalamdb_lab.widgets.sources import FoldedEvents

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session


def live_table(
    source: Any,
    *,
    session: Session | None,
    params: Sequence[object] | None,
    key: Sequence[str] | None,
    throttle_s: float,
) -> LiveTable:
    """Do what `kalamdb_lab.widgets.live` says."""
    if isinstance(source, LiveResult | Subscription):
        if session is not None or params is not None or key is not None:
            raise InvalidOptionError(
                "A live result or subscription has its session, parameters and key already"
            )
        if isinstance(source, LiveResult):
            return LiveTable(LiveView(source, is_owner=False))
        return LiveTable(LiveView(FoldedEvents(source, throttle_s=throttle_s)))
    if session is None:
        session = _session_of(source)
    return LiveTable(LiveView(session.live(source, params, key=key, throttle_s=throttle_s)))


def _session_of(expression: Any) -> Session:
    find = getattr(expression, "get_backend", None)
    if find is None:
        raise InvalidOptionError("A live table of SQL text needs a session: live(sql, session=...)")
    session: Session | None = getattr(find(), "session", None)
    if session is None:
        raise InvalidOptionError(
            "The expression belongs to another database; give live(expression, session=...)"
        )
    return session


class LiveTable:
    """A query that a notebook shows as it changes. Made by `kalamdb_lab.live`.

    It ends by `stop`, with its session, its database or its kernel, and when nothing holds it any
    more: keep it in a variable, or let the cell return it.
    """

    def __init__(self, view: LiveView) -> None:
        self._view = view
        # The page's registry of widgets holds the view, and nothing but the notebook this.
        self._finalizer = weakref.finalize(self, view.release)
        self._finalizer.atexit = False

    def stop(self) -> None:
        """End it; the page and the saved notebook keep the last state. Twice is fine."""
        self._view.stop()

    def wait(self, *, rows: int | None = None, timeout: float | None = None) -> bool:
        """Wait until there are so many rows, or without a number for a change.

        A change counts that no `wait` returned for and no `snapshot` showed yet.

        Parameters
        ----------
        timeout : float, optional
            Seconds; no limit by default.

        Returns
        -------
        bool
            False if the time was up, or it ended before.
        """
        found = self._view.source.wait(rows=rows, timeout=timeout)
        self._view.settle()
        return found

    def snapshot(self) -> pa.Table:
        """Return the newest rows, all of them, in the order of the query."""
        return self._view.source.snapshot()

    def pause(self) -> None:
        """Let changes wait, as the button in the page does."""
        self._view.pause(is_paused=True)

    def resume(self) -> None:
        """Show what came since `pause`, and go on."""
        self._view.pause(is_paused=False)

    @property
    def is_open(self) -> bool:
        """False once it has ended."""
        return self._view.is_open

    @property
    def ended(self) -> str | None:
        """Why it ended: ``stopped``, ``session ended``, ...; None while it is live."""
        return self._view.ended

    @property
    def is_paused(self) -> bool:
        """True while changes wait."""
        return self._view.is_paused

    @property
    def waiting(self) -> int:
        """How many rows changed since it was paused."""
        return self._view.waiting

    @property
    def widget(self) -> ipywidgets.DOMWidget:
        """The widget, to be put into ipywidgets' boxes; it ends with this object all the same."""
        return self._view.grid

    def __repr__(self) -> str:
        return repr(self._view)

    def _ipython_display_(self, **_: Any) -> None:
        self._view.show()
