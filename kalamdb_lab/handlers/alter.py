"""ALTER TABLE: a new schema version, and whether the rows that exist can live with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import InUseError, InvalidDefinitionError, InvalidOptionError, KalamError
from kalamdb_lab.handlers.rows import RowBuilder
from kalamdb_lab.handlers.tables import check_default
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind
from kalamdb_lab.partitions.commit import Commit
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.versions import converted, converted_value
from kalamdb_lab.sql.statements import (
    AddColumn,
    AlterTable,
    ColumnSpec,
    DropColumn,
    EmbedColumn,
    ModifyColumn,
    RenameColumn,
    SetAccessLevel,
)
from kalamdb_lab.tables.definition import (
    changed,
    exactly_widens,
    is_generated,
    present_column,
    refuse_unalterable,
    with_added,
    with_dropped,
    with_embedding,
    with_modified,
    with_renamed,
)
from kalamdb_lab.tables.options import access_level


class AlterHandler:
    """Run ALTER TABLE while holding the write lock, so that no row slips in between."""

    def __init__(
        self,
        catalog: Catalog,
        targets: Targets,
        queries: Queries,
        rows: RowBuilder,
        log: CommitLog,
        reader: SegmentReader,
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._queries = queries
        self._rows = rows
        self._log = log
        self._reader = reader

    def alter(self, statement: AlterTable, request: Request) -> Result:
        """Run one ALTER TABLE."""
        refuse_unalterable(self._targets.table(statement.table, request.context))
        with self._log.commit() as commit:
            table = self._targets.table(statement.table, request.context)
            refuse_unalterable(table)
            if isinstance(statement.action, EmbedColumn):
                return self._embed(table, statement.action, commit)
            if isinstance(statement.action, SetAccessLevel):
                new = self._with_access_level(table, statement.action.level, commit.at_us)
            else:
                columns, change = self._columns(table, statement.action, request)
                new = changed(
                    table,
                    columns,
                    change,
                    at_us=commit.at_us,
                    changed_by=request.context.user_id,
                )
            self._catalog.tables.put(commit, new)
        return Result.of_message(statement.kind, f"Table '{table.table_id}' altered")

    def _columns(
        self,
        table: TableDef,
        action: AddColumn | DropColumn | RenameColumn | ModifyColumn,
        request: Request,
    ) -> tuple[tuple[ColumnDef, ...], str]:
        match action:
            case AddColumn(column=spec):
                return self._added(table, spec, request), f"ADD COLUMN {_written(spec)}"
            case DropColumn(name=name):
                return with_dropped(table, name), f"DROP COLUMN {name}"
            case RenameColumn(name=name, new_name=new_name):
                columns = with_renamed(table, name, new_name)
                return columns, f"RENAME COLUMN {name} TO {new_name}"
            case ModifyColumn(column=spec):
                return self._modified(table, spec, request), f"MODIFY COLUMN {_written(spec)}"

    def _embed(self, table: TableDef, action: EmbedColumn, commit: Commit) -> Result:
        column = present_column(table, action.name)
        columns = with_embedding(table, action)
        before, now = column.embedding, columns[table.columns.index(column)].embedding
        said = f"Column '{column.name}' of {table.table_id} is filled by '{action.function}'"
        if before == now:
            return Result.of_message("ALTER TABLE", said)
        is_other = before is not None and any(
            values.null_count < len(values) for values in self._stored(table, column)
        )
        if is_other and before is not None and not action.replace:
            made_from = next((c for c in table.columns if c.column_id == before.column_id), None)
            source = "" if made_from is None else f" from '{made_from.name}'"
            raise InUseError(
                f"Column '{column.name}' of {table.table_id} holds vectors that "
                f"'{before.function}' made{source}; replace=True lets them stay and fills other "
                f"rows by '{action.function}'"
            )
        newest = replace(table.history[-1], columns=columns)
        history = (*table.history[:-1], newest)
        self._catalog.tables.put(
            commit, replace(table, history=history, updated_at_us=commit.at_us)
        )
        if is_other:
            said += (
                f" from now on; the vectors that are there stay: UPDATE {table.table_id} SET "
                f"{column.name} = DEFAULT WHERE true makes them anew"
            )
        return Result.of_message("ALTER TABLE", said)

    def _with_access_level(self, table: TableDef, level: str, at_us: int) -> TableDef:
        if table.kind is not TableKind.SHARED:
            raise InvalidOptionError("ACCESS_LEVEL is only supported for SHARED tables")
        options = replace(table.options, access_level=access_level(level))
        return replace(table, options=options, updated_at_us=at_us)

    def _added(self, table: TableDef, spec: ColumnSpec, request: Request) -> tuple[ColumnDef, ...]:
        column = with_added(table, spec, None)[-1]
        check_default(self._queries, column, request)
        has_rows = any(snapshot_rows(self._log, table))
        if has_rows and is_generated(column.default):
            raise InvalidDefinitionError(
                f"Column '{column.name}' cannot have the default {column.default}: "
                f"{table.table_id} has rows, which would all get the same value"
            )
        if has_rows and not column.nullable and column.default is None:
            raise InvalidDefinitionError(
                f"Column '{column.name}' cannot be NOT NULL without a DEFAULT: "
                f"{table.table_id} has rows"
            )
        return with_added(table, spec, self._rows.default_value(column, request))

    def _modified(
        self, table: TableDef, spec: ColumnSpec, request: Request
    ) -> tuple[ColumnDef, ...]:
        column = present_column(table, spec.name)
        nullable = column.nullable if spec.nullable is None else spec.nullable
        default = column.default if spec.default_sql is None else spec.default_sql
        fill = self._converted_fill(column, spec)
        columns = with_modified(
            table, column, spec.data_type, nullable=nullable, default=default, fill=fill
        )
        new = next(c for c in columns if c.column_id == column.column_id)
        check_default(self._queries, new, request)
        widens = exactly_widens(column.data_type, new.data_type)
        becomes_not_null = column.nullable and not nullable
        if not widens or becomes_not_null:
            for values in self._stored(table, column):
                if becomes_not_null and values.null_count:
                    raise InvalidDefinitionError(
                        f"Column '{column.name}' cannot be NOT NULL: existing rows have NULL"
                    )
                if not widens:
                    self._check_fits(values, column, new)
        return columns

    def _converted_fill(self, column: ColumnDef, spec: ColumnSpec) -> StorageValue:
        try:
            return converted_value(
                column.fill, column.data_type, spec.data_type, column=column.name
            )
        except KalamError:
            raise _unfit(column, spec) from None

    def _check_fits(self, values: pa.ChunkedArray, old: ColumnDef, new: ColumnDef) -> None:
        try:
            there = converted(values, old.data_type, new.data_type, column=old.name)
            back = converted(there, new.data_type, old.data_type, column=old.name)
        except KalamError:
            raise _unfit(old, new) from None
        if not back.equals(values):
            raise _unfit(old, new)

    def _stored(self, table: TableDef, column: ColumnDef) -> Iterator[pa.ChunkedArray]:
        """Yield the values of a column, scope by scope; those of deleted rows can be seen too."""
        for scope in self._log.scopes(table.table_key):
            key = PartitionKey(table.table_key, scope)
            (snapshot,) = self._log.snapshot([(key, table)])
            yield snapshot.hot.column(column.name)
            yield snapshot.hot_deleted.column(column.name)
            for view in snapshot.segments:
                rows = self._reader.read(view.meta, table, [column.name, "_seq"])
                replaced = np.setdiff1d(view.removed, view.deleted, assume_unique=True)
                if len(replaced):
                    seen = ~np.isin(rows.column("_seq").to_numpy(), replaced)
                    rows = rows.filter(pa.array(seen))
                yield rows.column(column.name)


def snapshot_rows(log: CommitLog, table: TableDef) -> Iterator[int]:
    """Yield the number of live rows of each scope."""
    for scope in log.scopes(table.table_key):
        (snapshot,) = log.snapshot([(PartitionKey(table.table_key, scope), table)])
        yield snapshot.row_count


def _unfit(column: ColumnDef, new: ColumnDef | ColumnSpec) -> InvalidDefinitionError:
    return InvalidDefinitionError(
        f"Column '{column.name}' cannot become {new.data_type}: existing values do not fit"
    )


def _written(spec: ColumnSpec) -> str:
    parts = [spec.name, str(spec.data_type)]
    if spec.nullable is not None:
        parts.append("NULL" if spec.nullable else "NOT NULL")
    if spec.default_sql is not None:
        parts.append(f"DEFAULT {spec.default_sql}")
    return " ".join(parts)
