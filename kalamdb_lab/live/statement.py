"""SUBSCRIBE made ready: its table, its columns, its condition, and the query of its first rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from sqlglot import exp

from kalamdb_lab.authorization.gateway import authorize_namespace, authorize_read
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import InvalidOptionError, NotFoundError, NotSupportedError
from kalamdb_lab.live.filters import Condition, Shapes
from kalamdb_lab.live.scope import SubscriptionScope, columns_of
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.query.parameters import StatementContext
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.vectors import bound
from kalamdb_lab.sql.commands import Subscribe
from kalamdb_lab.sql.live import checked_option, more_than_a_table
from kalamdb_lab.tables.embedding import Remembered

_BATCH_SIZE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of the first rows.

    Attributes
    ----------
    said : dict of str to int
        Those that were given, by the names that SQL has for them.
    """

    last_rows: int | None = None
    batch_size: int = _BATCH_SIZE
    from_seq: int | None = None
    said: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def newest_first(self) -> bool:
        """True if the first rows are looked for from the end."""
        return self.from_seq is None and self.last_rows is not None


def options_of(
    statement: Subscribe,
    *,
    last_rows: int | None = None,
    batch_size: int | None = None,
    from_seq: int | None = None,
) -> Options:
    """Return the options of a statement and those given beside it.

    Raises
    ------
    InvalidOptionError
        One is given twice, or is no whole number in its range.
    """
    beside = {"last_rows": last_rows, "batch_size": batch_size, "from_seq_id": from_seq}
    said: dict[str, int] = {}
    for name, value in beside.items():
        written: int | None = getattr(statement, name)
        if written is not None and value is not None:
            raise InvalidOptionError(f"Option {name} appears twice")
        if written is not None:
            said[name] = written
        elif value is not None:
            said[name] = checked_option(name, value)
    return Options(
        last_rows=said.get("last_rows"),
        batch_size=said.get("batch_size", _BATCH_SIZE),
        from_seq=said.get("from_seq_id"),
        said=said,
    )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement whose names are resolved and allowed."""

    scope: SubscriptionScope
    request: Request
    source: exp.Table
    text: str

    def query(self, options: Options) -> exp.Expression:
        """Return the SELECT of the first rows; ascending, or with ``last_rows`` descending."""
        names = [exp.column(exp.to_identifier(name, quoted=True)) for name in self.scope.columns]
        tree = exp.Select(expressions=names, from_=exp.From(this=self.source.copy()))
        condition = self.scope.condition
        parts: list[exp.Expression] = (
            [] if condition is None else [exp.paren(condition.where.copy())]
        )
        if options.from_seq is not None:
            since = exp.Literal.number(options.from_seq)
            parts.append(exp.GT(this=exp.column("_seq"), expression=since))
        if parts:
            tree.set("where", exp.Where(this=exp.and_(*parts)))
        order = exp.Ordered(this=exp.column("_seq"), desc=options.newest_first, nulls_first=False)
        tree.set("order", exp.Order(expressions=[order]))
        if options.newest_first:
            tree.set("limit", exp.Limit(expression=exp.Literal.number(options.last_rows or 0)))
        return tree


def prepared(
    statement: Subscribe, request: Request, catalog: Catalog, shapes: Shapes, session_id: str
) -> Prepared:
    """Return a statement made ready for the user of a request.

    Raises
    ------
    NotFoundError, PermissionDeniedError
        As SELECT does.
    NotSupportedError
        The table is of a kind without live queries.
    """
    context = request.context
    request = request.without_relations()
    table = _table(statement, request, catalog)
    source = _source(statement)
    condition = None
    used: dict[int, str] = {}
    if statement.where is not None:
        # Each text is embedded once, now: batches of changes cannot wait for a function.
        request = replace(request, embedder=Remembered(request.embedder))
        told = StatementContext(context.user_id, context.now_us, request.embedder)
        condition = Condition(statement.where, source, request.params, told)
        used = {column.column_id: column.name for column in condition.columns(table)}
    listed = None if statement.columns is None else _listed(statement.columns, table)
    for column in table.visible_columns:
        if listed is not None and column.column_id in listed:
            used[column.column_id] = column.name
    scope = SubscriptionScope(
        context=context,
        table=table,
        partition=context.partition(table),
        listed=listed,
        condition=condition,
        used=used,
        columns=columns_of(table, listed),
        filter=None if condition is None else shapes.filter(condition, table),
        session_id=session_id,
    )
    if scope.filter is not None:
        given = dict(enumerate(request.params, start=1))
        bound(scope.filter.shape.plan.vectors, given, request.embedder)
    return Prepared(scope, request, source, statement.text)


def _table(statement: Subscribe, request: Request, catalog: Catalog) -> TableDef:
    context = request.context
    table_id = TableId.of(statement.table, namespace=context.namespace)
    authorize_namespace(table_id.namespace, context.role)
    table = catalog.table(table_id)
    if table.kind is TableKind.VIEW:
        raise more_than_a_table()
    authorize_read(table, context)
    if table.registered is not None:
        raise NotSupportedError(f"{table_id} is a registered table and has no live queries")
    if table.is_derived:
        raise NotSupportedError(f"{table_id} is made when it is read and has no live queries")
    return table


def _source(statement: Subscribe) -> exp.Table:
    names = [exp.to_identifier(name, quoted=True) for name in statement.table]
    source = exp.Table(this=names[-1], db=names[0] if len(names) > 1 else None)
    if statement.alias is not None:
        alias = exp.TableAlias(this=exp.to_identifier(statement.alias, quoted=True))
        source.set("alias", alias)
    return source


def _listed(names: tuple[str, ...], table: TableDef) -> tuple[int, ...]:
    ids = []
    for name in names:
        column = table.column(name)
        if column is not None:
            ids.append(column.column_id)
        elif name.lower() == "_deleted":
            raise NotSupportedError("_deleted is not supported in live queries")
        elif name.lower() != "_seq":  # every row has it
            raise NotFoundError("Column", name, within=str(table.table_id))
    return tuple(ids)
