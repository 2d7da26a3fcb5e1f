"""How jobs ended: written into their rows now, or as soon as that can be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import BusyError, KalamError
from kalamdb_lab.jobs.journal import JobJournal
from kalamdb_lab.model.jobs import Job, JobStatus
from kalamdb_lab.partitions.commit_log import CommitLog


@dataclass(frozen=True, slots=True)
class _End:
    """How a job ended, as long as its row does not say it."""

    job: Job
    status: JobStatus
    message: str
    trace: str | None


class JobEnds:
    """The ends of jobs of one opening of the database.

    Parameters
    ----------
    forget : callable
        Called with the ids of jobs whose rows say that they ended.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        journal: JobJournal,
        forget: Callable[[Iterable[str]], None],
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._journal = journal
        self._forget = forget
        self._ends: dict[str, _End] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._ends

    def __len__(self) -> int:
        return len(self._ends)

    def status(self, job_id: str) -> JobStatus | None:
        """Return how a job ended whose row does not say it yet."""
        with self._lock:
            end = self._ends.get(job_id)
        return None if end is None else end.status

    def add(self, job: Job, status: JobStatus, message: str, trace: str | None = None) -> Job:
        """Write how a job ended, now or when this opening writes the next row of a job."""
        end = _End(job, status, message, trace)
        with self._lock:
            self._ends[job.job_id] = end
        ended = None
        try:
            self.write()
            ended = self._catalog.jobs.get(job.job_id)
        except KalamError:  # what was done stays done
            ended = self._with_end(end, job.updated_at_us)
        ended = ended or job
        match status:
            case JobStatus.COMPLETED if ended.status is status:
                self._journal.write(job.job_id, "INFO", "Completed", message)
            case JobStatus.FAILED:
                self._journal.write(job.job_id, "ERROR", "Failed", message)
            case JobStatus.CANCELLED if ended.message == message:
                self._journal.write(job.job_id, "WARN", "Cancelled", shortened(message))
        return ended

    def write(self, *, wait_s: float | None = None) -> None:
        """Write how jobs of this opening ended; what cannot be written is kept."""
        if not self._ends:
            return
        # Who comes second finds its own written, too.
        if not self._writing.acquire(timeout=-1 if wait_s is None else wait_s):
            raise BusyError
        try:
            with self._lock:
                ends = dict(self._ends)
            if not ends:
                return
            with self._log.commit(wait_s=wait_s) as commit:
                for end in ends.values():
                    self._catalog.jobs.put(commit, self._with_end(end, commit.at_us))
            with self._lock:
                for job_id in ends:
                    del self._ends[job_id]
            self._forget(ends)
        finally:
            self._writing.release()

    def _with_end(self, end: _End, at_us: int) -> Job:
        current = self._catalog.jobs.get(end.job.job_id) or end.job
        status, message = end.status, end.message
        if current.status is JobStatus.CANCELLED:
            if status is not JobStatus.COMPLETED:
                return current
            # Too late to stop: it stays cancelled, and tells what was done all the same.
            message, status = f"{current.message}, after it had: {message}", current.status
        ended = ended_row(current, status, message, at_us, end.trace)
        return replace(ended, retry_count=max(current.retry_count, end.job.retry_count))


def cancelled_by(user_id: str) -> str:
    """Return the message of a job that a user cancelled."""
    return f"Cancelled by '{user_id}'"


def shortened(message: str) -> str:
    """Return the message of a cancelled job as its line in the log says it."""
    return message.removeprefix("Cancelled ")


def ended_row(
    job: Job, status: JobStatus, message: str, at_us: int, trace: str | None = None
) -> Job:
    """Return the last row of a job; ``at_us`` counts in µs since 1970."""
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
