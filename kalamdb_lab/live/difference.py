"""What changed between two states of a result: rows matched by a key, all columns at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.errors import DuplicateKeyError, KalamError
from kalamdb_lab.live.row_codes import (
    Columns,
    Mask,
    Positions,
    dense,
    floats_of,
    nulls_of,
    rows_codes,
    values_codes,
)

_NONE: Positions = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Difference:
    """How a live result became what it is.

    Attributes
    ----------
    table : pa.Table
        The whole new result, in the query's order.
    inserted, updated : (n,) int64, ascending
        Rows of ``table`` that are new, and those whose key was there with other values. A row
        that only moved is neither.
    deleted : pa.Table
        The old rows that are gone.
    seq : int
        The number of the log that ``table`` shows.
    at_us : int
        When it was evaluated, in µs since 1970.
    ended : str or None
        Why the live result ended; no other difference follows.
    error : KalamError or None
        Why the newest evaluation failed: ``table`` is the state before, and the next change of
        the data tries again.
    """

    table: pa.Table
    inserted: Positions
    updated: Positions
    deleted: pa.Table
    seq: int
    at_us: int
    ended: str | None = None
    error: KalamError | None = None

    def __repr__(self) -> str:
        told = [f"{self.table.num_rows:,} rows"]
        for name, count in (
            ("inserted", len(self.inserted)),
            ("updated", len(self.updated)),
            ("deleted", self.deleted.num_rows),
        ):
            if count:
                told.append(f"{count:,} {name}")
        if self.error is not None:
            told.append(f"error: {self.error}")
        if self.ended is not None:
            told.append(f"ended: {self.ended}")
        return f"<kalamdb_lab.Difference of {', '.join(told)}>"


@dataclass(frozen=True, slots=True)
class RowChanges:
    """The rows by which two tables differ.

    Attributes
    ----------
    inserted, updated : (n,) int64, ascending
        Rows of the new table.
    deleted : (m,) int64, ascending
        Rows of the old one.
    is_reordered : bool
        True if rows that stayed changed their order among themselves.
    """

    inserted: Positions
    updated: Positions
    deleted: Positions
    is_reordered: bool = False

    def __bool__(self) -> bool:
        return bool(len(self.inserted) or len(self.updated) or len(self.deleted))


NOTHING = RowChanges(_NONE, _NONE, _NONE)


def changes_between(old: pa.Table, new: pa.Table, key: Sequence[int] | None = None) -> RowChanges:
    """Return how rows of ``old`` became rows of ``new``.

    Parameters
    ----------
    old, new : pa.Table
        In canonical Arrow types. If their columns differ, all rows are deleted and inserted.
    key : sequence of int, optional
        The positions of the columns that tell rows apart; with none of them (an empty sequence)
        there is one row. Rows with equal keys are matched in the order in which they stand. By
        default rows are matched by their whole content.

    Notes
    -----
    NULL equals NULL, NaN equals NaN, and zero has no sign. The time is linear in the rows, and
    small where most rows stand where they stood, or moved together.
    """
    if not _are_alike(old.schema, new.schema):
        return RowChanges(np.arange(new.num_rows), _NONE, np.arange(old.num_rows))
    befores, afters = _flat(old), _flat(new)
    old_at, new_at = _unlike(befores, afters, old.num_rows, new.num_rows)
    if not len(old_at) and not len(new_at):
        return NOTHING
    befores = _taken(befores, old_at)
    afters = _taken(afters, new_at)
    places = range(len(befores)) if key is None else key
    partner = _partners(
        [befores[at] for at in places], [afters[at] for at in places], len(old_at), len(new_at)
    )
    is_matched = partner >= 0
    is_kept = np.zeros(len(old_at), bool)
    is_kept[partner[is_matched]] = True
    updated = _NONE
    if key is not None and is_matched.any():
        rest = [at for at in range(len(befores)) if at not in key]
        pairs = np.flatnonzero(is_matched)
        same = _same_rows(
            _taken([befores[at] for at in rest], partner[pairs]),
            _taken([afters[at] for at in rest], pairs),
            len(pairs),
        )
        updated = new_at[pairs[~same]]
    return RowChanges(
        new_at[~is_matched],
        updated,
        old_at[~is_kept],
        _is_reordered(old.num_rows, new.num_rows, old_at, new_at, partner),
    )


def difference(
    old: pa.Table,
    new: pa.Table,
    changes: RowChanges,
    *,
    seq: int,
    at_us: int,
    ended: str | None = None,
    error: KalamError | None = None,
) -> Difference:
    """Return the changes between two tables as those who watch get them."""
    deleted = old.take(pa.array(changes.deleted)) if len(changes.deleted) else old.slice(0, 0)
    return Difference(
        new, changes.inserted, changes.updated, deleted, seq, at_us, ended=ended, error=error
    )


def check_unique(table: pa.Table, key: Sequence[int]) -> None:
    """Refuse a result in which a key that the user gave does not tell rows apart.

    Raises
    ------
    DuplicateKeyError
    """
    columns = [_combined(table.column(at)) for at in key]
    codes, _ = rows_codes(columns, table.num_rows)
    if len(codes) and int(np.bincount(codes).max()) > 1:
        names = ", ".join(table.column_names[at] for at in key)
        raise DuplicateKeyError(
            f"The key ({names}) does not tell the rows of the result apart; give other columns"
        )


def _are_alike(old: pa.Schema, new: pa.Schema) -> bool:
    return bool(old.names == new.names and old.types == new.types)


def _flat(table: pa.Table) -> list[pa.Array]:
    return [_combined(column) for column in table.columns]


def _combined(column: Any) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            column = column.chunk(0)
        else:
            column = pa.concat_arrays(column.chunks) if column.chunks else _empty(column.type)
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _empty(kind: pa.DataType) -> pa.Array:
    return pa.nulls(0, kind)


def _taken(columns: Columns, at: Positions) -> list[pa.Array]:
    if not len(at) or (at[-1] - at[0] + 1 == len(at) and bool(np.all(np.diff(at) == 1))):
        return [column.slice(int(at[0]) if len(at) else 0, len(at)) for column in columns]
    chosen = pa.array(at)
    return [column.take(chosen) for column in columns]


# --- where the tables differ at all ---------------------------------------------------------------


def _unlike(
    befores: Columns, afters: Columns, old_rows: int, new_rows: int
) -> tuple[Positions, Positions]:
    """Return the rows of both tables that are left when equal ones at equal places are not."""
    shared = min(old_rows, new_rows)
    same = _same_rows(
        [column.slice(0, shared) for column in befores],
        [column.slice(0, shared) for column in afters],
        shared,
    )
    if old_rows == new_rows:
        left = np.flatnonzero(~same)
        return left, left
    head = shared if same.all() else int(np.argmin(same))
    rest = shared - head
    # What stands behind an insertion or a deletion moved together with its end.
    same = _same_rows(
        [column.slice(old_rows - rest) for column in befores],
        [column.slice(new_rows - rest) for column in afters],
        rest,
    )
    tail = rest if same.all() else int(np.argmin(same[::-1]))
    return np.arange(head, old_rows - tail), np.arange(head, new_rows - tail)


def _same_rows(befores: Columns, afters: Columns, rows: int) -> Mask:
    same = np.ones(rows, bool)
    for before, after in zip(befores, afters, strict=True):
        if rows:
            same &= _same_values(before, after)
    return same


def _same_values(before: pa.Array, after: pa.Array) -> Mask:
    kind = before.type
    if pa.types.is_floating(kind):
        one, other = floats_of(before), floats_of(after)
        equal = (one == other) | (np.isnan(one) & np.isnan(other))
    elif pa.types.is_null(kind):
        return np.ones(len(before), bool)
    elif pa.types.is_nested(kind) or pa.types.is_interval(kind):
        codes, _ = values_codes(pa.concat_arrays([before, after]))
        return cast("Mask", codes[: len(before)] == codes[len(before) :])
    else:
        equal = pc.equal(before, after).fill_null(False).to_numpy(zero_copy_only=False)
    if before.null_count or after.null_count:
        gone, missing = nulls_of(before), nulls_of(after)
        equal = (equal & ~gone & ~missing) | (gone & missing)
    return cast("Mask", equal)


def _is_reordered(
    old_rows: int, new_rows: int, old_at: Positions, new_at: Positions, partner: Positions
) -> bool:
    origin = np.full(new_rows, -1, np.int64)
    if old_rows == new_rows:
        origin[:] = np.arange(new_rows)
    else:
        # All that is unlike is one stretch in both tables; what stands around it did not move.
        head = int(old_at[0]) if len(old_at) else int(new_at[0])
        tail = old_rows - head - len(old_at)
        origin[:head] = np.arange(head)
        origin[new_rows - tail :] = np.arange(old_rows - tail, old_rows)
    origin[new_at] = np.where(partner >= 0, old_at[partner] if len(old_at) else -1, -1)
    origin = origin[origin >= 0]
    return bool(np.any(np.diff(origin) < 0))


# --- matching -------------------------------------------------------------------------------------


def _partners(befores: Columns, afters: Columns, old_rows: int, new_rows: int) -> Positions:
    """Return for each new row the old row with its key, or -1; each old row once at most."""
    columns = [
        pa.concat_arrays([before, after]) for before, after in zip(befores, afters, strict=True)
    ]
    codes, count = rows_codes(columns, old_rows + new_rows)
    before, after = codes[:old_rows], codes[old_rows:]
    places = np.full(count, -1, np.int64)
    places[before] = np.arange(old_rows)
    repeats_old = int(np.count_nonzero(places >= 0)) < old_rows
    if repeats_old or int(np.bincount(after, minlength=1).max()) > 1:
        # The n-th row with a key is matched with the n-th one before.
        numbered = np.concatenate([_occurrences(before), _occurrences(after)])
        codes, count = dense(codes * (int(numbered.max()) + 1) + numbered)
        before, after = codes[:old_rows], codes[old_rows:]
        places = np.full(count, -1, np.int64)
        places[before] = np.arange(old_rows)
    return places[after]


def _occurrences(codes: Positions) -> Positions:
    """Return how many equal codes stand before each."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(codes)])
    lengths = np.diff(np.append(starts, len(codes)))
    numbers = np.empty(len(codes), np.int64)
    numbers[order] = np.arange(len(codes)) - np.repeat(starts, lengths)
    return numbers
