"""Section 6 of the language, rule by rule, where no other test holds the rule: reading."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

# --- the surface ----------------------------------------------------------------------------------


@pytest.fixture
def root(shared: Any) -> Session:
    """Root in the database of all tests, for what needs no table of its own."""
    return shared.session(namespace="default")  # type: ignore[no-any-return]


WITH = """WITH t (id, g, n) AS (VALUES (1, 'a', 10), (2, 'b', 20), (3, 'a', NULL)),
u (g, title) AS (VALUES ('a', 'Ann'), ('b', 'Bob'), ('c', 'Cid')) """

SURFACE: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("SELECT id FROM t, u WHERE t.g = u.g ORDER BY 1", [(1,), (2,), (3,)]),
    ("SELECT id, x FROM t, LATERAL (SELECT title AS x FROM u WHERE u.g = t.g) l WHERE id = 2",
     [(2, "Bob")]),
    ("SELECT id, x FROM t LEFT JOIN LATERAL (SELECT id * 2 AS x WHERE id > 2) l ON true ORDER BY 1",
     [(1, None), (2, None), (3, 6)]),
    ("SELECT g, title, id FROM u LEFT JOIN t USING (g) ORDER BY g, id",
     [("a", "Ann", 1), ("a", "Ann", 3), ("b", "Bob", 2), ("c", "Cid", None)]),
    ("SELECT 2 = ANY (SELECT id FROM t), 3 >= ALL (SELECT id FROM t), 9 IN (SELECT id FROM t)",
     [(True, True, False)]),
    ("SELECT (SELECT count(*) FROM t v WHERE v.g = t.g) FROM t ORDER BY id", [(2,), (1,), (2,)]),
    ("SELECT g, count(*) FROM t GROUP BY CUBE (g) ORDER BY 2, 1", [("b", 1), ("a", 2), (None, 3)]),
    ("SELECT g, grouping(g) FROM t GROUP BY ROLLUP (g) ORDER BY 2, 1",
     [("a", 0), ("b", 0), (None, 1)]),
    ("SELECT g AS k, max(n) FROM t GROUP BY k HAVING max(n) > 10", [("b", 20)]),
    ("SELECT count(*) FILTER (WHERE n > 10), sum(DISTINCT id) FROM t", [(1, 6)]),
    ("SELECT id, sum(n) OVER w, lag(id) OVER w, lead(id, 1, 0) OVER w, first_value(id) OVER w, "
     "last_value(id) OVER w, nth_value(id, 2) OVER w, ntile(2) OVER w, row_number() OVER w, "
     "rank() OVER w, dense_rank() OVER w, percent_rank() OVER w FROM t WINDOW w AS (ORDER BY id) "
     "ORDER BY id",
     [(1, 10, None, 2, 1, 1, None, 1, 1, 1, 1, 0.0), (2, 30, 1, 3, 1, 2, 2, 1, 2, 2, 2, 0.5),
      (3, 30, 2, 0, 1, 3, 2, 2, 3, 3, 3, 1.0)]),
    ("SELECT sum(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY 1",
     [(1,), (3,), (5,)]),
    ("SELECT cume_dist() OVER (ORDER BY id) FROM t WHERE id = 1", [(1.0,)]),
    ("SELECT g FROM t UNION ALL SELECT g FROM u EXCEPT ALL SELECT g FROM t ORDER BY 1",
     [("a",), ("b",), ("c",)]),
    ("SELECT g FROM t INTERSECT ALL SELECT 'a'", [("a",)]),
    ("SELECT id FROM t ORDER BY n NULLS FIRST", [(3,), (1,), (2,)]),
    ("SELECT id FROM t ORDER BY n DESC NULLS LAST", [(2,), (1,), (3,)]),
    ("SELECT id, g FROM t ORDER BY 2 DESC, abs(id - 3)", [(2, "b"), (3, "a"), (1, "a")]),
    ("SELECT id FROM t ORDER BY id OFFSET 1", [(2,), (3,)]),
    ("SELECT id FROM t ORDER BY id LIMIT 1 + 1", [(1,), (2,)]),
    ("SELECT id FROM t ORDER BY id LIMIT (SELECT min(id) FROM t)", [(1,)]),
    ("SELECT CASE g WHEN 'a' THEN 1 ELSE 2 END, CASE WHEN n IS NULL THEN 0 END FROM t ORDER BY id",
     [(1, None), (2, None), (1, 0)]),
    ("SELECT 'a%c' LIKE 'a\\%c' ESCAPE '\\', 'ABC' ILIKE 'a_c', 'abc' NOT LIKE '_b_', "
     "'abc' NOT ILIKE 'B%'", [(True, True, False, True)]),
    ("SELECT NULL IS NOT DISTINCT FROM NULL, 1 IS DISTINCT FROM NULL, 5 NOT BETWEEN 1 AND 3",
     [(True, True, True)]),
    ("SELECT NULL = NULL, NULL AND FALSE, NULL OR TRUE, NOT NULL, 1 IN (NULL), 1 NOT IN (2, NULL), "
     "NULL || 'x'", [(None, False, True, None, None, None, None)]),
    ("SELECT j -> 'a' ->> 1, j ->> 'k', j -> 'zz', j -> 'a' -> 9, j ->> 'n', j -> 'a.b' FROM "
     "(SELECT CAST('{\"a\": [1, \"x\"], \"k\": \"v\", \"n\": null, \"a.b\": 2}' AS JSON) AS j) x",
     [("x", "v", None, None, None, "2")]),
    ("SELECT CAST('[5, 6]' AS JSON) -> 0, CAST('[5, 6]' AS JSON) ->> -1", [("5", "6")]),
    ("SELECT '7'::INT + 1, 7::TEXT || 'x'", [(8, "7x")]),
    ("SELECT t.id, t.* EXCLUDE (n) FROM t WHERE id = 1", [(1, 1, "a")]),
    ("SELECT 1", [(1,)]),
    ("WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT * FROM a, b", [(1, 2)]),
    ("WITH a (x, y) AS (VALUES (1, 'p'), (2, 'q')) SELECT count(*), max(y) FROM a", [(2, "q")]),
    ("WITH RECURSIVE r (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 3) "
     "SELECT sum(n) FROM r", [(6,)]),
    ("SELECT 1 IN (VALUES (1), (2)), EXISTS (VALUES (1))", [(True, True)]),
    ("SELECT count(*) FROM (SELECT 1 UNION ALL VALUES (2)) q", [(2,)]),
    ("SELECT length('\U0001f600é'), upper('é'), substr('abc', 2), trim(' x '), replace('aba', 'a', "
     "'c'), concat('a', NULL, 1)", [(2, "É", "bc", "x", "cbc", "a1")]),
    ("SELECT abs(-2), round(2.5), floor(2.7), ceil(2.1), power(2, 3), coalesce(NULL, 1), "
     "nullif(1, 1), greatest(1, 2)", [(2, 3, 2, 3, 8.0, 1, None, 2)]),
    ("SELECT regexp_replace('abc', 'b', 'x'), list_sum([1, 2]), {'a': 1}.a, [1, 2][1], "
     "list_transform([1, 2], x -> x + 1)", [("axc", 3, 1, 1, [2, 3])]),
    ("SELECT extract(hour FROM DATETIME '2031-04-30 12:00:00'), "
     "extract(dow FROM CAST('2031-04-30' AS DATE)), date_trunc('month', DATE '2031-04-30') = "
     "DATE '2031-04-01'", [(12, 3, True)]),
]  # fmt: skip


def test_each_form_of_the_surface_answers(root: Session) -> None:
    for sql, expected in SURFACE:
        text = sql if sql.startswith("WITH") else WITH + sql
        assert root.execute(text).rows() == expected, sql


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("SELECT *", "SYNTAX", "Syntax error: * needs a table in FROM"),
        ("SELECT AS 'x'", "SYNTAX", "Syntax error near 'AS' (line 1, column 8)"),
        ("SELECT 1 ? 2", "SYNTAX", "Syntax error near '2' (line 1, column 12)"),
        ("SELECT '{}' ? 'a'", "SYNTAX", "Syntax error near a quoted text (line 1, column 15)"),
        ("SELECT 1 AS `x`", "SYNTAX",
         "Syntax error near '`' (line 1, column 13); quote names with double quotes"),
        ("SELECT * FROM `t`", "SYNTAX",
         "Syntax error near '`' (line 1, column 15); quote names with double quotes"),
        ('SELECT 1 AS ""', "SYNTAX", "Syntax error near '\"\"' (line 1, column 13)"),
        ("SELECT * FROM [t]", "SYNTAX", "Syntax error near '[' (line 1, column 15)"),
        ("SELECT * FROM 'file.csv'", "SYNTAX", "A quoted text is not a table name"),
        ('SELECT * FROM "file.csv"', "NOT_ALLOWED", "A quoted text is not a table name"),
        ('SELECT 1 WHERE "Ann" = 1', "NOT_FOUND",
         "Column 'Ann' not found; write text in single quotes"),
        ("SELECT 1 WHERE Ann = 1", "NOT_FOUND", "Column 'Ann' not found"),
        ("SELECT q.* FROM (SELECT 1) x", "NOT_FOUND", "Table or alias 'q' is not in FROM"),
        ("SELECT x.* FROM (SELECT 1 AS x) y", "NOT_FOUND", "Table or alias 'x' is not in FROM"),
        ("SELECT ULID().x", "TYPE_MISMATCH",
         "Field 'x' is taken from a value that is no STRUCT"),
        ("SELECT 1 FROM (SELECT 1 AS x) y QUALIFY row_number() OVER (ORDER BY z) = 1", "NOT_FOUND",
         "Column 'z' not found"),
        ("SELECT 1 ORDER BY NULL", "INVALID_DEFINITION",
         "A constant cannot stand alone in ORDER BY; use a column, an expression or a position"),
        ("SELECT 1 ORDER BY NOW()", "INVALID_DEFINITION",
         "A constant cannot stand alone in ORDER BY; use a column, an expression or a position"),
        ("SELECT DISTINCT ON (NULL) 1", "INVALID_DEFINITION",
         "A constant cannot stand alone in DISTINCT ON; use a column, an expression or a position"),
        ("SELECT grouping(x) FROM (SELECT 1 AS x) y", "GROUPING",
         "grouping() belongs beside GROUP BY"),
        ("SELECT 1 LIMIT count(*)", "GROUPING", "An aggregate cannot stand here"),
        ("VALUES (count(*))", "GROUPING", "An aggregate cannot stand in VALUES"),
        ("SELECT upper('x') OVER ()", "GROUPING",
         "Only an aggregate or window function takes OVER"),
        ("SELECT sum(unnest([1]))", "NOT_SUPPORTED", "unnest() in this place is not supported"),
        ("SELECT 'a' LIKE 'b' ESCAPE 'xx'", "INVALID_VALUE", "ESCAPE takes one character"),
        ("SELECT CAST('{}' AS JSON) -> '$['", "INVALID_VALUE", "Invalid JSON path"),
        ("SELECT (1, 2) = (1, 2, 3)", "TYPE_MISMATCH", "Rows of different size do not compare"),
        ("SELECT sum(1) OVER (RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)", "INVALID_DEFINITION",
         "A RANGE frame needs exactly one ORDER BY expression"),
        ("SELECT 1 FOR UPDATE", "NOT_SUPPORTED", "FOR UPDATE is not supported"),
        ("SELECT 1 INTO x", "NOT_SUPPORTED", "INTO is not supported"),
        ("UNPIVOT t ON a INTO NAME n VALUE v", "NOT_SUPPORTED", "UNPIVOT is not supported"),
        ("SELECT * FROM range(3) TABLESAMPLE 10%", "NOT_SUPPORTED",
         "TABLESAMPLE is not supported"),
        ("SELECT * FROM range(3) a NATURAL JOIN range(3) b", "NOT_SUPPORTED",
         "NATURAL JOIN is not supported; use USING"),
        ("SELECT * FROM range(3) a POSITIONAL JOIN range(3) b", "NOT_SUPPORTED",
         "POSITIONAL JOIN is not supported"),
        ("EXPLAIN ANALYZE SELECT 1", "NOT_SUPPORTED", "EXPLAIN ANALYZE is not supported"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(
    root: Session, refused: Any, sql: str, code: str, message: str
) -> None:
    error = refused(root, sql)
    assert (error.code, str(error)) == (code, message)


# --- functions ------------------------------------------------------------------------------------

EXCLUDED = {
    "files": "read_text('x') parquet_scan('x') sniff_csv('x')",
    "network": "inet_client_addr() inet_server_port()",
    "settings": "current_setting('threads') set_config('a', 'b') getvariable('x')",
    "catalogs": "current_database() current_schema() version() pg_typeof(1) txid_current()",
    "sleeping": "sleep_ms(1) pg_sleep(1)",
    "dynamic SQL": "query('SELECT 1') query_table('t') json_serialize_sql('SELECT 1')",
    "environment": "getenv('HOME')",
    "sequences": "nextval('s') currval('s')",
    "logging": "write_log('x') enable_logging()",
}


@pytest.mark.parametrize("kind", EXCLUDED)
def test_functions_of_this_kind_are_not_on_the_list(root: Session, refused: Any, kind: str) -> None:
    for call in EXCLUDED[kind].replace("', '", "','").replace("SELECT 1", "SELECT-1").split():
        name = call.partition("(")[0]
        error = refused(root, f"SELECT {call}")
        assert error.code in ("NOT_ALLOWED", "NOT_FOUND"), call
        assert str(error).startswith(f"Function '{name}' ")
        error = refused(root, f"SELECT * FROM {call}")
        assert (error.code, str(error)) == (
            "NOT_ALLOWED",
            f"Table function '{name}' is not allowed",
        )


def test_table_functions_are_range_generate_series_unnest_and_all_users(
    s: Session, refused: Any
) -> None:
    s.execute("CREATE USER TABLE t (id INT PRIMARY KEY, l INT[]); INSERT INTO t VALUES (1, [7, 8])")
    for sql, expected in [
        ("SELECT * FROM range(2)", [(0,), (1,)]),
        ("SELECT * FROM generate_series(1, 2)", [(1,), (2,)]),
        ("SELECT * FROM unnest([5, 6])", [(5,), (6,)]),
        ("SELECT user_id FROM all_users('t')", [("root",)]),
        ("SELECT x FROM t, LATERAL unnest(l) AS q(x)", [(7,), (8,)]),
        ("SELECT x FROM t, LATERAL range(id) AS q(x)", [(0,)]),
    ]:
        assert s.execute(sql).rows() == expected
    for name in ("read_csv", "upper", "ulid", "wobble", "duckdb_tables", "json_each", "glob"):
        for sql in (f"SELECT * FROM {name}('x')", f"SELECT * FROM t, LATERAL {name}('x') AS q"):
            error = refused(s, sql)
            assert error.code == "NOT_ALLOWED"
            assert f"unction '{name}' is not allowed" in str(error)


@pytest.mark.parametrize(
    "call",
    ["repeat('x', {})", "lpad('x', {}, 'y')", "rpad('x', {}, 'y')", "range({})",
     "generate_series(1, {})", "length(repeat('xy', {}))", "repeat([1], {})"],
)  # fmt: skip
def test_a_value_that_would_explode_is_capped(root: Session, refused: Any, call: str) -> None:
    error = refused(root, f"SELECT {call.format(200_000_000)}")
    assert (error.code, str(error)) == ("LIMIT", "A value exceeds the limit of 64 MiB")
    assert root.execute(f"SELECT {call.format(1_000)}").row_count == 1


def test_the_parser_says_nothing_beside_the_error(
    s: Session, refused: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What it cannot print for the engine it would tell on stderr, not to whoever asked."""
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, j JSON, at DATETIME)")
    capfd.readouterr()
    with caplog.at_level(logging.DEBUG, "sqlglot"):
        for sql in (
            "SELECT to_char(at, 'YYYY') FROM t",
            "SELECT to_char(1, '9')",
            "EXPLAIN SELECT * FROM t WHERE to_char(id, '9') = '1'",
            "CREATE VIEW v AS SELECT to_char(id, '9') AS c FROM t",
            "SELECT random(3)",
            "SELECT any_value(id RESPECT NULLS) FROM t",
            "SELECT regexp_replace('a', 'b', 'c', CAST(j AS TEXT)) FROM t",
            "SELECT j -> '$[' FROM t",
        ):
            refused(s, sql)
        for sql in (
            "SELECT extract(hour FROM CAST('2031-01-01' AS DATETIME)) FROM t",
            "EXPLAIN SELECT * FROM t WHERE extract(hour FROM CAST(at AS DATETIME)) = 1",
            "CREATE VIEW v AS SELECT extract(hour FROM CAST(at AS DATETIME)) AS h FROM t",
            "SELECT * FROM v",
            "SELECT first(id IGNORE NULLS) FROM t",
        ):
            s.execute(sql)
    assert not [record for record in caplog.records if record.name.startswith("sqlglot")]
    out, err = capfd.readouterr()
    assert "support" not in (out + err).lower()


# --- EXPLAIN --------------------------------------------------------------------------------------

SCHEMA = [
    ("step", "INT"), ("depth", "INT"), ("operation", "TEXT"), ("target", "TEXT"),
    ("detail", "TEXT"), ("segments_kept", "BIGINT"), ("segments_total", "BIGINT"),
    ("estimated_rows", "BIGINT"),
]  # fmt: skip

EXPLAINED = [
    "SELECT * FROM notes WHERE id > 1 AND v = 'x' ORDER BY id LIMIT 2",
    "SELECT v, count(*) FROM notes n JOIN genres g ON g.code = n.v GROUP BY v",
    "INSERT INTO notes VALUES (9, 'z'), (10, 'z')",
    "INSERT INTO notes SELECT id + 100, v FROM notes",
    "INSERT INTO notes VALUES (1, 'z') ON CONFLICT (id) DO UPDATE SET v = 'q' RETURNING id",
    "UPDATE notes SET v = upper(v) WHERE id = 1",
    "DELETE FROM notes WHERE v LIKE 'a%' RETURNING *",
    "SELECT id / 0 FROM notes",
    "SELECT id FROM notes WHERE v = ?",
]


@pytest.fixture
def notes(s: Session, mia: Session, tom: Session) -> Session:
    s.execute(
        """CREATE USER TABLE notes (id INT PRIMARY KEY, v TEXT);
        CREATE TABLE genres (code TEXT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC');
        CREATE TABLE plans (id INT PRIMARY KEY)"""
    )
    for session, count in ((mia, 2), (tom, 5)):
        for number in range(count):
            session.execute("INSERT INTO notes VALUES (?, ?)", [number, "of " + session.user])
            finished(s, "STORAGE FLUSH TABLE notes")
    return s


def test_explain_never_runs_its_statement_for_anyone(
    notes: Session, mia: Session, sven: Session, dora: Session, studio: Any
) -> None:
    before = notes.execute("SELECT * FROM all_users('notes') ORDER BY 1, 2").rows()
    for session in (notes, mia, sven, dora):
        for sql in EXPLAINED:
            answer = session.execute(f"EXPLAIN {sql}", ["x"] if "?" in sql else None)
            found = list(zip(answer.columns, map(str, answer.types), strict=True))
            assert found == SCHEMA
            assert [row[0] for row in answer] == list(range(1, answer.row_count + 1))
            assert all(isinstance(row[1], int) and row[1] >= 0 for row in answer)
            said = repr(answer.rows())
            for word in (str(studio.database.path), "parquet", "__k", "/tmp", "duckdb"):
                assert word not in said.lower()
    assert notes.execute("SELECT * FROM all_users('notes') ORDER BY 1, 2").rows() == before


def test_explain_counts_and_names_the_own_scope_only(
    notes: Session, mia: Session, tom: Session
) -> None:
    sql = "EXPLAIN SELECT * FROM notes WHERE id > 0"
    for session, (kept, total) in ((mia, (1, 2)), (tom, (4, 5)), (notes, (0, 0))):
        scan = session.execute(sql).rows()[-1]
        assert (scan[2], scan[3], scan[5:]) == ("Scan", "studio.notes", (kept, total, kept))
        others = {"mia", "tom", "root"} - {session.user}
        assert not any(f"'{user}'" in repr(scan) for user in others)
    acting = notes.execute("EXECUTE AS USER 'mia' (EXPLAIN SELECT * FROM notes)").rows()[-1]
    assert acting[5:7] == (2, 2)


def test_explain_refuses_what_the_statement_may_not_do(
    notes: Session, mia: Session, refused: Any
) -> None:
    for sql, code, message in [
        ("SELECT * FROM plans", "PERMISSION_DENIED",
         "Permission denied: role 'user' may not read studio.plans"),
        ("SELECT * FROM system.users", "PERMISSION_DENIED",
         "Only 'dba' and 'system' roles can access system namespace"),
        ("SELECT * FROM all_users('notes')", "PERMISSION_DENIED",
         "Permission denied: all_users() needs role dba or system"),
        ("INSERT INTO genres VALUES ('x')", "PERMISSION_DENIED",
         "Permission denied: role 'user' may not write studio.genres"),
        ("INSERT INTO notes SELECT id, 'x' FROM plans", "PERMISSION_DENIED",
         "Permission denied: role 'user' may not read studio.plans"),
        ("UPDATE notes SET v = (SELECT 'x' FROM plans) WHERE true", "PERMISSION_DENIED",
         "Permission denied: role 'user' may not read studio.plans"),
        ("DELETE FROM notes WHERE id IN (SELECT id FROM plans)", "PERMISSION_DENIED",
         "Permission denied: role 'user' may not read studio.plans"),
        ("SELECT * FROM gone", "NOT_FOUND", "Table 'studio.gone' not found"),
        ("SELECT vv FROM notes", "NOT_FOUND", "Column 'vv' not found; did you mean 'v'?"),
        ("SELECT v, count(*) FROM notes", "GROUPING",
         "Column 'v' must appear in GROUP BY or in an aggregate"),
        ("SELECT wobble(v) FROM notes", "NOT_FOUND", "Function 'wobble' not found"),
        ("UPDATE notes SET v = zz WHERE true", "NOT_FOUND", "Column 'zz' not found"),
        ("UPDATE notes SET id = 1 WHERE true", "READ_ONLY",
         "Primary key column 'id' cannot be updated"),
        ("UPDATE notes SET v = 'x'", "MISSING_WHERE",
         "UPDATE needs a WHERE clause; use WHERE true for all rows"),
        ("INSERT INTO notes VALUES (1)", "INVALID_DEFINITION",
         "INSERT has 1 value for 2 columns in row 1"),
        ("INSERT INTO notes (id, tempo) VALUES (1, 2)", "NOT_FOUND",
         "Column 'tempo' not found in studio.notes"),
        ("INSERT INTO notes SELECT 1", "INVALID_DEFINITION",
         "INSERT has 1 value for 2 columns in its query"),
        ("SHOW TABLES", "SYNTAX",
         "Syntax error: expected SELECT, INSERT, UPDATE or DELETE after EXPLAIN"),
        ("ANALYZE SELECT 1", "NOT_SUPPORTED", "EXPLAIN ANALYZE is not supported"),
    ]:  # fmt: skip
        error = refused(mia, f"EXPLAIN {sql}")
        assert (error.code, str(error)) == (code, message)
