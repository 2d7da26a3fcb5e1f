"""BACKUP and RESTORE of a namespace: all of it comes back as it was, or nothing does."""

from __future__ import annotations

import shutil
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.engine.check import check_database
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.rebuild import rebuild_database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import (
    AlreadyExistsError,
    KalamError,
    NotFoundError,
)
from kalamdb_lab.testing.jobs import finished

USERS = ("alice", "bob", "Zoë/..")
VALUES: dict[str, list[object]] = {
    "BOOLEAN": [True, False],
    "SMALLINT": [-32768, 1],
    "FLOAT": [0.5, -1.5],
    "DOUBLE": [1e300, 0.1],
    "DECIMAL(38, 10)": [Decimal("1.2345678901"), Decimal(-7)],
    "TEXT": ["Zoë \U0001f600 '' \\ %", ""],
    "BYTES": [b"\x00\xff", b""],
    "JSON": ['{"a": 1}', "null"],
    "TIMESTAMP": [datetime(2031, 4, 30, 18, 5, 0, 123456), datetime(1, 1, 1)],
    "DATETIME": [datetime(2031, 4, 30, 18, 5, tzinfo=UTC), datetime(1969, 1, 1, tzinfo=UTC)],
    "DATE": [date(1, 1, 1), date(9999, 12, 31)],
    "TIME": [time(23, 59, 59, 999999), time(0)],
    "UUID": [uuid.UUID(int=7), uuid.UUID(int=2**128 - 1)],
    "EMBEDDING(3)": [[0.5, 2.0, -1.0], [1.0, 0.0, 0.0]],
    "TINYINT": [-128, 127],
    "UBIGINT": [2**64 - 1, 0],
    "INT[]": [[1, None, 3], []],
    "STRUCT(a INT, b TEXT)": [{"a": 1, "b": "x"}, {"a": None, "b": ""}],
    "MAP(TEXT, INT)": [{"k": 1}, {}],
}
SCHEMA = f"""
CREATE NAMESPACE studio;
ALTER NAMESPACE studio SET DESCRIPTION 'Recordings';
USE studio;
CREATE USER TABLE notes (id BIGINT PRIMARY KEY, body TEXT, v EMBEDDING(2), n INT DEFAULT 7)
  WITH (FLUSH_POLICY = 'rows:5000,interval:120', DELETED_RETENTION_HOURS = 48);
CREATE SHARED TABLE plans (id INT PRIMARY KEY, name TEXT NOT NULL) WITH (ACCESS_LEVEL = 'PUBLIC');
CREATE TABLE keyless (n INT);
CREATE TABLE nothing (id INT PRIMARY KEY);
CREATE USER TABLE kinds (id INT PRIMARY KEY, {", ".join(f"c{at} {kind}" for at, kind in enumerate(VALUES))});
CREATE STREAM TABLE plays (id INT PRIMARY KEY, song TEXT) WITH (TTL_SECONDS = 300);
CREATE VIEW names (title) AS SELECT name FROM plans;
"""


def opened(path: Path, clock: FakeClock | None = None) -> Database:
    """Open as another process would, with an engine of its own."""
    path.mkdir(exist_ok=True)
    (path / "kalam.toml").write_text('durability = "normal"\nbulk_rows = 6\n')
    return kalam.open(path, clock=clock or FakeClock())


def session_of(db: Database, user: str = "root") -> Session:
    return db.session(user, namespace="studio")


def fill(db: Database) -> None:
    """Rows hot and flushed, changed, deleted, altered and merged, of several users."""
    root = db.session()
    for user in USERS:
        root.execute(f"CREATE USER '{user}' INTERNAL ROLE user")
    root.execute_script(SCHEMA)
    sessions = [session_of(db, user) for user in USERS]
    for number, user in enumerate(sessions):
        user.execute(
            "INSERT INTO notes (id, body, v) VALUES (1, 'one', '[1, 0]'), (2, 'two', NULL), "
            "(3, 'three', '[0, 1]'), (4, 'four', NULL)"
        )
        for row in range(2):
            values = [row, *(given[row] for given in VALUES.values())]
            user.execute(f"INSERT INTO kinds VALUES ({', '.join('?' * len(values))})", values)
        user.execute("INSERT INTO kinds (id) VALUES (9)")
        user.execute("INSERT INTO plays VALUES (1, 'early'), (2, 'gone')")
        user.execute("DELETE FROM plays WHERE id = 2")
        if number == 2:
            continue  # all of the last one's rows stay hot
        finished(root, "STORAGE FLUSH ALL IN studio")
        user.execute("DELETE FROM notes WHERE id = 2")
        user.execute("UPDATE notes SET body = 'three, again' WHERE id = 3")
    root.execute("ALTER TABLE notes ADD COLUMN tag TEXT DEFAULT 'none'")
    root.execute("ALTER TABLE notes RENAME COLUMN n TO m")
    root.insert("plans", {"id": range(10), "name": [f"plan {n}" for n in range(10)]})
    root.execute("DELETE FROM plans WHERE id > 7; INSERT INTO keyless VALUES (1), (1), (NULL)")
    sessions[0].execute("INSERT INTO notes (id, body, tag) VALUES (5, 'five', NULL)")
    sessions[0].execute("DELETE FROM notes WHERE id IN (4, 5)")
    root.execute("ALTER TABLE keyless MODIFY COLUMN n BIGINT")


def state(db: Database) -> dict[str, Any]:
    """All that SQL shows of the namespace but numbers and times of change."""
    root = session_of(db)
    seen: dict[str, Any] = {
        "tables": root.execute(
            "SELECT table_name, table_type, storage_id, access_level, schema_version, primary_key, "
            "options, view_definition, created_at, created_by FROM system.tables "
            "WHERE namespace_id = 'studio' ORDER BY 1"
        ).rows(),
        "namespace": root.execute(
            "SELECT description, table_count, created_by FROM system.namespaces "
            "WHERE namespace_id = 'studio'"
        ).rows(),
    }
    for name, kind, *_ in seen["tables"]:
        seen[f"{name} history"] = root.execute(f"DESCRIBE TABLE {name} HISTORY").rows()
        seen[f"{name} columns"] = root.execute(f"DESCRIBE TABLE {name}").rows()
        for user in USERS if kind in ("user", "stream") else ("root",):
            deleted = "" if kind == "view" else "WHERE _deleted IN (true, false) ORDER BY _seq"
            flag = "" if kind == "view" else ", _deleted"
            rows = session_of(db, user).execute(f"SELECT *{flag} FROM {name} {deleted}").rows()
            seen[f"{name} of {user}"] = sorted(rows) if kind == "view" else rows
            live = session_of(db, user).execute(f"SELECT count(*) FROM {name}").rows()
            seen[f"{name} of {user} counted"] = live
    return seen


def numbers(db: Database) -> dict[str, list[int]]:
    """All version numbers, by table and user."""
    return {
        f"{table} {user}": [
            row[0]
            for row in session_of(db, user).execute(
                f"SELECT _seq FROM {table} WHERE _deleted IN (true, false) ORDER BY _seq"
            )
        ]
        for table in ("notes", "kinds", "plays")
        for user in USERS
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A database, a backup of its namespace beside it, and what that shows."""
    path = tmp_path_factory.mktemp("filled") / "lab.kalam"
    with opened(path) as db:
        fill(db)
        (answer,) = db.session().execute("BACKUP DATABASE studio TO '../studio-1'").rows()
        assert answer[1:3] == ("backup", "completed")
        assert answer[3] == "Backed up 7 tables with 32 rows to '../studio-1'"
        return path, state(db)


@pytest.fixture
def lab(filled: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """Both of this test alone, as ``lab.kalam`` and ``studio-1``."""
    shutil.copytree(filled[0], tmp_path / "lab.kalam")
    shutil.copytree(filled[0].parent / "studio-1", tmp_path / "studio-1")
    return tmp_path / "lab.kalam"


@pytest.fixture
def expected(filled: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return filled[1]


def restore(db: Database, directory: str = "../studio-1") -> None:
    (answer,) = db.session().execute(f"RESTORE DATABASE studio FROM '{directory}'").rows()
    assert answer[0].startswith("RS-")
    assert answer[1:3] == ("restore", "completed")
    assert answer[3] == f"Restored 7 tables with 32 rows from '{directory}'"


# --- all of it comes back ---------------------------------------------------------------------


def test_a_dropped_namespace_comes_back_as_it_was(lab: Path, expected: dict[str, Any]) -> None:
    with opened(lab) as db:
        before = numbers(db)
        db.session().execute("DROP NAMESPACE studio CASCADE")
        restore(db)
        assert state(db) == expected
        after = numbers(db)
        highest = max(number for own in before.values() for number in own)
        assert all(number > highest for own in after.values() for number in own), "new versions"
        everything = [number for own in after.values() for number in own]
        assert len(set(everything)) == len(everything)
    with opened(lab) as db:
        assert state(db) == expected, "after a restart"
        finished(db.session(), "STORAGE FLUSH ALL; STORAGE COMPACT ALL IN studio")
        assert state(db) == expected, "flushed and merged"
    assert check_database(lab).is_sound


def test_another_database_takes_it_too(lab: Path, tmp_path: Path, expected: dict[str, Any]) -> None:
    other = tmp_path / "other.kalam"
    with opened(other) as db:
        for user in USERS:
            db.session().execute(f"CREATE USER '{user}' INTERNAL ROLE user")
        restore(db)
        assert state(db) == expected
    for file in other.glob("catalog.sqlite*"):
        file.unlink()
    assert rebuild_database(other).is_whole
    with opened(other) as db:
        seen = state(db)
        flushed = {name: rows for name, rows in expected.items() if "plays of" not in name}
        assert {name: seen[name] for name in flushed} == flushed, "rebuilt from its segments"


def test_rows_of_users_who_are_not_here_are_kept_under_their_ids(tmp_path: Path, lab: Path) -> None:
    with opened(tmp_path / "other.kalam") as db:
        restore(db)
        root = db.session(namespace="studio")
        counts = "SELECT user_id, count(*) FROM all_users('notes') GROUP BY user_id ORDER BY 1"
        assert root.execute(counts).rows() == [("Zoë/..", 4), ("alice", 2), ("bob", 3)]
        root.execute("CREATE USER 'Zoë/..' INTERNAL ROLE user")
        assert session_of(db, "Zoë/..").execute("SELECT count(*) FROM notes").rows() == [(4,)]


def test_restored_tables_are_ordinary_ones(lab: Path) -> None:
    with opened(lab) as db:
        db.session().execute("DROP NAMESPACE studio CASCADE")
        restore(db)
        alice, root = session_of(db, "alice"), session_of(db)
        with pytest.raises(KalamError, match=r"^Duplicate primary key: studio\.notes"):
            alice.execute("INSERT INTO notes (id) VALUES (1)")
        alice.execute("INSERT INTO notes (id, body) VALUES (2, 'two, again')")
        ((newest, oldest),) = alice.execute(
            "SELECT max(_seq), min(_seq) FILTER (WHERE id = 2) FROM notes"
        ).rows()
        assert newest == oldest, "new rows have higher numbers"
        alice.execute("UPDATE notes SET body = 'changed' WHERE id = 1")
        alice.execute("DELETE FROM notes WHERE id = 3")
        finished(root, "ALTER TABLE notes DROP COLUMN tag; STORAGE FLUSH TABLE notes")
        assert alice.execute("SELECT id, body FROM notes ORDER BY id").rows() == [
            (1, "changed"),
            (2, "two, again"),
        ]
        root.execute("DROP TABLE plans; CREATE TABLE plans (id INT)")
        assert root.execute("SELECT * FROM plans").rows() == []


def test_versions_that_were_replaced_stay_behind(lab: Path) -> None:
    with opened(lab) as db:
        db.session().execute("DROP NAMESPACE studio CASCADE")
        restore(db)
        rows = session_of(db).execute("SHOW MANIFEST FOR TABLE notes").rows()
        assert sum(row[4] for row in rows) == 9 + 4, "live and deleted rows, and no others"
        assert sum(row[5] for row in rows) == 4


def test_events_are_as_old_as_they_were(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path / "lab.kalam", clock) as db:
        root = db.session()
        root.execute("CREATE NAMESPACE studio")
        root.execute("CREATE STREAM TABLE studio.plays (id INT) WITH (TTL_SECONDS = 300)")
        for event in range(4):
            root.execute("INSERT INTO studio.plays VALUES (?)", [event])
            clock.advance(100)
        # Event 0 is 400 s old and event 1 is 300: they are not read any more.
        root.execute("BACKUP DATABASE studio TO 'b'; DROP NAMESPACE studio CASCADE")
        clock.advance(60)
        root.execute("RESTORE DATABASE studio FROM 'b'")
        ids = "SELECT id FROM studio.plays ORDER BY id"
        assert root.execute(ids).rows() == [(2,), (3,)]
        clock.advance(40)
        assert root.execute(ids).rows() == [(3,)]
        root.execute("INSERT INTO studio.plays VALUES (9)")
    with opened(tmp_path / "lab.kalam", clock) as db:
        clock.advance(100)
        assert db.session().execute(ids).rows() == [(9,)]


def test_storages_and_registered_files_are_not_in_it(tmp_path: Path) -> None:
    with opened(tmp_path / "lab.kalam") as db:
        (tmp_path / "lab.kalam" / "x.csv").write_text("a,b\n1,2\n")
        db.session().execute_script(
            """CREATE NAMESPACE studio; CREATE STORAGE vault TYPE 'filesystem' PATH 'vault';
            CREATE TABLE studio.t (id INT PRIMARY KEY) WITH (STORAGE_ID = 'vault');
            INSERT INTO studio.t VALUES (1); REGISTER TABLE studio.files FROM 'x.csv';
            BACKUP DATABASE studio TO '../b'; DROP NAMESPACE studio CASCADE;
            RESTORE DATABASE studio FROM '../b'"""
        )
        assert db.session().execute("SELECT * FROM studio.files").rows() == [(1, 2)]
    with opened(tmp_path / "other.kalam") as db:
        root = db.session()
        with pytest.raises(NotFoundError, match="^Storage 'vault' not found$"):
            root.execute("RESTORE DATABASE studio FROM '../b'")
        assert root.execute("SELECT * FROM system.jobs").rows() == []
        root.execute("CREATE STORAGE vault TYPE 'filesystem' PATH 'vault'")
        root.execute("RESTORE DATABASE studio FROM '../b'")
        assert root.execute("SELECT * FROM studio.t").rows() == [(1,)]
    assert len(list((tmp_path / "other.kalam" / "vault").rglob("*.parquet"))) == 1


def test_default_is_restored_while_it_holds_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "a.kalam") as db:
        root = db.session()
        root.execute("CREATE TABLE t (id INT); INSERT INTO t VALUES (1)")
        root.execute("BACKUP DATABASE default TO '../b'")
        with pytest.raises(AlreadyExistsError, match="^Namespace 'default' already exists$"):
            root.execute("RESTORE DATABASE default FROM '../b'")
    with opened(tmp_path / "c.kalam") as db:
        root = db.session()
        root.execute("RESTORE DATABASE default FROM '../b'")
        assert root.execute("SELECT * FROM t").rows() == [(1,)]
        assert root.execute("SELECT table_count FROM system.namespaces").rows() == [(1,)]


def test_an_empty_namespace_is_a_namespace(tmp_path: Path) -> None:
    with opened(tmp_path / "lab.kalam") as db:
        root = db.session()
        root.execute("CREATE NAMESPACE bare; BACKUP DATABASE bare TO 'b'; DROP NAMESPACE bare")
        root.execute("RESTORE DATABASE bare FROM 'b'")
        assert root.execute("SHOW TABLES IN bare").rows() == []
