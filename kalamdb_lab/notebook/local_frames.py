"""Dataframes of the notebook that a statement reads by the name of their variable."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from kalamdb_lab.errors import AmbiguousError, KalamError, NotFoundError, NotSupportedError
from kalamdb_lab.model.readable import plural
from kalamdb_lab.notebook.references import TableReference
from kalamdb_lab.notebook.snippets import table_exists

if TYPE_CHECKING:
    import pyarrow as pa

    from kalamdb_lab.engine.session import Session

LOCAL: Final = "local"
"""What may stand before the name of a variable, where a table might have that name."""

_KINDS: Final = {
    ("pandas", "DataFrame"): "pandas DataFrame",
    ("polars", "DataFrame"): "polars DataFrame",
    ("pyarrow", "Table"): "Arrow table",
    ("pyarrow", "RecordBatch"): "Arrow record batch",
    ("kalamdb_lab", "Result"): "result",
    ("kalamdb_lab", "Preview"): "result",
}
_WAYS_OUT: Final = {
    ("polars", "LazyFrame"): ("a polars LazyFrame", "collect()"),
    ("polars", "Series"): ("a polars Series", "to_frame()"),
    ("pandas", "Series"): ("a pandas Series", "to_frame()"),
    ("pyarrow", "RecordBatchReader"): ("an Arrow reader", "read_all()"),
    ("ibis", "Table"): ("an ibis expression", "to_pyarrow()"),
}
"""What is not read as it is: what it is called, and which method gives what is read."""


def frame_names(names: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that hold a dataframe, and what kind of it."""
    found = {}
    for name, value in list(names.items()):
        kind = _found(_KINDS, value)
        if kind is not None:
            found[name] = kind
    return found


def column_names(name: str, names: Mapping[str, Any]) -> list[str]:
    """Return the columns of the dataframe in a variable; none if it holds no dataframe.

    The name is as written, or folded if only one dataframe is called so.
    """
    known = frame_names(names)
    called = [name] if name in known else [other for other in known if other.lower() == name]
    if len(called) != 1:
        return []
    value = names[called[0]]
    columns = value.schema.names if hasattr(value, "schema") and hasattr(value, "nbytes") else None
    # An index whose levels all have names is read as columns, too.
    index = getattr(getattr(value, "index", None), "names", ())
    index = () if None in index else index
    return [str(column) for column in (*index, *(value.columns if columns is None else columns))]


def may_read(sql: str, names: Mapping[str, Any]) -> bool:
    """Return whether a text could name a dataframe; quick, and true too often."""
    lowered = sql.lower()
    if f"{LOCAL}." in lowered or f'"{LOCAL}"' in lowered:
        return True
    return any(
        name.lower() in lowered
        for name, value in list(names.items())
        if _found(_KINDS, value) is not None or _found(_WAYS_OUT, value) is not None
    )


class LocalTables:
    """What one statement is given besides the tables of the database.

    Parameters
    ----------
    names : mapping
        Where the variables are looked up.

    Attributes
    ----------
    relations : dict of str to pyarrow.Table
        By the name that the statement uses.
    origins : list of str
        Where each came from, for the footer.
    """

    def __init__(self, names: Mapping[str, Any], session: Session) -> None:
        self._names = names
        self._session = session
        self.relations: dict[str, pa.Table] = {}
        self.origins: list[str] = []

    def add(self, table: TableReference) -> None:
        """Add the dataframe that stands for a table, if there is no such table.

        Raises
        ------
        NotSupportedError
            The name is that of a lazy frame or a reader; what to call is said.
        NotFoundError
            ``local.name`` names no dataframe.
        AmbiguousError
            ``local.name`` is a table, too.
        KalamError
            A column has no type here, or a name that is not allowed.
        """
        name = _variable(table, self._names, self._session)
        if name is None:
            return
        key = name if len(table.parts) == 1 else f"{LOCAL}.{name}"
        if key not in self.relations:
            value = self._names[name]
            rows = self.relations[key] = _rows(name, value)
            origin = f"{name}: local {_found(_KINDS, value)}, {plural(rows.num_rows, 'row')}"
            if origin not in self.origins:
                self.origins.append(origin)


def _variable(table: TableReference, names: Mapping[str, Any], session: Session) -> str | None:
    """Return the variable that a reference means, if it means one."""
    *namespace, name = table.parts
    is_explicit = [part.lower() for part in namespace] == [LOCAL]
    if namespace and not is_explicit:
        return None
    value = names.get(name)
    is_frame = _found(_KINDS, value) is not None
    way_out = _found(_WAYS_OUT, value)
    if not is_explicit:
        if not (is_frame or way_out) or table_exists(session, table.parts):
            return None
    elif table_exists(session, table.parts):
        if not is_frame:
            return None
        raise AmbiguousError(
            f"'{LOCAL}.{name}' is a table and a dataframe; give the dataframe another name"
        )
    if way_out is not None:
        what, method = way_out
        raise NotSupportedError(f"'{name}' is {what}; read what {name}.{method} returns")
    if not is_frame:
        near = difflib.get_close_matches(name, frame_names(names), n=1, cutoff=0.6)
        nearby = [f"{LOCAL}.{item}" for item in near]
        raise NotFoundError("Local dataframe", f"{LOCAL}.{name}", nearby=nearby)
    return name


def _rows(name: str, value: Any) -> pa.Table:
    from kalamdb_lab.arrow.frames import normalise_table
    from kalamdb_lab.query.request import LocalRelations

    try:
        if type(value).__module__.startswith("kalamdb_lab"):
            value = value.to_arrow()
        rows = normalise_table(value)
        LocalRelations()[name] = rows  # refuses columns that a statement could not name
    except KalamError as error:
        error.message = f"'{name}': {error.message}"
        raise
    return rows


def _found(kinds: Mapping[tuple[str, str], Any], value: Any) -> Any:
    for cls in type(value).__mro__:
        found = kinds.get((cls.__module__.partition(".")[0], cls.__name__))
        if found is not None:
            return found
    return None
