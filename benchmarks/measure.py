"""How everything here is timed: contenders take turns in one run, and medians are compared."""

from __future__ import annotations

import enum
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")


class Scale(enum.IntEnum):
    """How much data a question is asked about.

    SMALL is for tests: it checks answers, and its times mean nothing.
    """

    SMALL = 0
    STANDARD = 1
    FULL = 2

    def of(self, small: T, standard: T, full: T | None = None) -> T:
        """Return the value for this scale; FULL takes that of STANDARD unless it has its own."""
        if self is Scale.SMALL:
            return small
        return full if self is Scale.FULL and full is not None else standard


@dataclass(frozen=True, slots=True)
class Samples:
    """Times of one contender, in seconds: on the wall clock, and of all cores together."""

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]

    @property
    def wall_ms(self) -> float:
        """Median time on the wall clock."""
        return statistics.median(self.wall_s) * 1_000

    @property
    def cpu_ms(self) -> float:
        """Median time of the processors: what is left of a time when the machine is busy."""
        return statistics.median(self.cpu_s) * 1_000

    @property
    def best_ms(self) -> float:
        """Shortest time on the wall clock: the least disturbed, where others use the machine."""
        return min(self.wall_s) * 1_000

    def each(self, count: int) -> Samples:
        """Return the times of one of ``count`` things that a sample did."""
        return Samples(
            tuple(second / count for second in self.wall_s),
            tuple(second / count for second in self.cpu_s),
        )


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warm_up: int = 1,
    inner: int = 1,
) -> dict[str, Samples]:
    """Time contenders in turns, so that a noisy moment meets all of them.

    Parameters
    ----------
    repeats : int
        Samples of each; the order changes from round to round.
    warm_up : int
        Rounds before that which do not count.
    inner : int
        Calls in one sample; times are those of one call.
    """
    names = list(contenders)
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    for number in range(warm_up + repeats):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            run = contenders[name]
            cpu_before, before = time.process_time(), time.perf_counter()
            for _ in range(inner):
                run()
            after, cpu_after = time.perf_counter(), time.process_time()
            if number >= warm_up:
                wall[name].append((after - before) / inner)
                cpu[name].append((cpu_after - cpu_before) / inner)
    return {name: Samples(tuple(wall[name]), tuple(cpu[name])) for name in names}


def timed(run: Callable[[], T]) -> tuple[T, Samples]:
    """Run something once that cannot be repeated, and return its answer with its time."""
    cpu_before, before = time.process_time(), time.perf_counter()
    answer = run()
    after, cpu_after = time.perf_counter(), time.process_time()
    return answer, Samples((after - before,), (cpu_after - cpu_before,))


def pooled(samples: list[Samples]) -> Samples:
    """Return the samples of several runs as those of one."""
    return Samples(
        tuple(second for one in samples for second in one.wall_s),
        tuple(second for one in samples for second in one.cpu_s),
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """At most so much: of a ratio to the peer, of milliseconds more than it, or in all."""

    of: Literal["ratio", "extra_ms", "ms"]
    limit: float

    def __str__(self) -> str:
        match self.of:
            case "ratio":
                return f"≤ {self.limit:g}x"
            case "extra_ms":
                return f"≤ +{self.limit:g} ms"
            case _:
                return f"≤ {self.limit:g} ms"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    what : str
        What was timed, for one call.
    peer : str
        What it is compared with; empty if with nothing.
    note : str
        What the numbers do not say.
    """

    what: str
    ours: Samples
    peer: str = ""
    theirs: Samples | None = None
    budget: Budget | None = None
    note: str = ""

    def ratio(self, *, cpu: bool = False) -> float | None:
        """Return our time divided by the peer's."""
        if self.theirs is None:
            return None
        if cpu:
            return self.ours.cpu_ms / self.theirs.cpu_ms if self.theirs.cpu_ms else None
        return self.ours.wall_ms / self.theirs.wall_ms

    def spent(self, *, cpu: bool = False) -> float | None:
        """Return what the budget limits."""
        if self.budget is None:
            return None
        ours = self.ours.cpu_ms if cpu else self.ours.wall_ms
        if self.budget.of == "ms":
            return ours
        assert self.theirs is not None, "the budget is about a peer"
        if self.budget.of == "extra_ms":
            return ours - (self.theirs.cpu_ms if cpu else self.theirs.wall_ms)
        return self.ratio(cpu=cpu)

    @property
    def is_met(self) -> bool | None:
        """Whether the time on the wall clock is within the budget; None without one."""
        spent = self.spent()
        return None if spent is None or self.budget is None else spent <= self.budget.limit


@dataclass(frozen=True, slots=True)
class Skipped:
    """A comparison that this environment cannot make, and why."""

    what: str
    reason: str


Finding = Figure | Skipped
