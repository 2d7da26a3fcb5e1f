"""Placeholders and the values given for them."""

from __future__ import annotations

import pytest
from sqlglot import exp

from kalamdb_lab.errors import ParametersError, SqlSyntaxError
from kalamdb_lab.sql.parameters import ParameterStyle, bind_count, refuse_script_with_values
from kalamdb_lab.sql.parse import parse_script


def numbers(sql: str) -> list[str]:
    (statement,) = parse_script(sql)
    query = statement.query  # type: ignore[attr-defined]
    return [node.this for node in query.find_all(exp.Placeholder, bfs=False)]


def test_question_marks_are_numbered_in_order() -> None:
    found = numbers("SELECT ?, f(?) FROM t WHERE a IN (?, ?) LIMIT ? OFFSET ?")
    assert sorted(found) == list("123456")


def test_numbered_ones_may_stand_in_any_order_and_repeat() -> None:
    assert numbers("SELECT $2, $1, $2") == ["2", "1", "2"]
    (statement,) = parse_script("SELECT $3")
    assert (statement.parameters.style, statement.parameters.count) == (ParameterStyle.NUMBERED, 3)


def test_the_generator_prints_them_numbered() -> None:
    (statement,) = parse_script("SELECT ? + ?")
    assert statement.query.sql(dialect="duckdb") == "SELECT $1 + $2"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (?), (?) RETURNING a + ?",
        "UPDATE t SET a = ?, b = b + ? WHERE id = ?",
        "DELETE FROM t WHERE a BETWEEN ? AND ? AND b = ?",
        "EXPLAIN SELECT ? + ? + ?",
        "EXECUTE AS USER 'mia' (SELECT ?, ?, ?)",
        "SELECT a[?], {'a': ?}, ?::TEXT",
    ],
)
def test_they_stand_wherever_an_expression_may(sql: str) -> None:
    (statement,) = parse_script(sql)
    bind_count(statement.kind, statement.parameters, [1, 2, 3])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS ?",
        "SELECT * FROM ?",
        "SELECT * FROM t AS ?",
        "SELECT t.? FROM t",
        "SELECT EXTRACT(? FROM d)",
        "SELECT INTERVAL '1' ?",
        "SELECT CAST(a AS ?)",
        "WITH ? AS (SELECT 1) SELECT 1",
        "INSERT INTO ? VALUES (1)",
        "INSERT INTO t (?) VALUES (1)",
        "UPDATE t SET ? = 1 WHERE true",
    ],
)
def test_they_are_never_names(sql: str) -> None:
    with pytest.raises(SqlSyntaxError):
        parse_script(sql)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("CREATE USER TABLE t (a INT DEFAULT ?)", "CREATE TABLE"),
        ("CREATE OR REPLACE VIEW v AS SELECT ?", "CREATE VIEW"),
        ("ALTER TABLE t ADD COLUMN a INT DEFAULT $1", "ALTER TABLE"),
        ("DROP TABLE ?", "DROP TABLE"),
        ("SHOW TABLES IN ?", "SHOW TABLES"),
        ("USE ?", "USE"),
        ("FLUSH TABLE ?", "STORAGE FLUSH"),
        ("CREATE USER ? WITH PASSWORD 'x' ROLE user", "CREATE USER"),
    ],
)
def test_commands_take_none(sql: str, kind: str) -> None:
    with pytest.raises(ParametersError, match=f"^Parameters are not allowed in {kind}$"):
        parse_script(sql)
    with pytest.raises(ParametersError, match=f"^Parameters are not allowed in {kind}$"):
        bind_count(kind, parse_script("SELECT 1")[0].parameters, [1])


def test_their_number_must_fit() -> None:
    (statement,) = parse_script("SELECT ?, ?")
    bind_count(statement.kind, statement.parameters, (1, None))
    for values, given in (([1], 1), ([1, 2, 3], 3), (None, 0)):
        with pytest.raises(ParametersError, match=f"^Expected 2 parameters, got {given}$"):
            bind_count(statement.kind, statement.parameters, values)


@pytest.mark.parametrize("values", ["ab", b"ab", {1, 2}, {"a": 1}])
def test_values_are_a_list_or_tuple(values: object) -> None:
    (statement,) = parse_script("SELECT ?, ?")
    with pytest.raises(ParametersError, match=r"^Parameters must be a list or a tuple$"):
        bind_count(statement.kind, statement.parameters, values)  # type: ignore[arg-type]


def test_values_need_a_single_statement() -> None:
    refuse_script_with_values(1, [1])
    refuse_script_with_values(2, None)
    with pytest.raises(
        ParametersError, match=r"^Parameters need a single statement; this text has 2$"
    ):
        refuse_script_with_values(2, [1])
