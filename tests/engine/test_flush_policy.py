"""FLUSH_POLICY: tables are flushed without a statement, once, however many processes look."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scheduled import PATIENCE_S, Lab, kept, lab

import kalamdb_lab as kalam
from kalamdb_lab.errors import InvalidOptionError


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path / "lab.kalam") as made:
        made.session().execute("CREATE USER 'mia' INTERNAL ROLE user")
        yield made


@pytest.mark.parametrize("kind", ["USER", "SHARED"])
def test_a_table_is_flushed_when_a_scope_has_as_many_rows(here: Lab, kind: str) -> None:
    s = here.session()
    s.execute(f"CREATE {kind} TABLE t (id INT PRIMARY KEY) WITH (FLUSH_POLICY = 'rows:3')")
    s.execute("INSERT INTO t VALUES (1), (2)")
    assert here.look() == []
    s.execute("INSERT INTO t VALUES (3)")
    assert here.look() == ["flush studio.t: Flushed 3 rows into 1 segment"]
    assert kept(s, "t") == (0, 1)
    assert here.look() == []
    s.execute("INSERT INTO t VALUES (4), (5)")
    assert here.look() == []
    assert s.execute("SELECT count(*) FROM t").rows() == [(5,)]


@pytest.mark.parametrize("kind", ["USER", "SHARED"])
def test_a_table_is_flushed_so_many_seconds_after_its_first_hot_row(here: Lab, kind: str) -> None:
    s = here.session()
    s.execute(f"CREATE {kind} TABLE t (id INT PRIMARY KEY) WITH (FLUSH_POLICY = 'interval:60')")
    here.clock.advance(1000)
    assert here.look() == [], "an empty table has nothing to flush"
    for row in range(3):
        s.execute("INSERT INTO t VALUES (?)", [row])
        here.clock.advance(19.9)
        assert here.look() == []
    here.clock.advance(0.4)
    assert here.look() == ["flush studio.t: Flushed 3 rows into 1 segment"]
    here.clock.advance(1000)
    assert here.look() == []
    s.execute("INSERT INTO t VALUES (9)")
    here.clock.advance(59)
    assert here.look() == [], "the next row begins anew"
    here.clock.advance(1)
    assert here.look() == ["flush studio.t: Flushed 1 row into 1 segment"]


def test_of_rows_and_interval_what_comes_first_counts(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (FLUSH_POLICY = 'rows:3,interval:60')")
    s.execute("INSERT INTO t VALUES (1), (2), (3)")
    assert here.look() == ["flush studio.t: Flushed 3 rows into 1 segment"]
    s.execute("INSERT INTO t VALUES (4)")
    assert here.look() == []
    here.clock.advance(60)
    assert here.look() == ["flush studio.t: Flushed 1 row into 1 segment"]


def test_rows_are_counted_in_each_scope_and_the_table_is_flushed(here: Lab) -> None:
    root, mia = here.session(), here.session("mia")
    root.execute("CREATE USER TABLE t (id INT PRIMARY KEY) WITH (FLUSH_POLICY = 'rows:3')")
    root.execute("INSERT INTO t VALUES (1), (2)")
    mia.execute("INSERT INTO t VALUES (1), (2)")
    assert here.look() == []
    mia.execute("INSERT INTO t VALUES (3)")
    assert here.look() == ["flush studio.t: Flushed 5 rows into 2 segments"]


def test_each_version_that_is_written_counts_as_a_row(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, n INT) WITH (FLUSH_POLICY = 'rows:4')")
    s.execute("INSERT INTO t VALUES (1, 0), (2, 0)")
    s.execute("UPDATE t SET n = 1 WHERE id = 1")
    assert here.look() == []
    s.execute("UPDATE t SET n = 2 WHERE id = 1")
    assert here.look() == ["flush studio.t: Flushed 2 rows into 1 segment"]
    assert s.execute("SELECT * FROM t ORDER BY id").rows() == [(1, 2), (2, 0)]


def test_rows_of_a_transaction_count_from_its_commit(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (FLUSH_POLICY = 'rows:2')")
    s.execute("BEGIN")
    s.execute("INSERT INTO t VALUES (1), (2)")
    assert here.look() == []
    s.execute("COMMIT")
    assert here.look() == ["flush studio.t: Flushed 2 rows into 1 segment"]


def test_rows_that_go_to_a_segment_at_once_are_not_hot(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:500')")
    s.insert("t", {"id": list(range(1000))})
    assert here.look() == []
    s.insert("t", {"id": list(range(999))})
    assert here.look() == ["flush studio.t: Flushed 999 rows into 1 segment"]


def test_a_table_made_again_has_its_new_policy(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (FLUSH_POLICY = 'rows:2')")
    s.execute("INSERT INTO t VALUES (1)")
    s.execute("DROP TABLE t")
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (FLUSH_POLICY = 'rows:3')")
    s.execute("INSERT INTO t VALUES (1), (2)")
    assert not [text for text in here.look() if text.startswith("flush")]
    s.execute("INSERT INTO t VALUES (3)")
    assert here.look() == ["flush studio.t: Flushed 3 rows into 1 segment"]


# --- the setting ----------------------------------------------------------------------------------


def test_tables_without_a_policy_have_that_of_the_database(tmp_path: Path) -> None:
    with lab(tmp_path / "lab.kalam", 'flush_policy = "rows:2, interval:60"') as here:
        s = here.session()
        s.execute(
            "CREATE TABLE plain (id INT); CREATE STREAM TABLE e (id INT) WITH (TTL_SECONDS = 9999)"
        )
        s.execute("CREATE TABLE own (id INT) WITH (FLUSH_POLICY = 'rows:3')")
        for table in ("plain", "own", "e"):
            s.execute(f"INSERT INTO {table} VALUES (1), (2)")
        assert here.look() == ["flush studio.plain: Flushed 2 rows into 1 segment"]
        s.execute("INSERT INTO plain VALUES (3)")
        here.clock.advance(60)
        assert here.look() == ["flush studio.plain: Flushed 1 row into 1 segment"]
        assert kept(s, "own") == (2, 0)


def test_without_the_setting_it_is_ten_thousand_rows(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT)")
    for _ in range(13):
        s.insert("t", {"id": list(range(769))})
    s.execute("INSERT INTO t VALUES (1), (2)")
    here.clock.advance(10_000_000)
    assert (here.look(), kept(s, "t")) == ([], (9_999, 0))
    s.execute("INSERT INTO t VALUES (3)")
    assert here.look() == ["flush studio.t: Flushed 10,000 rows into 1 segment"]


def test_with_none_only_tables_with_a_policy_are_flushed(tmp_path: Path) -> None:
    with lab(tmp_path / "lab.kalam", 'flush_policy = "none"') as here:
        s = here.session()
        s.execute(
            "CREATE TABLE plain (id INT); CREATE TABLE own (id INT) WITH (FLUSH_POLICY = 'rows:9')"
        )
        for table in ("plain", "own"):
            for _ in range(21):
                s.insert(table, {"id": list(range(999))})
        here.clock.advance(10_000_000)
        assert here.look() == ["flush studio.own: Flushed 20,979 rows into 1 segment"]


@pytest.mark.parametrize("value", ["rows:none", "rows:0", "", "daily", "rows:1,rows:2"])
def test_a_setting_that_is_no_policy_is_refused_in_the_words_of_the_option(
    tmp_path: Path, value: str
) -> None:
    path = tmp_path / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text(f'flush_policy = "{value}"')
    with pytest.raises(InvalidOptionError) as caught:
        kalam.open(path)
    assert str(caught.value) == (
        f"Invalid FLUSH_POLICY '{value}': use rows:N, interval:N or rows:N,interval:N with N of "
        "at least 1"
    )
    (path / "kalam.toml").write_text("flush_policy = 5")
    with pytest.raises(InvalidOptionError, match=r"^kalam\.toml: flush_policy is a text$"):
        kalam.open(path)


# --- many processes -------------------------------------------------------------------------------


def test_rows_that_another_process_writes_count(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (FLUSH_POLICY = 'rows:3')")
    s.execute("INSERT INTO t VALUES (1)")
    assert here.look() == []
    with lab(here.path, clock=here.clock) as there:
        there.session().execute("INSERT INTO t VALUES (2), (3)")
        assert here.look() == ["flush studio.t: Flushed 3 rows into 1 segment"]
        assert there.look() == []


def test_what_is_due_when_a_database_is_opened_is_made_up_for(tmp_path: Path) -> None:
    with lab(tmp_path / "lab.kalam") as before:
        s = before.session()
        s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (FLUSH_POLICY = 'interval:60')")
        s.execute("INSERT INTO t VALUES (1)")
    before.clock.advance(60)
    with lab(tmp_path / "lab.kalam", clock=before.clock) as after:
        assert after.look() == ["flush studio.t: Flushed 1 row into 1 segment"]


def test_of_many_that_look_at_once_one_makes_the_job(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:2')")
    others = [Lab(here.path, here.clock) for _ in range(3)]
    everyone = [here, *others]
    try:
        for rounds in range(1, 9):
            s.execute("INSERT INTO t VALUES (1), (2)")
            together = threading.Barrier(len(everyone))

            def look(one: Lab, together: threading.Barrier = together) -> None:
                together.wait(PATIENCE_S)
                one.looked()

            threads = [threading.Thread(target=look, args=(one,)) for one in everyone]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            messages = [job.message for job in here.context.jobs.jobs()]
            assert messages == ["Flushed 2 rows into 1 segment"] * rounds
    finally:
        for other in others:
            other.close()


def test_who_comes_too_late_with_the_same_thought_makes_no_job(here: Lab) -> None:
    """Between finding it due and the commit that makes the job another process did the work."""
    s = here.session()
    s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:2')")
    s.execute("INSERT INTO t VALUES (1), (2)")
    with lab(here.path, clock=here.clock) as there:
        now_us = here.clock.now_us()
        there.schedules._ages.follow()
        ((kind, table),), _ = there.schedules._candidates(now_us)
        assert here.look() == ["flush studio.t: Flushed 2 rows into 1 segment"]
        there.schedules._consider(kind, table, now_us)
        assert len(there.context.jobs.jobs()) == 1
        s.execute("INSERT INTO t VALUES (3), (4)")
        there.schedules._consider(kind, table, now_us)
        assert len(there.context.jobs.jobs()) == 2, "again it is due"


LOOKER = """
import sys
import kalamdb_lab as kalam
from kalamdb_lab.jobs import schedules
schedules._TICK_S = 3600.0
context = kalam.open(sys.argv[1])._context
print("ready", flush=True)
for line in sys.stdin:
    context.schedules.look()
    print("looked", flush=True)
"""


@pytest.mark.slow
def test_two_processes_with_one_policy_make_one_job_each_time(here: Lab) -> None:
    s = here.session()
    s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:2')")
    other = subprocess.Popen(
        [sys.executable, "-c", LOOKER, str(here.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    for _ in range(20):
        s.execute("INSERT INTO t VALUES (1), (2)")
        other.stdin.write("look\n")
        other.stdin.flush()
        here.looked()
        assert other.stdout.readline() == "looked\n"
        for job in here.context.jobs.jobs():
            here.context.jobs.wait(job.job_id, PATIENCE_S)
    other.stdin.close()
    assert other.wait(PATIENCE_S) == 0
    other.stdout.close()
    jobs = here.context.jobs.jobs()
    assert [job.message for job in jobs] == ["Flushed 2 rows into 1 segment"] * 20
    assert kept(s, "t") == (0, 20)


# --- by itself ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("awake")
def test_a_flush_comes_within_five_seconds_and_without_a_statement(tmp_path: Path) -> None:
    with lab(tmp_path / "lab.kalam") as here:
        s = here.session()
        s.execute("CREATE TABLE t (id INT) WITH (FLUSH_POLICY = 'rows:2')")
        s.execute("INSERT INTO t VALUES (1)")
        assert not here.until(here.context.jobs.jobs, within_s=2.5), "one row is not enough"
        s.execute("INSERT INTO t VALUES (2)")
        assert here.until(here.context.jobs.jobs, within_s=5)
        (job,) = here.context.jobs.jobs()
        assert here.context.jobs.wait(job.job_id, PATIENCE_S).message == (
            "Flushed 2 rows into 1 segment"
        )
