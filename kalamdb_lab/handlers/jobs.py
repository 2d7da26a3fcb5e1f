"""SHOW JOBS and KILL JOB."""

from __future__ import annotations

from kalamdb_lab.handlers.listing import Columns, listing
from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.model.datatypes import DATETIME, DOUBLE, TEXT
from kalamdb_lab.model.roles import Role
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.commands import KillJob, ShowJobs

_JOBS: Columns = [
    ("job_id", TEXT),
    ("job_type", TEXT),
    ("status", TEXT),
    ("progress", DOUBLE),
    ("message", TEXT),
    ("created_at", DATETIME),
    ("started_at", DATETIME),
    ("finished_at", DATETIME),
]


class JobHandler:
    """Lists and cancels jobs."""

    def __init__(self, jobs: JobManager) -> None:
        self._jobs = jobs

    def show(self, statement: ShowJobs, request: Request) -> Result:
        """Run SHOW JOBS: the own ones for service, all for dba and system."""
        context = request.context
        rows = [
            (
                job.job_id,
                job.kind.value,
                job.status.value,
                job.progress,
                job.message,
                job.created_at_us,
                job.started_at_us,
                job.finished_at_us,
            )
            for job in sorted(self._jobs.jobs(), key=lambda job: job.job_id)
            if context.role >= Role.DBA or job.created_by == context.user_id
        ]
        return listing(statement.kind, _JOBS, rows)

    def kill(self, statement: KillJob, request: Request) -> Result:
        """Run KILL JOB: a waiting job never runs, a running one stops at its next safe point."""
        job = self._jobs.cancel(statement.job_id, by=request.context.user_id)
        return Result.of_message(statement.kind, f"Job '{job.job_id}' cancelled")
