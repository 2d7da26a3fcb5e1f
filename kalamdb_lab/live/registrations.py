"""Rows of ``system.live_queries``: one for each open live query, of whatever process."""

from __future__ import annotations

import secrets
import string
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.system_tables import LIVE_QUERIES
from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import KalamError, NotFoundError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.entities import LiveQuery
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.roles import Role
from kalamdb_lab.partitions.commit import Commit, RowCommit
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.store.presence import Presence

LISTED: Final = PartitionKey(LIVE_QUERIES.table_key, "")
"""The partition of the rows."""

_ID_CHARACTERS: Final = string.digits + string.ascii_letters
_ID_LENGTH: Final = 8
_WRITE_EVERY_S: Final = 1.0
_PATIENCE_S: Final = 1.0

Killed = Callable[[], None]
"""Is called once when the row is gone and the live query did not end itself."""


def new_live_id() -> str:
    """Return an id that nobody can guess and that no two live queries share but by a miracle."""
    return "LQ-" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))


@dataclass(slots=True)
class _Count:
    changes: int
    last_seq: int


class Registrations:
    """The rows of this opening's live queries, written when they begin and end.

    How many changes each was told is written behind, once a second at most, and by `write`.
    """

    def __init__(self, catalog: Catalog, log: CommitLog, presence: Presence, clock: Clock) -> None:
        self._catalog = catalog
        self._log = log
        self._presence = presence
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._open: dict[str, Killed] = {}
        self._ended: set[str] = set()
        self._counts: dict[str, _Count] = {}
        self._next_write_s = 0.0
        self._retry_s = 0.0

    @property
    def node_id(self) -> str:
        """What rows of this opening are marked with."""
        return self._presence.node_id

    def add(self, entry: LiveQuery, killed: Killed) -> None:
        """Commit the row of a live query that begins.

        Raises
        ------
        BusyError, StorageError
            There is no row then.
        """
        with self._log.commit() as commit:
            self._catalog.live_queries.put(commit, replace(entry, created_at_us=commit.at_us))
        with self._lock:
            self._open[entry.live_id] = killed

    def remove(self, live_id: str) -> None:
        """Let the row of a live query that ended go with the next `write`."""
        with self._lock:
            if self._open.pop(live_id, None) is not None:
                self._ended.add(live_id)
            self._counts.pop(live_id, None)

    def count(self, live_id: str, changes: int, last_seq: int) -> None:
        """Take note of how many changes a live query was told, and up to which number."""
        with self._lock:
            self._counts[live_id] = _Count(changes, last_seq)

    def is_due(self) -> bool:
        """Return whether something waits to be written, and long enough."""
        now_s = time.monotonic()
        waits = self._ended or (self._counts and now_s >= self._next_write_s)
        return bool(waits) and now_s >= self._retry_s

    def write(self, *, wait_s: float | None = _PATIENCE_S) -> None:
        """Commit what waits, if anything does; what cannot be written now waits on."""
        if not (self._ended or self._counts):
            return
        if not self._writing.acquire(timeout=_PATIENCE_S):
            return
        try:
            with self._lock:
                ended, self._ended = self._ended, set()
                counts, self._counts = self._counts, {}
            self._next_write_s = time.monotonic() + _WRITE_EVERY_S
            try:
                # No part of the statement that runs in this thread: it may be undone.
                with self._log.statement(staging=_nothing), self._log.commit(wait_s=wait_s) as c:
                    self._stage(c, ended, counts)
            except KalamError:
                self._retry_s = time.monotonic() + _WRITE_EVERY_S
                with self._lock:
                    self._ended |= ended
                    self._counts = {
                        live_id: count for live_id, count in counts.items() if live_id in self._open
                    } | self._counts
        finally:
            self._writing.release()

    def _stage(self, commit: Commit, ended: set[str], counts: dict[str, _Count]) -> None:
        store = self._catalog.live_queries
        known = store.all()
        counted = [
            replace(
                known[live_id],
                changes=count.changes,
                last_seq=count.last_seq,
                last_update_us=commit.at_us,
            )
            for live_id, count in counts.items()
            if live_id in known and live_id not in ended
        ]
        store.change(commit, put=counted, deleted=ended & known.keys())

    def refresh(self) -> None:
        """Bring the rows up to date before somebody reads them."""
        if self._writing.acquire(timeout=_PATIENCE_S):  # what is being written is not there yet
            self._writing.release()
        self.write()
        with suppress(KalamError):
            self.remove_abandoned()

    def remove_abandoned(self) -> int:
        """Commit the end of the live queries whose process is gone; return how many.

        Raises
        ------
        BusyError, StorageError
            They are still listed then.
        """
        if not self._abandoned():
            return 0
        with self._log.statement(staging=_nothing), self._log.commit() as commit:
            found = self._abandoned()
            self._catalog.live_queries.change(commit, deleted=found)
        return len(found)

    def _abandoned(self) -> list[str]:
        entries = self._catalog.live_queries.all()
        others = {entry.node_id for entry in entries.values()} - {self.node_id}
        gone = {node_id for node_id in others if not self._presence.is_alive(node_id)}
        return [live_id for live_id, entry in entries.items() if entry.node_id in gone]

    def kill(self, live_id: str, context: ExecutionContext) -> None:
        """Commit the end of a live query, of whatever process; see `look`.

        Raises
        ------
        NotFoundError
            There is none with this id that the user may end.
        """
        with self._log.commit() as commit:
            entry = self._catalog.live_queries.get(live_id)
            is_own = entry is not None and entry.user_id == context.user_id
            is_ended = live_id in self._ended or entry is None
            if is_ended or not (is_own or context.role >= Role.DBA):
                raise NotFoundError("Live query", live_id[:64])
            self._catalog.live_queries.delete(commit, live_id)
        self.look()

    def look(self) -> None:
        """Tell the live queries whose rows are gone that they were killed."""
        with self._lock:
            # Under the lock: one that is added meanwhile is not taken for killed.
            mine = list(self._open)
        listed = self._catalog.live_queries.all()
        for live_id in mine:
            if live_id not in listed:
                with self._lock:
                    killed = self._open.pop(live_id, None)
                    self._counts.pop(live_id, None)
                if killed is not None:
                    killed()


def _nothing(_: RowCommit) -> None:
    """Stage nothing more."""
