"""A directory is claimed for one storage, and given back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from kalamdb_lab.errors import NotEmptyError, StorageError
from kalamdb_lab.segments.base_directory import MARK_NAME, claiming, lies_within, release


def claim(base: Path, *, with_parents: bool = False) -> None:
    with claiming(base, shown_as="PATH", with_parents=with_parents):
        pass


def test_a_new_and_an_empty_directory_are_claimed_and_no_other(tmp_path: Path) -> None:
    empty, new = tmp_path / "empty", tmp_path / "new"
    empty.mkdir()
    for base in (empty, new):
        claim(base)
        assert [file.name for file in base.iterdir()] == [MARK_NAME]
        with pytest.raises(NotEmptyError, match=r"^PATH 'PATH' is not empty; "):
            claim(base)
        assert (base / MARK_NAME).exists(), "the mark of the first is left alone"


def test_what_a_crash_left_is_claimed_again_by_the_same_database_alone(tmp_path: Path) -> None:
    base, ours, theirs = tmp_path / "base", tmp_path / "ours", tmp_path / "theirs"
    base.mkdir()

    def claimed_by(owner: Path) -> None:
        with claiming(base, shown_as="PATH", with_parents=False, owner=owner):
            pass

    claimed_by(ours)
    claimed_by(ours)
    assert [file.name for file in base.iterdir()] == [MARK_NAME]
    with pytest.raises(NotEmptyError):
        claimed_by(theirs)
    (base / "notes.txt").write_text("mine")
    with pytest.raises(NotEmptyError):
        claimed_by(ours)


def test_directories_above_are_made_only_if_wanted(tmp_path: Path) -> None:
    base = tmp_path / "a" / "b" / "c"
    with pytest.raises(StorageError, match="the directory it should lie in does not exist"):
        claim(base)
    assert not any(tmp_path.iterdir())
    claim(base, with_parents=True)
    assert (base / MARK_NAME).exists()


def test_a_file_is_no_place_for_a_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    for base in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match=r"^PATH 'PATH' is not a directory$"):
            claim(base, with_parents=True)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_what_was_made_goes_if_the_definition_fails_and_what_was_there_stays(
    tmp_path: Path,
) -> None:
    there, deep = tmp_path / "there", tmp_path / "a" / "b"
    there.mkdir()
    for base in (there, deep):
        with (
            pytest.raises(KeyboardInterrupt),
            claiming(base, shown_as="PATH", with_parents=True),
        ):
            raise KeyboardInterrupt
    assert list(tmp_path.rglob("*")) == [there]


def test_a_released_directory_keeps_what_is_not_ours(tmp_path: Path) -> None:
    base = tmp_path / "base"
    claim(base)
    (base / "studio" / "tracks" / "alice").mkdir(parents=True)
    (base / "mine").mkdir()
    (base / "mine" / "notes.txt").write_bytes(b"mine")
    release(base)
    assert sorted(base.rglob("*")) == [base / "mine", base / "mine" / "notes.txt"]
    (base / "mine" / "notes.txt").unlink()
    release(base)
    claim(base)


def test_a_directory_is_known_by_all_its_names(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    (outer / "inner").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(outer / "inner")
    assert lies_within(outer, outer)
    assert lies_within(outer / "inner" / "not" / "yet", outer)
    assert lies_within(link / "x", outer)
    assert not lies_within(outer, outer / "inner")
    assert not lies_within(tmp_path / "outer-2", outer)
    assert not lies_within(outer, tmp_path / "gone")


def test_a_name_that_is_too_long_lies_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    assert not lies_within(tmp_path / ("x" * 300), tmp_path / "outer")
    assert lies_within(tmp_path / "outer" / ("x" * 300), tmp_path / "outer")
