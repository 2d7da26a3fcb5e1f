"""SUBSCRIBE TO and LIVE SELECT: what they ask for, and what they never may."""

from __future__ import annotations

import pytest

from kalamdb_lab.errors import (
    InvalidDefinitionError,
    InvalidOptionError,
    KalamError,
    NotFoundError,
    NotSupportedError,
    SqlSyntaxError,
)
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql.live import checked_option
from kalamdb_lab.sql.parse import parse_script


def subscribe(sql: str) -> c.Subscribe:
    (statement,) = parse_script(sql)
    assert isinstance(statement, c.Subscribe)
    return statement


def where(sql: str) -> str | None:
    tree = subscribe(sql).where
    return None if tree is None else tree.sql(dialect="duckdb")


@pytest.mark.parametrize(
    "sql",
    [
        "SUBSCRIBE TO Studio.Plays",
        "SUBSCRIBE TO SELECT * FROM studio.plays",
        "LIVE SELECT * FROM studio.plays;",
        'LIVE SELECT studio."plays".* FROM studio.plays',
    ],
)
def test_all_rows_of_a_table(sql: str) -> None:
    found = subscribe(sql)
    assert (found.table, found.columns, found.where) == (("studio", "plays"), None, None)
    assert found.last_rows is found.batch_size is found.from_seq_id is None


@pytest.mark.parametrize(
    "sql",
    [
        "SUBSCRIBE TO SELECT id, p.Title FROM plays AS p WHERE id > 1 AND options = (2)",
        "LIVE SELECT id, Title FROM plays p WHERE id > 1 AND options = (2)",
    ],
)
def test_some_columns_of_some_rows(sql: str) -> None:
    found = subscribe(sql)
    assert (found.table, found.alias, found.columns) == (("plays",), "p", ("id", "Title"))
    assert where(sql) == "id > 1 AND options = (2)"


def test_a_condition_takes_parameters() -> None:
    found = subscribe("SUBSCRIBE TO plays WHERE id = ? OR n IN (?, ?)")
    assert found.parameters.count == 3
    assert where("SUBSCRIBE TO plays WHERE id = $2 OR n = $1") == "id = $2 OR n = $1"


def test_options_stand_in_any_order_and_case() -> None:
    found = subscribe(
        "SUBSCRIBE TO t OPTIONS (from_seq_id = 5, Last_Rows = 0, batch_size = 100000)"
    )
    assert (found.last_rows, found.batch_size, found.from_seq_id) == (0, 100_000, 5)
    assert subscribe("LIVE SELECT a FROM t WHERE a = 1 OPTIONS (last_rows = 2)").last_rows == 2
    assert subscribe("SUBSCRIBE TO options OPTIONS (last_rows = 2)").table == ("options",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "limit = 1",
            "Unknown subscription option 'limit'; use last_rows, batch_size or from_seq_id",
        ),
        ("last_rows = 'ten'", "Option last_rows must be a whole number, not 'ten'"),
        ("last_rows = ten", "Option last_rows must be a whole number, not 'ten'"),
        ("last_rows = 1.5", "Option last_rows must be a whole number, not '1.5'"),
        ("last_rows = -1.5", "Option last_rows must be a whole number, not '-1.5'"),
        ("last_rows = NULL", "Option last_rows must be a whole number, not 'NULL'"),
        ("last_rows = ?", "Option last_rows must be a whole number, not '?'"),
        ("last_rows = -1", "Option last_rows must be 0 or more, not -1"),
        ("from_seq_id = -1", "Option from_seq_id must be 0 or more, not -1"),
        ("batch_size = 0", "Option batch_size must be 1 to 100,000, not 0"),
        ("batch_size = 100001", "Option batch_size must be 1 to 100,000, not 100001"),
        (
            "from_seq_id = 9223372036854775808",
            "Option from_seq_id must be 0 to 9,223,372,036,854,775,807, not 9223372036854775808",
        ),
        ("last_rows = 1, LAST_ROWS = 1", "Option last_rows appears twice"),
    ],
)
def test_options_are_checked(options: str, message: str) -> None:
    for sql in ("SUBSCRIBE TO t", "LIVE SELECT * FROM t WHERE a = 1"):
        with pytest.raises((InvalidOptionError, SqlSyntaxError)) as fault:
            parse_script(f"{sql} OPTIONS ({options})")
        assert str(fault.value) == message


def test_options_beside_the_sql_are_checked_alike() -> None:
    assert checked_option("last_rows", 3) == 3
    for value in (True, 1.0, "3", None):
        with pytest.raises(InvalidOptionError, match="^Option last_rows must be a whole number"):
            checked_option("last_rows", value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t JOIN u ON t.id = u.id",
        "SELECT * FROM t, u",
        "SELECT a FROM t GROUP BY a",
        "SELECT DISTINCT a FROM t",
        "SELECT count(*) FROM t",
        "SELECT max(a) FROM t",
        "SELECT * FROM t ORDER BY a",
        "SELECT * FROM t LIMIT 1",
        "SELECT * FROM t UNION SELECT * FROM u",
        "SELECT * FROM (SELECT * FROM t)",
        "SELECT * FROM all_users('t')",
        "SELECT 1",
    ],
)
def test_one_table_and_nothing_else(sql: str) -> None:
    for start in ("SUBSCRIBE TO", "LIVE"):
        with pytest.raises(NotSupportedError) as fault:
            parse_script(f"{start} {sql}")
        assert str(fault.value) == (
            "Live queries read one table; joins, grouping, ORDER BY, LIMIT and views are not "
            "supported"
        )


@pytest.mark.parametrize(
    "rest", ["JOIN u ON t.id = u.id", "WHERE a = 1 LIMIT 1", "ORDER BY a", "WHERE a GROUP BY a"]
)
def test_the_short_form_reads_one_table_too(rest: str) -> None:
    with pytest.raises(NotSupportedError, match="^Live queries read one table; "):
        parse_script(f"SUBSCRIBE TO t {rest}")


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        ("a IN (SELECT 1)", "Subqueries"),
        ("EXISTS (SELECT 1 FROM u)", "Subqueries"),
        ("a = (SELECT max(a) FROM t)", "Subqueries"),
        ("sum(a) > 1", "Aggregates"),
        ("row_number() OVER () = 1", "Window functions"),
    ],
)
def test_a_condition_looks_at_one_row(condition: str, what: str) -> None:
    with pytest.raises(
        NotSupportedError, match=f"^{what} are not supported in the WHERE of a live query$"
    ):
        parse_script(f"SUBSCRIBE TO t WHERE {condition}")


def test_columns_are_columns() -> None:
    for item in ("a + 1", "a AS b", "1", "*, a", "* EXCLUDE (a)", "upper(a)"):
        with pytest.raises(NotSupportedError, match="^A live query lists columns or "):
            parse_script(f"LIVE SELECT {item} FROM t")
    with pytest.raises(NotFoundError, match="^Table or alias 'q' is not in FROM$"):
        parse_script("LIVE SELECT q.a FROM t")
    with pytest.raises(InvalidDefinitionError, match="^Column 'A' appears twice$"):
        parse_script("LIVE SELECT a, A FROM t")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SUBSCRIBE t", "Syntax error: expected SUBSCRIBE TO"),
        ("SUBSCRIBE", "Syntax error: expected SUBSCRIBE TO"),
        ("SUBSCRIBE TO", "Syntax error: expected a table name after SUBSCRIBE TO"),
        ("SUBSCRIBE TO 't'", "Syntax error: expected a table name after SUBSCRIBE TO"),
        ("SUBSCRIBE TO a.b.c", "Name 'a.b.c' has too many parts; write namespace.table"),
        ("SUBSCRIBE TO t WHERE", "Syntax error near 'WHERE' (line 1, column 16)"),
        ("SUBSCRIBE TO t OPTIONS last_rows", "Syntax error near 'last_rows' (line 1, column 24)"),
        ("SUBSCRIBE TO t OPTIONS ()", "Syntax error: expected an option name"),
        ("SUBSCRIBE TO t OPTIONS (last_rows = )", "Syntax error: expected a value after ="),
        ("SUBSCRIBE TO t OPTIONS (last_rows = 1) x", "Syntax error near 'x' (line 1, column 40)"),
        ("LIVE t", "Syntax error: expected SELECT after LIVE"),
        ("LIVE SELECT a FROM 't'", "A quoted text is not a table name"),
    ],
)
def test_faults_are_named(sql: str, message: str) -> None:
    with pytest.raises(KalamError) as fault:
        parse_script(sql)
    assert str(fault.value) == message
    assert fault.value.line == 1


def test_they_never_act_for_others() -> None:
    for sql in ("SUBSCRIBE TO t", "LIVE SELECT * FROM t"):
        with pytest.raises(NotSupportedError, match="^SUBSCRIBE is not allowed in EXECUTE AS"):
            parse_script(f"EXECUTE AS USER 'mia' ({sql})")
