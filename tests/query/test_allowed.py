"""Every road out of a session's own data is refused at plan time, and its twin is allowed."""

from __future__ import annotations

import pytest
import sqlglot
from query_world import World
from sqlglot import exp

from kalamdb_lab.errors import (
    KalamError,
    NotAllowedError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
)
from kalamdb_lab.query import functions
from kalamdb_lab.query.allowed import check

FILES = [
    ("SELECT * FROM read_csv('x.csv')", "Table function 'read_csv' is not allowed"),
    ("SELECT * FROM read_parquet('x')", "Table function 'read_parquet' is not allowed"),
    ("SELECT * FROM read_json('x')", "Table function 'read_json' is not allowed"),
    ("SELECT * FROM read_text('x')", "Table function 'read_text' is not allowed"),
    ("SELECT * FROM read_blob('x')", "Table function 'read_blob' is not allowed"),
    ("SELECT * FROM read_duckdb('x')", "Table function 'read_duckdb' is not allowed"),
    ("SELECT * FROM glob('*')", "Table function 'glob' is not allowed"),
    ("SELECT * FROM sniff_csv('x')", "Table function 'sniff_csv' is not allowed"),
    ("SELECT * FROM parquet_metadata('x')", "Table function 'parquet_metadata' is not allowed"),
    ("SELECT * FROM parquet_scan('x')", "Table function 'parquet_scan' is not allowed"),
]
DYNAMIC = [
    ("SELECT * FROM query('SELECT 1')", "Table function 'query' is not allowed"),
    ("SELECT * FROM query_table('tracks')", "Table function 'query_table' is not allowed"),
    (
        "SELECT * FROM json_execute_serialized_sql('{}')",
        "Table function 'json_execute_serialized_sql' is not allowed",
    ),
    ("SELECT json_serialize_sql('SELECT 1')", "Function 'json_serialize_sql' is not allowed"),
    ("SELECT * FROM histogram('t', 'c')", "Table function 'histogram' is not allowed"),
    (
        "SELECT * FROM histogram_values('t', 'c')",
        "Table function 'histogram_values' is not allowed",
    ),
    ("SELECT * FROM summary(1)", "Table function 'summary' is not allowed"),
]
CATALOGS = [
    ("SELECT * FROM duckdb_settings()", "Table function 'duckdb_settings' is not allowed"),
    ("SELECT * FROM duckdb_tables()", "Table function 'duckdb_tables' is not allowed"),
    ("SELECT * FROM duckdb_secrets()", "Table function 'duckdb_secrets' is not allowed"),
    (
        "SELECT * FROM pragma_storage_info('t')",
        "Table function 'pragma_storage_info' is not allowed",
    ),
    ("SELECT current_setting('threads')", "Function 'current_setting' is not allowed"),
    ("SELECT current_database()", "Function 'current_database' is not allowed"),
    ("SELECT current_schema()", "Function 'current_schema' is not allowed"),
    ("SELECT current_query()", "Function 'current_query' is not allowed"),
    ("SELECT version()", "Function 'version' is not allowed"),
    ("SELECT pg_typeof(1)", "Function 'pg_typeof' is not allowed"),
    ("SELECT getenv('HOME')", "Function 'getenv' is not allowed"),
    ("SELECT getvariable('x')", "Function 'getvariable' is not allowed"),
    ("SELECT in_search_path('a', 'b')", "Function 'in_search_path' is not allowed"),
]
EFFECTS = [
    ("SELECT nextval('s')", "Function 'nextval' is not allowed"),
    ("SELECT setseed(0.5)", "Function 'setseed' is not allowed"),
    ("SELECT sleep_ms(1)", "Function 'sleep_ms' is not allowed"),
    ("SELECT write_log('x')", "Function 'write_log' is not allowed"),
    ("SELECT error('x')", "Function 'error' is not allowed"),
    ("SELECT __kalam_ulid(1)", "Function '__kalam_ulid' is not allowed"),
    (
        "SELECT __internal_decompress_string(1)",
        "Function '__internal_decompress_string' is not allowed",
    ),
    ("SELECT main.upper('x')", "Function 'main.upper' is not allowed"),
    ("SELECT list_aggregate([1], 'bitstring_agg')", "Function 'bitstring_agg' is not allowed"),
    ("SELECT list_reduce([1, 2], lambda a, b: a + b)", "Function 'list_reduce' is not allowed"),
    ("SELECT * FROM LATERAL read_csv('x') AS l", "Function 'read_csv' is not allowed"),
]


@pytest.mark.parametrize(("sql", "message"), FILES + DYNAMIC + CATALOGS + EFFECTS)
def test_is_refused_by_name(world: World, sql: str, message: str) -> None:
    with pytest.raises(KalamError) as caught:
        world.plan(sql)
    assert str(caught.value) == message
    assert isinstance(caught.value, NotAllowedError)


@pytest.mark.parametrize(
    ("sql", "value"),
    [
        ("SELECT count(*) FROM range(3)", 3),
        ("SELECT count(*) FROM generate_series(1, 3)", 3),
        ("SELECT count(*) FROM unnest([1, 2])", 2),
        ("SELECT upper('x')", "X"),
        ("SELECT list_aggregate([1, 2], 'max')", 2),
        (
            "SELECT max(h) IS NOT NULL FROM (SELECT histogram(id) AS h FROM tracks)",
            True,
        ),
        ("SELECT typeof(1)", "INTEGER"),
        ("SELECT list_sum(list_transform([1, 2], lambda x: x + 1))", 5),
        ("SELECT length(ULID())", 26),
    ],
)
def test_is_allowed(world: World, sql: str, value: object) -> None:
    assert world.value(sql) == value


@pytest.mark.parametrize(
    "name",
    [
        "duckdb_settings",
        "duckdb_tables",
        "sqlite_master",
        "pragma_database_list",
        "information_schema.tables",
        "pg_catalog.pg_class",
        "main.tracks",
        "temp.tracks",
        "local_frame",
        "secret",
    ],
)
def test_what_the_catalog_does_not_hold_is_no_table(world: World, name: str) -> None:
    local_frame = [1]
    assert local_frame
    with pytest.raises(NotFoundError, match=r"^Table '.*' not found"):
        world.plan(f"SELECT * FROM {name}")


def test_the_system_namespace_is_refused_before_it_is_looked_up(world: World) -> None:
    for name in ("system.users", '"SYSTEM".planets', "System.users AS tracks"):
        with pytest.raises(PermissionDeniedError, match=r"^Only 'dba' and 'system' roles"):
            world.plan(f"SELECT * FROM {name}")


def test_a_path_is_no_table(world: World) -> None:
    for text in ('"/etc/passwd"', '"x.csv"', 'studio."../x"'):
        with pytest.raises(NotAllowedError, match=r"^A quoted text is not a table name$"):
            world.plan(f"SELECT * FROM {text}")
    assert world.value('SELECT count(*) FROM "tracks"') == 3


def test_an_unknown_function_is_not_found_and_a_near_miss_is_named(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"^Function 'wobble' not found$"):
        world.plan("SELECT wobble(1)")
    with pytest.raises(NotFoundError, match=r"^Function 'uper' not found; did you mean 'upper'\?$"):
        world.plan("SELECT uper('x')")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT COLUMNS(*) FROM tracks", "COLUMNS(...) is not supported"),
        ("SELECT * FROM tracks NATURAL JOIN genres", "NATURAL JOIN is not supported; use USING"),
        (
            "SELECT age(added) FROM tracks",
            "age() of one argument is not supported; use age(NOW(), t)",
        ),
    ],
)
def test_is_not_supported_by_name(world: World, sql: str, message: str) -> None:
    with pytest.raises(NotSupportedError) as caught:
        world.plan(sql)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "INSTALL httpfs",
        "ATTACH 'x.db' AS x",
        "COPY tracks TO 'x'",
        "CREATE TABLE x (a INT)",
        "CREATE MACRO lower(a) AS 1",
        "DROP TABLE tracks",
        "SET threads = 1",
        "USE x",
        "PRAGMA database_list",
        "DESCRIBE tracks",
        "SHOW TABLES",
        "SUMMARIZE tracks",
        "CALL pragma_version()",
        "INSERT INTO tracks VALUES (1)",
        "UPDATE tracks SET id = 1",
        "DELETE FROM tracks",
        "EXPLAIN SELECT 1",
        "VACUUM",
        "SELECT * INTO x FROM tracks",
        "SELECT * FROM tracks TABLESAMPLE 10%",
        "SELECT * FROM tracks PIVOT (sum(id) FOR genre IN ('jz'))",
        "PREPARE p AS SELECT 1",
        "SELECT [x for x in [1, 2]]",
        "LOAD httpfs",
        "SELECT * FROM tracks FOR SYSTEM_TIME AS OF '2020-01-01'",
    ],
)
def test_a_tree_of_another_kind_is_refused_whoever_parsed_it(world: World, text: str) -> None:
    """An ibis tree comes without our parser: the gate must hold by itself."""
    tree = sqlglot.parse_one(text, dialect="duckdb")
    with pytest.raises(KalamError):
        world.plan(tree, text=True)


def test_every_allowed_node_and_function_is_on_a_literal_list() -> None:
    assert not functions.ALLOWED & functions.REFUSED
    assert functions.ALLOWED.isdisjoint({"read_csv", "query", "getenv", "current_setting", "error"})
    with pytest.raises(NotSupportedError):
        check(exp.Select(expressions=[exp.Command(this="SHOW", expression="x")]), text=True)
    check(sqlglot.parse_one("SELECT 1"), text=True)


def test_a_star_stands_in_a_select_list_or_in_count(world: World) -> None:
    assert world.value("SELECT count(*) FROM tracks") == 3
    tree = sqlglot.parse_one("SELECT coalesce(*) FROM tracks", dialect="duckdb")
    with pytest.raises(KalamError):
        world.plan(tree)


def test_a_tuple_of_nodes_is_refused() -> None:
    """sqlglot prints the nodes of a tuple but does not walk them, so nobody would check them."""
    setting = exp.Anonymous(this="current_setting", expressions=[exp.Literal.string("threads")])
    order = exp.Order(expressions=(exp.Ordered(this=setting),))
    tree = exp.select("1")
    tree.set("order", order)
    assert "current_setting" in tree.sql().lower()
    with pytest.raises(NotSupportedError, match=r"^A tuple in ORDER is not supported"):
        check(tree, text=False)
    order.set("expressions", list(order.expressions))
    with pytest.raises(NotAllowedError, match=r"current_setting"):
        check(tree, text=False)


def test_functions_of_the_session_are_allowed_by_name() -> None:
    tree = exp.select(exp.Anonymous(this="Mine_0", expressions=[]))
    assert check(tree, text=False, local={"mine_0", "other_0"}) == {"mine_0"}
    with pytest.raises(NotFoundError):
        check(tree, text=False)
