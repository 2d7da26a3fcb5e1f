"""Transactions of one session: own writes, a fixed moment, all or nothing, and what is refused."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pyarrow as pa
import pytest
from tracks_table import TRACKS, rows_of

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def tracks(s: Session) -> Session:
    """Hot row 4, and rows 1 to 3 in a segment."""
    finished(s, TRACKS)
    return s


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN TRANSACTION", "BEGIN WORK", "START TRANSACTION"])
@pytest.mark.parametrize("end", ["COMMIT", "COMMIT WORK", "END"])
def test_every_spelling_begins_and_commits(tracks: Session, begin: str, end: str) -> None:
    tracks.execute(begin)
    assert tracks.in_transaction
    tracks.execute("INSERT INTO tracks VALUES (9, 'Fog')")
    assert tracks.execute(end).rows() == [("Committed 1 row",)]
    assert not tracks.in_transaction
    assert len(rows_of(tracks)) == 5


def test_own_writes_are_read_and_nobody_else_reads_them(tracks: Session, dora: Session) -> None:
    before = rows_of(dora)
    tracks.execute("BEGIN")
    tracks.execute("UPDATE tracks SET title = 'Dusk' WHERE id = 1")
    tracks.execute("INSERT INTO tracks VALUES (5, 'Fog')")
    tracks.execute("DELETE FROM tracks WHERE title = 'Tide'")
    own = [(1, "Dusk"), (2, "Hill"), (3, "Rain"), (5, "Fog")]
    for query, expected in {
        "SELECT * FROM tracks ORDER BY id": own,
        "SELECT title FROM tracks WHERE id = 1": [("Dusk",)],
        "SELECT count(*), max(id) FROM tracks": [(4, 5)],
        "SELECT id FROM tracks WHERE _deleted = true": [(4,)],
        "SELECT a.id FROM tracks a JOIN tracks b ON a.id = b.id AND b.id > 4": [(5,)],
    }.items():
        assert tracks.execute(query).rows() == expected, query
    assert rows_of(dora) == before
    tracks.execute("COMMIT")
    assert rows_of(dora) == own


def test_reads_stay_at_the_moment_of_begin(tracks: Session, dora: Session) -> None:
    dora.execute("CREATE TABLE other (n INT)")
    tracks.execute("BEGIN")
    finished(
        dora,
        """INSERT INTO tracks VALUES (5, 'Fog'); UPDATE tracks SET title = 'X' WHERE id < 3;
        INSERT INTO other VALUES (1); DELETE FROM tracks WHERE id = 4; STORAGE FLUSH TABLE tracks;
        STORAGE COMPACT TABLE tracks; CREATE NAMESPACE later""",
    )
    assert rows_of(tracks) == [(1, "Dawn"), (2, "Hill"), (3, "Rain"), (4, "Tide")]
    assert rows_of(tracks, "other") == []
    assert tracks.execute("SELECT count(*) FROM tracks WHERE title = 'X'").rows() == [(0,)]
    names = "SELECT namespace_id FROM system.namespaces WHERE namespace_id = 'later'"
    assert tracks.execute(names).rows() == []
    tracks.execute("COMMIT")
    assert rows_of(tracks) == [(1, "X"), (2, "X"), (3, "Rain"), (5, "Fog")]
    assert tracks.execute(names).rows() == [("later",)]


def test_rollback_leaves_nothing(tracks: Session) -> None:
    before, position = rows_of(tracks), tracks.position
    tracks.execute("BEGIN")
    tracks.execute("DELETE FROM tracks WHERE true")
    tracks.execute("INSERT INTO tracks VALUES (7, 'Fog')")
    assert rows_of(tracks) == [(7, "Fog")]
    assert tracks.execute("ROLLBACK").rows() == [("Rolled back",)]
    assert rows_of(tracks) == before
    assert tracks.position == position


def test_a_failing_statement_is_undone_alone(tracks: Session, refused: Any) -> None:
    tracks.execute("BEGIN")
    tracks.execute("INSERT INTO tracks VALUES (5, 'Fog')")
    assert (
        refused(tracks, "INSERT INTO tracks VALUES (6, 'Ice'), (5, 'Fog')").code == "DUPLICATE_KEY"
    )
    assert refused(tracks, "INSERT INTO tracks VALUES (6, NULL)").code == "NOT_NULL"
    assert refused(tracks, "INSERT INTO tracks VALUES (2, 'Hill')").code == "DUPLICATE_KEY"
    assert refused(tracks, "INSERT INTO tracks VALUES ('six', 'Ice')").code == "TYPE_MISMATCH"
    assert tracks.in_transaction
    tracks.execute("COMMIT")
    assert [row[0] for row in rows_of(tracks)] == [1, 2, 3, 4, 5]


def test_what_a_transaction_changed_twice_is_committed_once(tracks: Session, dora: Session) -> None:
    tracks.execute("BEGIN")
    tracks.execute("INSERT INTO tracks VALUES (5, 'Fog')")
    tracks.execute("UPDATE tracks SET title = 'Mist' WHERE id = 5")
    tracks.execute("UPDATE tracks SET title = 'Haze' WHERE id IN (1, 5)")
    tracks.execute("UPDATE tracks SET title = 'Smog' WHERE id = 1")
    tracks.execute("INSERT INTO tracks VALUES (6, 'Gone')")
    tracks.execute("DELETE FROM tracks WHERE id = 6")
    tracks.execute("COMMIT")
    for step in ("SELECT 1", "STORAGE FLUSH TABLE tracks", "STORAGE COMPACT TABLE tracks"):
        finished(dora, step)
        assert rows_of(dora) == [(1, "Smog"), (2, "Hill"), (3, "Rain"), (4, "Tide"), (5, "Haze")]


def test_the_state_of_the_transaction_is_told(tracks: Session, refused: Any) -> None:
    for sql in ("COMMIT", "ROLLBACK"):
        error = refused(tracks, sql)
        assert (error.code, str(error)) == ("TRANSACTION_STATE", "There is no active transaction")
    tracks.execute("BEGIN")
    tracks.execute("INSERT INTO tracks VALUES (5, 'Fog')")
    error = refused(tracks, "BEGIN")
    assert error.code == "TRANSACTION_STATE"
    assert str(error) == "A transaction is already active; COMMIT or ROLLBACK it first"
    tracks.execute("COMMIT")
    assert len(rows_of(tracks)) == 5, "the first one stayed open"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("CREATE TABLE x (n INT)", "DDL is not allowed inside a transaction"),
        ("DROP TABLE tracks", "DDL is not allowed inside a transaction"),
        ("ALTER TABLE tracks ADD n INT", "DDL is not allowed inside a transaction"),
        ("CREATE NAMESPACE n", "DDL is not allowed inside a transaction"),
        ("CREATE VIEW v AS SELECT 1", "DDL is not allowed inside a transaction"),
        ("STORAGE FLUSH TABLE tracks", "STORAGE FLUSH is not allowed inside a transaction"),
        ("STORAGE COMPACT ALL", "STORAGE COMPACT is not allowed inside a transaction"),
        ("VACUUM", "VACUUM is not allowed inside a transaction"),
        ("DROP STORAGE vault", "DROP STORAGE is not allowed inside a transaction"),
        ("BACKUP DATABASE studio TO 'b'", "BACKUP is not allowed inside a transaction"),
        ("CREATE USER 'u' INTERNAL ROLE user", "CREATE USER is not allowed inside a transaction"),
        ("ALTER USER 'mia' SET ROLE dba", "ALTER USER is not allowed inside a transaction"),
        ("INSERT INTO plays (n) VALUES (1)", "STREAM tables take no part in transactions"),
        ("DELETE FROM plays WHERE true", "STREAM tables take no part in transactions"),
    ],
)
def test_what_a_transaction_cannot_hold(
    tracks: Session, refused: Any, sql: str, message: str
) -> None:
    tracks.execute(
        "CREATE STREAM TABLE plays (id TEXT PRIMARY KEY DEFAULT ULID(), n INT) "
        "WITH (TTL_SECONDS = 60)"
    )
    tracks.execute("BEGIN")
    error = refused(tracks, sql)
    assert (error.code, str(error)) == ("TRANSACTION_STATE", message)
    assert tracks.in_transaction
    assert tracks.execute("SELECT * FROM plays").rows() == [], "reading a stream is allowed"
    assert tracks.execute("SELECT count(*) FROM system.users").rows()[0][0] > 0
    tracks.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SAVEPOINT a", "SAVEPOINT is not supported"),
        ("RELEASE a", "RELEASE is not supported"),
        ("SET TRANSACTION READ ONLY", "SET TRANSACTION is not supported"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION is not supported"),
    ],
)
def test_what_is_no_part_of_the_language(s: Session, refused: Any, sql: str, message: str) -> None:
    error = refused(s, sql)
    assert (error.code, str(error)) == ("NOT_SUPPORTED", message)


def test_a_script_that_fails_rolls_back_only_what_it_began(tracks: Session, refused: Any) -> None:
    refused(tracks, "BEGIN; INSERT INTO tracks VALUES (5, 'Fog'); SELECT nope FROM tracks")
    assert not tracks.in_transaction
    assert len(rows_of(tracks)) == 4
    tracks.execute("BEGIN")
    tracks.execute("INSERT INTO tracks VALUES (5, 'Fog')")
    refused(tracks, "INSERT INTO tracks VALUES (6, 'Ice'); SELECT nope FROM tracks")
    assert tracks.in_transaction
    tracks.execute("COMMIT")
    assert len(rows_of(tracks)) == 6


def test_a_with_block_is_a_transaction(tracks: Session) -> None:
    with tracks.transaction():
        tracks.execute("INSERT INTO tracks VALUES (5, 'Fog')")
    assert len(rows_of(tracks)) == 5

    def fail_halfway() -> None:
        with tracks.transaction():
            tracks.execute("INSERT INTO tracks VALUES (6, 'Ice')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert len(rows_of(tracks)) == 5
    assert not tracks.in_transaction


def test_the_end_of_the_session_rolls_back(studio: Any, tracks: Session) -> None:
    other = studio.session()
    other.execute("BEGIN; INSERT INTO tracks VALUES (5, 'Fog')")
    other.close()
    abandoned = studio.session()
    abandoned.execute("BEGIN; INSERT INTO tracks VALUES (6, 'Ice')")
    del abandoned
    gc.collect()
    assert len(rows_of(tracks)) == 4


def test_execute_as_writes_into_the_transaction(s: Session, mia: Session) -> None:
    s.execute("CREATE USER TABLE diary (id INT PRIMARY KEY, line TEXT)")
    s.execute("BEGIN")
    s.execute("EXECUTE AS USER 'mia' (INSERT INTO diary VALUES (1, 'for mia'))")
    assert s.execute("EXECUTE AS USER 'mia' (SELECT line FROM diary)").rows() == [("for mia",)]
    assert rows_of(s, "diary") == []
    assert rows_of(mia, "diary") == []
    assert s.execute("SELECT user_id FROM all_users('diary')").rows() == [("mia",)]
    s.execute("COMMIT")
    assert rows_of(mia, "diary") == [(1, "for mia")]


def test_dataframes_of_any_size_take_part(tracks: Session, dora: Session) -> None:
    many = pa.table({"id": range(10, 40), "title": ["x"] * 30})  # segments are written from 6 rows
    tracks.execute("BEGIN")
    tracks.insert("tracks", many)
    assert tracks.execute("SELECT count(*) FROM tracks").rows() == [(34,)]
    assert len(rows_of(dora)) == 4
    tracks.execute("ROLLBACK")
    assert len(rows_of(dora)) == 4
    with tracks.transaction():
        tracks.insert("tracks", many)
    assert len(rows_of(dora)) == 34


def test_many_transactions_leave_no_thread_behind(tracks: Session) -> None:
    before = threading.active_count()
    for _ in range(20):
        tracks.execute("BEGIN")
        tracks.execute("SELECT count(*) FROM tracks")
        tracks.execute("ROLLBACK")
    assert threading.active_count() == before


def test_many_rows_of_a_transaction_become_a_segment(tracks: Session, dora: Session) -> None:
    many = pa.table({"id": range(10, 40), "title": ["x"] * 30})  # segments are written from 6 rows
    with tracks.transaction():
        tracks.insert("tracks", many)
        tracks.execute("UPDATE tracks SET title = 'y' WHERE id = 1")
    stats = dora.execute("SELECT count(*) FROM tracks WHERE title = 'x'").rows()
    assert stats == [(30,)]
    segments = dora.execute("SHOW MANIFEST FOR TABLE tracks").to_pandas()
    assert sorted(segments.row_count) == [3, 30]
    with tracks.transaction():
        tracks.insert("tracks", pa.table({"id": range(50, 60), "title": ["z"] * 10}))
        tracks.execute("DELETE FROM tracks WHERE id = 55")
    assert dora.execute("SELECT count(*) FROM tracks WHERE title = 'z'").rows() == [(9,)]
