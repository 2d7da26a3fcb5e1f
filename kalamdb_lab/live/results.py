"""A live result as its reader holds it: the newest state, and who is told of differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import pyarrow as pa

from kalamdb_lab.live.difference import Difference, changes_between
from kalamdb_lab.live.ends import CLOSED
from kalamdb_lab.live.following import Following, Listener, tell


class LiveResult(Following):
    """A query whose result follows the data. Made by `Session.live`.

    It ends with `close`, with its session and its database, when its user may no longer read
    what it reads, and when nobody holds it any more. A context manager that closes it.

    Attributes
    ----------
    schema : pa.Schema
        The columns of the result, in canonical Arrow types; another one after ALTER TABLE.
    key : tuple of str or None
        The columns by which rows are matched between two states; none of them (an empty tuple)
        where there is one row only, None where rows are matched by their whole content.
    query : str
        The text.
    error : KalamError or None
        Why the newest evaluation failed. The state before it stays, and the next change of the
        data tries again.
    ended, message : str or None
        Why it ended: ``closed``, ``killed``, ``session ended``, ``database closed``, ``user
        dropped``, ``access revoked``, ``table dropped`` or ``schema changed``; and the sentence.
    evaluations : int
        How often it was evaluated, the first time too.
    live_id : str
        What ``system.live_queries`` lists it by, and KILL LIVE QUERY ends.
    """

    # --- what it is -----------------------------------------------------------------------------

    @property
    def query(self) -> str:
        """The text of the query."""
        return self._evaluator.query.text

    @property
    def schema(self) -> pa.Schema:
        """The columns of the newest state."""
        return self._now.table.schema

    @property
    def is_open(self) -> bool:
        """False once it ended."""
        return self.ended is None

    @property
    def maintenance(self) -> str:
        """Say how it follows: ``incremental`` or ``recomputed``.

        Incremental are counts, sums and means of whole numbers and DECIMALs, and extremes of
        what has an exact order, over one table, with any GROUP BY of columns: changes alone give
        the next state, to the last bit. All else, sums of DOUBLE too, is read anew.
        """
        return "incremental" if self._evaluator.is_maintained else "recomputed"

    @property
    def seq(self) -> int:
        """The number of the log that the newest state shows."""
        return self._now.seq

    def snapshot(self) -> pa.Table:
        """Return the newest whole result, in the query's order; the last one after the end."""
        with self._changed:
            self._seen = self._version
            return self._now.table

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each difference; return the function that stops it.

        The first call comes at once, in this thread, with the present rows as inserted ones; the
        others come on a live thread, one at a time, until one with ``ended``. A listener that is
        slow gets fewer of them, each with all that changed since the one before. One that raises
        is called again; its error is logged.
        """
        held = (listener,)
        with self._delivery:
            with self._changed:
                first = self._whole()
                if self.ended is None:
                    self._listeners = (*self._listeners, held)
            tell(listener, first)

        def stop() -> None:
            with self._changed:
                self._listeners = tuple(known for known in self._listeners if known is not held)

        return stop

    def wait(self, *, rows: int | None = None, timeout: float | None = None) -> bool:
        """Wait until the result has at least ``rows`` rows, by default for a change.

        A change counts if no `wait` returned for it and no `snapshot` showed it yet, so one that
        comes before the call is not missed.

        Parameters
        ----------
        timeout : float, optional
            In seconds.

        Returns
        -------
        bool
            False if the time was over, or the live result ended, before.
        """
        with self._changed:

            def is_reached() -> bool:
                if rows is None:
                    return self._version > self._seen
                return bool(self._now.table.num_rows >= rows)

            self._changed.wait_for(lambda: is_reached() or self.ended is not None, timeout)
            reached = is_reached()
            self._seen = self._version
            return reached

    def __iter__(self) -> Iterator[Difference]:
        """Yield differences as they come, the present rows first, until one with ``ended``.

        Whoever reads slowly gets fewer of them, each with all that changed since the one before;
        the newest state is never left out.
        """
        with self._changed:
            seen, news = self._whole(), self._news
        yield seen
        while seen.ended is None:
            with self._changed:
                while self._news == news:
                    self._changed.wait()
                newest, is_next = self._newest, self._news == news + 1
                state, error, ended = self._now, self.error, self.ended
                news = self._news
            if newest is None or not is_next:
                changes = changes_between(seen.table, state.table, self._key_at)
                newest = self._difference(seen.table, changes, state, ended=ended, error=error)
            seen = newest
            yield seen

    def close(self) -> None:
        """End it; watchers get a last difference with ``ended``."""
        self.end(CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self.ended or ("open" if self.error is None else f"failing: {self.error}")
        rows = 0 if self._state is None else self._state.table.num_rows
        return f"<kalamdb_lab.LiveResult of {rows:,} rows, {self.maintenance}, {state}>"
