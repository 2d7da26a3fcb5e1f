"""Jobs that cannot be done now are tried again, later and later; what cannot heal fails at once."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from job_runs import PATIENCE_S, doing, log_of, manager, submit

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import (
    BusyError,
    ConflictError,
    CorruptError,
    KalamError,
    NotFoundError,
    StorageError,
)
from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.jobs.run import Completed, Decision, JobRun, Retry
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus

FULL = "The disk is full; nothing was changed"


@pytest.fixture
def t(fresh: Any) -> Session:
    s: Session = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
    return s


@pytest.fixture
def patient(fresh: Any) -> JobManager:
    """A manager that waits for half a minute before it tries again."""
    jobs = manager(fresh)
    jobs._workers._backoff_s = 30.0
    return jobs


class Failing:
    """Work that fails so many times; when it was tried, in seconds."""

    def __init__(self, times: int, error: Callable[[], Exception]) -> None:
        self.left = times
        self.tried_s: list[float] = []
        self.retries: list[int] = []
        self._error = error

    def __call__(self, job: Job, run: JobRun) -> Decision:
        self.retries.append(job.retry_count)
        self.tried_s.append(time.monotonic())
        self.left -= 1
        if self.left >= 0:
            raise self._error()
        return Completed("Done")


def disk_full() -> Exception:
    return StorageError(FULL)


def test_a_job_is_tried_again_after_longer_and_longer_times(fresh: Any) -> None:
    jobs, work = manager(fresh), Failing(3, disk_full)
    jobs._workers._backoff_s = 0.05
    with doing(jobs, work):
        job = jobs.wait(submit(jobs).job_id, PATIENCE_S)
    assert (job.status, job.message, job.retry_count) == (JobStatus.COMPLETED, "Done", 3)
    assert job.exception_trace is None
    assert work.retries == [0, 1, 2, 3]
    pauses = [after - before for before, after in zip(work.tried_s, work.tried_s[1:], strict=False)]
    assert [pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2), strict=True)] == [
        True, True, True,
    ]  # fmt: skip
    head = f"[{job.job_id}]"
    assert log_of(fresh) == [
        f"{head} INFO - Queued: flush:studio:t",
        f"{head} INFO - Started: flush:studio:t",
        f"{head} WARN - Retrying: {FULL} (retry 1 of 3 in 0.05 s)",
        f"{head} INFO - Started: flush:studio:t",
        f"{head} WARN - Retrying: {FULL} (retry 2 of 3 in 0.1 s)",
        f"{head} INFO - Started: flush:studio:t",
        f"{head} WARN - Retrying: {FULL} (retry 3 of 3 in 0.2 s)",
        f"{head} INFO - Started: flush:studio:t",
        f"{head} INFO - Completed: Done",
    ]


@pytest.mark.parametrize("error", [BusyError, lambda: ConflictError("No"), disk_full])
def test_after_three_retries_it_has_failed(fresh: Any, error: Callable[[], Exception]) -> None:
    jobs, work = manager(fresh), Failing(9, error)
    with doing(jobs, work):
        job = jobs.wait(submit(jobs).job_id, PATIENCE_S)
    assert (job.status, job.message, job.retry_count) == (JobStatus.FAILED, str(error()), 3)
    assert job.exception_trace is not None
    assert len(work.tried_s) == 4
    assert log_of(fresh)[-1] == f"[{job.job_id}] ERROR - Failed: {error()}"


@pytest.mark.parametrize(
    "error",
    [lambda: CorruptError("Damaged"), lambda: NotFoundError("Table", "t"), lambda: ValueError("x")],
)
def test_what_waiting_cannot_heal_fails_at_once(fresh: Any, error: Callable[[], Exception]) -> None:
    jobs, work = manager(fresh), Failing(1, error)
    with doing(jobs, work):
        job = jobs.wait(submit(jobs).job_id, PATIENCE_S)
    assert (job.status, job.retry_count, len(work.tried_s)) == (JobStatus.FAILED, 0, 1)


def test_work_may_decide_to_be_tried_again(fresh: Any) -> None:
    jobs = manager(fresh)

    def work(job: Job, run: JobRun) -> Decision:
        return Completed("Done") if job.retry_count == 2 else Retry("Not yet")

    with doing(jobs, work):
        assert jobs.wait(submit(jobs).job_id, PATIENCE_S).retry_count == 2
    with doing(jobs, lambda job, run: Retry("Never")):
        job = jobs.wait(submit(jobs).job_id, PATIENCE_S)
    assert (job.status, job.message) == (JobStatus.FAILED, "Never")


def until(jobs: JobManager, job_id: str, status: JobStatus) -> Job:
    until_s = time.monotonic() + PATIENCE_S
    while True:
        job = jobs.job(job_id)
        if job.status is status:
            return job
        assert time.monotonic() < until_s
        with jobs._workers.changed:
            jobs._workers.changed.wait(0.01)


def test_a_job_that_waits_for_its_retry_says_why_and_holds_up_nobody(
    fresh: Any, patient: JobManager, t: Session
) -> None:
    work = Failing(1, disk_full)
    with doing(patient, work):
        first = submit(patient, "0")
        job = until(patient, first.job_id, JobStatus.RETRYING)
        more = [submit(patient, str(number)) for number in range(1, 4)]
        assert (job.message, job.retry_count) == (FULL, 1)
        assert job.exception_trace is not None
        assert job.exception_trace.endswith(f"StorageError: {FULL}")
        with pytest.raises(KalamError, match=r"\(status: Retrying, created: "):
            submit(patient, "0")
        others = [patient.wait(job.job_id, PATIENCE_S) for job in more]
        assert {job.status for job in others} == {JobStatus.COMPLETED}
        t.execute(f"KILL JOB '{job.job_id}'")
    assert patient.wait(job.job_id, PATIENCE_S).message == "Cancelled by 'root'"
    fresh.database.close()
    assert len(work.tried_s) == 4, "the cancelled one was not tried again"


@pytest.mark.parametrize("by", ["this process", "another"])
def test_a_job_cancelled_between_two_tries_is_over_at_once(
    fresh: Any, patient: JobManager, opener: Any, by: str
) -> None:
    work = Failing(1, disk_full)
    other = opener(Path(fresh.database.path), fresh.clock)
    with doing(patient, work):
        job_id = submit(patient).job_id
        until(patient, job_id, JobStatus.RETRYING)
        manager(fresh if by == "this process" else other).cancel(job_id, by="dora")
        assert patient.wait(job_id, 10).message == "Cancelled by 'dora'"
        assert submit(patient).status is JobStatus.QUEUED, "its key is free"
    other.database.close()


def test_closing_does_not_wait_for_the_time_of_a_retry(fresh: Any, patient: JobManager) -> None:
    work = Failing(1, disk_full)
    with doing(patient, work):
        job_id = submit(patient).job_id
        until(patient, job_id, JobStatus.RETRYING)
        began_s = time.monotonic()
        fresh.database.close()
        assert time.monotonic() - began_s < 15
    assert len(work.tried_s) == 2
    assert log_of(fresh)[-1] == f"[{job_id}] INFO - Completed: Done"


def test_a_statement_that_waits_is_told_what_failed_its_job_at_the_end(fresh: Any) -> None:
    jobs, work = manager(fresh), Failing(9, disk_full)
    with doing(jobs, work), pytest.raises(StorageError) as caught:
        jobs.run(JobKind.FLUSH, key="k", parameters={}, created_by="root")
    assert str(caught.value) == FULL
    assert len(work.tried_s) == 4
    error = CorruptError("A segment of studio.t is damaged")

    def raising(job: Job, run: JobRun) -> Decision:
        raise error

    with doing(jobs, raising), pytest.raises(CorruptError) as other:
        jobs.run(JobKind.FLUSH, key="k", parameters={}, created_by="root")
    assert other.value is error


def test_an_interrupt_ends_the_wait_for_a_retry(fresh: Any, patient: JobManager) -> None:
    from kalamdb_lab.errors import InterruptedStatementError
    from kalamdb_lab.query.request import Interruption

    interruption, work = Interruption(), Failing(1, disk_full)
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            patient.run(
                JobKind.FLUSH, key="k", parameters={}, created_by="root", interruption=interruption
            )
        except InterruptedStatementError as error:
            caught.append(error)

    def checked(job: Job, run: JobRun) -> Decision:
        run.check()
        return work(job, run)

    with doing(patient, checked):
        thread = threading.Thread(target=ask)
        thread.start()
        until_s = time.monotonic() + PATIENCE_S
        while not patient.jobs():
            assert time.monotonic() < until_s
        until(patient, patient.jobs()[0].job_id, JobStatus.RETRYING)
        interruption.interrupt()
        thread.join(PATIENCE_S)
    assert len(caught) == 1
    assert patient.jobs()[0].status is JobStatus.CANCELLED
    assert len(work.tried_s) == 1


def test_a_storage_that_comes_back_is_flushed_to(t: Session, fresh: Any) -> None:
    """The real thing: its directory is gone, and there again at the next try."""
    storage, jobs = Path(fresh.database.path, "storage"), manager(fresh)
    shutil.rmtree(storage)
    jobs._workers._backoff_s = 0.2
    ((job_id, *_),) = t.execute("STORAGE FLUSH TABLE t").rows()
    until(jobs, job_id, JobStatus.RETRYING)
    storage.mkdir()
    job = jobs.wait(job_id, PATIENCE_S)
    assert (job.status, job.message) == (JobStatus.COMPLETED, "Flushed 2 rows into 1 segment")
    assert job.retry_count >= 1
    assert t.execute("SELECT id FROM t ORDER BY id").rows() == [(1,), (2,)]
