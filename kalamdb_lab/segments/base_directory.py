"""The base directory of a storage: claimed for it alone, and given back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from kalamdb_lab.errors import NotEmptyError, StorageError

_OWN_NAMES = ("catalog.sqlite", "kalam.toml", "jobs.log", "node-")
"""What the names in a database directory begin with that are the database's own."""

MARK_NAME = ".kalam-storage"
_MARK = b"Segments of a KalamDB Lab database lie here. Nothing else should.\n"


@contextmanager
def claiming(
    base: Path, *, shown_as: str, with_parents: bool, owner: Path | None = None
) -> Iterator[None]:
    """Make a directory, or take one with nothing in it, and leave our mark there.

    One that holds the mark of the same database alone is taken too: a crash leaves it.

    A directory belongs to one storage of one database, which cleans up what it does not list.
    What was made is taken back if the block fails.

    Parameters
    ----------
    shown_as : str
        The path as the user wrote it, for errors.
    with_parents : bool
        Make the directories above it too.
    owner : Path or None
        The directory of the database, none of whose storages lies in ``base``; None: what is
        there already is not taken over.

    Raises
    ------
    NotEmptyError
        It holds something.
    StorageError
        It is no directory, or cannot be made or written.
    """
    missing = [place for place in (base, *base.parents) if not os.path.lexists(place)]
    if len(missing) > 1 and not with_parents:
        raise StorageError(
            f"PATH '{shown_as}' cannot be used: the directory it should lie in does not exist"
        )
    try:
        for place in reversed(missing):
            place.mkdir(exist_ok=True)
        mark = _MARK if owner is None else _mark_of(owner)
        if owner is None or not _is_left_behind(base, mark):
            if any(base.iterdir()):
                raise NotEmptyError(
                    f"PATH '{shown_as}' is not empty; choose a new or empty directory"
                )
            leave_mark(base, mark)
        for place in missing:
            _sync(place.parent)
    except NotADirectoryError:
        raise StorageError(f"PATH '{shown_as}' is not a directory") from None
    except OSError as error:
        _remove_empty(missing)
        raise StorageError(f"PATH '{shown_as}' cannot be used: {error.strerror}") from None
    try:
        yield
    except BaseException:
        with suppress(OSError):
            (base / MARK_NAME).unlink(missing_ok=True)
        _remove_empty(missing)
        raise


def release(base: Path) -> None:
    """Take our mark and all directories that hold nothing out of a base directory.

    What cannot be removed stays.
    """
    with suppress(OSError):
        (base / MARK_NAME).unlink(missing_ok=True)
    folders = [Path(folder) for folder, _, _ in os.walk(base, topdown=False)]
    _remove_empty(folder for folder in folders if folder != base)


def is_taken(place: Path, directory: Path) -> bool:
    """Return whether the database in ``directory`` keeps, or will keep, files of its own there."""
    base = Path(os.path.realpath(directory))
    try:
        first = Path(os.path.realpath(place)).relative_to(base).parts[:1]
    except ValueError:
        return False  # somewhere else
    return any(name.lower().startswith(_OWN_NAMES) for name in first)


def lies_within(inner: Path, outer: Path) -> bool:
    """Return whether a directory is another one or lies in it, by whatever names."""
    if Path(os.path.realpath(inner)).is_relative_to(os.path.realpath(outer)):
        return True
    try:
        # A file system may not tell capitals apart.
        wanted = outer.stat()
    except OSError:
        return False
    return any(_is_same(place, wanted) for place in (inner, *inner.parents))


def _is_same(place: Path, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(place.stat(), wanted)
    except OSError:  # nothing is there, or cannot be: a name may be too long
        return False


def leave_mark(base: Path, mark: bytes = _MARK) -> None:
    """Put a file into an empty base directory: it is then told from the place of another disk."""
    with (base / MARK_NAME).open("xb") as file:
        file.write(mark)
        file.flush()
        os.fsync(file.fileno())
    _sync(base)


def _mark_of(owner: Path) -> bytes:
    digest = xxhash.xxh3_128_hexdigest(os.fsencode(os.path.realpath(owner)))
    return _MARK + f"Database {digest}\n".encode()


def _is_left_behind(base: Path, mark: bytes) -> bool:
    """Return whether this mark is all that a directory holds."""
    return [place.name for place in base.iterdir()] == [MARK_NAME] and (
        base / MARK_NAME
    ).read_bytes() == mark


def _remove_empty(directories: Iterable[Path]) -> None:
    """Remove directories that hold nothing, in this order; leave the others."""
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
