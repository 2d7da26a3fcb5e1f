"""Section 14 of the language: every code is raised, and every error is one short sentence."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kalamdb_lab as kalam
from kalamdb_lab import errors
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import MESSAGE_LIMIT, KalamError
from kalamdb_lab.query.duck import EngineError
from kalamdb_lab.query.engine_errors import StatementNames, translated
from kalamdb_lab.testing.jobs import finished

# --- every code -----------------------------------------------------------------------------------

SETUP = """CREATE TABLE t (id INT PRIMARY KEY, title TEXT NOT NULL, seconds SMALLINT, e EMBEDDING(2),
d DATE) WITH (ACCESS_LEVEL = 'PUBLIC'); INSERT INTO t (id, title) VALUES (1, 'Dawn'), (2, 'Hill');
CREATE TABLE closed (id INT); CREATE NAMESPACE full; CREATE TABLE full.plays (id INT);
CREATE STORAGE vault TYPE filesystem PATH 'vault';
CREATE TABLE kept (id INT) WITH (STORAGE_ID = 'vault')"""

BY_TEXT: dict[str, tuple[str, str]] = {
    "SYNTAX": ("SELCT 1", "Syntax error near 'SELCT' (line 1, column 1)"),
    "EMPTY_STATEMENT": (" ; -- nothing", "Empty statement: there is no SQL to run"),
    "TOO_LARGE": ("SELECT " + "(" * 101 + "1" + ")" * 101, "The statement nests deeper than 100"),
    "NOT_SUPPORTED": ("GRANT ALL ON t TO mia", "GRANT is not supported"),
    "NOT_ALLOWED": ("SELECT current_setting('x')", "Function 'current_setting' is not allowed"),
    "NOT_FOUND": ("SELECT * FROM gone", "Table 'studio.gone' not found"),
    "ALREADY_EXISTS": ("CREATE TABLE t (id INT)", "Table 'studio.t' already exists"),
    "INVALID_NAME": ("CREATE NAMESPACE sys", "Namespace 'sys' is reserved"),
    "INVALID_OPTION": ("CREATE TABLE u (a INT) WITH (COLOUR = 'x')",
                       "Unknown table option 'COLOUR'"),
    "INVALID_DEFINITION": ("CREATE TABLE u (a INT, A INT)", "Column 'A' appears twice"),
    "TYPE_MISMATCH": ("SELECT CAST('ten' AS INT)", "Cannot convert 'ten' to INT"),
    "OUT_OF_RANGE": ("UPDATE t SET seconds = 40000 WHERE id = 1",
                     "Column 'seconds': value is out of range for SMALLINT"),
    "INVALID_VALUE": ("UPDATE t SET d = '2031-04-31' WHERE id = 1",
                      "Column 'd': invalid DATE '2031-04-31'"),
    "DIMENSION_MISMATCH": ("UPDATE t SET e = [1] WHERE id = 1",
                           "Column 'e' expects 2 dimensions, got 1"),
    "DIVISION_BY_ZERO": ("SELECT 1 / 0", "Division by zero"),
    "NOT_NULL": ("INSERT INTO t (id) VALUES (3)", "Column 'title' of studio.t cannot be NULL"),
    "DUPLICATE_KEY": ("INSERT INTO t (id, title) VALUES (1, 'x')",
                      "Duplicate primary key: studio.t already has id = 1"),
    "MISSING_WHERE": ("DELETE FROM t", "DELETE needs a WHERE clause; use WHERE true for all rows"),
    "READ_ONLY": ("DELETE FROM system.users WHERE true", "System table system.users is read-only"),
    "AMBIGUOUS": ("SELECT id FROM t a JOIN t b ON true",
                  "Column 'id' is ambiguous: it is in a and b"),
    "GROUPING": ("SELECT title, count(*) FROM t",
                 "Column 'title' must appear in GROUP BY or in an aggregate"),
    "PARAMETERS": ("SELECT ?", "Expected 1 parameter, got 0"),
    "TRANSACTION_STATE": ("COMMIT", "There is no active transaction"),
    "IN_USE": ("DROP STORAGE vault", "Storage 'vault' is in use by table studio.kept"),
    "NOT_EMPTY": ("DROP NAMESPACE full",
                  "Namespace 'full' is not empty (1 table: plays); use CASCADE to drop them"),
    "LIMIT": ("SELECT repeat('x', 200000000)", "A value exceeds the limit of 64 MiB"),
}  # fmt: skip


def permission_denied(fresh: Any) -> None:
    fresh.session("mia").execute("SELECT * FROM closed")


def conflict(fresh: Any) -> None:
    first, second = fresh.session(), fresh.session()
    for session in (first, second):
        session.execute("BEGIN; UPDATE t SET seconds = 1 WHERE id = 1")
    first.execute("COMMIT")
    second.execute("COMMIT")


def busy(fresh: Any) -> None:
    path = Path(fresh.database.path)
    fresh.database.close()
    settings = path / "kalam.toml"
    settings.write_text(settings.read_text() + "busy_timeout_s = 0.01\n")
    fresh.database = kalam.open(path, clock=fresh.clock)
    other = kalam.open(path, clock=fresh.clock)
    with fresh.database._context.log.changing():
        context = type(fresh)(other, fresh.clock)
        try:
            context.session().execute("UPDATE t SET seconds = 1 WHERE id = 1")
        finally:
            other.close()


def job_running(fresh: Any) -> None:
    fresh.database.jobs.pause()
    fresh.session().execute("STORAGE FLUSH TABLE t")
    fresh.session().execute("STORAGE FLUSH TABLE t")


def job_state(fresh: Any) -> None:
    s = fresh.session()
    ((job_id, *_),) = finished(s, "STORAGE FLUSH TABLE t").rows()
    s.execute(f"KILL JOB '{job_id}'")


def user_dropped(fresh: Any) -> None:
    mia = fresh.session("mia")
    fresh.session().execute("DROP USER 'mia'")
    mia.execute("SELECT 1")


def login_failed(fresh: Any) -> None:
    fresh.session().execute("CREATE USER 'eve' WITH PASSWORD 'long enough' ROLE user")
    fresh.session().execute("ALTER USER 'root' SET PASSWORD 'long enough too'")
    path = fresh.database.path
    fresh.database.close()
    fresh.database = kalam.open(path, clock=fresh.clock, user="eve", password="not this one")


def interrupted(fresh: Any) -> None:
    import threading

    s = fresh.session()
    timer = threading.Timer(0.2, s.interrupt)
    timer.start()
    try:
        s.execute("SELECT count(*) FROM range(10000000) a, range(10000000) b")
    finally:
        timer.join()


def storage(fresh: Any) -> None:
    s = fresh.session()
    finished(s, "INSERT INTO kept VALUES (1); STORAGE FLUSH TABLE kept")
    path = Path(fresh.database.path)
    fresh.database.close()
    shutil.rmtree(path / "vault")
    fresh.database = kalam.open(path, clock=fresh.clock)
    fresh.session().execute("SELECT id FROM kept WHERE id > 0")


def corrupt(fresh: Any) -> None:
    finished(fresh.session(), "STORAGE FLUSH TABLE t")
    path = Path(fresh.database.path)
    fresh.database.close()
    (segment,) = path.rglob("t/*.parquet")
    segment.write_bytes(segment.read_bytes()[:-9])
    fresh.database = kalam.open(path, clock=fresh.clock)
    fresh.session().execute("SELECT id FROM t WHERE id > 0")


def closed(fresh: Any) -> None:
    s = fresh.session()
    s.close()
    s.execute("SELECT 1")


def internal(_: Any) -> None:
    """A fault of ours cannot be had by SQL: this is what one of the engine would become."""
    raise translated(EngineError("Internal", "secret"), StatementNames({}, {}, frozenset()))


BY_DEED: dict[str, tuple[Callable[[Any], None], str]] = {
    "PERMISSION_DENIED": (permission_denied,
                          "Permission denied: role 'user' may not read studio.closed"),
    "CONFLICT": (conflict, "Conflict: studio.t id = 1 was changed since this transaction began; "
                           "run it again"),
    "BUSY": (busy, "The database is busy; try again"),
    "JOB_RUNNING": (job_running, r"Job already running: FL-\w+ \(status: Queued, created: \d+\)"),
    "JOB_STATE": (job_state, r"Job 'FL-\w+' is already completed and cannot be cancelled"),
    "USER_DROPPED": (user_dropped, "User 'mia' was dropped"),
    "LOGIN_FAILED": (login_failed, "Wrong user or password"),
    "INTERRUPTED": (interrupted, "Interrupted; nothing was changed"),
    "STORAGE": (storage, "Storage 'vault' is unreachable"),
    "CORRUPT": (corrupt, "A segment of studio.t is damaged.*"),
    "CLOSED": (closed, "The session was closed"),
    "INTERNAL": (internal, "Internal error [0-9a-f]{8}; the log has the details"),
}  # fmt: skip


def test_the_codes_of_errors_are_those_that_are_raised_here() -> None:
    codes = {
        item.code
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, KalamError)
    }
    assert codes == BY_TEXT.keys() | BY_DEED.keys()
    assert not BY_TEXT.keys() & BY_DEED.keys()


def test_each_code_is_raised_by_a_text(s: Session, refused: Any) -> None:
    s.execute(SETUP)
    for code, (sql, message) in BY_TEXT.items():
        error = refused(s, sql)
        assert (error.code, str(error), error.statement_number) == (code, message, 1)
    s.execute("DROP TABLE kept; DROP STORAGE vault")


@pytest.mark.parametrize("code", BY_DEED)
def test_each_code_is_raised_by_what_happens(fresh: Any, code: str) -> None:
    deed, message = BY_DEED[code]
    fresh.session().execute(f"{SETUP}; CREATE USER 'mia' INTERNAL ROLE user")
    with pytest.raises(KalamError) as caught:
        deed(fresh)
    assert caught.value.code == code
    assert re.fullmatch(message, str(caught.value)), str(caught.value)


# --- hostile names --------------------------------------------------------------------------------

LONG = "x" * 3_000
NAMED = [
    'SELECT "{0}" FROM t', 'SELECT "{0}"."{0}" FROM t', 'SELECT * FROM "{0}"',
    'SELECT * FROM "{0}"."{0}"', 'SELECT "{0}"(1)', 'SELECT * FROM t "{0}", t "{0}"',
    'SELECT id FROM t AS "{0}", t AS b', 'WITH "{0}" AS (SELECT 1), "{0}" AS (SELECT 2) SELECT 1',
    'SELECT "{0}", count(*) FROM (SELECT 1 AS "{0}")', 'SELECT * EXCLUDE ("{0}") FROM t',
    'SELECT * FROM t a JOIN t b USING ("{0}")', "SELECT * FROM all_users('{0}')",
    "SELECT CAST('{0}' AS INT)", "SELECT DATE '{0}'", "SELECT date_part('{0}', NOW())",
    "SELECT {{'a': 1}}.\"{0}\"", "SELECT upper({{'{0}': 1}})", "SELECT CAST({{'{0}': 1}} AS INT)",
    "SELECT list_aggregate([1], '{0}')", 'INSERT INTO t ("{0}") VALUES (1)',
    'INSERT INTO "{0}" VALUES (1)', 'INSERT INTO t (id) VALUES ("{0}")',
    'INSERT INTO t (id, title) VALUES (9, 1) RETURNING "{0}"',
    'INSERT INTO t (id) VALUES (1) ON CONFLICT ("{0}") DO NOTHING',
    'UPDATE t SET "{0}" = 1 WHERE true', 'UPDATE t SET title = "{0}" WHERE true',
    'DELETE FROM t WHERE "{0}" = 1', 'CREATE TABLE "{0}" (a INT)', 'CREATE TABLE u ("{0}" INT)',
    'CREATE TABLE u (a INT, PRIMARY KEY ("{0}"))', "CREATE TABLE u (a INT) WITH (TYPE = '{0}')",
    "CREATE TABLE u (a INT) WITH (STORAGE_ID = '{0}')",
    "CREATE TABLE u (a INT) WITH (FLUSH_POLICY = '{0}')", 'CREATE VIEW "{0}" AS SELECT 1',
    'CREATE VIEW v AS SELECT "{0}" FROM t', 'DROP TABLE "{0}"', 'USE "{0}"',
    'ALTER TABLE t DROP COLUMN "{0}"', 'ALTER TABLE t RENAME COLUMN "{0}" TO b',
    "CREATE USER '{0}' INTERNAL ROLE user", "CREATE USER 'u' INTERNAL ROLE '{0}'",
    "DROP USER '{0}'", "EXECUTE AS USER '{0}' (SELECT 1)", "KILL JOB '{0}'",
    "KILL LIVE QUERY '{0}'", "RESTORE DATABASE n FROM '{0}'",
    "CREATE STORAGE n TYPE filesystem PATH 'x' USER_TABLES_TEMPLATE '{0}'",
    'DESCRIBE "{0}"',
    'STORAGE FLUSH TABLE "{0}"', 'EXPLAIN SELECT "{0}" FROM t', "{0}", "SELECT {0}(1)",
]  # fmt: skip


@pytest.mark.parametrize("name", [LONG, "a\nb", "a\r\n\tb\x85"], ids=["long", "lines", "controls"])
def test_a_hostile_name_makes_no_long_or_broken_message(
    s: Session, refused: Any, name: str
) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, title TEXT)")
    for form in NAMED:
        error = refused(s, form.format(name))
        text = str(error)
        assert len(text) < MESSAGE_LIMIT == 700
        assert text == error.message
        assert text.isprintable(), form


def test_a_namespace_of_many_tables_names_the_first(s: Session, refused: Any) -> None:
    s.execute("CREATE NAMESPACE full")
    s.execute("; ".join(f"CREATE TABLE full.{'n' * 60}{number:02} (a INT)" for number in range(20)))
    text = str(refused(s, "DROP NAMESPACE full"))
    assert text.startswith("Namespace 'full' is not empty (20 tables: nn")
    assert text.endswith("07 and 12 more); use CASCADE to drop them")


def test_a_message_that_is_too_long_is_cut_in_its_middle() -> None:
    error = errors.NotFoundError("Table", "x" * 5_000, nearby=["studio.t"])
    assert str(error).startswith("Table 'xxx")
    assert str(error).endswith("xxx' not found; did you mean 'studio.t'?")
    assert len(str(error)) < MESSAGE_LIMIT
    error.message = "one\ntwo\x00three"
    assert str(error) == "one two three"
