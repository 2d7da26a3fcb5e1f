"""An ANN index on disk: mapped as it was written, plain zarr v3, and damage is seen."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from kalamdb_lab.errors import StorageError
from kalamdb_lab.segments import vectors
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.vector_index import index_digest, map_index, write_index
from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.inverted_lists import InvertedLists, build, probe_lists
from kalamdb_lab.vectors.rows import CodeChunk, Metric, VectorRows
from kalamdb_lab.vectors.search import Target

ROWS, DIMENSION, LISTS = 300, 5, 16
CHUNK_BYTES = pytest.mark.parametrize(
    "chunk_bytes", [vectors.CHUNK_BYTES, 200], ids=["one chunk", "many chunks"]
)


@pytest.fixture
def rows() -> VectorRows:
    """One is NULL, one zero and one too long for float32."""
    array = np.random.default_rng(2).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    array[7] = 0
    array[8] *= 1e36
    valid = np.arange(ROWS) != 9
    return VectorRows(DIMENSION, ROWS, (array,), (encode(array, valid),), valid)


@pytest.fixture
def index(rows: VectorRows) -> InvertedLists:
    return build(rows, Metric.COSINE, lists=LISTS)


def mapped(storage: Storage, **changed: Any) -> InvertedLists | None:
    shape = {
        "row_count": ROWS,
        "dimension": DIMENSION,
        "metric": Metric.COSINE,
        "list_count": LISTS,
    }
    return map_index(storage, "s.ann", **(shape | changed))


def files_of(storage: Storage) -> list[Path]:
    return [path for path in storage.absolute("s.ann").rglob("*") if path.is_file()]


@CHUNK_BYTES
def test_an_index_is_mapped_as_it_was_written(
    storage: Storage,
    index: InvertedLists,
    rows: VectorRows,
    monkeypatch: pytest.MonkeyPatch,
    chunk_bytes: int,
) -> None:
    monkeypatch.setattr(vectors, "CHUNK_BYTES", chunk_bytes)
    digest = write_index(storage, "s.ann", index)
    found = mapped(storage)
    assert found is not None
    assert (found.metric, found.probes) == (index.metric, index.probes)
    assert (len(found.codes) > 1) is (chunk_bytes == 200)
    for name in ("centroids", "offsets", "order"):
        np.testing.assert_array_equal(getattr(found, name), getattr(index, name))
        assert getattr(found, name).dtype == getattr(index, name).dtype
    for name in CodeChunk.__slots__:
        held = np.concatenate([getattr(chunk, name) for chunk in found.codes])
        np.testing.assert_array_equal(held, getattr(index.codes[0], name))
    assert digest == index_digest(found) == index_digest(index)
    queries = rows.chunks[0][:20] + np.float32(0.1)
    ours, our_work = probe_lists(found, Target(rows), queries, 4, probes=3)
    theirs, their_work = probe_lists(index, Target(rows), queries, 4, probes=3)
    assert our_work == their_work
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.position, other.position)


@CHUNK_BYTES
def test_zarr_reads_an_index(
    storage: Storage, index: InvertedLists, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(vectors, "CHUNK_BYTES", chunk_bytes)
    write_index(storage, "s.ann", index)
    group: Any = zarr.open_group(storage.absolute("s.ann"), mode="r", zarr_format=3)
    assert dict(group.attrs) == {"metric": "cosine", "probes": index.probes}
    codes = index.codes[0]
    held = {
        "centroids": index.centroids,
        "offsets": index.offsets,
        "order": index.order,
        "q8": codes.codes,
        "scale": codes.scale,
        "remainder": codes.remainder,
        "norm": codes.norm,
    }
    assert sorted(group.array_keys()) == sorted(held)
    for name, array in held.items():
        assert group[name].dtype == array.dtype
        np.testing.assert_array_equal(group[name][:], array)


def test_mapped_arrays_cannot_be_written(storage: Storage, index: InvertedLists) -> None:
    write_index(storage, "s.ann", index)
    found = mapped(storage)
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found.order[0] = 5


def test_an_index_of_no_rows_is_kept_too(storage: Storage) -> None:
    zeros = np.zeros((4, 3), np.float32)
    empty = build(VectorRows(3, 4, (zeros,)), Metric.COSINE)
    digest = write_index(storage, "s.ann", empty)
    found = mapped(storage, row_count=4, dimension=3, list_count=empty.list_count)
    assert found is not None
    assert len(found.order) == 0
    assert index_digest(found) == digest
    group: Any = zarr.open_group(storage.absolute("s.ann"), mode="r", zarr_format=3)
    assert group["q8"].shape == (0, 3)


@pytest.mark.parametrize(
    "changed",
    [
        {"row_count": 100},
        {"dimension": 6},
        {"metric": Metric.L2},
        {"list_count": LISTS + 1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_an_index_of_something_else_is_none(
    storage: Storage, index: InvertedLists, changed: dict[str, Any]
) -> None:
    write_index(storage, "s.ann", index)
    assert mapped(storage, **changed) is None
    assert mapped(storage) is not None


def test_without_one_of_its_files_or_their_last_byte_there_is_no_index(
    storage: Storage, index: InvertedLists
) -> None:
    write_index(storage, "s.ann", index)
    data = [file for file in files_of(storage) if file.name != "zarr.json"]
    assert len(data) == 7
    for file in [*data, storage.absolute("s.ann/zarr.json")]:
        content = file.read_bytes()
        file.unlink()
        assert mapped(storage) is None
        file.write_bytes(content[:-1])
        assert mapped(storage) is None
        file.write_bytes(content)
        assert mapped(storage) is not None
    assert (
        map_index(storage, "t.ann", row_count=1, dimension=1, metric=Metric.L2, list_count=1)
        is None
    )


def test_any_flipped_bit_changes_the_digest(storage: Storage, index: InvertedLists) -> None:
    digest = write_index(storage, "s.ann", index)
    random = np.random.default_rng(1)
    for file in files_of(storage):
        content = file.read_bytes()
        for at in random.integers(0, len(content), 10):
            if file.name == "zarr.json":
                break
            damaged = bytearray(content)
            damaged[at] ^= 1 << random.integers(0, 8)
            file.write_bytes(damaged)
            found = mapped(storage)
            assert found is None or index_digest(found) != digest
        file.write_bytes(content)
    found = mapped(storage)
    assert found is not None
    assert index_digest(found) == digest


@pytest.mark.parametrize("probes", ["3", None, 3.0, True, [3]])
def test_probes_that_are_no_number_are_damage(
    storage: Storage, index: InvertedLists, probes: Any
) -> None:
    digest = write_index(storage, "s.ann", index)
    file = storage.absolute("s.ann/zarr.json")
    group = json.loads(file.read_bytes())
    group["attributes"]["probes"] = probes
    file.write_text(json.dumps(group))
    assert mapped(storage) is None
    group["attributes"]["probes"] = index.probes + 1
    file.write_text(json.dumps(group))
    found = mapped(storage)
    assert found is not None
    assert index_digest(found) != digest


@pytest.mark.parametrize("limit", [1_000, 1_300], ids=["in the order", "in the codes"])
def test_a_full_disk_leaves_nothing(storage: Storage, index: InvertedLists, limit: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(StorageError, match=r"^The disk is full; nothing was changed$"):
            write_index(storage, "s.ann", index)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(storage.walk()) == []
    write_index(storage, "s.ann", index)
    assert mapped(storage) is not None


def test_what_a_crash_left_under_the_name_is_replaced(
    storage: Storage, index: InvertedLists
) -> None:
    storage.write("s.ann/order/c/0", b"half")
    storage.write("s.ann/stray", b"x")
    digest = write_index(storage, "s.ann", index)
    found = mapped(storage)
    assert found is not None
    assert index_digest(found) == digest
    assert storage.read("s.ann/stray") is None
