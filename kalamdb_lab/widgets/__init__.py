"""Widgets that show a database as it changes: a live table, its jobs, its system tables."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kalamdb_lab.errors import NotSupportedError

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session
    from kalamdb_lab.live.results import LiveResult
    from kalamdb_lab.widgets.job_monitor import JobMonitor
    from kalamdb_lab.widgets.live_table import LiveTable
    from kalamdb_lab.widgets.system_explorer import SystemExplorer

__all__ = ["jobs", "live", "system"]


def live(
    source: Any,
    *,
    session: Session | None = None,
    params: Sequence[object] | None = None,
    key: Sequence[str] | None = None,
    throttle_s: float = 0.1,
) -> LiveTable:
    """Return a table of what a query answers, that changes whenever its data does.

    Parameters
    ----------
    source : str, ibis expression, Subscription or LiveResult
        SQL text of a SELECT, which needs ``session``; an expression, on the session of its own
        connection by default; or what a session gave already. A subscription is read by the
        table from then on and ends with it; a live result stays open.
    session : Session, optional
        With whose rights it is read.
    params : sequence, optional
        Values of the placeholders of SQL text.
    key : sequence of str, optional
        The columns that tell rows apart; by default they are inferred where that is possible.
    throttle_s : float
        Changes that come closer together are shown at once.

    Raises
    ------
    KalamError
        What `Session.live` raises; `NotSupportedError` without the notebook extra.
    """
    table = _module("live_table")
    return table.live_table(  # type: ignore[no-any-return]
        source, session=session, params=params, key=key, throttle_s=throttle_s
    )


def adopted(result: LiveResult) -> LiveTable:
    """Return a table of a live result that ends with the table."""
    view = _module("live_view").LiveView(result)
    return _module("live_table").LiveTable(view)  # type: ignore[no-any-return]


def jobs(session: Session) -> JobMonitor:
    """Return a list of jobs with their progress, and a Cancel button for who may cancel.

    For dba and system all jobs, for service its own.

    Raises
    ------
    PermissionDeniedError
        The session's user may not see jobs.
    """
    return _module("job_monitor").JobMonitor(session)  # type: ignore[no-any-return]


def system(session: Session) -> SystemExplorer:
    """Return a view of namespaces, tables, columns, partitions and sizes, and of rows.

    It has what the statements SHOW and DESCRIBE tell the session's user, and no more.
    """
    return _module("system_explorer").SystemExplorer(session)  # type: ignore[no-any-return]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"kalamdb_lab.widgets.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("anywidget", "ipywidgets", "IPython"):
            raise
        raise NotSupportedError(
            'Live tables need more packages; run pip install "kalamdb-lab[notebook]"'
        ) from None
