"""What the manifest knows of a segment."""

from __future__ import annotations

from dataclasses import dataclass

from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import PartitionKey


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """Bounds of one column of one segment, as storage values; None where unknown or all NULL.

    Text bounds may be cut to 64 characters: ``low`` rounds down, ``high`` is None if it was cut.
    NaN makes both bounds unknown.
    """

    null_count: int
    low: StorageValue
    high: StorageValue


@dataclass(frozen=True, slots=True)
class SegmentMeta:
    """One immutable segment, as the manifest lists it.

    Attributes
    ----------
    segment_id : int
        Unique in the database, growing.
    storage_id, path : str
        Where the Parquet file lies, relative to that storage's base directory.
    digest : str
        xxh3_128 of the Parquet file, 32 hexadecimal digits.
    vectors : dict of int to str
        For each EMBEDDING column id of the segment: xxh3_128 of its float32 rows.
    statistics : dict of int to ColumnStatistics
        By column id.
    min_seq, max_seq : int
        Bounds of ``_seq``, inclusive. Rows lie in ascending ``_seq``.
    """

    segment_id: int
    partition: PartitionKey
    schema_version: int
    storage_id: str
    path: str
    row_count: int
    size_bytes: int
    min_seq: int
    max_seq: int
    digest: str
    vectors: dict[int, str]
    statistics: dict[int, ColumnStatistics]
    created_at_us: int
