"""The job manager: what others ask of jobs. They are made here, and run by `Workers`."""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import (
    BusyError,
    ClosedError,
    InterruptedStatementError,
    JobRunningError,
    JobStateError,
    JobTimeoutError,
    KalamError,
)
from kalamdb_lab.jobs.journal import JobJournal
from kalamdb_lab.jobs.queue import JobQueue, Order, Placed
from kalamdb_lab.jobs.run import Executor
from kalamdb_lab.jobs.workers import Awaited, Workers
from kalamdb_lab.model.ids import ROOT_USER
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.request import Interruption
from kalamdb_lab.store.presence import Presence

_OTHERS_S: Final = 0.015
"""How often who waits for a job of another process looks at its row."""
_OWN_S: Final = 0.25
"""How often who waits for a job of this process looks, if it is not told of anything."""

_AT_EXIT_S: Final = 5.0
"""How long a process that did not close its databases works on before it ends."""

_managers: weakref.WeakSet[JobManager] = weakref.WeakSet()


class JobManager:
    """Makes jobs, runs those of this process, and tells how far they are.

    A job is made as a waiting row of ``system.jobs``, in one commit. Threads of the process that
    made it run it, a few at a time; if that process is gone, those of any other that has the
    database open do. An end that cannot be written, as the database is busy, is written later with
    the same outcome: when this process makes or lists jobs next, or closes.

    Parameters
    ----------
    presence : Presence
        Tells a job whose owner is alive, in whatever process, from one that was left behind.
    backoff_s : float
        How long a job waits for its first retry; each further one waits twice as long.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        presence: Presence,
        journal: JobJournal,
        *,
        backoff_s: float = 1.0,
    ) -> None:
        self._log = log
        self._queue = JobQueue(catalog, log, presence, journal)
        self._workers = Workers(self._queue, log, backoff_s=backoff_s)
        _managers.add(self)

    def start(self, executors: Mapping[JobKind, Executor]) -> None:
        """Say what does the work of each kind, and run what waits from before."""
        self._workers.register(executors)
        self.adopt()

    def adopt(self) -> None:
        """Run waiting jobs whose process is gone; those of a living process are left to it."""
        with suppress(KalamError):
            if self._queue.waiting():
                self._workers.call()

    # --- asking -------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Return all jobs, finished ones too, oldest first."""
        return self._queue.jobs()

    def job(self, job_id: str) -> Job:
        """Return a job; raises `NotFoundError`."""
        return self._queue.job(job_id)

    def is_active(self, kinds: Collection[JobKind]) -> bool:
        """Return whether a job of one of these kinds runs, in whatever process."""
        return self._queue.is_active(kinds)

    # --- making -------------------------------------------------------------------------------

    def submit(
        self,
        kind: JobKind,
        *,
        key: str,
        parameters: Mapping[str, object],
        created_by: str,
        priority: int = 0,
        is_due: Callable[[], bool] | None = None,
    ) -> Job | None:
        """Make a waiting job in one commit, and return it; threads run it from then on.

        Parameters
        ----------
        key : str
            Equal for jobs that would do the same, as ``flush:studio:tracks``.
        parameters : mapping
            All that the work needs, as JSON can say it; never a secret.
        priority : int
            Of waiting jobs the ones with the highest are run first, then the oldest.
        is_due : callable, optional
            Asked inside the commit, so that of many processes only one makes the job. If it says
            no, nothing is made and None is returned.

        Raises
        ------
        JobRunningError
            An equal job is active; nothing was made.
        BusyError, StorageError
            The row could not be written; nothing was made.
        """
        order = Order(kind, key, parameters, created_by, priority)
        placed = self._place([order], is_due)
        if placed is None:
            return None
        return _new(placed[0])

    def submit_all(self, orders: Sequence[Order]) -> list[Job]:
        """Make jobs in one commit; where an equal one is active, that is returned in its place."""
        placed = self._place(orders, None) if orders else []
        return [item.job for item in placed or ()]

    def _place(
        self, orders: Sequence[Order], is_due: Callable[[], bool] | None
    ) -> list[Placed] | None:
        if self._workers.is_ending:
            raise ClosedError("The database was closed")
        placed = self._queue.put(orders, is_due=is_due)
        # Files that the job takes away must not be kept for the statement that asked for it.
        self._log.reads_no_more()
        if placed is not None:
            self._workers.call()
        return placed

    # --- waiting ------------------------------------------------------------------------------

    def run(
        self,
        kind: JobKind,
        *,
        key: str,
        parameters: Mapping[str, object],
        created_by: str,
        interruption: Interruption | None = None,
    ) -> Job:
        """Make a job and wait for its end: completed, or cancelled by somebody.

        Parameters
        ----------
        interruption : Interruption, optional
            Of the statement that waits for the job: it cancels the job.

        Raises
        ------
        JobRunningError
            An equal job is active; nothing was made.
        JobStateError
            Jobs are paused here; nothing was made.
        InterruptedStatementError
            The job was cancelled by ``interruption``, and has stopped.
        Exception
            What failed the job.
        """
        order = Order(kind, key, parameters, created_by)
        job, error = self._run(order, interruption)
        if error is not None:
            raise error
        return job

    def attempt(
        self,
        kind: JobKind,
        *,
        key: str,
        parameters: Mapping[str, object],
        created_by: str,
        interruption: Interruption | None = None,
    ) -> Job:
        """Do as `run`, for one of many: an equal active job is returned, and a failed one too."""
        order = Order(kind, key, parameters, created_by)
        try:
            return self._run(order, interruption)[0]
        except JobRunningError as running:
            return self.job(running.job_id)

    def _run(
        self, order: Order, interruption: Interruption | None
    ) -> tuple[Job, BaseException | None]:
        if self._workers.is_paused:
            raise JobStateError("Jobs are paused; use db.jobs.resume() first")
        interruption = interruption or Interruption()
        job_id = order.job_id

        def stop() -> None:
            self._workers.stop(job_id, by=order.created_by)

        with self._workers.awaiting(job_id) as awaited:
            placed = self._place([order], None)
            assert placed is not None
            _new(placed[0])
            try:
                interruption.running(stop)
                job = self._until_over(job_id, awaited)
            except KeyboardInterrupt:
                stop()
                self._until_over(job_id, awaited)
                raise
            finally:
                interruption.running(None)
        if awaited.error is None and awaited.was_stopped and job.status is JobStatus.CANCELLED:
            raise InterruptedStatementError
        return job, awaited.error

    def _until_over(self, job_id: str, awaited: Awaited) -> Job:
        changed = self._workers.changed
        while True:
            with changed:
                steps = self._workers.steps
            if awaited.ended is not None:
                return awaited.ended
            if not self._workers.has(job_id):
                # Nobody has taken it yet: it can be cancelled by its row.
                job = self._queue.job(job_id)
                if awaited.was_stopped and job.status.is_waiting:
                    # Asked again if the database is busy: it must not run when nobody waits.
                    with suppress(BusyError, JobStateError):
                        job = self._queue.cancel(job_id, by=job.created_by, if_waiting=True)
                if job.status is JobStatus.CANCELLED:
                    return job
            with changed:
                if self._workers.steps == steps:
                    changed.wait(_OWN_S)

    def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Wait until a job is over, in whatever process it runs, and return its row.

        Parameters
        ----------
        timeout_s : float, optional
            Wait no longer than this; by default as long as it takes.

        Raises
        ------
        NotFoundError
        JobTimeoutError
            It is not over in time; it goes on.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        look_s = 0.0
        while True:
            with self._workers.changed:
                steps = self._workers.steps
            with suppress(KalamError):
                self._queue.write_ends(wait_s=0)
            job = self._queue.job(job_id)
            if not job.status.is_active:
                if not self._workers.has(job_id):
                    return job
                self._workers.hasten(job_id)
            now_s = time.monotonic()
            if until_s is not None and now_s >= until_s:
                raise JobTimeoutError(
                    f"Job '{job_id}' is still {job.status.value} after {timeout_s:g} s; it goes on"
                )
            is_mine = self._queue.is_mine(job)
            if not is_mine and now_s >= look_s:
                look_s = now_s + _OWN_S
                if self._queue.is_orphaned(job):
                    self.release_abandoned()
                    self.adopt()
            pause_s = _OWN_S if is_mine else _OTHERS_S
            if until_s is not None:
                pause_s = min(pause_s, until_s - now_s)
            with self._workers.changed:
                if self._workers.steps == steps:
                    self._workers.changed.wait(pause_s)

    # --- steering -----------------------------------------------------------------------------

    def cancel(self, job_id: str, *, by: str) -> Job:
        """Cancel a job that is not at its end; a running one stops at its next safe point.

        Raises
        ------
        NotFoundError
        JobStateError
            It came to its end already.
        """
        cancelled = self._queue.cancel(job_id, by=by)
        self._workers.hasten(job_id)
        return cancelled

    @property
    def is_paused(self) -> bool:
        """True while no new job starts in this process."""
        return self._workers.is_paused

    def pause(self) -> None:
        """Start no new job in this process; running ones go on, others wait."""
        self._workers.pause()

    def resume(self) -> None:
        """Start jobs again."""
        self._workers.resume()

    def release_abandoned(self) -> list[Job]:
        """Fail the jobs whose owner is gone; those of a living process are left alone.

        A job that came to its end keeps its outcome as long as its process lives to write it.
        What hinders that, a database that cannot be written now or damaged rows of jobs, leaves
        it to who makes a job with such a job's key next, or opens the database next.
        """
        return self._queue.release_abandoned()

    def close(self, *, is_interrupted: bool = False, patience_s: float | None = None) -> None:
        """Finish the jobs that this process made, and end the threads.

        While jobs are paused, waiting ones are left to who opens the database next; so they are
        after an interrupt of the user, which cancels the running ones.

        Parameters
        ----------
        is_interrupted : bool
            The user interrupted the closing already.
        patience_s : float, optional
            What runs longer than this is cancelled, too; by default it may take its time.
        """
        _managers.discard(self)
        if self._workers.is_inherited:
            return  # threads that were not forked may hold any lock
        try:
            self._workers.close(by=ROOT_USER, is_interrupted=is_interrupted, patience_s=patience_s)
        finally:
            with suppress(KalamError):
                self._queue.write_ends(wait_s=1.0)


def _new(placed: Placed) -> Job:
    """Return the job of an order; raises `JobRunningError` if an equal one was there."""
    job = placed.job
    if not placed.is_new:
        raise JobRunningError(job.job_id, job.status.value, job.created_at_us // 1_000)
    return job


@atexit.register
def _close_all() -> None:
    # Who forgot to close finds work done all the same, and no job failed at the next opening.
    for manager in list(_managers):
        with suppress(Exception, KeyboardInterrupt):
            manager.close(patience_s=_AT_EXIT_S)
