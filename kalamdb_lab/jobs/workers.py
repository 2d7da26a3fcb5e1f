"""The threads that run jobs: few, started when there is work, ended when there is none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from kalamdb_lab.errors import BusyError, KalamError, StorageError
from kalamdb_lab.jobs.ends import cancelled_by
from kalamdb_lab.jobs.failures import reason_of, trace_of
from kalamdb_lab.jobs.queue import JobQueue
from kalamdb_lab.jobs.run import Completed, Executor, JobCancelledError, JobRun, can_heal
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus
from kalamdb_lab.partitions.commit import RowCommit
from kalamdb_lab.partitions.commit_log import CommitLog

MOST_AT_ONCE: Final = 2
_IDLE_S: Final = 0.5
"""How long a thread without work stays for more."""
_BLOCKED_S: Final = 0.1
"""How long a thread waits that found the catalog busy or out of reach."""
_STEP_S: Final = 0.25
"""How often who waits looks for what nobody tells: steps of other processes."""


@dataclass
class Awaited:
    """A job for which a statement of this process waits.

    Attributes
    ----------
    staging : callable or None
        What the statement stages with its commits goes with those of the job.
    ended : Job or None
        Its last row, once the job is over.
    error : BaseException or None
        What failed it.
    was_stopped : bool
        Whether the statement was interrupted, and the job asked to stop.
    """

    staging: Callable[[RowCommit], None] | None = None
    ended: Job | None = None
    error: BaseException | None = None
    was_stopped: bool = False


@dataclass(frozen=True, slots=True)
class _Later:
    """A job that waits for its next try; ``due_s`` is of the monotonic clock."""

    job: Job
    due_s: float


class Workers:
    """Runs waiting jobs, at most `MOST_AT_ONCE` at a time.

    Parameters
    ----------
    backoff_s : float
        How long a job waits for its first retry; each further one waits twice as long.

    Attributes
    ----------
    changed : threading.Condition
        Notified when a job of this process came a step further.
    steps : int
        Counts these steps; read it before looking, and wait only while it stays the same.
    """

    def __init__(self, queue: JobQueue, log: CommitLog, *, backoff_s: float) -> None:
        self._queue = queue
        self._log = log
        self._backoff_s = backoff_s
        self._executors: dict[JobKind, Executor] = {}
        self.changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._calls = 0
        self._later: dict[str, _Later] = {}
        self._running: set[str] = set()
        self._stops: dict[str, str] = {}
        self._awaited: dict[str, Awaited] = {}
        self._is_paused = False
        self._is_ending = False
        self._is_stuck = False
        self._ended_by: str | None = None
        self.steps = 0
        self._pid = os.getpid()
        self._named = 0

    # --- asking -------------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """True while no new job starts here."""
        return self._is_paused

    @property
    def is_ending(self) -> bool:
        """True once no more jobs are taken on."""
        return self._is_ending

    @property
    def is_inherited(self) -> bool:
        """True in a process that was forked from the one that opened the database."""
        return os.getpid() != self._pid

    def register(self, executors: Mapping[JobKind, Executor]) -> None:
        """Say what does the work of each kind of jobs; before that none is run."""
        self._executors.update(executors)

    def pause(self) -> None:
        """Start no new job; running ones go on, and those that are tried again."""
        with self.changed:
            self._is_paused = True

    def resume(self) -> None:
        """Start jobs again."""
        with self.changed:
            self._is_paused = False
        self.call()

    def call(self) -> None:
        """Let a thread look for work; started if there is room for one."""
        with self.changed:
            self._calls += 1
            self.tell()
            if self._executors and self._idle == 0 and len(self._threads) < MOST_AT_ONCE:
                self._start()

    def stop(self, job_id: str, *, by: str) -> None:
        """Let a job of this process stop at its next safe point, as cancelled by a user."""
        with self.changed:
            self._stops[job_id] = by
            if job_id in self._awaited:
                self._awaited[job_id].was_stopped = True
            self.tell()

    def hasten(self, job_id: str) -> None:
        """Let a job that waits here for its next try have it now: it may be cancelled by then."""
        with self.changed:
            if job_id in self._later:
                self._later[job_id] = _Later(self._later[job_id].job, time.monotonic())
            self.tell()

    def has(self, job_id: str) -> bool:
        """Return whether a job is worked on here, or waits here for its next try."""
        return job_id in self._running or job_id in self._later or self._queue.is_taken(job_id)

    def tell(self) -> None:
        """Wake all who wait for a step of a job of this process."""
        with self.changed:
            self.steps += 1
            self.changed.notify_all()

    @contextmanager
    def awaiting(self, job_id: str) -> Iterator[Awaited]:
        """Keep what comes of a job, which is not made yet, for who waits for it."""
        awaited = Awaited(self._log.staging)
        with self.changed:
            self._awaited[job_id] = awaited
        try:
            yield awaited
        finally:
            with self.changed:
                del self._awaited[job_id]
                if job_id not in self._running and job_id not in self._later:
                    self._stops.pop(job_id, None)

    def _start(self) -> None:
        if self.is_inherited:
            return  # a forked child runs nothing for its parent
        self._named = self._named % 9_999 + 1
        thread = threading.Thread(target=self._work, name=f"kalam-job-{self._named}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends: waiting jobs wait for the next opening
            self._threads.discard(thread)
            self._is_stuck = True

    # --- working ------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (job := self._next()) is not None:
                self._run(job)
        except BaseException:
            self._is_stuck = True
            raise
        finally:
            with self.changed:
                self._threads.discard(threading.current_thread())
                self.tell()

    def _next(self) -> Job | None:
        """Return a job that this thread took; None once it has to end, and counts no more."""
        idle_until_s = time.monotonic() + _IDLE_S
        while True:
            with self.changed:
                calls, is_ending = self._calls, self._is_ending
                later = self._take_due()
                takes = not self._is_paused
            job, is_blocked, is_refused = None, False, False
            try:
                if later is not None:
                    job = self._queue.claim_again(later.job)
                elif takes:
                    job = self._queue.claim(own=is_ending, urgent=self._awaited)
            except (BusyError, StorageError):
                is_blocked = True
            except KalamError:
                is_refused = True  # rows of jobs are damaged: who asks for them is told
            if job is not None:
                with self.changed:
                    self._running.add(job.job_id)
                    has_company = self._idle > 0 or len(self._threads) >= MOST_AT_ONCE
                if not has_company and self._queue.waiting(own=is_ending):
                    self.call()
                return job
            with self.changed:
                if later is not None and is_blocked and not is_ending:
                    due_s = time.monotonic() + _BLOCKED_S
                    self._later[later.job.job_id] = _Later(later.job, due_s)
                elif later is not None:
                    self.tell()
                    continue
                if self._calls != calls:
                    continue
                self._is_stuck |= (is_blocked or is_refused) and is_ending
                gives_up = is_ending and not self._later
                if gives_up or (self._is_over(idle_until_s) and not is_blocked):
                    self._threads.discard(threading.current_thread())
                    return None
                self._idle += 1
                self.changed.wait(_BLOCKED_S if is_blocked else self._pause_s(idle_until_s))
                self._idle -= 1

    def _take_due(self) -> _Later | None:
        now_s = time.monotonic()
        for job_id, later in self._later.items():
            if later.due_s <= now_s or self._is_ending or job_id in self._stops:
                return self._later.pop(job_id)
        return None

    def _is_over(self, idle_until_s: float) -> bool:
        """Return whether a thread without work may end: one stays while a job waits for a try."""
        return time.monotonic() >= idle_until_s and (not self._later or self._idle > 0)

    def _pause_s(self, idle_until_s: float) -> float:
        now_s = time.monotonic()
        due_s = min((later.due_s for later in self._later.values()), default=idle_until_s)
        return min(max(due_s - now_s, 0.0), max(idle_until_s - now_s, _STEP_S))

    def _run(self, job: Job) -> None:
        awaited = self._awaited.get(job.job_id)
        ended: Job | None = job
        error: BaseException | None = None
        later: _Later | None = None
        try:
            ended, error = self._worked(job, awaited)
            if ended is None:
                delay_s = self._delay_s(job)
                again = self._postponed(job, error, delay_s)
                later = _Later(again, time.monotonic() + delay_s)
        except BaseException as caught:
            error = caught
            raise
        finally:
            with self.changed:
                self._running.discard(job.job_id)
                if later is not None:
                    self._later[job.job_id] = later
                else:
                    self._stops.pop(job.job_id, None)
                    if awaited is not None:
                        awaited.error, awaited.ended = error, ended
                self.tell()

    def _worked(self, job: Job, awaited: Awaited | None) -> tuple[Job | None, BaseException | None]:
        """Do the work; return the last row, or None if it is to be tried again, and the fault."""
        job_id = job.job_id
        run = JobRun(
            job_id,
            lambda: self._is_unwanted(job_id),
            lambda progress, message: self._queue.report(job_id, progress, message),
        )
        trace = None
        try:
            with self._log.statement(staging=None if awaited is None else awaited.staging):
                decision = self._executors[job.kind](job, run)
            if isinstance(decision, Completed):
                return self._queue.end(job, JobStatus.COMPLETED, decision.message), None
            error: BaseException = StorageError(decision.message)
        except JobCancelledError:
            return self._cancelled(job), None
        except BaseException as caught:  # noqa: BLE001 - told by the row, and to who waits
            error, trace = caught, trace_of(caught)
        with suppress(KalamError):
            if (
                can_heal(error)
                and job.retry_count < job.max_retries
                and not self._is_unwanted(job_id)
            ):
                return None, error
        return self._queue.end(job, JobStatus.FAILED, reason_of(error), trace), error

    def _is_unwanted(self, job_id: str) -> bool:
        return self._stopped_by(job_id) is not None or self._queue.is_cancelled(job_id)

    def _stopped_by(self, job_id: str) -> str | None:
        return self._stops.get(job_id, self._ended_by)

    def _delay_s(self, job: Job) -> float:
        return self._backoff_s * 2.0**job.retry_count

    def _postponed(self, job: Job, error: BaseException | None, delay_s: float) -> Job:
        assert error is not None
        trace = None if error.__traceback__ is None else trace_of(error)
        return self._queue.postpone(job, reason_of(error), trace, delay_s=delay_s)

    def _cancelled(self, job: Job) -> Job:
        by = self._stopped_by(job.job_id)
        if by is not None:
            return self._queue.end(job, JobStatus.CANCELLED, cancelled_by(by))
        self._queue.let_go(job.job_id)
        with suppress(KalamError):
            return self._queue.job(job.job_id)
        return job

    # --- ending -------------------------------------------------------------------------------

    def close(
        self, *, by: str, is_interrupted: bool = False, patience_s: float | None = None
    ) -> None:
        """Run what this opening has made to its end, and let the threads end.

        While it is paused, what waits stays waiting, for who opens the database next. An
        interrupt of the user, now or before, cancels what runs, and leaves what waits; so does
        the end of the patience.
        """
        if is_interrupted:
            self._stop_all(by)
        try:
            if not self._drain(patience_s):
                self._stop_all(by)
                self._drain(patience_s)
        except KeyboardInterrupt:
            self._stop_all(by)
            self._drain()
            raise

    def _stop_all(self, by: str) -> None:
        with self.changed:
            self._is_paused = True
            self._ended_by = by  # which also stops what a thread takes just now

    def _drain(self, patience_s: float | None = None) -> bool:
        """Wait until all is done that is to be done; return False if that takes too long."""
        until_s = None if patience_s is None else time.monotonic() + patience_s
        with self.changed:
            self._is_ending = True
            self._calls += 1
            self.tell()
        with suppress(KalamError):
            while self._has_work():
                self.call()
                if not self._joined(until_s):
                    return False
        return self._joined(until_s)

    def _joined(self, until_s: float | None) -> bool:
        with self.changed:
            threads = list(self._threads)
        for thread in threads:
            thread.join(None if until_s is None else max(until_s - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in threads)

    def _has_work(self) -> bool:
        with self.changed:
            if self._threads:
                return True
            if self._is_stuck or not self._executors:
                return False  # another thread would come no further
            if self._later:
                return True
            if self._is_paused:
                return False
        return bool(self._queue.waiting(own=True))
