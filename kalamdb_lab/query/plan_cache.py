"""Plans by what they depend on: a repeated statement is neither parsed nor planned again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

P = TypeVar("P")


class PlanCache(Generic[P]):
    """The plans used last, within a bound. Safe for threads.

    Attributes
    ----------
    hits, misses : int
        How often a plan was there, and how often it was made.
    """

    def __init__(self, limit: int = 512) -> None:
        self._limit = limit
        self._plans: OrderedDict[Hashable, P] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get_or_make(self, key: Hashable, make: Callable[[], P]) -> P:
        """Return the plan of a key; what ``make`` raises is raised, and nothing is kept."""
        with self._lock:
            if key in self._plans:
                self._plans.move_to_end(key)
                self.hits += 1
                return self._plans[key]
            self.misses += 1
        plan = make()
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > self._limit:
                self._plans.popitem(last=False)
        return plan
