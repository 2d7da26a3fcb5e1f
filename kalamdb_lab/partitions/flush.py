"""Flush: hot rows of one partition become a segment, in one transaction with their log entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit_log import CommitLog, Definition
from kalamdb_lab.partitions.partition import fold_rows
from kalamdb_lab.partitions.payload import encode_flush
from kalamdb_lab.partitions.removals import Removal, decode_removed, encode_removed, owners
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.store.log import EntryKind, WriteTransaction


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush did: rows written, segments made (0 or 1), removed versions left out."""

    row_count: int
    segment_count: int
    dropped_versions: int


def flush_partition(
    log: CommitLog,
    home: SegmentHome,
    definition: Definition,
    key: PartitionKey,
    *,
    purge_before_seq: int,
    check: Callable[[], None] = lambda: None,
) -> Flushed:
    """Move the hot rows of one partition into a segment.

    The file is written while others go on reading and writing; only publishing it takes the
    write lock. Rows deleted at or after ``purge_before_seq`` are kept, marked as removed; rows
    deleted before and versions that were replaced are not written. A crash before the commit
    leaves an orphan file and changes nothing; so does ``check``, which is called on the way and
    may raise.

    Safe to run twice, also by two processes at once: who comes second finds the entries flushed
    and throws its file away.
    """
    with log.at_newest([key]):
        found = log.defined(key, definition)
        if found is None:
            return Flushed(0, 0, 0)
        table, partition = found
        upto_seq = log.applied_seq
        removed = dict(partition.removed)
        entry_seqs = [seq for seq, _, _ in partition.entries]
        kept = [
            (seq, version, row)
            for seq, (version, row) in partition.rows.items()
            if seq not in removed or removed[seq].at_seq >= purge_before_seq
        ]
        live_count = sum(seq not in removed for seq, _, _ in kept)
        present = {seq for seq, _, _ in kept}
        dropped = sum(removal.hot and seq not in present for seq, removal in removed.items())
    if not entry_seqs:
        return Flushed(0, 0, 0)
    check()
    meta = None
    if kept:
        rows = fold_rows(table, kept)
        meta = home.write(table, key, rows, log.store)
    try:
        check()
        with log.commit() as commit:
            transaction = commit.transaction
            if transaction.mark_flushed(key, entry_seqs) != len(entry_seqs):
                raise _AlreadyFlushedError
            _fold_removals(transaction, log, table, key, removed)
            if meta is not None:
                home.require(meta)
                own = {seq: removed[seq] for seq, _, _ in kept if seq in removed}
                transaction.add_segment(meta, encode_removed(own))
            commit.append_event(key, EntryKind.FLUSH, encode_flush(upto_seq))
    except _AlreadyFlushedError:
        if meta is not None:
            home.discard(meta)
        return Flushed(0, 0, 0)
    except BaseException:
        if meta is not None:
            home.discard_unlisted(meta, log.store)
        raise
    home.published(table, key, log.store)
    return Flushed(live_count, 0 if meta is None else 1, dropped)


def _fold_removals(
    transaction: WriteTransaction,
    log: CommitLog,
    table: TableDef,
    key: PartitionKey,
    removed: dict[int, Removal],
) -> None:
    """Move removals of flushed versions from the log into the lists of their segments."""
    listed = {segment.meta.segment_id: segment for segment in transaction.segments(key)}
    fresh = owners(removed, listed.values(), log.seq_numbers, table)
    for segment_id, removals in fresh.items():
        known = decode_removed(listed[segment_id].removed)
        transaction.set_removed(segment_id, encode_removed(known | removals))


class _AlreadyFlushedError(Exception):
    """Another flush took the entries first; never leaves this module."""
