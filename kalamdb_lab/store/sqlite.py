"""The catalog in SQLite: connections, locks, durability, and its faults in our words."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kalamdb_lab.config import Durability
from kalamdb_lab.errors import (
    BusyError,
    ClosedError,
    CorruptError,
    KalamError,
    NotSupportedError,
    StorageError,
)
from kalamdb_lab.store.sqlite_schema import SCHEMA
from kalamdb_lab.store.sqlite_transactions import (
    SqliteReadTransaction,
    SqliteWriteTransaction,
)

FORMAT_VERSION: Final = 1
"""Of the whole directory; a database written by a newer one is refused."""

_CHECKPOINT_TRIES: Final = 50

APPLICATION_ID: Final = 0x4B414C4D  # "KALM", so that `file` and we know the file for ours


def translated(error: sqlite3.Error, directory: str) -> KalamError:
    """Say in our words what SQLite's error means; its own text may name files of ours."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return BusyError()
    if name.startswith("SQLITE_FULL"):
        return StorageError("The disk is full; nothing was changed")
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return StorageError(f"'{directory}' is read-only; nothing was changed")
    if name.startswith("SQLITE_CANTOPEN"):
        return StorageError(f"'{directory}' cannot be opened for writing; check its permissions")
    if name.startswith("SQLITE_NOTADB"):
        return StorageError(f"'{directory}' is not a KalamDB Lab database")
    if name.startswith("SQLITE_CORRUPT"):
        return CorruptError(
            f"The catalog of '{directory}' is damaged; restore a backup or run "
            "kalam check --rebuild"
        )
    if name.startswith("SQLITE_IOERR"):
        return StorageError("The disk could not be read or written; nothing was changed")
    return StorageError("The catalog could not be used; nothing was changed")


class SqliteStore:
    """A `Store` in one SQLite file.

    Parameters
    ----------
    path : Path
        The file; created with the tables it needs when it is missing.
    durability : {"full", "normal"}
        With "full" a commit is on the disk when `write` returns (WAL, ``synchronous=FULL``).
    busy_timeout_s : float
        How long `write` waits for the lock of another process or thread.
    shown_as : str
        The directory as the user wrote it: the only path that errors may name.

    Notes
    -----
    One connection writes and one reads, each behind a lock. Where write-ahead logging does not
    work (some network file systems), a rollback journal is used and a warning says so.
    """

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability = "full",
        busy_timeout_s: float = 10.0,
        shown_as: str | None = None,
    ) -> None:
        self._shown_as = shown_as if shown_as is not None else str(path.parent)
        self._busy_timeout_s = busy_timeout_s
        self._path = path
        self._durability: Durability = durability
        self._held: weakref.WeakSet[SqliteHeldRead] = weakref.WeakSet()
        self._pid = os.getpid()
        self._closed = False
        self._is_writing = False
        self._node_id: int | None = None
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock()
        try:
            self._writer = self._connect(path, durability)
            self._prepare()
            # How long to wait for the lock is `_begin_immediate`'s to say.
            self._writer.execute("PRAGMA busy_timeout=0")
            self._reader = self._connect(path, durability)
        except sqlite3.Error as error:
            raise translated(error, self._shown_as) from None

    def _connect(self, path: Path, durability: Durability) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA busy_timeout={round(self._busy_timeout_s * 1000)}")
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":  # asking for what it is already would take the write lock
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            warnings.warn(
                f"'{self._shown_as}' lies where write-ahead logging does not work; "
                "readers will wait for writers",
                stacklevel=2,
            )
        connection.execute(f"PRAGMA synchronous={'FULL' if durability == 'full' else 'NORMAL'}")
        return connection

    def _prepare(self) -> None:
        connection = self._writer
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            self._create()
        # A database that exists is opened without the write lock: somebody may hold it for long.
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        fault = None
        if application_id != APPLICATION_ID:
            fault = f"'{self._shown_as}' is not a KalamDB Lab database"
        elif version > FORMAT_VERSION:
            fault = (
                f"'{self._shown_as}' was written by a newer KalamDB Lab (format {version}, "
                f"this one reads {FORMAT_VERSION}); upgrade kalamdb-lab"
            )
        if fault is not None:
            connection.close()
            raise StorageError(fault)

    def _create(self) -> None:
        self._begin_immediate()
        (tables,) = self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:  # else another process was faster
            for statement in SCHEMA.split(";"):
                self._writer.execute(statement)
            self._writer.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._writer.execute(f"PRAGMA user_version={FORMAT_VERSION}")
        self._writer.execute("COMMIT")

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError("The database was closed")
        if os.getpid() != self._pid:
            raise ClosedError("The database was opened before a fork; open it again here")

    def data_version(self) -> int:
        self._check_usable()
        with self._read_lock:
            self._check_usable()  # it may have been closed while the lock was waited for
            row = self._reader.execute("PRAGMA data_version").fetchone()
        return int(row[0])

    @contextmanager
    def read(self) -> Iterator[SqliteReadTransaction]:
        self._check_usable()
        with self._read_lock:
            self._check_usable()
            try:
                try:
                    self._reader.execute("BEGIN")
                    yield SqliteReadTransaction(self._reader)
                finally:
                    if self._reader.in_transaction:
                        self._reader.execute("COMMIT")
            except sqlite3.Error as error:
                raise translated(error, self._shown_as) from None

    def hold(self) -> SqliteHeldRead:
        self._check_usable()
        try:
            connection = self._connect(self._path, self._durability)
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                connection.close()
                raise NotSupportedError(
                    "Transactions are not supported where write-ahead logging does not work"
                )
            held = SqliteHeldRead(connection, self._shown_as)
        except sqlite3.Error as error:
            raise translated(error, self._shown_as) from None
        self._held.add(held)
        return held

    @contextmanager
    def write(self, *, wait_s: float | None = None) -> Iterator[SqliteWriteTransaction]:
        self._check_usable()
        wait_s = self._busy_timeout_s if wait_s is None else min(wait_s, self._busy_timeout_s)
        with self._alone_writing(wait_s):
            try:
                is_first = self._node_id is None
                try:
                    # Within the block: an interrupt must not leave the lock taken.
                    self._retried("BEGIN IMMEDIATE", wait_s)
                    if is_first:  # inside the block it could not be asked for
                        self._node_id = _new_node_id(self._writer)
                    transaction = SqliteWriteTransaction(self._writer)
                    yield transaction
                    transaction.finish()
                    # A rollback journal waits here for readers; what was staged is worth it.
                    self._retried("COMMIT", wait_s)
                except BaseException:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    if is_first:  # a full disk may have rolled back by itself: taken anew then
                        self._node_id = None
                    raise
            except sqlite3.Error as error:
                raise translated(error, self._shown_as) from None

    @contextmanager
    def _alone_writing(self, wait_s: float) -> Iterator[None]:
        if not self._write_lock.acquire(timeout=wait_s):
            raise BusyError
        try:
            self._check_usable()
            if self._is_writing:  # what the collector runs may come in the middle of a block
                raise KalamError("A write began within another one of its thread")
            self._is_writing = True
            try:
                yield
            finally:
                self._is_writing = False
        finally:
            self._write_lock.release()

    def _begin_immediate(self) -> None:
        self._retried("BEGIN IMMEDIATE", self._busy_timeout_s)

    def _retried(self, statement: str, wait_s: float) -> None:
        # SQLite's own busy handler sleeps up to 100 ms between tries and is not fair: a second
        # process that inserts in a loop would starve us. Short tries with a deadline are.
        deadline = time.monotonic() + wait_s
        pause_s = 0.0005
        while True:
            try:
                self._writer.execute(statement)
            except sqlite3.OperationalError as error:
                name = getattr(error, "sqlite_errorname", "")
                if not name.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 0.01)
            else:
                return

    def sync(self) -> None:
        """Make what was committed so far durable, also where commits are not at once."""
        self._check_usable()
        try:
            # Never the file itself: closing it would let go of SQLite's locks on it.
            with self._path.with_name(self._path.name + "-wal").open("rb") as log:
                os.fsync(log)
        except FileNotFoundError:
            return  # with a rollback journal commits are written through
        except OSError:
            raise StorageError("The disk could not be read or written") from None

    def scrub(self) -> bool:
        """Write the file anew, so that nothing of what was deleted is left in it.

        Takes the write lock for as long as that takes, and twice the room. Returns False if a
        reader holds on to the write-ahead log, where old pages stay until it is used up.

        Raises
        ------
        BusyError
            If the lock is not free in time.
        StorageError
            If there is no room; nothing was changed then.
        """
        self._check_usable()
        with self._alone_writing(self._busy_timeout_s):
            try:
                self._retried("VACUUM", self._busy_timeout_s)
                for _ in range(_CHECKPOINT_TRIES):
                    row = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    if not row[0]:
                        return True
                    time.sleep(0.01)
            except sqlite3.Error as error:
                raise translated(error, self._shown_as) from None
        return False

    def lease(self, node_id: int, seq: int, expires_us: int) -> None:
        with self._plain_write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (node_id, seq, expires_us)
            )

    def release(self, node_id: int, *, wait_s: float | None = None) -> None:
        with self._plain_write(wait_s=wait_s) as connection:
            connection.execute("DELETE FROM leases WHERE node_id = ?", (node_id,))

    def node_id(self) -> int:
        while (node_id := self._node_id) is None:
            with self.write():
                pass  # the first write transaction takes it
        return node_id

    @contextmanager
    def _plain_write(self, *, wait_s: float | None = None) -> Iterator[sqlite3.Connection]:
        with self.write(wait_s=wait_s) as transaction:
            yield transaction.connection

    def close(self) -> None:
        if os.getpid() != self._pid:  # a thread that was not forked may hold any lock
            self._closed = True
            return
        with self._write_lock, self._read_lock:
            if not self._closed:
                self._closed = True
                for held in list(self._held):
                    held.close()
                self._reader.close()
                self._writer.close()


class SqliteHeldRead:
    """A `HeldRead` on a connection of its own."""

    def __init__(self, connection: sqlite3.Connection, shown_as: str) -> None:
        self._connection = connection
        self._shown_as = shown_as
        self._lock = threading.RLock()
        self._closed = False
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM meta").fetchone()  # only now it is that moment

    @contextmanager
    def read(self) -> Iterator[SqliteReadTransaction]:
        with self._lock:
            if self._closed:
                raise ClosedError("The database was closed")
            try:
                yield SqliteReadTransaction(self._connection)
            except sqlite3.Error as error:
                raise translated(error, self._shown_as) from None

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._connection.close()

    def __del__(self) -> None:
        self.close()


def _new_node_id(connection: sqlite3.Connection) -> int:
    row = connection.execute(
        "UPDATE meta SET value = value + 1 WHERE key = 'opens' RETURNING value"
    ).fetchone()
    return int(row[0])
