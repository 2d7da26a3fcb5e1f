"""The job manager: ids, states, one active job per key, cancelling, and who runs what."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePath

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
from kalamdb_lab.jobs.journal import JobJournal
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.request import Interruption
from kalamdb_lab.store.presence import Presence

OWNER_GONE = "Server restarted during execution"
_PROGRESS_EVERY_S = 0.5
_PACKAGE = "kalamdb_lab"

Work = Callable[["JobRun"], str]
"""What a job does; returns what was done, with numbers. Must be safe to run twice."""


class JobCancelledError(Exception):
    """The job was cancelled: leave nothing half done. Never leaves `JobManager`."""


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
        self._lock = threading.Lock()

    # --- asking -------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Return all jobs, finished ones too, oldest first."""
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
            job.kind in kinds and job.status.has_owner and not self._is_abandoned(job)
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
            if not job.status.is_active:
                raise JobStateError(
                    f"Job '{job_id}' is already {job.status.value} and cannot be cancelled"
                )
            message = f"Cancelled by '{by}'"
            cancelled = _ended(job, JobStatus.CANCELLED, message, commit.at_us)
            self._catalog.jobs.put(commit, cancelled)
        self._journal.write(job_id, "WARN", "Cancelled", f"by '{by}'")
        return cancelled

    def release_abandoned(self) -> list[Job]:
        """Fail the jobs whose owner is gone; those of a living process are left alone.

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
                reason = _reason(error)
                # The work's own error is the one to tell; the row waits for the next claim.
                with suppress(KalamError):
                    self._end(job, JobStatus.FAILED, reason, _trace(error))
                self._journal.write(job.job_id, "ERROR", "Failed", reason)
                raise
            ended = self._end(job, JobStatus.COMPLETED, message)
        finally:
            interruption.running(None)
            self._disown(job.job_id)
        if ended.status is JobStatus.COMPLETED:
            self._journal.write(job.job_id, "INFO", "Completed", message)
        return ended

    def _end(self, job: Job, status: JobStatus, message: str, trace: str | None = None) -> Job:
        with self._log.commit() as commit:
            current = self._catalog.jobs.get(job.job_id) or job
            if current.status is JobStatus.CANCELLED:
                if status is JobStatus.FAILED:
                    return current
                # Too late to stop: it stays cancelled, and tells what was done all the same.
                message, status = f"{current.message}, after it had: {message}", current.status
            ended = _ended(current, status, message, commit.at_us, trace)
            self._catalog.jobs.put(commit, ended)
        return ended

    def _is_cancelled(self, job_id: str) -> bool:
        self._log.look_again()
        job = self._catalog.jobs.get(job_id)
        return job is not None and job.status is JobStatus.CANCELLED

    def _report(self, job_id: str, progress: float) -> None:
        with suppress(BusyError, StorageError), self._log.commit() as commit:
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


def _reason(error: BaseException) -> str:
    if isinstance(error, KalamError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted"
    return f"Internal error: {type(error).__name__}"


def _trace(error: BaseException) -> str:
    """Return where an error arose, without a path of the machine: rows travel in backups."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        parts = PurePath(frame.filename).with_suffix("").parts
        if _PACKAGE in parts:
            at = len(parts) - 1 - parts[::-1].index(_PACKAGE)
            parts = parts[at:]
        else:
            parts = parts[-1:]
        lines.append(f"{'.'.join(parts)}:{frame.lineno} in {frame.name}")
    # What is no sentence of ours may quote a value of somebody's row.
    text = f": {error}" if isinstance(error, KalamError) else ""
    lines.append(f"{type(error).__name__}{text}")
    return "\n".join(lines)
