"""Who may subscribe to what, how a subscription ends, and the list of those that are open."""

from __future__ import annotations

import gc
import queue
from collections.abc import Callable
from typing import Any

import pytest
from subscribed import SOON, TRACKS, ids, nexts, only_sentinel, shown

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.events import LiveEvent

ONE_TABLE = (
    "Live queries read one table; joins, grouping, ORDER BY, LIMIT and views are not supported"
)


@pytest.fixture
def tracks(s: Session) -> None:
    s.execute(TRACKS)


# --- options and refusals ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "options", "message"),
    [
        ("SUBSCRIBE tracks", {}, "Syntax error: expected SUBSCRIBE TO"),
        ("SUBSCRIBE TO tracks OPTIONS (limit = 1)", {},
         "Unknown subscription option 'limit'; use last_rows, batch_size or from_seq_id"),
        ("SUBSCRIBE TO tracks OPTIONS (last_rows = 'ten')", {},
         "Option last_rows must be a whole number, not 'ten'"),
        ("SUBSCRIBE TO tracks", {"last_rows": "ten"},
         "Option last_rows must be a whole number, not 'ten'"),
        ("SUBSCRIBE TO tracks", {"batch_size": 0},
         "Option batch_size must be 1 to 100,000, not 0"),
        ("SUBSCRIBE TO tracks", {"from_seq": -1}, "Option from_seq_id must be 0 or more, not -1"),
        ("SUBSCRIBE TO tracks OPTIONS (last_rows = 1)", {"last_rows": 2},
         "Option last_rows appears twice"),
        ("SUBSCRIBE TO tracks; SUBSCRIBE TO tracks", {},
         "Parameters need a single statement; this text has 2"),
        ("SHOW TABLES", {},
         "SHOW TABLES is not a live query; write SUBSCRIBE TO, LIVE SELECT or SELECT"),
        ("SELECT t.id FROM tracks t JOIN tracks u ON true", {}, ONE_TABLE),
        ("SELECT id FROM tracks ORDER BY id", {}, ONE_TABLE),
        ("SELECT id FROM tracks LIMIT 1", {}, ONE_TABLE),
        ("SELECT genre FROM tracks GROUP BY genre", {}, ONE_TABLE),
        ("SELECT count(*) FROM tracks", {}, ONE_TABLE),
        ("SUBSCRIBE TO long_tracks", {}, ONE_TABLE),
        ("SUBSCRIBE TO SELECT * FROM all_users('tracks')", {}, ONE_TABLE),
        ("SUBSCRIBE TO tracks WHERE id IN (SELECT 1)", {},
         "Subqueries are not supported in the WHERE of a live query"),
        ("SUBSCRIBE TO tracks WHERE _deleted", {}, "_deleted is not supported in live queries"),
        ("LIVE SELECT id, _deleted FROM tracks", {}, "_deleted is not supported in live queries"),
        ("LIVE SELECT tempo FROM tracks", {}, "Column 'tempo' not found in studio.tracks"),
        ("SUBSCRIBE TO tracks WHERE tempo = 1", {}, "Column 'tempo' not found"),
        ("SUBSCRIBE TO tracks WHERE wobble(id) = 1", {}, "Function 'wobble' not found"),
        ("SUBSCRIBE TO tracks WHERE id = ?", {}, "Expected 1 parameter, got 0"),
        ("SUBSCRIBE TO gone", {}, "Table 'studio.gone' not found"),
        ("SUBSCRIBE TO information_schema.tables", {},
         "information_schema.tables is made when it is read and has no live queries"),
        ("SUBSCRIBE TO tracks WHERE id = 'ten'", {}, "Cannot convert 'ten' to INT"),
    ],
)  # fmt: skip
def test_what_is_no_live_query_is_refused_in_words(
    mia: Session, s: Session, tracks: None, sql: str, options: dict[str, Any], message: str
) -> None:
    s.execute("CREATE VIEW long_tracks AS SELECT id FROM tracks WHERE seconds > 600")
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    with pytest.raises(KalamError) as caught:
        mia.subscribe(sql, **options)
    assert str(caught.value) == message
    assert (caught.value.statement_number, caught.value.line) == (1, 1)
    assert mia.execute("SHOW LIVE QUERIES").rows() == []


def test_execute_refuses_it_with_the_way_out(mia: Session, tracks: None, refused: Any) -> None:
    error = refused(mia, "SUBSCRIBE TO tracks")
    assert str(error) == "SUBSCRIBE is not supported here; use session.subscribe"


def test_a_registered_table_has_no_live_queries(s: Session, tmp_path: Any) -> None:
    file = tmp_path / "cities.csv"
    file.write_text("name\nBern\n")
    s.execute(f"REGISTER TABLE studio.cities FROM '{file}'")
    assert s.execute("SELECT * FROM cities").rows() == [("Bern",)]
    with pytest.raises(KalamError, match="^studio.cities is a registered table and has no live"):
        s.subscribe("SUBSCRIBE TO cities")


def test_from_seq_wins_over_last_rows(mia: Session, tracks: None) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1), (2, 'jz', 1), (3, 'jz', 1)")
    with mia.subscribe("SUBSCRIBE TO tracks", last_rows=1, from_seq=0) as subscription:
        assert ids(nexts(subscription, 1)[0]) == [1, 2, 3]


# --- rights and scopes ------------------------------------------------------------------------


def test_nobody_hears_of_another_users_rows(
    mia: Session, tom: Session, dora: Session, s: Session, tracks: None
) -> None:
    subscriptions = [who.subscribe("SUBSCRIBE TO tracks") for who in (mia, tom, dora, s)]
    for subscription in subscriptions:
        assert nexts(subscription, 1)[0].rows == []
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    tom.execute("INSERT INTO tracks VALUES (2, 'jz', 1)")
    s.execute("EXECUTE AS USER 'mia' (INSERT INTO tracks VALUES (3, 'jz', 1))")
    s.execute("EXECUTE AS USER 'tom' (DELETE FROM tracks WHERE id = 2)")
    of_mia, of_tom, of_dora, of_root = subscriptions
    assert [shown(e) for e in nexts(of_mia, 2)] == [("insert", (1,), ()), ("insert", (3,), ())]
    assert [shown(e) for e in nexts(of_tom, 2)] == [("insert", (2,), ()), ("delete", (), (2,))]
    for who, subscription in ((dora, of_dora), (s, of_root)):
        only_sentinel(who, subscription, 7)
    for subscription in subscriptions:
        assert subscription.next(0) is None
        subscription.close()


@pytest.mark.parametrize(
    ("sql", "allowed", "denied", "message"),
    [
        ("SUBSCRIBE TO plans", "sven", "mia",
         "Permission denied: role 'user' may not read studio.plans"),
        ("SUBSCRIBE TO system.users", "dora", "sven",
         "Only 'dba' and 'system' roles can access system namespace"),
        ("SUBSCRIBE TO tracks", "mia", None, ""),
        ("SUBSCRIBE TO posters", "mia", None, ""),
    ],
)  # fmt: skip
def test_who_may_not_select_may_not_subscribe(
    studio: Any, s: Session, tracks: None, sql: str, allowed: str, denied: str | None, message: str
) -> None:
    s.execute("CREATE TABLE plans (id INT PRIMARY KEY)")
    s.execute("CREATE TABLE posters (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')")
    with studio.session(allowed).subscribe(sql) as subscription:
        assert nexts(subscription, 1)[0].kind == "initial"
    if denied is not None:
        with pytest.raises(KalamError) as caught:
            studio.session(denied).subscribe(sql)
        assert (caught.value.code, str(caught.value)) == ("PERMISSION_DENIED", message)
        trail = s.execute(
            "SELECT actor_user_id, action, outcome FROM system.audit_logs "
            "ORDER BY audit_id DESC LIMIT 1"
        ).rows()
        assert trail == [(denied, "SUBSCRIBE", "refused")]


def test_a_shared_table_tells_all_of_all_writers(mia: Session, tom: Session, s: Session) -> None:
    s.execute("CREATE TABLE posters (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')")
    with mia.subscribe("SUBSCRIBE TO posters") as one, tom.subscribe("SUBSCRIBE TO posters") as two:
        s.execute("INSERT INTO posters VALUES (1)")
        for subscription in (one, two):
            assert [ids(event) for event in nexts(subscription, 2)] == [[], [1]]


def test_a_system_table_is_told_like_any_other(dora: Session, s: Session) -> None:
    with dora.subscribe(
        "LIVE SELECT user_id FROM system.users WHERE role = 'user'"
    ) as subscription:
        known = {row["user_id"] for row in nexts(subscription, 1)[0].rows}
        assert "mia" in known
        s.execute("CREATE USER 'nina' WITH INTERNAL ROLE user")
        (event,) = nexts(subscription, 1)
        assert [list(row) for row in event.rows] == [["user_id", "_seq"]]
        s.execute("DROP USER 'nina'")
        assert nexts(subscription, 1)[0].kind == "update"


# --- the end ----------------------------------------------------------------------------------

Doing = Callable[[Any], object]


@pytest.mark.parametrize(
    ("do", "reason", "message"),
    [
        (lambda o: o.session("dora").execute("DROP TABLE posters"),
         "table dropped", "Table studio.posters was dropped"),
        (lambda o: o.session().execute("ALTER TABLE posters SET ACCESS LEVEL private"),
         "access revoked", "Permission denied: role 'user' may not read studio.posters"),
        (lambda o: o.session().execute("ALTER TABLE posters DROP COLUMN title"),
         "schema changed", "Column 'title' of studio.posters is gone"),
        (lambda o: o.session().execute("ALTER TABLE posters RENAME COLUMN title TO name"),
         "schema changed", "Column 'title' of studio.posters is gone"),
        (lambda o: o.session().execute("DROP NAMESPACE studio CASCADE"),
         "table dropped", "Table studio.posters was dropped"),
    ],
)  # fmt: skip
def test_it_ends_when_it_may_not_go_on(
    studio: Any, mia: Session, s: Session, do: Doing, reason: str, message: str
) -> None:
    s.execute(
        "CREATE TABLE posters (id INT PRIMARY KEY, title TEXT, n INT) WITH (ACCESS_LEVEL = 'PUBLIC')"
    )
    s.execute("INSERT INTO posters VALUES (1, 'a', 1)")
    subscription = mia.subscribe("SUBSCRIBE TO posters WHERE title = 'a'")
    nexts(subscription, 1)
    do(studio)
    assert list(subscription) == [{"type": "closed", "reason": reason, "message": message}]
    assert not subscription.is_open
    listed = "SELECT count(*) FROM system.live_queries WHERE live_id = ?"
    assert s.execute(listed, [subscription.live_id]).rows() == [(0,)]


def test_it_goes_on_when_other_columns_change(mia: Session, s: Session, tracks: None) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    with mia.subscribe("SUBSCRIBE TO tracks WHERE genre = 'jz'") as subscription:
        nexts(subscription, 1)
        s.execute("ALTER TABLE tracks ADD COLUMN stars INT DEFAULT 3")
        mia.execute("UPDATE tracks SET stars = 5 WHERE id = 1")
        (event,) = nexts(subscription, 1)
        assert (event.old_rows[0]["stars"], event.rows[0]["stars"]) == (3, 5)
        s.execute("ALTER TABLE tracks DROP COLUMN seconds")
        s.execute("ALTER TABLE tracks MODIFY COLUMN genre TEXT NOT NULL")
        mia.execute("INSERT INTO tracks VALUES (2, 'jz', 4)")
        (event,) = nexts(subscription, 1)
        assert list(event.rows[0]) == ["id", "genre", "stars", "_seq"]


def test_a_role_that_is_taken_away_ends_it_before_the_next_row(studio: Any, s: Session) -> None:
    s.execute("CREATE USER 'nora' WITH INTERNAL ROLE service")
    s.execute("CREATE TABLE plans (id INT PRIMARY KEY)")
    subscription = studio.session("nora").subscribe("SUBSCRIBE TO plans")
    nexts(subscription, 1)
    s.execute("INSERT INTO plans VALUES (1)")
    assert ids(nexts(subscription, 1)[0]) == [1]
    s.execute("ALTER USER 'nora' SET ROLE user")
    s.execute("INSERT INTO plans VALUES (2)")
    (closed,) = list(subscription)
    assert (closed.reason, closed.message) == (
        "access revoked",
        "Permission denied: role 'user' may not read studio.plans",
    )
    s.execute("DROP USER 'nora'")


def test_a_dropped_user_hears_nothing_more(studio: Any, s: Session, tracks: None) -> None:
    s.execute("CREATE USER 'nils' WITH INTERNAL ROLE user")
    subscription = studio.session("nils").subscribe("SUBSCRIBE TO tracks")
    nexts(subscription, 1)
    s.execute("DROP USER 'nils'")
    assert [(e.reason, e.message) for e in subscription] == [
        ("user dropped", "User 'nils' was dropped")
    ]


def test_the_end_of_the_session_is_its_end(studio: Any, s: Session, tracks: None) -> None:
    with studio.session("mia") as session:
        subscription = session.subscribe("SUBSCRIBE TO tracks")
        nexts(subscription, 1)
        assert len(s.execute("SHOW LIVE QUERIES").rows()) == 1
    assert [event.reason for event in subscription] == ["session ended"]
    assert s.execute("SHOW LIVE QUERIES").rows() == []


def test_the_end_of_the_database_is_its_end(opener: Any, tmp_path: Any) -> None:
    opened = opener(tmp_path / "lab.kalam")
    subscription = opened.session(namespace="default").subscribe("SUBSCRIBE TO system.users")
    nexts(subscription, 1)
    opened.database.close()
    (closed,) = list(subscription)
    assert (closed.reason, closed.message) == ("database closed", "The database was closed")
    again = opener(tmp_path / "lab.kalam")
    assert again.session(namespace="default").execute("SHOW LIVE QUERIES").rows() == []
    again.database.close()


def test_who_closes_it_hears_nothing_more(mia: Session, tracks: None) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    subscription = mia.subscribe("SUBSCRIBE TO tracks")
    assert subscription.is_open
    subscription.close()
    subscription.close()
    assert list(subscription) == []
    assert subscription.next(0) is None
    assert not subscription.is_open
    assert repr(subscription).endswith("to studio.tracks, closed>")


def test_killing_one_is_for_its_owner_dba_and_system(
    studio: Any, mia: Session, tom: Session, dora: Session, refused: Any, tracks: None
) -> None:
    first, second = (mia.subscribe("SUBSCRIBE TO tracks") for _ in range(2))
    sql = f"KILL LIVE QUERY '{first.live_id}'"
    error = refused(tom, sql)
    assert str(error) == f"Live query '{first.live_id}' not found"
    assert first.is_open
    assert mia.execute(sql).message == f"Killed live query {first.live_id}"
    assert [e.reason for e in first if e.kind == "closed"] == ["killed"]
    assert str(refused(mia, sql)) == f"Live query '{first.live_id}' not found"
    dora.execute(f"KILL LIVE QUERY '{second.live_id}'")
    assert [e.message for e in second if e.kind == "closed"] == ["The live query was killed"]
    assert mia.execute("SHOW LIVE QUERIES").rows() == []
    trail = studio.session().execute(
        "SELECT actor_user_id, outcome FROM system.audit_logs WHERE action = 'KILL_LIVE_QUERY' "
        "AND target = ? ORDER BY audit_id", [first.live_id]
    ).rows()  # fmt: skip
    assert trail == [("tom", "failed"), ("mia", "ok"), ("mia", "failed")]


# --- the list ---------------------------------------------------------------------------------


def test_open_ones_are_listed_with_what_they_were_told(
    mia: Session, tom: Session, s: Session, tracks: None
) -> None:
    subscription = mia.subscribe("SUBSCRIBE TO tracks WHERE genre = 'jz'", last_rows=3)
    other = tom.subscribe("SUBSCRIBE TO tracks")
    nexts(subscription, 1)
    for at in range(3):
        mia.execute("INSERT INTO tracks VALUES (?, 'jz', 1)", [at])
    last = nexts(subscription, 3)[-1]
    (row,) = s.execute(
        "SELECT user_id, namespace_id, table_name, query, options, status, changes, last_seq "
        "FROM system.live_queries WHERE live_id = ?", [subscription.live_id]
    ).rows()  # fmt: skip
    assert row == (
        "mia", "studio", "tracks", "SUBSCRIBE TO tracks WHERE genre = 'jz'", '{"last_rows": 3}',
        "active", 3, last.seq,
    )  # fmt: skip
    shown_to_mia = mia.execute("SHOW LIVE QUERIES").rows()
    assert [(row[0], row[5]) for row in shown_to_mia] == [(subscription.live_id, 3)]
    assert len(s.execute("SHOW LIVE QUERIES").rows()) == 2
    for one in (subscription, other):
        one.close()
    assert s.execute("SELECT count(*) FROM system.live_queries").rows() == [(0,)]


def test_one_of_the_list_itself_is_not_told_of_its_own_counts(
    studio: Any, dora: Session, mia: Session, tracks: None
) -> None:
    with dora.subscribe("SUBSCRIBE TO system.live_queries") as watching:
        nexts(watching, 1)
        assert nexts(watching, 1)[0].rows[0]["live_id"] == watching.live_id
        subscription = mia.subscribe("SUBSCRIBE TO tracks")
        assert nexts(watching, 1)[0].rows[0]["user_id"] == "mia"
        mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
        nexts(subscription, 2)
        dora.execute("SHOW LIVE QUERIES")
        (update,) = nexts(watching, 1)
        assert (update.old_rows[0]["changes"], update.rows[0]["changes"]) == (0, 1)
        before = studio.database._context.log.applied_seq
        for _ in range(3):
            dora.execute("SHOW LIVE QUERIES")
        assert studio.database._context.log.applied_seq == before
        subscription.close()
        assert nexts(watching, 1)[0].kind == "delete"


def test_what_a_dead_process_left_is_taken_away_at_open(opener: Any, tmp_path: Any) -> None:
    from kalamdb_lab.model.entities import LiveQuery

    opened = opener(tmp_path / "lab.kalam")
    context = opened.database._context
    with context.log.commit() as commit:
        context.catalog.live_queries.put(
            commit, LiveQuery("LQ-gone", "root", "studio", "t", "SUBSCRIBE TO t", "nobody", 1)
        )
    living = opened.session(namespace="default").subscribe("SUBSCRIBE TO system.users")
    other = opener(tmp_path / "lab.kalam")
    listed = other.session(namespace="default").execute("SELECT live_id FROM system.live").rows()
    assert listed == [(living.live_id,)]
    other.database.close()
    opened.database.close()


def test_one_that_nobody_holds_ends_and_one_that_is_held_holds_its_session(
    studio: Any, s: Session, tracks: None
) -> None:
    subscription = studio.session("mia").subscribe("SUBSCRIBE TO tracks")
    gc.collect()
    nexts(subscription, 1)
    assert subscription.is_open
    live_id = subscription.live_id
    del subscription
    gc.collect()
    listed = s.subscribe("LIVE SELECT live_id FROM system.live_queries")
    if live_id in [row["live_id"] for row in nexts(listed, 1)[0].rows]:
        while live_id not in [row["live_id"] for row in nexts(listed, 1)[0].old_rows]:
            pass
    listed.close()


def test_a_session_that_nobody_holds_ends_its_callbacks(studio: Any, tracks: None) -> None:
    told: queue.SimpleQueue[LiveEvent] = queue.SimpleQueue()
    session = studio.session("mia")
    session.subscribe("SUBSCRIBE TO tracks", callback=told.put)
    session.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    assert [told.get(timeout=SOON).kind for _ in range(2)] == ["initial", "insert"]
    del session
    gc.collect()
    assert told.get(timeout=SOON).reason == "session ended"
