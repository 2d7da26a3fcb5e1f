"""``Database.jobs``: jobs for scripts, with the rights of who opened the database."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from kalamdb_lab.authorization.gateway import authorize_kind
from kalamdb_lab.engine.app_context import AppContext
from kalamdb_lab.engine.session import living_role
from kalamdb_lab.errors import (
    ClosedError,
    NotFoundError,
    ParametersError,
    PermissionDeniedError,
)
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE
from kalamdb_lab.model.jobs import Job
from kalamdb_lab.model.roles import Role
from kalamdb_lab.query.request import Request
from kalamdb_lab.sql.commands import ShowJobs

_T = TypeVar("_T")
Jobs: TypeAlias = list[Job]


class DatabaseJobs:
    """The jobs of a database, as `Database.jobs`.

    What it shows and allows is what SHOW JOBS and KILL JOB would to the user who opened the
    database; to root if nobody is named.
    """

    def __init__(self, context: AppContext, user_id: str) -> None:
        self._context = context
        self._user_id = user_id

    def list(self) -> Jobs:
        """Return the jobs, finished ones too, oldest first; role service sees its own.

        Raises
        ------
        PermissionDeniedError
        """
        return self._as(
            lambda role: [job for job in self._context.jobs.jobs() if self._may_see(job, role)],
        )

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Wait until a job is over, in whatever process it runs, and return how it ended.

        Parameters
        ----------
        job_id : str
            As STORAGE FLUSH answers it.
        timeout : float, optional
            Seconds; by default as long as it takes.

        Returns
        -------
        Job
            With ``status`` completed, failed or cancelled, and a ``message``.

        Raises
        ------
        NotFoundError
            There is no such job that this user may see.
        JobTimeoutError
            It is not over in time; it goes on.
        PermissionDeniedError
        """
        if not isinstance(job_id, str):
            raise ParametersError("A job id is a text, as STORAGE FLUSH answers it in job_id")

        def check(role: Role) -> None:
            if not self._may_see(self._context.jobs.job(job_id), role):
                raise NotFoundError("Job", job_id[:64])

        self._as(check)
        return self._context.jobs.wait(job_id, timeout)

    def pause(self) -> None:
        """Start no new job in this process until `resume`; running ones go on, others wait.

        Statements that wait for their job (VACUUM, BACKUP, RESTORE) are refused meanwhile. What
        still waits when the database closes is run by who opens it next.

        Raises
        ------
        PermissionDeniedError
            It needs the role dba or system.
        """
        self._steer(self._context.jobs.pause)

    def resume(self) -> None:
        """Start jobs in this process again.

        Raises
        ------
        PermissionDeniedError
            It needs the role dba or system.
        """
        self._steer(self._context.jobs.resume)

    def _steer(self, steer: Callable[[], None]) -> None:
        def check(role: Role) -> None:
            if role < Role.DBA:
                raise PermissionDeniedError(
                    f"Role '{role.value}' cannot pause or resume jobs; it needs dba or system"
                )

        self._as(check)
        steer()

    def _may_see(self, job: Job, role: Role) -> bool:
        return role >= Role.DBA or job.created_by == self._user_id

    def _as(self, ask: Callable[[Role], _T]) -> _T:
        """Ask with the rights of SHOW JOBS; a refusal leaves a row in the audit trail."""
        context = self._context
        if context.is_stale():
            raise ClosedError("The database was closed")
        role = living_role(context.catalog, self._user_id, must_exist=True)
        with context.audit.watch(_SHOW) as attempt:
            attempt.request = Request(
                ExecutionContext(
                    user_id=self._user_id,
                    actor_id=self._user_id,
                    role=role,
                    namespace=DEFAULT_NAMESPACE,
                    request_id=f"{uuid.uuid4().hex[:12]}-1",
                    origin="session",
                    now_us=context.clock.now_us(),
                )
            )
            authorize_kind(_SHOW.kind, role)
            return ask(role)


_SHOW = ShowJobs(text="", line=1, column=1)
