"""One live result in the page: a thread that sends frames, and what the page asks back."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import ipywidgets

from kalamdb_lab.errors import KalamError
from kalamdb_lab.live.difference import Difference
from kalamdb_lab.widgets.grid import Grid, close_whole
from kalamdb_lab.widgets.picture import Picture, bundle_of
from kalamdb_lab.widgets.screen import Manner, Screen
from kalamdb_lab.widgets.sources import DATABASE_CLOSED, SESSION_ENDED, Source

FRAME_S: Final = 0.1
"""At most ten frames a second."""

_BEAT_S: Final = 1.0
_PICTURE_S: Final = 5.0
_LAG_S: Final = 1.0
_SECONDS: Final = 60
_STOPPED: Final = "stopped"
_QUIET: Final = "KALAMDB_LAB_TESTING"

_at_work: weakref.WeakSet[LiveView] = weakref.WeakSet()


class LiveView:
    """Shows one source at a time in a `Grid`, from a thread of its own that never prints.

    The thread takes differences and what the page asks for from one queue, and sends frames: ten
    a second at most and 200 KB each, fewer while sorting and filtering take long. States in
    between may be left out, the last one never is.

    Parameters
    ----------
    box : Widget, optional
        The widget that has the grid among others; what is displayed is the grid by default.
    is_owner : bool
        Whether the source ends with the view.
    at_end : callable, optional
        Called on the thread when all is over.
    """

    def __init__(
        self,
        source: Source,
        manner: Manner | None = None,
        *,
        grid: Grid | None = None,
        box: ipywidgets.Widget | None = None,
        is_owner: bool = True,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._at_end = at_end
        self.grid = grid or Grid()
        self._box = box or self.grid
        self._picture = Picture()
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._is_serving, self._is_released = True, False
        self.ended: str | None = None
        self._ended_at = ""
        self._next_frame = self._next_beat = self._next_picture = time.monotonic()
        self._adopt(source, manner or Manner(), is_owner=is_owner)
        self.grid.on_msg(self._on_page)
        self._context = contextvars.copy_context()  # of the cell, as in `WatchedRows`
        run = partial(self._context.copy().run, self._run)
        self._thread = threading.Thread(target=run, name="kalam-live-view", daemon=True)
        _at_work.add(self)
        self._thread.start()

    def _adopt(self, source: Source, manner: Manner, *, is_owner: bool) -> None:
        self.source, self._is_owner = source, is_owner
        self._rate: deque[int] = deque([0], maxlen=_SECONDS)
        self.waiting = 0
        self.is_paused = self._is_stale = self._is_lagging = False
        self._event_at: float | None = None
        self._late_since: float | None = None
        self._token = token = object()
        inbox, begun = self._inbox, list[Difference]()

        def listen(change: Difference) -> None:
            # The source holds this function, which therefore must hold neither view nor source.
            if begun:
                inbox.put(("change", (token, change)))
            else:
                begun.append(change)

        self._unwatch = source.watch(listen)  # the first call, at once, brings the present rows
        self._screen = Screen(begun[0].table, source.key, manner)
        self._error, self._note = begun[0].error, str(begun[0].error or "")
        if begun[0].ended is not None:
            self._lose(begun[0].ended)

    # --- what others ask for ----------------------------------------------------------------------

    def replace(self, source: Source, manner: Manner, *, is_owner: bool = True) -> None:
        """Show another source from now on; the one before ends if the view owned it."""
        with self._lock:
            former, unwatch, owned = self.source, self._unwatch, self._is_owner
            screen = self._screen
            self._adopt(source, manner, is_owner=is_owner)
            self._screen.succeed(screen)
            self._is_stale = True
        self._inbox.put(("wake", None))
        unwatch()
        if owned:
            former.close()

    def say(self, note: str) -> None:
        """Say something in the page until something changes."""
        with self._lock:
            self._note = note
            self._next_beat = 0.0
        self._inbox.put(("wake", None))

    def pause(self, *, is_paused: bool) -> None:
        """Stop showing changes, or show what came since and go on."""
        self._post({"kind": "pause", "on": is_paused})

    def stop(self, timeout_s: float | None = 10.0) -> None:
        """End it: the page and the saved picture have the last state when this returns."""
        self._inbox.put(("end", _STOPPED))
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def release(self) -> None:
        """End it because nobody holds it any more: only its picture stays in the page.

        The garbage collector may call it, in the midst of anything.
        """
        self._inbox.put(("release", None))
        if not self._is_serving:
            with contextlib.suppress(RuntimeError):  # no thread starts while Python ends
                threading.Thread(target=self._retire, daemon=True).start()

    def settle(self, timeout_s: float = 10.0) -> None:
        """Wait until the page and the saved picture were sent the newest state."""
        if self._is_serving and self._thread is not threading.current_thread():
            done = threading.Event()
            self._inbox.put(("settle", done))
            until = time.monotonic() + timeout_s
            while self._thread.is_alive() and time.monotonic() < until and not done.wait(0.1):
                pass

    def show(self) -> None:
        """Show it in the output of the running cell."""
        with self._lock:
            self._picture.show(self._bundle(self._box.model_id))

    @property
    def is_open(self) -> bool:
        """False once it has ended."""
        return self._thread.is_alive()

    def __repr__(self) -> str:
        with self._lock:
            self._arrange()
            return repr(self._screen.picture(self._notes()))

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self.ended is None:
                due_s = max(0.0, self._due() - time.monotonic())
                first = None
                with contextlib.suppress(queue.Empty):
                    first = self._inbox.get(timeout=due_s)
                with self._lock:
                    settled = self._take_all(first)
                    self._work(time.monotonic(), is_urgent=bool(settled))
                for event in settled:
                    event.set()
        except Exception as error:  # noqa: BLE001  (a thread has nobody else to tell)
            self.ended = f"failed: {type(error).__name__}"
            self._screen.show_all()  # what could not be sorted or filtered cannot be now
        try:
            self._say_last()
        finally:
            self._finish()

    def _due(self) -> float:
        frame = [self._next_frame] if self._has_frame() else []
        picture = [self._next_picture] if self._is_stale and self._picture.is_shown else []
        return min([self._next_beat, *frame, *picture])

    def _take_all(self, first: tuple[str, Any] | None = None) -> list[threading.Event]:
        settled = []
        with contextlib.suppress(queue.Empty):
            while True:
                kind, value = first or self._inbox.get_nowait()
                first = None
                match kind:
                    case "change":
                        token, change = value
                        if token is self._token:
                            self._take(change)
                    case "page":
                        self._obey(value)
                    case "settle":
                        settled.append(value)
                    case "end":
                        self.ended = self.ended or value
                    case "release":
                        self._is_released = True
                        self.ended = self.ended or _STOPPED
        return settled

    def _take(self, change: Difference) -> None:
        count = len(change.inserted) + len(change.updated) + change.deleted.num_rows
        self._screen.take(change, self.source.key)
        self._is_stale = True
        self._error, self._note = change.error, str(change.error or "")
        self._rate[-1] += count
        self.waiting += count if self.is_paused else 0
        self._event_at = time.monotonic()
        self._late_since = self._late_since or self._event_at
        if change.ended is not None:
            self._lose(change.ended)

    def _lose(self, reason: str) -> None:
        """Take note that the source ended: so does the view, unless others can take its place."""
        if self._screen.manner.is_one_of_many and reason not in (SESSION_ENDED, DATABASE_CLOSED):
            self._note = reason
            self._next_beat = 0.0
        else:
            self.ended = self.ended or reason

    def _work(self, now: float, *, is_urgent: bool = False) -> None:
        if self._has_frame() and (is_urgent or now >= self._next_frame):
            self._send_frame(now)
        if now >= self._next_beat:
            self._is_lagging &= self._late_since is not None
            self._send({"kind": "state", "state": self._state()})
            self._rate.append(0)
            self._next_beat = now + _BEAT_S
            self._screen.grow_older()
        if self._is_stale and (is_urgent or now >= self._next_picture):
            self._renew_picture()
            self._next_picture = time.monotonic() + _PICTURE_S

    def _say_last(self) -> None:
        self._unwatch()
        with self._lock:
            self._take_all()
            self._ended_at = time.strftime("%H:%M:%S")
            self.is_paused = False
            self._screen.is_dirty = True
            self._work(time.monotonic(), is_urgent=True)
            self._send({"kind": "state", "state": self._state()})
            self._renew_picture()

    def _finish(self) -> None:
        with self._lock:
            self._is_serving = False
            for event in self._take_all():
                event.set()
        if self._is_owner:
            self.source.close()
        if self._at_end is not None:
            self._at_end()
        _at_work.discard(self)
        if self._is_released:
            self._retire()

    def _retire(self) -> None:
        """Leave nothing but the picture: the page then shows that, and no model is kept."""
        with self._lock:
            self._picture.renew(self._bundle(None))
            self.grid.on_msg(self._on_page, remove=True)
            close_whole(self._box)

    # --- the page ---------------------------------------------------------------------------------

    def _has_frame(self) -> bool:
        screen = self._screen
        is_newer = screen.is_dirty and not self.is_paused and bool(screen.windows)
        return is_newer or screen.lacks_rows

    def _arrange(self) -> None:
        if not self.is_paused:
            self._screen.arrange()
            self.waiting = 0

    def _send_frame(self, now: float) -> None:
        self._arrange()
        messages = self._screen.messages()
        done = time.monotonic()
        if not self.is_paused:
            self._is_lagging = self._late_since is not None and done - self._late_since > _LAG_S
            self._late_since = None
            self._screen.forget_marks()
        messages[-1]["state"] = self._state()
        for message in messages:
            self._send(message)
        sent = time.monotonic()
        self._next_frame = max(sent + FRAME_S, now + 2 * (sent - now))

    def _state(self) -> dict[str, Any]:
        word = "failing" if self._error else "lagging" if self._is_lagging else "live"
        word = "paused" if self.is_paused else word
        age_s = None if self._event_at is None else time.monotonic() - self._event_at
        return self._screen.counts() | {
            "word": word if self.ended is None else "ended",
            "why": "" if self.ended in (None, _STOPPED) else self.ended,
            "ended_at": self._ended_at,
            "note": self._note,
            "waiting": self.waiting,
            "age_ms": None if age_s is None else round(age_s * 1_000),
            "rate": list(self._rate),
        }

    def _send(self, message: dict[str, Any]) -> None:
        if self._screen.windows:
            self.grid.send(message)

    def _on_page(self, _: object, content: dict[str, Any], __: object) -> None:
        if content.get("kind") == "press":
            self._press(str(content.get("name")))
        else:
            self._post(content)

    def _post(self, content: dict[str, Any]) -> None:
        with self._lock:
            if self._is_serving:
                self._inbox.put(("page", content))
            else:
                self._obey(content)
                self._context.copy().run(self._work, time.monotonic(), is_urgent=True)

    def _obey(self, content: dict[str, Any]) -> None:
        screen = self._screen
        if content.get("kind") in ("sort", "filter", "pause"):
            # A page draws itself anew when the picture does: not while the reader is at it.
            self._is_stale, self._next_picture = True, time.monotonic() + _PICTURE_S
        match content:
            case {"kind": "window", "view": str(view), "first": int(first), "count": int(count)}:
                screen.look(view, first, count, is_new=bool(content.get("hello")))
            case {"kind": "gone", "view": str(view)}:
                screen.windows.pop(view, None)
            case {"kind": "sort", "column": column, "descending": bool(is_descending)}:
                at = column if isinstance(column, int) else None
                screen.sort_by(at, is_descending=is_descending)
            case {"kind": "filter", "text": str(text)}:
                screen.filter_by(text)
            case {"kind": "pause", "on": bool(is_paused)}:
                self.is_paused = is_paused and self.ended is None
                self._late_since = None  # to pause is not to lag
                self._next_beat = 0.0  # said at once

    def _press(self, name: str) -> None:
        """Run the button of a row; on the thread that runs cells, as all statements of a cell."""
        with self._lock:
            row, act = self._screen.row_named(name), self._screen.manner.act
        if act is None or row is None:
            return
        try:
            act(row)
            self.say("")
        except KalamError as error:
            self.say(str(error))

    # --- the picture ------------------------------------------------------------------------------

    def _renew_picture(self) -> None:
        self._is_stale = False
        if self._picture.is_shown:
            self._picture.renew(self._bundle(self._box.model_id))

    def _bundle(self, model_id: str | None) -> dict[str, Any]:
        self._arrange()
        rows = self._screen.picture(self._notes())
        return bundle_of(model_id, rows._repr_html_(), repr(rows))

    def _notes(self) -> list[str]:
        is_timed = os.environ.get(_QUIET) != "1"  # set for outputs that are compared
        if self.ended is None:
            return [f"as of {time.strftime('%H:%M:%S')}" if is_timed else "", self._note]
        why = "" if self.ended == _STOPPED else self.ended
        return [f"ended {self._ended_at}" if is_timed else "ended", why, self._note]


@atexit.register
def _end_all() -> None:
    for view in list(_at_work):
        view.stop(1.0)
