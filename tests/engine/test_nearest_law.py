"""The nearest rows are those of a plain model, whatever was written, deleted, flushed, compacted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalamdb_lab.engine.session import Session
from kalamdb_lab.query import vector_scans
from kalamdb_lab.testing.jobs import finished

_NUMBERS = st.integers(-4, 4).map(float)
_VECTORS = st.one_of(st.none(), st.lists(_NUMBERS, min_size=3, max_size=3))
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 30), _VECTORS),
        st.tuples(st.just("delete"), st.integers(0, 30)),
        st.tuples(st.sampled_from(["flush", "compact"])),
    ),
    max_size=25,
)


def _distance(function: str, a: Sequence[float], b: Sequence[float]) -> float | None:
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    if function == "INNER_PRODUCT":
        return -product
    if function == "L2_DISTANCE":
        return math.dist(a, b)
    lengths = math.hypot(*a) * math.hypot(*b)
    return 1 - product / lengths if lengths else None


@pytest.mark.slow
@settings(max_examples=30)
@given(
    steps=_STEPS,
    query=st.lists(_NUMBERS, min_size=3, max_size=3),
    function=st.sampled_from(["COSINE_DISTANCE", "L2_DISTANCE", "INNER_PRODUCT"]),
    below=st.one_of(st.none(), st.integers(0, 30)),
    k=st.integers(1, 12),
)
def test_the_nearest_are_those_of_a_plain_model(
    law: tuple[Session, Callable[[str], None]],
    steps: list[tuple[Any, ...]],
    query: list[float],
    function: str,
    below: int | None,
    k: int,
) -> None:
    session, maintain = law
    session.execute("DELETE FROM points WHERE true")
    model: dict[int, list[float] | None] = {}
    for step in steps:
        match step:
            case ("put", key, vector):
                session.execute(
                    "INSERT INTO points VALUES (?, ?) "
                    "ON CONFLICT (id) DO UPDATE SET e = excluded.e",
                    [key, vector],
                )
                model[key] = vector
            case ("delete", key):
                session.execute("DELETE FROM points WHERE id = ?", [key])
                model.pop(key, None)
            case (statement,):
                maintain(statement)
    known = {
        key: distance
        for key, vector in model.items()
        if (below is None or key < below)
        and vector is not None
        and (distance := _distance(function, vector, query)) is not None
    }
    where = "" if below is None else f"WHERE id < {below} "
    order = "DESC " if function == "INNER_PRODUCT" else ""
    result = session.execute(
        f"SELECT id FROM points {where}ORDER BY {function}(e, ?) {order}LIMIT {k}", [query]
    )
    found = [row[0] for row in result.rows()]
    assert len(found) == min(k, len(known)) == len(set(found))
    wanted = sorted(known.values())[: len(found)]
    assert [known[key] for key in found] == pytest.approx(wanted, abs=1e-9)


@pytest.fixture(scope="module")
def law(library: Any) -> Iterator[tuple[Session, Callable[[str], None]]]:
    """A table that all examples use, and what flushes and compacts it."""
    root = library.session()
    root.execute("CREATE TABLE points (id INT PRIMARY KEY, e EMBEDDING(3))")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_scans, "SEARCHED_ROWS", 0)
        yield root, lambda what: finished(root, f"STORAGE {what.upper()} TABLE points")
