"""Names, CTEs, views and system columns, as a plan resolves them."""

from __future__ import annotations

import re

import pytest
import sqlglot
from query_world import World

from kalamdb_lab.errors import (
    AmbiguousError,
    InvalidDefinitionError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    SqlSyntaxError,
)


def columns_asked(world: World, sql: str) -> dict[str, tuple[str, ...]]:
    return {request.relation.name: request.columns for _, request in world.plan(sql).requests}


# --- CTEs -------------------------------------------------------------------------------


def test_a_cte_is_seen_by_later_ones_only(world: World) -> None:
    sql = "WITH x AS (SELECT * FROM genres), genres AS (SELECT 1 AS z) SELECT count(*) FROM x"
    assert world.value(sql) == 3
    with pytest.raises(NotFoundError, match=r"^Table 'studio.hr' not found$"):
        world.plan("WITH x AS (SELECT * FROM hr), hr AS (SELECT 1) SELECT * FROM x")


def test_a_later_cte_does_not_open_a_closed_table(world: World) -> None:
    with pytest.raises(PermissionDeniedError):
        world.plan("WITH x AS (SELECT * FROM system.users), users AS (SELECT 1) SELECT * FROM x")


def test_a_cte_shadows_a_table_but_not_its_full_name(world: World) -> None:
    assert world.rows("WITH genres AS (SELECT 5 AS n) SELECT n FROM genres") == [(5,)]
    assert world.value("WITH genres AS (SELECT 5) SELECT count(*) FROM studio.genres") == 3


def test_a_cte_may_read_the_table_it_shadows(world: World) -> None:
    sql = "WITH genres AS (SELECT code FROM genres WHERE rank = 1) SELECT * FROM genres"
    assert world.rows(sql) == [("jz",)]


def test_a_cte_of_a_subquery_ends_with_it(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.plan("SELECT * FROM (WITH q AS (SELECT 1) SELECT * FROM q) AS a, q")
    assert world.value("SELECT count(*) FROM (WITH q AS (SELECT 1) SELECT * FROM q) AS a") == 1


def test_a_recursive_cte_sees_itself(world: World) -> None:
    sql = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 4) "
    assert world.rows(sql + "SELECT sum(n) FROM r") == [(10,)]
    with pytest.raises(NotFoundError):
        world.plan("WITH r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT * FROM r")


def test_ctes_have_random_names_in_the_engine(world: World) -> None:
    plan = world.plan("WITH duckdb_settings AS (SELECT 1 AS a) SELECT a FROM duckdb_settings")
    assert re.search(r'"__c_[0-9a-f]{16}" AS "duckdb_settings"', plan.template)


def test_markers_cannot_be_guessed(world: World) -> None:
    first, second = (world.plan("SELECT id FROM tracks") for _ in range(2))
    assert first.requests[0][0] != second.requests[0][0]
    with pytest.raises(NotFoundError):
        world.plan(f'SELECT * FROM "{first.requests[0][0]}a"'.replace("__k_", "k_"))


# --- tables and aliases -----------------------------------------------------------------


def test_names_are_matched_without_regard_to_case(world: World) -> None:
    assert world.rows('SELECT TITLE, "ID" FROM "STUDIO".Tracks WHERE Id = 1') == [("Dawn", 1)]


def test_a_column_keeps_the_name_it_was_created_with(world: World) -> None:
    assert world.table("SELECT TITLE FROM tracks").column_names == ["title"]
    assert world.table('SELECT title AS "Track No" FROM tracks').column_names == ["Track No"]


def test_a_nameless_result_is_called_as_it_is_written(world: World) -> None:
    table = world.table(
        "SELECT count(*), sum(seconds / 2), (SELECT max(rank) FROM genres) FROM tracks"
    )
    assert table.column_names == ["count(*)", "sum(seconds / 2)", "max(rank)"]


def test_columns_may_be_written_with_namespace_and_table(world: World) -> None:
    sql = "SELECT studio.tracks.title FROM studio.tracks WHERE studio.tracks.id = 2"
    assert world.rows(sql) == [("Hill",)]
    sql = (
        "SELECT count(*) FROM studio.tracks WHERE EXISTS "
        "(SELECT 1 FROM genres WHERE code = studio.tracks.genre)"
    )
    assert world.value(sql) == 3


def test_an_alias_stands_once_in_from(world: World) -> None:
    with pytest.raises(InvalidDefinitionError, match=r"^Table or alias 'tracks' appears twice"):
        world.plan("SELECT * FROM tracks, tracks")
    assert world.value("SELECT count(*) FROM tracks AS a, tracks AS b") == 9


def test_a_table_is_no_value(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"^Column 'tracks' not found$"):
        world.plan("SELECT tracks FROM tracks")


def test_a_name_in_a_function_of_from_is_resolved_too(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.plan("SELECT * FROM range((SELECT max(id) FROM hr)) AS r")
    assert world.value("SELECT count(*) FROM range((SELECT max(id) FROM tracks)) AS r") == 3


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT (SELECT max(v) FROM {})",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM {})",
        "SELECT 1 WHERE 1 IN (SELECT 1 FROM {})",
        "SELECT 1 WHERE 1 = ANY (SELECT 1 FROM {})",
        "SELECT ARRAY(SELECT 1 FROM {})",
        "SELECT count(*) FILTER (WHERE EXISTS (SELECT 1 FROM {})) FROM tracks",
        "SELECT sum(id) OVER (ORDER BY (SELECT 1 FROM {})) FROM tracks",
        "SELECT 1 ORDER BY (SELECT 1 FROM {})",
        "SELECT 1 LIMIT (SELECT 1 FROM {})",
        "SELECT 1 UNION SELECT 1 FROM {}",
        "SELECT * FROM tracks JOIN {} ON true",
        "SELECT * FROM tracks JOIN genres ON EXISTS (SELECT 1 FROM {})",
        "SELECT * FROM tracks, LATERAL (SELECT * FROM {}) AS l",
        "SELECT * FROM (VALUES ((SELECT 1 FROM {}))) AS v(a)",
        "SELECT * FROM (tracks JOIN {} ON true)",
        "SELECT id FROM tracks GROUP BY id HAVING count(*) > (SELECT 1 FROM {})",
        "SELECT id FROM tracks QUALIFY row_number() OVER () > (SELECT 1 FROM {})",
        "SELECT CASE WHEN true THEN (SELECT 1 FROM {}) END",
        "SELECT list_transform([1], lambda x: (SELECT 1 FROM {}))",
        "SELECT {{'a': (SELECT 1 FROM {})}}",
        "SELECT * FROM unnest((SELECT [1] FROM {})) AS u",
        "SELECT DISTINCT ON ((SELECT 1 FROM {})) id FROM tracks",
        "SELECT * REPLACE ((SELECT 1 FROM {}) AS id) FROM tracks",
        "WITH a AS (SELECT * FROM {}) SELECT 1",
        "SELECT * FROM ((SELECT * FROM {})) AS s",
        "(SELECT * FROM {})",
    ],
)
def test_a_table_is_resolved_wherever_it_stands(world: World, sql: str) -> None:
    tree = sqlglot.parse_one(sql.format("system.users"), dialect="duckdb")
    with pytest.raises(PermissionDeniedError):
        world.plan(tree)
    tree = sqlglot.parse_one(sql.format("genres"), dialect="duckdb")
    assert "studio.genres" in [r.relation.name for _, r in world.plan(tree).requests]


# --- system columns ---------------------------------------------------------------------


def test_a_star_shows_no_system_columns_even_when_they_are_read(world: World) -> None:
    assert world.table("SELECT * FROM genres").column_names == ["code", "title", "rank"]
    table = world.table("SELECT *, _seq FROM genres WHERE NOT _deleted")
    assert table.column_names == ["code", "title", "rank", "_seq"]
    sql = "SELECT g.*, t.* EXCLUDE (title) FROM genres AS g JOIN tracks AS t ON t._seq = g._seq"
    assert not {"_seq", "_deleted"} & set(world.table(sql).column_names)


def test_a_star_shows_what_a_subquery_calls_seq(world: World) -> None:
    sql = "SELECT * FROM genres AS g JOIN (SELECT _seq FROM tracks) AS s ON g._seq = s._seq"
    assert world.table(sql).column_names == ["code", "title", "rank", "_seq"]


def test_the_star_of_a_join_with_a_name_has_all_columns(world: World) -> None:
    table = world.table("SELECT j.* FROM (genres AS g JOIN tracks AS t ON g.code = t.genre) AS j")
    assert len(table.column_names) == 16


def test_where_deleted_shows_deleted_rows_of_that_table(world: World) -> None:
    assert world.rows("SELECT id, title FROM tracks WHERE _deleted = true") == [(2, "Gone")]
    assert world.rows("SELECT title FROM tracks AS t WHERE t._deleted") == [("Gone",)]
    sql = "SELECT count(*) FROM tracks WHERE _deleted OR NOT _deleted"
    assert world.value(sql) == 4


def test_deleted_in_the_select_list_alone_does_not(world: World) -> None:
    assert world.rows("SELECT DISTINCT _deleted FROM tracks") == [(False,)]
    assert world.value("SELECT count(*) FROM (SELECT _deleted FROM tracks) WHERE _deleted") == 0


def test_deleted_rows_show_only_where_they_are_asked_for(world: World) -> None:
    sql = "SELECT (SELECT count(*) FROM tracks WHERE _deleted), count(*) FROM tracks"
    assert world.rows(sql) == [(1, 3)]
    sql = "SELECT count(*) FROM tracks AS t WHERE EXISTS (SELECT 1 FROM genres WHERE t._deleted)"
    assert world.value(sql) == 1


def test_seq_of_two_tables_is_ambiguous(world: World) -> None:
    message = r"^Column '_seq' is ambiguous: it is in t and g$"
    with pytest.raises(AmbiguousError, match=message):
        world.rows("SELECT _seq FROM tracks AS t JOIN genres AS g ON g.code = t.genre")


# --- what is read -----------------------------------------------------------------------


def test_only_columns_that_are_named_are_read(world: World) -> None:
    sql = "SELECT t.title FROM tracks AS t JOIN genres AS g ON g.code = t.genre WHERE g.rank > 1"
    asked = columns_asked(world, sql)
    assert asked["studio.tracks"] == ("title", "genre")
    assert asked["studio.genres"] == ("code", "rank")


def test_counting_reads_one_narrow_column(world: World) -> None:
    assert columns_asked(world, "SELECT count(*) FROM tracks") == {"studio.tracks": ("id",)}


def test_a_star_reads_all_columns_of_its_table_only(world: World) -> None:
    asked = columns_asked(world, "SELECT g.* FROM genres AS g, tracks AS t WHERE t.id = 1")
    assert asked["studio.genres"] == ("code", "title", "rank")
    assert asked["studio.tracks"] == ("id",)


def test_columns_are_read_in_order_where_an_alias_renames_them(world: World) -> None:
    assert world.rows("SELECT b FROM genres AS g(a, b) WHERE a = 'fk'") == [("Folk",)]


def test_equal_scans_are_one(world: World) -> None:
    assert len(world.plan("SELECT * FROM genres AS a, genres AS b").requests) == 1
    assert (
        len(world.plan("SELECT * FROM genres WHERE rank = 1 UNION SELECT * FROM genres").requests)
        == 2
    )


# --- views ------------------------------------------------------------------------------


def test_a_view_is_its_select(world: World) -> None:
    world.view(
        "studio.long", "SELECT id, seconds / 2 AS half FROM studio.tracks WHERE seconds > 60"
    )
    assert world.rows("SELECT half FROM long ORDER BY id") == [(350,), (90,)]
    assert world.rows("SELECT l.half FROM studio.long AS l WHERE id = 1") == [(350,)]
    assert world.rows("SELECT studio.long.half FROM studio.long WHERE id = 1") == [(350,)]


def test_a_view_may_name_its_columns_and_stand_on_views(world: World) -> None:
    world.view("studio.a", "SELECT id, title FROM studio.tracks")
    world.view("studio.b", "SELECT * FROM studio.a WHERE id < 3", ("n", "t"))
    assert world.rows("SELECT t FROM b WHERE n = 2") == [("Hill",)]


def test_a_view_does_not_see_the_ctes_of_its_reader(world: World) -> None:
    world.view("studio.v", "SELECT count(*) AS n FROM studio.genres")
    assert world.rows("WITH genres AS (SELECT 1) SELECT n FROM v") == [(3,)]
    world.view("studio.w", "WITH q AS (SELECT 7 AS n) SELECT n FROM q")
    assert world.rows("WITH q AS (SELECT 8 AS n) SELECT w.n, q.n FROM w, q") == [(7, 8)]


def test_a_view_keeps_the_meaning_of_text_inside_an_ibis_tree(world: World) -> None:
    world.view("studio.half", "SELECT id, seconds / 7 AS s FROM studio.tracks")
    tree = sqlglot.parse_one(
        "SELECT h.s, t.seconds / 7 AS x FROM half h JOIN tracks t USING (id) WHERE id = 1",
        dialect="duckdb",
    )
    assert world.rows(tree, text=False) == [(100, 100.0)]
    tree = sqlglot.parse_one("SELECT s, 1 / 2 AS x FROM half WHERE id = 2", dialect="duckdb")
    assert world.rows(tree, text=False) == [(25, 0.5)]


def test_a_view_has_the_rights_of_its_reader(world: World, dba: World) -> None:
    world.view("studio.v", "SELECT * FROM system.users")
    with pytest.raises(PermissionDeniedError):
        world.plan("SELECT * FROM v")
    dba.view("studio.v", "SELECT code FROM studio.genres")
    assert dba.value("SELECT count(*) FROM v") == 3


def test_what_a_view_misses_is_said_with_its_name(world: World) -> None:
    world.view("studio.v", "SELECT * FROM studio.gone")
    world.view("studio.c", "SELECT tempo FROM studio.tracks")
    world.view("studio.n", "SELECT id FROM studio.tracks", ("a", "b"))
    with pytest.raises(
        NotFoundError, match=r"^View studio.v references missing table studio.gone$"
    ):
        world.plan("SELECT * FROM v")
    with pytest.raises(NotFoundError, match=r"^View studio.c references missing column 'tempo'$"):
        world.rows("SELECT * FROM c")
    with pytest.raises(
        InvalidDefinitionError, match=r"^View studio.n lists 2 columns but its query returns 1$"
    ):
        world.rows("SELECT * FROM n")


def test_views_neither_turn_in_circles_nor_nest_without_end(world: World) -> None:
    world.view("studio.a", "SELECT * FROM studio.b")
    world.view("studio.b", "SELECT * FROM studio.a")
    with pytest.raises(InvalidDefinitionError, match=r"^View studio.a refers to itself$"):
        world.plan("SELECT * FROM a")
    for number in range(40):
        body = f"SELECT * FROM studio.v{number + 1}" if number < 39 else "SELECT 1 AS x"
        world.view(f"studio.v{number}", body)
    assert world.rows("SELECT * FROM v8") == [(1,)]
    with pytest.raises(InvalidDefinitionError, match=r"^Views nest deeper than 32$"):
        world.plan("SELECT * FROM v7")


# --- all_users --------------------------------------------------------------------------


def test_all_users_reads_every_scope_for_a_dba_only(world: World, dba: World) -> None:
    sql = (
        "SELECT user_id, count(*) AS n FROM all_users('studio.tracks') AS a GROUP BY ALL ORDER BY 1"
    )
    assert dba.rows(sql) == [("alice", 3), ("bob", 1)]
    with pytest.raises(
        PermissionDeniedError, match=r"^Permission denied: all_users\(\) needs role"
    ):
        world.plan(sql)


def test_all_users_takes_a_quoted_name_and_stands_in_no_view(dba: World) -> None:
    with pytest.raises(SqlSyntaxError, match=r"^Syntax error: expected a quoted table name"):
        dba.plan("SELECT * FROM all_users(tracks)")
    dba.view("studio.v", "SELECT * FROM all_users('studio.tracks')")
    with pytest.raises(NotSupportedError, match=r"^all_users\(\) is not supported in a view$"):
        dba.plan("SELECT * FROM v")


# --- size -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 95 + "1" + ")" * 95,
        "SELECT " + "abs(" * 95 + "1" + ")" * 95,
        "SELECT " + "CASE WHEN true THEN " * 95 + "1" + " END" * 95,
        "SELECT max(a) FROM " + "(SELECT * FROM " * 45 + "(SELECT 1 AS a)" + ")" * 45,
        "SELECT max(a) FROM (" + " UNION ALL ".join(["SELECT 1 AS a"] * 500) + ")",
        "SELECT 1 WHERE NOT (" + " OR ".join(["1 = 2"] * 500) + ")",
        "SELECT " + "1 / (" * 60 + "1" + ")" * 60,
    ],
    ids=["parens", "calls", "cases", "subqueries", "unions", "ors", "divisions"],
)
def test_deep_and_long_statements_are_planned(world: World, sql: str) -> None:
    assert world.rows(sql) == [(1,)]
