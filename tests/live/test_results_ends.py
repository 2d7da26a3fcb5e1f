"""Live results under load, with errors, without rights, and how they end."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from live_world import DEADLINE_S, rows, until

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock, KalamError
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.difference import Difference
from kalamdb_lab.live.results import LiveResult

_names = itertools.count()


# --- throttling ---------------------------------------------------------------------------------


def test_many_commits_are_few_evaluations_and_the_last_state_comes(root: Session) -> None:
    begun = time.monotonic()
    live = root.live("SELECT count(*) AS n FROM tracks", throttle_s=0.2)
    told: list[Difference] = []
    live.watch(told.append)
    for at in range(3, 103):
        root.execute("INSERT INTO tracks VALUES (?, 'x', 1)", [at])
    until(lambda: live.snapshot().to_pylist() == [{"n": 102}])
    most = (time.monotonic() - begun) / 0.2 + 2
    assert live.evaluations <= most
    assert len(told) <= most
    assert told[-1].table.to_pylist() == [{"n": 102}]
    live.close()


def test_a_reader_who_is_slow_gets_one_difference_with_all_that_changed(root: Session) -> None:
    live = root.live("SELECT id FROM tracks", throttle_s=0)
    told = iter(live)
    next(told)
    for at in (3, 4, 5):
        root.execute("INSERT INTO tracks VALUES (?, 'x', 1)", [at])
        assert live.wait(rows=at, timeout=DEADLINE_S)
    root.execute("DELETE FROM tracks WHERE id = 4")
    until(lambda: live.snapshot().num_rows == 4)
    merged = next(told)
    assert [merged.table["id"][int(at)].as_py() for at in merged.inserted] == [3, 5]
    assert not merged.deleted.num_rows
    live.close()


def test_statements_of_the_session_do_not_hold_up_its_live_results(
    root: Session, session_of: Callable[[str], Session]
) -> None:
    live = root.live("SELECT id FROM tracks", throttle_s=0)
    with root._lock:  # as a long statement of the session holds it
        session_of("root").execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
        assert live.wait(rows=3, timeout=DEADLINE_S)
    live.close()


# --- errors -------------------------------------------------------------------------------------


def test_a_query_that_fails_on_the_new_rows_says_so_and_goes_on(root: Session) -> None:
    live = root.live("SELECT id, CAST(title AS INT) AS n FROM tracks WHERE id > 2", throttle_s=0)
    told = iter(live)
    next(told)
    root.execute("INSERT INTO tracks VALUES (3, 'many', 1)")
    failed = next(told)
    assert failed.error is not None
    assert live.error is failed.error
    with pytest.raises(KalamError) as refused:
        root.execute(live.query)
    assert str(failed.error) == str(refused.value)
    assert f"failing: {refused.value}" in repr(live)
    assert live.is_open
    root.execute("UPDATE tracks SET title = '12' WHERE id = 3")
    good = next(told)
    assert good.error is None
    assert good.table.to_pylist() == [{"id": 3, "n": 12}]
    live.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT mood FROM tracks", "Column 'mood' not found"),
        ("SELECT * FROM nowhere", "Table 'studio.nowhere' not found"),
        ("INSERT INTO tracks VALUES (9, 'x', 1)", "INSERT has no live result; write a SELECT"),
        ("SUBSCRIBE TO tracks", "SUBSCRIBE has no live result; write a SELECT"),
        ("SELECT 1; SELECT 2", "A live result is that of one query; this text has 2 statements"),
        ("SELECT ? AS x", "Expected 1 parameter, got 0"),
        ("", "Empty statement"),
    ],
)
def test_what_is_no_query_is_refused_and_leaves_nothing(
    root: Session, database: Database, text: str, message: str
) -> None:
    with pytest.raises(KalamError, match=message):
        root.live(text)
    assert root.execute("SELECT count(*) FROM system.live_queries").rows() == [(0,)]
    assert not database._context.live_results._entries


@pytest.mark.parametrize("throttle_s", [-1, float("nan"), float("inf"), "0.1", True])
def test_a_throttle_that_is_no_time_is_refused(root: Session, throttle_s: Any) -> None:
    with pytest.raises(KalamError, match="throttle_s must be a number of seconds"):
        root.live("SELECT 1 AS one", throttle_s=throttle_s)


# --- rights -------------------------------------------------------------------------------------


def test_each_user_follows_their_own_rows_only(
    root: Session, session_of: Callable[[str], Session]
) -> None:
    root.execute("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, text TEXT)")
    mia, tom = session_of("mia"), session_of("tom")
    live = mia.live("SELECT text FROM notes", throttle_s=0)
    everybody: list[Difference] = []
    live.watch(everybody.append)
    tom.execute("INSERT INTO notes VALUES (1, 'of tom')")
    mia.execute("INSERT INTO notes VALUES (1, 'of mia')")
    assert live.wait(rows=1, timeout=DEADLINE_S)
    assert rows(live) == [("of mia",)]
    assert live.evaluations == 2, "another user's commit is none of its business"
    assert all("of tom" not in str(told.table.to_pylist()) for told in everybody)


def test_all_users_is_not_for_live_queries(
    root: Session, session_of: Callable[[str], Session]
) -> None:
    root.execute("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, text TEXT)")
    dora, text = session_of("dora"), "SELECT user_id, text FROM all_users('studio.notes')"
    with pytest.raises(KalamError, match=r"^all_users\(\) is not supported in a live query$"):
        dora.live(text)
    assert dora.execute(text).rows() == []
    assert root.execute("SHOW LIVE QUERIES").rows() == []


def ended(live: LiveResult) -> tuple[str | None, str | None]:
    until(lambda: not live.is_open)
    return live.ended, live.message


def test_it_ends_when_the_table_is_closed_to_the_user(
    root: Session, session_of: Callable[[str], Session]
) -> None:
    root.execute("ALTER TABLE tracks SET ACCESS LEVEL PUBLIC")
    live = session_of("mia").live("SELECT id FROM tracks", throttle_s=0)
    allowed = session_of("dora").live("SELECT id FROM tracks", throttle_s=0)
    root.execute("ALTER TABLE tracks SET ACCESS LEVEL PRIVATE")
    reason, message = ended(live)
    assert reason == "access revoked"
    assert message == "Permission denied: role 'user' may not read studio.tracks"
    root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
    assert allowed.wait(rows=3, timeout=DEADLINE_S)
    assert live.snapshot().num_rows == 2


def test_it_ends_when_the_role_goes_and_when_the_user_goes(
    root: Session, session_of: Callable[[str], Session]
) -> None:
    root.execute("CREATE USER 'eva' WITH INTERNAL ROLE dba")
    eva = session_of("eva")
    users = eva.live("SELECT user_id FROM system.users", throttle_s=0)
    own = eva.live("SELECT 1 AS one", throttle_s=0)
    root.execute("ALTER USER 'eva' SET ROLE user")
    reason, message = ended(users)
    assert reason == "access revoked"
    assert message == "Only 'dba' and 'system' roles can access system namespace"
    assert own.is_open
    root.execute("DROP USER 'eva'")
    assert ended(own) == ("user dropped", "User 'eva' was dropped")


def test_it_ends_when_its_table_or_a_column_goes(root: Session) -> None:
    gone = root.live("SELECT * FROM plays", throttle_s=0)
    column = root.live("SELECT seconds FROM tracks", throttle_s=0)
    whole = root.live("SELECT * FROM tracks", throttle_s=0)
    root.execute("DROP TABLE plays")
    assert ended(gone) == ("table dropped", "Table studio.plays was dropped")
    root.execute("ALTER TABLE tracks DROP COLUMN seconds")
    assert ended(column)[0] == "schema changed"
    until(lambda: whole.schema.names == ["id", "title"])
    assert whole.is_open


# --- ends ---------------------------------------------------------------------------------------


def test_it_ends_with_its_session_and_tells_so(
    root: Session, session_of: Callable[[str], Session]
) -> None:
    session = session_of("root")
    live = session.live("SELECT id FROM tracks")
    told: list[str | None] = []
    live.watch(lambda difference: told.append(difference.ended))
    session.close()
    assert told == [None, "session ended"]
    assert live.message == "The session was closed"
    assert live.snapshot().num_rows == 2, "the last state stays to be shown"
    assert root.live("SELECT id FROM tracks").is_open


def test_it_ends_with_its_database_and_no_thread_is_left(tmp_path: Path) -> None:
    database = kalam.open(tmp_path / "lab.kalam", clock=FakeClock())
    session = database.session("root")
    live = session.live("SELECT * FROM system.users")
    waiting = threading.Thread(target=lambda: list(live))
    waiting.start()
    database.close()
    assert live.ended in ("session ended", "database closed")
    waiting.join(DEADLINE_S)
    assert not waiting.is_alive()
    with pytest.raises(KalamError):
        session.live("SELECT 1 AS one")


def _held_by_a_listener(live: LiveResult, told: Difference) -> None:
    assert live.is_open


def test_what_nobody_holds_any_more_is_forgotten(database: Database, root: Session) -> None:
    live = root.live("SELECT id FROM tracks", throttle_s=0)
    live.watch(partial(_held_by_a_listener, live))  # as a widget holds it
    root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
    assert live.wait(rows=3, timeout=DEADLINE_S)
    alive = weakref.ref(live)
    live_id = live.live_id
    del live

    def is_gone() -> bool:
        gc.collect()
        return alive() is None

    until(is_gone)
    until(lambda: not database._context.live_results._entries)
    listed = "SELECT count(*) FROM system.live_queries WHERE live_id = ?"
    until(lambda: root.execute(listed, [live_id]).rows() == [(0,)])


def test_threads_come_with_the_first_and_go_with_the_last(
    database: Database, root: Session
) -> None:
    live_results = database._context.live_results
    until(lambda: not live_results._workers)
    results = [root.live("SELECT id FROM tracks") for _ in range(20)]
    assert len(live_results._workers) == 2
    for live in results:
        live.close()
    until(lambda: not live_results._workers)
    assert not live_results._entries
    assert not live_results._by_wanted


def test_live_results_are_listed_and_killed_by_their_user_or_a_dba(
    root: Session, session_of: Callable[[str], Session]
) -> None:
    root.execute("ALTER TABLE tracks SET ACCESS LEVEL PUBLIC")
    mia, tom = session_of("mia"), session_of("tom")
    live = mia.live("SELECT count(*) AS n FROM tracks", throttle_s=0)
    other = mia.live("SELECT title FROM tracks", throttle_s=0)
    told: list[str | None] = []
    live.watch(lambda difference: told.append(difference.ended))
    listed = mia.execute("SHOW LIVE QUERIES").rows()
    assert {row[:5] for row in listed} == {
        (live.live_id, "mia", "studio", "tracks", "SELECT count(*) AS n FROM tracks"),
        (other.live_id, "mia", "studio", "tracks", "SELECT title FROM tracks"),
    }
    assert tom.execute("SHOW LIVE QUERIES").rows() == []
    with pytest.raises(KalamError, match="not found"):
        tom.execute(f"KILL LIVE QUERY '{live.live_id}'")
    root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
    assert live.wait(timeout=DEADLINE_S)
    changes = "SELECT changes FROM system.live_queries WHERE live_id = ?"
    until(lambda: root.execute(changes, [live.live_id]).rows() == [(1,)])
    mia.execute(f"KILL LIVE QUERY '{live.live_id}'")
    until(lambda: told[-1] == "killed")
    assert live.message == "The live query was killed"
    session_of("dora").execute(f"KILL LIVE QUERY '{other.live_id}'")
    until(lambda: other.ended == "killed")
    assert root.execute("SHOW LIVE QUERIES").rows() == []


def test_the_list_of_live_queries_can_be_followed(root: Session) -> None:
    watching = root.live("SELECT live_id FROM system.live_queries", throttle_s=0)
    other = root.live("SELECT id FROM tracks", throttle_s=0)
    assert watching.wait(rows=2, timeout=DEADLINE_S)
    other.close()
    until(lambda: rows(watching) == [(watching.live_id,)])
    settled = watching.evaluations
    assert not watching.wait(timeout=0.3), "it must not follow its own counting"
    assert watching.evaluations <= settled + 1


# --- processes ----------------------------------------------------------------------------------

WRITER = """
import sys
import kalamdb_lab as kalam
with kalam.open(sys.argv[1]) as database:
    session = database.session("root", namespace="studio")
    for line in sys.stdin:
        session.execute(line)
        print("done", flush=True)
"""


@pytest.mark.slow
def test_what_another_process_commits_is_followed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lab.kalam"
    with kalam.open(path) as database:
        root = database.session("root")
        root.execute("CREATE NAMESPACE studio; USE studio")
        root.execute("CREATE SHARED TABLE tracks (id BIGINT PRIMARY KEY, seconds INT)")
        root.execute("INSERT INTO tracks VALUES (1, 10)")
        sums = root.live("SELECT count(*) AS n, sum(seconds) AS s FROM tracks", throttle_s=0)
        longest = root.live("SELECT id FROM tracks ORDER BY seconds DESC LIMIT 1", throttle_s=0)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            for text, count, total, first in (
                ("INSERT INTO tracks VALUES (2, 30)", 2, 40, 2),
                ("UPDATE tracks SET seconds = 50 WHERE id = 1", 2, 80, 1),
                ("DELETE FROM tracks WHERE id = 1", 1, 30, 2),
            ):
                other.stdin.write(text + "\n")
                other.stdin.flush()
                assert other.stdout.readline() == "done\n"
                until(lambda n=count, s=total: rows(sums) == [(n, s)])
                until(lambda first=first: rows(longest) == [(first,)])
            assert sums.maintenance == "incremental"
            other.stdin.write("DROP TABLE tracks\n")
            other.stdin.close()
            assert other.stdout.readline() == "done\n"
        assert ended(sums)[0] == "table dropped"
        assert ended(longest)[0] == "table dropped"
