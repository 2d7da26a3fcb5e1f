"""One budget of bytes, least recently used first out."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.segments.cache import SegmentCache


@given(
    budget=st.integers(0, 50),
    sizes=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 30)), max_size=40),
)
def test_the_budget_is_never_exceeded_and_the_last_that_fits_is_kept(
    budget: int, sizes: list[tuple[int, int]]
) -> None:
    cache = SegmentCache(budget)
    kept: dict[int, int] = {}
    for number, size in sizes:
        cache.put((number, 0, None), size, size)
        kept.pop(number, None)
        if size <= budget:
            kept[number] = size
            while sum(kept.values()) > budget:
                del kept[next(iter(kept))]
        assert cache.used_bytes == sum(kept.values()) <= budget
        assert len(cache) == len(kept)
    for number in range(9):
        assert cache.get((number, 0, None)) == kept.get(number)


def test_what_was_used_lately_stays() -> None:
    cache = SegmentCache(20)
    cache.put((1, 0, None), "one", 10)
    cache.put((2, 0, None), "two", 10)
    assert cache.get((1, 0, None)) == "one"
    cache.put((3, 0, None), "three", 10)
    assert cache.get((2, 0, None)) is None
    assert cache.get((1, 0, None)) == "one"
    assert (cache.hits, cache.misses) == (2, 1)


def test_segments_are_forgotten_one_by_one_and_all_at_once() -> None:
    cache = SegmentCache(100)
    for segment_id in (1, 2, 3):
        cache.put((segment_id, 0, None), "x", 10)
        cache.put((segment_id, 1, "keys"), "y", 10)
    cache.forget([1, 3])
    assert cache.used_bytes == 20
    assert cache.get((2, 1, "keys")) == "y"
    cache.clear()
    assert cache.used_bytes == 0


def test_threads_do_not_upset_the_count() -> None:
    cache = SegmentCache(1_000)

    def work(start: int) -> None:
        for step in range(2_000):
            cache.put((start + step % 17, step % 3, None), step, 1 + step % 90)
            cache.get((start, step % 3, None))
            if step % 50 == 0:
                cache.forget([start])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < cache.used_bytes <= 1_000
    cache.clear()
    assert cache.used_bytes == 0
