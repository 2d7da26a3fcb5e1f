"""Closing finishes jobs or leaves them, and `Database.jobs` shows to each what is theirs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from job_runs import PATIENCE_S, log_of, manager, put, running, submit

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock, KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import ClosedError, NotFoundError, PermissionDeniedError
from kalamdb_lab.model.jobs import JobStatus
from kalamdb_lab.testing.jobs import finished


def kept(path: str | Path) -> list[Path]:
    return list(Path(path, "storage", "studio").rglob("*.parquet"))


# --- closing --------------------------------------------------------------------------------------


def lab(path: Path) -> Path:
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\n')
    return path


def with_rows(db: Any) -> Session:
    s: Session = db.session()
    s.execute("CREATE NAMESPACE studio; USE studio; CREATE TABLE t (id INT PRIMARY KEY)")
    s.execute("INSERT INTO t VALUES (1), (2)")
    return s


def test_a_with_block_ends_with_its_jobs_done(tmp_path: Path) -> None:
    path = lab(tmp_path / "lab.kalam")
    threads = set(threading.enumerate())
    with kalam.open(path) as db:
        with_rows(db).execute("STORAGE FLUSH TABLE t")
    assert len(kept(path)) == 1
    assert set(threading.enumerate()) <= threads
    with kalam.open(path) as db:
        (job,) = db.jobs.list()
        assert (job.status, job.message) == (JobStatus.COMPLETED, "Flushed 2 rows into 1 segment")
    with pytest.raises(ClosedError):
        db.jobs  # noqa: B018


def test_many_jobs_are_finished_before_a_database_is_closed(tmp_path: Path) -> None:
    path = lab(tmp_path / "lab.kalam")
    with kalam.open(path, clock=FakeClock()) as db:
        s = with_rows(db)
        for number in range(12):
            s.execute(f"CREATE TABLE t{number} (id INT); INSERT INTO t{number} VALUES (1)")
        s.execute("STORAGE FLUSH ALL IN studio")
    assert len(kept(path)) == 13


def test_what_waits_in_a_paused_process_is_left_to_the_next(tmp_path: Path) -> None:
    path = lab(tmp_path / "lab.kalam")
    with kalam.open(path) as db:
        s = with_rows(db)
        db.jobs.pause()
        ((job_id, *_),) = s.execute("STORAGE FLUSH TABLE t").rows()
    assert kept(path) == []
    with kalam.open(path) as db:
        assert db.jobs.wait(job_id, timeout=PATIENCE_S).status is JobStatus.COMPLETED
    assert len(kept(path)) == 1


def test_the_last_of_a_process_to_close_finishes_the_jobs(tmp_path: Path) -> None:
    path = lab(tmp_path / "lab.kalam")
    first, last = kalam.open(path), kalam.open(path)
    with_rows(first)
    jobs = last._context.jobs
    with running(jobs) as (job_id, _):
        first.close()
        assert jobs.job(job_id).status is JobStatus.RUNNING
    last.close()


def test_what_others_left_does_not_hold_up_who_closes(fresh: Any, opener: Any) -> None:
    jobs = manager(fresh)
    jobs.pause()
    for number in range(50):
        put(fresh, JobStatus.QUEUED, job_id=f"FL-waiting{number}")
    again = opener(Path(fresh.database.path), fresh.clock)
    again.database.close()
    jobs.resume()
    for number in range(50):
        assert jobs.wait(f"FL-waiting{number}", PATIENCE_S).status is JobStatus.COMPLETED
    lines = [line for line in log_of(fresh) if "Started" in line]
    assert len(lines) == len(set(lines)) == 50


def test_a_closed_database_makes_no_jobs(fresh: Any) -> None:
    jobs = manager(fresh)
    fresh.database.close()
    with pytest.raises(ClosedError):
        submit(jobs)


# --- rights ---------------------------------------------------------------------------------------


def test_db_jobs_shows_what_show_jobs_would(
    studio: Any, s: Session, sven: Session, opener: Any
) -> None:
    s.execute("CREATE TABLE t (id INT)")
    ((by_root, *_),) = finished(s, "FLUSH TABLE t").rows()
    ((by_sven, *_),) = finished(sven, "FLUSH TABLE t").rows()
    path = studio.database.path

    def opened_as(user: str) -> Any:
        return kalam.open(path, user=user, clock=studio.clock)

    with opened_as("dora") as db:
        assert {by_root, by_sven} <= {job.job_id for job in db.jobs.list()}
        assert db.jobs.wait(by_root).job_id == by_root
        db.jobs.pause()
        db.jobs.resume()
    with opened_as("sven") as db:
        ids = {job.job_id for job in db.jobs.list()}
        assert by_sven in ids
        assert by_root not in ids
        assert db.jobs.wait(by_sven).job_id == by_sven
        with pytest.raises(NotFoundError, match=rf"^Job '{by_root}' not found$"):
            db.jobs.wait(by_root)
        for steer in (db.jobs.pause, db.jobs.resume):
            with pytest.raises(PermissionDeniedError) as caught:
                steer()
            assert str(caught.value) == (
                "Role 'service' cannot pause or resume jobs; it needs dba or system"
            )
        assert not db._context.jobs.is_paused
    with opened_as("mia") as db:
        for ask in (db.jobs.list, db.jobs.pause, lambda: db.jobs.wait(by_root)):
            with pytest.raises(PermissionDeniedError) as caught:
                ask()
            assert str(caught.value) == (
                "Role 'user' cannot execute SHOW JOBS; it needs service, dba or system"
            )
    refusals = s.execute(
        "SELECT actor_user_id, action, outcome FROM system.audit_logs "
        "WHERE action = 'SHOW_JOBS' AND actor_user_id = 'mia'"
    ).rows()
    assert refusals[-3:] == [("mia", "SHOW_JOBS", "refused")] * 3


def test_a_job_is_waited_for_by_its_id(fresh: Any) -> None:
    s = fresh.session()
    s.execute("CREATE TABLE waited (id INT PRIMARY KEY)")
    result = s.execute("STORAGE FLUSH TABLE waited")
    with pytest.raises(KalamError, match="A job id is a text, as STORAGE FLUSH answers it"):
        fresh.database.jobs.wait(result)
    job = fresh.database.jobs.wait(result.rows()[0][0], timeout=PATIENCE_S)
    assert job.status is JobStatus.COMPLETED
