"""Statements whose jobs are waited for: for tests and measurements of what jobs do."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from kalamdb_lab.engine.session import Session
from kalamdb_lab.model.jobs import Job, JobKind
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.tokens import tokenize

_BEHIND = {
    "DROP TABLE": JobKind.CLEANUP,
    "DROP NAMESPACE": JobKind.CLEANUP,
    "DROP INDEX": JobKind.CLEANUP,
    "CREATE INDEX": JobKind.COMPACT,
}
"""Statements that leave work to a job of which they answer no row."""
_MAKING_JOBS = ("STORAGE FLUSH", "STORAGE COMPACT")
_PATIENCE_S = 120.0


def finished(session: Session, sql: str, params: Sequence[object] | None = None) -> Result:
    """Run SQL as `Session.execute` does, and wait for the jobs of each statement before the next.

    Returns
    -------
    Result
        Of the last statement; a row about a job says how it ended.

    Raises
    ------
    KalamError
        As `Session.execute` does; `JobTimeoutError` if a job takes longer than two minutes.
    """
    result = None
    for found in tokenize(sql):
        text = found.source[found.tokens[0].start : found.tokens[-1].end + 1]
        result = _with_ends(session, session.execute(text, params))
        if result.statement_kind in _BEHIND:
            _wait_for(session, _BEHIND[result.statement_kind])
    assert result is not None, "an empty text is refused before"
    return result


def ended(session: Session, job_id: str) -> Job:
    """Wait for a job, in whatever process it runs, and return how it ended."""
    return session._context.jobs.wait(job_id, _PATIENCE_S)  # noqa: SLF001


def _with_ends(session: Session, result: Result) -> Result:
    if result.statement_kind not in _MAKING_JOBS:
        return result
    table = result.to_arrow()
    jobs = [ended(session, job_id) for job_id in table.column("job_id").to_pylist()]
    for name, values in (
        ("status", [job.status.value for job in jobs]),
        ("message", [job.message for job in jobs]),
    ):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, pa.string()))
    return Result.of_table(result.statement_kind, table)


def _wait_for(session: Session, kind: JobKind) -> None:
    for job in session._context.jobs.jobs():  # noqa: SLF001
        if job.kind is kind and job.status.is_active:
            ended(session, job.job_id)
