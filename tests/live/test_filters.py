"""Conditions over changed rows: one plan for a shape, and the same answer by every road."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalamdb_lab.arrow.schemas import SCHEMAS
from kalamdb_lab.clock import FakeClock, IdGenerator
from kalamdb_lab.live.comparisons import Index
from kalamdb_lab.live.filters import Condition, Filter, Shapes, parameter_table
from kalamdb_lab.model.datatypes import BIGINT, SMALLINT, TEXT
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.tables import ColumnDef, SchemaChange, TableDef, TableKind
from kalamdb_lab.partitions.partition import SEQ_FIELD
from kalamdb_lab.query.duck import DuckEngine
from kalamdb_lab.query.parameters import StatementContext
from kalamdb_lab.query.planner import Planner
from kalamdb_lab.sql.commands import Subscribe
from kalamdb_lab.sql.parse import parse_script

COLUMNS = (
    ColumnDef(1, "k", TEXT, position=1),
    ColumnDef(2, "n", BIGINT, position=2),
    ColumnDef(3, "small", SMALLINT, position=3),
)
TABLE = TableDef(
    1_000, TableId("studio", "t"), TableKind.SHARED, (SchemaChange(1, 0, "root", "", COLUMNS),)
)


@pytest.fixture(scope="module")
def shapes() -> Iterator[Shapes]:
    clock = FakeClock()
    engine = DuckEngine(IdGenerator(clock, lambda: 1), threads=1)
    yield Shapes(Planner(engine))
    engine.close()


def made(shapes: Shapes, where: str, params: tuple[Any, ...] = (), now_us: int = 0) -> Filter:
    (statement,) = parse_script(f"SUBSCRIBE TO t WHERE {where}")
    assert isinstance(statement, Subscribe)
    assert statement.where is not None
    from sqlglot import exp

    source = exp.Table(this=exp.to_identifier("t", quoted=True))
    condition = Condition(statement.where, source, params, StatementContext("mia", now_us))
    return shapes.filter(condition, TABLE)


def rows_of(values: list[tuple[Any, ...]]) -> pa.Table:
    schema = SCHEMAS.of(COLUMNS).append(SEQ_FIELD)
    numbered = [(*row, at) for at, row in enumerate(values, start=1)]
    return pa.table([list(column) for column in zip(*numbered, strict=True)], schema=schema)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("k = 'a'", "k = 'b'"),
        ("k = 'a' AND n > 3", "k = '' AND n > -3"),
        ("n BETWEEN 1 AND 2 OR 5 < small", "n BETWEEN 4 AND 9 OR 6 < small"),
        ("k IN ('a', 'b') AND upper(k) = 'A'", "k IN ('c', 'd') AND upper(k) = 'A'"),
    ],
)
def test_conditions_that_differ_in_their_constants_are_one_query(
    shapes: Shapes, one: str, other: str
) -> None:
    first, second = made(shapes, one), made(shapes, other)
    assert first.group == second.group
    assert first.values != second.values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("upper(k) = 'A'", "upper(k) = 'B'"),
        ("k LIKE 'a%'", "k LIKE 'b%'"),
        ("n = 1.5", "n = 2.5"),
        ("k = 'a'", "k <> 'a'"),
        ("k = 'a'", "n = 1"),
        ("n IN (1, 2)", "n IN (1, 2, 3)"),
    ],
)
def test_conditions_that_differ_otherwise_are_asked_apart(
    shapes: Shapes, one: str, other: str
) -> None:
    assert made(shapes, one).group != made(shapes, other).group


def test_placeholders_are_constants_by_their_values(shapes: Shapes) -> None:
    one, other = made(shapes, "k = ?", ("a",)), made(shapes, "k = ?", ("b",))
    assert one.group == other.group
    assert (one.values, other.values) == (("a",), ("b",))
    apart = [made(shapes, "upper(k) = ?", (value,)) for value in ("A", "A", "B")]
    assert apart[0].group == apart[1].group != apart[2].group
    assert made(shapes, "n = ?", (True,)).values == ()
    assert made(shapes, "n = ?", (None,)).values == ()


def test_the_time_of_a_statement_is_a_constant_of_its_own(shapes: Shapes) -> None:
    sql = "n > 1 AND NOW() > TIMESTAMP '2000-01-01'"
    assert made(shapes, sql, now_us=1).group == made(shapes, sql, now_us=1).group
    assert made(shapes, sql, now_us=1).group != made(shapes, sql, now_us=2).group


TEXTS = st.sampled_from(["", "a", "A", "b", "ä", "z\u0301", "\U0001f3b5", "a "])
NUMBERS = st.sampled_from([-(2**63), -1, 0, 1, 2, 2**31, 2**63 - 1])
SMALLS = st.sampled_from([-32_768, -1, 0, 1, 32_767])
OPERATORS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
COMPARED = st.one_of(
    st.tuples(st.just("k"), OPERATORS, TEXTS),
    st.tuples(st.just("n"), OPERATORS, NUMBERS),
    st.tuples(st.just("small"), OPERATORS, NUMBERS),
)
ROWS = st.lists(
    st.tuples(st.none() | TEXTS, st.none() | NUMBERS, st.none() | SMALLS), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(
    compared=st.lists(COMPARED, min_size=1, max_size=3),
    others=st.lists(st.tuples(TEXTS, NUMBERS, NUMBERS), max_size=4),
    rows=ROWS,
    is_mirrored=st.booleans(),
)
def test_every_road_gives_the_same_answer(
    shapes: Shapes, compared: Any, others: Any, rows: Any, is_mirrored: bool
) -> None:
    def condition(values: list[Any]) -> Filter:
        sides = [
            f"? {_turned(op)} {column}" if is_mirrored else f"{column} {op} ?"
            for column, op, _ in compared
        ]
        return made(shapes, " AND ".join(sides), tuple(values))

    def like(constants: tuple[Any, ...]) -> list[Any]:
        kinds = {"k": constants[0], "n": constants[1], "small": constants[2]}
        return [kinds[column] for column, _, _ in compared]

    filters = [condition([value for _, _, value in compared]), *map(condition, map(like, others))]
    assert len({one.group for one in filters}) == 1
    batch = rows_of(rows)
    shape = filters[0].shape
    values = [one.values for one in filters]
    seqs, numbers = filters[0].matching(batch, parameter_table(shape, values))
    assert numbers is not None
    joined = set(zip(seqs.tolist(), numbers.tolist(), strict=True))
    alone = {
        (seq, number)
        for number, one in enumerate(filters)
        for seq in one.matching_alone(batch).tolist()
    }
    assert shape.comparisons is not None
    looked_up = set(Index(shape.comparisons, values).matching(batch))
    assert joined == alone == looked_up


@pytest.mark.parametrize("op", ["=", "<>", "<", "<=", ">", ">="])
@pytest.mark.parametrize("sides", ["n {op} 5", "5 {op} n", "k {op} 'm'", "'m' {op} k"])
def test_every_comparison_is_looked_up_as_the_engine_does_it(
    shapes: Shapes, op: str, sides: str
) -> None:
    asked = made(shapes, sides.format(op=op))
    batch = rows_of([("l", 4, 0), ("m", 5, 0), ("n", 6, 0), (None, None, 0)])
    assert asked.shape.comparisons is not None
    looked_up = [seq for seq, _ in Index(asked.shape.comparisons, [asked.values]).matching(batch)]
    assert looked_up == sorted(asked.matching_alone(batch).tolist())
    assert len(looked_up) in (1, 2)


def _turned(op: str) -> str:
    return {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(op, op)


def test_a_condition_of_more_than_comparisons_is_left_to_the_engine(shapes: Shapes) -> None:
    for where in ("k = 'a' OR n = 1", "NOT (n = 1)", "k = 'a' AND n + 1 > 2", "k IN ('a', 'b')"):
        assert made(shapes, where).shape.comparisons is None
    assert made(shapes, "k = 'a' AND (n BETWEEN 1 AND 3)").shape.comparisons is not None
