"""SQL is parsed once per statement; what was parsed and planned before is not done again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlglot.parser import Parser

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def count_parses(monkeypatch: pytest.MonkeyPatch) -> Any:
    calls: list[int] = []
    real = Parser.parse

    def parse(self: Parser, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Parser, "parse", parse)

    @contextmanager
    def counting() -> Iterator[list[int]]:
        calls.clear()
        yield calls

    return counting


@pytest.fixture
def t(s: Session) -> Session:
    s.execute(
        """CREATE USER TABLE t (id INT PRIMARY KEY, v TEXT DEFAULT upper('x'), n INT DEFAULT 3);
        INSERT INTO t (id) VALUES (1), (2); CREATE VIEW w AS SELECT id, v FROM t WHERE n > 1;
        CREATE TABLE u (id INT) WITH (ACCESS_LEVEL = 'PUBLIC')"""
    )
    s.execute("SELECT * FROM w")
    s.execute("INSERT INTO t (id) VALUES (3)")
    return s


ONE_PARSE = [
    "SELECT * FROM t WHERE id = 1 AND n > 2",
    "SELECT w.id, t.n FROM w JOIN t USING (id)",
    "WITH a AS (SELECT * FROM t) SELECT count(*) FROM a UNION SELECT 1",
    "INSERT INTO t VALUES (10, 'a', 1)",
    "INSERT INTO t (id) VALUES (11) RETURNING *",
    "INSERT INTO t SELECT id + 100, v, n FROM t WHERE id < 3",
    "INSERT INTO t (id, n) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET n = excluded.n + t.n",
    "UPDATE t SET n = n + 1 WHERE v = 'X' RETURNING id",
    "UPDATE t SET n = 5 WHERE id = 1",
    "DELETE FROM t WHERE n > 100 RETURNING (SELECT max(id) FROM t)",
    "EXPLAIN SELECT * FROM w",
    "EXPLAIN UPDATE t SET n = n + 1 WHERE id IN (SELECT id FROM w)",
    "EXECUTE AS USER 'mia' (SELECT * FROM t)",
    "CREATE TABLE fresh AS SELECT * FROM t",
]
NO_PARSE = [
    "SHOW TABLES",
    "DESCRIBE t",
    "USE studio",
    "CREATE TABLE plain (id INT PRIMARY KEY, v TEXT)",
    "ALTER TABLE t ADD COLUMN z INT",
    "DROP TABLE u",
    "STORAGE FLUSH TABLE t",
    "SHOW STATS FOR TABLE t",
    "SHOW USERS",
]


@pytest.mark.parametrize("sql", ONE_PARSE)
def test_a_statement_is_parsed_once(t: Session, count_parses: Any, sql: str) -> None:
    with count_parses() as calls:
        t.execute(sql + "  -- " + sql[:9])
    assert len(calls) == 1


@pytest.mark.parametrize("sql", NO_PARSE)
def test_kalam_words_need_no_tree(t: Session, count_parses: Any, sql: str) -> None:
    with count_parses() as calls:
        t.execute(sql)
    assert not calls


@pytest.mark.parametrize(
    "sql", [item for item in ONE_PARSE if not item.startswith(("CREATE", "INSERT INTO t VALUES"))]
)
def test_a_repeated_statement_is_not_parsed_again(t: Session, count_parses: Any, sql: str) -> None:
    t.execute(sql)
    t.execute("DELETE FROM t WHERE id > 10")
    with count_parses() as calls:
        t.execute(sql)
    assert not calls


def test_statements_with_parameters_are_parsed_once_for_all_values(
    t: Session, count_parses: Any
) -> None:
    with count_parses() as calls:
        for number in range(20, 40):
            t.execute("INSERT INTO t VALUES (?, ?, ?)", [number, "p", number])
            t.execute("SELECT v FROM t WHERE n = ?", [number])
            t.execute("UPDATE t SET v = ? WHERE n = ?", ["q", number])
    assert len(calls) == 3
    assert t.execute("SELECT count(*) FROM t WHERE v = 'q'").rows() == [(20,)]


def test_each_statement_of_a_script_is_parsed_once(t: Session, count_parses: Any) -> None:
    with count_parses() as calls:
        t.execute("SELECT 101; SELECT 102; SHOW TABLES; SELECT 103")
        t.execute("SELECT 101; SELECT 102; SHOW TABLES; SELECT 103")
    assert len(calls) == 3


# --- what a kept plan must notice -----------------------------------------------------------------


def test_the_same_text_means_what_it_means_now(t: Session, studio: Any) -> None:
    star, wide = "SELECT * FROM t ORDER BY id LIMIT 1", "SELECT * FROM w ORDER BY id LIMIT 1"
    change = "UPDATE t SET n = DEFAULT WHERE v = 'X'"
    insert = "INSERT INTO t (id) VALUES (?)"
    assert t.execute(star).rows() == [(1, "X", 3)]
    t.execute(insert, [50])
    t.execute(change)
    t.execute("ALTER TABLE t ADD COLUMN z INT DEFAULT 9; ALTER TABLE t MODIFY n BIGINT DEFAULT 4")
    assert t.execute(star).rows() == [(1, "X", 3, 9)]
    t.execute(insert, [51])
    assert t.execute("SELECT n, z FROM t WHERE id = 51").rows() == [(4, 9)]
    assert t.execute(change).rows_affected == 4
    t.execute("ALTER TABLE t DROP COLUMN z; ALTER TABLE t RENAME COLUMN v TO w")
    assert t.execute(star).columns == ["id", "w", "n"]
    t.execute("CREATE OR REPLACE VIEW w AS SELECT id AS one FROM t")
    assert t.execute(wide.replace("id LIMIT", "one LIMIT")).columns == ["one"]
    t.execute("DROP TABLE t; CREATE TABLE t (x TEXT)")
    assert t.execute("SELECT * FROM t").columns == ["x"]
    t.execute("INSERT INTO t VALUES ('a')")
    assert t.execute("SELECT count(*) FROM t").rows() == [(1,)]


def test_a_kept_plan_is_nobody_elses(t: Session, mia: Session, tom: Session, refused: Any) -> None:
    sql = "SELECT id, v FROM t WHERE n > 0 ORDER BY id"
    for session, user in ((mia, "mia"), (tom, "tom")):
        session.execute("INSERT INTO t VALUES (1, CURRENT_USER(), 1)")
        assert session.execute(sql).rows() == [(1, user)]
    assert [row[0] for row in t.execute(sql)] == [1, 2, 3]
    assert mia.execute(sql).rows() == [(1, "mia")]
    closed = "SELECT count(*) FROM plans"
    t.execute("CREATE TABLE plans (id INT)")
    assert t.execute(closed).rows() == [(0,)]
    assert refused(mia, closed).code == "PERMISSION_DENIED"
    t.execute("ALTER TABLE plans SET ACCESS LEVEL public")
    assert mia.execute(closed).rows() == [(0,)]
    t.execute("ALTER TABLE plans SET ACCESS LEVEL private")
    assert refused(mia, closed).code == "PERMISSION_DENIED"


def test_a_kept_plan_is_of_its_namespace_and_its_session(t: Session) -> None:
    import pyarrow as pa

    sql = "SELECT count(*) FROM t"
    assert t.execute(sql).rows() == [(3,)]
    t.execute("CREATE NAMESPACE films; CREATE TABLE films.t (id INT); USE films")
    assert t.execute(sql).rows() == [(0,)]
    t.relations["t"] = pa.table({"id": [1, 2, 3, 4, 5]})
    assert t.execute(sql).rows() == [(5,)]
    t.relations["t"] = pa.table({"id": [1]})
    assert t.execute(sql).rows() == [(1,)]
    del t.relations["t"]
    t.execute("USE studio")
    assert t.execute(sql).rows() == [(3,)]


def test_a_kept_plan_reads_the_newest_rows_hot_and_flushed(t: Session) -> None:
    for sql in (
        "SELECT sum(id) FROM t WHERE n > 0",
        "SELECT count(*), max(id), min(id) FROM t",
        "SELECT v FROM t WHERE id = 60",
    ):
        finished(t, "DELETE FROM t WHERE id > 3; STORAGE FLUSH TABLE t")
        before = t.execute(sql).rows()
        t.execute("INSERT INTO t VALUES (60, 'new', 1)")
        hot = t.execute(sql).rows()
        assert hot != before
        finished(t, "STORAGE FLUSH TABLE t")
        assert t.execute(sql).rows() == hot
        t.execute("DELETE FROM t WHERE id = 60")
        assert t.execute(sql).rows() == before
        finished(t, "STORAGE FLUSH TABLE t; STORAGE COMPACT TABLE t")
        assert t.execute(sql).rows() == before
