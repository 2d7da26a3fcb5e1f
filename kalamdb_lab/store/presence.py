"""Who has a database open: locks that the system takes back when their process ends."""

from __future__ import annotations

import fcntl
import os
import secrets
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

_PREFIX: Final = "node-"
_SUFFIX: Final = ".lock"
_held: weakref.WeakSet[Presence] = weakref.WeakSet()


class Presence:
    """One opening of a database directory, and which others are alive.

    Each opening holds a lock on a file of its own. The file may stay after a crash; the lock
    does not, so whoever can take it knows that its owner is gone. Nothing depends on a clock.

    Parameters
    ----------
    directory : Path
        Where the files are. If they cannot be locked there, each opening counts as alive for as
        long as its file stands; one whose file could not be written counts as gone.

    Attributes
    ----------
    node_id : str
        Names this opening, and no other one ever.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.node_id = secrets.token_hex(5)
        self._file: IO[bytes] | None = None
        # The name appears with the lock already taken: nobody can find it free in between.
        temporary = directory / f"{_PREFIX}{self.node_id}.tmp"
        with suppress(OSError):
            self._file = temporary.open("wb")
            with suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.rename(self._path(self.node_id))
        _held.add(self)

    def is_alive(self, node_id: str) -> bool:
        """Return whether that opening still exists, in whatever process."""
        if node_id == self.node_id:
            return True
        path = self._path(node_id)
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return False
        except OSError:  # BlockingIOError: it is held; another: nobody can tell
            return True
        return False

    def is_alone(self) -> bool:
        """Return whether nobody else has the database open; sweeps up after crashed ones."""
        alive = [node_id for node_id in self._others() if self.is_alive(node_id)]
        return not alive

    def leave(self) -> None:
        """Give the lock back: this opening is no more."""
        if self._file is not None:
            with suppress(OSError):
                self._path(self.node_id).unlink(missing_ok=True)
            self.abandon()

    def abandon(self) -> None:
        """Close this process' handle on the lock; another process may hold it on."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _others(self) -> list[str]:
        found = self._directory.glob(f"{_PREFIX}*{_SUFFIX}")
        names = [path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX) for path in found]
        return [name for name in names if name != self.node_id]

    def _path(self, node_id: str) -> Path:
        return self._directory / f"{_PREFIX}{node_id}{_SUFFIX}"


def _abandon_all() -> None:
    # A forked child must not hold on to what its parent's end would free.
    for presence in list(_held):
        presence.abandon()


os.register_at_fork(after_in_child=_abandon_all)
