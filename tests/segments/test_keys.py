"""Rows of a segment by key: what a dictionary of all rows would say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_samples import KEYS, PARTITION, older, rows_of, storage_values, table_of

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType, StorageValue
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.keys import KeyIndex, SegmentKeys
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.writer import write_segment


def index_of(keys: list[StorageValue], data_type: KalamDataType, pieces: int = 2) -> KeyIndex:
    cut = len(keys) // pieces
    chunks = [array_from_storage(part, data_type) for part in (keys[:cut], keys[cut:])]
    column = pa.chunked_array([chunk for chunk in chunks if len(chunk)])
    return KeyIndex(column, np.arange(len(keys), dtype=np.int64) * 3, data_type)


@settings(max_examples=200)
@given(data=st.data(), data_type=st.sampled_from(KEYS))
def test_a_key_is_found_at_its_latest_row_and_others_are_not(
    data: st.DataObject, data_type: KalamDataType
) -> None:
    values: st.SearchStrategy[Any] = storage_values(data_type)
    keys = data.draw(st.lists(values, min_size=1, max_size=30))
    if data.draw(st.booleans()):
        keys.sort()
    asked = data.draw(st.lists(st.sampled_from(keys) | values, max_size=6))
    model = {key: row * 3 for row, key in enumerate(keys)}
    wanted = {key: model[key] for key in asked if key in model}
    index = index_of(keys, data_type)
    assert index.find(asked) == wanted
    for key in asked:
        assert index.find([key]) == ({key: model[key]} if key in model else {})


@pytest.mark.parametrize("data_type", [types.BIGINT, types.TEXT, types.UUID], ids=str)
def test_one_key_and_many_are_found_among_many(data_type: KalamDataType) -> None:
    count = 20_000
    numbers = np.random.default_rng(3).permutation(count).tolist()

    def key(number: int) -> StorageValue:
        if data_type == types.BIGINT:
            return number
        return f"key {number}" if data_type == types.TEXT else number.to_bytes(16, "little")

    index = index_of([key(2 * number) for number in numbers], data_type)
    places = {2 * number: 3 * row for row, number in enumerate(numbers)}
    some = [*range(400), 2 * count - 1, 2 * count]
    wanted = {key(number): places[number] for number in some if number in places}
    assert index.find([key(number) for number in some]) == wanted
    assert index.find([key(7)]) == {}
    assert index.find([key(8)]) == {key(8): places[8]}
    assert index.find([]) == {}


def test_unsigned_keys_beyond_63_bits_are_exact() -> None:
    top = 2**64 - 1
    index = index_of([top, 5, top - 1, 2**63], types.UBIGINT)
    assert index.find([top, top - 1, top - 2, 2**63, 2**63 - 1]) == {top: 0, top - 1: 6, 2**63: 9}


def flushed(storage: Storage, table: TableDef, keys: list[StorageValue]) -> SegmentMeta:
    rows = rows_of(table, {"id": keys})
    return write_segment(storage, table, PARTITION, "t", 1, rows, created_at_us=0)


def test_keys_outside_the_bounds_read_no_file(storage: Storage) -> None:
    table = table_of([ColumnDef(1, "id", types.TEXT, nullable=False, primary_key=True)])
    meta = flushed(storage, table, ["b", "d", "c"])
    cache = SegmentCache(1_000_000)
    keys = SegmentKeys(SegmentReader({"local": storage}.__getitem__, cache), cache)
    assert keys.find(meta, table, ["a", "e", ""]) == {}
    assert cache.used_bytes == 0
    assert keys.find(meta, table, ["a", "c", "bb"]) == {"c": 104}
    assert cache.used_bytes > 0
    storage.delete(meta.path)
    assert keys.find(meta, table, ["d"]) == {"d": 102}


@pytest.mark.parametrize("budget_bytes", [0, 1_000_000])
def test_keys_are_found_with_a_widened_type_and_without_a_cache(
    storage: Storage, budget_bytes: int
) -> None:
    first = ColumnDef(1, "id", types.DATE, nullable=False, primary_key=True)
    second = ColumnDef(1, "day", types.TIMESTAMP, nullable=False, primary_key=True)
    table = table_of([first], [second])
    meta = flushed(storage, older(table, 1), [10, 5, 7])
    cache = SegmentCache(budget_bytes)
    keys = SegmentKeys(SegmentReader({"local": storage}.__getitem__, cache), cache)
    day = 86_400_000_000
    assert keys.find(meta, table, [7 * day, 7 * day + 1, 5 * day]) == {7 * day: 104, 5 * day: 102}


def test_a_table_without_a_key_finds_nothing(storage: Storage, reader: SegmentReader) -> None:
    table = table_of([ColumnDef(1, "id", types.INT)])
    meta = flushed(storage, table, [1])
    assert SegmentKeys(reader, SegmentCache(1_000)).find(meta, table, [1]) == {}
