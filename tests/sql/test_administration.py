"""Transactions, jobs, upkeep and backup as statements write them."""

from __future__ import annotations

import pytest

from kalamdb_lab.errors import NotSupportedError, ParametersError, SqlSyntaxError
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.parse import parse_script


@pytest.mark.parametrize(
    ("sql", "kind", "values"),
    [
        ("BEGIN", c.Begin, {}),
        ("begin transaction;", c.Begin, {}),
        ("BEGIN WORK", c.Begin, {}),
        ("START TRANSACTION", c.Begin, {}),
        ("COMMIT", c.Commit, {}),
        ("COMMIT WORK", c.Commit, {}),
        ("END", c.Commit, {}),
        ("ROLLBACK", c.Rollback, {}),
        ("ROLLBACK WORK", c.Rollback, {}),
        ("SHOW JOBS", c.ShowJobs, {}),
        ("SHOW LIVE QUERIES", c.ShowLiveQueries, {}),
        ("SHOW BACKUPS FOR DATABASE Ns", c.ShowBackups, {"namespace": "ns"}),
        ("SHOW BACKUP FOR DATABASE ns", c.ShowBackups, {"namespace": "ns"}),
        ("KILL JOB 'FL-a'", c.KillJob, {"job_id": "FL-a"}),
        ("CANCEL JOB 'FL-a'", c.KillJob, {"job_id": "FL-a"}),
        ("KILL LIVE QUERY 'x'", c.KillLiveQuery, {"live_id": "x"}),
        ("VACUUM", c.Vacuum, {"table": None}),
        ("VACUUM t", c.Vacuum, {"table": ("t",)}),
        ("VACUUM TABLE n.t", c.Vacuum, {"table": ("n", "t")}),
        ("ANALYZE t", c.Analyze, {"table": ("t",)}),
        ("ANALYZE TABLE n.t", c.Analyze, {"table": ("n", "t")}),
        (
            "BACKUP DATABASE n TO 'a/b'",
            c.BackupDatabase,
            {"namespace": "n", "directory": "a/b", "if_exists": False},
        ),
        ("BACKUP DATABASE IF EXISTS n TO 'd'", c.BackupDatabase, {"if_exists": True}),
        (
            "RESTORE DATABASE default FROM 'd'",
            c.RestoreDatabase,
            {"namespace": "default", "directory": "d", "if_not_exists": False},
        ),
        ("RESTORE DATABASE IF NOT EXISTS n FROM 'd'", c.RestoreDatabase, {"if_not_exists": True}),
    ],
)
def test_commands(sql: str, kind: type[s.Statement], values: dict[str, object]) -> None:
    (statement,) = parse_script(sql)
    assert type(statement) is kind
    assert {name: getattr(statement, name) for name in values} == values


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("START", "expected TRANSACTION"),
        ("KILL", "expected JOB or LIVE QUERY after KILL"),
        ("KILL LIVE 'x'", "expected JOB or LIVE QUERY after KILL"),
        ("KILL JOB", "expected a quoted id after KILL JOB"),
        ("CANCEL JOB x", "expected a quoted id after CANCEL JOB"),
        ("CANCEL 'x'", "expected JOB after CANCEL"),
        ("KILL LIVE QUERY", "expected a quoted id after KILL LIVE QUERY"),
        ("VACUUM TABLE", "expected a table name after VACUUM TABLE"),
        ("ANALYZE", "expected a table name after ANALYZE"),
        ("BACKUP n TO 'x'", "expected DATABASE"),
        ("BACKUP DATABASE TO 'x'", "expected TO"),
        ("BACKUP DATABASE n", "expected TO"),
        ("BACKUP DATABASE n TO x", "expected a quoted directory after TO"),
        ("RESTORE DATABASE n FROM", "expected a quoted directory after FROM"),
        ("SHOW BACKUPS", "expected FOR"),
        ("SHOW BACKUPS FOR DATABASE", "expected a namespace name after FOR DATABASE"),
    ],
)
def test_what_is_missing_is_named(sql: str, fault: str) -> None:
    with pytest.raises(SqlSyntaxError) as error:
        parse_script(sql)
    assert str(error.value) == f"Syntax error: {fault}"


@pytest.mark.parametrize(
    "sql",
    ["BEGIN x", "COMMIT x", "END WORK", "ROLLBACK x", "VACUUM t, u", "ANALYZE t x", "SHOW JOBS x"],
)
def test_nothing_may_follow(sql: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
        parse_script(sql)


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "ISOLATION LEVEL"),
        ("START TRANSACTION ISOLATION LEVEL READ COMMITTED", "ISOLATION LEVEL"),
        ("BEGIN TRANSACTION READ ONLY", "READ ONLY"),
        ("BEGIN READ WRITE", "READ WRITE"),
        ("SAVEPOINT a", "SAVEPOINT"),
        ("RELEASE SAVEPOINT a", "RELEASE"),
        ("ROLLBACK TO a", "ROLLBACK TO"),
        ("ROLLBACK WORK TO SAVEPOINT a", "ROLLBACK TO"),
        ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET TRANSACTION"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("COMMIT PREPARED 'x'", "COMMIT PREPARED"),
    ],
)
def test_other_transactions_are_refused_by_name(sql: str, name: str) -> None:
    with pytest.raises(NotSupportedError, match=f"^{name} is not supported$"):
        parse_script(sql)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("CREATE STORAGE s TYPE ? PATH 'x'", "CREATE STORAGE"),
        ("ALTER STORAGE s SET NAME ?", "ALTER STORAGE"),
        ("DROP STORAGE ?", "DROP STORAGE"),
        ("STORAGE CHECK ?", "STORAGE CHECK"),
        ("REGISTER TABLE t FROM ?", "REGISTER TABLE"),
        ("UNREGISTER TABLE ?", "UNREGISTER TABLE"),
        ("BEGIN ?", "BEGIN"),
        ("START TRANSACTION ?", "BEGIN"),
        ("COMMIT ?", "COMMIT"),
        ("KILL JOB ?", "KILL JOB"),
        ("CANCEL JOB ?", "KILL JOB"),
        ("KILL LIVE QUERY ?", "KILL LIVE QUERY"),
        ("SHOW LIVE QUERIES ?", "SHOW LIVE QUERIES"),
        ("SHOW BACKUP FOR DATABASE ?", "SHOW BACKUPS"),
        ("VACUUM ?", "VACUUM"),
        ("ANALYZE ?", "ANALYZE"),
        ("BACKUP DATABASE n TO ?", "BACKUP"),
        ("RESTORE DATABASE n FROM ?", "RESTORE"),
    ],
)
def test_commands_take_no_parameters_and_never_act_for_others(sql: str, kind: str) -> None:
    with pytest.raises(ParametersError, match=f"^Parameters are not allowed in {kind}$"):
        parse_script(sql)
    with pytest.raises(NotSupportedError, match=f"^{kind} is not allowed in EXECUTE AS USER; "):
        parse_script(f"EXECUTE AS USER 'mia' ({sql.replace('?', 'x')})")
