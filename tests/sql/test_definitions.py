"""CREATE, ALTER and DROP of tables and views."""

from __future__ import annotations

from typing import TypeVar

import pytest

from kalamdb_lab.errors import (
    InvalidDefinitionError,
    InvalidNameError,
    InvalidOptionError,
    NotSupportedError,
    SqlSyntaxError,
)
from kalamdb_lab.model.datatypes import BIGINT, BOOLEAN, INT, TEXT, decimal, parse_type
from kalamdb_lab.model.tables import TableKind
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.parse import parse_script

Kind = TypeVar("Kind", bound=s.Statement)


def one(sql: str, kind: type[Kind]) -> Kind:
    (statement,) = parse_script(sql)
    assert isinstance(statement, kind)
    return statement


def columns(definition: str) -> tuple[s.ColumnSpec, ...]:
    return one(f"CREATE TABLE t ({definition})", s.CreateTable).columns


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("TABLE", None),
        ("USER TABLE", TableKind.USER),
        ("shared table", TableKind.SHARED),
        ("STREAM TABLE", TableKind.STREAM),
    ],
)
def test_create_table(words: str, kind: TableKind | None) -> None:
    create = one(
        f"CREATE {words} IF NOT EXISTS Studio.Tracks (id BIGINT PRIMARY KEY, n INT) "
        "WITH (ttl_seconds = 300, ACCESS_LEVEL = 'Public', Use_User_Storage = TRUE, x = -1.5)",
        s.CreateTable,
    )
    assert (create.table, create.table_kind) == (("studio", "tracks"), kind)
    assert create.if_not_exists
    assert [column.name for column in create.columns] == ["id", "n"]
    assert create.options == (
        ("TTL_SECONDS", 300),
        ("ACCESS_LEVEL", "Public"),
        ("USE_USER_STORAGE", True),
        ("X", -1.5),
    )


def test_a_column_says_what_was_written_and_no_more() -> None:
    (plain,) = columns("Name TEXT")
    assert plain == s.ColumnSpec("Name", TEXT)
    (full,) = columns('"a b" DECIMAL(9, 4) NOT NULL DEFAULT 1 + 2 PRIMARY KEY')
    assert full == s.ColumnSpec(
        "a b",
        decimal(9, 4),
        quoted=True,
        nullable=False,
        default_sql="1 + 2",
        primary_key=True,
    )
    assert full.default is not None
    assert full.default.sql() == "1 + 2"


@pytest.mark.parametrize(
    ("definition", "default", "nullable"),
    [
        ("a INT DEFAULT 5 NOT NULL", "5", False),
        ("a INT NULL DEFAULT f(1, 2)", "f(1, 2)", True),
        ("a INT DEFAULT NULL", "NULL", None),
        ("a INT DEFAULT NULL NULL", "NULL", True),
        ("a BOOLEAN DEFAULT 1 IS NOT NULL", "1 IS NOT NULL", None),
        ("a BOOLEAN DEFAULT 1 IS NOT NULL NOT NULL", "1 IS NOT NULL", False),
        ("a BOOLEAN DEFAULT NOT true", "NOT true", None),
        ("a TEXT DEFAULT 'it''s, (' NOT NULL", "'it''s, ('", False),
        (
            "a INT DEFAULT CASE WHEN true THEN NULL END NOT NULL",
            "CASE WHEN true THEN NULL END",
            False,
        ),
        ("a TEXT DEFAULT UUID_V7() PRIMARY KEY", "UUID_V7()", None),
        ("a INTERVAL DEFAULT INTERVAL '1 day' NOT NULL", "INTERVAL '1 day'", False),
    ],
)
def test_where_a_default_ends(definition: str, default: str, nullable: bool | None) -> None:
    spec, other = columns(f"{definition}, z INT")
    assert (spec.default_sql, spec.nullable, other.name) == (default, nullable, "z")


@pytest.mark.parametrize(
    "written",
    [
        "BOOL",
        "DOUBLE PRECISION",
        "character varying(10)",
        "TIMESTAMP WITH TIME ZONE",
        "EMBEDDING(384)",
        "DECIMAL",
        "INT[][]",
        'STRUCT(a INT, "b c" MAP(TEXT, DECIMAL(9, 2)[]))',
    ],
)
def test_types_are_those_of_the_language(written: str) -> None:
    first, second = columns(f"a {written} NOT NULL, b {written}")
    assert first.data_type == second.data_type == parse_type(written)


@pytest.mark.parametrize("written", ["SERIAL", "BIGSERIAL", "BIGINT AUTO_INCREMENT"])
def test_serial_columns_count_by_themselves(written: str) -> None:
    assert columns(f"id {written} PRIMARY KEY") == (
        s.ColumnSpec("id", BIGINT, primary_key=True, auto_increment=True),
    )


def test_auto_increment_needs_a_whole_number() -> None:
    with pytest.raises(InvalidDefinitionError, match=r"^Column 'a': AUTO_INCREMENT needs a whole"):
        columns("a TEXT AUTO_INCREMENT")


@pytest.mark.parametrize("clause", ["PRIMARY KEY (Code)", "CONSTRAINT pk PRIMARY KEY (Code)"])
def test_the_key_may_be_a_clause_of_the_table(clause: str) -> None:
    create = one(f"CREATE TABLE t (code TEXT, {clause})", s.CreateTable)
    assert (create.primary_key, len(create.columns)) == ("Code", 1)


def test_a_table_without_columns_is_left_to_the_rules_of_tables() -> None:
    assert one("CREATE TABLE t ()", s.CreateTable).columns == ()


@pytest.mark.parametrize("query", ["SELECT 1 AS a", "(SELECT 1 AS a)", "VALUES (1)"])
def test_a_table_from_a_query(query: str) -> None:
    create = one(f"CREATE SHARED TABLE t WITH (A = 'b') AS {query};", s.CreateTable)
    assert (create.columns, create.options, create.query_sql) == ((), (("A", "b"),), query)
    assert create.query is not None


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("CREATE TABLE t (a INT UNIQUE)", "UNIQUE"),
        ("CREATE TABLE t (a INT, UNIQUE (a))", "UNIQUE"),
        ("CREATE TABLE t (a INT CHECK (a > 1))", "CHECK"),
        ("CREATE TABLE t (a INT, CONSTRAINT c CHECK (a > 1))", "CHECK"),
        ("CREATE TABLE t (a INT REFERENCES u(a))", "REFERENCES"),
        ("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES u(a))", "FOREIGN KEY"),
        ("CREATE TABLE t (a TEXT COLLATE nocase)", "COLLATE"),
        ("CREATE TABLE t (a INT GENERATED ALWAYS AS (1))", "GENERATED"),
        ("CREATE TABLE t (a INT AS (1))", "GENERATED"),
        ("CREATE TABLE t LIKE u", "CREATE TABLE ... LIKE"),
        ("CREATE TABLE t (LIKE u)", "CREATE TABLE ... LIKE"),
        ("CREATE TEMPORARY TABLE t (a INT)", "TEMPORARY"),
        ("CREATE TEMP TABLE t (a INT)", "TEMPORARY"),
        ("CREATE OR REPLACE TABLE t (a INT)", "CREATE OR REPLACE TABLE"),
        ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)", "UNIQUE"),
        ("ALTER TABLE t RENAME TO u", "ALTER TABLE ... RENAME TO"),
    ],
)
def test_what_tables_do_not_have_is_refused_by_name(sql: str, name: str) -> None:
    with pytest.raises(NotSupportedError) as fault:
        parse_script(sql)
    assert str(fault.value) == f"{name} is not supported"


def test_composite_keys_are_refused() -> None:
    with pytest.raises(
        NotSupportedError, match=r"^Composite primary keys are not supported; use one column$"
    ):
        columns("a INT, b INT, PRIMARY KEY (a, b)")


def test_two_key_clauses_are_refused() -> None:
    with pytest.raises(InvalidDefinitionError, match=r"^Only one PRIMARY KEY is allowed$"):
        columns("a INT, PRIMARY KEY (a), PRIMARY KEY (a)")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("_x", "Name '_x' is reserved: names cannot start with an underscore"),
        ('"a b"', "Invalid name 'a b': use letters"),
        ('"select"', "Name 'select' is a reserved SQL keyword"),
        ("select", "Name 'select' is a reserved SQL keyword"),
        ("größe", "Invalid name 'größe': use letters"),
        ("a" * 65, "Invalid name 'a"),
        ("a" * 1_000, "Invalid name 'a"),
    ],
)
def test_names_of_new_tables_are_checked(name: str, fault: str) -> None:
    for sql in (f"CREATE TABLE {name} (a INT)", f"CREATE VIEW n.{name} AS SELECT 1"):
        with pytest.raises(InvalidNameError) as error:
            parse_script(sql)
        assert str(error.value).startswith(fault)
        assert len(str(error.value)) < 300


def test_names_are_folded_whether_quoted_or_not() -> None:
    assert one('DROP TABLE "Studio".Tracks', s.DropTable).table == ("studio", "tracks")


def test_columns_keep_their_names_and_only_system_names_are_reserved() -> None:
    spec, quoted = columns('Key INT, "select" INT')
    assert (spec.name, quoted.name, quoted.quoted) == ("Key", "select", True)
    with pytest.raises(InvalidDefinitionError, match=r"^Column name '_seq' is reserved$"):
        columns("a INT, _seq INT")
    with pytest.raises(InvalidDefinitionError, match=r"^Column name '__Kalam_x' is reserved$"):
        columns('"__Kalam_x" INT')
    with pytest.raises(SqlSyntaxError, match=r"^Syntax error near 'select'"):
        columns("select INT")


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("CREATE TABLE", "expected a table name after CREATE TABLE"),
        ("CREATE TABLE t", "expected \\( or AS after the table name"),
        ("CREATE TABLE t (a)", "expected a type after column 'a'"),
        ("CREATE TABLE t (a INT DEFAULT)", "expected an expression after DEFAULT"),
        ("CREATE TABLE t (a INT) WITH (x)", "expected ="),
        ("CREATE TABLE t (a INT) WITH (x = )", "expected a value after ="),
        ("CREATE TABLE t (a INT) WITH (x = NULL)", "expected a value after ="),
        ("DROP TABLE IF EXISTS", "expected a table name after DROP TABLE"),
        ("CREATE VIEW v SELECT 1", "expected AS"),
        ("CREATE VIEW v AS", "expected a query"),
        ("DROP VIEW", "expected a view name after DROP VIEW"),
        ("ALTER TABLE t", "expected ADD, DROP, RENAME, MODIFY or SET after ALTER TABLE"),
        ("ALTER TABLE t RENAME a b", "expected TO"),
    ],
)
def test_what_is_missing_is_named(sql: str, fault: str) -> None:
    with pytest.raises(SqlSyntaxError, match=f"^Syntax error: {fault}$"):
        parse_script(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (a INT) AS SELECT 1",
        "CREATE TABLE t (a INT NOT NULL NULL)",
        "CREATE TABLE t (a INT DEFAULT 1 DEFAULT 2)",
        "CREATE TABLE t (a INT,)",
        "CREATE TABLE t (a INT) x",
        "CREATE TABLE t (a INT DEFAULT b c)",
        "CREATE TABLE t (a INT DEFAULT SELECT 1)",
        "DROP TABLE a, b",
        "DROP TABLE a CASCADE",
        "ALTER TABLE t ADD a INT, ADD b INT",
        "CREATE OR REPLACE VIEW IF NOT EXISTS v AS SELECT 1",
        "CREATE VIEW v AS SELECT 1; x",
    ],
)
def test_other_forms_are_syntax_errors(sql: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
        parse_script(sql)


def test_an_unknown_type_is_named_with_its_place() -> None:
    with pytest.raises(InvalidDefinitionError, match=r"^Unknown type 'MONEY'$") as fault:
        columns("a INT,\n b MONEY")
    assert (fault.value.line, fault.value.column) == (2, 4)


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ("ADD COLUMN a INT", s.AddColumn(s.ColumnSpec("a", INT))),
        (
            "ADD a BOOLEAN NOT NULL DEFAULT true",
            s.AddColumn(s.ColumnSpec("a", BOOLEAN, nullable=False, default_sql="true")),
        ),
        ("DROP COLUMN a", s.DropColumn("a")),
        ("DROP a", s.DropColumn("a")),
        ("DROP index", s.DropColumn("index")),
        ('RENAME COLUMN "a b" TO c', s.RenameColumn("a b", "c")),
        ("RENAME a TO B", s.RenameColumn("a", "B")),
        ("MODIFY COLUMN a BIGINT", s.ModifyColumn(s.ColumnSpec("a", BIGINT))),
        ("MODIFY a TEXT NULL", s.ModifyColumn(s.ColumnSpec("a", TEXT, nullable=True))),
        ("SET TBLPROPERTIES (ACCESS_LEVEL = 'Public')", s.SetAccessLevel("Public")),
        ("SET ACCESS LEVEL private", s.SetAccessLevel("private")),
    ],
)
def test_alter_table(change: str, action: s.AlterAction) -> None:
    assert one(f"ALTER TABLE n.t {change}", s.AlterTable).action == action


def test_alter_table_changes_no_other_option() -> None:
    with pytest.raises(InvalidOptionError, match=r"^Option 'TTL_SECONDS' cannot be changed; "):
        parse_script("ALTER TABLE t SET TBLPROPERTIES (TTL_SECONDS = 5)")


def test_alter_table_checks_new_names() -> None:
    for change in ("ADD _deleted INT", "RENAME a TO _deleted"):
        with pytest.raises(InvalidDefinitionError, match=r"^Column name '_deleted' is reserved$"):
            parse_script(f"ALTER TABLE t {change}")


def test_views() -> None:
    view = one('CREATE OR REPLACE VIEW N.V (a, "B c") AS SELECT 1, 2 -- two\n', s.CreateView)
    assert (view.view, view.columns) == (("n", "v"), ("a", "B c"))
    assert (view.or_replace, view.if_not_exists) == (True, False)
    assert view.query_sql == "SELECT 1, 2"
    assert one("CREATE VIEW IF NOT EXISTS v AS SELECT 1", s.CreateView).if_not_exists
    assert one("DROP VIEW IF EXISTS n.v", s.DropView).view == ("n", "v")
