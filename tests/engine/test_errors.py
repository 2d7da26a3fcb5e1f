"""What every error keeps: a stable code, its place, one sentence without anybody's values."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest

from kalamdb_lab import errors
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError
from kalamdb_lab.testing.jobs import finished

SECRET = "zyxwv-8412-secret"


@pytest.mark.parametrize(
    ("sql", "line", "column", "message"),
    [
        ("SELCT 1", 1, 1, "Syntax error near 'SELCT' (line 1, column 1)"),
        ("SELECT 1;\n\n  SELCT 1", 3, 3, "Syntax error near 'SELCT' (line 3, column 3)"),
        ("STORAGE FLUSH TABLE", None, None,
         "Syntax error: expected a table name after STORAGE FLUSH TABLE"),
        ("SELECT 'abc", None, None, "Syntax error: unterminated string"),
        ("SELECT (1 + 2", None, None, "Syntax error: expected )"),
        ("CREATE TABLE t (a INT", None, None, "Syntax error: expected )"),
        ("SUBSCRIBE TO t", None, None, "SUBSCRIBE is not supported here; use session.subscribe"),
        ("DROP", None, None, None),
        ("SHOW PLANETS", None, None, None),
        ("SELECT 1 2", None, None, None),
        ('SELECT "abc', None, None, None),
        ("SELECT 1 /* open", None, None, None),
        ("ALTER TABLE t FROB", None, None, None),
        ("EXECUTE AS USER 'x' SELECT 1", None, None, None),
    ],
)  # fmt: skip
def test_a_syntax_error_has_its_place(
    s: Session, refused: Any, sql: str, line: int | None, column: int | None, message: str | None
) -> None:
    error = refused(s, sql)
    assert error.code in ("SYNTAX", "NOT_SUPPORTED")
    assert message is None or str(error) == message
    assert line is None or (error.line, error.column) == (line, column)


def test_a_refusal_is_placed_at_its_statement(s: Session, refused: Any) -> None:
    error = refused(s, "SELECT 1;\nSELECT 2; SELECT *\nFROM gone")
    assert (error.statement_number, error.line, error.column) == (3, 2, 11)


@pytest.mark.parametrize("state", ["hot", "flushed"])
def test_no_stored_value_is_quoted(s: Session, mia: Session, refused: Any, state: str) -> None:
    """Values of rows stay out of messages, the own ones too; the text of the statement may come."""
    s.execute("CREATE USER TABLE t (id INT PRIMARY KEY, v TEXT, d DOUBLE, j JSON)")
    mia.execute("INSERT INTO t VALUES (1, ?, 1e308, ?)", [SECRET, f'{{"a": "{SECRET}"}}'])
    if state == "flushed":
        finished(s, "STORAGE FLUSH TABLE t")
    for sql in (
        "SELECT CAST(v AS INT) FROM t",
        "SELECT v::DATE FROM t",
        "SELECT CAST(v AS UUID) FROM t",
        "SELECT CAST(v AS DECIMAL(5, 2)) FROM t",
        "SELECT CAST(v AS TIMESTAMP) FROM t",
        "SELECT CAST(v AS BOOLEAN) FROM t",
        "SELECT CAST(j ->> 'a' AS INT) FROM t",
        "SELECT CAST(d AS INT) FROM t",
        "SELECT d * 10 + CAST(v || 'x' AS INT) FROM t",
        "SELECT id FROM t WHERE CAST(v AS INT) = 1",
        "SELECT regexp_matches('x', v || '(') FROM t",
        "UPDATE t SET id = 1 WHERE CAST(v AS INT) = 1",
        "UPDATE t SET d = CAST(v AS DOUBLE) WHERE true",
        "DELETE FROM t WHERE CAST(v AS DATE) = '2031-01-01'",
        "INSERT INTO t (id, d) SELECT 2, CAST(v AS DOUBLE) FROM t",
        "INSERT INTO t (id) SELECT v FROM t",
        "SELECT v, count(*) FROM t",
        "SELECT strptime(v, '%Y') FROM t",
        "SELECT date_trunc(v, NOW()) FROM t",
        "SELECT json_extract(v, '$.a') FROM t",
    ):
        error = refused(mia, sql)
        assert "zyxwv" not in str(error), sql
        assert "8412" not in str(error), sql


def test_literals_of_the_statement_are_quoted_up_to_forty_characters(
    s: Session, refused: Any
) -> None:
    assert "'ten'" in str(refused(s, "SELECT CAST('ten' AS INT)"))
    long = "t" * 60
    assert "t" * 41 not in str(refused(s, f"SELECT CAST('{long}' AS INT)"))
    assert "t" * 41 not in str(refused(s, "SELECT CAST(? AS INT)", [long]))


def test_no_path_of_the_directory_is_shown(s: Session, studio: Any, refused: Any) -> None:
    path = str(studio.database.path)
    for sql in (
        "SELECT * FROM read_parquet('x')",
        "SELECT * FROM gone",
        "SELECT CAST('a' AS INT)",
        "COPY t TO 'x'",
        "ATTACH 'x' AS y",
    ):
        assert path not in str(refused(s, sql))
        assert "/tmp" not in str(refused(s, sql))


def test_a_name_that_is_hidden_is_not_offered(s: Session, mia: Session, refused: Any) -> None:
    s.execute("CREATE TABLE t (id INT)")
    for sql in (
        "SELECT __kalam_password_hash FROM system.users",
        "SELECT password_hash FROM system.users",
    ):
        error = refused(s, sql)
        assert error.code == "NOT_FOUND"
        assert "did you mean" not in str(error)
    assert "did you mean" not in str(refused(mia, "SELECT * FROM sytem.users"))


def test_every_code_is_spelled_once_and_every_class_can_be_copied() -> None:
    classes = [
        item
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, KalamError)
    ]
    own = [item for item in classes if "code" in vars(item) and item is not KalamError]
    assert len({item.code for item in own}) == len(own)
    for item in classes:
        try:
            made = item("Something is wrong")
        except TypeError:
            continue
        for other in (copy.copy(made), pickle.loads(pickle.dumps(made))):
            assert (type(other), str(other), other.code) == (item, str(made), made.code)
    for made in (
        errors.NotFoundError("Table", "a.b", within="c", nearby=["a.c"]),
        errors.AlreadyExistsError("Column", "a", within="t"),
    ):
        assert str(pickle.loads(pickle.dumps(made))) == str(made)


def test_errors_are_also_what_python_programs_expect(s: Session) -> None:
    for sql, kind in [
        ("SELECT 1 / 0", ZeroDivisionError),
        ("SELECT * FROM gone", LookupError),
        ("SELECT CAST('ten' AS INT)", TypeError),
    ]:
        with pytest.raises(kind):
            s.execute(sql)


def test_an_interrupted_statement_says_so_and_changes_nothing(s: Session) -> None:
    s.execute("CREATE TABLE t (id BIGINT)")
    slow = "INSERT INTO t SELECT count(*) FROM range(100000) a, range(100000) b WHERE a.range <> b.range"
    timer = threading.Timer(0.3, s.interrupt)
    timer.start()
    with pytest.raises(KalamError, match="^Interrupted; nothing was changed$") as caught:
        s.execute(slow)
    timer.join()
    assert caught.value.code == "INTERRUPTED"
    assert s.execute("SELECT * FROM t").rows() == []


def test_closed_sessions_and_databases_say_so(fresh: Any) -> None:
    session = fresh.session()
    session.close()
    with pytest.raises(KalamError, match="^The session was closed$"):
        session.execute("SELECT 1")
    other = fresh.session()
    fresh.database.close()
    for call in (lambda: other.execute("SELECT 1"), fresh.session):
        with pytest.raises(KalamError) as caught:
            call()
        assert caught.value.code == "CLOSED"
