"""What the tests of subscriptions share: waiting for events, and how they are compared."""

from __future__ import annotations

from typing import Any

from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.events import LiveEvent
from kalamdb_lab.live.subscription import Subscription
from kalamdb_lab.model.jobs import JobStatus

SOON = 20
"""Seconds after which an event that has not come does not come."""

TRACKS = "CREATE USER TABLE tracks (id INT PRIMARY KEY, genre TEXT, seconds INT)"


def ids(event: LiveEvent) -> list[int]:
    return [row["id"] for row in event.rows]


def nexts(subscription: Subscription, count: int) -> list[LiveEvent]:
    events = [subscription.next(SOON) for _ in range(count)]
    assert None not in events
    return [event for event in events if event is not None]


def shown(event: LiveEvent | None) -> tuple[Any, ...]:
    """An event as its kind and the ids in it, the old ones too."""
    assert event is not None
    return (event.kind, tuple(ids(event)), tuple(row["id"] for row in event.old_rows))


def finished(studio: Any, sql: str) -> None:
    """Run a statement that makes a job, and wait for that."""
    for job_id, *_ in studio.session().execute(sql).rows():
        assert studio.database.jobs.wait(job_id, timeout=SOON).status is JobStatus.COMPLETED


def only_sentinel(session: Session, subscription: Subscription, sentinel: int) -> None:
    """Assert that nothing waits: the next event is one that is made now."""
    session.execute("INSERT INTO tracks VALUES (?, 'jz', 1)", [sentinel])
    assert shown(subscription.next(SOON)) == ("insert", (sentinel,), ())
