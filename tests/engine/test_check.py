"""Damage is found and named; a lost catalog is made again from the segments."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.engine.check import Report, check_database
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.rebuild import rebuild_database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import CorruptError, KalamError, NotFoundError, StorageError
from kalamdb_lab.testing.jobs import finished

NOTES = {
    "alice": [(1, "one", [1.0, 0.0], None), (3, "three, again", [0.0, 1.0], "late")],
    "bob": [(1, "mine", None, None)],
}
PLANS = [(1, "first"), (2, "second")]


def opened(path: Path) -> Database:
    """Open as another process would, with an engine of its own."""
    return kalam.open(path, clock=FakeClock(), create=False)


def fill(path: Path) -> None:
    """USER and SHARED tables of two users, changed, altered, merged and flushed; one dropped."""
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\nretired_segment_grace_s = 3600\n')
    # Somebody else has it open: the files of what is merged and dropped stay.
    with kalam.open(path, clock=FakeClock()) as db, kalam.open(path, clock=FakeClock()):
        root = db.session()
        root.execute_script(
            "CREATE NAMESPACE studio; USE studio;"
            "CREATE USER 'alice' INTERNAL ROLE user; CREATE USER 'bob' INTERNAL ROLE user;"
            "CREATE USER TABLE notes (id BIGINT PRIMARY KEY, body TEXT, v EMBEDDING(2));"
            "CREATE SHARED TABLE plans (id BIGINT PRIMARY KEY, name TEXT)"
            " WITH (ACCESS_LEVEL = 'PUBLIC');"
            "CREATE TABLE doomed (id INT); INSERT INTO doomed VALUES (1);"
            "INSERT INTO plans VALUES (1, 'first'), (2, 'secund'), (9, 'never');"
            "CREATE VIEW names AS SELECT name FROM plans"
        )
        alice, bob = (db.session(user, namespace="studio") for user in ("alice", "bob"))
        for row in ([1, "one", [1.0, 0.0]], [2, "two", None], [3, "three", [0.0, 1.0]]):
            alice.execute("INSERT INTO notes VALUES (?, ?, ?)", row)
        bob.execute("INSERT INTO notes VALUES (1, 'mine', NULL)")
        finished(root, "STORAGE FLUSH ALL")
        alice.execute("DELETE FROM notes WHERE id = 2")
        root.execute("ALTER TABLE notes ADD COLUMN tag TEXT")
        alice.execute("UPDATE notes SET body = 'three, again', tag = 'late' WHERE id = 3")
        finished(root, "STORAGE FLUSH TABLE notes")
        finished(root, "STORAGE COMPACT TABLE notes")
        finished(
            root,
            "UPDATE plans SET name = 'second' WHERE id = 2; DELETE FROM plans WHERE id = 9;"
            "DROP TABLE doomed; STORAGE FLUSH TABLE plans",
        )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "lab.kalam"
    fill(path)
    return path


@pytest.fixture
def lab(filled: Path, tmp_path: Path) -> Path:
    """A database of this test alone."""
    path = tmp_path / "lab.kalam"
    shutil.copytree(filled, path)
    return path


def session_of(db: Database, user: str) -> Session:
    return db.session(user, namespace="studio")


def assert_is_whole(path: Path) -> None:
    with opened(path) as db:
        for user, rows in NOTES.items():
            assert session_of(db, user).execute("SELECT * FROM notes ORDER BY id").rows() == rows
        alice = session_of(db, "alice")
        assert alice.execute("SELECT * FROM plans ORDER BY id").rows() == PLANS
        assert alice.execute("SELECT name FROM names ORDER BY name").rows() == [
            (name,) for _, name in PLANS
        ]
        with pytest.raises(KalamError, match="'studio.doomed' not found"):
            alice.execute("SELECT * FROM doomed")


def flip_a_bit(path: Path, pattern: str) -> None:
    place = max(path.glob(pattern))
    data = bytearray(place.read_bytes())
    data[len(data) // 3] ^= 4
    place.write_bytes(bytes(data))


def affected(report: Report) -> dict[str, tuple[int, int, int]]:
    return {t.name: (t.damaged, t.missing, t.lost_rows) for t in report.affected}


# --- check ------------------------------------------------------------------------------------


def test_a_sound_database_is_counted_and_said_to_be_sound(lab: Path) -> None:
    with opened(lab) as db:  # in use meanwhile
        session_of(db, "bob").execute("INSERT INTO notes (id) VALUES (7)")
        session_of(db, "bob").execute("DELETE FROM notes WHERE id = 1")
        report = check_database(lab)
    assert report.is_sound
    tables = {table.name: table for table in report.tables}
    notes, plans = tables["studio.notes"], tables["studio.plans"]
    assert (notes.partitions, notes.rows) == (2, 3)
    assert (plans.partitions, plans.rows, plans.segments) == (1, 2, 2)
    assert plans.size_bytes == sum(
        file.stat().st_size for file in lab.glob("storage/studio/plans/*.parquet")
    )
    assert "studio.doomed" not in tables
    assert [t.name for t in report.tables][:2] == ["studio.notes", "studio.plans"]
    assert tables["system.users"].rows == 3


def test_one_flipped_bit_names_its_table_and_leaves_the_others_usable(lab: Path) -> None:
    flip_a_bit(lab, "storage/studio/notes/alice/*.parquet")
    report = check_database(lab)
    assert affected(report) == {"studio.notes": (1, 0, 2)}
    with opened(lab) as db:
        alice, bob = session_of(db, "alice"), session_of(db, "bob")
        with pytest.raises(CorruptError, match=r"^A segment of studio\.notes is damaged; "):
            alice.execute("SELECT * FROM notes")
        assert alice.execute("SELECT * FROM plans ORDER BY id").rows() == PLANS
        assert bob.execute("SELECT * FROM notes").rows() == NOTES["bob"]


def test_vectors_and_missing_files_are_found(lab: Path) -> None:
    flip_a_bit(lab, "storage/studio/notes/alice/*.vectors/3/f32/c/0/0")
    max(lab.glob("storage/studio/plans/*.parquet")).unlink()
    assert affected(check_database(lab)) == {
        "studio.notes": (1, 0, 2),
        "studio.plans": (0, 1, 1),
    }


def test_damaged_definitions_leave_names_to_the_segments(lab: Path) -> None:
    for file in lab.glob("storage/system/tables/*.parquet"):
        flip_a_bit(lab, str(file.relative_to(lab)))
    report = check_database(lab)
    assert list(affected(report)) == ["system.tables"]
    assert {"studio.notes", "studio.plans"} < {table.name for table in report.tables}


def test_a_commit_that_cannot_be_read_names_its_table(lab: Path) -> None:
    with opened(lab) as db:
        session_of(db, "bob").execute("INSERT INTO notes (id) VALUES (7)")
    with sqlite3.connect(lab / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE log SET payload = x'c1' WHERE seq = (SELECT max(seq) FROM log)")
    (table,) = check_database(lab).affected
    assert (table.name, table.damaged_commits) == ("studio.notes", 1)


def test_a_directory_without_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for name, message in {
        "gone": "There is no database at",
        "notes.txt": "is a file, not a KalamDB Lab database directory",
        "": "is not a KalamDB Lab database",
    }.items():
        for work in (check_database, rebuild_database):
            with pytest.raises(StorageError, match=message):
                work(tmp_path / name)
    assert [item.name for item in tmp_path.iterdir()] == ["notes.txt"]


# --- rebuild ----------------------------------------------------------------------------------


def lose_catalog(path: Path) -> None:
    for file in path.glob("catalog.sqlite*"):
        file.unlink()


def test_all_that_was_flushed_survives_the_loss_of_the_catalog(lab: Path) -> None:
    assert_is_whole(lab)
    with opened(lab) as db:
        before = set(db.session().execute("SELECT user_id, role FROM system.users").rows())
    lose_catalog(lab)
    with pytest.raises(StorageError, match="has lost its catalog; run kalam check --rebuild"):
        opened(lab)
    assert not check_database(lab).catalog_is_sound
    rebuilt = rebuild_database(lab)
    assert (rebuilt.tables, rebuilt.users, rebuilt.rows) == (2, 3, 5)
    assert rebuilt.is_whole
    assert rebuilt.kept_as is None
    assert list(rebuilt.undefined) == ["studio.doomed"]
    assert_is_whole(lab)
    assert check_database(lab).is_sound
    with opened(lab) as db:
        after = set(db.session().execute("SELECT user_id, role FROM system.users").rows())
    assert after == before


def test_work_goes_on_with_new_numbers(lab: Path) -> None:
    seqs = "SELECT max(_seq) FROM notes"
    with opened(lab) as db:
        (old_seq,) = session_of(db, "alice").execute(seqs).rows()[0]
    names = {file.name for file in lab.glob("storage/**/s-*.parquet")}
    lose_catalog(lab)
    rebuild_database(lab)
    with opened(lab) as db:
        root, alice = session_of(db, "root"), session_of(db, "alice")
        alice.execute("INSERT INTO notes (id, body) VALUES (10, 'new')")
        with pytest.raises(KalamError, match="Duplicate primary key"):
            alice.execute("INSERT INTO notes (id) VALUES (1)")
        assert alice.execute(seqs).rows()[0][0] > old_seq
        finished(
            root, "CREATE TABLE later (id INT); INSERT INTO later VALUES (1); STORAGE FLUSH ALL"
        )
    new = {file.name for file in lab.glob("storage/**/s-*.parquet")} - names
    assert new
    assert min(new) > max(names)
    lose_catalog(lab)
    rebuild_database(lab)
    with opened(lab) as db:
        assert session_of(db, "alice").execute("SELECT id FROM notes ORDER BY id").rows() == [
            (1,),
            (3,),
            (10,),
        ]
        assert session_of(db, "root").execute("SELECT id FROM later").rows() == [(1,)]


def test_a_damaged_catalog_is_kept_aside(lab: Path) -> None:
    for number in (1, 2):
        catalog = lab / "catalog.sqlite"
        data = bytearray(catalog.read_bytes())
        data[100:] = b"\xff" * (len(data) - 100)
        catalog.write_bytes(bytes(data))
        with pytest.raises(KalamError):
            opened(lab)
        assert not check_database(lab).catalog_is_sound
        assert rebuild_database(lab).kept_as == f"catalog.sqlite.damaged-{number}"
        assert (lab / f"catalog.sqlite.damaged-{number}").read_bytes() == data
        assert_is_whole(lab)


def test_an_empty_catalog_file_is_a_lost_catalog(lab: Path) -> None:
    lose_catalog(lab)
    (lab / "catalog.sqlite").touch()
    with pytest.raises(StorageError, match="has lost its catalog"):
        opened(lab)
    rebuild_database(lab)
    assert_is_whole(lab)


def test_a_sound_database_is_not_rebuilt(lab: Path) -> None:
    before = (lab / "catalog.sqlite").read_bytes()
    with pytest.raises(StorageError, match="is sound: there is nothing to rebuild$"):
        rebuild_database(lab)
    assert (lab / "catalog.sqlite").read_bytes() == before
    assert_is_whole(lab)


def test_a_newer_catalog_is_not_taken_for_a_damaged_one(lab: Path) -> None:
    with sqlite3.connect(lab / "catalog.sqlite") as catalog:
        catalog.execute("PRAGMA user_version=99")
    for work in (check_database, rebuild_database):
        with pytest.raises(StorageError, match="was written by a newer KalamDB Lab"):
            work(lab)


def test_what_was_not_flushed_is_lost_and_nothing_else(lab: Path) -> None:
    with opened(lab) as db:
        root, alice = session_of(db, "root"), session_of(db, "alice")
        alice.execute("INSERT INTO notes (id) VALUES (11)")
        alice.execute("DELETE FROM notes WHERE id = 1")
        alice.execute("UPDATE notes SET body = 'lost' WHERE id = 3")
        root.execute("CREATE TABLE unflushed (id INT)")
    lose_catalog(lab)
    rebuild_database(lab)
    assert_is_whole(lab)


def test_a_dropped_table_stays_dropped(lab: Path) -> None:
    with opened(lab) as db:
        session_of(db, "root").execute("DROP TABLE plans")
    lose_catalog(lab)
    rebuild_database(lab)
    with opened(lab) as db:
        with pytest.raises(NotFoundError):
            session_of(db, "root").execute("SELECT * FROM plans")
        assert session_of(db, "bob").execute("SELECT * FROM notes").rows() == NOTES["bob"]


def test_damage_met_by_a_rebuild_is_said(lab: Path) -> None:
    flip_a_bit(lab, "storage/studio/notes/alice/*.parquet")
    (lab / "storage/studio/plans/manifest.json").unlink()
    lose_catalog(lab)
    rebuilt = rebuild_database(lab)
    assert not rebuilt.is_whole
    assert (rebuilt.lost, rebuilt.lost_rows) == ({"studio.notes": 1}, 2)
    assert rebuilt.unremembered == ["studio.plans"]
    with opened(lab) as db:
        assert session_of(db, "bob").execute("SELECT * FROM notes").rows() == NOTES["bob"]


def test_a_database_without_segments_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with kalam.open(path, clock=FakeClock()):
        pass
    lose_catalog(path)
    assert rebuild_database(path).users == 1
    with opened(path) as db:
        db.session().execute_script("CREATE TABLE t (id INT); INSERT INTO t VALUES (1)")


# --- what makes it possible -------------------------------------------------------------------


def test_definitions_are_in_segments_as_soon_as_rows_are(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with kalam.open(path, clock=FakeClock()) as db:
        root = db.session()
        for number in range(20):
            root.execute(f"CREATE TABLE t{number} (id INT)")
            root.insert(f"t{number}", {"id": list(range(5_000))})
        (tables,) = [t for t in check_database(path).tables if t.name == "system.tables"]
        system = len(root.definitions("system"))
        assert tables.rows == 20 + system
        assert tables.segments <= 16, "many small segments are merged"
    lose_catalog(path)
    assert rebuild_database(path).rows == 100_000
    assert check_database(path).is_sound


def test_a_dropped_table_leaves_no_bounds_of_its_values_behind(lab: Path) -> None:
    (lab / "kalam.toml").write_text("retired_segment_grace_s = 0\n")
    clock = FakeClock()
    with kalam.open(lab, clock=clock) as db:
        root = session_of(db, "root")
        root.execute("DROP TABLE notes")
        clock.advance(3600)
        finished(root, "STORAGE COMPACT TABLE plans")
    assert [file for file in (lab / "storage/studio/notes").rglob("*") if file.is_file()] == []
