"""The catalog as a file: whether it is sound, a copy of it, and putting another in its place."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from kalamdb_lab.errors import CorruptError, StorageError
from kalamdb_lab.store.sqlite import APPLICATION_ID, SqliteStore, translated

_COMPANIONS = ("", "-wal", "-shm", "-journal")


def is_sound(path: Path, *, shown_as: str) -> bool:
    """Return whether the catalog can be read to the end; others may use it meanwhile.

    Raises
    ------
    StorageError
        It was written by a newer version, or cannot be read here at all: neither says that it
        is damaged.
    """
    if not path.is_file():
        return False
    try:
        return _passes_sqlite(path) and _can_be_read(path, shown_as)
    except CorruptError:
        return False


def copy_catalog(path: Path, copy: Path, *, shown_as: str) -> None:
    """Write the catalog as it is at one moment to the new file ``copy``; writers go on meanwhile.

    Leases and retired segments stay behind: whoever reads the original does not read the copy.

    Raises
    ------
    StorageError
        It cannot be read, or there is no room for the copy.
    CorruptError
        It is damaged.
    """
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.execute("PRAGMA busy_timeout=10000")
            source.backup(target)  # all pages in one step, which is one read transaction
            target.execute("DELETE FROM leases")
            target.execute("DELETE FROM segments WHERE retired_seq IS NOT NULL")
            target.commit()
        _sync(copy)
        _sync(copy.parent)
    except sqlite3.Error as error:
        raise translated(error, shown_as) from None
    except OSError:
        raise StorageError("The catalog could not be copied; check the permissions") from None


def replace_catalog(path: Path, new: Path) -> Path | None:
    """Put the closed catalog ``new`` at ``path``; return where the old one is kept, or None.

    The old file gets the name ``<path>.damaged-<n>``, and what SQLite kept beside it moves too.
    A crash in between leaves no catalog at ``path``, and the old one aside.

    Raises
    ------
    StorageError
        The directory cannot be written.
    """
    number = 1
    while any(_beside(_aside(path, number), end).exists() for end in _COMPANIONS):
        number += 1
    aside = _aside(path, number)
    moved = False
    try:
        for end in _COMPANIONS:
            if (old := _beside(path, end)).exists():
                old.rename(_beside(aside, end))
                moved = True
        new.rename(path)
        _sync(path.parent)
    except OSError:
        raise StorageError("The catalog could not be replaced; check the permissions") from None
    return aside if moved else None


def discard_catalog(path: Path) -> None:
    """Delete a catalog that was never put in place, if there is one."""
    for end in _COMPANIONS:
        _beside(path, end).unlink(missing_ok=True)


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged-{number}")


def _passes_sqlite(path: Path) -> bool:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA busy_timeout=10000")
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        if application_id != APPLICATION_ID:
            return False
        return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        if isinstance(error, sqlite3.OperationalError) and not name.startswith("SQLITE_CORRUPT"):
            raise StorageError("The catalog could not be read; check its permissions") from None
        return False  # no database, or a damaged one
    finally:
        connection.close()


def _can_be_read(path: Path, shown_as: str) -> bool:
    """Read every record that a table depends on; raises `CorruptError` where one is damaged."""
    store = SqliteStore(path, shown_as=shown_as)
    try:
        with store.read() as transaction:
            for _ in transaction.all_segments():
                pass
            transaction.last_seq()
        return True
    finally:
        store.close()


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
