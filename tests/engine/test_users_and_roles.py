"""Users, and who may say what: the whole matrix of roles, each refusal beside an allowed twin."""

from __future__ import annotations

from typing import Any

import pytest

from kalamdb_lab.authorization.gateway import KIND_NEEDS
from kalamdb_lab.engine.session import Session
from kalamdb_lab.sql import commands, statements
from kalamdb_lab.testing.jobs import finished

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


READS = ("SELECT", "WITH", "EXPLAIN", "SHOW", "DESCRIBE", "USE")


def make_world(root: Session) -> None:
    root.execute(
        """CREATE USER TABLE tracks (id INT PRIMARY KEY, title TEXT);
        CREATE STREAM TABLE plays (id INT) WITH (TTL_SECONDS = 60);
        CREATE TABLE genres (code TEXT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC');
        CREATE TABLE plans (id INT PRIMARY KEY); INSERT INTO plans VALUES (1), (2);
        CREATE TABLE restricted (id INT) WITH (ACCESS_LEVEL = 'RESTRICTED');
        CREATE VIEW over_plans AS SELECT * FROM plans;
        CREATE VIEW over_system AS SELECT user_id FROM system.users"""
    )
    for user in ROLES:
        root.execute(f"EXECUTE AS USER '{user}' (INSERT INTO tracks VALUES (1, '{user}'))")


@pytest.fixture
def world(s: Session, studio: Any) -> dict[str, Session]:
    make_world(s)
    return {user: studio.session(user) for user in ROLES}


@pytest.fixture(scope="module")
def made_once(library: Any) -> Any:
    make_world(library.session())
    return library


def check(world: dict[str, Session], refused: Any, sql: str, allowed: str, message: str) -> None:
    """Who is not named is refused, and the first who is is not."""
    for user, role in ROLES.items():
        if user not in allowed.split():
            error = refused(world[user], sql)
            if allowed and message:
                assert (error.code, str(error)) == ("PERMISSION_DENIED", message.format(role=role))
    for user in allowed.split()[:1]:
        finished(world[user], sql)
    root = world["root"].execute("SELECT count(*) FROM studio.plans WHERE id < 3")
    assert root.rows() == [(2,)]


@pytest.mark.parametrize(
    ("sql", "allowed", "message"),
    [pytest.param(*row, id=row[0]) for row in MATRIX if row[0].startswith(READS)],
)
def test_the_matrix_of_roles_of_what_only_reads(
    made_once: Any, refused: Any, sql: str, allowed: str, message: str
) -> None:
    world = {user: made_once.session(user) for user in ROLES}
    check(world, refused, sql, allowed, message)


@pytest.mark.parametrize(
    ("sql", "allowed", "message"),
    [pytest.param(*row, id=row[0]) for row in MATRIX if not row[0].startswith(READS)],
)
def test_the_matrix_of_roles_of_what_changes(
    world: dict[str, Session], refused: Any, sql: str, allowed: str, message: str
) -> None:
    check(world, refused, sql, allowed, message)


def test_every_higher_role_may_what_a_lower_one_may(world: dict[str, Session]) -> None:
    for sql, allowed, _ in MATRIX:
        if not sql.startswith(("DROP", "CREATE", "ALTER")) and not sql.startswith("INSERT"):
            for user in allowed.split():
                finished(world[user], sql)
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
    library: Any, refused: Any, sql: str, message: str | None
) -> None:
    error = refused(library.session("mia"), sql)
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
        for item in (*vars(statements).values(), *vars(commands).values())
        if isinstance(item, type) and issubclass(item, base) and item is not base
    }
    handlers = studio.database._context.handlers
    assert set(handlers.by_class) == classes
    assert {item.kind for item in classes} == set(KIND_NEEDS)
