"""Whether the files of a segment are what was written."""

from __future__ import annotations

import enum
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from kalamdb_lab.arrow.schemas import FIELD_ID, KALAM_TYPE
from kalamdb_lab.errors import CorruptError, InvalidDefinitionError, StorageError
from kalamdb_lab.model.datatypes import parse_type
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.segments.layout import FOOTER_KEY, SegmentRecord, decode_record, vectors_path
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.vectors import digest_of, digest_of_codes, map_codes, map_vectors


class SegmentState(enum.Enum):
    """What became of a listed segment."""

    SOUND = "sound"
    DAMAGED = "damaged"
    MISSING = "missing"


def segment_state(storage: Storage, meta: SegmentMeta) -> SegmentState:
    """Compare the files of a listed segment, vectors too, with the digests in the manifest."""
    try:
        if storage.stat(meta.path) is None:
            return SegmentState.MISSING
        record, _ = sound_segment(storage, meta.path, meta.digest)
    except StorageError:
        return SegmentState.MISSING
    except CorruptError:
        return SegmentState.DAMAGED
    listed = [
        {str(column_id): digest for column_id, digest in digests.items()}
        for digests in (meta.vectors, meta.codes)
    ]
    is_listed = [record.vectors, record.codes] == listed
    return SegmentState.SOUND if is_listed else SegmentState.DAMAGED


def sound_segment(
    storage: Storage, path: str, listed_digest: str | None
) -> tuple[SegmentRecord, SegmentMeta]:
    """Return what a sound segment's file says of itself.

    It must match its digest or, where none is known, the checksums of its pages; its vectors
    and their codes must match the digests in its footer.

    Raises
    ------
    CorruptError
        It does not.
    """
    file, record, data = _opened(storage, path)
    digest = xxhash.xxh3_128_hexdigest(data)
    if listed_digest is None:
        sound = file.metadata.num_rows == record.row_count and _pages_are_sound(file)
    else:
        sound = digest == listed_digest
    digests = _vector_digests(storage, path, file.schema_arrow, record)
    if not sound or digests != (record.vectors, record.codes):
        raise _damaged(storage)
    meta = record.meta(storage.storage_id, path=path, digest=digest, size_bytes=data.size)
    return record, meta


def read_footer(storage: Storage, path: str) -> SegmentRecord:
    """Return what a Parquet file says of itself, unverified.

    Raises
    ------
    CorruptError
        The file is missing, damaged, no segment, or of a newer format.
    """
    return _opened(storage, path)[1]


def _damaged(storage: Storage) -> CorruptError:
    return CorruptError(f"A segment in storage '{storage.storage_id}' is damaged")


def _opened(storage: Storage, path: str) -> tuple[pq.ParquetFile, SegmentRecord, pa.Buffer]:
    data = storage.map(path)
    if data is None:
        raise _damaged(storage)
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        footer: dict[bytes, bytes] = file.metadata.metadata or {}
    except (pa.ArrowException, OSError):
        raise _damaged(storage) from None
    return file, decode_record(footer.get(FOOTER_KEY, b"")), data


def _pages_are_sound(file: pq.ParquetFile) -> bool:
    try:
        for number in range(file.num_row_groups):
            file.read_row_group(number)
    except (pa.ArrowException, OSError):
        return False
    return True


def _vector_digests(
    storage: Storage, path: str, schema: pa.Schema, record: SegmentRecord
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the digests of the vectors, and of their codes, as they lie on disk now."""
    vectors: dict[str, str] = {}
    codes: dict[str, str] = {}
    for field in schema:
        metadata: dict[bytes, Any] = field.metadata or {}
        column_id = metadata.get(FIELD_ID, b"").decode()
        if column_id not in record.vectors:
            continue
        try:
            dimension = parse_type(metadata.get(KALAM_TYPE, b"").decode()).dimension
        except InvalidDefinitionError:
            continue
        place = storage, vectors_path(path), int(column_id)
        chunks = map_vectors(*place, row_count=record.row_count, dimension=dimension)
        if chunks is not None:
            vectors[column_id] = digest_of(chunks)
        if column_id in record.codes:
            coded = map_codes(*place, row_count=record.row_count, dimension=dimension)
            if coded is not None:
                codes[column_id] = digest_of_codes(coded)
    return vectors, codes
