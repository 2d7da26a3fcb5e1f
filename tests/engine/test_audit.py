"""The audit trail: who did what, done or refused, and never a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audit_trail import TABLES, Trail, tried

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError, PermissionDeniedError
from kalamdb_lab.sql.queries import parse_query


@pytest.fixture
def root(studio: Any) -> Session:
    session = studio.session()
    session.execute(TABLES)
    return session


@pytest.fixture
def trail(root: Session, studio: Any) -> Iterator[Trail]:
    for user in ("mia", "dora", "sven"):
        studio.session(user)
    yield Trail(root)
    for user, *_, deleted_at in root.execute("SHOW USERS").rows():
        if user in ("eve", "ben") and deleted_at is None:
            root.execute(f"DROP USER '{user}'")


# --- changes ------------------------------------------------------------------------------------

CHANGES = [
    ("CREATE NAMESPACE films", "CREATE_NAMESPACE", "films"),
    ("CREATE NAMESPACE IF NOT EXISTS studio", "CREATE_NAMESPACE", "studio"),
    ("ALTER NAMESPACE studio SET DESCRIPTION 'x'", "ALTER_NAMESPACE", "studio"),
    ("DROP NAMESPACE IF EXISTS gone", "DROP_NAMESPACE", "gone"),
    ("CREATE TABLE t (id INT)", "CREATE_TABLE", "studio.t"),
    ("CREATE TABLE Studio.T AS SELECT TRUE AS a", "CREATE_TABLE", "studio.t"),
    ("ALTER TABLE notes ADD COLUMN n INT", "ALTER_TABLE", "studio.notes"),
    ("ALTER TABLE plans SET ACCESS LEVEL public", "ALTER_TABLE", "studio.plans"),
    ("DROP TABLE notes", "DROP_TABLE", "studio.notes"),
    ("CREATE VIEW v AS SELECT 1 AS a", "CREATE_VIEW", "studio.v"),
    ("DROP VIEW IF EXISTS v", "DROP_VIEW", "studio.v"),
    ("ALTER USER 'mia' SET ROLE user", "ALTER_USER", "mia"),
    ("DROP USER IF EXISTS 'nobody'", "DROP_USER", "nobody"),
    ("STORAGE FLUSH TABLE notes", "STORAGE_FLUSH", "studio.notes"),
    ("FLUSH ALL TABLES IN studio", "STORAGE_FLUSH", "studio"),
    ("STORAGE FLUSH ALL", "STORAGE_FLUSH", "*"),
    ("OPTIMIZE TABLE plans", "STORAGE_COMPACT", "studio.plans"),
    ("STORAGE COMPACT ALL IN studio", "STORAGE_COMPACT", "studio"),
    ("ANALYZE TABLE plans", "ANALYZE", "studio.plans"),
    ("VACUUM plans", "VACUUM", "studio.plans"),
    ("STORAGE CHECK local", "STORAGE_CHECK", "local"),
]


@pytest.mark.parametrize(("sql", "action", "target"), CHANGES, ids=[sql for sql, *_ in CHANGES])
def test_each_change_leaves_one_row(
    root: Session, trail: Trail, sql: str, action: str, target: str
) -> None:
    root.execute(sql)
    (row,) = trail.new()
    assert row.said == (action, target, "ok")
    assert row.actor == "root"
    assert row.details["statement"] == sql
    assert (row.subject == target) == action.endswith("_USER")


def test_users_are_subjects_of_what_is_done_to_them(root: Session, trail: Trail) -> None:
    root.execute("CREATE USER 'eve' INTERNAL ROLE user; ALTER USER 'eve' SET ROLE service")
    root.execute("DROP USER 'eve'")
    assert [(*row.said, row.subject) for row in trail.new()] == [
        ("CREATE_USER", "eve", "ok", "eve"),
        ("ALTER_USER", "eve", "ok", "eve"),
        ("DROP_USER", "eve", "ok", "eve"),
    ]
    root.execute("CREATE USER 'ben' INTERNAL ROLE user; ALTER USER 'ben' SET ROLE dba")
    assert [row.details.get("to") for row in trail.new()] == [None, "dba"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM notes",
        "SELECT * FROM system.users",
        "INSERT INTO notes VALUES (9, 'x')",
        "UPDATE notes SET body = 'y' WHERE id = 9",
        "DELETE FROM notes WHERE true",
        "SHOW TABLES",
        "SHOW USERS",
        "DESCRIBE notes",
        "EXPLAIN SELECT * FROM notes",
        "USE studio",
        "BEGIN; INSERT INTO notes VALUES (8, 'x'); COMMIT",
        "SELECT 1 FROM gone",
        "INSERT INTO notes VALUES (NULL, 'x')",
    ],
)
def test_reading_and_ordinary_writing_leave_none(root: Session, trail: Trail, sql: str) -> None:
    tried(root, sql)
    assert trail.new() == []


@pytest.mark.parametrize(
    ("sql", "action", "code"),
    [
        ("CREATE NAMESPACE studio", "CREATE_NAMESPACE", "ALREADY_EXISTS"),
        ("DROP TABLE gone", "DROP_TABLE", "NOT_FOUND"),
        ("CREATE USER 'mia' INTERNAL ROLE user", "CREATE_USER", "ALREADY_EXISTS"),
        ("ALTER TABLE notes ADD COLUMN body TEXT", "ALTER_TABLE", "ALREADY_EXISTS"),
        ("STORAGE FLUSH TABLE gone", "STORAGE_FLUSH", "NOT_FOUND"),
        ("EXECUTE AS USER 'mia' (SELECT 1 / 0 FROM gone)", "EXECUTE_AS", "NOT_FOUND"),
        ("SELECT 1 // 0 FROM all_users('notes')", "ALL_USERS", None),
    ],
)
def test_a_failure_is_noted_by_its_code(
    root: Session, trail: Trail, sql: str, action: str, code: str | None
) -> None:
    root.execute("INSERT INTO notes VALUES (1, 'a')")
    error = tried(root, sql)
    assert error is not None
    (row,) = trail.new()
    assert (row.action, row.outcome) == (action, "failed")
    assert row.details["error"] == error.code == (code or error.code)


# --- refusals -----------------------------------------------------------------------------------

REFUSALS = [
    ("SELECT * FROM plans", "SELECT", "studio.plans"),
    ("SELECT n.id FROM notes n JOIN plans p ON p.id = n.id", "SELECT", "studio.plans"),
    ("SELECT * FROM gone, System.Users", "SELECT", "system.users"),
    ("SELECT * FROM all_users('notes')", "SELECT", "studio.notes"),
    ("INSERT INTO plans VALUES (1)", "INSERT", "studio.plans"),
    ("INSERT INTO notes SELECT id, 'x' FROM plans", "INSERT", "studio.plans"),
    ("UPDATE genres SET code = 'x' WHERE true", "UPDATE", "studio.genres"),
    ("DELETE FROM system.users WHERE true", "DELETE", "system.users"),
    ("EXPLAIN SELECT * FROM plans", "EXPLAIN", "studio.plans"),
    ("USE system", "USE", "system"),
    ("DESCRIBE system.users", "DESCRIBE", "system.users"),
    ("SHOW TABLES IN system", "SHOW_TABLES", "system"),
    ("SHOW USERS", "SHOW_USERS", "*"),
    ("DROP TABLE gone", "DROP_TABLE", "studio.gone"),
    ("CREATE NAMESPACE films", "CREATE_NAMESPACE", "films"),
    ("DROP USER 'dora'", "DROP_USER", "dora"),
    ("STORAGE FLUSH ALL", "STORAGE_FLUSH", "*"),
    ("EXECUTE AS USER 'dora' (SELECT 1)", "EXECUTE_AS", "dora"),
]


@pytest.mark.parametrize(("sql", "action", "target"), REFUSALS, ids=[sql for sql, *_ in REFUSALS])
def test_each_refusal_leaves_one_row(
    mia: Session, trail: Trail, sql: str, action: str, target: str
) -> None:
    error = tried(mia, sql)
    assert isinstance(error, PermissionDeniedError)
    (row,) = trail.new()
    assert (*row.said, row.actor) == (action, target, "refused", "mia")
    assert row.details["error"] == "PERMISSION_DENIED"
    assert row.details["role"] == "user"


def test_a_copy_of_the_whole_database_is_noted(fresh: Any, tmp_path: Path) -> None:
    root = fresh.session()
    root.execute("CREATE USER 'mia' INTERNAL ROLE user")
    trail = Trail(root)
    fresh.database.backup(tmp_path / "copy")
    with pytest.raises(KalamError):
        fresh.database.backup(tmp_path / "copy")
    with (
        kalam.open(fresh.database.path, user="mia", clock=fresh.clock) as mias,
        pytest.raises(PermissionDeniedError),
    ):
        mias.backup(tmp_path / "mias")
    assert [(*row.said, row.actor) for row in trail.new()] == [
        ("BACKUP", "*", "ok", "root"),
        ("BACKUP", "*", "failed", "root"),
        ("BACKUP", "*", "refused", "mia"),
    ]


def test_only_the_refused_statement_of_a_script_leaves_one(mia: Session, trail: Trail) -> None:
    tried(mia, "SELECT 1; SELECT * FROM plans; SELECT * FROM system.users")
    assert trail.said() == [("SELECT", "studio.plans", "refused")]


def test_refusals_outside_sql_text_leave_one_too(mia: Session, trail: Trail) -> None:
    closed = parse_query("SELECT * FROM plans")
    for attempt, action, target in [
        (lambda: mia.query_tree(closed), "SELECT", "studio.plans"),
        (lambda: mia.stream_tree(closed), "SELECT", "studio.plans"),
        (lambda: mia.describe_tree(closed), "SELECT", "studio.plans"),
        (lambda: mia.insert("plans", [{"id": 1}]), "INSERT", "studio.plans"),
        (lambda: mia.definition("system.users"), "DESCRIBE", "system.users"),
        (lambda: mia.definitions("system"), "SHOW_TABLES", "system"),
        (lambda: mia.execute("SELECT 1", as_user="dora"), "EXECUTE_AS", "dora"),
    ]:
        with pytest.raises(PermissionDeniedError):
            attempt()
        assert trail.said() == [(action, target, "refused")]
    mia.query_tree(parse_query("SELECT * FROM notes"))
    mia.insert("notes", [{"id": 1}])
    assert trail.new() == []


def test_a_tree_is_refused_before_its_names_are_looked_up(mia: Session, dora: Session) -> None:
    for sql in (
        "SELECT * FROM nope, system.users",
        "SELECT * FROM nope WHERE a IN (SELECT 1 FROM System.gone)",
        "SELECT * FROM nope, all_users('gone')",
    ):
        tree = parse_query(sql)
        for run in (mia.query_tree, mia.stream_tree, mia.describe_tree):
            with pytest.raises(PermissionDeniedError):
                run(tree)
        with pytest.raises(KalamError, match="not found"):
            dora.query_tree(tree)


# --- EXECUTE AS and all_users -------------------------------------------------------------------


def test_acting_for_others_names_them(root: Session, dora: Session, trail: Trail) -> None:
    root.execute("EXECUTE AS USER 'mia' (INSERT INTO notes VALUES (1, 'x'))")
    dora.execute("SELECT * FROM notes", as_user="mia")
    assert tried(dora, "EXECUTE AS USER 'root' (SELECT 1)") is not None
    assert tried(dora, "EXECUTE AS USER 'mia' (SELECT * FROM plans)") is not None
    rows = trail.new()
    assert [(row.actor, row.subject, *row.said) for row in rows] == [
        ("root", "mia", "EXECUTE_AS", "mia", "ok"),
        ("dora", "mia", "EXECUTE_AS", "mia", "ok"),
        ("dora", "root", "EXECUTE_AS", "root", "refused"),
        ("dora", "mia", "EXECUTE_AS", "mia", "refused"),
    ]
    assert [row.details["action"] for row in rows] == ["INSERT", "SELECT", "SELECT", "SELECT"]


def test_reading_all_scopes_is_noted_at_each_use(dora: Session, trail: Trail) -> None:
    sql = "SELECT count(*) FROM all_users('notes')"
    for _ in range(3):
        dora.execute(sql)
    dora.query_tree(parse_query(sql), cache_key="x")
    dora.query_tree(parse_query(sql), cache_key="x")
    dora.stream_tree(parse_query(sql)).read_all()
    assert trail.said() == [("ALL_USERS", "studio.notes", "ok")] * 6
    dora.execute("SELECT 1 FROM all_users('notes') a, all_users('notes') b, all_users('plays') c")
    assert trail.said() == [
        ("ALL_USERS", "studio.notes", "ok"),
        ("ALL_USERS", "studio.plays", "ok"),
    ]
    dora.execute("INSERT INTO plans SELECT id FROM all_users('notes')")
    dora.execute("DELETE FROM plans WHERE id IN (SELECT id FROM all_users('notes'))")
    assert trail.said() == [("ALL_USERS", "studio.notes", "ok")] * 2
    dora.execute("CREATE TABLE found AS SELECT id FROM all_users('notes')")
    assert trail.said() == [
        ("CREATE_TABLE", "studio.found", "ok"),
        ("ALL_USERS", "studio.notes", "ok"),
    ]


def test_what_is_undone_was_done_for_others_all_the_same(root: Session, trail: Trail) -> None:
    root.execute("BEGIN")
    root.execute("EXECUTE AS USER 'mia' (INSERT INTO notes VALUES (1, 'x'))")
    root.execute("EXECUTE AS USER 'mia' (SELECT * FROM notes)")
    root.execute("INSERT INTO notes SELECT id, 'x' FROM all_users('notes')")
    assert tried(root, "EXECUTE AS USER 'mia' (SELECT * FROM plans)") is not None
    root.execute("ROLLBACK")
    rows = trail.new()
    assert [row.said for row in rows] == [
        ("EXECUTE_AS", "mia", "ok"),
        ("EXECUTE_AS", "mia", "ok"),
        ("ALL_USERS", "studio.notes", "ok"),
        ("EXECUTE_AS", "mia", "refused"),
    ]
    assert all(row.details["in_transaction"] for row in rows)
    assert root.execute("SELECT count(*) FROM all_users('notes')").rows() == [(0,)]


# --- the setting --------------------------------------------------------------------------------


def test_writes_leave_rows_when_that_is_wanted(tmp_path: Path, opener: Any) -> None:
    path = tmp_path / "lab.kalam"
    opener(path).database.close()
    (path / "kalam.toml").write_text('durability = "normal"\naudit_dml = true\nbulk_rows = 6\n')
    with kalam.open(path, clock=kalam.FakeClock()) as db:
        root = db.session()
        root.execute("CREATE TABLE t (id INT PRIMARY KEY, a INT)")
        trail = Trail(root)
        root.execute("INSERT INTO t VALUES (?, 1)", [8412])
        root.execute("UPDATE t SET a = 2 WHERE id = 8412; UPDATE t SET a = 2 WHERE id = 1")
        root.execute("DELETE FROM t WHERE true")
        root.insert("t", [{"id": number} for number in range(10)])
        root.execute("SELECT * FROM t")
        rows = trail.new()
        assert [row.said for row in rows] == [
            (action, "default.t", "ok")
            for action in ("INSERT", "UPDATE", "UPDATE", "DELETE", "INSERT")
        ]
        assert "8412" not in json.dumps(rows[0].details)
        assert tried(root, "INSERT INTO t VALUES (1, 1)") is not None
        assert trail.said() == [("INSERT", "default.t", "failed")]
        root.execute("BEGIN; INSERT INTO t VALUES (77, 1); ROLLBACK")
        (row,) = trail.new()
        assert (row.said, row.details["in_transaction"]) == (("INSERT", "default.t", "ok"), True)


def test_the_setting_is_true_or_false(tmp_path: Path) -> None:
    (tmp_path / "lab.kalam").mkdir()
    (tmp_path / "lab.kalam" / "kalam.toml").write_text("audit_dml = 1\n")
    with pytest.raises(KalamError, match="audit_dml is true or false$"):
        kalam.open(tmp_path / "lab.kalam")


# --- secrets ------------------------------------------------------------------------------------


def test_no_secret_and_no_parameter_is_in_it(root: Session, mia: Session, trail: Trail) -> None:
    secret = "horse 8412 battery"
    for session in (root, mia):
        for sql in (
            f"CREATE USER 'eve' WITH PASSWORD '{secret}' ROLE user",
            f"CREATE USER 'root' WITH PASSWORD '{secret}' ROLE user",
            f"ALTER USER 'eve' SET PASSWORD '{secret}'",
            'CREATE USER \'ben\' OAUTH \'{"provider": "g", "subject": "7", '
            f'"client_secret": "{secret}"}}\' ROLE user',
            f"CREATE STORAGE vault TYPE 'filesystem' PATH 'vault' CREDENTIALS '{{\"k\": \"{secret}\"}}'",
        ):
            tried(session, sql)
    with pytest.raises(PermissionDeniedError):
        mia.execute("INSERT INTO plans VALUES (?)", [secret])
    root.execute("DROP STORAGE vault")
    rows = trail.new()
    assert len(rows) == 12
    assert secret not in repr(rows)
    assert "argon" not in repr(rows)


def test_a_long_statement_is_cut(root: Session, trail: Trail) -> None:
    root.execute(f"CREATE VIEW v AS SELECT '{'x' * 5_000}' AS a")
    (row,) = trail.new()
    assert len(row.details["statement"]) == 1_000
    assert row.details["statement"].startswith("CREATE VIEW v AS SELECT 'xxx")
