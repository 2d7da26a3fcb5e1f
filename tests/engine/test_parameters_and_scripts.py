"""Placeholders are values, never SQL; scripts run in order and stop at the first error."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError


@pytest.fixture
def t(s: Session) -> Session:
    s.execute(
        "CREATE USER TABLE t (id INT PRIMARY KEY, v TEXT, n INT, d DATETIME, p DECIMAL(9, 2))"
    )
    s.execute("INSERT INTO t (id, v, n) VALUES (1, 'a', 10), (2, 'b', 20), (3, 'c', NULL)")
    return s


@pytest.mark.parametrize(
    ("sql", "params", "expected"),
    [
        ("SELECT id FROM t WHERE id = ?", [2], [(2,)]),
        ("SELECT id FROM t WHERE id = ? OR v = ? ORDER BY id", [2, "a"], [(1,), (2,)]),
        ("SELECT $2, $1, $2", [1, "x"], [("x", 1, "x")]),
        ("SELECT id FROM t ORDER BY id LIMIT ? OFFSET ?", [1, 1], [(2,)]),
        ("SELECT ? + ?, ? || 'y'", [1, 2, "x"], [(3, "xy")]),
        ("SELECT id FROM t WHERE n = ?", [None], []),
        ("SELECT id FROM t WHERE n IS NOT DISTINCT FROM ?", [None], [(3,)]),
        ("SELECT id FROM t WHERE id IN (?, ?) ORDER BY id", [3, 1], [(1,), (3,)]),
        ("SELECT id FROM t WHERE v LIKE ?", ["_"], [(1,), (2,), (3,)]),
        ("SELECT id FROM (SELECT * FROM t WHERE n > $1) WHERE n < $1 + 15", [5], [(1,)]),
        ("WITH x AS (SELECT ? AS a) SELECT a FROM x", ["q"], [("q",)]),
        ("SELECT CASE WHEN ? THEN 1 ELSE 2 END", [True], [(1,)]),
        ("SELECT id FROM t WHERE id = ?", ["2"], [(2,)]),
        ("SELECT id FROM t WHERE id = ?", [2.0], [(2,)]),
        ("SELECT id FROM t WHERE id = ?", [Decimal("2.5")], []),
        ("SELECT 'it''s ? $1 %s', ?", ["x"], [("it's ? $1 %s", "x")]),
        ("SELECT id FROM t WHERE id > ? /* ? */ AND id < ? -- ?", [1, 3], [(2,)]),
    ],
)
def test_a_placeholder_stands_where_a_value_may_stand(
    t: Session, sql: str, params: list[object], expected: list[Any]
) -> None:
    assert t.execute(sql, params).rows() == expected
    assert t.execute(sql, tuple(params)).rows() == expected


def test_all_statements_about_rows_take_parameters(t: Session) -> None:
    t.execute("INSERT INTO t (id, v) VALUES (?, ?), ($1, $2)".replace(", ($1, $2)", ""), [4, "d"])
    t.execute("UPDATE t SET n = ?, v = upper(?) WHERE id = ?", [40, "dd", 4])
    assert t.execute("SELECT n, v FROM t WHERE id = 4").rows() == [(40, "DD")]
    t.execute("EXECUTE AS USER 'mia' (INSERT INTO t (id, v) VALUES (?, ?))", [1, "mia"])
    assert t.execute("EXECUTE AS USER 'mia' (SELECT v FROM t WHERE id = ?)", [1]).rows() == [
        ("mia",)
    ]
    assert t.execute("EXPLAIN SELECT * FROM t WHERE id = ?", [1]).row_count > 0
    assert t.execute(
        "DELETE FROM t WHERE id = ? AND n = ? RETURNING id + ?", [4, 40, 1]
    ).rows() == [(5,)]


def test_values_take_the_type_of_what_they_meet(t: Session) -> None:
    t.execute("UPDATE t SET d = ?, p = ? WHERE id = 1", ["2031-04-30 20:00:00+02:00", "1.005"])
    moment = datetime(2031, 4, 30, 18, tzinfo=UTC)
    assert t.execute("SELECT d, p FROM t WHERE id = 1").rows() == [(moment, Decimal("1.01"))]
    assert t.execute("SELECT id FROM t WHERE d = ?", [moment]).rows() == [(1,)]
    assert t.execute("SELECT id FROM t WHERE d = ?", ["2031-04-30 18:00:00"]).rows() == [(1,)]
    assert t.execute("SELECT id FROM t WHERE p = ?", ["1.01"]).rows() == [(1,)]


@pytest.mark.parametrize(
    ("sql", "params", "message"),
    [
        ("SELECT ?, ?", [1], "Expected 2 parameters, got 1"),
        ("SELECT ?, ?", [1, 2, 3], "Expected 2 parameters, got 3"),
        ("SELECT ?", None, "Expected 1 parameter, got 0"),
        ("SELECT 1", [1], "Expected 0 parameters, got 1"),
        ("SELECT $2", [1], "Expected 2 parameters, got 1"),
        ("INSERT INTO t (id, v) VALUES (?, ?)", [1], "Expected 2 parameters, got 1"),
        ("SELECT 1; SELECT 2", [1], "Parameters need a single statement; this text has 2"),
        ("CREATE TABLE u (a INT DEFAULT ?)", [1], "Parameters are not allowed in CREATE TABLE"),
        ("DROP TABLE ?", ["t"], "Parameters are not allowed in DROP TABLE"),
        ("USE ?", ["x"], "Parameters are not allowed in USE"),
        ("CREATE USER ? INTERNAL ROLE user", ["x"], "Parameters are not allowed in CREATE USER"),
        ("STORAGE FLUSH TABLE ?", ["t"], "Parameters are not allowed in STORAGE FLUSH"),
        ("SELECT ?, $1", [1], None),
        ("SELECT * FROM ?", ["t"], None),
        ("SELECT id FROM t LIMIT ?", ["x"], None),
        ("SELECT id FROM t LIMIT ?", [-1], None),
        ("SELECT $0", [1], None),
    ],
)
def test_parameters_are_counted_and_placed(
    t: Session, refused: Any, sql: str, params: list[object] | None, message: str | None
) -> None:
    error = refused(t, sql, params)
    assert message is None or str(error) == message
    assert message is None or error.code == "PARAMETERS"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30))
def test_a_text_comes_back_as_a_parameter_and_as_a_literal(s: Session, text: str) -> None:
    literal = "'" + text.replace("'", "''") + "'"
    (answer,) = s.execute(f"SELECT ?, {literal}, ? = {literal}", [text, text]).rows()
    assert answer == (text, text, True)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans())
def test_a_number_comes_back(s: Session, value: object) -> None:
    assert s.execute("SELECT ?", [value]).rows() == [(value,)]


# --- scripts --------------------------------------------------------------------------------------


def test_a_script_answers_for_its_last_statement_and_gives_all(s: Session) -> None:
    text = """
    -- a script
    CREATE TABLE a (id INT PRIMARY KEY);;
    INSERT INTO a VALUES (1), (2);
    /* ; */ SELECT ';' AS semi, count(*) FROM a;
    """
    assert s.execute(text).rows() == [(";", 2)]
    s.execute("DROP TABLE a")
    assert [result.statement_kind for result in s.execute_script(text)] == [
        "CREATE TABLE", "INSERT", "SELECT",
    ]  # fmt: skip


def test_a_script_stops_at_the_first_error_and_keeps_what_came_before(s: Session) -> None:
    text = "CREATE TABLE a (id INT PRIMARY KEY);\nINSERT INTO a VALUES (1);\n  INSERT INTO a VALUES (1);\nDROP TABLE a"
    with pytest.raises(KalamError) as caught:
        s.execute(text)
    error = caught.value
    assert (error.code, error.statement_number, error.line) == ("DUPLICATE_KEY", 3, 3)
    assert s.execute("SELECT count(*) FROM a").rows() == [(1,)]


def test_a_syntax_error_later_on_leaves_the_earlier_statements_done(s: Session) -> None:
    with pytest.raises(KalamError) as caught:
        s.execute("CREATE TABLE a (id INT);\n\nSELCT 1;\nDROP TABLE a")
    assert (caught.value.code, caught.value.statement_number) == ("SYNTAX", 2)
    assert (caught.value.line, caught.value.column) == (3, 1)
    assert s.execute("SELECT * FROM a").rows() == []


def test_each_statement_is_checked_when_it_is_reached(s: Session, mia: Session) -> None:
    s.execute("CREATE USER TABLE t (id INT PRIMARY KEY)")
    with pytest.raises(KalamError) as caught:
        mia.execute("INSERT INTO t VALUES (1); DROP TABLE t; INSERT INTO t VALUES (2)")
    assert (caught.value.code, caught.value.statement_number) == ("PERMISSION_DENIED", 2)
    assert mia.execute("SELECT * FROM t").rows() == [(1,)]


def test_use_holds_for_the_rest_of_the_script_and_the_session(s: Session, tom: Session) -> None:
    s.execute("CREATE NAMESPACE films; USE films; CREATE TABLE reels (id INT)")
    assert s.namespace == "films"
    assert s.execute("SELECT * FROM reels").columns == ["id"]
    assert tom.namespace == "studio"


@pytest.mark.parametrize(
    "text", ["", "  ", ";", ";;\n;", "-- only this", "/* a /* b */ */", " ; -- x"]
)
def test_nothing_is_refused(s: Session, refused: Any, text: str) -> None:
    error = refused(s, text)
    assert (error.code, str(error)) == (
        "EMPTY_STATEMENT",
        "Empty statement: there is no SQL to run",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT '" + "x" * 270_000 + "'",
         "The SQL text is larger than 256 KiB; pass data as parameters"),
        ("SELECT " + "(" * 101 + "1" + ")" * 101, "The statement nests deeper than 100"),
        ("SELECT 1 FROM " + "(SELECT 1 FROM " * 101 + "t" + ")" * 101,
         "The statement nests deeper than 100"),
        ("SELECT " + "CASE WHEN true THEN " * 101 + "1" + " END" * 101,
         "The statement nests deeper than 100"),
        ("SELECT " + "abs(" * 101 + "1" + ")" * 101, "The statement nests deeper than 100"),
        ("SELECT " + "(" * 50_000, None),
    ],
    ids=["long", "parentheses", "subqueries", "cases", "calls", "open"],
)  # fmt: skip
def test_a_text_is_bounded(s: Session, refused: Any, text: str, message: str | None) -> None:
    error = refused(s, text)
    assert message is None or (error.code, str(error)) == ("TOO_LARGE", message)


def test_what_is_just_below_the_bounds_runs(s: Session) -> None:
    assert s.execute("SELECT length('" + "x" * 260_000 + "')").rows() == [(260_000,)]
    assert s.execute("SELECT " + "(" * 95 + "1" + ")" * 95).rows() == [(1,)]
    assert s.execute("SELECT " + " + ".join(["1"] * 900)).rows() == [(900,)]
    many = ", ".join("?" for _ in range(5_000))
    assert s.execute(f"SELECT 1 WHERE 4999 IN ({many})", list(range(5_000))).rows() == [(1,)]
