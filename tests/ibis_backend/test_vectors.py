"""Distances and nearest rows as expressions, beside SQL and the definition in float64."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import ibis
import ibis.common.exceptions as exc
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ibis import _

import kalamdb_lab as kalam
from kalamdb_lab.errors import (
    AlreadyExistsError,
    DimensionMismatchError,
    InvalidOptionError,
    InvalidValueError,
    KalamError,
    NotSupportedError,
    TypeMismatchError,
)
from kalamdb_lab.testing.jobs import finished

ROWS = [
    (1, [1, 2, 3], "a", 1),
    (2, [3, 2, 1], "b", 2),
    (3, None, "b", 3),
    (4, [0, 0, 0], "b", 4),
    (5, [2, 4, 6], "c", 5),
]
Q = [1, 2, 3]


@pytest.fixture
def t(con: Any) -> Any:
    """Hot and flushed rows; row 3 has no vector, row 4 no direction, 1 and 5 the same one."""
    con.session.execute("CREATE TABLE t (id INT PRIMARY KEY, v EMBEDDING(3), tag TEXT, n INT)")
    for at, row in enumerate(ROWS):
        con.session.execute("INSERT INTO t VALUES (?, ?, ?, ?)", row)
        if at == 2:
            finished(con.session, "STORAGE FLUSH TABLE t")
    return con.table("t")


def ids(expr: Any) -> list[int]:
    return expr.to_pandas()["id"].tolist()


def test_importing_the_package_does_not_import_ibis() -> None:
    code = (
        "import sys, kalamdb_lab as k; assert 'nearest' in dir(k); print('ibis' in sys.modules);"
        "k.nearest; print('ibis' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'farthest'"):
        kalam.farthest  # type: ignore[attr-defined]  # noqa: B018


def test_the_nearest_rows_come_in_order_with_their_distance(t: Any) -> None:
    found = kalam.nearest(t, "v", Q, k=3).to_pandas()
    assert found["id"].tolist() == [1, 5, 2]  # equal distances by key, none for NULL and zero
    assert found["distance"].tolist() == pytest.approx([0, 0, 1 - 10 / 14], abs=1e-12)
    assert ids(kalam.nearest(t, "v", Q)) == [1, 5, 2]
    assert ids(kalam.nearest(t, t.v, Q, k=1)) == [1]


def test_metrics_rank_by_their_own_function(t: Any) -> None:
    by_l2 = kalam.nearest(t, "v", Q, k=9, metric="l2", distance="far").to_pandas()
    assert by_l2["id"].tolist() == [1, 2, 4, 5]
    assert by_l2["far"].tolist() == pytest.approx([0, 8**0.5, 14**0.5, 14**0.5])
    by_product = kalam.nearest(t, "v", Q, k=9, metric="inner_product").to_pandas()
    assert by_product["id"].tolist() == [5, 1, 2, 4]
    assert by_product["distance"].tolist() == [28, 14, 10, 0]


@pytest.mark.parametrize(
    "vector",
    [
        (1, 2, 3),
        np.array([1, 2, 3]),
        np.array([1, 2, 3], np.float16),
        pa.array([1.0, 2.0, 3.0]),
        pa.chunked_array([[1], [2, 3]]),
        pa.scalar([1, 2, 3], pa.list_(pa.float32(), 3)),
        [np.float32(1), 2, pa.scalar(3)],
        "[1, 2, 3]",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_vector_comes_in_many_forms(t: Any, vector: Any) -> None:
    assert ids(kalam.nearest(t, "v", vector)) == [1, 5, 2]
    assert t.filter(t.id == 2).select(d=kalam.l2_distance(_.v, vector)).to_pandas()[
        "d"
    ].tolist() == [pytest.approx(8**0.5)]


def test_components_reach_the_engine_as_the_float32_they_are(con: Any) -> None:
    con.session.execute("CREATE TABLE t (id INT PRIMARY KEY, v EMBEDDING(5))")
    odd = np.array([0.1, 1 / 3, 1e-42, -3e38, 16777217.0], np.float32)
    con.session.execute("INSERT INTO t VALUES (1, ?)", [odd])
    for vector in (odd, odd.tolist(), [0.1, 1 / 3, 1e-42, -3e38, 16777217.0]):
        assert kalam.nearest(con.table("t"), "v", vector, metric="l2").to_pandas()[
            "distance"
        ].tolist() == [0.0]


def test_filters_before_are_obeyed_before_ranking(t: Any) -> None:
    assert ids(kalam.nearest(t.filter(t.tag == "b"), "v", Q, k=1)) == [2]
    changed = t.filter(_.n > 1).select("id", vec="v", up=_.tag.upper()).filter(_.up != "C")
    found = kalam.nearest(changed, "vec", Q, k=3).to_pandas()
    assert (found["id"].tolist(), found["up"].tolist()) == ([2], ["B"])
    some = t.filter(_.id.isin(ibis.memtable({"id": [2, 4]}).id))
    assert ids(kalam.nearest(some, _.v, Q)) == [2]


def test_filters_after_see_the_k_rows_only(t: Any) -> None:
    assert ids(kalam.nearest(t, "v", Q, k=2).filter(_.tag == "b")) == []
    assert ids(kalam.nearest(t, "v", Q, k=3).filter(_.tag == "b")) == [2]


def test_joins_around_a_ranking(con: Any, t: Any) -> None:
    words = ibis.memtable({"id": [2, 5, 7], "word": ["two", "five", "seven"]})
    for __ in range(2):  # a memtable outlives the first run
        joined = kalam.nearest(t, "v", Q, k=2).join(words, "id").to_pandas()
        assert joined["word"].tolist() == ["five"]
        ranked = kalam.nearest(t.join(words, "id"), "v", Q, k=9).to_pandas()
        assert ranked["word"].tolist() == ["five", "two"]
    again = kalam.nearest(kalam.nearest(t, "v", Q, k=2), "v", [3, 2, 2], k=1, distance="second")
    assert ids(again) == [1]


def test_what_cannot_be_one_select_is_ranked_all_the_same(t: Any) -> None:
    for table in (
        t.distinct(),
        ibis.union(t.filter(t.id < 3), t.filter(t.id >= 3)),
        t.order_by(_.id.desc()).limit(4),
        t.mutate(at=ibis.row_number().over(order_by=t.id)),
    ):
        found = ids(kalam.nearest(table, "v", Q, k=3))
        assert found == [row for row in (1, 5, 2) if row in ids(table)]


def test_a_ranking_is_one_flat_select_with_one_vector(con: Any, t: Any) -> None:
    """The form that the planner knows; its text is our own SQL."""
    text = con.compile(kalam.nearest(t.filter(t.n > 1).select("id", "v"), "v", Q, k=2))
    assert text == (
        'SELECT "t0"."id", "t0"."v", COSINE_DISTANCE("t0"."v", \'[1,2,3]\') AS "distance" '
        'FROM "t" AS "t0" WHERE "t0"."n" > 1 ORDER BY "distance" ASC LIMIT 2'
    )
    assert [row[0] for row in con.session.execute(text).rows()] == [5, 2]


def test_distances_are_values_like_others(con: Any, t: Any) -> None:
    d = kalam.cosine_distance(t.v, Q)
    assert ids(t.filter(d < 0.1).order_by("id")) == [1, 5]
    assert t.agg(m=kalam.l2_distance(t.v, Q).max()).to_pandas()["m"][0] == pytest.approx(14**0.5)
    assert t.select(kalam.inner_product(t.v, t.v)).columns == ("inner_product(v)",)
    squares = t.order_by("id").select(x=kalam.inner_product(t.v, t.v)).to_pyarrow()
    assert squares["x"].to_pylist() == [14, 14, None, 0, 56]
    assert t.select(d=kalam.cosine_distance(t.v, None)).to_pyarrow()["d"].null_count == 5
    assert kalam.cosine_distance(_.v, Q).resolve(t).equals(d)
    wanted = ibis.param("string")
    near = kalam.nearest(t, "v", wanted, k=1)
    assert near.to_pyarrow(params={wanted: "[3, 2, 1]"})["id"].to_pylist() == [2]


def test_another_vector_needs_no_other_plan(con: Any, t: Any) -> None:
    plans = con.session._context.queries.plans
    assert ids(kalam.nearest(t, "v", Q, k=1)) == [1]
    made = plans.misses
    others = [[3, 2, 1], [0, 1, 4], np.ones(3)]
    assert [ids(kalam.nearest(t, "v", vector, k=1)) for vector in others] == [[2], [1], [1]]
    assert plans.misses == made
    assert ids(kalam.nearest(t, "v", Q, k=2)) == [1, 5]
    assert plans.misses > made


def test_every_way_of_running_gives_the_same_rows(con: Any, t: Any) -> None:
    near = kalam.nearest(t, "v", Q, k=3)
    expected = [1, 5, 2]
    assert near.to_pyarrow()["id"].to_pylist() == expected
    assert near.to_pyarrow_batches(chunk_size=2).read_all()["id"].to_pylist() == expected
    assert near.cache().to_pyarrow().num_rows == 3
    view = con.create_view("near", near)
    assert sorted(ids(view)) == sorted(expected)
    con.session.execute("INSERT INTO t VALUES (0, [1, 2, 3], 'd', 0)")
    assert sorted(ids(view)) == [0, 1, 5]


def test_a_live_result_follows_a_ranking(con: Any, t: Any) -> None:
    with con.session.live(kalam.nearest(t, "v", [3, 2, 1], k=1)) as live:
        assert live.snapshot()["id"].to_pylist() == [2]
        con.session.execute("INSERT INTO t VALUES (9, [6, 4, 2], 'z', 0), (0, [3, 2, 1], 'z', 0)")
        assert live.wait(timeout=60)
        assert live.snapshot()["id"].to_pylist() == [0]


def test_a_text_is_embedded_by_the_function_of_the_column(con: Any) -> None:
    con.session.execute("CREATE TABLE t (id INT PRIMARY KEY, body TEXT, v EMBEDDING(2))")
    function = kalam.embedding_function(
        lambda texts: [[len(text), 1.0] for text in texts], name="lengths", dimension=2
    )
    con.session.embed("t", "v", source="body", function=function)
    con.session.insert("t", {"id": [1, 2], "body": ["a", "a long text"]})
    t = con.table("t")
    assert ids(kalam.nearest(t, "v", "x", k=1)) == [1]
    assert ids(kalam.nearest(t, "v", "it isn't short", k=1)) == [2]
    far = t.select(d=kalam.l2_distance(t.v, "four")).to_pandas()["d"]
    assert sorted(far.tolist()) == [3, 7]


def test_printed_expressions_do_not_print_vectors(t: Any) -> None:
    near = kalam.nearest(t, "v", list(range(1, 4)))
    assert "<vector of 3>" in repr(near)
    assert "[1,2,3]" not in repr(near)
    assert "cosine_distance" in repr(kalam.cosine_distance(_.v, Q))
    assert len(repr(kalam.cosine_distance(_.v, list(range(999))))) < 100


def test_each_user_ranks_the_own_rows(con: Any, mia: Any) -> None:
    con.session.execute("CREATE USER TABLE chat.notes (id INT PRIMARY KEY, v EMBEDDING(2))")
    con.session.execute("INSERT INTO chat.notes VALUES (1, [1, 0])")
    mia.session.execute("INSERT INTO notes VALUES (2, [0, 1]), (3, [1, 1])")
    mine = kalam.nearest(mia.table("notes"), "v", [1, 0])
    theirs = kalam.nearest(con.table("notes", database="chat"), "v", [1, 0])
    assert (ids(mine), ids(theirs)) == ([3, 2], [1])


def sentence(make: Any, kind: type[KalamError]) -> str:
    with pytest.raises(kind) as caught:
        make()
    return str(caught.value)


def test_what_does_not_fit_is_told_when_the_expression_is_made(t: Any) -> None:
    assert sentence(lambda: kalam.nearest(t, "v", [1, 2]), DimensionMismatchError) == (
        "Column 'v' expects 3 dimensions, got 2"
    )
    assert sentence(lambda: kalam.l2_distance(t.v, [1, np.nan, 0]), InvalidValueError) == (
        "Column 'v': component 2 is not a finite number"
    )
    assert sentence(lambda: kalam.l2_distance(t.v, [1, 2, None]), InvalidValueError) == (
        "Column 'v': component 3 is not a finite number"
    )
    for column in ("tag", "n"):
        assert sentence(lambda c=column: kalam.nearest(t, c, Q), TypeMismatchError) == (
            f"Column '{column}' is not an EMBEDDING column"
        )
    other = ibis.table({"w": "array<float32, 2>"}, name="other")
    assert "expects 3 dimensions, got 2" in sentence(
        lambda: kalam.inner_product(t.v, other.w), DimensionMismatchError
    )
    sentence(lambda: kalam.cosine_distance("v", Q), TypeMismatchError)
    sentence(lambda: kalam.cosine_distance(t.v, {"a": 1}), TypeMismatchError)
    sentence(lambda: kalam.nearest(t, "v", None), TypeMismatchError)
    sentence(lambda: kalam.nearest("t", "v", Q), TypeMismatchError)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "batch",
    [[[1, 2, 3]], [(1, 2, 3), (0, 1, 0)], np.ones((2, 3)), [np.ones(3)],
     pa.array([[1, 2, 3]], pa.list_(pa.float32(), 3))],
)  # fmt: skip
def test_a_batch_is_refused(t: Any, batch: Any) -> None:
    assert sentence(lambda: kalam.nearest(t, "v", batch), NotSupportedError) == (
        "nearest takes one vector; use session.nearest for a batch"
    )
    sentence(lambda: kalam.cosine_distance(t.v, batch), TypeMismatchError)


def test_a_memtable_is_ranked_by_our_connection(con: Any) -> None:
    rows = pa.table({"id": [1, 2], "v": pa.array([[1, 0], [0, 1]], pa.list_(pa.float32(), 2))})
    memory = ibis.memtable(rows)
    assert con.execute(kalam.nearest(memory, "v", [0, 1], k=1)).id.tolist() == [2]


def test_options_are_checked(t: Any) -> None:
    assert sentence(lambda: kalam.nearest(t, "v", Q, metric="dot"), InvalidOptionError) == (
        "Unknown metric 'dot'; use cosine, l2 or inner_product"
    )
    for k in (0, -1, 2.5, True, "3"):
        assert sentence(lambda k=k: kalam.nearest(t, "v", Q, k=k), InvalidOptionError) == (
            "k must be a whole number of at least 1"
        )
    assert ids(kalam.nearest(t, "v", Q, k=np.int64(1))) == [1]
    sentence(lambda: kalam.nearest(t, "v", Q, distance="n"), AlreadyExistsError)
    with pytest.raises(exc.IbisTypeError):
        kalam.nearest(t, "w", Q)


def test_what_only_the_database_knows_is_told_when_the_expression_runs(con: Any, t: Any) -> None:
    def run(vector: str) -> Any:
        return kalam.nearest(t, "v", vector).to_pandas()

    assert sentence(lambda: run("[1, 2]"), DimensionMismatchError) == (
        "Column 'v' expects 3 dimensions, got 2"
    )
    con.session.execute("CREATE TABLE u (id INT PRIMARY KEY, l DOUBLE[])")
    con.session.execute("INSERT INTO u VALUES (1, [1, 2, 3])")
    lists = kalam.nearest(con.table("u"), "l", Q)
    assert sentence(lists.to_pandas, TypeMismatchError) == "Column 'l' is not an EMBEDDING column"


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32 - 1), metric=st.sampled_from(["cosine", "l2", "inner_product"]))
def test_sql_numpy_and_expressions_agree(con: Any, seed: int, metric: str) -> None:
    random = np.random.default_rng(seed)
    n, k = int(random.integers(0, 60)), int(random.integers(1, 20))
    vectors = random.integers(-3, 4, (n, 6)).astype(np.float32)
    part = random.integers(0, 3, n)
    con.create_table(
        "g",
        pa.table({
            "id": pa.array(range(n, 0, -1), pa.int32()),
            "v": pa.array(list(vectors), pa.list_(pa.float32(), 6)),
            "part": pa.array(part, pa.int32()),
        }),
        primary_key="id",
        overwrite=True,
    )  # fmt: skip
    to = random.integers(-3, 4, 6).astype(np.float32)
    wide, q = vectors.astype(np.float64), to.astype(np.float64)
    with np.errstate(all="ignore"):
        value = {
            "cosine": 1 - wide @ q / (np.linalg.norm(wide, axis=1) * np.linalg.norm(q)),
            "l2": np.linalg.norm(wide - q, axis=1),
            "inner_product": -(wide @ q),
        }[metric]
    expected = sorted(
        (round(float(d), 9), n - at)
        for at, d in enumerate(value)
        if part[at] and not np.isnan(d)
    )[:k]  # fmt: skip
    g = con.table("g")
    found = kalam.nearest(g.filter(g.part > 0), "v", to, k=k, metric=metric).to_pandas()
    sign = -1 if metric == "inner_product" else 1
    assert [d for d, _id in expected] == pytest.approx(
        (sign * found["distance"]).tolist(), abs=1e-8
    )
    function = {"cosine": "COSINE_DISTANCE", "l2": "L2_DISTANCE"}.get(metric, "INNER_PRODUCT")
    direction = "DESC" if metric == "inner_product" else ""
    sql = f"SELECT id FROM g WHERE part > 0 ORDER BY {function}(v, ?) {direction} LIMIT {k}"
    assert [row[0] for row in con.session.execute(sql, [to]).rows()] == found["id"].tolist()
    if metric != "cosine":  # whole numbers: equal distances are exactly equal
        assert found["id"].tolist() == [key for _d, key in expected]


# --- what changes by itself -------------------------------------------------------------------


@ibis.udf.scalar.python(side_effects=True)
def flips(x: int) -> bool:
    """Return another value at each call."""
    FLIPS.append(x)
    return len(FLIPS) % 2 == 0


@ibis.udf.scalar.python
def is_odd(x: int) -> bool:
    FLIPS.append(x)
    return x % 2 == 1


FLIPS: list[int] = []


def test_a_function_with_side_effects_is_asked_once_for_each_row(
    t: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kalamdb_lab.query.vector_scans.SEARCHED_ROWS", 0)
    FLIPS.clear()
    assert len(ids(kalam.nearest(t.filter(flips(t.n)), "v", Q, k=2, metric="l2"))) == 2
    assert len(FLIPS) == len(set(FLIPS)) >= 4
    FLIPS.clear()
    assert ids(kalam.nearest(t.filter(is_odd(t.n)), "v", Q, k=2, metric="l2")) == [1, 5]
    assert len(FLIPS) > len(ROWS)  # once more for those that are read


def test_a_sample_is_taken_before_the_nearest_are(t: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kalamdb_lab.query.vector_scans.SEARCHED_ROWS", 0)
    sampled = kalam.nearest(t.sample(0.5, seed=3), "v", Q, k=1, metric="l2")
    searched = ids(sampled)
    monkeypatch.setattr("kalamdb_lab.query.vector_scans.SEARCHED_ROWS", 10**9)
    assert searched == ids(sampled)
