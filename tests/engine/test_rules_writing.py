"""Section 5 of the language, rule by rule, where no other test holds the rule: writing."""

from __future__ import annotations

import re
import time
from typing import Any
from uuid import UUID

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError
from kalamdb_lab.testing.jobs import finished

# --- rows that stay the same ----------------------------------------------------------------------


@pytest.fixture(params=["hot", "flushed"])
def values(request: pytest.FixtureRequest, s: Session) -> Session:
    s.execute(
        """CREATE TABLE t (id INT PRIMARY KEY, d DOUBLE, f FLOAT, l DOUBLE[], j JSON, n DECIMAL(5, 2),
        iv INTERVAL, e EMBEDDING(2), st STRUCT(a DOUBLE, b TEXT));
        INSERT INTO t VALUES (1, 'nan', 'nan', [CAST('nan' AS DOUBLE)], '{"a":1}', 1.5, '1 day',
        [1, 0], {'a': CAST('nan' AS DOUBLE), 'b': NULL})"""
    )
    if request.param == "flushed":
        finished(s, "STORAGE FLUSH TABLE t")
    return s


SAME = [
    "d = 'nan'",
    "d = d",
    "d = d * 2, f = f + 1",
    "f = CAST('nan' AS FLOAT)",
    "d = 'nan', f = 'nan', n = 1.500",
    "l = [CAST('nan' AS DOUBLE)]",
    "st = {'a': CAST('nan' AS DOUBLE), 'b': NULL}",
    "j = '{\"a\":1}'",
    "e = '[1, 0]', iv = INTERVAL '1 day'",
]


def test_a_row_whose_values_stay_the_same_is_no_change_nan_included(values: Session) -> None:
    seq = values.execute("SELECT _seq FROM t").rows()
    for assignments in SAME:
        for where in ("id = 1", "n > 0"):
            result = values.execute(f"UPDATE t SET {assignments} WHERE {where} RETURNING id")
            assert (result.rows_affected, result.rows()) == (0, []), assignments
        upsert = f"INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET {assignments}"
        upsert = re.sub(r"= (d|f)\b", r"= t.\1", upsert)
        assert values.execute(upsert).rows_affected == 0, assignments
    assert values.execute("SELECT _seq FROM t").rows() == seq


@pytest.mark.parametrize(
    ("first", "second"),
    [("nan", "1"), ("1", "nan"), ("0", "-0.0"), ("nan", None), ("inf", "-inf"), (None, "nan")],
)
def test_a_value_that_changes_to_the_last_bit_is_a_change(
    s: Session, first: str | None, second: str | None
) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, d DOUBLE)")
    s.execute("INSERT INTO t VALUES (1, ?), (2, ?)", [first, first])
    new = None if second is None else float(second)
    for where in ("id = 1", "id > 1"):
        assert s.execute(f"UPDATE t SET d = ? WHERE {where}", [new]).rows_affected == 1
        assert s.execute(f"UPDATE t SET d = ? WHERE {where}", [new]).rows_affected == 0
    assert [repr(row[0]) for row in s.execute("SELECT d FROM t")] == [repr(new)] * 2


# --- counts and places ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("INSERT INTO t VALUES (1)", "INVALID_DEFINITION",
         "INSERT has 1 value for 3 columns in row 1"),
        ("INSERT INTO t (id, v) VALUES (7, 'a'), (8)", "INVALID_DEFINITION",
         "INSERT has 1 value for 2 columns in row 2"),
        ("INSERT INTO t (id) VALUES (7, 8)", "INVALID_DEFINITION",
         "INSERT has 2 values for 1 column in row 1"),
        ("INSERT INTO t (id, v) SELECT 7", "INVALID_DEFINITION",
         "INSERT has 1 value for 2 columns in its query"),
        ("INSERT INTO t SELECT 7, 'a', 1, 2", "INVALID_DEFINITION",
         "INSERT has 4 values for 3 columns in its query"),
        ("INSERT INTO t (id, v) VALUES (7, hello)", "SYNTAX",
         "A value cannot name the column 'hello'; write text in single quotes"),
        ('INSERT INTO t (id, v) VALUES (7, "hello")', "SYNTAX",
         "A value cannot name the column 'hello'; write text in single quotes"),
        ('UPDATE t SET v = "hello" WHERE id = 1', "NOT_FOUND",
         "Column 'hello' not found; write text in single quotes"),
        ('DELETE FROM t WHERE v = "hello"', "NOT_FOUND",
         "Column 'hello' not found; write text in single quotes"),
        ("INSERT OR REPLACE INTO t VALUES (1, 'a', 1)", "NOT_SUPPORTED",
         "INSERT OR REPLACE is not supported"),
        ("REPLACE INTO t VALUES (1, 'a', 1)", "NOT_SUPPORTED",
         "REPLACE INTO is not supported; use INSERT ... ON CONFLICT"),
        ("INSERT INTO t VALUES (7, 'a', 1) ON CONFLICT ON CONSTRAINT k DO NOTHING",
         "NOT_SUPPORTED", "ON CONSTRAINT is not supported"),
        ("INSERT INTO t VALUES (7, 'a', 1) ON DUPLICATE KEY UPDATE v = 'x'", "NOT_SUPPORTED",
         "ON DUPLICATE KEY is not supported"),
        ("INSERT INTO t VALUES (7, 'a', 1) ON CONFLICT (v) DO NOTHING", "NOT_SUPPORTED",
         "ON CONFLICT (v) is not supported; use the primary key"),
        ("UPDATE t SET v = 'x' WHERE id = 1 ORDER BY id", "NOT_SUPPORTED",
         "UPDATE ... ORDER BY is not supported"),
        ("TRUNCATE TABLE t", "NOT_SUPPORTED",
         "TRUNCATE is not supported; use DELETE FROM t WHERE true"),
        ("UPDATE t a SET n = t.n WHERE a.id = 1", "NOT_FOUND",
         "Table or alias 't' is not in FROM"),
        ("DELETE FROM t WHERE id = 1 RETURNING id.*", "NOT_FOUND",
         "Table or alias 'id' is not in FROM"),
        ("INSERT INTO t AS USER 'mia' VALUES (7, 'a', 1)", "SYNTAX", None),
    ],
)  # fmt: skip
def test_a_write_of_another_form_says_what_is_wrong(
    s: Session, refused: Any, sql: str, code: str, message: str | None
) -> None:
    s.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v TEXT, n INT); INSERT INTO t VALUES (1, 'a', 5)"
    )
    error = refused(s, sql)
    assert error.code == code
    assert message is None or str(error) == message
    assert s.execute("SELECT * FROM t").rows() == [(1, "a", 5)]


def test_all_rows_of_a_statement_are_written_or_none(s: Session) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, v TEXT DEFAULT 'd', n INT NOT NULL DEFAULT 7)")
    for sql in (
        "INSERT INTO t (id) VALUES (1), (2), (1)",
        "INSERT INTO t (id, n) VALUES (1, 1), (2, NULL)",
        "INSERT INTO t (id, n) SELECT range, CASE WHEN range = 9000 THEN NULL ELSE 1 END "
        "FROM range(9001)",
        "INSERT INTO t (id) SELECT range % 9000 FROM range(9001)",
        "INSERT INTO t (id) VALUES (1) RETURNING 1 / (id - 1)",
        "INSERT INTO t (id, v) SELECT 1, CAST(CAST('x' || range AS INT) AS TEXT) FROM range(3)",
    ):
        with pytest.raises(KalamError):
            s.execute(sql)
        assert s.execute("SELECT count(*) FROM t").rows() == [(0,)], sql


def test_an_explicit_null_is_not_replaced_by_the_default(s: Session) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, v TEXT DEFAULT 'd', n INT NOT NULL DEFAULT 7)")
    s.execute("INSERT INTO t (id, v) VALUES (1, NULL), (2, DEFAULT), (3, ?)", [None])
    s.execute("INSERT INTO t (id, v) SELECT 4, NULL; INSERT INTO t (id) SELECT 5")
    rows = s.execute("SELECT v, n FROM t ORDER BY id").rows()
    assert rows == [(None, 7), ("d", 7), (None, 7), (None, 7), ("d", 7)]


def test_nobody_writes_system_tables(
    s: Session, dora: Session, sven: Session, mia: Session, refused: Any
) -> None:
    for form in (
        "INSERT INTO {} VALUES (1)", "UPDATE {} SET a = 1 WHERE true", "DELETE FROM {} WHERE true",
    ):  # fmt: skip
        for session in (s, dora):
            for table in ("system.jobs", "system.USERS", "information_schema.tables"):
                error = refused(session, form.format(table))
                message = f"System table {table.lower()} is read-only"
                assert (error.code, str(error)) == ("READ_ONLY", message)
        for session in (sven, mia):
            assert str(refused(session, form.format("system.jobs"))) == (
                "Only 'dba' and 'system' roles can access system namespace"
            )
            error = refused(session, form.format("information_schema.columns"))
            assert str(error) == "System table information_schema.columns is read-only"
        assert refused(s, form.format("system.planets")).code == "NOT_FOUND"


# --- keys -----------------------------------------------------------------------------------------


def test_keys_are_unique_against_hot_and_flushed_rows_and_after_a_restart(fresh: Any) -> None:
    s = fresh.session()
    s.execute("CREATE USER TABLE people (id INT PRIMARY KEY, name TEXT)")
    finished(s, "INSERT INTO people VALUES (41, 'Ann'); STORAGE FLUSH TABLE people")
    s.execute("INSERT INTO people VALUES (42, 'Bob'); DELETE FROM people WHERE id = 41")
    s.execute("INSERT INTO people VALUES (41, 'Amy')")
    for _ in range(2):
        for key in (41, 42):
            with pytest.raises(KalamError) as caught:
                s.execute("INSERT INTO people VALUES (?, 'x')", [key])
            assert str(caught.value) == (
                f"Duplicate primary key: studio.people already has id = {key}"
            )
        fresh.database.close()
        fresh.database = kalam.open(fresh.database.path, clock=fresh.clock)
        s = fresh.session()
    assert s.execute("SELECT * FROM people ORDER BY id").rows() == [(41, "Amy"), (42, "Bob")]


def test_a_long_key_is_cut_in_the_message(s: Session, refused: Any) -> None:
    s.execute("CREATE TABLE t (id TEXT PRIMARY KEY)")
    s.execute("INSERT INTO t VALUES (?)", ["k" * 5_000])
    assert str(refused(s, "INSERT INTO t VALUES (?)", ["k" * 5_000])) == (
        f"Duplicate primary key: studio.t already has id = '{'k' * 40}'"
    )
    twice = refused(s, "INSERT INTO t VALUES (?), (?)", ["l" * 5_000, "l" * 5_000])
    assert str(twice) == (
        f"Duplicate primary key: id = '{'l' * 40}' appears twice in this statement"
    )


def test_uuid_keys_compare_without_regard_to_case(s: Session, refused: Any) -> None:
    s.execute("CREATE TABLE t (id UUID PRIMARY KEY)")
    key = "550e8400-e29b-41d4-a716-44665544000a"
    twice = f"INSERT INTO t VALUES ('{key}'), ('{key.upper()}')"
    assert str(refused(s, twice)) == (
        f"Duplicate primary key: id = '{key}' appears twice in this statement"
    )
    s.execute("INSERT INTO t VALUES (?)", [key.upper()])
    assert refused(s, "INSERT INTO t VALUES (?)", [UUID(key)]).code == "DUPLICATE_KEY"


# --- functions of our own -------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["mia", "sven", "dora", "root"])
def test_functions_of_our_own_are_for_every_user_in_queries_values_and_defaults(
    studio: Any, s: Session, who: str
) -> None:
    s.execute(
        """CREATE USER TABLE t (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), u UUID DEFAULT
        UUID_V7(), ut TEXT DEFAULT UUID_V7(), l TEXT DEFAULT ULID(), who TEXT DEFAULT CURRENT_USER,
        who2 TEXT DEFAULT CURRENT_USER(), at DATETIME DEFAULT NOW(),
        at2 DATETIME DEFAULT CURRENT_TIMESTAMP, da DATE DEFAULT CURRENT_DATE,
        ti TIME DEFAULT CURRENT_TIME)"""
    )
    session = studio.session(who)
    session.execute("INSERT INTO t DEFAULT VALUES")
    session.execute(
        """INSERT INTO t VALUES (SNOWFLAKE_ID(), UUID_V7(), UUID_V7(), ULID(), CURRENT_USER,
        CURRENT_USER(), NOW(), CURRENT_TIMESTAMP, CURRENT_DATE, CURRENT_TIME)"""
    )
    session.execute(
        """INSERT INTO t SELECT SNOWFLAKE_ID(), UUID_V7(), CAST(UUID_V7() AS TEXT), ULID(),
        CURRENT_USER, CURRENT_USER(), NOW(), CURRENT_TIMESTAMP, CURRENT_DATE, CURRENT_TIME"""
    )
    rows = session.execute("SELECT * FROM t ORDER BY id").rows()
    for number, u, ut, ulid, user, user2, at, at2, da, ti in rows:
        assert number > 0
        assert isinstance(u, UUID)
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", ut)
        assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", ulid), "Crockford's base 32"
        assert user == user2 == who
        assert at == at2
        assert (at.date(), at.time()) == (da, ti)
    for column in range(4):
        assert len({row[column] for row in rows}) == 3
    kinds = session.execute(
        "SELECT SNOWFLAKE_ID(), UUID_V7(), ULID(), CURRENT_USER, NOW(), CURRENT_TIMESTAMP, "
        "CURRENT_DATE, CURRENT_TIME"
    ).types
    assert [str(kind) for kind in kinds] == [
        "BIGINT", "UUID", "TEXT", "TEXT", "DATETIME", "DATETIME", "DATE", "TIME",
    ]  # fmt: skip


def test_snowflake_ids_grow_across_statements_and_restarts(fresh: Any) -> None:
    last = 0
    for _ in range(3):
        root = fresh.session()
        for _ in range(3):
            ids = [row[0] for row in root.execute("SELECT SNOWFLAKE_ID() FROM range(50)")]
            assert ids == sorted(set(ids))
            assert ids[0] > last
            last = ids[-1]
        fresh.database.close()
        fresh.database = kalam.open(fresh.database.path, clock=fresh.clock)


@pytest.mark.parametrize(
    "call",
    ["SNOWFLAKE_ID(1)", "UUID_V7(1)", "ULID('x')", "NOW(3)", "CURRENT_USER(1)",
     "CURRENT_TIMESTAMP(3)", "CURRENT_DATE('UTC')", "CURRENT_TIME(0)"],
)  # fmt: skip
def test_functions_of_our_own_take_no_arguments(s: Session, refused: Any, call: str) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
    message = f"{call.partition('(')[0]}() takes no arguments"
    for sql in (
        f"SELECT {call}",
        f"INSERT INTO t VALUES (1, CAST({call} AS TEXT))",
        f"INSERT INTO t VALUES (1, {call})",
        f"CREATE TABLE u (id INT, v TEXT DEFAULT {call})",
        f"SELECT id FROM t WHERE v = CAST({call} AS TEXT)",
    ):
        error = refused(s, sql)
        assert (error.code, str(error)) == ("TYPE_MISMATCH", message)


def test_the_time_zone_of_the_session_is_utc_always(
    s: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        noon = "DATETIME '2031-04-30 12:00:00'"
        answer = s.execute(
            f"SELECT {noon}, CAST({noon} AS TEXT), extract(hour FROM {noon}), "
            f"CAST(DATETIME '2031-04-30 23:30:00' AS DATE) = DATE '2031-04-30', "
            f"extract(hour FROM x) FROM (SELECT {noon} AS x) v"
        )
        ((at, text, hour, same, also),) = list[Any](answer.rows())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (at.isoformat(), hour, same, also) == ("2031-04-30T12:00:00+00:00", 12, True, 12)
    assert text == "2031-04-30 12:00:00+00"


# --- RETURNING ------------------------------------------------------------------------------------


def test_returning_names_its_columns_and_keeps_the_order_written(s: Session) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
    made = s.execute(
        "INSERT INTO t VALUES (9, 'c'), (1, 'a'), (5, 'b') "
        'RETURNING ID, v AS "The V", id * 2, (SELECT count(*) FROM t), *'
    )
    assert made.columns == ["id", "The V", "id * 2", "count(*)", "id", "v"]
    assert [row[0] for row in made] == [9, 1, 5]
    assert made.rows_affected == 3
