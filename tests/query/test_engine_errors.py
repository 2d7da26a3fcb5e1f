"""The engine's errors as users read them: the words of the language, and nobody's values."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_world import World

from kalamdb_lab.errors import InternalError, KalamError
from kalamdb_lab.query.duck import EngineError
from kalamdb_lab.query.engine_errors import StatementNames, translated

SENTENCES = [
    (
        "SELECT secnds FROM tracks",
        "NOT_FOUND",
        "Column 'secnds' not found; did you mean 'seconds'?",
    ),
    ("SELECT zzz FROM tracks", "NOT_FOUND", "Column 'zzz' not found"),
    (
        "SELECT t.titel FROM tracks t",
        "NOT_FOUND",
        "Column 'titel' not found in t; did you mean 'title'?",
    ),
    ("SELECT q.id FROM tracks", "NOT_FOUND", "Table or alias 'q' is not in FROM"),
    ("SELECT * EXCLUDE (nope) FROM tracks", "NOT_FOUND", "Column 'nope' not found"),
    ("SELECT id FROM tracks JOIN genres USING (nope)", "NOT_FOUND", "Column 'nope' not found"),
    (
        "SELECT title FROM tracks t JOIN genres g ON g.code = t.genre",
        "AMBIGUOUS",
        "Column 'title' is ambiguous: it is in t and g",
    ),
    (
        "SELECT title, count(*) FROM tracks GROUP BY genre",
        "GROUPING",
        "Column 'title' must appear in GROUP BY or in an aggregate",
    ),
    (
        "SELECT genre FROM tracks GROUP BY genre HAVING seconds > 1",
        "GROUPING",
        "Column 'seconds' must appear in GROUP BY or in an aggregate",
    ),
    (
        "SELECT id FROM tracks WHERE sum(seconds) > 1",
        "GROUPING",
        "An aggregate cannot stand in WHERE",
    ),
    ("SELECT sum(sum(id)) FROM tracks", "GROUPING", "Aggregates cannot be nested"),
    (
        "SELECT row_number() FROM tracks",
        "GROUPING",
        "A window function cannot stand here; it needs OVER (...)",
    ),
    ("SELECT id FROM tracks QUALIFY id = 1", "GROUPING", "QUALIFY needs a window function"),
    (
        "SELECT (SELECT id FROM tracks)",
        "INVALID_VALUE",
        "A subquery used as a value returned more than one row",
    ),
    (
        "SELECT id FROM tracks UNION SELECT 1, 2",
        "INVALID_DEFINITION",
        "The queries of UNION, EXCEPT or INTERSECT have different numbers of columns",
    ),
    (
        "SELECT 1 IN (SELECT id, title FROM tracks)",
        "INVALID_DEFINITION",
        "A subquery returns 2 columns where 1 is expected",
    ),
    ("SELECT id FROM tracks ORDER BY 7", "INVALID_DEFINITION", "Positions in ORDER BY are 1 to 1"),
    (
        "SELECT * FROM (SELECT 1) AS x(a, b)",
        "INVALID_DEFINITION",
        "'x' lists 2 columns but its query returns 1",
    ),
    ("SELECT id FROM tracks LIMIT -1", "INVALID_VALUE", "LIMIT and OFFSET cannot be negative"),
    ("SELECT id / 0 FROM tracks", "DIVISION_BY_ZERO", "Division by zero"),
    ("SELECT 70000::SMALLINT", "OUT_OF_RANGE", "A value is out of range for SMALLINT"),
    (
        "SELECT CAST(seconds AS TINYINT) FROM tracks",
        "OUT_OF_RANGE",
        "Column 'seconds': value is out of range for TINYINT",
    ),
    (
        "SELECT 9223372036854775807 + id FROM tracks",
        "OUT_OF_RANGE",
        "The result of addition is out of range for BIGINT",
    ),
    (
        "SELECT CAST(123.4 AS DECIMAL(3, 1))",
        "OUT_OF_RANGE",
        "A value is out of range for DECIMAL(3, 1)",
    ),
    (
        "SELECT CAST(title AS INT) FROM tracks",
        "TYPE_MISMATCH",
        "Cannot cast TEXT to INT in column 'title'",
    ),
    ("SELECT CAST('ten' AS INT)", "TYPE_MISMATCH", "Cannot convert 'ten' to INT"),
    (
        "SELECT CAST(title AS DATE) FROM tracks",
        "TYPE_MISMATCH",
        "Cannot cast TEXT to DATE in column 'title'",
    ),
    ("SELECT CAST(title AS UUID) FROM tracks", "INVALID_VALUE", "Column 'title': invalid UUID"),
    (
        "SELECT id FROM tracks WHERE day = '2029-02-31'",
        "INVALID_VALUE",
        "Invalid DATE '2029-02-31'",
    ),
    ("SELECT id FROM tracks WHERE code = 'abc'", "INVALID_VALUE", "Invalid UUID"),
    ("SELECT CAST(title AS JSON) FROM tracks", "INVALID_VALUE", "Invalid JSON"),
    (
        "SELECT title + 1 FROM tracks",
        "TYPE_MISMATCH",
        "Operator + does not take (TEXT, INT); use CAST",
    ),
    ("SELECT upper(id) FROM tracks", "TYPE_MISMATCH", "upper() does not take (BIGINT); use CAST"),
    ("SELECT sum(title) FROM tracks", "TYPE_MISMATCH", "sum() does not take (TEXT); use CAST"),
    ("SELECT CAST(day AS INT) FROM tracks", "TYPE_MISMATCH", "Cannot cast DATE to INT"),
    ("SELECT unnest(id) FROM tracks", "TYPE_MISMATCH", "unnest() takes a list or a struct"),
    (
        "SELECT regexp_matches(title, '(') FROM tracks",
        "INVALID_VALUE",
        "Invalid regular expression",
    ),
    ("SELECT strptime(title, '%Y') FROM tracks", "INVALID_VALUE", "A text does not fit the format"),
    ("SELECT struct_pack(a := 1).b", "NOT_FOUND", "Field 'b' not found"),
    (
        "WITH RECURSIVE r AS (SELECT * FROM r) SELECT * FROM r",
        "INVALID_DEFINITION",
        "A recursive CTE needs UNION or UNION ALL",
    ),
    (
        "SELECT string_agg(title, genre) FROM tracks",
        "INVALID_DEFINITION",
        "An argument must be a constant here",
    ),
    (
        "SELECT " + " + ".join(["1"] * 3000),
        "TOO_LARGE",
        "The statement nests too deep; shorten its expressions",
    ),
]


@pytest.mark.parametrize(("sql", "code", "message"), SENTENCES)
def test_a_fault_has_its_sentence(world: World, sql: str, code: str, message: str) -> None:
    with pytest.raises(KalamError) as caught:
        world.rows(sql)
    assert (str(caught.value), caught.value.code) == (message, code)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT CAST(title AS {}) FROM tracks",
        "SELECT id FROM tracks WHERE title = 5",
        "SELECT CAST(tags AS INT[]) FROM tracks",
        "SELECT strptime(title, '%Y') FROM tracks",
        "SELECT CAST(title || 'x' AS {}) FROM tracks",
        "SELECT CAST(seconds * 1000000 AS SMALLINT) FROM tracks",
    ],
)
@pytest.mark.parametrize(
    "type_",
    [
        "INT",
        "DOUBLE",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "DATETIME",
        "UUID",
        "BOOLEAN",
        "JSON",
        "DECIMAL(5, 2)",
        "FLOAT[2]",
        "INTERVAL",
        "INT[]",
    ],
)
def test_no_error_quotes_a_stored_value(world: World, sql: str, type_: str) -> None:
    with pytest.raises(KalamError) as caught:
        world.rows(sql.format(type_))
    message = str(caught.value)
    for value in ("Dawn", "Hill", "Café", "700", "180", "Caf"):
        assert value not in message
    assert not isinstance(caught.value, InternalError)


def test_a_parameter_may_be_quoted_and_is_cut(world: World) -> None:
    with pytest.raises(KalamError, match=r"^Cannot convert 'ten' to INT$"):
        world.rows("SELECT CAST(? AS INT)", "ten")
    with pytest.raises(KalamError) as caught:
        world.rows("SELECT CAST(? AS INT)", "z" * 500)
    assert str(caught.value) == f"Cannot convert '{'z' * 40}' to INT"


def test_an_unknown_fault_is_a_number_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    fault = EngineError("Internal", 'Assertion failed in "/secret/path": SECRET')
    with caplog.at_level(logging.ERROR):
        error = translated(fault, StatementNames({}, {}, frozenset()))
    assert isinstance(error, InternalError)
    number = re.fullmatch(r"Internal error ([0-9a-f]{8}); the log has the details", str(error))
    assert number is not None
    assert number[1] in caplog.text
    assert "/secret/path" in caplog.text


@given(kind=st.text(max_size=20), text=st.text(max_size=200))
def test_any_text_of_the_engine_is_translated_without_being_quoted(kind: str, text: str) -> None:
    error = translated(
        EngineError(kind, f"SECRETVALUE {text}"), StatementNames({}, {}, frozenset())
    )
    assert "SECRETVALUE" not in str(error)


def test_an_error_leaves_the_planner_usable(world: World) -> None:
    with pytest.raises(KalamError):
        world.rows("SELECT 1 / 0")
    assert world.value("SELECT 1") == 1
