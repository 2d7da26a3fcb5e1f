"""The job monitor: what the database works on, as it goes on."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.engine.session import Session
from kalamdb_lab.model.jobs import JobStatus
from kalamdb_lab.model.roles import Role
from kalamdb_lab.widgets.grid import Grid
from kalamdb_lab.widgets.live_table import LiveTable
from kalamdb_lab.widgets.live_view import LiveView
from kalamdb_lab.widgets.screen import Manner
from kalamdb_lab.widgets.sources import PolledRows, Source

FINISHED_S: Final = 600.0
"""Jobs leave the view so long after their end; ``SHOW JOBS`` has them all the same."""

_MOST: Final = 500
_ALL: Final = f"""
SELECT job_id, job_type, parameters, status, progress, message, created_at, started_at, finished_at
FROM system.jobs
ORDER BY CASE WHEN finished_at IS NULL THEN 0 ELSE 1 END, created_at DESC, job_id
LIMIT {_MOST}
"""
_OWN: Final = "SHOW JOBS"
_KEY: Final = ("job_id",)
_LOOKS: Final = {"status": "state", "progress": "bar", "cancel": "button"}
_ACTIVE: Final = frozenset(status.value for status in JobStatus if status.is_active)


class JobMonitor(LiveTable):
    """The jobs that a user may see, newest first; made by `kalamdb_lab.widgets.jobs`.

    For dba and system all jobs, with a button that cancels; for service its own ones. A job
    leaves the view ten minutes after its end, as the view says.
    """

    def __init__(self, session: Session) -> None:
        source: Source
        may_cancel = session.role >= Role.DBA
        if may_cancel:
            source = session.live(_ALL, key=_KEY)
        else:
            source = PolledRows(session, partial(_own_jobs, session), _KEY, every_s=0.25)
        manner = Manner(
            word="jobs",
            looks=_LOOKS,
            about=f"jobs of the last {FINISHED_S / 60:.0f} minutes; SHOW JOBS lists all",
            arrange=partial(shown_jobs, may_cancel=may_cancel),
            act=partial(_cancel, session) if may_cancel else None,
        )
        grid = Grid(label="jobs", fading="quiet", height=10)
        super().__init__(LiveView(source, manner, grid=grid))


def shown_jobs(jobs: pa.Table, *, may_cancel: bool, now_s: float | None = None) -> pa.Table:
    """Return jobs as the monitor shows them.

    Parameters
    ----------
    jobs : pa.Table
        Rows of ``system.jobs`` or ``SHOW JOBS``.
    now_s : float, optional
        Seconds since 1970; now by default.
    """
    now_s = time.time() if now_s is None else now_s
    kept = []
    for row in jobs.to_pylist():
        finished = row["finished_at"]
        if finished is None or now_s - finished.timestamp() < FINISHED_S:
            kept.append(row)
    kept.sort(key=lambda row: (row["created_at"], row["job_id"]), reverse=True)
    is_active = [row["status"] in _ACTIVE for row in kept]
    texts = {
        "job_id": [row["job_id"] for row in kept],
        "job": [row["job_type"] for row in kept],
        "of": [_target(row.get("parameters")) for row in kept],
        "status": [row["status"] for row in kept],
        "progress": [row["progress"] for row in kept],
        "age": [_age(row, now_s) for row in kept],
        "cancel": ["Cancel" if active and may_cancel else "" for active in is_active],
        "message": [row["message"] or "" for row in kept],
    }
    if "parameters" not in jobs.column_names:
        del texts["of"]
    if not may_cancel:
        del texts["cancel"]
    return pa.table(
        {
            name: pa.array(values, pa.float64() if name == "progress" else pa.string())
            for name, values in texts.items()
        }
    )


def _own_jobs(session: Session) -> pa.Table:
    jobs = session.execute(_OWN).to_arrow()
    newest = pc.sort_indices(jobs, [("created_at", "descending"), ("job_id", "ascending")])
    return jobs.take(newest.slice(0, _MOST))


def _cancel(session: Session, row: dict[str, Any]) -> None:
    session.execute(f"KILL JOB '{row['job_id'].replace(chr(39), chr(39) * 2)}'")


def _target(parameters: str | None) -> str:
    found = json.loads(parameters) if parameters else {}
    names = (found.get("namespace_id"), found.get("table_name"))
    return ".".join(str(name) for name in names if name)


def _age(row: dict[str, Any], now_s: float) -> str:
    if row["finished_at"] is not None:
        return f"{_span(now_s - row['finished_at'].timestamp())} ago"
    if row["started_at"] is not None:
        return f"for {_span(now_s - row['started_at'].timestamp())}"
    return f"waits {_span(now_s - row['created_at'].timestamp())}"


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{max(0, int(seconds))} s"
    return f"{int(seconds / 60)} min" if seconds < 3_600 else f"{seconds / 3_600:.1f} h"
