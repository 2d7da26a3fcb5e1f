"""SUBSCRIBE TO and LIVE SELECT: the first rows, and every later change once and in order."""

from __future__ import annotations

import datetime as dt
import gc
import queue
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.events import LiveEvent
from kalamdb_lab.live.subscription import Subscription
from kalamdb_lab.model.jobs import JobStatus

SOON = 20
"""Seconds after which an event that has not come does not come."""

ONE_TABLE = (
    "Live queries read one table; joins, grouping, ORDER BY, LIMIT and views are not supported"
)

TRACKS = "CREATE USER TABLE tracks (id INT PRIMARY KEY, genre TEXT, seconds INT)"


@pytest.fixture
def tracks(s: Session) -> None:
    s.execute(TRACKS)


def ids(event: LiveEvent) -> list[int]:
    return [row["id"] for row in event.rows]


def nexts(subscription: Subscription, count: int) -> list[LiveEvent]:
    events = [subscription.next(SOON) for _ in range(count)]
    assert None not in events
    return [event for event in events if event is not None]


def shown(event: LiveEvent | None) -> tuple[Any, ...]:
    """An event as its kind and the ids in it, the old ones too."""
    assert event is not None
    return (event.kind, tuple(ids(event)), tuple(row["id"] for row in event.old_rows))


def finished(studio: Any, sql: str) -> None:
    """Run a statement that makes a job, and wait for that."""
    for job_id, *_ in studio.session().execute(sql).rows():
        assert studio.database.jobs.wait(job_id, timeout=SOON).status is JobStatus.COMPLETED


def only_sentinel(session: Session, subscription: Subscription, sentinel: int) -> None:
    """Assert that nothing waits: the next event is one that is made now."""
    session.execute("INSERT INTO tracks VALUES (?, 'jz', 1)", [sentinel])
    assert shown(subscription.next(SOON)) == ("insert", (sentinel,), ())


# --- the first rows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SUBSCRIBE TO tracks WHERE genre = 'jz'",
        "SUBSCRIBE TO SELECT * FROM tracks WHERE genre = 'jz'",
        "LIVE SELECT * FROM studio.tracks t WHERE t.genre = 'jz'",
        "SELECT * FROM tracks WHERE genre = 'jz'",
        "SUBSCRIBE TO tracks WHERE genre = $1",
    ],
)
def test_all_forms_begin_with_the_matching_rows(mia: Session, tracks: None, sql: str) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 60), (2, 'fk', 70), (3, 'jz', 80)")
    seqs = dict(mia.execute("SELECT id, _seq FROM tracks").rows())
    with mia.subscribe(sql, ["jz"] if "$1" in sql else None) as subscription:
        assert subscription.next(SOON) == {
            "type": "initial",
            "rows": [
                {"id": 1, "genre": "jz", "seconds": 60, "_seq": seqs[1]},
                {"id": 3, "genre": "jz", "seconds": 80, "_seq": seqs[3]},
            ],
            "has_more": False,
        }


def test_without_rows_there_is_one_empty_initial_event(mia: Session, tracks: None) -> None:
    with mia.subscribe("SUBSCRIBE TO tracks") as subscription:
        event = subscription.next(SOON)
        assert event == {"type": "initial", "rows": [], "has_more": False}


def test_rows_come_in_batches_in_the_order_of_seq_hot_and_flushed(
    studio: Any, mia: Session, s: Session, tracks: None
) -> None:
    for at in range(1, 6):
        mia.execute("INSERT INTO tracks VALUES (?, 'jz', 1)", [10 - at])
        if at == 3:
            finished(studio, "STORAGE FLUSH TABLE tracks")
    with mia.subscribe("SUBSCRIBE TO tracks OPTIONS (batch_size = 2)") as subscription:
        events = nexts(subscription, 3)
    assert [(ids(event), event.has_more) for event in events] == [
        ([9, 8], True),
        ([7, 6], True),
        ([5], False),
    ]
    seqs = [row["_seq"] for event in events for row in event.rows]
    assert seqs == sorted(seqs)


def test_last_rows_are_the_newest_that_match(mia: Session, tracks: None) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1), (2, 'jz', 1), (3, 'fk', 1), (4, 'jz', 1)")
    mia.execute("UPDATE tracks SET seconds = 2 WHERE id = 1")
    for last_rows, first in ((2, [4, 1]), (0, []), (10, [2, 4, 1])):
        options = f"OPTIONS (last_rows = {last_rows})"
        with mia.subscribe(f"SUBSCRIBE TO tracks WHERE genre = 'jz' {options}") as subscription:
            (event,) = nexts(subscription, 1)
            assert (ids(event), event.has_more) == (first, False)
        with mia.subscribe(
            "SUBSCRIBE TO tracks WHERE genre = 'jz'", last_rows=last_rows
        ) as subscription:
            assert ids(nexts(subscription, 1)[0]) == first


def test_a_column_list_keeps_its_order_and_every_row_has_its_seq(
    mia: Session, tracks: None
) -> None:
    with mia.subscribe("LIVE SELECT SECONDS, id FROM tracks") as subscription:
        subscription.next(SOON)
        mia.execute("INSERT INTO tracks VALUES (1, 'jz', 60)")
        (event,) = nexts(subscription, 1)
        assert list(event.rows[0]) == ["seconds", "id", "_seq"]
        assert event.rows[0]["_seq"] == event.seq


def test_values_are_those_that_rows_gives(studio: Any, mia: Session, s: Session) -> None:
    s.execute(
        "CREATE USER TABLE kinds (id INT PRIMARY KEY, d DATE, t DATETIME, n DECIMAL(9, 2), u UUID, "
        "j JSON, b BYTES, e EMBEDDING(2), f DOUBLE, l INT[])"
    )
    insert = (
        "INSERT INTO kinds VALUES (?, '2031-04-30', '2031-04-30 10:00:00', 1.50, "
        "'00000000-0000-0000-0000-00000000000a', '{\"a\": 1}', X'0AFF', '[0.5, 2]', 'NaN', [1, 2])"
    )
    mia.execute(insert, [1])
    with mia.subscribe("SUBSCRIBE TO kinds") as subscription:
        first = nexts(subscription, 1)[0].rows[0]
        mia.execute(insert, [2])
        second = nexts(subscription, 1)[0].rows[0]
        finished(studio, "STORAGE FLUSH TABLE kinds")
        mia.execute("DELETE FROM kinds WHERE id = 2")
        (third,) = nexts(subscription, 1)[0].old_rows
    row = mia.execute("SELECT * FROM kinds WHERE id = 1").rows()[0]
    for told in (first, second, third):
        assert repr(tuple(told.values())[1:-1]) == repr(row[1:])
    assert first["n"] == Decimal("1.50")
    assert first["d"] == dt.date(2031, 4, 30)


# --- changes ----------------------------------------------------------------------------------


def test_changes_that_enter_stay_in_and_leave_the_filter(mia: Session, tracks: None) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 60), (2, 'fk', 70)")
    with mia.subscribe("SUBSCRIBE TO tracks WHERE genre = 'jz'") as subscription:
        assert ids(nexts(subscription, 1)[0]) == [1]
        mia.execute("INSERT INTO tracks VALUES (3, 'fk', 5), (4, 'jz', 5)")
        mia.execute("UPDATE tracks SET genre = 'jz' WHERE id = 2")
        mia.execute("UPDATE tracks SET seconds = seconds + 1 WHERE id > 0")
        mia.execute("UPDATE tracks SET genre = 'fk' WHERE id = 1")
        mia.execute("DELETE FROM tracks WHERE id > 2")
        events = nexts(subscription, 7)
    assert [shown(event) for event in events] == [
        ("insert", (4,), ()),
        ("insert", (2,), ()),
        ("update", (1,), (1,)),
        ("update", (4,), (4,)),
        ("update", (2,), (2,)),
        ("delete", (), (1,)),
        ("delete", (), (4,)),
    ]
    assert events[2].rows[0]["seconds"] == 61
    assert events[2].old_rows[0]["seconds"] == 60
    assert events[5].old_rows[0]["genre"] == "jz"
    assert [event.seq for event in events] == sorted(event.seq for event in events)


def test_flushed_rows_that_change_come_with_their_old_values(
    studio: Any, mia: Session, s: Session, tracks: None
) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 60), (2, 'jz', 70)")
    with mia.subscribe("SUBSCRIBE TO tracks") as subscription:
        subscription.next(SOON)
        finished(studio, "STORAGE FLUSH TABLE tracks")
        mia.execute("UPDATE tracks SET seconds = 61 WHERE id = 1")
        finished(studio, "STORAGE FLUSH TABLE tracks")
        finished(studio, "STORAGE COMPACT TABLE tracks")
        mia.execute("DELETE FROM tracks WHERE true")
        update, *deletes = nexts(subscription, 3)
    assert (update.old_rows[0]["seconds"], update.rows[0]["seconds"]) == (60, 61)
    assert [(e.kind, e.old_rows[0]["seconds"]) for e in deletes] == [("delete", 70), ("delete", 61)]


def test_what_changes_nothing_is_no_event(
    studio: Any, mia: Session, s: Session, tracks: None
) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 60)")
    with mia.subscribe("SUBSCRIBE TO tracks WHERE genre = 'jz'") as subscription:
        subscription.next(SOON)
        mia.execute("UPDATE tracks SET seconds = 60 WHERE id = 1")
        mia.execute("INSERT INTO tracks VALUES (1, 'x', 1) ON CONFLICT DO NOTHING")
        mia.execute(
            "INSERT INTO tracks VALUES (1, 'jz', 60) ON CONFLICT (id) DO UPDATE SET "
            "seconds = excluded.seconds"
        )
        with pytest.raises(KalamError):
            mia.execute("INSERT INTO tracks VALUES (8, 'jz', 1), (1, 'jz', 2)")
        finished(studio, "STORAGE FLUSH TABLE tracks")
        finished(studio, "STORAGE COMPACT TABLE tracks")
        finished(studio, "VACUUM tracks")
        mia.execute("BEGIN")
        mia.execute("INSERT INTO tracks VALUES (9, 'jz', 1)")
        mia.execute("ROLLBACK")
        only_sentinel(mia, subscription, 100)


def test_a_transaction_is_told_after_commit_in_its_order(mia: Session, tracks: None) -> None:
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1), (2, 'jz', 1)")
    with mia.subscribe("SUBSCRIBE TO tracks") as subscription:
        subscription.next(SOON)
        with mia.transaction():
            mia.execute("INSERT INTO tracks VALUES (3, 'jz', 1)")
            mia.execute("INSERT INTO tracks VALUES (4, 'jz', 1)")
            mia.execute("DELETE FROM tracks WHERE id IN (1, 4)")
            mia.execute("UPDATE tracks SET seconds = 2 WHERE id > 0")
            assert subscription.next(0.05) is None
            mia.execute("UPDATE tracks SET seconds = 3 WHERE id = 2")
        events = nexts(subscription, 5)
        assert [shown(event) for event in events] == [
            ("insert", (3,), ()),
            ("delete", (), (1,)),
            ("update", (2,), (2,)),
            ("update", (3,), (3,)),
            ("update", (2,), (2,)),
        ]
        assert [event.seq for event in events] == sorted(event.seq for event in events)
        only_sentinel(mia, subscription, 100)


def test_inside_a_transaction_one_begins_with_what_is_committed(mia: Session, tracks: None) -> None:
    mia.execute("BEGIN")
    mia.execute("INSERT INTO tracks VALUES (1, 'jz', 1)")
    with mia.subscribe("SUBSCRIBE TO tracks") as subscription:
        assert ids(nexts(subscription, 1)[0]) == []
        assert mia.execute("SELECT count(*) FROM tracks").rows() == [(1,)]
        mia.execute("COMMIT")
        assert shown(subscription.next(SOON)) == ("insert", (1,), ())


def test_a_bulk_insert_is_told_row_by_row(mia: Session, tracks: None) -> None:
    with mia.subscribe("SUBSCRIBE TO tracks WHERE seconds % 2 = 0") as subscription:
        subscription.next(SOON)
        rows = [{"id": at, "genre": "jz", "seconds": at} for at in range(20)]
        mia.insert("tracks", rows)  # more than bulk_rows: a segment at once
        events = nexts(subscription, 10)
    assert [ids(event) for event in events] == [[at] for at in range(0, 20, 2)]
    seqs = [event.rows[0]["_seq"] for event in events]
    assert seqs == sorted(seqs)


def test_streams_tell_inserts_and_deletes_and_no_eviction(studio: Any, mia: Session) -> None:
    studio.session().execute(
        "CREATE STREAM TABLE plays (id INT PRIMARY KEY, track INT) WITH (TTL_SECONDS = 60)"
    )
    mia.execute("INSERT INTO plays VALUES (1, 1)")
    studio.clock.advance(61)
    mia.execute("INSERT INTO plays VALUES (2, 1)")
    with mia.subscribe("SUBSCRIBE TO plays") as subscription:
        assert ids(nexts(subscription, 1)[0]) == [2]
        mia.execute("INSERT INTO plays VALUES (3, 1)")
        mia.execute("DELETE FROM plays WHERE id = 3")
        assert shown(subscription.next(SOON)) == ("insert", (3,), ())
        assert shown(subscription.next(SOON)) == ("delete", (), (3,))
        studio.clock.advance(61)
        mia.execute("INSERT INTO plays VALUES (4, 1)")
        assert shown(subscription.next(SOON)) == ("insert", (4,), ())


def test_now_in_a_filter_is_the_time_of_the_statement(studio: Any, mia: Session) -> None:
    studio.session().execute("CREATE USER TABLE seen (id INT PRIMARY KEY, at DATETIME)")
    with mia.subscribe("SUBSCRIBE TO seen WHERE at > NOW()") as subscription:
        subscription.next(SOON)
        studio.clock.advance(10)
        mia.execute("INSERT INTO seen VALUES (1, NOW())")  # later than the subscription
        assert shown(subscription.next(SOON)) == ("insert", (1,), ())


def test_current_user_and_functions_mean_what_they_mean_in_select(mia: Session, s: Session) -> None:
    s.execute("CREATE TABLE notes (id INT PRIMARY KEY, who TEXT) WITH (ACCESS_LEVEL = 'PUBLIC')")
    sql = "SUBSCRIBE TO notes WHERE who = CURRENT_USER() AND 7 / 2 = 3 AND upper(who) LIKE 'M%'"
    with mia.subscribe(sql) as subscription:
        subscription.next(SOON)
        s.execute("INSERT INTO notes VALUES (1, 'tom'), (2, 'mia'), (3, NULL)")
        assert shown(subscription.next(SOON)) == ("insert", (2,), ())


@pytest.mark.parametrize(
    ("condition", "params", "matching"),
    [
        ("k = 'b'", (), [2]),
        ("k <> ?", ("b",), [1, 3]),
        ("'b' <= k", (), [2, 3]),
        ("n BETWEEN 2 AND ?", (3,), [2, 3]),
        ("n NOT IN (1, 2)", (), [3]),
        ("n = ?", (None,), []),
        ("n = ?", (2.0,), [2]),
        ("n > -1 AND k IN ('a', 'ä', ?)", ("c",), [1, 3]),
        ("n = 1 OR k = 'c'", (), [1, 3]),
        ("k = 'B'", (), []),
        ("k IS NULL", (), [4]),
        ("NOT (n = 1)", (), [2, 3]),
        ("n = 99999999999", (), []),
        ("n < 99999999999", (), [1, 2, 3]),
        ("s.a = 2", (), [2]),
        ("len(list_filter(l, lambda n: n = 2)) = 1", (), [1, 2]),
        ("_seq > 0 AND n = 3", (), [3]),
    ],
)
def test_a_condition_means_for_changes_what_it_means_in_select(
    mia: Session, s: Session, condition: str, params: tuple[Any, ...], matching: list[int]
) -> None:
    s.execute(
        "CREATE USER TABLE t (id INT PRIMARY KEY, n SMALLINT, k TEXT, s STRUCT(a INT), l INT[])"
    )
    with mia.subscribe(f"SUBSCRIBE TO t WHERE {condition}", params, last_rows=0) as subscription:
        subscription.next(SOON)
        mia.execute(
            "INSERT INTO t VALUES (1, 1, 'a', {'a': 1}, [2]), (2, 2, 'b', {'a': 2}, [2, 3]), "
            "(3, 3, 'c', {'a': 3}, [1]), (4, NULL, NULL, NULL, NULL)"
        )
        selected = mia.execute(f"SELECT id FROM t WHERE {condition} ORDER BY id", params).rows()
        assert [row[0] for row in selected] == matching
        events = nexts(subscription, len(matching))
        assert [ids(event) for event in events] == [[at] for at in matching]
        mia.execute("DELETE FROM t WHERE true")
        gone = nexts(subscription, len(matching))
        assert [event.old_rows[0]["id"] for event in gone] == matching
        assert subscription.next(0) is None


def test_a_condition_that_fails_for_a_row_closes_its_own_subscription(
    mia: Session, tracks: None
) -> None:
    def sharing(genre: str) -> Subscription:
        return mia.subscribe("SUBSCRIBE TO tracks WHERE genre = ? AND 10 / seconds > 1", [genre])

    failing, other = sharing("jz"), sharing("fk")
    nexts(failing, 1)
    nexts(other, 1)
    mia.execute("INSERT INTO tracks VALUES (1, 'fk', 2)")
    mia.execute("INSERT INTO tracks VALUES (2, 'jz', 0)")
    mia.execute("INSERT INTO tracks VALUES (3, 'fk', 3)")
    assert list(failing) == [{"type": "closed", "reason": "error", "message": "Division by zero"}]
    assert [shown(event) for event in nexts(other, 2)] == [
        ("insert", (1,), ()),
        ("insert", (3,), ()),
    ]
    other.close()


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
    assert s.execute("SELECT count(*) FROM system.live_queries").rows() == [(0,)]


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
