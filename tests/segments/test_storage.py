"""Paths that cannot leave their base, and files that appear whole or not at all."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kalamdb_lab.errors import StorageError
from kalamdb_lab.segments.base_directory import claiming
from kalamdb_lab.segments.storage import Storage, is_temporary


def names(storage: Storage) -> list[str]:
    return [file.path for file in storage.walk() if not file.is_directory]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", ".", "a\\b", "a\0b"])
def test_a_path_that_leads_out_is_refused(storage: Storage, path: str) -> None:
    for action in (storage.read, storage.map, storage.stat, storage.delete):
        with pytest.raises(StorageError):
            action(path)
    with pytest.raises(StorageError):
        storage.write(path, b"x")


def test_the_base_itself_is_not_deleted(storage: Storage) -> None:
    storage.write("a/b", b"x")
    with pytest.raises(StorageError):
        storage.delete("")
    storage.delete("a")
    assert names(storage) == []


def test_what_was_written_is_read_mapped_and_listed(storage: Storage) -> None:
    storage.write("a/b/one", b"first")
    storage.write("a/two", b"")
    assert storage.read("a/b/one") == b"first"
    mapped = storage.map("a/b/one")
    assert mapped is not None
    assert mapped.to_pybytes() == b"first"
    empty = storage.map("a/two")
    assert empty is not None
    assert empty.size == 0
    assert [file.path for file in storage.walk("a")] == ["a/b", "a/b/one", "a/two"]
    found = storage.stat("a/b/one")
    assert found is not None
    assert (found.size_bytes, found.is_directory, found.name) == (5, False, "one")


def test_what_is_not_there_is_none_and_deleting_it_is_fine(storage: Storage) -> None:
    assert storage.read("a/x") is None
    assert storage.map("a/x") is None
    assert storage.stat("a/x") is None
    storage.delete("a/x")


def test_an_interrupted_write_leaves_the_old_file(storage: Storage) -> None:
    storage.write("a/file", b"old")

    def interrupted() -> None:
        with storage.writing("a/file") as sink:
            sink.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert storage.read("a/file") == b"old"
    assert names(storage) == ["a/file"]


def test_a_reader_keeps_the_file_it_mapped_while_it_is_replaced(storage: Storage) -> None:
    storage.write("a/file", b"old")
    mapped = storage.map("a/file")
    storage.write("a/file", b"new")
    assert mapped is not None
    assert mapped.to_pybytes() == b"old"
    assert storage.read("a/file") == b"new"


def test_a_file_is_not_seen_before_it_is_complete(storage: Storage) -> None:
    with storage.writing("a/file") as sink:
        sink.write(b"new")
        (unfinished,) = names(storage)
        assert is_temporary(unfinished)
        assert not is_temporary("a/file")
    assert names(storage) == ["a/file"]


def test_a_directory_appears_whole_and_replaces_what_a_crash_left(storage: Storage) -> None:
    storage.write("v/old", b"left")

    def interrupted() -> None:
        with storage.writing_directory("v") as made:
            made.write("deep/new", b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(storage) == ["v/old"]
    with storage.writing_directory("v") as made:
        made.write("deep/new", b"x")
    assert names(storage) == ["v/deep/new"]


def test_a_base_that_is_gone_is_unreachable_and_not_made_again(tmp_path: Path) -> None:
    storage = Storage("nas", tmp_path / "unmounted")
    for action in (
        lambda: storage.write("a/file", b"x"),
        lambda: storage.read("a/file"),
        lambda: list(storage.walk()),
        lambda: storage.delete("a/file"),
    ):
        with pytest.raises(StorageError, match=r"^Storage 'nas' is unreachable$"):
            action()
    assert not (tmp_path / "unmounted").exists()


def test_the_empty_place_of_an_unmounted_disk_is_unreachable_and_not_written(
    tmp_path: Path,
) -> None:
    base = tmp_path / "disk"
    base.mkdir()
    storage = Storage("nas", base, is_claimed=True)
    for action in (
        lambda: storage.write("a/file", b"x"),
        lambda: storage.read("a/file"),
        lambda: list(storage.walk()),
        lambda: storage.delete("a/file"),
        storage.probe,
    ):
        with pytest.raises(StorageError, match=r"^Storage 'nas' is unreachable$"):
            action()
    assert not any(base.iterdir())
    with claiming(base, shown_as="disk", with_parents=False):
        pass
    storage.write("a/file", b"x")
    assert storage.read("a/file") == b"x"


def test_a_probe_leaves_nothing_and_the_usage_is_that_of_the_files(storage: Storage) -> None:
    storage.write("a/file", bytes(1_000))
    storage.probe()
    assert names(storage) == ["a/file"]
    usage = storage.usage()
    assert usage.used_bytes == 1_000
    assert 0 < usage.free_bytes <= usage.total_bytes


@pytest.fixture
def small_limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_limit")
def test_a_file_that_may_not_grow_further_says_the_disk_is_full(storage: Storage) -> None:
    storage.write("a/file", b"old")
    with pytest.raises(StorageError, match=r"^The disk is full; nothing was changed$"):
        storage.write("a/file", bytes(200_000))
    with (
        pytest.raises(StorageError, match=r"^The disk is full; nothing was changed$"),
        storage.writing_directory("a/vectors") as made,
    ):
        made.write("c", bytes(200_000))
    assert storage.read("a/file") == b"old"
    assert names(storage) == ["a/file"]


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte of its own."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs more rights")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_old_file_and_takes_a_smaller_one(tmpfs: Path) -> None:
    storage = Storage("local", tmpfs)
    storage.write("a/file", b"old")
    with pytest.raises(StorageError, match=r"^The disk is full; nothing was changed$"):
        storage.write("a/file", os.urandom(2_000_000))
    assert storage.read("a/file") == b"old"
    assert names(storage) == ["a/file"]
    storage.write("a/file", bytes(500_000))
    assert names(storage) == ["a/file"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Storage]:
    """A storage that nobody may write to, root included."""
    place = tmp_path / "fixed"
    storage = Storage("local", place)
    storage.create_base()
    if os.geteuid() != 0:
        storage.write("a/file", b"old")
        (place / "a").chmod(0o500)
        place.chmod(0o500)
        yield storage
        place.chmod(0o700)
        (place / "a").chmod(0o700)
        return
    if subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False
    ).returncode:
        pytest.skip("root writes to any directory, and mounting one read-only is not allowed")
    storage.write("a/file", b"old")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    yield storage
    subprocess.run(["umount", str(place)], check=True)


def test_a_read_only_storage_is_read_and_refuses_to_be_written(read_only: Storage) -> None:
    assert read_only.read("a/file") == b"old"
    for action in (
        lambda: read_only.write("a/file", b"new"),
        lambda: read_only.write("b/file", b"new"),
        lambda: read_only.delete("a/file"),
    ):
        with pytest.raises(StorageError, match=r"^Storage 'local' is read-only$"):
            action()
    with pytest.raises(StorageError, match=r"^Storage 'local' is read-only$"):
        read_only.probe()
    assert read_only.read("a/file") == b"old"
