"""EXPLAIN: what a statement would do, from its tree, its plan and the manifest; never run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp
from sqlglot.errors import ErrorLevel

from kalamdb_lab.errors import InternalError
from kalamdb_lab.handlers.change import refuse_stream_update
from kalamdb_lab.handlers.conflicts import ConflictResolver, checked_assignments
from kalamdb_lab.handlers.returning import check_returning
from kalamdb_lab.handlers.rows import named_columns, refuse_other_width
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.query.queries import Queries, ScanEstimate
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.dialect import KALAM_SQL
from kalamdb_lab.sql.statements import Delete, Explain, Insert, Select, Statement, Update

_SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("depth", pa.int32()),
        ("operation", pa.string()),
        ("target", pa.string()),
        ("detail", pa.string()),
        ("segments_kept", pa.int64()),
        ("segments_total", pa.int64()),
        ("estimated_rows", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class _Step:
    depth: int
    operation: str
    target: str | None = None
    detail: str | None = None
    scan: ScanEstimate | None = None


class ExplainHandler:
    """Describe a statement for the caller's own scope; refuses what the statement may not do."""

    def __init__(self, targets: Targets, queries: Queries, conflicts: ConflictResolver) -> None:
        self._targets = targets
        self._queries = queries
        self._conflicts = conflicts

    def explain(self, statement: Explain, request: Request) -> Result:
        """Run EXPLAIN."""
        steps = list(self._steps(statement.statement, request))
        rows = [
            {
                "step": number,
                "depth": step.depth,
                "operation": step.operation,
                "target": step.target,
                "detail": step.detail,
                "segments_kept": step.scan.segments_kept if step.scan else None,
                "segments_total": step.scan.segments_total if step.scan else None,
                "estimated_rows": step.scan.estimated_rows if step.scan else None,
            }
            for number, step in enumerate(steps, start=1)
        ]
        return Result.of_table(statement.kind, pa.Table.from_pylist(rows, schema=_SCHEMA))

    def _steps(self, statement: Statement, request: Request) -> Iterator[_Step]:
        match statement:
            case Select(query=query):
                yield from self._query(query, request, 0)
            case Insert():
                table = self._targets.writable(statement.table, request.context)
                columns = named_columns(table, statement.columns)
                rows = statement.rows or ()
                detail = None
                if statement.rows is not None:
                    detail = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
                yield _Step(0, "Insert", str(table.table_id), detail)
                if statement.query is not None:
                    yield from self._query(statement.query, request, 1)
                    given = self._queries.describe(statement.query, request)
                    refuse_other_width(len(given), columns, "its query")
                for number, values in enumerate(rows, start=1):
                    if not statement.default_values:
                        refuse_other_width(len(values), columns, f"row {number}")
                for value in (value for row in rows for value in row):
                    if isinstance(value, exp.Expression) and value.find(exp.Select) is not None:
                        yield from self._query(exp.Select(expressions=[value]), request, 1)
                if statement.on_conflict is not None:
                    self._conflicts.check(table, statement.on_conflict, request)
                check_returning(self._queries, table, None, statement.returning, request)
            case Update() | Delete():
                table = self._targets.writable(statement.table, request.context)
                operation = "Update" if isinstance(statement, Update) else "Delete"
                detail, outputs = None, []
                if isinstance(statement, Update):
                    refuse_stream_update(table)
                    assigned = checked_assignments(table, statement.assignments)
                    detail = ", ".join(column.name for column, _ in assigned)
                    outputs = [value.copy() for _, value in assigned]
                yield _Step(0, operation, str(table.table_id), detail)
                alias = statement.alias or table.table_id.name
                source = exp.table_(
                    table.table_id.name, db=table.table_id.namespace, quoted=True, alias=alias
                )
                tree = exp.Select(
                    expressions=[*outputs, exp.Literal.number(1)],
                    from_=exp.From(this=source),
                    where=exp.Where(this=statement.where.copy()),
                )
                yield from self._query(tree, request, 1)
                check_returning(self._queries, table, statement.alias, statement.returning, request)
            case _:
                raise InternalError(f"EXPLAIN cannot describe {statement.kind}")

    def _query(self, tree: exp.Expression, request: Request, depth: int) -> Iterator[_Step]:
        estimates = self._queries.estimates(tree, request)
        self._queries.describe(tree, request)  # what the engine would not understand is told
        yield from _tree_steps(tree, depth, iter(estimates))


def _tree_steps(node: exp.Expression, depth: int, scans: Iterator[ScanEstimate]) -> Iterator[_Step]:
    """Describe a query from the outside in; scans come in the order the tree names them."""
    for operation, key in (("Limit", "limit"), ("Offset", "offset"), ("Sort", "order")):
        part = node.args.get(key)
        if part is not None:
            yield _Step(depth, operation, detail=_text(part))
            depth += 1
    if isinstance(node, exp.SetOperation):
        distinct = "" if node.args.get("distinct") is not False else " ALL"
        yield _Step(depth, type(node).__name__ + distinct)
        yield from _tree_steps(node.this, depth + 1, scans)
        yield from _tree_steps(node.expression, depth + 1, scans)
        return
    if isinstance(node, exp.Subquery):
        yield from _tree_steps(node.this, depth, scans)
        return
    if node.args.get("distinct") is not None:
        yield _Step(depth, "Distinct")
        depth += 1
    if node.find(exp.Window) is not None:
        yield _Step(depth, "Window")
        depth += 1
    group = node.args.get("group")
    if group is not None or any(item.find(exp.AggFunc) for item in node.expressions):
        yield _Step(depth, "Aggregate", detail=None if group is None else _text(group))
        depth += 1
    if node.args.get("having") is not None:
        yield _Step(depth, "Filter", detail=_text(node.args["having"].this))
        depth += 1
    if node.args.get("where") is not None:
        yield _Step(depth, "Filter", detail=_text(node.args["where"].this))
        depth += 1
    joins = node.args.get("joins") or []
    if joins:
        yield _Step(depth, "Join", detail="; ".join(_text(join) for join in joins))
        depth += 1
    for scan in scans:
        yield from _scan_steps(scan, depth)


def _scan_steps(scan: ScanEstimate, depth: int) -> Iterator[_Step]:
    if scan.search is not None:
        yield _Step(depth, "Nearest", scan.name, scan.search)
        depth += 1
    yield _Step(depth, "Scan", scan.name, scan.detail, scan)


def _text(node: exp.Expression) -> str:
    text = node.sql(dialect=KALAM_SQL, comments=False, unsupported_level=ErrorLevel.IGNORE)
    return text if len(text) <= 300 else text[:299] + "…"
