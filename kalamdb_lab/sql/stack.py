"""Room for recursion over deep trees.

Python's default limit stops sqlglot at some 40 nested parentheses, fewer where the caller is
itself deep in a notebook. Deep statements are rare, so only they pay for a thread.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TypeVar

SHALLOW = 15
"""Statements that nest at most this deep are handled where they are."""

_STACK_BYTES = 64 * 1024 * 1024
_RECURSION_LIMIT = 60_000
_lock = threading.Lock()
_here = threading.local()

Result = TypeVar("Result")


def with_deep_stack(function: Callable[[], Result], *, depth: int = SHALLOW + 1) -> Result:
    """Return ``function()``, run where it may recurse deeply if ``depth`` asks for it.

    Parameters
    ----------
    depth : int
        How deep the statement nests (`Statement.depth`).

    Raises
    ------
    RecursionError
        Even that room was not enough.
    """
    if getattr(_here, "is_deep", False):
        return function()
    if depth <= SHALLOW:
        try:
            return function()
        except RecursionError:
            pass  # the caller's own stack was deep: again, with a stack of its own
    return _in_thread(function)


def _in_thread(function: Callable[[], Result]) -> Result:
    results: list[Result] = []
    faults: list[BaseException] = []

    def run() -> None:
        _here.is_deep = True
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            faults.append(error.with_traceback(None))

    # The limit belongs to the interpreter, not to the thread: one at a time.
    with _lock:
        limit = sys.getrecursionlimit()
        old_size = threading.stack_size(_STACK_BYTES)
        try:
            thread = threading.Thread(target=run, name="kalam-deep", daemon=True)
            sys.setrecursionlimit(max(limit, _RECURSION_LIMIT))
            thread.start()
        finally:
            threading.stack_size(old_size)
        try:
            thread.join()
        finally:
            sys.setrecursionlimit(limit)
    if faults:
        raise faults[0]
    return results[0]
