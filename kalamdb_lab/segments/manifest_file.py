"""The manifest beside the segments of a partition, and files that nobody lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import msgspec
import xxhash

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.model.ids import PartitionKey, TableId
from kalamdb_lab.segments.layout import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SegmentRecord,
    is_manifest,
    is_segment,
    manifest_name,
    statistics_record,
    vectors_path,
)
from kalamdb_lab.segments.storage import Storage, is_temporary
from kalamdb_lab.segments.stored_file import StoredFile
from kalamdb_lab.store.log import ListedSegment, RemovedVersions

_ALL_TIME_US = 2**62


class ListedRecord(msgspec.Struct, omit_defaults=True):
    """A segment in JSON with its removed versions, as `RemovedVersions` has them."""

    segment: SegmentRecord
    removed_seqs: bytes = b""
    removed_at: bytes = b""
    removed_deleted: bytes = b""


class _Owner(msgspec.Struct):
    """Whose a manifest is; the rest of it is not looked at."""

    table_key: int
    scope: str


class _Manifest(msgspec.Struct):
    format_version: int
    digest: str
    table: str
    table_key: int
    scope: str
    last_segment_id: int
    segments: list[ListedRecord]

    def own_digest(self) -> str:
        """Return the xxh3_128 of all but the digest itself."""
        return xxhash.xxh3_128_hexdigest(
            msgspec.json.encode(msgspec.structs.replace(self, digest=""))
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says of one partition.

    Attributes
    ----------
    table : str
        Its name when the manifest was written, as ``namespace.table``.
    last_segment_id : int
        The highest id that the database had given out then: a segment of this partition with
        an id up to this one that is not listed was merged, dropped, or never published.
    """

    table: str
    partition: PartitionKey
    last_segment_id: int
    segments: list[ListedSegment]


def listed_record(table_id: TableId, listed: ListedSegment) -> ListedRecord:
    """Return what a manifest says of a segment."""
    meta, removed = listed.meta, listed.removed
    record = SegmentRecord(
        format_version=FORMAT_VERSION,
        table=str(table_id),
        table_key=meta.partition.table_key,
        scope=meta.partition.scope,
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
        codes={str(column_id): digest for column_id, digest in meta.codes.items()},
    )
    return ListedRecord(record, removed.seqs, removed.removed_at, removed.deleted)


def listed_segment(record: ListedRecord, storage_id: str) -> ListedSegment:
    """Return the segment that a manifest speaks of; the inverse of `listed_record`.

    Raises
    ------
    ValueError, TypeError, ArithmeticError
        The record is damaged.
    """
    segment = record.segment
    meta = segment.meta(
        storage_id, path=segment.path, digest=segment.digest, size_bytes=segment.size_bytes
    )
    removed = RemovedVersions(record.removed_seqs, record.removed_at, record.removed_deleted)
    return ListedSegment(meta, removed)


def write_manifest(
    storage: Storage,
    directory: str,
    table_id: TableId,
    partition: PartitionKey,
    segments: Iterable[ListedSegment],
    *,
    last_segment_id: int,
) -> None:
    """Write the manifest of a partition's directory, replacing the old one at once.

    It is ``manifest.json``, unless another partition has that: by the templates of their storage
    two may lie in one directory, or a table that was dropped may have left it.
    """
    records = [listed_record(table_id, listed) for listed in segments]
    manifest = _Manifest(
        FORMAT_VERSION,
        "",
        str(table_id),
        partition.table_key,
        partition.scope,
        last_segment_id,
        records,
    )
    manifest.digest = manifest.own_digest()
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    path = _beside(directory, MANIFEST_NAME)
    own = _beside(directory, manifest_name(partition))
    if storage.stat(own) is not None:
        path = own
    elif (data := storage.read(path)) is not None:
        path = path if _may_replace(storage, directory, data, partition) else own
    elif storage.write_first(path, text):
        return
    else:
        path = own
    storage.write(path, text)


def _may_replace(storage: Storage, directory: str, data: bytes, partition: PartitionKey) -> bool:
    """Return whether ``manifest.json`` is that of this partition, or of none that can be read."""
    try:
        owner = msgspec.json.decode(data, type=_Owner)
        if (owner.table_key, owner.scope) == (partition.table_key, partition.scope):
            return True
        manifest = read_manifest(storage, directory)
    except (msgspec.MsgspecError, UnicodeDecodeError, CorruptError):
        return True
    return manifest is None or manifest.partition == partition


def read_manifests(storage: Storage, directory: str) -> list[Manifest]:
    """Return what the manifests of a directory say, of one partition each or nearly always so.

    Where two are of one partition, the first counts.

    Raises
    ------
    CorruptError
        One is damaged.
    """
    files = (file.path.rpartition("/") for file in storage.walk(directory))
    names = [name for folder, _, name in files if folder == directory and is_manifest(name)]
    found = (read_manifest(storage, directory, name) for name in names)
    return [manifest for manifest in found if manifest is not None]


def read_manifest(storage: Storage, directory: str, name: str = MANIFEST_NAME) -> Manifest | None:
    """Return what a manifest in a directory says; None if there is none of this name.

    Raises
    ------
    CorruptError
        It is damaged.
    """
    data = storage.read(_beside(directory, name))
    if data is None:
        return None
    try:
        manifest = msgspec.json.decode(data, type=_Manifest)
        if manifest.digest != manifest.own_digest():
            raise ValueError(manifest.digest)
        return Manifest(
            manifest.table,
            PartitionKey(manifest.table_key, manifest.scope),
            manifest.last_segment_id,
            [listed_segment(item, storage.storage_id) for item in manifest.segments],
        )
    except (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError):
        raise CorruptError(f"A manifest in storage '{storage.storage_id}' is damaged") from None


def delete_manifest(storage: Storage, directory: str, partition: PartitionKey) -> None:
    """Delete the manifest of this partition in a directory, and an unreadable ``manifest.json``."""
    storage.discard(_beside(directory, manifest_name(partition)))
    try:
        manifest = read_manifest(storage, directory)
    except CorruptError:
        manifest = None
    if manifest is None or manifest.partition == partition:
        storage.discard(_beside(directory, MANIFEST_NAME))


def orphans(
    storage: Storage,
    known_paths: Collection[str],
    *,
    older_than_us: int,
    check: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """Return what crashes left: temporary names, and segments that no manifest names.

    Parameters
    ----------
    known_paths : collection of str
        What the catalog lists, retired segments within their grace included. Vectors count with
        their Parquet file.
    older_than_us : int
        Only what was last changed before this time of the machine's clock, in µs since 1970; a
        segment that is being written is named by nobody yet.
    check : callable
        Called for each file; it may raise to stop.
    """
    known = set(known_paths)
    known |= {vectors_path(path) for path in known_paths}
    inside = ""
    candidate: StoredFile | None = None
    newest_us = 0
    for file in storage.walk():
        check()
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


def clear(storage: Storage) -> None:
    """Delete all segments, manifests and unfinished files of a storage that no catalog names."""
    left = [*orphans(storage, (), older_than_us=_ALL_TIME_US)]
    left += [file.path for file in storage.walk() if is_manifest(file.name)]
    for path in left:
        storage.delete(path)


def _beside(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
