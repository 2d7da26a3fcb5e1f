"""Ends of jobs that could not be written when they came are written later, as they were."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_runs import PATIENCE_S, manager, run, running, submit

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock, KalamError
from kalamdb_lab.engine.database import Database
from kalamdb_lab.errors import (
    CorruptError,
    InterruptedStatementError,
    JobRunningError,
    JobStateError,
)
from kalamdb_lab.jobs.run import JobRun
from kalamdb_lab.model.jobs import JobKind, JobStatus
from kalamdb_lab.query.request import Interruption

STATES = "SELECT status, message FROM system.jobs ORDER BY created_at, job_id"


class Lab:
    """Two contexts on one directory, as two processes have, and a third that is in the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database, self.other = self.open(), self.open()
        self._busy: list[sqlite3.Connection] = []

    def open(self) -> Database:
        return kalam.open(self.path, clock=FakeClock())

    def states(self) -> list[tuple[Any, ...]]:
        return list(self.other.session().execute(STATES).rows())

    def block(self) -> None:
        connection = sqlite3.connect(
            self.path / "catalog.sqlite", isolation_level=None, check_same_thread=False
        )
        connection.execute("BEGIN IMMEDIATE")
        self._busy.append(connection)

    def unblock(self) -> None:
        while self._busy:
            self._busy.pop().close()

    def end_unwritten(self, raises: bool = False) -> JobStatus | None:
        def work(_: JobRun) -> str:
            self.block()
            if raises:
                raise KalamError("No")
            return "Done"

        try:
            return run(manager(self), work).status
        except KalamError:
            return None
        finally:
            self.unblock()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\nbusy_timeout_s = 0.2\n')
    lab = Lab(path)
    yield lab
    lab.unblock()
    lab.database.close()
    lab.other.close()


def test_work_that_was_done_is_not_failed_for_its_row(lab: Lab) -> None:
    assert lab.end_unwritten() is JobStatus.COMPLETED
    assert lab.states() == [("running", None)]
    assert run(manager(lab), lambda _: "Again").message == "Again"
    assert sorted(lab.states()) == [("completed", "Again"), ("completed", "Done")]


def test_others_may_run_it_once_its_owner_wrote_the_end(lab: Lab) -> None:
    lab.end_unwritten()
    others = lab.other._context.jobs
    with pytest.raises(JobRunningError):
        run(others, lambda _: "Mine")
    lab.database.session().execute("SHOW JOBS")
    assert run(others, lambda _: "Mine").message == "Mine"


@pytest.mark.parametrize(
    "later", [lambda lab: manager(lab).jobs(), lambda lab: lab.database.close()]
)
@pytest.mark.parametrize(
    ("raises", "state"), [(False, ("completed", "Done")), (True, ("failed", "No"))]
)
def test_a_listing_and_closing_write_the_end(
    lab: Lab, later: Callable[[Lab], object], raises: bool, state: tuple[str, str]
) -> None:
    lab.end_unwritten(raises)
    assert lab.states() == [("running", None)]
    later(lab)
    assert lab.states() == [state]


def test_what_ended_is_neither_active_nor_to_be_cancelled(lab: Lab) -> None:
    lab.end_unwritten()
    jobs = manager(lab)
    (job_id,) = jobs._queue._ends._ends
    assert not jobs.is_active({JobKind.FLUSH})
    with pytest.raises(JobStateError, match="already completed"):
        jobs.cancel(job_id, by="root")
    lab.block()
    assert [job.status for job in jobs.jobs()] == [JobStatus.RUNNING]
    lab.unblock()
    assert [job.status for job in jobs.jobs()] == [JobStatus.COMPLETED]


# --- what else a database that cannot be written hinders ------------------------------------------


def test_what_a_busy_database_hinders_after_a_flush_does_not_make_it_flush_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = lab.database.session()
    s.execute("CREATE TABLE t (id INT); INSERT INTO t VALUES (1), (2)")
    keeper = lab.database._context.writer._system

    def block_once() -> None:  # the segment is published by then
        monkeypatch.undo()
        lab.block()

    monkeypatch.setattr(keeper, "keep", block_once)
    last_resort = threading.Timer(5, lab.unblock)
    last_resort.start()
    job = manager(lab).run(
        JobKind.FLUSH,
        key="flush:default:t",
        parameters={"namespace_id": "default", "table_name": "t"},
        created_by="root",
    )
    last_resort.cancel()
    assert (job.message, job.retry_count) == ("Flushed 2 rows into 1 segment", 0)


def test_a_statement_interrupted_while_its_job_waits_and_the_database_is_busy_leaves_none(
    lab: Lab,
) -> None:
    jobs, interruption = manager(lab), Interruption()
    caught: list[KalamError] = []

    def ask() -> None:
        try:
            jobs.run(
                JobKind.CLEANUP, key="k", parameters={}, created_by="root",
                interruption=interruption,
            )  # fmt: skip
        except KalamError as error:
            caught.append(error)

    with running(jobs, "one"), running(jobs, "two", JobKind.COMPACT):
        thread = threading.Thread(target=ask)
        thread.start()
        while not any(job.idempotency_key == "k" for job in jobs.jobs()):
            assert thread.is_alive()
        lab.block()
        interruption.interrupt()
        thread.join(1)  # so long it finds the database busy, several times
        lab.unblock()
        thread.join(PATIENCE_S)
        assert [type(error) for error in caught] == [InterruptedStatementError]
        (job,) = [job for job in jobs.jobs() if job.idempotency_key == "k"]
        assert (job.status, job.started_at_us) == (JobStatus.CANCELLED, None)


def test_closing_ends_also_if_waiting_jobs_can_never_be_taken(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(statement: str, wait_s: float) -> None:
        raise CorruptError("The catalog is damaged")

    jobs = manager(lab)
    jobs.pause()
    submit(jobs)
    jobs._workers._is_paused = False
    with monkeypatch.context() as patch:
        patch.setattr(lab.database._context.store, "_retried", damaged)
        thread = threading.Thread(target=lab.database.close)
        thread.start()
        thread.join(10)
        is_over = not thread.is_alive()
    thread.join(PATIENCE_S)
    assert is_over
