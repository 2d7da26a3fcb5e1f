"""Tables of a connection: found, created, filled and dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import ibis
import ibis.common.exceptions as exc
import ibis.expr.operations as ops
import ibis.expr.schema as sch
import ibis.expr.types as ir
import pyarrow as pa
from ibis import util
from sqlglot import exp

from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidDefinitionError,
    NotFoundError,
    NotSupportedError,
)
from kalamdb_lab.ibis_backend import definitions
from kalamdb_lab.ibis_backend.datatypes import arrow_schema, kalam_schema, table_schema
from kalamdb_lab.ibis_backend.execution import memtable_rows
from kalamdb_lab.ibis_backend.files import Files
from kalamdb_lab.ibis_backend.results import relation_table
from kalamdb_lab.model.ids import checked_name
from kalamdb_lab.model.tables import TableKind

Namespace = str | Sequence[str | None] | None


class TableNotFoundError(NotFoundError, exc.TableNotFound):  # type: ignore[misc]
    """There is no such table: an error of ours, and the one that ibis' users expect."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_table_not_found, (self.name, self.nearby))


def _table_not_found(name: str, nearby: tuple[str, ...]) -> TableNotFoundError:
    return TableNotFoundError("Table", name, nearby=nearby)


def namespace_of(database: Namespace) -> str | None:
    """Return the namespace that an argument ``database`` names; there are no catalogs."""
    if database is None:
        return None
    parts = database.split(".") if isinstance(database, str) else list(database)
    if len(parts) == 2 and parts[0] is None:
        parts = parts[1:]
    if len(parts) != 1:
        raise no_catalogs()
    return parts[0]


def no_catalogs() -> exc.UnsupportedOperationError:
    """Return the error for a name that has a catalog."""
    return exc.UnsupportedOperationError(
        "There are no catalogs; `database` is the name of one namespace"
    )


def parts_of(name: str, namespace: str | None) -> tuple[str, ...]:
    """Return the parts of a table's name."""
    return (name,) if namespace is None else (namespace, name)


class Tables(Files):
    """Tables of the namespaces, and the temporary ones that only this connection sees."""

    # --- what is there ----------------------------------------------------------------------------

    def list_tables(self, *, like: str | None = None, database: Namespace = None) -> list[str]:
        """Return the tables and views of a namespace, in order.

        Without ``database`` these are the ones of the current namespace, and the temporary and
        in-memory tables of this connection.
        """
        namespace = namespace_of(database)
        names = {table.table_id.name for table in self.session.definitions(namespace)}
        if namespace is None:
            names |= set(self.session.relations)
        listed: list[str] = self._filter_with_like(names, like)
        return listed

    def table(self, name: str, /, *, database: Namespace = None) -> ir.Table:
        """Return a table, view or temporary table as an expression."""
        namespace = namespace_of(database)
        return ops.DatabaseTable(
            name,
            schema=self.get_schema(name, database=namespace),
            source=self,
            namespace=ops.Namespace(database=namespace),
        ).to_expr()

    def get_schema(
        self, table_name: str, /, *, catalog: str | None = None, database: Namespace = None
    ) -> sch.Schema:
        """Return the columns of a table, from the catalog.

        Raises
        ------
        TableNotFoundError
            Also an ``ibis.common.exceptions.TableNotFound``.
        PermissionDeniedError
        """
        if catalog is not None:
            raise no_catalogs()
        namespace = namespace_of(database)
        if namespace is None and (local := self.relation(table_name)) is not None:
            return arrow_schema(self.session.relations[local].schema)
        parts = parts_of(table_name, namespace)
        try:
            table = self.session.definition(parts)
        except NotFoundError as error:
            if error.kind != "Table":
                raise
            raise TableNotFoundError("Table", error.name, nearby=error.nearby) from None
        if table.kind is not TableKind.VIEW:
            return table_schema(table.visible_columns)
        source = exp.table_(parts[-1], db=namespace, quoted=True)
        return arrow_schema(self.session.describe_tree(exp.select("*").from_(source)))

    # --- definitions ------------------------------------------------------------------------------

    def create_table(
        self,
        name: str,
        /,
        obj: Any = None,
        *,
        schema: Any = None,
        database: Namespace = None,
        temp: bool = False,
        overwrite: bool = False,
        kind: str = "shared",
        primary_key: str | None = None,
        defaults: Mapping[str, str] | None = None,
        storage_id: str | None = None,
        use_user_storage: bool | None = None,
        flush_policy: str | None = None,
        deleted_retention_hours: int | None = None,
        ttl_seconds: int | None = None,
        access_level: str | None = None,
    ) -> ir.Table:
        """Create a table, and fill it.

        Parameters
        ----------
        name
            Name of the table.
        obj
            Its rows: an expression, a dataframe, Arrow data, a dict of columns.
        schema
            Its columns; without ``obj`` the table is empty.
        database
            The namespace; the current one if left out.
        temp
            True for a table in memory that only this connection sees.
        overwrite
            True to drop a table of this name first, with the rows of all users.
        kind
            ``shared``, ``user`` or ``stream``. Rows of a user or stream table are put in as the
            user of this connection.
        primary_key
            The key column; user tables need one.
        defaults
            SQL expressions by column, such as ``{"id": "SNOWFLAKE_ID()"}``.
        storage_id, use_user_storage, flush_policy, deleted_retention_hours, ttl_seconds, \
access_level
            The options of CREATE TABLE.

        Returns
        -------
        Table
            The table. It is not there if its rows do not fit.
        """
        if obj is None and schema is None:
            raise ValueError("Either `obj` or `schema` must be specified")
        namespace = namespace_of(database)
        columns = None if schema is None else ibis.schema(schema)
        rows = None
        if obj is not None:
            source = _expression(obj)
            rows = self._rows(source, columns)
            columns = source.schema() if columns is None else columns
        _refuse_untyped(columns)
        if temp:
            if namespace is not None:
                raise exc.UnsupportedArgumentError("Temporary tables are in no namespace")
            empty = kalam_schema(columns).empty_table()
            return self._create_local(name, empty if rows is None else rows, overwrite=overwrite)
        parts = parts_of(name, namespace)
        text = definitions.create_table(
            parts,
            columns,
            kind=kind,
            primary_key=primary_key,
            defaults=defaults or {},
            options={
                "storage_id": storage_id,
                "use_user_storage": use_user_storage,
                "flush_policy": flush_policy,
                "deleted_retention_hours": deleted_retention_hours,
                "ttl_seconds": ttl_seconds,
                "access_level": access_level,
            },
        )
        if overwrite:
            self.session.execute(definitions.drop("TABLE", parts, force=True))
        self.session.execute(text)
        if rows is not None and rows.num_rows:
            try:
                self.session.insert(".".join(parts), rows)
            except BaseException:
                self.session.execute(definitions.drop("TABLE", parts, force=True))
                raise
        return self.table(name, database=namespace)

    def _create_local(self, name: str, rows: pa.Table, *, overwrite: bool) -> ir.Table:
        checked_name(name)
        local = self.relation(name)
        if local is not None:
            if not overwrite:
                raise AlreadyExistsError("Table", name)
            del self.session.relations[local]
        self._set_local(name, rows)
        return self.table(name)

    def drop_table(self, name: str, /, *, database: Namespace = None, force: bool = False) -> None:
        """Drop a table with the rows of all users; with ``force`` it need not be there."""
        namespace = namespace_of(database)
        if namespace is None and (local := self.relation(name)) is not None:
            del self.session.relations[local]
            self._local_changes += 1
            return
        self.session.execute(definitions.drop("TABLE", parts_of(name, namespace), force=force))

    def rename_table(self, old_name: str, new_name: str) -> None:
        """Refuse: tables cannot be renamed."""
        raise NotSupportedError(
            f"Renaming '{old_name}' is not supported; create_table('{new_name}', "
            f"con.table('{old_name}')) copies it"
        )

    # --- rows -------------------------------------------------------------------------------------

    def insert(
        self,
        name: str,
        /,
        obj: Any,
        *,
        database: Namespace = None,
        overwrite: bool = False,
    ) -> None:
        """Insert rows.

        Parameters
        ----------
        name, database
            The table.
        obj
            An expression, a dataframe, Arrow data, dicts or tuples. Columns go by name if all of
            them are the table's, else by position.
        overwrite
            True to delete all rows first, of the user of this connection if it is a user table.
            It is one commit, but for stream tables, which take no part in transactions.
        """
        namespace = namespace_of(database)
        target = self.get_schema(name, database=namespace)
        local = self.relation(name) if namespace is None else None
        if local is not None:
            self._insert_local(local, self._rows_for(name, target, obj), overwrite=overwrite)
            return
        parts = parts_of(name, namespace)
        is_stream = self.session.definition(parts).kind is TableKind.STREAM
        with nullcontext() if is_stream or not overwrite else self._one_commit():
            # Within: what the rows are made from may be the rows that go.
            rows = self._rows_for(name, target, obj)
            if overwrite:
                self.truncate_table(name, database=namespace)
            self.session.insert(".".join(parts), rows)

    def _insert_local(self, name: str, rows: pa.Table, *, overwrite: bool) -> None:
        present = self.session.relations[name]
        more = [
            rows.column(field.name)
            if field.name in rows.column_names
            else pa.nulls(rows.num_rows, field.type)
            for field in present.schema
        ]
        added = pa.Table.from_arrays(more, schema=present.schema)
        self._set_local(name, added if overwrite else pa.concat_tables([present, added]))

    def upsert(self, name: str, /, obj: Any, on: str, *, database: Namespace = None) -> None:
        """Change the rows whose ``on`` is there, and insert the others.

        One commit: INSERT ... ON CONFLICT DO UPDATE on the primary key, else an UPDATE and an
        INSERT in a transaction.

        Parameters
        ----------
        name, database
            The table.
        obj
            As for `insert`. Columns that it lacks are left as they are.
        on
            The column that tells whether a row is there.
        """
        namespace = namespace_of(database)
        parts = parts_of(name, namespace)
        target = self.get_schema(name, database=namespace)
        rows = self._rows_for(name, target, obj)
        columns = rows.column_names
        if on not in columns:
            raise NotFoundError("Column", on, within="the rows given")
        if len(columns) == 1:
            raise InvalidDefinitionError("There is no column to set beside the one matched on")
        if namespace is None and self.relation(name) is not None:
            raise NotSupportedError("Upserts into temporary tables are not supported")
        key = self.session.definition(parts).primary_key
        source = util.gen_name("upsert")
        self.session.relations[source] = rows
        try:
            if key is not None and key.name == on:
                self.session.execute(definitions.upsert_by_key(parts, columns, on, source))
            else:
                with self._one_commit():
                    for text in definitions.upsert_by_column(parts, columns, on, source):
                        self.session.execute(text)
        finally:
            del self.session.relations[source]

    def _one_commit(self) -> AbstractContextManager[object]:
        """Begin a transaction, or stay in the one that the session has open."""
        return nullcontext() if self.session.in_transaction else self.session.transaction()

    def truncate_table(self, name: str, /, *, database: Namespace = None) -> None:
        """Delete all rows; of a user table those of the user of this connection."""
        namespace = namespace_of(database)
        if namespace is None and (local := self.relation(name)) is not None:
            self._set_local(local, self.session.relations[local].slice(0, 0))
            return
        self.session.execute(definitions.delete_all(parts_of(name, namespace)))

    def _rows_for(self, name: str, target: sch.Schema, obj: Any) -> pa.Table:
        """Return the rows of ``obj`` in columns of a table."""
        source = _expression(obj)
        if not set(source.columns) <= set(target.names):
            if len(source.columns) != len(target.names):
                unknown = next(column for column in source.columns if column not in target)
                raise NotFoundError("Column", unknown, within=name)
            source = source.rename(dict(zip(target.names, source.columns, strict=True)))
        return self._rows(source, sch.Schema({c: target[c] for c in source.columns}))

    def _rows(self, source: ir.Table, columns: sch.Schema | None) -> pa.Table:
        """Return the rows of an expression in the types of ``columns``, by name."""
        own = source.schema()
        op = source.op()
        if isinstance(op, ops.InMemoryTable):
            rows = memtable_rows(op)
        else:
            rows = self._table(source, None, None)
        if columns is None or columns.names == own.names:
            return relation_table(rows, own if columns is None else columns)
        if not set(own.names) <= set(columns.names):
            unknown = next(name for name in own.names if name not in columns)
            raise NotFoundError("Column", unknown, within="the schema given")
        return relation_table(rows, sch.Schema({name: columns[name] for name in own.names}))


def _expression(obj: Any) -> ir.Table:
    return obj if isinstance(obj, ir.Table) else ibis.memtable(obj)


def _refuse_untyped(columns: sch.Schema) -> None:
    if columns.null_fields:
        raise exc.IbisTypeError(
            f"Every column needs a type; these have none: {', '.join(columns.null_fields)}"
        )
