"""Jobs and processes: many that ask, one that runs; killed, interrupted and forgetful ones."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from job_runs import PATIENCE_S, doing, log_of, manager, submit

import kalamdb_lab as kalam
from kalamdb_lab.engine.database import Database
from kalamdb_lab.jobs.run import Completed
from kalamdb_lab.model.jobs import JobStatus

HEAD = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
import kalamdb_lab as kalam
from kalamdb_lab.errors import JobRunningError
from kalamdb_lab.jobs.run import Completed, JobRun
from kalamdb_lab.model.jobs import JobKind
db = kalam.open(sys.argv[1])
jobs = db._context.jobs
s = db.session(namespace="studio")
def say(*words):
    print(*words, flush=True)
"""

ASKER = """
say("ready")
for line in sys.stdin:
    rows = s.execute("SELECT count(*) FROM t").rows()[0][0]
    try:
        job = jobs.submit(
            JobKind.FLUSH, key="flush:studio:t", created_by="root",
            parameters={"namespace_id": "studio", "table_name": "t"},
            is_due=lambda: db._context.log.partition(KEY).rows,
        )
        say("made" if job else "not due")
    except JobRunningError:
        say("running")
    for job in db.jobs.list():
        db.jobs.wait(job.job_id)
"""
ASKER = (
    "from kalamdb_lab.model.ids import PartitionKey\n"
    + HEAD
    + 'KEY = PartitionKey(db._context.catalog.tables.get("studio.t").table_key, "")\n'
    + ASKER
)

WAITER = (
    HEAD
    + """
db.jobs.pause()
for name in sys.argv[2:]:
    say(s.execute(f"STORAGE FLUSH TABLE {name}").rows()[0][0])
for line in sys.stdin:
    if line == "resume\\n":
        db.jobs.resume()
        for job in db.jobs.list():
            db.jobs.wait(job.job_id)
    say("ok")
"""
)

HALF = (
    HEAD
    + """
check, calls = JobRun.check, []
def stop_for_good(self):
    calls.append(1)
    if len(calls) == int(sys.argv[2]):
        say(self.job_id)
        sys.stdin.readline()
    check(self)
JobRun.check = stop_for_good
s.execute("STORAGE FLUSH TABLE t")
sys.stdin.readline()
"""
)

CLOSER = (
    HEAD
    + """
began = threading.Event()
def work(job, run):
    began.set()
    while True:
        run.check()
jobs.start({JobKind.COMPACT: work})
running = [s.execute(f"STORAGE COMPACT TABLE {name}").rows()[0][0] for name in "tu"]
began.wait()
waiting = s.execute("STORAGE FLUSH TABLE t").rows()[0][0]
say(*running, waiting)
def tell_when_it_closes():
    with jobs._workers.changed:
        jobs._workers.changed.wait_for(lambda: jobs._workers.is_ending)
    say("closing")
threading.Thread(target=tell_when_it_closes).start()
try:
    db.close()
except KeyboardInterrupt:
    say("interrupted", [t.name for t in threading.enumerate() if t.name.startswith("kalam-job")])
"""
)

UNENDING = (
    HEAD
    + """
from kalamdb_lab.jobs import manager
manager._AT_EXIT_S = 0.5
began = threading.Event()
def work(job, run):
    began.set()
    while True:
        run.check()
jobs.start({JobKind.COMPACT: work})
say(s.execute("STORAGE COMPACT TABLE t").rows()[0][0])
began.wait()
"""
)

FORGETFUL = (
    HEAD
    + """
say(s.execute("STORAGE FLUSH TABLE t").rows()[0][0])
"""
)

LAST_WORDS = """
import atexit, threading
def last():
    print([t.name for t in threading.enumerate() if t.name.startswith("kalam-")], flush=True)
atexit.register(last)  # what is registered first is called last
"""

FORKED = (
    HEAD
    + """
s.execute("STORAGE FLUSH TABLE t")
child = os.fork()
if child == 0:
    db.close()
    os._exit(len([t for t in threading.enumerate() if t.name.startswith("kalam-")]))
say(os.waitpid(child, 0)[1])
db.close()
"""
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\nflush_policy = "none"\n')
    with kalam.open(path) as db:
        db.session().execute(
            "CREATE NAMESPACE studio; USE studio; CREATE TABLE t (id INT PRIMARY KEY);"
            "CREATE TABLE u (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2); INSERT INTO u "
            "VALUES (3)"
        )
    return path


@contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.stdout.close()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def shown(db: Database, table: str = "t") -> list[Any]:
    return list(db.session(namespace="studio").execute(f"SELECT id FROM {table} ORDER BY 1"))


def starts(path: Path) -> Counter[str]:
    lines = (path / "jobs.log").read_text().splitlines()
    return Counter(line.split("]")[0][1:] for line in lines if "Started" in line)


def test_of_two_processes_that_find_work_due_one_makes_the_job(path: Path) -> None:
    with python(ASKER, path) as one, python(ASKER, path) as two, kalam.open(path) as db:
        assert [line_of(process) for process in (one, two)] == ["ready"] * 2
        s = db.session(namespace="studio")
        for number in range(10, 30):
            s.execute(f"INSERT INTO t VALUES ({number})")
            made = len(db.jobs.list())
            tell(one, "go")
            tell(two, "go")
            answers = sorted([line_of(one), line_of(two)])
            assert answers[0] == "made" or answers[1] == "made", answers
            assert answers.count("made") == 1, answers
            assert len(db.jobs.list()) == made + 1
            db.jobs.wait(db.jobs.list()[-1].job_id, timeout=PATIENCE_S)
        assert len(shown(db)) == 22
    assert set(starts(path).values()) == {1}


def test_waiting_for_a_job_of_another_process_ends_with_it(path: Path) -> None:
    with python(WAITER, path, "t") as other, kalam.open(path) as db:
        job_id = line_of(other)
        with pytest.raises(TimeoutError):
            db.jobs.wait(job_id, timeout=0.05)
        own = db.session(namespace="studio").execute("STORAGE FLUSH TABLE u").rows()[0][0]
        db.jobs.wait(own, timeout=PATIENCE_S)
        (job,) = [job for job in db.jobs.list() if job.job_id == job_id]
        assert job.status is JobStatus.QUEUED, "left to the process that lives"
        tell(other, "resume")
        job = db.jobs.wait(job_id, timeout=PATIENCE_S)
        assert (job.status, job.message) == (JobStatus.COMPLETED, "Flushed 2 rows into 1 segment")
        assert line_of(other) == "ok"


def test_a_waiting_job_that_another_process_cancels_never_runs(path: Path) -> None:
    with python(WAITER, path, "t") as other, kalam.open(path) as db:
        job_id = line_of(other)
        db.session().execute(f"KILL JOB '{job_id}'")
        tell(other, "resume")
        assert line_of(other) == "ok"
        assert db.jobs.wait(job_id).status is JobStatus.CANCELLED
    assert starts(path) == {}
    assert not list((path / "storage" / "studio").rglob("*.parquet"))


def test_what_waits_in_a_process_that_is_killed_is_run_once_by_those_who_open_next(
    path: Path,
) -> None:
    with python(WAITER, path, "t", "u") as other:
        ids = [line_of(other), line_of(other)]
        other.kill()
        other.wait()
    with python(ASKER, path) as one, python(ASKER, path) as two, kalam.open(path) as db:
        for job_id in ids:
            job = db.jobs.wait(job_id, timeout=PATIENCE_S)
            assert job.status is JobStatus.COMPLETED
        assert [line_of(process) for process in (one, two)] == ["ready"] * 2
        assert (shown(db), shown(db, "u")) == ([(1,), (2,)], [(3,)])
    assert starts(path) == dict.fromkeys(ids, 1)


def test_who_has_it_open_takes_over_from_a_process_that_is_killed(path: Path) -> None:
    with kalam.open(path) as db:
        with python(WAITER, path, "t") as other:
            job_id = line_of(other)
            other.kill()
            other.wait()
        assert db.jobs.wait(job_id, timeout=PATIENCE_S).status is JobStatus.COMPLETED


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_flush_whose_process_is_killed_is_failed_and_done_once_by_the_next(
    path: Path, step: int
) -> None:
    """Before it reads, before it writes, and with its file written but not listed."""
    with python(HALF, path, step) as other:
        job_id = line_of(other)
        other.kill()
        other.wait()
    with kalam.open(path) as db:
        job = db.jobs.wait(job_id, timeout=PATIENCE_S)
        assert (job.status, job.message) == (
            JobStatus.FAILED, "Server restarted during execution",
        )  # fmt: skip
        assert shown(db) == [(1,), (2,)]
        s = db.session(namespace="studio")
        again = db.jobs.wait(s.execute("STORAGE FLUSH TABLE t").rows()[0][0], timeout=PATIENCE_S)
        assert again.message == "Flushed 2 rows into 1 segment"
        assert shown(db) == [(1,), (2,)]
    lines = (path / "jobs.log").read_text().splitlines()
    assert f"[{job_id}] ERROR - Failed: Server restarted during execution" in lines
    assert starts(path) == {job_id: 1, again.job_id: 1}


def test_an_interrupt_of_closing_cancels_what_runs_and_leaves_what_waits(path: Path) -> None:
    with python(CLOSER, path) as other:
        *running, waiting = line_of(other).split()
        assert line_of(other) == "closing"
        other.send_signal(signal.SIGINT)
        assert line_of(other) == "interrupted []"
    with kalam.open(path) as db:
        stopped = [db.jobs.wait(job_id) for job_id in running]
        assert [job.status for job in stopped] == [JobStatus.CANCELLED] * 2
        assert db.jobs.wait(waiting, timeout=PATIENCE_S).status is JobStatus.COMPLETED
        assert shown(db) == [(1,), (2,)]


def test_a_script_that_forgets_to_close_has_its_jobs_done(path: Path) -> None:
    with python(FORGETFUL, path) as other:
        job_id = line_of(other)
        assert other.wait(PATIENCE_S) == 0
    with kalam.open(path) as db:
        assert db.jobs.wait(job_id, timeout=PATIENCE_S).message == "Flushed 2 rows into 1 segment"


def test_a_script_that_forgets_to_close_does_not_wait_for_ever(path: Path) -> None:
    with python(UNENDING, path) as other:
        job_id = line_of(other)
        assert other.wait(PATIENCE_S) == 0
    with kalam.open(path) as db:
        assert db.jobs.wait(job_id).message == "Cancelled by 'root'"


def test_a_script_that_forgets_to_close_ends_with_no_thread_at_work(path: Path) -> None:
    with python(LAST_WORDS + FORGETFUL, path) as other:
        assert line_of(other).startswith("FL-")
        assert line_of(other) == "[]"
        assert other.wait(PATIENCE_S) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_runs_nothing_and_closes(path: Path) -> None:
    with python(FORKED, path) as other:
        assert line_of(other) == "0"
        assert other.wait(PATIENCE_S) == 0
    assert list(starts(path).values()) == [1]


@pytest.mark.slow
def test_after_a_thousand_jobs_threads_and_memory_are_where_they_were(fresh: Any) -> None:
    jobs = manager(fresh)
    threads = threading.active_count()

    def thousand(name: str) -> None:
        made = [submit(jobs, f"{name}{number}") for number in range(1_000)]
        ends = [jobs.wait(job.job_id, 120) for job in made]
        assert {job.status for job in ends} == {JobStatus.COMPLETED}
        for thread in threading.enumerate():
            if thread.name.startswith("kalam-job-"):
                thread.join(PATIENCE_S)

    with doing(jobs, lambda job, run: Completed("Done")):
        thousand("warm")
        tracemalloc.start()
        try:
            gc.collect()
            before = tracemalloc.take_snapshot()
            thousand("measured")
            gc.collect()
            after = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    assert threading.active_count() <= threads
    ours = [tracemalloc.Filter(True, f"*{os.sep}kalamdb_lab{os.sep}jobs{os.sep}*")]
    grown = {
        name: sum(stat.size for stat in snapshot.filter_traces(ours).statistics("filename"))
        for name, snapshot in (("before", before), ("after", after))
    }
    # The rows of finished jobs stay listed, and are held by the catalog; nothing else stays.
    assert grown["after"] - grown["before"] < 200_000, grown
    assert len(log_of(fresh)) == 6_000
    for held in (jobs._workers._stops, jobs._workers._later, jobs._workers._awaited):
        assert not held
    assert not jobs._workers._running
    assert not jobs._queue._mine
    assert not jobs._queue._ends
