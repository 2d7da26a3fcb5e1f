"""ALTER TABLE: values follow the column through every change, hot or flushed."""

from __future__ import annotations

from typing import Any

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import NotFoundError
from kalamdb_lab.jobs import upkeep
from kalamdb_lab.query.plan_cache import PlanCache
from kalamdb_lab.testing.jobs import finished

STATES = ["hot", "flushed", "both"]


def fill(s: Session, state: str, *, kind: str = "USER") -> None:
    """Make ``tracks`` with rows 1 to 4, some of them in a segment."""
    s.execute(
        f"""CREATE {kind} TABLE tracks (id BIGINT PRIMARY KEY, title TEXT NOT NULL, genre TEXT,
        seconds INT DEFAULT 60);
        INSERT INTO tracks VALUES (1, 'Dawn', 'jz', 700), (2, 'Hill', 'fk', 180)"""
    )
    if state in ("flushed", "both"):
        finished(s, "STORAGE FLUSH TABLE tracks")
    s.execute("INSERT INTO tracks VALUES (3, 'Mist', NULL, NULL), (4, 'Rain', '17', 20)")
    if state == "flushed":
        finished(s, "STORAGE FLUSH TABLE tracks")


@pytest.fixture(params=STATES)
def tracks(request: pytest.FixtureRequest, s: Session) -> Session:
    fill(s, request.param)
    return s


def rows(s: Session, columns: str = "*") -> list[tuple[object, ...]]:
    return s.execute(f"SELECT {columns} FROM tracks ORDER BY id").rows()


def version(s: Session) -> object:
    return s.execute("SHOW TABLES IN studio").rows()[0][4]


def test_an_added_column_shows_its_default_for_old_rows(tracks: Session) -> None:
    tracks.execute("ALTER TABLE tracks ADD COLUMN rating SMALLINT DEFAULT 3")
    tracks.execute("ALTER TABLE tracks ADD note TEXT")
    tracks.execute("UPDATE tracks SET rating = NULL WHERE id = 1")
    tracks.execute("INSERT INTO tracks (id, title) VALUES (5, 'Snow')")
    expected = [(None, None), (3, None), (3, None), (3, None), (3, None)]
    assert rows(tracks, "rating, note") == expected
    finished(tracks, "STORAGE FLUSH TABLE tracks; STORAGE COMPACT TABLE tracks")
    assert rows(tracks, "rating, note") == expected
    assert tracks.execute("SELECT * FROM tracks WHERE id = 2").columns == [
        "id", "title", "genre", "seconds", "rating", "note",
    ]  # fmt: skip


def test_the_default_of_an_added_column_is_evaluated_once(tracks: Session) -> None:
    tracks.execute("ALTER TABLE tracks ADD COLUMN added DATETIME DEFAULT NOW()")
    tracks.execute("ALTER TABLE tracks ADD COLUMN who TEXT DEFAULT CURRENT_USER()")
    tracks.execute("ALTER TABLE tracks ADD COLUMN luck DOUBLE DEFAULT random()")
    assert len(set(rows(tracks, "added, who, luck"))) == 1


def test_an_old_row_keeps_the_default_it_was_given(tracks: Session) -> None:
    tracks.execute("ALTER TABLE tracks ADD COLUMN rating SMALLINT DEFAULT 3")
    tracks.execute("ALTER TABLE tracks MODIFY COLUMN rating INT DEFAULT 4")
    tracks.execute("INSERT INTO tracks (id, title) VALUES (5, 'Snow')")
    tracks.execute("UPDATE tracks SET title = 'Dusk' WHERE id = 1")
    assert rows(tracks, "rating") == [(3,), (3,), (3,), (3,), (4,)]


def test_a_dropped_column_that_comes_back_starts_anew(tracks: Session) -> None:
    tracks.execute("ALTER TABLE tracks DROP COLUMN genre")
    assert tracks.execute("SELECT * FROM tracks").columns == ["id", "title", "seconds"]
    tracks.execute("ALTER TABLE tracks ADD COLUMN genre TEXT")
    assert rows(tracks, "genre") == [(None,)] * 4
    finished(tracks, "STORAGE FLUSH TABLE tracks; STORAGE COMPACT TABLE tracks")
    assert rows(tracks, "genre") == [(None,)] * 4


def test_renaming_keeps_the_values_also_when_names_change_places(tracks: Session) -> None:
    before = rows(tracks, "title, genre")
    tracks.execute("ALTER TABLE tracks RENAME COLUMN title TO tmp")
    tracks.execute("ALTER TABLE tracks RENAME genre TO title")
    tracks.execute("ALTER TABLE tracks RENAME COLUMN tmp TO Genre")
    assert rows(tracks, "genre, title") == before
    tracks.execute("ALTER TABLE tracks RENAME COLUMN id TO key")
    tracks.execute("UPDATE tracks SET title = 'rk' WHERE key = 1")
    tracks.execute("INSERT INTO tracks (key, genre) VALUES (1, 'x') ON CONFLICT (key) DO NOTHING")
    assert tracks.execute("SELECT title FROM tracks WHERE key = 1").rows() == [("rk",)]
    finished(tracks, "STORAGE FLUSH TABLE tracks; STORAGE COMPACT TABLE tracks")
    assert tracks.execute("SELECT genre, title FROM tracks WHERE key = 1").rows() == [
        ("Dawn", "rk")
    ]


def test_quoted_names_are_altered_like_others(s: Session) -> None:
    s.execute('CREATE TABLE t (id INT, "Track No" INT, "column" INT)')
    s.execute('ALTER TABLE t ADD COLUMN "a b" INT; ALTER TABLE t RENAME COLUMN "a b" TO "c d"')
    s.execute('ALTER TABLE t MODIFY COLUMN "c d" BIGINT; ALTER TABLE t DROP COLUMN "TRACK NO"')
    s.execute("ALTER TABLE t DROP COLUMN column")
    s.execute('ALTER TABLE t RENAME "c d" TO "column"; ALTER TABLE t DROP column')
    assert s.execute("SELECT * FROM t").columns == ["id"]
    s.execute('CREATE NAMESPACE namespace; USE "namespace"; USE NAMESPACE "namespace"')
    s.execute('USE NAMESPACE; SHOW TABLES IN namespace; SHOW TABLES IN NAMESPACE "studio"')
    assert s.namespace == "namespace"


def test_the_case_of_a_name_can_be_changed(tracks: Session) -> None:
    tracks.execute("ALTER TABLE tracks RENAME COLUMN title TO Title")
    assert tracks.execute("SELECT * FROM tracks").columns == ["id", "Title", "genre", "seconds"]


@pytest.mark.parametrize("wider", ["BIGINT", "DECIMAL(20, 2)", "DOUBLE", "DECIMAL(12, 0)"])
def test_widening_keeps_every_value(tracks: Session, wider: str) -> None:
    before = rows(tracks, "seconds")
    tracks.execute(f"ALTER TABLE tracks MODIFY COLUMN seconds {wider}")
    assert rows(tracks, "seconds") == before
    assert tracks.execute("SELECT count(*) FROM tracks WHERE seconds = 180").rows() == [(1,)]
    tracks.execute("INSERT INTO tracks (id, title) VALUES (5, 'Snow')")
    assert rows(tracks, "seconds")[-1] == (60,), "the default is kept"


def test_the_key_widens_and_stays_unique(tracks: Session, refused: Any) -> None:
    tracks.execute("ALTER TABLE tracks MODIFY COLUMN id DECIMAL(20, 0)")
    error = refused(tracks, "INSERT INTO tracks (id, title) VALUES (2, 'again')")
    assert str(error) == "Duplicate primary key: studio.tracks already has id = 2"
    assert tracks.execute("UPDATE tracks SET title = 'x' WHERE id = 2").rows_affected == 1
    assert refused(tracks, "ALTER TABLE tracks MODIFY COLUMN id INT").code == "INVALID_DEFINITION"


@pytest.mark.parametrize("state", STATES)
def test_a_date_key_widens_to_timestamp_and_stays_unique(
    s: Session, refused: Any, state: str
) -> None:
    s.execute("CREATE TABLE tracks (id DATE PRIMARY KEY, n INT)")
    s.execute("INSERT INTO tracks VALUES ('2031-04-30', 1)")
    if state != "hot":
        finished(s, "STORAGE FLUSH TABLE tracks")
    s.execute("INSERT INTO tracks VALUES ('2031-05-01', 2)")
    if state == "flushed":
        finished(s, "STORAGE FLUSH TABLE tracks")
    s.execute("ALTER TABLE tracks MODIFY COLUMN id TIMESTAMP")
    for day in ("2031-04-30", "2031-05-01"):
        error = refused(s, f"INSERT INTO tracks VALUES ('{day} 00:00:00', 9)")
        assert error.code == "DUPLICATE_KEY"
        sql = f"UPDATE tracks SET n = n + 10 WHERE id = '{day} 00:00:00'"
        assert s.execute(sql).rows_affected == 1
    s.execute("INSERT INTO tracks VALUES ('2031-04-30 00:00:01', 3)")
    assert rows(s, "n") == [(11,), (3,), (12,)]


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ("seconds SMALLINT", True),
        ("seconds TINYINT", False),
        ("seconds TEXT DEFAULT '60'", True),
        ("genre INT", False),
        ("title INT", False),
        ("seconds DECIMAL(2, 0)", False),
        ("seconds DECIMAL(3, 0)", True),
        ("seconds FLOAT", True),
        ("genre BOOLEAN", False),
    ],
)
def test_any_other_change_needs_every_value_to_fit(
    tracks: Session, refused: Any, change: str, fits: bool
) -> None:
    column, _, kind = change.partition(" ")
    before = rows(tracks, f"CAST({column} AS TEXT)")
    if fits:
        tracks.execute(f"ALTER TABLE tracks MODIFY {change}")
        assert [r[0] for r in rows(tracks, f"CAST({column} AS DOUBLE)")] == [
            None if row[0] is None else float(str(row[0])) for row in before
        ]
    else:
        error = refused(tracks, f"ALTER TABLE tracks MODIFY {change}")
        assert str(error) == f"Column '{column}' cannot become {kind}: existing values do not fit"
        assert rows(tracks, f"CAST({column} AS TEXT)") == before
        assert version(tracks) == 1


def test_values_of_other_scopes_and_deleted_rows_count_too(tracks: Session, refused: Any) -> None:
    tracks.execute("DELETE FROM tracks WHERE genre <> '17' OR genre IS NULL")
    error = refused(tracks, "ALTER TABLE tracks MODIFY COLUMN genre INT")
    assert str(error) == "Column 'genre' cannot become INT: existing values do not fit"
    tracks.execute("CREATE USER TABLE notes (id INT PRIMARY KEY, t TEXT)")
    tracks.execute("EXECUTE AS USER 'mia' (INSERT INTO notes VALUES (1, 'miaow'))")
    assert "miaow" not in str(refused(tracks, "ALTER TABLE notes MODIFY COLUMN t INT"))


def test_values_that_were_replaced_do_not_count(tracks: Session) -> None:
    tracks.execute("UPDATE tracks SET genre = CAST(id AS TEXT) WHERE true")
    tracks.execute("ALTER TABLE tracks MODIFY COLUMN genre INT NOT NULL")
    for maintenance in ("FLUSH", "COMPACT"):
        assert rows(tracks, "genre, id") == [(1, 1), (2, 2), (3, 3), (4, 4)]
        assert tracks.execute("SELECT genre FROM tracks WHERE id = 3").rows() == [(3,)]
        finished(tracks, f"STORAGE {maintenance} TABLE tracks")
    assert rows(tracks, "genre + 1") == [(2,), (3,), (4,), (5,)]


def test_not_null_comes_only_where_no_null_is(tracks: Session, refused: Any) -> None:
    error = refused(tracks, "ALTER TABLE tracks MODIFY COLUMN seconds INT NOT NULL")
    assert str(error) == "Column 'seconds' cannot be NOT NULL: existing rows have NULL"
    tracks.execute("UPDATE tracks SET seconds = 0 WHERE seconds IS NULL")
    tracks.execute("ALTER TABLE tracks MODIFY COLUMN seconds INT NOT NULL")
    error = refused(tracks, "INSERT INTO tracks (id, title, seconds) VALUES (9, 'x', NULL)")
    assert str(error) == "Column 'seconds' of studio.tracks cannot be NULL"
    tracks.execute("ALTER TABLE tracks MODIFY COLUMN seconds INT NULL")
    tracks.execute("INSERT INTO tracks (id, title, seconds) VALUES (9, 'x', NULL)")


def test_not_null_without_default_needs_an_empty_table(tracks: Session, refused: Any) -> None:
    error = refused(tracks, "ALTER TABLE tracks ADD COLUMN rank INT NOT NULL")
    assert str(error) == (
        "Column 'rank' cannot be NOT NULL without a DEFAULT: studio.tracks has rows"
    )
    tracks.execute("ALTER TABLE tracks ADD COLUMN rank INT NOT NULL DEFAULT 1")
    tracks.execute("DELETE FROM tracks WHERE true")
    tracks.execute("ALTER TABLE tracks ADD COLUMN place INT NOT NULL")
    tracks.execute(
        "EXECUTE AS USER 'mia' (INSERT INTO tracks (id, title, place) VALUES (1, 'a', 1))"
    )
    assert refused(tracks, "ALTER TABLE tracks ADD COLUMN third INT NOT NULL") is not None


@pytest.mark.parametrize("function", ["SNOWFLAKE_ID()", "UUID_V7()", "ULID()"])
def test_a_generated_default_cannot_fill_rows_that_exist(
    s: Session, refused: Any, function: str
) -> None:
    kind = {"SNOWFLAKE_ID()": "BIGINT", "UUID_V7()": "UUID", "ULID()": "TEXT"}[function]
    s.execute("CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (id INT PRIMARY KEY)")
    s.execute("INSERT INTO a VALUES (1)")
    assert refused(s, f"ALTER TABLE a ADD COLUMN made {kind} DEFAULT {function}") is not None
    s.execute(f"ALTER TABLE b ADD COLUMN made {kind} DEFAULT {function}")
    s.execute("INSERT INTO b (id) VALUES (1), (2)")
    assert s.execute("SELECT count(DISTINCT made) FROM b").rows() == [(2,)]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("DROP COLUMN tempo", "Column 'tempo' not found in studio.tracks"),
        ("RENAME COLUMN tempo TO t", "Column 'tempo' not found in studio.tracks"),
        ("MODIFY COLUMN tempo INT", "Column 'tempo' not found in studio.tracks"),
        ("ADD COLUMN Title TEXT", None),
        ("RENAME COLUMN genre TO title", "Column 'title' already exists in studio.tracks"),
        ("ADD COLUMN genre TEXT", "Column 'genre' already exists in studio.tracks"),
        ("ADD COLUMN _seq INT", "Column name '_seq' is reserved"),
        ("RENAME COLUMN genre TO _seq", "Column name '_seq' is reserved"),
        ("DROP COLUMN id", "Column 'id' is the primary key and cannot be dropped"),
        ("DROP COLUMN _deleted", "_deleted is a system column and cannot be changed"),
        ("MODIFY COLUMN _seq INT", "_seq is a system column and cannot be changed"),
        ("RENAME COLUMN _deleted TO gone", "_deleted is a system column and cannot be changed"),
        ("MODIFY COLUMN id BIGINT NULL", None),
        ("ADD COLUMN a INT PRIMARY KEY", None),
        ("ADD COLUMN a MONEY", "Unknown type 'MONEY'"),
        ("ADD COLUMN a INT DEFAULT 'x'", "Default of column 'a' does not fit INT"),
        ("MODIFY COLUMN seconds INT DEFAULT 'x'", "Default of column 'seconds' does not fit INT"),
        ("SET TBLPROPERTIES (ACCESS_LEVEL = 'PUBLIC')",
         "ACCESS_LEVEL is only supported for SHARED tables"),
        ("SET ACCESS LEVEL public", "ACCESS_LEVEL is only supported for SHARED tables"),
        ("RENAME TO plays", "ALTER TABLE ... RENAME TO is not supported"),
    ],
)  # fmt: skip
def test_a_change_that_cannot_be_is_refused_and_counts_no_version(
    s: Session, refused: Any, action: str, message: str | None
) -> None:
    fill(s, "both")
    before = rows(s)
    error = refused(s, f"ALTER TABLE tracks {action}")
    assert message is None or str(error) == message
    assert rows(s) == before
    assert version(s) == 1
    assert len(s.execute("DESCRIBE tracks HISTORY")) == 1


def test_the_last_column_stays(s: Session, refused: Any) -> None:
    s.execute("CREATE TABLE t (a INT, b INT); ALTER TABLE t DROP b")
    assert refused(s, "ALTER TABLE t DROP a").code == "INVALID_DEFINITION"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("v", "studio.v is a view and cannot be altered"),
        ("system.users", "System table system.users cannot be altered"),
        ("gone", "Table 'studio.gone' not found"),
    ],
)
def test_only_tables_can_be_altered(s: Session, refused: Any, target: str, message: str) -> None:
    s.execute("CREATE VIEW v AS SELECT 1 AS a")
    assert str(refused(s, f"ALTER TABLE {target} ADD COLUMN b INT")) == message


def test_positions_stay_and_new_columns_come_after_all_that_ever_were(s: Session) -> None:
    fill(s, "hot")
    s.execute(
        "ALTER TABLE tracks ADD a INT; ALTER TABLE tracks DROP a; ALTER TABLE tracks ADD a INT"
    )
    s.execute("ALTER TABLE tracks DROP genre; ALTER TABLE tracks ADD genre TEXT")
    assert [(row[0], row[5]) for row in s.execute("DESCRIBE tracks")] == [
        ("id", 1), ("title", 2), ("seconds", 4), ("a", 6), ("genre", 7),
    ]  # fmt: skip


def test_history_has_one_row_per_version_and_access_level_is_none(s: Session) -> None:
    s.execute("CREATE TABLE plans (id INT PRIMARY KEY)")
    s.execute("ALTER TABLE plans ADD COLUMN a TEXT DEFAULT 'x' NOT NULL")
    s.execute("ALTER TABLE plans SET TBLPROPERTIES (ACCESS_LEVEL = 'PUBLIC')")
    s.execute("ALTER TABLE plans SET ACCESS LEVEL restricted")
    s.execute("ALTER TABLE plans RENAME COLUMN a TO b; ALTER TABLE plans MODIFY b TEXT NULL")
    s.execute("ALTER TABLE plans DROP COLUMN b")
    history = s.execute("DESCRIBE TABLE plans HISTORY")
    assert history.columns == ["schema_version", "changed_at", "changed_by", "change"]
    assert [(row[0], row[2], row[3]) for row in history] == [
        (1, "root", "CREATE TABLE"),
        (2, "root", "ADD COLUMN a TEXT NOT NULL DEFAULT 'x'"),
        (3, "root", "RENAME COLUMN a TO b"),
        (4, "root", "MODIFY COLUMN b TEXT NULL"),
        (5, "root", "DROP COLUMN b"),
    ]
    assert s.execute("SHOW TABLES").rows()[0][2:5] == ("shared", "restricted", 5)


def test_shared_and_stream_tables_are_altered_alike(s: Session) -> None:
    s.execute("CREATE STREAM TABLE plays (id INT) WITH (TTL_SECONDS = 60)")
    s.execute("CREATE TABLE plans (id INT)")
    for table in ("plays", "plans"):
        s.execute(f"INSERT INTO {table} VALUES (1)")
        s.execute(f"ALTER TABLE {table} ADD COLUMN n INT DEFAULT 7")
        s.execute(f"INSERT INTO {table} VALUES (2, 8)")
        assert s.execute(f"SELECT * FROM {table} ORDER BY id").rows() == [(1, 7), (2, 8)]


@pytest.mark.parametrize("where", ["id + 0 = 1", "id = 1"])
@pytest.mark.parametrize("change", ["ALTER TABLE t ADD x INT", "DROP TABLE t"])
def test_a_table_that_changes_between_planning_and_reading_is_planned_again(
    s: Session, studio: Any, monkeypatch: pytest.MonkeyPatch, where: str, change: str
) -> None:
    s.execute_script("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1)")
    other, get_or_make = studio.session(), PlanCache.get_or_make

    def change_then(self: Any, *args: Any) -> Any:
        found = get_or_make(self, *args)
        if found is not None:
            monkeypatch.undo()
            other.execute(change)
            if change.startswith("ALTER"):
                other.execute("INSERT INTO t VALUES (2, 2)")
        return found

    monkeypatch.setattr(PlanCache, "get_or_make", change_then)
    sql = f"SELECT * FROM t WHERE {where}"
    if change.startswith("ALTER"):
        assert s.execute(sql).rows() == [(1, None)]
    else:
        with pytest.raises(NotFoundError, match=r"^Table 'studio\.t' not found"):
            s.execute(sql)


@pytest.mark.parametrize("verb", ["FLUSH", "COMPACT"])
def test_flush_and_compact_take_a_table_that_another_process_alters_meanwhile(
    fresh: Any, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    s = fresh.session()
    for table in ("a", "b"):
        s.execute_script(f"CREATE TABLE {table} (id INT PRIMARY KEY)")
        for row in (1, 2):
            finished(s, f"INSERT INTO {table} VALUES ({row}); STORAGE FLUSH TABLE {table}")
        s.execute(f"INSERT INTO {table} VALUES (3)")
    with kalam.open(fresh.database.path, clock=fresh.clock) as database:
        other = database.session(namespace="studio")
        name = f"{verb.lower()}_partition"
        work = getattr(upkeep, name)

        def alter_first(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.undo()
            other.execute("ALTER TABLE b ADD c INT; INSERT INTO b VALUES (4, 4)")
            other.execute("INSERT INTO b SELECT i, i FROM range(10, 16) r(i)")  # a segment at once
            return work(*args, **kwargs)

        monkeypatch.setattr(upkeep, name, alter_first)
        answer = finished(s, f"STORAGE {verb} ALL IN studio").rows()
        assert all("nothing to do" not in row[-1] for row in answer)
    expected = [(1, None), (2, None), (3, None), (4, 4), *((row, row) for row in range(10, 16))]
    assert s.execute("SELECT * FROM b ORDER BY id").rows() == expected
