"""The matrix of rights: every kind of statement by every role, and what must agree with it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kalamdb_lab.authorization.gateway import KIND_NEEDS
from kalamdb_lab.engine.audited import AUDITED, When, action_of
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.parse import parse_script

ROLES = {"user": "mia", "service": "sven", "dba": "dora", "system": "root"}
LADDER = list(ROLES)

DDL = "Role '{role}' cannot execute DDL statements; it needs dba or system"
MAINTENANCE = "Role '{role}' cannot execute {kind}; it needs service, dba or system"
ADMINISTRATION = "Role '{role}' cannot execute {kind}; it needs dba or system"
USERS = "Only 'system' role can manage users"


@dataclass(frozen=True)
class Case:
    """One class of statements.

    Attributes
    ----------
    sql : str
        ``{n}`` is a number that no other run has; what it names is there for ``n`` > 0 only.
    lowest : str
        The lowest role that may say it.
    message : str
        What lower ones are told.
    before : str
        What root does first, so that it can work.
    otherwise : str or None
        The code of the error that those who may get all the same.
    """

    sql: str
    lowest: str = "user"
    message: str = ""
    before: str = ""
    otherwise: str | None = None


TABLE = "CREATE USER TABLE t{n} (id INT PRIMARY KEY)"
VECTORS = "CREATE USER TABLE t{n} (id INT PRIMARY KEY, e EMBEDDING(2))"
USER = "CREATE USER 'u{n}' INTERNAL ROLE user"
STORAGE = "CREATE STORAGE s{n} TYPE 'filesystem' PATH 'place{n}'"

MATRIX: dict[type[s.Statement], Case] = {
    s.Select: Case("SELECT * FROM t{n}", before=TABLE),
    s.Insert: Case("INSERT INTO t{n} VALUES (1)", before=TABLE),
    s.Update: Case("UPDATE t{n} SET a = 1 WHERE true",
                   before="CREATE USER TABLE t{n} (id INT PRIMARY KEY, a INT)"),
    s.Delete: Case("DELETE FROM t{n} WHERE true", before=TABLE),
    s.Explain: Case("EXPLAIN SELECT * FROM t{n}", before=TABLE),
    s.ExecuteAs: Case("EXECUTE AS USER '{user}' (SELECT * FROM t{n})", before=TABLE),
    s.UseNamespace: Case("USE default"),
    c.Describe: Case("DESCRIBE t{n}", before=TABLE),
    c.ShowNamespaces: Case("SHOW NAMESPACES"),
    c.ShowTables: Case("SHOW TABLES"),
    c.ShowStorages: Case("SHOW STORAGES"),
    c.ShowStats: Case("SHOW STATS FOR TABLE t{n}", before=TABLE),
    c.ShowManifest: Case("SHOW MANIFEST"),
    c.Begin: Case("BEGIN"),
    c.Commit: Case("BEGIN; COMMIT"),
    c.Rollback: Case("BEGIN; ROLLBACK"),
    c.Subscribe: Case("SUBSCRIBE TO t{n}", before=TABLE, otherwise="NOT_SUPPORTED"),
    c.ShowLiveQueries: Case("SHOW LIVE QUERIES"),
    c.KillLiveQuery: Case("KILL LIVE QUERY 'x{n}'", otherwise="NOT_FOUND"),
    s.CreateNamespace: Case("CREATE NAMESPACE n{n}", "dba", DDL),
    s.AlterNamespace: Case("ALTER NAMESPACE n{n} SET DESCRIPTION 'x'", "dba", DDL,
                           "CREATE NAMESPACE n{n}"),
    s.DropNamespace: Case("DROP NAMESPACE n{n}", "dba", DDL, "CREATE NAMESPACE n{n}"),
    s.CreateTable: Case("CREATE TABLE t{n} (id INT)", "dba", DDL),
    s.AlterTable: Case("ALTER TABLE t{n} ADD COLUMN a INT", "dba", DDL, TABLE),
    s.DropTable: Case("DROP TABLE t{n}", "dba", DDL, TABLE),
    s.CreateView: Case("CREATE VIEW v{n} AS SELECT * FROM t{n}", "dba", DDL, TABLE),
    s.DropView: Case("DROP VIEW v{n}", "dba", DDL, "CREATE VIEW v{n} AS SELECT 1 AS a"),
    s.CreateIndex: Case("CREATE INDEX ON t{n} USING ANN (e)", "dba", DDL, VECTORS),
    s.DropIndex: Case("DROP INDEX t{n}_e_ann", "dba", DDL,
                      VECTORS + "; CREATE INDEX ON t{n} USING ANN (e)"),
    c.CreateStorage: Case(STORAGE, "dba", DDL),
    c.AlterStorage: Case("ALTER STORAGE s{n} SET NAME 'x'", "dba", DDL, STORAGE),
    c.DropStorage: Case("DROP STORAGE s{n}", "dba", DDL, STORAGE),
    c.RegisterTable: Case("REGISTER TABLE studio.r{n} FROM 'found.csv'", "dba", DDL),
    c.UnregisterTable: Case("UNREGISTER TABLE studio.r{n}", "dba", DDL,
                            "REGISTER TABLE studio.r{n} FROM 'found.csv'"),
    c.FlushTable: Case("STORAGE FLUSH TABLE t{n}", "service", MAINTENANCE, TABLE),
    c.FlushAll: Case("STORAGE FLUSH ALL IN studio", "service", MAINTENANCE),
    c.CompactTable: Case("STORAGE COMPACT TABLE t{n}", "service", MAINTENANCE, TABLE),
    c.CompactAll: Case("STORAGE COMPACT ALL IN studio", "service", MAINTENANCE),
    c.Analyze: Case("ANALYZE TABLE t{n}", "service", MAINTENANCE, TABLE),
    c.ShowJobs: Case("SHOW JOBS", "service", MAINTENANCE),
    c.CheckStorage: Case("STORAGE CHECK s{n}", "dba", ADMINISTRATION, STORAGE),
    c.Vacuum: Case("VACUUM t{n}", "dba", ADMINISTRATION, TABLE),
    c.KillJob: Case("KILL JOB 'FL-{n}zzzzzz'", "dba", ADMINISTRATION, otherwise="NOT_FOUND"),
    c.BackupDatabase: Case("BACKUP DATABASE n{n} TO 'saved{n}'", "dba", ADMINISTRATION,
                           "CREATE NAMESPACE n{n}"),
    c.RestoreDatabase: Case("RESTORE DATABASE n{n} FROM 'saved{n}'", "dba", ADMINISTRATION,
                            "CREATE NAMESPACE n{n}; BACKUP DATABASE n{n} TO 'saved{n}'; "
                            "DROP NAMESPACE n{n}"),
    c.ShowBackups: Case("SHOW BACKUPS FOR DATABASE studio", "dba", ADMINISTRATION),
    c.ShowUsers: Case("SHOW USERS", "dba", ADMINISTRATION),
    c.CreateUser: Case(USER, "system", USERS),
    c.AlterUser: Case("ALTER USER 'u{n}' SET EMAIL 'x'", "system", USERS, USER),
    c.DropUser: Case("DROP USER 'u{n}'", "system", USERS, USER),
}  # fmt: skip

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, opener: Any) -> Any:
    path = tmp_path_factory.mktemp("matrix") / "lab.kalam"
    opened = opener(path)
    root = opened.session(namespace="default")
    root.execute("CREATE NAMESPACE studio")
    for role, user in ROLES.items():
        if user != "root":
            root.execute(f"CREATE USER '{user}' INTERNAL ROLE {role}")
    (path / "found.csv").write_text("id\n1\n")
    yield opened
    opened.database.close()


@pytest.fixture(scope="module")
def root(lab: Any) -> Session:
    return lab.session()


def audited(root: Session) -> list[tuple[Any, ...]]:
    return root.execute(
        "SELECT action, outcome, actor_user_id FROM system.audit_logs ORDER BY audit_id"
    ).rows()


@pytest.mark.parametrize("role", LADDER)
@pytest.mark.parametrize("kind", MATRIX, ids=lambda kind: kind.__name__)
def test_the_matrix(lab: Any, root: Session, kind: type[s.Statement], role: str) -> None:
    case, user = MATRIX[kind], ROLES[role]
    number = next(_numbers)
    root.execute(case.before.format(n=number) or "SELECT 1")
    session = lab.session(user)
    before = len(audited(root))
    if LADDER.index(role) < LADDER.index(case.lowest):
        for n in (number, 0):  # what it names is there, and is not
            with pytest.raises(KalamError) as caught:
                session.execute(case.sql.format(n=n, user=user))
            assert caught.value.code == "PERMISSION_DENIED"
            assert str(caught.value) == case.message.format(role=role, kind=kind.kind)
        action = kind.kind.replace(" ", "_")
        assert audited(root)[before:] == [(action, "refused", user)] * 2
        return
    sql = case.sql.format(n=number, user=user)
    if case.otherwise is None:
        session.execute(sql)
    else:
        with pytest.raises(KalamError) as caught:
            session.execute(sql)
        assert caught.value.code == case.otherwise
    said = audited(root)[before:]
    assert all(outcome != "refused" for _, outcome, _ in said)
    assert (len(said) == 1) == (AUDITED[kind].when is When.ALWAYS)


def test_the_matrix_is_whole_and_each_case_is_what_it_says() -> None:
    for kind, case in MATRIX.items():
        assert type(parse_script(case.sql.format(n=1, user="mia"))[-1]) is kind
        assert (case.lowest == "user") == (not case.message)
        assert (case.lowest == "user") == (KIND_NEEDS[kind.kind].value == "nothing")


def said_by_no_text() -> set[type[s.Statement]]:
    return {c.SetUserStorage}


def test_handlers_rights_audit_and_the_matrix_know_the_same_statements(lab: Any) -> None:
    classes = {
        item
        for item in (*vars(s).values(), *vars(c).values())
        if isinstance(item, type) and issubclass(item, s.Statement) and item is not s.Statement
    }
    assert set(lab.database._context.handlers.by_class) == classes
    assert set(AUDITED) == classes
    assert set(MATRIX) == classes - said_by_no_text()
    assert {kind.kind for kind in classes} == set(KIND_NEEDS)


def test_an_action_is_the_kind_of_the_statement() -> None:
    for sql, action in {
        "CREATE NAMESPACE films": "CREATE_NAMESPACE",
        "EXECUTE AS USER 'mia' (SELECT 1)": "EXECUTE_AS",
        "OPTIMIZE TABLE t": "STORAGE_COMPACT",
        "SHOW LIVE QUERIES": "SHOW_LIVE_QUERIES",
    }.items():
        assert action_of(parse_script(sql)[0]) == action


def test_changes_of_definitions_are_carried_by_their_own_commit() -> None:
    """The other audited statements change none, or are jobs with commits of their own."""
    by_their_own = {
        kind.__name__
        for kind, rule in AUDITED.items()
        if rule.when is When.ALWAYS and rule.rides_on
    }
    changing = {kind.__name__ for kind, case in MATRIX.items() if case.message in (DDL, USERS)}
    assert by_their_own == changing | {"RestoreDatabase", "KillJob", "SetUserStorage"}


def test_users_of_methods_are_asked_for_their_role_too(lab: Any, root: Session) -> None:
    for role in LADDER[:-1]:
        before = len(audited(root))
        with pytest.raises(KalamError, match=f"^{USERS}$"):
            lab.session(ROLES[role]).set_user_storage("mia", "local")
        assert audited(root)[before + 1 :] == [("ALTER_USER", "refused", ROLES[role])]
    root.set_user_storage("mia", "local")
    assert audited(root)[-1] == ("ALTER_USER", "ok", "root")
    assert Path(lab.database.path).is_dir()
