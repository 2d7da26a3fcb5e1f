"""The engine's own reading of a text, for texts that our tree would never produce."""

from __future__ import annotations

import logging

import pytest

from kalamdb_lab.errors import InternalError, NotAllowedError
from kalamdb_lab.query.duck import DuckEngine, EngineError
from kalamdb_lab.query.second_opinion import confirm

MARKERS = frozenset({"__k_1"})
CTES = frozenset({"__c_1"})

ALLOWED = [
    "SELECT 1",
    "VALUES (1, 2)",
    'SELECT a, count(*) FROM temp.main."__k_1" AS t WHERE a > $p1 GROUP BY ALL ORDER BY 1 LIMIT 2',
    'WITH "__c_1" AS MATERIALIZED (SELECT 1 AS a) SELECT * FROM "__c_1" AS x',
    'WITH RECURSIVE "__c_1"(n) AS (SELECT 1 UNION SELECT n FROM "__c_1") SELECT n FROM "__c_1"',
    'SELECT * EXCLUDE (t."_seq") FROM temp.main."__k_1" AS t JOIN temp.main."__k_1" AS u USING (a)',
    "SELECT * FROM range(3), generate_series(1, 2), unnest([1]), (VALUES (1)) AS v(a)",
    "SELECT CASE WHEN a BETWEEN 1 AND 2 THEN -a ELSE a // 2 END FROM (SELECT 1 AS a)",
    "SELECT sum(a) OVER (PARTITION BY a ORDER BY a) FROM (SELECT 1 a) QUALIFY rank() OVER () = 1",
    "SELECT list_transform([1], lambda x: x + 1), {'a': 1}, MAP {'a': 1}, [1][1], x'00'::BLOB",
    "SELECT 'a' LIKE 'b', 'a' ILIKE 'b', 'a' SIMILAR TO 'b', '{}' -> 'a', '{}' ->> 'a', 1 IN (1)",
    "SELECT 1.5::DECIMAL(9, 2), [1]::FLOAT[1], 'x' COLLATE NOCASE, EXISTS (SELECT 1), (SELECT 1)",
    "SELECT a FROM (SELECT 1 AS a) GROUP BY ROLLUP (a) UNION SELECT 2 EXCEPT ALL SELECT 3",
    "SELECT DATE '2030-01-01' + INTERVAL '1 day', TIMESTAMPTZ '2030-01-01' AT TIME ZONE 'UTC'",
    "SELECT grouping(a), error('x'), __kalam_ulid(1) FROM (SELECT 1 AS a) GROUP BY CUBE (a)",
]
REFUSED = [
    "SELECT * FROM tracks",
    'SELECT * FROM "__k_1"',
    'SELECT * FROM main."__k_1"',
    'SELECT * FROM memory.main."__k_1"',
    'SELECT * FROM temp.main."__k_2"',
    'SELECT * FROM "__c_2"',
    "SELECT * FROM duckdb_settings",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM (SHOW TABLES)",
    "SELECT * FROM (DESCRIBE SELECT 1)",
    "SELECT * FROM (SUMMARIZE SELECT 1)",
    "SHOW TABLES",
    "TABLE tracks",
    "SELECT 1; SELECT 2",
    "CREATE TABLE x AS SELECT 1",
    "COPY (SELECT 1) TO '/tmp/x'",
    "SELECT COLUMNS(*) FROM tracks",
    'SELECT * FROM temp.main."__k_1" PIVOT (sum(a) FOR b IN (1))',
    'SELECT * FROM temp.main."__k_1" AT (VERSION => 1)',
    "SELECT (SELECT max(a) FROM tracks)",
    "SELECT list_transform([1], lambda x: nextval('s'))",
    "SELECT a.b.upper('x')",
]


@pytest.mark.parametrize("sql", ALLOWED)
def test_a_select_of_its_own_relations_is_confirmed(engine: DuckEngine, sql: str) -> None:
    confirm(engine, sql, MARKERS, CTES)


@pytest.mark.parametrize("sql", REFUSED)
def test_anything_else_is_not_run(
    engine: DuckEngine, sql: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.CRITICAL),
        pytest.raises((InternalError, NotAllowedError, EngineError)),
    ):
        confirm(engine, sql, MARKERS, CTES)


def test_only_the_files_of_the_plan_may_be_read(engine: DuckEngine) -> None:
    sql = "SELECT a FROM read_parquet(['/x/a.parquet', '/x/b''s.parquet']) AS f WHERE a > 1"
    confirm(engine, sql, MARKERS, CTES, frozenset({"/x/a.parquet", "/x/b's.parquet"}))
    for files in ((), ("/x/a.parquet",)):
        with pytest.raises((InternalError, NotAllowedError)):
            confirm(engine, sql, MARKERS, CTES, frozenset(files))
    for argument in ("'/x/*.parquet'", "$p1", "'/x/' || 'a.parquet'", "(SELECT '/x/a.parquet')"):
        with pytest.raises((InternalError, NotAllowedError)):
            confirm(
                engine,
                f"SELECT a FROM read_parquet({argument}) AS f",
                MARKERS,
                CTES,
                frozenset({"/x/a.parquet"}),
            )


@pytest.mark.parametrize("name", ["current_setting", "getvariable", "nextval", "write_log"])
def test_a_refused_function_is_named(engine: DuckEngine, name: str) -> None:
    with pytest.raises(NotAllowedError, match=rf"^Function '{name}' is not allowed$"):
        confirm(engine, f"SELECT {name}('x')", MARKERS, CTES)


def test_a_disagreement_says_nothing_but_is_logged(
    engine: DuckEngine, caplog: pytest.LogCaptureFixture
) -> None:
    message = r"^The statement could not be planned safely; it was not run$"
    with caplog.at_level(logging.ERROR), pytest.raises(InternalError, match=message):
        confirm(engine, "SELECT * FROM hidden", MARKERS, CTES)
    assert "hidden" in caplog.text
