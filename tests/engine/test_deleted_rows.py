"""_seq and _deleted: what was deleted can be asked for; what was replaced never shows."""

from __future__ import annotations

from typing import Any

import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

STATES = ["hot", "flushed before", "flushed after", "flushed and compacted"]


@pytest.fixture(params=STATES)
def people(request: pytest.FixtureRequest, s: Session) -> Session:
    """Rows 1 to 4; 2 was updated twice, then 3 and 4 were deleted; 4 came again and went again."""
    state = request.param
    s.execute("CREATE USER TABLE people (id INT PRIMARY KEY, name TEXT)")
    s.execute("INSERT INTO people VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
    s.execute("UPDATE people SET name = 'b2' WHERE id = 2")
    if state == "flushed before":
        finished(s, "STORAGE FLUSH TABLE people")
    s.execute("UPDATE people SET name = 'b3' WHERE id = 2")
    s.execute("DELETE FROM people WHERE id > 2")
    s.execute("INSERT INTO people VALUES (4, 'd2')")
    if state == "flushed after":
        finished(s, "STORAGE FLUSH TABLE people")
    s.execute("DELETE FROM people WHERE name = 'd2'")
    if state == "flushed and compacted":
        finished(s, "STORAGE FLUSH TABLE people; STORAGE COMPACT TABLE people")
    return s


def test_a_deleted_row_is_hidden_everywhere(people: Session) -> None:
    for sql in (
        "SELECT * FROM people ORDER BY id",
        "SELECT id, name FROM people WHERE id < 9 ORDER BY id",
        "SELECT p.* FROM people p JOIN people q USING (id) ORDER BY 1",
    ):
        assert people.execute(sql).rows() == [(1, "a"), (2, "b3")]
    assert people.execute("SELECT count(*), max(id) FROM people").rows() == [(2, 2)]
    assert people.execute("SELECT * FROM people WHERE id = 3").rows() == []


def test_naming_deleted_in_where_shows_the_deleted_rows_with_their_last_values(
    people: Session,
) -> None:
    answer = people.execute("SELECT id, name FROM people WHERE _deleted ORDER BY id, name")
    assert answer.rows() == [(3, "c"), (4, "d"), (4, "d2")]
    assert people.execute("SELECT count(*) FROM people WHERE _deleted = false").rows() == [(2,)]
    everything = "SELECT id, _deleted FROM people WHERE _deleted IN (true, false) ORDER BY id, _seq"
    assert people.execute(everything).rows() == [
        (1, False), (2, False), (3, True), (4, True), (4, True),
    ]  # fmt: skip
    some = "SELECT name FROM people WHERE (_deleted OR id = 1) AND name <> 'd' ORDER BY name"
    assert people.execute(some).rows() == [("a",), ("c",), ("d2",)]


def test_naming_it_in_the_select_list_alone_shows_nothing_more(people: Session) -> None:
    answer = people.execute("SELECT id, _deleted FROM people ORDER BY id")
    assert answer.rows() == [(1, False), (2, False)]
    assert people.execute("SELECT *, _deleted FROM people WHERE id = 1").columns == [
        "id", "name", "_deleted",
    ]  # fmt: skip


def test_it_counts_for_the_table_it_names_only(people: Session) -> None:
    answer = people.execute(
        "SELECT p.id, q.id FROM people p, people q WHERE p._deleted AND q.id <= 4 ORDER BY 1, 2, "
        "p.name"
    )
    assert {row[0] for row in answer} == {3, 4}
    assert {row[1] for row in answer} == {1, 2}
    inner = "SELECT count(*) FROM people WHERE id < (SELECT max(id) FROM people WHERE _deleted)"
    assert people.execute(inner).rows() == [(2,)]
    assert people.execute("SELECT count(*) FROM (SELECT * FROM people) x").rows() == [(2,)]


def test_a_version_that_was_replaced_never_shows(people: Session) -> None:
    names = people.execute("SELECT name FROM people WHERE _deleted IN (true, false)").rows()
    assert {row[0] for row in names}.isdisjoint({"b", "b2"})


def test_deleted_rows_stay_through_maintenance_and_reopening(people: Session) -> None:
    sql = "SELECT id, name, _seq FROM people WHERE _deleted ORDER BY _seq"
    before = people.execute(sql).rows()
    for maintenance in ("FLUSH", "COMPACT", "COMPACT"):
        finished(people, f"STORAGE {maintenance} TABLE people")
        assert people.execute(sql).rows() == before


def test_update_and_delete_never_touch_deleted_rows(people: Session) -> None:
    for sql in (
        "UPDATE people SET name = 'x' WHERE _deleted",
        "DELETE FROM people WHERE _deleted",
        "UPDATE people SET name = 'x' WHERE id = 3",
        "DELETE FROM people WHERE _deleted = true AND id > 2",
    ):
        assert people.execute(sql).rows_affected == 0, sql
    assert (
        people.execute("UPDATE people SET name = 'x' WHERE _deleted OR id = 1").rows_affected == 1
    )
    assert people.execute("DELETE FROM people WHERE _deleted IN (true, false)").rows_affected == 2
    assert people.execute("SELECT count(*) FROM people WHERE _deleted").rows() == [(5,)]


def test_seq_is_unique_and_grows_with_each_version(people: Session, s: Session) -> None:
    seqs = [
        row[0] for row in people.execute("SELECT _seq FROM people WHERE _deleted IN (true, false)")
    ]
    assert len(set(seqs)) == len(seqs)
    ((old,),) = people.execute("SELECT _seq FROM people WHERE id = 1").rows()
    people.execute("UPDATE people SET name = 'a2' WHERE id = 1")
    ((new,),) = people.execute("SELECT _seq FROM people WHERE id = 1").rows()
    assert new > max(seqs)
    assert people.execute("SELECT name FROM people WHERE _seq = ?", [old]).rows() == []
    s.execute("CREATE TABLE other (id INT)")
    assert s.execute("INSERT INTO other VALUES (1) RETURNING _seq").rows()[0][0] > new


def test_deleted_rows_are_of_the_own_scope(people: Session, mia: Session) -> None:
    assert mia.execute("SELECT * FROM people WHERE _deleted").rows() == []
    mia.execute("INSERT INTO people VALUES (1, 'mia')")
    mia.execute("DELETE FROM people WHERE id = 1")
    assert mia.execute("SELECT name FROM people WHERE _deleted").rows() == [("mia",)]
    assert people.execute("SELECT count(*) FROM people WHERE _deleted").rows() == [(3,)]
    both = "SELECT user_id, count(*) FROM all_users('people') WHERE _deleted GROUP BY 1 ORDER BY 1"
    assert people.execute(both).rows() == [("mia", 1), ("root", 3)]


def test_a_view_shows_deleted_rows_where_it_asks_for_them(people: Session) -> None:
    people.execute("CREATE VIEW bin AS SELECT id, name FROM people WHERE _deleted")
    people.execute("CREATE VIEW alive AS SELECT id FROM people")
    assert people.execute("SELECT count(*) FROM bin").rows() == [(3,)]
    assert people.execute("SELECT count(*) FROM alive").rows() == [(2,)]


@pytest.mark.parametrize("maintenance", ["FLUSH", "COMPACT"])
def test_retention_ends_what_was_deleted_long_ago(fresh: Any, maintenance: str) -> None:
    s = fresh.session()
    s.execute("CREATE USER TABLE t (id INT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 48)")
    s.execute("INSERT INTO t VALUES (1), (2), (3); DELETE FROM t WHERE id = 1")
    if maintenance == "COMPACT":
        finished(s, "STORAGE FLUSH TABLE t")
    fresh.clock.advance(40 * 3600)
    s.execute("DELETE FROM t WHERE id = 2")
    fresh.clock.advance(10 * 3600)
    finished(s, f"STORAGE {maintenance} TABLE t")
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == [(2,)]
    assert s.execute("SELECT id FROM t").rows() == [(3,)]
    fresh.clock.advance(48 * 3600)
    finished(s, "STORAGE FLUSH TABLE t; STORAGE COMPACT TABLE t")
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == []
    assert s.execute("SELECT id FROM t").rows() == [(3,)]


def test_retention_of_zero_ends_at_the_next_run(fresh: Any) -> None:
    s = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 0)")
    s.execute("INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE id = 1")
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == [(1,)]
    fresh.clock.advance(1)
    finished(s, "STORAGE FLUSH TABLE t")
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == []
