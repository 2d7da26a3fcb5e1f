"""Jobs: work on a database that has an id, a state and an end."""

from __future__ import annotations

import enum
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

_ID_CHARACTERS = string.digits + string.ascii_letters
_ID_LENGTH = 8
MAX_RETRIES = 3
PRIORITY = "priority"
"""The parameter that says how urgent a job is, where it is not like the others."""


class JobKind(enum.Enum):
    """What a job does; the value is the ``job_type`` of ``system.jobs``."""

    FLUSH = "flush"
    COMPACT = "compact"
    CLEANUP = "cleanup"
    BACKUP = "backup"
    RESTORE = "restore"
    RETENTION = "retention"
    STREAM_EVICTION = "stream_eviction"
    USER_CLEANUP = "user_cleanup"

    @property
    def prefix(self) -> str:
        """What ids of this kind begin with."""
        return _PREFIXES[self]

    def new_id(self) -> str:
        """Return an id that nobody can guess and that no two jobs share but by a miracle."""
        random = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
        return f"{self.prefix}-{random}"


_PREFIXES = {
    JobKind.FLUSH: "FL",
    JobKind.COMPACT: "CO",
    JobKind.CLEANUP: "CL",
    JobKind.BACKUP: "BK",
    JobKind.RESTORE: "RS",
    JobKind.RETENTION: "RT",
    JobKind.STREAM_EVICTION: "SE",
    JobKind.USER_CLEANUP: "UC",
}


class JobStatus(enum.Enum):
    """Where a job stands."""

    NEW = "new"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        """True until the job has come to its end: its idempotency key is taken so long."""
        return self in _ACTIVE

    @property
    def is_waiting(self) -> bool:
        """True until a node took the job."""
        return self in (JobStatus.NEW, JobStatus.QUEUED)

    @property
    def has_owner(self) -> bool:
        """True while one node works on the job."""
        return self in (JobStatus.RUNNING, JobStatus.RETRYING)


_ACTIVE = frozenset({JobStatus.NEW, JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.RETRYING})


@dataclass(frozen=True, slots=True)
class Job:
    """One row of ``system.jobs``. Times are µs since 1970 in UTC.

    Attributes
    ----------
    parameters : mapping
        All that the work needs, as JSON can say it; never a secret.
    idempotency_key : str or None
        Equal for jobs that would do the same; only one of them is active at a time.
    progress : float
        From 0 to 1.
    node_id : str
        The opening of the database that runs the job; the one that made it while it waits.
    message : str or None
        What was done, with numbers, or the short reason why not; how far it is while it runs.
    exception_trace : str or None
        Where a failed job failed.
    """

    job_id: str
    kind: JobKind
    status: JobStatus
    node_id: str
    created_by: str
    created_at_us: int
    updated_at_us: int
    parameters: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None
    retry_count: int = 0
    max_retries: int = MAX_RETRIES
    progress: float = 0.0
    message: str | None = None
    exception_trace: str | None = None
    started_at_us: int | None = None
    finished_at_us: int | None = None

    @property
    def priority(self) -> int:
        """Of waiting jobs the ones with the highest are taken first; 0 for most."""
        given = self.parameters.get(PRIORITY)
        return given if isinstance(given, int) else 0
