"""Jobs: their rows and lines, one per key, cancelled at a safe point, and whose owner is gone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import JobRunningError, JobStateError, KalamError, StorageError
from kalamdb_lab.jobs.manager import JobCancelledError, JobManager, JobRun
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus

WAITING = """
import sys
import kalamdb_lab as kalam
from kalamdb_lab.model.jobs import JobKind
db = kalam.open(sys.argv[1])
def work(run):
    print(run.job_id, flush=True)
    while sys.stdin.readline() == "check\\n":
        run.check()
    return "Done"
job = db._context.jobs.run(
    JobKind.FLUSH, key="flush:studio:t", parameters={}, created_by="root", work=work
)
print(job.status.value, job.message, flush=True)
"""


def manager(opened: Any) -> JobManager:
    jobs: JobManager = opened.database._context.jobs
    return jobs


def run(jobs: JobManager, work: Callable[[JobRun], str], key: str = "flush:studio:t") -> Job:
    return jobs.run(JobKind.FLUSH, key=key, parameters={}, created_by="root", work=work)


@contextmanager
def running(jobs: JobManager, key: str = "flush:studio:t") -> Iterator[tuple[str, list[Any]]]:
    """A job that runs in another thread until the block ends; what came of it."""
    began, done = threading.Event(), threading.Event()
    ids: list[str] = []
    ends: list[Any] = []

    def work(run: JobRun) -> str:
        ids.append(run.job_id)
        began.set()
        done.wait(20)
        run.check()
        return "Done"

    def start() -> None:
        try:
            ends.append(run(jobs, work, key))
        except Exception as error:  # noqa: BLE001 - looked at by the test
            ends.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    assert began.wait(20)
    try:
        yield ids[0], ends
    finally:
        done.set()
        thread.join()


@contextmanager
def process(path: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process whose job runs; it goes on for each line that it is sent."""
    started = subprocess.Popen(
        [sys.executable, "-c", WAITING, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdin is not None
    assert started.stdout is not None
    yield started, started.stdout.readline().strip()
    started.stdin.close()
    started.wait()
    started.stdout.close()


def tell(other: subprocess.Popen[str], line: str) -> None:
    assert other.stdin is not None
    other.stdin.write(line + "\n")
    other.stdin.flush()


def log_of(opened: Any) -> list[str]:
    return Path(opened.database.path, "jobs.log").read_text().splitlines()


@pytest.fixture
def t(fresh: Any) -> Session:
    s: Session = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, body TEXT)")
    s.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    return s


# --- rows and lines -----------------------------------------------------------------------------


def test_a_maintenance_statement_leaves_a_row_that_says_what_was_done(t: Session) -> None:
    ((job_id, *answer),) = t.execute("STORAGE FLUSH TABLE t").rows()
    assert re.fullmatch(r"FL-[0-9A-Za-z]{6,10}", job_id)
    assert answer == ["flush", "studio.t", "completed", "Flushed 2 rows into 1 segment"]
    (row,) = t.execute("SELECT * FROM system.jobs").to_arrow().to_pylist()
    assert row["job_id"] == job_id
    assert (row["job_type"], row["status"], row["message"]) == (
        "flush", "completed", "Flushed 2 rows into 1 segment",
    )  # fmt: skip
    assert row["exception_trace"] is None
    assert json.loads(row["parameters"]) == {"namespace_id": "studio", "table_name": "t"}
    assert row["idempotency_key"] == "flush:studio:t"
    assert (row["retry_count"], row["max_retries"], row["progress"]) == (0, 3, 1.0)
    assert row["created_by"] == "root"
    assert row["node_id"]
    assert row["created_at"] <= row["started_at"] <= row["finished_at"] <= row["updated_at"]


def test_a_job_is_made_even_when_there_is_nothing_to_do(t: Session) -> None:
    ids = set()
    for sql, message in (
        ("FLUSH TABLE t", "Flushed 2 rows into 1 segment"),
        ("FLUSH TABLE t", "Flushed 0 rows: nothing to do"),
        ("OPTIMIZE TABLE t", "Compacted 0 segments: nothing to do"),
        ("OPTIMIZE t", "Compacted 0 segments: nothing to do"),
    ):
        ((job_id, _, _, status, told),) = t.execute(sql).rows()
        assert (status, told) == ("completed", message)
        ids.add(job_id)
    assert len(ids) == 4
    assert {row[0] for row in t.execute("SHOW JOBS")} == ids


def test_flushing_everything_ends_and_takes_the_jobs_themselves(t: Session) -> None:
    rows = t.execute("STORAGE FLUSH ALL").rows()
    tables = [row[2] for row in rows]
    assert tables[0] == "studio.t"
    assert {"system.jobs", "system.users", "system.audit_logs"} <= set(tables)
    assert {row[3] for row in rows} == {"completed"}
    assert t.execute("SELECT count(*) FROM system.jobs").rows() == [(len(rows),)]
    assert t.execute("STORAGE FLUSH TABLE system.jobs").rows()[0][3] == "completed"
    assert t.execute("SELECT count(*) FROM system.jobs").rows() == [(len(rows) + 1,)]


def test_views_streams_and_registered_tables_are_left_out(t: Session, fresh: Any) -> None:
    t.execute("CREATE VIEW v AS SELECT id FROM t")
    t.execute("CREATE STREAM TABLE plays (id INT PRIMARY KEY) WITH (TTL_SECONDS = 60)")
    Path(fresh.database.path, "names.csv").write_text("name\nmia\n")
    t.execute("REGISTER TABLE studio.names FROM 'names.csv'")
    for verb in ("FLUSH", "COMPACT"):
        assert [row[2] for row in t.execute(f"STORAGE {verb} ALL IN studio")] == ["studio.t"]
    assert t.execute("STORAGE FLUSH ALL IN default").rows() == []


def test_events_are_lines_of_the_log(t: Session, fresh: Any) -> None:
    ((job_id, *_),) = t.execute("FLUSH TABLE t").rows()
    assert log_of(fresh) == [
        f"[{job_id}] INFO - Started: flush:studio:t",
        f"[{job_id}] INFO - Completed: Flushed 2 rows into 1 segment",
    ]


def test_jobs_stay_listed_after_a_restart(t: Session, fresh: Any) -> None:
    t.execute("FLUSH TABLE t")
    before = t.execute("SHOW JOBS").rows()
    fresh.database.close()
    fresh.database = kalam.open(fresh.database.path, clock=fresh.clock)
    assert fresh.session().execute("SHOW JOBS").rows() == before


@pytest.mark.parametrize("kind", list(JobKind))
def test_ids_tell_the_kind(kind: JobKind) -> None:
    prefixes = dict(zip(JobKind, ("FL", "CO", "CL", "BK", "RS", "RT", "SE", "UC"), strict=True))
    ids = {kind.new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(rf"{prefixes[kind]}-[0-9A-Za-z]{{6,10}}", job_id) for job_id in ids)


# --- failures -----------------------------------------------------------------------------------


def test_a_failed_job_has_the_reason_and_where(t: Session, fresh: Any, refused: Any) -> None:
    storage = Path(fresh.database.path, "storage")
    shutil.rmtree(storage)
    error = refused(t, "STORAGE FLUSH TABLE t")
    assert (error.code, str(error)) == ("STORAGE", "Storage 'local' is unreachable")
    (row,) = t.execute("SELECT * FROM system.jobs").to_arrow().to_pylist()
    assert (row["status"], row["message"]) == ("failed", "Storage 'local' is unreachable")
    assert row["finished_at"] >= row["started_at"]
    assert "kalamdb_lab.partitions.flush:" in row["exception_trace"]
    assert row["exception_trace"].endswith("StorageError: Storage 'local' is unreachable")
    assert str(Path(__file__).parents[2]) not in row["exception_trace"]
    assert log_of(fresh)[-1] == (
        f"[{row['job_id']}] ERROR - Failed: Storage 'local' is unreachable"
    )
    storage.mkdir()
    assert t.execute("STORAGE FLUSH TABLE t").rows()[0][3] == "completed"


def test_all_goes_on_after_a_table_that_fails(t: Session, fresh: Any) -> None:
    t.execute("CREATE STORAGE vault TYPE 'filesystem' PATH 'vault'")
    t.execute("CREATE TABLE a (id INT) WITH (STORAGE_ID = 'vault')")
    t.execute("INSERT INTO a VALUES (1)")
    shutil.rmtree(Path(fresh.database.path, "vault"))
    assert [row[2:] for row in t.execute("STORAGE FLUSH ALL IN studio")] == [
        ("studio.a", "failed", "Storage 'vault' is unreachable"),
        ("studio.t", "completed", "Flushed 2 rows into 1 segment"),
    ]


def test_a_fault_of_ours_quotes_nobodys_values(fresh: Any) -> None:
    def work(_: JobRun) -> str:
        raise ValueError("the secret of somebody's row")

    with pytest.raises(ValueError, match="the secret"):
        run(manager(fresh), work)
    (job,) = manager(fresh).jobs()
    assert (job.status, job.message) == (JobStatus.FAILED, "Internal error: ValueError")
    assert job.exception_trace is not None
    assert job.exception_trace.endswith("\nValueError")
    assert "secret" not in "".join(log_of(fresh))


def test_an_interrupted_job_says_so(fresh: Any) -> None:
    def work(_: JobRun) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(manager(fresh), work)
    (job,) = manager(fresh).jobs()
    assert (job.status, job.message) == (JobStatus.FAILED, "Interrupted")
    assert run(manager(fresh), lambda _: "Done").status is JobStatus.COMPLETED


# --- one active job per key ---------------------------------------------------------------------


def test_an_equal_job_is_refused_while_one_runs(
    t: Session, fresh: Any, refused: Any, opener: Any
) -> None:
    created_ms = fresh.clock.now_us() // 1_000
    with running(manager(fresh)) as (job_id, _):
        error = refused(t, "STORAGE FLUSH TABLE t")
        assert (error.code, str(error)) == (
            "JOB_RUNNING",
            f"Job already running: {job_id} (status: Running, created: {created_ms})",
        )
        other = opener(Path(fresh.database.path), fresh.clock)
        assert refused(other.session(), "FLUSH TABLE t").code == "JOB_RUNNING"
        other.database.close()
        assert t.execute("OPTIMIZE t").rows()[0][3] == "completed", "another kind of job"
        ((found, *answer),) = t.execute("STORAGE FLUSH ALL IN studio").rows()
        assert (found, answer[2:]) == (job_id, ["running", None]), "the one that runs"
    assert t.execute("STORAGE FLUSH TABLE t").rows()[0][3] == "completed"


def test_errors_survive_pickling() -> None:
    import pickle

    error = JobRunningError("FL-abc123", "running", 1_730_000_000_000)
    again = pickle.loads(pickle.dumps(error))
    assert (
        str(again)
        == str(error)
        == ("Job already running: FL-abc123 (status: Running, created: 1730000000000)")
    )


# --- owners -------------------------------------------------------------------------------------


def test_a_job_of_a_living_process_is_left_alone_however_long(fresh: Any, opener: Any) -> None:
    with process(fresh.database.path) as (other, job_id):
        fresh.clock.advance(10 * 86_400)
        again = opener(Path(fresh.database.path), fresh.clock)
        assert manager(again).job(job_id).status is JobStatus.RUNNING
        with pytest.raises(JobRunningError):
            run(manager(again), lambda _: "Done")
        again.database.close()
        tell(other, "check")
        tell(other, "go on")
        assert other.stdout is not None
        assert other.stdout.readline() == "completed Done\n"
    assert manager(fresh).job(job_id).status is JobStatus.COMPLETED


def test_a_job_whose_process_was_killed_is_failed_at_open(fresh: Any, opener: Any) -> None:
    with process(fresh.database.path) as (other, job_id):
        other.kill()
        other.wait()
    again = opener(Path(fresh.database.path), fresh.clock)
    job = manager(again).job(job_id)
    assert (job.status, job.message) == (
        JobStatus.FAILED,
        "Server restarted during execution",
    )
    assert job.finished_at_us is not None
    assert job.started_at_us is not None
    assert job.started_at_us <= job.finished_at_us
    assert log_of(again)[-1] == f"[{job_id}] ERROR - Failed: Server restarted during execution"
    again.database.close()


def test_a_job_whose_process_was_killed_hinders_nobody(t: Session, fresh: Any) -> None:
    """Without anybody opening the database anew."""
    with process(fresh.database.path) as (other, job_id):
        other.kill()
        other.wait()
    assert t.execute("FLUSH TABLE t").rows()[0][3] == "completed"
    assert manager(fresh).job(job_id).message == "Server restarted during execution"


def test_waiting_jobs_have_no_owner_to_lose(fresh: Any, opener: Any) -> None:
    put(fresh, JobStatus.QUEUED)
    again = opener(Path(fresh.database.path), fresh.clock)
    assert manager(again).job("FL-waiting1").status is JobStatus.QUEUED
    again.database.close()


def put(opened: Any, status: JobStatus) -> None:
    context = opened.database._context
    with context.log.commit() as commit:
        job = Job(
            "FL-waiting1", JobKind.FLUSH, status, "gone", "root", commit.at_us, commit.at_us,
            idempotency_key="flush:studio:t",
        )  # fmt: skip
        context.catalog.jobs.put(commit, job)


# --- cancelling ---------------------------------------------------------------------------------


def test_only_jobs_that_are_not_at_their_end_can_be_cancelled(t: Session, refused: Any) -> None:
    error = refused(t, "KILL JOB 'FL-9kQ2xa'")
    assert (error.code, str(error)) == ("NOT_FOUND", "Job 'FL-9kQ2xa' not found")
    assert len(str(refused(t, f"KILL JOB '{'x' * 9_000}'"))) < 100
    ((job_id, *_),) = t.execute("FLUSH TABLE t").rows()
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
    put(fresh, status)
    assert refused(t, "FLUSH TABLE t").code == "JOB_RUNNING"
    assert t.execute("CANCEL JOB 'FL-waiting1'").rows() == [("Job 'FL-waiting1' cancelled",)]
    job = manager(fresh).job("FL-waiting1")
    assert (job.status, job.message) == (JobStatus.CANCELLED, "Cancelled by 'root'")
    assert t.execute("FLUSH TABLE t").rows()[0][3] == "completed"


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
    assert log_of(fresh)[1:] == [f"[{job_id}] WARN - Cancelled: by 'root'"]


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

    with fresh.database._context.log.statement():
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
    t.execute_script(
        "FLUSH TABLE t; INSERT INTO t VALUES (3, 'three'); FLUSH TABLE t;"
        "INSERT INTO t VALUES (4, 'four')"
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
    ((_, _, _, status, _),) = t.execute(f"STORAGE {verb} TABLE t").rows()
    assert status == "cancelled"
    assert sorted(Path(fresh.database.path, "storage", "studio").rglob("*")) == files
    assert t.execute("SELECT * FROM t ORDER BY id").rows() == rows
    assert t.execute(f"STORAGE {verb} TABLE t").rows()[0][3] == "completed"
    assert t.execute("SELECT * FROM t ORDER BY id").rows() == rows


def test_interrupting_the_statement_stops_its_jobs(
    t: Session, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    t.execute("CREATE TABLE a (id INT); INSERT INTO a VALUES (1)")
    check = JobRun.check

    def interrupt_first(self: JobRun) -> None:
        monkeypatch.undo()
        t.interrupt()
        check(self)

    for sql in ("STORAGE FLUSH TABLE a", "STORAGE FLUSH ALL IN studio", "VACUUM"):
        monkeypatch.setattr(JobRun, "check", interrupt_first)
        error = refused(t, sql)
        assert (error.code, str(error)) == ("INTERRUPTED", "Interrupted; nothing was changed")
    jobs = t.execute("SELECT status, message FROM system.jobs").rows()
    assert jobs == [("failed", "Interrupted; nothing was changed")] * 3
    rows = t.execute("STORAGE FLUSH ALL IN studio").rows()
    assert {row[3] for row in rows} == {"completed"}


# --- progress -----------------------------------------------------------------------------------


def test_progress_is_shown_while_a_long_job_runs(
    fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("kalamdb_lab.jobs.manager.time.monotonic", lambda: now_s[0])
    seen: list[float] = []
    jobs, log = manager(fresh), fresh.database._context.log

    def work(run: JobRun) -> str:
        for done in range(10):
            now_s[0] += 0.3
            before = log.applied_seq
            run.progress(done, 10)
            seen.append(jobs.job(run.job_id).progress)
            assert (log.applied_seq > before) == (done % 2 == 1), "at most twice a second"
        return "Done"

    assert run(jobs, work).progress == 1.0
    assert seen == [0.0, 0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.7, 0.7, 0.9]


def test_a_short_job_writes_two_commits(fresh: Any) -> None:
    log = fresh.database._context.log
    before = log.applied_seq

    def work(run: JobRun) -> str:
        run.progress(1, 2)
        return "Done"

    run(manager(fresh), work)
    assert log.applied_seq == before + 2


# --- rights -------------------------------------------------------------------------------------


def test_service_sees_its_own_jobs_and_dba_all(
    s: Session, mia: Session, sven: Session, dora: Session, refused: Any
) -> None:
    s.execute("CREATE TABLE t (id INT)")
    ((by_root, *_),) = s.execute("FLUSH TABLE t").rows()
    ((by_sven, *_),) = sven.execute("FLUSH TABLE t").rows()
    columns = [
        "job_id", "job_type", "status", "progress", "message", "created_at", "started_at",
        "finished_at",
    ]  # fmt: skip
    for session, visible in ((sven, {by_sven}), (dora, {by_root, by_sven}), (s, {by_root})):
        answer = session.execute("SHOW JOBS")
        ids = [row[0] for row in answer]
        assert answer.columns == columns
        assert ids == sorted(ids)
        assert visible <= set(ids)
    assert by_root not in {row[0] for row in sven.execute("SHOW JOBS")}
    error = refused(mia, "SHOW JOBS")
    assert (error.code, str(error)) == (
        "PERMISSION_DENIED",
        "Role 'user' cannot execute SHOW JOBS; it needs service, dba or system",
    )


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
