"""Removed versions: which segment holds them, and how the manifest lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.store.log import ListedSegment, RemovedVersions

Seqs = npt.NDArray[np.int64]

SeqNumbers = Callable[[SegmentMeta, TableDef], Seqs]
"""All ``_seq`` of a segment, ascending: `SegmentReader.seq_numbers`."""


class Removal(NamedTuple):
    """When a version was removed, and whether its row was deleted rather than replaced.

    ``hot`` is true if the version was a hot row then, so that no segment holds it.
    """

    at_seq: int
    deleted: bool
    hot: bool = False


@dataclass(frozen=True, slots=True)
class SegmentView:
    """A segment as one snapshot sees it.

    Attributes
    ----------
    removed : (n,) int64, ascending
        All versions that a plain read leaves out.
    deleted : (m,) int64, ascending
        Those of them that were deleted: what ``_deleted`` shows.
    """

    meta: SegmentMeta
    removed: Seqs
    deleted: Seqs


def owners(
    removals: Mapping[int, Removal],
    segments: Iterable[ListedSegment],
    seq_numbers: SeqNumbers,
    table: TableDef,
) -> dict[int, dict[int, Removal]]:
    """Return for each segment the removals of versions that it holds.

    The range of a segment may have holes in which versions of another one lie, so bounds decide
    only when they name one segment, or one without holes; else the numbers are looked up.
    """
    metas = [listed.meta for listed in segments]
    found: dict[int, dict[int, Removal]] = {}
    for seq, removal in removals.items():
        if removal.hot:
            continue
        candidates = [meta for meta in metas if meta.min_seq <= seq <= meta.max_seq]
        if len(candidates) > 1:
            whole = [m for m in candidates if m.max_seq - m.min_seq + 1 == m.row_count]
            candidates = whole or [m for m in candidates if holds(seq_numbers(m, table), seq)]
        for meta in candidates[:1]:
            found.setdefault(meta.segment_id, {})[seq] = removal
    return found


def holds(seqs: Seqs, seq: int) -> bool:
    """Return whether a number is among others, which ascend."""
    at = int(np.searchsorted(seqs, seq))
    return at < len(seqs) and int(seqs[at]) == seq


def view_of(listed: ListedSegment, fresh: Mapping[int, Removal]) -> SegmentView:
    """Return a segment without what its list names and what was removed since."""
    removed = np.frombuffer(listed.removed.seqs, np.int64)
    deleted = removed[np.frombuffer(listed.removed.deleted, np.uint8).astype(bool)]
    if fresh:
        gone = [seq for seq, removal in fresh.items() if removal.deleted]
        removed = np.union1d(removed, np.fromiter(fresh, np.int64, len(fresh)))
        deleted = np.union1d(deleted, np.array(gone, np.int64))
    return SegmentView(listed.meta, removed, deleted)


def encode_removed(removals: dict[int, Removal]) -> RemovedVersions:
    """Return removals as the blobs of a segment's list."""
    seqs = sorted(removals)
    return RemovedVersions(
        np.array(seqs, np.int64).tobytes(),
        np.array([removals[seq].at_seq for seq in seqs], np.int64).tobytes(),
        np.array([removals[seq].deleted for seq in seqs], np.uint8).tobytes(),
    )


def decode_removed(removed: RemovedVersions) -> dict[int, Removal]:
    """Return a segment's list as removals by version."""
    seqs = np.frombuffer(removed.seqs, np.int64).tolist()
    at = np.frombuffer(removed.removed_at, np.int64).tolist()
    deleted = np.frombuffer(removed.deleted, np.uint8).tolist()
    return {
        seq: Removal(at_seq, bool(flag))
        for seq, at_seq, flag in zip(seqs, at, deleted, strict=True)
    }
