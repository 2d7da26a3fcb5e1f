"""What a session can be told of by and by."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kalamdb_lab.engine.pipeline import Pipeline, RequestFor, listed
from kalamdb_lab.errors import ParametersError
from kalamdb_lab.live.event_queue import Callback
from kalamdb_lab.live.subscription import Subscription

if TYPE_CHECKING:
    import threading

    from kalamdb_lab.engine.app_context import AppContext


class LiveSession:
    """The part of a `Session` that goes on after a statement."""

    session_id: str
    _context: AppContext
    _pipeline: Pipeline
    _lock: threading.RLock
    _closed: bool
    _forgets: weakref.finalize[Any, Any] | None
    _request: RequestFor

    def subscribe(
        self,
        sql: str,
        params: Sequence[object] | None = None,
        *,
        last_rows: int | None = None,
        batch_size: int | None = None,
        from_seq: int | None = None,
        callback: Callback | None = None,
    ) -> Subscription:
        """Be told of the rows of one table, and of every later change to them, once and in order.

        Parameters
        ----------
        sql : str
            ``SUBSCRIBE TO t WHERE ...``, ``LIVE SELECT a, b FROM t WHERE ...``, or a plain SELECT
            of that form.
        params : sequence, optional
            Values for its placeholders.
        last_rows : int, optional
            Begin with so many of the newest matching rows; by default with all.
        batch_size : int, optional
            Rows of one ``initial`` event, 1 to 100,000; 1,000 by default.
        from_seq : int, optional
            Go on after this number, ``event.seq`` or the ``from_seq`` of ``lagged``; SQL calls it
            ``from_seq_id``. It wins over ``last_rows``.
        callback : callable, optional
            Is called with each event, on a thread for that. What it raises is logged, kept as
            ``Subscription.error``, and closes the subscription.

        Returns
        -------
        Subscription
            It holds the session, and ends with it. Inside a transaction it begins with what is
            committed, and tells of the transaction's own changes after COMMIT.

        Raises
        ------
        KalamError
            As for a SELECT of these rows; options in the SQL and beside it are refused.
        """
        options = {"last_rows": last_rows, "batch_size": batch_size, "from_seq": from_seq}
        if callback is not None and not callable(callback):
            raise ParametersError("callback must be a function that takes an event")
        with self._lock:
            queue = self._pipeline.subscribe(
                sql, listed(params), self._request, options, self.session_id, callback
            )
            live = self._context.live
            if self._forgets is None:
                self._forgets = weakref.finalize(self, live.forget_session, self.session_id)
                self._forgets.atexit = False
            if self._closed:  # meanwhile, and its end was not told of this one
                live.end_session(self.session_id)
            subscription = Subscription(queue, self)
            if callback is None:
                weakref.finalize(subscription, live.forget, queue).atexit = False
            return subscription
