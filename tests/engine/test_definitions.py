"""Namespaces and tables: what can be defined, and the words for what cannot."""

from __future__ import annotations

from typing import Any

import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

# --- namespaces -----------------------------------------------------------------------------------


def test_a_namespace_is_made_described_used_and_dropped(s: Session) -> None:
    created = s.execute("CREATE NAMESPACE Films")
    assert created.columns == ["message"]
    assert created.row_count == 1
    assert created.rows_affected is None
    s.execute("ALTER NAMESPACE films SET DESCRIPTION 'Moving pictures'")
    shown = {row[0]: row for row in s.execute("SHOW NAMESPACES")}
    assert shown["films"][1:3] == ("Moving pictures", 0)
    for use in ("USE films", "USE NAMESPACE studio", "SET NAMESPACE FILMS"):
        s.execute(use)
    assert s.namespace == "films"
    s.execute("DROP NAMESPACE films")
    assert "films" not in {row[0] for row in s.execute("SHOW NAMESPACES")}


def test_if_not_exists_and_if_exists_do_nothing_and_say_so(s: Session) -> None:
    s.execute("CREATE TABLE plans (id INT)")
    for sql in (
        "CREATE NAMESPACE IF NOT EXISTS studio",
        "DROP NAMESPACE IF EXISTS films",
        "CREATE TABLE IF NOT EXISTS plans (other TEXT)",
        "DROP TABLE IF EXISTS gone",
        "DROP VIEW IF EXISTS gone",
    ):
        assert "nothing was done" in str(s.execute(sql).message)
    assert s.execute("SELECT * FROM plans").columns == ["id"]


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("CREATE NAMESPACE studio", "ALREADY_EXISTS", "Namespace 'studio' already exists"),
        ("CREATE NAMESPACE system", "INVALID_NAME", "Namespace 'system' is reserved"),
        (
            "CREATE NAMESPACE Information_Schema",
            "INVALID_NAME",
            "Namespace 'information_schema' is reserved",
        ),
        ("CREATE NAMESPACE kalam", "INVALID_NAME", "Namespace 'kalam' is reserved"),
        (
            'CREATE NAMESPACE "9lives"',
            "INVALID_NAME",
            "Invalid name '9lives': use letters, digits and underscores, starting with a letter, "
            "at most 64 characters",
        ),
        (
            "CREATE NAMESPACE _mine",
            "INVALID_NAME",
            "Name '_mine' is reserved: names cannot start with an underscore",
        ),
        ('CREATE NAMESPACE "select"', "INVALID_NAME", "Name 'select' is a reserved SQL keyword"),
        ("DROP NAMESPACE gone", "NOT_FOUND", "Namespace 'gone' not found"),
        ("ALTER NAMESPACE gone SET DESCRIPTION ''", "NOT_FOUND", "Namespace 'gone' not found"),
        ("USE gone", "NOT_FOUND", "Namespace 'gone' not found"),
        ("SHOW TABLES IN gone", "NOT_FOUND", "Namespace 'gone' not found"),
        ("DROP NAMESPACE system", None, "Namespace 'system' cannot be dropped"),
        ("DROP NAMESPACE default CASCADE", None, "Namespace 'default' cannot be dropped"),
        ("CREATE TABLE system.mine (id INT)", "INVALID_NAME", "Namespace 'system' is reserved"),
        ("CREATE TABLE gone.mine (id INT)", "NOT_FOUND", "Namespace 'gone' not found"),
        ("CREATE VIEW gone.v AS SELECT 1 AS a", "NOT_FOUND", "Namespace 'gone' not found"),
        (
            "CREATE TABLE a.b.c (id INT)",
            None,
            "Name 'a.b.c' has too many parts; write namespace.table",
        ),
    ],
)
def test_namespaces_are_refused_in_these_words(
    s: Session, refused: Any, sql: str, code: str | None, message: str
) -> None:
    before = s.execute("SHOW NAMESPACES").rows()
    error = refused(s, sql)
    assert str(error) == message
    assert code is None or error.code == code
    assert s.execute("SHOW NAMESPACES").rows() == before
    assert s.namespace == "studio"


def test_a_namespace_with_tables_goes_only_by_cascade(s: Session, refused: Any) -> None:
    s.execute("CREATE NAMESPACE films; CREATE TABLE films.reels (id INT PRIMARY KEY)")
    error = refused(s, "DROP NAMESPACE films")
    assert error.code == "NOT_EMPTY"
    message = "Namespace 'films' is not empty (1 table: reels); use CASCADE to drop them"
    assert str(error) == message
    s.execute("CREATE USER TABLE films.plays (id INT PRIMARY KEY)")
    finished(
        s,
        "INSERT INTO films.reels VALUES (1); EXECUTE AS USER 'mia' "
        "(INSERT INTO films.plays VALUES (1)); STORAGE FLUSH TABLE films.plays",
    )
    assert str(refused(s, "DROP NAMESPACE films")) == (
        "Namespace 'films' is not empty (2 tables: plays, reels); use CASCADE to drop them"
    )
    s.execute("DROP NAMESPACE films CASCADE")
    s.execute("CREATE NAMESPACE films; CREATE TABLE films.reels (id INT PRIMARY KEY)")
    s.execute("CREATE USER TABLE films.plays (id INT PRIMARY KEY)")
    assert s.execute("SELECT count(*) FROM films.reels").rows() == [(0,)]
    assert s.execute("SELECT count(*) FROM all_users('films.plays')").rows() == [(0,)]


def test_the_number_of_tables_follows_creates_and_drops(s: Session) -> None:
    def count() -> object:
        return {row[0]: row[2] for row in s.execute("SHOW NAMESPACES")}["studio"]

    s.execute("CREATE TABLE a (id INT); CREATE VIEW b AS SELECT * FROM a")
    assert count() == 2
    s.execute("DROP VIEW b; DROP TABLE a")
    assert count() == 0


def test_names_of_tables_fold_and_columns_keep_their_case(s: Session) -> None:
    s.execute('CREATE TABLE "Plans" (Id INT PRIMARY KEY, "Track No" TEXT, "select" INT, "_x" INT)')
    s.execute("INSERT INTO PLANS (ID, \"track no\") VALUES (1, 'one')")
    answer = s.execute('SELECT * FROM studio."PLANS" WHERE iD = 1')
    assert answer.columns == ["Id", "Track No", "select", "_x"]
    assert answer.rows() == [(1, "one", None, None)]
    assert s.execute('SELECT "TRACK NO" AS "From", ID fRom_ FROM plans').columns == [
        "From",
        "fRom_",
    ]


def test_ordinary_words_are_names(s: Session) -> None:
    words = "key value values role name status timestamp content user date type level code index"
    for word in [*words.split(), "view"]:
        s.execute(f"CREATE TABLE {word}_t ({word} TEXT)")
        s.execute(f"INSERT INTO {word}_t ({word}) VALUES ('x')")
        assert s.execute(f"SELECT {word} FROM {word}_t").rows() == [("x",)]


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("CREATE TABLE t ()", "A table needs at least one column"),
        ("CREATE TABLE t (a INT, A TEXT)", "Column 'A' appears twice"),
        ("CREATE TABLE t (_seq INT)", "Column name '_seq' is reserved"),
        ('CREATE TABLE t ("_DELETED" INT)', "Column name '_DELETED' is reserved"),
        ('CREATE TABLE t ("__kalamity" INT)', "Column name '__kalamity' is reserved"),
        ("CREATE USER TABLE t (a INT)", "USER tables require a PRIMARY KEY column"),
        (
            "CREATE TABLE t (a INT, b INT, PRIMARY KEY (a, b))",
            "Composite primary keys are not supported; use one column",
        ),
        (
            "CREATE TABLE t (a INT PRIMARY KEY, b INT PRIMARY KEY)",
            "Only one PRIMARY KEY is allowed",
        ),
        (
            "CREATE TABLE t (a INT, PRIMARY KEY (code))",
            "Primary key column 'code' is not a column of the table",
        ),
        ("CREATE TABLE t (a INT UNIQUE)", "UNIQUE is not supported"),
        ("CREATE TABLE t (a INT CHECK (a > 0))", "CHECK is not supported"),
        ("CREATE TABLE t (a INT REFERENCES b (c))", "REFERENCES is not supported"),
        ("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES b (c))", "FOREIGN KEY is not supported"),
        ("CREATE TABLE t (a TEXT COLLATE nocase)", "COLLATE is not supported"),
        ("CREATE TEMPORARY TABLE t (a INT)", "TEMPORARY is not supported"),
        ("CREATE TABLE t (a MONEY)", "Unknown type 'MONEY'"),
        ("CREATE TABLE t (a DECIMAL(40, 2))", "DECIMAL precision must be 1 to 38, not 40"),
        ("CREATE TABLE t (a DECIMAL(5, 9))", "DECIMAL scale must be 0 to the precision, not 9"),
        ("CREATE TABLE t (a EMBEDDING(9000))", "Embedding dimension must be 1 to 8192, not 9000"),
        ("CREATE TABLE t (a EMBEDDING)", "EMBEDDING needs a dimension, as in EMBEDDING(384)"),
        ("CREATE TABLE t (seconds INT DEFAULT 'x')", "Default of column 'seconds' does not fit INT"),
        (
            "CREATE TABLE t (seconds INT DEFAULT upper('x'))",
            "Default of column 'seconds' does not fit INT",
        ),
        (
            "CREATE TABLE t (seconds SMALLINT DEFAULT 40000)",
            "Default of column 'seconds' does not fit SMALLINT",
        ),
        ("CREATE TABLE t (a INT) WITH (TYPE = 'X')",
         "Unknown table type 'X'; use USER, SHARED or STREAM"),
        ("CREATE SHARED TABLE t (a INT) WITH (TYPE = 'user')",
         "Table type conflict: CREATE SHARED TABLE with TYPE 'USER'"),
        ("CREATE TABLE t (a INT) WITH (STORAGE_ID = 'nas')", "Storage 'nas' not found"),
        ("CREATE STREAM TABLE t (a INT) WITH (STORAGE_ID = 'local', TTL_SECONDS = 1)",
         "STORAGE_ID is not supported for STREAM tables"),
        ("CREATE TABLE t (a INT) WITH (USE_USER_STORAGE = TRUE)",
         "USE_USER_STORAGE is only supported for USER tables"),
        ("CREATE TABLE t (a INT) WITH (FLUSH_POLICY = 'rows:none')",
         "Invalid FLUSH_POLICY 'rows:none': use rows:N, interval:N or rows:N,interval:N with N of "
         "at least 1"),
        ("CREATE TABLE t (a INT) WITH (FLUSH_POLICY = 'rows:0')",
         "Invalid FLUSH_POLICY 'rows:0': use rows:N, interval:N or rows:N,interval:N with N of "
         "at least 1"),
        ("CREATE TABLE t (a INT) WITH (DELETED_RETENTION_HOURS = -1)",
         "DELETED_RETENTION_HOURS must be a whole number of hours, 0 or more"),
        ("CREATE TABLE t (a INT) WITH (DELETED_RETENTION_HOURS = 1.5)",
         "DELETED_RETENTION_HOURS must be a whole number of hours, 0 or more"),
        ("CREATE STREAM TABLE t (a INT)", "STREAM tables require TTL_SECONDS"),
        ("CREATE STREAM TABLE t (a INT) WITH (TTL_SECONDS = 0)",
         "TTL_SECONDS must be a whole number of seconds, 1 or more"),
        ("CREATE TABLE t (a INT) WITH (TTL_SECONDS = 5)",
         "TTL_SECONDS is only supported for STREAM tables"),
        ("CREATE TABLE t (a INT) WITH (ACCESS_LEVEL = 'OPEN')",
         "Unknown ACCESS_LEVEL 'OPEN'; use PUBLIC, PRIVATE or RESTRICTED"),
        ("CREATE USER TABLE t (a INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')",
         "ACCESS_LEVEL is only supported for SHARED tables"),
        ("CREATE TABLE t (a INT) WITH (COLOUR = 'red')", "Unknown table option 'COLOUR'"),
        ("CREATE TABLE t (a INT) WITH (ACCESS_LEVEL = 'PUBLIC', access_level = 'PUBLIC')", None),
        ("CREATE TABLE t (id INT DEFAULT other)", None),
        ("CREATE TABLE t (id INT DEFAULT (SELECT 1))", None),
        ("CREATE TABLE t (id INT DEFAULT ?)", None),
        ("CREATE TABLE t (id INT DEFAULT current_setting('x'))",
         "Function 'current_setting' is not allowed"),
        ("CREATE TABLE t LIKE other", "CREATE TABLE ... LIKE is not supported"),
    ],
)  # fmt: skip
def test_a_definition_that_cannot_hold_is_refused_and_leaves_nothing(
    s: Session, refused: Any, sql: str, message: str | None
) -> None:
    error = refused(s, sql)
    assert message is None or str(error) == message
    assert s.execute("SHOW TABLES IN studio").rows() == []
    assert s.execute("CREATE TABLE t (id INT)").message == "Table 'studio.t' created"


@pytest.mark.parametrize("unfit", ["FLOAT", "DOUBLE", "JSON", "EMBEDDING(2)", "INT[]"])
def test_a_key_is_of_a_type_that_can_be_told_apart(s: Session, refused: Any, unfit: str) -> None:
    error = refused(s, f"CREATE TABLE t (id {unfit} PRIMARY KEY)")
    assert error.code == "INVALID_DEFINITION"
    s.execute("CREATE TABLE t (id DECIMAL(9, 4), PRIMARY KEY (ID))")
    assert s.execute("DESCRIBE t").rows() == [("id", "DECIMAL(9, 4)", False, True, None, 1)]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE USER TABLE t (id INT PRIMARY KEY) WITH (TYPE = 'USER', STORAGE_ID = 'local', "
        "USE_USER_STORAGE = FALSE, flush_policy = 'rows:10,interval:5', "
        "DELETED_RETENTION_HOURS = 0)",
        "CREATE TABLE t (id INT PRIMARY KEY) WITH (TYPE = 'stream', TTL_SECONDS = 60)",
        "CREATE TABLE t (id INT) WITH (ACCESS_LEVEL = 'restricted', FLUSH_POLICY = 'interval:9')",
        "CREATE TABLE t (id BIGSERIAL PRIMARY KEY)",
        "CREATE TABLE t (id BIGINT AUTO_INCREMENT, CONSTRAINT pk PRIMARY KEY (id))",
    ],
)
def test_every_option_has_a_place_where_it_holds(s: Session, sql: str) -> None:
    s.execute(sql)
    s.execute("INSERT INTO t (id) VALUES (1)")
    assert s.execute("SELECT id FROM t").rows() == [(1,)]


def test_the_kind_comes_from_the_word_or_the_option(s: Session) -> None:
    s.execute(
        """CREATE TABLE a (id INT);
        CREATE TABLE b (id INT PRIMARY KEY) WITH (TYPE = 'User');
        CREATE STREAM TABLE c (id INT) WITH (TTL_SECONDS = 9);
        CREATE SHARED TABLE d (id INT) WITH (access_level = 'public');"""
    )
    shown = {row[1]: row[2:5] for row in s.execute("SHOW TABLES")}
    assert shown == {
        "a": ("shared", "private", 1),
        "b": ("user", None, 1),
        "c": ("stream", None, 1),
        "d": ("shared", "public", 1),
    }


def test_serial_and_auto_increment_make_growing_keys(s: Session) -> None:
    s.execute("CREATE TABLE a (id SERIAL PRIMARY KEY, n INT)")
    s.execute("CREATE TABLE b (n INT, id BIGINT AUTO_INCREMENT PRIMARY KEY)")
    assert s.execute("DESCRIBE a").rows()[0] == (
        "id", "BIGINT", False, True, "SNOWFLAKE_ID()", 1,
    )  # fmt: skip
    s.execute("INSERT INTO a (n) VALUES (1), (2); INSERT INTO a (n) VALUES (3)")
    ids = [row[0] for row in s.execute("SELECT id FROM a ORDER BY n")]
    assert ids == sorted(set(ids))
    assert s.execute("INSERT INTO b (n) VALUES (1) RETURNING id > 0").rows() == [(True,)]


def test_a_table_is_made_from_a_query(s: Session, refused: Any) -> None:
    s.execute("CREATE TABLE plans (id INT PRIMARY KEY, title TEXT NOT NULL, price DECIMAL(8, 2))")
    s.execute("INSERT INTO plans VALUES (1, 'Solo', 9.5), (2, 'Duo', NULL)")
    made = s.execute(
        "CREATE TABLE copies WITH (ACCESS_LEVEL = 'PUBLIC') AS "
        'SELECT id, title AS "Title", price FROM plans'
    )
    assert made.message == "Table 'studio.copies' created with 2 rows"
    assert [row[:4] for row in s.execute("DESCRIBE copies")] == [
        ("id", "INT", True, False),
        ("Title", "TEXT", True, False),
        ("price", "DECIMAL(8, 2)", True, False),
    ]
    s.execute("INSERT INTO copies SELECT * FROM copies")
    assert s.execute("SELECT count(*) FROM copies").rows() == [(4,)]
    assert str(refused(s, "CREATE TABLE t AS SELECT 1 AS a, 2 AS A")) == "Column 'A' appears twice"
    assert (
        str(refused(s, "CREATE TABLE t AS SELECT * FROM gone")) == "Table 'studio.gone' not found"
    )
    assert refused(s, "CREATE TABLE t AS SELECT 1 / 0 AS a").code == "DIVISION_BY_ZERO"
    assert "t" not in {row[1] for row in s.execute("SHOW TABLES")}


def test_drop_table_minds_the_kind_and_takes_all_scopes(s: Session, refused: Any) -> None:
    s.execute("CREATE SHARED TABLE tracks (id INT PRIMARY KEY); CREATE VIEW v AS SELECT 1 AS a")
    assert str(refused(s, "DROP USER TABLE tracks")) == (
        "studio.tracks is a SHARED table, not a USER table"
    )
    assert str(refused(s, "DROP TABLE v")) == "studio.v is a view, not a table; use DROP VIEW"
    assert str(refused(s, "DROP TABLE gone")) == "Table 'studio.gone' not found"
    assert str(refused(s, "CREATE TABLE tracks (a INT)")) == "Table 'studio.tracks' already exists"
    s.execute("DROP SHARED TABLE tracks")
    s.execute("CREATE USER TABLE tracks (id INT PRIMARY KEY)")
    for user in ("mia", "tom"):
        s.execute(f"EXECUTE AS USER '{user}' (INSERT INTO tracks VALUES (1))")
    finished(s, "STORAGE FLUSH TABLE tracks")
    s.execute("EXECUTE AS USER 'mia' (INSERT INTO tracks VALUES (2))")
    s.execute("DROP USER TABLE tracks; CREATE USER TABLE tracks (id INT PRIMARY KEY)")
    assert s.execute("SELECT * FROM all_users('studio.tracks')").rows() == []
    assert s.execute("SHOW MANIFEST FOR TABLE tracks").rows() == []


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("TRUNCATE TABLE t", "TRUNCATE is not supported; use DELETE FROM t WHERE true"),
        ("GRANT SELECT ON t TO mia", "GRANT is not supported"),
        ("REVOKE SELECT ON t FROM mia", "REVOKE is not supported"),
        ("COPY t TO 'x.csv'", "COPY is not supported"),
        ("ATTACH 'x.db'", "ATTACH is not supported"),
        ("PRAGMA database_list", "PRAGMA is not supported"),
        ("SET threads = 4", "SET is not supported"),
        ("CREATE SEQUENCE q", "CREATE SEQUENCE is not supported"),
        ("CREATE MACRO m(a) AS a + 1", "CREATE MACRO is not supported"),
        ("CREATE TRIGGER g", "CREATE TRIGGER is not supported"),
        ("CREATE TOPIC t", "CREATE TOPIC is not supported yet"),
        ("SAVEPOINT a", "SAVEPOINT is not supported"),
    ],
)
def test_statements_of_other_databases_are_refused_by_name(
    s: Session, mia: Session, refused: Any, sql: str, message: str
) -> None:
    for session in (s, mia):
        error = refused(session, sql)
        assert (error.code, str(error)) == ("NOT_SUPPORTED", message)


def test_two_sessions_see_a_definition_at_once(s: Session, sven: Session) -> None:
    s.execute("CREATE TABLE plans (id INT PRIMARY KEY)")
    sven.execute("INSERT INTO plans VALUES (1)")
    s.execute("ALTER TABLE plans ADD COLUMN title TEXT DEFAULT 'none'")
    assert sven.execute("SELECT * FROM plans").rows() == [(1, "none")]
    s.execute("DROP TABLE plans")
    with pytest.raises(Exception, match=r"^Table 'studio\.plans' not found$"):
        sven.execute("SELECT * FROM plans")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("_seq", "Column name '_seq' is reserved"),
        ("_Deleted", "Column name '_Deleted' is reserved"),
        ("__kalam_x", "Column name '__kalam_x' is reserved"),
        (
            "a" * 129,
            f"Invalid column name '{'a' * 40}': use 1 to 128 characters without control characters",
        ),
    ],
)
def test_a_query_names_columns_as_a_definition_may(
    s: Session, refused: Any, name: str, message: str
) -> None:
    assert str(refused(s, f'CREATE TABLE c AS SELECT 1 AS "{name}"')) == message
    s.execute('CREATE TABLE c AS SELECT 1 AS "odd name"')
