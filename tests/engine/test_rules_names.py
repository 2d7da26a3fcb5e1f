"""Section 1 of the language, rule by rule: lexical rules and names."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import InvalidDefinitionError, InvalidNameError
from kalamdb_lab.model.ids import RESERVED_KEYWORDS, RESERVED_NAMESPACES
from kalamdb_lab.query.duck import VERSION
from kalamdb_lab.testing.jobs import finished

FORM = "use letters, digits and underscores, starting with a letter, at most 64 characters"

# --- texts and literals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE NAMESPACE films; DROP NAMESPACE films",
        "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); ALTER TABLE t ADD c INT",
        "CREATE VIEW v AS SELECT 1 AS a; SELECT * FROM v; DESCRIBE v; DROP VIEW v",
        "BEGIN; SELECT 1; COMMIT; SHOW TABLES; STORAGE FLUSH ALL IN studio",
        "CREATE USER 'eve of semicolons' INTERNAL ROLE user; DROP USER 'eve of semicolons'; EXECUTE AS USER 'mia' (SELECT 1;)",
    ],
)
def test_a_trailing_semicolon_is_fine_after_every_command(s: Session, sql: str) -> None:
    for number, part in enumerate(sql.split("; ")):
        s.execute(f"{part};" if number % 2 else f" ;; -- one\n{part} /* two */ ;; ;")


LITERALS: list[tuple[str, object, str]] = [
    ("12345678901234567", 12345678901234567, "BIGINT"),
    ("7", 7, "INT"),
    ("9223372036854775808", Decimal(2**63), "DECIMAL(38, 0)"),
    ("0.25", Decimal("0.25"), "DECIMAL(3, 2)"),
    ("2e6", 2e6, "DOUBLE"),
    ("'it''s \\n 100% ? $1 ; -- /*'", "it's \\n 100% ? $1 ; -- /*", "TEXT"),
    ("''", "", "TEXT"),
    ("X'0AFF'", b"\x0a\xff", "BYTES"),
    ("x''", b"", "BYTES"),
    ("TRUE", True, "BOOLEAN"),
    ("False", False, "BOOLEAN"),
    ("NULL", None, "TEXT" if VERSION >= (2, 0) else "INT"),
    ("DATE '2031-04-30'", date(2031, 4, 30), "DATE"),
    ("TIME '18:05:00.5'", time(18, 5, 0, 500_000), "TIME"),
    ("TIMESTAMP '2031-04-30T18:05:00'", datetime.fromisoformat("2031-04-30 18:05"), "TIMESTAMP"),
    ("DATETIME '2031-04-30 18:05:00+02:00'", datetime(2031, 4, 30, 16, 5, tzinfo=UTC), "DATETIME"),
    ("INTERVAL '3 hours 5 minutes'", timedelta(hours=3, minutes=5), "INTERVAL"),
]


def test_a_literal_keeps_its_kind(s: Session) -> None:
    for text, value, kind in LITERALS:
        answer = s.execute(f"SELECT {text}")
        ((found,),) = answer.rows()
        assert (found, type(found), str(answer.types[0])) == (value, type(value), kind), text


# --- folding --------------------------------------------------------------------------------------


def test_names_of_things_are_folded_quoted_or_not(s: Session) -> None:
    s.execute('CREATE NAMESPACE "Films"; USE FILMS; CREATE TABLE "Reels" (Id INT PRIMARY KEY)')
    s.execute("""CREATE VIEW "LongReels" AS SELECT ID FROM "REELS"; INSERT INTO rEELS VALUES (1)""")
    assert s.namespace == "films"
    assert [row[:2] for row in s.execute('SHOW TABLES IN "FILMS"')] == [
        ("films", "longreels"),
        ("films", "reels"),
    ]
    for name in ("films.reels", '"FILMS"."Reels"', "Films.LONGREELS", '"longreels"'):
        assert s.execute(f"SELECT * FROM {name}").rows() == [(1,)]


def test_columns_are_matched_without_regard_to_case_and_keep_theirs(s: Session) -> None:
    s.execute('CREATE TABLE t (Id INT PRIMARY KEY, "Track No" TEXT, "select" INT, fooBar INT)')
    s.execute('INSERT INTO t (iD, "TRACK NO", "SELECT", FOOBAR) VALUES (1, \'a\', 2, 3)')
    s.execute('UPDATE t SET "track no" = upper("Track NO"), foobar = FooBar + 1 WHERE ID = 1')
    for sql in ("SELECT * FROM t", 'SELECT "ID", "track no", "Select", FOOBAR FROM t WHERE id = 1'):
        answer = s.execute(sql)
        assert answer.columns == ["Id", "Track No", "select", "fooBar"]
        assert answer.rows() == [(1, "A", 2, 4)]


def test_an_alias_in_a_select_list_is_kept_as_written(s: Session) -> None:
    answer = s.execute(
        'SELECT 1 AS "Track No", 2 AS "from", 3 AS MiXed, 4 AS "_seq", 5 AS _low, 6 "a;b--c", '
        '7 AS "\u00fcn\u00ef ""q""", 8 AS "__kalam_x"'
    )
    assert answer.columns == [
        "Track No", "from", "MiXed", "_seq", "_low", "a;b--c", 'ünï "q"', "__kalam_x",
    ]  # fmt: skip
    assert answer.rows() == [(1, 2, 3, 4, 5, 6, 7, 8)]
    nested = 'SELECT "Track No" + 1 AS "Next" FROM (SELECT 1 AS "Track No") x ORDER BY "next"'
    assert s.execute(nested).columns == ["Next"]


# --- what a name may be ---------------------------------------------------------------------------

DEFINE = {
    "namespace": "CREATE NAMESPACE {}",
    "table": "CREATE TABLE {} (a INT)",
    "view": "CREATE VIEW {} AS SELECT 1 AS a",
    "storage": "CREATE STORAGE {} TYPE filesystem PATH 'names'",
    "column": "CREATE TABLE names (a INT, {} INT)",
}
NAMES = [
    ("_x", "INVALID_NAME", "Name '_x' is reserved: names cannot start with an underscore"),
    ("größe", "INVALID_NAME", f"Invalid name 'größe': {FORM}"),
]
QUOTED_NAMES = [
    *(('"' + name + '"', code, message) for name, code, message in NAMES),
    ('"9lives"', "INVALID_NAME", f"Invalid name '9lives': {FORM}"),
    ('"a b"', "INVALID_NAME", f"Invalid name 'a b': {FORM}"),
    ('"a-b"', "INVALID_NAME", f"Invalid name 'a-b': {FORM}"),
    ('"' + "x" * 65 + '"', "INVALID_NAME", f"Invalid name '{'x' * 65}': {FORM}"),
]


@pytest.mark.parametrize("thing", DEFINE)
def test_a_name_is_of_letters_digits_and_underscores(s: Session, refused: Any, thing: str) -> None:
    long = ("x" * 65, "INVALID_NAME", f"Invalid name '{'x' * 65}': {FORM}")
    for name, code, message in [*NAMES, long, *(QUOTED_NAMES if thing != "column" else [])]:
        error = refused(s, DEFINE[thing].format(name))
        assert (error.code, str(error)) == (code, message)
    s.execute(DEFINE[thing].format("Az_09" + "x" * 59))


@pytest.mark.parametrize("thing", [thing for thing in DEFINE if thing != "column"])
def test_a_keyword_names_nothing_but_a_column_even_quoted(
    s: Session, refused: Any, thing: str
) -> None:
    for word in sorted(RESERVED_KEYWORDS):
        if thing == "namespace" and word == "default":
            continue
        error = refused(s, DEFINE[thing].format(f'"{word.upper()}"'))
        assert (error.code, str(error)) == (
            "INVALID_NAME",
            f"Name '{word}' is a reserved SQL keyword",
        )
        assert refused(s, DEFINE[thing].format(word)).code in ("INVALID_NAME", "SYNTAX")


def test_a_quoted_column_may_have_any_name_but_those_of_the_system(
    s: Session, refused: Any
) -> None:
    names = [*sorted(RESERVED_KEYWORDS), "_x", "a b", "ünï", "\U0001f600", "9", "a.b", "é" * 128]
    quoted = [f'"{name}"' for name in names]
    s.execute(f"CREATE TABLE t ({', '.join(f'{name} INT' for name in quoted)})")
    assert s.execute("SELECT * FROM t").columns == names
    values = list(range(len(names)))
    marks = ", ".join("?" * len(names))
    s.execute(f"INSERT INTO t ({', '.join(quoted)}) VALUES ({marks})", values)
    assert s.execute(f"SELECT {', '.join(quoted)} FROM t").rows() == [tuple(values)]
    for name in ("_seq", "_DELETED", "__kalam", "__KALAMx"):
        for sql in (f'CREATE TABLE u ("{name}" INT)', f'ALTER TABLE t ADD COLUMN "{name}" INT'):
            error = refused(s, sql)
            assert str(error) == f"Column name '{name}' is reserved"
    for name, shown in [("", None), ("é" * 129, None), ("a\tb", "a b"), ("a\nb", "a b")]:
        error = refused(s, f'CREATE TABLE u ("{name}" INT)')
        assert error.code in ("INVALID_NAME", "SYNTAX")
        assert shown is None or f"'{shown}'" in str(error)


@pytest.mark.parametrize("namespace", sorted(RESERVED_NAMESPACES))
def test_a_reserved_namespace_takes_no_create_or_drop_from_root_either(
    s: Session, refused: Any, namespace: str
) -> None:
    for sql in (
        f"CREATE NAMESPACE {namespace.upper()}",
        f'CREATE NAMESPACE IF NOT EXISTS "{namespace}"',
        f"CREATE TABLE {namespace}.t (id INT)",
        f"CREATE USER TABLE {namespace}.t (id INT PRIMARY KEY)",
        f"CREATE TABLE {namespace}.t AS SELECT 1 AS a",
        f"CREATE VIEW {namespace}.v AS SELECT 1 AS a",
        f"DROP TABLE {namespace}.t",
        f"DROP TABLE IF EXISTS {namespace}.tables",
        f"DROP VIEW {namespace}.v",
        f"ALTER NAMESPACE {namespace} SET DESCRIPTION 'x'",
    ):
        error = refused(s, sql)
        assert (error.code, str(error)) == ("INVALID_NAME", f"Namespace '{namespace}' is reserved")
    for sql in (f"DROP NAMESPACE {namespace}", f"DROP NAMESPACE IF EXISTS {namespace} CASCADE"):
        assert str(refused(s, sql)) == f"Namespace '{namespace}' cannot be dropped"


def test_default_is_an_ordinary_namespace_that_stays(s: Session, refused: Any) -> None:
    s.execute('USE default; CREATE TABLE default.t (id INT); CREATE TABLE "DEFAULT".u (id INT)')
    assert s.namespace == "default"
    assert s.execute("SELECT * FROM default.t JOIN u ON true").columns == ["id", "id"]
    assert refused(s, "CREATE NAMESPACE default").code == "ALREADY_EXISTS"
    for sql in ("DROP NAMESPACE default", "DROP NAMESPACE IF EXISTS default CASCADE"):
        assert str(refused(s, sql)) == "Namespace 'default' cannot be dropped"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM {}",
        "SELECT * FROM all_users('{}')",
        "INSERT INTO {} VALUES (1)",
        "UPDATE {} SET a = 1 WHERE true",
        "DELETE FROM {} WHERE true",
        "CREATE TABLE {} (a INT)",
        "CREATE VIEW {} AS SELECT 1 AS a",
        "ALTER TABLE {} ADD COLUMN a INT",
        "DROP TABLE {}",
        "DROP VIEW {}",
        "DESCRIBE {}",
        "SHOW STATS FOR TABLE {}",
        "SHOW MANIFEST FOR TABLE {}",
        "STORAGE FLUSH TABLE {}",
        "OPTIMIZE {}",
        "VACUUM {}",
        "ANALYZE {}",
        "REGISTER TABLE {} FROM 'x.csv'",
        "UNREGISTER TABLE {}",
    ],
)
def test_a_table_has_two_parts_at_most(s: Session, refused: Any, sql: str) -> None:
    for name in ("x.y.z", "kalam.studio.t.a"):
        message = f"Name '{name}' has too many parts; write namespace.table"
        assert str(refused(s, sql.format(name))) == message


# --- what a name means ----------------------------------------------------------------------------


def test_an_unqualified_name_means_the_sessions_namespace(studio: Any) -> None:
    root = studio.database.session()
    root.execute("CREATE TABLE t (place TEXT); INSERT INTO t VALUES ('default')")
    root.execute("CREATE TABLE studio.t (place TEXT); INSERT INTO studio.t VALUES ('studio')")
    asked = "SELECT place FROM t"
    assert root.execute(asked).rows() == [("default",)]
    given = studio.session("root", namespace="studio")
    assert given.execute(asked).rows() == [("studio",)]
    given.execute("USE default")
    assert given.execute(asked).rows() == [("default",)]
    assert studio.session("root", namespace="studio").execute(asked).rows() == [("studio",)]


def test_an_unknown_name_is_never_a_file_a_variable_or_the_engines(
    s: Session, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("frame", "frame.csv", "frame.parquet"):
        Path(name).write_text("a\n1\n")
    frame = pa.table({"a": [1]})
    assert frame.num_rows == 1
    for name in ("frame", "sqlite_master", "duckdb_tables", "pg_class", "pragma_version", "dual"):
        error = refused(s, f"SELECT * FROM {name}")
        assert error.code == "NOT_FOUND"
        assert str(error).startswith(f"Table 'studio.{name}' not found")
        assert refused(s, f"INSERT INTO {name} VALUES (1)").code == "NOT_FOUND"
    for name in ("'frame.csv'", '"frame.csv"', '"frame.parquet"', "'frame'"):
        assert str(refused(s, f"SELECT * FROM {name}")) == "A quoted text is not a table name"
    for name in ("main.t", "temp.t", "pg_catalog.pg_class", "sys.t", "kalam.t"):
        assert refused(s, f"SELECT * FROM {name}").code == "NOT_FOUND"


# --- user ids -------------------------------------------------------------------------------------


def test_a_user_id_is_a_text_of_1_to_128_characters(s: Session, refused: Any) -> None:
    made = ["x" * 128, "ünï cöde", "select", "it's", "_x", "Ann@b.example; --", "1"]
    written = [name.replace("'", "''") for name in made]
    for name in written:
        s.execute(f"CREATE USER '{name}' INTERNAL ROLE user")
    found = {row[0] for row in s.execute("SELECT user_id FROM system.users")}
    assert found >= set(made)
    for name in ("", "x" * 129, "a\tb", "a\nb", "\x7f"):
        error = refused(s, f"CREATE USER '{name}' INTERNAL ROLE user")
        assert (error.code, str(error)) == (
            "INVALID_NAME",
            "Invalid user id: use 1 to 128 characters without control characters",
        )
    for name in written:
        s.execute(f"DROP USER '{name}'")


def test_user_ids_are_never_folded_nor_compared_by_prefix(
    s: Session, studio: Any, refused: Any
) -> None:
    s.execute("CREATE USER TABLE notes (id INT PRIMARY KEY, who TEXT DEFAULT CURRENT_USER())")
    for user in ("ann", "Ann", "ann2", "an"):
        s.execute(f"EXECUTE AS USER '{user}' (INSERT INTO notes (id) VALUES (1))")
    finished(s, "STORAGE FLUSH TABLE notes")
    for user in ("ann", "Ann", "ann2", "an"):
        answer = s.execute(f"EXECUTE AS USER '{user}' (SELECT who FROM notes)")
        assert answer.rows() == [(user,)]
    rows = s.execute("SELECT user_id, who FROM all_users('notes') ORDER BY 1").rows()
    assert rows == [(user, user) for user in sorted(["Ann", "an", "ann", "ann2"])]
    assert str(refused(s, "DROP USER 'MIA'")) == "User 'MIA' not found"


def test_a_user_id_may_be_a_bare_word_but_no_keyword(s: Session, refused: Any) -> None:
    s.execute("CREATE USER Bea INTERNAL ROLE user; ALTER USER Bea SET EMAIL 'b@x'")
    assert s.execute("EXECUTE AS USER Bea (SELECT CURRENT_USER)").rows() == [("Bea",)]
    s.execute("DROP USER Bea")
    for word in ("select", "from", "default"):
        assert str(refused(s, f"DROP USER {word}")) == (
            "Syntax error: expected a user id after DROP USER"
        )


# --- relations of a session -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["_seq", "x"], InvalidDefinitionError, "Column name '_seq' is reserved"),
        (["x", "_deleted"], InvalidDefinitionError, "Column name '_deleted' is reserved"),
        (["_seq", "_deleted"], InvalidDefinitionError, "Column name '_seq' is reserved"),
        (["_SEQ"], InvalidDefinitionError, "Column name '_SEQ' is reserved"),
        (["__kalam_id"], InvalidDefinitionError, "Column name '__kalam_id' is reserved"),
        (["a", "A"], InvalidDefinitionError, "Column 'A' appears twice"),
        (["a", "a"], InvalidDefinitionError, "Column 'a' appears twice"),
        ([], InvalidDefinitionError, "A table needs at least one column"),
        ([""], InvalidNameError, None),
        (["a\nb"], InvalidNameError, None),
    ],
)
def test_columns_of_a_frame_can_be_told_apart_and_from_those_of_the_system(
    s: Session, names: list[str], error: type[Exception], message: str | None
) -> None:
    table = pa.table([pa.array([1, 2])] * len(names), names=names)
    with pytest.raises(error) as caught:
        s.relations["frame"] = table
    assert message is None or str(caught.value) == message
    s.relations["frame"] = pa.table({"a b": [1], "select": [2], "_x": [3]})
    assert s.execute("SELECT * FROM frame").rows() == [(1, 2, 3)]
    del s.relations["frame"]


def test_a_memtable_of_ibis_has_the_names_of_a_table(studio: Any) -> None:
    import ibis

    con = ibis.kalam.connect(studio.database.path)
    for names in (["_seq"], ["x", "_DELETED"], ["a", "A"]):
        frame = ibis.memtable(pa.table([pa.array([1])] * len(names), names=names))
        with pytest.raises(InvalidDefinitionError):
            con.execute(frame)
    assert con.execute(ibis.memtable(pa.table({"a": [1]})).count()) == 1
    con.disconnect()
