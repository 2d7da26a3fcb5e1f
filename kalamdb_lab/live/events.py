"""What a subscription gives: events, and the rows that wait to become events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kalamdb_lab.arrow.arrays import python_from_array
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.partitions.changes import ChangedRows

INSERT: Final = 1
UPDATE: Final = 2
DELETE: Final = 3
_NAMES: Final = {INSERT: "insert", UPDATE: "update", DELETE: "delete"}

Kinds: TypeAlias = npt.NDArray[np.uint8]
Places: TypeAlias = npt.NDArray[np.int64]


class LiveEvent(dict[str, Any]):
    """One event of a subscription: a dict whose fields are also attributes.

    The field ``type`` is ``initial``, ``insert``, ``update``, ``delete``, ``lagged`` or
    ``closed``; the language's page says which other fields each has. Rows are dicts of the values
    that `Result.rows` gives, with ``_seq``.

    Attributes
    ----------
    seq : int
        The number of the log from which a reader of this event and all before it resumes.
    """

    __slots__ = ("seq",)

    def __init__(self, kind: str, seq: int, **fields: object) -> None:
        super().__init__(type=kind, **fields)
        self.seq = seq

    @property
    def kind(self) -> str:
        """The field ``type``."""
        return str(self["type"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The new rows; empty where the event has none."""
        return list(self.get("rows", ()))

    @property
    def old_rows(self) -> list[dict[str, Any]]:
        """The field ``old_values``: rows as they were before; empty where there are none."""
        return list(self.get("old_values", ()))

    @property
    def has_more(self) -> bool:
        """True if another ``initial`` event follows."""
        return bool(self.get("has_more", False))

    @property
    def reason(self) -> str | None:
        """Why the subscription was closed."""
        return self.get("reason")

    @property
    def message(self) -> str | None:
        """The reason as a sentence."""
        return self.get("message")

    @property
    def from_seq(self) -> int | None:
        """Where to resume after ``lagged``."""
        return self.get("from_seq")

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (dict(self), self.seq)


def _restored(fields: dict[str, Any], seq: int) -> LiveEvent:
    event = LiveEvent("", seq)
    event.clear()
    event.update(fields)
    return event


def row_dicts(rows: pa.Table, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows as dicts of the values that users see, in the order of ``columns``."""
    values = [python_from_array(rows.column(n), kalam_type(rows.field(n))) for n in columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


@dataclass(frozen=True, slots=True)
class EventRows:
    """Events of one change as they wait: rows in Arrow, made into dicts when they are read.

    Attributes
    ----------
    rows : ChangedRows
        Shared by all subscriptions that are told of the change.
    places : (n,) int64
        Which of the changes, ascending.
    kinds : (n,) uint8
        `INSERT`, `UPDATE` or `DELETE` for each.
    """

    rows: ChangedRows
    places: Places
    kinds: Kinds

    def __len__(self) -> int:
        return len(self.places)

    @property
    def last_seq(self) -> int:
        """The number of the last of the changes."""
        return int(self.rows.seqs[self.places[-1]])

    def events(self, start: int, stop: int, columns: Sequence[str]) -> Iterator[LiveEvent]:
        """Yield some of the events, with these columns."""
        places, kinds = self.places[start:stop], self.kinds[start:stop]
        new_at = self.rows.new_at[places[kinds != DELETE]]
        old_at = self.rows.old_at[places[kinds != INSERT]]
        new = iter(_taken(self.rows.new, new_at, columns))
        old = iter(_taken(self.rows.old, old_at, columns))
        for seq, kind in zip(self.rows.seqs[places].tolist(), kinds.tolist(), strict=True):
            fields: dict[str, object] = {}
            if kind != DELETE:
                fields["rows"] = [next(new)]
            if kind != INSERT:
                fields["old_values"] = [next(old)]
            yield LiveEvent(_NAMES[kind], seq, **fields)


def _taken(rows: pa.Table, places: Places, columns: Sequence[str]) -> list[dict[str, Any]]:
    if not len(places):
        return []
    chosen = rows.select(list(columns))
    if len(places) == places[-1] - places[0] + 1 and (np.diff(places) == 1).all():
        chosen = chosen.slice(int(places[0]), len(places))
    else:
        chosen = chosen.take(pa.array(places))
    return row_dicts(chosen, columns)


class InitialRows:
    """What a subscription begins with: rows in batches, and after a resume what is gone.

    Parameters
    ----------
    rows : pa.Table
        The matching rows, ascending by ``_seq``.
    gone : pa.Table
        Rows as they were that a reader who resumes still has, ascending.
    upto_seq : int
        The number that the snapshot stands at.
    since : int or None
        Where the reader resumes.
    is_reset : bool
        True if it cannot: what it has is to be forgotten.
    """

    def __init__(
        self,
        rows: pa.Table,
        gone: pa.Table,
        columns: Sequence[str],
        *,
        batch_size: int,
        upto_seq: int,
        since: int | None,
        is_reset: bool,
    ) -> None:
        self._rows = rows
        self._gone = gone
        self._columns = columns
        self._batch_size = batch_size
        self._upto_seq = upto_seq
        self._since = since if gone.num_rows else None
        self._is_reset = is_reset
        self._at = 0
        self._gone_at = 0
        self._is_begun = False
        if since is not None:
            self.resume_seq = since  # of a reset too: who has not heard of it must hear of it
        else:
            first = rows.column("_seq")[0].as_py() if rows.num_rows else upto_seq + 1
            self.resume_seq = first - 1

    @property
    def next_rows(self) -> int:
        """How many rows the next event has."""
        if not self._is_begun or self._at < self._rows.num_rows:
            return min(self._batch_size, int(self._rows.num_rows) - self._at)
        return 1

    def next(self) -> LiveEvent | None:
        """Return the next event; None after the last."""
        count = int(self._rows.num_rows)
        if not self._is_begun or self._at < count:
            return self._batch(count)
        if self._gone_at < self._gone.num_rows:
            row = row_dicts(self._gone.slice(self._gone_at, 1), self._columns)
            self._gone_at += 1
            is_last = self._gone_at == self._gone.num_rows
            # Whoever stops before the last of these must hear of all of them again.
            seq = self._upto_seq if is_last or self._since is None else self._since
            return LiveEvent("delete", seq, old_values=row)
        return None

    def _batch(self, count: int) -> LiveEvent:
        rows = row_dicts(self._rows.slice(self._at, self._batch_size), self._columns)
        self._at = min(self._at + self._batch_size, count)
        has_more = self._at < count
        seq = self._upto_seq if not has_more else int(rows[-1]["_seq"])
        fields: dict[str, object] = {"rows": rows, "has_more": has_more}
        if self._is_reset and not self._is_begun:
            fields["reset"] = True
        self._is_begun = True
        return LiveEvent("initial", seq if self._since is None else self._since, **fields)
