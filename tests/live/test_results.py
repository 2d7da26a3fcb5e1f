"""Live results as users have them: what they depend on, when they change, how they end."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from live_world import DEADLINE_S, rows, until

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock, KalamError
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.difference import Difference

_names = itertools.count()


# --- what is told -------------------------------------------------------------------------------


def test_the_present_rows_come_first_and_then_what_changed(root: Session) -> None:
    live = root.live("SELECT id, title FROM tracks", throttle_s=0)
    told = iter(live)
    first = next(told)
    assert first.inserted.tolist() == [0, 1]
    assert first.table.num_rows == 2
    root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
    second = next(told)
    assert second.table.take(second.inserted).to_pylist() == [{"id": 3, "title": "Road"}]
    assert second.seq > first.seq
    root.execute("UPDATE tracks SET title = 'Rode' WHERE id = 3")
    third = next(told)
    assert [third.table.column("id")[int(at)].as_py() for at in third.updated] == [3]
    assert not len(third.inserted)
    root.execute("DELETE FROM tracks WHERE id = 1")
    fourth = next(told)
    assert fourth.deleted.to_pylist() == [{"id": 1, "title": "Dawn"}]
    live.close()
    assert [difference.ended for difference in told] == ["closed"]
    assert not live.is_open


def test_a_change_that_leaves_the_result_as_it_is_tells_nothing(root: Session) -> None:
    live = root.live("SELECT title FROM tracks WHERE seconds > 500", throttle_s=0)
    told: list[Difference] = []
    live.watch(told.append)
    root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
    until(lambda: live.evaluations == 2)
    root.execute("INSERT INTO tracks VALUES (4, 'Sea', 900)")
    until(lambda: len(told) == 2)
    assert told[1].table.take(told[1].inserted).to_pylist() == [{"title": "Sea"}]
    live.close()


def test_a_listener_hears_nothing_more_once_it_stopped(root: Session) -> None:
    live = root.live("SELECT count(*) AS n FROM tracks", throttle_s=0)
    heard: list[int] = []
    stop = live.watch(lambda d: heard.append(d.table["n"][0].as_py()))
    assert heard == [2]
    root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
    until(lambda: heard == [2, 3])
    stop()
    root.execute("INSERT INTO tracks VALUES (4, 'Sea', 90)")
    until(lambda: live.snapshot()["n"][0].as_py() == 4)
    live.close()
    assert heard == [2, 3]


def test_a_listener_that_raises_is_logged_and_called_again(
    root: Session, caplog: pytest.LogCaptureFixture
) -> None:
    live = root.live("SELECT count(*) AS n FROM tracks", throttle_s=0)
    calls: list[Difference] = []

    def listener(told: Difference) -> None:
        calls.append(told)
        raise RuntimeError("of the listener")

    with caplog.at_level(logging.ERROR, logger="kalamdb_lab.live"):
        live.watch(listener)
        root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
        until(lambda: len(calls) == 2)
        live.close()
    assert "listener" in caplog.text


def test_wait_returns_when_there_are_enough_rows_and_when_time_is_over(root: Session) -> None:
    live = root.live("SELECT id FROM tracks", throttle_s=0)
    assert live.wait(rows=2, timeout=0)
    assert not live.wait(rows=3, timeout=0.01)
    root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
    assert live.wait(rows=3, timeout=DEADLINE_S)
    root.execute("INSERT INTO tracks VALUES (4, 'Sea', 90)")
    until(lambda: live.changes == 2)
    assert live.wait(timeout=0), "what came before the call was not waited for yet"
    ender = threading.Timer(0.05, live.close)
    ender.start()
    assert not live.wait(timeout=DEADLINE_S)
    ender.join()


def test_rows_that_only_change_places_are_told_where_the_query_says_an_order(
    root: Session,
) -> None:
    live = root.live("SELECT title FROM tracks ORDER BY seconds", throttle_s=0)
    told = iter(live)
    assert next(told).table["title"].to_pylist() == ["Hill", "Dawn"]
    root.execute("UPDATE tracks SET seconds = 1 WHERE id = 1")
    moved = next(told)
    assert moved.table["title"].to_pylist() == ["Dawn", "Hill"]
    assert not len(moved.inserted)
    assert not len(moved.updated)
    assert not moved.deleted.num_rows
    live.close()


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("SELECT * FROM tracks", ("id",)),
        ("SELECT title, id AS number FROM tracks t WHERE t.seconds > 5", ("number",)),
        ("SELECT title FROM tracks", None),
        ("SELECT * EXCLUDE (id) FROM tracks", None),
        ("SELECT title, count(*) AS n FROM tracks GROUP BY title", ("title",)),
        ("SELECT lower(title) AS low, count(*) AS n FROM tracks GROUP BY 1", ("low",)),
        ("SELECT count(*) AS n FROM tracks GROUP BY title", None),
        ("SELECT title, seconds, sum(id) FROM tracks GROUP BY ALL", None),
        ("SELECT count(*) AS n, max(id) AS m FROM tracks", ()),
        ("SELECT DISTINCT title, seconds FROM tracks", ("title", "seconds")),
        ("SELECT DISTINCT ON (title) title, seconds FROM tracks", None),
        ("SELECT * FROM (SELECT id, title FROM tracks) AS q ORDER BY title", ("id",)),
        ("SELECT t.id, p.listener FROM tracks t JOIN plays p ON p.track = t.id", None),
        ("SELECT id, row_number() OVER (ORDER BY seconds) AS n FROM tracks", ("id",)),
        ("SELECT id, unnest([1, 2]) AS x FROM tracks", None),
        ("SELECT id FROM tracks UNION ALL SELECT id FROM tracks", None),
        ("SELECT id, _deleted FROM tracks WHERE _deleted IS NOT NULL", None),
        ("SELECT 1 AS one", None),
    ],
)
def test_the_key_is_what_the_form_of_the_query_says(
    root: Session, text: str, key: tuple[str, ...] | None
) -> None:
    with root.live(text) as live:
        assert live.key == key


def test_a_given_key_is_matched_without_regard_to_case_and_refused_if_it_is_none(
    root: Session,
) -> None:
    with root.live("SELECT title, seconds FROM tracks", key=["TITLE"]) as live:
        assert live.key == ("title",)
        root.execute("UPDATE tracks SET seconds = 1 WHERE id = 1")
        assert live.wait(timeout=DEADLINE_S)
    with pytest.raises(KalamError, match="Column 'mood' not found in the result"):
        root.live("SELECT title FROM tracks", key=["mood"])
    root.execute("INSERT INTO tracks VALUES (3, 'Dawn', 2)")
    with pytest.raises(KalamError, match=r"The key \(title\) does not tell the rows of the result"):
        root.live("SELECT title, seconds FROM tracks", key="title")


def test_a_given_key_that_stops_telling_rows_apart_is_an_error_until_it_does_again(
    root: Session,
) -> None:
    live = root.live("SELECT title, seconds FROM tracks", key=["title"], throttle_s=0)
    told = iter(live)
    next(told)
    root.execute("INSERT INTO tracks VALUES (3, 'Dawn', 2)")
    failed = next(told)
    assert failed.error is not None
    assert failed.error.code == "DUPLICATE_KEY"
    assert failed.table.num_rows == 2
    root.execute("UPDATE tracks SET title = 'Dusk' WHERE id = 3")
    again = next(told)
    assert again.error is None
    assert live.error is None
    assert again.table.num_rows == 3
    live.close()


# --- what it depends on -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "SELECT t.title, count(p.track) AS n FROM tracks t LEFT JOIN plays p ON p.track = t.id "
        "GROUP BY t.title",
        "WITH heard AS (SELECT track FROM plays) SELECT title FROM tracks "
        "WHERE id IN (SELECT track FROM heard)",
        "SELECT title, rank() OVER (ORDER BY (SELECT count(*) FROM plays WHERE track = id)) AS r "
        "FROM tracks",
        "SELECT title FROM tracks UNION SELECT listener FROM plays",
        "SELECT * FROM heard_titles",
        "SELECT (SELECT max(listener) FROM plays) AS last",
    ],
)
def test_any_query_follows_each_of_its_tables_and_no_other(root: Session, text: str) -> None:
    root.execute(
        "CREATE VIEW heard_titles AS SELECT title FROM tracks JOIN plays ON track = tracks.id"
    )
    root.execute("CREATE SHARED TABLE other (id BIGINT PRIMARY KEY)")
    with root.live(text, throttle_s=0) as live:
        until(lambda: live.evaluations >= 1)
        root.execute("INSERT INTO other VALUES (1)")
        root.execute("INSERT INTO plays VALUES (1, 'mia')")
        assert live.wait(timeout=DEADLINE_S)
        expected = root.execute(text).rows()
        assert rows(live) == sorted(expected)
        assert live.evaluations == 2


def test_a_query_without_tables_never_changes(root: Session) -> None:
    with root.live("SELECT 1 + 1 AS two", throttle_s=0) as live:
        root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
        with root.live("SELECT count(*) AS n FROM tracks", throttle_s=0) as other:
            root.execute("INSERT INTO tracks VALUES (4, 'Sea', 90)")
            assert other.wait(rows=1, timeout=DEADLINE_S)
        assert live.snapshot().to_pylist() == [{"two": 2}]
        assert live.evaluations == 1


def test_a_replaced_view_is_planned_anew(root: Session) -> None:
    root.execute("CREATE VIEW long AS SELECT title FROM tracks WHERE seconds > 500")
    with root.live("SELECT * FROM long", throttle_s=0) as live:
        assert rows(live) == [("Dawn",)]
        root.execute("CREATE OR REPLACE VIEW long AS SELECT title FROM tracks WHERE seconds > 100")
        assert live.wait(rows=2, timeout=DEADLINE_S)


def test_a_column_that_is_added_appears_where_all_are_asked_for(root: Session) -> None:
    with root.live("SELECT * FROM tracks", throttle_s=0) as live:
        root.execute("ALTER TABLE tracks ADD COLUMN mood TEXT DEFAULT 'calm'")
        until(lambda: "mood" in live.schema.names)
        assert live.snapshot()["mood"].to_pylist() == ["calm", "calm"]
        assert live.key == ("id",)


def test_arrow_tables_of_the_session_are_kept_as_they_were(root: Session) -> None:
    root.relations["wanted"] = pa.table({"id": [1, 3]})
    live = root.live("SELECT t.title FROM tracks t JOIN wanted w ON w.id = t.id", throttle_s=0)
    del root.relations["wanted"]
    assert rows(live) == [("Dawn",)]
    root.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
    assert live.wait(rows=2, timeout=DEADLINE_S)
    live.close()


def test_parameters_and_the_namespace_are_those_of_the_beginning(root: Session) -> None:
    live = root.live("SELECT title FROM tracks WHERE seconds > ?", [500], throttle_s=0)
    root.execute("USE default")
    root.execute("INSERT INTO studio.tracks VALUES (3, 'Sea', 900), (4, 'Road', 90)")
    assert live.wait(rows=2, timeout=DEADLINE_S)
    assert rows(live) == [("Dawn",), ("Sea",)]
    live.close()


def test_definitions_are_followed_in_information_schema(root: Session) -> None:
    text = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'studio'"
    with root.live(text, throttle_s=0) as live:
        root.execute("CREATE SHARED TABLE fresh (id BIGINT PRIMARY KEY)")
        until(lambda: ("fresh",) in rows(live))


def test_figures_of_the_database_are_looked_at_every_second(root: Session) -> None:
    text = "SELECT value FROM system.stats WHERE metric = 'sessions.open'"
    if not root.execute(text).rows():
        text = "SELECT max(value) FROM system.stats"
    with root.live(text, throttle_s=0) as live:
        until(lambda: live.evaluations >= 3)


def test_events_of_a_stream_leave_the_result_when_they_expire(tmp_path: Path) -> None:
    clock = FakeClock()
    with kalam.open(tmp_path / "lab.kalam", clock=clock) as database:
        session = database.session("root")
        session.execute("CREATE STREAM TABLE beats (id BIGINT PRIMARY KEY) WITH (TTL_SECONDS = 60)")
        session.execute("INSERT INTO beats VALUES (1)")
        clock.advance(30)
        session.execute("INSERT INTO beats VALUES (2)")
        live = session.live("SELECT id FROM beats", throttle_s=0)
        counts = session.live("SELECT count(*) AS n FROM beats", throttle_s=0)
        assert rows(live) == [(1,), (2,)]
        clock.advance(30)
        until(lambda: rows(live) == [(2,)] and rows(counts) == [(1,)])
        clock.advance(30)
        until(lambda: rows(live) == [] and rows(counts) == [(0,)])


def test_a_transaction_is_seen_at_its_commit_and_a_rollback_never(
    root: Session, session_of: Callable[[str], Session]
) -> None:
    writer = session_of("root")
    live = root.live("SELECT id FROM tracks", throttle_s=0)
    with writer.transaction():
        writer.execute("INSERT INTO tracks VALUES (3, 'Road', 90)")
        writer.execute("INSERT INTO tracks VALUES (4, 'Sea', 90)")
        inside = writer.live("SELECT count(*) AS n FROM tracks", throttle_s=0)
        assert inside.snapshot().to_pylist() == [{"n": 2}]
        assert live.snapshot().num_rows == 2
    told = [difference.table.num_rows for difference in itertools.islice(live, 1)]
    assert live.wait(rows=4, timeout=DEADLINE_S)
    assert told[0] in (2, 4)
    until(lambda: inside.snapshot().to_pylist() == [{"n": 4}])
    before = live.evaluations
    writer.execute("BEGIN; INSERT INTO tracks VALUES (5, 'x', 1); ROLLBACK")
    writer.execute("INSERT INTO tracks VALUES (6, 'y', 1)")
    assert live.wait(rows=5, timeout=DEADLINE_S)
    assert live.evaluations == before + 1


def test_flushes_change_nothing(database: Database, root: Session) -> None:
    live = root.live("SELECT id, title FROM tracks", throttle_s=0)
    (job,) = root.execute("STORAGE FLUSH TABLE tracks").rows()
    database.jobs.wait(str(job[0]), timeout=DEADLINE_S)
    root.execute("UPDATE tracks SET title = 'Dusk' WHERE id = 1")
    assert live.wait(timeout=DEADLINE_S)
    assert rows(live) == [(1, "Dusk"), (2, "Hill")]
    assert live.evaluations <= 3  # the flush may be seen as a change of definitions
    live.close()
