"""What was decoded from segments and may be asked for again, within a budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Any

CacheKey = tuple[int, Hashable, Hashable]
"""Segment id, column id, and which form of that column."""


class SegmentCache:
    """Least recently used first out; safe for threads.

    Parameters
    ----------
    budget_bytes : int
        What is larger than this is handed out and not kept; 0 keeps nothing.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._entries: OrderedDict[CacheKey, tuple[Any, int]] = OrderedDict()
        self._used_bytes = 0
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    @property
    def used_bytes(self) -> int:
        """Bytes held now, never more than the budget."""
        return self._used_bytes

    @property
    def budget_bytes(self) -> int:
        """Bytes that may be held."""
        return self._budget_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: CacheKey) -> Any:
        """Return what is kept under ``key``, or None."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                self.misses += 1
                return None
            self._entries.move_to_end(key)
            self.hits += 1
            return found[0]

    def put(self, key: CacheKey, value: Any, size_bytes: int) -> None:
        """Keep ``value``, if it fits at all, in the place of what was not used for longest."""
        with self._lock:
            if (old := self._entries.pop(key, None)) is not None:
                self._used_bytes -= old[1]
            if size_bytes > self._budget_bytes:
                return
            self._entries[key] = (value, size_bytes)
            self._used_bytes += size_bytes
            while self._used_bytes > self._budget_bytes:
                _, (_, freed_bytes) = self._entries.popitem(last=False)
                self._used_bytes -= freed_bytes

    def forget(self, segment_ids: Collection[int]) -> None:
        """Drop all that belongs to these segments."""
        self._drop(lambda key: key[0] in segment_ids)

    def clear(self) -> None:
        """Drop everything."""
        self._drop(lambda _: True)

    def _drop(self, is_doomed: Callable[[CacheKey], bool]) -> None:
        with self._lock:
            for key in [key for key in self._entries if is_doomed(key)]:
                self._used_bytes -= self._entries.pop(key)[1]
