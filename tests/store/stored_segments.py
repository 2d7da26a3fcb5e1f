"""Partitions and segments that the tests of stores list."""

from __future__ import annotations

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import ColumnStatistics, SegmentMeta

A, B = PartitionKey(1, ""), PartitionKey(2, "alice")


def segment(segment_id: int, partition: PartitionKey = A) -> SegmentMeta:
    return SegmentMeta(
        segment_id=segment_id,
        partition=partition,
        schema_version=1,
        storage_id="local",
        path=f"a/s-{segment_id:06}.parquet",
        row_count=3,
        size_bytes=100,
        min_seq=1,
        max_seq=3,
        digest="0" * 32,
        vectors={4: "1" * 32},
        statistics={1: ColumnStatistics(0, 1, 3), 2: ColumnStatistics(1, b"a", None)},
        created_at_us=5,
    )
