"""The statements made of KalamDB's own words."""

from __future__ import annotations

import pytest

from kalamdb_lab.errors import InvalidNameError, InvalidOptionError, SqlSyntaxError
from kalamdb_lab.model.entities import AuthType
from kalamdb_lab.model.roles import Role
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.parse import parse_script

COMMON = ("text", "line", "column", "parameters", "depth", "kind")


def fields(sql: str) -> tuple[type[s.Statement], dict[str, object]]:
    (statement,) = parse_script(sql)
    names = [name for name in type(statement).__dataclass_fields__ if name not in COMMON]
    return type(statement), {name: getattr(statement, name) for name in names}


@pytest.mark.parametrize(
    ("sql", "kind", "values"),
    [
        ("CREATE NAMESPACE Studio", s.CreateNamespace, {"name": "studio", "if_not_exists": False}),
        (
            "create namespace if not exists s;",
            s.CreateNamespace,
            {"name": "s", "if_not_exists": True},
        ),
        (
            "DROP NAMESPACE IF EXISTS s CASCADE",
            s.DropNamespace,
            {"name": "s", "if_exists": True, "cascade": True},
        ),
        (
            "ALTER NAMESPACE s SET DESCRIPTION 'it''s'",
            s.AlterNamespace,
            {"name": "s", "description": "it's"},
        ),
        ("USE s", s.UseNamespace, {"name": "s"}),
        ("USE NAMESPACE s", s.UseNamespace, {"name": "s"}),
        ("SET NAMESPACE s", s.UseNamespace, {"name": "s"}),
        ("USE namespace", s.UseNamespace, {"name": "namespace"}),
        ("USE default", s.UseNamespace, {"name": "default"}),
        ("DESCRIBE t", c.Describe, {"table": ("t",), "history": False}),
        ("DESC TABLE default.t", c.Describe, {"table": ("default", "t"), "history": False}),
        ("DESCRIBE TABLE t HISTORY", c.Describe, {"table": ("t",), "history": True}),
        ("SHOW NAMESPACES", c.ShowNamespaces, {}),
        ("SHOW TABLES", c.ShowTables, {"namespace": None}),
        ("SHOW TABLES IN s", c.ShowTables, {"namespace": "s"}),
        ("SHOW TABLES IN NAMESPACE s", c.ShowTables, {"namespace": "s"}),
        ("SHOW STORAGES", c.ShowStorages, {}),
        ("SHOW STATS FOR TABLE s.t", c.ShowStats, {"table": ("s", "t")}),
        ("SHOW MANIFEST", c.ShowManifest, {"table": None}),
        ("SHOW MANIFEST FOR TABLE t", c.ShowManifest, {"table": ("t",)}),
        ("SHOW USERS", c.ShowUsers, {}),
        ("STORAGE FLUSH TABLE s.t", c.FlushTable, {"table": ("s", "t")}),
        ("FLUSH TABLE t", c.FlushTable, {"table": ("t",)}),
        ("STORAGE FLUSH ALL", c.FlushAll, {"namespace": None}),
        ("STORAGE FLUSH ALL IN NAMESPACE s", c.FlushAll, {"namespace": "s"}),
        ("FLUSH ALL TABLES IN s", c.FlushAll, {"namespace": "s"}),
        ("STORAGE COMPACT TABLE t", c.CompactTable, {"table": ("t",)}),
        ("OPTIMIZE t", c.CompactTable, {"table": ("t",)}),
        ("OPTIMIZE TABLE t", c.CompactTable, {"table": ("t",)}),
        ("STORAGE COMPACT ALL IN s", c.CompactAll, {"namespace": "s"}),
        ("DROP USER IF EXISTS 'mia'", c.DropUser, {"user_id": "mia", "if_exists": True}),
        ("DROP USER Mia", c.DropUser, {"user_id": "Mia", "if_exists": False}),
    ],
)
def test_commands(sql: str, kind: type[s.Statement], values: dict[str, object]) -> None:
    assert fields(sql) == (kind, values)


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("STORAGE FLUSH TABLE", "expected a table name after STORAGE FLUSH TABLE"),
        ("STORAGE FLUSH TABLE 't'", "expected a table name after STORAGE FLUSH TABLE"),
        ("STORAGE FLUSH", "expected TABLE or ALL after STORAGE FLUSH"),
        ("STORAGE", "expected FLUSH, COMPACT or CHECK after STORAGE"),
        ("FLUSH ALL TABLES IN", "expected a namespace name after FLUSH ALL TABLES IN"),
        ("OPTIMIZE", "expected a table name after OPTIMIZE"),
        ("USE", "expected a namespace name after USE"),
        ("SHOW STATS t", "expected FOR"),
        ("SHOW STATS FOR TABLE", "expected a table name after SHOW STATS FOR TABLE"),
        ("DESCRIBE", "expected a table name after DESCRIBE"),
        ("ALTER NAMESPACE s SET DESCRIPTION x", "expected a quoted text after DESCRIPTION"),
        ("CREATE USER", "expected a user id after CREATE USER"),
        ('CREATE USER "mia" INTERNAL ROLE user', "expected a user id after CREATE USER"),
        ("CREATE USER select INTERNAL ROLE user", "expected a user id after CREATE USER"),
        ("CREATE USER 'x' PASSWORD 'pw' ROLE user", "expected WITH PASSWORD, OAUTH or INTERNAL"),
        ("CREATE USER 'x' WITH ROLE user", "expected WITH PASSWORD, OAUTH or INTERNAL"),
        ("CREATE USER 'x' WITH PASSWORD 'pw'", "expected ROLE"),
        ("CREATE USER 'x' INTERNAL", "expected ROLE"),
        ("CREATE USER 'x' WITH PASSWORD pw ROLE user", "expected a quoted password after PASSWORD"),
        (
            "ALTER USER 'x' SET COLOR 'red'",
            "expected PASSWORD, ROLE or EMAIL after SET, not 'COLOR'",
        ),
        ("ALTER USER 'x' SET PASSWORD", "expected a quoted password after PASSWORD"),
    ],
)
def test_what_is_missing_is_named(sql: str, fault: str) -> None:
    with pytest.raises(SqlSyntaxError) as error:
        parse_script(sql)
    assert str(error.value) == f"Syntax error: {fault}"


@pytest.mark.parametrize("sql", ["SHOW", "SHOW COLUMNS"])
def test_what_can_be_shown_is_listed(sql: str) -> None:
    with pytest.raises(SqlSyntaxError, match="expected NAMESPACES, TABLES, .* after SHOW$"):
        parse_script(sql)


@pytest.mark.parametrize(
    "sql", ["USE a b", "SHOW USERS x", "FLUSH TABLE t x", "DESCRIBE t x", "SHOW STORAGES 'x'"]
)
def test_nothing_may_follow(sql: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
        parse_script(sql)


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        (
            "CREATE USER 'Mia B' WITH PASSWORD 'it''s long' ROLE Viewer EMAIL 'm@x'",
            ("Mia B", AuthType.PASSWORD, "it's long", None, Role.USER, "m@x"),
        ),
        (
            "CREATE USER tom OAUTH '{\"provider\": \"x\"}' ROLE 'admin'",
            ("tom", AuthType.OAUTH, None, '{"provider": "x"}', Role.DBA, None),
        ),
        ("CREATE USER t WITH OAUTH ROLE dba", ("t", AuthType.OAUTH, None, None, Role.DBA, None)),
        (
            "CREATE USER t INTERNAL EMAIL 'e' ROLE service",
            ("t", AuthType.INTERNAL, None, None, Role.SERVICE, "e"),
        ),
    ],
)
def test_create_user(sql: str, values: tuple[object, ...]) -> None:
    kind, found = fields(sql)
    assert kind is c.CreateUser
    assert tuple(found.values()) == values


def test_alter_user() -> None:
    assert fields("ALTER USER 'x' SET ROLE dba")[1]["role"] is Role.DBA
    assert fields("ALTER USER 'x' SET EMAIL 'e'")[1]["email"] == "e"
    assert fields("ALTER USER 'x' SET PASSWORD 'secret'")[1]["password"] == "secret"


def test_an_unknown_role_is_named() -> None:
    with pytest.raises(
        InvalidOptionError, match=r"^Unknown role 'captain'; use user, service, dba or system$"
    ):
        parse_script("CREATE USER 'x' INTERNAL ROLE captain")


def test_user_ids_are_checked_and_never_folded() -> None:
    with pytest.raises(InvalidNameError, match="^Invalid user id"):
        parse_script("DROP USER ''")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE USER 'x' WITH PASSWORD 'hunter22' ROLE user",
        "ALTER USER 'x' SET PASSWORD 'hunter22'",
    ],
)
def test_a_password_is_in_no_text_or_repr(sql: str) -> None:
    (statement,) = parse_script(sql)
    assert statement.text == sql.replace("hunter22", "***")
    assert "hunter22" not in repr(statement)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE USER 'x' WITH PASSWORD 'hunter22'",
        "CREATE USER 'x' WITH PASSWORD 'hunter22' 'hunter22' ROLE user",
        "CREATE USER 'x' WITH PASSWORD 'hunter22' ROLE 'hunter22",
        "CREATE USER 'x' WITH 'hunter22' ROLE user",
        "ALTER USER 'x' SET PASSWORD 'hunter22' x",
        "ALTER USER 'x' SET 'hunter22'",
    ],
)
def test_a_password_is_in_no_error(sql: str) -> None:
    with pytest.raises(SqlSyntaxError) as fault:
        parse_script(sql)
    assert "hunter22" not in str(fault.value)
