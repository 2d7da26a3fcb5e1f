"""Which subscriptions are open, to which partition, and since when."""

from __future__ import annotations

import threading
from typing import Final

from kalamdb_lab.catalog.system_tables import TABLES, USERS
from kalamdb_lab.live.event_queue import EventQueue
from kalamdb_lab.live.hub import Hub, Route
from kalamdb_lab.live.registrations import LISTED
from kalamdb_lab.live.scope import SubscriptionScope
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.partitions.change_feed import Watch

DEFINITIONS: Final = (PartitionKey(USERS.table_key, ""), PartitionKey(TABLES.table_key, ""))
"""The partitions that say who may read what."""


class Registry:
    """The open subscriptions of one opening; what they need is watched while they are here.

    Thread-safe. Its lock is never held while anything else is asked, so it may be taken within
    any other.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._hubs: dict[PartitionKey, Hub] = {}
        self._open: dict[str, tuple[EventQueue, int]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, subscription: EventQueue, seq: int) -> None:
        """Let changes after a number of the log reach a subscription, within `at_newest`."""
        key = subscription.scope.partition
        for wanted in (key, LISTED, *DEFINITIONS):
            self._watch.add(wanted)
        with self._lock:
            self._open[subscription.live_id] = (subscription, seq)
            self._hubs.setdefault(key, Hub()).add(subscription)

    def leave(self, subscription: EventQueue) -> None:
        """Let no changes reach a subscription any more; safe to call twice."""
        key = subscription.scope.partition
        with self._lock:
            if self._open.pop(subscription.live_id, None) is None:
                return
            hub = self._hubs[key]
            hub.discard(subscription)
            if not hub.subscriptions:
                del self._hubs[key]
        for wanted in (key, LISTED, *DEFINITIONS):
            self._watch.discard(wanted)

    def rescope(self, subscription: EventQueue, scope: SubscriptionScope) -> None:
        """Let a subscription look at the same rows under another definition."""
        with self._lock:
            if subscription.live_id in self._open:
                subscription.scope = scope
                self._hubs[scope.partition].add(subscription)

    def is_told(self, subscription: EventQueue, seq: int) -> bool:
        """Return whether a subscription is open and began before that number."""
        found = self._open.get(subscription.live_id)
        return found is not None and found[1] < seq

    def all(self) -> list[EventQueue]:
        """Return the open ones, oldest first."""
        with self._lock:
            return [subscription for subscription, _ in self._open.values()]

    def of_session(self, session_id: str) -> list[EventQueue]:
        """Return those of one session."""
        return [s for s in self.all() if s.scope.session_id == session_id]

    def to(self, partition: PartitionKey) -> list[EventQueue]:
        """Return those to one partition."""
        with self._lock:
            hub = self._hubs.get(partition)
            return [] if hub is None else list(hub.subscriptions.values())

    def route(self, partition: PartitionKey) -> Route | None:
        """Return those to one partition as they are now, in groups; None if there are none."""
        with self._lock:
            hub = self._hubs.get(partition)
            return None if hub is None else hub.route()
