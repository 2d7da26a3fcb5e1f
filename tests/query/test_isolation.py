"""Random statements of one user while another's rows are registered in the same instance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from query_world import NOW_US, Catalog, World

from kalamdb_lab.errors import InternalError, KalamError
from kalamdb_lab.query.duck import DuckEngine
from kalamdb_lab.query.parameters import StatementContext
from kalamdb_lab.query.planner import Planner

SECRETS = ("SECRET", "9.99", "99999999-0000", "2001")
MARKER = "__k_0123456789abcdef"

OWN_NAMES = [
    "tracks",
    "genres",
    "studio.tracks",
    "mine",
    "range(2) AS r(id)",
    "(VALUES (1, 2)) AS v(id, title)",
    "unnest([1]) AS u(id)",
]
FOREIGN_NAMES = [
    "hr",
    "bob.tracks",
    "system.users",
    "duckdb_settings",
    "duckdb_views",
    "sqlite_master",
    "information_schema.tables",
    "pg_catalog.pg_class",
    MARKER,
    f'temp."{MARKER}"',
    f'temp.main."{MARKER}"',
    f'main."{MARKER}"',
    "'tracks'",
    "read_csv('x')",
    "query('SELECT 1')",
    f"query_table('{MARKER}')",
    "duckdb_columns()",
    "all_users('studio.tracks')",
]
OWN_VALUES = [
    "id",
    "title",
    "*",
    "count(*)",
    "t.title",
    "t.*",
    "max(title)",
    "_seq",
    "_deleted",
    "1",
    "'x'",
    "CURRENT_USER",
    "upper(title)",
    "CAST(title AS INT)",
    "CAST(title AS DATE)",
    "1 / (id - 1)",
    "list_aggregate([title], 'histogram')",
    "row_number() OVER (ORDER BY id)",
    "list_transform([id], lambda x: x + 1)",
]
FOREIGN_VALUES = [
    f'"{MARKER}"',
    f'"{MARKER}".title',
    "current_setting('temp_directory')",
    "getvariable('x')",
    "json_serialize_sql('SELECT 1')",
]
CTE_NAMES = ["tracks", "genres", "q", "r", "duckdb_settings", "users", MARKER]

names = st.sampled_from(OWN_NAMES * 20 + CTE_NAMES * 2 + FOREIGN_NAMES)
values = st.sampled_from(OWN_VALUES * 20 + FOREIGN_VALUES)


@st.composite
def selects(draw: st.DrawFn, depth: int = 2) -> str:
    source = draw(names if depth == 0 else st.one_of(names, subqueries(depth - 1)))
    alias = draw(st.sampled_from(["", " AS t", " AS a", " AS tracks"]))
    sql = f"SELECT {', '.join(draw(st.lists(values, min_size=1, max_size=3)))} FROM {source}"
    sql += "" if " AS " in source[-20:] else alias
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["JOIN", "LEFT JOIN", "FULL JOIN", "SEMI JOIN", "CROSS JOIN"]))
        other = draw(names if depth == 0 else st.one_of(names, subqueries(depth - 1)))
        sql += f" {kind} {other}" + (" AS b" if " AS " not in other[-20:] else "")
        sql += "" if kind == "CROSS JOIN" else draw(st.sampled_from([" ON true", " USING (id)"]))
    if draw(st.booleans()):
        inner = draw(selects(0)) if depth == 0 else draw(selects(depth - 1))
        sql += draw(
            st.sampled_from(
                [
                    " WHERE _deleted",
                    " WHERE id = 1",
                    " WHERE title LIKE '%'",
                    f" WHERE EXISTS ({inner})",
                    f" WHERE id IN ({inner})",
                    f" WHERE title > ANY ({inner})",
                ]
            )
        )
    if depth and draw(st.booleans()):
        joiner = draw(st.sampled_from([" UNION ALL ", " EXCEPT ", " INTERSECT ", " UNION "]))
        sql += joiner + draw(selects(depth - 1))
    return sql


@st.composite
def subqueries(draw: st.DrawFn, depth: int) -> str:
    return f"({draw(selects(depth))})"


@st.composite
def statements(draw: st.DrawFn) -> str:
    ctes = draw(st.lists(st.tuples(st.sampled_from(CTE_NAMES), selects(1)), max_size=3))
    recursive = draw(st.sampled_from(["", "RECURSIVE "]))
    body = draw(selects(2))
    if not ctes:
        return body
    return f"WITH {recursive}" + ", ".join(f"{n} AS ({sql})" for n, sql in ctes) + f" {body}"


@pytest.fixture(scope="module")
def bobs_rows(engine: DuckEngine) -> Iterator[None]:
    """A statement of bob that is open all the while, with a marker that alice knows."""
    secret = Catalog(user="bob").scan_all("tracks")
    _, batches = engine.stream(
        f'SELECT t.* FROM temp.main."{MARKER}" AS t, range(1000000000)', {MARKER: secret}, {}
    )
    assert next(batches).num_rows
    yield
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.slow
@settings(max_examples=100)
@given(sql=statements(), text=st.booleans())
def test_no_statement_shows_a_foreign_value(
    engine: DuckEngine, bobs_rows: None, sql: str, text: bool
) -> None:
    catalog = Catalog(user="alice")
    catalog.view("studio.mine", "SELECT id, title FROM studio.tracks")
    world = World(Planner(engine), catalog)
    shown, is_internal = "", False
    try:
        # Parsed by sqlglot alone: the gate must hold for trees that did not pass our lexer.
        tree = sqlglot.parse_one(sql, dialect="duckdb")
        plan = world.plan(tree, text=text)
        table = world.planner.execute(plan, catalog, (), StatementContext("alice", NOW_US))
        shown = str(table.slice(0, 2000).to_pydict())
    except KalamError as error:
        shown, is_internal = str(error), isinstance(error, InternalError)
    except sqlglot.ParseError:
        return
    assert not is_internal, sql
    assert not [secret for secret in SECRETS if secret in shown]
    assert MARKER not in shown.replace(f"'{MARKER}", "") or "not found" in shown


def test_the_secrets_are_there_to_be_found(world: World) -> None:
    """The twin: bob, and a dba by the road that is meant for it, do read them."""
    world.catalog.user = "bob"
    assert "SECRET" in str(world.rows("SELECT * FROM tracks"))


def test_a_dba_reads_all_users_by_name_only(dba: World) -> None:
    assert "SECRET" in str(dba.rows("SELECT title FROM all_users('studio.tracks') AS a"))


def test_a_plan_of_one_user_runs_with_the_rows_of_another_reader(engine: DuckEngine) -> None:
    plan = World(Planner(engine), Catalog(user="bob")).plan("SELECT title FROM tracks")
    table = Planner(engine).execute(plan, Catalog(), (), StatementContext("alice", NOW_US))
    assert sorted(table.column(0).to_pylist()) == ["Café", "Dawn", "Hill"]
