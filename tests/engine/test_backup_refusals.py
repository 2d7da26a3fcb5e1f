"""What BACKUP and RESTORE refuse: damage, wrong places, wrong roles; and what SHOW BACKUPS lists."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.engine.database import Database
from kalamdb_lab.errors import (
    AlreadyExistsError,
    CorruptError,
    InvalidNameError,
    InvalidOptionError,
    KalamError,
    NotEmptyError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    StorageError,
)
from kalamdb_lab.testing.jobs import finished

BACKED_UP = "Backed up 2 tables with 7 rows to '{}'"
RESTORED = "Restored 2 tables with 7 rows from '{}'"


def opened(path: Path) -> Database:
    """Open as another process would, with an engine of its own."""
    path.mkdir(exist_ok=True)
    (path / "kalam.toml").write_text('durability = "normal"\n')
    return kalam.open(path, clock=FakeClock())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with flushed and hot rows of two users, and a backup of its namespace."""
    path = tmp_path_factory.mktemp("filled")
    with opened(path / "lab.kalam") as db:
        root = db.session()
        root.execute_script(
            """CREATE NAMESPACE studio; USE studio; CREATE TABLE plans (id INT PRIMARY KEY);
            INSERT INTO plans VALUES (1), (2), (3);
            CREATE USER TABLE notes (id INT PRIMARY KEY, body TEXT, v EMBEDDING(2))"""
        )
        for user in ("alice", "bob"):
            root.execute(f"CREATE USER '{user}' INTERNAL ROLE user")
            session = db.session(user, namespace="studio")
            session.execute("INSERT INTO notes VALUES (1, 'one', '[1, 0]')")
            finished(root, "STORAGE FLUSH ALL IN studio")
            session.execute("INSERT INTO notes VALUES (2, 'two', NULL)")
        (answer,) = root.execute("BACKUP DATABASE studio TO '../studio-1'").rows()
        assert answer[1:] == ("backup", "completed", BACKED_UP.format("../studio-1"))
    return path


@pytest.fixture
def lab(filled: Path, tmp_path: Path) -> Path:
    """Both of this test alone, as ``lab.kalam`` and ``studio-1``."""
    for name in ("lab.kalam", "studio-1"):
        shutil.copytree(filled / name, tmp_path / name)
    return tmp_path / "lab.kalam"


def restore(db: Database, directory: str = "../studio-1") -> None:
    (answer,) = db.session().execute(f"RESTORE DATABASE studio FROM '{directory}'").rows()
    assert answer[0].startswith("RS-")
    assert answer[1:] == ("restore", "completed", RESTORED.format(directory))


def files_of(path: Path) -> set[Path]:
    """Segments of the namespace."""
    found = (path / "storage" / "studio").rglob("s-*")
    return {file for file in found if file.is_file()}


def assert_nothing_is_there(path: Path) -> None:
    with opened(path) as db:
        assert "studio" not in [row[0] for row in db.session().execute("SHOW NAMESPACES")]
        assert db.session().execute("SHOW TABLES").rows() == []
    assert files_of(path) == set()


def flip_a_bit(file: Path, at: float) -> None:
    data = bytearray(file.read_bytes())
    data[int((len(data) - 1) * at)] ^= 4
    file.write_bytes(bytes(data))


def test_a_flipped_bit_anywhere_restores_nothing(lab: Path, tmp_path: Path) -> None:
    backup, other = tmp_path / "studio-1", tmp_path / "other.kalam"
    files = sorted(file for file in backup.rglob("*") if file.is_file())
    assert len(files) > 12
    with opened(other) as db:
        root = db.session()
        for number, file in enumerate(files):
            whole = file.read_bytes()
            flip_a_bit(file, (number % 5) / 4)
            with pytest.raises(CorruptError) as caught:
                root.execute("RESTORE DATABASE studio FROM '../studio-1'")
            table = file.relative_to(backup).parts
            named = f"of studio.{table[1]} " if len(table) > 1 else ""
            assert str(caught.value) == (
                f"The backup {named}at '../studio-1' is damaged; nothing was restored"
            )
            assert files_of(other) == set()
            file.write_bytes(whole)
        missing = files[3].rename(files[3].with_suffix(".away"))
        with pytest.raises(CorruptError, match=r"^The backup of studio\.\w+ at"):
            root.execute("RESTORE DATABASE studio FROM '../studio-1'")
        missing.rename(files[3])
    assert_nothing_is_there(other)
    with opened(other) as db:
        restore(db)


def test_a_damaged_segment_is_not_backed_up(lab: Path, tmp_path: Path) -> None:
    for pattern in ("*.parquet", "*.vectors/3/f32/c/0/0"):
        flipped = max((lab / "storage" / "studio" / "notes" / "bob").glob(pattern))
        whole = flipped.read_bytes()
        flip_a_bit(flipped, 0.4)
        with opened(lab) as db:
            root = db.session()
            with pytest.raises(CorruptError, match=r"^A segment of studio\.notes is damaged; "):
                root.execute("BACKUP DATABASE studio TO '../studio-2'")
            assert not (tmp_path / "studio-2").exists()
            (tmp_path / "empty").mkdir(exist_ok=True)
            with pytest.raises(CorruptError):
                root.execute("BACKUP DATABASE studio TO '../empty'")
            assert list((tmp_path / "empty").iterdir()) == []
            with pytest.raises(CorruptError):
                db.backup(tmp_path / "whole")
            assert not (tmp_path / "whole").exists()
            failed = root.execute("SHOW BACKUPS FOR DATABASE studio").rows()
            assert [row[3] for row in failed].count("failed") >= 2
            assert root.execute("SELECT 1").rows() == [(1,)]
        flipped.write_bytes(whole)
    with opened(lab) as db:
        db.session().execute("BACKUP DATABASE studio TO '../studio-2'")


def test_what_was_cut_short_is_no_backup(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "studio-1" / "backup.json").unlink()
    with (
        opened(tmp_path / "other.kalam") as db,
        pytest.raises(NotFoundError, match=r"^Backup not found at '\.\./studio-1'$"),
    ):
        db.session().execute("RESTORE DATABASE studio FROM '../studio-1'")


# --- what is refused --------------------------------------------------------------------------


def test_refusals_say_why_and_make_no_job(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refusals: list[tuple[str, type[KalamError], str]] = [
        ("BACKUP DATABASE gone TO '../b'", NotFoundError, "Namespace 'gone' not found"),
        ("BACKUP DATABASE studio TO '../studio-1'", NotEmptyError,
         "'../studio-1' is not empty; choose a new or empty directory"),
        ("BACKUP DATABASE studio TO '../file'", StorageError,
         "'../file' is a file; choose a new or empty directory"),
        ("BACKUP DATABASE studio TO ''", InvalidOptionError, "A backup needs a directory"),
        ("BACKUP DATABASE studio TO 'storage/mine'", InvalidOptionError,
         "'storage/mine' lies in storage 'local'; choose a directory outside of it"),
        ("BACKUP DATABASE system TO '../b'", NotSupportedError,
         "Namespace 'system' cannot be backed up alone; use kalam backup for the database"),
        ("RESTORE DATABASE studio FROM '../studio-1'", AlreadyExistsError,
         "Namespace 'studio' already exists"),
        ("RESTORE DATABASE other FROM '../studio-1'", InvalidOptionError,
         "The backup at '../studio-1' holds namespace 'studio', not 'other'"),
        ("RESTORE DATABASE other FROM '../nowhere'", NotFoundError,
         "Backup not found at '../nowhere'"),
        ("RESTORE DATABASE other FROM '..'", NotFoundError, "Backup not found at '..'"),
        ("RESTORE DATABASE system FROM '../studio-1'", InvalidNameError,
         "Namespace 'system' is reserved"),
        ("SHOW BACKUPS FOR DATABASE gone", NotFoundError, "Namespace 'gone' not found"),
    ]  # fmt: skip
    with opened(lab) as db:
        root = db.session()
        jobs = "SELECT count(*) FROM system.jobs"
        before = root.execute(jobs).rows()
        for sql, kind, message in refusals:
            with pytest.raises(kind) as caught:
                root.execute(sql)
            assert str(caught.value) == message
        assert root.execute(jobs).rows() == before
    assert not (tmp_path / "b").exists()


def test_if_exists_and_if_not_exists_do_nothing_and_say_so(lab: Path, tmp_path: Path) -> None:
    with opened(lab) as db:
        root = db.session()
        assert root.execute("BACKUP DATABASE IF EXISTS gone TO '../b'").rows() == [
            ("Namespace 'gone' does not exist; nothing was done",)
        ]
        assert root.execute("RESTORE DATABASE IF NOT EXISTS studio FROM '../studio-1'").rows() == [
            ("Namespace 'studio' already exists; nothing was done",)
        ]
        root.execute("BACKUP DATABASE IF EXISTS studio TO '../b'")
        root.execute("DROP NAMESPACE studio CASCADE")
        root.execute("RESTORE DATABASE IF NOT EXISTS studio FROM '../b'")
        assert root.execute("SELECT count(*) FROM studio.plans").rows() == [(3,)]


def test_a_newer_format_is_not_taken_for_damage(lab: Path, tmp_path: Path) -> None:
    file = tmp_path / "studio-1" / "backup.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 2', 1))
    with (
        opened(tmp_path / "other.kalam") as db,
        pytest.raises(StorageError, match="was written by a newer KalamDB Lab"),
    ):
        db.session().execute("RESTORE DATABASE studio FROM '../studio-1'")


def test_roles(lab: Path) -> None:
    with opened(lab) as db:
        db.session().execute("CREATE USER 'dora' INTERNAL ROLE dba")
        alice, dora = db.session("alice"), db.session("dora")
        for sql in (
            "BACKUP DATABASE gone TO '../b'",
            "RESTORE DATABASE gone FROM '../b'",
            "SHOW BACKUPS FOR DATABASE gone",
        ):
            with pytest.raises(PermissionDeniedError, match="it needs dba or system$"):
                alice.execute(sql)
        dora.execute("BACKUP DATABASE studio TO '../b'")
        ((_, namespace, path, status, *counts, _, by),) = [
            row for row in dora.execute("SHOW BACKUPS FOR DATABASE studio") if row[-1] == "dora"
        ]
        assert (namespace, path, status, by) == ("studio", "../b", "completed", "dora")
        size = sum(f.stat().st_size for f in (lab.parent / "b").rglob("*") if f.is_file())
        assert counts == [2, 7, size - (lab.parent / "b" / "backup.json").stat().st_size]


def test_backups_of_a_dropped_namespace_are_still_listed(lab: Path) -> None:
    with opened(lab) as db:
        root = db.session()
        root.execute("DROP NAMESPACE studio CASCADE")
        assert [row[2] for row in root.execute("SHOW BACKUP FOR DATABASE studio")] == [
            "../studio-1"
        ]
