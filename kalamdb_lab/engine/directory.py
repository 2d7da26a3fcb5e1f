"""The directory of a database: made, recognised, refused."""

from __future__ import annotations

from pathlib import Path

from kalamdb_lab.config import SETTINGS_FILE, Settings
from kalamdb_lab.errors import StorageError

CATALOG_FILE = "catalog.sqlite"
STORAGE_DIRECTORY = "storage"


def prepare_directory(directory: Path, shown_as: str, *, create: bool) -> None:
    """Make a new database directory, or check that an old one is one.

    Raises
    ------
    StorageError
        With the path as the user wrote it.
    """
    if directory.is_dir():
        if has_catalog(directory):
            return
        others = [item.name for item in directory.iterdir() if item.name != SETTINGS_FILE]
        if STORAGE_DIRECTORY in others:
            raise StorageError(
                f"'{shown_as}' has lost its catalog; run kalam check --rebuild to make it from "
                "the segments"
            )
        if others:
            raise StorageError(f"'{shown_as}' is not a KalamDB Lab database: it holds other files")
    elif directory.exists():
        raise StorageError(f"'{shown_as}' is a file, not a KalamDB Lab database directory")
    if not create:
        raise StorageError(f"There is no database at '{shown_as}'")
    try:
        directory.mkdir(exist_ok=True)
        (directory / STORAGE_DIRECTORY).mkdir(exist_ok=True)
        if not (directory / SETTINGS_FILE).exists():
            Settings.write_template(directory)
    except FileNotFoundError:
        raise StorageError(
            f"'{shown_as}' cannot be created: the directory it should lie in does not exist"
        ) from None
    except OSError as error:
        raise StorageError(f"'{shown_as}' cannot be created: {error.strerror}") from None


def has_catalog(directory: Path) -> bool:
    """Return whether there is a catalog; an empty file beside segments is what is left of one."""
    catalog, storage = directory / CATALOG_FILE, directory / STORAGE_DIRECTORY
    if not catalog.is_file():
        return False
    return catalog.stat().st_size > 0 or not storage.is_dir() or not any(storage.iterdir())


def check_is_database(directory: Path, shown_as: str) -> None:
    """Raise `StorageError` if a directory neither is nor was a database."""
    if directory.is_file():
        raise StorageError(f"'{shown_as}' is a file, not a KalamDB Lab database directory")
    if not directory.is_dir():
        raise StorageError(f"There is no database at '{shown_as}'")
    if not has_catalog(directory) and not (directory / STORAGE_DIRECTORY).is_dir():
        raise StorageError(f"'{shown_as}' is not a KalamDB Lab database")
