"""How the tests of live results wait, and what they compare."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from kalamdb_lab.live.results import LiveResult

DEADLINE_S = 30.0


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so, which other threads make so."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not become so"
        threading.Event().wait(0.005)


def rows(live: LiveResult) -> list[tuple[Any, ...]]:
    return sorted(zip(*(column.to_pylist() for column in live.snapshot().columns), strict=True))
