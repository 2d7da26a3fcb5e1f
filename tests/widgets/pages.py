"""A stand-in for the page: it speaks to a widget over its real comm."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kalamdb_lab.widgets.grid import Grid


@dataclass
class Page:
    """What the kernel sent to one grid, and what its view asks for."""

    grid: Grid
    view: str = "view"
    messages: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.grid.comm.publish_msg = self._take

    def _take(self, _: str, data: dict[str, Any] | None = None, **__: object) -> None:
        if data and data.get("method") == "custom":
            with self.changed:
                self.messages.append((time.monotonic(), data["content"]))
                self.changed.notify_all()

    def send(self, **content: object) -> None:
        data = {"method": "custom", "content": content}
        self.grid.comm.handle_msg({"content": {"data": data}, "buffers": []})

    def look(self, first: int = 0, count: int = 50) -> None:
        """Ask for rows, as a view does when it appears or is scrolled."""
        self.send(kind="window", view=self.view, first=first, count=count, hello=not self.messages)

    def wait(self, found: Callable[[], Any], timeout_s: float = 40) -> Any:
        """Wait until ``found`` gives something true, and return it."""
        with self.changed:
            assert self.changed.wait_for(found, timeout_s), (self.rows, self.state)
            return found()

    @property
    def frames(self) -> list[tuple[float, dict[str, Any]]]:
        return [(at_s, message) for at_s, message in self.messages if message["kind"] == "frame"]

    @property
    def header(self) -> list[dict[str, Any]]:
        return [m["columns"] for _, m in self.messages if m["kind"] == "header"][-1]

    @property
    def state(self) -> dict[str, Any]:
        states = [message["state"] for _, message in self.messages if "state" in message]
        return states[-1] if states else {}

    @property
    def slice(self) -> dict[str, Any]:
        """The newest rows that came."""
        found = [
            frame["slices"][self.view] for _, frame in self.frames if self.view in frame["slices"]
        ]
        return found[-1] if found else {"rows": [], "first": 0, "marks": "", "gone": []}

    @property
    def rows(self) -> list[list[Any]]:
        return self.slice["rows"]

    def sizes(self) -> list[int]:
        """Bytes of each message."""
        return [len(json.dumps(message)) for _, message in self.messages]


def view_threads() -> list[str]:
    """Names of the threads that widgets have."""
    names = ("kalam-live-view", "kalam-live-rows")
    return [thread.name for thread in threading.enumerate() if thread.name in names]


def eventually(found: Callable[[], Any], timeout_s: float = 40) -> None:
    """Wait for what no condition tells of: the end of a thread, a collected object."""
    until = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < until
        time.sleep(0.01)
