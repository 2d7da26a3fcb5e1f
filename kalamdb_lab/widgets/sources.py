"""What can be shown besides a live result: row events folded into rows, and rows read again."""

from __future__ import annotations

import contextvars
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.arrow.schemas import kalam_type, logical_field
from kalamdb_lab.errors import ClosedError, InterruptedStatementError, KalamError
from kalamdb_lab.live.difference import Difference, changes_between
from kalamdb_lab.model.datatypes import BIGINT
from kalamdb_lab.model.values import storage_converter

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session
    from kalamdb_lab.live.events import LiveEvent
    from kalamdb_lab.live.subscription import Subscription

_SEQ: Final = "_seq"
_CLOSED: Final = "closed"
SESSION_ENDED: Final = "session ended"
DATABASE_CLOSED: Final = "database closed"
_MOST_EVENTS: Final = 10_000

Listener = Callable[[Difference], None]


class Source(Protocol):
    """What a live view shows; `LiveResult` is one."""

    @property
    def key(self) -> tuple[str, ...] | None:
        """The columns that tell rows apart."""
        ...

    def snapshot(self) -> pa.Table:
        """Return the newest rows."""
        ...

    def watch(self, listener: Callable[[Difference], None]) -> Callable[[], None]:
        """Give ``listener`` the present rows at once, and later differences on some thread.

        Returns the function that stops it.
        """
        ...

    def wait(self, *, rows: int | None = None, timeout: float | None = None) -> bool:
        """Wait for so many rows, or without a number for a change not waited for yet."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class WatchedRows(ABC):
    """Rows that a thread of their own renews, watched as a `LiveResult` is.

    Attributes
    ----------
    key : tuple of str or None
        The columns that tell rows apart.
    ended : str or None
        Why no change comes any more.
    """

    def __init__(self, table: pa.Table, key: tuple[str, ...] | None) -> None:
        self.key = key
        self.ended: str | None = None
        self._table = table
        self._changed = threading.Condition()
        self._version = 0
        self._told = 0
        self._listeners: list[Listener] = []
        # What speaks to a page does so in the name of its cell: ipykernel takes what the page sends
        # to the subshell that spoke last, and outside a context that may be a closed page's.
        run = partial(contextvars.copy_context().run, self._run)
        self._thread = threading.Thread(target=run, name="kalam-live-rows", daemon=True)
        self._thread.start()

    def snapshot(self) -> pa.Table:
        """Return the newest rows."""
        with self._changed:
            self._told = self._version
            return self._table

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with the present rows, then with each difference."""
        with self._changed:
            listener(self._difference(self._table.slice(0, 0), self._table))
            self._listeners.append(listener)

        def stop() -> None:
            with self._changed:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return stop

    def wait(self, *, rows: int | None = None, timeout: float | None = None) -> bool:
        """Wait for so many rows, or without a number for a change not waited for yet."""
        with self._changed:

            def is_reached() -> bool:
                if rows is None:
                    return self._version > self._told
                return bool(self._table.num_rows >= rows)

            self._changed.wait_for(lambda: is_reached() or self.ended is not None, timeout)
            reached = is_reached()
            self._told = self._version
            return reached

    def close(self) -> None:
        """End it, and its thread."""
        self._end(_CLOSED)
        if self._thread is not threading.current_thread():
            self._thread.join(10)

    @abstractmethod
    def _renew(self) -> None:
        """Wait for news and publish them; raise to end it."""

    def _run(self) -> None:
        try:
            while self.ended is None:
                self._renew()
        except ClosedError:
            self._end(SESSION_ENDED)
        except KalamError as error:
            self._end(str(error))
        except Exception as error:  # noqa: BLE001  (a thread has nobody else to tell)
            self._end(f"failed: {type(error).__name__}")

    def _publish(self, table: pa.Table) -> None:
        with self._changed:
            if self.ended is not None or table is self._table:
                return
            difference = self._difference(self._table, table)
            self._table = table
            self._version += 1
            self._changed.notify_all()
            for listener in self._listeners:
                listener(difference)

    def _end(self, reason: str) -> None:
        with self._changed:
            if self.ended is not None:
                return
            self.ended = reason
            last = self._difference(self._table, self._table)
            self._changed.notify_all()
            for listener in self._listeners:
                listener(last)
            self._listeners.clear()

    def _difference(self, old: pa.Table, new: pa.Table) -> Difference:
        at = None if self.key is None else [new.column_names.index(name) for name in self.key]
        found = changes_between(old, new, at)
        deleted = old.take(pa.array(found.deleted, pa.int64()))
        now_us = time.time_ns() // 1_000
        return Difference(
            new, found.inserted, found.updated, deleted, self._version, now_us, self.ended
        )


class PolledRows(WatchedRows):
    """Rows that a session reads again whenever something was committed.

    Parameters
    ----------
    read : callable
        Gives the rows; what it raises first, the constructor raises.
    every_s : float
        How often it looks whether anything was committed.
    """

    def __init__(
        self,
        session: Session,
        read: Callable[[], pa.Table],
        key: tuple[str, ...] | None,
        *,
        every_s: float = 0.5,
    ) -> None:
        self._session, self._read, self._every_s = session, read, every_s
        self._seen = self._state()
        super().__init__(read(), key)

    def _state(self) -> object:
        return self._session.position, self._session.definitions_revision

    def _renew(self) -> None:
        with self._changed:
            if self._changed.wait_for(lambda: self.ended is not None, self._every_s):
                return
        state = self._state()
        if state != self._seen:
            try:
                table = self._read()
            except InterruptedStatementError:  # which was meant for what a cell runs
                return
            self._seen = state
            self._publish(table)


class FoldedEvents(WatchedRows):
    """The rows that the events of a subscription amount to.

    A changed row stays where it stood, and a new one comes last. The subscription is read here
    and nowhere else, and ends with this.
    """

    def __init__(self, subscription: Subscription, *, throttle_s: float = 0.1) -> None:
        self._subscription, self._throttle_s = subscription, throttle_s
        table, names = subscription.scope.table, subscription.scope.columns
        types = {column.name: column.data_type for column in table.visible_columns}
        self._schema = pa.schema(
            [logical_field(name, BIGINT if name == _SEQ else types[name]) for name in names]
        )
        keys = tuple(column.name for column in table.visible_columns if column.primary_key)
        has_keys = bool(keys) and all(name in names for name in keys)
        self._news: dict[int, dict[str, Any]] = {}
        self._stood: dict[int, int] = {}
        self._gone: set[int] = set()
        super().__init__(self._schema.empty_table(), keys if has_keys else (_SEQ,))

    def close(self) -> None:
        self._end(_CLOSED)
        self._subscription.close()
        super().close()

    def _renew(self) -> None:
        event = self._subscription.next()
        until = time.monotonic() + self._throttle_s
        count = 0
        while event is not None and count < _MOST_EVENTS:
            count += len(event.rows) + len(event.old_rows)
            reason = self._fold(event)
            if reason is not None:
                self._apply()
                self._end(reason)
                return
            wait_s = until - time.monotonic()
            if wait_s <= 0 and not event.has_more:
                break
            event = self._subscription.next(timeout=max(0.0, wait_s))
        self._apply()
        if event is None and not self._subscription.is_open:
            self._end(_CLOSED)

    def _fold(self, event: LiveEvent) -> str | None:
        """Note what an event changes; return why it is the last one."""
        match event.kind:
            case "initial":
                if event.get("reset"):
                    self._gone.update(self._table.column(_SEQ).to_pylist())
                self._news.update((row[_SEQ], row) for row in event.rows)
            case "insert":
                self._news.update((row[_SEQ], row) for row in event.rows)
            case "update":
                for row, old in zip(event.rows, event.old_rows, strict=True):
                    place = self._leave(old[_SEQ])
                    self._news[row[_SEQ]] = row
                    if place is not None:
                        self._stood[row[_SEQ]] = place
            case "delete":
                for old in event.old_rows:
                    place = self._leave(old[_SEQ])
                    if place is not None:
                        self._gone.add(place)
            case "closed":
                return event.reason or _CLOSED
        return None

    def _leave(self, seq: int) -> int | None:
        """Forget a row; return the version that stands in the table in its place."""
        if self._news.pop(seq, None) is not None:
            return self._stood.pop(seq, None)
        return seq

    def _apply(self) -> None:
        if not self._news and not self._gone:
            return
        old = self._table
        new = self._rows(list(self._news.values()))
        order = np.arange(old.num_rows)
        seqs = old.column(_SEQ)
        # Of rows that the subscription did not begin with none stands there: they come last.
        places = _places([self._stood.get(seq) for seq in self._news], seqs)
        is_fresh = places < 0
        order[places[~is_fresh]] = old.num_rows + np.flatnonzero(~is_fresh)
        if self._gone:
            gone = _places(sorted(self._gone), seqs)
            order = np.delete(order, gone[gone >= 0])
        order = np.concatenate([order, old.num_rows + np.flatnonzero(is_fresh)])
        self._news, self._stood, self._gone = {}, {}, set()
        self._publish(pa.concat_tables([old, new]).take(pa.array(order)).combine_chunks())

    def _rows(self, rows: Sequence[dict[str, Any]]) -> pa.Table:
        arrays = []
        for field in self._schema:
            data_type = kalam_type(field)
            convert = storage_converter(data_type)
            values = [row[field.name] for row in rows]
            stored = [None if value is None else convert(value) for value in values]
            arrays.append(array_from_storage(stored, data_type))
        return pa.Table.from_arrays(arrays, schema=self._schema)


def _places(wanted: Sequence[int | None], seqs: pa.ChunkedArray) -> Any:
    """Return where each of some versions stands, -1 for one that does not."""
    found = pc.index_in(pa.array(wanted, pa.int64()), seqs.combine_chunks())
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
