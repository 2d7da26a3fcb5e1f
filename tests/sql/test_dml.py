"""INSERT, UPDATE and DELETE as typed statements."""

from __future__ import annotations

from typing import TypeVar

import pytest
from sqlglot import exp

from kalamdb_lab.errors import MissingWhereError, NotSupportedError, SqlSyntaxError
from kalamdb_lab.sql.parse import parse_script
from kalamdb_lab.sql.statements import DEFAULT, Assignment, Delete, Insert, Statement, Update

Kind = TypeVar("Kind", bound=Statement)


def one(sql: str, kind: type[Kind]) -> Kind:
    (statement,) = parse_script(sql)
    assert isinstance(statement, kind)
    return statement


def written(values: object) -> object:
    """Return trees as SQL, in the same tuples."""
    if isinstance(values, tuple):
        return tuple(written(value) for value in values)
    if isinstance(values, Assignment):
        return values.column, written(values.value)
    return values.sql(dialect="duckdb") if isinstance(values, exp.Expression) else values


def test_insert_of_rows() -> None:
    insert = one("INSERT INTO Studio.Tracks (Id, \"A b\") VALUES (1, 'x'), (-2, NULL)", Insert)
    assert insert.table == ("studio", "tracks")
    assert insert.columns == ("Id", "A b")
    assert written(insert.rows) == (("1", "'x'"), ("-2", "NULL"))
    assert (insert.query, insert.on_conflict, insert.returning) == (None, None, ())


def test_rows_may_differ_in_length_and_hold_defaults_and_any_expression() -> None:
    insert = one("INSERT INTO t VALUES (DEFAULT, 1 + 2), ((SELECT max(a) FROM u))", Insert)
    assert insert.columns is None
    assert written(insert.rows) == ((DEFAULT, "1 + 2"), ("(SELECT MAX(a) FROM u)",))


def test_insert_of_defaults_is_one_row_without_columns() -> None:
    insert = one("INSERT INTO t DEFAULT VALUES RETURNING *", Insert)
    assert (insert.default_values, insert.columns, insert.rows) == (True, (), ((),))
    assert written(insert.returning) == ("*",)


@pytest.mark.parametrize(
    ("source", "query"),
    [
        ("SELECT a FROM u", "SELECT a FROM u"),
        ("(SELECT a FROM u)", "(SELECT a FROM u)"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "WITH x AS (SELECT 1) SELECT * FROM x"),
        ("SELECT 1 UNION ALL SELECT 2", "SELECT 1 UNION ALL SELECT 2"),
        (
            "SELECT * FROM a JOIN b ON conflict.x = b.x",
            "SELECT * FROM a JOIN b ON conflict.x = b.x",
        ),
    ],
)
def test_insert_of_a_query(source: str, query: str) -> None:
    for columns in ("", " (a)"):
        insert = one(f"INSERT INTO t{columns} {source} ON CONFLICT DO NOTHING", Insert)
        assert insert.columns == (("a",) if columns else None)
        assert (insert.rows, written(insert.query)) == (None, query)
        assert insert.on_conflict is not None
        assert insert.on_conflict.do_nothing


def test_on_conflict_do_update() -> None:
    insert = one(
        "INSERT INTO t (id) VALUES (1) ON CONFLICT (Id) DO UPDATE SET a = excluded.a + 1 AND b, "
        '"X y" = DEFAULT WHERE t.a > 1 RETURNING id AS "Key", _seq',
        Insert,
    )
    conflict = insert.on_conflict
    assert conflict is not None
    assert (conflict.column, conflict.do_nothing) == ("Id", False)
    assert written(conflict.assignments) == (("a", "excluded.a + 1 AND b"), ("X y", DEFAULT))
    assert written(conflict.where) == "t.a > 1"
    assert written(insert.returning) == ('id AS "Key"', "_seq")


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("INSERT t VALUES (1)", "expected INTO"),
        ("INSERT INTO", "expected a table name after INSERT INTO"),
        ("INSERT INTO t", "expected VALUES, a query or DEFAULT VALUES"),
        ("INSERT INTO t VALUES 1, 2", "expected \\("),
        ("INSERT INTO t VALUES (1), 2", "expected \\("),
        ("INSERT INTO t (a, b.c) VALUES (1, 2)", "expected \\)"),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO", "expected NOTHING or UPDATE after DO"),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1", "expected a column in paren"),
        ("UPDATE t SET a = WHERE true", "expected a value for column 'a'"),
        ("UPDATE t SET t.a = 1 WHERE true", "expected ="),
        ("UPDATE t SET (a, b) = (1, 2) WHERE true", "expected a column name after SET"),
        ("UPDATE SET a = 1 WHERE true", "expected a table name after UPDATE"),
        ("DELETE t WHERE true", "expected FROM"),
    ],
)
def test_what_is_missing_is_named(sql: str, fault: str) -> None:
    with pytest.raises(SqlSyntaxError, match=f"^Syntax error: {fault}"):
        parse_script(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1) AS USER 'x'",
        "INSERT INTO t AS USER 'x' VALUES (1)",
        "INSERT INTO t AS u VALUES (1)",
        "INSERT INTO t BY NAME SELECT 1",
        "INSERT INTO t TABLE u",
        "INSERT INTO t SET a = 1",
        "INSERT INTO t VALUES (1,, 2)",
        "INSERT INTO t VALUES (DEFAULT + 1)",
        "INSERT INTO t VALUES (1 AS a)",
        "INSERT INTO t VALUES (*)",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) WHERE b DO NOTHING",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING WHERE b",
        "INSERT OVERWRITE t VALUES (1)",
        "UPDATE t SET a = 1, WHERE true",
        "UPDATE t SET a = SELECT 1 WHERE true",
        "UPDATE t SET a = 1 x WHERE true",
        "UPDATE t, u SET a = 1 WHERE true",
        "UPDATE t JOIN u ON true SET a = 1 WHERE true",
        "DELETE FROM t, u WHERE true",
        "DELETE a FROM t WHERE true",
        "SELECT DEFAULT",
        "SELECT * FROM (VALUES (DEFAULT)) AS v",
    ],
)
def test_other_forms_are_syntax_errors(sql: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error"):
        parse_script(sql)


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("INSERT OR REPLACE INTO t VALUES (1)", "INSERT OR REPLACE"),
        ("INSERT OR IGNORE INTO t VALUES (1)", "INSERT OR IGNORE"),
        ("INSERT INTO t VALUES (1) ON CONFLICT ON CONSTRAINT x DO NOTHING", "ON CONSTRAINT"),
        ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1", "ON DUPLICATE KEY"),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (a, b) DO NOTHING",
            "ON CONFLICT with several columns",
        ),
        ("INSERT INTO t VALUES (1) RETURNING a INTO b", "INTO"),
        ("UPDATE t SET a = 1 FROM u WHERE t.x = u.x", "UPDATE ... FROM"),
        ("UPDATE t SET a = 1 WHERE b LIMIT 5", "UPDATE ... LIMIT"),
        ("UPDATE t SET a = 1 WHERE b ORDER BY c", "UPDATE ... ORDER BY"),
        ("DELETE FROM t USING u WHERE t.x = u.x", "DELETE ... USING"),
        ("DELETE FROM t WHERE x LIMIT 5", "DELETE ... LIMIT"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "WITH ... INSERT"),
        ("WITH x AS (SELECT 1) DELETE FROM t WHERE true", "WITH ... DELETE"),
        ("MERGE INTO t USING u ON x WHEN MATCHED THEN DELETE", "MERGE"),
    ],
)
def test_known_forms_of_other_databases_are_refused_by_name(sql: str, name: str) -> None:
    with pytest.raises(NotSupportedError) as fault:
        parse_script(sql)
    assert str(fault.value) == f"{name} is not supported"


def test_update() -> None:
    update = one(
        "UPDATE Studio.tracks AS x SET a = DEFAULT, b = a AND c OR d, e = f = g, h = (SELECT 1), "
        "i = CASE WHEN a THEN 1 END WHERE x.a IS DISTINCT FROM 5 RETURNING *",
        Update,
    )
    assert (update.table, update.alias) == (("studio", "tracks"), "x")
    assert written(update.assignments) == (
        ("a", DEFAULT),
        ("b", "a AND c OR d"),
        ("e", "f = g"),
        ("h", "(SELECT 1)"),
        ("i", "CASE WHEN a THEN 1 END"),
    )
    assert written(update.where) == "x.a IS DISTINCT FROM 5"
    assert written(update.returning) == ("*",)


def test_delete() -> None:
    delete = one("DELETE FROM t u WHERE u.a IN (SELECT a FROM v WHERE b) RETURNING a + 1", Delete)
    assert (delete.table, delete.alias) == (("t",), "u")
    assert written(delete.where) == "u.a IN (SELECT a FROM v WHERE b)"
    assert written(delete.returning) == ("a + 1",)


@pytest.mark.parametrize("tail", ["", " RETURNING *"])
def test_update_and_delete_need_where(tail: str) -> None:
    assert written(one(f"UPDATE t SET a = 1 WHERE true{tail}", Update).where) == "TRUE"
    with pytest.raises(
        MissingWhereError, match=r"^UPDATE needs a WHERE clause; use WHERE true for all rows$"
    ):
        parse_script(f"UPDATE t SET a = 1{tail}")
    with pytest.raises(
        MissingWhereError, match=r"^DELETE needs a WHERE clause; use WHERE true for all rows$"
    ):
        parse_script(f"DELETE FROM t{tail}")
