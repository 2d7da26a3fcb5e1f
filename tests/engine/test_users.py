"""Users: created, altered, dropped; their ids, passwords and sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError, UserDroppedError
from kalamdb_lab.testing.jobs import finished

SYSTEM_NAMESPACE = "Only 'dba' and 'system' roles can access system namespace"


def test_a_user_is_created_altered_and_dropped(fresh: Any) -> None:
    root = fresh.session()
    root.execute("CREATE USER 'Mia W.' WITH PASSWORD 'correct horse' ROLE user EMAIL 'm@x.org'")
    root.execute('CREATE USER ben OAUTH \'{"provider": "g", "subject": "7"}\' ROLE analyst')
    root.execute("CREATE USER 'ada' INTERNAL ROLE Admin")
    assert [row[:4] for row in root.execute("SHOW USERS")] == [
        ("Mia W.", "user", "m@x.org", "password"),
        ("ada", "dba", None, "internal"),
        ("ben", "service", None, "oauth"),
        ("root", "system", None, "internal"),
    ]
    mia = fresh.session("Mia W.")
    assert mia.execute("SELECT CURRENT_USER()").rows() == [("Mia W.",)]
    root.execute("ALTER USER 'Mia W.' SET ROLE dba; ALTER USER 'Mia W.' SET EMAIL 'w@x.org'")
    root.execute("ALTER USER 'Mia W.' SET PASSWORD 'another horse'")
    mia.execute("CREATE TABLE t (id INT)")
    root.execute("DROP USER 'Mia W.'")
    with pytest.raises(KalamError, match=r"^User 'Mia W\.' was dropped$") as caught:
        mia.execute("SELECT 1")
    assert caught.value.code == "USER_DROPPED"
    with pytest.raises(KalamError, match=r"^User 'Mia W\.' was dropped$"):
        fresh.session("Mia W.")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("CREATE USER 'mia' INTERNAL ROLE user", "User 'mia' already exists"),
        ("DROP USER 'ben'", "User 'ben' not found"),
        ("ALTER USER 'ben' SET ROLE user", "User 'ben' not found"),
        ("DROP USER 'root'", "User 'root' cannot be dropped"),
        ("DROP USER IF EXISTS root", "User 'root' cannot be dropped"),
        ("ALTER USER 'root' SET ROLE user", "User 'root' cannot lose its role"),
        ("ALTER USER root SET ROLE admin", "User 'root' cannot lose its role"),
        ("ALTER USER 'mia' SET ROLE captain",
         "Unknown role 'captain'; use user, service, dba or system"),
        ("ALTER USER 'mia' SET PASSWORD 'shorter'",
         "The password must have at least 8 characters"),
        (f"ALTER USER 'mia' SET PASSWORD '{'x' * 1_025}'",
         "The password must have at most 1,024 characters"),
        ("CREATE USER 'x' OAUTH '{\"provider\": \"g\"}' ROLE user",
         "The OAUTH payload must be a JSON object with the texts provider and subject"),
        ("CREATE USER 'x' OAUTH '{\"provider\": \"g\", \"subject\": 7}' ROLE user",
         "The OAUTH payload must be a JSON object with the texts provider and subject"),
        ("CREATE USER 'x' WITH PASSWORD 'short' ROLE user",
         "The password must have at least 8 characters"),
        ("CREATE USER 'x' ROLE user", "Syntax error: expected WITH PASSWORD, OAUTH or INTERNAL"),
        ("CREATE USER 'x' INTERNAL", "Syntax error: expected ROLE"),
        ("CREATE USER 'x' WITH PASSWORD ROLE user",
         "Syntax error: expected a quoted password after PASSWORD"),
        ("CREATE USER 'x' INTERNAL ROLE captain",
         "Unknown role 'captain'; use user, service, dba or system"),
        ("ALTER USER 'mia' SET COLOR 'red'",
         "Syntax error: expected PASSWORD, ROLE or EMAIL after SET, not 'COLOR'"),
        ("CREATE USER '' INTERNAL ROLE user", None),
        ("CREATE USER 'x' OAUTH '[1]' ROLE user", None),
        ("CREATE USER 'x' OAUTH 'no json' ROLE user", None),
    ],
)  # fmt: skip
def test_users_are_refused_in_these_words(
    s: Session, refused: Any, sql: str, message: str | None
) -> None:
    before = s.execute("SHOW USERS").rows()
    error = refused(s, sql)
    assert message is None or str(error) == message
    assert "short" not in str(error)
    assert s.execute("SHOW USERS").rows() == before


def test_each_kind_of_user_and_each_name_of_a_role(fresh: Any) -> None:
    root = fresh.session()
    roles = {
        "user": ("user", "viewer", "ReadOnly"),
        "service": ("service", "developer", "ANALYST"),
        "dba": ("dba", "admin"),
        "system": ("system",),
    }
    for role, names in roles.items():
        for name in names:
            root.execute(f"CREATE USER 'r {name}' INTERNAL ROLE {name}")
            assert fresh.session(f"r {name}").role.value == role
    payload = '{"provider": "github", "subject": "42"}'
    root.execute(f"CREATE USER 'ada' OAUTH '{payload}' ROLE user EMAIL 'a@x.org'")
    root.execute("CREATE USER 'ben' OAUTH ROLE user; CREATE USER 'cid' INTERNAL ROLE user EMAIL ''")
    root.execute("CREATE USER 'dee' WITH PASSWORD 'correct horse' ROLE user")
    root.execute("ALTER USER 'ben' SET PASSWORD 'correct horse'; ALTER USER 'root' SET ROLE system")
    seen = root.execute(
        "SELECT user_id, email, auth_type, auth_data, storage_mode, storage_id, deleted_at "
        "FROM system.users WHERE user_id IN ('ada', 'ben', 'cid', 'dee') ORDER BY user_id"
    )
    assert seen.rows() == [
        ("ada", "a@x.org", "oauth", payload, "table", None, None),
        ("ben", None, "password", None, "table", None, None),
        ("cid", "", "internal", None, "table", None, None),
        ("dee", None, "password", None, "table", None, None),
    ]


def test_the_table_of_users_has_the_columns_that_are_promised(s: Session) -> None:
    assert [row[:3] for row in s.execute("DESCRIBE system.users")] == [
        ("user_id", "TEXT", False),
        ("role", "TEXT", False),
        ("email", "TEXT", True),
        ("auth_type", "TEXT", False),
        ("auth_data", "JSON", True),
        ("storage_mode", "TEXT", False),
        ("storage_id", "TEXT", True),
        ("created_at", "DATETIME", False),
        ("updated_at", "DATETIME", False),
        ("last_login_at", "DATETIME", True),
        ("deleted_at", "DATETIME", True),
    ]


def test_a_dropped_user_keeps_its_id_and_its_rows(fresh: Any) -> None:
    root = fresh.session()
    root.execute("CREATE USER TABLE t (id INT PRIMARY KEY); CREATE USER 'mia' INTERNAL ROLE user")
    fresh.session("mia").execute("INSERT INTO t VALUES (1)")
    root.execute("DROP USER 'mia'")
    for sql, message in {
        "CREATE USER 'mia' INTERNAL ROLE user": "User 'mia' already exists",
        "DROP USER 'mia'": "User 'mia' not found",
        "ALTER USER 'mia' SET ROLE dba": "User 'mia' not found",
    }.items():
        with pytest.raises(KalamError) as caught:
            root.execute(sql)
        assert str(caught.value) == message
    assert "nothing was done" in str(root.execute("DROP USER IF EXISTS 'mia'").message)
    assert root.execute("SELECT user_id FROM all_users('t')").rows() == [("mia",)]
    assert {row[0]: row[5] is not None for row in root.execute("SHOW USERS")} == {
        "mia": True,
        "root": False,
    }


def test_a_changed_role_or_access_level_holds_from_the_next_statement(
    fresh: Any, refused: Any
) -> None:
    root = fresh.session()
    root.execute("CREATE TABLE plans (id INT); CREATE USER 'mia' INTERNAL ROLE user")
    mia = fresh.session("mia")
    for _ in range(2):
        assert refused(mia, "SELECT * FROM plans").code == "PERMISSION_DENIED"
        root.execute("ALTER USER 'mia' SET ROLE service")
        mia.execute("SELECT * FROM plans")
        mia.execute("INSERT INTO plans VALUES (1)")
        root.execute("ALTER USER 'mia' SET ROLE user")
    root.execute("ALTER TABLE plans SET ACCESS LEVEL public")
    assert mia.execute("SELECT count(*) FROM plans").rows() == [(2,)]
    assert refused(mia, "INSERT INTO plans VALUES (1)").code == "PERMISSION_DENIED"
    root.execute("ALTER TABLE plans SET TBLPROPERTIES (ACCESS_LEVEL = 'private')")
    assert refused(mia, "SELECT count(*) FROM plans").code == "PERMISSION_DENIED"


def test_sessions_are_of_registered_users_and_existing_namespaces(studio: Any) -> None:
    for user, namespace, message in [
        ("nobody", "studio", "User 'nobody' not found"),
        ("MIA", "studio", "User 'MIA' not found"),
        ("mia", "gone", "Namespace 'gone' not found"),
        ("mia", "system", SYSTEM_NAMESPACE),
    ]:
        with pytest.raises(KalamError) as caught:
            studio.session(user, namespace)
        assert str(caught.value) == message
    assert studio.session("dora", "system").execute("SELECT count(*) > 0 FROM users").rows() == [
        (True,)
    ]


def test_a_password_is_shown_nowhere(fresh: Any) -> None:
    root = fresh.session()
    secret = "correct horse 8412"
    root.execute(f"CREATE USER 'mia' WITH PASSWORD '{secret}' ROLE user")
    root.execute(f"ALTER USER 'mia' SET PASSWORD '{secret}!'")
    for sql in ("SELECT * FROM system.users", "SHOW USERS", "DESCRIBE system.users"):
        text = repr(root.execute(sql).rows()) + repr(root.execute(sql).columns)
        assert "horse" not in text
        assert "argon" not in text
        assert "password_hash" not in text
    finished(root, "STORAGE FLUSH TABLE system.users")
    files = [path for path in Path(fresh.database.path).rglob("*") if path.is_file()]
    assert len(files) > 2
    assert not any(b"horse 8412" in path.read_bytes() for path in files)


def test_ids_are_compared_as_they_are(fresh: Any) -> None:
    root = fresh.session()
    root.execute("CREATE USER TABLE t (id INT PRIMARY KEY)")
    ids = ["a", "A", "a ", "ab", "a%", "../a", "é", "e\u0301", "a/b", "x" * 128, "a''b"]
    for number, user in enumerate(ids):
        root.execute(f"CREATE USER '{user}' INTERNAL ROLE user")
        session = fresh.session(user.replace("''", "'"))
        session.execute("INSERT INTO t VALUES (?)", [number])
    finished(root, "STORAGE FLUSH TABLE t")
    for number, user in enumerate(ids):
        assert fresh.session(user.replace("''", "'")).execute("SELECT id FROM t").rows() == [
            (number,)
        ]
    with pytest.raises(KalamError):
        root.execute(f"CREATE USER '{'x' * 129}' INTERNAL ROLE user")


def test_a_dropped_user_stays_out_of_a_process_that_slept_past_the_log(fresh: Any) -> None:
    """What it holds must not be taken for new because it was loaded by as many steps."""
    root = fresh.session()
    finished(
        root,
        "CREATE USER 'mia' INTERNAL ROLE user; CREATE TABLE t (id INT) WITH (ACCESS_LEVEL = "
        "'public'); INSERT INTO t VALUES (1); STORAGE FLUSH ALL",
    )
    other = kalam.open(fresh.database.path, clock=fresh.clock)
    try:
        mia = other.session("mia", namespace="studio")
        assert mia.execute("SELECT id FROM t").rows() == [(1,)]
        finished(root, "DROP USER 'mia'; INSERT INTO t VALUES (2); STORAGE FLUSH ALL")
        fresh.clock.advance(4_000)
        finished(root, "INSERT INTO t VALUES (3); STORAGE FLUSH ALL")
        with pytest.raises(UserDroppedError):
            mia.execute("SELECT id FROM t")
        assert len(other.session(namespace="studio").execute("SELECT id FROM t").rows()) == 3
    finally:
        other.close()
