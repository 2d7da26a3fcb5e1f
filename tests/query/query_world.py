"""A catalog of two users over Arrow tables in memory, and the planner on the real engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.arrow.arrays import array_from_storage, python_from_array
from kalamdb_lab.arrow.schemas import field_for, kalam_type
from kalamdb_lab.errors import NotFoundError, PermissionDeniedError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.tables import ColumnDef
from kalamdb_lab.model.values import to_storage
from kalamdb_lab.query.duck import NO_BOUNDS, Bounds
from kalamdb_lab.query.parameters import StatementContext
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.planner import Planner
from kalamdb_lab.query.relations import (
    ArrowPart,
    BoundPredicate,
    Part,
    Relation,
    ScanRequest,
    View,
)
from kalamdb_lab.sql.queries import parse_query

NOW_US = 1_900_000_000_000_000
"""2030-03-17 17:46:40 in UTC."""

COLUMNS = {
    "tracks": (
        ("id", types.BIGINT),
        ("title", types.TEXT),
        ("genre", types.TEXT),
        ("seconds", types.INT),
        ("price", types.decimal(8, 2)),
        ("score", types.DOUBLE),
        ("day", types.DATE),
        ("added", types.DATETIME),
        ("code", types.UUID),
        ("doc", types.JSON),
        ("mood", types.embedding(2)),
        ("gap", types.INTERVAL),
        ("tags", types.list_of(types.TEXT)),
    ),
    "genres": (("code", types.TEXT), ("title", types.TEXT), ("rank", types.SMALLINT)),
}

ROWS: dict[tuple[str, str], list[tuple[object, ...]]] = {
    ("alice", "tracks"): [
        (
            1,
            "Dawn",
            "jz",
            700,
            "1.50",
            0.5,
            "2029-01-01",
            "2029-01-01 10:00:00",
            "00000000-0000-7000-8000-000000000001",
            '{"a": {"b": 1}, "k": [1, 2]}',
            [1, 0],
            "1 day",
            ["x", "y"],
        ),
        (
            2,
            "Hill",
            "fk",
            180,
            "2.25",
            1.5,
            "2029-02-01",
            "2029-02-01 10:00:00",
            "00000000-0000-7000-8000-000000000002",
            '{"a": null}',
            [0, 1],
            "2 hours",
            [],
        ),
        (
            3,
            "Café",
            "jz",
            60,
            None,
            None,
            "2029-03-01",
            None,
            None,
            None,
            None,
            None,
            None,
        ),
    ],
    ("bob", "tracks"): [
        (
            1,
            "SECRET",
            "zz",
            9,
            "9.99",
            9.5,
            "2001-01-01",
            "2001-01-01 00:00:00",
            "99999999-0000-7000-8000-000000000009",
            '"SECRET"',
            [9, 9],
            "9 days",
            ["SECRET"],
        ),
    ],
    ("", "genres"): [("jz", "Jazz", 1), ("fk", "Folk", 2), ("rk", "Rock", 3)],
}

DELETED = {("alice", "tracks"): [ROWS["alice", "tracks"][1][:1] + ("Gone",) + (None,) * 11]}


def relation_of(name: str, key: object = None) -> Relation:
    columns = tuple(
        ColumnDef(column_id=at, name=column, data_type=data_type, position=at)
        for at, (column, data_type) in enumerate(COLUMNS[name], start=1)
    )
    return Relation(key or name, f"studio.{name}", columns, has_system_columns=True)


def table_of(name: str, rows: list[tuple[object, ...]], first_seq: int = 1) -> pa.Table:
    relation = relation_of(name)
    arrays = [
        array_from_storage(
            [to_storage(row[at], column.data_type, column=None) for row in rows],
            column.data_type,
        )
        for at, column in enumerate(relation.columns)
    ]
    table = pa.Table.from_arrays(
        arrays, schema=pa.schema([field_for(column) for column in relation.columns])
    )
    seqs = pa.array(range(first_seq, first_seq + len(rows)), pa.int64())
    return table.append_column("_seq", seqs)


@dataclass
class Catalog:
    """What ``user`` may see: own tracks, shared genres, two views; never ``system``."""

    user: str = "alice"
    role: str = "user"
    views: dict[str, View] = field(default_factory=dict)
    scanned: list[tuple[ScanRequest, tuple[BoundPredicate, ...]]] = field(default_factory=list)

    def resolve(self, parts: tuple[str, ...]) -> Relation | View:
        namespace, name = parts if len(parts) == 2 else ("studio", parts[0])
        namespace, name = namespace.lower(), name.lower()
        if namespace == "system" and self.role == "user":
            raise PermissionDeniedError("Only 'dba' and 'system' roles can access system namespace")
        if f"{namespace}.{name}" in self.views:
            return self.views[f"{namespace}.{name}"]
        if namespace != "studio" or name not in COLUMNS:
            raise NotFoundError("Table", f"{namespace}.{name}")
        return relation_of(name)

    def all_users(self, table: str) -> Relation:
        if self.role == "user":
            raise PermissionDeniedError("Permission denied: all_users() needs role dba or system")
        own = relation_of(table.rsplit(".", maxsplit=1)[-1], ("all", table))
        user_id = ColumnDef(column_id=0, name="user_id", data_type=types.TEXT)
        return Relation(own.key, own.name, (user_id, *own.columns), has_system_columns=True)

    def scan(
        self, request: ScanRequest, predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        self.scanned.append((request, predicates))
        key = request.relation.key
        if isinstance(key, tuple):
            parts = []
            for user in ("alice", "bob"):
                rows = table_of("tracks", ROWS[user, "tracks"])
                names = pa.array([user] * rows.num_rows, pa.string())
                rows = rows.add_column(0, "user_id", names)
                parts.append(ArrowPart(self._flagged(rows, False).select(list(request.columns))))
            return tuple(parts)
        scope = "" if key == "genres" else self.user
        rows = self._flagged(table_of(str(key), ROWS[scope, str(key)]), False)
        if request.include_deleted and (scope, str(key)) in DELETED:
            gone = self._flagged(table_of(str(key), DELETED[scope, str(key)], 100), True)
            rows = pa.concat_tables([rows, gone])
        return (ArrowPart(rows.select(list(request.columns))),)

    def view(self, name: str, sql: str, columns: tuple[str, ...] | None = None) -> None:
        self.views[name] = View(name, parse_query(sql), columns)

    def scan_all(self, name: str) -> pa.Table:
        return self._flagged(table_of(name, ROWS[self.user, name]), False)

    def _flagged(self, rows: pa.Table, deleted: bool) -> pa.Table:
        return rows.append_column("_deleted", pa.array([deleted] * rows.num_rows, pa.bool_()))


@dataclass
class World:
    """The planner with one catalog."""

    planner: Planner
    catalog: Catalog

    def plan(self, sql: str | exp.Expression, *, text: bool = True) -> Plan:
        tree = parse_query(sql) if isinstance(sql, str) else sql
        return self.planner.plan(tree, self.catalog, text_semantics=text)

    def table(
        self,
        sql: str | exp.Expression,
        *parameters: object,
        text: bool = True,
        bounds: Bounds = NO_BOUNDS,
    ) -> pa.Table:
        context = StatementContext(self.catalog.user, NOW_US)
        plan = self.plan(sql, text=text)
        return self.planner.execute(plan, self.catalog, parameters, context, bounds=bounds)

    def rows(
        self, sql: str | exp.Expression, *parameters: object, text: bool = True
    ) -> list[tuple[object, ...]]:
        table = self.table(sql, *parameters, text=text)
        columns = [
            python_from_array(column, kalam_type(of))
            for of, column in zip(table.schema, table.columns, strict=True)
        ]
        return list(zip(*columns, strict=True))

    def value(self, sql: str, *parameters: object) -> object:
        """The one value of a query of one row and one column."""
        ((value,),) = self.rows(sql, *parameters)
        return value

    def type(self, sql: str, *parameters: object) -> str:
        """The type of the first column."""
        return str(kalam_type(self.table(sql, *parameters).schema.field(0)))

    def view(self, name: str, sql: str, columns: tuple[str, ...] | None = None) -> None:
        self.catalog.view(name, sql, columns)
