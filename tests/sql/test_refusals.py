"""Statements that are known and refused."""

from __future__ import annotations

import pytest

from kalamdb_lab.errors import NotSupportedError, SqlSyntaxError
from kalamdb_lab.sql.parse import parse_script


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("TRUNCATE TABLE t", "TRUNCATE is not supported; use DELETE FROM t WHERE true"),
        ("GRANT ALL ON t TO u", "GRANT is not supported"),
        ("REVOKE ALL ON t FROM u", "REVOKE is not supported"),
        ("COPY t TO 'x'", "COPY is not supported"),
        ("ATTACH 'x'", "ATTACH is not supported"),
        ("PRAGMA x", "PRAGMA is not supported"),
        ("SET threads = 1", "SET is not supported"),
        ("SET TRANSACTION READ ONLY", "SET TRANSACTION is not supported"),
        ("SAVEPOINT a", "SAVEPOINT is not supported"),
        ("RELEASE a", "RELEASE is not supported"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION is not supported"),
        ("PREPARE p AS SELECT 1", "PREPARE is not supported"),
        ("SUMMARIZE t", "SUMMARIZE is not supported"),
        ("PIVOT t ON x USING sum(y)", "PIVOT is not supported"),
        ("INSTALL httpfs", "INSTALL is not supported"),
        ("LOAD httpfs", "LOAD is not supported"),
        ("CALL f()", "CALL is not supported"),
        ("CHECKPOINT", "CHECKPOINT is not supported"),
        ("CREATE SCHEMA x", "CREATE SCHEMA is not supported; use CREATE NAMESPACE"),
        ("CREATE SEQUENCE x", "CREATE SEQUENCE is not supported"),
        ("CREATE TRIGGER x", "CREATE TRIGGER is not supported"),
        ("CREATE MACRO f(a) AS a", "CREATE MACRO is not supported"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW is not supported"),
        ("CREATE UNIQUE INDEX i ON t (a)", "UNIQUE is not supported"),
        (
            "CREATE VECTOR INDEX i ON t USING ANN (e)",
            "CREATE VECTOR INDEX is not supported; use CREATE INDEX ... USING ANN",
        ),
        ("DROP VECTOR INDEX i", "DROP VECTOR INDEX is not supported; use DROP INDEX"),
        (
            "ALTER INDEX i RENAME TO j",
            "ALTER INDEX is not supported; drop the index and create it again",
        ),
        ("ALTER VIEW v AS SELECT 1", "ALTER VIEW is not supported; use CREATE OR REPLACE VIEW"),
        ("REPLACE INTO t VALUES (1)", "REPLACE INTO is not supported; use INSERT ... ON CONFLICT"),
        (
            "ALTER TABLE t ALTER COLUMN a TYPE INT",
            "ALTER COLUMN is not supported; use MODIFY COLUMN",
        ),
    ],
)
def test_refused_by_design(sql: str, message: str) -> None:
    with pytest.raises(NotSupportedError) as fault:
        parse_script(sql)
    assert str(fault.value) == message


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("CREATE TOPIC x", "CREATE TOPIC"),
        ("DROP TOPIC x", "DROP TOPIC"),
        ("CLEAR TOPIC x", "CLEAR TOPIC"),
        ("CONSUME FROM x", "CONSUME"),
        ("ACK x", "ACK"),
        ("CLUSTER LIST", "CLUSTER"),
    ],
)
def test_refused_until_it_is_built(sql: str, name: str) -> None:
    with pytest.raises(NotSupportedError) as fault:
        parse_script(sql)
    assert str(fault.value) == f"{name} is not supported yet"


@pytest.mark.parametrize("sql", ["SELCT 1", "CREATE FOO x", "DROP x", "ALTER x", "UPSERT INTO t"])
def test_what_nobody_knows_is_a_syntax_error(sql: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
        parse_script(sql)
