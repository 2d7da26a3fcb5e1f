"""A call that does not stop at once, interrupted."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kalamdb_lab.engine.interruptible import FINISHED, STOPPING, Interruptible
from kalamdb_lab.errors import InterruptedStatementError


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Hear SIGINT, which a shell makes its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Work:
    """Something slow that stops when ``stop`` is set, however often it is asked."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.asked = 0

    def interrupt(self) -> None:
        self.asked += 1

    def heed(self) -> None:
        self.asked += 1
        self.stop.set()

    def run(self) -> str:
        self.stop.wait(30)
        raise InterruptedStatementError

    def finish(self) -> str:
        self.stop.wait(30)
        return "done"


def interrupted(call: Callable[[], object], *, presses: int = 1) -> tuple[Exception, float]:
    """Run a call, press the button, and return the error and how long the prompt took."""
    pressed = []

    def press() -> None:
        pressed.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    timers = [threading.Timer(0.1 + 0.15 * number, press) for number in range(presses)]
    for timer in timers:
        timer.start()
    with pytest.raises(InterruptedStatementError) as raised:
        call()
    elapsed_s = time.monotonic() - pressed[0]
    for timer in timers:
        timer.join()
    return raised.value, elapsed_s


def test_results_and_errors_come_through() -> None:
    calls = Interruptible(lambda: None)
    assert calls.run(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        calls.run(lambda: 1 / 0)


def test_a_call_that_heeds_stops() -> None:
    work = Work()
    error, elapsed_s = interrupted(lambda: Interruptible(work.heed).run(work.run))
    assert elapsed_s < 0.5
    assert str(error) == "Interrupted; nothing was changed"


def test_a_call_that_finishes_all_the_same_is_told() -> None:
    work = Work()
    error, _ = interrupted(lambda: Interruptible(work.heed).run(work.finish))
    assert str(error) == FINISHED


def test_the_prompt_comes_back_from_a_call_that_does_not_stop() -> None:
    work = Work()
    calls = Interruptible(work.interrupt)
    error, elapsed_s = interrupted(lambda: calls.run(work.run))
    assert elapsed_s < 0.5
    assert str(error) == STOPPING
    assert work.asked > 1

    ran = []
    error, elapsed_s = interrupted(lambda: calls.run(lambda: ran.append(1)))
    assert elapsed_s < 0.5
    assert ran == [], "what waits for the first call is never run after its interrupt"

    work.stop.set()
    assert calls.run(lambda: "next") == "next"


def test_a_second_press_gives_the_prompt_at_once() -> None:
    work = Work()
    error, elapsed_s = interrupted(lambda: Interruptible(work.interrupt).run(work.run), presses=2)
    assert elapsed_s < 0.25
    assert str(error) == STOPPING
    work.stop.set()


def test_the_end_of_a_call_can_be_waited_for() -> None:
    work = Work()
    threading.Timer(0.8, work.stop.set).start()  # long after the usual grace time
    patient = Interruptible(work.interrupt, grace_s=math.inf)
    error, elapsed_s = interrupted(lambda: patient.run(work.finish))
    assert str(error) == FINISHED
    assert elapsed_s > 0.5
    stuck = Work()
    patient = Interruptible(stuck.interrupt, grace_s=math.inf)
    error, elapsed_s = interrupted(lambda: patient.run(stuck.finish), presses=2)
    assert str(error) == STOPPING
    assert elapsed_s < 5
    stuck.stop.set()


def test_the_waiting_thread_is_told_how_long_it_takes() -> None:
    work, steps, threads = Work(), [], set()

    def watch(elapsed_s: float) -> None:
        steps.append(elapsed_s)
        threads.add(threading.current_thread())
        if len(steps) == 3:
            work.stop.set()

    assert Interruptible(work.heed).run(work.finish, watch=watch) == "done"
    assert threads == {threading.current_thread()}
    assert steps == sorted(steps)
    assert steps[0] > 0
