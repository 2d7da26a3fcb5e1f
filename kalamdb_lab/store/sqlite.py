"""The catalog in SQLite: the only module that speaks to it."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from kalamdb_lab.config import Durability
from kalamdb_lab.errors import BusyError, ClosedError, CorruptError, KalamError, StorageError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.store.log import Entry, EntryKind, ListedSegment, RemovedVersions
from kalamdb_lab.store.segment_record import decode_segment, encode_segment

FORMAT_VERSION: Final = 1
"""Of the whole directory; a database written by a newer one is refused."""

_APPLICATION_ID: Final = 0x4B414C4D  # "KALM", so that `file` and we know the file for ours

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('last_seq', 0), ('last_segment_id', 0), ('opens', 0), ('log_start', 0);
CREATE TABLE partitions (
    partition_id INTEGER PRIMARY KEY,
    table_key INTEGER NOT NULL,
    scope TEXT NOT NULL,
    UNIQUE (table_key, scope)
);
CREATE TABLE log (
    seq INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    partition_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    flushed INTEGER NOT NULL DEFAULT 0,
    at_us INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX log_hot ON log (partition_id, seq) WHERE flushed = 0;
CREATE TABLE segments (
    segment_id INTEGER PRIMARY KEY,
    partition_id INTEGER NOT NULL,
    retired_seq INTEGER,
    retired_at_us INTEGER,
    removed_seqs BLOB NOT NULL,
    removed_at BLOB NOT NULL,
    removed_deleted BLOB NOT NULL,
    meta BLOB NOT NULL
);
CREATE INDEX segments_live ON segments (partition_id) WHERE retired_seq IS NULL;
CREATE TABLE checkpoints (seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL);
CREATE TABLE leases (
    node_id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, expires_us INTEGER NOT NULL
);
"""

_ENTRY_COLUMNS: Final = "log.seq, log.count, p.table_key, p.scope, log.kind, log.at_us, log.payload"
_SEGMENT_COLUMNS: Final = (
    "s.meta, s.removed_seqs, s.removed_at, s.removed_deleted, p.table_key, p.scope"
)


def _translated(error: sqlite3.Error, directory: str) -> KalamError:
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
        self._pid = os.getpid()
        self._closed = False
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock()
        try:
            self._writer = self._connect(path, durability)
            self._prepare()
            self._reader = self._connect(path, durability)
        except sqlite3.Error as error:
            raise _translated(error, self._shown_as) from None

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
        if application_id != _APPLICATION_ID:
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
            for statement in _SCHEMA.split(";"):
                self._writer.execute(statement)
            self._writer.execute(f"PRAGMA application_id={_APPLICATION_ID}")
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
            row = self._reader.execute("PRAGMA data_version").fetchone()
        return int(row[0])

    @contextmanager
    def read(self) -> Iterator[_SqliteTransaction]:
        self._check_usable()
        with self._read_lock:
            try:
                self._reader.execute("BEGIN")
                try:
                    yield _SqliteTransaction(self._reader)
                finally:
                    self._reader.execute("COMMIT")
            except sqlite3.Error as error:
                raise _translated(error, self._shown_as) from None

    @contextmanager
    def write(self) -> Iterator[_SqliteWriteTransaction]:
        self._check_usable()
        if not self._write_lock.acquire(timeout=self._busy_timeout_s):
            raise BusyError
        try:
            try:
                self._begin_immediate()
                try:
                    transaction = _SqliteWriteTransaction(self._writer)
                    yield transaction
                    transaction.finish()
                    self._writer.execute("COMMIT")
                except BaseException:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise _translated(error, self._shown_as) from None
        finally:
            self._write_lock.release()

    def _begin_immediate(self) -> None:
        # SQLite's own busy handler sleeps up to 100 ms between tries and is not fair: a second
        # process that inserts in a loop would starve us. Short tries with a deadline are.
        deadline = time.monotonic() + self._busy_timeout_s
        pause_s = 0.0005
        self._writer.execute("PRAGMA busy_timeout=0")
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                name = getattr(error, "sqlite_errorname", "")
                if not name.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 0.01)
            else:
                return

    def lease(self, node_id: int, seq: int, expires_us: int) -> None:
        with self._plain_write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (node_id, seq, expires_us)
            )

    def release(self, node_id: int) -> None:
        with self._plain_write() as connection:
            connection.execute("DELETE FROM leases WHERE node_id = ?", (node_id,))

    def next_node_id(self) -> int:
        with self._plain_write() as connection:
            row = connection.execute(
                "UPDATE meta SET value = value + 1 WHERE key = 'opens' RETURNING value"
            ).fetchone()
        return int(row[0])

    @contextmanager
    def _plain_write(self) -> Iterator[sqlite3.Connection]:
        with self.write() as transaction:
            yield transaction.connection

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            if not self._closed:
                self._closed = True
                self._reader.close()
                self._writer.close()


class _SqliteTransaction:
    """A read transaction on one connection; the methods are those of `ReadTransaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def _meta(self, key: str) -> int:
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return int(row[0])

    def _partition_id(self, partition: PartitionKey) -> int | None:
        row = self.connection.execute(
            "SELECT partition_id FROM partitions WHERE table_key = ? AND scope = ?",
            (partition.table_key, partition.scope),
        ).fetchone()
        return None if row is None else int(row[0])

    def last_seq(self) -> int:
        return self._meta("last_seq")

    def log_start(self) -> int:
        return self._meta("log_start")

    def entries_after(self, seq: int) -> Iterator[Entry]:
        rows = self.connection.execute(
            f"SELECT {_ENTRY_COLUMNS} FROM log JOIN partitions p USING (partition_id) "
            "WHERE log.seq > ? ORDER BY log.seq",
            (seq,),
        )
        return map(_entry, rows)

    def hot_entries(self, partition: PartitionKey) -> Iterator[Entry]:
        rows = self.connection.execute(
            f"SELECT {_ENTRY_COLUMNS} FROM log JOIN partitions p USING (partition_id) "
            "WHERE log.flushed = 0 AND log.partition_id = ? ORDER BY log.seq",
            (self._partition_id(partition),),
        )
        return map(_entry, rows)

    def segments(self, partition: PartitionKey) -> list[ListedSegment]:
        rows = self.connection.execute(
            f"SELECT {_SEGMENT_COLUMNS} FROM segments s JOIN partitions p USING (partition_id) "
            "WHERE s.retired_seq IS NULL AND s.partition_id = ? ORDER BY s.segment_id",
            (self._partition_id(partition),),
        )
        return [_listed(row) for row in rows]

    def segments_by_id(self, segment_ids: Sequence[int]) -> list[ListedSegment]:
        marks = ",".join("?" * len(segment_ids))
        rows = self.connection.execute(
            f"SELECT {_SEGMENT_COLUMNS} FROM segments s JOIN partitions p USING (partition_id) "
            f"WHERE s.segment_id IN ({marks}) ORDER BY s.segment_id",
            tuple(segment_ids),
        )
        return [_listed(row) for row in rows]

    def all_segments(self) -> Iterator[ListedSegment]:
        rows = self.connection.execute(
            f"SELECT {_SEGMENT_COLUMNS} FROM segments s JOIN partitions p USING (partition_id) "
            "WHERE s.retired_seq IS NULL ORDER BY s.segment_id"
        )
        return map(_listed, rows)

    def last_seq_before(self, at_us: int) -> int:
        row = self.connection.execute(
            "SELECT max(seq) FROM (SELECT max(seq) AS seq FROM log WHERE at_us <= ?1 UNION ALL "
            "SELECT max(seq) FROM checkpoints WHERE at_us <= ?1)",
            (at_us,),
        ).fetchone()
        return int(row[0] or 0)

    def retired_segments(self, before_us: int) -> list[SegmentMeta]:
        rows = self.connection.execute(
            f"SELECT {_SEGMENT_COLUMNS} FROM segments s JOIN partitions p USING (partition_id) "
            "WHERE s.retired_at_us < ? AND NOT EXISTS ("
            "SELECT 1 FROM leases l WHERE l.expires_us > ? AND l.seq < s.retired_seq) "
            "ORDER BY s.segment_id",
            (before_us, before_us),
        )
        return [_listed(row).meta for row in rows]

    def scopes(self, table_key: int) -> list[str]:
        rows = self.connection.execute(
            "SELECT scope FROM partitions WHERE table_key = ? ORDER BY scope", (table_key,)
        )
        return [scope for (scope,) in rows]


class _SqliteWriteTransaction(_SqliteTransaction):
    """The write transaction; the methods are those of `WriteTransaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._first_seq = self._last_seq = super().last_seq()

    def last_seq(self) -> int:
        return self._last_seq

    def finish(self) -> None:
        """Write the counter once, however many entries were appended."""
        if self._last_seq != self._first_seq:
            self.connection.execute(
                "UPDATE meta SET value = ? WHERE key = 'last_seq'", (self._last_seq,)
            )

    def _assured_partition_id(self, partition: PartitionKey) -> int:
        found = self._partition_id(partition)
        if found is not None:
            return found
        cursor = self.connection.execute(
            "INSERT INTO partitions (table_key, scope) VALUES (?, ?)",
            (partition.table_key, partition.scope),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def append(
        self, partition: PartitionKey, kind: EntryKind, count: int, at_us: int, payload: bytes
    ) -> Entry:
        seq = self._last_seq + 1
        self._last_seq += max(count, 1)
        # Entries that publish segments change no rows: nothing of them is ever hot.
        flushed = kind != EntryKind.ROWS
        self.connection.execute(
            "INSERT INTO log (seq, count, partition_id, kind, flushed, at_us, payload) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                seq,
                count,
                self._assured_partition_id(partition),
                int(kind),
                int(flushed),
                at_us,
                payload,
            ),
        )
        return Entry(seq, count, partition, kind, at_us, payload)

    def mark_flushed(self, partition: PartitionKey, seqs: Sequence[int]) -> int:
        partition_id = self._partition_id(partition)
        before = self.connection.total_changes
        self.connection.executemany(
            "UPDATE log SET flushed = 1 WHERE seq = ? AND partition_id = ? AND flushed = 0",
            [(seq, partition_id) for seq in seqs],
        )
        return self.connection.total_changes - before

    def delete_entries(self, partition: PartitionKey, seqs: Sequence[int]) -> None:
        partition_id = self._partition_id(partition)
        self.connection.executemany(
            "DELETE FROM log WHERE seq = ? AND partition_id = ?",
            [(seq, partition_id) for seq in seqs],
        )

    def next_segment_id(self) -> int:
        row = self.connection.execute(
            "UPDATE meta SET value = value + 1 WHERE key = 'last_segment_id' RETURNING value"
        ).fetchone()
        return int(row[0])

    def add_segment(self, meta: SegmentMeta, removed: RemovedVersions) -> None:
        self.connection.execute(
            "INSERT INTO segments VALUES (?, ?, NULL, NULL, ?, ?, ?, ?)",
            (
                meta.segment_id,
                self._assured_partition_id(meta.partition),
                removed.seqs,
                removed.removed_at,
                removed.deleted,
                encode_segment(meta),
            ),
        )
        self.connection.execute(
            "UPDATE meta SET value = max(value, ?) WHERE key = 'last_segment_id'",
            (meta.segment_id,),
        )

    def set_removed(self, segment_id: int, removed: RemovedVersions) -> None:
        self.connection.execute(
            "UPDATE segments SET removed_seqs = ?, removed_at = ?, removed_deleted = ? "
            "WHERE segment_id = ?",
            (removed.seqs, removed.removed_at, removed.deleted, segment_id),
        )

    def retire_segments(self, segment_ids: Sequence[int], at_us: int) -> None:
        self.connection.executemany(
            "UPDATE segments SET retired_seq = ?, retired_at_us = ? WHERE segment_id = ?",
            [(self._last_seq + 1, at_us, segment_id) for segment_id in segment_ids],
        )

    def forget_segments(self, segment_ids: Sequence[int]) -> None:
        self.connection.executemany(
            "DELETE FROM segments WHERE segment_id = ? AND retired_seq IS NOT NULL",
            [(segment_id,) for segment_id in segment_ids],
        )

    def drop_partition(self, partition: PartitionKey, at_us: int) -> None:
        partition_id = self._partition_id(partition)
        self.connection.execute(
            "UPDATE log SET payload = x'', flushed = 1 WHERE partition_id = ?", (partition_id,)
        )
        self.connection.execute(
            "UPDATE segments SET retired_seq = ?, retired_at_us = ? "
            "WHERE partition_id = ? AND retired_seq IS NULL",
            (self._last_seq + 1, at_us, partition_id),
        )

    def trim_log(self, before_us: int) -> int:
        row = self.connection.execute(
            "SELECT max(seq) FROM log WHERE flushed = 1 AND at_us < ?", (before_us,)
        ).fetchone()
        if row[0] is None:
            return 0
        cursor = self.connection.execute(
            "DELETE FROM log WHERE flushed = 1 AND at_us < ? AND seq <= ?", (before_us, row[0])
        )
        self.connection.execute(
            "UPDATE meta SET value = max(value, ?) WHERE key = 'log_start'", (row[0],)
        )
        self.connection.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (row[0], before_us)
        )
        self.connection.execute("PRAGMA incremental_vacuum").fetchall()
        return cursor.rowcount


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, count, table_key, scope, kind, at_us, payload = row
    return Entry(seq, count, PartitionKey(table_key, scope), EntryKind(kind), at_us, payload)


def _listed(row: tuple[Any, ...]) -> ListedSegment:
    meta, seqs, removed_at, deleted, table_key, scope = row
    try:
        decoded = decode_segment(meta, PartitionKey(table_key, scope))
    except msgspec.MsgspecError:
        raise CorruptError(
            "A segment's record is damaged; restore a backup or run kalam check --rebuild"
        ) from None
    return ListedSegment(decoded, RemovedVersions(seqs, removed_at, deleted))
