"""A `Store` in plain lists: the model that every other store must agree with."""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kalamdb_lab.errors import ClosedError, KalamError
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


@dataclass
class _Segment:
    listed: ListedSegment
    retired_seq: int | None = None
    retired_at_us: int | None = None


@dataclass
class _State:
    last_seq: int = 0
    last_segment_id: int = 0
    log_start: int = 0
    entries: list[Entry] = field(default_factory=list)
    flushed: set[int] = field(default_factory=set)
    segments: dict[int, _Segment] = field(default_factory=dict)
    partitions: set[PartitionKey] = field(default_factory=set)
    checkpoints: list[tuple[int, int]] = field(default_factory=list)
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)


class MemoryStore:
    """A store without a file: a write transaction works on a copy that replaces the state."""

    def __init__(self) -> None:
        self._state = _State()
        self._version = 0
        self._lock = threading.RLock()
        self._is_writing = False
        self._closed = False

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError("The database was closed")

    def data_version(self) -> int:
        self._check_usable()
        return self._version

    @contextmanager
    def read(self) -> Iterator[MemoryTransaction]:
        self._check_usable()
        yield MemoryTransaction(self._state)

    def hold(self) -> MemoryHeldRead:
        self._check_usable()
        return MemoryHeldRead(self._state)

    @contextmanager
    def write(self, *, wait_s: float | None = None) -> Iterator[MemoryTransaction]:
        self._check_usable()
        with self._lock:
            if self._is_writing:
                raise KalamError("A write began within another one of its thread")
            self._is_writing = True
            try:
                state = copy.deepcopy(self._state)
                yield MemoryTransaction(state)
                self._state = state
                self._version += 1
            finally:
                self._is_writing = False

    def lease(self, node_id: int, seq: int, expires_us: int) -> None:
        with self.write() as transaction:
            transaction.state.leases[node_id] = (seq, expires_us)

    def release(self, node_id: int, *, wait_s: float | None = None) -> None:
        with self.write(wait_s=wait_s) as transaction:
            transaction.state.leases.pop(node_id, None)

    def node_id(self) -> int:
        return 1

    def close(self) -> None:
        self._closed = True


class MemoryHeldRead:
    """A state that nobody changes any more: a writer works on a copy."""

    def __init__(self, state: _State) -> None:
        self._state: _State | None = state

    @contextmanager
    def read(self) -> Iterator[MemoryTransaction]:
        if self._state is None:
            raise ClosedError("The database was closed")
        yield MemoryTransaction(self._state)

    def close(self) -> None:
        self._state = None


class MemoryTransaction:
    """Reads and changes one state."""

    def __init__(self, state: _State) -> None:
        self.state = state

    def last_seq(self) -> int:
        return self.state.last_seq

    def last_segment_id(self) -> int:
        return self.state.last_segment_id

    def log_start(self) -> int:
        return self.state.log_start

    def entries_after(self, seq: int) -> Iterator[Entry]:
        return iter([entry for entry in self.state.entries if entry.seq > seq])

    def _hot(self) -> list[Entry]:
        return [entry for entry in self.state.entries if entry.seq not in self.state.flushed]

    def hot_entries(self, partition: PartitionKey, *, after_seq: int = 0) -> Iterator[Entry]:
        of_partition = (entry for entry in self._hot() if entry.partition == partition)
        return iter([entry for entry in of_partition if entry.seq > after_seq])

    def hot_counts(self, partitions: Collection[PartitionKey] | None = None) -> list[HotCount]:
        hot: dict[PartitionKey, list[Entry]] = {}
        for entry in self._hot():
            if partitions is None or entry.partition in partitions:
                hot.setdefault(entry.partition, []).append(entry)
        return [HotCount(key, *_sum_and_first(entries)) for key, entries in hot.items()]

    def changes_after(self, seq: int) -> list[PartitionChange]:
        changes: dict[tuple[PartitionKey, EntryKind], list[Entry]] = {}
        for entry in self.entries_after(seq):
            changes.setdefault((entry.partition, entry.kind), []).append(entry)
        return [PartitionChange(*key, *_sum_and_first(found)) for key, found in changes.items()]

    def deletions(self, table_key: int) -> list[RemovedVersions]:
        live = (item for item in self.all_segments() if item.meta.partition.table_key == table_key)
        return [item.removed for item in live if b"\x01" in item.removed.deleted]

    def taken_at_us(self, seq: int) -> int | None:
        later = [e.at_us for e in self.state.entries if e.seq + max(e.count, 1) > seq][:1]
        later += [at_us for last, at_us in self.state.checkpoints if last >= seq]
        return min(later, default=None)

    def segments(self, partition: PartitionKey) -> list[ListedSegment]:
        return [item for item in self.all_segments() if item.meta.partition == partition]

    def segments_by_id(self, segment_ids: Sequence[int]) -> list[ListedSegment]:
        found = sorted(set(segment_ids) & set(self.state.segments))
        return [self.state.segments[segment_id].listed for segment_id in found]

    def all_segments(self) -> Iterator[ListedSegment]:
        live = (item for item in self.state.segments.values() if item.retired_seq is None)
        return iter(sorted((item.listed for item in live), key=lambda s: s.meta.segment_id))

    def last_seq_before(self, at_us: int) -> int:
        known = [(entry.seq + max(entry.count, 1) - 1, entry.at_us) for entry in self.state.entries]
        return max((seq for seq, t in known + self.state.checkpoints if t <= at_us), default=0)

    def retired_segments(self) -> list[RetiredSegment]:
        return [
            RetiredSegment(item.listed.meta, item.retired_seq, item.retired_at_us)
            for _, item in sorted(self.state.segments.items())
            if item.retired_at_us is not None and item.retired_seq is not None
        ]

    def oldest_lease(self, at_us: int) -> int | None:
        held = [seq for seq, expires_us in self.state.leases.values() if expires_us > at_us]
        return min(held, default=None)

    def scopes(self, table_key: int) -> list[str]:
        return sorted(p.scope for p in self.state.partitions if p.table_key == table_key)

    def remnants(self, scopes: Collection[str]) -> list[PartitionKey]:
        found = {e.partition for e in self.state.entries if e.kind != EntryKind.DROP}
        found |= {item.listed.meta.partition for item in self.state.segments.values()}
        return sorted(partition for partition in found if partition.scope in scopes)

    def append(
        self, partition: PartitionKey, kind: EntryKind, count: int, at_us: int, payload: bytes
    ) -> Entry:
        entry = Entry(self.state.last_seq + 1, count, partition, kind, at_us, payload)
        self.state.last_seq += max(count, 1)
        self.state.entries.append(entry)
        self.state.partitions.add(partition)
        if kind != EntryKind.ROWS:
            self.state.flushed.add(entry.seq)
        return entry

    def mark_flushed(self, partition: PartitionKey, seqs: Sequence[int]) -> int:
        hot = {entry.seq for entry in self.hot_entries(partition)} & set(seqs)
        self.state.flushed |= hot
        return len(hot)

    def delete_entries(self, partition: PartitionKey, seqs: Sequence[int]) -> None:
        gone = set(seqs)
        self.state.entries = [
            entry
            for entry in self.state.entries
            if entry.partition != partition or entry.seq not in gone
        ]

    def next_segment_id(self) -> int:
        self.state.last_segment_id += 1
        return self.state.last_segment_id

    def add_segment(self, meta: SegmentMeta, removed: RemovedVersions) -> None:
        self.state.segments[meta.segment_id] = _Segment(ListedSegment(meta, removed))
        self.state.partitions.add(meta.partition)
        self.state.last_segment_id = max(self.state.last_segment_id, meta.segment_id)

    def set_removed(self, segment_id: int, removed: RemovedVersions) -> None:
        item = self.state.segments[segment_id]
        item.listed = ListedSegment(item.listed.meta, removed)

    def retire_segments(self, segment_ids: Sequence[int], at_us: int) -> None:
        for segment_id in segment_ids:
            item = self.state.segments[segment_id]
            item.retired_seq, item.retired_at_us = self.state.last_seq + 1, at_us

    def forget_segments(self, segment_ids: Sequence[int]) -> None:
        for segment_id in segment_ids:
            item = self.state.segments.get(segment_id)
            if item is not None and item.retired_seq is not None:
                del self.state.segments[segment_id]

    def drop_partition(self, partition: PartitionKey, at_us: int) -> None:
        gone = {entry.seq for entry in self.state.entries if entry.partition == partition}
        if gone:
            self._note_time(max(gone))
            self.state.entries = [e for e in self.state.entries if e.seq not in gone]
        self.retire_segments([s.meta.segment_id for s in self.segments(partition)], at_us)

    def forget_partitions(self) -> int:
        kept = {entry.partition for entry in self.state.entries}
        kept |= {item.listed.meta.partition for item in self.state.segments.values()}
        gone = self.state.partitions - kept
        self.state.partitions -= gone
        return len(gone)

    def restate_segment(self, meta: SegmentMeta) -> None:
        item = self.state.segments.get(meta.segment_id)
        if item is not None and item.retired_seq is None:
            item.listed = ListedSegment(meta, item.listed.removed)

    def _note_time(self, seq: int) -> None:
        known = [entry for entry in self.state.entries if entry.seq <= seq]
        last = max(entry.seq + max(entry.count, 1) - 1 for entry in known)
        self.state.checkpoints.append((last, max(entry.at_us for entry in known)))

    def start_after(self, last_seq: int, last_segment_id: int, at_us: int) -> None:
        if last_seq > self.state.last_seq:
            self.state.last_seq = self.state.log_start = last_seq
            self.state.checkpoints.append((last_seq, at_us))
        self.state.last_segment_id = max(self.state.last_segment_id, last_segment_id)

    def trim_log(self, before_us: int, *, times_from_us: int = 0) -> int:
        old = [
            entry
            for entry in self.state.entries
            if entry.seq in self.state.flushed and entry.at_us < before_us
        ]
        gone = [entry.seq for entry in old]
        if gone:
            for at in sorted({entry.at_us // TIMES_APART_US for entry in old}):
                near = [entry for entry in old if entry.at_us // TIMES_APART_US == at]
                last = max(entry.seq + max(entry.count, 1) - 1 for entry in near)
                self.state.checkpoints.append((last, max(entry.at_us for entry in near)))
            known = self.state.checkpoints
            past = max((seq for seq, at_us in known if at_us < times_from_us), default=0)
            self.state.checkpoints = [item for item in known if item[0] >= past]
            self.state.entries = [e for e in self.state.entries if e.seq not in set(gone)]
            last = max(entry.seq + max(entry.count, 1) - 1 for entry in old)
            self.state.log_start = max(self.state.log_start, last)
        return len(gone)


def _sum_and_first(entries: Sequence[Entry]) -> tuple[int, int]:
    return sum(entry.count for entry in entries), min(entry.at_us for entry in entries)
