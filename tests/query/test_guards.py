"""Functions that could grow without bound stop at 64 MiB, and are themselves below that."""

from __future__ import annotations

import time

import pytest
import sqlglot
from query_world import World

from kalamdb_lab.errors import KalamError, LimitError, NotSupportedError


@pytest.mark.parametrize(
    "expression",
    [
        "repeat('x', 4000000000)",
        "repeat(title, 4000000000)",
        "repeat(repeat(title, 1000), 1000000)",
        "repeat('x', CAST(id * 4000000000 AS BIGINT))",
        "repeat(title || 'x', (SELECT 4000000000))",
        "lpad('x', 1000000000, 'y')",
        "lpad(title, CAST(id * 100000000 AS INT), 'y')",
        "rpad(title, (SELECT 1000000000), 'y')",
        "range(1000000000)",
        "range(CAST(id * 1000000000 AS BIGINT))",
        "generate_series(1, id * 100000000)",
        "range(day, DATE '2999-01-01', INTERVAL '1 second')",
        "range(TIMESTAMP '2000-01-01 00:00:00', NOW()::TIMESTAMP, INTERVAL '1 second')",
        "format(title || '{:>{}}', 'a', 999999999)",
        "format(CAST(id AS TEXT) || '{:>999999999}', 'a')",
        "printf(title || '%999999999d', 1)",
        "replace(repeat('a', 10000000), 'a', repeat('x', 1000))",
        "regexp_replace(repeat('a', 10000000), 'a', repeat('x', 1000), 'g')",
        "levenshtein(repeat('a', 9000), repeat('b', 9000))",
        "damerau_levenshtein(repeat(title, 9000), repeat('b', 9000))",
        "array_to_string(range(1000000), '" + "x" * 1000 + "')",
    ],
)
def test_is_stopped_soon(world: World, expression: str) -> None:
    began = time.perf_counter()
    with pytest.raises(LimitError, match=r"exceed(s)? the limit of"):
        world.rows(f"SELECT {expression} FROM tracks")
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("form", ["format('{:>50000}', 'a')", "printf('%050000d', 1)"])
def test_wide_formats_are_refused_by_name(world: World, form: str) -> None:
    with pytest.raises(NotSupportedError, match=r"^Widths above 9,999 are not supported in"):
        world.plan(f"SELECT {form}")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("repeat('ab', 3)", "ababab"),
        ("repeat(title, 2)", "DawnDawn"),
        ("repeat(repeat(title, 2), 2)", "Dawn" * 4),
        ("length(repeat('x', 1000000))", 1_000_000),
        ("lpad(title, 6, '*')", "**Dawn"),
        ("rpad(title, CAST(id + 1 AS INT), '*')", "Da"),
        ("range(3)", [0, 1, 2]),
        ("range(1, 8, 3)", [1, 4, 7]),
        ("generate_series(3, id, -1)", [3, 2, 1]),
        ("len(range(seconds))", 700),
        ("len(range(day, day + INTERVAL '3 days', INTERVAL '1 day'))", 3),
        ("format('{:>5}|{}', 'a', 3)", "    a|3"),
        ("format(title || '{:>5}', 'a')", "Dawn    a"),
        ("printf('%05d', 42)", "00042"),
        ("replace(title, 'a', 'bb')", "Dbbwn"),
        ("replace(title, genre, title || title)", "Dawn"),
        ("regexp_replace(title, '[aeiou]', '<\\0>', 'g')", "D<a>wn"),
        ("regexp_replace(title, 'a', 'b')", "Dbwn"),
        ("levenshtein(title, 'Dawg')", 1),
        ("array_to_string(tags, '-')", "x-y"),
    ],
)
def test_does_what_it_says(world: World, expression: str, value: object) -> None:
    assert world.rows(f"SELECT {expression} FROM tracks WHERE id = 1") == [(value,)]


def test_guards_hold_for_trees_of_ibis_too(world: World) -> None:
    for text in ("repeat('x', 4000000000)", "lpad('x', 1000000000, 'y')", "range(0, 1000000000)"):
        tree = sqlglot.parse_one(f"SELECT {text} AS x", dialect="duckdb")
        with pytest.raises(LimitError):
            world.rows(tree, text=False)
    tree = sqlglot.parse_one("SELECT repeat('x', 3) AS x, range(0, 2) AS y", dialect="duckdb")
    assert world.rows(tree, text=False) == [("xxx", [0, 1])]


def test_guards_of_nested_calls_do_not_multiply(world: World) -> None:
    sizes = []
    for depth in (4, 8, 12):
        text = "repeat(" * depth + "title" + ", 2)" * depth
        sizes.append(len(world.plan(f"SELECT {text} FROM tracks").template))
    assert sizes[2] - sizes[1] < 2 * (sizes[1] - sizes[0])


def test_a_list_function_takes_only_the_name_of_an_aggregate(world: World) -> None:
    with pytest.raises(KalamError, match=r"^Syntax error: expected a quoted aggregate name"):
        world.plan("SELECT list_aggregate([1], title) FROM tracks")
    assert world.value("SELECT list_aggregate([1, 2], 'sum')") == 3
