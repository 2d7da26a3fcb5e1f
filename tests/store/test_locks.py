"""Who waits for whose lock, and who must not come in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from kalamdb_lab.errors import BusyError, ClosedError, KalamError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.store.log import EntryKind, Store
from kalamdb_lab.store.sqlite import SqliteStore
from kalamdb_lab.testing.memory_store import MemoryStore

A = PartitionKey(1, "")


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = (
        MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "catalog.sqlite")
    )
    yield made
    made.close()


def test_a_write_within_a_write_of_its_thread_is_refused_and_harms_nothing(store: Store) -> None:
    with store.write() as transaction:
        transaction.append(A, EntryKind.ROWS, 1, 0, b"x")
        with pytest.raises(KalamError, match="within another one") as refused, store.write():
            pass
        with pytest.raises(KalamError, match="within another one"):
            store.release(1)
        transaction.append(A, EntryKind.ROWS, 1, 0, b"y")
    assert refused.value.code == "INTERNAL"
    with store.write() as transaction:
        assert transaction.append(A, EntryKind.ROWS, 1, 0, b"z").seq == 3
    with store.read() as reading:
        assert [entry.payload for entry in reading.entries_after(0)] == [b"x", b"y", b"z"]


def _with_rollback_journal(path: Path, *, busy_timeout_s: float) -> SqliteStore:
    store = SqliteStore(path, busy_timeout_s=busy_timeout_s)
    store._reader.close()
    (mode,) = store._writer.execute("PRAGMA journal_mode=DELETE").fetchone()
    assert mode == "delete"
    return store


def _reader(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM log").fetchone()
    return connection


def test_without_write_ahead_logging_a_commit_waits_for_readers(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    store = _with_rollback_journal(path, busy_timeout_s=20)
    reader = _reader(path)
    errors: list[KalamError] = []

    def write() -> None:
        try:
            with store.write() as transaction:
                transaction.append(A, EntryKind.ROWS, 1, 0, b"x")
        except KalamError as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        try:
            _reader(path).close()
        except sqlite3.OperationalError:  # the writer is at its COMMIT: nobody new may read
            break
    reader.close()
    writer.join(20)
    assert not errors
    assert _reader(path).execute("SELECT payload FROM log").fetchall() == [(b"x",)]


def test_a_commit_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    store = _with_rollback_journal(path, busy_timeout_s=0.1)
    reader = _reader(path)
    with pytest.raises(BusyError), store.write() as transaction:
        transaction.append(A, EntryKind.ROWS, 1, 0, b"x")
    reader.close()
    with store.write() as transaction:
        assert transaction.append(A, EntryKind.ROWS, 1, 0, b"y").seq == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_closes_without_the_locks_of_its_parents_threads(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "catalog.sqlite")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.write() as transaction:
            transaction.append(A, EntryKind.ROWS, 1, 0, b"x")
            held.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    done.set()
    holder.join(20)
    with store.read() as reading:
        assert reading.last_seq() == 1
    store.close()


class ClosedMeanwhile:
    """A lock of a store that is closed while somebody waits for it."""

    def __init__(self, store: SqliteStore, name: str) -> None:
        self._lock = getattr(store, name)
        self._store, self._name = store, name
        setattr(store, name, self)

    def acquire(self, timeout: float = -1) -> bool:
        setattr(self._store, self._name, self._lock)
        self._store.close()
        return bool(self._lock.acquire(timeout=timeout))

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _begin(block: AbstractContextManager[object]) -> None:
    with block:
        pass


@pytest.mark.parametrize(
    ("lock", "use"),
    [
        ("_write_lock", lambda store: _begin(store.write())),
        ("_write_lock", lambda store: store.scrub()),
        ("_read_lock", lambda store: _begin(store.read())),
        ("_read_lock", lambda store: store.data_version()),
    ],
)
def test_who_waits_while_a_store_is_closed_is_told_so(
    tmp_path: Path, lock: str, use: Callable[[SqliteStore], object]
) -> None:
    store = SqliteStore(tmp_path / "catalog.sqlite", durability="normal")
    ClosedMeanwhile(store, lock)
    with pytest.raises(ClosedError):
        use(store)
