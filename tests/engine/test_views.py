"""Views: stored SELECTs that run with their reader's rights and scope."""

from __future__ import annotations

from typing import Any

import pytest

from kalamdb_lab.engine.session import Session


@pytest.fixture(autouse=True)
def _tables(s: Session) -> None:
    s.execute(
        """CREATE USER TABLE tracks (id INT PRIMARY KEY, title TEXT, seconds INT);
        CREATE TABLE genres (code TEXT PRIMARY KEY, title TEXT) WITH (ACCESS_LEVEL = 'PUBLIC');
        CREATE TABLE plans (id INT PRIMARY KEY, secret TEXT);
        INSERT INTO tracks VALUES (1, 'roots', 700), (2, 'root', 60);
        INSERT INTO genres VALUES ('jz', 'Jazz');
        INSERT INTO plans VALUES (1, 'merger')"""
    )
    s.execute("EXECUTE AS USER 'mia' (INSERT INTO tracks VALUES (1, 'mias', 900))")


def test_each_reader_sees_the_own_rows(s: Session, mia: Session, tom: Session) -> None:
    s.execute("CREATE VIEW long_tracks AS SELECT id, title FROM tracks WHERE seconds > 600")
    assert s.execute("SELECT * FROM long_tracks").rows() == [(1, "roots")]
    assert mia.execute("SELECT title FROM long_tracks WHERE id = 1").rows() == [("mias",)]
    assert tom.execute("SELECT * FROM long_tracks").rows() == []
    as_mia = s.execute("EXECUTE AS USER 'mia' (SELECT title FROM long_tracks)")
    assert as_mia.rows() == [("mias",)]


def test_columns_can_be_named_and_are_counted(s: Session, refused: Any) -> None:
    s.execute('CREATE VIEW v (a, "B c") AS SELECT code, title FROM genres')
    assert s.execute("SELECT * FROM v").columns == ["a", "B c"]
    assert s.execute("SELECT \"b C\" FROM v WHERE a = 'jz'").rows() == [("Jazz",)]
    s.execute("CREATE VIEW u (a, b) AS SELECT code, code FROM genres")
    assert s.execute("SELECT b FROM u WHERE a = 'jz'").rows() == [("jz",)]
    error = refused(s, "CREATE VIEW w (a, b, c, d, e) AS SELECT 1, 2, 3, 4")
    assert str(error) == "View studio.w lists 5 columns but its query returns 4"
    assert str(refused(s, "CREATE VIEW w (a, A) AS SELECT 1, 2")) == "Column 'A' appears twice"


def test_a_star_expands_when_it_is_read(s: Session) -> None:
    s.execute("CREATE VIEW v AS SELECT * FROM genres")
    s.execute("ALTER TABLE genres ADD COLUMN rank INT DEFAULT 4")
    assert s.execute("SELECT * FROM v").columns == ["code", "title", "rank"]
    assert [row[0] for row in s.execute("DESCRIBE v")] == ["code", "title", "rank"]


def test_names_are_fixed_to_the_namespace_of_the_creator(s: Session) -> None:
    s.execute("CREATE NAMESPACE films; CREATE TABLE films.genres (code TEXT)")
    s.execute("CREATE VIEW films.v AS SELECT code FROM genres")
    s.execute("USE films")
    assert s.execute("SELECT * FROM v").rows() == [("jz",)]


def test_views_stand_on_views(s: Session, mia: Session) -> None:
    s.execute("CREATE VIEW v0 AS SELECT id, title FROM tracks")
    for number in range(1, 31):
        s.execute(f"CREATE VIEW v{number} AS SELECT * FROM v{number - 1} AS deeper")
    assert mia.execute("SELECT * FROM v30").rows() == [(1, "mias")]


def test_views_nest_to_a_depth_and_never_in_a_circle(s: Session, refused: Any) -> None:
    s.execute("CREATE VIEW v0 AS SELECT 1 AS a")
    for number in range(1, 32):
        s.execute(f"CREATE VIEW v{number} AS SELECT a FROM v{number - 1}")
    error = refused(s, "CREATE VIEW v32 AS SELECT a FROM v31")
    assert "32" in str(error)
    assert refused(s, "CREATE OR REPLACE VIEW v1 AS SELECT a FROM v5") is not None
    assert refused(s, "CREATE OR REPLACE VIEW v1 AS SELECT a FROM v1") is not None
    assert s.execute("SELECT a FROM v31").rows() == [(1,)]


def test_a_view_is_replaced_or_kept(s: Session, refused: Any) -> None:
    s.execute("CREATE VIEW v AS SELECT 1 AS a")
    assert str(refused(s, "CREATE VIEW v AS SELECT 2 AS a")) == "View 'studio.v' already exists"
    kept = s.execute("CREATE VIEW IF NOT EXISTS v AS SELECT 2 AS a")
    assert "nothing was done" in str(kept.message)
    assert s.execute("SELECT * FROM v").rows() == [(1,)]
    s.execute("CREATE OR REPLACE VIEW v AS SELECT 3 AS b")
    assert s.execute("SELECT b FROM v").rows() == [(3,)]
    assert refused(s, "CREATE OR REPLACE VIEW IF NOT EXISTS v AS SELECT 1 AS a").code == "SYNTAX"


def test_tables_and_views_share_their_names(s: Session, refused: Any) -> None:
    s.execute("CREATE VIEW v AS SELECT 1 AS a")
    for sql, message in {
        "CREATE VIEW genres AS SELECT 1 AS a": "Table 'studio.genres' already exists",
        "CREATE OR REPLACE VIEW genres AS SELECT 1 AS a": "Table 'studio.genres' already exists",
        "CREATE TABLE v (a INT)": "View 'studio.v' already exists",
        "DROP VIEW genres": "studio.genres is a table, not a view; use DROP TABLE",
        "DROP TABLE v": "studio.v is a view, not a table; use DROP VIEW",
        "DROP VIEW gone": "View 'studio.gone' not found",
    }.items():
        assert str(refused(s, sql)) == message, sql


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("INSERT INTO v VALUES (1)", "studio.v is a view and cannot be written"),
        ("UPDATE v SET a = 1 WHERE true", "studio.v is a view and cannot be written"),
        ("DELETE FROM v WHERE true", "studio.v is a view and cannot be written"),
        ("EXPLAIN DELETE FROM v WHERE true", "studio.v is a view and cannot be written"),
        ("STORAGE FLUSH TABLE v", "studio.v is a view and cannot be flushed"),
        ("STORAGE COMPACT TABLE v", "studio.v is a view and cannot be compacted"),
        ("ALTER TABLE v ADD COLUMN b INT", "studio.v is a view and cannot be altered"),
        ("SELECT * FROM all_users('studio.v')",
         "all_users() works on USER and STREAM tables only"),
        ("CREATE VIEW w AS SELECT * FROM gone", "Table 'studio.gone' not found"),
        ("CREATE VIEW w AS SELECT secnds FROM tracks",
         "Column 'secnds' not found; did you mean 'seconds'?"),
        ("CREATE VIEW w AS SELECT 1 AS a, 2 AS A", "Column 'A' appears twice"),
        ("CREATE VIEW w AS SELECT * FROM all_users('studio.tracks')", None),
    ],
)  # fmt: skip
def test_what_a_view_cannot_do(s: Session, refused: Any, sql: str, message: str | None) -> None:
    s.execute("CREATE VIEW v AS SELECT 1 AS a")
    error = refused(s, sql)
    assert message is None or str(error) == message
    assert "w" not in {row[1] for row in s.execute("SHOW TABLES")}


def test_a_view_takes_no_placeholders(s: Session, refused: Any) -> None:
    error = refused(s, "CREATE VIEW v AS SELECT ? AS a", [1])
    assert (error.code, str(error)) == (
        "PARAMETERS",
        "Parameters are not allowed in CREATE VIEW",
    )


def test_what_went_missing_is_named_with_the_view(s: Session, refused: Any) -> None:
    s.execute("CREATE VIEW v AS SELECT id, title FROM tracks; CREATE VIEW w AS SELECT * FROM v")
    s.execute("ALTER TABLE tracks RENAME COLUMN title TO name")
    message = str(refused(s, "SELECT * FROM w"))
    assert "'title'" in message
    assert "studio.v" in message
    s.execute("DROP TABLE tracks")
    for name in ("v", "w"):
        error = refused(s, f"SELECT * FROM {name}")
        assert str(error) == "View studio.v references missing table studio.tracks"
    s.execute("CREATE USER TABLE tracks (id INT PRIMARY KEY, title TEXT)")
    assert s.execute("SELECT * FROM w").rows() == []


def test_rights_are_those_of_the_reader(
    s: Session, mia: Session, dora: Session, refused: Any
) -> None:
    s.execute("CREATE VIEW v AS SELECT secret FROM plans")
    s.execute("CREATE VIEW w AS SELECT role FROM system.users; CREATE VIEW x AS SELECT * FROM w")
    assert str(refused(mia, "SELECT * FROM v")) == (
        "Permission denied: role 'user' may not read studio.plans"
    )
    for name in ("w", "x"):
        assert str(refused(mia, f"SELECT count(*) FROM {name}")) == (
            "Only 'dba' and 'system' roles can access system namespace"
        )
        assert dora.execute(f"SELECT count(*) > 1 FROM {name}").rows() == [(True,)]
    assert dora.execute("SELECT * FROM v").rows() == [("merger",)]
    s.execute("ALTER TABLE plans SET ACCESS LEVEL public")
    assert mia.execute("SELECT * FROM v").rows() == [("merger",)]
    s.execute("ALTER TABLE plans SET ACCESS LEVEL private")
    assert refused(mia, "SELECT * FROM v").code == "PERMISSION_DENIED"


def test_a_view_with_ctes_subqueries_and_set_operations(s: Session, mia: Session) -> None:
    s.execute(
        """CREATE VIEW v AS
        WITH tracks AS (SELECT title FROM genres), t AS (SELECT title FROM studio.tracks)
        SELECT title FROM tracks UNION ALL SELECT title FROM t
        WHERE title IN (SELECT title FROM studio.tracks AS x WHERE seconds > 800)"""
    )
    assert sorted(mia.execute("SELECT * FROM v").rows()) == [("Jazz",), ("mias",)]
    assert sorted(s.execute("SELECT * FROM v").rows()) == [("Jazz",)]


def test_session_relations_do_not_hide_the_tables_of_a_view(s: Session) -> None:
    import pyarrow as pa

    s.execute("CREATE VIEW v AS SELECT title FROM genres")
    s.relations["genres"] = pa.table({"title": ["local"]})
    assert s.execute("SELECT title FROM genres").rows() == [("local",)]
    assert s.execute("SELECT title FROM v").rows() == [("Jazz",)]


def test_the_select_of_a_view_is_for_dba_and_system(
    s: Session, mia: Session, dora: Session
) -> None:
    s.execute("CREATE VIEW rule AS SELECT 'wombat' AS x")
    for session in (s, dora):
        assert "wombat" in str(session.definition("rule").view_sql)
        assert "wombat" in str(session.definitions("STUDIO"))
    assert "wombat" not in str(mia.definition("rule"))
    assert "wombat" not in str(mia.definitions("STUDIO"))
    assert [column.name for column in mia.definition("rule").columns] == ["x"]


def test_the_count_of_named_columns_holds_when_it_is_read(s: Session, refused: Any) -> None:
    s.execute("CREATE VIEW v (a, b) AS SELECT * FROM genres; CREATE VIEW w AS SELECT a FROM v")
    s.execute("CREATE VIEW kept (a, b) AS SELECT code, title FROM genres")
    for change, returns in (
        ("ADD COLUMN rank INT", 3),
        ("DROP COLUMN rank", 2),
        ("DROP COLUMN title", 1),
    ):
        s.execute(f"ALTER TABLE genres {change}")
        for name in ("v", "w"):
            if returns == 2:
                assert s.execute(f"SELECT a FROM {name}").rows() == [("jz",)]
                continue
            message = str(refused(s, f"SELECT a FROM {name}"))
            assert message == f"View studio.v lists 2 columns but its query returns {returns}"
        if returns > 1:
            assert s.execute("SELECT b FROM kept").rows() == [("Jazz",)]


def test_a_missing_view_is_named_with_the_view_over_it(s: Session, refused: Any) -> None:
    s.execute("CREATE VIEW v AS SELECT 1 AS a; CREATE VIEW w AS SELECT * FROM v; DROP VIEW v")
    error = refused(s, "SELECT * FROM w")
    assert str(error) == "View studio.w references missing table studio.v"
    assert error.code == "NOT_FOUND"
    assert str(refused(s, "EXPLAIN SELECT * FROM w")) == str(error)
    s.execute("CREATE TABLE v (b INT)")
    assert s.execute("SELECT * FROM w").columns == ["b"]


def test_no_circle_and_no_depth_comes_from_below(s: Session, refused: Any) -> None:
    s.execute("CREATE VIEW v0 AS SELECT 1 AS a; CREATE VIEW low AS SELECT 2 AS a")
    for number in range(1, 32):
        s.execute(f"CREATE VIEW v{number} AS SELECT a FROM v{number - 1}")
    s.execute("CREATE OR REPLACE VIEW v0 AS SELECT a FROM low")
    assert str(refused(s, "SELECT a FROM v31")) == "Views nest deeper than 32"
    assert s.execute("SELECT a FROM v30").rows() == [(2,)]
    s.execute("DROP VIEW v0")
    assert (
        str(refused(s, "CREATE VIEW v0 AS SELECT a FROM v3")) == "View studio.v0 refers to itself"
    )


def test_no_road_through_a_view_leads_to_what_its_reader_may_not_read(
    s: Session, mia: Session, dora: Session, refused: Any
) -> None:
    s.execute("CREATE VIEW v AS SELECT secret FROM plans; CREATE VIEW w AS SELECT * FROM v")
    s.execute("CREATE VIEW known AS SELECT user_id FROM system.users")
    closed = "Permission denied: role 'user' may not read studio.plans"
    system = "Only 'dba' and 'system' roles can access system namespace"
    for sql, message in {
        "SELECT * FROM w": closed,
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM w)": closed,
        "WITH c AS (SELECT * FROM w) SELECT 1 FROM c": closed,
        "SELECT title FROM genres UNION SELECT secret FROM w": closed,
        "INSERT INTO tracks (id, title) SELECT 7, secret FROM v": closed,
        "UPDATE tracks SET title = (SELECT max(secret) FROM v) WHERE true": closed,
        "EXPLAIN SELECT * FROM w": closed,
        "SELECT count(*) FROM known": system,
        "DELETE FROM tracks WHERE title IN (SELECT user_id FROM known)": system,
    }.items():
        assert str(refused(mia, sql)) == message, sql
    assert dora.execute("SELECT 1 WHERE EXISTS (SELECT 1 FROM w)").rows() == [(1,)]
    as_mia = "EXECUTE AS USER 'mia' (SELECT * FROM {})"
    assert str(refused(s, as_mia.format("w"))) == (
        "EXECUTE AS USER works on USER and STREAM tables only; studio.plans is a SHARED table"
    )
    assert str(refused(s, as_mia.format("known"))) == system
    assert mia.execute("DESCRIBE known").rows()[0][:2] == ("user_id", "TEXT"), (
        "definitions are public"
    )


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DROP USER TABLE v", "studio.v is a view, not a table; use DROP VIEW"),
        ("DROP TABLE IF EXISTS v", "studio.v is a view, not a table; use DROP VIEW"),
        ("DROP VIEW IF EXISTS genres", "studio.genres is a table, not a view; use DROP TABLE"),
        ("INSERT INTO v SELECT 1", "studio.v is a view and cannot be written"),
        ("INSERT INTO v DEFAULT VALUES", "studio.v is a view and cannot be written"),
        ("ALTER TABLE v SET ACCESS LEVEL public", "studio.v is a view and cannot be altered"),
        ("ALTER TABLE v RENAME COLUMN a TO b", "studio.v is a view and cannot be altered"),
        ("CREATE VIEW gone.w AS SELECT 1 AS a", "Namespace 'gone' not found"),
        ("CREATE VIEW w AS SELECT * FROM gone.genres", "Table 'gone.genres' not found"),
        ("CREATE VIEW w AS SELECT $1 AS a", "Parameters are not allowed in CREATE VIEW"),
    ],
)  # fmt: skip
def test_refusals_of_views(s: Session, refused: Any, sql: str, message: str) -> None:
    s.execute("CREATE VIEW v AS SELECT 1 AS a")
    error = refused(s, sql, [1] if "$1" in sql else None)
    assert str(error).split("; did you mean")[0] == message
    assert s.execute("SELECT a FROM v").rows() == [(1,)]
