"""system.stats: counts of the database and of this process, for dba and system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def root(fresh: Any) -> Session:
    return fresh.session()


def stats(session: Session) -> dict[str, float]:
    return dict(session.execute("SELECT metric, value FROM system.stats").rows())


def test_its_columns_and_metrics(root: Session) -> None:
    answer = root.execute("SELECT * FROM system.stats")
    assert answer.columns == ["metric", "value", "unit"]
    units = {row[0]: row[2] for row in answer}
    assert {
        "rows",
        "segments",
        "bytes",
        "open_sessions",
        "subscriptions",
        "cache_hits",
    } <= units.keys()
    assert {
        f"jobs_{status}"
        for status in ("new", "queued", "running", "retrying", "completed", "failed", "cancelled")
    } <= units.keys()
    assert (units["bytes"], units["open_sessions"], units["cache_hits"]) == (
        "bytes",
        "sessions",
        "lookups",
    )
    assert [row[:2] for row in root.execute("DESCRIBE system.stats")] == [
        ("metric", "TEXT"), ("value", "DOUBLE"), ("unit", "TEXT"),
    ]  # fmt: skip


def test_rows_are_counted_hot_flushed_changed_and_deleted(root: Session) -> None:
    root.execute(
        """CREATE TABLE t (id INT PRIMARY KEY, v INT); CREATE USER TABLE u (id INT PRIMARY KEY);
        CREATE STREAM TABLE p (id INT PRIMARY KEY) WITH (TTL_SECONDS = 60);
        INSERT INTO t SELECT r, 0 FROM range(20) AS x(r); INSERT INTO u VALUES (1), (2);
        INSERT INTO p VALUES (1), (2), (3)"""
    )
    root.execute("EXECUTE AS USER 'mia' (INSERT INTO u VALUES (1))")
    first = stats(root)
    assert (first["rows"], first["segments"]) == (26, 1)  # 20 rows at once are a segment here
    assert first["hot_rows"] == 6
    root.execute(
        "DELETE FROM t WHERE id < 5; UPDATE t SET v = 1 WHERE id = 7; DELETE FROM p WHERE id = 1"
    )
    assert stats(root)["rows"] == 20
    finished(root, "STORAGE FLUSH ALL")
    second = stats(root)
    assert (second["rows"], second["hot_rows"]) == (20, 2)  # streams stay hot
    assert second["segments"] == 4
    assert second["bytes"] > first["bytes"] > 0
    root.execute("DELETE FROM u WHERE true; DROP TABLE t")
    assert stats(root)["rows"] == 3


def test_events_that_expired_do_not_count(fresh: Any, root: Session) -> None:
    root.execute(
        "CREATE STREAM TABLE p (id INT PRIMARY KEY) WITH (TTL_SECONDS = 60); INSERT INTO p VALUES (1), (2)"
    )
    fresh.clock.advance(40)
    root.execute("INSERT INTO p VALUES (3); DELETE FROM p WHERE id = 2")
    assert stats(root)["rows"] == 2
    fresh.clock.advance(30)
    assert stats(root)["rows"] == 1
    assert root.execute("SELECT count(*) FROM p").rows() == [(1,)]


def test_sessions_count_while_they_are_open(fresh: Any, root: Session) -> None:
    before = stats(root)["open_sessions"]
    with fresh.session():
        assert stats(root)["open_sessions"] == before + 1
    assert stats(root)["open_sessions"] == before


def test_jobs_count_by_status_and_look_ups_grow(root: Session) -> None:
    root.execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1)")
    before = stats(root)
    finished(root, "STORAGE FLUSH TABLE t")
    for _ in range(3):
        root.execute("SELECT sum(id) FROM t")
    after = stats(root)
    assert after["jobs_completed"] == before["jobs_completed"] + 1
    assert after["jobs_running"] == 0
    assert after["cache_hits"] > before["cache_hits"]
    assert after["plan_hits"] > before["plan_hits"]


def test_it_is_a_table_like_others_and_never_kept(root: Session) -> None:
    sql = "SELECT s.value FROM system.stats s JOIN system.tables t ON t.table_name = 'stats' WHERE s.metric = 'rows'"
    root.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    for count in range(3):
        assert root.execute(sql).rows() == [(count,)]
        root.execute("INSERT INTO t VALUES (?)", [count])
    assert root.execute("SELECT count(*) FROM system.stats WHERE unit = 'jobs'").rows() == [(7,)]


def test_it_is_for_dba_and_system(
    s: Session, mia: Session, sven: Session, dora: Session, refused: Any
) -> None:
    s.execute("CREATE VIEW v AS SELECT * FROM system.stats")
    for session in (mia, sven):
        for sql in ("SELECT * FROM system.stats", "SELECT * FROM v", "DESCRIBE system.stats"):
            assert str(refused(session, sql)) == (
                "Only 'dba' and 'system' roles can access system namespace"
            )
    assert dora.execute("SELECT count(*) > 10 FROM v").rows() == [(True,)]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM system.stats WHERE true", "System table system.stats is read-only"),
        ("STORAGE FLUSH TABLE system.stats", "system.stats keeps no rows and cannot be flushed"),
        ("ALTER TABLE system.stats ADD COLUMN a INT", "System table system.stats cannot be altered"),
        ("SELECT _seq FROM system.stats", "Column '_seq' not found"),
    ],
)  # fmt: skip
def test_what_it_refuses(s: Session, refused: Any, sql: str, message: str) -> None:
    assert str(refused(s, sql)) == message


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("INSERT INTO t VALUES ({}, 0) ON CONFLICT (id) DO UPDATE SET v = t.v + 1"), st.integers(0, 9)),
        st.tuples(st.just("UPDATE t SET v = v + 1 WHERE id <= {}"), st.integers(0, 9)),
        st.tuples(st.just("DELETE FROM t WHERE id = {}"), st.integers(0, 9)),
        st.tuples(st.just("INSERT INTO t SELECT r, 0 FROM range(100, 106) AS x(r) ON CONFLICT DO NOTHING"), st.just(0)),
        st.tuples(st.just("STORAGE FLUSH TABLE t"), st.just(0)),
        st.tuples(st.just("STORAGE COMPACT TABLE t"), st.just(0)),
    ),
    max_size=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, opener: Any) -> Any:
    path: Path = tmp_path_factory.mktemp("stats") / "lab.kalam"
    opened = opener(path)
    opened.session(namespace="default").execute("CREATE NAMESPACE studio")
    yield opened
    opened.database.close()


@settings(max_examples=10, deadline=None)
@given(steps=STEPS)
def test_the_count_of_rows_is_what_a_select_counts(
    lasting: Any, steps: list[tuple[str, int]]
) -> None:
    session = lasting.session()
    session.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    try:
        for text, number in steps:
            finished(session, text.format(number))
            assert stats(session)["rows"] == session.execute("SELECT count(*) FROM t").rows()[0][0]
    finally:
        finished(session, "DROP TABLE t")
