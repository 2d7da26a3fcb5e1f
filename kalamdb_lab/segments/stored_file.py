"""What is known of a file of a storage, and of the room that a storage has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file or directory of a storage. ``path`` is relative to the base directory."""

    path: str
    is_directory: bool
    size_bytes: int
    modified_us: int
    state: tuple[int, ...] = ()
    """Differs once a file was replaced or changed, though its size and times be set back."""

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """Bytes of the disk that a storage lies on, free ones of them, and those of its files."""

    total_bytes: int
    free_bytes: int
    used_bytes: int
