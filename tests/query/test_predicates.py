"""Leaving rows unread never changes an answer."""

from __future__ import annotations

import operator
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_world import Catalog, World

from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.model.tables import ColumnDef
from kalamdb_lab.query.duck import DuckEngine
from kalamdb_lab.query.parameters import StatementContext
from kalamdb_lab.query.planner import Planner
from kalamdb_lab.query.predicates import bind
from kalamdb_lab.query.relations import (
    ArrowPart,
    BoundPredicate,
    Parameter,
    Part,
    Predicate,
    Relation,
    ScanRequest,
)

OPERATORS = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
VALUES = {
    types.INT: st.one_of(st.integers(-3, 3), st.none()),
    types.DOUBLE: st.one_of(
        st.sampled_from([-1.5, 0.0, -0.0, 0.5, 1e300, float("inf"), float("nan")]), st.none()
    ),
    types.decimal(5, 2): st.one_of(
        st.integers(-300, 300).map(lambda n: Decimal(n) / 100), st.none()
    ),
    types.TEXT: st.one_of(st.sampled_from(["", "a", "b", "é", "a "]), st.none()),
    types.BOOLEAN: st.one_of(st.booleans(), st.none()),
}
LITERALS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([-1.5, 0.5, 0.25, 1e300]),
    st.integers(-3000, 3000).map(lambda n: Decimal(n) / 1000),
)


class Pruning:
    """Keeps what the predicates let through, as the strictest reader would."""

    def __init__(self, table: pa.Table, prune: bool) -> None:
        self.table, self.prune = table, prune

    def scan(
        self, request: ScanRequest, predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        rows = self.table.to_pylist()
        if self.prune:
            rows = [row for row in rows if all(passes(row[p.column], p) for p in predicates)]
        return (ArrowPart(pa.Table.from_pylist(rows, self.table.schema)),)


def passes(value: object, predicate: BoundPredicate) -> bool:
    if predicate.op in ("is null", "is not null"):
        return (value is None) is (predicate.op == "is null")
    if value is None:
        return False
    if value != value:  # NaN is the greatest
        return predicate.op in (">", ">=")
    if predicate.op == "in":
        return value in predicate.values
    return bool(OPERATORS[predicate.op](value, predicate.values[0]))


@given(data=st.data())
def test_pruned_or_not_the_answer_is_the_same(engine: DuckEngine, data: st.DataObject) -> None:
    kind: KalamDataType = data.draw(st.sampled_from(list(VALUES)))
    values = data.draw(st.lists(VALUES[kind], max_size=6))
    literal = data.draw(
        LITERALS if kind.is_numeric else VALUES[kind].filter(lambda v: v is not None)
    )
    op = data.draw(st.sampled_from(["=", "<", "<=", ">", ">=", "IN", "BETWEEN"]))
    from kalamdb_lab.arrow.schemas import field_for

    column = ColumnDef(column_id=1, name="v", data_type=kind)
    relation = Relation("t", "studio.t", (column,), has_system_columns=False)
    table = pa.table(
        [pa.array(values, field_for(column).type)], schema=pa.schema([field_for(column)])
    )

    class Names(Catalog):
        def resolve(self, parts: tuple[str, ...]) -> Relation:
            return relation

    condition = {"IN": "v IN (?)", "BETWEEN": "v BETWEEN ? AND v"}.get(op, f"v {op} ?")
    world = World(Planner(engine), Names())
    plan = world.plan(f"SELECT v FROM t WHERE {condition}")
    context = StatementContext("alice", 0)
    whole, pruned = (
        world.planner.execute(plan, Pruning(table, prune), (literal,), context).column(0)
        for prune in (False, True)
    )
    assert [repr(v) for v in whole.to_pylist()] == [repr(v) for v in pruned.to_pylist()]


@pytest.mark.parametrize(
    ("column_type", "value", "stored"),
    [
        (types.INT, 5, 5),
        (types.INT, Decimal("5.0"), 5),
        (types.INT, 2.5, None),
        (types.INT, True, None),
        (types.INT, "5", None),
        (types.DOUBLE, 5, 5.0),
        (types.DOUBLE, 2**63 + 1, None),
        (types.FLOAT, 0.1, None),
        (types.DATE, "2030-01-01", 21915),
        (types.DATE, "2030-01-01 10:00:00", None),
        (types.TEXT, "a", "a"),
        (types.TEXT, 5, None),
        (
            types.UUID,
            "00000000-0000-7000-8000-000000000001",
            bytes.fromhex("00000000000070008000000000000001"),
        ),
        (types.INT, None, None),
    ],
)
def test_a_value_is_bound_when_its_meaning_is_beyond_doubt(
    column_type: KalamDataType, value: object, stored: object
) -> None:
    column = ColumnDef(column_id=1, name="v", data_type=column_type)
    relation = Relation("t", "studio.t", (column,), has_system_columns=False)
    request = ScanRequest(relation, ("v",), (Predicate("v", "=", Parameter(1)),))
    bound = bind(request, {1: value})
    assert bound == (() if stored is None else (BoundPredicate("v", "=", (stored,)),))  # type: ignore[arg-type]
