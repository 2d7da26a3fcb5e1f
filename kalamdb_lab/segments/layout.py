"""Names of a segment's files, and what a segment says about itself in JSON.

The same record stands in the footer of the Parquet file and, with path and digests, in
``manifest.json``, so that either is enough to list a segment again.
"""

from __future__ import annotations

import base64
import math
import re
from decimal import Decimal
from typing import Any

import msgspec
import xxhash

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import ColumnStatistics, SegmentMeta
from kalamdb_lab.model.tables import TableDef

FORMAT_VERSION = 1
FOOTER_KEY = b"kalam"
MANIFEST_NAME = "manifest.json"
SEQ_COLUMN = "_seq"
SEQ_FIELD_ID = 0
"""Column ids start at 1, so 0 is free for ``_seq`` in files and caches."""

_NUMBER = re.compile(r"s-(\d{6,})\.(?:parquet|vectors|index-\d+-\d+)")
_SEGMENT = re.compile(r"s-\d{6,}\.(parquet|vectors|index-\d+-\d+)")
_MANIFEST = re.compile(r"manifest(--?\d+-[0-9a-f]{32})?\.json")


def segment_path(directory: str, segment_id: int) -> str:
    """Return the path of a segment's Parquet file."""
    return f"{directory}/s-{segment_id:06d}.parquet" if directory else f"s-{segment_id:06d}.parquet"


def vectors_path(path: str) -> str:
    """Return the directory of the vectors that belong to the Parquet file ``path``."""
    return path.removesuffix(".parquet") + ".vectors"


def index_path(path: str, column_id: int, number: int) -> str:
    """Return the directory of an ANN index of the segment whose Parquet file is ``path``."""
    return f"{path.removesuffix('.parquet')}.index-{column_id}-{number}"


def damaged(table: TableDef) -> CorruptError:
    """Return the error of a segment whose files are not what was written."""
    return CorruptError(
        f"A segment of {table.table_id} is damaged; restore it from a backup, or run kalam check "
        "to see what is lost"
    )


def segment_paths(meta: SegmentMeta) -> list[str]:
    """Return all that a segment occupies in its storage."""
    paths = [meta.path, vectors_path(meta.path)] if meta.vectors else [meta.path]
    return paths + [
        index_path(meta.path, column_id, built.number) for column_id, built in meta.indexes.items()
    ]


def is_segment(name: str) -> bool:
    """Return whether a file or directory of this name is part of a segment."""
    return _SEGMENT.fullmatch(name) is not None


def is_parquet(name: str) -> bool:
    """Return whether a file of this name holds the rows of a segment."""
    return is_segment(name) and name.endswith(".parquet")


def manifest_name(partition: PartitionKey) -> str:
    """Return the name of a manifest beside that of another partition, which has the short one."""
    scope = xxhash.xxh3_128_hexdigest(partition.scope.encode("utf-8", "surrogatepass"))
    return f"manifest-{partition.table_key}-{scope}.json"


def is_manifest(name: str) -> bool:
    """Return whether a file of this name is the manifest of a partition."""
    return _MANIFEST.fullmatch(name) is not None


def segment_id_of(path: str) -> int:
    """Return the id in the name of a segment's Parquet file."""
    return int(path.rpartition("/")[2].removeprefix("s-").removesuffix(".parquet"))


def segment_id_in(name: str) -> int:
    """Return the id in the name of a part of a segment, a temporary one too; 0 if it is none."""
    found = _NUMBER.match(name)
    return 0 if found is None else int(found[1])


class SegmentRecord(msgspec.Struct, omit_defaults=True):
    """What a Parquet footer says of its segment. Statistics are (null count, low, high).

    ``digest`` is that of the Parquet file in a manifest. In a footer, which no page checksum
    guards, it is that of the record itself.
    """

    format_version: int
    table: str
    table_key: int
    scope: str
    schema_version: int
    segment_id: int
    row_count: int
    min_seq: int
    max_seq: int
    created_at_us: int
    statistics: dict[str, tuple[int, Any, Any]]
    vectors: dict[str, str] = {}
    replaces: tuple[int, ...] = ()
    path: str = ""
    digest: str = ""
    size_bytes: int = 0
    codes: dict[str, str] = {}

    def meta(self, storage_id: str, *, path: str, digest: str, size_bytes: int) -> SegmentMeta:
        """Return the manifest's view of this segment."""
        return SegmentMeta(
            segment_id=self.segment_id,
            partition=PartitionKey(self.table_key, self.scope),
            schema_version=self.schema_version,
            storage_id=storage_id,
            path=path,
            row_count=self.row_count,
            size_bytes=size_bytes,
            min_seq=self.min_seq,
            max_seq=self.max_seq,
            digest=digest,
            vectors={int(column_id): item for column_id, item in self.vectors.items()},
            statistics={
                int(column_id): ColumnStatistics(nulls, _from_json(low), _from_json(high))
                for column_id, (nulls, low, high) in self.statistics.items()
            },
            created_at_us=self.created_at_us,
            codes={int(column_id): item for column_id, item in self.codes.items()},
        )


def statistics_record(
    statistics: dict[int, ColumnStatistics],
) -> dict[str, tuple[int, Any, Any]]:
    """Return statistics as a `SegmentRecord` holds them."""
    return {
        str(column_id): (item.null_count, _to_json(item.low), _to_json(item.high))
        for column_id, item in statistics.items()
    }


def encode_record(record: SegmentRecord) -> bytes:
    """Return the record as JSON for a footer."""
    return msgspec.json.encode(msgspec.structs.replace(record, digest=_own_digest(record)))


def decode_record(data: bytes) -> SegmentRecord:
    """Return the record of a footer. Raises `CorruptError` if it is none, or of a newer format."""
    try:
        record = msgspec.json.decode(data, type=SegmentRecord)
        if record.digest != _own_digest(record):
            raise ValueError(record.digest)
        record.meta("", path="", digest="", size_bytes=0)
    except (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError):
        raise CorruptError("A segment's description is damaged") from None
    if record.format_version != FORMAT_VERSION:
        raise CorruptError(
            f"A segment has format {record.format_version}; this version reads {FORMAT_VERSION}"
        )
    return record


def _own_digest(record: SegmentRecord) -> str:
    return xxhash.xxh3_128_hexdigest(
        msgspec.json.encode(msgspec.structs.replace(record, digest=""))
    )


def _to_json(value: StorageValue) -> Any:
    # JSON has no decimals, bytes or infinities: these stand in an object of one field.
    match value:
        case Decimal():
            return {"decimal": str(value)}
        case bytes():
            return {"bytes": base64.b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return {"float": repr(value)}
        case _:
            return value


def _from_json(value: Any) -> StorageValue:
    match value:
        case {"decimal": str(text)}:
            return Decimal(text)
        case {"bytes": str(text)}:
            return base64.b64decode(text, validate=True)
        case {"float": str(text)}:
            return float(text)
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise ValueError(value)
