"""Streams and transactions that last: their files stay, and their end harms nobody."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.engine.session import Session
from kalamdb_lab.sql.queries import parse_query
from kalamdb_lab.testing.jobs import finished

ROWS, PARTS = 2_000, 40


def _open(path: Path, clock: FakeClock, settings: str = "") -> Any:
    path.mkdir(exist_ok=True)
    (path / "kalam.toml").write_text(f'durability = "normal"\nbusy_timeout_s = 0.2\n{settings}')
    return kalam.open(path, clock=clock)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def opened(tmp_path: Path, clock: FakeClock) -> Iterator[Any]:
    with _open(tmp_path / "lab.kalam", clock, "bulk_rows = 1000\n") as database:
        database.session().execute("CREATE TABLE t (n INT PRIMARY KEY, x DOUBLE)")
        yield database


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the write lock as another process does."""
    other = sqlite3.connect(path / "catalog.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


def _filled(session: Session) -> None:
    for part in range(PARTS):
        numbers = range(part * ROWS, (part + 1) * ROWS)
        session.insert("t", pa.table({"n": numbers, "x": [float(n) for n in numbers]}))


def _stream(session: Session) -> pa.RecordBatchReader:
    return session.stream_tree(parse_query("SELECT n, x FROM t"), batch_rows=1_000)


def _deleted_by_vacuum(session: Session) -> int:
    words = str(session.execute("VACUUM t").rows()[0][4]).split()
    return int(words[words.index("deleted") + 1])


def _in_transaction(session: Session, other: Session) -> pa.RecordBatchReader:
    session.execute("BEGIN")
    finished(other, "OPTIMIZE t")
    reader = _stream(session)
    session.execute("ROLLBACK")
    return reader


def _alone(session: Session, other: Session) -> pa.RecordBatchReader:
    reader = _stream(session)
    finished(other, "OPTIMIZE t")
    return reader


@pytest.mark.parametrize("start", [_alone, _in_transaction])
def test_a_paused_stream_keeps_its_files_however_long(
    opened: Any, clock: FakeClock, start: Callable[[Session, Session], pa.RecordBatchReader]
) -> None:
    session, other = opened.session(), opened.session()
    _filled(session)
    reader = start(session, other)
    assert _deleted_by_vacuum(other) == 0
    clock.advance(601)
    assert _deleted_by_vacuum(other) == 0
    assert reader.read_all().num_rows == ROWS * PARTS
    del reader
    assert _deleted_by_vacuum(other) > 0


def test_a_stream_goes_on_while_others_hold_the_lock(
    opened: Any, clock: FakeClock, tmp_path: Path
) -> None:
    session = opened.session()
    _filled(session)
    reader = _stream(session)
    reader.read_next_batch()
    clock.advance(301)
    with _locked(tmp_path / "lab.kalam"):
        assert reader.read_all().num_rows == ROWS * PARTS - 1_000


def test_a_commit_that_happened_is_not_called_busy(opened: Any, clock: FakeClock) -> None:
    session = opened.session()
    session.execute("BEGIN; INSERT INTO t VALUES (1, 1.0)")
    clock.advance(400)
    leases, store = opened._context._leases, opened._context.store
    leases.renew()
    release = store.release

    def in_use(*arguments: Any, **options: Any) -> None:
        with _locked(Path(opened.path)):  # since the commit
            release(*arguments, **options)

    store.release = in_use
    session.execute("COMMIT")
    assert not session.in_transaction
    assert session.execute("SELECT n FROM t").rows() == [(1,)]


def test_closing_gives_all_back_while_others_hold_the_lock(opened: Any, clock: FakeClock) -> None:
    session = opened.session()
    session.execute("BEGIN; INSERT INTO t VALUES (1, 1.0)")
    clock.advance(400)
    opened._context._leases.renew()
    with _locked(Path(opened.path)):
        opened.close()
    assert opened._context.is_stale()
    assert not list(Path(opened.path).glob("node-*"))


def test_a_session_that_cannot_be_ended_does_not_keep_the_database_open(opened: Any) -> None:
    session = opened.session()

    def fail() -> None:
        raise RuntimeError

    session._transaction.close = fail
    with pytest.raises(RuntimeError):
        opened.close()
    assert opened._context.is_stale()
    assert not list(Path(opened.path).glob("node-*"))


def test_a_transaction_that_the_collector_ends_amid_a_write_harms_nothing(
    opened: Any, clock: FakeClock
) -> None:
    session, lost = opened.session(), opened.session()
    lost.execute("BEGIN")
    clock.advance(400)
    opened._context._leases.renew()
    lost.itself = lost
    gc.disable()
    try:
        del lost
        with opened._context.store.write() as transaction:
            before = transaction.next_segment_id()
            gc.collect()
            assert opened._context._leases.oldest_read() is None
            assert transaction.next_segment_id() == before + 1
    finally:
        gc.enable()
    session.execute("INSERT INTO t VALUES (1, 1.0)")
    assert session.execute("SELECT n FROM t").rows() == [(1,)]


def test_an_open_transaction_keeps_its_files_from_its_start_without_any_grace_time(
    tmp_path: Path, clock: FakeClock
) -> None:
    settings = "retired_segment_grace_s = 0\n"
    path = tmp_path / "short.kalam"
    with _open(path, clock, settings) as one, _open(path, clock, settings) as two:
        writer, reader = one.session(), two.session()
        writer.execute("CREATE TABLE t (n INT PRIMARY KEY)")
        for n in (1, 2):
            finished(writer, f"INSERT INTO t VALUES ({n}); FLUSH TABLE t")
        reader.execute("BEGIN")
        finished(writer, "OPTIMIZE t")
        clock.advance(1)
        assert _deleted_by_vacuum(writer) == 0
        assert reader.execute("SELECT count(*) FROM t").rows() == [(2,)]
        reader.execute("ROLLBACK")
        assert _deleted_by_vacuum(writer) == 2
