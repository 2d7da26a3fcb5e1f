"""SELECT: the surface, PostgreSQL's arithmetic and orders, and what is refused; hot and flushed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished


@pytest.fixture(params=["hot", "flushed", "mixed"])
def lab(request: pytest.FixtureRequest, s: Session) -> Session:
    s.execute(
        """CREATE USER TABLE tracks (id INT PRIMARY KEY, title TEXT, genre TEXT, seconds INT,
        price DECIMAL(8, 2), added DATETIME, doc JSON);
        CREATE TABLE genres (code TEXT PRIMARY KEY, title TEXT) WITH (ACCESS_LEVEL = 'PUBLIC');
        INSERT INTO genres VALUES ('jz', 'Jazz'), ('fk', 'Folk'), ('rk', 'Rock');
        INSERT INTO tracks VALUES
          (1, 'Dawn', 'jz', 700, 1.50, '2031-01-01 10:00:00', '{"a": {"b": [5, 6]}, "k": "v"}'),
          (2, 'Hill', 'fk', 180, 2.25, '2031-02-01 10:00:00', NULL)"""
    )
    if request.param != "hot":
        finished(s, "STORAGE FLUSH ALL IN studio")
    s.execute(
        """INSERT INTO tracks VALUES
          (3, 'Mist', 'jz', 60, NULL, '2031-02-03 10:00:00', '{}'),
          (4, 'Rain', NULL, NULL, 0.99, NULL, NULL)"""
    )
    if request.param == "flushed":
        finished(s, "STORAGE FLUSH TABLE tracks")
    return s


QUERIES: list[tuple[str, list[tuple[object, ...]]]] = [
    ("SELECT 1 AS a, 'x' AS b, NULL AS c", [(1, "x", None)]),
    ("SELECT count(*), count(genre), count(DISTINCT genre) FROM tracks", [(4, 3, 2)]),
    ("SELECT DISTINCT genre FROM tracks ORDER BY genre", [("fk",), ("jz",), (None,)]),
    ("SELECT DISTINCT ON (genre) genre, id FROM tracks ORDER BY genre DESC, id DESC",
     [(None, 4), ("jz", 3), ("fk", 2)]),
    ("SELECT id FROM tracks ORDER BY seconds", [(3,), (2,), (1,), (4,)]),
    ("SELECT id FROM tracks ORDER BY seconds DESC", [(4,), (1,), (2,), (3,)]),
    ("SELECT id FROM tracks ORDER BY seconds DESC NULLS LAST, id", [(1,), (2,), (3,), (4,)]),
    ("SELECT id, seconds * 2 AS d FROM tracks WHERE seconds > 100 ORDER BY d LIMIT 1 OFFSET 1",
     [(1, 1400)]),
    ("SELECT genre AS g, sum(seconds) AS s FROM tracks GROUP BY 1 HAVING count(*) > 1",
     [("jz", 760)]),
    ("SELECT genre AS g, max(price) FROM tracks GROUP BY g ORDER BY g",
     [("fk", Decimal("2.25")), ("jz", Decimal("1.50")), (None, Decimal("0.99"))]),
    ("SELECT genre, count(*) FROM tracks GROUP BY ROLLUP (genre) ORDER BY 2 DESC, 1 LIMIT 2",
     [(None, 4), ("jz", 2)]),
    ("SELECT genre, count(*) n FROM tracks GROUP BY GROUPING SETS ((genre), ()) ORDER BY n DESC "
     "LIMIT 1", [(None, 4)]),
    ("SELECT t.id, g.title FROM tracks t JOIN genres g ON g.code = t.genre ORDER BY 1",
     [(1, "Jazz"), (2, "Folk"), (3, "Jazz")]),
    ("SELECT t.id, g.title FROM tracks t LEFT JOIN genres g ON g.code = t.genre WHERE t.id > 2 "
     "ORDER BY t.id", [(3, "Jazz"), (4, None)]),
    ("SELECT g.code FROM tracks t RIGHT JOIN genres g ON g.code = t.genre WHERE t.id IS NULL",
     [("rk",)]),
    ("SELECT count(*) FROM tracks t FULL JOIN genres g ON g.code = t.genre", [(5,)]),
    ("SELECT count(*) FROM tracks CROSS JOIN genres", [(12,)]),
    ("SELECT count(*) FROM tracks, genres WHERE genre = code", [(3,)]),
    ("SELECT title, code FROM genres JOIN (SELECT 'jz' AS code) x USING (code)", [("Jazz", "jz")]),
    ("SELECT t.id, x.n FROM tracks t, LATERAL (SELECT t.id * 10 AS n) x WHERE t.id = 2",
     [(2, 20)]),
    ("SELECT studio.tracks.id FROM studio.tracks WHERE studio.tracks.id = 3", [(3,)]),
    ("SELECT a.id FROM tracks a JOIN tracks b ON a.id = b.id + 1 WHERE b.title = 'Dawn'", [(2,)]),
    ("SELECT id FROM tracks t WHERE seconds = (SELECT max(seconds) FROM tracks WHERE genre = "
     "t.genre) ORDER BY id", [(1,), (2,)]),
    ("SELECT id FROM tracks WHERE genre IN (SELECT code FROM genres WHERE title LIKE 'J%') "
     "ORDER BY id", [(1,), (3,)]),
    ("SELECT code FROM genres g WHERE NOT EXISTS (SELECT 1 FROM tracks WHERE genre = g.code)",
     [("rk",)]),
    ("SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v (n, l) WHERE n > 1", [(2, "b")]),
    ("VALUES (1, 'a'), (2, 'b')", [(1, "a"), (2, "b")]),
    ("SELECT code FROM genres EXCEPT SELECT genre FROM tracks", [("rk",)]),
    ("SELECT code FROM genres INTERSECT SELECT genre FROM tracks ORDER BY 1", [("fk",), ("jz",)]),
    ("SELECT 1 AS a UNION ALL SELECT 1 UNION ALL SELECT 2 ORDER BY a", [(1,), (1,), (2,)]),
    ("SELECT 1 AS a UNION SELECT 1", [(1,)]),
    ("WITH a AS (SELECT id FROM tracks WHERE id < 3), b AS (SELECT max(id) m FROM a) "
     "SELECT m FROM b", [(2,)]),
    ("WITH tracks AS (SELECT 7 AS id) SELECT id FROM tracks", [(7,)]),
    ("WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 4) "
     "SELECT sum(n) FROM r", [(10,)]),
    ("SELECT id, row_number() OVER (PARTITION BY genre ORDER BY seconds DESC) r FROM tracks "
     "WHERE genre = 'jz' ORDER BY id", [(1, 1), (3, 2)]),
    ("SELECT id FROM tracks WHERE genre IS NOT NULL QUALIFY rank() OVER w = 1 WINDOW w AS "
     "(PARTITION BY genre ORDER BY id DESC) ORDER BY id", [(2,), (3,)]),
    ("SELECT CASE WHEN seconds > 100 THEN 'long' ELSE 'short' END FROM tracks WHERE id = 4",
     [("short",)]),
    ("SELECT id FROM tracks WHERE seconds BETWEEN 60 AND 180 AND id NOT IN (2)", [(3,)]),
    ("SELECT id FROM tracks WHERE title ILIKE 'dA__'", [(1,)]),
    ("SELECT id FROM tracks WHERE genre IS DISTINCT FROM 'jz' ORDER BY id", [(2,), (4,)]),
    ("SELECT id FROM tracks WHERE NOT (genre = 'jz') ORDER BY id", [(2,)]),
    ("SELECT title || '!' || genre FROM tracks WHERE id IN (1, 4) ORDER BY id",
     [("Dawn!jz",), (None,)]),
    ("SELECT doc -> 'a' -> 'b', doc ->> 'k', doc -> 'a' -> 'b' ->> 1, doc ->> 'none' FROM tracks "
     "WHERE id = 1", [("[5,6]", "v", "6", None)]),
    ("SELECT CAST('12' AS INT) + 1, '3'::INT, CAST(0.25 AS TEXT), CAST(2 AS BOOLEAN)",
     [(13, 3, "0.25", True)]),
    ("SELECT 9 / 4, -9 / 4, 9.0 / 4, 9 % 4, -9 % 4", [(2, -2, 2.25, 1, -1)]),
    ("SELECT sum(seconds), avg(seconds), sum(price), avg(price) FROM tracks",
     [(940, 940 / 3, Decimal("4.74"), 1.58)]),
    ("SELECT length('é\U0001f600'), upper('straé'), substr('abc', 2, 1), trim('  x ')",
     [(2, "STRAÉ", "b", "x")]),
    ("SELECT extract(year FROM added), date_trunc('month', added) FROM tracks WHERE id = 3",
     [(2031, datetime(2031, 2, 1, tzinfo=UTC))]),
    ("SELECT DATE '2031-04-30' + INTERVAL '1 day' = TIMESTAMP '2031-05-01 00:00:00'", [(True,)]),
    ("SELECT id FROM tracks WHERE added > '2031-01-15' ORDER BY id", [(2,), (3,)]),
    ("SELECT id FROM tracks WHERE added = TIMESTAMP '2031-01-01 10:00:00'", [(1,)]),
    ("SELECT 'a' < 'B', 'a' = 'a ', 'é' = 'e'", [(False, False, False)]),
    ("SELECT sum(range) FROM range(5)", [(10,)]),
    ("SELECT unnest FROM unnest([1, 2]) ORDER BY 1", [(1,), (2,)]),
    ("SELECT list(id ORDER BY id) FROM tracks WHERE id < 3", [([1, 2],)]),
    ("SELECT CURRENT_USER(), CURRENT_USER", [("root", "root")]),
    ("SELECT coalesce(NULL, 2), nullif(1, 1), greatest(1, 3), NULL = NULL, NULL IS NULL",
     [(2, None, 3, None, True)]),
    ("SELECT 12345678901234567, 2e6, 0.25, X'0AFF', 'it''s'",
     [(12345678901234567, 2e6, Decimal("0.25"), b"\x0a\xff", "it's")]),
    ("SELECT CAST('2031-04-30' AS DATE), DATE '0001-01-01'", [(date(2031, 4, 30), date(1, 1, 1))]),
    ("SELECT 1 WHERE false", []),
    ("SELECT /* a /* nested */ comment */ 1 -- and one more\n;", [(1,)]),
]  # fmt: skip


@pytest.fixture(scope="module")
def hot_lab(library: Any) -> Session:
    """For tests that only read."""
    s: Session = library.session()
    s.execute(
        """CREATE USER TABLE tracks (id INT PRIMARY KEY, title TEXT, genre TEXT, seconds INT,
        price DECIMAL(8, 2), added DATETIME, doc JSON);
        CREATE TABLE genres (code TEXT PRIMARY KEY, title TEXT) WITH (ACCESS_LEVEL = 'PUBLIC');
        INSERT INTO genres VALUES ('jz', 'Jazz'), ('fk', 'Folk'), ('rk', 'Rock');
        INSERT INTO tracks VALUES
          (1, 'Dawn', 'jz', 700, 1.50, '2031-01-01 10:00:00', '{"a": {"b": [5, 6]}, "k": "v"}'),
          (2, 'Hill', 'fk', 180, 2.25, '2031-02-01 10:00:00', NULL),
          (3, 'Mist', 'jz', 60, NULL, '2031-02-03 10:00:00', '{}'),
          (4, 'Rain', NULL, NULL, 0.99, NULL, NULL)"""
    )
    return s


@pytest.mark.parametrize(("sql", "expected"), QUERIES, ids=range(len(QUERIES)))
def test_a_query_answers(hot_lab: Session, sql: str, expected: list[Any]) -> None:
    """Every form over hot rows; the next test asks all of them of flushed rows too."""
    assert hot_lab.execute(sql).rows() == expected
    assert hot_lab.execute(sql).rows() == expected, "and again from the plan cache"


def test_flushed_rows_answer_all_of_them_alike(lab: Session) -> None:
    for sql, expected in QUERIES:
        assert lab.execute(sql).rows() == expected, sql


def test_columns_are_named_as_written(lab: Session) -> None:
    answer = lab.execute(
        'SELECT ID, t.TITLE, seconds AS Secs, count(*) AS "from" FROM tracks t GROUP BY ALL LIMIT 1'
    )
    assert answer.columns == ["id", "title", "Secs", "from"]


def test_an_empty_table_answers_its_columns(s: Session) -> None:
    s.execute("CREATE USER TABLE t (id INT PRIMARY KEY, d DECIMAL(9, 4), u UUID)")
    for sql in ("SELECT * FROM t", "SELECT * FROM t WHERE id = 1", "SELECT * FROM t ORDER BY d"):
        answer = s.execute(sql)
        assert (answer.columns, answer.rows()) == (["id", "d", "u"], [])
        assert [str(kind) for kind in answer.types] == ["INT", "DECIMAL(9, 4)", "UUID"]
    assert s.execute("SELECT count(*), max(d), sum(id) FROM t").rows() == [(0, None, None)]


def test_results_have_the_types_of_the_language(lab: Session) -> None:
    answer = lab.execute(
        "SELECT sum(seconds), sum(price), avg(id), count(*), sum(id * 1.5), id / 2, min(doc), "
        "max(added) FROM tracks GROUP BY id LIMIT 1"
    )
    assert [str(kind) for kind in answer.types] == [
        "BIGINT", "DECIMAL(38, 2)", "DOUBLE", "BIGINT", "DECIMAL(38, 1)", "INT", "JSON", "DATETIME",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("SELECT title, count(*) FROM tracks GROUP BY genre", "GROUPING",
         "Column 'title' must appear in GROUP BY or in an aggregate"),
        ("SELECT title, count(*) FROM tracks", "GROUPING",
         "Column 'title' must appear in GROUP BY or in an aggregate"),
        ("SELECT title FROM tracks t JOIN genres g ON true", "AMBIGUOUS",
         "Column 'title' is ambiguous: it is in t and g"),
        ("SELECT secnds FROM tracks", "NOT_FOUND",
         "Column 'secnds' not found; did you mean 'seconds'?"),
        ("SELECT xyzzy FROM tracks", "NOT_FOUND", "Column 'xyzzy' not found"),
        ("SELECT q.id FROM tracks t", "NOT_FOUND", "Table or alias 'q' is not in FROM"),
        ("SELECT title.id FROM tracks", "NOT_FOUND", "Table or alias 'title' is not in FROM"),
        ("SELECT wobble(1)", "NOT_FOUND", "Function 'wobble' not found"),
        ("SELECT * FROM trakcs", "NOT_FOUND",
         "Table 'studio.trakcs' not found; did you mean 'studio.tracks'?"),
        ("SELECT * FROM gone.tracks", "NOT_FOUND", None),
        ("SELECT * FROM system.planets", "NOT_FOUND", "Table 'system.planets' not found"),
        ("SELECT user_id FROM tracks", "NOT_FOUND", None),
        ("SELECT current_setting('x')", "NOT_ALLOWED", "Function 'current_setting' is not allowed"),
        ("SELECT getenv('HOME')", "NOT_ALLOWED", "Function 'getenv' is not allowed"),
        ("SELECT * FROM read_csv('/etc/passwd')", "NOT_ALLOWED",
         "Table function 'read_csv' is not allowed"),
        ("SELECT * FROM duckdb_tables()", "NOT_ALLOWED", None),
        ("SELECT * FROM glob('*')", "NOT_ALLOWED", "Table function 'glob' is not allowed"),
        ("SELECT * FROM '/etc/passwd'", None, "A quoted text is not a table name"),
        ("SELECT * FROM 'x.parquet'", None, "A quoted text is not a table name"),
        ('SELECT * FROM "x.parquet"', None, None),
        ("SELECT * FROM pg_catalog.pg_tables", None, None),
        ("SELECT * FROM query('SELECT 1')", "NOT_ALLOWED", None),
        ("SELECT 1 / 0", "DIVISION_BY_ZERO", "Division by zero"),
        ("SELECT 1 % 0", "DIVISION_BY_ZERO", "Division by zero"),
        ("SELECT CAST(70000 AS SMALLINT)", "OUT_OF_RANGE", None),
        ("SELECT 9223372036854775807 + 1", "OUT_OF_RANGE", None),
        ("SELECT CAST('ten' AS INT)", "TYPE_MISMATCH", "Cannot convert 'ten' to INT"),
        ("SELECT id FROM tracks WHERE id = 'ten'", "TYPE_MISMATCH", None),
        ("SELECT CAST(title AS INT) FROM tracks", "TYPE_MISMATCH",
         "Cannot cast TEXT to INT in column 'title'"),
        ("SELECT id FROM tracks FOR UPDATE", "NOT_SUPPORTED", "FOR UPDATE is not supported"),
        ("SELECT id INTO t FROM tracks", "NOT_SUPPORTED", None),
        ("SELECT * FROM tracks USING SAMPLE 1", "NOT_SUPPORTED", "SAMPLE is not supported"),
        ("SELECT * FROM tracks POSITIONAL JOIN genres", "NOT_SUPPORTED", None),
        ("PIVOT tracks ON genre", "NOT_SUPPORTED", "PIVOT is not supported"),
        ("SUMMARIZE tracks", "NOT_SUPPORTED", "SUMMARIZE is not supported"),
        ("EXPLAIN ANALYZE SELECT 1", "NOT_SUPPORTED", "EXPLAIN ANALYZE is not supported"),
        ("SELECT * FROM all_users('genres')", None,
         "all_users() works on USER and STREAM tables only"),
        ("SELECT * FROM all_users('system.users')", None,
         "all_users() works on USER and STREAM tables only"),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", "NOT_FOUND", None),
        ("SELECT id FROM tracks UNION SELECT id, title FROM tracks", None, None),
        ("SELECT id FROM tracks WHERE sum(id) > 1", None, None),
        ("SELECT (SELECT id FROM tracks)", None, None),
        ("SELECT max(id, ) FROM tracks", "SYNTAX", None),
        ("SELECT id FROM tracks WHERE", "SYNTAX", None),
        ("SELECT FROM tracks", "SYNTAX", None),
        ("SELECT id FROM tracks LIMIT -1", None, None),
        ("SELECT repeat('x', 100000000)", "LIMIT", None),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_answered_says_why(
    hot_lab: Session, refused: Any, sql: str, code: str | None, message: str | None
) -> None:
    error = refused(hot_lab, sql)
    assert code is None or error.code == code, str(error)
    assert message is None or str(error) == message
    if "passwd" not in sql:
        assert "/" not in str(error).replace("INT/", "")


def test_a_near_miss_of_a_function_is_told(s: Session, refused: Any) -> None:
    assert str(refused(s, "SELECT uper('x')")) == (
        "Function 'uper' not found; did you mean 'upper'?"
    )


def test_sums_beyond_bigint_say_what_to_do(s: Session, refused: Any) -> None:
    s.execute("CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (9223372036854775807), (1)")
    error = refused(s, "SELECT sum(n) FROM t")
    assert error.code == "OUT_OF_RANGE"
    assert "DECIMAL" in str(error)
    answer = s.execute("SELECT sum(CAST(n AS DECIMAL(38, 0))) FROM t").rows()
    assert answer == [(Decimal(2**63),)]


def test_now_stands_still_within_a_statement(studio: Any) -> None:
    s = studio.session()
    ((one, other, today, last),) = s.execute(
        "SELECT NOW(), CURRENT_TIMESTAMP, CURRENT_DATE, max(NOW()) FROM range(3)"
    ).rows()
    assert one == other == last
    assert one == datetime.fromtimestamp(studio.clock.now_us() / 1e6, UTC)
    assert today == one.date()


def test_an_all_users_reference_shows_whose_rows_they_are(s: Session, dora: Session) -> None:
    s.execute("CREATE USER TABLE notes (id INT PRIMARY KEY, t TEXT)")
    for user in ("mia", "tom"):
        s.execute(f"EXECUTE AS USER '{user}' (INSERT INTO notes VALUES (1, '{user}s'))")
    finished(s, "STORAGE FLUSH TABLE notes; INSERT INTO notes VALUES (2, 'roots')")
    answer = dora.execute("SELECT * FROM all_users('studio.notes') AS a ORDER BY a.user_id")
    assert answer.columns == ["user_id", "id", "t"]
    assert answer.rows() == [("mia", 1, "mias"), ("root", 2, "roots"), ("tom", 1, "toms")]
    assert dora.execute("SELECT * FROM notes").rows() == []
    counts = (
        "SELECT user_id, count(*) FROM all_users('notes') WHERE user_id > 'n' GROUP BY 1 ORDER BY 1"
    )
    assert dora.execute(counts).rows() == [("root", 1), ("tom", 1)]


def test_explain_describes_and_never_runs(lab: Session) -> None:
    answer = lab.execute(
        "EXPLAIN SELECT genre, count(*) FROM tracks WHERE id > 1 GROUP BY genre ORDER BY 2 LIMIT 3"
    )
    assert answer.columns == [
        "step", "depth", "operation", "target", "detail", "segments_kept", "segments_total",
        "estimated_rows",
    ]  # fmt: skip
    assert [row[0] for row in answer] == list(range(1, len(answer) + 1))
    assert answer.rows()[-1][2:4] == ("Scan", "studio.tracks")
    for sql in (
        "EXPLAIN INSERT INTO tracks (id) VALUES (9)",
        "EXPLAIN UPDATE tracks SET seconds = 1 / 0 WHERE true",
        "EXPLAIN DELETE FROM tracks WHERE id = 1",
        "EXPLAIN INSERT INTO tracks (id) SELECT id + 100 FROM tracks",
    ):
        assert lab.execute(sql).row_count >= 1
    assert lab.execute("SELECT count(*), sum(seconds) FROM tracks").rows() == [(4, 940)]


def test_explain_counts_segments_of_the_own_scope(s: Session, mia: Session) -> None:
    s.execute("CREATE USER TABLE t (id INT PRIMARY KEY)")
    for first in (0, 100):
        s.execute("INSERT INTO t SELECT range + ? FROM range(10)", [first])
        finished(s, "STORAGE FLUSH TABLE t")
    kept = s.execute("EXPLAIN SELECT * FROM t WHERE id > 50").rows()[-1][5:]
    assert kept == (1, 2, 10)
    assert mia.execute("EXPLAIN SELECT * FROM t WHERE id > 50").rows()[-1][5:] == (0, 0, 0)
