"""The newest state of a live result: how it is evaluated, told of, and ended."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from kalamdb_lab.errors import InvalidOptionError, KalamError
from kalamdb_lab.live.difference import (
    NOTHING,
    Difference,
    RowChanges,
    changes_between,
    check_unique,
    difference,
)
from kalamdb_lab.live.ends import KILLED, SENTENCES, why
from kalamdb_lab.live.evaluation import PASSING, Evaluator, MeaningError, State
from kalamdb_lab.live.registrations import new_live_id
from kalamdb_lab.live.row_keys import place_of
from kalamdb_lab.partitions.changes import Change, Watched
from kalamdb_lab.query.request import Interruption

_log = logging.getLogger(__name__)

Listener = Callable[[Difference], object]


class Ends(Protocol):
    """Who is told that a live result is over."""

    def ended(self, live: Following) -> None:
        """Watch nothing for it any more."""
        ...


class Following:
    """The part of a `LiveResult` that follows the data, on the threads of `LiveResults`.

    Parameters
    ----------
    interruption : Interruption
        Of the evaluations after the first.
    number : int
        What its threads know it by.
    holds : object
        What lives as long.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        owner: Ends,
        interruption: Interruption,
        *,
        number: int,
        holds: object,
    ) -> None:
        self.number = number
        self.live_id = new_live_id()
        self._evaluator = evaluator
        self._owner = owner
        self._interruption = interruption
        self._holds = holds
        self._changed = threading.Condition()
        self._delivery = threading.RLock()
        self._listeners: tuple[tuple[Listener], ...] = ()
        self._untold: deque[tuple[Difference, Sequence[tuple[Listener]]]] = deque()
        self._is_telling = False
        self._state: State | None = None
        self._key_at: tuple[int, ...] | None = None
        self._wanted_key: tuple[str, ...] | None = None
        self._is_ordered = False
        self._is_killed = False
        self._version = 0
        self._seen = 0
        self._news = 0
        self._newest: Difference | None = None
        self.key: tuple[str, ...] | None = None
        self.error: KalamError | None = None
        self.ended: str | None = None
        self.message: str | None = None
        self.evaluations = 0

    @property
    def _now(self) -> State:
        assert self._state is not None
        return self._state

    def begin(
        self,
        key: Sequence[str] | None,
        inferred: Callable[[Evaluator, Sequence[str]], tuple[int, ...] | None],
        *,
        is_ordered: bool,
    ) -> None:
        """Evaluate it for the first time.

        Parameters
        ----------
        key : sequence of str or None
            The columns that the user says tell rows apart.
        inferred : callable
            Gives the positions of those that do by the query's form, if none are given.
        is_ordered : bool
            Whether the query says an order: else rows that only moved are no change.

        Raises
        ------
        KalamError
            What the query raises, or the key is none.
        """
        self._is_ordered = is_ordered
        self._inferred = inferred
        self._wanted_key = None if key is None else tuple(key)
        try:
            state = self._evaluator.evaluate()
        except MeaningError as meaning:
            raise meaning.error from None
        self.evaluations = 1
        assert state is not None
        self._key_at = self._places(state.table)
        self._state = state
        self._name_key()

    @property
    def expires_us(self) -> int | None:
        """When the first event of a STREAM table among what it reads expires, in µs since 1970."""
        return None if self._state is None else self._state.expires_us

    @property
    def is_untold(self) -> bool:
        """True if nobody tells when its result may be another: it is looked at now and then."""
        return self._evaluator.polls or isinstance(self.error, PASSING)

    @property
    def changes(self) -> int:
        """How often the result became another one."""
        return self._version

    @property
    def reads(self) -> frozenset[Watched]:
        """The partitions whose rows it reads, or the keys of tables for all of them."""
        return self._evaluator.reads

    def note(self, change: Change) -> bool:
        """Take note of a change of what it depends on; return whether to evaluate it."""
        return self._evaluator.note(change)

    def kill(self) -> None:
        """Let the next evaluation, which is asked for now, be its end."""
        self._is_killed = True
        self._interruption.interrupt()

    @property
    def _is_over(self) -> bool:
        return self._is_killed or self.ended is not None

    def forget(self) -> None:
        """Let the next evaluation read everything."""
        self._evaluator.forget()

    def refresh(self) -> None:
        """Evaluate it anew, and tell who watches; never raises, on a live thread."""
        if self._is_killed:
            self.end(KILLED)
        if self.ended is not None:
            return
        self.evaluations += 1
        try:
            state = self._evaluator.evaluate()
            if state is not None:
                self._take(state)
        except MeaningError as meaning:
            self.end(*why(meaning.error))
        except KalamError as error:
            if not self._is_over:
                self._fail(error)
        except Exception:  # noqa: BLE001 - a thread must outlive what it runs
            # A fault of ours must not leave a result that looks as if it were alive.
            _log.exception("A live result failed")
            self.end("failed", "The live result failed inside; the log has the details")

    def _take(self, state: State) -> None:
        self._key_at = self._places(state.table)
        old, new = self._now.table, state.table
        is_alike = old.schema.names == new.schema.names and old.schema.types == new.schema.types
        changes = changes_between(old, new, self._key_at)
        is_same = is_alike and not changes and not (changes.is_reordered and self._is_ordered)
        with self._delivery:
            with self._changed:
                if self.ended is not None:
                    return
                recovered, self.error = self.error is not None, None
                if is_same:
                    # Who reads rows in no order keeps those that they have.
                    state = State(old, state.seq, state.at_us, state.expires_us)
                    self._state = state
                    if not recovered:
                        return
                else:
                    self._state = state
                    self._version += 1
                self._name_key()
                told = self._difference(old, changes, state)
                self._publish(told)
            self._tell_all(told, self._listeners)

    def _fail(self, error: KalamError) -> None:
        with self._delivery:
            with self._changed:
                self.error = error
                told = self._difference(self._now.table, NOTHING, self._now, error=error)
                self._publish(told)
            self._tell_all(told, self._listeners)

    def _publish(self, told: Difference) -> None:
        self._newest = told
        self._news += 1
        self._changed.notify_all()

    def _tell_all(self, told: Difference, listeners: Sequence[tuple[Listener]]) -> None:
        """Call listeners within `_delivery`; one that ends it is not heard before the others."""
        self._untold.append((told, listeners))
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._untold:
                told, listeners = self._untold.popleft()
                for (listener,) in listeners:
                    tell(listener, told)
        finally:
            self._is_telling = False

    def end(self, reason: str, message: str | None = None) -> None:
        """End it for a reason; nothing happens if it ended before."""
        with self._changed:
            if self.ended is not None:
                return
            self.ended = reason
            self.message = message or SENTENCES[reason]
        self._interruption.interrupt()
        self._owner.ended(self)
        self._holds = None
        if self._state is None:
            return  # it never began
        with self._delivery:
            with self._changed:
                listeners, self._listeners = self._listeners, ()
                table = self._now.table
                last = self._difference(table, NOTHING, self._now, ended=reason, error=self.error)
                self._publish(last)
            self._tell_all(last, listeners)

    # --- differences ----------------------------------------------------------------------------

    def _whole(self) -> Difference:
        """Return the present state as if all of it were new."""
        table = self._now.table
        inserted = RowChanges(np.arange(table.num_rows), NOTHING.updated, NOTHING.deleted)
        return self._difference(
            table.slice(0, 0), inserted, self._now, ended=self.ended, error=self.error
        )

    def _difference(
        self,
        old: pa.Table,
        changes: RowChanges,
        state: State,
        *,
        ended: str | None = None,
        error: KalamError | None = None,
    ) -> Difference:
        return difference(
            old, state.table, changes, seq=state.seq, at_us=state.at_us, ended=ended, error=error
        )

    def _places(self, table: pa.Table) -> tuple[int, ...] | None:
        if self._wanted_key is None:
            return self._inferred(self._evaluator, table.column_names)
        places = tuple(place_of(name, table.column_names) for name in self._wanted_key)
        check_unique(table, places)
        return places

    def _name_key(self) -> None:
        names = self._now.table.column_names
        self.key = None if self._key_at is None else tuple(names[at] for at in self._key_at)


def tell(listener: Listener, told: Difference) -> None:
    """Call a listener; what it raises is logged."""
    try:
        listener(told)
    except Exception:  # noqa: BLE001 - whatever others wrote
        _log.exception("A listener of a live result raised")


def checked_throttle_s(throttle_s: object) -> float:
    """Return how far apart evaluations begin, as the user gave it.

    Raises
    ------
    InvalidOptionError
    """
    if isinstance(throttle_s, bool) or not isinstance(throttle_s, (int, float)):
        raise InvalidOptionError("throttle_s must be a number of seconds")
    if not 0 <= throttle_s < float("inf"):
        raise InvalidOptionError("throttle_s must be a number of seconds, 0 or more")
    return float(throttle_s)
