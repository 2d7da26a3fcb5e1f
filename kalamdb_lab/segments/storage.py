"""Where segments lie: the only code that opens, lists, writes and deletes their files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import xxhash

from kalamdb_lab.errors import InvalidOptionError, KalamError, StorageError
from kalamdb_lab.model.ids import TableId

SHARED_TEMPLATE = "{namespace}/{tableName}"
USER_TEMPLATE = "{namespace}/{tableName}/{userId}"
DEFAULT_SHARDS = 16

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST_VALUE = 120
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\*?\[\]~%]")
_TEMPORARY = re.compile(r".+\.[0-9a-f]{8}\.tmp")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_ARROW_ERRNO = re.compile(r"\[errno (\d+)\]", re.IGNORECASE)


def encoded(value: str) -> str:
    """Return ``value`` as part of a path that no other value shares, on any file system.

    All bytes but ``a-z 0-9 _ -`` are percent-encoded: a dot could climb out of the directory, and
    capitals would meet small letters where a file system does not tell them apart. What is then
    too long for a file name is cut and ends in ``~`` and a SHA-256.
    """
    raw = value.encode("utf-8", "surrogatepass")
    text = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    if len(text) <= _LONGEST_VALUE:
        return text
    digest = hashlib.sha256(raw).hexdigest()
    return text[: _LONGEST_VALUE - len(digest) - 1].rsplit("%", 1)[0] + "~" + digest


def is_temporary(name: str) -> bool:
    """Return whether a file or directory of this name is one that was never finished."""
    return _TEMPORARY.fullmatch(name) is not None


def checked_template(name: str, template: str) -> str:
    """Return the template of SHARED_TABLES_TEMPLATE or USER_TABLES_TEMPLATE, or refuse it."""
    is_user = name == "USER_TABLES_TEMPLATE"
    if _UNFIT.search(template) or any(part in ("", ".", "..") for part in template.split("/")):
        raise InvalidOptionError(f"{name} must be a relative path without '..'")
    found = _PLACEHOLDER.findall(template)
    literals = _PLACEHOLDER.sub("\0", template).split("\0")
    if any("{" in literal or "}" in literal for literal in literals):
        raise InvalidOptionError(f"{name} contains a brace that is not part of a placeholder")
    allowed = {"namespace", "tableName"} | ({"userId", "shard"} if is_user else set())
    for placeholder in found:
        if placeholder not in allowed:
            raise InvalidOptionError(f"{name} does not take {{{placeholder}}}")
        if found.count(placeholder) > 1:
            raise InvalidOptionError(f"{name} contains {{{placeholder}}} twice")
    order = [placeholder for placeholder in found if placeholder != "shard"]
    for placeholder in ("namespace", "tableName", "userId")[: 3 if is_user else 2]:
        if placeholder not in order:
            raise InvalidOptionError(f"{name} must contain {{{placeholder}}}")
    if order.index("namespace") > order.index("tableName"):
        raise InvalidOptionError(f"{name} must contain {{namespace}} before {{tableName}}")
    if is_user and order[-1] != "userId":
        raise InvalidOptionError(f"{name} must contain {{tableName}} before {{userId}}")
    # "ab" + "c" and "a" + "bc" must not meet in one directory.
    if any(re.search(r"[^A-Za-z0-9_]", literal) is None for literal in literals[1:-1]):
        raise InvalidOptionError(f"{name} must separate its placeholders, as in {USER_TEMPLATE}")
    return template


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file or directory of a storage. ``path`` is relative to the base directory."""

    path: str
    is_directory: bool
    size_bytes: int
    modified_us: int

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


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
    """

    def __init__(
        self,
        storage_id: str,
        base_directory: Path | str,
        *,
        shared_template: str = SHARED_TEMPLATE,
        user_template: str = USER_TEMPLATE,
        shards: int = DEFAULT_SHARDS,
    ) -> None:
        self.storage_id = storage_id
        self.base_directory = Path(base_directory).absolute()
        self._shared_template = checked_template("SHARED_TABLES_TEMPLATE", shared_template)
        self._user_template = checked_template("USER_TABLES_TEMPLATE", user_template)
        self._shards = shards

    def __repr__(self) -> str:
        return f"Storage({self.storage_id!r})"

    def create_base(self) -> None:
        """Make the base directory if it is missing."""
        with self._faults(writing=True):
            self.base_directory.mkdir(parents=True, exist_ok=True)
            _sync(self.base_directory.parent)

    def directory(self, table_id: TableId, user: str | None = None) -> str:
        """Return where segments of a partition go; ``user`` is None for SHARED and SYSTEM."""
        values = {"namespace": encoded(table_id.namespace), "tableName": encoded(table_id.name)}
        if user is None:
            template = self._shared_template
        else:
            template = self._user_template
            shard = xxhash.xxh3_64_intdigest(user.encode("utf-8", "surrogatepass")) % self._shards
            values |= {"userId": encoded(user), "shard": f"shard_{shard}"}
        return _PLACEHOLDER.sub(lambda match: values[match[1]], template)

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
            path, stat.S_ISDIR(status.st_mode), status.st_size, status.st_mtime_ns // 1_000
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
                return

    def discard(self, path: str) -> None:
        """Delete, and leave it to a later clean-up if that fails."""
        with contextlib.suppress(StorageError):
            self.delete(path)

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
            self._make_directories(target.parent)
            temporary = _temporary(target)
            try:
                with pa.OSFile(str(temporary), "wb") as sink:
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

    @contextlib.contextmanager
    def writing_directory(self, path: str) -> Iterator[NewDirectory]:
        """Give a directory to fill that becomes ``path`` when the block ends well.

        One that stands there already, left by a crash, is replaced.
        """
        target = self.absolute(path)
        with self._faults(writing=True):
            self._make_directories(target.parent)
            temporary = _temporary(target)
            try:
                temporary.mkdir()
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
        if not self.base_directory.is_dir():
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
