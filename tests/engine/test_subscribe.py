"""SUBSCRIBE TO and LIVE SELECT: the first rows, and every later change once and in order."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from subscribed import SOON, TRACKS, finished, ids, nexts, only_sentinel, shown

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.live.subscription import Subscription


@pytest.fixture
def tracks(s: Session) -> None:
    s.execute(TRACKS)


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
