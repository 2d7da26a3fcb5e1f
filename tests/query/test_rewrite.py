"""What expressions of the language mean, on whichever engine is installed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from query_world import Catalog, World

from kalamdb_lab.errors import (
    DivisionByZeroError,
    InvalidValueError,
    ValueOutOfRangeError,
)
from kalamdb_lab.query.duck import DuckEngine
from kalamdb_lab.query.planner import Planner


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("9 / 4", 2),
        ("-9 / 4", -2),
        ("9.0 / 4", 2.25),
        ("9e0 / 4", 2.25),
        ("-9 % 4", -1),
        ("9 % -4", 1),
        ("7 // 2", 3),
        ("12 / 5 / 2", 1),
        ("12 / (5 / 2)", 6),
        ("NULL / 2", None),
        ("2 / NULL", None),
        ("'5' + 1", 6),
        ("10 / '4'", 2),
        ("'-3' * 2", -6),
        ("INTERVAL '1 day' / 2", dt.timedelta(hours=12)),
        ("CAST(0.25 AS TEXT)", "0.25"),
        ("CAST(2 AS BOOLEAN)", True),
        ("CAST(0.0 AS BOOLEAN)", False),
        ("CAST(-2.5 AS DECIMAL(3, 0))", Decimal(-3)),
        ("CAST(2.5 AS INT)", 3),
        ("12345678901234567", 12345678901234567),
        ("9223372036854775808", Decimal(9223372036854775808)),
        ("X'0aFF'", b"\x0a\xff"),
        ("DATE '2031-04-30'", dt.date(2031, 4, 30)),
        ("TIMESTAMP '2031-04-30T18:05:00.5'", dt.datetime.fromisoformat("2031-04-30 18:05:00.500")),
        (
            "DATETIME '2031-04-30 18:05:00+02'",
            dt.datetime(2031, 4, 30, 16, 5, tzinfo=dt.UTC),
        ),
        ("list_transform([1, 2], x -> x + 1)", [2, 3]),
        ("list_transform([4, 2], lambda x: 8 / x)", [2, 4]),
        ("list_transform([4, 2], x -> 8 / x)", [2, 4]),
        ("upper(CAST('{\"a\": \"x\"}' AS JSON) ->> 'a')", "X"),
        ("CAST('[1, {\"b\": 2}]' AS JSON) -> 1 ->> 'b'", "2"),
        ("jaro_winkler_similarity('Abc', 'abc') < 1", True),
        ("'a' < 'B'", False),
        ("'a' = 'a '", False),
    ],
)
def test_an_expression_has_the_value(world: World, expression: str, value: object) -> None:
    (found,) = world.rows(f"SELECT {expression}")[0]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "expression",
    [
        "1 / 0",
        "1 % 0",
        "1.5 / 0",
        "1e0 / 0",
        "1 // 0",
        "seconds / (id - 1)",
        "seconds % (id - 1)",
        "10 / (seconds / 1000)",
        "sum(seconds) / (count(*) - 3)",
        "divide(1, 0)",
        "list_transform([0], x -> 1 / x)",
        "INTERVAL '1 day' / 0",
    ],
)
def test_division_by_zero_is_an_error(world: World, expression: str) -> None:
    with pytest.raises(DivisionByZeroError, match=r"^Division by zero$"):
        world.rows(f"SELECT {expression} FROM tracks")


def test_ibis_keeps_its_arithmetic(world: World) -> None:
    tree = sqlglot.parse_one("SELECT 9 / 4 AS a, 1 / 0 AS b, -9 / 4 AS c", dialect="duckdb")
    assert world.rows(tree, text=False) == [(2.25, float("inf"), -2.25)]


def test_a_guarded_expression_may_be_grouped(world: World) -> None:
    sql = "SELECT 700 / (seconds / 60) AS x, count(*) FROM tracks GROUP BY 700 / (seconds / 60)"
    assert sorted(world.rows(sql)) == [(63, 1), (233, 1), (700, 1)]


@given(left=st.integers(-(2**31), 2**31 - 1), right=st.integers(-(2**31), 2**31 - 1))
def test_division_of_whole_numbers_truncates(engine: DuckEngine, left: int, right: int) -> None:
    world = World(Planner(engine), Catalog())
    if right == 0:
        with pytest.raises(DivisionByZeroError):
            world.rows("SELECT ? / ?", left, right)
    else:
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        assert world.rows("SELECT ? / ?, ? % ?", left, right, left, right) == [
            (quotient, left - quotient * right)
        ]


def test_a_sum_of_whole_numbers_is_a_bigint(world: World) -> None:
    assert world.type("SELECT sum(seconds) FROM tracks") == "BIGINT"
    assert world.type("SELECT s FROM (SELECT sum(id) AS s FROM tracks)") == "BIGINT"
    assert world.type("SELECT sum(id) OVER (ORDER BY id) FROM tracks") == "BIGINT"
    assert world.type("SELECT sum(price) FROM tracks") == "DECIMAL(38, 2)"
    assert world.type("SELECT avg(seconds) FROM tracks") == "DOUBLE"
    assert world.type("SELECT 9223372036854775808") == "DECIMAL(38, 0)"


def test_a_sum_beyond_bigint_is_an_error_with_a_way_out(world: World) -> None:
    rows = "FROM (VALUES (9223372036854775807), (1)) AS v(n)"
    with pytest.raises(ValueOutOfRangeError, match=r"cast to DECIMAL\(38, 0\)"):
        world.rows(f"SELECT sum(n) {rows}")
    sql = f"SELECT sum(CAST(n AS DECIMAL(38, 0))) {rows}"
    assert world.rows(sql) == [(Decimal(9223372036854775808),)]
    assert world.rows("SELECT sum(n) FROM (SELECT 1 AS n) WHERE n > 1") == [(None,)]


def test_what_a_statement_is_told_is_the_same_for_all_its_rows(world: World) -> None:
    now = dt.datetime(2030, 3, 17, 17, 46, 40, tzinfo=dt.UTC)
    sql = "SELECT DISTINCT NOW(), CURRENT_TIMESTAMP, CURRENT_DATE, CURRENT_TIME FROM tracks"
    assert world.rows(sql) == [(now, now, now.date(), now.time())]
    sql = "SELECT CURRENT_USER, CURRENT_USER(), CURRENT_USER || '!' FROM genres LIMIT 1"
    assert world.rows(sql) == [("alice", "alice", "alice!")]


def test_ids_are_made_for_each_row(world: World) -> None:
    sql = (
        "SELECT count(DISTINCT a), count(DISTINCT b), count(DISTINCT c) FROM "
        "(SELECT SNOWFLAKE_ID() AS a, ULID() AS b, UUID_V7() AS c FROM range(3000))"
    )
    assert world.rows(sql) == [(3000, 3000, 3000)]
    assert world.type("SELECT UUID_V7()") == "UUID"


@pytest.mark.parametrize(
    ("literal", "message"),
    [
        ("DATE '2031-04-31'", "Invalid DATE '2031-04-31'"),
        ("TIME '25:00:00'", "Invalid TIME '25:00:00'"),
        ("TIMESTAMP '2031-13-01 00:00:00'", "Invalid TIMESTAMP '2031-13-01 00:00:00'"),
        ("TIMESTAMP '2031-04-30 10:00:00Z'", "TIMESTAMP takes no offset; use DATETIME"),
        ("CAST('abc' AS UUID)", "Invalid UUID"),
    ],
)
def test_a_literal_that_is_none_is_refused(world: World, literal: str, message: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        world.plan(f"SELECT {literal}")
    assert str(caught.value) == message


def test_nulls_come_last_ascending_and_first_descending(world: World) -> None:
    assert [row[0] for row in world.rows("SELECT id FROM tracks ORDER BY score, id")] == [1, 2, 3]
    assert [row[0] for row in world.rows("SELECT id FROM tracks ORDER BY score DESC")] == [3, 2, 1]
    sql = "SELECT id FROM tracks ORDER BY score DESC NULLS LAST"
    assert [row[0] for row in world.rows(sql)] == [2, 1, 3]
    sql = "SELECT first_value(id) OVER (ORDER BY score DESC) FROM tracks LIMIT 1"
    assert world.rows(sql) == [(3,)]


def test_the_name_of_a_subquery_hides_no_column_from_order_by(world: World) -> None:
    newer = "(SELECT u.id FROM tracks u WHERE u.id = 4 - t.id)"
    for columns in ("id", "t.*"):
        table = world.table(f"SELECT {columns}, {newer} FROM tracks t ORDER BY id LIMIT 1")
        row = table.to_pylist()[0]
        assert (row["id"], row["(SELECT u.id FROM tracks AS u WHERE u.id = 4 - t.id)"]) == (1, 3)
    assert world.table(f"SELECT title, {newer} FROM tracks t").column_names == ["title", "id"]


@pytest.mark.parametrize("text", ["1" * 5_000, "-1e400"])
def test_a_number_in_a_text_is_no_larger_than_a_written_one(world: World, text: str) -> None:
    for sql, values in (
        ("SELECT ? + 1", [text]),
        (f"SELECT '{text}' + 1", []),
        (f"SELECT {text}", []),
    ):
        with pytest.raises(ValueOutOfRangeError, match=r"^A value is out of range for DOUBLE$"):
            world.rows(sql, *values)
    assert world.rows("SELECT ? + 1", "0" * 5_000 + "7") == [(8,)]
