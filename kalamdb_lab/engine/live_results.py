"""What a session keeps showing: the results of queries as the data changes."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from kalamdb_lab.engine.live_session import LiveSession
from kalamdb_lab.engine.live_source import live_source, open_live
from kalamdb_lab.engine.pipeline import listed
from kalamdb_lab.errors import UserDroppedError
from kalamdb_lab.live.ends import SESSION_ENDED
from kalamdb_lab.live.results import LiveResult
from kalamdb_lab.query.request import Request

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session


class LiveResultSession(LiveSession):
    """The part of a `Session` that follows results."""

    user: str
    _live_results: weakref.WeakSet[LiveResult]

    def live(
        self,
        source: object,
        params: Sequence[object] | None = None,
        *,
        key: Sequence[str] | str | None = None,
        throttle_s: float = 0.1,
    ) -> LiveResult:
        """Follow the result of a query: any SELECT, or an ibis expression of this database.

        It is evaluated now, and again whenever what it reads changes, by whatever process.

        Parameters
        ----------
        source : str or ibis expression
            The text of one query, in the session's present namespace, or an expression of a
            connection of the same user.
        params : sequence, optional
            Values for the placeholders of a text.
        key : sequence of str, optional
            The columns that tell rows apart from one state to the next. By default those that
            group the query, the primary key of its only table or all columns of a DISTINCT, if
            they are shown; else rows are matched by their whole content.
        throttle_s : float
            Evaluations begin at least so many seconds apart; changes meanwhile are seen together.

        Returns
        -------
        LiveResult
            It ends with the session, or when nobody holds it any more. Inside a transaction it
            shows what is committed.

        Raises
        ------
        KalamError
            As `execute` of the query raises.
        NotFoundError, DuplicateKeyError
            The key is no column of the result, or does not tell its rows apart.
        """
        given = listed(params)
        with self._lock:
            self._request(())  # a closed session or a dropped user is told first
            asked = live_source(source, given, cast("Session", self), self._context)
            live = open_live(
                asked,
                given,
                self._context,
                self._live_request,
                key=key,
                throttle_s=throttle_s,
                holds=self,
            )
            self._live_results.add(live)
            if self._closed:  # meanwhile, and its end was not told of this one
                live.end(SESSION_ENDED)
            return live

    def _live_request(self, params: tuple[Any, ...]) -> Request:
        """Return a request for an evaluation on another thread; no transaction is touched."""
        user = self._context.catalog.users.get(self.user)
        if user is not None and user.deleted_at_us is not None:
            raise UserDroppedError(f"User '{self.user}' was dropped")
        return self._request(params)

    def _end_live_results(self) -> None:
        for live in list(self._live_results):
            live.end(SESSION_ENDED)
