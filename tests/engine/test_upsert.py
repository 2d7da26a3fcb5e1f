"""INSERT ... ON CONFLICT, as in PostgreSQL, hot and flushed."""

from __future__ import annotations

from typing import Any

import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished


@pytest.fixture(params=["hot", "flushed"])
def stock(request: pytest.FixtureRequest, s: Session) -> Session:
    s.execute(
        """CREATE USER TABLE stock (code TEXT PRIMARY KEY, n INT DEFAULT 1, note TEXT);
        INSERT INTO stock VALUES ('a', 10, 'old'), ('b', 20, NULL)"""
    )
    if request.param == "flushed":
        finished(s, "STORAGE FLUSH TABLE stock")
    return s


def rows(s: Session) -> list[tuple[object, ...]]:
    return s.execute("SELECT * FROM stock ORDER BY code").rows()


def test_do_nothing_keeps_what_is_there(stock: Session) -> None:
    sql = "INSERT INTO stock VALUES ('a', 1, 'new'), ('c', 3, 'new')"
    assert stock.execute(f"{sql} ON CONFLICT (code) DO NOTHING").rows_affected == 1
    assert stock.execute(f"{sql} ON CONFLICT DO NOTHING").rows_affected == 0
    assert rows(stock) == [("a", 10, "old"), ("b", 20, None), ("c", 3, "new")]


def test_do_nothing_takes_the_first_of_equal_keys(stock: Session) -> None:
    sql = "INSERT INTO stock VALUES ('c', 1, NULL), ('c', 2, NULL) ON CONFLICT DO NOTHING"
    assert stock.execute(f"{sql} RETURNING n").rows() == [(1,)]


def test_do_update_sees_the_present_and_the_offered_row(stock: Session) -> None:
    result = stock.execute(
        """INSERT INTO stock (code, n, note) VALUES ('b', 5, 'x'), ('a', 7, 'y'), ('c', 1, 'z')
        ON CONFLICT (CODE) DO UPDATE SET n = stock.n + excluded.n, note = coalesce(note, 'none')
        || excluded.note RETURNING code, n, note"""
    )
    assert result.rows_affected == 3
    assert result.rows() == [("b", 25, "nonex"), ("a", 17, "oldy"), ("c", 1, "z")]
    assert rows(stock) == [("a", 17, "oldy"), ("b", 25, "nonex"), ("c", 1, "z")]


def test_the_condition_decides_row_by_row(stock: Session) -> None:
    result = stock.execute(
        """INSERT INTO stock (code, n) VALUES ('a', 1), ('b', 1), ('c', 1)
        ON CONFLICT (code) DO UPDATE SET n = excluded.n WHERE n > 15 RETURNING code"""
    )
    assert (result.rows_affected, result.rows()) == (2, [("b",), ("c",)])
    assert [row[1] for row in rows(stock)] == [10, 1, 1]


def test_an_update_that_changes_nothing_counts_nothing(stock: Session) -> None:
    before = stock.execute("SELECT _seq FROM stock ORDER BY code").rows()
    sql = "INSERT INTO stock (code, n) VALUES ('a', 10) ON CONFLICT (code) DO UPDATE SET n = excluded.n"
    assert stock.execute(sql).rows_affected == 0
    assert stock.execute("SELECT _seq FROM stock ORDER BY code").rows() == before


def test_defaults_parameters_and_subqueries_may_stand_in_set(stock: Session) -> None:
    stock.execute(
        "INSERT INTO stock (code) VALUES ('a') ON CONFLICT (code) DO UPDATE "
        "SET n = DEFAULT, note = (SELECT max(note) || ? FROM stock)",
        ["!"],
    )
    assert rows(stock)[0] == ("a", 1, "old!")
    stock.execute(
        "INSERT INTO stock (code, n) VALUES ($1, $2) ON CONFLICT (code) DO UPDATE "
        "SET n = excluded.n * $2 WHERE stock.code = $1",
        ["b", 3],
    )
    assert rows(stock)[1] == ("b", 9, None)


def test_the_offered_row_has_its_defaults(stock: Session) -> None:
    stock.execute(
        "INSERT INTO stock (code) VALUES ('a') "
        "ON CONFLICT (code) DO UPDATE SET n = excluded.n, note = excluded.note"
    )
    assert rows(stock)[0] == ("a", 1, None)


def test_rows_of_a_query_are_upserted(stock: Session) -> None:
    sql = (
        "INSERT INTO stock (code, n) SELECT code, n + 1 FROM stock UNION ALL SELECT 'c', 0 "
        "ON CONFLICT (code) DO UPDATE SET n = excluded.n"
    )
    assert stock.execute(sql).rows_affected == 3
    assert [row[1] for row in rows(stock)] == [11, 21, 0]


def test_a_deleted_key_is_free(stock: Session) -> None:
    stock.execute("DELETE FROM stock WHERE code = 'a'")
    sql = "INSERT INTO stock (code, n) VALUES ('a', 2) ON CONFLICT (code) DO UPDATE SET n = 99"
    assert stock.execute(sql).rows_affected == 1
    assert rows(stock)[0] == ("a", 2, None)


def test_each_scope_has_its_own_conflicts(stock: Session, mia: Session) -> None:
    sql = "INSERT INTO stock (code, n) VALUES ('a', 5) ON CONFLICT (code) DO UPDATE SET n = stock.n + 100"
    for _ in range(2):
        mia.execute(sql)
    assert mia.execute("SELECT code, n FROM stock").rows() == [("a", 105)]
    assert rows(stock)[0] == ("a", 10, "old")


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        (
            "INSERT INTO stock VALUES ('a', 1, ''), ('a', 2, '') "
            "ON CONFLICT (code) DO UPDATE SET n = 1",
            "DUPLICATE_KEY",
            "ON CONFLICT DO UPDATE cannot change code = 'a' twice in one statement",
        ),
        (
            "INSERT INTO stock VALUES ('z', 1, ''), ('z', 2, '') "
            "ON CONFLICT (code) DO UPDATE SET n = 1",
            "DUPLICATE_KEY",
            "ON CONFLICT DO UPDATE cannot change code = 'z' twice in one statement",
        ),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT (code) DO UPDATE SET code = 'b'",
         "READ_ONLY", "Primary key column 'code' cannot be updated"),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT (code) DO UPDATE SET _seq = 1",
         "READ_ONLY", "_seq is a system column and cannot be written"),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT (code) DO UPDATE SET gone = 1",
         "NOT_FOUND", "Column 'gone' not found in studio.stock"),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT (code) DO UPDATE SET n = excluded.gone",
         "NOT_FOUND", None),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT (gone) DO NOTHING",
         "NOT_FOUND", "Column 'gone' not found in studio.stock"),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT (note) DO NOTHING", "NOT_SUPPORTED",
         None),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT ON CONSTRAINT pk DO NOTHING",
         "NOT_SUPPORTED", None),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT DO UPDATE SET n = 1", None, None),
        ("INSERT OR IGNORE INTO stock VALUES ('a', 1, '')", "NOT_SUPPORTED",
         "INSERT OR IGNORE is not supported"),
        ("INSERT INTO stock VALUES ('a', 1, '') ON DUPLICATE KEY UPDATE n = 1", "NOT_SUPPORTED",
         None),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT (code) DO UPDATE SET n = n / 0",
         "DIVISION_BY_ZERO", "Division by zero"),
        ("INSERT INTO stock VALUES ('a', 1, '') ON CONFLICT (code) DO UPDATE SET n = 5000000000",
         "OUT_OF_RANGE", "Column 'n': value is out of range for INT"),
        ("INSERT INTO stock VALUES ('a', 1, ''), (NULL, 1, '') ON CONFLICT DO NOTHING", "NOT_NULL",
         "Column 'code' of studio.stock cannot be NULL: it is the primary key"),
    ],
)  # fmt: skip
def test_a_bad_upsert_changes_nothing(
    stock: Session, refused: Any, sql: str, code: str | None, message: str | None
) -> None:
    before = rows(stock)
    error = refused(stock, sql)
    assert code is None or error.code == code, str(error)
    assert message is None or str(error) == message
    assert rows(stock) == before


def test_not_null_holds_after_an_upsert(s: Session, refused: Any) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, v TEXT NOT NULL); INSERT INTO t VALUES (1, 'x')")
    sql = "INSERT INTO t VALUES (1, 'y') ON CONFLICT (id) DO UPDATE SET v = NULL"
    assert str(refused(s, sql)) == "Column 'v' of studio.t cannot be NULL"


def test_streams_take_do_nothing_only(s: Session, refused: Any) -> None:
    s.execute("CREATE STREAM TABLE plays (id TEXT PRIMARY KEY, n INT) WITH (TTL_SECONDS = 60)")
    s.execute("INSERT INTO plays VALUES ('a', 1)")
    sql = "INSERT INTO plays VALUES ('a', 2), ('b', 2) ON CONFLICT (id)"
    assert refused(s, f"{sql} DO UPDATE SET n = 2").code == "NOT_SUPPORTED"
    assert s.execute(f"{sql} DO NOTHING").rows_affected == 1


def test_tables_without_a_key_never_conflict(s: Session, refused: Any) -> None:
    s.execute("CREATE TABLE t (id INT)")
    for _ in range(2):
        assert s.execute("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING").rows_affected == 1
    sql = "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2"
    assert refused(s, sql).code == "NOT_SUPPORTED"
