"""The tail of the commit log: changes of all processes, in order, for whoever watches a table."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import Counter, deque
from typing import Final, Protocol

from kalamdb_lab.errors import BusyError, ClosedError, KalamError, StorageError
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.partitions.changes import Change, Watched
from kalamdb_lab.partitions.commit_log import CommitLog

_logger = logging.getLogger(__name__)

POLL_S: Final = 0.01
"""How often the log is looked at for commits of other processes while anybody watches."""


class Watcher(Protocol):
    """Who is told of changes; always on the feed's one thread, one call at a time."""

    def changed(self, changes: list[Change]) -> None:
        """Take note of changes in the order of the log; must not wait for anything."""
        ...

    def lost(self) -> None:
        """Take note that changes were missed: they were trimmed from the log, or damaged."""
        ...

    def tick(self) -> None:
        """Do what is due; called after each look at the log, changes or not."""
        ...


class Watch:
    """What one watcher watches. Made by `ChangeFeed.watch`."""

    def __init__(self, feed: ChangeFeed, watcher: Watcher) -> None:
        self._feed = feed
        self.watcher = watcher
        self.wanted: Counter[Watched] = Counter()
        self.since: dict[Watched, int] = {}

    def add(self, wanted: Watched) -> int:
        """Watch a partition, or all of a table, once more; return from which number on.

        Call it within `CommitLog.at_newest` with the partition, to have a snapshot and all later
        changes without a gap. Watchers that need old rows name partitions: those are kept loaded.
        """
        return self._feed.add(self, wanted)

    def discard(self, wanted: Watched) -> None:
        """Watch it once less."""
        self._feed.discard(self, wanted)

    def close(self) -> None:
        """Watch nothing any more."""
        self._feed.forget(self)

    def concerns(self, change: Change) -> bool:
        """Return whether the watcher is to be told of a change."""
        for wanted in (change.partition, change.partition.table_key):
            since = self.since.get(wanted)
            if since is not None and change.seq > since:
                return True
        return False


class ChangeFeed:
    """Reads the log behind its writers and tells watchers, on one thread while there are any.

    Commits of this process wake it at once, those of others are found every 10 ms. A commit costs
    nothing more while nobody watches, and a few dictionary accesses while somebody does.
    """

    def __init__(self, log: CommitLog, *, poll_s: float = POLL_S) -> None:
        self._log = log
        self._poll_s = poll_s
        self._watches: list[Watch] = []
        self._pending: deque[Change] = deque()
        self._is_reading = False
        self._is_lost = False
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, watcher: Watcher) -> Watch:
        """Return a watch of nothing yet."""
        return Watch(self, watcher)

    def wake(self) -> None:
        """Let the watchers' `Watcher.tick` come now rather than with the next look."""
        self._wake.set()

    def add(self, watch: Watch, wanted: Watched) -> int:
        """Add to a watch; see `Watch.add`."""
        with self._log.at_newest() as seq:
            if not watch.wanted[wanted]:
                watch.since[wanted] = seq
                self._log.watched.add(wanted, self)
                if isinstance(wanted, PartitionKey):
                    self._log.partition(wanted)
            watch.wanted[wanted] += 1
            with self._lock:
                if watch not in self._watches:
                    self._watches = [*self._watches, watch]
                self._start()
            return seq

    def discard(self, watch: Watch, wanted: Watched) -> None:
        """Take from a watch; see `Watch.discard`."""
        with self._log.at_rest():
            watch.wanted[wanted] -= 1
            if watch.wanted[wanted] > 0:
                return
            del watch.wanted[wanted]
            if watch.since.pop(wanted, None) is not None:
                self._log.watched.discard(wanted)
            if not watch.wanted:
                self._remove(watch)

    def forget(self, watch: Watch) -> None:
        """End a watch."""
        with self._log.at_rest():
            for wanted in watch.since:
                self._log.watched.discard(wanted)
            watch.wanted.clear()
            watch.since = {}
            self._remove(watch)

    def close(self, *, wait_s: float | None = None) -> None:
        """Tell nobody anything more, and end the thread; wait no longer than ``wait_s`` for it."""
        with self._lock:
            self._closed = True
            self._watches = []
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(wait_s)

    def _remove(self, watch: Watch) -> None:
        with self._lock:
            self._watches = [known for known in self._watches if known is not watch]
        self._wake.set()

    # --- what the log tells, under its lock ---------------------------------------------------

    def take(self, change: Change) -> None:
        """Take over a change; called by the log, in order."""
        if not self._is_reading:
            # Files that old rows are read from stay until they have been: also while watchers
            # are told of earlier changes, which are pending no more.
            self._is_reading = True
            self._log.read_since(self, change.seq - 1)
        self._pending.append(change)
        self._wake.set()

    def lose(self) -> None:
        """Take note that entries were trimmed before this process saw them."""
        self._is_lost = True
        self._wake.set()

    # --- the thread ---------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            # The thread must not keep a feed alive that everybody else forgot.
            self._thread = threading.Thread(
                target=_run, args=(weakref.ref(self), self._wake), name="kalam-live", daemon=True
            )
            self._thread.start()

    def step(self) -> bool:
        """Look at the log once and tell the watchers; return whether any are left."""
        is_damaged = False
        try:
            with self._log.at_newest():
                pass
        except (BusyError, ClosedError, StorageError):
            pass  # it is looked at again soon
        except KalamError:
            is_damaged = True  # what cannot be read is told by whoever reads next
        changes: list[Change] = []
        with self._log.at_rest():
            while self._pending:
                changes.append(self._pending.popleft())
            is_lost, self._is_lost = self._is_lost or is_damaged, False
        for watch in self._watches:
            self._tell(watch, [change for change in changes if watch.concerns(change)], is_lost)
        del changes
        with self._log.at_rest():
            self._is_reading = bool(self._pending)
            self._log.read_since(self, self._pending[0].seq - 1 if self._pending else None)
        with self._lock:
            if self._watches:
                return True
            self._thread = None
            return False

    def _tell(self, watch: Watch, changes: list[Change], is_lost: bool) -> None:
        """Tell one watcher; a fault of ours in it costs that one its place, and not the others."""
        try:
            if is_lost:
                watch.watcher.lost()
            elif changes:
                watch.watcher.changed(changes)
            watch.watcher.tick()
        except Exception:  # the thread must outlive what it calls
            _logger.exception("A reader of changes failed")
            try:
                watch.watcher.lost()
            except Exception:
                _logger.exception("A reader of changes could not go on")
                self.forget(watch)

    @property
    def poll_s(self) -> float:
        """How long the thread sleeps at most between two looks."""
        return self._poll_s


def _run(feed_ref: weakref.ref[ChangeFeed], wake: threading.Event) -> None:
    while (feed := feed_ref()) is not None and feed.step():
        poll_s = feed.poll_s
        del feed
        wake.wait(poll_s)
        wake.clear()
