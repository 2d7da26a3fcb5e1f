"""Distances and rankings over hot and flushed rows, against the same sums in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalamdb_lab.engine.session import Session
from kalamdb_lab.query.duck import VERSION
from kalamdb_lab.testing.jobs import finished

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
        finished(s, "STORAGE FLUSH TABLE moods")
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
    finished(s, "STORAGE FLUSH TABLE moods")
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


NOT_FINITE = ["[1, 'nan'::FLOAT]", "['inf'::DOUBLE, 1]", "[NULL, 1]", "CAST('[1, nan]' AS TEXT)"]


@pytest.mark.parametrize("vector", NOT_FINITE)
def test_no_way_into_a_column_takes_what_is_not_finite(
    s: Session, refused: Any, vector: str
) -> None:
    s.execute("CREATE TABLE moods (id INT PRIMARY KEY, v EMBEDDING(2))")
    wrong, right = (f"CAST({item} AS EMBEDDING(2))" for item in (vector, "[1.0, 2.0]"))
    for sql in (
        "INSERT INTO moods VALUES (1, {})",
        "INSERT INTO moods SELECT 2, {}",
        "INSERT INTO moods VALUES (1, [0, 0]) ON CONFLICT (id) DO UPDATE SET v = {}",
        "UPDATE moods SET v = {} WHERE true",
        "CREATE TABLE made AS SELECT {} AS v",
    ):
        assert str(refused(s, sql.format(wrong))).endswith("is not a finite number")
        s.execute(sql.format(right))
    vectors = s.execute("SELECT v FROM moods UNION ALL SELECT v FROM made").rows()
    assert vectors == [([1.0, 2.0],)] * 3


def test_what_is_not_kept_may_have_no_distance(s: Session) -> None:
    s.execute("CREATE TABLE moods (id INT PRIMARY KEY, v EMBEDDING(2))")
    s.execute("INSERT INTO moods VALUES (1, [1, 0]), (2, NULL)")
    odd = "CAST(['nan'::FLOAT, 1] AS EMBEDDING(2))"
    sources = [f"(SELECT id, CASE WHEN id = 1 THEN v ELSE {odd} END AS v FROM moods)"]
    for source in (
        *(sources if VERSION >= (2, 0) else ()),  # DuckDB 1 has no CASE of arrays
        f"(SELECT id, lag(v, 1, {odd}) OVER (ORDER BY id DESC) AS v FROM moods WHERE id > 1 "
        "UNION ALL SELECT 1, v FROM moods WHERE id = 1)",
        f"(SELECT id, v FROM moods UNION ALL SELECT 3, {odd})",
    ):
        sql = f"SELECT id FROM {source} ORDER BY COSINE_DISTANCE(v, [1, 1]) LIMIT 5"
        assert s.execute(sql).rows() == [(1,)]


def test_lists_are_no_vectors(s: Session, refused: Any) -> None:
    s.execute("CREATE TABLE moods (id INT, d DOUBLE[], t TEXT)")
    s.execute("INSERT INTO moods VALUES (1, [0, 2], '[1, 2]x')")
    for function in RANKED:
        error = refused(s, f"SELECT {function}(d, [1, 1]) FROM moods")
        assert str(error) == "Column 'd' is not an EMBEDDING column"
    sql = "SELECT list_cosine_distance(d, [0, 3]), L2_DISTANCE(d::EMBEDDING(2), [0, 0]) FROM moods"
    assert s.execute(sql).rows() == [(0, 2)]
    error = refused(s, "SELECT CAST(t AS EMBEDDING(2)) FROM moods")
    assert str(error) == "Cannot cast TEXT to EMBEDDING(2) in column 't'"


def test_files_and_relations_may_hold_what_no_column_does(
    s: Session, studio: Any, refused: Any
) -> None:
    kind = pa.list_(pa.float32(), 2)
    vectors = pa.array([[1, 0], [np.nan, 1]], kind)
    s.relations["near"] = pa.table({"id": [1, 2], "v": vectors})
    ranked = "SELECT id FROM {} ORDER BY COSINE_DISTANCE(v, [1, 1]) LIMIT 5"
    assert s.execute(ranked.format("near")).rows() == [(1,)]
    for name, rows in (("odd", vectors), ("even", vectors[:1])):
        path = Path(studio.database.path) / f"{name}.parquet"
        pq.write_table(pa.table({"id": range(1, len(rows) + 1), "v": rows}), path)
        s.execute(f"REGISTER TABLE {name} FROM '{path.name}'")
    assert s.execute(ranked.format("even")).rows() == [(1,)]
    error = refused(s, ranked.format("odd"))
    assert str(error) == (
        "A file of studio.odd no longer fits: a value of column 'v' is no EMBEDDING(2)"
    )


@pytest.mark.skipif(VERSION >= (2, 0), reason="DuckDB 2 has CASE of arrays")
def test_case_of_embeddings_is_refused_in_words_where_the_engine_has_none(
    s: Session, refused: Any
) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, e EMBEDDING(2))")
    s.execute("INSERT INTO t VALUES (1, '[1, 2]'), (2, NULL)")
    error = refused(s, "SELECT L2_DISTANCE(COALESCE(e, [4, 4]), [4, 4]) FROM t")
    assert error.code == "NOT_SUPPORTED"
    assert s.execute("SELECT L2_DISTANCE(e, [1, 2]) FROM t WHERE id = 1").rows() == [(0.0,)]
