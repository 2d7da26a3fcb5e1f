"""Results as users hold and see them."""

from __future__ import annotations

import uuid

import pyarrow as pa
import pytest
from query_world import World

from kalamdb_lab.query.result import Result


@pytest.fixture
def result(world: World) -> Result:
    return Result(
        world.table("SELECT id, title, code, price FROM tracks ORDER BY id"), elapsed_ms=1.5
    )


def test_rows_are_tuples_of_python_values(result: Result) -> None:
    assert result.columns == ["id", "title", "code", "price"]
    assert (result.row_count, len(result), result.rows_affected) == (3, 3, None)
    assert result.rows()[0][:3] == (1, "Dawn", uuid.UUID("00000000-0000-7000-8000-000000000001"))
    assert list(result) == result.rows()
    assert [str(data_type) for data_type in result.types] == [
        "BIGINT",
        "TEXT",
        "UUID",
        "DECIMAL(8, 2)",
    ]


def test_frames_have_the_same_values(result: Result) -> None:
    pandas, polars = result.to_pandas(), result.to_polars()
    assert pandas["code"][0] == uuid.UUID("00000000-0000-7000-8000-000000000001")
    assert list(pandas["title"]) == polars["title"].to_list() == ["Dawn", "Hill", "Café"]
    assert polars["code"][1] == "00000000-0000-7000-8000-000000000002"
    assert pa.table(result).equals(result.to_arrow())


def test_columns_that_repeat_are_kept_and_numbered_for_polars(world: World) -> None:
    result = Result(world.table("SELECT id, id, title AS id_1 FROM tracks ORDER BY 1 LIMIT 1"))
    assert result.columns == ["id", "id", "id_1"]
    assert result.to_polars().columns == ["id", "id_2", "id_1"]
    assert result.rows() == [(1, 1, "Dawn")]


def test_the_text_is_a_small_table_with_a_footer(result: Result) -> None:
    assert repr(result).splitlines() == [
        "id  title  code                                  price",
        "--  -----  ------------------------------------  -----",
        " 1  Dawn   00000000-0000-7000-8000-000000000001   1.50",
        " 2  Hill   00000000-0000-7000-8000-000000000002   2.25",
        " 3  Café   NULL                                   NULL",
        "3 rows · 4 columns · 1.5 ms",
    ]


def test_long_results_say_what_is_not_shown(world: World) -> None:
    result = Result(world.table("SELECT range AS n FROM range(1000)"), elapsed_ms=2345)
    lines = repr(result).splitlines()
    assert lines[-2:] == ["showing 20 of 1,000 rows", "1,000 rows · 1 column · 2.35 s"]
    assert len(lines) == 24


def test_html_is_escaped(world: World) -> None:
    result = Result(world.table("SELECT '<b>' AS \"<i>\", NULL AS n, true AS t, X'FF' AS x"))
    page = result._repr_html_()
    assert "&lt;b&gt;" in page
    assert "&lt;i&gt;" in page
    assert "<b>" not in page
    assert ">NULL<" in page
    assert "X&#x27;FF&#x27;" in page


def test_a_message_is_one_line() -> None:
    result = Result.of_message("CREATE TABLE", "Created table studio.tracks").timed(4)
    assert result.rows() == [("Created table studio.tracks",)]
    assert result.columns == ["message"]
    assert repr(result) == "Created table studio.tracks · 4 ms"
    assert result.rows_affected is None


def test_changes_are_counted_in_the_footer(world: World) -> None:
    table = world.table("SELECT id FROM tracks LIMIT 1")
    result = Result(table, statement_kind="INSERT", rows_affected=1, elapsed_ms=3)
    assert result.footer() == "1 row inserted · 1 row · 1 column · 3 ms"
