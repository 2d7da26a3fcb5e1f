"""Users, and who may say what: the whole matrix of roles, each refusal beside an allowed twin."""

from __future__ import annotations

from typing import Any

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.authorization.gateway import KIND_NEEDS
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError, UserDroppedError
from kalamdb_lab.sql import statements

ROLES = {"mia": "user", "sven": "service", "dora": "dba", "root": "system"}
EVERYBODY = "mia sven dora root"
SERVICE_UP = "sven dora root"
DBA_UP = "dora root"

DDL = "Role '{role}' cannot execute DDL statements; it needs dba or system"
MAINTENANCE = "Role '{{role}}' cannot execute {kind}; it needs service, dba or system"
ADMINISTRATION = "Role '{{role}}' cannot execute {kind}; it needs dba or system"
SYSTEM_NAMESPACE = "Only 'dba' and 'system' roles can access system namespace"
USERS = "Only 'system' role can manage users"
READ = "Permission denied: role '{role}' may not read studio.plans"
WRITE_PLANS = "Permission denied: role '{role}' may not write studio.plans"
WRITE_GENRES = "Permission denied: role '{role}' may not write studio.genres"
ALL_USERS = "Permission denied: all_users() needs role dba or system"

MATRIX: list[tuple[str, str, str]] = [
    # own scope of USER and STREAM tables
    ("SELECT * FROM tracks", EVERYBODY, ""),
    ("INSERT INTO tracks VALUES (7, 'x')", EVERYBODY, ""),
    ("UPDATE tracks SET title = 'y' WHERE id = 7", EVERYBODY, ""),
    ("DELETE FROM tracks WHERE id = 7", EVERYBODY, ""),
    ("SELECT * FROM plays", EVERYBODY, ""),
    ("INSERT INTO plays VALUES (1)", EVERYBODY, ""),
    ("DELETE FROM plays WHERE true", EVERYBODY, ""),
    # SHARED tables
    ("SELECT * FROM genres", EVERYBODY, ""),
    ("INSERT INTO genres VALUES ('new')", SERVICE_UP, WRITE_GENRES),
    ("UPDATE genres SET code = 'x' WHERE code = 'jz'", "", ""),
    ("DELETE FROM genres WHERE code = 'new'", SERVICE_UP, WRITE_GENRES),
    ("EXPLAIN INSERT INTO genres VALUES ('new')", SERVICE_UP, WRITE_GENRES),
    ("SELECT * FROM plans", SERVICE_UP, READ),
    ("SELECT count(*) FROM plans", SERVICE_UP, READ),
    ("SELECT id FROM plans WHERE id = 1", SERVICE_UP, READ),
    ("EXPLAIN SELECT * FROM plans", SERVICE_UP, READ),
    ("SELECT * FROM restricted", SERVICE_UP, READ.replace("plans", "restricted")),
    ("SELECT t.id FROM tracks t JOIN plans p ON true", SERVICE_UP, READ),
    ("SELECT (SELECT max(id) FROM plans)", SERVICE_UP, READ),
    ("WITH p AS (SELECT * FROM plans) SELECT 1", SERVICE_UP, READ),
    ('SELECT id FROM tracks UNION SELECT id FROM studio."PLANS"', SERVICE_UP, READ),
    ("SELECT * FROM over_plans", SERVICE_UP, READ),
    ("INSERT INTO tracks SELECT id + 50, 'x' FROM plans", SERVICE_UP, READ),
    ("INSERT INTO tracks VALUES (60, (SELECT CAST(id AS TEXT) FROM plans LIMIT 1))", SERVICE_UP,
     READ),
    ("UPDATE tracks SET title = 'x' WHERE id IN (SELECT id FROM plans)", SERVICE_UP, READ),
    ("DELETE FROM tracks WHERE id = (SELECT max(id) + 999 FROM plans)", SERVICE_UP, READ),
    ("INSERT INTO tracks VALUES (61, 'x') RETURNING (SELECT max(id) FROM plans)", SERVICE_UP, READ),
    ("UPDATE tracks SET title = (SELECT 'x' FROM plans LIMIT 1) WHERE false", SERVICE_UP, READ),
    ("INSERT INTO tracks VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET title = "
     "(SELECT 'x' FROM plans LIMIT 1)", SERVICE_UP, READ),
    ("EXPLAIN INSERT INTO tracks SELECT id, 'x' FROM plans", SERVICE_UP, READ),
    ("EXPLAIN INSERT INTO tracks VALUES (1, (SELECT 'x' FROM plans LIMIT 1))", SERVICE_UP, READ),
    ("EXPLAIN INSERT INTO tracks VALUES (1, 'x') RETURNING (SELECT 1 FROM plans)", SERVICE_UP,
     READ),
    ("EXPLAIN INSERT INTO tracks VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET title = "
     "(SELECT 'x' FROM plans LIMIT 1)", SERVICE_UP, READ),
    ("EXPLAIN UPDATE tracks SET title = (SELECT 'x' FROM plans LIMIT 1) WHERE true", SERVICE_UP,
     READ),
    ("EXPLAIN UPDATE tracks SET title = 'x' WHERE true RETURNING (SELECT 1 FROM plans)",
     SERVICE_UP, READ),
    ("EXPLAIN DELETE FROM tracks WHERE id IN (SELECT id FROM plans)", SERVICE_UP, READ),
    ("INSERT INTO plans VALUES (5)", SERVICE_UP, WRITE_PLANS),
    ("DELETE FROM plans WHERE id = 5", SERVICE_UP, WRITE_PLANS),
    # all_users and the system namespace
    ("SELECT * FROM all_users('studio.tracks')", DBA_UP, ALL_USERS),
    ("SELECT * FROM all_users('studio.gone')", "", ""),
    ("EXPLAIN SELECT * FROM all_users('tracks')", DBA_UP, ALL_USERS),
    ("SELECT * FROM system.users", DBA_UP, SYSTEM_NAMESPACE),
    ('SELECT * FROM "SYSTEM"."Users"', DBA_UP, SYSTEM_NAMESPACE),
    ("EXPLAIN SELECT * FROM system.users", DBA_UP, SYSTEM_NAMESPACE),
    ("SELECT 1 WHERE EXISTS (SELECT 1 FROM system.tables)", DBA_UP, SYSTEM_NAMESPACE),
    ("SELECT * FROM over_system", DBA_UP, SYSTEM_NAMESPACE),
    ("USE system", DBA_UP, SYSTEM_NAMESPACE),
    ("SHOW TABLES IN system", DBA_UP, SYSTEM_NAMESPACE),
    ("DESCRIBE system.users", DBA_UP, SYSTEM_NAMESPACE),
    ("SHOW STATS FOR TABLE system.users", DBA_UP, SYSTEM_NAMESPACE),
    ("SHOW MANIFEST FOR TABLE system.users", DBA_UP, SYSTEM_NAMESPACE),
    ("STORAGE FLUSH TABLE system.users", DBA_UP, ""),
    # definitions are public
    ("SHOW NAMESPACES", EVERYBODY, ""),
    ("SHOW TABLES", EVERYBODY, ""),
    ("SHOW STORAGES", EVERYBODY, ""),
    ("SHOW STATS FOR TABLE tracks", EVERYBODY, ""),
    ("SHOW MANIFEST", EVERYBODY, ""),
    ("DESCRIBE plans", EVERYBODY, ""),
    ("DESCRIBE TABLE plans HISTORY", EVERYBODY, ""),
    ("EXPLAIN SELECT * FROM tracks", EVERYBODY, ""),
    ("USE studio", EVERYBODY, ""),
    # DDL
    ("CREATE NAMESPACE films", DBA_UP, DDL),
    ("ALTER NAMESPACE studio SET DESCRIPTION 'x'", DBA_UP, DDL),
    ("DROP NAMESPACE IF EXISTS gone", DBA_UP, DDL),
    ("CREATE TABLE new (id INT)", DBA_UP, DDL),
    ("CREATE TABLE new AS SELECT 1 AS a", DBA_UP, DDL),
    ("ALTER TABLE tracks ADD COLUMN n INT", DBA_UP, DDL),
    ("ALTER TABLE plans SET ACCESS LEVEL public", DBA_UP, DDL),
    ("DROP TABLE tracks", DBA_UP, DDL),
    ("CREATE VIEW new AS SELECT 1 AS a", DBA_UP, DDL),
    ("DROP VIEW over_plans", DBA_UP, DDL),
    # maintenance
    ("STORAGE FLUSH TABLE tracks", SERVICE_UP, MAINTENANCE.format(kind="STORAGE FLUSH")),
    ("FLUSH ALL TABLES IN studio", SERVICE_UP, MAINTENANCE.format(kind="STORAGE FLUSH")),
    ("STORAGE COMPACT TABLE tracks", SERVICE_UP, MAINTENANCE.format(kind="STORAGE COMPACT")),
    ("OPTIMIZE tracks", SERVICE_UP, MAINTENANCE.format(kind="STORAGE COMPACT")),
    # users
    ("SHOW USERS", DBA_UP, ADMINISTRATION.format(kind="SHOW USERS")),
    ("DROP USER IF EXISTS 'nobody'", "root", USERS),
]  # fmt: skip


@pytest.fixture
def world(s: Session, studio: Any) -> dict[str, Session]:
    s.execute(
        """CREATE USER TABLE tracks (id INT PRIMARY KEY, title TEXT);
        CREATE STREAM TABLE plays (id INT) WITH (TTL_SECONDS = 60);
        CREATE TABLE genres (code TEXT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC');
        CREATE TABLE plans (id INT PRIMARY KEY); INSERT INTO plans VALUES (1), (2);
        CREATE TABLE restricted (id INT) WITH (ACCESS_LEVEL = 'RESTRICTED');
        CREATE VIEW over_plans AS SELECT * FROM plans;
        CREATE VIEW over_system AS SELECT user_id FROM system.users"""
    )
    for user in ROLES:
        s.execute(f"EXECUTE AS USER '{user}' (INSERT INTO tracks VALUES (1, '{user}'))")
    return {user: studio.session(user) for user in ROLES}


@pytest.mark.parametrize(("sql", "allowed", "message"), MATRIX, ids=[sql for sql, *_ in MATRIX])
def test_the_matrix_of_roles(
    world: dict[str, Session], refused: Any, sql: str, allowed: str, message: str
) -> None:
    for user, role in ROLES.items():
        if user not in allowed.split():
            error = refused(world[user], sql)
            if allowed and message:
                assert (error.code, str(error)) == ("PERMISSION_DENIED", message.format(role=role))
    for user in allowed.split()[:1]:
        world[user].execute(sql)
    root = world["root"].execute("SELECT count(*) FROM plans WHERE id < 3")
    assert root.rows() == [(2,)]


def test_every_higher_role_may_what_a_lower_one_may(world: dict[str, Session]) -> None:
    for sql, allowed, _ in MATRIX:
        if not sql.startswith(("DROP", "CREATE", "ALTER")) and not sql.startswith("INSERT"):
            for user in allowed.split():
                world[user].execute(sql)
                world[user].execute("USE studio")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM gone, system.users", SYSTEM_NAMESPACE),
        ("SELECT * FROM system.nothing", SYSTEM_NAMESPACE),
        ("SELECT gone(1), nothing FROM gone WHERE x IN (SELECT y FROM System.gone)",
         SYSTEM_NAMESPACE),
        ("INSERT INTO gone SELECT * FROM system.users", SYSTEM_NAMESPACE),
        ("INSERT INTO gone VALUES ((SELECT 1 FROM system.x))", SYSTEM_NAMESPACE),
        ("INSERT INTO gone VALUES (1) RETURNING (SELECT 1 FROM system.x)", SYSTEM_NAMESPACE),
        ("UPDATE gone SET a = (SELECT 1 FROM system.x) WHERE true", SYSTEM_NAMESPACE),
        ("DELETE FROM gone WHERE a IN (SELECT 1 FROM system.x)", SYSTEM_NAMESPACE),
        ("UPDATE system.users SET role = 'dba' WHERE true", SYSTEM_NAMESPACE),
        ("INSERT INTO system.gone VALUES (1)", SYSTEM_NAMESPACE),
        ("DELETE FROM system.users WHERE true", SYSTEM_NAMESPACE),
        ("EXPLAIN SELECT * FROM gone, system.users", SYSTEM_NAMESPACE),
        ("EXPLAIN DELETE FROM gone WHERE a IN (SELECT 1 FROM system.x)", SYSTEM_NAMESPACE),
        ("EXECUTE AS USER 'mia' (SELECT * FROM gone, system.users)", SYSTEM_NAMESPACE),
        ("DROP TABLE gone", DDL.format(role="user")),
        ("DROP TABLE system.users", DDL.format(role="user")),
        ("CREATE TABLE gone.gone (a MONEY)", None),
        ("CREATE VIEW v AS SELECT * FROM gone", DDL.format(role="user")),
        ("ALTER TABLE gone DROP COLUMN x", DDL.format(role="user")),
        ("STORAGE FLUSH TABLE gone", MAINTENANCE.format(kind="STORAGE FLUSH").format(role="user")),
        ("STORAGE FLUSH TABLE system.gone",
         MAINTENANCE.format(kind="STORAGE FLUSH").format(role="user")),
        ("SELECT * FROM all_users('gone')", ALL_USERS),
        ("SELECT * FROM gone, all_users('gone')", None),
        ("CREATE USER 'x' INTERNAL ROLE user", USERS),
        ("ALTER USER 'gone' SET ROLE dba", USERS),
        ("ALTER USER 'mia' SET EMAIL 'me@x'", USERS),
        ("DROP USER 'gone'", USERS),
        ("DESCRIBE system.gone", SYSTEM_NAMESPACE),
    ],
)  # fmt: skip
def test_a_refusal_for_lack_of_role_comes_before_any_lookup(
    mia: Session, refused: Any, sql: str, message: str | None
) -> None:
    error = refused(mia, sql)
    if message is not None:
        assert (error.code, str(error)) == ("PERMISSION_DENIED", message)


def test_unqualified_names_after_use_are_checked_too(
    mia: Session, dora: Session, refused: Any
) -> None:
    dora.execute("USE system")
    assert dora.execute("SELECT count(*) > 0 FROM users").rows() == [(True,)]
    assert str(refused(mia, "USE system; SELECT * FROM users")) == SYSTEM_NAMESPACE
    assert mia.namespace == "studio"


def test_a_plain_reference_never_crosses_scopes(world: dict[str, Session]) -> None:
    for user in ROLES:
        assert world[user].execute("SELECT title FROM tracks").rows() == [(user,)]
        answer = world[user].execute("UPDATE tracks SET title = title || '!' WHERE true")
        assert answer.rows_affected == 1
    seen = world["root"].execute("SELECT user_id, title FROM all_users('tracks')").rows()
    assert sorted(seen) == sorted((user, f"{user}!") for user in ROLES)


def test_statement_kinds_handlers_and_rights_agree(studio: Any) -> None:
    """Every statement class has a handler and a row in the table of rights, and nothing else has."""
    base = statements.Statement
    classes = {
        item
        for item in vars(statements).values()
        if isinstance(item, type) and issubclass(item, base) and item is not base
    }
    handlers = studio.database._context.handlers
    assert set(handlers.by_class) == classes
    assert {item.kind for item in classes} == set(KIND_NEEDS)


# --- users ----------------------------------------------------------------------------------------


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
        ("ALTER USER 'root' SET ROLE user", None),
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
    root.execute("STORAGE FLUSH TABLE system.users")
    from pathlib import Path

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
    root.execute("STORAGE FLUSH TABLE t")
    for number, user in enumerate(ids):
        assert fresh.session(user.replace("''", "'")).execute("SELECT id FROM t").rows() == [
            (number,)
        ]
    with pytest.raises(KalamError):
        root.execute(f"CREATE USER '{'x' * 129}' INTERNAL ROLE user")


def test_a_dropped_user_stays_out_of_a_process_that_slept_past_the_log(fresh: Any) -> None:
    """What it holds must not be taken for new because it was loaded by as many steps."""
    root = fresh.session()
    root.execute_script(
        "CREATE USER 'mia' INTERNAL ROLE user; CREATE TABLE t (id INT) WITH (ACCESS_LEVEL = "
        "'public'); INSERT INTO t VALUES (1); STORAGE FLUSH ALL"
    )
    other = kalam.open(fresh.database.path, clock=fresh.clock)
    try:
        mia = other.session("mia", namespace="studio")
        assert mia.execute("SELECT id FROM t").rows() == [(1,)]
        root.execute_script("DROP USER 'mia'; INSERT INTO t VALUES (2); STORAGE FLUSH ALL")
        fresh.clock.advance(4_000)
        root.execute_script("INSERT INTO t VALUES (3); STORAGE FLUSH ALL")
        with pytest.raises(UserDroppedError):
            mia.execute("SELECT id FROM t")
        assert len(other.session(namespace="studio").execute("SELECT id FROM t").rows()) == 3
    finally:
        other.close()
