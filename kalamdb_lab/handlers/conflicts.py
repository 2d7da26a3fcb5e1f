"""INSERT ... ON CONFLICT: which offered rows are new, and what the others change."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.errors import DuplicateKeyError, NotSupportedError, ReadOnlyError
from kalamdb_lab.handlers.embedding import Left, filled_rows, remade_rows
from kalamdb_lab.handlers.returning import rows_table
from kalamdb_lab.handlers.rows import writable_column
from kalamdb_lab.model.datatypes import StorageValue, TypeKind
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind
from kalamdb_lab.model.values import converted, from_storage, has_vectors, storage_converter
from kalamdb_lab.partitions.commit import RowCommit
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.sql.queries import parse_default
from kalamdb_lab.sql.statements import DEFAULT, Assignment, OnConflict
from kalamdb_lab.tables.definition import refuse_repeated_names
from kalamdb_lab.tables.embedding import StatementVectors, fillings
from kalamdb_lab.tables.keys import shown
from kalamdb_lab.tables.writing import TableWriter

_PRESENT = "kalam present rows"
_OFFERED = "kalam offered rows"


@dataclass(frozen=True, slots=True)
class Change:
    """A row that becomes another: the version it had, and both rows."""

    old_seq: int
    old: Row
    new: Row


@dataclass(frozen=True, slots=True)
class Offered:
    """The rows of an INSERT before their vectors are made."""

    rows: Sequence[Row]
    left: Left
    vectors: StatementVectors


class ConflictResolver:
    """The rules of ON CONFLICT, as in PostgreSQL."""

    def __init__(self, queries: Queries, writer: TableWriter) -> None:
        self._queries = queries
        self._writer = writer

    def check(self, table: TableDef, on_conflict: OnConflict, request: Request) -> None:
        """Refuse a clause that the table cannot follow, before any row is made."""
        key = table.primary_key
        if on_conflict.column is not None:
            column = writable_column(table, on_conflict.column)
            if key is None or column.column_id != key.column_id:
                raise NotSupportedError(
                    f"ON CONFLICT ({column.name}) is not supported; use the primary key"
                )
        if on_conflict.do_nothing:
            return
        if table.kind is TableKind.STREAM:
            raise NotSupportedError("ON CONFLICT DO UPDATE is not supported on STREAM tables")
        assignments = checked_assignments(table, on_conflict.assignments)
        tree = _change_query(table, assignments, on_conflict)
        if tree.find(exp.Subquery, exp.Exists, exp.In) is not None:
            # What it reads must be allowed even if no row clashes.
            nothing = rows_table(table, [])
            local = request.with_written({_PRESENT: nothing, _OFFERED: nothing})
            self._queries.plan(tree, local)

    def insert(
        self,
        commit: RowCommit,
        table: TableDef,
        partition: PartitionKey,
        offered: Offered,
        on_conflict: OnConflict,
        request: Request,
    ) -> list[tuple[int, Row]]:
        """Stage the rows; return (version, row) of those inserted or changed, in order."""
        rows, left, vectors = offered.rows, offered.left, offered.vectors
        key = table.primary_key
        if key is None:
            rows = filled_rows(table, rows, left, vectors)
            first = self._writer.insert(commit, table, partition, rows).first_seq
            return list(enumerate(rows, start=first))
        at = table.columns.index(key)
        taken = self._writer.taken(commit, table, partition, [row[at] for row in rows])
        new: dict[StorageValue, int] = {}
        clashing: list[int] = []
        for number, row in enumerate(rows):
            value = row[at]
            if value in taken:
                clashing.append(number)
            elif value not in new:
                new[value] = number
            elif not on_conflict.do_nothing:
                raise _twice(key, value)
        if on_conflict.do_nothing:
            clashing = []
        clashing_keys = [rows[number][at] for number in clashing]
        if len(set(clashing_keys)) != len(clashing_keys):
            raise _twice(key, max(clashing_keys, key=clashing_keys.count))
        is_named = clashing and _names_vectors(table, on_conflict)
        filled = [*new.values(), *(clashing if is_named else ())]
        rows = filled_rows(table, rows, left, vectors, numbers=sorted(filled))
        changes = {}
        if clashing:
            present = self._writer.keys.rows(
                table, partition, {value: taken[value] for value in clashing_keys}
            )
            pairs = [(present[rows[number][at]], rows[number]) for number in clashing]
            changed = self._changed(table, pairs, on_conflict, request, vectors)
            changes = dict(zip(clashing, changed, strict=True))
        staged: list[Row] = []
        replaces: list[int] = []
        for number in sorted([*new.values(), *changes]):
            change = changes.get(number)
            if number in changes and change is None:
                continue
            staged.append(rows[number] if change is None else change.new)
            replaces.append(0 if change is None else change.old_seq)
        self._writer.check_not_null(table, staged)
        if not staged:
            return []
        first = commit.append_rows(partition, table, staged, replaces=replaces)
        return list(enumerate(staged, start=first))

    def _changed(
        self,
        table: TableDef,
        pairs: Sequence[tuple[tuple[int, Row], Row]],
        on_conflict: OnConflict,
        request: Request,
        vectors: StatementVectors,
    ) -> list[Change | None]:
        """Evaluate SET and WHERE for (present row, offered row) pairs."""
        assignments = checked_assignments(table, on_conflict.assignments)
        present = rows_table(table, [row for row, _ in pairs])
        offered = rows_table(table, [(seq, row) for (seq, _), row in pairs])
        answer = self._queries.run(
            _change_query(table, assignments, on_conflict),
            request.with_written({_PRESENT: present, _OFFERED: offered}),
        )
        by_version = {seq: at for at, seq in enumerate(answer.column("version").to_pylist())}
        answer = answer.take(pa.array([by_version[seq] for (seq, _), _ in pairs], pa.int64()))
        kept = answer.column("keep").to_pylist()
        same = row_comparison(table)
        rows = changed_rows(table, assignments, answer, [row for (_, row), _ in pairs])
        changed = [at for at, keep_it in enumerate(kept) if keep_it]
        remade = remade_rows(
            table,
            [pairs[at][0][1] for at in changed],
            [rows[at] for at in changed],
            [column.column_id for column, _ in assignments],
            defaulted_columns(table, on_conflict.assignments),
            vectors,
        )
        found: list[Change | None] = [None] * len(pairs)
        for at, new in zip(changed, remade, strict=True):
            seq, old = pairs[at][0]
            found[at] = None if same(old, new) else Change(seq, old, new)
        return found


def _change_query(
    table: TableDef,
    assignments: Sequence[tuple[ColumnDef, exp.Expression]],
    on_conflict: OnConflict,
) -> exp.Select:
    """Return the query that evaluates SET and WHERE for each present row and its offered one."""
    name = table.table_id.name
    keep: exp.Expression = exp.true()
    if on_conflict.where is not None:
        keep = _about_present(on_conflict.where, name)
    version = exp.column("_seq", table=name, quoted=True)
    return exp.Select(
        expressions=[
            *(
                # exp.alias_ would give a subquery the alias of a table
                exp.Alias(
                    this=_about_present(value, name),
                    alias=exp.to_identifier(f"v{at}", quoted=True),
                )
                for at, (_, value) in enumerate(assignments)
            ),
            exp.alias_(keep, "keep", quoted=True),
            exp.alias_(version, "version", quoted=True),
        ],
        from_=exp.From(this=_source(_PRESENT, name)),
        joins=[
            exp.Join(
                this=_source(_OFFERED, "excluded"),
                on=exp.EQ(
                    this=version.copy(),
                    expression=exp.column("_seq", table="excluded", quoted=True),
                ),
            )
        ],
    )


def checked_assignments(
    table: TableDef, assignments: Sequence[Assignment]
) -> list[tuple[ColumnDef, exp.Expression]]:
    """Return SET as columns and expressions; refuses the key and system columns."""
    refuse_repeated_names(assignment.column for assignment in assignments)
    checked = []
    for assignment in assignments:
        column = writable_column(table, assignment.column)
        if column.primary_key:
            raise ReadOnlyError(f"Primary key column '{column.name}' cannot be updated")
        value = assignment.value
        if value is DEFAULT:
            value = exp.null() if column.default is None else parse_default(column.default)
        assert isinstance(value, exp.Expression)
        checked.append((column, value))
    return checked


def defaulted_columns(table: TableDef, assignments: Sequence[Assignment]) -> frozenset[int]:
    """Return the ids of the columns that SET leaves to their default."""
    named = (table.column(item.column) for item in assignments if item.value is DEFAULT)
    return frozenset(column.column_id for column in named if column is not None)


def _names_vectors(table: TableDef, on_conflict: OnConflict) -> bool:
    """Return whether a clause may read vectors of offered rows that are still to be made."""
    made = {filling.column.name.lower() for filling in fillings(table)}
    trees = [item.value for item in on_conflict.assignments] + [on_conflict.where]
    return bool(made) and any(
        (column.table.lower() == "excluded" and column.name.lower() in made)
        or column.name.lower() == "excluded"
        for tree in trees
        if isinstance(tree, exp.Expression)
        for column in tree.find_all(exp.Column)
    )


def changed_rows(
    table: TableDef,
    assignments: Sequence[tuple[ColumnDef, exp.Expression]],
    answer: pa.Table,
    old: Sequence[Row],
) -> list[Row]:
    """Return the rows with the values of columns ``v0, v1, ...`` of ``answer`` put in."""
    values: list[list[StorageValue]] = []
    for number, (column, tree) in enumerate(assignments):
        given = kalam_type(answer.schema.field(f"v{number}"))
        plain = storage_from_array(answer.column(f"v{number}"), given)
        if given != column.data_type and isinstance(tree.unnest(), exp.Placeholder):
            convert = storage_converter(column.data_type)  # of a value, not an expression
            plain = [convert(from_storage(value, given), column.name) for value in plain]
        elif given != column.data_type or has_vectors(given):
            plain = [converted(value, given, column.data_type, column.name) for value in plain]
        values.append(plain)
    places = [table.columns.index(column) for column, _ in assignments]
    rows = []
    for number, row in enumerate(old):
        cells = list(row)
        for place, column_values in zip(places, values, strict=True):
            cells[place] = column_values[number]
        rows.append(tuple(cells))
    return rows


def row_comparison(table: TableDef) -> Callable[[Row, Row], bool]:
    """Return what tells whether no value changed: NaN is itself, and 0.0 is not -0.0."""
    inexact = [
        at
        for at, column in enumerate(table.columns)
        if column.data_type.is_nested or column.data_type.kind in (TypeKind.FLOAT, TypeKind.DOUBLE)
    ]
    if not inexact:
        return operator.eq

    def same(old: Row, new: Row) -> bool:
        return all(
            repr(one) == repr(other) if at in inexact else one == other
            for at, (one, other) in enumerate(zip(old, new, strict=True))
        )

    return same


def _about_present(node: exp.Expression, name: str) -> exp.Expression:
    """Qualify bare columns: they mean the present row, not the offered one."""
    node = node.copy()
    for column in node.find_all(exp.Column):
        if not column.table and column.find_ancestor(exp.Select) is None:
            column.set("table", exp.to_identifier(name, quoted=True))
    return node


def _source(relation: str, alias: str) -> exp.Table:
    return exp.Table(
        this=exp.to_identifier(relation, quoted=True),
        alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)),
    )


def _twice(key: ColumnDef, value: StorageValue) -> DuplicateKeyError:
    return DuplicateKeyError(
        f"ON CONFLICT DO UPDATE cannot change {key.name} = {shown(value, key)} twice in one "
        "statement"
    )
