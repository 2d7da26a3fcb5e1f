"""The queries of views, parsed once, and the columns that they have now."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from sqlglot import exp

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import KalamError, NotFoundError
from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind
from kalamdb_lab.query.plan_cache import PlanCache
from kalamdb_lab.sql.queries import parse_query

_VIEWS_KEPT = 2_000

Columns = tuple[ColumnDef, ...]
FieldsOf = Callable[[exp.Expression], Sequence[tuple[str, KalamDataType]]]


class ViewColumns:
    """What views are as of now: ``*`` expands when a view is read.

    Parameters
    ----------
    fields_of : callable
        Name and type of each column of a query, for anybody: definitions are public.
    """

    def __init__(self, catalog: Catalog, fields_of: FieldsOf) -> None:
        self._catalog = catalog
        self._fields_of = fields_of
        self._queries: PlanCache[tuple[exp.Expression, frozenset[TableId]]] = PlanCache(_VIEWS_KEPT)
        self._columns: PlanCache[Columns] = PlanCache(_VIEWS_KEPT)
        self._returned: PlanCache[int] = PlanCache(_VIEWS_KEPT)

    def query(self, view: TableDef) -> exp.Expression:
        """Return the SELECT of a view; do not change it."""
        return self._parsed(view)[0]

    def _parsed(self, view: TableDef) -> tuple[exp.Expression, frozenset[TableId]]:
        """Return the SELECT of a view and the tables and views that it names."""
        text = view.view_sql
        if text is None:
            raise NotFoundError("View", str(view.table_id))

        def parse() -> tuple[exp.Expression, frozenset[TableId]]:
            tree = parse_query(text)
            # All names in it are full but those of CTEs.
            return tree, frozenset(TableId(t.db, t.name) for t in tree.find_all(exp.Table) if t.db)

        return self._queries.get_or_make((view.table_key, view.schema_version), parse)

    def columns(self, view: TableDef) -> Columns:
        """Return the columns of a view; those it was made with if what it reads from is gone."""
        name = exp.table_(view.table_id.name, db=view.table_id.namespace, quoted=True)

        def described() -> Columns:
            fields = self._fields_of(exp.select("*").from_(name))
            return tuple(
                ColumnDef(column_id=at, name=name, data_type=data_type, position=at)
                for at, (name, data_type) in enumerate(fields, start=1)
            )

        try:
            return self._columns.get_or_make(self._versions_under(view), described)
        except KalamError:
            return view.columns

    def returned(self, view: TableDef) -> int | None:
        """Return how many columns the SELECT of a view gives; None if it cannot be run."""
        try:
            return self._returned.get_or_make(
                self._versions_under(view), lambda: len(self._fields_of(self.query(view)))
            )
        except KalamError:
            return None

    def _versions_under(self, view: TableDef) -> Hashable:
        """Return what the columns of a view follow from: versions of all tables and views in it."""
        found: dict[TableId, tuple[int, int] | None] = {}
        pending = {view.table_id}
        while pending:
            table_id = pending.pop()
            table = self._catalog.find_table(table_id)
            found[table_id] = None if table is None else (table.table_key, table.schema_version)
            if table is not None and table.kind is TableKind.VIEW:
                pending |= self._parsed(table)[1] - found.keys()
        return view.table_key, frozenset(found.items())
