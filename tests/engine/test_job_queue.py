"""Waiting jobs: who makes one, which is taken next, how many run, who waits, and the rights."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from job_runs import KEY, PATIENCE_S, doing, log_of, manager, running, submit

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import (
    JobRunningError,
    JobStateError,
    JobTimeoutError,
    NotFoundError,
)
from kalamdb_lab.jobs.executors import DROPPED, ORPHANS, TASK
from kalamdb_lab.jobs.run import Completed, Decision, JobRun
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def t(fresh: Any) -> Session:
    s: Session = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, body TEXT)")
    s.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    return s


def threads_of_jobs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("kalam-job-")]


# --- making ---------------------------------------------------------------------------------------


def test_a_statement_answers_at_once_and_the_job_goes_through_its_states(
    t: Session, fresh: Any
) -> None:
    jobs, clock = manager(fresh), fresh.clock
    seen: list[JobStatus] = []

    def work(job: Job, run: JobRun) -> Decision:
        clock.advance(2)
        seen.append(jobs.job(job.job_id).status)
        return Completed("Done")

    jobs.pause()
    with doing(jobs, work):
        ((job_id, *answer),) = t.execute("STORAGE FLUSH TABLE t").rows()
        assert answer == ["flush", "studio.t", "queued", None]
        assert jobs.job(job_id).started_at_us is None
        clock.advance(3)
        jobs.resume()
        job = fresh.database.jobs.wait(job_id, timeout=PATIENCE_S)
    assert [*seen, job.status] == [JobStatus.RUNNING, JobStatus.COMPLETED]
    assert job.started_at_us is not None
    assert job.finished_at_us is not None
    assert job.started_at_us - job.created_at_us == 3_000_000
    assert job.finished_at_us - job.started_at_us == 2_000_000
    assert log_of(fresh, job_id) == [
        f"[{job_id}] INFO - Queued: flush:studio:t",
        f"[{job_id}] INFO - Started: flush:studio:t",
        f"[{job_id}] INFO - Completed: Done",
    ]


def test_of_many_threads_one_makes_the_job(fresh: Any) -> None:
    jobs = manager(fresh)
    jobs.pause()
    together = threading.Barrier(8)
    made: list[Job] = []
    refused: list[str] = []

    def ask() -> None:
        together.wait(PATIENCE_S)
        try:
            made.append(submit(jobs))
        except JobRunningError as error:
            refused.append(error.job_id)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [job.job_id for job in jobs.jobs()] == [made[0].job_id]
    assert refused == [made[0].job_id] * 7
    with pytest.raises(JobRunningError, match=r"^Job already running: FL-\w+ \(status: Queued, "):
        submit(jobs)
    assert submit(jobs, "flush:studio:other").status is JobStatus.QUEUED


def test_whether_a_job_is_due_is_asked_inside_the_commit_that_makes_it(fresh: Any) -> None:
    jobs, log = manager(fresh), fresh.database._context.log
    asked: list[int] = []

    def is_due() -> bool:
        asked.append(log.applied_seq)
        return len(asked) > 1

    before = log.applied_seq
    job = jobs.submit(JobKind.FLUSH, key=KEY, parameters={}, created_by="root", is_due=is_due)
    assert job is None
    assert jobs.jobs() == []
    assert log.applied_seq == before
    assert submit(jobs, is_due=is_due).status is JobStatus.QUEUED
    assert asked == [before, before]


def test_all_tables_are_asked_for_in_one_commit(t: Session, fresh: Any) -> None:
    for name in "abc":
        t.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY)")
    manager(fresh).pause()
    rows = t.execute("STORAGE FLUSH ALL IN studio").rows()
    assert [row[2:4] for row in rows] == [(f"studio.{name}", "queued") for name in "abct"]
    made = {manager(fresh).job(row[0]).created_at_us for row in rows}
    assert len(made) == 1
    assert t.execute("STORAGE FLUSH ALL IN studio").rows() == rows, "the same jobs"


# --- taking ---------------------------------------------------------------------------------------


def test_the_most_urgent_is_taken_first_and_then_the_oldest(fresh: Any) -> None:
    jobs = manager(fresh)
    order: list[str] = []

    def work(job: Job, run: JobRun) -> Decision:
        order.append(job.idempotency_key or "")
        return Completed("Done")

    with running(jobs, "compact:first", kind=JobKind.COMPACT), doing(jobs, work):
        jobs.pause()
        made = [
            submit(jobs, key, priority=priority)
            for key, priority in (("a", 0), ("b", 0), ("low", -1), ("high", 5), ("higher", 6))
        ]
        assert [job.priority for job in made] == [0, 0, -1, 5, 6]
        jobs.resume()
        for job in made:
            jobs.wait(job.job_id, PATIENCE_S)
    assert order == ["higher", "high", "a", "b", "low"]


def test_two_jobs_run_at_once_and_no_more(fresh: Any) -> None:
    jobs = manager(fresh)
    pairs = threading.Barrier(2)
    lock = threading.Lock()
    now, most = [0], [0]

    def work(job: Job, run: JobRun) -> Decision:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        pairs.wait(PATIENCE_S)
        with lock:
            now[0] -= 1
        return Completed("Done")

    with doing(jobs, work):
        made = [submit(jobs, str(number)) for number in range(8)]
        ends = [jobs.wait(job.job_id, PATIENCE_S) for job in made]
    assert {job.status for job in ends} == {JobStatus.COMPLETED}, "no one waited in vain"
    assert most == [2]


def test_threads_end_when_there_is_nothing_to_do(fresh: Any, t: Session) -> None:
    of_others = set(threads_of_jobs())  # those of another test may be about to end
    finished(t, "STORAGE FLUSH ALL")
    began = [thread for thread in threads_of_jobs() if thread not in of_others]
    assert 1 <= len(began) <= 2
    for thread in [*began, *of_others]:
        thread.join(PATIENCE_S)
    assert threads_of_jobs() == []
    assert finished(t, "STORAGE FLUSH TABLE t").rows()[0][3] == "completed"


def test_a_paused_process_starts_nothing_and_goes_on_with_what_runs(fresh: Any) -> None:
    jobs, facade = manager(fresh), fresh.database.jobs
    with running(jobs) as (_, ends):
        facade.pause()
        waiting = submit(jobs, "flush:studio:u")
    assert ends[0].status is JobStatus.COMPLETED
    for thread in threads_of_jobs():
        thread.join(PATIENCE_S)
    assert jobs.job(waiting.job_id).status is JobStatus.QUEUED
    with doing(jobs, lambda job, run: Completed("Done")):
        facade.resume()
        assert facade.wait(waiting.job_id, timeout=PATIENCE_S).message == "Done"


def test_a_statement_that_would_wait_for_ever_is_refused(t: Session, fresh: Any) -> None:
    fresh.database.jobs.pause()
    for sql in ("VACUUM", "VACUUM t", "BACKUP DATABASE studio TO 'b'"):
        with pytest.raises(JobStateError, match=r"^Jobs are paused; use db\.jobs\.resume\(\)"):
            t.execute(sql)
    assert fresh.database.jobs.list() == []
    fresh.database.jobs.resume()
    assert t.execute("VACUUM").rows()[0][3] == "completed"


def test_a_statement_that_waits_goes_before_what_others_left(t: Session, fresh: Any) -> None:
    jobs = manager(fresh)
    order: list[JobKind] = []

    def work(job: Job, run: JobRun) -> Decision:
        order.append(job.kind)
        return Completed("Done")

    with (
        doing(jobs, work),
        doing(jobs, work, JobKind.CLEANUP),
        running(jobs, "x", JobKind.BACKUP),
    ):
        with running(jobs, "y", JobKind.RESTORE):
            made = [submit(jobs, str(number)) for number in range(3)]
            vacuum = threading.Thread(target=lambda: t.execute("VACUUM"))
            vacuum.start()
            until_s = time.monotonic() + PATIENCE_S
            while not any(job.kind is JobKind.CLEANUP for job in jobs.jobs()):
                assert time.monotonic() < until_s
        vacuum.join(PATIENCE_S)
        for job in made:
            jobs.wait(job.job_id, PATIENCE_S)
    assert order == [JobKind.CLEANUP, *[JobKind.FLUSH] * 3]


# --- waiting --------------------------------------------------------------------------------------


def test_who_waits_too_shortly_is_told_that_the_job_goes_on(fresh: Any) -> None:
    with running(manager(fresh)) as (job_id, ends):
        with pytest.raises(JobTimeoutError) as caught:
            fresh.database.jobs.wait(job_id, timeout=0.05)
        assert str(caught.value) == f"Job '{job_id}' is still running after 0.05 s; it goes on"
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.code == "JOB_STATE"
    assert ends[0].status is JobStatus.COMPLETED
    assert fresh.database.jobs.wait(job_id, timeout=0) == ends[0], "over already"
    with pytest.raises(NotFoundError, match=r"^Job 'FL-nothere' not found$"):
        fresh.database.jobs.wait("FL-nothere")


def test_who_waits_here_is_woken_by_the_end(fresh: Any) -> None:
    began = threading.Event()
    ended: list[Job] = []
    with running(manager(fresh)) as (job_id, _):

        def wait() -> None:
            began.set()
            ended.append(fresh.database.jobs.wait(job_id))

        thread = threading.Thread(target=wait)
        thread.start()
        began.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert [job.status for job in ended] == [JobStatus.COMPLETED]


def test_who_waits_for_a_job_that_is_cancelled_gets_it(t: Session, fresh: Any) -> None:
    manager(fresh).pause()
    ((job_id, *_),) = t.execute("FLUSH TABLE t").rows()
    ended: list[Job] = []
    thread = threading.Thread(target=lambda: ended.append(fresh.database.jobs.wait(job_id)))
    thread.start()
    t.execute(f"KILL JOB '{job_id}'")
    thread.join(PATIENCE_S)
    assert [job.message for job in ended] == ["Cancelled by 'root'"]


# --- what jobs do ---------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["FLUSH", "COMPACT"])
def test_a_table_that_was_dropped_meanwhile_needs_nothing(
    t: Session, fresh: Any, verb: str
) -> None:
    manager(fresh).pause()
    ((job_id, *_),) = t.execute(f"STORAGE {verb} TABLE t").rows()
    t.execute("DROP TABLE t")
    manager(fresh).resume()
    job = fresh.database.jobs.wait(job_id, timeout=PATIENCE_S)
    assert (job.status, job.message) == (
        JobStatus.COMPLETED, "Table 'studio.t' was dropped meanwhile: nothing to do",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "parameters", "first", "second"),
    [
        (JobKind.FLUSH, {}, "Flushed 1 row into 1 segment", "Flushed 0 rows: nothing to do"),
        (
            JobKind.COMPACT, {},
            "Compacted 3 segments into 1, 2 removed versions dropped",
            "Compacted 0 segments: nothing to do",
        ),
        (
            JobKind.RETENTION, {},
            "Removed 2 row versions, deleted 2 segments", "Removed 0 row versions: nothing to do",
        ),
        (
            JobKind.CLEANUP, {},
            "Removed 2 row versions, deleted 2 segments", "Removed 0 row versions: nothing to do",
        ),
        (
            JobKind.CLEANUP, {TASK: DROPPED},
            "Deleted 0 segments: nothing to do", "Deleted 0 segments: nothing to do",
        ),
        (
            JobKind.CLEANUP, {TASK: ORPHANS},
            "Deleted 0 segments: nothing to do", "Deleted 0 segments: nothing to do",
        ),
        (
            JobKind.STREAM_EVICTION, {"table_name": "plays"},
            "Evicted 2 events", "Evicted 0 events",
        ),
        (
            JobKind.USER_CLEANUP, {"user_count": 1},
            "Erased 0 users: nothing to do", "Erased 0 users: nothing to do",
        ),
    ],
)  # fmt: skip
def test_work_that_is_done_twice_is_done_once(
    t: Session, fresh: Any, kind: JobKind, parameters: Any, first: str, second: str
) -> None:
    finished(t, "CREATE STREAM TABLE plays (id INT PRIMARY KEY) WITH (TTL_SECONDS = 60)")
    finished(t, "INSERT INTO plays VALUES (1), (2); FLUSH TABLE t; INSERT INTO t VALUES (3, 'x')")
    finished(t, "FLUSH TABLE t; UPDATE t SET body = 'z' WHERE id IN (1, 3)")
    finished(t, "INSERT INTO t VALUES (4, 'four')" if kind is JobKind.FLUSH else "FLUSH TABLE t")
    if kind is JobKind.FLUSH:
        finished(t, "FLUSH TABLE t; INSERT INTO t VALUES (5, 'five')")
    fresh.clock.advance(120)
    rows = t.execute("SELECT * FROM t ORDER BY id").rows()
    jobs = manager(fresh)
    for expected in (first, second):
        given = {"namespace_id": "studio", "table_name": "t", **parameters}
        job = jobs.submit(kind, key="again", parameters=given, created_by="root")
        assert job is not None
        assert jobs.wait(job.job_id, PATIENCE_S).message == expected
        assert t.execute("SELECT * FROM t ORDER BY id").rows() == rows


def test_backups_and_restores_that_are_done_twice_change_nothing(t: Session, fresh: Any) -> None:
    jobs = manager(fresh)

    def again(kind: JobKind) -> tuple[JobStatus, str | None]:
        parameters = {"namespace_id": "studio", "path": "b"}
        job = jobs.submit(kind, key="again", parameters=parameters, created_by="root")
        assert job is not None
        ended = jobs.wait(job.job_id, PATIENCE_S)
        return ended.status, ended.message

    assert again(JobKind.BACKUP) == (
        JobStatus.COMPLETED, "Backed up 1 table with 2 rows to 'b'",
    )  # fmt: skip
    assert again(JobKind.BACKUP)[0] is JobStatus.FAILED
    assert again(JobKind.RESTORE) == (JobStatus.FAILED, "Namespace 'studio' already exists")
    finished(t, "DROP NAMESPACE studio CASCADE")
    assert again(JobKind.RESTORE) == (
        JobStatus.COMPLETED, "Restored 1 table with 2 rows from 'b'",
    )  # fmt: skip
    assert again(JobKind.RESTORE)[0] is JobStatus.FAILED
    assert fresh.session().execute("SELECT count(*) FROM t").rows() == [(2,)]
