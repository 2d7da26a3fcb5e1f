"""Jobs: their rows and lines, their failures, one per key, and those whose owner is gone."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from job_runs import PATIENCE_S, log_of, manager, process, put, run, running, tell

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import JobRunningError
from kalamdb_lab.jobs.run import JobRun
from kalamdb_lab.model.jobs import JobKind, JobStatus
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def t(fresh: Any) -> Session:
    s: Session = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, body TEXT)")
    s.execute("INSERT INTO t VALUES (1, 'one'), (2, 'two')")
    return s


# --- rows and lines -------------------------------------------------------------------------------


def test_a_maintenance_statement_leaves_a_row_that_says_what_was_done(t: Session) -> None:
    ((job_id, *answer),) = finished(t, "STORAGE FLUSH TABLE t").rows()
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
        ((job_id, _, _, status, told),) = finished(t, sql).rows()
        assert (status, told) == ("completed", message)
        ids.add(job_id)
    assert len(ids) == 4
    assert {row[0] for row in t.execute("SHOW JOBS")} == ids


def test_flushing_everything_ends_and_takes_the_jobs_themselves(t: Session) -> None:
    rows = finished(t, "STORAGE FLUSH ALL").rows()
    tables = [row[2] for row in rows]
    assert tables[0] == "studio.t"
    assert {"system.jobs", "system.users", "system.audit_logs"} <= set(tables)
    assert {row[3] for row in rows} == {"completed"}
    assert t.execute("SELECT count(*) FROM system.jobs").rows() == [(len(rows),)]
    assert finished(t, "STORAGE FLUSH TABLE system.jobs").rows()[0][3] == "completed"
    assert t.execute("SELECT count(*) FROM system.jobs").rows() == [(len(rows) + 1,)]


def test_views_streams_and_registered_tables_are_left_out(t: Session, fresh: Any) -> None:
    t.execute("CREATE VIEW v AS SELECT id FROM t")
    t.execute("CREATE STREAM TABLE plays (id INT PRIMARY KEY) WITH (TTL_SECONDS = 60)")
    Path(fresh.database.path, "names.csv").write_text("name\nmia\n")
    t.execute("REGISTER TABLE studio.names FROM 'names.csv'")
    for verb in ("FLUSH", "COMPACT"):
        assert [row[2] for row in finished(t, f"STORAGE {verb} ALL IN studio")] == ["studio.t"]
    assert finished(t, "STORAGE FLUSH ALL IN default").rows() == []


def test_events_are_lines_of_the_log(t: Session, fresh: Any) -> None:
    ((job_id, *_),) = finished(t, "FLUSH TABLE t").rows()
    assert log_of(fresh) == [
        f"[{job_id}] INFO - Queued: flush:studio:t",
        f"[{job_id}] INFO - Started: flush:studio:t",
        f"[{job_id}] INFO - Completed: Flushed 2 rows into 1 segment",
    ]


def test_jobs_stay_listed_after_a_restart(t: Session, fresh: Any) -> None:
    finished(t, "FLUSH TABLE t")
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


# --- failures -------------------------------------------------------------------------------------


def test_a_failed_job_has_the_reason_and_where(t: Session, fresh: Any, refused: Any) -> None:
    storage = Path(fresh.database.path, "storage")
    shutil.rmtree(storage)
    ((*_, status, message),) = finished(t, "STORAGE FLUSH TABLE t").rows()
    assert (status, message) == ("failed", "Storage 'local' is unreachable")
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
    assert finished(t, "STORAGE FLUSH TABLE t").rows()[0][3] == "completed"


def test_all_goes_on_after_a_table_that_fails(t: Session, fresh: Any) -> None:
    t.execute("CREATE STORAGE vault TYPE 'filesystem' PATH 'vault'")
    t.execute("CREATE TABLE a (id INT) WITH (STORAGE_ID = 'vault')")
    t.execute("INSERT INTO a VALUES (1)")
    shutil.rmtree(Path(fresh.database.path, "vault"))
    assert [row[2:] for row in finished(t, "STORAGE FLUSH ALL IN studio")] == [
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


# --- one active job per key -----------------------------------------------------------------------


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
        assert finished(t, "OPTIMIZE t").rows()[0][3] == "completed", "another kind of job"
        ((found, *answer),) = t.execute("STORAGE FLUSH ALL IN studio").rows()
        assert (found, answer[2:]) == (job_id, ["running", None]), "the one that runs"
    assert finished(t, "STORAGE FLUSH TABLE t").rows()[0][3] == "completed"


def test_errors_survive_pickling() -> None:

    error = JobRunningError("FL-abc123", "running", 1_730_000_000_000)
    again = pickle.loads(pickle.dumps(error))
    assert (
        str(again)
        == str(error)
        == ("Job already running: FL-abc123 (status: Running, created: 1730000000000)")
    )


# --- owners ---------------------------------------------------------------------------------------


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
    assert finished(t, "FLUSH TABLE t").rows()[0][3] == "completed"
    assert manager(fresh).job(job_id).message == "Server restarted during execution"


@pytest.mark.parametrize("status", [JobStatus.NEW, JobStatus.QUEUED])
def test_a_waiting_job_of_an_opening_that_is_gone_is_run_by_the_next(
    t: Session, fresh: Any, opener: Any, status: JobStatus
) -> None:
    put(fresh, status)
    again = opener(Path(fresh.database.path), fresh.clock)
    job = again.database.jobs.wait("FL-waiting1", PATIENCE_S)
    assert (job.status, job.message) == (JobStatus.COMPLETED, "Flushed 2 rows into 1 segment")
    assert job.node_id != "gone"
    again.database.close()


# --- rights ---------------------------------------------------------------------------------------


def test_service_sees_its_own_jobs_and_dba_all(
    s: Session, mia: Session, sven: Session, dora: Session, refused: Any
) -> None:
    s.execute("CREATE TABLE t (id INT)")
    ((by_root, *_),) = finished(s, "FLUSH TABLE t").rows()
    ((by_sven, *_),) = finished(sven, "FLUSH TABLE t").rows()
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
