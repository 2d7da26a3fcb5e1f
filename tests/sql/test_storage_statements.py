"""Storages and registered tables as statements write them."""

from __future__ import annotations

from typing import TypeVar

import pytest

from kalamdb_lab.errors import InvalidNameError, InvalidOptionError, SqlSyntaxError
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.parse import parse_script

Kind = TypeVar("Kind", bound=s.Statement)


def one(sql: str, kind: type[Kind]) -> Kind:
    (statement,) = parse_script(sql)
    assert isinstance(statement, kind)
    return statement


def test_clauses_of_create_storage_stand_in_any_order() -> None:
    sql = "CREATE STORAGE IF NOT EXISTS Vault "
    clauses = [
        "PATH 'v''s'", "TYPE 'Filesystem'", "NAME 'Big disk'", "DESCRIPTION ''", "BUCKET 'b'",
        "REGION 'r'", "SHARED_TABLES_TEMPLATE 's'", "USER_TABLES_TEMPLATE 'u'",
        "CREDENTIALS '{}'", "config '{\"shards\": 4}'",
    ]  # fmt: skip
    for written in (clauses, clauses[::-1]):
        create = one(sql + " ".join(written), c.CreateStorage)
        assert (create.storage_id, create.if_not_exists) == ("vault", True)
        assert (create.storage_type, create.base_directory) == ("filesystem", "v's")
        assert (create.name, create.description) == ("Big disk", "")
        assert (create.bucket, create.region) == ("b", "r")
        assert (create.shared_tables_template, create.user_tables_template) == ("s", "u")
        assert (create.credentials, create.config) == ("{}", '{"shards": 4}')


def test_what_create_storage_does_not_say_is_none() -> None:
    create = one("CREATE STORAGE s TYPE filesystem BASE_DIRECTORY '/x'", c.CreateStorage)
    assert (create.base_directory, create.storage_type) == ("/x", "filesystem")
    assert not create.if_not_exists
    assert create.name is create.credentials is create.config is create.bucket is None


def test_a_type_without_a_directory_reaches_the_one_who_knows_types() -> None:
    assert one("CREATE STORAGE s TYPE S3 BUCKET 'b'", c.CreateStorage).storage_type == "s3"


def test_credentials_are_in_no_text_or_repr() -> None:
    sql = "CREATE STORAGE s TYPE filesystem CREDENTIALS 'hunter22' PATH 'x'"
    create = one(sql, c.CreateStorage)
    assert create.credentials == "hunter22"
    assert create.text == sql.replace("hunter22", "***")
    assert "hunter22" not in repr(create)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE STORAGE s TYPE filesystem CREDENTIALS 'hunter22'",
        "CREATE STORAGE s TYPE filesystem CREDENTIALS 'hunter22' 'hunter22' PATH 'x'",
        "CREATE STORAGE s TYPE filesystem PATH 'x' CREDENTIALS 'hunter22' CREDENTIALS 'hunter22'",
        "CREATE STORAGE s TYPE filesystem PATH 'x' CREDENTIALS 'hunter22' x",
        "CREATE STORAGE s 'hunter22'",
    ],
)
def test_credentials_are_in_no_error(sql: str) -> None:
    with pytest.raises((SqlSyntaxError, InvalidOptionError)) as fault:
        parse_script(sql)
    assert "hunter22" not in str(fault.value)


def test_alter_storage_sets_several_things() -> None:
    alter = one("ALTER STORAGE S SET NAME 'n' SET CONFIG '{}'", c.AlterStorage)
    assert (alter.storage_id, alter.name, alter.config) == ("s", "n", "{}")
    assert alter.description is alter.shared_tables_template is alter.user_tables_template is None


def test_drop_and_check() -> None:
    assert one("DROP STORAGE IF EXISTS S", c.DropStorage).if_exists
    assert not one("DROP STORAGE s", c.DropStorage).if_exists
    check = one("STORAGE CHECK S EXTENDED", c.CheckStorage)
    assert (check.storage_id, check.extended) == ("s", True)
    assert not one("STORAGE CHECK s", c.CheckStorage).extended


def test_register_table() -> None:
    register = one(
        "REGISTER TABLE Studio.Old FROM 'data/*.csv' "
        "WITH (FORMAT = 'csv', header = TRUE, DELIMITER = ';', ACCESS_LEVEL = PUBLIC)",
        c.RegisterTable,
    )
    assert (register.table, register.source) == (("studio", "old"), "data/*.csv")
    assert register.options == (
        ("FORMAT", "csv"),
        ("HEADER", True),
        ("DELIMITER", ";"),
        ("ACCESS_LEVEL", "PUBLIC"),
    )
    assert one("REGISTER TABLE t FROM 'a.parquet'", c.RegisterTable).options == ()
    assert one("UNREGISTER TABLE n.t", c.UnregisterTable).table == ("n", "t")


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("CREATE STORAGE", "expected a storage name after CREATE STORAGE"),
        ("CREATE STORAGE s", "expected TYPE"),
        ("CREATE STORAGE s PATH 'x'", "expected TYPE"),
        ("CREATE STORAGE s TYPE filesystem", "expected PATH"),
        ("CREATE STORAGE s TYPE", "expected a quoted text after TYPE"),
        ("CREATE STORAGE s TYPE filesystem PATH x", "expected a quoted text after PATH"),
        ("CREATE STORAGE s CONFIG 1", "expected a quoted JSON object after CONFIG"),
        ("ALTER STORAGE s", "expected SET"),
        (
            "ALTER STORAGE s SET PATH 'x'",
            "expected NAME, DESCRIPTION, SHARED_TABLES_TEMPLATE, USER_TABLES_TEMPLATE or CONFIG "
            "after SET, not 'PATH'",
        ),
        ("DROP STORAGE", "expected a storage name after DROP STORAGE"),
        ("STORAGE CHECK", "expected a storage name after STORAGE CHECK"),
        ("REGISTER t FROM 'x'", "expected TABLE"),
        ("REGISTER TABLE t", "expected FROM"),
        ("REGISTER TABLE t FROM x", "expected a quoted file or pattern after FROM"),
        ("REGISTER TABLE t FROM 'x' WITH", "expected ("),
        ("UNREGISTER TABLE", "expected a table name after UNREGISTER TABLE"),
    ],
)
def test_what_is_missing_is_named(sql: str, fault: str) -> None:
    with pytest.raises(SqlSyntaxError) as error:
        parse_script(sql)
    assert str(error.value) == f"Syntax error: {fault}"


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE STORAGE s TYPE filesystem PATH 'x' COLOR 'red'",
        "ALTER STORAGE s SET NAME 'a' NAME 'b'",
        "DROP STORAGE s CASCADE",
        "STORAGE CHECK s FULLY",
        "REGISTER TABLE t FROM 'x' AS u",
        "UNREGISTER TABLE t u",
    ],
)
def test_nothing_else_may_stand_there(sql: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
        parse_script(sql)


@pytest.mark.parametrize(
    ("sql", "clause"),
    [
        ("CREATE STORAGE s TYPE filesystem PATH 'x' BASE_DIRECTORY 'x'", "BASE_DIRECTORY"),
        ("CREATE STORAGE s NAME 'x' NAME 'x'", "NAME"),
        ("ALTER STORAGE s SET CONFIG '{}' SET CONFIG '{}'", "CONFIG"),
    ],
)
def test_a_clause_stands_once(sql: str, clause: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"^Storage option '{clause}' appears twice$"):
        parse_script(sql)


def test_names_of_new_things_are_checked() -> None:
    for sql in (
        "CREATE STORAGE _s TYPE x PATH 'x'",
        "CREATE STORAGE \"a b\" TYPE x PATH 'x'",
        "REGISTER TABLE n._t FROM 'x'",
    ):
        with pytest.raises(InvalidNameError):
            parse_script(sql)
