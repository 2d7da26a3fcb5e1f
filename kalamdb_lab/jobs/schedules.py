"""What runs without a statement while a database is open: policies, retention, TTL, orphans."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import (
    BusyError,
    ClosedError,
    CorruptError,
    JobRunningError,
    KalamError,
)
from kalamdb_lab.jobs.ages import TableAges
from kalamdb_lab.jobs.cleanup import CleanUp
from kalamdb_lab.jobs.due import NEVER_US, flush_due_us, kept_us, key_of, pause_us, ready_us
from kalamdb_lab.jobs.executors import ORPHANS, TASK, table_parameters
from kalamdb_lab.jobs.failures import reason_of
from kalamdb_lab.jobs.housekeeping import Housekeeping
from kalamdb_lab.jobs.indexes import INDEX, IndexNeeds, index_job_key
from kalamdb_lab.jobs.journal import JobJournal
from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.model.ids import ROOT_USER
from kalamdb_lab.model.jobs import Job, JobKind
from kalamdb_lab.model.tables import FlushPolicy, TableDef, TableKind, VectorIndex
from kalamdb_lab.partitions.hot_tally import HotTally
from kalamdb_lab.store.log import Store
from kalamdb_lab.store.presence import Presence

_ORPHANS_KEY: Final = "cleanup:orphans"
_TICK_S: Final = 1.0
_ORPHANS_AFTER_S: Final = 5.0
"""So long after the open files are looked through; by then a short visit is over."""


class _StoppedError(Exception):
    """The database closes; never leaves this module."""


class Schedules:
    """Makes jobs when they are due, and what is too small for a job it does itself.

    A thread looks once a second while the database is open in this process. Each process looks,
    and one of them makes the job: whether it is due is asked once more inside the commit that
    makes it.

    Parameters
    ----------
    default_policy : FlushPolicy or None
        Of tables without one; None if they are flushed by statements alone.

    Notes
    -----
    A look costs some microseconds when nobody committed and nothing came due. Else it reads what
    is new in the log, without payloads, and loads no partition.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        jobs: JobManager,
        cleanup: CleanUp,
        house: Housekeeping,
        presence: Presence,
        journal: JobJournal,
        clock: Clock,
        indexes: IndexNeeds,
        *,
        default_policy: FlushPolicy | None,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._jobs = jobs
        self._cleanup = cleanup
        self._house = house
        self._presence = presence
        self._journal = journal
        self._clock = clock
        self._default_policy = default_policy
        self._indexes = indexes
        self._tally = HotTally(store)
        self._ages = TableAges(catalog, store, self._tally)
        self._history: tuple[int, dict[str, list[Job]]] = (-1, {})
        self._owners: tuple[int, set[str]] = (-1, set())
        self._seen_version = -1
        self._next_us = 0
        self._orphans_at_s: float | None = time.monotonic() + _ORPHANS_AFTER_S
        self._told = ""
        self._stop = threading.Event()
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None

    # --- the thread ---------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look; the first time after a second, so that a short visit pays nothing."""
        mine = weakref.ref(self)  # a database that is let go without closing it ends the thread
        self._thread = threading.Thread(
            target=_keep_looking, args=(mine, self._stop), name="kalam-schedules", daemon=True
        )
        with suppress(RuntimeError):  # the interpreter ends
            self._thread.start()

    def close(self) -> None:
        """End the thread; waits for what it does now, never for a sleep."""
        if os.getpid() != self._pid:
            return  # the thread is the parent's
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join()

    def turn(self) -> None:
        """Look, and look for orphans when it is time: the thread's turn, which raises nothing."""
        try:
            if not self._jobs.is_paused:
                self._take_over()
                self.look()
                if self._orphans_at_s is not None and time.monotonic() >= self._orphans_at_s:
                    self._orphans_at_s = None
                    self.look_for_orphans()
        except (_StoppedError, ClosedError):
            self._stop.set()
        except KalamError:
            pass  # busy, a full disk, a damaged row: the next turn tries again
        except Exception as error:  # noqa: BLE001 - nobody else would ever see it
            if self._told != (reason := reason_of(error)):
                self._told = reason
                self._journal.write("schedules", "ERROR", "Failed", reason)

    # --- jobs ---------------------------------------------------------------------------------

    def look(self) -> None:
        """Make the jobs that are due now.

        What hinders one, a damaged table say, leaves it to the next call, and the others done.
        """
        version, now_us = self._store.data_version(), self._clock.now_us()
        if version == self._seen_version and now_us < self._next_us:
            return
        house_us = self._house.keep(self._tally, now_us)
        self._ages.follow()
        due, next_us = self._candidates(now_us)
        for consider in self._considered(due):
            if self._stop.is_set():
                raise _StoppedError
            try:
                next_us = min(next_us, consider(now_us))
            except ClosedError:
                raise
            except BusyError:
                next_us = 0
                break  # so it will be for the others
            except KalamError:
                next_us = 0
        self._next_us = min(next_us, house_us)
        self._seen_version = version

    def _take_over(self) -> None:
        """Let jobs of processes that are gone be failed, or run, as they stand."""
        revision = self._catalog.jobs.revision
        if self._owners[0] != revision:
            jobs = self._catalog.jobs.all().values()
            self._owners = (revision, {job.node_id for job in jobs if job.status.is_active})
        if not all(map(self._presence.is_alive, self._owners[1])):
            self._jobs.release_abandoned()
            self._jobs.adopt()

    def _candidates(self, now_us: int) -> tuple[list[tuple[JobKind, TableDef]], int]:
        """Return what may be due now, and when the next may be."""
        found: list[tuple[JobKind, TableDef]] = []
        next_us = NEVER_US
        definitions = self._ages.definitions()
        for table_key, hot in self._tally.tables.items():
            table = definitions.get(table_key)
            if table is not None and table.kind in (TableKind.USER, TableKind.SHARED):
                due_us = flush_due_us(self._policy_of(table), hot)
                if due_us <= now_us:
                    found.append((JobKind.FLUSH, table))
                else:
                    next_us = min(next_us, due_us)
        for table in self._ages.tables():
            try:
                due_us = self._ages.due_us(table)
            except CorruptError:
                continue  # who reads the table is told
            if due_us <= now_us:
                found.append((_KIND_OF_AGE[table.kind], table))
            else:
                next_us = min(next_us, due_us)
        return found, next_us

    def _considered(
        self, due: Sequence[tuple[JobKind, TableDef]]
    ) -> Iterator[Callable[[int], int]]:
        """Yield what considers each piece of work, given the time."""
        for kind, table in due:
            yield partial(self._consider, kind, table)
        for table, index in self._indexes.suspects():
            yield partial(self._consider_index, table, index)

    def _consider(self, kind: JobKind, table: TableDef, now_us: int) -> int:
        """Make a job unless it has to wait; return when to look at the table again."""
        key = key_of(kind, table)
        ready = self._ready_us(kind, table, self._histories().get(key, ()))
        if ready > now_us:
            # While an equal job is active: who runs it may die without a word.
            return 0 if ready == NEVER_US else ready
        if kind is not JobKind.FLUSH:
            self._ages.measure(table)
            if (due_us := self._ages.due_us(table)) > now_us:
                return due_us
        with suppress(JobRunningError):  # somebody was faster
            self._jobs.submit(
                kind,
                key=key,
                parameters=table_parameters(table),
                created_by=ROOT_USER,
                is_due=lambda: self._is_still_due(kind, table.table_key),
            )
        return 0

    def _consider_index(self, table: TableDef, index: VectorIndex, now_us: int) -> int:
        """Let a job build what segments lack of an index; return when to look again."""
        key = index_job_key(table, index)
        ready = self._ready_us(JobKind.COMPACT, table, self._histories().get(key, ()))
        if ready > now_us:
            return 0 if ready == NEVER_US else ready
        if not self._indexes.is_lacking(table, index):
            return NEVER_US
        with suppress(JobRunningError):  # somebody was faster
            self._jobs.submit(
                JobKind.COMPACT,
                key=key,
                parameters={**table_parameters(table), INDEX: index.name},
                created_by=ROOT_USER,
                is_due=lambda: self._indexes.is_lacking(table, index),
            )
        return 0

    def _is_still_due(self, kind: JobKind, table_key: int) -> bool:
        """Return whether nobody did the work meanwhile; asked under the write lock."""
        self._ages.follow()
        now_us = self._clock.now_us()
        table = self._catalog.table_by_key(table_key)
        if table is None:
            return False
        if kind is JobKind.FLUSH:
            hot = self._tally.tables.get(table_key)
            if hot is None or flush_due_us(self._policy_of(table), hot) > now_us:
                return False
        elif self._ages.due_us(table, exactly=True) > now_us:
            return False
        key = key_of(kind, table)
        jobs = [job for job in self._catalog.jobs.all().values() if job.idempotency_key == key]
        return self._ready_us(kind, table, sorted(jobs, key=_by_age)) <= now_us

    def _ready_us(self, kind: JobKind, table: TableDef, history: Sequence[Job]) -> int:
        if history and history[-1].status.has_owner:
            # Who makes the next one ends it, as nobody else can.
            return NEVER_US if self._presence.is_alive(history[-1].node_id) else 0
        if kind is JobKind.FLUSH:
            return ready_us(history, 0)
        age_us = 0 if kind is JobKind.COMPACT else kept_us(table) or 0  # an index has no age
        return ready_us(history, pause_us(age_us))

    def _histories(self) -> Mapping[str, Sequence[Job]]:
        """Return the jobs of each key, oldest first."""
        revision = self._catalog.jobs.revision
        if self._history[0] != revision:
            by_key: dict[str, list[Job]] = {}
            for job in sorted(self._catalog.jobs.all().values(), key=_by_age):
                by_key.setdefault(job.idempotency_key or "", []).append(job)
            self._history = (revision, by_key)
        return self._history[1]

    def _policy_of(self, table: TableDef) -> FlushPolicy | None:
        return table.options.flush_policy or self._default_policy

    # --- orphans ------------------------------------------------------------------------------

    def look_for_orphans(self) -> None:
        """Make a clean-up job if crashes left files behind, or a folder, in some storage."""
        began_us = self._clock.now_us()
        if self._cleanup.has_orphans(self._check):
            with suppress(JobRunningError):
                self._jobs.submit(
                    JobKind.CLEANUP,
                    key=_ORPHANS_KEY,
                    parameters={TASK: ORPHANS},
                    created_by=ROOT_USER,
                    is_due=lambda: not self._was_made(_ORPHANS_KEY, began_us),
                )

    def _was_made(self, key: str, since_us: int) -> bool:
        jobs = self._catalog.jobs.all().values()
        return any(j.idempotency_key == key and j.created_at_us >= since_us for j in jobs)

    def _check(self) -> None:
        if self._stop.is_set():
            raise _StoppedError


_KIND_OF_AGE: Final = {
    TableKind.STREAM: JobKind.STREAM_EVICTION,
    TableKind.USER: JobKind.RETENTION,
    TableKind.SHARED: JobKind.RETENTION,
}


def _by_age(job: Job) -> tuple[int, str]:
    return job.created_at_us, job.job_id


def _keep_looking(mine: weakref.ref[Schedules], stop: threading.Event) -> None:
    while not stop.wait(_TICK_S):
        schedules = mine()
        if schedules is None:
            return
        schedules.turn()
        del schedules  # not held while it sleeps
