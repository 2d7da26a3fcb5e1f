"""When scheduled work is due, as plain values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.jobs.due import NEVER_US, flush_due_us, pause_us, ready_us
from kalamdb_lab.jobs.queue import OWNER_GONE
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.jobs import Job, JobKind, JobStatus
from kalamdb_lab.model.tables import FlushPolicy
from kalamdb_lab.partitions.hot_tally import TableHot
from kalamdb_lab.store.log import HotCount

S = 1_000_000


def hot(**scopes: tuple[int, int]) -> TableHot:
    table = TableHot()
    for scope, (rows, first_at_us) in scopes.items():
        table.put([HotCount(PartitionKey(1, scope), rows, first_at_us)])
    return table


def job(status: JobStatus, *, at_s: int = 0, message: str | None = None) -> Job:
    ended = None if status.is_active else at_s * S
    return Job(
        "FL-1", JobKind.FLUSH, status, "node", "root", at_s * S, at_s * S,
        finished_at_us=ended, message=message,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "due_us"),
    [
        (None, NEVER_US),
        (FlushPolicy(rows=5), 0),
        (FlushPolicy(rows=6), NEVER_US),
        (FlushPolicy(interval_s=10), 27 * S),
        (FlushPolicy(rows=5, interval_s=10), 0),
        (FlushPolicy(rows=6, interval_s=10), 27 * S),
    ],
)
def test_rows_count_in_one_scope_and_an_interval_from_the_first_row_of_any(
    policy: FlushPolicy | None, due_us: int
) -> None:
    assert flush_due_us(policy, hot(mia=(5, 20 * S), tom=(2, 17 * S))) == due_us


def test_a_table_without_hot_rows_is_never_due() -> None:
    assert flush_due_us(FlushPolicy(1, 1), TableHot()) == NEVER_US


def test_work_that_was_done_may_be_done_again_after_its_pause() -> None:
    done = [job(JobStatus.COMPLETED, at_s=100)]
    assert ready_us(done, 0) == 0
    assert ready_us(done, 5 * S) == 105 * S
    assert ready_us([], 5 * S) == 0


@pytest.mark.parametrize("status", [s for s in JobStatus if s.is_active])
def test_while_an_equal_job_is_active_there_is_no_other(status: JobStatus) -> None:
    assert ready_us([job(JobStatus.COMPLETED), job(status, at_s=9)], 0) == NEVER_US


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_each_failure_in_a_row_doubles_the_wait_up_to_an_hour(status: JobStatus) -> None:
    history = [job(JobStatus.FAILED, at_s=1), job(JobStatus.COMPLETED, at_s=2)]
    waits = []
    for _ in range(12):
        history.append(job(status, at_s=100))
        waits.append(ready_us(history, 5 * S) // S - 100)
    assert waits[:6] == [60, 120, 240, 480, 960, 1920]
    assert set(waits[6:]) == {3600}


def test_a_process_that_died_is_no_failure_of_its_work_but_two_are() -> None:
    died = job(JobStatus.FAILED, at_s=10, message=OWNER_GONE)
    assert ready_us([job(JobStatus.COMPLETED), died], 0) == 0
    assert ready_us([died, died], 0) == 130 * S


@given(age_us=st.integers(0, 10**15))
def test_what_comes_of_age_waits_for_five_seconds_to_a_minute(age_us: int) -> None:
    assert 5 * S <= pause_us(age_us) <= 60 * S
    assert pause_us(age_us) <= max(5 * S, age_us // 10)
