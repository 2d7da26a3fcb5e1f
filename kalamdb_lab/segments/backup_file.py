"""A directory that holds a backup: copies of segments, and ``backup.json`` that lists them.

``backup.json`` is written last: a directory without it is no backup. It names every file with its
digest, so a flipped bit anywhere is found before anything is restored.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from kalamdb_lab.errors import CorruptError, KalamError, NotEmptyError, StorageError
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.segments.layout import vectors_path
from kalamdb_lab.segments.manifest_file import ListedRecord
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.verification import SegmentState, segment_state

BACKUP_NAME = "backup.json"
FORMAT_VERSION = 1
_UNFINISHED = "unfinished"
_CHUNK_BYTES = 8 << 20

Step = Callable[[], None]
"""Called between two pieces of work: whoever wants the work to stop raises."""


class CopiedFile(msgspec.Struct):
    """A file of a backup; ``digest`` is the xxh3_128 of its bytes."""

    path: str
    size_bytes: int
    digest: str


class CopiedSegment(msgspec.Struct):
    """A segment as it was listed when the backup was made, with its path in the backup."""

    listed: ListedRecord
    files: list[CopiedFile]


class CopiedPartition(msgspec.Struct, omit_defaults=True):
    """The rows of one scope.

    Attributes
    ----------
    events : list of (int, int)
        Of STREAM tables: first ``_seq`` of each commit, ascending, and its time in µs since 1970.
    """

    scope: str
    segments: list[CopiedSegment]
    events: list[tuple[int, int]] = []


class CopiedTable(msgspec.Struct):
    """A table, view or registered table; ``definition`` is encoded by the floor above."""

    name: str
    kind: str
    definition: bytes
    partitions: list[CopiedPartition]


class BackupFile(msgspec.Struct):
    """What ``backup.json`` says.

    Attributes
    ----------
    definition : bytes
        Of the namespace, encoded by the floor above.
    seq, at_us : int
        The number of the log that the backup stands at, and when that was.
    row_count : int
        Live rows of all tables.
    size_bytes : int
        Of all files but ``backup.json``.
    """

    format_version: int
    digest: str
    namespace: str
    definition: bytes
    seq: int
    at_us: int
    row_count: int
    size_bytes: int
    tables: list[CopiedTable]

    def own_digest(self) -> str:
        """Return the xxh3_128 of all but the digest itself."""
        return xxhash.xxh3_128_hexdigest(
            msgspec.json.encode(msgspec.structs.replace(self, digest=""))
        )


def damaged_backup(shown_as: str, table: str | None = None) -> CorruptError:
    """Return the error of a backup that is not what was written."""
    what = f"The backup at '{shown_as}' is damaged"
    if table is not None:
        what = f"The backup of {table} at '{shown_as}' is damaged"
    return CorruptError(f"{what}; nothing was restored")


def check_unused(place: Path, shown_as: str) -> None:
    """Refuse a place for a backup that is neither a new nor an empty directory.

    Raises
    ------
    NotEmptyError, StorageError
        Which name the place as the user wrote it.
    """
    try:
        if place.exists() and not place.is_dir():
            raise StorageError(f"'{shown_as}' is a file; choose a new or empty directory")
        if place.is_dir() and any(place.iterdir()):
            raise _not_empty(shown_as)
    except KalamError:
        raise
    except (OSError, ValueError):
        raise StorageError(f"'{shown_as}' cannot be used; check the path") from None


def _not_empty(shown_as: str) -> NotEmptyError:
    return NotEmptyError(f"'{shown_as}' is not empty; choose a new or empty directory")


@contextlib.contextmanager
def new_backup(place: Path, shown_as: str) -> Iterator[Storage]:
    """Give the directory of a backup to fill; if the block raises, what is in it goes again.

    Raises
    ------
    NotEmptyError, StorageError
        As `check_unused` does, and if the directory cannot be made or written.
    """
    check_unused(place, shown_as)
    missing = [folder for folder in (place, *place.parents) if not folder.exists()]
    target = Storage(shown_as, place)
    target.create_base()
    _claim(place, shown_as)
    try:
        for folder in missing:
            _sync(folder.parent)
        yield target
        target.delete(_UNFINISHED)
    except BaseException:
        with contextlib.suppress(StorageError):
            for file in list(target.walk()):
                if "/" not in file.path:
                    target.discard(file.path)
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _claim(place: Path, shown_as: str) -> None:
    """Mark a directory as one that is being filled: nobody else takes it for empty."""
    try:
        with (place / _UNFINISHED).open("x") as file:
            file.write("A backup is being written here, or was cut short.\n")
    except FileExistsError:
        raise _not_empty(shown_as) from None
    except OSError:
        raise StorageError(f"'{shown_as}' cannot be written; check its permissions") from None


def move_up(target: Storage, directory: str, *, last: str) -> None:
    """Move all that lies in ``directory`` one floor up and remove it; ``last`` goes last.

    Until ``last`` is there, a crash leaves something that is not taken for finished.
    """
    made = target.absolute(directory)
    names = sorted((item.name for item in made.iterdir()), key=lambda name: name == last)
    try:
        for name in names:
            (made / name).rename(target.absolute(name))
        made.rmdir()
        _sync(target.base_directory)
    except OSError:
        raise StorageError(f"'{target.storage_id}' cannot be written") from None


def write_backup(target: Storage, backup: BackupFile) -> None:
    """Write ``backup.json``: from now on the directory is a backup."""
    backup.digest = backup.own_digest()
    target.write(BACKUP_NAME, msgspec.json.format(msgspec.json.encode(backup), indent=1))


def read_backup(place: Path, shown_as: str) -> tuple[Storage, BackupFile] | None:
    """Return the directory of a backup and its ``backup.json``; None if it is none.

    Raises
    ------
    CorruptError
        ``backup.json`` is damaged.
    StorageError
        It is of a newer format, or cannot be read.
    """
    try:
        if not (place / BACKUP_NAME).is_file():
            return None
    except (OSError, ValueError):
        return None
    source = Storage(shown_as, place)
    data = source.read(BACKUP_NAME) or b""
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise StorageError(
                f"The backup at '{shown_as}' was written by a newer KalamDB Lab (format {version}, "
                f"this one reads {FORMAT_VERSION}); upgrade kalamdb-lab"
            )
        backup = msgspec.json.decode(data, type=BackupFile)
    except msgspec.MsgspecError:
        raise damaged_backup(shown_as) from None
    if backup.digest != backup.own_digest():
        raise damaged_backup(shown_as)
    return source, backup


class _Version(msgspec.Struct):
    format_version: int


def copy_segment(
    source: Storage, meta: SegmentMeta, target: Storage, path: str, step: Step
) -> list[CopiedFile] | None:
    """Copy the files of a segment to ``path`` and beside it, and read the copy back.

    Returns
    -------
    list of CopiedFile or None
        None if the copy is not what the manifest says: the segment is damaged or gone.
    """
    files: list[CopiedFile] = []
    if meta.vectors:
        with target.writing_directory(vectors_path(path)) as directory:
            for file in _files(source, vectors_path(meta.path)):
                name = file.removeprefix(f"{vectors_path(meta.path)}/")
                with directory.writing(name) as sink:
                    copied = _copy(source, file, sink, step)
                files.append(CopiedFile(f"{vectors_path(path)}/{name}", *copied))
    with target.writing(path) as sink:
        files.append(CopiedFile(path, *_copy(source, meta.path, sink, step)))
    state = segment_state(target, replace(meta, path=path))
    return files if state is SegmentState.SOUND else None


def segment_files(storage: Storage, meta: SegmentMeta, step: Step) -> list[CopiedFile]:
    """Return the files of a segment that was just written into a backup."""
    files = [CopiedFile(meta.path, meta.size_bytes, meta.digest)]
    if meta.vectors:
        for path in _files(storage, vectors_path(meta.path)):
            step()
            data = storage.map(path) or b""
            files.append(CopiedFile(path, len(data), xxhash.xxh3_128_hexdigest(data)))
    return files


def verify_files(storage: Storage, segment: CopiedSegment, table: TableId, step: Step) -> None:
    """Compare the files of a segment in a backup with their digests.

    Raises
    ------
    CorruptError
        One is not what was written, or gone; the error names the table.
    """
    for file in segment.files:
        step()
        data = storage.map(file.path)
        if (
            data is None
            or data.size != file.size_bytes
            or xxhash.xxh3_128_hexdigest(data) != file.digest
        ):
            raise damaged_backup(storage.storage_id, str(table))


def _files(storage: Storage, directory: str) -> list[str]:
    return [file.path for file in storage.walk(directory) if not file.is_directory]


def _copy(source: Storage, path: str, sink: Any, step: Step) -> tuple[int, str]:
    """Copy a file, if it is there; return its size and digest."""
    digest = xxhash.xxh3_128()
    data = source.map(path)
    if data is None:
        return 0, digest.hexdigest()
    for start in range(0, data.size, _CHUNK_BYTES):
        step()
        part = data.slice(start, min(_CHUNK_BYTES, data.size - start))
        digest.update(part)
        sink.write(part)
    return data.size, digest.hexdigest()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
