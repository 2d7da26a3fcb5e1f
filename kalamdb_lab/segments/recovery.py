"""The list of segments, from the files of all storages: what a lost catalog is made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.segments.layout import (
    SEQ_COLUMN,
    SegmentRecord,
    is_manifest,
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
    """What the files of some storages tell.

    Attributes
    ----------
    segments : list of ListedSegment
        Those that count, by id: each row version is in one of them at most.
    unlisted : set of PartitionKey
        Partitions of which no manifest names one of these segments, or one names others.
    outdated : list of SegmentMeta
        Segments that a manifest still names and that do not count.
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
    outdated: list[SegmentMeta] = field(default_factory=list)
    unremembered: dict[int, str] = field(default_factory=dict)
    left_out: int = 0
    last_seq: int = 0
    last_segment_id: int = 0


@dataclass(slots=True)
class FoundFiles:
    """All segments and manifests of one storage, each verified, none judged yet.

    ``manifests`` are by directory, damaged ones left out.
    """

    storage: Storage
    manifests: dict[str, list[Manifest]] = field(default_factory=dict)
    segments: list[_Candidate] = field(default_factory=list)
    lost: list[LostSegment] = field(default_factory=list)
    left_out: int = 0
    last_seq: int = 0
    last_segment_id: int = 0


@dataclass(slots=True)
class _Candidate:
    storage: Storage
    record: SegmentRecord
    meta: SegmentMeta
    removed: RemovedVersions = field(default_factory=RemovedVersions)
    is_named: bool = False

    @property
    def segment_id(self) -> int:
        return self.record.segment_id

    @property
    def place(self) -> tuple[str, str]:
        """The storage and directory that it lies in."""
        return self.meta.storage_id, self.meta.path.rpartition("/")[0]


def find_files(storage: Storage) -> FoundFiles:
    """Read all that lies in a storage.

    Raises
    ------
    StorageError
        The storage cannot be reached.
    """
    found = FoundFiles(storage)
    for file in storage.walk():
        directory = file.path.rpartition("/")[0]
        if file.is_directory:
            continue
        # By name, so manifests come before the segments beside them.
        beside = found.manifests.setdefault(directory, [])
        if is_manifest(file.name):
            beside += _manifest(storage, directory, file.name)
        elif is_parquet(file.name):
            _look_at(file.path, beside, found)
    return found


def recover(*found_files: FoundFiles) -> Recovered:
    """Find out from Parquet files and manifests what the catalog listed.

    The manifest of a directory is believed where it speaks of its partition. What it does not
    name counts only if it is younger, no merged segment replaces it, and none of its rows is in
    another segment: compaction and crashes leave such files. Without a manifest the youngest file
    with a row wins.

    A partition may lie in several directories and storages. What a manifest names there does not
    count if a segment with the same rows is named elsewhere: the rows were merged and moved, and
    the old place was out of reach.
    """
    found = Recovered()
    manifests: dict[PartitionKey, dict[tuple[str, str], Manifest]] = {}
    by_partition: dict[PartitionKey, list[_Candidate]] = {}
    for files in found_files:
        found.left_out += files.left_out
        found.last_seq = max(found.last_seq, files.last_seq)
        found.last_segment_id = max(found.last_segment_id, files.last_segment_id)
        for directory, beside in files.manifests.items():
            place = files.storage.storage_id, directory
            for manifest in beside:
                manifests.setdefault(manifest.partition, {}).setdefault(place, manifest)
        for item in files.segments:
            by_partition.setdefault(item.meta.partition, []).append(item)
    chosen: list[_Candidate] = []
    for key, candidates in sorted(by_partition.items()):
        # A manifest of another partition is of a table of the same name that was dropped.
        chosen += _choose(candidates, manifests.get(key, {}), found)
    _take(chosen, found)
    lost = [item for files in found_files for item in files.lost]
    _note_lost(lost, chosen, [m for own in manifests.values() for m in own.values()], found)
    return found


def _manifest(storage: Storage, directory: str, name: str) -> list[Manifest]:
    try:
        manifest = read_manifest(storage, directory, name)
    except CorruptError:
        return []
    return [] if manifest is None else [manifest]


def _look_at(path: str, beside: Sequence[Manifest], found: FoundFiles) -> None:
    """Note a sound segment, or a damaged one."""
    segment_id = segment_id_of(path)
    found.last_segment_id = max(found.last_segment_id, segment_id)
    named = ((item, manifest) for manifest in beside for item in manifest.segments)
    listed, manifest = next((pair for pair in named if pair[0].meta.path == path), (None, None))
    try:
        digest = listed.meta.digest if listed else None
        record, meta = sound_segment(found.storage, path, digest)
    except CorruptError:
        if manifest is None:  # the one that reaches least far, as whose it is may be unknown
            manifest = min(beside, key=lambda item: item.last_segment_id, default=None)
        _note_damaged(path, segment_id, manifest, listed, found)
        return
    found.last_seq = max(found.last_seq, record.max_seq)
    found.segments.append(_Candidate(found.storage, record, meta))


def _note_damaged(
    path: str,
    segment_id: int,
    manifest: Manifest | None,
    listed: ListedSegment | None,
    found: FoundFiles,
) -> None:
    if manifest is not None and listed is None and segment_id <= manifest.last_segment_id:
        found.left_out += 1
        return
    try:
        record: SegmentRecord | None = read_footer(found.storage, path)
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
    candidates: Sequence[_Candidate],
    manifests: Mapping[tuple[str, str], Manifest],
    found: Recovered,
) -> list[_Candidate]:
    """Return the segments of one partition that count, with their removed versions.

    ``manifests`` are those of the partition, by storage and directory.
    """
    named = {
        (place, item.meta.segment_id): item.removed
        for place, manifest in manifests.items()
        for item in manifest.segments
    }
    known = list(named.values())
    chosen: list[_Candidate] = []
    others: list[_Candidate] = []
    for item in sorted(candidates, key=lambda item: -item.segment_id):
        item.removed, item.is_named = RemovedVersions(), False
        removed = named.get((item.place, item.segment_id))
        if removed is None:
            others.append(item)
        elif _is_merged(item, [other for other in chosen if other.place != item.place]):
            found.outdated.append(item.meta)
            found.left_out += 1
        else:
            item.removed, item.is_named = removed, True
            chosen.append(item)
    for item in others:
        manifest = manifests.get(item.place)
        is_known = manifest is not None and item.segment_id <= manifest.last_segment_id
        if is_known or _is_merged(item, chosen):
            found.left_out += 1
            continue
        if manifest is None:
            found.unremembered[item.record.table_key] = item.record.table
        if known:
            item.removed = _only(known, _seqs(item))
        chosen.append(item)
    return chosen


def _is_merged(item: _Candidate, chosen: Sequence[_Candidate]) -> bool:
    """Return whether others stand for this segment: one says so, or has rows of it."""
    return any(item.segment_id in other.record.replaces for other in chosen) or _shares_rows(
        item, chosen
    )


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
    found.unlisted |= {meta.partition for meta in found.outdated}
    found.segments = [ListedSegment(item.meta, item.removed) for _, item in sorted(by_id.items())]


def _note_lost(
    damaged: Iterable[LostSegment],
    chosen: Iterable[_Candidate],
    manifests: Iterable[Manifest],
    found: Recovered,
) -> None:
    """Note damaged segments that nothing stands for, and those that only manifests know."""
    outdated = {meta.segment_id for meta in found.outdated}
    settled = outdated.union(*({item.segment_id, *item.record.replaces} for item in chosen))
    for lost in damaged:
        if lost.segment_id in settled:
            found.left_out += 1
        else:
            found.lost.append(lost)
    settled |= {lost.segment_id for lost in found.lost}
    for manifest in manifests:
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


def _shares_rows(item: _Candidate, chosen: Iterable[_Candidate]) -> bool:
    near = [
        other
        for other in chosen
        if other.record.min_seq <= item.record.max_seq
        and item.record.min_seq <= other.record.max_seq
    ]
    if not near:
        return False
    seqs = _seqs(item)
    return any(np.isin(seqs, _seqs(other)).any() for other in near)


def _seqs(item: _Candidate) -> Seqs:
    data = item.storage.map(item.meta.path)
    try:
        rows = pq.read_table(pa.BufferReader(data), columns=[SEQ_COLUMN])
    except (pa.ArrowException, OSError, TypeError):
        raise CorruptError(f"A segment in storage '{item.meta.storage_id}' is damaged") from None
    seqs: Seqs = rows.column(SEQ_COLUMN).to_numpy()
    return seqs


def _only(known: Sequence[RemovedVersions], seqs: Seqs) -> RemovedVersions:
    """Return the removals of these versions, in one list."""
    removed = np.frombuffer(b"".join(item.seqs for item in known), np.int64)
    at = np.frombuffer(b"".join(item.removed_at for item in known), np.int64)
    deleted = np.frombuffer(b"".join(item.deleted for item in known), np.uint8)
    # One list per place may speak of the same version, where merged segments moved.
    _, order = np.unique(removed, return_index=True)
    order = order[np.isin(removed[order], seqs)]
    return RemovedVersions(removed[order].tobytes(), at[order].tobytes(), deleted[order].tobytes())
