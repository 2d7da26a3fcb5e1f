"""The live query manager: who subscribed to what, and how changes get there."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Final

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import ClosedError, KalamError
from kalamdb_lab.live.delivery import Delivery
from kalamdb_lab.live.event_queue import Callback, EventQueue
from kalamdb_lab.live.events import InitialRows
from kalamdb_lab.live.filters import Shapes
from kalamdb_lab.live.hub import Delivered, Failure, told
from kalamdb_lab.live.registrations import LISTED, Registrations, new_live_id
from kalamdb_lab.live.registry import DEFINITIONS, Registry
from kalamdb_lab.live.resume import MissedChanges, left
from kalamdb_lab.live.scope import EndedError
from kalamdb_lab.live.statement import Options, Prepared, prepared
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.entities import LiveQuery
from kalamdb_lab.partitions.change_feed import ChangeFeed
from kalamdb_lab.partitions.changes import Change, ChangeReader
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.planner import Planner
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.sql.commands import Subscribe
from kalamdb_lab.store.log import EntryKind
from kalamdb_lab.store.presence import Presence

_log = logging.getLogger(__name__)

_PATIENCE_S: Final = 1.0
_TRIES: Final = 3
_REVOKING: Final = frozenset({"access revoked", "user dropped"})


class LiveQueryManager:
    """Registry, filters, queues, delivery and clean-up of the subscriptions of one opening.

    A `Watcher` of the change feed: on its thread changes are put into the queues of those whom
    they concern, and nothing there waits for a reader, a callback or a commit.

    Parameters
    ----------
    queue_events : int
        How many events may wait for one reader.

    Attributes
    ----------
    registrations : Registrations
        The rows of ``system.live_queries``.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        changes: ChangeReader,
        log: CommitLog,
        catalog: Catalog,
        queries: Queries,
        planner: Planner,
        presence: Presence,
        clock: Clock,
        *,
        queue_events: int,
    ) -> None:
        self._feed = feed
        self._changes = changes
        self._log = log
        self._catalog = catalog
        self._queries = queries
        self._queue_events = queue_events
        self._shapes = Shapes(planner)
        self._missed = MissedChanges(log.store, changes)
        self._watch = feed.watch(self)
        self._delivery = Delivery()
        self.registrations = Registrations(catalog, log, presence, clock)
        self._registry = Registry(self._watch)
        self._overfull: set[EventQueue] = set()
        self._gone_sessions: SimpleQueue[str] = SimpleQueue()
        self._unread: SimpleQueue[EventQueue] = SimpleQueue()
        self._is_writing = False
        self._pid = os.getpid()
        self._closed = False

    # --- asking -------------------------------------------------------------------------------

    def subscribe(
        self,
        statement: Subscribe,
        request: Request,
        options: Options,
        *,
        session_id: str,
        callback: Callback | None = None,
    ) -> EventQueue:
        """Begin a subscription for the user of a request, whose kind the role may use.

        Raises
        ------
        KalamError
            As for a SELECT of these rows; nothing was begun then.
        """
        wanted = prepared(statement, request, self._catalog, self._shapes, session_id)
        scope, request = wanted.scope, wanted.request
        plan = self._queries.plan(wanted.query(options), request)
        subscription = EventQueue(
            new_live_id(),
            scope,
            self._delivery,
            self._closed_by_reader,
            limit=self._queue_events,
            callback=callback,
        )
        key = scope.partition
        if key == LISTED:
            self.refresh()
        if self._closed:
            raise ClosedError("The database was closed")
        with self._log.at_newest([key]) as seq:
            scans = self._queries.provider(plan, request)
            segments = self._log.partition(key).segments
            self._registry.enter(subscription, seq)
        try:
            gone, is_reset = None, False
            since = options.from_seq
            if since is not None:
                gone = self._missed.since(since, seq, key, scope.table, segments)
                is_reset = gone is None
                if is_reset:
                    plan = self._queries.plan(wanted.query(Options()), request)
            rows = self._queries.execute(plan, request, scans)
            if options.newest_first:
                rows = rows.sort_by("_seq")
            initial = InitialRows(
                rows,
                left(scope, rows, gone),
                scope.columns,
                batch_size=options.batch_size,
                upto_seq=seq,
                since=since,
                is_reset=is_reset,
            )
            self._register(subscription, wanted, options)
        except BaseException:
            subscription.finish(None, None)
            self._left(subscription)
            raise
        if not subscription.is_open:  # it ended before it was listed
            self._closed_by_reader(subscription)
        subscription.begin(initial)
        return subscription

    def kill(self, live_id: str, context: ExecutionContext) -> None:
        """End a live query, of whatever process; its reader is told.

        Raises
        ------
        NotFoundError
            There is none with this id that the user may end.
        """
        self.registrations.kill(live_id, context)

    @property
    def open_count(self) -> int:
        """How many subscriptions of this opening are open."""
        return len(self._registry)

    def refresh(self) -> None:
        """Bring the rows of ``system.live_queries`` up to date before somebody reads them."""
        if os.getpid() == self._pid and not self._closed:
            self.registrations.refresh()

    def remove_abandoned(self) -> int:
        """Take the rows of live queries away whose process is gone; return how many.

        Raises
        ------
        BusyError, StorageError
            They are still listed then.
        """
        return self.registrations.remove_abandoned()

    # --- ending -------------------------------------------------------------------------------

    def end_session(
        self,
        session_id: str,
        reason: str = "session ended",
        message: str = "The session was closed",
    ) -> None:
        """End the subscriptions of a session, and commit that."""
        if os.getpid() != self._pid:
            return
        if self._end_all(self._registry.of_session(session_id), reason, message):
            self.registrations.write()

    def forget_session(self, session_id: str) -> None:
        """End the subscriptions of a session soon; may be called by the garbage collector."""
        self._gone_sessions.put(session_id)

    def forget(self, subscription: EventQueue) -> None:
        """End a subscription that has no reader soon; may be called by the garbage collector."""
        if subscription.is_open:
            self._unread.put(subscription)

    def close(self) -> None:
        """End all subscriptions, and commit that if it is possible."""
        if os.getpid() != self._pid:
            return
        self._closed = True
        self._end_all(self._registry.all(), "database closed", "The database was closed")
        self.registrations.write()
        self._watch.close()
        self._delivery.close()

    def stop(self, wait_s: float) -> None:
        """Call no callback any more: the interpreter ends."""
        if os.getpid() == self._pid:
            self._delivery.stop(wait_s)

    def _end_all(self, ending: Iterable[EventQueue], reason: str, message: str) -> bool:
        ended = [self._end(subscription, reason, message) for subscription in ending]
        return any(ended)

    def _kill(self, subscription: EventQueue) -> None:
        self._end(subscription, "killed", "The live query was killed")

    def _end(self, subscription: EventQueue, reason: str, message: str) -> bool:
        """End one with its event; the row goes with the next `Registrations.write`."""
        self._left(subscription)  # first: who hears of the end does not find it listed
        drops = reason == "lagged" or reason in _REVOKING
        return subscription.finish(reason, message, drops=drops)

    def _closed_by_reader(self, subscription: EventQueue) -> None:
        self._left(subscription)
        self.registrations.write()

    def _left(self, subscription: EventQueue) -> None:
        """Forget what was finished."""
        self._overfull.discard(subscription)
        self._registry.leave(subscription)
        self.registrations.remove(subscription.live_id)

    def _register(self, subscription: EventQueue, wanted: Prepared, options: Options) -> None:
        table_id = wanted.scope.table.table_id
        entry = LiveQuery(
            live_id=subscription.live_id,
            user_id=wanted.scope.context.user_id,
            namespace=table_id.namespace,
            table_name=table_id.name,
            query=wanted.text,
            node_id=self.registrations.node_id,
            created_at_us=0,
            options=json.dumps(options.said),
        )
        self.registrations.add(entry, partial(self._kill, subscription))

    # --- the feed's thread --------------------------------------------------------------------

    def changed(self, changes: list[Change]) -> None:
        """Put changes into the queues of those whom they concern; see `Watcher`."""
        for change in changes:
            self._deliver(change)
            if change.partition in DEFINITIONS:
                self._look_at_rights()
            elif change.partition == LISTED and (change.rows is None or change.rows.deleted):
                with suppress(KalamError):
                    self.registrations.look()

    def lost(self) -> None:
        """Tell all that they lag behind: nobody knows what they missed; see `Watcher`."""
        for subscription in self._registry.all():
            self._lag(subscription)

    def tick(self) -> None:
        """Do what is due; see `Watcher`."""
        for subscription in list(self._overfull):
            if not subscription.is_overfull():
                self._overfull.discard(subscription)
            elif subscription.stalled_s() > _PATIENCE_S:
                self._lag(subscription)
        while not self._gone_sessions.empty():
            session_id = self._gone_sessions.get()
            gone = self._registry.of_session(session_id)
            self._end_all(gone, "session ended", "The session was closed")
        while not self._unread.empty():
            subscription = self._unread.get()
            subscription.finish(None, None)
            self._left(subscription)
        if self.registrations.is_due() and not self._is_writing:
            self._is_writing = True
            self._delivery.submit(self._write)
        self._delivery.relieve()

    def _write(self) -> None:
        try:
            for _ in range(_TRIES):  # nobody may look here again once the last one has ended
                self.registrations.write()
                if not self.registrations.is_due():
                    return
        finally:
            self._is_writing = False

    def _deliver(self, change: Change) -> None:
        if not self._registry.to(change.partition):
            return
        if change.kind is EntryKind.DROP:
            self._look_at_rights()
            for subscription in self._registry.to(change.partition):
                message = f"Table {subscription.scope.table.table_id} was dropped"
                self._end(subscription, "table dropped", message)
            return
        if change.is_known or (change.rows is not None and not _removes(change)):
            try:
                self._tell(change)
            except Exception:  # noqa: BLE001 - whatever it is, all others must hear on
                _log.exception("A change of table %d cannot be told", change.partition.table_key)
            else:
                return
        for subscription in self._registry.to(change.partition):
            self._lag(subscription)

    def _tell(self, change: Change) -> None:
        route = self._registry.route(change.partition)
        if route is not None and route.is_mixed:
            self._look_at_rights()
            route = self._registry.route(change.partition)
        if route is None:
            return
        for item in told(route, change, self._changes):
            self._pass_on(item, change)

    def _pass_on(self, item: Delivered | Failure, change: Change) -> None:
        subscription = item.subscription
        if not self._registry.is_told(subscription, change.seq):
            return  # it has ended, or began after this change
        if isinstance(item, Failure):
            self._end(subscription, "error", item.error.message)
            return
        columns = subscription.scope.columns
        if not subscription.put(item.rows, columns, change.seq):
            self._lag(subscription)
            return
        if subscription.is_overfull():
            self._overfull.add(subscription)
            if subscription.stalled_s() > _PATIENCE_S:  # within a change of very many rows
                self._lag(subscription)
                return
        # Counting those would be a change that is told and counted again, for ever.
        if change.partition != LISTED:
            last_seq = item.rows.last_seq
            self.registrations.count(subscription.live_id, subscription.changes, last_seq)

    def _lag(self, subscription: EventQueue) -> None:
        self._end(
            subscription,
            "lagged",
            "The subscription lagged behind; subscribe again with from_seq_id",
        )

    def _look_at_rights(self) -> None:
        """End those that may not go on, and bring the others to the newest definitions."""
        with self._log.statement():  # which looks for commits of others once
            for subscription in self._registry.all():
                self._look_at(subscription)

    def _look_at(self, subscription: EventQueue) -> None:
        try:
            now = subscription.scope.now(self._catalog, self._shapes)
        except EndedError as end:
            self._end(subscription, end.reason, end.message)
        except KalamError as error:
            self._end(subscription, "error", error.message)
        else:
            if now is not subscription.scope:
                self._registry.rescope(subscription, now)


def _removes(change: Change) -> bool:
    return change.rows is not None and bool(change.rows.replaces or change.rows.deleted)
