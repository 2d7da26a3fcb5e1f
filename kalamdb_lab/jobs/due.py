"""When scheduled work is due: by policies and ages of tables, and by how it went before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kalamdb_lab.jobs.queue import OWNER_GONE
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus
from kalamdb_lab.model.tables import FlushPolicy, TableDef, TableKind
from kalamdb_lab.partitions.hot_tally import TableHot

NEVER_US: Final = 2**62

_SECOND_US: Final = 1_000_000
_HOUR_US: Final = 3_600 * _SECOND_US
_LEAST_PAUSE_US: Final = 5 * _SECOND_US
_MOST_PAUSE_US: Final = 60 * _SECOND_US
_AFTER_FAILURE_US: Final = 60 * _SECOND_US
_MOST_AFTER_FAILURES_US: Final = _HOUR_US


def flush_due_us(policy: FlushPolicy | None, hot: TableHot) -> int:
    """Return when a table is to be flushed, in µs since 1970; `NEVER_US` without a reason to.

    That is at once if a scope has as many hot rows as the policy says, or so many seconds after
    the first hot row of any scope: whichever comes first.
    """
    if policy is None or not hot.scopes:
        return NEVER_US
    if policy.rows is not None and hot.most_rows >= policy.rows:
        return 0
    if policy.interval_s is not None:
        return hot.first_at_us + policy.interval_s * _SECOND_US
    return NEVER_US


def kept_us(table: TableDef) -> int | None:
    """Return for how long events of a STREAM table live, or deleted rows of another; None: ever."""
    options = table.options
    if table.kind is TableKind.STREAM:
        return None if options.ttl_seconds is None else options.ttl_seconds * _SECOND_US
    if table.kind in (TableKind.USER, TableKind.SHARED) and table.is_stored:
        hours = options.deleted_retention_hours
        return None if hours is None else hours * _HOUR_US
    return None


def pause_us(age_us: int) -> int:
    """Return the time between two jobs that take away what has come of that age.

    Something new comes of age all the time: what is young matters soon, and at the latest
    within a minute.
    """
    return min(max(age_us // 10, _LEAST_PAUSE_US), _MOST_PAUSE_US)


def ready_us(history: Sequence[Job], between_us: int) -> int:
    """Return when another job may be made for the same work; 0 for at once.

    Parameters
    ----------
    history : sequence of Job
        All jobs with the key of that work, oldest first. While one is active, that is never.
    between_us : int
        Time from the beginning of a job that did its work to the next one.

    Notes
    -----
    What failed or was cancelled waits for a minute, and each time twice as long up to an hour: a
    disk that is full fills the list of jobs no further. One whose process died is no failure.
    """
    if not history:
        return 0
    last = history[-1]
    if last.status.is_active:
        return NEVER_US
    if last.status is JobStatus.COMPLETED:
        return last.created_at_us + between_us if between_us else 0
    in_vain = 0
    for job in reversed(history):
        if job.status is JobStatus.COMPLETED:
            break
        in_vain += 1
    if in_vain == 1 and last.message == OWNER_GONE:
        return 0
    wait_us = _AFTER_FAILURE_US << min(in_vain - 1, 10)
    ended_at_us = last.updated_at_us if last.finished_at_us is None else last.finished_at_us
    return ended_at_us + min(wait_us, _MOST_AFTER_FAILURES_US)


def key_of(kind: JobKind, table: TableDef) -> str:
    """Return the idempotency key of work on a table, the one that statements use too."""
    return f"{kind.value}:{table.table_id.namespace}:{table.table_id.name}"
