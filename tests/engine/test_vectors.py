"""Distances and rankings over hot and flushed rows, against the same sums in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalamdb_lab.engine.session import Session

Vector = tuple[float, ...]
Row = tuple[int, Vector | None, int]

COMPONENTS = st.one_of(
    st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]),
    st.floats(-(2.0**60), 2.0**60, width=32),
    st.sampled_from([1e-40, -3e38]),
)
VECTORS = st.one_of(
    st.tuples(COMPONENTS, COMPONENTS, COMPONENTS),
    st.sampled_from([(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, -1.0, 1.0), (-0.0, 0.0, 0.0)]),
)
RANKED = {"COSINE_DISTANCE": "", "L2_DISTANCE": "", "INNER_PRODUCT": "DESC"}


def exactly(function: str, left: Vector | None, right: Vector | None) -> float | None:
    """The definition, in float64."""
    if left is None or right is None:
        return None
    a, b = (np.array(item, np.float32).astype(np.float64) for item in (left, right))
    if function == "L2_DISTANCE":
        return float(np.sqrt(((a - b) ** 2).sum()))
    product = float(a @ b)
    if function == "INNER_PRODUCT":
        return product
    size = np.sqrt(a @ a) * np.sqrt(b @ b)
    return None if size == 0 else 1 - product / float(size)


def insert(session: Session, rows: Sequence[Row]) -> None:
    if rows:
        places = ", ".join(["(?, ?, ?)"] * len(rows))
        session.execute(
            f"INSERT INTO moods VALUES {places}", [item for row in rows for item in row]
        )


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    vectors=st.lists(st.none() | VECTORS, max_size=12),
    flushed=st.integers(0, 12),
    to=st.none() | VECTORS,
    limit=st.integers(0, 14),
    offset=st.integers(0, 3),
    removed=st.integers(0, 12),
)
def test_a_ranking_is_what_the_definition_says(
    s: Session,
    vectors: list[Vector | None],
    flushed: int,
    to: Vector | None,
    limit: int,
    offset: int,
    removed: int,
) -> None:
    s.execute("CREATE TABLE moods (id INT PRIMARY KEY, v EMBEDDING(3), part INT)")
    # Keys descend, so that ties do not go by the order of writing.
    rows: list[Row] = [(100 - at, vector, at % 3) for at, vector in enumerate(vectors)]
    insert(s, rows[:flushed])
    if flushed:
        s.execute("STORAGE FLUSH TABLE moods")
    insert(s, rows[flushed:])
    s.execute("DELETE FROM moods WHERE id = ?", [100 - removed])
    kept = [(key, vector) for key, vector, part in rows if key != 100 - removed and part > 0]
    for function, direction in RANKED.items():
        call = f"{function}(v, ?)"
        measured = s.execute(f"SELECT id, {call} FROM moods WHERE part > 0", [to])
        plain: dict[Any, Any] = {key: value for key, value in measured.rows()}  # noqa: C416
        for key, vector in kept:
            expected = exactly(function, vector, to)
            scale = 1.0 if expected is None else max(1.0, *map(abs, (*vector, *to))) ** 2  # type: ignore[misc]
            assert plain[key] == (
                None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-9 * scale)
            )
        sign = -1 if direction else 1
        order = sorted((sign * value, key) for key, value in plain.items() if value is not None)
        answer = s.execute(
            f"SELECT id, {call} AS d FROM moods WHERE part > 0 "
            f"ORDER BY d {direction} LIMIT {limit} OFFSET {offset}",
            [to],
        )
        expected_rows = [(key, sign * value) for value, key in order][offset : offset + limit]
        assert answer.rows() == expected_rows
    s.execute("DROP TABLE moods")


def test_many_rows_of_many_components(s: Session) -> None:
    s.execute("CREATE USER TABLE moods (id INT PRIMARY KEY, v EMBEDDING(96))")
    random = np.random.default_rng(7)
    vectors: npt.NDArray[np.float32] = random.standard_normal((600, 96)).astype(np.float32)
    vectors[::50] = vectors[25]
    s.insert("moods", {"id": list(range(600)), "v": [list(map(float, v)) for v in vectors]})
    s.execute("STORAGE FLUSH TABLE moods")
    s.execute("UPDATE moods SET v = NULL WHERE id % 10 = 3")
    wide, to = vectors.astype(np.float64), vectors[25].astype(np.float64)
    distances = 1 - wide @ to / (np.linalg.norm(wide, axis=1) * np.linalg.norm(to))
    order = [at for at in np.lexsort((range(600), distances.round(12))) if at % 10 != 3]
    found = s.execute("SELECT id FROM moods ORDER BY COSINE_DISTANCE(v, ?) LIMIT 40", [vectors[25]])
    assert [row[0] for row in found.rows()] == order[:40]


def test_the_own_scope_is_ranked(s: Session, mia: Session) -> None:
    s.execute("CREATE USER TABLE moods (id INT PRIMARY KEY, v EMBEDDING(2))")
    s.execute("INSERT INTO moods VALUES (1, [1, 0])")
    mia.execute("INSERT INTO moods VALUES (2, [0, 1])")
    sql = "SELECT id FROM moods ORDER BY L2_DISTANCE(v, ?) LIMIT 5"
    assert mia.execute(sql, [[1, 0]]).rows() == [(2,)]
    assert s.execute(f"EXECUTE AS USER 'mia' ({sql})", [[1, 0]]).rows() == [(2,)]
    sql = "SELECT user_id, id FROM all_users('moods') ORDER BY L2_DISTANCE(v, [0, 1]) LIMIT 5"
    assert s.execute(sql).rows() == [("mia", 2), ("root", 1)]


def test_other_statements_measure_too(s: Session, refused: Any) -> None:
    s.execute(
        "CREATE TABLE moods (id INT PRIMARY KEY, v EMBEDDING(2)); "
        "INSERT INTO moods VALUES (1, [1, 0]), (2, [0, 1]), (3, NULL)"
    )
    nearest = "SELECT id FROM moods ORDER BY L2_DISTANCE(v, ?) LIMIT 1"
    assert s.execute(f"DELETE FROM moods WHERE id IN ({nearest})", [[2, 0]]).rows_affected == 1
    sql = "UPDATE moods SET v = [1, 1] WHERE COSINE_DISTANCE(v, ?) < 1 RETURNING L2_DISTANCE(v, ?)"
    assert s.execute(sql, [[0, 3], [1, 0]]).rows() == [(1.0,)]
    s.execute("CREATE VIEW near AS SELECT id FROM moods ORDER BY L2_DISTANCE(v, [0, 0]) LIMIT 9")
    assert s.execute("SELECT * FROM near").rows() == [(2,)]
    plan = s.execute(
        "EXPLAIN SELECT id FROM moods ORDER BY COSINE_DISTANCE(v, ?) LIMIT 1", [[1, 0]]
    )
    assert "ORDER BY COSINE_DISTANCE(v, $1)" in [row[4] for row in plan.rows()]
    error = refused(s, "DELETE FROM moods WHERE L2_DISTANCE(v, [1, 2, 3]) < 1")
    assert (error.code, str(error)) == (
        "DIMENSION_MISMATCH", "Column 'v' expects 2 dimensions, got 3",
    )  # fmt: skip
