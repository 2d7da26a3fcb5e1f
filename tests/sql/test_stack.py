"""Room for recursion."""

from __future__ import annotations

import sys
import threading

import pytest

from kalamdb_lab.sql.stack import SHALLOW, with_deep_stack


def depth_of(levels: int) -> int:
    return 0 if levels == 0 else 1 + depth_of(levels - 1)


def test_deep_work_runs_and_leaves_the_limit_as_it_was() -> None:
    limit = sys.getrecursionlimit()
    assert with_deep_stack(lambda: depth_of(20_000)) == 20_000
    assert sys.getrecursionlimit() == limit


def test_shallow_work_stays_in_its_thread() -> None:
    assert with_deep_stack(threading.current_thread, depth=SHALLOW) is threading.current_thread()
    assert with_deep_stack(threading.current_thread) is not threading.current_thread()


def test_work_that_was_thought_shallow_gets_room_when_it_needs_it() -> None:
    assert with_deep_stack(lambda: depth_of(20_000), depth=0) == 20_000


def test_faults_come_back_to_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        with_deep_stack(lambda: 1 // 0)
    with pytest.raises(RecursionError):
        with_deep_stack(lambda: depth_of(10_000_000))


def test_deep_work_may_ask_again() -> None:
    assert with_deep_stack(lambda: with_deep_stack(lambda: depth_of(5_000))) == 5_000


def test_several_threads_may_ask_at_once() -> None:
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(with_deep_stack(lambda: depth_of(3_000))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [3_000] * 8
