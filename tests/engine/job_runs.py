"""Jobs that tests run by hand: here, in another thread, or in another process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kalamdb_lab.jobs.manager import JobManager, JobRun
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


def put(opened: Any, status: JobStatus) -> None:
    context = opened.database._context
    with context.log.commit() as commit:
        job = Job(
            "FL-waiting1", JobKind.FLUSH, status, "gone", "root", commit.at_us, commit.at_us,
            idempotency_key="flush:studio:t",
        )  # fmt: skip
        context.catalog.jobs.put(commit, job)
