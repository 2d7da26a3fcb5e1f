"""The system explorer: what a database has in it, and how large it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import ipywidgets
import pyarrow as pa

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import ClosedError, KalamError
from kalamdb_lab.live.difference import Difference
from kalamdb_lab.model.ids import SYSTEM_NAMESPACE
from kalamdb_lab.model.roles import Role
from kalamdb_lab.widgets.grid import Grid
from kalamdb_lab.widgets.live_table import LiveTable
from kalamdb_lab.widgets.live_view import LiveView
from kalamdb_lab.widgets.screen import Manner
from kalamdb_lab.widgets.sources import PolledRows, Source

_MOST_ROWS: Final = 10_000
_EVERYTHING: Final = "all namespaces"
_NAMESPACES, _TABLES = "Namespaces", "Tables"
_COLUMNS, _PARTITIONS, _ROWS = "Columns", "Partitions", "Rows"
_SIZES: Final = ("row_count", "bytes", "hot_rows", "segment_count", "scope_count")


class SystemExplorer(LiveTable):
    """Namespaces, tables, columns, partitions, sizes and rows; `kalamdb_lab.widgets.system`.

    What is seen follows the changes of the database. Rows of tables that are not of namespace
    ``system`` are the first 10,000, and the grid says of how many.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(_Panel(session).view)


class _Panel:
    """The controls and the grid; the page's registry of widgets holds it until the view ends."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._catalog = PolledRows(
            session, partial(_tables, session), ("namespace_id", "table_name")
        )
        self._is_listing = False
        self._namespace = ipywidgets.Dropdown(layout={"width": "230px"})
        self._table = ipywidgets.Select(rows=16, layout={"width": "230px"})
        self._what = ipywidgets.ToggleButtons(
            options=[_NAMESPACES, _TABLES, _COLUMNS, _PARTITIONS, _ROWS],
            value=_TABLES,
            style={"button_width": "auto"},
        )
        self._list(self._catalog.snapshot())
        grid = Grid(label="system", height=16, layout={"flex": "1 1 0", "min_width": "0"})
        side = ipywidgets.VBox([self._namespace, self._table])
        right = ipywidgets.VBox([self._what, grid], layout={"flex": "1 1 0", "min_width": "0"})
        try:
            source, manner = self._chosen()
            self.view = LiveView(
                source,
                manner,
                grid=grid,
                box=ipywidgets.HBox([side, right]),
                at_end=self._catalog.close,
            )
        except BaseException:
            self._catalog.close()
            raise
        self._catalog.watch(self._on_catalog)
        self._namespace.observe(self._on_namespace, "value")
        self._table.observe(self._on_table, "value")
        self._what.observe(self._show, "value")

    # --- the controls -----------------------------------------------------------------------------

    def _list(self, tables: pa.Table) -> None:
        """List namespaces and tables anew, and keep what is chosen where it is still there."""
        pairs = list(
            zip(*tables.select(["namespace_id", "table_name"]).to_pydict().values(), strict=True)
        )
        namespaces = (_EVERYTHING, *dict.fromkeys(_namespaces(self._session)))
        chosen = self._namespace.value if self._namespace.value in namespaces else _EVERYTHING
        names = tuple(
            f"{namespace}.{name}" for namespace, name in pairs if chosen in (_EVERYTHING, namespace)
        )
        self._is_listing = True
        try:
            if self._namespace.options != namespaces:
                self._namespace.options = namespaces
                self._namespace.value = chosen
            if self._table.options != names:
                kept = self._table.value
                self._table.options = names
                self._table.value = kept if kept in names else None
        finally:
            self._is_listing = False

    def _on_catalog(self, change: Difference) -> None:
        if change.ended is None:
            with contextlib.suppress(ClosedError):  # the view hears of that by itself
                self._list(change.table)

    def _on_namespace(self, _: object) -> None:
        if not self._is_listing:
            self._list(self._catalog.snapshot())
            self._show()

    def _on_table(self, _: object) -> None:
        if not self._is_listing:
            if self._what.value in (_NAMESPACES, _TABLES):
                self._what.value = _COLUMNS
            else:
                self._show()

    def _show(self, _: object = None) -> None:
        if not self.view.is_open:
            return
        try:
            self.view.replace(*self._chosen())
        except KalamError as error:
            self.view.say(str(error))
        else:
            if self._table.value is None and self._what.value not in (_NAMESPACES, _TABLES):
                self.view.say("Choose a table")

    # --- what is shown ----------------------------------------------------------------------------

    def _chosen(self) -> tuple[Source, Manner]:
        session, what, name = self._session, self._what.value, self._table.value
        if what == _NAMESPACES:
            return self._polled(lambda: _read(session, "SHOW NAMESPACES"), ("namespace_id",), what)
        if what == _TABLES or name is None:
            chosen = None if self._namespace.value == _EVERYTHING else self._namespace.value
            key = ("namespace_id", "table_name")
            return self._polled(partial(_sizes, session, chosen), key, what)
        manner = Manner(word=f"{what.lower()} of {name}", is_one_of_many=True)
        table = _quoted(name)
        if what == _COLUMNS:
            return PolledRows(
                session, lambda: _read(session, f"DESCRIBE {table}"), ("column_name",)
            ), manner
        if what == _PARTITIONS:
            return PolledRows(session, partial(_partitions, session, table), ("user_id",)), manner
        if name.startswith(f"{SYSTEM_NAMESPACE}."):
            return session.live(f"SELECT * FROM {table}"), manner
        rows = _FirstRows(session, table)
        return rows, replace(manner, total=rows.total)

    def _polled(
        self, read: Callable[[], pa.Table], key: tuple[str, ...], what: str
    ) -> tuple[Source, Manner]:
        manner = Manner(word=what.lower(), is_one_of_many=True)
        return PolledRows(self._session, read, key), manner


class _FirstRows:
    """The first rows of a table, and a count of all that `SELECT *` would give."""

    def __init__(self, session: Session, table: str) -> None:
        self._rows = session.live(f"SELECT * FROM {table} LIMIT {_MOST_ROWS}")
        try:
            self._count = session.live(f"SELECT count(*) FROM {table}")
        except BaseException:
            self._rows.close()
            raise
        self.snapshot, self.watch, self.wait = (
            self._rows.snapshot,
            self._rows.watch,
            self._rows.wait,
        )

    @property
    def key(self) -> tuple[str, ...] | None:
        return self._rows.key

    def total(self, held: int) -> int:
        """Return how many rows there are, if the view holds as many as it may."""
        return held if held < _MOST_ROWS else int(self._count.snapshot().column(0)[0].as_py())

    def close(self) -> None:
        self._rows.close()
        self._count.close()


def _read(session: Session, statement: str) -> pa.Table:
    return session.execute(statement).to_arrow()


def _quoted(name: str) -> str:
    return ".".join(f'"{part}"' for part in name.split("."))


def _namespaces(session: Session) -> list[str]:
    names: list[str] = _read(session, "SHOW NAMESPACES").column("namespace_id").to_pylist()
    return names


def _tables(session: Session) -> pa.Table:
    """Return all tables, those of ``system`` too for who may see them."""
    tables = _read(session, "SHOW TABLES")
    if session.role < Role.DBA:
        return tables
    own = _read(session, f"SHOW TABLES IN {SYSTEM_NAMESPACE}")
    return pa.concat_tables([tables, own])


def _sizes(session: Session, namespace: str | None) -> pa.Table:
    """Return the tables with their sizes: the own rows alone, or for dba and system all."""
    tables = _tables(session).select(["namespace_id", "table_name", "table_type", "access_level"])
    rows: list[dict[str, Any]] = []
    for table in tables.to_pylist():
        if namespace not in (None, table["namespace_id"]):
            continue
        stats: dict[str, Any] = dict.fromkeys(_SIZES)
        name = f'"{table["namespace_id"]}"."{table["table_name"]}"'
        with contextlib.suppress(KalamError):  # a view, or a table that is closed to the user
            found = _read(session, f"SHOW STATS FOR TABLE {name}").to_pylist()[0]
            stats = {name: found[name] for name in _SIZES}
        rows.append(table | stats)
    schema = pa.schema([*tables.schema, *(pa.field(name, pa.int64()) for name in _SIZES)])
    sized = pa.Table.from_pylist(rows, schema=schema)
    return sized.select(["namespace_id", "table_name", "table_type", *_SIZES, "access_level"])


def _partitions(session: Session, table: str) -> pa.Table:
    """Return one row for each scope with flushed rows."""
    listed = _read(session, f"SHOW MANIFEST FOR TABLE {table}")
    grouped = listed.group_by("user_id", use_threads=False).aggregate(
        [
            ("segment", "count"),
            ("row_count", "sum"),
            ("removed_versions", "sum"),
            ("bytes", "sum"),
            ("min_seq", "min"),
            ("max_seq", "max"),
            ("created_at", "max"),
        ]
    )
    names = ["segments", "rows", "removed", "bytes", "min_seq", "max_seq", "newest"]
    return grouped.rename_columns(["user_id", *names])
