"""Rows whose vectors an embedding function makes: at INSERT, and when UPDATE changes a text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kalamdb_lab.arrow.schemas import field_for
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.tables.embedding import Filling, Float32, StatementVectors, fillings

Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Left:
    """Which cells of offered rows were left to their default.

    Attributes
    ----------
    columns : frozenset of int
        Ids of columns that no row has a value for.
    rows : dict of int to frozenset of int
        By the id of another column, the numbers of the rows without a value.
    """

    columns: frozenset[int] = frozenset()
    rows: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def has(self, column_id: int, row: int) -> bool:
        """Return whether a cell was left out."""
        return column_id in self.columns or row in self.rows.get(column_id, ())


def left_out(
    table: TableDef, given: Collection[int], rows: Mapping[int, Collection[int]] | None = None
) -> Left:
    """Return what is left out where rows have values for the columns with these ids.

    Parameters
    ----------
    rows : dict of int to collection of int, optional
        By column id, the numbers of the rows that have none all the same.
    """
    return Left(
        frozenset(c.column_id for c in table.columns) - frozenset(given),
        {column_id: frozenset(numbers) for column_id, numbers in (rows or {}).items()},
    )


def filled_rows(
    table: TableDef,
    rows: Sequence[Row],
    left: Left,
    vectors: StatementVectors,
    *,
    numbers: Collection[int] | None = None,
) -> Sequence[Row]:
    """Return offered rows with vectors where these were left out and there is a text.

    An explicit NULL stays, as it does beside a DEFAULT.

    Parameters
    ----------
    numbers : collection of int, optional
        Fill these rows only.
    """
    filled: list[Row] | None = None
    for filling in fillings(table):
        wanted = [
            number
            for number in (range(len(rows)) if numbers is None else numbers)
            if left.has(filling.column.column_id, number)
            and rows[number][filling.at] is None
            and rows[number][filling.source_at] is not None
        ]
        if wanted:
            filled = list(rows) if filled is None else filled
            _fill(filling, filled, wanted, vectors)
    return rows if filled is None else filled


def blank_rows(table: TableDef, rows: Sequence[Row], left: Left) -> Sequence[Row]:
    """Return offered rows with something where `filled_rows` would put a vector."""
    blank = list(rows)
    for filling in fillings(table):
        for number, row in enumerate(blank):
            if (
                row[filling.at] is None
                and row[filling.source_at] is not None
                and left.has(filling.column.column_id, number)
            ):
                blank[number] = _with(row, filling.at, b"")
    return blank


def filled_table(
    table: TableDef, rows: pa.Table, left: Left, vectors: StatementVectors
) -> pa.Table:
    """Return what `filled_rows` does, for Arrow data with all columns of the table."""
    for filling in fillings(table):
        column_id = filling.column.column_id
        some = left.rows.get(column_id, ())
        if column_id not in left.columns and not some:
            continue
        present = rows.column(filling.at)
        texts = rows.column(filling.source_at)
        wanted = np.logical_and(_is_null(present), np.logical_not(_is_null(texts)))
        if column_id not in left.columns:
            wanted &= np.isin(np.arange(len(wanted)), np.fromiter(some, np.int64, len(some)))
        if not wanted.any():
            continue
        asked = texts.filter(pa.array(wanted)).to_pylist()
        places: dict[str, int] = {}
        picked = np.fromiter((places.setdefault(text, len(places)) for text in asked), np.int64)
        made = vectors.vectors(filling.embedded, list(places))
        if present.null_count == len(present):
            column = _column(made, picked, wanted)
        else:  # some rows were given a vector, or their default has one
            both = pa.concat_arrays([*present.chunks, _column(made, picked, None)])
            index = np.arange(len(present))
            index[wanted] = len(present) + np.arange(len(picked))
            column = both.take(pa.array(index))
        rows = rows.set_column(filling.at, field_for(filling.column).with_nullable(True), column)
    return rows


def remade_rows(
    table: TableDef,
    old: Sequence[Row],
    new: Sequence[Row],
    assigned: Collection[int],
    defaulted: Collection[int],
    vectors: StatementVectors,
) -> Sequence[Row]:
    """Return changed rows with new vectors where their texts are others.

    Parameters
    ----------
    assigned, defaulted : collections of int
        Ids of the columns that SET names, and of those of them that it sets to DEFAULT: these
        get a vector whether or not the text is another.
    """
    remade: list[Row] | None = None
    for filling in fillings(table):
        column_id, at, source_at = filling.column.column_id, filling.at, filling.source_at
        if column_id in defaulted:
            changed = [number for number, row in enumerate(new) if row[at] is None]
        elif column_id in assigned:
            continue
        else:
            pairs = enumerate(zip(old, new, strict=True))
            changed = [n for n, (was, row) in pairs if was[source_at] != row[source_at]]
        if not changed:
            continue
        remade = list(new) if remade is None else remade
        for number in changed:
            remade[number] = _with(remade[number], at, None)
        wanted = [number for number in changed if new[number][source_at] is not None]
        _fill(filling, remade, wanted, vectors)
    return new if remade is None else remade


def _fill(
    filling: Filling, rows: list[Row], numbers: Sequence[int], vectors: StatementVectors
) -> None:
    texts = dict.fromkeys(cast("str", rows[number][filling.source_at]) for number in numbers)
    if not texts:
        return
    made = vectors.vectors(filling.embedded, list(texts)).astype("<f4", copy=False)
    by_text = dict(zip(texts, map(bytes, made), strict=True))
    for number in numbers:
        text = cast("str", rows[number][filling.source_at])
        rows[number] = _with(rows[number], filling.at, by_text[text])


def _with(row: Row, at: int, value: bytes | None) -> Row:
    return (*row[:at], value, *row[at + 1 :])


def _is_null(values: pa.ChunkedArray) -> Bools:
    return cast("Bools", values.is_null().to_numpy())


def _column(made: Float32, picked: Places, wanted: Bools | None) -> pa.Array:
    """Return vectors as an array: one for each of ``picked``, NULL where none is wanted."""
    dimension, mask = made.shape[1], None
    # Texts are numbered in the order in which they come: all different, they are in place.
    flat = made if len(picked) == len(made) else made[picked]
    if wanted is not None and not wanted.all():
        given = flat
        flat, mask = np.zeros((len(wanted), dimension), np.float32), pa.array(~wanted)
        flat[wanted] = given
    components = pa.array(flat.reshape(-1), pa.float32())
    return pa.FixedSizeListArray.from_arrays(components, dimension, mask=mask)
