"""Jobs whose work tests do by hand: here, beside the test, or in another process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.jobs.run import Completed, Decision, JobRun
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus

PATIENCE_S = 30
KEY = "flush:studio:t"

WAITING = """
import sys
import kalamdb_lab as kalam
from kalamdb_lab.jobs.run import Completed
from kalamdb_lab.model.jobs import JobKind
db = kalam.open(sys.argv[1])
jobs = db._context.jobs
def work(job, run):
    print(run.job_id, flush=True)
    while sys.stdin.readline() == "check\\n":
        run.check()
    return Completed("Done")
jobs.start({JobKind.FLUSH: work})
job = jobs.submit(JobKind.FLUSH, key="flush:studio:t", parameters={}, created_by="root")
job = jobs.wait(job.job_id)
print(job.status.value, job.message, flush=True)
"""

Work = Callable[[JobRun], str]


def manager(opened: Any) -> JobManager:
    jobs: JobManager = opened.database._context.jobs
    return jobs


def submit(jobs: JobManager, key: str = KEY, **options: Any) -> Job:
    job = jobs.submit(
        options.pop("kind", JobKind.FLUSH), key=key, parameters={}, created_by="root", **options
    )
    assert job is not None
    return job


@contextmanager
def doing(
    jobs: JobManager, work: Callable[[Job, JobRun], Decision], kind: JobKind = JobKind.FLUSH
) -> Iterator[None]:
    """Let ``work`` be what jobs of a kind do, during the block."""
    before = jobs._workers._executors[kind]
    jobs.start({kind: work})
    try:
        yield
    finally:
        jobs.start({kind: before})


def run(jobs: JobManager, work: Work, key: str = KEY) -> Job:
    """Wait for a job as a statement does."""
    with doing(jobs, lambda _, run: Completed(work(run))):
        return jobs.run(JobKind.FLUSH, key=key, parameters={}, created_by="root")


@contextmanager
def running(
    jobs: JobManager, key: str = KEY, kind: JobKind = JobKind.FLUSH
) -> Iterator[tuple[str, list[Job]]]:
    """A job that runs until the block ends; what came of it. Others of its kind run as ever."""
    began, done = threading.Event(), threading.Event()
    ends: list[Job] = []
    before = jobs._workers._executors[kind]

    def work(job: Job, run: JobRun) -> Decision:
        if job.idempotency_key != key:
            return before(job, run)
        began.set()
        done.wait(PATIENCE_S)
        run.check()
        return Completed("Done")

    with doing(jobs, work, kind):
        job_id = submit(jobs, key, kind=kind).job_id
        assert began.wait(PATIENCE_S)
        try:
            yield job_id, ends
        finally:
            done.set()
            ends.append(jobs.wait(job_id, PATIENCE_S))


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


def log_of(opened: Any, job_id: str | None = None) -> list[str]:
    """The lines about one job, or about all."""
    lines = Path(opened.database.path, "jobs.log").read_text().splitlines()
    return [line for line in lines if job_id is None or line.startswith(f"[{job_id}]")]


def put(opened: Any, status: JobStatus, node_id: str = "gone", job_id: str = "FL-waiting1") -> None:
    """The row of a job that some opening left behind."""
    context = opened.database._context
    with context.log.commit() as commit:
        job = Job(
            job_id, JobKind.FLUSH, status, node_id, "root", commit.at_us, commit.at_us,
            {"namespace_id": "studio", "table_name": "t"}, idempotency_key=KEY,
        )  # fmt: skip
        context.catalog.jobs.put(commit, job)
