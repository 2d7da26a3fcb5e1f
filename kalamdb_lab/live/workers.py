"""The live results of one database: what changed for which, and the threads that evaluate."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import ClosedError, KalamError
from kalamdb_lab.live.ends import DATABASE_CLOSED
from kalamdb_lab.live.evaluation import Evaluator, LiveQuery
from kalamdb_lab.live.following import Following, checked_throttle_s
from kalamdb_lab.live.registrations import LISTED, Registrations
from kalamdb_lab.live.results import LiveResult
from kalamdb_lab.live.row_keys import checked_key, row_key
from kalamdb_lab.partitions.change_feed import ChangeFeed
from kalamdb_lab.partitions.changes import Change, ChangeReader, Watched
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Interruption

POLL_S: Final = 1.0
"""How often is read what nobody tells changes of, and what failed for others' reasons."""
THREADS: Final = 2
_JOIN_S: Final = 5.0

_live_numbers = itertools.count(1)


@dataclass(slots=True, eq=False)
class _Entry:
    """One live result as its threads see it; they do not keep it alive."""

    ref: weakref.ref[LiveResult]
    live_id: str
    throttle_s: float
    wanted: frozenset[Watched] = frozenset()
    begun_s: float = float("-inf")
    due_s: float | None = None
    is_running: bool = False
    is_begun: bool = False
    expires_us: int | None = None
    polled_s: float = field(default_factory=time.monotonic)


class LiveResults:
    """Makes live results and evaluates them when what they read changes.

    Each is evaluated by one thread at a time, and begun at most once in ``throttle_s``; what
    changes meanwhile is seen by one more evaluation. There are no threads while nothing is live.

    Parameters
    ----------
    registrations : Registrations
        The rows of ``system.live_queries``.
    threads : int
        How many evaluate at the same time.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        log: CommitLog,
        queries: Queries,
        catalog: Catalog,
        changes: ChangeReader,
        clock: Clock,
        registrations: Registrations,
        *,
        threads: int = THREADS,
    ) -> None:
        self._registrations = registrations
        self._must_write = False
        self._log = log
        self._queries = queries
        self._catalog = catalog
        self._changes = changes
        self._clock = clock
        self._threads = threads
        self._watch = feed.watch(self)
        self._watching = threading.Lock()
        self._state = threading.Condition()
        self._entries: dict[int, _Entry] = {}
        self._by_wanted: dict[Watched, set[int]] = {}
        self._forgotten: deque[int] = deque()
        self._workers: list[threading.Thread] = []
        self._is_closed = False
        self._pid = os.getpid()

    def follow(
        self,
        query: LiveQuery,
        *,
        key: object,
        throttle_s: float,
        interruption: Interruption,
        holds: object,
    ) -> LiveResult:
        """Return a live result, evaluated for the first time in this thread.

        Parameters
        ----------
        key : sequence of str or None
            The columns that tell rows apart.
        throttle_s : float
            Evaluations begin at least so far apart.
        interruption : Interruption
            Of the later evaluations.
        holds : object
            What must live as long: the session.

        Raises
        ------
        KalamError
            What the query raises; InvalidOptionError, NotFoundError and DuplicateKeyError for a
            key that is none.
        """
        names = checked_key(key)
        throttle_s = checked_throttle_s(throttle_s)
        number = next(_live_numbers)
        evaluator = Evaluator(
            query,
            self._queries,
            self._catalog,
            self._log,
            self._changes,
            partial(self._follow, number),
        )
        live = LiveResult(evaluator, self, interruption, number=number, holds=holds)
        ref = weakref.ref(live, partial(_note_gone, self._forgotten, number))
        with self._state:
            if self._is_closed:
                raise ClosedError("The database is closed")
            self._entries[number] = entry = _Entry(ref, live.live_id, throttle_s)
        try:
            live.begin(names, self._key_of, is_ordered=bool(query.tree.args.get("order")))
            self._register(live, evaluator, entry.throttle_s)
        except BaseException:
            self._discard([number])
            raise
        if live.ended is not None:  # before it was listed
            self._registrations.remove(live.live_id)
            self._write()
        with self._state:
            entry.is_begun = True
            entry.begun_s = time.monotonic()
            entry.expires_us = live.expires_us
            self._start()
            if entry.due_s is not None:
                entry.due_s = entry.begun_s + entry.throttle_s
            self._state.notify_all()
        return live

    def _key_of(self, evaluator: Evaluator, columns: Sequence[str]) -> tuple[int, ...] | None:
        query, plan = evaluator.query, evaluator.plan
        if plan is None:
            return None
        return row_key(query.tree, plan, self._catalog, query.namespace, columns)

    def _register(self, live: LiveResult, evaluator: Evaluator, throttle_s: float) -> None:
        """List it in ``system.live_queries``, by which it can be killed."""
        listed = evaluator.listed(live.live_id, self._registrations.node_id, throttle_s)
        self._registrations.add(listed, partial(self._kill, live.number))

    def _kill(self, number: int) -> None:
        with self._state:
            entry = self._entries.get(number)
        live = None if entry is None else entry.ref()
        if live is not None and entry is not None:
            live.kill()
            with self._state:
                entry.begun_s = float("-inf")
            self._schedule([number])

    def ended(self, live: Following) -> None:
        """Watch nothing for a live result any more."""
        if os.getpid() == self._pid:
            self._discard([live.number])
            self._write()

    def _write(self) -> None:
        with suppress(KalamError):  # with a database that is closed nobody reads them
            self._registrations.write()

    def close(self, *, wait_s: float | None = None) -> None:
        """End all of them, and their threads; with a time for that, tell nobody."""
        if os.getpid() != self._pid:
            return
        with self._state:
            self._is_closed = True
        for live in self._living():
            live.end(DATABASE_CLOSED) if wait_s is None else live.kill()
        with self._state:
            workers = list(self._workers)
            self._state.notify_all()
        for worker in workers:
            if worker is not threading.current_thread():
                # No longer than that: a listener may wait for whoever closes.
                worker.join(_JOIN_S if wait_s is None else wait_s)

    def _living(self) -> list[LiveResult]:
        with self._state:
            found = [entry.ref() for entry in self._entries.values()]
        return [live for live in found if live is not None]

    # --- what is watched ------------------------------------------------------------------------

    def _follow(self, number: int, wanted: frozenset[Watched]) -> None:
        """Watch what a live result depends on now, from the newest commit on."""
        with self._watching:
            entry = self._entries.get(number)
            if entry is None:
                return
            wanted |= {LISTED}
            before = entry.wanted
            for item in wanted - before:
                self._watch.add(item)  # which may fail: each is noted when it is watched
                with self._state:
                    entry.wanted |= {item}
                    self._by_wanted.setdefault(item, set()).add(number)
            self._unwatch(number, before - wanted)
            entry.wanted = wanted

    def _discard(self, numbers: Collection[int]) -> None:
        with self._watching:
            for number in numbers:
                with self._state:
                    entry = self._entries.pop(number, None)
                    self._state.notify_all()
                if entry is not None:
                    self._registrations.remove(entry.live_id)
                    self._unwatch(number, entry.wanted)

    def _unwatch(self, number: int, wanted: Collection[Watched]) -> None:
        with self._state:
            for item in wanted:
                numbers = self._by_wanted.get(item, set())
                numbers.discard(number)
                if not numbers:
                    self._by_wanted.pop(item, None)
        for item in wanted:
            self._watch.discard(item)

    # --- what the feed tells, on its thread -----------------------------------------------------

    def changed(self, changes: list[Change]) -> None:
        """Take note of changes; see `Watcher`."""
        touched: set[int] = set()
        for change in changes:
            with self._state:
                numbers = {
                    number
                    for item in (change.partition, change.partition.table_key)
                    for number in self._by_wanted.get(item, ())
                }
                entries = [(n, self._entries[n]) for n in numbers if n in self._entries]
            for number, entry in entries:
                live = entry.ref()
                if live is not None and live.note(change):
                    touched.add(number)
            if change.partition == LISTED and (change.rows is None or change.rows.deleted):
                with suppress(KalamError):  # it is looked at again with the next one
                    self._registrations.look()
        self._schedule(touched)

    def lost(self) -> None:
        """Read everything anew: changes were missed."""
        living = self._living()
        for live in living:
            live.forget()
        self._schedule([live.number for live in living])

    def tick(self) -> None:
        """Evaluate what is due by the clock, and let go of what nobody holds any more."""
        gone = []
        while self._forgotten:
            gone.append(self._forgotten.popleft())
        if gone:
            self._discard(gone)
            with self._state:
                self._must_write = True
                self._state.notify_all()
        now_s, now_us = time.monotonic(), self._clock.now_us()
        due: list[tuple[int, LiveResult | None, bool]] = []
        with self._state:
            for number, entry in self._entries.items():
                is_expired = entry.expires_us is not None and entry.expires_us <= now_us
                if is_expired:
                    entry.expires_us = None
                elif now_s - entry.polled_s < POLL_S:
                    continue
                entry.polled_s = now_s
                due.append((number, entry.ref(), is_expired))
        again = set()
        for number, live, is_expired in due:
            if live is not None and (is_expired or live.is_untold):
                live.forget()
                again.add(number)
        self._schedule(again)

    # --- the threads ----------------------------------------------------------------------------

    def _schedule(self, numbers: Collection[int]) -> None:
        if not numbers:
            return
        with self._state:
            now_s = time.monotonic()
            for number in numbers:
                entry = self._entries.get(number)
                if entry is not None and entry.due_s is None:
                    entry.due_s = max(now_s, entry.begun_s + entry.throttle_s)
            self._state.notify_all()

    def _start(self) -> None:
        while len(self._workers) < self._threads:
            # What waits must not keep a database alive that everybody else forgot.
            worker = threading.Thread(
                target=_run,
                args=(weakref.ref(self), self._state),
                name=f"kalam-live-{len(self._workers) + 1}",
                daemon=True,
            )
            self._workers.append(worker)
            worker.start()

    def _evaluate(self, entry: _Entry) -> None:
        live = entry.ref()
        if live is not None:
            changes = live.changes
            live.refresh()
            if live.changes > changes and LISTED not in live.reads:
                # Counting those of the list itself would be a change of it, for ever.
                self._registrations.count(live.live_id, live.changes, live.seq)
            with self._state:
                entry.expires_us = live.expires_us
            del live
        with self._state:
            entry.is_running = False
            if entry.due_s is not None:
                entry.due_s = max(entry.due_s, entry.begun_s + entry.throttle_s)
            self._must_write = self._must_write or self._registrations.is_due()
            self._state.notify_all()

    def next(self) -> tuple[Callable[[], None] | None, float | None]:
        """Return what is due now, or how long nothing will be; called within the lock.

        Both are None if only a change can make it due; a time below zero ends the thread.
        """
        if self._must_write and not self._is_closed:
            self._must_write = False
            return self._write, None
        if self._is_closed or not self._entries:
            self._workers.remove(threading.current_thread())
            return None, -1.0
        waiting = [
            entry
            for entry in self._entries.values()
            if entry.due_s is not None and entry.is_begun and not entry.is_running
        ]
        first = min(waiting, key=lambda entry: entry.due_s or 0.0, default=None)
        if first is None or first.due_s is None:
            return None, None
        now_s = time.monotonic()
        if first.due_s > now_s:
            return None, first.due_s - now_s
        first.due_s, first.is_running, first.begun_s = None, True, now_s
        return partial(self._evaluate, first), None


def _run(owner_ref: weakref.ref[LiveResults], state: threading.Condition) -> None:
    while True:
        with state:
            owner = owner_ref()
            if owner is None:
                return
            work, wait_s = owner.next()
            del owner
            if work is None:
                if wait_s is not None and wait_s < 0:
                    return
                state.wait(wait_s)
                continue
        work()
        del work


def _note_gone(forgotten: deque[int], number: int, _: object) -> None:
    """Remember a live result that was collected, wherever that happened: under any lock."""
    forgotten.append(number)
