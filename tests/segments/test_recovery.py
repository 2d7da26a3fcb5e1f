"""What the files of a storage tell when nothing else is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from segment_samples import PARTITION, rows_of, table_of

from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef
from kalamdb_lab.segments import vectors
from kalamdb_lab.segments.layout import vectors_path
from kalamdb_lab.segments.manifest_file import write_manifest
from kalamdb_lab.segments.recovery import Recovered, find_files, recover
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.verification import SegmentState, segment_state
from kalamdb_lab.segments.writer import write_segment
from kalamdb_lab.store.log import ListedSegment, RemovedVersions

TABLE = table_of([ColumnDef(1, "id", types.INT), ColumnDef(2, "v", types.embedding(1))])
ALICE, BOB = PARTITION, PartitionKey(7, "bob")


def segment(
    storage: Storage,
    segment_id: int,
    *seqs: int,
    partition: PartitionKey = ALICE,
    replaces: tuple[int, ...] = (),
) -> SegmentMeta:
    """Write a segment with these versions; by default two that no other segment has."""
    seqs = seqs or (segment_id * 10, segment_id * 10 + 1)
    rows = rows_of(TABLE, {"id": list(seqs), "v": [b"\0\0\x80?"] * len(seqs)})
    at = rows.schema.get_field_index("_seq")
    rows = rows.set_column(at, rows.schema.field(at), pa.array(seqs, pa.int64()))
    directory = storage.directory(TABLE.table_id, partition.scope)
    return write_segment(
        storage, TABLE, partition, directory, segment_id, rows, created_at_us=9, replaces=replaces
    )


def removal(*seqs: int, at: int = 99) -> RemovedVersions:
    return RemovedVersions(
        np.array(seqs, np.int64).tobytes(),
        np.full(len(seqs), at, np.int64).tobytes(),
        b"\x01" * len(seqs),
    )


def publish(
    storage: Storage,
    *segments: SegmentMeta,
    removed: dict[int, RemovedVersions] | None = None,
    last_segment_id: int,
    partition: PartitionKey = ALICE,
) -> None:
    directory = storage.directory(TABLE.table_id, partition.scope)
    listed = [
        ListedSegment(meta, (removed or {}).get(meta.segment_id, RemovedVersions()))
        for meta in segments
    ]
    write_manifest(
        storage, directory, TABLE.table_id, partition, listed, last_segment_id=last_segment_id
    )


def ids(found: Recovered) -> list[int]:
    return [listed.meta.segment_id for listed in found.segments]


def test_without_manifests_the_files_tell_what_they_are(storage: Storage) -> None:
    written = [segment(storage, 1), segment(storage, 2), segment(storage, 3, partition=BOB)]
    found = recover(find_files(storage))
    assert [listed.meta for listed in found.segments] == written
    assert found.unlisted == {ALICE, BOB}
    assert found.unremembered == {7: "studio.tracks"}
    assert (found.last_seq, found.last_segment_id) == (31, 3)


@pytest.mark.parametrize("has_manifest", [False, True])
def test_codes_of_vectors_are_told_by_the_footer_and_by_the_manifest(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, has_manifest: bool
) -> None:
    plain = segment(storage, 1)
    monkeypatch.setattr(vectors, "CODES_FROM_ROWS", 2)
    coded = segment(storage, 2)
    assert (plain.codes.keys(), coded.codes.keys()) == (set(), {2})
    if has_manifest:
        publish(storage, plain, coded, last_segment_id=2)
    found = recover(find_files(storage))
    assert [listed.meta for listed in found.segments] == [plain, coded]
    assert segment_state(storage, coded) is SegmentState.SOUND
    storage.delete(f"{vectors_path(coded.path)}/2/norm")
    assert segment_state(storage, coded) is SegmentState.DAMAGED
    assert segment_state(storage, plain) is SegmentState.SOUND


def test_a_manifest_brings_removed_versions_back(storage: Storage) -> None:
    one, two = segment(storage, 1), segment(storage, 2)
    publish(storage, one, two, removed={1: removal(11, at=77)}, last_segment_id=5)
    found = recover(find_files(storage))
    assert [(s.meta, s.removed) for s in found.segments] == [
        (one, removal(11, at=77)),
        (two, RemovedVersions()),
    ]
    assert not found.unremembered
    assert not found.unlisted
    assert (found.last_seq, found.last_segment_id) == (77, 5)


def test_a_merged_segment_stands_for_those_it_replaces_in_its_partition(storage: Storage) -> None:
    segment(storage, 1, 10)
    segment(storage, 2, 20)
    segment(storage, 3, partition=BOB)
    merged = segment(storage, 4, 20, replaces=(1, 2, 3))
    assert ids(recover(find_files(storage))) == [3, 4]
    # Without the merged one the old ones count again.
    storage.delete(merged.path)
    assert ids(recover(find_files(storage))) == [1, 2, 3]


def test_a_segment_that_the_manifest_no_longer_names_is_gone(storage: Storage) -> None:
    """Compaction of rows that were all deleted makes no segment that could say so."""
    segment(storage, 1)
    kept = segment(storage, 2)
    publish(storage, kept, last_segment_id=2)
    found = recover(find_files(storage))
    assert (ids(found), found.left_out) == ([2], 1)


def test_a_younger_segment_than_the_manifest_counts(storage: Storage) -> None:
    publish(storage, segment(storage, 1), last_segment_id=1)
    segment(storage, 2)
    found = recover(find_files(storage))
    assert ids(found) == [1, 2]
    assert found.unlisted == {ALICE}


def test_a_younger_segment_with_rows_that_are_listed_is_a_leftover(storage: Storage) -> None:
    one, two = segment(storage, 1), segment(storage, 2)
    publish(storage, one, two, removed={1: removal(10)}, last_segment_id=2)
    segment(storage, 3, 10, 11, 20, 21, replaces=(1, 2))
    assert ids(recover(find_files(storage))) == [1, 2]
    # Once the old files are gone it is the only one with these rows; what was removed stays so.
    for meta in (one, two):
        storage.delete(meta.path)
        storage.delete(vectors_path(meta.path))
    (listed,) = recover(find_files(storage)).segments
    assert (listed.meta.segment_id, listed.removed) == (3, removal(10))
    assert not recover(find_files(storage)).lost


@pytest.mark.parametrize("with_manifest", [False, True])
def test_rows_that_were_flushed_twice_come_once(storage: Storage, with_manifest: bool) -> None:
    """A flush that was killed before its commit leaves a file; the next one has its rows too."""
    segment(storage, 1, 10, 11)
    second = segment(storage, 2, 10, 11, 12)
    if with_manifest:
        publish(storage, second, last_segment_id=2)
    assert ids(recover(find_files(storage))) == [2]


def test_of_two_segments_with_one_id_the_listed_one_counts(storage: Storage) -> None:
    segment(storage, 1)
    listed = segment(storage, 1, 12, partition=BOB)
    publish(storage, listed, last_segment_id=1, partition=BOB)
    found = recover(find_files(storage))
    assert ([s.meta for s in found.segments], found.left_out) == ([listed], 1)


def test_a_manifest_of_a_table_that_was_dropped_says_nothing_about_its_successor(
    storage: Storage,
) -> None:
    old = segment(storage, 1)
    publish(storage, old, last_segment_id=9)
    after = PartitionKey(8, ALICE.scope)
    new = segment(storage, 2, partition=after)
    found = recover(find_files(storage))
    assert [listed.meta for listed in found.segments] == [old, new]
    assert found.unlisted == {after}


@pytest.mark.parametrize("with_manifest", [False, True])
@pytest.mark.parametrize("part", ["data", "footer", "vectors", "no vectors", "truncated", "gone"])
def test_what_is_damaged_is_named_and_the_rest_is_found(
    storage: Storage, part: str, with_manifest: bool
) -> None:
    bad, good = segment(storage, 1), segment(storage, 2)
    if with_manifest:
        publish(storage, bad, good, last_segment_id=2)
    assert segment_state(storage, bad) is SegmentState.SOUND
    path = bad.path
    if "vectors" in part:
        path = f"{vectors_path(bad.path)}/2/f32/c/0/0"
    place = storage.absolute(path)
    data = bytearray(place.read_bytes())
    match part:
        case "data":
            data[40] ^= 4
        case "footer":
            data[-1] ^= 4
        case "vectors":
            data[0] ^= 4
        case "truncated":
            del data[-20:]
    place.write_bytes(data)
    if part in ("no vectors", "gone"):
        place.unlink()
    found = recover(find_files(storage))
    assert ids(found) == [2]
    is_known = with_manifest or part not in ("footer", "truncated")
    if part == "gone" and not with_manifest:
        assert not found.lost
    else:
        (lost,) = found.lost
        assert lost.segment_id == 1
        assert lost.table == ("studio.tracks" if is_known else None)
        assert lost.row_count == (2 if is_known else 0)
    state = SegmentState.MISSING if part == "gone" else SegmentState.DAMAGED
    assert segment_state(storage, bad) is state
    assert segment_state(storage, good) is SegmentState.SOUND


@pytest.fixture
def nas(tmp_path: Path) -> Storage:
    """Another storage, with other templates."""
    made = Storage("nas", tmp_path / "nas", user_template="u/{namespace}/{tableName}/{userId}")
    made.create_base()
    return made


def found_in(*storages: Storage) -> Recovered:
    return recover(*map(find_files, storages))


def test_a_partition_in_two_storages_is_found_in_both(storage: Storage, nas: Storage) -> None:
    old, new = segment(storage, 1), segment(nas, 2)
    publish(storage, old, removed={1: removal(10)}, last_segment_id=2)
    publish(nas, new, removed={2: removal(21)}, last_segment_id=2)
    found = found_in(storage, nas)
    assert [(s.meta, s.removed) for s in found.segments] == [(old, removal(10)), (new, removal(21))]
    assert (found.left_out, found.lost, found.unlisted, found.unremembered) == (0, [], set(), {})


def test_rows_that_moved_away_come_once_though_the_old_place_was_out_of_reach(
    storage: Storage, nas: Storage
) -> None:
    old = segment(storage, 1, 10, 11)
    publish(storage, old, removed={1: removal(10)}, last_segment_id=1)
    moved = segment(nas, 2, 11, replaces=(1,))
    publish(nas, moved, last_segment_id=2)
    found = found_in(storage, nas)
    assert [s.meta for s in found.segments] == [moved]
    assert (found.outdated, found.unlisted) == ([old], {ALICE})
    # Nor does it count as lost once its file is gone.
    storage.delete(old.path)
    assert not found_in(storage, nas).lost
    # Merged once more, the rows say so themselves.
    segment(storage, 1, 10, 11)
    merged = segment(nas, 3, 11, 30, replaces=(2,))
    publish(nas, merged, last_segment_id=3)
    assert [s.meta for s in found_in(storage, nas).segments] == [merged]


def test_a_move_that_was_not_committed_leaves_the_rows_where_they_were(
    storage: Storage, nas: Storage
) -> None:
    old = segment(storage, 1, 10, 11)
    publish(storage, old, removed={1: removal(10)}, last_segment_id=1)
    segment(nas, 2, 11, replaces=(1,))
    found = found_in(storage, nas)
    assert [(s.meta, s.removed) for s in found.segments] == [(old, removal(10))]
    assert (found.left_out, found.unlisted) == (1, set())


def test_what_was_removed_is_remembered_for_a_segment_that_no_manifest_names_yet(
    storage: Storage, nas: Storage
) -> None:
    old = segment(storage, 1, 10, 11)
    publish(storage, old, removed={1: removal(10)}, last_segment_id=1)
    segment(nas, 2, 10, 11, replaces=(1,))
    for path in (old.path, vectors_path(old.path)):
        storage.delete(path)
    (listed,) = found_in(storage, nas).segments
    assert (listed.meta.segment_id, listed.removed) == (2, removal(10))


def test_files_that_are_no_segments_are_not_looked_at(storage: Storage) -> None:
    meta = segment(storage, 1)
    storage.write("t/notes.txt", b"mine")
    storage.write("t/s-1.parquet", b"mine")
    found = recover(find_files(storage))
    assert [listed.meta for listed in found.segments] == [meta]
    assert not found.lost
