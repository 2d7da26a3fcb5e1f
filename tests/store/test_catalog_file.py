"""A copy of the catalog is one moment of it, and a frozen store stays at one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from kalamdb_lab.errors import CorruptError, ReadOnlyError, StorageError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.store.catalog_file import copy_catalog, is_sound
from kalamdb_lab.store.frozen import FrozenStore
from kalamdb_lab.store.log import EntryKind, RemovedVersions
from kalamdb_lab.store.sqlite import SqliteStore

A, B = PartitionKey(1, ""), PartitionKey(2, "alice")


def segment(segment_id: int) -> SegmentMeta:
    path = f"a/s-{segment_id:06}.parquet"
    return SegmentMeta(segment_id, A, 1, "local", path, 1, 9, 1, 1, "0" * 32, {}, {}, 0)


def append(store: SqliteStore) -> int:
    """Add one entry to each of two partitions."""
    with store.write() as transaction:
        transaction.append(A, EntryKind.ROWS, 1, 10, b"x")
        return transaction.append(B, EntryKind.ROWS, 1, 10, b"y").seq


def test_a_copy_is_one_moment_while_others_commit(tmp_path: Path) -> None:
    path, copy = tmp_path / "catalog.sqlite", tmp_path / "copy.sqlite"
    store = SqliteStore(path, durability="normal")
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            append(store)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(5):
            copy = tmp_path / f"copy-{number}.sqlite"
            before = append(store)
            copy_catalog(path, copy, shown_as="lab.kalam")
            after = append(store)
            copied = SqliteStore(copy)
            with copied.read() as transaction:
                last = transaction.last_seq()
                entries = [entry.seq for entry in transaction.entries_after(0)]
            copied.close()
            assert before <= last < after
            assert entries == list(range(1, last + 1))
            assert last % 2 == 0, "both entries of a commit or none"
            assert is_sound(copy, shown_as="")
    finally:
        done.set()
        thread.join()
        store.close()


def test_leases_and_retired_segments_stay_behind(tmp_path: Path) -> None:
    path, copy = tmp_path / "catalog.sqlite", tmp_path / "copy.sqlite"
    store = SqliteStore(path)
    append(store)
    with store.write() as transaction:
        transaction.add_segment(segment(1), RemovedVersions())
        transaction.add_segment(segment(2), RemovedVersions())
        transaction.retire_segments([1], 5)
    store.lease(7, 1, 2**60)
    copy_catalog(path, copy, shown_as="")
    assert not copy.with_name("copy.sqlite-wal").exists(), "one file is all of it"
    copied = SqliteStore(copy)
    with copied.read() as transaction:
        assert [item.meta.segment_id for item in transaction.segments_by_id([1, 2])] == [2]
        assert transaction.oldest_lease(0) is None
        assert transaction.last_segment_id() == 2
    with store.read() as transaction:
        assert transaction.oldest_lease(0) == 1
    store.close()
    copied.close()


def test_a_damaged_catalog_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    SqliteStore(path).close()
    data = bytearray(path.read_bytes())
    data[100:] = b"\xff" * (len(data) - 100)
    path.write_bytes(bytes(data))
    with pytest.raises((CorruptError, StorageError)) as caught:
        copy_catalog(path, tmp_path / "copy.sqlite", shown_as="lab.kalam")
    assert str(tmp_path) not in str(caught.value)


def test_a_frozen_store_stays_where_it_is(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "catalog.sqlite")
    seq = append(store)
    frozen = FrozenStore(store.hold())
    append(store)
    with frozen.read() as transaction:
        assert transaction.last_seq() == seq
        assert [entry.seq for entry in transaction.hot_entries(B)] == [seq]
    with pytest.raises(ReadOnlyError):
        frozen.write()
    frozen.close()
    with store.read() as transaction:
        assert transaction.last_seq() == seq + 2
    store.close()
