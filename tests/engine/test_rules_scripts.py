"""Section 13 of the language, rule by rule, where no other test holds the rule."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from sqlglot.parser import Parser

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.query.duck import VERSION

# --- parsing --------------------------------------------------------------------------------------


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were given to sqlglot's parser, from now on."""
    texts: list[str] = []
    real = Parser.parse

    def parse(self: Parser, raw_tokens: Any, sql: str) -> Any:
        texts.append(sql)
        return real(self, raw_tokens, sql)

    monkeypatch.setattr(Parser, "parse", parse)
    return texts


FIRST_EXECUTIONS = [
    "SELECT * FROM t WHERE id = 1 AND n > 2",
    "SELECT * FROM t WHERE id = 1",
    "SELECT count(*), max(id) FROM t",
    "SELECT v, sum(n) FROM t JOIN u USING (id) WHERE n IN (SELECT id FROM u) GROUP BY v",
    "INSERT INTO t VALUES (10, 'a', 1)",
    "INSERT INTO t VALUES (11, upper('a') || (SELECT max(v) FROM t), 2 * 3) RETURNING *",
    "INSERT INTO u SELECT id + 100 FROM t WHERE n > 0",
    "INSERT INTO t VALUES (1, 'a', 2) ON CONFLICT (id) DO UPDATE SET n = excluded.n + t.n",
    "UPDATE t SET n = 5 WHERE id = 1",
    "UPDATE t SET n = n + 1, v = upper(v) WHERE n > 0 RETURNING id, upper(v)",
    "DELETE FROM t WHERE id = 2",
    "DELETE FROM t WHERE n > 100 RETURNING (SELECT max(id) FROM t)",
    "EXPLAIN SELECT * FROM t WHERE n > 1",
    "EXPLAIN INSERT INTO u SELECT id FROM t",
    "EXPLAIN UPDATE t SET n = n + 1 WHERE id IN (SELECT id FROM u)",
    "EXECUTE AS USER 'mia' (SELECT * FROM t WHERE n > 0)",
    "EXECUTE AS USER 'mia' (INSERT INTO t SELECT id + 5, v, n FROM t)",
    "EXECUTE AS USER 'mia' (UPDATE t SET n = 1 WHERE n > 0)",
    "EXECUTE AS USER 'mia' (EXPLAIN DELETE FROM t WHERE n > 0)",
    "CREATE VIEW w AS SELECT id, v FROM t WHERE n > 1",
    "CREATE TABLE copies AS SELECT * FROM t",
    "SELECT user_id FROM system.users WHERE role = 'dba'",
    "SELECT table_name FROM information_schema.tables",
    "SELECT user_id, count(*) FROM all_users('t') GROUP BY 1",
]


def test_each_statement_is_parsed_once_from_its_first_execution_on(
    fresh: Any, parsed: list[str]
) -> None:
    """In a database that was just opened: no plan, no view and no default is known yet."""
    fresh.session().execute(
        """CREATE USER TABLE t (id INT PRIMARY KEY, v TEXT, n INT); CREATE TABLE u (id INT);
        CREATE USER 'mia' INTERNAL ROLE user; INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)"""
    )
    fresh.database.close()
    fresh.database = kalam.open(fresh.database.path, clock=fresh.clock)
    s = fresh.session()
    for sql in FIRST_EXECUTIONS:
        parsed.clear()
        s.execute(sql)
        assert parsed == [sql], sql


def test_each_statement_of_a_script_is_parsed_once(fresh: Any, parsed: list[str]) -> None:
    text = """CREATE TABLE t (id INT PRIMARY KEY, n INT);
    INSERT INTO t VALUES (1, 2); BEGIN; UPDATE t SET n = 3 WHERE n > 1; COMMIT; SHOW TABLES;
    SELECT * FROM t; STORAGE FLUSH TABLE t; DESCRIBE t; SELECT n FROM t WHERE id = 1;
    DELETE FROM t WHERE true; DROP TABLE t"""
    s = fresh.session()
    s.execute(text)
    assert parsed == [text] * 5, "of an INSERT, an UPDATE, two SELECTs and a DELETE"
    for job in fresh.database.jobs.list():
        fresh.database.jobs.wait(job.job_id)
    s.execute(text)
    assert len(parsed) == 5


def test_what_is_stored_as_text_is_parsed_once_too(fresh: Any, parsed: list[str]) -> None:
    create = """CREATE TABLE t (id INT PRIMARY KEY, a TEXT DEFAULT upper('stored 1'),
    b INT DEFAULT 2 + 70, c TEXT DEFAULT concat('stored', CURRENT_USER()))"""
    s = fresh.session()
    s.execute(f"{create}; CREATE VIEW v AS SELECT id, a FROM t WHERE b > 71")
    parsed.clear()
    for sql in (
        "INSERT INTO t (id) VALUES (1), (2)",
        "INSERT INTO t (id, a) SELECT 3, 'x'",
        "UPDATE t SET a = DEFAULT, b = DEFAULT WHERE id = 3",
        "UPDATE t SET c = DEFAULT WHERE b > 0",
        "INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET b = DEFAULT",
    ):
        parsed.clear()
        s.execute(sql)
        assert parsed == [sql]
    s.execute("SELECT * FROM v")
    parsed.clear()
    for sql in ("SELECT id FROM v", "SELECT * FROM v a JOIN v b USING (id)", "DESCRIBE v"):
        s.execute(sql)
    assert parsed == ["SELECT id FROM v", "SELECT * FROM v a JOIN v b USING (id)"]


# --- placeholders ---------------------------------------------------------------------------------


@pytest.fixture
def t(s: Session) -> Session:
    s.execute("CREATE USER TABLE t (id INT PRIMARY KEY, v TEXT, n INT, d DOUBLE)")
    s.execute("INSERT INTO t VALUES (1, 'a', 10, 0.5), (2, 'b', 20, NULL)")
    return s


PLACED: list[tuple[str, list[object], list[tuple[object, ...]]]] = [
    ("SELECT ? FROM t WHERE ? = id", ["x", 1], [("x",)]),
    ("SELECT $2 || $1 || $2", ["a", "b"], [("bab",)]),
    ("SELECT id FROM t ORDER BY n * ? LIMIT ? OFFSET ?", [-1, 1, 1], [(1,)]),
    ("SELECT n + ?, n - ?, ? || v FROM t WHERE id = 1", ["5", 2.5, "x"], [(15, 7.5, "xa")]),
    ("SELECT CASE WHEN n > ? THEN ? ELSE ? END FROM t ORDER BY id", [15, "y", "z"],
     [("z",), ("y",)]),
    ("SELECT [?, ?][?], {'a': ?}.a", [7, 8, 2, "s"], [(8, "s")]),
    ("SELECT count(*) FILTER (WHERE n > ?) FROM t GROUP BY d IS NULL HAVING max(n) > ?", [1, 15],
     [(1,)]),
    ("WITH a AS (SELECT ? AS x) SELECT x FROM a WHERE x IN (?, ?)", [1, 2, 1], [(1,)]),
    ("SELECT id FROM t WHERE n = ? OR v LIKE ? OR id BETWEEN ? AND ?", [None, "b%", 5, 6], [(2,)]),
    ("SELECT id FROM (VALUES (?, ?)) v (id, x)", [1, 2], [(1,)]),
    ("SELECT sum(range) FROM range(?)", [4], [(6,)]),
    ("INSERT INTO t (id, v) VALUES (?, upper(?)), (?, ?) RETURNING id", [5, "e", 6, None],
     [(5,), (6,)]),
    ("INSERT INTO t (id, v) SELECT id + $1, $2 FROM t WHERE id = $3 RETURNING id, v", [50, "q", 1],
     [(51, "q")]),
    ("INSERT INTO t (id, n) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET n = excluded.n + ? "
     "WHERE t.n = ? RETURNING n", [1, 2, 10], [(3,)]),
    ("UPDATE t SET v = ?, n = n * ? WHERE id = ? RETURNING v, n, ?", ["w", 2, 2, "r"],
     [("w", 40, "r")]),
    ("DELETE FROM t WHERE id = ? AND v = ? RETURNING v || ?", [2, "w", "!"], [("w!",)]),
    ("EXECUTE AS USER 'mia' (INSERT INTO t (id, v) VALUES (?, ?) RETURNING v)", [1, "m"], [("m",)]),
    ("EXECUTE AS USER 'mia' (SELECT v FROM t WHERE id = ?)", [1], [("m",)]),
]  # fmt: skip


def test_a_placeholder_stands_for_one_value_wherever_an_expression_may(t: Session) -> None:
    for sql, params, expected in PLACED:
        assert t.execute(sql, params).rows() == expected, sql
    assert t.execute("EXPLAIN SELECT * FROM t WHERE id = ? LIMIT ?", [1, 2]).row_count > 0


def test_a_value_is_never_sql(t: Session) -> None:
    hostile = ["1 OR 1=1", "'; DROP TABLE t; --", "$1", "?", "NULL", "DEFAULT", '"id"', "now()"]
    for value in hostile:
        assert t.execute("SELECT ?, length(?)", [value, value]).rows() == [(value, len(value))]
        assert t.execute("SELECT id FROM t WHERE v = ?", [value]).rows() == []
        t.execute("UPDATE t SET v = ? WHERE id = 1", [value])
        assert t.execute("SELECT v FROM t WHERE id = 1").rows() == [(value,)]
        t.execute("INSERT INTO t (id, v) VALUES (9, ?)", [value])
        assert t.execute("DELETE FROM t WHERE v = ? AND id = 9", [value]).rows_affected == 1
    assert t.execute("SELECT count(*) FROM t").rows() == [(2,)]


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        (5, "INT", 5),
        (2**31, "BIGINT", 2**31),
        (-(2**63), "BIGINT", -(2**63)),
        (2**63, "DECIMAL(19, 0)", Decimal(2**63)),
        (10**38 - 1, "DECIMAL(38, 0)", Decimal(10**38 - 1)),
        (Decimal("1.50"), "DECIMAL(3, 2)", Decimal("1.50")),
        (1.5, "DOUBLE", 1.5),
        (math.inf, "DOUBLE", math.inf),
        (True, "BOOLEAN", True),
        (None, "TEXT" if VERSION >= (2, 0) else "INT", None),
    ],
)
def test_a_number_that_is_given_takes_the_type_it_fits(
    t: Session, value: object, kind: str, found: object
) -> None:
    answer = t.execute("SELECT ?", [value])
    assert (str(answer.types[0]), answer.rows()) == (kind, [(found,)])


@pytest.mark.parametrize("value", [10**38, -(10**40), Decimal("1E+50"), Decimal("1E+999999999")])
def test_a_number_that_fits_no_type_is_refused(t: Session, refused: Any, value: object) -> None:
    for sql in ("SELECT ?", "SELECT id FROM t WHERE n + 1 = ?", "SELECT id FROM t WHERE d > ?"):
        assert refused(t, sql, [value]).code == "OUT_OF_RANGE"
    assert refused(t, "UPDATE t SET n = ? WHERE id = 1", [value]).code == "OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "A parameter cannot be an object; use a Python scalar, list or dict"),
        (print, "A parameter cannot be a builtin_function_or_method; use a Python scalar, list or "
                "dict"),
        ("a\0b", None),
        ("\ud800", None),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused_without_being_shown(
    t: Session, refused: Any, value: object, message: str | None
) -> None:
    error = refused(t, "SELECT ?", [value])
    assert error.code in ("TYPE_MISMATCH", "INVALID_VALUE")
    assert message is None or str(error) == message
    assert refused(t, "UPDATE t SET v = ? WHERE id = 1", [value]).code == error.code


COMMANDS = {
    "CREATE NAMESPACE": "CREATE NAMESPACE n",
    "DROP NAMESPACE": "DROP NAMESPACE n",
    "ALTER NAMESPACE": "ALTER NAMESPACE n SET DESCRIPTION 'x'",
    "USE": "USE n",
    "CREATE TABLE": "CREATE TABLE n (a INT)",
    "DROP TABLE": "DROP TABLE n",
    "ALTER TABLE": "ALTER TABLE n ADD COLUMN a INT",
    "CREATE VIEW": "CREATE VIEW n AS SELECT 1 AS a",
    "DROP VIEW": "DROP VIEW n",
    "CREATE STORAGE": "CREATE STORAGE n TYPE filesystem PATH 'n'",
    "ALTER STORAGE": "ALTER STORAGE n SET NAME 'x'",
    "DROP STORAGE": "DROP STORAGE n",
    "STORAGE CHECK": "STORAGE CHECK n",
    "STORAGE FLUSH": "STORAGE FLUSH TABLE n",
    "STORAGE COMPACT": "OPTIMIZE n",
    "VACUUM": "VACUUM n",
    "ANALYZE": "ANALYZE n",
    "KILL JOB": "KILL JOB 'n'",
    "KILL LIVE QUERY": "KILL LIVE QUERY 'n'",
    "BACKUP": "BACKUP DATABASE n TO 'x'",
    "RESTORE": "RESTORE DATABASE n FROM 'x'",
    "REGISTER TABLE": "REGISTER TABLE n FROM 'x.csv'",
    "UNREGISTER TABLE": "UNREGISTER TABLE n",
    "CREATE USER": "CREATE USER 'n' INTERNAL ROLE user",
    "ALTER USER": "ALTER USER 'n' SET EMAIL 'e'",
    "DROP USER": "DROP USER 'n'",
    "BEGIN": "BEGIN",
    "COMMIT": "COMMIT",
    "ROLLBACK": "ROLLBACK",
    "SHOW TABLES": "SHOW TABLES",
    "SHOW JOBS": "SHOW JOBS",
    "DESCRIBE": "DESCRIBE n",
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_commands_take_no_parameters(s: Session, refused: Any, kind: str) -> None:
    error = refused(s, COMMANDS[kind], ["n"])
    assert (error.code, str(error)) == ("PARAMETERS", f"Parameters are not allowed in {kind}")


# --- scripts and what is reserved -----------------------------------------------------------------


def test_a_script_has_no_transaction_of_its_own_and_keeps_what_came_before(
    s: Session, mia: Session
) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')")
    seen: list[object] = []
    for text, count in [
        ("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); INSERT INTO t VALUES (1)", 2),
        ("INSERT INTO t VALUES (3);\nSELCT 1; INSERT INTO t VALUES (4)", 3),
        ("INSERT INTO t VALUES (5); SELECT * FROM gone; INSERT INTO t VALUES (6)", 4),
    ]:
        with pytest.raises(kalam.KalamError) as caught:
            s.execute(text)
        seen.append((caught.value.statement_number, caught.value.line))
        assert mia.execute("SELECT count(*) FROM t").rows() == [(count,)]
    assert seen == [(3, 1), (2, 2), (2, 1)]


RESERVED = [
    ("CREATE TOPIC x FROM t", "CREATE TOPIC"),
    ("DROP TOPIC x", "DROP TOPIC"),
    ("ALTER TOPIC x SET y", "ALTER TOPIC"),
    ("CLEAR TOPIC x", "CLEAR TOPIC"),
    ("CONSUME FROM x GROUP 'g'", "CONSUME"),
    ("ACK x 5", "ACK"),
    ("CLUSTER STATUS", "CLUSTER"),
    ("CLUSTER", "CLUSTER"),
]


def test_what_is_reserved_is_refused_by_name_to_every_role(
    s: Session, dora: Session, sven: Session, mia: Session, refused: Any
) -> None:
    for sql, name in RESERVED:
        for session in (s, dora, sven, mia):
            error = refused(session, sql)
            assert (error.code, str(error)) == ("NOT_SUPPORTED", f"{name} is not supported yet")
