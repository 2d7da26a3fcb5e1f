"""The manifest beside the segments, a lost manifest from footers, and files nobody lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from kalamdb_lab.arrow.schemas import FIELD_ID, KALAM_TYPE
from kalamdb_lab.errors import CorruptError, InvalidDefinitionError
from kalamdb_lab.model.datatypes import parse_type
from kalamdb_lab.model.ids import PartitionKey, TableId
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.segments.layout import (
    FOOTER_KEY,
    FORMAT_VERSION,
    MANIFEST_NAME,
    SegmentRecord,
    decode_record,
    is_segment,
    statistics_record,
    vectors_path,
)
from kalamdb_lab.segments.storage import Storage, StoredFile, is_temporary
from kalamdb_lab.segments.vectors import digest_of, map_vectors


class _Manifest(msgspec.Struct):
    format_version: int
    table: str
    table_key: int
    scope: str
    segments: list[SegmentRecord]


def write_manifest(
    storage: Storage,
    directory: str,
    table_id: TableId,
    partition: PartitionKey,
    segments: Iterable[SegmentMeta],
) -> None:
    """Write ``manifest.json`` of a partition's directory, replacing the old one at once."""
    records = [
        SegmentRecord(
            format_version=FORMAT_VERSION,
            table=str(table_id),
            table_key=partition.table_key,
            scope=partition.scope,
            schema_version=meta.schema_version,
            segment_id=meta.segment_id,
            row_count=meta.row_count,
            min_seq=meta.min_seq,
            max_seq=meta.max_seq,
            created_at_us=meta.created_at_us,
            statistics=statistics_record(meta.statistics),
            vectors={str(column_id): digest for column_id, digest in meta.vectors.items()},
            path=meta.path,
            digest=meta.digest,
            size_bytes=meta.size_bytes,
        )
        for meta in segments
    ]
    manifest = _Manifest(
        FORMAT_VERSION, str(table_id), partition.table_key, partition.scope, records
    )
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    storage.write(_beside(directory, MANIFEST_NAME), text)


def read_manifest(storage: Storage, directory: str) -> list[SegmentMeta] | None:
    """Return what ``manifest.json`` of a directory lists; None if there is none.

    Raises
    ------
    CorruptError
        It is damaged.
    """
    data = storage.read(_beside(directory, MANIFEST_NAME))
    if data is None:
        return None
    try:
        manifest = msgspec.json.decode(data, type=_Manifest)
        return [
            record.meta(
                storage.storage_id,
                path=record.path,
                digest=record.digest,
                size_bytes=record.size_bytes,
            )
            for record in manifest.segments
        ]
    except (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError):
        raise CorruptError(f"A manifest in storage '{storage.storage_id}' is damaged") from None


def read_footer(storage: Storage, path: str) -> SegmentRecord:
    """Return what a Parquet file says of itself, unverified.

    Raises
    ------
    CorruptError
        The file is missing, damaged, no segment, or of a newer format.
    """
    return _opened(storage, path)[1]


def read_footers(
    storage: Storage, *, on_damaged: Callable[[str], None] | None = None
) -> Iterator[SegmentMeta]:
    """Return the segments that lie in a storage, from their files alone, by path.

    A file counts if it matches the digest in the manifest beside it, or, without that, the
    checksums of its pages; its vectors must match the digests in its footer. Segments that a
    merged one replaces are left out, so that no row comes twice.

    Parameters
    ----------
    on_damaged : callable, optional
        Takes the path of each Parquet file that does not count. Without it the first one raises
        `CorruptError`.
    """
    found: list[tuple[SegmentRecord, SegmentMeta]] = []
    listed: dict[str, dict[str, str]] = {}
    for file in storage.walk():
        if file.is_directory or not is_segment(file.name) or not file.name.endswith(".parquet"):
            continue
        directory = file.path.rpartition("/")[0]
        if directory not in listed:
            listed[directory] = _listed_digests(storage, directory)
        try:
            found.append(_sound_segment(storage, file.path, listed[directory].get(file.path)))
        except CorruptError:
            if on_damaged is None:
                raise
            on_damaged(file.path)
    replaced = {
        (record.table_key, record.scope, segment_id)
        for record, _ in found
        for segment_id in record.replaces
    }
    for record, meta in found:
        if (record.table_key, record.scope, record.segment_id) not in replaced:
            yield meta


def orphans(storage: Storage, known_paths: Collection[str], *, older_than_us: int) -> Iterator[str]:
    """Return what crashes left: temporary names, and segments that no manifest names.

    Parameters
    ----------
    known_paths : collection of str
        Parquet files that the catalog lists, retired ones within their grace included.
    older_than_us : int
        Only what was last changed before this time of the machine's clock, in µs since 1970; a
        segment that is being written is named by nobody yet.
    """
    known = set(known_paths)
    known |= {vectors_path(path) for path in known_paths}
    inside = ""
    candidate: StoredFile | None = None
    newest_us = 0
    for file in storage.walk():
        if inside and file.path.startswith(inside):
            newest_us = max(newest_us, file.modified_us)
            continue
        if candidate is not None and newest_us < older_than_us:
            yield candidate.path
        candidate, inside, newest_us = None, "", file.modified_us
        if is_temporary(file.name) or is_segment(file.name):
            inside = f"{file.path}/" if file.is_directory else ""
            candidate = None if file.path in known else file
    if candidate is not None and newest_us < older_than_us:
        yield candidate.path


def _beside(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _listed_digests(storage: Storage, directory: str) -> dict[str, str]:
    try:
        return {meta.path: meta.digest for meta in read_manifest(storage, directory) or ()}
    except CorruptError:
        return {}


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


def _sound_segment(
    storage: Storage, path: str, listed_digest: str | None
) -> tuple[SegmentRecord, SegmentMeta]:
    file, record, data = _opened(storage, path)
    digest = xxhash.xxh3_128_hexdigest(data)
    if listed_digest is None:
        sound = file.metadata.num_rows == record.row_count and _pages_are_sound(file)
    else:
        sound = digest == listed_digest
    if not sound or _vector_digests(storage, path, file.schema_arrow, record) != record.vectors:
        raise _damaged(storage)
    meta = record.meta(storage.storage_id, path=path, digest=digest, size_bytes=data.size)
    return record, meta


def _pages_are_sound(file: pq.ParquetFile) -> bool:
    try:
        for number in range(file.num_row_groups):
            file.read_row_group(number)
    except (pa.ArrowException, OSError):
        return False
    return True


def _vector_digests(
    storage: Storage, path: str, schema: pa.Schema, record: SegmentRecord
) -> dict[str, str]:
    """Return the digests of the vectors as they lie on disk now."""
    digests: dict[str, str] = {}
    for field in schema:
        metadata: dict[bytes, Any] = field.metadata or {}
        column_id = metadata.get(FIELD_ID, b"").decode()
        if column_id not in record.vectors:
            continue
        try:
            dimension = parse_type(metadata.get(KALAM_TYPE, b"").decode()).dimension
        except InvalidDefinitionError:
            continue
        chunks = map_vectors(
            storage,
            vectors_path(path),
            int(column_id),
            row_count=record.row_count,
            dimension=dimension,
        )
        if chunks is not None:
            digests[column_id] = digest_of(chunks)
    return digests
