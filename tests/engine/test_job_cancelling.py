"""Jobs that are cancelled or interrupted stop at a safe point; until then they show progress."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from job_runs import (
    PATIENCE_S,
    doing,
    log_of,
    manager,
    process,
    put,
    run,
    running,
    submit,
    tell,
)

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import (
    InterruptedStatementError,
    JobStateError,
    KalamError,
    StorageError,
)
from kalamdb_lab.jobs.run import Completed, Decision, JobCancelledError, JobRun
from kalamdb_lab.model.jobs import Job, JobStatus
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def t(fresh: Any) -> Session:
    s: Session = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, body TEXT)")
    s.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    return s


# --- cancelling -----------------------------------------------------------------------------------


def test_only_jobs_that_are_not_at_their_end_can_be_cancelled(t: Session, refused: Any) -> None:
    error = refused(t, "KILL JOB 'FL-9kQ2xa'")
    assert (error.code, str(error)) == ("NOT_FOUND", "Job 'FL-9kQ2xa' not found")
    assert len(str(refused(t, f"KILL JOB '{'x' * 9_000}'"))) < 100
    ((job_id, *_),) = finished(t, "FLUSH TABLE t").rows()
    for verb in ("KILL", "CANCEL"):
        error = refused(t, f"{verb} JOB '{job_id}'")
        assert (error.code, str(error)) == (
            "JOB_STATE",
            f"Job '{job_id}' is already completed and cannot be cancelled",
        )


@pytest.mark.parametrize("status", [JobStatus.NEW, JobStatus.QUEUED])
def test_a_waiting_job_is_cancelled_and_does_nothing(
    t: Session, fresh: Any, refused: Any, status: JobStatus
) -> None:
    jobs = manager(fresh)
    jobs.pause()
    put(fresh, status, fresh.database._context.presence.node_id)
    assert refused(t, "FLUSH TABLE t").code == "JOB_RUNNING"
    assert t.execute("CANCEL JOB 'FL-waiting1'").rows() == [("Job 'FL-waiting1' cancelled",)]
    job = jobs.job("FL-waiting1")
    assert (job.status, job.message) == (JobStatus.CANCELLED, "Cancelled by 'root'")
    jobs.resume()
    assert finished(t, "FLUSH TABLE t").rows()[0][3] == "completed"


def test_a_running_job_of_another_thread_stops_at_its_next_safe_point(
    t: Session, fresh: Any, refused: Any
) -> None:
    with running(manager(fresh)) as (job_id, ends):
        t.execute(f"KILL JOB '{job_id}'")
        assert str(refused(t, f"KILL JOB '{job_id}'")) == (
            f"Job '{job_id}' is already cancelled and cannot be cancelled"
        )
    (job,) = ends
    assert (job.job_id, job.status, job.message) == (
        job_id, JobStatus.CANCELLED, "Cancelled by 'root'",
    )  # fmt: skip
    assert job == manager(fresh).job(job_id)
    assert log_of(fresh)[2:] == [f"[{job_id}] WARN - Cancelled: by 'root'"]


def test_a_running_job_of_another_process_stops_too(t: Session, fresh: Any) -> None:
    with process(fresh.database.path) as (other, job_id):
        tell(other, "check")
        t.execute(f"KILL JOB '{job_id}'")
        tell(other, "check")
        assert other.stdout is not None
        assert other.stdout.readline() == "cancelled Cancelled by 'root'\n"


def test_a_job_looks_for_its_cancellation_within_one_statement(fresh: Any, opener: Any) -> None:
    """A statement looks for commits of others once; a job that goes on for long looks again."""
    other = opener(Path(fresh.database.path), fresh.clock)

    def work(run: JobRun) -> str:
        run.check()
        other.session().execute(f"KILL JOB '{run.job_id}'")
        run.check()
        return "Done"

    job = run(manager(fresh), work)
    assert (job.status, job.message) == (JobStatus.CANCELLED, "Cancelled by 'root'")
    other.database.close()


def test_a_job_that_is_past_its_last_safe_point_stays_cancelled_and_tells(fresh: Any) -> None:
    jobs = manager(fresh)

    def work(run: JobRun) -> str:
        jobs.cancel(run.job_id, by="dora")
        return "Flushed 2 rows into 1 segment"

    job = run(jobs, work)
    assert job.status is JobStatus.CANCELLED
    assert job.message == "Cancelled by 'dora', after it had: Flushed 2 rows into 1 segment"


def test_a_cancelled_job_that_fails_on_its_way_stays_cancelled(fresh: Any) -> None:
    jobs = manager(fresh)

    def work(run: JobRun) -> str:
        jobs.cancel(run.job_id, by="dora")
        raise StorageError("The disk is full; nothing was changed")

    with pytest.raises(StorageError):
        run(jobs, work)
    assert jobs.jobs()[0].status is JobStatus.CANCELLED


@pytest.mark.parametrize("verb", ["FLUSH", "COMPACT"])
def test_cancelled_work_leaves_nothing_half_done(
    t: Session, fresh: Any, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    finished(
        t,
        "FLUSH TABLE t; INSERT INTO t VALUES (3, 'three'); FLUSH TABLE t;"
        "INSERT INTO t VALUES (4, 'four')",
    )
    files = sorted(Path(fresh.database.path, "storage", "studio").rglob("*"))
    rows = t.execute("SELECT * FROM t ORDER BY id").rows()
    calls = []
    check = JobRun.check

    def cancel_first(self: JobRun) -> None:
        calls.append(1)
        if len(calls) == 2:
            monkeypatch.undo()
            manager(fresh).cancel(self.job_id, by="root")
        check(self)

    monkeypatch.setattr(JobRun, "check", cancel_first)
    ((_, _, _, status, _),) = finished(t, f"STORAGE {verb} TABLE t").rows()
    assert status == "cancelled"
    assert sorted(Path(fresh.database.path, "storage", "studio").rglob("*")) == files
    assert t.execute("SELECT * FROM t ORDER BY id").rows() == rows
    assert finished(t, f"STORAGE {verb} TABLE t").rows()[0][3] == "completed"
    assert t.execute("SELECT * FROM t ORDER BY id").rows() == rows


def test_interrupting_the_statement_that_waits_cancels_its_job(
    t: Session, fresh: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    t.execute("CREATE TABLE a (id INT); INSERT INTO a VALUES (1)")
    check = JobRun.check

    def interrupt_first(self: JobRun) -> None:
        monkeypatch.undo()
        t.interrupt()
        check(self)

    for sql in ("VACUUM", "VACUUM t", "BACKUP DATABASE studio TO 'b'"):
        monkeypatch.setattr(JobRun, "check", interrupt_first)
        error = refused(t, sql)
        assert (error.code, str(error)) == ("INTERRUPTED", "Interrupted; nothing was changed")
    jobs = t.execute("SELECT status, message FROM system.jobs").rows()
    assert jobs == [("cancelled", "Cancelled by 'root'")] * 3
    assert not Path(fresh.database.path, "b").exists()
    for sql in ("VACUUM", "VACUUM t"):
        assert t.execute(sql).rows()[0][3] == "completed"


def test_a_job_that_is_being_taken_while_closing_is_interrupted_stops_too(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = manager(fresh)
    claim = jobs._queue.claim

    def interrupted(**options: Any) -> Job | None:
        job = claim(**options)
        if job is not None:
            jobs._workers._stop_all("root")
        return job

    def work(job: Job, run: JobRun) -> Decision:
        run.check()
        return Completed("Done")

    monkeypatch.setattr(jobs._queue, "claim", interrupted)
    with doing(jobs, work):
        job = jobs.wait(submit(jobs).job_id, PATIENCE_S)
    assert (job.status, job.message) == (JobStatus.CANCELLED, "Cancelled by 'root'")


def test_only_dba_and_system_cancel_jobs(
    studio: Any, mia: Session, sven: Session, dora: Session, refused: Any
) -> None:
    with running(manager(studio)) as (job_id, _):
        for session, role in ((mia, "user"), (sven, "service")):
            for name in (job_id, "FL-nothere"):
                error = refused(session, f"KILL JOB '{name}'")
                assert (error.code, str(error)) == (
                    "PERMISSION_DENIED",
                    f"Role '{role}' cannot execute KILL JOB; it needs dba or system",
                )
        dora.execute(f"KILL JOB '{job_id}'")
    assert manager(studio).job(job_id).message == "Cancelled by 'dora'"


def test_what_stops_a_job_is_no_error_of_the_language() -> None:
    assert not issubclass(JobCancelledError, KalamError), "no clean-up may take it for one"
    assert issubclass(JobStateError, KalamError)


# --- progress -------------------------------------------------------------------------------------


def test_progress_is_shown_while_a_long_job_runs(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("kalamdb_lab.jobs.run.time", SimpleNamespace(monotonic=lambda: now_s[0]))
    seen: list[float] = []
    said: list[str | None] = []
    jobs, log = manager(fresh), fresh.database._context.log

    def work(run: JobRun) -> str:
        for done in range(10):
            now_s[0] += 0.3
            before = log.applied_seq
            run.progress(done, 10)
            row = jobs.job(run.job_id)
            seen.append(row.progress)
            said.append(row.message)
            assert (log.applied_seq > before) == (done % 2 == 1), "at most twice a second"
        return "Done"

    assert run(jobs, work).progress == 1.0
    assert seen == [0.0, 0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.7, 0.7, 0.9]
    assert said[:4] == [None, "1 of 10 partitions", "1 of 10 partitions", "3 of 10 partitions"]
    assert jobs.jobs()[0].message == "Done"


def test_a_short_job_writes_three_commits(fresh: Any) -> None:
    log = fresh.database._context.log
    before = log.applied_seq

    def work(run: JobRun) -> str:
        run.progress(1, 2)
        return "Done"

    run(manager(fresh), work)
    assert log.applied_seq == before + 3, "made, taken, done"


def test_a_progress_report_does_not_wait_for_others(t: Session, fresh: Any) -> None:
    def work(job: JobRun) -> str:
        job._next_report_s = 0
        busy = sqlite3.connect(Path(fresh.database.path, "catalog.sqlite"), isolation_level=None)
        busy.execute("BEGIN IMMEDIATE")
        began_s = time.monotonic()
        job.progress(1, 2)
        took_s = time.monotonic() - began_s
        busy.close()
        assert took_s < 1
        return "Done"

    assert run(manager(fresh), work).status is JobStatus.COMPLETED


@pytest.mark.parametrize("statement", ["BACKUP DATABASE {} TO 'b'", "RESTORE DATABASE {} FROM 'a'"])
def test_backups_and_restores_are_interrupted(
    t: Session, fresh: Any, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    t.execute("BACKUP DATABASE studio TO 'a'")
    t.execute("DROP NAMESPACE studio CASCADE") if "RESTORE" in statement else None
    check = JobRun.check

    def interrupted(job: JobRun) -> None:
        t.interrupt()
        check(job)

    monkeypatch.setattr(JobRun, "check", interrupted)
    with pytest.raises(InterruptedStatementError):
        t.execute(statement.format("studio"))
    assert not Path(fresh.database.path, "b").exists()
