"""A catalog that stands still: what a long read sees while others go on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NoReturn

from kalamdb_lab.errors import ReadOnlyError
from kalamdb_lab.store.log import HeldRead, ReadTransaction


class FrozenStore:
    """A `Store` as it was when ``held`` was opened; it takes no commits."""

    def __init__(self, held: HeldRead) -> None:
        self._held = held

    def data_version(self) -> int:
        return 0

    def read(self) -> AbstractContextManager[ReadTransaction]:
        return self._held.read()

    def hold(self) -> HeldRead:
        return self._held

    def write(self, *, wait_s: float | None = None) -> NoReturn:
        raise ReadOnlyError("The past cannot be written")

    def lease(self, node_id: int, seq: int, expires_us: int) -> NoReturn:
        self.write()

    def release(self, node_id: int, *, wait_s: float | None = None) -> NoReturn:
        self.write()

    def node_id(self) -> NoReturn:
        self.write()

    def close(self) -> None:
        """Let go of that moment."""
        self._held.close()
