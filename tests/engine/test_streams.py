"""STREAM tables: events come and go; nothing older than the TTL is ever read."""

from __future__ import annotations

from typing import Any

import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.query.partition_scans import PartitionScans


@pytest.fixture
def plays(fresh: Any) -> Session:
    s = fresh.session()
    s.execute(
        """CREATE STREAM TABLE plays (id TEXT PRIMARY KEY DEFAULT ULID(), n INT)
        WITH (TTL_SECONDS = 300);
        CREATE USER 'mia' INTERNAL ROLE user"""
    )
    return s


def test_events_expire_after_their_ttl(plays: Session, fresh: Any) -> None:
    plays.execute("INSERT INTO plays VALUES ('a', 1)")
    fresh.clock.advance(200)
    plays.execute("INSERT INTO plays VALUES ('b', 2)")
    queries = [
        "SELECT id FROM plays ORDER BY id",
        "SELECT id FROM plays WHERE n > 0 ORDER BY id",
        "SELECT id FROM plays WHERE id IN ('a', 'b') ORDER BY id",
        "SELECT id FROM all_users('plays') ORDER BY id",
        "SELECT p.id FROM plays p JOIN plays q ON p.id = q.id ORDER BY 1",
        "SELECT id FROM plays WHERE _deleted IN (true, false) ORDER BY id",
    ]
    for advance, expected in ((99, ["a", "b"]), (1, ["b"]), (199, ["b"]), (1, []), (1000, [])):
        fresh.clock.advance(advance)
        for sql in queries:
            assert [row[0] for row in plays.execute(sql)] == expected, (sql, expected)
        assert plays.execute("SELECT count(*), max(n) FROM plays").rows()[0][0] == len(expected)
        assert plays.execute("SELECT id FROM plays WHERE id = 'a'").row_count == ("a" in expected)
        (stats,) = plays.execute("SHOW STATS FOR TABLE plays").rows()
        assert stats[3] == len(expected)


def test_a_key_is_free_again_once_its_event_expired(
    plays: Session, fresh: Any, refused: Any
) -> None:
    plays.execute("INSERT INTO plays VALUES ('a', 1)")
    assert refused(plays, "INSERT INTO plays VALUES ('a', 2)").code == "DUPLICATE_KEY"
    sql = "INSERT INTO plays VALUES ('a', 2) ON CONFLICT DO NOTHING"
    assert plays.execute(sql).rows_affected == 0
    fresh.clock.advance(300)
    plays.execute("INSERT INTO plays VALUES ('a', 3)")
    assert plays.execute("SELECT n FROM plays").rows() == [(3,)]
    fresh.clock.advance(300)
    assert plays.execute(sql).rows_affected == 1
    assert plays.execute("SELECT n FROM plays").rows() == [(2,)]


def test_an_expired_event_cannot_be_deleted_or_returned(plays: Session, fresh: Any) -> None:
    plays.execute("INSERT INTO plays VALUES ('a', 1), ('b', 2)")
    assert plays.execute("DELETE FROM plays WHERE id = 'a' RETURNING n").rows() == [(1,)]
    fresh.clock.advance(300)
    for where in ("id = 'b'", "true"):
        result = plays.execute(f"DELETE FROM plays WHERE {where} RETURNING *")
        assert (result.rows_affected, result.rows()) == (0, [])


def test_only_insert_and_delete_are_taken(plays: Session, refused: Any) -> None:
    plays.execute("INSERT INTO plays VALUES ('a', 1)")
    for sql in ("UPDATE plays SET n = 2 WHERE true", "EXPLAIN UPDATE plays SET n = 2 WHERE true"):
        error = refused(plays, sql)
        assert (error.code, str(error)) == (
            "NOT_SUPPORTED",
            "UPDATE is not supported on STREAM tables",
        )
    assert plays.execute("DELETE FROM plays WHERE n = 1").rows_affected == 1
    assert plays.execute("SELECT * FROM plays WHERE _deleted").rows() == [], "nothing is kept"


def test_each_user_has_a_stream_of_its_own(plays: Session, fresh: Any) -> None:
    mia = fresh.session("mia")
    plays.execute("INSERT INTO plays VALUES ('a', 1)")
    mia.execute("INSERT INTO plays VALUES ('a', 2)")
    assert mia.execute("SELECT n FROM plays").rows() == [(2,)]
    assert mia.execute("DELETE FROM plays WHERE true").rows_affected == 1
    assert plays.execute("SELECT n FROM plays").rows() == [(1,)]
    assert plays.execute("SELECT user_id, n FROM all_users('plays')").rows() == [("root", 1)]


def test_events_survive_a_restart_until_they_expire(plays: Session, fresh: Any) -> None:
    import kalamdb_lab as kalam

    plays.execute("INSERT INTO plays VALUES ('a', 1)")
    fresh.clock.advance(100)
    fresh.database.close()
    fresh.database = kalam.open(fresh.database.path, clock=fresh.clock)
    s = fresh.session()
    assert s.execute("SELECT n FROM plays").rows() == [(1,)]
    fresh.clock.advance(200)
    assert s.execute("SELECT n FROM plays").rows() == []


def test_many_events_stay_hot(plays: Session, fresh: Any) -> None:
    plays.insert("plays", {"n": list(range(6000))})
    assert plays.execute("SELECT count(*), count(DISTINCT id) FROM plays").rows() == [(6000, 6000)]
    assert plays.execute("SHOW MANIFEST FOR TABLE plays").rows() == []
    fresh.clock.advance(300)
    assert plays.execute("SELECT count(*) FROM plays").rows() == [(0,)]


def test_streams_join_tables_and_stand_in_views(plays: Session, fresh: Any) -> None:
    plays.execute("CREATE VIEW recent AS SELECT n FROM plays WHERE n > 1")
    plays.execute("INSERT INTO plays VALUES ('a', 1), ('b', 2)")
    assert plays.execute("SELECT * FROM recent").rows() == [(2,)]
    plays.execute("CREATE TABLE kept AS SELECT * FROM plays")
    fresh.clock.advance(300)
    assert plays.execute("SELECT * FROM recent").rows() == []
    assert plays.execute("SELECT count(*) FROM kept").rows() == [(2,)]


def test_what_expired_stays_hidden_from_a_query_that_another_eviction_meets(
    plays: Session, fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The eviction comes when the rows are read, after the snapshot was taken."""
    plays.execute("INSERT INTO plays VALUES ('a', 1)")
    fresh.clock.advance(301)
    writer, read = fresh.session(), PartitionScans.read

    def evict_first(self: PartitionScans, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        writer.execute("INSERT INTO plays VALUES ('b', 2)")
        return read(self, *args, **kwargs)

    monkeypatch.setattr(PartitionScans, "read", evict_first)
    assert plays.execute("SELECT id FROM plays WHERE n > 0").rows() == []
