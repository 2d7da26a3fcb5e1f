"""The thread that looks for work: when it begins, when it ends, and that it works by itself."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from scheduled import Lab, lab

from kalamdb_lab import FakeClock
from kalamdb_lab.model.jobs import JobKind, JobStatus


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path / "lab.kalam") as made:
        yield made


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "kalam-schedules"]


def test_the_thread_ends_with_the_database_and_does_not_finish_its_sleep(tmp_path: Path) -> None:
    before = set(threads())
    with lab(tmp_path / "lab.kalam"):
        assert len(set(threads()) - before) == 1
    assert set(threads()) == before


def test_after_the_end_a_turn_does_nothing(tmp_path: Path) -> None:
    with lab(tmp_path / "lab.kalam") as here:
        s = here.session()
        s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:1')")
        s.execute("INSERT INTO t VALUES (1)")
    here.schedules.turn()
    with lab(tmp_path / "lab.kalam") as again:
        assert again.context.jobs.jobs() == []
        assert len(again.look()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("awake")
def test_a_database_that_is_let_go_takes_its_thread_along(tmp_path: Path) -> None:
    before = set(threads())
    made = Lab(tmp_path / "lab.kalam", FakeClock())
    context = weakref.ref(made.context)
    (mine,) = set(threads()) - before
    del made
    gc.collect()
    mine.join(5)
    assert not mine.is_alive()
    assert context() is None


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_closes_without_the_thread(here: Lab) -> None:
    child = os.fork()
    if child == 0:
        try:
            here.schedules.close()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert threads(), "the parent's goes on"


@pytest.mark.slow
@pytest.mark.usefixtures("awake")
def test_eviction_and_retention_come_by_themselves(tmp_path: Path) -> None:
    with lab(tmp_path / "lab.kalam") as here:
        s = here.session()
        s.execute("CREATE STREAM TABLE plays (n INT) WITH (TTL_SECONDS = 60)")
        s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 1)")
        s.execute(
            "INSERT INTO plays VALUES (1); INSERT INTO t VALUES (1); DELETE FROM t WHERE true"
        )
        here.clock.advance(3_600)

        def done() -> set[JobKind]:
            jobs = here.context.jobs.jobs()
            return {job.kind for job in jobs if job.status is JobStatus.COMPLETED}

        expected = {JobKind.STREAM_EVICTION, JobKind.RETENTION}
        assert here.until(lambda: done() == expected, within_s=5)
