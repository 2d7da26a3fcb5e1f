"""The list of segments of a storage, from its files alone: what a lost catalog is made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.segments.layout import (
    MANIFEST_NAME,
    SEQ_COLUMN,
    SegmentRecord,
    is_parquet,
    segment_id_of,
)
from kalamdb_lab.segments.manifest_file import Manifest, read_manifest
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.verification import read_footer, sound_segment
from kalamdb_lab.store.log import ListedSegment, RemovedVersions

Seqs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LostSegment:
    """A segment whose rows cannot be had: its file is damaged, or gone though it is listed.

    ``row_count`` leaves out what had been removed. It is 0, and ``table`` None, where nothing
    says what the segment was.
    """

    table: str | None
    table_key: int | None
    segment_id: int
    row_count: int


@dataclass(slots=True)
class Recovered:
    """What the files of one storage tell.

    Attributes
    ----------
    segments : list of ListedSegment
        Those that count, by id: each row version is in one of them at most.
    unlisted : set of PartitionKey
        Partitions whose ``manifest.json`` does not name all their segments.
    unremembered : dict of int to str
        Tables (key and name) of which a partition has no record of removed versions.
    left_out : int
        Sound segments that do not count: merged into others, or never published.
    last_seq, last_segment_id : int
        The highest numbers that any file shows to be taken.
    """

    segments: list[ListedSegment] = field(default_factory=list)
    lost: list[LostSegment] = field(default_factory=list)
    unlisted: set[PartitionKey] = field(default_factory=set)
    unremembered: dict[int, str] = field(default_factory=dict)
    left_out: int = 0
    last_seq: int = 0
    last_segment_id: int = 0


@dataclass(slots=True)
class _Candidate:
    record: SegmentRecord
    meta: SegmentMeta
    removed: RemovedVersions = field(default_factory=RemovedVersions)
    is_named: bool = False

    @property
    def segment_id(self) -> int:
        return self.record.segment_id


def recover(storage: Storage) -> Recovered:
    """Find out from Parquet files and manifests what the catalog listed.

    The manifest of a partition is believed where it speaks. What it does not name counts only if
    it is younger, no merged segment replaces it, and none of its rows is in another segment:
    compaction and crashes leave such files. Without a manifest the youngest file with a row wins.

    Raises
    ------
    StorageError
        The storage cannot be reached.
    """
    found = Recovered()
    manifests: dict[str, Manifest | None] = {}
    by_partition: dict[tuple[str, PartitionKey], list[_Candidate]] = {}
    for file in storage.walk():
        directory = file.path.rpartition("/")[0]
        is_manifest = file.name == MANIFEST_NAME
        if file.is_directory or not (is_manifest or is_parquet(file.name)):
            continue
        if directory not in manifests:
            manifests[directory] = _manifest(storage, directory)
        if is_manifest:
            continue
        candidate = _candidate(storage, file.path, manifests[directory], found)
        if candidate is not None:
            place = directory, candidate.meta.partition
            by_partition.setdefault(place, []).append(candidate)
    chosen: list[_Candidate] = []
    for (directory, key), candidates in sorted(by_partition.items()):
        manifest = manifests[directory]
        if manifest is not None and manifest.partition != key:
            manifest = None  # of a table of the same name that was dropped
        chosen += _choose(storage, key, candidates, manifest, found)
    _take(chosen, found)
    _note_missing(chosen, manifests.values(), found)
    return found


def _manifest(storage: Storage, directory: str) -> Manifest | None:
    try:
        return read_manifest(storage, directory)
    except CorruptError:
        return None


def _candidate(
    storage: Storage, path: str, manifest: Manifest | None, found: Recovered
) -> _Candidate | None:
    """Return a sound segment; note a damaged one."""
    segment_id = segment_id_of(path)
    found.last_segment_id = max(found.last_segment_id, segment_id)
    named = {} if manifest is None else {item.meta.path: item for item in manifest.segments}
    listed = named.get(path)
    try:
        record, meta = sound_segment(storage, path, listed.meta.digest if listed else None)
    except CorruptError:
        _note_damaged(storage, path, segment_id, manifest, listed, found)
        return None
    found.last_seq = max(found.last_seq, record.max_seq)
    return _Candidate(record, meta)


def _note_damaged(
    storage: Storage,
    path: str,
    segment_id: int,
    manifest: Manifest | None,
    listed: ListedSegment | None,
    found: Recovered,
) -> None:
    if manifest is not None and listed is None and segment_id <= manifest.last_segment_id:
        found.left_out += 1
        return
    try:
        record: SegmentRecord | None = read_footer(storage, path)
    except CorruptError:
        record = None
    if record is not None:
        found.last_seq = max(found.last_seq, record.max_seq)
    if manifest is not None and listed is not None:
        lost = _lost(manifest, listed)
    elif record is not None:
        lost = LostSegment(record.table, record.table_key, segment_id, record.row_count)
    elif manifest is not None:
        lost = LostSegment(manifest.table, manifest.partition.table_key, segment_id, 0)
    else:
        lost = LostSegment(None, None, segment_id, 0)
    found.lost.append(lost)


def _choose(
    storage: Storage,
    key: PartitionKey,
    candidates: Sequence[_Candidate],
    manifest: Manifest | None,
    found: Recovered,
) -> list[_Candidate]:
    """Return the segments of one partition that count, with their removed versions."""
    named: dict[int, ListedSegment] = {}
    newest_known = 0
    if manifest is not None:
        named = {item.meta.segment_id: item for item in manifest.segments}
        newest_known = manifest.last_segment_id
    else:
        found.unremembered[key.table_key] = candidates[0].record.table
    chosen: list[_Candidate] = []
    others: list[_Candidate] = []
    for item in sorted(candidates, key=lambda item: -item.segment_id):
        listed = named.get(item.segment_id)
        if listed is None:
            others.append(item)
        else:
            item.removed, item.is_named = listed.removed, True
            chosen.append(item)
    known = [item.removed for item in named.values()]
    for item in others:
        is_known = item.segment_id <= newest_known
        is_replaced = any(item.segment_id in other.record.replaces for other in chosen)
        if is_known or is_replaced or _shares_rows(storage, item, chosen):
            found.left_out += 1
            continue
        if known:
            item.removed = _only(known, _seqs(storage, item))
        chosen.append(item)
    return chosen


def _take(chosen: Iterable[_Candidate], found: Recovered) -> None:
    """Take over what was chosen; of two segments with one id, the one that a manifest names.

    An insert that was cut short gives its id back, and may leave its file.
    """
    by_id: dict[int, _Candidate] = {}
    for item in sorted(chosen, key=lambda item: not item.is_named):
        if item.segment_id in by_id:
            found.left_out += 1
            continue
        by_id[item.segment_id] = item
        if not item.is_named:
            found.unlisted.add(item.meta.partition)
    found.segments = [ListedSegment(item.meta, item.removed) for _, item in sorted(by_id.items())]


def _note_missing(
    chosen: Iterable[_Candidate], manifests: Iterable[Manifest | None], found: Recovered
) -> None:
    """Note numbers that only manifests know, and listed segments without a file."""
    settled = {lost.segment_id for lost in found.lost}
    for item in chosen:
        settled |= {item.segment_id, *item.record.replaces}
    for manifest in manifests:
        if manifest is None:
            continue
        found.last_segment_id = max(found.last_segment_id, manifest.last_segment_id)
        for listed in manifest.segments:
            meta = listed.meta
            at = np.frombuffer(listed.removed.removed_at, np.int64)
            found.last_seq = max(found.last_seq, meta.max_seq, int(at.max(initial=0)))
            if meta.segment_id not in settled:
                found.lost.append(_lost(manifest, listed))


def _lost(manifest: Manifest, listed: ListedSegment) -> LostSegment:
    return LostSegment(
        manifest.table,
        manifest.partition.table_key,
        listed.meta.segment_id,
        listed.meta.row_count - listed.removed.count,
    )


def _shares_rows(storage: Storage, item: _Candidate, chosen: Iterable[_Candidate]) -> bool:
    near = [
        other
        for other in chosen
        if other.record.min_seq <= item.record.max_seq
        and item.record.min_seq <= other.record.max_seq
    ]
    if not near:
        return False
    seqs = _seqs(storage, item)
    return any(np.isin(seqs, _seqs(storage, other)).any() for other in near)


def _seqs(storage: Storage, item: _Candidate) -> Seqs:
    data = storage.map(item.meta.path)
    try:
        rows = pq.read_table(pa.BufferReader(data), columns=[SEQ_COLUMN])
    except (pa.ArrowException, OSError, TypeError):
        raise CorruptError(f"A segment in storage '{storage.storage_id}' is damaged") from None
    seqs: Seqs = rows.column(SEQ_COLUMN).to_numpy()
    return seqs


def _only(known: Sequence[RemovedVersions], seqs: Seqs) -> RemovedVersions:
    """Return the removals of these versions, in one list."""
    removed = np.frombuffer(b"".join(item.seqs for item in known), np.int64)
    at = np.frombuffer(b"".join(item.removed_at for item in known), np.int64)
    deleted = np.frombuffer(b"".join(item.deleted for item in known), np.uint8)
    order = np.argsort(removed, kind="stable")
    order = order[np.isin(removed[order], seqs)]
    return RemovedVersions(removed[order].tobytes(), at[order].tobytes(), deleted[order].tobytes())
