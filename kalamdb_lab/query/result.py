"""What a statement answers: Arrow inside, rows, frames and a readable picture outside."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from kalamdb_lab.arrow.arrays import python_from_array
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.errors import NotSupportedError
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind
from kalamdb_lab.query.vector_scans import Search

_SHOWN_ROWS = 20
_SHOWN_COLUMNS = 20
_CELL_CHARACTERS = 60
_LINE_CHARACTERS = 160


class Result:
    """The answer of one statement. Iterating it gives rows as tuples of Python values.

    Attributes
    ----------
    statement_kind : str
        ``SELECT``, ``INSERT``, ``CREATE TABLE`` and so on.
    rows_affected : int or None
        Rows that the statement inserted, changed or deleted; None for queries and DDL.
    message : str or None
        What a statement without rows of its own has to say.
    elapsed_ms : float
        From the text to the last row.
    total_rows : int
        How many rows there are; more than ``row_count`` if the caller wanted only the first.
    searches : tuple of Search
        What the vector searches of a query did: ``path``, ``rows_scanned``, ``rows_reranked``
        and, where an index was asked, its ``recall``. Empty where the engine ranked all rows.
    """

    def __init__(
        self,
        table: pa.Table,
        *,
        statement_kind: str = "SELECT",
        rows_affected: int | None = None,
        message: str | None = None,
        elapsed_ms: float = 0.0,
        total_rows: int | None = None,
    ) -> None:
        self._table = table
        self.total_rows = table.num_rows if total_rows is None else total_rows
        self._rows: list[tuple[object, ...]] | None = None
        self.statement_kind = statement_kind
        self.rows_affected = rows_affected
        self.message = message
        self.elapsed_ms = elapsed_ms
        self.searches: tuple[Search, ...] = ()

    @classmethod
    def of_table(
        cls, statement_kind: str, table: pa.Table, *, total_rows: int | None = None
    ) -> Result:
        """Return the answer of a query."""
        return cls(table, statement_kind=statement_kind, total_rows=total_rows)

    @classmethod
    def of_message(cls, statement_kind: str, message: str) -> Result:
        """Return the answer of a command: one row with one column ``message``."""
        table = pa.table({"message": pa.array([message], pa.string())})
        return cls(table, statement_kind=statement_kind, message=message)

    @classmethod
    def of_count(
        cls, statement_kind: str, rows_affected: int, returned: pa.Table | None = None
    ) -> Result:
        """Return the answer of a write; with RETURNING it has rows beside the count."""
        table = pa.table({}) if returned is None else returned
        return cls(table, statement_kind=statement_kind, rows_affected=rows_affected)

    def searched(self, searches: Sequence[Search]) -> Result:
        """Note what vector searches did, and return itself."""
        self.searches = tuple(searches)
        return self

    def timed(self, elapsed_ms: float) -> Result:
        """Note the time from the text to the last row, and return itself."""
        self.elapsed_ms = elapsed_ms
        return self

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order; they may repeat."""
        return list(self._table.column_names)

    @property
    def types(self) -> list[KalamDataType]:
        """Types of the columns, in order."""
        return [kalam_type(field) for field in self._table.schema]

    @property
    def row_count(self) -> int:
        """How many rows the answer has."""
        return int(self._table.num_rows)

    def __len__(self) -> int:
        return self.row_count

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        return iter(self.rows())

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows as tuples of the Python values that each type has."""
        if self._rows is None:
            self._rows = _rows_of(self._table)
        return self._rows

    def to_arrow(self) -> pa.Table:
        """Return the rows as Arrow; the logical type of a column is in its field's metadata."""
        return self._table

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame. UUID columns hold uuid.UUID, DECIMAL ones Decimal."""
        frame = self._table.to_pandas()
        for position, data_type in enumerate(self.types):
            if data_type.kind is TypeKind.UUID:
                values = python_from_array(self._table.column(position), data_type)
                frame.isetitem(position, values)
        return frame

    def to_polars(self) -> Any:
        """Return a polars DataFrame. UUID columns hold text; columns that repeat get a number."""
        try:
            import polars as pl
        except ImportError:
            raise NotSupportedError("polars is not installed; run pip install polars") from None

        table = self._table
        for position, data_type in enumerate(self.types):
            if data_type.kind is TypeKind.UUID:
                values = python_from_array(table.column(position), data_type)
                texts = pa.array([None if v is None else str(v) for v in values], pa.string())
                table = table.set_column(position, table.column_names[position], texts)
        return pl.from_arrow(table.rename_columns(_unique(table.column_names)))

    def to_ibis(self) -> Any:
        """Return the rows as an ibis table in memory, to go on with in any ibis expression."""
        import ibis

        return ibis.memtable(self._table)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    # --- pictures -----------------------------------------------------------------------

    def footer(self) -> str:
        """Return one line: how many rows, changed rows, columns, and how long it took."""
        parts: list[str] = []
        if self.rows_affected is not None:
            parts.append(f"{_count(self.rows_affected, 'row')} {_verb(self.statement_kind)}")
        if self.message is None and (self.rows_affected is None or self.columns):
            parts.append(_count(self.row_count, "row"))
            parts.append(_count(len(self.columns), "column"))
        parts.append(_elapsed(self.elapsed_ms))
        return " · ".join(parts)

    def __repr__(self) -> str:
        if self.message is not None:
            return f"{self.message} · {_elapsed(self.elapsed_ms)}"
        names, rows, dropped = self._shown()
        if not names:
            return self.footer()
        right = [data_type.is_numeric for data_type in self.types[: len(names)]]
        widths = [max(len(cell) for cell in column) for column in zip(names, *rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in (names, ["-" * width for width in widths], *rows)
        ]
        lines = [line if len(line) <= _LINE_CHARACTERS else _cut(line) for line in lines]
        return "\n".join([*lines, *([dropped] if dropped else []), self.footer()])

    def _repr_html_(self) -> str:
        if self.message is not None:
            return f"<div>{html.escape(repr(self))}</div>"
        names, rows, dropped = self._shown()
        right = [data_type.is_numeric for data_type in self.types[: len(names)]]
        style = [' style="text-align:right"' if numeric else "" for numeric in right]
        head = "".join(
            f"<th{css}>{html.escape(name)}</th>" for name, css in zip(names, style, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f"<td{css}>{html.escape(cell)}</td>" for cell, css in zip(row, style, strict=True)
            )
            + "</tr>"
            for row in rows
        )
        foot = " · ".join(part for part in (dropped, self.footer()) if part)
        return (
            f'<div><table border="0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            f"<small>{html.escape(foot)}</small></div>"
        )

    def _shown(self) -> tuple[list[str], list[list[str]], str]:
        """Return names and cells of what is shown, and a line about what is not."""
        few = self._table.slice(0, _SHOWN_ROWS)
        position = min(len(self.columns), _SHOWN_COLUMNS)
        few = few.select(list(range(position)))
        names = [_cut(name, _CELL_CHARACTERS) for name in few.column_names]
        rows = [[_cell(value) for value in row] for row in _rows_of(few)]
        missing: list[str] = []
        if self.row_count > _SHOWN_ROWS:
            missing.append(f"showing {_SHOWN_ROWS:,} of {self.row_count:,} rows")
        if len(self.columns) > position:
            missing.append(f"showing {position} of {len(self.columns)} columns")
        return names, rows, " · ".join(missing)


def _rows_of(table: pa.Table) -> list[tuple[object, ...]]:
    if not table.num_columns:
        return [()] * table.num_rows
    columns = [
        python_from_array(column, kalam_type(field))
        for field, column in zip(table.schema, table.columns, strict=True)
    ]
    return list(zip(*columns, strict=True))


def _unique(names: list[str]) -> list[str]:
    taken = set(names)
    seen: set[str] = set()
    unique: list[str] = []
    for name in names:
        own, number = name, 1
        while own in seen or (own != name and own in taken):
            own = f"{name}_{number}"
            number += 1
        seen.add(own)
        unique.append(own)
    return unique


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray)):
        return _cut(f"X'{value.hex().upper()}'", _CELL_CHARACTERS)
    if isinstance(value, float):
        return f"{value:.10g}"
    return _cut(str(value).replace("\n", "⏎").replace("\r", ""), _CELL_CHARACTERS)


def _cut(text: str, length: int = _LINE_CHARACTERS) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _verb(statement_kind: str) -> str:
    return {"INSERT": "inserted", "UPDATE": "updated", "DELETE": "deleted"}.get(
        statement_kind, "changed"
    )


def _elapsed(milliseconds: float) -> str:
    if milliseconds < 1_000:
        return f"{milliseconds:.3g} ms"
    return f"{milliseconds / 1_000:.3g} s"
