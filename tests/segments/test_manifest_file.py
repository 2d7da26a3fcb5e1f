"""The manifest beside the segments, and what can be said without it."""

from __future__ import annotations

import json
import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from segment_samples import PARTITION, SCALARS, nullable, rows_of, same, table_of

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef
from kalamdb_lab.segments.layout import vectors_path
from kalamdb_lab.segments.manifest_file import (
    Manifest,
    delete_manifest,
    orphans,
    read_manifest,
    read_manifests,
    write_manifest,
)
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.verification import sound_segment
from kalamdb_lab.segments.writer import write_segment
from kalamdb_lab.store.log import ListedSegment, RemovedVersions

TABLE = table_of([ColumnDef(1, "id", types.INT), ColumnDef(2, "v", types.embedding(1))])
ALICE, BOB = PARTITION, PartitionKey(7, "bob")


def segment(
    storage: Storage,
    segment_id: int,
    *,
    partition: PartitionKey = ALICE,
) -> SegmentMeta:
    rows = rows_of(TABLE, {"id": [segment_id, None], "v": [b"\0\0\x80?", None]})
    directory = storage.directory(TABLE.table_id, partition.scope)
    return write_segment(storage, TABLE, partition, directory, segment_id, rows, created_at_us=9)


def publish(storage: Storage, partition: PartitionKey, *segments: SegmentMeta) -> str:
    directory = storage.directory(TABLE.table_id, partition.scope)
    listed = [ListedSegment(meta, RemovedVersions()) for meta in segments]
    write_manifest(storage, directory, TABLE.table_id, partition, listed, last_segment_id=9)
    return directory


def listed_in(storage: Storage, directory: str) -> list[SegmentMeta]:
    manifest = read_manifest(storage, directory)
    assert manifest is not None
    return [listed.meta for listed in manifest.segments]


@st.composite
def columns(draw: st.DrawFn) -> tuple[types.KalamDataType, list[types.StorageValue]]:
    data_type = draw(st.sampled_from(SCALARS))
    return data_type, draw(st.lists(nullable(data_type), min_size=1, max_size=4))


@settings(max_examples=40)
@given(column=columns())
@example(column=(types.DOUBLE, [math.inf, -math.inf, 1e22, -0.0]))
@example(column=(types.UBIGINT, [2**64 - 1, 0]))
def test_manifest_and_footer_say_the_same_for_every_type(
    column: tuple[types.KalamDataType, list[types.StorageValue]],
) -> None:
    data_type, values = column
    table = table_of([ColumnDef(1, "c", data_type)])
    with tempfile.TemporaryDirectory() as place:
        storage = Storage("local", place)
        rows = rows_of(table, {"c": values})
        meta = write_segment(storage, table, ALICE, "t", 1, rows, created_at_us=0)
        listed = ListedSegment(meta, RemovedVersions(b"12345678", b"87654321", b"\x01"))
        write_manifest(storage, "t", table.table_id, ALICE, [listed], last_segment_id=3)
        manifest = read_manifest(storage, "t")
        assert manifest == Manifest(str(table.table_id), ALICE, 3, [listed])
        _, from_file = sound_segment(storage, meta.path, None)
        for found in (manifest.segments[0].meta, from_file):
            assert found == meta
            for bound in ("low", "high"):
                ours = getattr(meta.statistics[1], bound)
                assert same(getattr(found.statistics[1], bound), ours)


def test_the_manifest_is_replaced_by_the_next_one(storage: Storage) -> None:
    one, two = segment(storage, 1), segment(storage, 2)
    directory = publish(storage, ALICE, one)
    assert listed_in(storage, directory) == [one]
    publish(storage, ALICE, one, two)
    assert listed_in(storage, directory) == [one, two]
    publish(storage, ALICE)
    assert listed_in(storage, directory) == []
    assert read_manifest(storage, "nowhere") is None
    text = json.loads(storage.read(f"{directory}/manifest.json") or b"")
    assert (text["table"], text["scope"], text["segments"]) == ("studio.tracks", "alice", [])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format_version": 1}'])
def test_a_damaged_manifest_is_said_to_be_one(storage: Storage, content: bytes) -> None:
    storage.write("t/manifest.json", content)
    with pytest.raises(CorruptError, match=r"^A manifest in storage 'local' is damaged$"):
        read_manifest(storage, "t")


def test_a_manifest_with_one_bit_flipped_is_damaged(storage: Storage) -> None:
    directory = publish(storage, ALICE, segment(storage, 1))
    path = f"{directory}/manifest.json"
    text = storage.read(path) or b""
    at = text.index(b'"min_seq": ') + len(b'"min_seq": ')
    storage.write(path, text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
    with pytest.raises(CorruptError, match=r"^A manifest in storage 'local' is damaged$"):
        read_manifest(storage, directory)


def test_only_the_manifest_of_the_partition_is_deleted(storage: Storage) -> None:
    directory = publish(storage, ALICE, segment(storage, 1))
    delete_manifest(storage, directory, BOB)
    assert read_manifest(storage, directory) is not None
    delete_manifest(storage, directory, ALICE)
    assert read_manifest(storage, directory) is None


def in_one_place(storage: Storage, partition: PartitionKey, *metas: SegmentMeta) -> None:
    listed = [ListedSegment(meta, RemovedVersions()) for meta in metas]
    write_manifest(storage, "t", TABLE.table_id, partition, listed, last_segment_id=9)


def test_partitions_in_one_directory_have_manifests_of_their_own(storage: Storage) -> None:
    one, two, three = segment(storage, 1), segment(storage, 2, partition=BOB), segment(storage, 3)
    for _ in range(2):
        in_one_place(storage, ALICE, one)
        in_one_place(storage, BOB, two)
    in_one_place(storage, ALICE, one, three)
    names = sorted(file.name for file in storage.walk("t"))
    assert (len(names), names[1]) == (2, "manifest.json")
    found = {item.partition: item for item in read_manifests(storage, "t")}
    assert [listed.meta for listed in found[ALICE].segments] == [one, three]
    assert [listed.meta for listed in found[BOB].segments] == [two]
    delete_manifest(storage, "t", ALICE)
    in_one_place(storage, BOB)
    (left,) = read_manifests(storage, "t")
    assert (left.partition, left.segments) == (BOB, [])
    delete_manifest(storage, "t", BOB)
    assert list(storage.walk("t")) == []


def test_a_damaged_manifest_is_replaced_whosever_it_says_it_is(storage: Storage) -> None:
    in_one_place(storage, BOB)
    path = storage.absolute("t/manifest.json")
    path.write_bytes(path.read_bytes().replace(b'"last_segment_id": 9', b'"last_segment_id": 8'))
    in_one_place(storage, ALICE)
    assert [manifest.partition for manifest in read_manifests(storage, "t")] == [ALICE]


def test_partitions_that_write_at_once_both_keep_their_manifests(storage: Storage) -> None:
    keys = [PartitionKey(7, f"user{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: in_one_place(storage, key), keys))
    assert sorted(found.partition for found in read_manifests(storage, "t")) == keys


def test_files_that_are_no_segments_are_left_alone(storage: Storage) -> None:
    meta = segment(storage, 1)
    storage.write("t/notes.txt", b"mine")
    storage.write("t/s-1.parquet", b"mine")
    assert list(orphans(storage, [meta.path], older_than_us=2**62)) == []


def age(place: Path, *, to_us: int) -> None:
    for path in [place, *place.rglob("*")] if place.is_dir() else [place]:
        os.utime(path, ns=(to_us * 1_000, to_us * 1_000))


def test_orphans_are_old_unlisted_segments_and_unfinished_files(storage: Storage) -> None:
    listed, lost, fresh = (segment(storage, number) for number in (1, 2, 3))
    publish(storage, ALICE, listed)
    for unfinished in ("x/s-000009.vectors.0badcafe.tmp/1/f32/c/0/0", "x/s-8.parquet.0badcafe.tmp"):
        place = storage.absolute(unfinished)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"half")
    for path in storage.base_directory.iterdir():
        age(path, to_us=1_000)
    age(storage.absolute(fresh.path), to_us=5_000)
    age(storage.absolute(vectors_path(fresh.path)), to_us=5_000)
    found = sorted(orphans(storage, [listed.path], older_than_us=2_000))
    assert found == sorted(
        [
            lost.path,
            vectors_path(lost.path),
            "x/s-8.parquet.0badcafe.tmp",
            "x/s-000009.vectors.0badcafe.tmp",
        ]
    )
    for path in found:
        storage.delete(path)
    assert list(orphans(storage, [listed.path], older_than_us=2_000)) == []
    assert storage.stat(listed.path) is not None
    assert storage.stat(fresh.path) is not None


def test_a_directory_that_is_still_filled_is_no_orphan(storage: Storage) -> None:
    with storage.writing_directory("x/s-000009.vectors") as made:
        made.write("1/f32/c/0/0", b"half")
        for path in storage.base_directory.rglob("*"):
            os.utime(path, ns=(1_000, 1_000))
        assert len(list(orphans(storage, [], older_than_us=10**9))) == 1
        made.write("1/f32/c/1/0", b"more")
        assert list(orphans(storage, [], older_than_us=10**9)) == []
