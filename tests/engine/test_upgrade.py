"""System tables of an older version: upgraded at open, with their rows; newer ones are refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kalamdb_lab import FakeClock
from kalamdb_lab.catalog.entity_store import EntityStore
from kalamdb_lab.catalog.system_tables import AUDIT_LOGS, SYSTEM_TABLES, grown
from kalamdb_lab.engine.app_context import AppContext
from kalamdb_lab.engine.check import check_database
from kalamdb_lab.engine.database import Database
from kalamdb_lab.errors import StorageError
from kalamdb_lab.model.datatypes import INT, TEXT
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.testing.jobs import finished

_USERS = SYSTEM_TABLES["users"]
NEWER: Mapping[str, TableDef] = {
    **SYSTEM_TABLES,
    "users": grown(_USERS, ("phone", TEXT, "?", None), ("level", INT, "", 7)),
    "tables": grown(SYSTEM_TABLES["tables"], ("comment", TEXT, "", "none")),
    "alerts": replace(AUDIT_LOGS, table_key=90, table_id=TableId("system", "alerts")),
}
REFUSED = (
    r"The database was written by a newer KalamDB Lab \(system\.\w+ has version \d, "
    r"this one reads \d\); upgrade kalamdb-lab"
)


@contextmanager
def opened(
    path: Path, system: Mapping[str, TableDef] = SYSTEM_TABLES, clock: FakeClock | None = None
) -> Iterator[Database]:
    path.mkdir(exist_ok=True)
    (path / "kalam.toml").write_text('durability = "normal"\n')
    context = AppContext(
        path.resolve(), clock or FakeClock(), shown_as="lab.kalam", create=True,
        system_tables=system,
    )  # fmt: skip
    with Database(context, "lab.kalam", None) as database:
        yield database


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("older") / "lab.kalam"
    with opened(path) as database:
        s = database.session()
        finished(
            s,
            """CREATE USER 'flo' WITH INTERNAL ROLE service EMAIL 'flo@example.com';
            CREATE USER 'gone' WITH INTERNAL ROLE user;
            CREATE NAMESPACE studio; CREATE TABLE studio.tracks (id INT PRIMARY KEY, title TEXT);
            INSERT INTO studio.tracks VALUES (1, 'Dawn');
            STORAGE FLUSH ALL;
            CREATE USER 'hot' WITH INTERNAL ROLE dba;
            DROP USER 'gone';
            CREATE TABLE studio.genres (code TEXT PRIMARY KEY)""",
        )
        assert {row[3] for row in s.execute("SHOW MANIFEST FOR TABLE system.users")}
    return path


@pytest.fixture
def path(older: Path, tmp_path: Path) -> Path:
    """A database of the older version, with users and tables hot and flushed."""
    return shutil.copytree(older, tmp_path / "lab.kalam")


def check_upgraded(database: Database) -> None:
    s = database.session()
    users = "SELECT user_id, role, email, phone, level FROM system.users ORDER BY user_id"
    assert s.execute(users).rows() == [
        ("flo", "service", "flo@example.com", None, 7),
        ("gone", "user", None, None, 7),
        ("hot", "dba", None, None, 7),
        ("root", "system", None, None, 7),
    ]
    assert s.execute(
        "SELECT deleted_at IS NULL FROM system.users WHERE user_id = 'gone'"
    ).rows() == [(False,)]
    assert database.session("flo").role.value == "service"
    assert database.session("hot").role.value == "dba"
    assert s.execute("SELECT * FROM studio.tracks").rows() == [(1, "Dawn")]
    assert s.execute("SELECT * FROM studio.genres").rows() == []
    versions = "SELECT table_name, schema_version FROM system.tables WHERE table_type = 'system'"
    stored = dict(s.execute(versions).rows())
    assert (stored["users"], stored["tables"], stored["alerts"]) == (2, 2, 1)
    assert stored.keys() == {row[1] for row in s.execute("SHOW TABLES IN system")}
    assert {row[0] for row in s.execute("SELECT DISTINCT comment FROM system.tables")} == {"none"}
    assert s.execute("SELECT count(*) FROM system.alerts").rows() == [(0,)]


def test_rows_of_an_older_version_are_read_hot_flushed_and_after_restarts(path: Path) -> None:
    for _ in range(2):
        with opened(path, NEWER) as database:
            check_upgraded(database)
    with opened(path, NEWER) as database:
        finished(database.session(), "STORAGE FLUSH ALL; STORAGE COMPACT ALL")
        check_upgraded(database)
    with opened(path, NEWER) as database:
        check_upgraded(database)


def test_entities_are_written_in_the_new_version_and_changed_across_versions(path: Path) -> None:
    with opened(path, NEWER) as database:
        s = database.session()
        s.execute(
            "ALTER USER 'flo' SET EMAIL 'new@example.com'; CREATE USER 'ida' WITH INTERNAL ROLE user"
        )
        s.execute("ALTER TABLE studio.tracks ADD COLUMN seconds INT; DROP TABLE studio.genres")
    with opened(path, NEWER) as database:
        s = database.session()
        found = s.execute(
            "SELECT email, level FROM system.users WHERE user_id IN ('flo', 'ida') ORDER BY user_id"
        )
        assert found.rows() == [("new@example.com", 7), (None, 7)]
        assert s.execute("SELECT * FROM studio.tracks").rows() == [(1, "Dawn", None)]
        assert [row[1] for row in s.execute("SHOW TABLES")] == ["tracks"]


def test_entities_see_the_fill_of_what_their_rows_do_not_have(path: Path) -> None:
    with opened(path, NEWER) as database:
        context = database._context
        rows = EntityStore(
            context.log, context.reader, NEWER["users"], lambda row: row, lambda row: row
        )
        assert {row[0]: row[-2:] for row in rows.all().values()} == dict.fromkeys(
            ("flo", "gone", "hot", "root"), (None, 7)
        )


def test_the_history_tells_when_each_version_came(path: Path) -> None:
    clock = FakeClock()
    clock.advance(3_600)
    with opened(path, NEWER, clock) as database:
        first, second = database.session().execute("DESCRIBE TABLE system.users HISTORY").rows()
    assert (first[0], second[0]) == (1, 2)
    assert (second[1] - first[1]).total_seconds() == 3_600
    assert (first[3], second[3]) == ("CREATE TABLE", "ADD COLUMN phone TEXT, level INT")


def test_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    with opened(path, NEWER):
        pass
    for _ in range(2):
        with pytest.raises(StorageError, match=REFUSED), opened(path):
            pass
    with pytest.raises(StorageError, match=REFUSED):
        check_database(path)
    with opened(path, NEWER) as database:
        check_upgraded(database)


def test_a_newer_version_is_refused_when_all_of_it_is_flushed(path: Path) -> None:
    with opened(path, NEWER) as database:
        finished(database.session(), "STORAGE FLUSH ALL; STORAGE COMPACT ALL")
    with pytest.raises(StorageError, match=REFUSED), opened(path):
        pass


def test_who_has_an_older_version_open_is_told_of_the_upgrade(path: Path) -> None:
    with opened(path) as older:
        s = older.session()
        assert s.execute("SELECT count(*) FROM studio.tracks").rows() == [(1,)]
        with opened(path, NEWER) as newer:
            check_upgraded(newer)
            with pytest.raises(StorageError, match=REFUSED):
                s.execute("SELECT count(*) FROM studio.tracks")
            check_upgraded(newer)


def test_opening_the_same_version_again_defines_nothing(path: Path) -> None:
    newest = "SELECT max(_seq) FROM system.tables"
    with opened(path) as database:
        before = database.session().execute(newest).rows()
    with opened(path) as database:
        assert database.session().execute(newest).rows() == before


def test_a_copy_of_an_older_database_stays_older(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.kalam"
    shutil.copytree(path, copy)
    with opened(path, NEWER):
        pass
    with opened(copy) as database:
        assert "phone" not in database.session().execute("SELECT * FROM system.users").columns


def test_a_column_without_a_fill_cannot_be_required() -> None:
    with pytest.raises(AssertionError):
        grown(_USERS, ("level", INT, "", None))
