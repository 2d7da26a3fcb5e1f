"""EXECUTE AS USER: the target's scope and role for one statement, and never more."""

from __future__ import annotations

from typing import Any

import pytest

from kalamdb_lab.engine.session import Session

USERS = {"mia": "user", "tom": "user", "sven": "service", "dora": "dba", "root": "system"}
REACH = {
    "mia": {"mia"},
    "tom": {"tom"},
    "sven": {"mia", "tom", "sven"},
    "dora": {"mia", "tom", "sven", "dora"},
    "root": set(USERS),
}


@pytest.fixture
def notes(s: Session) -> Session:
    s.execute(
        """CREATE USER TABLE notes (id INT PRIMARY KEY, t TEXT DEFAULT CURRENT_USER());
        CREATE STREAM TABLE plays (id INT) WITH (TTL_SECONDS = 60);
        CREATE TABLE plans (id INT) WITH (ACCESS_LEVEL = 'PUBLIC');
        CREATE VIEW over_plans AS SELECT * FROM plans"""
    )
    for user in USERS:
        s.execute(f"EXECUTE AS USER '{user}' (INSERT INTO notes (id) VALUES (1))")
    return s


@pytest.mark.parametrize("actor", USERS)
@pytest.mark.parametrize("target", USERS)
def test_who_may_act_as_whom(
    notes: Session, studio: Any, refused: Any, actor: str, target: str
) -> None:
    session = studio.session(actor)
    sql = f"EXECUTE AS USER '{target}' (SELECT t, CURRENT_USER() FROM notes)"
    if target in REACH[actor]:
        assert session.execute(sql).rows() == [(target, target)]
    else:
        for statement in (sql, f"EXECUTE AS USER '{target}' (INSERT INTO notes (id) VALUES (7))"):
            error = refused(session, statement)
            assert (error.code, str(error)) == (
                "PERMISSION_DENIED",
                f"Permission denied: '{actor}' may not execute as user '{target}'",
            )
    assert session.execute("SELECT t, CURRENT_USER() FROM notes").rows() == [(actor, actor)]
    assert notes.execute("SELECT count(*) FROM all_users('notes')").rows() == [(5,)]


def test_each_kind_of_statement_works_on_the_target(notes: Session, mia: Session) -> None:
    run = notes.execute
    made = run(
        "EXECUTE AS USER 'mia' (INSERT INTO notes VALUES (2, ?), (3, 'c') RETURNING id)", ["b"]
    )
    assert (made.rows_affected, made.rows(), made.statement_kind) == (2, [(2,), (3,)], "INSERT")
    assert run("EXECUTE AS USER 'mia' (UPDATE notes SET t = 'x' WHERE id > 1)").rows_affected == 2
    assert run("EXECUTE AS USER 'mia' (DELETE FROM notes WHERE id = 3)").rows_affected == 1
    assert mia.execute("SELECT * FROM notes ORDER BY id").rows() == [(1, "mia"), (2, "x")]
    run(
        "EXECUTE AS USER 'mia' (INSERT INTO notes (id) VALUES (2) ON CONFLICT (id) DO UPDATE "
        "SET t = excluded.t)"
    )
    assert mia.execute("SELECT t FROM notes WHERE id = 2").rows() == [("mia",)]
    run("EXECUTE AS USER 'mia' (INSERT INTO plays VALUES (1))")
    assert mia.execute("SELECT * FROM plays").rows() == [(1,)]
    plan = run("EXECUTE AS USER 'mia' (EXPLAIN SELECT * FROM notes)")
    assert "mia" in str(plan.rows()[-1][4])
    assert "root" not in str(plan.rows())
    assert run("SELECT id, t FROM notes").rows() == [(1, "root")]


def test_the_same_text_as_different_users_is_not_mixed_up(notes: Session) -> None:
    for _ in range(2):
        for user in USERS:
            sql = "SELECT t FROM notes WHERE id = 1"
            assert notes.execute(f"EXECUTE AS USER '{user}' ({sql})").rows() == [(user,)]
            assert notes.execute(sql, as_user=user).rows() == [(user,)]
            assert notes.execute(sql).rows() == [("root",)]


def test_a_session_may_be_told_to_run_as_another(notes: Session, refused: Any) -> None:
    assert notes.execute("SELECT t FROM notes", as_user="mia").rows() == [("mia",)]
    results = notes.execute_script("INSERT INTO notes (id) VALUES (8); SELECT 1", as_user="tom")
    assert [result.statement_kind for result in results] == ["INSERT", "SELECT"]
    with pytest.raises(
        Exception, match="^CREATE TABLE is not allowed in EXECUTE AS USER; it takes"
    ):
        notes.execute("CREATE TABLE x (id INT)", as_user="mia")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("EXECUTE AS USER 'mia' ()", "EXECUTE AS USER takes exactly one statement"),
        ("EXECUTE AS USER 'mia' (;)", "EXECUTE AS USER takes exactly one statement"),
        ("EXECUTE AS USER 'mia' (SELECT 1; SELECT 2)",
         "EXECUTE AS USER takes exactly one statement"),
        ("EXECUTE AS USER 'mia' (CREATE TABLE x (id INT))",
         "CREATE TABLE is not allowed in EXECUTE AS USER; it takes SELECT, INSERT, UPDATE, DELETE "
         "or EXPLAIN"),
        ("EXECUTE AS USER 'mia' (SHOW TABLES)",
         "SHOW TABLES is not allowed in EXECUTE AS USER; it takes SELECT, INSERT, UPDATE, DELETE "
         "or EXPLAIN"),
        ("EXECUTE AS USER 'mia' (EXECUTE AS USER 'tom' (SELECT 1))",
         "EXECUTE AS USER is not allowed in EXECUTE AS USER; it takes SELECT, INSERT, UPDATE, "
         "DELETE or EXPLAIN"),
        ("EXECUTE AS USER 'mia' (USE studio)", None),
        ("EXECUTE AS USER 'mia' (SELECT * FROM plans)",
         "EXECUTE AS USER works on USER and STREAM tables only; studio.plans is a SHARED table"),
        ("EXECUTE AS USER 'mia' (SELECT * FROM over_plans)",
         "EXECUTE AS USER works on USER and STREAM tables only; studio.plans is a SHARED table"),
        ("EXECUTE AS USER 'mia' (INSERT INTO notes (id) SELECT id FROM plans)",
         "EXECUTE AS USER works on USER and STREAM tables only; studio.plans is a SHARED table"),
        ("EXECUTE AS USER 'mia' (UPDATE notes SET t = 'x' WHERE id IN (SELECT id FROM plans))",
         "EXECUTE AS USER works on USER and STREAM tables only; studio.plans is a SHARED table"),
        ("EXECUTE AS USER 'mia' (INSERT INTO notes (id) VALUES (9) RETURNING "
         "(SELECT count(*) FROM plans))",
         "EXECUTE AS USER works on USER and STREAM tables only; studio.plans is a SHARED table"),
        ("EXECUTE AS USER 'mia' (INSERT INTO plans VALUES (1))",
         "EXECUTE AS USER works on USER and STREAM tables only; studio.plans is a SHARED table"),
        ("EXECUTE AS USER 'dora' (DELETE FROM plans WHERE true)",
         "EXECUTE AS USER works on USER and STREAM tables only; studio.plans is a SHARED table"),
        ("EXECUTE AS USER 'mia' (EXPLAIN SELECT * FROM plans)",
         "EXECUTE AS USER works on USER and STREAM tables only; studio.plans is a SHARED table"),
        ("EXECUTE AS USER 'mia' (SELECT * FROM system.users)",
         "Only 'dba' and 'system' roles can access system namespace"),
        ("EXECUTE AS USER 'sven' (SELECT * FROM gone, system.users)",
         "Only 'dba' and 'system' roles can access system namespace"),
        ("EXECUTE AS USER 'mia' (SELECT * FROM all_users('notes'))",
         "Permission denied: all_users() needs role dba or system"),
        ("EXECUTE AS USER 'mia' (SELECT * FROM gone)", "Table 'studio.gone' not found"),
        ("INSERT INTO notes (id) VALUES (9) AS USER 'mia'", None),
        ("EXECUTE AS USER (SELECT 1)", None),
        ("EXECUTE AS 'mia' (SELECT 1)", None),
    ],
)  # fmt: skip
def test_what_it_does_not_take(notes: Session, refused: Any, sql: str, message: str | None) -> None:
    error = refused(notes, sql)
    assert message is None or str(error) == message
    assert notes.execute("SELECT count(*) FROM all_users('notes')").rows() == [(5,)]


def test_a_semicolon_in_a_text_or_at_the_end_is_no_second_statement(notes: Session) -> None:
    sql = "EXECUTE AS USER 'mia' (SELECT ';', count(*) FROM notes WHERE t <> ');' ;);"
    assert notes.execute(sql).rows() == [(";", 1)]


def test_an_id_that_nobody_registered_keeps_its_rows(
    notes: Session, sven: Session, mia: Session, refused: Any
) -> None:
    sven.execute("EXECUTE AS USER 'ghost' (INSERT INTO notes (id) VALUES (1))")
    assert sven.execute("EXECUTE AS USER 'ghost' (SELECT t FROM notes)").rows() == [("ghost",)]
    assert sven.execute("EXECUTE AS USER ghost (SELECT t FROM notes)").rows() == [("ghost",)]
    assert sven.execute("EXECUTE AS USER 'Ghost' (SELECT t FROM notes)").rows() == []
    assert refused(mia, "EXECUTE AS USER 'ghost' (SELECT t FROM notes)").code == "PERMISSION_DENIED"
    assert refused(notes, "EXECUTE AS USER '' (SELECT 1)") is not None


def test_a_dropped_user_keeps_its_role_for_the_check(fresh: Any, refused: Any) -> None:
    root = fresh.session()
    root.execute("CREATE USER TABLE t (id INT PRIMARY KEY)")
    for user, role in (("old", "dba"), ("young", "user"), ("sven", "service")):
        root.execute(f"CREATE USER '{user}' INTERNAL ROLE {role}")
        root.execute(f"EXECUTE AS USER '{user}' (INSERT INTO t VALUES (1))")
    root.execute("DROP USER 'old'; DROP USER 'young'")
    sven = fresh.session("sven")
    assert sven.execute("EXECUTE AS USER 'young' (SELECT id FROM t)").rows() == [(1,)]
    assert refused(sven, "EXECUTE AS USER 'old' (SELECT id FROM t)").code == "PERMISSION_DENIED"
    assert root.execute("EXECUTE AS USER 'old' (SELECT id FROM t)").rows() == [(1,)]


def test_a_user_may_name_itself_which_changes_nothing(notes: Session, mia: Session) -> None:
    assert mia.execute("EXECUTE AS USER 'mia' (SELECT t FROM notes)").rows() == [("mia",)]
    mia.execute("EXECUTE AS USER 'mia' (UPDATE notes SET t = 'me' WHERE true)")
    assert mia.execute("SELECT t FROM notes").rows() == [("me",)]


def test_values_subqueries_and_defaults_are_the_targets(notes: Session, tom: Session) -> None:
    notes.execute(
        "EXECUTE AS USER 'tom' (INSERT INTO notes VALUES (2, (SELECT max(t) || '!' FROM notes)), "
        "(3, CURRENT_USER()))"
    )
    assert tom.execute("SELECT t FROM notes ORDER BY id").rows() == [("tom",), ("tom!",), ("tom",)]
