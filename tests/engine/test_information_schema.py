"""information_schema: the catalog as tables, for everyone, always as of now."""

from __future__ import annotations

from typing import Any

import ibis
import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.ibis_backend import Backend

NAMES = ("schemata", "tables", "columns")
SYSTEM_TABLES = "Only 'dba' and 'system' roles can access system namespace"


@pytest.fixture(autouse=True)
def _tables(s: Session) -> None:
    s.execute(
        """CREATE USER TABLE tracks (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(),
        Title TEXT NOT NULL, price DECIMAL(9, 4) DEFAULT 1.5, mood EMBEDDING(384));
        CREATE TABLE plans (id INT PRIMARY KEY, "two words" TEXT);
        CREATE STREAM TABLE plays (id INT) WITH (TTL_SECONDS = 60);
        CREATE VIEW long_tracks AS SELECT id, Title AS name FROM tracks"""
    )


def columns(session: Session, table: str) -> list[tuple[Any, ...]]:
    return session.execute(
        """SELECT column_name, ordinal_position, column_default, is_nullable, data_type,
        is_primary_key FROM information_schema.columns
        WHERE table_schema = 'studio' AND table_name = ? ORDER BY ordinal_position""",
        [table],
    ).rows()


def test_schemata(s: Session, mia: Session, sven: Session, dora: Session) -> None:
    for session, system in ((mia, []), (sven, []), (dora, ["system"]), (s, ["system"])):
        answer = session.execute("SELECT * FROM information_schema.schemata")
        assert answer.columns == ["catalog_name", "schema_name"]
        assert answer.rows() == [("kalam", name) for name in ["default", "studio", *system]]
        shown = [row[0] for row in session.execute("SHOW NAMESPACES")]
        assert [row[1] for row in answer] == shown


def test_tables(mia: Session) -> None:
    answer = mia.execute("SELECT * FROM information_schema.tables")
    assert answer.columns == ["table_catalog", "table_schema", "table_name", "table_type"]
    assert answer.rows() == [
        ("kalam", "studio", "long_tracks", "VIEW"),
        ("kalam", "studio", "plans", "BASE TABLE"),
        ("kalam", "studio", "plays", "BASE TABLE"),
        ("kalam", "studio", "tracks", "BASE TABLE"),
    ]


def test_columns(mia: Session) -> None:
    everything = mia.execute("SELECT * FROM information_schema.columns LIMIT 0")
    assert everything.columns == [
        "table_catalog", "table_schema", "table_name", "column_name", "ordinal_position",
        "column_default", "is_nullable", "data_type", "is_primary_key",
    ]  # fmt: skip
    assert columns(mia, "tracks") == [
        ("id", 1, "SNOWFLAKE_ID()", "NO", "BIGINT", "YES"),
        ("Title", 2, None, "NO", "TEXT", "NO"),
        ("price", 3, "1.5", "YES", "DECIMAL(9, 4)", "NO"),
        ("mood", 4, None, "YES", "EMBEDDING(384)", "NO"),
    ]
    assert columns(mia, "plans")[1][0] == "two words"
    assert columns(mia, "long_tracks") == [
        ("id", 1, None, "YES", "BIGINT", "NO"),
        ("name", 2, None, "YES", "TEXT", "NO"),
    ]


def test_gaps_of_positions_stay_and_names_follow(s: Session, mia: Session) -> None:
    assert len(columns(mia, "tracks")) == 4
    s.execute("ALTER TABLE tracks DROP COLUMN price; ALTER TABLE tracks ADD COLUMN rating SMALLINT")
    s.execute("ALTER TABLE tracks RENAME COLUMN mood TO feeling")
    assert [row[:2] for row in columns(mia, "tracks")] == [
        ("id", 1), ("Title", 2), ("feeling", 4), ("rating", 5),
    ]  # fmt: skip


def test_columns_of_views_are_those_of_now(s: Session, mia: Session) -> None:
    s.execute("CREATE VIEW every AS SELECT * FROM plans; CREATE VIEW over AS SELECT * FROM every")
    assert [row[0] for row in columns(mia, "over")] == ["id", "two words"]
    s.execute("ALTER TABLE plans ADD COLUMN budget DOUBLE")
    for view in ("every", "over"):
        assert columns(mia, view)[2] == ("budget", 3, None, "YES", "DOUBLE", "NO")
    s.execute("DROP TABLE plans")
    assert [row[0] for row in columns(mia, "over")] == ["id", "two words"], "what it had when made"


def test_a_change_shows_at_once_and_in_statements_that_were_planned(
    s: Session, mia: Session
) -> None:
    count = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'studio'"
    counts = []
    for change in (
        "SELECT 1",
        "CREATE TABLE more (a INT)",
        "DROP TABLE more",
        "CREATE NAMESPACE films",
    ):
        s.execute(change)
        counts.append((mia.execute(count).rows()[0][0], s.execute(count).rows()[0][0]))
    assert counts == [(4, 4), (5, 5), (4, 4), (4, 4)]
    assert ("films",) in mia.execute("SELECT schema_name FROM information_schema.schemata").rows()


def test_system_columns_and_hidden_ones_are_nowhere(s: Session) -> None:
    names = {row[0] for row in s.execute("SELECT column_name FROM information_schema.columns")}
    assert {"user_id", "namespace_id"} <= names
    assert not any(name.startswith("_") for name in names)
    keys = s.execute("SELECT primary_key FROM system.tables WHERE table_type = 'system'").rows()
    assert not any(key is not None and key.startswith("_") for (key,) in keys)


def test_rows_about_system_are_for_dba_and_system(
    s: Session, mia: Session, sven: Session, dora: Session
) -> None:
    for name, column in (
        ("tables", "table_schema"),
        ("columns", "table_schema"),
        ("schemata", "schema_name"),
    ):
        sql = f"SELECT count(*) > 0 FROM information_schema.{name} WHERE {column} = 'system'"
        for session, seen in ((mia, False), (sven, False), (dora, True), (s, True)):
            assert session.execute(sql).rows() == [(seen,)], (name, session)
            through = session.execute(f"EXPLAIN {sql}").rows()
            assert through[-1][3] == f"information_schema.{name}"
    s.execute("CREATE VIEW known AS SELECT table_name FROM information_schema.tables")
    assert ("users",) in dora.execute("SELECT * FROM known").rows()
    assert ("users",) not in mia.execute("SELECT * FROM known").rows()
    as_mia = s.execute("EXECUTE AS USER 'mia' (SELECT table_name FROM information_schema.tables)")
    assert ("tracks",) in as_mia.rows()
    assert ("users",) not in as_mia.rows()


@pytest.mark.parametrize("user", ["mia", "root"])
def test_all_sources_of_a_definition_agree(studio: Any, user: str) -> None:
    session = studio.session(user)
    listed = session.execute(
        "SELECT table_schema, table_name FROM information_schema.tables ORDER BY 1, 2"
    ).rows()
    shown = [row[:2] for row in session.execute("SHOW TABLES")]
    if user == "root":
        shown += [row[:2] for row in session.execute("SHOW TABLES IN system")]
        stored = session.execute("SELECT namespace_id, table_name FROM system.tables ORDER BY 1, 2")
        assert stored.rows() == listed
        counts = {row[0]: row[2] for row in session.execute("SHOW NAMESPACES")}
        assert counts["system"] == sum(schema == "system" for schema, _ in listed)
    assert sorted(shown) == listed
    for schema, name in listed:
        described = session.execute(f"DESCRIBE {schema}.{name}").rows()
        assert session.execute(
            """SELECT column_name, data_type, is_nullable = 'YES', is_primary_key = 'YES',
            column_default, ordinal_position FROM information_schema.columns
            WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position""",
            [schema, name],
        ).rows() == described  # fmt: skip


def test_it_joins_groups_and_filters_as_any_table(s: Session) -> None:
    joined = s.execute(
        """SELECT t.table_name, count(*), max(c.ordinal_position), min(s.schema_version)
        FROM information_schema.tables t
        JOIN information_schema.columns c USING (table_schema, table_name)
        JOIN system.tables s ON s.table_name = t.table_name AND s.namespace_id = t.table_schema
        WHERE t.table_schema = 'studio' AND c.data_type <> 'DECIMAL(9, 4)'
        GROUP BY t.table_name HAVING count(*) > 1 ORDER BY t.table_name"""
    ).rows()
    assert joined == [("long_tracks", 2, 2, 1), ("plans", 2, 2, 1), ("tracks", 3, 4, 1)]
    s.execute("CREATE TABLE copied AS SELECT table_name FROM information_schema.tables")
    assert ("tracks",) in s.execute("SELECT * FROM copied").rows()


def test_it_is_a_namespace_to_use_describe_and_list(mia: Session, refused: Any) -> None:
    mia.execute("USE information_schema")
    assert mia.execute("SELECT table_name FROM tables WHERE table_type = 'VIEW'").rows() == [
        ("long_tracks",)
    ]
    assert [row[1] for row in mia.execute("SHOW TABLES IN information_schema")] == sorted(NAMES)
    described = mia.execute("DESCRIBE information_schema.columns").rows()
    assert described[4] == ("ordinal_position", "INT", False, False, None, 5)
    assert described[5] == ("column_default", "TEXT", True, False, None, 6)
    assert mia.execute("DESCRIBE schemata").rows()[0][0] == "catalog_name"
    assert str(refused(mia, "SELECT * FROM columnz")) == (
        "Table 'information_schema.columnz' not found; did you mean 'information_schema.columns'?"
    )
    assert refused(mia, "SELECT _seq FROM tables").code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("INSERT INTO information_schema.tables VALUES ('a', 'b', 'c', 'd')",
         "System table information_schema.tables is read-only"),
        ("UPDATE information_schema.columns SET column_name = 'x' WHERE true",
         "System table information_schema.columns is read-only"),
        ("DELETE FROM information_schema.schemata WHERE true",
         "System table information_schema.schemata is read-only"),
        ("CREATE TABLE information_schema.mine (a INT)",
         "Namespace 'information_schema' is reserved"),
        ("CREATE VIEW information_schema.mine AS SELECT 1 AS a",
         "Namespace 'information_schema' is reserved"),
        ("CREATE NAMESPACE information_schema", "Namespace 'information_schema' is reserved"),
        ("DROP TABLE information_schema.tables", "Namespace 'information_schema' is reserved"),
        ("DROP TABLE IF EXISTS information_schema.gone",
         "Namespace 'information_schema' is reserved"),
        ("DROP VIEW information_schema.tables", "Namespace 'information_schema' is reserved"),
        ("DROP TABLE system.users", "Namespace 'system' is reserved"),
        ("ALTER TABLE information_schema.tables ADD COLUMN a INT",
         "System table information_schema.tables cannot be altered"),
        ("SELECT * FROM all_users('information_schema.tables')",
         "all_users() works on USER and STREAM tables only"),
        ("SELECT * FROM information_schema.gone", "Table 'information_schema.gone' not found"),
    ],
)  # fmt: skip
def test_nobody_writes_it(s: Session, refused: Any, sql: str, message: str) -> None:
    assert str(refused(s, sql)) == message


def test_a_session_may_start_in_it(studio: Any) -> None:
    session = studio.session("mia", "information_schema")
    assert session.execute("SELECT count(*) FROM schemata").rows() == [(2,)]


def test_ibis_lists_and_reads_it(mia: Session) -> None:
    con = Backend.from_connection(mia)
    assert con.list_tables(database="information_schema") == sorted(NAMES)
    table = con.table("columns", database="information_schema")
    assert table.schema()["ordinal_position"] == ibis.dtype("!int32")
    found = table.filter(table.table_name == "tracks").order_by("ordinal_position")
    assert found.column_name.to_pyarrow().to_pylist() == ["id", "Title", "price", "mood"]
