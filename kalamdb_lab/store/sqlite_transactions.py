"""Transactions on the catalog's SQLite tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import msgspec

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.store.log import (
    TIMES_APART_US,
    Entry,
    EntryKind,
    HotCount,
    ListedSegment,
    PartitionChange,
    RemovedVersions,
    RetiredSegment,
)
from kalamdb_lab.store.segment_record import decode_segment, encode_segment

_ENTRY_COLUMNS: Final = "log.seq, log.count, p.table_key, p.scope, log.kind, log.at_us, log.payload"
_SEGMENT_COLUMNS: Final = (
    "s.meta, s.removed_seqs, s.removed_at, s.removed_deleted, p.table_key, p.scope"
)


class SqliteReadTransaction:
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

    def last_segment_id(self) -> int:
        return self._meta("last_segment_id")

    def log_start(self) -> int:
        return self._meta("log_start")

    def entries_after(self, seq: int) -> Iterator[Entry]:
        rows = self.connection.execute(
            f"SELECT {_ENTRY_COLUMNS} FROM log JOIN partitions p USING (partition_id) "
            "WHERE log.seq > ? ORDER BY log.seq",
            (seq,),
        )
        return map(_entry, rows)

    def hot_entries(self, partition: PartitionKey, *, after_seq: int = 0) -> Iterator[Entry]:
        rows = self.connection.execute(
            f"SELECT {_ENTRY_COLUMNS} FROM log JOIN partitions p USING (partition_id) "
            "WHERE log.flushed = 0 AND log.partition_id = ? AND log.seq > ? ORDER BY log.seq",
            (self._partition_id(partition), after_seq),
        )
        return map(_entry, rows)

    def hot_counts(self, partitions: Collection[PartitionKey] | None = None) -> list[HotCount]:
        if partitions is None:
            rows = self.connection.execute(
                "SELECT p.table_key, p.scope, h.count, h.at_us FROM (SELECT partition_id, "
                "sum(count) AS count, min(at_us) AS at_us FROM log WHERE flushed = 0 "
                "GROUP BY partition_id) h JOIN partitions p USING (partition_id)"
            ).fetchall()
            return [HotCount(PartitionKey(key, scope), *hot) for key, scope, *hot in rows]
        found = []
        for partition in partitions:
            row = self.connection.execute(
                "SELECT sum(count), min(at_us) FROM log WHERE flushed = 0 AND partition_id = ?",
                (self._partition_id(partition),),
            ).fetchone()
            if row[0] is not None:
                found.append(HotCount(partition, *row))
        return found

    def changes_after(self, seq: int) -> list[PartitionChange]:
        rows = self.connection.execute(
            "SELECT p.table_key, p.scope, c.kind, c.count, c.at_us FROM (SELECT partition_id, "
            "kind, sum(count) AS count, min(at_us) AS at_us FROM log WHERE seq > ? "
            "GROUP BY partition_id, kind) c JOIN partitions p USING (partition_id)",
            (seq,),
        )
        return [
            PartitionChange(PartitionKey(table_key, scope), EntryKind(kind), count, at_us)
            for table_key, scope, kind, count, at_us in rows
        ]

    def deletions(self, table_key: int) -> list[RemovedVersions]:
        rows = self.connection.execute(
            "SELECT s.removed_seqs, s.removed_at, s.removed_deleted FROM partitions p "
            "JOIN segments s USING (partition_id) WHERE p.table_key = ? "
            "AND s.retired_seq IS NULL AND instr(s.removed_deleted, x'01') > 0",
            (table_key,),
        )
        return [RemovedVersions(*row) for row in rows]

    def taken_at_us(self, seq: int) -> int | None:
        row = self.connection.execute(
            "SELECT min(at_us) FROM (SELECT at_us FROM (SELECT at_us FROM log WHERE seq >= "
            "coalesce((SELECT iif(seq + max(count, 1) > ?1, seq, NULL) FROM log WHERE seq <= ?1 "
            "ORDER BY seq DESC LIMIT 1), ?1) ORDER BY seq LIMIT 1) "
            "UNION ALL SELECT min(at_us) FROM checkpoints WHERE seq >= ?1)",
            (seq,),
        ).fetchone()
        return None if row[0] is None else int(row[0])

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
            "SELECT max(seq) FROM (SELECT max(seq + max(count, 1) - 1) AS seq FROM log "
            "WHERE at_us <= ?1 UNION ALL SELECT max(seq) FROM checkpoints WHERE at_us <= ?1)",
            (at_us,),
        ).fetchone()
        return int(row[0] or 0)

    def retired_segments(self) -> list[RetiredSegment]:
        rows = self.connection.execute(
            f"SELECT s.retired_seq, s.retired_at_us, {_SEGMENT_COLUMNS} "
            "FROM segments s JOIN partitions p USING (partition_id) "
            "WHERE s.retired_seq IS NOT NULL ORDER BY s.segment_id"
        )
        return [RetiredSegment(_listed(row).meta, seq, at_us) for seq, at_us, *row in rows]

    def oldest_lease(self, at_us: int) -> int | None:
        row = self.connection.execute(
            "SELECT min(seq) FROM leases WHERE expires_us > ?", (at_us,)
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def scopes(self, table_key: int) -> list[str]:
        rows = self.connection.execute(
            "SELECT scope FROM partitions WHERE table_key = ? ORDER BY scope", (table_key,)
        )
        return [scope for (scope,) in rows]

    def remnants(self, scopes: Collection[str]) -> list[PartitionKey]:
        rows = self.connection.execute(
            "SELECT table_key, scope FROM partitions WHERE partition_id IN ("
            "SELECT partition_id FROM segments UNION "
            f"SELECT partition_id FROM log WHERE kind <> {EntryKind.DROP:d}"
            ") ORDER BY table_key, scope"
        )
        return [PartitionKey(table_key, scope) for table_key, scope in rows if scope in scopes]


class SqliteWriteTransaction(SqliteReadTransaction):
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
        self._raise_meta("last_segment_id", meta.segment_id)

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
        last = self.connection.execute(
            "SELECT max(seq) FROM log WHERE partition_id = ?", (partition_id,)
        ).fetchone()
        if last[0] is not None:
            self._note_time(last[0])
            self.connection.execute("DELETE FROM log WHERE partition_id = ?", (partition_id,))
        self.connection.execute(
            "UPDATE segments SET retired_seq = ?, retired_at_us = ? "
            "WHERE partition_id = ? AND retired_seq IS NULL",
            (self._last_seq + 1, at_us, partition_id),
        )

    def start_after(self, last_seq: int, last_segment_id: int, at_us: int) -> None:
        if last_seq > self._last_seq:
            self._last_seq = last_seq
            self._raise_meta("log_start", last_seq)
            self.connection.execute(
                "INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (last_seq, at_us)
            )
        self._raise_meta("last_segment_id", last_segment_id)

    def forget_partitions(self) -> int:
        return self.connection.execute(
            "DELETE FROM partitions WHERE partition_id NOT IN ("
            "SELECT partition_id FROM segments UNION SELECT partition_id FROM log)"
        ).rowcount

    def restate_segment(self, meta: SegmentMeta) -> None:
        self.connection.execute(
            "UPDATE segments SET meta = ? WHERE segment_id = ? AND retired_seq IS NULL",
            (encode_segment(meta), meta.segment_id),
        )

    def _note_time(self, seq: int) -> None:
        """Remember when the numbers of an entry were taken, before it is deleted."""
        taken = self.connection.execute(
            "SELECT max(seq + max(count, 1) - 1), max(at_us) FROM log WHERE seq <= ?", (seq,)
        ).fetchone()
        self.connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", taken)

    def _raise_meta(self, key: str, value: int) -> None:
        self.connection.execute("UPDATE meta SET value = max(value, ?) WHERE key = ?", (value, key))

    def trim_log(self, before_us: int, *, times_from_us: int = 0) -> int:
        row = self.connection.execute(
            "SELECT max(seq + max(count, 1) - 1) FROM log WHERE flushed = 1 AND at_us < ?",
            (before_us,),
        ).fetchone()
        if row[0] is None:
            return 0
        self.connection.execute(
            "INSERT OR REPLACE INTO checkpoints SELECT max(seq + max(count, 1) - 1), max(at_us) "
            "FROM log WHERE flushed = 1 AND at_us < ? GROUP BY at_us / ?",
            (before_us, TIMES_APART_US),
        )
        self.connection.execute(
            "DELETE FROM checkpoints WHERE seq < "
            "(SELECT max(seq) FROM checkpoints WHERE at_us < ?)",
            (times_from_us,),
        )
        cursor = self.connection.execute(
            "DELETE FROM log WHERE flushed = 1 AND at_us < ?", (before_us,)
        )
        self._raise_meta("log_start", row[0])
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
