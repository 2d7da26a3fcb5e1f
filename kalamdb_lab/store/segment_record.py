"""A segment's manifest record as bytes: msgpack, with storage values kept by type."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import msgspec

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import ColumnStatistics, SegmentIndex, SegmentMeta
from kalamdb_lab.store.wire import encoder, extension, to_wire


class _Record(msgspec.Struct, array_like=True):
    segment_id: int
    schema_version: int
    storage_id: str
    path: str
    row_count: int
    size_bytes: int
    min_seq: int
    max_seq: int
    digest: str
    vectors: dict[int, str]
    statistics: dict[int, tuple[int, Any, Any]]
    created_at_us: int
    # Fields from here on are missing in databases of older versions.
    codes: dict[int, str] = {}
    indexes: dict[int, tuple[int, int, str, str, int, float]] = {}


_decoder = msgspec.msgpack.Decoder(_Record, ext_hook=extension)


def encode_segment(meta: SegmentMeta) -> bytes:
    """Return the record without the partition, which the catalog keeps beside it."""
    statistics = {
        column_id: (item.null_count, to_wire(item.low), to_wire(item.high))
        for column_id, item in meta.statistics.items()
    }
    return encoder.encode(
        _Record(
            meta.segment_id,
            meta.schema_version,
            meta.storage_id,
            meta.path,
            meta.row_count,
            meta.size_bytes,
            meta.min_seq,
            meta.max_seq,
            meta.digest,
            meta.vectors,
            statistics,
            meta.created_at_us,
            meta.codes,
            {column_id: astuple(item) for column_id, item in meta.indexes.items()},
        )
    )


def decode_segment(data: bytes, partition: PartitionKey) -> SegmentMeta:
    """Return the segment of a record; raises `msgspec.MsgspecError` if it is damaged."""
    record = _decoder.decode(data)
    return SegmentMeta(
        segment_id=record.segment_id,
        partition=partition,
        schema_version=record.schema_version,
        storage_id=record.storage_id,
        path=record.path,
        row_count=record.row_count,
        size_bytes=record.size_bytes,
        min_seq=record.min_seq,
        max_seq=record.max_seq,
        digest=record.digest,
        vectors=record.vectors,
        statistics={
            column_id: ColumnStatistics(*item) for column_id, item in record.statistics.items()
        },
        created_at_us=record.created_at_us,
        codes=record.codes,
        indexes={column_id: SegmentIndex(*item) for column_id, item in record.indexes.items()},
    )
