"""Rows that were removed stay out of what is kept for the next read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.query.repeated_reads import RepeatedReads, mask_of

QUERY = "SELECT count(*), sum(id), count(DISTINCT g) FROM t"
ROWS = 6_000

numbers = st.lists(st.integers(0, 60), unique=True).map(sorted)


@given(seqs=numbers, wanted=numbers)
def test_the_mask_is_membership(seqs: list[int], wanted: list[int]) -> None:
    held, asked = np.array(seqs, np.int64), np.array(wanted, np.int64)
    assert mask_of(held, asked).tolist() == [seq in set(wanted) for seq in seqs]


def test_a_segment_is_known_by_the_columns_that_were_read() -> None:
    reads = RepeatedReads(limit=2)
    assert [reads.again(1, ("a",)), reads.again(1, ("b",)), reads.again(1, ("a",))] == [
        False,
        False,
        True,
    ]


def test_what_was_read_longest_ago_is_forgotten() -> None:
    reads = RepeatedReads(limit=1)
    assert [reads.again(1, ("a",)), reads.again(2, ("a",)), reads.again(1, ("a",))] == [False] * 3


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with kalam.open(tmp_path / "lab.kalam") as database:
        session = database.session()
        session.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, g TEXT)")
        group = [f"g{number % 10}" for number in range(ROWS)]
        session.insert("t", pa.table({"id": range(ROWS), "g": group}))
        yield session


def expected(live: list[int]) -> tuple[int, int, int]:
    return len(live), sum(live), len({number % 10 for number in live})


def test_each_removal_shows_in_the_next_read(session: Session) -> None:
    live = list(range(ROWS))
    assert session.execute(QUERY).rows() == [expected(live)]
    for gone in (3, 7, 5_999):
        session.execute("DELETE FROM t WHERE id = ?", [gone])
        live.remove(gone)
        for _ in range(2):
            assert session.execute(QUERY).rows() == [expected(live)]
    session.execute("DELETE FROM t WHERE g = 'g4'")
    live = [number for number in live if number % 10 != 4]
    assert session.execute(QUERY).rows() == [expected(live)]


def test_removed_rows_are_shown_when_asked_for(session: Session) -> None:
    session.execute("DELETE FROM t WHERE id < 3")
    assert session.execute(QUERY).rows()[0][0] == ROWS - 3
    shown = session.execute("SELECT id FROM t WHERE _deleted ORDER BY id").rows()
    assert shown == [(0,), (1,), (2,)]
    assert session.execute("SELECT count(*) FROM t WHERE NOT _deleted").rows() == [(ROWS - 3,)]
