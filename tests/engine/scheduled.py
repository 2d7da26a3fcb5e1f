"""Databases whose schedules look when a test says so, and what came of a look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.engine.session import Session
from kalamdb_lab.model.jobs import Job

PATIENCE_S = 60.0


class Lab:
    """An open directory with a clock that stands still, and its schedules."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.path = path
        self.database = kalam.open(path, clock=clock)
        self.context = self.database._context
        self.schedules = self.context.schedules

    def session(self, user: str = "root") -> Session:
        return self.database.session(user, namespace="studio")

    def look(self) -> list[str]:
        """Let the schedules look once; return the jobs they made, as they ended."""
        return [told(job) for job in self.looked()]

    def looked(self) -> list[Job]:
        before = {job.job_id for job in self.context.jobs.jobs()}
        self.schedules.look()
        made = [job for job in self.context.jobs.jobs() if job.job_id not in before]
        return [self.context.jobs.wait(job.job_id, PATIENCE_S) for job in made]

    def until(self, holds: Callable[[], object], within_s: float) -> bool:
        """Wait for steps of jobs of this process until something holds."""
        deadline_s = time.monotonic() + within_s
        changed = self.context.jobs._workers.changed
        while not holds():
            if time.monotonic() > deadline_s:
                return False
            with changed:
                changed.wait(0.1)
        return True

    def close(self) -> None:
        self.database.close()


def told(job: Job) -> str:
    where = job.parameters
    return f"{job.kind.value} {where['namespace_id']}.{where['table_name']}: {job.message}"


@contextmanager
def lab(path: Path, settings: str = "", clock: FakeClock | None = None) -> Iterator[Lab]:
    """A database with these lines in its settings and a namespace ``studio``."""
    path.mkdir(exist_ok=True)
    text = f'durability = "normal"\nbulk_rows = 1000\njob_retry_s = 0.0\n{settings}\n'
    (path / "kalam.toml").write_text(text)
    made = Lab(path, clock or FakeClock())
    made.database.session().execute("CREATE NAMESPACE IF NOT EXISTS studio")
    try:
        yield made
    finally:
        made.close()


def kept(session: Session, table: str) -> tuple[Any, Any]:
    """Hot rows and segments of a table, of all scopes."""
    (row,) = session.execute(f"SHOW STATS FOR TABLE {table}").rows()
    return row[4], row[5]
