"""`Database.backup`: a directory that opens as it is and needs nothing of the original."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.engine.check import check_database
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.rebuild import rebuild_database
from kalamdb_lab.errors import (
    ClosedError,
    InvalidOptionError,
    KalamError,
    NotEmptyError,
    PermissionDeniedError,
    StorageError,
)
from kalamdb_lab.testing.jobs import finished

ROWS = [(1, "one", [1.0, 0.0]), (3, "three, again", None), (4, "hot", [0.0, 1.0])]


def opened(path: Path) -> Database:
    return kalam.open(path, clock=FakeClock(), create=False)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Rows in four storages: relative and absolute ones inside, and one outside of it."""
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\nbulk_rows = 77\n')
    with kalam.open(path, clock=FakeClock()) as db:
        root = db.session()
        root.execute_script(
            f"""CREATE NAMESPACE studio; USE studio;
            CREATE USER 'alice' WITH PASSWORD 'long enough' ROLE user;
            CREATE STORAGE inside TYPE 'filesystem' PATH 'storages/far';
            CREATE STORAGE far TYPE 'filesystem' PATH '{tmp_path}/far';
            CREATE STORAGE near TYPE 'filesystem' PATH '{path}/own';
            CREATE STORAGE unused TYPE 'filesystem' PATH '{tmp_path}/unused'"""
        )
        alice = db.session("alice", namespace="studio")
        for storage in ("local", "inside", "far", "near"):
            root.execute(
                f"""CREATE USER TABLE {storage}_notes (id INT PRIMARY KEY, body TEXT,
                v EMBEDDING(2)) WITH (STORAGE_ID = '{storage}')"""
            )
            alice.execute(
                f"INSERT INTO {storage}_notes VALUES "
                "(1, 'one', '[1, 0]'), (2, 'two', NULL), (3, 'three', NULL)"
            )
            finished(root, f"STORAGE FLUSH TABLE {storage}_notes")
            alice.execute(f"DELETE FROM {storage}_notes WHERE id = 2")
            alice.execute(f"UPDATE {storage}_notes SET body = 'three, again' WHERE id = 3")
            alice.execute(f"INSERT INTO {storage}_notes VALUES (4, 'hot', '[0, 1]')")
    return path


def assert_is_whole(path: Path) -> None:
    with opened(path) as db:
        alice = db.session("alice", namespace="studio", password="long enough")
        for storage in ("local", "inside", "far", "near"):
            rows = alice.execute(f"SELECT * FROM {storage}_notes ORDER BY id").rows()
            assert rows == ROWS, storage
            deleted = alice.execute(f"SELECT id FROM {storage}_notes WHERE _deleted").rows()
            assert deleted == [(2,)]


def test_the_copy_opens_as_it_is_and_needs_nothing_of_the_original(
    lab: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "else" / "where" / "copy.kalam"
    with opened(lab) as db:
        seq = db._context.log.applied_seq
        report = db.backup(copy)
    files = [file for file in copy.rglob("*") if file.is_file()]
    assert dataclasses.asdict(report) == {
        "path": str(copy),
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "rows": 12,
        "seq": seq,
    }
    assert (copy / "kalam.toml").read_text() == (lab / "kalam.toml").read_text()
    for original in ("lab.kalam", "far", "unused"):
        shutil.rmtree(tmp_path / original)
    copy = copy.rename(tmp_path / "moved.kalam")
    assert check_database(copy).is_sound
    assert_is_whole(copy)
    with opened(copy) as db:
        root = db.session(namespace="studio")
        assert root.execute("SELECT storage_id, base_directory FROM system.storages").rows()
        checked = [root.execute(f"STORAGE CHECK {s}").rows()[0][1] for s in ("far", "unused")]
        assert checked == ["healthy", "healthy"]
        finished(root, "STORAGE FLUSH ALL; STORAGE COMPACT ALL IN studio")
    assert_is_whole(copy)


def test_a_lost_catalog_of_the_copy_is_made_again_from_the_copy_alone(
    lab: Path, tmp_path: Path
) -> None:
    with opened(lab) as db:
        finished(db.session(), "STORAGE FLUSH ALL")
        db.backup(tmp_path / "copy.kalam")
    before = sorted((file, file.stat().st_mtime_ns) for file in (tmp_path / "far").rglob("*"))
    for file in (tmp_path / "copy.kalam").glob("catalog.sqlite*"):
        file.unlink()
    assert rebuild_database(tmp_path / "copy.kalam").is_whole
    assert_is_whole(tmp_path / "copy.kalam")
    after = sorted((file, file.stat().st_mtime_ns) for file in (tmp_path / "far").rglob("*"))
    assert after == before


def test_a_copy_of_a_copy_is_a_copy(lab: Path, tmp_path: Path) -> None:
    with opened(lab) as db:
        first = db.backup(tmp_path / "first.kalam")
    with opened(tmp_path / "first.kalam") as db:
        assert db.backup(tmp_path / "second.kalam").rows == first.rows
    shutil.rmtree(tmp_path / "first.kalam")
    assert_is_whole(tmp_path / "second.kalam")


def test_directories_that_hold_something_or_lie_in_a_storage_are_refused(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    refusals: dict[str, tuple[type[KalamError], str]] = {
        "full": (NotEmptyError, "'full' is not empty; choose a new or empty directory"),
        "full/mine.txt": (
            StorageError,
            "'full/mine.txt' is a file; choose a new or empty directory",
        ),
        "lab.kalam": (NotEmptyError, "'lab.kalam' is not empty; choose a new or empty directory"),
        "far/copy": (
            InvalidOptionError,
            "'far/copy' lies in storage 'far'; choose a directory outside of it",
        ),
    }
    with opened(lab) as db:
        for place, (kind, message) in refusals.items():
            with pytest.raises(kind) as caught:
                db.backup(place)
            assert str(caught.value) == message
        (tmp_path / "empty").mkdir()
        assert db.backup("empty").path == "empty"
    assert_is_whole(tmp_path / "empty")
    assert not (tmp_path / "far" / "copy").exists()
    assert [item.name for item in (tmp_path / "full").iterdir()] == ["mine.txt"]
    with pytest.raises(ClosedError):
        db.backup("late")


def test_who_opened_as_a_plain_user_copies_nothing(lab: Path, tmp_path: Path) -> None:
    login = {"user": "alice", "password": "long enough"}
    with (
        kalam.open(lab, create=False, **login) as db,
        pytest.raises(  # type: ignore[arg-type]
            PermissionDeniedError,
            match="^Role 'user' cannot execute BACKUP; it needs dba or system$",
        ),
    ):
        db.backup(tmp_path / "copy.kalam")
    assert not (tmp_path / "copy.kalam").exists()
    with opened(lab) as db:
        db.session().execute("ALTER USER 'alice' SET ROLE dba")
    with kalam.open(lab, create=False, **login) as db:  # type: ignore[arg-type]
        db.backup(tmp_path / "copy.kalam")


def test_a_copy_that_was_cut_short_is_no_database(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.kalam" / "unfinished.tmp" / "storage").mkdir(parents=True)
    with pytest.raises(StorageError, match="is not a KalamDB Lab database"):
        kalam.open(tmp_path / "copy.kalam", clock=FakeClock())
