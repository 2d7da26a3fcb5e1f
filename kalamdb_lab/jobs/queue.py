"""The rows of jobs: who may make one, who takes it, how it ends; each step is one commit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import (
    BusyError,
    JobStateError,
    KalamError,
    NotFoundError,
    StorageError,
)
from kalamdb_lab.jobs.ends import JobEnds, cancelled_by, ended_row, shortened
from kalamdb_lab.jobs.journal import JobJournal
from kalamdb_lab.model.jobs import PRIORITY, Job, JobKind, JobStatus
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.store.presence import Presence

OWNER_GONE: Final = "Server restarted during execution"


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be made.

    Attributes
    ----------
    key : str
        Equal for jobs that would do the same, as ``flush:studio:tracks``.
    parameters : mapping
        All that the work needs, as JSON can say it; never a secret.
    priority : int
        Of waiting jobs the ones with the highest are taken first.
    """

    kind: JobKind
    key: str
    parameters: Mapping[str, object]
    created_by: str
    priority: int = 0
    job_id: str = ""

    def __post_init__(self) -> None:
        if not self.job_id:
            object.__setattr__(self, "job_id", self.kind.new_id())


@dataclass(frozen=True, slots=True)
class Placed:
    """What came of an order: its job, or the equal one that is active already."""

    job: Job
    is_new: bool


class JobQueue:
    """Reads and writes the rows of ``system.jobs`` for one opening of the database.

    Parameters
    ----------
    presence : Presence
        Tells a job whose owner is alive, in whatever process, from one that was left behind.
    """

    def __init__(
        self, catalog: Catalog, log: CommitLog, presence: Presence, journal: JobJournal
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._presence = presence
        self._journal = journal
        self._mine: set[str] = set()
        self._lock = threading.Lock()
        self._ends = JobEnds(catalog, log, journal, self._disown)

    # --- reading ------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Return all jobs, finished ones too, oldest first."""
        with suppress(KalamError):
            self.write_ends(wait_s=0)
        listed = self._catalog.jobs.all().values()
        return sorted(listed, key=lambda job: (job.created_at_us, job.job_id))

    def job(self, job_id: str) -> Job:
        """Return a job; raises `NotFoundError`."""
        self._log.look_again()
        found = self._catalog.jobs.get(job_id)
        if found is None:
            raise NotFoundError("Job", job_id[:64])
        return found

    def is_active(self, kinds: Collection[JobKind]) -> bool:
        """Return whether a job of one of these kinds runs, in whatever process."""
        return any(
            job.finished_at_us is None
            and job.kind in kinds
            and job.status.has_owner
            and job.job_id not in self._ends
            and not self._is_abandoned(job)
            for job in self._catalog.jobs.all().values()
        )

    def is_cancelled(self, job_id: str) -> bool:
        """Return whether somebody cancelled a job, in whatever process."""
        self._log.look_again()
        job = self._catalog.jobs.get(job_id)
        return job is not None and job.status is JobStatus.CANCELLED

    def is_mine(self, job: Job) -> bool:
        """Return whether this opening of the database made the job or took it."""
        return job.node_id == self._presence.node_id

    def is_taken(self, job_id: str) -> bool:
        """Return whether this opening took the job and has not let go of it."""
        with self._lock:
            return job_id in self._mine

    def is_orphaned(self, job: Job) -> bool:
        """Return whether the opening is gone that made the job or took it."""
        return not self._presence.is_alive(job.node_id)

    def waiting(self, *, own: bool = False, urgent: Container[str] = ()) -> list[Job]:
        """Return the jobs to be taken here, the next one first.

        They are those that this opening made, and unless only ``own`` ones are asked for also
        those of openings that are gone; first the ``urgent`` ones, given by their ids.
        """
        self._log.look_again()
        jobs = self._catalog.jobs.all().values()
        found = [job for job in jobs if job.finished_at_us is None and job.status.is_waiting]
        alive = {
            node_id: self._presence.is_alive(node_id) for node_id in {job.node_id for job in found}
        }
        found = [job for job in found if self.is_mine(job) or not (own or alive[job.node_id])]
        # The order of equal ones is that of the log.
        return sorted(
            found, key=lambda job: (job.job_id not in urgent, -job.priority, job.created_at_us)
        )

    # --- writing ------------------------------------------------------------------------------

    def put(
        self, orders: Sequence[Order], *, is_due: Callable[[], bool] | None = None
    ) -> list[Placed] | None:
        """Make waiting jobs in one commit; where an equal one is active, that is returned.

        Parameters
        ----------
        is_due : callable, optional
            Asked inside the commit; if it says no, no job is made and None is returned.
        """
        self.write_ends()
        placed: list[Placed] = []
        released: list[Job] = []
        with self._log.commit() as commit:
            if is_due is not None and not is_due():
                return None
            jobs = self._catalog.jobs.all().values()
            active = {job.idempotency_key: job for job in jobs if job.finished_at_us is None}
            for order in orders:
                other = active.get(order.key)
                if other is not None and not self._is_abandoned(other):
                    placed.append(Placed(other, is_new=False))
                    continue
                if other is not None:
                    released.append(ended_row(other, JobStatus.FAILED, OWNER_GONE, commit.at_us))
                job = active[order.key] = self._new(order, commit.at_us)
                placed.append(Placed(job, is_new=True))
            fresh = [item.job for item in placed if item.is_new]
            for job in [*released, *fresh]:
                self._catalog.jobs.put(commit, job)
        self._write_released(released)
        for job in fresh:
            self._journal.write(job.job_id, "INFO", "Queued", job.idempotency_key or "")
        return placed

    def _new(self, order: Order, at_us: int) -> Job:
        priority = {PRIORITY: order.priority} if order.priority else {}
        return Job(
            job_id=order.job_id,
            kind=order.kind,
            status=JobStatus.QUEUED,
            node_id=self._presence.node_id,
            created_by=order.created_by,
            created_at_us=at_us,
            updated_at_us=at_us,
            parameters={**order.parameters, **priority},
            idempotency_key=order.key,
        )

    def claim(self, *, own: bool = False, urgent: Container[str] = ()) -> Job | None:
        """Take the next of the `waiting` jobs, in one commit; None if there is none."""
        if not self.waiting(own=own):
            return None
        self.write_ends()
        return self._take(lambda: next(iter(self.waiting(own=own, urgent=urgent)), None))

    def claim_again(self, job: Job) -> Job | None:
        """Take a job of this opening for its next try; None if it was cancelled meanwhile."""

        def current() -> Job | None:
            found = self._catalog.jobs.get(job.job_id)
            if found is None or not found.status.has_owner:
                return None
            return replace(found, retry_count=job.retry_count)

        taken = self._take(current)
        if taken is None:
            self._disown([job.job_id])
        return taken

    def _take(self, choose: Callable[[], Job | None]) -> Job | None:
        job = None
        try:
            with self._log.commit() as commit:
                job = choose()
                if job is None:
                    return None
                with self._lock:
                    self._mine.add(job.job_id)  # before anybody can see the row and no owner
                at_us = max(commit.at_us, job.updated_at_us)
                taken = replace(
                    job,
                    status=JobStatus.RUNNING,
                    node_id=self._presence.node_id,
                    message=None,
                    exception_trace=None,
                    started_at_us=at_us if job.started_at_us is None else job.started_at_us,
                    updated_at_us=at_us,
                )
                self._catalog.jobs.put(commit, taken)
        except BaseException:
            if job is not None and job.status.is_waiting:
                self._disown([job.job_id])
            raise
        self._journal.write(taken.job_id, "INFO", "Started", taken.idempotency_key or "")
        return taken

    def postpone(self, job: Job, reason: str, trace: str | None, *, delay_s: float) -> Job:
        """Let a job wait for its next try; its row says why, if it can be written."""
        later = replace(job, retry_count=job.retry_count + 1)
        told = f"{reason} (retry {later.retry_count} of {later.max_retries} in {delay_s:g} s)"
        with suppress(BusyError, StorageError), self._log.commit(wait_s=0) as commit:
            current = self._catalog.jobs.get(job.job_id)
            if current is not None and current.status.has_owner:
                row = replace(
                    later,
                    status=JobStatus.RETRYING,
                    message=reason,
                    exception_trace=trace,
                    progress=current.progress,
                    parameters=current.parameters,
                    updated_at_us=max(commit.at_us, current.updated_at_us),
                )
                self._catalog.jobs.put(commit, row)
        self._journal.write(job.job_id, "WARN", "Retrying", told)
        return later

    def report(self, job_id: str, progress: float, message: str) -> None:
        """Let the row of a running job say how far it is, if it can be written at once."""
        # The work goes on rather than wait for others: the next report says more.
        with suppress(BusyError, StorageError), self._log.commit(wait_s=0) as commit:
            job = self._catalog.jobs.get(job_id)
            if job is not None and job.status is JobStatus.RUNNING:
                at_us = max(commit.at_us, job.updated_at_us)
                row = replace(job, progress=progress, message=message, updated_at_us=at_us)
                self._catalog.jobs.put(commit, row)

    def end(self, job: Job, status: JobStatus, message: str, trace: str | None = None) -> Job:
        """Write how a job ended, now or when this opening writes the next row of a job."""
        return self._ends.add(job, status, message, trace)

    def let_go(self, job_id: str) -> None:
        """Give up a job whose row was ended by who cancelled it."""
        if job_id not in self._ends:
            self._disown([job_id])

    def write_ends(self, *, wait_s: float | None = None) -> None:
        """Write how jobs of this opening ended; what cannot be written is kept."""
        self._ends.write(wait_s=wait_s)

    def cancel(self, job_id: str, *, by: str, if_waiting: bool = False) -> Job:
        """Cancel a job; see `JobManager.cancel`. With ``if_waiting`` a running one is left."""
        with self._log.commit() as commit:
            job = self.job(job_id)
            status = self._ends.status(job_id) or job.status
            if not status.is_active:
                raise JobStateError(
                    f"Job '{job_id}' is already {status.value} and cannot be cancelled"
                )
            if if_waiting and not status.is_waiting:
                return job
            message = cancelled_by(by)
            cancelled = ended_row(job, JobStatus.CANCELLED, message, commit.at_us)
            self._catalog.jobs.put(commit, cancelled)
        self._journal.write(job_id, "WARN", "Cancelled", shortened(message))
        return cancelled

    def release_abandoned(self) -> list[Job]:
        """Fail the jobs whose owner is gone; see `JobManager.release_abandoned`."""
        released: list[Job] = []
        with suppress(KalamError):
            if any(map(self._is_abandoned, self.jobs())):
                with self._log.commit() as commit:
                    for job in filter(self._is_abandoned, self._catalog.jobs.all().values()):
                        released.append(ended_row(job, JobStatus.FAILED, OWNER_GONE, commit.at_us))
                        self._catalog.jobs.put(commit, released[-1])
                self._write_released(released)
        return released

    def _is_abandoned(self, job: Job) -> bool:
        if job.finished_at_us is not None or not job.status.has_owner:
            return False
        if self.is_mine(job):
            return not self.is_taken(job.job_id)
        return not self._presence.is_alive(job.node_id)

    def _disown(self, job_ids: Iterable[str]) -> None:
        with self._lock:
            self._mine.difference_update(job_ids)

    def _write_released(self, released: list[Job]) -> None:
        for job in released:
            self._journal.write(job.job_id, "ERROR", "Failed", OWNER_GONE)
