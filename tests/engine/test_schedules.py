"""Retention, eviction, orphans and what hinders them: work that no statement asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from scheduled import PATIENCE_S, Lab, kept, lab, told

from kalamdb_lab import FakeClock
from kalamdb_lab.jobs.queue import OWNER_GONE
from kalamdb_lab.model.entities import LiveQuery
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus
from kalamdb_lab.store.log import EntryKind

HOUR = 3600.0


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path / "lab.kalam") as made:
        made.session().execute("CREATE USER 'mia' INTERNAL ROLE user")
        yield made


def flushed(here: Lab, table: str) -> None:
    (row,) = here.session().execute(f"STORAGE FLUSH TABLE {table}").rows()
    here.context.jobs.wait(row[0], PATIENCE_S)


# --- deleted rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["hot", "flushed before", "flushed after"])
@pytest.mark.parametrize("kind", ["USER", "SHARED"])
def test_deleted_rows_go_for_good_after_their_retention(here: Lab, kind: str, state: str) -> None:
    s = here.session()
    s.execute(f"CREATE {kind} TABLE t (id INT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 2)")
    s.execute("INSERT INTO t VALUES (1), (2), (3)")
    if state == "flushed before":
        flushed(here, "t")
    s.execute("DELETE FROM t WHERE id = 1")
    if state == "flushed after":
        flushed(here, "t")
    here.clock.advance(1.5 * HOUR)
    s.execute("DELETE FROM t WHERE id = 2")
    here.clock.advance(0.5 * HOUR - 1)
    assert here.look() == []
    here.clock.advance(1)
    (job,) = here.looked()
    assert told(job).startswith("retention studio.t: Removed 1 row version, ")
    assert job.job_id.startswith("RT-")
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == [(2,)], "the other is younger"
    assert here.look() == []
    here.clock.advance(1.5 * HOUR)
    assert len(here.look()) == 1
    assert s.execute("SELECT id, _deleted FROM t WHERE _deleted IN (true, false)").rows() == [
        (3, False)
    ]
    here.clock.advance(100 * HOUR)
    assert here.look() == []


def test_what_happens_later_does_not_make_a_deletion_younger(here: Lab) -> None:
    """The log forgets its entries after an hour, and keeps when they came."""
    s = here.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 48)")
    s.execute("INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE id = 1")
    flushed(here, "t")
    for row, hours in enumerate((20, 20, 7.9), 10):
        here.clock.advance(hours * HOUR)
        s.execute("INSERT INTO t VALUES (?)", [row])
        flushed(here, "t")
        assert here.look() == []
    with here.context.log.store.read() as transaction:
        assert transaction.log_start() > 0, "it was trimmed"
    here.clock.advance(0.1 * HOUR + 5)
    assert len(here.look()) == 1
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == []


def test_without_the_option_deleted_rows_stay_for_ever(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    s.execute("INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE id = 1")
    flushed(here, "t")
    s.execute("DELETE FROM t WHERE id = 2")
    for _ in range(5):
        here.clock.advance(10_000 * HOUR)
        assert here.look() == []
    assert s.execute("SELECT id FROM t WHERE _deleted ORDER BY id").rows() == [(1,), (2,)]


def test_with_a_retention_of_zero_they_go_at_the_next_look(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 0)")
    s.execute("INSERT INTO t VALUES (1), (2)")
    assert here.look() == []
    s.execute("DELETE FROM t WHERE id = 1")
    assert len(here.look()) == 1
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == []
    s.execute("DELETE FROM t WHERE id = 2")
    assert here.look() == [], "not one job for each row"
    here.clock.advance(5)
    assert len(here.look()) == 1
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == []


def test_rows_that_were_replaced_alone_are_no_reason(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, n INT) WITH (DELETED_RETENTION_HOURS = 1)")
    s.execute("INSERT INTO t VALUES (1, 1)")
    flushed(here, "t")
    s.execute("UPDATE t SET n = 2 WHERE id = 1")
    here.clock.advance(10 * HOUR)
    assert here.look() == []


def test_deletions_of_another_process_and_of_before_count(tmp_path: Path) -> None:
    clock = FakeClock()
    with lab(tmp_path / "lab.kalam", clock=clock) as first:
        s = first.session()
        s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 1)")
        s.execute("INSERT INTO t VALUES (1), (2), (3), (4)")
        flushed(first, "t")
        s.execute("DELETE FROM t WHERE id = 1")
    with lab(tmp_path / "lab.kalam", clock=clock) as here:
        assert here.look() == []
        clock.advance(0.9 * HOUR)
        with lab(here.path, clock=clock) as there:
            there.session().execute("DELETE FROM t WHERE id = 2")
        assert here.look() == []
        for left in ([(2,)], []):
            clock.advance(0.1 * HOUR if left else 0.9 * HOUR)
            assert len(here.look()) == 1
            assert here.session().execute("SELECT id FROM t WHERE _deleted").rows() == left


# --- events ---------------------------------------------------------------------------------------


def test_expired_events_are_evicted_in_every_scope(here: Lab) -> None:
    s, mia = here.session(), here.session("mia")
    s.execute("CREATE STREAM TABLE plays (n INT) WITH (TTL_SECONDS = 300)")
    s.execute("INSERT INTO plays VALUES (1)")
    mia.execute("INSERT INTO plays VALUES (1), (2)")
    here.clock.advance(200)
    s.execute("INSERT INTO plays VALUES (3)")
    here.clock.advance(99)
    assert here.look() == []
    here.clock.advance(1)
    (job,) = here.looked()
    assert told(job) == "stream_eviction studio.plays: Evicted 3 events"
    assert job.job_id.startswith("SE-")
    assert kept(s, "plays") == (1, 0)
    with here.context.log.store.read() as transaction:
        entries = [
            entry
            for table in here.context.catalog.tables.all().values()
            if table.table_id.name == "plays"
            for scope in transaction.scopes(table.table_key)
            for entry in transaction.hot_entries(PartitionKey(table.table_key, scope))
        ]
    assert len(entries) == 1, "their space is given back"
    assert here.look() == []
    here.clock.advance(200)
    assert here.look() == ["stream_eviction studio.plays: Evicted 1 event"]
    here.clock.advance(10_000)
    assert here.look() == []


def test_events_that_come_of_age_all_the_time_are_evicted_once_a_minute(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE STREAM TABLE plays (n INT) WITH (TTL_SECONDS = 3600)")
    for second in range(0, 600, 20):
        s.execute("INSERT INTO plays VALUES (?)", [second])
        here.clock.advance(20)
    made: list[Job] = []
    for _ in range(600, 4400, 20):
        here.clock.advance(20)
        made += here.looked()
    times = [job.created_at_us // 1_000_000 for job in made]
    assert {later - earlier for earlier, later in pairwise(times)} == {60}
    assert kept(s, "plays") == (0, 0)
    assert len(times) == 11


def test_short_lives_end_soon(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE STREAM TABLE plays (n INT) WITH (TTL_SECONDS = 1)")
    for _ in range(3):
        s.execute("INSERT INTO plays VALUES (1)")
        here.clock.advance(5)
        assert here.look() == ["stream_eviction studio.plays: Evicted 1 event"]


# --- what hinders it ------------------------------------------------------------------------------


def test_a_table_that_cannot_be_flushed_waits_and_hinders_no_other(
    here: Lab, tmp_path: Path
) -> None:
    s = here.session()
    s.execute(f"CREATE STORAGE nas TYPE 'filesystem' PATH '{tmp_path / 'nas'}'")
    for table, storage in (("a", "nas"), ("b", "local")):
        s.execute(
            f"CREATE TABLE {table} (id INT) WITH (FLUSH_POLICY = 'rows:1', STORAGE_ID = '{storage}')"
        )
        s.execute(f"INSERT INTO {table} VALUES (1)")
    (tmp_path / "nas").rename(tmp_path / "away")
    (tmp_path / "nas").write_text("a file where the directory should be")
    ends = {job.parameters["table_name"]: job.status for job in here.looked()}
    assert ends == {"a": JobStatus.FAILED, "b": JobStatus.COMPLETED}
    assert here.look() == [], "not again at once"
    s.execute("INSERT INTO b VALUES (2)")
    assert here.look() == ["flush studio.b: Flushed 1 row into 1 segment"]
    here.clock.advance(60)
    (failed,) = here.looked()
    assert failed.status is JobStatus.FAILED
    here.clock.advance(60)
    assert here.look() == [], "each time twice as long"
    (tmp_path / "nas").unlink()
    (tmp_path / "away").rename(tmp_path / "nas")
    here.clock.advance(60)
    assert here.look() == ["flush studio.a: Flushed 1 row into 1 segment"]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_damaged_table_hinders_no_other(here: Lab, is_known: bool) -> None:
    s = here.session()
    s.execute("CREATE STREAM TABLE plays (n INT) WITH (TTL_SECONDS = 10)")
    s.execute("CREATE STREAM TABLE skips (n INT) WITH (TTL_SECONDS = 10)")
    if is_known:
        assert here.look() == []
    (key,) = [
        table.table_key
        for table in here.context.catalog.tables.all().values()
        if table.table_id.name == "plays"
    ]
    with here.context.store.write() as transaction:
        now_us = here.clock.now_us()
        transaction.append(PartitionKey(key, "root"), EntryKind.ROWS, 1, now_us, b"\xc1")
    s.execute("INSERT INTO skips VALUES (1)")
    assert here.look() == []
    here.clock.advance(10)
    assert here.look() == ["stream_eviction studio.skips: Evicted 1 event"]


def test_what_a_busy_database_hinders_is_left_to_the_next_turn(tmp_path: Path) -> None:
    path = tmp_path / "lab.kalam"
    with lab(path, "busy_timeout_s = 0.02") as here, lab(path, "busy_timeout_s = 0.02") as there:
        s = here.session()
        s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:1')")
        s.execute("INSERT INTO t VALUES (1)")
        with there.context.store.write():
            here.schedules.turn()
            assert here.context.jobs.jobs() == []
        here.schedules.turn()
        (job,) = here.context.jobs.jobs()
        assert here.context.jobs.wait(job.job_id, PATIENCE_S).status is JobStatus.COMPLETED


def test_while_jobs_are_paused_none_is_made_here(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:1')")
    s.execute("INSERT INTO t VALUES (1)")
    here.database.jobs.pause()
    here.schedules.turn()
    assert here.context.jobs.jobs() == []
    here.database.jobs.resume()
    here.schedules.turn()
    (job,) = here.context.jobs.jobs()
    assert here.context.jobs.wait(job.job_id, PATIENCE_S).status is JobStatus.COMPLETED


def test_a_job_that_runs_is_not_made_twice(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:1')")
    s.execute("INSERT INTO t VALUES (1)")
    with lab(here.path, clock=here.clock) as there:
        there.database.jobs.pause()
        there.session().execute("STORAGE FLUSH TABLE t")
        assert here.look() == []
        there.database.jobs.resume()
        (job,) = there.context.jobs.jobs()
        there.context.jobs.wait(job.job_id, PATIENCE_S)
    assert here.look() == []
    s.execute("INSERT INTO t VALUES (1)")
    assert here.look() == ["flush studio.t: Flushed 1 row into 1 segment"]


# --- what others leave behind ---------------------------------------------------------------------


def put(here: Lab, status: JobStatus, node_id: str) -> None:
    with here.context.log.commit() as commit:
        job = Job(
            "FL-theirs1", JobKind.FLUSH, status, node_id, "root", commit.at_us, commit.at_us,
            parameters={"namespace_id": "studio", "table_name": "t"},
            idempotency_key="flush:studio:t", started_at_us=commit.at_us,
        )  # fmt: skip
        here.context.catalog.jobs.put(commit, job)


def test_jobs_of_a_process_that_died_are_failed_and_their_work_done_once(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:1')")
    s.execute("INSERT INTO t VALUES (1)")
    put(here, JobStatus.RUNNING, "gone")
    here.schedules.turn()
    theirs, ours = sorted(here.context.jobs.jobs(), key=lambda job: job.job_id != "FL-theirs1")
    assert (theirs.status, theirs.message) == (JobStatus.FAILED, OWNER_GONE)
    ended = here.context.jobs.wait(ours.job_id, PATIENCE_S)
    assert ended.message == "Flushed 1 row into 1 segment"
    assert here.look() == []


def test_jobs_that_a_process_which_died_left_waiting_are_run(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT); INSERT INTO t VALUES (1)")
    put(here, JobStatus.QUEUED, "gone")
    here.schedules.turn()
    assert here.context.jobs.wait("FL-theirs1", PATIENCE_S).status is JobStatus.COMPLETED


def test_rows_of_live_queries_go_with_their_process_and_no_others(here: Lab) -> None:
    with lab(here.path, clock=here.clock) as there:
        nodes = {"ours": here, "theirs": there}
        live = LiveQuery("gone", "root", "studio", "t", "SELECT 1", "gone", 1)
        with here.context.log.commit() as commit:
            here.context.catalog.live_queries.put(commit, live)
            for live_id, opened in nodes.items():
                node_id = opened.context.presence.node_id
                mine = replace(live, live_id=live_id, node_id=node_id)
                here.context.catalog.live_queries.put(commit, mine)
        here.clock.advance(61)
        here.look()
        assert set(here.context.catalog.live_queries.all()) == {"ours", "theirs"}


def orphan(here: Lab) -> Path:
    path = here.path / "storage" / "studio" / "t" / "s-000777.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half a segment")
    os.utime(path, (1, 1))
    return path


def test_files_that_a_crash_left_are_deleted_by_a_job(here: Lab) -> None:
    path = orphan(here)
    here.schedules.look_for_orphans()
    (job,) = here.context.jobs.jobs()
    ended = here.context.jobs.wait(job.job_id, PATIENCE_S)
    assert (job.job_id[:3], ended.message) == ("CL-", "Deleted 0 segments and 1 orphan")
    assert not path.exists()


def test_without_such_files_there_is_no_job(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT); INSERT INTO t VALUES (1)")
    flushed(here, "t")
    fresh = orphan(here)
    os.utime(fresh)
    here.schedules.look_for_orphans()
    assert [job.kind for job in here.context.jobs.jobs()] == [JobKind.FLUSH]
    assert fresh.exists(), "somebody may be writing it now"
