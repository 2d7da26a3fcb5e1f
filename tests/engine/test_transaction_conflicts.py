"""Transactions side by side: the first committer wins, and nothing is lost or made."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tracks_table import TRACKS, rows_of

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def tracks(s: Session) -> Session:
    """Hot row 4, and rows 1 to 3 in a segment."""
    finished(s, TRACKS)
    return s


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [
        (
            "UPDATE tracks SET title = 'a' WHERE id = 1",
            "UPDATE tracks SET title = 'b' WHERE id = 1",
            "Conflict: studio.tracks id = 1 was changed since this transaction began; run it again",
        ),
        (
            "DELETE FROM tracks WHERE id = 2",
            "DELETE FROM tracks WHERE id = 2",
            "Conflict: studio.tracks id = 2 was changed since this transaction began; run it again",
        ),
        (
            "DELETE FROM tracks WHERE id = 4",
            "UPDATE tracks SET title = 'b' WHERE id = 4; STORAGE FLUSH TABLE tracks",
            "Conflict: studio.tracks id = 4 was changed since this transaction began; run it again",
        ),
        (
            "UPDATE tracks SET title = 'a' WHERE id = 3",
            "DELETE FROM tracks WHERE id = 3; STORAGE COMPACT TABLE tracks",
            "Conflict: studio.tracks id = 3 was changed since this transaction began; run it again",
        ),
        (
            "INSERT INTO tracks VALUES (41, 'a')",
            "INSERT INTO tracks VALUES (41, 'b')",
            "Conflict: primary key id = 41 of studio.tracks was taken since this transaction "
            "began; run it again",
        ),
        (
            "UPDATE tracks SET title = 'a' WHERE id = 1",
            "ALTER TABLE tracks ADD COLUMN genre TEXT",
            "Conflict: studio.tracks was altered since this transaction began; run it again",
        ),
        (
            "UPDATE tracks SET title = 'a' WHERE id = 1",
            "DROP TABLE tracks",
            "Conflict: studio.tracks was dropped since this transaction began; run it again",
        ),
    ],
)
def test_the_first_committer_wins(
    tracks: Session, dora: Session, refused: Any, mine: str, theirs: str, message: str
) -> None:
    tracks.execute("BEGIN")
    tracks.execute(mine)
    finished(dora, theirs)
    error = refused(tracks, "COMMIT")
    assert (error.code, str(error)) == ("CONFLICT", message)
    assert not tracks.in_transaction
    if "DROP" not in theirs:
        assert "a" not in [row[1] for row in rows_of(tracks)]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (
            "UPDATE tracks SET title = 'a' WHERE id = 1",
            "UPDATE tracks SET title = 'b' WHERE id = 2",
        ),
        ("INSERT INTO tracks VALUES (41, 'a')", "INSERT INTO tracks VALUES (42, 'b')"),
        ("DELETE FROM tracks WHERE id = 4", "STORAGE FLUSH TABLE tracks"),
        ("UPDATE tracks SET title = 'a' WHERE id = 1", "STORAGE COMPACT TABLE tracks"),
        ("SELECT * FROM tracks", "DELETE FROM tracks WHERE true"),
    ],
)
def test_what_does_not_clash_commits(
    tracks: Session, dora: Session, mine: str, theirs: str
) -> None:
    tracks.execute("BEGIN")
    tracks.execute(mine)
    finished(dora, theirs)
    tracks.execute("COMMIT")


def test_rows_without_a_key_clash_too(s: Session, dora: Session, refused: Any) -> None:
    s.execute("CREATE TABLE notes (n INT)")
    s.execute("INSERT INTO notes VALUES (1), (2)")
    s.execute("BEGIN")
    s.execute("DELETE FROM notes WHERE n = 1")
    dora.execute("UPDATE notes SET n = 3 WHERE n = 1")
    assert str(refused(s, "COMMIT")) == (
        "Conflict: a row of studio.notes was changed since this transaction began; run it again"
    )
    assert rows_of(s, "notes") == [(2,), (3,)]


def test_a_key_may_be_given_up_and_taken_again(tracks: Session, dora: Session) -> None:
    tracks.execute("BEGIN")
    tracks.execute("DELETE FROM tracks WHERE id = 1")
    tracks.execute("INSERT INTO tracks VALUES (1, 'Noon')")
    tracks.execute(
        "INSERT INTO tracks VALUES (4, 'Ebb') ON CONFLICT (id) DO UPDATE SET title = 'Ebb'"
    )
    tracks.execute("COMMIT")
    assert rows_of(dora) == [(1, "Noon"), (2, "Hill"), (3, "Rain"), (4, "Ebb")]


def test_writers_in_transactions_do_not_block_each_other(studio: Any, tracks: Session) -> None:
    other = studio.session()
    tracks.execute("BEGIN; INSERT INTO tracks VALUES (5, 'Fog')")
    other.execute("BEGIN; INSERT INTO tracks VALUES (6, 'Ice')")
    tracks.execute("COMMIT")
    other.execute("COMMIT")
    assert [row[0] for row in rows_of(tracks)] == [1, 2, 3, 4, 5, 6]


def test_a_right_lost_before_commit_stops_it(s: Session, sven: Session, refused: Any) -> None:
    s.execute("CREATE TABLE plans (n INT)")
    sven.execute("BEGIN; INSERT INTO plans VALUES (1)")
    s.execute("ALTER USER 'sven' SET ROLE user")
    try:
        assert refused(sven, "COMMIT").code == "PERMISSION_DENIED"
        assert rows_of(s, "plans") == []
    finally:
        s.execute("ALTER USER 'sven' SET ROLE service")
    sven.execute("BEGIN; INSERT INTO plans VALUES (2); COMMIT")
    assert rows_of(s, "plans") == [(2,)]


def test_a_busy_commit_can_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text("busy_timeout_s = 0.05")
    with kalam.open(path) as db:
        session = db.session()
        session.execute("CREATE TABLE t (n INT)")
        session.execute("BEGIN; INSERT INTO t VALUES (1)")
        locked, done = threading.Event(), threading.Event()

        def hold() -> None:
            with db._context.store.write():
                locked.set()
                done.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        locked.wait(10)
        with pytest.raises(kalam.KalamError, match="The database is busy; try again"):
            session.execute("COMMIT")
        done.set()
        holder.join()
        assert session.in_transaction
        session.execute("COMMIT")
        assert session.execute("SELECT n FROM t").rows() == [(1,)]


TRANSFER = """
import random, sys
import kalamdb_lab as kalam
session = kalam.open(sys.argv[1]).session()
chosen = random.Random(int(sys.argv[2]))
for _ in range(20):
    giver, taker = chosen.sample(range(5), 2)
    try:
        with session.transaction():
            (balance,), = session.execute("SELECT cents FROM accounts WHERE id = ?", [giver])
            if balance >= 10:
                session.execute("UPDATE accounts SET cents = cents - 10 WHERE id = ?", [giver])
                session.execute("UPDATE accounts SET cents = cents + 10 WHERE id = ?", [taker])
                session.execute("INSERT INTO transfers (giver) VALUES (?)", [giver])
    except kalam.KalamError as error:
        assert error.code in ("CONFLICT", "BUSY"), error
    (total,), = session.execute("SELECT sum(cents) FROM accounts").rows()
    assert total == 500, total
print("done")
"""


@pytest.mark.slow
def test_money_moved_by_two_processes_is_neither_lost_nor_made(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"')
    with kalam.open(path) as db:
        db.session().execute_script(
            """CREATE TABLE accounts (id INT PRIMARY KEY, cents BIGINT);
            INSERT INTO accounts VALUES (0, 100), (1, 100), (2, 100), (3, 100), (4, 100);
            CREATE TABLE transfers (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), giver INT)"""
        )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", TRANSFER, str(path), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    with kalam.open(path) as db:
        session = db.session()
        for _ in range(10):
            finished(session, "STORAGE FLUSH TABLE accounts")
            assert session.execute("SELECT sum(cents) FROM accounts").rows() == [(500,)]
    for worker in workers:
        out, _ = worker.communicate(timeout=120)
        assert out.strip() == "done"
    with kalam.open(path) as db:
        session = db.session()
        finished(session, "STORAGE COMPACT TABLE accounts")
        assert session.execute("SELECT sum(cents), min(cents) >= 0 FROM accounts").rows() == [
            (500, True)
        ]
        assert session.execute("SELECT count(*) FROM transfers").rows()[0][0] > 0


def test_a_table_altered_before_it_was_written_is_a_conflict(
    tracks: Session, dora: Session, refused: Any
) -> None:
    tracks.execute("BEGIN")
    dora.execute("ALTER TABLE tracks ADD COLUMN genre TEXT")
    tracks.execute("UPDATE tracks SET genre = 'jz' WHERE id = 1")
    assert str(refused(tracks, "COMMIT")) == (
        "Conflict: studio.tracks was altered since this transaction began; run it again"
    )
    tracks.execute("BEGIN")
    dora.execute_script("DROP TABLE tracks; CREATE TABLE tracks (id INT PRIMARY KEY, title TEXT)")
    tracks.execute("INSERT INTO tracks VALUES (1, 'other')")
    assert str(refused(tracks, "COMMIT")) == (
        "Conflict: studio.tracks was dropped since this transaction began; run it again"
    )
    assert rows_of(tracks) == []


def test_acting_for_another_needs_the_right_at_commit_too(
    s: Session, sven: Session, mia: Session, refused: Any
) -> None:
    s.execute("CREATE USER TABLE diary (id INT PRIMARY KEY)")
    sven.execute("BEGIN; EXECUTE AS USER 'mia' (INSERT INTO diary VALUES (1))")
    s.execute("ALTER USER 'sven' SET ROLE user")
    try:
        assert str(refused(sven, "COMMIT")) == (
            "Permission denied: 'sven' may not execute as user 'mia'"
        )
    finally:
        s.execute("ALTER USER 'sven' SET ROLE service")
    assert rows_of(mia, "diary") == []
    sven.execute("BEGIN; EXECUTE AS USER 'mia' (INSERT INTO diary VALUES (2)); COMMIT")
    assert rows_of(mia, "diary") == [(2,)]


def test_many_changed_rows_are_checked_like_few(
    tracks: Session, dora: Session, refused: Any
) -> None:
    dora.execute("INSERT INTO tracks SELECT i, 'x' FROM range(100, 300) r(i)")
    dora.execute("INSERT INTO tracks SELECT i, 'x' FROM range(300, 303) r(i)")
    for theirs, clashes in (
        ("STORAGE FLUSH TABLE tracks", False),
        ("DELETE FROM tracks WHERE id = 250", True),
    ):
        tracks.execute("BEGIN; UPDATE tracks SET title = title || '!' WHERE id > 50")
        finished(dora, theirs)
        if clashes:
            assert "id = 250 was changed" in str(refused(tracks, "COMMIT"))
        else:
            tracks.execute("COMMIT")
    assert tracks.execute("SELECT count(*) FROM tracks WHERE title = 'x!'").rows() == [(202,)]
