"""VACUUM erases users who were dropped: no byte of theirs is left, and nobody else's is lost."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from database_files import database, everything, files, root_of, segments

from kalamdb_lab import FakeClock
from kalamdb_lab.engine.database import Database
from kalamdb_lab.store.log import EntryKind
from kalamdb_lab.testing.jobs import finished

MARK = "the marker of mia"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.kalam"


def fill(db: Database) -> None:
    """Rows of mia and tom in every tier: bulk, flushed, merged, hot, deleted, streams, vectors."""
    root = root_of(db)
    for user in ("mia", "tom"):
        root.execute(f"CREATE USER '{user}' INTERNAL ROLE user")
    root.execute(
        "CREATE USER TABLE notes (id INT PRIMARY KEY, body TEXT, v EMBEDDING(2));"
        "CREATE USER TABLE drafts (id INT PRIMARY KEY, body TEXT);"
        "CREATE STREAM TABLE plays (id INT PRIMARY KEY, body TEXT) WITH (TTL_SECONDS = 9999);"
        "CREATE TABLE shared (id INT PRIMARY KEY, body TEXT);"
        "INSERT INTO shared VALUES (1, 'of all')"
    )
    for user, text in (("mia", MARK), ("tom", "tom's")):
        own = db.session(user, namespace="studio")
        own.insert(
            "notes", {"id": list(range(10, 20)), "body": [text] * 10, "v": [[1.0, 0.0]] * 10}
        )
        for row in (1, 2, 3, 4):
            own.execute("INSERT INTO notes VALUES (?, ?, NULL)", [row, f"{text} {row}"])
            own.execute("INSERT INTO drafts VALUES (?, ?)", [row, f"{text} {row}"])
            own.execute("INSERT INTO plays VALUES (?, ?)", [row, f"{text} {row}"])
            if row == 2:
                finished(root, "STORAGE FLUSH ALL IN studio")
        own.execute("UPDATE notes SET body = ? WHERE id = 1", [f"{text} again"])
        own.execute("DELETE FROM notes WHERE id = 2")
    finished(root, "STORAGE FLUSH ALL IN studio; STORAGE COMPACT ALL IN studio")
    for user, text in (("mia", MARK), ("tom", "tom's")):
        own = db.session(user, namespace="studio")
        own.execute("INSERT INTO notes VALUES (5, ?, [0, 1])", [f"{text} hot"])
        assert own.execute("SELECT count(*) FROM notes WHERE body LIKE '%'").rows() == [(14,)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("filled") / "lab.kalam"
    with database(made) as db:
        fill(db)
    return made


@pytest.fixture
def of_mia(filled: Path, path: Path) -> Callable[..., AbstractContextManager[Database]]:
    """Open a database with rows of mia and tom, with these settings."""

    def opened(settings: str, clock: FakeClock | None = None) -> Any:
        shutil.copytree(filled, path)
        with (path / "kalam.toml").open("a") as file:
            file.write(settings + "\n")
        return database(path, clock=clock)

    return opened


def test_a_user_who_was_dropped_is_erased_without_a_trace(path: Path, of_mia: Any) -> None:
    with of_mia("dropped_user_retention_days = 0") as db:
        root = root_of(db)
        assert MARK.encode() in everything(path)
        assert segments(path, "studio/notes/mia")
        # SQLite is built to overwrite what it deletes in some places, not in others.
        db._context.store._writer.execute("PRAGMA secure_delete=OFF")
        root.execute("DROP USER 'mia'")
        erased, cleaned = sorted(root.execute("VACUUM").rows(), reverse=True)
        assert re.fullmatch(r"UC-[0-9A-Za-z]{6,10}", erased[0])
        assert erased[1:4] == ("user_cleanup", None, "completed")
        assert re.fullmatch(r"Erased 3 partitions of 1 user, deleted \d+ segments", erased[4])
        assert cleaned[1:4] == ("cleanup", None, "completed")

        assert MARK.encode() not in everything(path), "no byte of a row in any file"
        assert files(path, "studio/notes/mia") == files(path, "studio/drafts/mia") == []
        assert not (path / "storage/studio/notes/mia").exists()
        for table in ("notes", "drafts", "plays"):
            sql = f"SELECT DISTINCT user_id FROM all_users('{table}')"
            assert root.execute(sql).rows() == [("tom",)]
        context = db._context
        with context.log.store.read() as transaction:
            of_mia = [e for e in transaction.entries_after(0) if e.partition.scope == "mia"]
            assert {entry.kind for entry in of_mia} == {EntryKind.DROP}
            assert {entry.payload for entry in of_mia} == {b""}
            assert transaction.remnants({"mia"}) == []
        cached = {key[0] for key in context.reader._cache._entries}
        listed = {segment.meta.segment_id for segment in all_segments(context.log.store)}
        assert cached <= listed, "nothing of hers is kept in memory"
        for key, partition in context.log._partitions.items():
            assert key.scope != "mia" or not (partition.rows or partition.segments)

        tom = db.session("tom", namespace="studio")
        assert tom.execute("SELECT count(*) FROM notes").rows() == [(14,)]
        assert tom.execute("SELECT count(*) FROM plays").rows() == [(4,)]
        assert root.execute("SELECT * FROM shared").rows() == [(1, "of all")]
        assert [row[1] for row in root.execute("VACUUM").rows()] == ["cleanup"], "once is enough"
    assert MARK.encode() not in everything(path)


def all_segments(store: Any) -> list[Any]:
    with store.read() as transaction:
        return list(transaction.all_segments())


def test_the_id_of_an_erased_user_leaves_the_log_with_it(path: Path, of_mia: Any) -> None:
    clock = FakeClock()
    with of_mia("dropped_user_retention_days = 0", clock) as db:
        root = root_of(db)
        root.execute("DROP USER 'mia'; VACUUM")
        clock.advance(3_601)
        root.execute("VACUUM")
        for table in db._context.catalog.tables_in("studio"):
            with db._context.log.store.read() as transaction:
                assert "mia" not in transaction.scopes(table.table_key)
        ((*_, scopes),) = root.execute("SHOW STATS FOR TABLE notes").rows()
        assert scopes == 1


@pytest.mark.parametrize(
    ("settings", "days", "erases"),
    [
        ("", 10_000, False),
        ("dropped_user_retention_days = 30", 29, False),
        ("dropped_user_retention_days = 30", 30, True),
    ],
)
def test_users_are_erased_when_the_setting_says_so(
    of_mia: Any, settings: str, days: int, erases: bool
) -> None:
    clock = FakeClock()
    with of_mia(settings, clock) as db:
        root = root_of(db)
        root.execute("DROP USER 'mia'")
        clock.advance(days * 86_400)
        kinds = [row[1] for row in root.execute("VACUUM").rows()]
        assert kinds == (["cleanup", "user_cleanup"] if erases else ["cleanup"])
        left = root.execute("SELECT count(*) FROM all_users('notes') WHERE user_id = 'mia'")
        assert left.rows() == [(0 if erases else 14,)]


def test_users_who_were_not_dropped_stay(path: Path, of_mia: Any) -> None:
    with of_mia("dropped_user_retention_days = 0") as db:
        root = root_of(db)
        assert [row[1] for row in root.execute("VACUUM").rows()] == ["cleanup"]
        assert db.session("mia", namespace="studio").execute("SELECT count(*) FROM notes").rows()


def test_files_of_dropped_tables_of_an_erased_user_do_not_wait(path: Path, of_mia: Any) -> None:
    settings = "dropped_user_retention_days = 0\ndropped_table_retention_hours = 24"
    with of_mia(settings) as db:
        root = root_of(db)
        root.execute("DROP TABLE notes; DROP USER 'mia'; VACUUM")
        assert segments(path, "studio/notes/mia") == []
        assert segments(path, "studio/notes/tom")
        assert MARK.encode() not in everything(path)


def test_beside_another_process_a_user_is_erased_all_the_same(path: Path, of_mia: Any) -> None:
    clock = FakeClock()
    opened = of_mia("dropped_user_retention_days = 0", clock)
    with opened as db, database(path, clock=clock) as other:
        there = root_of(other)
        all_of_mia = "SELECT count(*) FROM all_users('notes') WHERE user_id = 'mia'"
        assert there.execute(all_of_mia).rows() == [(14,)]
        root_of(db).execute("DROP USER 'mia'; VACUUM")
        assert segments(path, "studio/notes/mia") == []
        assert there.execute(all_of_mia).rows() == [(0,)]
        partitions = other._context.log._partitions
        assert not any(p.rows for key, p in partitions.items() if key.scope == "mia")
        assert MARK.encode() not in everything(path)


def test_rows_written_for_an_erased_user_are_erased_next_time(path: Path, of_mia: Any) -> None:
    with of_mia("dropped_user_retention_days = 0") as db:
        root = root_of(db)
        root.execute("DROP USER 'mia'; VACUUM")
        root.execute("EXECUTE AS USER 'mia' (INSERT INTO notes VALUES (1, 'later', NULL))")
        assert root.execute("SELECT count(*) FROM all_users('notes')").rows() == [(15,)]
        kinds = [row[1] for row in root.execute("VACUUM").rows()]
        assert kinds == ["cleanup", "user_cleanup"]
        assert root.execute("SELECT count(*) FROM all_users('notes')").rows() == [(14,)]
