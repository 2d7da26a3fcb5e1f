"""Queries that are kept by name and read like tables."""

from __future__ import annotations

import re

import pytest

from tests.notebook.conftest import Kernel


def rows(kernel: Kernel, sql: str) -> object:
    kernel.show(f"%%kalam answer <<\n{sql}")
    return kernel.value("answer.rows()")


@pytest.fixture
def saved(kernel: Kernel) -> Kernel:
    """``long`` reads a variable, ``titles`` reads ``long``."""
    kernel.show("least = 200")
    kernel.show("%%kalam --save Long\nSELECT id, title FROM tracks WHERE seconds > :least -- :no")
    kernel.show("%%kalam --save titles\nSELECT upper(title) AS title FROM long /* one */ ;")
    return kernel


def test_are_saved_by_a_cell_that_also_shows_its_rows(kernel: Kernel) -> None:
    cell = kernel.show("%%kalam --save one\nSELECT 1 AS a")
    assert cell.text.endswith("root · saved as one")
    kernel.show("%%kalam --save two kept <<\nSELECT a + 1 AS a FROM one")
    assert kernel.value("kept.rows()") == [(2,)]
    assert rows(kernel, "SELECT * FROM two") == [(2,)]


def test_are_read_where_a_query_stands(saved: Kernel) -> None:
    assert rows(saved, "SELECT title FROM LONG") == [("Dawn",)]
    assert rows(saved, "SELECT l.id, t.title FROM long l, titles t") == [(1, "DAWN")]
    assert rows(saved, "WITH a AS (SELECT id FROM long) SELECT count(*) FROM a, long") == [(1,)]
    assert rows(saved, "(SELECT 1 FROM long) UNION ALL SELECT 2 FROM titles") == [(1,), (2,)]
    assert rows(saved, "SELECT n FROM numbers WHERE n IN (SELECT id FROM long)") == [(1,)]
    assert rows(saved, "EXECUTE AS USER 'mia' (SELECT count(*) FROM long)") == [(0,)]


def test_are_read_by_changes_too(saved: Kernel) -> None:
    saved.show("%kalam CREATE TABLE copies (id BIGINT PRIMARY KEY, title TEXT)")
    for sql in (
        "INSERT INTO copies SELECT id, title FROM long ON CONFLICT (id) DO NOTHING",
        "INSERT INTO copies VALUES (9, (SELECT max(title) FROM titles))",
        "UPDATE copies SET title = (SELECT min(title) FROM long) WHERE id = 9",
        "DELETE FROM copies WHERE id IN (SELECT id FROM long)",
    ):
        assert "1 row" in saved.show(f"%kalam {sql}").text
    assert rows(saved, "SELECT * FROM copies") == [(9, "Dawn")]


def test_look_up_their_values_when_they_are_used(saved: Kernel) -> None:
    saved.show("least, other = 100, 1")
    assert rows(saved, "SELECT title FROM long WHERE id > :other") == [("Hill",)]
    saved.show("def longest(least):\n    r = %kalam SELECT title FROM long\n    return r.rows()")
    assert saved.value("longest(500), longest(900)") == ([("Dawn",)], [])


def test_hide_behind_ctes_of_the_user(saved: Kernel) -> None:
    assert rows(saved, "WITH long AS (SELECT 7 AS n) SELECT * FROM long") == [(7,)]
    assert rows(
        saved, "SELECT (WITH long AS (SELECT 7 AS n) SELECT n FROM long), id FROM long"
    ) == [(7, 1)]
    lines = saved.fails("%%kalam\nWITH long AS (SELECT * FROM long) SELECT * FROM long")
    assert lines[0] == (
        "InvalidDefinitionError: CTE 'long' has the name of a snippet that the statement reads "
        "too; give it another one"
    )


def test_never_hide_a_table(saved: Kernel) -> None:
    assert saved.fails("%%kalam --save tracks\nSELECT 1")[0] == (
        "InvalidDefinitionError: Snippet 'tracks' would have the name of a table in 'studio'; give "
        "it another one"
    )
    saved.show("%kalam CREATE TABLE long (id INT PRIMARY KEY)")
    try:
        lines = saved.fails("%%kalam\nSELECT * FROM long")
        assert lines[0].startswith("AmbiguousError: 'long' is a snippet and a table; write studio.")
        assert lines[-1].index("^") - 4 == "SELECT * FROM long".index("long")
        assert rows(saved, "SELECT count(*) FROM studio.long") == [(0,)]
    finally:
        saved.show("%kalam DROP TABLE long")


def test_that_read_each_other_in_a_circle_are_refused(saved: Kernel) -> None:
    for name, query, circle in (
        ("long", "SELECT * FROM titles", "long → titles → long"),
        ("titles", "SELECT * FROM titles", "titles → titles"),
    ):
        assert saved.fails(f"%%kalam --save {name}\n{query}")[0] == (
            f"InvalidDefinitionError: Snippets read each other in a circle: {circle}"
        )
    assert rows(saved, "SELECT * FROM titles") == [("DAWN",)]


def test_that_fail_are_not_saved(kernel: Kernel) -> None:
    for name, query, error in (
        ("bad", "SELECT nope FROM tracks", "NotFoundError"),
        ("bad", "DELETE FROM tracks WHERE id = 99", "InvalidDefinitionError: --save keeps one"),
        ("bad", "SELECT 1; SELECT 2", "InvalidOptionError: --save takes one query"),
        ("select", "SELECT 1", "InvalidNameError: Name 'select' is a reserved SQL keyword"),
    ):
        assert kernel.fails(f"%%kalam --save {name}\n{query}")[0].startswith(error)
    assert kernel.fails("%kalam SELECT * FROM bad")[0].startswith("NotFoundError: Table")


def test_errors_in_them_point_at_their_name(saved: Kernel) -> None:
    saved.show("del least")
    first, *lines = saved.fails("%%kalam\nSELECT *\nFROM titles")
    assert first.startswith("NotFoundError: Variable 'least' not found")
    assert first.endswith(" (in snippet 'long')")
    assert lines == [
        "line 3:",
        "    FROM titles",
        "         ^^^^^^",
    ]
    saved.show("least = 'ten'")
    lines = saved.fails("%%kalam\nSELECT 1 + 1 AS b,\n  id FROM long")
    assert lines[-3:] == ["line 3:", "      id FROM long", "              ^^^^"]


def test_leave_the_places_of_other_errors_right(saved: Kernel) -> None:
    lines = saved.fails("%%kalam\nSELECT id,\n  nme FROM long")
    assert lines[-3:] == ["line 3:", "      nme FROM long", "      ^^^"]


def test_are_listed_and_deleted(saved: Kernel) -> None:
    saved.show("%%kalam --save gone\nSELECT 1 AS a,\n 2 AS b")
    listed = saved.show("%kalam snippets").text
    assert re.search(r"^ gone +a, b +SELECT 1 AS a, 2 AS b$", listed, re.MULTILINE)
    assert saved.show("%kalam snippets --delete Gone").text == "Snippet 'gone' deleted"
    assert "gone" not in saved.show("%kalam snippets").text
    assert saved.fails("%kalam snippets --delete titls")[0] == (
        "NotFoundError: Snippet 'titls' not found; did you mean 'titles'?"
    )
