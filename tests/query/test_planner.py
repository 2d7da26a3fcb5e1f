"""Plans and their execution: parameters, Parquet beside Arrow, streams, description, caching."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_world import NOW_US, ROWS, Catalog, World, relation_of, table_of

from kalamdb_lab.arrow.schemas import extended, kalam_type
from kalamdb_lab.errors import (
    DivisionByZeroError,
    InterruptedStatementError,
    LimitError,
    NotFoundError,
    ParametersError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.query.cancellation import Cancellation
from kalamdb_lab.query.duck import Bounds, DuckEngine
from kalamdb_lab.query.parameters import StatementContext
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.plan_cache import PlanCache
from kalamdb_lab.query.planner import Planner
from kalamdb_lab.query.relations import ArrowPart, BoundPredicate, ParquetPart, Part, ScanRequest

CONTEXT = StatementContext("alice", NOW_US)

# --- types ------------------------------------------------------------------------------


def test_every_type_comes_back_as_it_went_in(world: World) -> None:
    table = world.table("SELECT * FROM tracks ORDER BY id")
    wanted = [str(column.data_type) for column in relation_of("tracks").columns]
    assert [str(kalam_type(field)) for field in table.schema] == wanted
    assert world.rows("SELECT code, doc, mood, gap, tags FROM tracks WHERE id = 1") == [
        (
            uuid.UUID("00000000-0000-7000-8000-000000000001"),
            '{"a": {"b": 1}, "k": [1, 2]}',
            [1.0, 0.0],
            dt.timedelta(days=1),
            ["x", "y"],
        )
    ]


def test_an_empty_answer_has_columns_and_no_rows(world: World) -> None:
    table = world.table("SELECT id, title, sum(seconds) AS s FROM tracks WHERE false GROUP BY ALL")
    assert (table.num_rows, table.column_names) == (0, ["id", "title", "s"])


def test_names_may_repeat(world: World) -> None:
    sql = "SELECT g.title, t.title FROM genres AS g JOIN tracks AS t ON g.code = t.genre"
    assert world.table(sql).column_names == ["title", "title"]


# --- parameters -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found", "type_"),
    [
        (5, 5, "INT"),
        (2**40, 2**40, "BIGINT"),
        (2**70, Decimal(2**70), "DECIMAL(22, 0)"),
        (-(2**63), -(2**63), "BIGINT"),
        (1.5, 1.5, "DOUBLE"),
        (True, True, "BOOLEAN"),
        ("x'; --", "x'; --", "TEXT"),
        (b"\x00\xff", b"\x00\xff", "BYTES"),
        (Decimal("1.25"), Decimal("1.25"), "DECIMAL(3, 2)"),
        (Decimal("1E+5"), Decimal(100_000), "DECIMAL(6, 0)"),
        (dt.date(2030, 1, 2), dt.date(2030, 1, 2), "DATE"),
        (dt.time(1, 2, 3), dt.time(1, 2, 3), "TIME"),
        (uuid.UUID(int=7), uuid.UUID(int=7), "UUID"),
        (np.int32(7), 7, "INT"),
        (np.float32(0.5), 0.5, "DOUBLE"),
        ([1.5, 2.0], [1.5, 2.0], "DOUBLE[]"),
        (np.array([1.5, 2.0]), [1.5, 2.0], "DOUBLE[]"),
        ((1, 2), [1, 2], "INT[]"),
    ],
)
def test_a_parameter_is_a_value_of_its_type(
    world: World, value: object, found: object, type_: str
) -> None:
    assert world.rows("SELECT ?", value) == [(found,)]
    assert world.type("SELECT ?", value) == type_


def test_null_finds_nothing(world: World) -> None:
    assert world.rows("SELECT id FROM tracks WHERE id = ?", None) == []
    assert world.rows("SELECT ? IS NULL", None) == [(True,)]


@pytest.mark.parametrize(
    ("condition", "value", "ids"),
    [
        ("code = ?", "00000000-0000-7000-8000-000000000002", [2]),
        ("code = ?", "00000000-0000-7000-8000-000000000002".upper(), [2]),
        ("code = ?", uuid.UUID("00000000-0000-7000-8000-000000000002"), [2]),
        ("day = ?", "2029-02-01", [2]),
        ("day = ?", dt.date(2029, 2, 1), [2]),
        ("added > ?", "2029-01-15 00:00:00", [2]),
        ("added = ?", dt.datetime(2029, 2, 1, 10, tzinfo=dt.UTC), [2]),
        ("added = ?", "2029-02-01 12:00:00+02", [2]),
        ("price = ?", "2.25", [2]),
        ("price < ?", Decimal("2.00"), [1]),
        ("price = ?", 2.25, [2]),
        ("seconds = ?", "180", [2]),
        ("score = ?", 1.5, [2]),
        ("id IN (?, 3)", np.int64(2), [2, 3]),
        ("title = ?", "Café", [3]),
        ("title LIKE ?", "H%", [2]),
        ("doc ->> 'a' IS NOT NULL AND id >= ?", 1, [1]),
    ],
)
def test_a_parameter_takes_the_type_of_what_it_meets(
    world: World, condition: str, value: object, ids: list[int]
) -> None:
    found = world.rows(f"SELECT id FROM tracks WHERE {condition} ORDER BY id", value)
    assert [row[0] for row in found] == ids


def test_parameters_stand_in_limit_and_offset_and_may_repeat(world: World) -> None:
    assert world.rows("SELECT id FROM tracks ORDER BY id LIMIT ? OFFSET ?", 1, 1) == [(2,)]
    assert world.rows("SELECT $2, $1, $2", 1, 2) == [(2, 1, 2)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1,), "Expected 2 parameters, got 1"),
        ((), "Expected 2 parameters, got 0"),
    ],
)
def test_parameters_are_counted(world: World, values: tuple[int, ...], message: str) -> None:
    with pytest.raises(ParametersError) as caught:
        world.rows("SELECT ?, ?", *values)
    assert str(caught.value) == message


def test_what_no_type_holds_is_refused(world: World) -> None:
    with pytest.raises(ValueOutOfRangeError):
        world.rows("SELECT ?", 10**40)
    with pytest.raises(TypeMismatchError, match=r"^A parameter cannot be a function"):
        world.rows("SELECT ?", lambda: 1)


@given(text=st.text().filter(lambda text: "\0" not in text))
def test_a_text_parameter_never_changes_the_statement(engine: DuckEngine, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    world = World(Planner(engine), Catalog())
    sql = "SELECT ? AS v, count(*) AS n FROM tracks WHERE title <> ?"
    assert world.rows(sql, text, text) == [(text, 3)]


# --- predicates -------------------------------------------------------------------------


def predicates_of(world: World, sql: str, *parameters: object) -> dict[str, set[str]]:
    world.catalog.scanned.clear()
    world.rows(sql, *parameters)
    return {
        request.relation.name: {f"{p.column} {p.op} {p.values}" for p in predicates}
        for request, predicates in world.catalog.scanned
    }


def test_conditions_of_where_reach_the_scan(world: World) -> None:
    sql = (
        "SELECT 1 FROM tracks WHERE id = ? AND seconds > 5 AND 9 >= seconds AND title IS NOT NULL "
        "AND day BETWEEN '2029-01-01' AND DATE '2029-12-31' AND (genre IN ('a', ?)) AND NOT id = 9"
    )
    assert predicates_of(world, sql, 3, "b")["studio.tracks"] == {
        "id = (3,)",
        "seconds > (5,)",
        "seconds <= (9,)",
        "title is not null ()",
        "day >= (21550,)",
        "day <= (21914,)",
        "genre in ('a', 'b')",
    }


@pytest.mark.parametrize(
    "condition",
    [
        "id = 1 OR seconds = 2",
        "id + 1 = 2",
        "id = seconds",
        "seconds > 2.5",
        "id = NULL",
        "title = 5",
        "abs(id) = 1",
        "day = CAST('2029-01-01 10:00:00' AS TIMESTAMP)",
    ],
)
def test_other_conditions_do_not(world: World, condition: str) -> None:
    world.catalog.scanned.clear()
    with suppress(TypeMismatchError):
        world.rows(f"SELECT 1 FROM tracks WHERE {condition}")
    assert [p for _, bound in world.catalog.scanned for p in bound] == []


def test_conditions_belong_to_the_table_they_name(world: World) -> None:
    sql = (
        "SELECT 1 FROM tracks AS t JOIN genres AS g ON g.code = t.genre WHERE rank = 1 AND t.id = 2"
    )
    assert predicates_of(world, sql) == {
        "studio.tracks": {"id = (2,)"},
        "studio.genres": {"rank = (1,)"},
    }
    sql = "SELECT 1 FROM tracks AS a, tracks AS b WHERE a.id = 1 AND b.id = 2"
    world.catalog.scanned.clear()
    world.rows(sql)
    assert len(world.catalog.scanned) == 2


def test_a_null_test_across_an_outer_join_is_left_alone(world: World) -> None:
    sql = "SELECT 1 FROM genres g LEFT JOIN tracks t ON g.code = t.genre WHERE t.id IS NULL"
    assert predicates_of(world, sql)["studio.tracks"] == set()
    sql = "SELECT 1 FROM genres g LEFT JOIN tracks t ON g.code = t.genre WHERE t.id = 1"
    assert predicates_of(world, sql)["studio.tracks"] == {"id = (1,)"}
    sql = "SELECT 1 FROM genres g ASOF JOIN tracks t ON g.rank >= t.id WHERE t.seconds = 1"
    assert predicates_of(world, sql)["studio.tracks"] == set()


# --- Parquet ----------------------------------------------------------------------------


@dataclass
class Files:
    """Tracks of alice in two Parquet files and in memory; names in the files are column ids."""

    folder: Path
    removed: tuple[int, ...] = ()
    deleted: tuple[int, ...] = ()

    def scan(
        self, request: ScanRequest, predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        if request.relation.name == "studio.genres":
            return Catalog().scan(request, predicates)
        names = [column.name for column in request.relation.columns]
        rows = extended(table_of("tracks", ROWS["alice", "tracks"]))
        rows = rows.rename_columns([f"c{at}" for at in range(len(names))] + ["_seq"])
        paths = []
        for part, slice_ in enumerate((rows.slice(0, 1), rows.slice(1, 1))):
            paths.append(str(self.folder / f"s-{part}.parquet"))
            pq.write_table(slice_.drop_columns(["c11"]), paths[-1])  # intervals have no place
        projections = tuple(
            (f'"c{names.index(name)}"' if name in names else '"_seq"', name)
            for name in request.columns
            if name != "_deleted"
        )
        file = ParquetPart(
            tuple(paths),
            (str(self.folder),),
            projections,
            removed=np.array(self.removed, np.int64),
            deleted=np.array(self.deleted, np.int64),
        )
        memory = table_of("tracks", ROWS["alice", "tracks"][2:], first_seq=3)
        memory = memory.append_column("_deleted", pa.array([False], pa.bool_()))
        return (file, ArrowPart(memory.select(list(request.columns))))


def run(world: World, files: Files, sql: str, *parameters: object) -> pa.Table:
    return world.planner.execute(world.plan(sql), files, parameters, CONTEXT)


def test_files_and_memory_are_one_table(world: World, tmp_path: Path) -> None:
    files = Files(tmp_path)
    for sql in (
        "SELECT id, title, price, score, day, added, code, doc, mood, tags FROM tracks ORDER BY 1",
        "SELECT id, _seq, code, doc, tags FROM tracks ORDER BY id",
        "SELECT genre, sum(seconds), max(mood[1]) FROM tracks GROUP BY genre ORDER BY genre",
        "SELECT t.id, g.title FROM tracks t JOIN genres g ON g.code = t.genre ORDER BY 1",
        "SELECT count(*) FROM tracks a, tracks b WHERE a.id = 1",
        "SELECT id FROM tracks WHERE code = '00000000-0000-7000-8000-000000000002'",
        "SELECT doc -> 'a' FROM tracks WHERE id = 1",
    ):
        found, wanted = run(world, files, sql), world.table(sql)
        assert found.equals(wanted), sql
        assert found.schema.equals(wanted.schema, check_metadata=True)


def test_parameters_reach_the_files(world: World, tmp_path: Path) -> None:
    found = run(
        world, Files(tmp_path), "SELECT id FROM tracks WHERE id = ? OR title = ?", 2, "Café"
    )
    assert sorted(found.column(0).to_pylist()) == [2, 3]


def test_removed_versions_are_left_out(world: World, tmp_path: Path) -> None:
    files = Files(tmp_path, removed=(1,))
    found = run(world, files, "SELECT id, _deleted FROM tracks ORDER BY id")
    assert found.to_pydict() == {"id": [2, 3], "_deleted": [False, False]}
    assert run(world, Files(tmp_path), "SELECT count(*) FROM tracks").column(0)[0].as_py() == 3


def test_deleted_versions_show_where_they_are_asked_for(world: World, tmp_path: Path) -> None:
    files = Files(tmp_path, deleted=(2,))
    found = run(world, files, "SELECT id FROM tracks WHERE _deleted")
    assert found.column(0).to_pylist() == [2]
    found = run(world, files, "SELECT id FROM tracks WHERE NOT _deleted ORDER BY 1")
    assert found.column(0).to_pylist() == [1, 3]


def test_no_part_with_rows_is_an_empty_table(world: World) -> None:
    class Nothing:
        def scan(self, request: ScanRequest, predicates: object) -> tuple[Part, ...]:
            return (ParquetPart((), (), ()),)

    plan = world.plan("SELECT count(*), max(code) FROM tracks")
    found = world.planner.execute(plan, Nothing(), (), CONTEXT)  # type: ignore[arg-type]
    assert found.column(0).to_pylist() == [0]


def test_a_path_is_quoted(world: World, tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s $1 "here"'
    folder.mkdir()
    assert run(world, Files(folder), "SELECT count(*) FROM tracks").column(0)[0].as_py() == 3


# --- running ----------------------------------------------------------------------------


def test_a_plan_runs_for_many_and_at_the_same_time(world: World) -> None:
    plan = world.plan("SELECT title FROM tracks WHERE id = ? AND CURRENT_USER = ?")
    found: list[object] = []

    def read(user: str) -> None:
        catalog = Catalog(user=user)
        for _ in range(20):
            table = world.planner.execute(plan, catalog, (1, user), StatementContext(user, NOW_US))
            found.append((user, *table.column(0).to_pylist()))

    threads = [threading.Thread(target=read, args=(user,)) for user in ("alice", "bob") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {("alice", "Dawn"), ("bob", "SECRET")}
    assert len(found) == 80


def test_a_stream_gives_the_same_rows(world: World) -> None:
    plan = world.plan(
        "SELECT id, code, sum(seconds) OVER (ORDER BY id) AS s FROM tracks ORDER BY id"
    )
    reader = world.planner.stream(plan, world.catalog, (), CONTEXT, batch_rows=1)
    table = world.planner.execute(plan, world.catalog, (), CONTEXT)
    assert reader.schema.equals(table.schema, check_metadata=True)
    assert reader.read_all().equals(table)


def test_a_stream_tells_a_late_fault_in_our_words(world: World) -> None:
    plan = world.plan("SELECT 1 / (r.range - 500000) FROM range(1000000) AS r")
    reader = world.planner.stream(plan, world.catalog, (), CONTEXT, batch_rows=1000)
    with pytest.raises((DivisionByZeroError, pa.ArrowException), match="Division by zero"):
        reader.read_all()


def test_a_result_is_bounded(world: World) -> None:
    sql = "SELECT a.id FROM tracks AS a, tracks AS b"
    assert world.table(sql, bounds=Bounds(rows=9)).num_rows == 9
    with pytest.raises(LimitError, match=r"^The result exceeds the limit of 8 rows; use LIMIT$"):
        world.table(sql, bounds=Bounds(rows=8))


def test_a_statement_is_interrupted(world: World) -> None:
    plan = world.plan("SELECT count(*) FROM range(100000000) AS a, range(100000000) AS b")
    stop = Cancellation()
    threading.Timer(0.1, stop.cancel).start()
    with pytest.raises(InterruptedStatementError):
        world.planner.execute(plan, world.catalog, (), CONTEXT, cancellation=stop)
    assert world.value("SELECT 1") == 1


def test_describing_reads_nothing(world: World) -> None:
    plan = world.plan(
        "SELECT id, code, sum(seconds) AS s, ? AS p, 1 / 0 AS z FROM tracks GROUP BY ALL"
    )
    world.catalog.scanned.clear()
    schema = world.planner.describe(plan, ("x",), CONTEXT)
    assert [(field.name, str(kalam_type(field))) for field in schema] == [
        ("id", "BIGINT"),
        ("code", "UUID"),
        ("s", "BIGINT"),
        ("p", "TEXT"),
        ("z", "INT"),
    ]
    assert world.catalog.scanned == []


def test_describing_keeps_names_that_repeat(world: World) -> None:
    for sql in ("SELECT id, id FROM tracks", "SELECT * FROM genres AS a, genres AS b ORDER BY 1"):
        schema = world.planner.describe(world.plan(sql), (), CONTEXT)
        assert schema.names == world.table(sql).column_names
    limited = world.plan("SELECT id FROM tracks LIMIT 1")
    assert world.planner.describe(limited, (), CONTEXT).names == ["id"]


def test_planning_leaves_the_tree_as_it_is(world: World) -> None:
    from kalamdb_lab.sql.queries import parse_query

    tree = parse_query(
        "WITH a AS (SELECT * FROM tracks) SELECT count(*), 1 / 2 FROM a WHERE _deleted"
    )
    before = repr(tree)
    world.plan(tree)
    assert repr(tree) == before


def test_a_missing_table_is_found_while_planning(world: World) -> None:
    with pytest.raises(NotFoundError, match=r"^Table 'studio.gone' not found$"):
        world.plan("SELECT * FROM gone")


# --- the cache --------------------------------------------------------------------------


def test_the_cache_keeps_the_plans_used_last(world: World) -> None:
    cache: PlanCache[Plan] = PlanCache(limit=2)
    made: list[str] = []

    def plan(sql: str) -> Plan:
        made.append(sql)
        return world.plan(sql)

    for sql in ("SELECT 1", "SELECT 2", "SELECT 1", "SELECT 3", "SELECT 1", "SELECT 2"):
        assert cache.get_or_make(sql, lambda sql=sql: plan(sql)).template.startswith(sql)
    assert made == ["SELECT 1", "SELECT 2", "SELECT 3", "SELECT 2"]
    assert (cache.hits, cache.misses) == (2, 4)
