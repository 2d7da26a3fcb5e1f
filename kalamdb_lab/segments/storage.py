"""Where segments lie: the only code that opens, lists, writes and deletes their files."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import pyarrow as pa

from kalamdb_lab.errors import KalamError, StorageError
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.segments.base_directory import leave_mark
from kalamdb_lab.segments.stored_file import StorageUsage, StoredFile
from kalamdb_lab.segments.templates import (
    DEFAULT_SHARDS,
    SHARED_TEMPLATE,
    USER_TEMPLATE,
    Templates,
)

T = TypeVar("T")

_TRIES = 3
_TEMPORARY = re.compile(r".+\.[0-9a-f]{8}\.tmp")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_ARROW_ERRNO = re.compile(r"\[errno (\d+)\]", re.IGNORECASE)


def is_temporary(name: str) -> bool:
    """Return whether a file or directory of this name is one that was never finished."""
    return _TEMPORARY.fullmatch(name) is not None


class Storage:
    """A directory that holds segments. Paths are relative to it, with ``/``, and stay inside.

    Writing is all or nothing: a file or directory appears under its name complete and durable,
    or not at all. What a crash leaves behind has a name that `is_temporary` knows.

    Parameters
    ----------
    storage_id : str
    base_directory : Path or str
        Must exist when files are written: an unmounted disk is not silently replaced.
    shared_template, user_template : str
        Directory of a partition, from ``{namespace}``, ``{tableName}``, ``{userId}``, ``{shard}``.
    shards : int
        Count of values of ``{shard}``.
    is_claimed : bool
        True if the base directory was claimed, so that there is something in it at all times: an
        empty one is the place of a disk that is not mounted.
    """

    def __init__(
        self,
        storage_id: str,
        base_directory: Path | str,
        *,
        shared_template: str = SHARED_TEMPLATE,
        user_template: str = USER_TEMPLATE,
        shards: int = DEFAULT_SHARDS,
        is_claimed: bool = False,
    ) -> None:
        self.storage_id = storage_id
        self.base_directory = Path(base_directory).absolute()
        self._is_claimed = is_claimed
        self._templates = Templates(shared_template, user_template, shards)

    def __repr__(self) -> str:
        return f"Storage({self.storage_id!r})"

    def create_base(self) -> None:
        """Make the base directory if it is missing."""
        with self._faults(writing=True):
            self.base_directory.mkdir(parents=True, exist_ok=True)
            _sync(self.base_directory.parent)
            if self._is_claimed and not any(self.base_directory.iterdir()):
                leave_mark(self.base_directory)

    def probe(self) -> None:
        """Write, read and delete a file; raises `StorageError` if one of them does not work."""
        name, data = f"probe.{secrets.token_hex(4)}.tmp", secrets.token_bytes(64)
        self.write(name, data)
        found = self.read(name)
        self.delete(name)
        if found != data:
            raise StorageError(f"Storage '{self.storage_id}' does not give back what was written")

    def usage(self) -> StorageUsage:
        """Return how much room there is and how much of it the storage takes."""
        used = sum(file.size_bytes for file in self.walk() if not file.is_directory)
        with self._faults():
            disk = shutil.disk_usage(self.base_directory)
        return StorageUsage(disk.total, disk.free, used)

    def directory(self, table_id: TableId, user: str | None = None) -> str:
        """Return where segments of a partition go; ``user`` is None for SHARED and SYSTEM."""
        return self._templates.directory(table_id, user)

    def absolute(self, path: str) -> Path:
        """Return the place of ``path`` on this machine; refuse one that leads out."""
        parts = path.split("/") if path else []
        if "\0" in path or "\\" in path or any(part in ("", ".", "..") for part in parts):
            raise StorageError(f"Storage '{self.storage_id}' holds no such file")
        return self.base_directory.joinpath(*parts)

    def stat(self, path: str) -> StoredFile | None:
        """Return what is known of a file or directory; None if there is none."""
        with self._faults():
            try:
                status = self.absolute(path).stat()
            except (FileNotFoundError, NotADirectoryError):
                self._require_base()
                return None
        return StoredFile(
            path,
            stat.S_ISDIR(status.st_mode),
            status.st_size,
            status.st_mtime_ns // 1_000,
            (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns),
        )

    def map(self, path: str) -> pa.Buffer | None:
        """Return a file's bytes, mapped and not copied; None if there is no such file."""
        with self._faults():
            try:
                with pa.memory_map(str(self.absolute(path)), "r") as source:
                    return source.read_buffer()
            except (FileNotFoundError, NotADirectoryError):
                self._require_base()
                return None

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes; None if there is no such file."""
        with self._faults():
            try:
                return self.absolute(path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                self._require_base()
                return None

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[pa.NativeFile]:
        """Give a file for reading that others may change or cut short meanwhile.

        Raises
        ------
        StorageError
            There is no such file, or it cannot be read.
        """
        # Not mapped: a mapped file that gets shorter ends the process.
        with self._faults(), pa.OSFile(str(self.absolute(path)), "rb") as source:
            yield source

    def glob(self, pattern: str) -> list[StoredFile]:
        """Return the files that a pattern names, by path; links are followed.

        ``*``, ``?`` and ``[...]`` match within a name and ``**`` any folders; names that begin
        with a dot only match a pattern that says the dot. A name that a file has is no pattern.
        Names that no path here may have are left out.

        Raises
        ------
        StorageError
            A file cannot be looked at.
        """
        with self._faults():
            paths = {pattern}
            if glob.has_magic(pattern) and not self._is_file(pattern):
                # pathlib would show hidden files.
                paths = set(glob.iglob(pattern, root_dir=self.base_directory, recursive=True))  # noqa: PTH207
            found = (self.stat(path) for path in sorted(paths) if self._is_file(path))
            return [file for file in found if file is not None]

    def _is_file(self, path: str) -> bool:
        """Return whether there is a regular file; a pipe or a device is none: it may never end."""
        if "\0" in path or "\\" in path:
            return False
        try:
            return self.absolute(path).is_file()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return False
            raise

    def walk(self, directory: str = "") -> Iterator[StoredFile]:
        """Return all files and directories below ``directory``, by name, parents first.

        What disappears meanwhile is left out. Symbolic links are not followed.
        """
        with self._faults():
            self._require_base()
            try:
                with os.scandir(self.absolute(directory)) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except (FileNotFoundError, NotADirectoryError):
                return
        for entry in entries:
            path = f"{directory}/{entry.name}" if directory else entry.name
            with self._faults():
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                is_directory = entry.is_dir(follow_symlinks=False)
            yield StoredFile(path, is_directory, status.st_size, status.st_mtime_ns // 1_000)
            if is_directory:
                yield from self.walk(path)

    def delete(self, path: str) -> None:
        """Delete a file, or a directory with all in it; fine if it is gone already."""
        target = self.absolute(path)
        if target == self.base_directory:
            raise StorageError(f"Storage '{self.storage_id}' holds no such file")
        with self._faults(writing=True):
            try:
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                else:
                    target.unlink()
                _sync(target.parent)
            except (FileNotFoundError, NotADirectoryError):
                self._require_base()

    def discard(self, path: str) -> None:
        """Delete, and leave it to a later clean-up if that fails."""
        with contextlib.suppress(StorageError):
            self.delete(path)

    def delete_empty(self, directory: str) -> None:
        """Delete a directory if nothing is in it, and those above it alike; never the base."""
        place = self.absolute(directory)
        with contextlib.suppress(OSError):  # something is in it, or it is gone
            while place != self.base_directory:
                place.rmdir()
                place = place.parent

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[pa.NativeFile]:
        """Give a sink whose content becomes the file ``path`` when the block ends well.

        Raises
        ------
        StorageError
            The disk is full, read-only or gone; nothing was changed then.
        """
        target = self.absolute(path)
        with self._faults(writing=True):
            temporary = _temporary(target)
            try:
                with self._made(temporary, lambda: pa.OSFile(str(temporary), "wb")) as sink:
                    yield sink
                _sync(temporary)
                temporary.replace(target)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            _sync(target.parent)

    def write(self, path: str, data: bytes) -> None:
        """Write a whole small file, atomically and durably."""
        with self.writing(path) as sink:
            sink.write(data)

    def write_first(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one; False if there may be: two may come at once."""
        draft = f"{path}.{secrets.token_hex(4)}.tmp"
        self.write(draft, data)
        try:
            self.absolute(path).hardlink_to(self.absolute(draft))
        except OSError:  # it is there, or the disk has no links
            return False
        finally:
            self.discard(draft)
        return True

    @contextlib.contextmanager
    def writing_directory(self, path: str) -> Iterator[NewDirectory]:
        """Give a directory to fill that becomes ``path`` when the block ends well.

        One that stands there already, left by a crash, is replaced.
        """
        target = self.absolute(path)
        with self._faults(writing=True):
            temporary = _temporary(target)
            try:
                self._made(temporary, temporary.mkdir)
                yield NewDirectory(temporary)
                for folder, _, _ in os.walk(temporary, topdown=False):
                    _sync(Path(folder))
                if target.exists():
                    doomed = _temporary(target)
                    target.rename(doomed)
                    temporary.rename(target)
                    shutil.rmtree(doomed)
                else:
                    temporary.rename(target)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            _sync(target.parent)

    def _made(self, place: Path, make: Callable[[], T]) -> T:
        """Make a file or directory, and those that it lies in."""
        for _ in range(_TRIES):
            # Somebody may delete the directory as an empty one just before something is in it.
            with contextlib.suppress(FileNotFoundError):
                self._make_directories(place.parent)
                return make()
        self._make_directories(place.parent)
        return make()

    def _make_directories(self, directory: Path) -> None:
        self._require_base()
        missing: list[Path] = []
        while directory != self.base_directory and not directory.is_dir():
            missing.append(directory)
            directory = directory.parent
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
            _sync(folder.parent)

    def _require_base(self) -> None:
        try:
            with os.scandir(self.base_directory) as entries:
                is_there = not self._is_claimed or next(entries, None) is not None
        except OSError:
            is_there = False
        if not is_there:
            raise StorageError(f"Storage '{self.storage_id}' is unreachable")

    @contextlib.contextmanager
    def _faults(self, *, writing: bool = False) -> Iterator[None]:
        """Word the errors of the operating system; its own ones name our paths."""
        try:
            yield
        except KalamError:
            raise
        except OSError as error:
            code = error.errno
            if code is None and (match := _ARROW_ERRNO.search(str(error))):
                code = int(match[1])
            if writing and code in _FULL:
                raise StorageError("The disk is full; nothing was changed") from None
            if writing and code in _READ_ONLY:
                raise StorageError(f"Storage '{self.storage_id}' is read-only") from None
            raise StorageError(f"Storage '{self.storage_id}' is unreachable") from None


class NewDirectory:
    """A directory that is being filled; nobody sees it yet."""

    def __init__(self, place: Path) -> None:
        self._place = place

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[IO[Any]]:
        """Give a binary file at ``path``, durable when the block ends."""
        target = self._place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())

    def write(self, path: str, data: bytes) -> None:
        """Write a whole small file."""
        with self.writing(path) as file:
            file.write(data)


def _temporary(target: Path) -> Path:
    return target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
