"""Scripts, EXPLAIN, EXECUTE AS, and the errors of whole texts."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kalamdb_lab.errors import KalamError, NotSupportedError, SqlSyntaxError
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.dialect import OPERATOR_TYPES, WORD_TYPES
from kalamdb_lab.sql.parse import iterate_script, parse_script

EXAMPLE = """
CREATE NAMESPACE IF NOT EXISTS studio;                                   -- as a dba
ALTER NAMESPACE studio SET DESCRIPTION 'Recordings';
USE studio;
CREATE SHARED TABLE genres (code TEXT PRIMARY KEY, title TEXT NOT NULL)
  WITH (ACCESS_LEVEL = 'PUBLIC');
INSERT INTO genres VALUES ('jz', 'Jazz'), ('fk', 'Folk') RETURNING code;
CREATE USER TABLE tracks (
  id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), title TEXT NOT NULL, genre TEXT,
  seconds INT DEFAULT 0,
  mood EMBEDDING(2), added DATETIME DEFAULT NOW()
) WITH (STORAGE_ID = 'vault', FLUSH_POLICY = 'rows:5000,interval:120',
  DELETED_RETENTION_HOURS = 48);
CREATE STREAM TABLE plays (
  id TEXT PRIMARY KEY DEFAULT ULID(), track BIGINT, heard DATETIME DEFAULT NOW()
) WITH (TTL_SECONDS = 300);
CREATE VIEW long_tracks AS SELECT id, title FROM tracks WHERE seconds > 600;
INSERT INTO tracks (id, title, genre, seconds, mood) VALUES (1, 'Dawn', 'jz', 700, '[0.8, 0.6]');
INSERT INTO tracks (id, title) VALUES (2, 'Hill (live)')
  ON CONFLICT (id) DO UPDATE SET title = excluded.title;
UPDATE tracks SET seconds = seconds + 5 WHERE genre = 'fk';
SELECT t.title, g.title AS "Genre" FROM tracks t LEFT JOIN genres g ON g.code = t.genre
  ORDER BY t.seconds DESC;
SELECT id FROM tracks ORDER BY COSINE_DISTANCE(mood, [0.9, 0.4]) LIMIT 1;
DELETE FROM tracks WHERE id = 2;
SELECT id, title FROM tracks WHERE _deleted = true;
ALTER TABLE tracks ADD COLUMN rating SMALLINT DEFAULT 3;
DESCRIBE TABLE tracks HISTORY;
STORAGE FLUSH TABLE tracks;
EXPLAIN SELECT * FROM long_tracks WHERE id = 1;
EXECUTE AS USER 'mia' (INSERT INTO tracks (title) VALUES ('For Mia'));
SELECT user_id, count(*) FROM all_users('studio.tracks') GROUP BY user_id;
SELECT action, target, outcome FROM system.audit_logs ORDER BY timestamp DESC LIMIT 5;
"""


def test_the_example_of_the_language_parses() -> None:
    kinds = [statement.kind for statement in parse_script(EXAMPLE)]
    assert kinds == [
        "CREATE NAMESPACE",
        "ALTER NAMESPACE",
        "USE",
        "CREATE TABLE",
        "INSERT",
        "CREATE TABLE",
        "CREATE TABLE",
        "CREATE VIEW",
        "INSERT",
        "INSERT",
        "UPDATE",
        "SELECT",
        "SELECT",
        "DELETE",
        "SELECT",
        "ALTER TABLE",
        "DESCRIBE",
        "STORAGE FLUSH",
        "EXPLAIN",
        "EXECUTE AS",
        "SELECT",
        "SELECT",
    ]


def test_a_statement_knows_its_text_and_place() -> None:
    first, second = parse_script("-- one\nSELECT 1 /* x */ ; \n\n  USE  a ;")
    assert (first.text, first.line, first.column) == ("SELECT 1", 2, 1)
    assert (second.text, second.line, second.column) == ("USE  a", 4, 3)


def test_a_fault_tells_the_number_and_place_of_its_statement() -> None:
    with pytest.raises(SqlSyntaxError) as fault:
        parse_script("SELECT 1;\nSELECT 2;\n  SELCT 3; SELECT 4")
    assert str(fault.value) == "Syntax error near 'SELCT' (line 3, column 3)"
    assert (fault.value.statement_number, fault.value.line, fault.value.column) == (3, 3, 3)


@pytest.mark.parametrize("fault", ["SELCT 1", "SELECT 'open", "SELECT (1", "GRANT x"])
def test_statements_before_a_fault_can_be_had(fault: str) -> None:
    script = iterate_script(f"USE a; {fault}; USE b")
    assert next(script).kind == "USE"
    with pytest.raises(KalamError) as error:
        next(script)
    assert error.value.statement_number == 2


@pytest.mark.parametrize(
    "text", ["(SELECT 1)", "VALUES (1), (2)", "WITH x AS (SELECT 1) SELECT * FROM x"]
)
def test_what_is_a_query(text: str) -> None:
    (statement,) = parse_script(text)
    assert isinstance(statement, s.Select)


@pytest.mark.parametrize("text", ["TABLE t", "FROM t", "t", "1", "'x'", '"SELECT" 1', "SELECT"])
def test_what_is_no_statement(text: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
        parse_script(text)


@pytest.mark.parametrize(
    "inner",
    [
        "SELECT 1",
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1 WHERE true",
        "DELETE FROM t WHERE a",
    ],
)
def test_explain(inner: str) -> None:
    (statement,) = parse_script(f"EXPLAIN {inner}")
    assert isinstance(statement, s.Explain)
    assert statement.statement.text == inner
    assert statement.statement.kind == inner.split(maxsplit=1)[0]


@pytest.mark.parametrize("form", ["EXPLAIN ANALYZE SELECT 1", "EXPLAIN (ANALYZE) SELECT 1"])
def test_explain_analyze_is_refused(form: str) -> None:
    with pytest.raises(NotSupportedError, match=r"^EXPLAIN ANALYZE is not supported$"):
        parse_script(form)


@pytest.mark.parametrize("inner", ["CREATE TABLE t (a INT)", "EXPLAIN SELECT 1", "USE a", ""])
def test_explain_takes_nothing_else(inner: str) -> None:
    with pytest.raises(
        SqlSyntaxError, match="expected SELECT, INSERT, UPDATE or DELETE after EXPLAIN$"
    ):
        parse_script(f"EXPLAIN {inner}")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("EXECUTE AS USER 'mia' (SELECT ';')", "SELECT"),
        ("EXECUTE AS USER mia (INSERT INTO t VALUES (1);)", "INSERT"),
        ("execute as user 'mia' ( ; EXPLAIN SELECT (1) ; ; );", "EXPLAIN"),
    ],
)
def test_execute_as(text: str, kind: str) -> None:
    (statement,) = parse_script(text)
    assert isinstance(statement, s.ExecuteAs)
    assert (statement.user_id, statement.statement.kind) == ("mia", kind)


@pytest.mark.parametrize("inner", ["", ";", "SELECT 1; SELECT 2"])
def test_execute_as_takes_exactly_one_statement(inner: str) -> None:
    with pytest.raises(SqlSyntaxError, match=r"^EXECUTE AS USER takes exactly one statement$"):
        parse_script(f"EXECUTE AS USER 'mia' ({inner})")


@pytest.mark.parametrize(
    ("inner", "kind"),
    [
        ("CREATE TABLE t (a INT)", "CREATE TABLE"),
        ("CREATE USER TABLE t (a INT)", "CREATE TABLE"),
        ("EXECUTE AS USER 'tom' (SELECT 1)", "EXECUTE AS USER"),
        ("DROP USER 'x'", "DROP USER"),
        ("STORAGE FLUSH TABLE t", "STORAGE FLUSH"),
        ("BEGIN", "BEGIN"),
        ("USE a", "USE"),
    ],
)
def test_execute_as_takes_no_other_kind(inner: str, kind: str) -> None:
    with pytest.raises(NotSupportedError) as fault:
        parse_script(f"EXECUTE AS USER 'mia' ({inner})")
    assert str(fault.value) == (
        f"{kind} is not allowed in EXECUTE AS USER; it takes SELECT, INSERT, UPDATE, DELETE or "
        "EXPLAIN"
    )


@pytest.mark.parametrize(
    "text",
    [
        "EXECUTE AS USER 'mia' SELECT 1",
        "EXECUTE AS USER (SELECT 1)",
        "EXECUTE AS 'mia' (SELECT 1)",
        "EXECUTE AS USER 'mia' (SELECT 1) x",
        "EXECUTE AS USER 'mia' (SELCT 1)",
        "EXECUTE p (1)",
        "SELECT (1; SELECT 2)",
    ],
)
def test_other_forms_are_syntax_errors(text: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error"):
        parse_script(text)


SOUP = st.lists(
    st.one_of(
        st.sampled_from(sorted(WORD_TYPES)),
        st.sampled_from(sorted(OPERATOR_TYPES)),
        st.sampled_from(["SELECT", "FROM", "WHERE", "(", ")", ",", "a", "b.c", "1", "'x'", "?"]),
        st.sampled_from(
            "CREATE TABLE ALTER DROP USER STORAGE FLUSH EXECUTE NAMESPACE VIEW DEFAULT PRIMARY KEY "
            "CONFLICT DO NOTHING SHOW DESCRIBE EXPLAIN PIVOT SAMPLE LAMBDA EMBEDDING DECIMAL "
            "MATERIALIZED START BY FORMAT TOP AT WITHIN IGNORE EXCLUDE COLUMNS".split()
        ),
        st.sampled_from(
            ["$1", '"q"', "X'00'", "1.5e3", "--", "/*", "*/", "\u200b", "INTERVAL '1'"]
        ),
    ),
    min_size=1,
    max_size=14,
).map(" ".join)


def fault_of(text: str | bytes) -> str | None:
    """Return what our error says of a text, None if there is none; others are not caught."""
    try:
        statements = parse_script(text)
    except KalamError as fault:
        return str(fault)
    assert all(statement.kind for statement in statements)
    return None


@settings(max_examples=400)
@given(SOUP)
@example("SELECT INTERVAL ')' FROM t")
@example("SELECT CASE , END")
def test_no_text_raises_anything_but_our_errors(text: str) -> None:
    fault = fault_of(text) or ""
    assert len(fault) < 700
    assert "\n" not in fault
    assert "sqlglot" not in fault


DAMAGE = ["", "(", ")", "'", ",", "*", " NOT ", ";", "::", "$1", "\0", "é"]


@settings(max_examples=200)
@given(st.sampled_from(EXAMPLE.strip().split("\n")), st.data())
def test_no_damaged_text_raises_anything_but_our_errors(line: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line)))
    cut = data.draw(st.integers(0, 5))
    put = data.draw(st.sampled_from(DAMAGE))
    assert len(fault_of(line[:at] + put + line[at + cut :]) or "") < 700


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_but_our_errors(data: bytes) -> None:
    assert len(fault_of(data) or "") < 700
