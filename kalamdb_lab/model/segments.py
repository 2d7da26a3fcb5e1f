"""What the manifest knows of a segment."""

from __future__ import annotations

from dataclasses import dataclass, field

from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import VectorIndex


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
class SegmentIndex:
    """What was built of an ANN index for one segment.

    Attributes
    ----------
    index_key : int
        The `VectorIndex` that it was built for; of no use once the column has another.
    number : int
        Of its directory; unique in the database.
    digest : str
        xxh3_128 of its arrays.
    metric : str
        As `VectorIndex` has it.
    recall : float
        Share of the ten nearest rows that it finds, measured when it was built: 0 to 1.
    """

    index_key: int
    number: int
    digest: str
    metric: str
    list_count: int
    recall: float


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
    codes : dict of int to str
        Column id to xxh3_128 of its int8 codes, then their scales, remainders and norms. Small
        segments, and those of older versions, have none.
    indexes : dict of int to SegmentIndex
        What ANN indexes there are, by column id; see `built`.
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
    codes: dict[int, str] = field(default_factory=dict)
    indexes: dict[int, SegmentIndex] = field(default_factory=dict)

    def built(self, index: VectorIndex) -> SegmentIndex | None:
        """Return what was built for an index here; None if nothing was, or for an older one."""
        found = self.indexes.get(index.column_id)
        return found if found is not None and found.index_key == index.index_key else None
