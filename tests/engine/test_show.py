"""SHOW and DESCRIBE: columns, order, and what each role is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished


@pytest.fixture(scope="module")
def studio(library: Any) -> Any:
    """One for all tests here, for they only read."""
    s: Session = library.session()
    finished(
        s,
        """CREATE USER TABLE tracks (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(),
        Title TEXT NOT NULL, price DECIMAL(9, 4) DEFAULT 1.5, mood EMBEDDING(2));
        CREATE TABLE genres (code TEXT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC');
        CREATE TABLE plans (id INT PRIMARY KEY);
        CREATE STREAM TABLE plays (id INT) WITH (TTL_SECONDS = 60);
        CREATE VIEW long_tracks AS SELECT id, Title AS name FROM tracks;
        CREATE VIEW closed AS SELECT id AS plan FROM plans;
        CREATE VIEW people AS SELECT user_id FROM system.users;
        CREATE NAMESPACE films; CREATE TABLE films.reels (id INT);
        INSERT INTO genres VALUES ('jz'); INSERT INTO plans VALUES (1), (2);
        STORAGE FLUSH TABLE genres; STORAGE FLUSH TABLE plans""",
    )
    for user, count in (("mia", 3), ("tom", 2)):
        for number in range(count):
            s.execute(
                f"EXECUTE AS USER '{user}' (INSERT INTO tracks (id, title) VALUES (?, 'x'))",
                [number],
            )
        finished(s, "STORAGE FLUSH TABLE tracks")
    s.execute("EXECUTE AS USER 'mia' (DELETE FROM tracks WHERE id = 0)")
    s.execute("EXECUTE AS USER 'mia' (INSERT INTO tracks (id, title) VALUES (9, 'hot'))")
    library.session("dora").execute("ALTER TABLE films.reels ADD COLUMN rank INT")
    return library


def test_namespaces(s: Session, mia: Session, sven: Session, dora: Session) -> None:
    for session, system in ((mia, []), (sven, []), (dora, ["system"]), (s, ["system"])):
        answer = session.execute("SHOW NAMESPACES")
        assert answer.columns == ["namespace_id", "description", "table_count", "created_at"]
        assert [row[0] for row in answer] == ["default", "films", "studio", *system]
    assert {row[0]: row[2] for row in mia.execute("SHOW NAMESPACES")}["studio"] == 7
    assert s.execute("SHOW NAMESPACES").rows()[0][3] == datetime(2030, 1, 1, tzinfo=UTC)


def test_tables(s: Session, mia: Session, refused: Any) -> None:
    answer = mia.execute("SHOW TABLES")
    assert answer.columns == [
        "namespace_id", "table_name", "table_type", "access_level", "schema_version", "created_at",
    ]  # fmt: skip
    listed = [
        ("films", "reels", "shared", "private", 2),
        ("studio", "closed", "view", None, 1),
        ("studio", "genres", "shared", "public", 1),
        ("studio", "long_tracks", "view", None, 1),
        ("studio", "people", "view", None, 1),
        ("studio", "plans", "shared", "private", 1),
        ("studio", "plays", "stream", None, 1),
        ("studio", "tracks", "user", None, 1),
    ]
    assert [row[:5] for row in answer] == listed
    assert [row[:5] for row in s.execute("SHOW TABLES IN NAMESPACE Studio")] == listed[1:]
    assert [row[1] for row in s.execute("SHOW TABLES IN films")] == ["reels"]
    assert s.execute("SHOW TABLES IN default").rows() == []
    assert {"users", "tables"} <= {row[1] for row in s.execute("SHOW TABLES IN system")}
    assert str(refused(mia, "SHOW TABLES IN system")) == (
        "Only 'dba' and 'system' roles can access system namespace"
    )


def test_storages(s: Session, mia: Session) -> None:
    answer = mia.execute("SHOW STORAGES")
    assert answer.columns == [
        "storage_id", "storage_name", "storage_type", "description", "base_directory",
        "shared_tables_template", "user_tables_template", "credentials",
    ]  # fmt: skip
    templates = ("{namespace}/{tableName}", "{namespace}/{tableName}/{userId}")
    assert answer.rows() == [("local", "local", "filesystem", None, None, *templates, None)]
    assert s.execute("SHOW STORAGES").rows()[0][4] is not None


def test_users(s: Session, dora: Session) -> None:
    answer = dora.execute("SHOW USERS")
    assert answer.columns == ["user_id", "role", "email", "auth_type", "created_at", "deleted_at"]
    assert [row[:4] for row in answer if row[0] in ("mia", "root", "sven")] == [
        ("mia", "user", None, "internal"),
        ("root", "system", None, "internal"),
        ("sven", "service", None, "internal"),
    ]


def test_stats_are_of_the_own_scope_below_dba(s: Session, mia: Session, tom: Session) -> None:
    answer = mia.execute("SHOW STATS FOR TABLE tracks")
    assert answer.columns == [
        "namespace_id", "table_name", "table_type", "row_count", "hot_rows", "segment_count",
        "bytes", "removed_versions", "min_seq", "max_seq", "scope_count",
    ]  # fmt: skip
    (row,) = answer.rows()
    assert row[:6] == ("studio", "tracks", "user", 3, 1, 1)
    assert (row[7], row[10]) == (1, 1)
    assert row[6] > 0
    assert tom.execute("SHOW STATS FOR TABLE tracks").rows()[0][3:6] == (2, 0, 1)
    (everything,) = s.execute("SHOW STATS FOR TABLE tracks").rows()
    assert everything[3:6] == (5, 1, 2)
    assert everything[10] == 2
    assert (everything[8], everything[9]) == (
        min(t.execute("SELECT min(_seq) FROM tracks WHERE _deleted IN (true, false)").rows()[0][0]
            for t in (mia, tom)),
        row[9],
    )  # fmt: skip


def test_stats_of_nothing_are_zero(s: Session, mia: Session) -> None:
    for session in (s, mia):
        (row,) = session.execute("SHOW STATS FOR TABLE plays").rows()
        assert row[3:10] == (0, 0, 0, 0, 0, None, None)


def test_the_manifest_has_a_row_per_segment_that_the_caller_may_know(
    s: Session, mia: Session, tom: Session, sven: Session, refused: Any
) -> None:
    answer = mia.execute("SHOW MANIFEST")
    assert answer.columns == [
        "namespace_id", "table_name", "user_id", "segment", "row_count", "removed_versions",
        "bytes", "min_seq", "max_seq", "schema_version", "created_at",
    ]  # fmt: skip
    assert [row[:3] for row in answer] == [
        ("studio", "genres", None),
        ("studio", "tracks", "mia"),
    ]
    assert [row[4:6] for row in answer] == [(1, 0), (3, 1)]
    assert [row[1:3] for row in tom.execute("SHOW MANIFEST FOR TABLE tracks")] == [
        ("tracks", "tom")
    ]
    assert [row[1:3] for row in sven.execute("SHOW MANIFEST")] == [
        ("genres", None),
        ("plans", None),
    ]
    assert {row[1:3] for row in s.execute("SHOW MANIFEST") if row[0] == "studio"} == {
        ("genres", None), ("plans", None), ("tracks", "mia"), ("tracks", "tom"),
    }  # fmt: skip
    for what in ("MANIFEST", "STATS"):
        assert str(refused(mia, f"SHOW {what} FOR TABLE plans")) == (
            "Permission denied: role 'user' may not read studio.plans"
        )


def test_describe_tells_a_definition_to_everybody(s: Session, mia: Session) -> None:
    for sql in ("DESCRIBE tracks", "DESC TABLE studio.TRACKS", "DESCRIBE TABLE tracks"):
        answer = mia.execute(sql)
        assert answer.columns == [
            "column_name", "data_type", "is_nullable", "is_primary_key", "column_default",
            "ordinal_position",
        ]  # fmt: skip
        assert answer.rows() == [
            ("id", "BIGINT", False, True, "SNOWFLAKE_ID()", 1),
            ("Title", "TEXT", False, False, None, 2),
            ("price", "DECIMAL(9, 4)", True, False, "1.5", 3),
            ("mood", "EMBEDDING(2)", True, False, None, 4),
        ]
    assert mia.execute("DESCRIBE plans").row_count == 1
    assert [row[:2] for row in mia.execute("DESCRIBE long_tracks")] == [
        ("id", "BIGINT"),
        ("name", "TEXT"),
    ]


def test_describe_of_a_view_over_closed_tables_shows_its_columns_only(
    mia: Session, refused: Any
) -> None:
    assert [row[0] for row in mia.execute("DESCRIBE closed")] == ["plan"]
    assert [row[0] for row in mia.execute("DESCRIBE people")] == ["user_id"]
    assert refused(mia, "SELECT * FROM closed").code == "PERMISSION_DENIED"


def test_system_columns_and_hidden_ones_are_listed_nowhere(s: Session) -> None:
    for table in ("tracks", "system.users", "system.tables", "plays"):
        names = [row[0] for row in s.execute(f"DESCRIBE {table}")]
        assert not any(str(name).startswith("_") for name in names)
        assert s.execute(f"SELECT * FROM {table}").columns == names


def test_history_hides_who_below_dba(mia: Session, dora: Session) -> None:
    history = dora.execute("DESCRIBE TABLE films.reels HISTORY")
    assert [row[2] for row in history] == ["root", "dora"]
    assert [row[2:] for row in mia.execute("DESC films.reels HISTORY")] == [
        (None, "CREATE TABLE"),
        (None, "ADD COLUMN rank INT"),
    ]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DESCRIBE gone", "Table 'studio.gone' not found"),
        ("DESCRIBE x.y", "Table 'x.y' not found"),
        ("SHOW TABLES IN gone", "Namespace 'gone' not found"),
        ("SHOW STATS FOR TABLE x.y", "Table 'x.y' not found"),
        ("SHOW MANIFEST FOR TABLE x.y", "Table 'x.y' not found"),
        ("DESCRIBE gone HISTORY", "Table 'studio.gone' not found"),
    ],
)
def test_what_is_not_there_is_an_error(
    s: Session, mia: Session, refused: Any, sql: str, message: str
) -> None:
    for session in (s, mia):
        error = refused(session, sql)
        assert (error.code, str(error)) == ("NOT_FOUND", message)


def test_sources_of_a_definition_agree(s: Session) -> None:
    shown = {
        (row[0], row[1]): row[2:5]
        for sql in ("SHOW TABLES", "SHOW TABLES IN system")
        for row in s.execute(sql)
    }
    stored = s.execute(
        "SELECT namespace_id, table_name, table_type, access_level, schema_version FROM system.tables"
    ).rows()
    assert {(row[0], row[1]): row[2:] for row in stored} == shown
    assert s.execute(
        "SELECT namespace_id, table_count FROM system.namespaces ORDER BY 1"
    ).rows() == [(row[0], row[2]) for row in s.execute("SHOW NAMESPACES") if row[0] != "system"]
    views = "SELECT table_name FROM system.schemas WHERE table_type = 'view' ORDER BY 1"
    assert s.execute(views).rows() == [("closed",), ("long_tracks",), ("people",)]
    described = {row[0]: row for row in s.execute("DESCRIBE tracks")}
    for name, kind in zip(
        s.execute("SELECT * FROM tracks").columns,
        s.execute("SELECT * FROM tracks").types,
        strict=True,
    ):
        assert described[name][1] == str(kind)


def test_maintenance_answers_a_row_per_table(fresh: Any) -> None:
    s = fresh.session()
    s.execute(
        """CREATE TABLE tracks (id INT PRIMARY KEY); INSERT INTO tracks VALUES (1);
        CREATE TABLE genres (id INT); CREATE VIEW shown AS SELECT * FROM genres;
        CREATE STREAM TABLE plays (id INT) WITH (TTL_SECONDS = 60);
        CREATE NAMESPACE films; CREATE TABLE films.reels (id INT)"""
    )
    columns = ["job_id", "job_type", "table_name", "status", "message"]
    answer = finished(s, "FLUSH TABLE tracks")
    assert answer.columns == columns
    assert answer.rows()[0][1:] == (
        "flush", "studio.tracks", "completed", "Flushed 1 row into 1 segment",
    )  # fmt: skip
    again = finished(s, "STORAGE FLUSH TABLE studio.tracks").rows()[0]
    assert again[4] == "Flushed 0 rows: nothing to do"
    assert [row[2] for row in finished(s, "STORAGE FLUSH ALL IN studio")] == [
        "studio.genres", "studio.tracks",
    ]  # fmt: skip
    for sql in ("STORAGE COMPACT TABLE tracks", "OPTIMIZE TABLE tracks", "OPTIMIZE tracks"):
        answer = finished(s, sql)
        assert (answer.columns, answer.rows()[0][1:4]) == (
            columns,
            ("compact", "studio.tracks", "completed"),
        )
    assert finished(s, "STORAGE COMPACT ALL IN films").rows()[0][2] == "films.reels"
    assert finished(s, "STORAGE FLUSH ALL IN NAMESPACE default").rows() == []
    everything = {row[2] for row in finished(s, "FLUSH ALL TABLES")}
    assert {"system.users", "system.tables", "studio.tracks", "films.reels"} <= everything
    assert "studio.plays" not in everything
    assert s.execute("SHOW TABLES").row_count == 5


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("STORAGE FLUSH TABLE plays", "STREAM tables are not flushed: studio.plays"),
        ("OPTIMIZE plays", "STREAM tables are not compacted: studio.plays"),
        ("STORAGE FLUSH TABLE gone", "Table 'studio.gone' not found"),
        ("STORAGE COMPACT ALL IN gone", "Namespace 'gone' not found"),
    ],
)
def test_maintenance_of_what_cannot_be(s: Session, refused: Any, sql: str, message: str) -> None:
    assert str(refused(s, sql)) == message
