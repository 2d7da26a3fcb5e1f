"""Vector functions: what they give, what they are told, and rankings by them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from query_world import World
from sqlglot import exp

from kalamdb_lab.errors import DimensionMismatchError, KalamError, TypeMismatchError
from kalamdb_lab.query.duck import VERSION

TO = [0.1, 0.9]


@pytest.mark.parametrize(
    ("call", "values"),
    [
        ("COSINE_DISTANCE(mood, [2, 0])", [0, 1, None]),
        ("COSINE_DISTANCE(mood, [-3, 0])", [2, 1, None]),
        ("COSINE_DISTANCE([1, 1], mood)", [1 - math.sqrt(0.5)] * 2 + [None]),
        ("cosine_distance(mood, [0, 0])", [None, None, None]),
        ("COSINE_DISTANCE(mood, NULL)", [None, None, None]),
        ("COSINE_DISTANCE(mood, mood)", [0, 0, None]),
        ("L2_DISTANCE(mood, '[4, 4]')", [5, 5, None]),
        ("INNER_PRODUCT(mood, [2.5, -7])", [2.5, -7, None]),
        pytest.param(
            "L2_DISTANCE(COALESCE(mood, [4, 4]), [4, 4])",
            [5, 5, 0],
            marks=pytest.mark.skipif(VERSION < (2, 0), reason="DuckDB 1 has no CASE of arrays"),
        ),
        ("L2_DISTANCE(mood, [id, CASE WHEN id = 1 THEN 0 ELSE 1 END])", [0, 2, None]),
        ("L2_DISTANCE(mood, (SELECT mood FROM tracks WHERE id = 1))", [0, math.sqrt(2), None]),
        ("L2_DISTANCE(CAST([4, 4] AS EMBEDDING(2)), mood)", [5, 5, None]),
        ("L2_DISTANCE([1, 1], [4, 5])", [5, 5, 5]),
        ("L2_DISTANCE(mood, [L2_DISTANCE(mood, [1, 0]), 0])", [1, math.sqrt(3), None]),
        ("list_cosine_distance([id, 0], [1.0, 1.0])", [1 - math.sqrt(0.5)] * 3),
    ],
)
def test_distances(world: World, call: str, values: list[float | None]) -> None:
    found = [row[0] for row in world.rows(f"SELECT {call} FROM tracks ORDER BY id")]
    assert found == [None if value is None else pytest.approx(value) for value in values]
    assert world.type(f"SELECT {call} FROM tracks") == "DOUBLE"


@pytest.mark.parametrize(
    "vector",
    [TO, tuple(TO), "[0.1, 0.9]", np.array(TO), np.array(TO, np.float32), [np.float32(0.1), 0.9]],
)
def test_a_parameter_is_rounded_as_a_column_is(world: World, vector: object) -> None:
    to = np.array(TO, np.float32).astype(np.float64)
    found = world.value("SELECT L2_DISTANCE(mood, ?) FROM tracks WHERE id = 1", vector)
    assert found == pytest.approx(np.linalg.norm([1, 0] - to), rel=1e-14)


def test_a_number_of_a_vector_may_be_a_parameter_and_parameters_repeat(world: World) -> None:
    sql = "SELECT L2_DISTANCE(mood, [$2, 0]), $2, $1 FROM tracks WHERE id = $1"
    assert world.rows(sql, 1, 5) == [(4, 5, 1)]
    sql = "SELECT L2_DISTANCE(mood, $1), $1 FROM tracks WHERE id = 1"
    assert world.rows(sql, "[1, 2]") == [(2, "[1, 2]")]


def test_a_result_is_called_as_it_is_written(world: World) -> None:
    table = world.table("SELECT COSINE_DISTANCE(mood, ?) FROM tracks", [1, 0])
    assert table.column_names == ["cosine_distance(mood, $1)"]


@pytest.mark.parametrize(
    ("call", "parameters", "message"),
    [
        ("L2_DISTANCE(mood, [1, 2, 3])", [], "Column 'mood' expects 2 dimensions, got 3"),
        ("L2_DISTANCE(mood, '[1]')", [], "Column 'mood' expects 2 dimensions, got 1"),
        ("L2_DISTANCE(mood, ?)", [[1] * 383], "Column 'mood' expects 2 dimensions, got 383"),
        ("L2_DISTANCE(mood, [id, 2, 3])", [], "Column 'mood' expects 2 dimensions, got 3"),
        ("L2_DISTANCE(m, ?)", [[1]], "Column 'mood' expects 2 dimensions, got 1"),
        ("L2_DISTANCE(mood, ?::EMBEDDING(3))", [[1]], "Column 'mood' expects 2 dimensions, got 3"),
        ("L2_DISTANCE(mood, ?)", [[1, math.nan]],
         "Column 'mood': component 2 is not a finite number"),
        ("L2_DISTANCE(mood, [?, 1])", [math.inf],
         "Column 'mood': component 1 is not a finite number"),
        ("L2_DISTANCE(mood, [1e39, 1])", [], "Column 'mood': component 1 is not a finite number"),
        ("L2_DISTANCE(mood, 'abc')", [], "Column 'mood': cannot convert 'abc' to EMBEDDING(2)"),
        ("L2_DISTANCE(mood, ?)", [5], "Column 'mood': cannot convert '5' to EMBEDDING(2)"),
        ("L2_DISTANCE(title, [1, 2])", [], "Column 'title' is not an EMBEDDING column"),
        ("L2_DISTANCE(mood, seconds)", [], "Column 'seconds' is not an EMBEDDING column"),
        ("L2_DISTANCE(tags, [1, 2])", [], "Column 'tags' is not an EMBEDDING column"),
        ("L2_DISTANCE(mood, CAST(1 AS TEXT))", [], "L2_DISTANCE takes an EMBEDDING, not TEXT"),
        ("COSINE_DISTANCE(?, ?)", [[1], [1]],
         "COSINE_DISTANCE takes an EMBEDDING; use CAST, as in CAST(x AS EMBEDDING(384))"),
        ("L2_DISTANCE(mood)", [], "L2_DISTANCE() takes two vectors"),
    ],
)  # fmt: skip
def test_faults_are_found_before_any_row_is_read(
    world: World, call: str, parameters: list[object], message: str
) -> None:
    source = "(SELECT *, mood AS m FROM tracks WHERE false)"
    with pytest.raises(KalamError) as fault:
        world.rows(f"SELECT {call} FROM {source}", *parameters)
    assert str(fault.value) == message
    assert world.catalog.scanned == []


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT COSINE_DISTANCE(nix, ?) FROM tracks", "Column 'nix' not found"),
        ("SELECT id FROM tracks ORDER BY COSINE_DISTANCE(?, modo) LIMIT 3",
         "Column 'modo' not found; did you mean 'mood'?"),
        ("SELECT COSINE_DISTANCE(t.modo, ?) FROM tracks t",
         "Column 'modo' not found in t; did you mean 'mood'?"),
        ("SELECT L2_DISTANCE((nix), ?) FROM (SELECT *, id AS x FROM tracks) t JOIN genres USING (code)",
         "Column 'nix' not found"),
        ("WITH c AS (SELECT * FROM tracks UNION SELECT * FROM tracks) SELECT L2_DISTANCE(nix, ?) FROM c",
         "Column 'nix' not found"),
        ('SELECT L2_DISTANCE("nix", ?) FROM tracks',
         "Column 'nix' not found; write text in single quotes"),
        # These are columns, of a type that is not known here.
        ("SELECT L2_DISTANCE(x, ?) FROM (SELECT *, [1.0] AS x FROM tracks)", None),
        ("SELECT L2_DISTANCE(a, ?) FROM (VALUES ([1])) v (a)", None),
        ("SELECT L2_DISTANCE(x, ?) FROM (SELECT * FROM (VALUES ([1])) v (x))", None),
        ("SELECT L2_DISTANCE(x, ?) FROM (SELECT *, 1 AS y FROM (SELECT * FROM unnest([[1]]) v (x)))", None),
        ("SELECT L2_DISTANCE(x, ?) FROM (SELECT unnest({'x': [1.0]}) FROM tracks)", None),
        ("SELECT [1.0] AS x, L2_DISTANCE(x, ?) FROM tracks", None),
        ("SELECT (SELECT L2_DISTANCE(x, ?) FROM genres) FROM (SELECT [id] AS x FROM tracks)", None),
        ("SELECT list_transform([[1]], lambda x: L2_DISTANCE(x, ?)) FROM tracks", None),
        ("WITH RECURSIVE r AS (SELECT [1.0] AS x UNION ALL SELECT x FROM r WHERE false) "
         "SELECT L2_DISTANCE(x, ?) FROM r", None),
    ],
)  # fmt: skip
def test_an_unknown_column_is_not_found_and_a_known_one_needs_a_cast(
    world: World, sql: str, message: str | None
) -> None:
    with pytest.raises(KalamError) as fault:
        world.rows(sql, [1.0])
    if message is None:
        message = "L2_DISTANCE takes an EMBEDDING; use CAST, as in CAST(x AS EMBEDDING(384))"
    assert str(fault.value) == message


def test_a_vector_made_of_rows_is_checked_by_row(world: World) -> None:
    with pytest.raises(DimensionMismatchError, match=r"^Expected 2 dimensions, got 1$"):
        world.rows("SELECT L2_DISTANCE(mood, list_transform([id], lambda x: x)) FROM tracks")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM tracks ORDER BY COSINE_DISTANCE(mood, ?) LIMIT 5",
        "SELECT id FROM tracks ORDER BY (L2_DISTANCE(mood, ?)) ASC NULLS LAST LIMIT 5",
        "SELECT id FROM tracks ORDER BY INNER_PRODUCT(mood, ?) DESC LIMIT 5",
        "SELECT id, COSINE_DISTANCE(mood, ?) AS d FROM tracks ORDER BY d LIMIT 5",
        "SELECT id, L2_DISTANCE(mood, ?) FROM tracks ORDER BY 2 LIMIT 5",
        "SELECT t.id, *, L2_DISTANCE(mood, ?) FROM tracks t ORDER BY 15, title LIMIT 5",
        "SELECT t.id FROM tracks t JOIN genres g ON true WHERE g.code = 'fk' "
        "ORDER BY COSINE_DISTANCE(t.mood, ?) LIMIT 5",
        "SELECT t.id FROM genres g RIGHT JOIN tracks t ON t.genre = g.code "
        "ORDER BY COSINE_DISTANCE(mood, ?) LIMIT 5",
        "WITH a AS (SELECT id AS i, mood FROM tracks), b (x, y) AS (SELECT * FROM a) "
        "SELECT x FROM b ORDER BY COSINE_DISTANCE(y, ?) LIMIT 5",
        "SELECT * FROM (SELECT id FROM tracks ORDER BY COSINE_DISTANCE(mood, ?) LIMIT 5) AS s",
        "SELECT id FROM (SELECT * FROM tracks UNION ALL SELECT * FROM tracks WHERE false) AS s "
        "ORDER BY COSINE_DISTANCE(mood, ?) LIMIT 5",
        "SELECT a.id FROM (tracks a JOIN tracks b USING (id)) "
        "ORDER BY COSINE_DISTANCE(b.mood, ?) LIMIT 5",
        "SELECT DISTINCT id, COSINE_DISTANCE(mood, ?) AS d FROM tracks ORDER BY d LIMIT 5",
        "SELECT id, COSINE_DISTANCE(mood, ?) AS d FROM tracks GROUP BY id, mood ORDER BY d LIMIT 5",
        "SELECT max(id), COSINE_DISTANCE(any_value(mood), ?) AS d FROM tracks GROUP BY genre "
        "ORDER BY d LIMIT 5",
        "SELECT id, count(*) OVER () FROM tracks ORDER BY COSINE_DISTANCE(mood, ?) LIMIT 5",
        "SELECT v.id FROM near AS v ORDER BY COSINE_DISTANCE(m, ?) LIMIT 5",
    ],
)
def test_a_ranking_leaves_out_what_has_no_distance(world: World, sql: str) -> None:
    world.view("studio.near", "SELECT id, mood AS m FROM tracks")
    rows = world.rows(sql, TO)
    expected = [2, 3] if "max(id)" in sql else [2, 1]  # 3 is of the genre of 1
    assert [row[0] for row in rows] == expected


def test_windows_of_a_ranking_see_all_rows(world: World) -> None:
    sql = "SELECT count(*) OVER () FROM tracks ORDER BY L2_DISTANCE(mood, ?) LIMIT 5"
    assert world.rows(sql, TO) == [(3,), (3,)]


@pytest.mark.parametrize("vector", ["NULL", "[0, 0]", "(SELECT mood FROM tracks WHERE id = 3)"])
def test_nothing_is_near_to_nothing(world: World, vector: str) -> None:
    assert (
        world.rows(f"SELECT id FROM tracks ORDER BY COSINE_DISTANCE(mood, {vector}) LIMIT 5") == []
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM tracks ORDER BY L2_DISTANCE(mood, ?)",
        "SELECT id FROM tracks ORDER BY L2_DISTANCE(mood, ?) DESC LIMIT 5",
        "SELECT id FROM tracks ORDER BY L2_DISTANCE(mood, ?) NULLS FIRST LIMIT 5",
        "SELECT id FROM tracks ORDER BY INNER_PRODUCT(mood, ?) LIMIT 5",
        "SELECT id FROM tracks ORDER BY 1 - L2_DISTANCE(mood, ?) LIMIT 5",
        "SELECT id FROM tracks ORDER BY id, L2_DISTANCE(mood, ?) LIMIT 5",
    ],
)
def test_other_orders_keep_all_rows(world: World, sql: str) -> None:
    assert {row[0] for row in world.rows(sql, TO)} == {1, 2, 3}


def test_a_lateral_query_ranks_for_each_row(world: World) -> None:
    sql = (
        "SELECT t.id, x.id FROM tracks t LEFT JOIN LATERAL (SELECT u.id FROM tracks u "
        "ORDER BY L2_DISTANCE(u.mood, t.mood) LIMIT 1) AS x ON true ORDER BY t.id"
    )
    assert world.rows(sql) == [(1, 1), (2, 2), (3, None)]


def test_stars_do_not_show_what_ties_go_by(world: World) -> None:
    sql = "SELECT * FROM genres, tracks ORDER BY L2_DISTANCE(mood, ?) LIMIT 1"
    assert "_seq" not in world.table(sql, TO).column_names


def test_rows_of_all_users_are_ranked_together(dba: World) -> None:
    sql = "SELECT user_id, id FROM all_users('tracks') ORDER BY L2_DISTANCE(mood, [0, 0]) LIMIT 9"
    assert dba.rows(sql) == [("alice", 1), ("alice", 2), ("bob", 1)]


def test_trees_of_other_tools_may_call_them(world: World) -> None:
    """What sqlglot makes of the name is ours over an EMBEDDING, and the engine's over a list."""
    mood, to = exp.column("mood"), exp.array(exp.Literal.number(1), exp.Literal.number(0))
    for call, second in (
        (exp.CosineDistance(this=mood.copy(), expression=to.copy()), 1),
        (exp.func("l2_distance", mood.copy(), to.copy()), math.sqrt(2)),
    ):
        by_distance = exp.Ordered(this=exp.column("d"), nulls_first=False)
        tree = exp.select("id", exp.alias_(call, "d")).from_("tracks").order_by(by_distance)
        assert world.rows(tree.limit(3), text=False) == [(1, 0), (2, pytest.approx(second))]
    lists = exp.CosineDistance(this=to.copy(), expression=to.copy())
    assert world.rows(exp.select(lists), text=False) == [(0,)]
    wrong = exp.select(exp.func("l2_distance", exp.column("title"), to)).from_("tracks")
    with pytest.raises(TypeMismatchError, match=r"^Column 'title' is not an EMBEDDING column$"):
        world.rows(wrong, text=False)
