"""Codes of vectors through the life of a database: compaction, backup, check, loss of the catalog."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from database_files import database, files, root_of

from kalamdb_lab.engine.check import check_database
from kalamdb_lab.engine.rebuild import rebuild_database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import CorruptError
from kalamdb_lab.segments import vectors
from kalamdb_lab.testing.jobs import finished

ROWS = np.random.default_rng(8).normal(size=(40, 4)).astype(np.float32)
ARRAYS = ["f32/c/0/0", "q8/c/0/0", "scale/c/0", "remainder/c/0", "norm/c/0"]


@pytest.fixture(autouse=True)
def _small_segments_have_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "CODES_FROM_ROWS", 20)


def fill(root: Session, name: str = "docs") -> None:
    root.execute(f"CREATE TABLE {name} (id BIGINT PRIMARY KEY, v EMBEDDING(4))")
    root.insert(name, {"id": np.arange(20), "v": ROWS[:20]})
    root.insert(name, {"id": np.arange(20, 40), "v": ROWS[20:]})


def assert_is_whole(root: Session) -> None:
    found = root.execute("SELECT v FROM docs ORDER BY id").to_arrow()["v"].combine_chunks()
    np.testing.assert_array_equal(found.flatten().to_numpy().reshape(-1, 4), ROWS)
    query = "SELECT id FROM docs ORDER BY L2_DISTANCE(v, ?) LIMIT 1"
    assert root.execute(query, [ROWS[33]]).rows() == [(33,)]


def coded(path: Path) -> list[str]:
    return [name for name in files(path) if name.endswith("/q8/c/0/0")]


def flip_a_bit(place: Path) -> None:
    data = bytearray(place.read_bytes())
    data[len(data) // 3] ^= 4
    place.write_bytes(bytes(data))


def test_bytes_are_those_of_parquet_files_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with database(path) as db:
        root = root_of(db)
        fill(root)
        parquet = sum(place.stat().st_size for place in path.glob("storage/**/docs/*.parquet"))
        shown = root.execute("SHOW STATS FOR TABLE docs").to_pandas()
        listed = root.execute("SHOW MANIFEST FOR TABLE docs").to_pandas()
        (told,) = root.execute("SELECT value FROM system.stats WHERE metric = 'bytes'").rows()[0]
        (checked,) = [t for t in check_database(path).tables if t.name.endswith(".docs")]
    assert {int(shown.bytes[0]), int(listed.bytes.sum()), int(told)} == {parquet}
    assert checked.size_bytes == parquet > 0


def test_compaction_makes_codes_of_what_was_too_small_for_them(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with database(path) as db:
        root = root_of(db)
        root.execute("CREATE TABLE docs (id BIGINT PRIMARY KEY, v EMBEDDING(4))")
        for start in range(0, 40, 10):
            ids = np.arange(start, start + 10)
            root.insert("docs", {"id": ids, "v": ROWS[start : start + 10]})
        assert coded(path) == []
        finished(root, "STORAGE COMPACT TABLE docs")
        assert len(coded(path)) == 1
        assert_is_whole(root)
    assert check_database(path).is_sound


def test_segments_without_codes_are_read_beside_those_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lab.kalam"
    monkeypatch.setattr(vectors, "CODES_FROM_ROWS", 1_000)
    with database(path) as db:
        root = root_of(db)
        root.execute("CREATE TABLE docs (id BIGINT PRIMARY KEY, v EMBEDDING(4))")
        root.insert("docs", {"id": np.arange(20), "v": ROWS[:20]})
        monkeypatch.setattr(vectors, "CODES_FROM_ROWS", 20)
        root.insert("docs", {"id": np.arange(20, 40), "v": ROWS[20:]})
        assert_is_whole(root)
    assert len(coded(path)) == 1
    with database(path) as db:
        assert_is_whole(root_of(db))
    assert check_database(path).is_sound


@pytest.mark.parametrize("array", ARRAYS)
def test_check_names_the_table_of_a_flipped_bit_in_any_array(tmp_path: Path, array: str) -> None:
    path = tmp_path / "lab.kalam"
    with database(path) as db:
        fill(root_of(db))
        fill(root_of(db), "others")
    assert check_database(path).is_sound
    flip_a_bit(next((path / "storage" / "studio" / "docs").glob(f"*.vectors/2/{array}")))
    (table,) = check_database(path).affected
    assert (table.name, table.damaged, table.lost_rows) == ("studio.docs", 1, 20)


@pytest.mark.parametrize("array", ARRAYS)
def test_a_restored_backup_has_its_codes_and_a_damaged_one_restores_nothing(
    tmp_path: Path, array: str
) -> None:
    with database(tmp_path / "lab.kalam") as db:
        fill(root_of(db))
        root_of(db).execute("BACKUP DATABASE studio TO '../backup'")
    other = tmp_path / "other.kalam"
    place = next((tmp_path / "backup").rglob(f"*.vectors/2/{array}"))
    sound = place.read_bytes()
    flip_a_bit(place)
    with database(other) as db:
        root = db.session()
        root.execute("DROP NAMESPACE studio")
        with pytest.raises(CorruptError, match=r"^The backup of studio\.docs at"):
            root.execute("RESTORE DATABASE studio FROM '../backup'")
        place.write_bytes(sound)
        root.execute("RESTORE DATABASE studio FROM '../backup'")
        assert_is_whole(root_of(db))
    assert len(coded(other)) == 2
    assert check_database(other).is_sound
    flip_a_bit(next((other / "storage").rglob(f"*.vectors/2/{array}")))
    assert [table.name for table in check_database(other).affected] == ["studio.docs"]


def test_a_segment_with_damaged_codes_is_not_backed_up(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with database(path) as db:
        fill(root_of(db))
    flip_a_bit(path / "storage" / coded(path)[0])
    with database(path) as db, pytest.raises(CorruptError, match=r"^A segment of studio\.docs is"):
        root_of(db).execute("BACKUP DATABASE studio TO '../backup'")


def test_a_rebuilt_catalog_knows_the_codes(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with database(path) as db:
        fill(root_of(db))
    for file in path.glob("catalog.sqlite*"):
        file.unlink()
    assert rebuild_database(path).is_whole
    with database(path) as db:
        assert_is_whole(root_of(db))
    flip_a_bit(path / "storage" / coded(path)[0])
    assert [table.name for table in check_database(path).affected] == ["studio.docs"]
