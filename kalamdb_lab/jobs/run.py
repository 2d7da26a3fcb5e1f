"""A job while it runs: what its work may ask and tell, and what can come of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from kalamdb_lab.errors import BusyError, ConflictError, StorageError
from kalamdb_lab.model.jobs import Job

_PROGRESS_EVERY_S = 0.5


class JobCancelledError(Exception):
    """The job was cancelled: leave nothing half done. Never leaves the thread of the job."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The work is done; the message says what was done, with numbers."""

    message: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The work could not be done now, for a reason that waiting can heal."""

    message: str


Decision: TypeAlias = Completed | Retry
"""What an executor returns; what it raises fails the job, unless waiting can heal it."""


class JobRun:
    """What the work of a job may ask and tell while it runs; not inside a commit.

    Parameters
    ----------
    is_cancelled : callable
        Whether somebody wants the job to stop, in whatever process.
    report : callable
        Writes progress, from 0 to 1, and a message into the row of the job.
    """

    def __init__(
        self,
        job_id: str,
        is_cancelled: Callable[[], bool],
        report: Callable[[float, str], None],
    ) -> None:
        self.job_id = job_id
        self._is_cancelled = is_cancelled
        self._report = report
        self._next_report_s = time.monotonic() + _PROGRESS_EVERY_S

    def check(self) -> None:
        """Stop here if the job was cancelled, by whatever process; costs some 10 us.

        Raises
        ------
        JobCancelledError
            Let it through, after undoing what is half done.
        """
        if self._is_cancelled():
            raise JobCancelledError

    def progress(self, done: int, total: int, unit: str = "partitions") -> None:
        """Tell how far the work is, and `check`.

        The row of the job shows it, at most twice a second: each time is a commit. Its message
        reads "3 of 10 partitions" then.

        Parameters
        ----------
        done, total : int
            In the same unit.
        unit : str
            What is counted, in the plural.
        """
        self.check()
        now_s = time.monotonic()
        if now_s < self._next_report_s:
            return
        self._next_report_s = now_s + _PROGRESS_EVERY_S
        share = min(max(done / total, 0.0), 1.0) if total > 0 else 0.0
        counted = unit.removesuffix("s") if total == 1 else unit
        self._report(share, f"{done:,} of {total:,} {counted}")


Executor: TypeAlias = Callable[[Job, JobRun], Decision]
"""Does the work of one kind of jobs.

It finds all it needs in ``job.parameters``, as the job may come from another process or from
before a restart, and is safe to run twice.
"""


def can_heal(error: BaseException) -> bool:
    """Return whether the same work may succeed later: a busy database, a full or missing disk."""
    return isinstance(error, BusyError | ConflictError | StorageError)
