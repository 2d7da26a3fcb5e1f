"""The job manager: ids, states, one active job per key, cancelling, and who runs what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import (
    BusyError,
    InterruptedStatementError,
    JobRunningError,
    JobStateError,
    KalamError,
    NotFoundError,
    StorageError,
)
from kalamdb_lab.jobs.failures import reason_of, trace_of
from kalamdb_lab.jobs.journal import JobJournal
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.request import Interruption
from kalamdb_lab.store.presence import Presence

OWNER_GONE = "Server restarted during execution"
_PROGRESS_EVERY_S = 0.5

Work = Callable[["JobRun"], str]
"""What a job does; returns what was done, with numbers. Must be safe to run twice."""


class JobCancelledError(Exception):
    """The job was cancelled: leave nothing half done. Never leaves `JobManager`."""


@dataclass(frozen=True, slots=True)
class _End:
    """How a job ended, as long as its row does not say it."""

    job: Job
    status: JobStatus
    message: str
    trace: str | None


class JobRun:
    """What the work of a job may ask and tell while it runs; not inside a commit."""

    def __init__(
        self,
        job_id: str,
        is_interrupted: Callable[[], bool],
        is_cancelled: Callable[[], bool],
        report: Callable[[float], None],
    ) -> None:
        self.job_id = job_id
        self._is_interrupted = is_interrupted
        self._is_cancelled = is_cancelled
        self._report = report
        self._next_report_s = time.monotonic() + _PROGRESS_EVERY_S

    def check(self) -> None:
        """Stop here if the job was cancelled, by whatever process; costs some 10 us.

        Raises
        ------
        JobCancelledError, InterruptedStatementError
            Let them through, after undoing what is half done.
        """
        if self._is_interrupted():
            raise InterruptedStatementError
        if self._is_cancelled():
            raise JobCancelledError

    def progress(self, done: int, total: int) -> None:
        """Tell how far the work is, and `check`.

        The row of the job shows it, at most twice a second: each time is a commit.
        """
        self.check()
        now_s = time.monotonic()
        if now_s >= self._next_report_s:
            self._next_report_s = now_s + _PROGRESS_EVERY_S
            self._report(min(max(done / total, 0.0), 1.0) if total > 0 else 0.0)


class JobManager:
    """Runs jobs at once, in the thread that asks, and keeps their rows in ``system.jobs``.

    Parameters
    ----------
    presence : Presence
        Tells a job whose owner is alive, in whatever process, from one that was left behind.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        presence: Presence,
        journal: JobJournal,
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._presence = presence
        self._journal = journal
        self._mine: set[str] = set()
        self._ends: dict[str, _End] = {}
        self._lock = threading.Lock()

    # --- asking -------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Return all jobs, finished ones too, oldest first."""
        with suppress(KalamError):
            self._write_ends(wait_s=0)
        listed = self._catalog.jobs.all().values()
        return sorted(listed, key=lambda job: (job.created_at_us, job.job_id))

    def job(self, job_id: str) -> Job:
        """Return a job; raises `NotFoundError`."""
        found = self._catalog.jobs.get(job_id)
        if found is None:
            raise NotFoundError("Job", job_id[:64])
        return found

    def is_active(self, kinds: Collection[JobKind]) -> bool:
        """Return whether a job of one of these kinds runs, in whatever process."""
        return any(
            job.kind in kinds
            and job.status.has_owner
            and job.job_id not in self._ends
            and not self._is_abandoned(job)
            for job in self._catalog.jobs.all().values()
        )

    # --- running ------------------------------------------------------------------------------

    def run(
        self,
        kind: JobKind,
        *,
        key: str,
        parameters: Mapping[str, object],
        created_by: str,
        work: Work,
        interruption: Interruption | None = None,
    ) -> Job:
        """Run a job to its end and return its row: completed, or cancelled by somebody.

        An end that cannot be written, as the database is busy, is written later with the same
        outcome: when this process runs or lists jobs next, or closes.

        Parameters
        ----------
        key : str
            Equal for jobs that would do the same, as ``flush:studio:tracks``.
        parameters : mapping
            What is worked on, for people to read; never a secret.
        work : callable
            Returns the message; it may ask `JobRun.check` wherever nothing is half done.
        interruption : Interruption, optional
            Of the statement that waits for the job: it stops the job too.

        Raises
        ------
        JobRunningError
            An equal job is active; nothing was done.
        Exception
            What ``work`` raised; the row says failed, and why.
        """
        return self._execute(self._claim(kind, key, parameters, created_by), work, interruption)

    def attempt(
        self,
        kind: JobKind,
        *,
        key: str,
        parameters: Mapping[str, object],
        created_by: str,
        work: Work,
        interruption: Interruption | None = None,
    ) -> Job:
        """Do as `run`, for one of many: an equal active job is returned, and a failed one too."""
        try:
            job = self._claim(kind, key, parameters, created_by)
        except JobRunningError as running:
            return self.job(running.job_id)
        try:
            return self._execute(job, work, interruption)
        except InterruptedStatementError:
            raise
        except KalamError:
            return self.job(job.job_id)

    def cancel(self, job_id: str, *, by: str) -> Job:
        """Cancel a job that is not at its end; a running one stops at its next safe point.

        Raises
        ------
        NotFoundError
        JobStateError
            It came to its end already.
        """
        with self._log.commit() as commit:
            job = self.job(job_id)
            with self._lock:
                end = self._ends.get(job_id)
            status = job.status if end is None else end.status
            if not status.is_active:
                raise JobStateError(
                    f"Job '{job_id}' is already {status.value} and cannot be cancelled"
                )
            message = f"Cancelled by '{by}'"
            cancelled = _ended(job, JobStatus.CANCELLED, message, commit.at_us)
            self._catalog.jobs.put(commit, cancelled)
        self._journal.write(job_id, "WARN", "Cancelled", f"by '{by}'")
        return cancelled

    def release_abandoned(self) -> list[Job]:
        """Fail the jobs whose owner is gone; those of a living process are left alone.

        A job that came to its end keeps its outcome as long as its process lives to write it.
        What hinders that, a database that cannot be written now or damaged rows of jobs, leaves
        it to who claims such a job's key next, or opens the database next.
        """
        released: list[Job] = []
        with suppress(KalamError):
            if any(map(self._is_abandoned, self.jobs())):
                released = self._release()
        return released

    def _release(self) -> list[Job]:
        released = []
        with self._log.commit() as commit:
            for job in filter(self._is_abandoned, self.jobs()):
                released.append(_ended(job, JobStatus.FAILED, OWNER_GONE, commit.at_us))
                self._catalog.jobs.put(commit, released[-1])
        self._write_released(released)
        return released

    def _claim(
        self, kind: JobKind, key: str, parameters: Mapping[str, object], created_by: str
    ) -> Job:
        """Take the key and the job for this node, in one commit."""
        self._write_ends()
        released = []
        job_id = kind.new_id()
        with self._lock:
            self._mine.add(job_id)  # before anybody can see the row and find no owner
        try:
            with self._log.commit() as commit:
                for other in self._catalog.jobs.all().values():
                    if other.idempotency_key != key or not other.status.is_active:
                        continue
                    if not self._is_abandoned(other):
                        raise JobRunningError(
                            other.job_id, other.status.value, other.created_at_us // 1_000
                        )
                    released.append(_ended(other, JobStatus.FAILED, OWNER_GONE, commit.at_us))
                job = Job(
                    job_id=job_id,
                    kind=kind,
                    status=JobStatus.RUNNING,
                    node_id=self._presence.node_id,
                    created_by=created_by,
                    created_at_us=commit.at_us,
                    updated_at_us=commit.at_us,
                    parameters=dict(parameters),
                    idempotency_key=key,
                    started_at_us=commit.at_us,
                )
                for item in [*released, job]:
                    self._catalog.jobs.put(commit, item)
        except BaseException:
            self._disown(job_id)
            raise
        self._write_released(released)
        self._journal.write(job_id, "INFO", "Started", key)
        return job

    def _execute(self, job: Job, work: Work, interruption: Interruption | None) -> Job:
        interruption = interruption or Interruption()
        stop = threading.Event()
        run = JobRun(
            job.job_id,
            stop.is_set,
            lambda: self._is_cancelled(job.job_id),
            lambda progress: self._report(job.job_id, progress),
        )
        try:
            interruption.running(stop.set)
            try:
                message = work(run)
            except JobCancelledError:
                return self.job(job.job_id)
            except BaseException as error:
                reason = reason_of(error)
                # The work's own error is the one to tell.
                with suppress(KalamError):
                    self._end(job, JobStatus.FAILED, reason, trace_of(error))
                self._journal.write(job.job_id, "ERROR", "Failed", reason)
                raise
            ended = self._end(job, JobStatus.COMPLETED, message)
        finally:
            interruption.running(None)
            if job.job_id not in self._ends:
                self._disown(job.job_id)
        if ended.status is JobStatus.COMPLETED:
            self._journal.write(job.job_id, "INFO", "Completed", message)
        return ended

    def _end(self, job: Job, status: JobStatus, message: str, trace: str | None = None) -> Job:
        end = _End(job, status, message, trace)
        with self._lock:
            self._ends[job.job_id] = end
        try:
            self._write_ends()
        except (BusyError, StorageError):  # what was done stays done
            return self._with_end(end, job.updated_at_us)
        return self._catalog.jobs.get(job.job_id) or job

    def _write_ends(self, *, wait_s: float | None = None) -> None:
        """Write how jobs of this process ended; what cannot be written is kept."""
        with self._lock:
            ends, self._ends = self._ends, {}
        if not ends:
            return
        try:
            with self._log.commit(wait_s=wait_s) as commit:
                for end in ends.values():
                    self._catalog.jobs.put(commit, self._with_end(end, commit.at_us))
        except BaseException:
            with self._lock:
                self._ends = ends | self._ends
            raise
        with self._lock:
            self._mine -= ends.keys()

    def _with_end(self, end: _End, at_us: int) -> Job:
        current = self._catalog.jobs.get(end.job.job_id) or end.job
        status, message = end.status, end.message
        if current.status is JobStatus.CANCELLED:
            if status is JobStatus.FAILED:
                return current
            # Too late to stop: it stays cancelled, and tells what was done all the same.
            message, status = f"{current.message}, after it had: {message}", current.status
        return _ended(current, status, message, at_us, end.trace)

    def close(self) -> None:
        """Try once more to write how jobs ended."""
        with suppress(KalamError):
            self._write_ends(wait_s=1.0)

    def _is_cancelled(self, job_id: str) -> bool:
        self._log.look_again()
        job = self._catalog.jobs.get(job_id)
        return job is not None and job.status is JobStatus.CANCELLED

    def _report(self, job_id: str, progress: float) -> None:
        # The work goes on rather than wait for others: the next report says more.
        with suppress(BusyError, StorageError), self._log.commit(wait_s=0) as commit:
            job = self._catalog.jobs.get(job_id)
            if job is not None and job.status is JobStatus.RUNNING:
                at_us = max(commit.at_us, job.updated_at_us)
                self._catalog.jobs.put(commit, replace(job, progress=progress, updated_at_us=at_us))

    def _is_abandoned(self, job: Job) -> bool:
        if not job.status.has_owner:
            return False
        if job.node_id == self._presence.node_id:
            with self._lock:
                return job.job_id not in self._mine
        return not self._presence.is_alive(job.node_id)

    def _disown(self, job_id: str) -> None:
        with self._lock:
            self._mine.discard(job_id)

    def _write_released(self, released: list[Job]) -> None:
        for job in released:
            self._journal.write(job.job_id, "ERROR", "Failed", OWNER_GONE)


def _ended(job: Job, status: JobStatus, message: str, at_us: int, trace: str | None = None) -> Job:
    # The machine's clock may have gone back since the job began.
    at_us = max(at_us, job.updated_at_us)
    return replace(
        job,
        status=status,
        message=message,
        exception_trace=trace,
        progress=1.0 if status is JobStatus.COMPLETED else job.progress,
        updated_at_us=at_us,
        finished_at_us=at_us,
    )
