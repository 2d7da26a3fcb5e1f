"""Rows of the audit trail and what they tell of: both are there, or neither; in order; for good."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from audit_trail import TABLES, Trail, tried

import kalamdb_lab as kalam
from kalamdb_lab.catalog import keeper
from kalamdb_lab.engine import audit
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError, PermissionDeniedError, StorageError
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def root(studio: Any) -> Session:
    session = studio.session()
    session.execute(TABLES)
    return session


@pytest.fixture
def trail(root: Session, mia: Session) -> Trail:
    return Trail(root)


def test_a_change_that_cannot_be_noted_does_not_happen(
    root: Session, trail: Trail, studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = studio.database._context

    def full(*_: object) -> None:
        raise StorageError("The disk is full; nothing was changed")

    with monkeypatch.context() as patch:
        patch.setattr(context.audit, "append", full)
        for sql in (
            "CREATE NAMESPACE films",
            "ALTER USER 'mia' SET ROLE dba",
            "EXECUTE AS USER 'mia' (INSERT INTO notes VALUES (1, 'x'))",
            "INSERT INTO plans SELECT 1 FROM (SELECT count(*) FROM all_users('notes'))",
            "EXECUTE AS USER 'mia' (SELECT * FROM notes)",
            "SELECT * FROM all_users('notes')",
        ):
            assert str(tried(root, sql)) == "The disk is full; nothing was changed"
        root.execute("BEGIN")
        assert tried(root, "EXECUTE AS USER 'mia' (INSERT INTO notes VALUES (2, 'x'))") is not None
        assert tried(root, "INSERT INTO notes VALUES (3, 'x')") is None
        root.execute("COMMIT")
    assert root.execute("SELECT user_id, id FROM all_users('notes')").rows() == [("root", 3)]
    assert root.execute("SELECT count(*) FROM plans").rows() == [(0,)]
    assert tried(root, "USE films") is not None
    assert studio.session("mia").role.value == "user"


def test_a_refusal_stands_and_is_noted_later(
    mia: Session, root: Session, trail: Trail, studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = studio.database._context

    def full(*_: object) -> None:
        raise StorageError("The disk is full; nothing was changed")

    with monkeypatch.context() as patch:
        patch.setattr(context.audit, "append", full)
        assert isinstance(tried(mia, "SELECT * FROM plans"), PermissionDeniedError)
        assert tried(root, "CREATE NAMESPACE studio").code == "ALREADY_EXISTS"  # type: ignore[union-attr]
    assert trail.new() == []
    assert isinstance(tried(mia, "SHOW USERS"), PermissionDeniedError)
    assert trail.said() == [
        ("SELECT", "studio.plans", "refused"),
        ("CREATE_NAMESPACE", "studio", "failed"),
        ("SHOW_USERS", "*", "refused"),
    ]


def test_a_definition_and_its_row_are_one_commit(fresh: Any) -> None:
    """Nothing that reads the log can see the one without the other."""
    root, log = fresh.session(), fresh.database._context.log
    commits: list[int] = []
    with log.statement(staging=lambda commit: commits.append(len(commit.staged))):
        for sql in (
            "CREATE NAMESPACE films",
            "CREATE TABLE films.t AS SELECT * FROM range(10)",
            "CREATE USER 'mia' INTERNAL ROLE user",
            "DROP USER 'mia'",
        ):
            root.execute(sql)
        # The innermost block is asked; this one hears of what is committed outside of it.
        assert commits == []
        root.execute("DROP USER IF EXISTS 'mia'")
        assert len(commits) == 1


def test_what_a_restore_makes_and_its_row_are_one_commit(fresh: Any) -> None:
    """Though a job makes it, in another thread: the row is there before the job is done."""
    root = fresh.session()
    root.execute("CREATE TABLE t (id INT); BACKUP DATABASE studio TO 'b'")
    root.execute("DROP NAMESPACE studio CASCADE; RESTORE DATABASE studio FROM 'b'")
    noted = "SELECT _seq FROM system.audit_logs WHERE action = 'RESTORE' AND outcome = 'ok'"
    ((noted_seq,),) = root.execute(noted).rows()
    made = "SELECT _seq FROM system.namespaces WHERE namespace_id = 'studio'"
    ((made_seq,),) = root.execute(made).rows()
    ended = "SELECT _seq FROM system.jobs WHERE job_type = 'restore'"
    ((ended_seq,),) = root.execute(ended).rows()
    assert made_seq < noted_seq < ended_seq


def test_it_survives_flush_restart_and_dml(fresh: Any, refused: Any) -> None:
    root = fresh.session()
    finished(root, "CREATE TABLE t (id INT); STORAGE FLUSH ALL; STORAGE COMPACT ALL")
    before = [(row.audit_id, *row.said) for row in Trail(root).all()]
    for sql in (
        "DELETE FROM system.audit_logs WHERE true",
        "UPDATE system.audit_logs SET outcome = 'ok' WHERE true",
        "INSERT INTO system.audit_log SELECT * FROM system.audit_logs",
    ):
        assert str(refused(root, sql)) == "System table system.audit_logs is read-only"
    fresh.database.close()
    with kalam.open(fresh.database.path, clock=fresh.clock) as db:
        rows = [(row.audit_id, *row.said) for row in Trail(db.session()).all()]
        assert rows[: len(before)] == before
        assert [said for _, *said in before][:2] == [
            ["LOGIN", "root", "ok"],
            ["CREATE_NAMESPACE", "studio", "ok"],
        ]


def test_rows_of_one_moment_stay_in_order_over_processes(fresh: Any, opener: Any) -> None:
    other = opener(Path(fresh.database.path), fresh.clock)
    one, two = fresh.session(), other.session()
    names = []
    for number in range(20):
        names.append(f"n{number}")
        (one, two)[number % 2].execute(f"CREATE NAMESPACE n{number}")
    other.database.close()
    rows = Trail(one).all()
    assert [row.target for row in rows if row.action == "CREATE_NAMESPACE"][1:] == names
    assert len({row.timestamp for row in rows}) == 1
    assert sorted(row.audit_id for row in rows) == [row.audit_id for row in rows]
    fresh.clock.advance(1)
    one.execute("DROP NAMESPACE n1")
    assert Trail(one).all()[-1].action == "DROP_NAMESPACE"


def test_the_system_tables_do_not_grow_hot_for_ever(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_ROWS_KEPT_HOT", 10)
    monkeypatch.setattr(keeper, "_MOST_ENTRIES", 5)
    root = fresh.session()
    for _ in range(35):
        fresh.clock.advance(1)
        fresh.database.session()
    for table in ("audit_logs", "users"):
        assert root.execute(f"SHOW MANIFEST FOR TABLE system.{table}").row_count >= 3
    assert len([row for row in Trail(root).all() if row.action == "LOGIN"]) == 37


# --- the context --------------------------------------------------------------------------------


def test_a_row_tells_where_the_statement_came_from(fresh: Any) -> None:
    root = fresh.session()
    trail = Trail(root)
    other = fresh.database.session(namespace="studio", origin="notebook")
    other.execute("CREATE TABLE a (id INT); USE default; CREATE TABLE b (id INT)")
    rows = trail.new()
    assert [row.details["origin"] for row in rows] == ["notebook"] * 3
    assert [row.details["namespace"] for row in rows] == ["studio", "studio", "default"]
    session_ids, numbers = zip(*(row.details["request_id"].split("-") for row in rows), strict=True)
    assert set(session_ids) == {other.session_id}
    assert [int(number) for number in numbers] == sorted({int(number) for number in numbers})
    fresh.clock.advance(5)
    other.execute("DROP TABLE b")
    assert trail.new()[0].timestamp.timestamp() * 1e6 == fresh.clock.now_us()


def test_opening_a_session_is_noted(fresh: Any) -> None:
    root = fresh.session()
    root.execute("CREATE USER 'mia' INTERNAL ROLE user")
    trail = Trail(root)
    fresh.session("mia")
    for user, namespace in (("mia", "system"), ("mia", "gone"), ("nobody", "studio")):
        with pytest.raises(KalamError):
            fresh.session(user, namespace)
    root.execute("DROP USER 'mia'")
    with pytest.raises(KalamError):
        fresh.session("mia")
    assert [(*row.said, row.details.get("error")) for row in trail.new()] == [
        ("LOGIN", "mia", "ok", None),
        ("LOGIN", "mia", "refused", "PERMISSION_DENIED"),
        ("LOGIN", "mia", "failed", "NOT_FOUND"),
        ("LOGIN", "nobody", "failed", "NOT_FOUND"),
        ("DROP_USER", "mia", "ok", None),
        ("LOGIN", "mia", "failed", "USER_DROPPED"),
    ]


_HOLDER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()
"""


def test_a_session_opens_while_nothing_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with kalam.open(path) as db:
        db.session().execute("CREATE TABLE t (id INT)")
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path / "catalog.sqlite")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with kalam.open(path) as db:
        started = time.perf_counter()
        session = db.session()
        assert session.execute("SELECT count(*) FROM t").rows() == [(0,)]
        assert time.perf_counter() - started < 8, "the busy timeout is 10 s"
        before = len(Trail(session).all())
        holder.stdin.close()
        holder.wait()
        session.execute("CREATE NAMESPACE films")
        with pytest.raises(KalamError):
            session.execute("CREATE NAMESPACE films")
        assert [row.action for row in Trail(session).all()][before:] == [
            "LOGIN",
            "CREATE_NAMESPACE",
            "CREATE_NAMESPACE",
        ]
