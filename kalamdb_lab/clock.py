"""Time and ids: the only place that asks the machine what time it is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

import uuid_utils

SNOWFLAKE_EPOCH_MS = 1_735_689_600_000
"""2025-01-01 in UTC: ids of 41 bits of milliseconds last until 2094."""

_NODE_BITS = 10
_SEQUENCE_BITS = 12
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Clock(Protocol):
    """Wall time of a database."""

    def now_us(self) -> int:
        """Return microseconds since 1970 in UTC; may go backwards with the machine's clock."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000


class FakeClock:
    """A clock that moves only when told: TTL and retention become testable.

    Parameters
    ----------
    start_us : int
        Microseconds since 1970 in UTC; 2030-01-01 by default.
    """

    def __init__(self, start_us: int = 1_893_456_000_000_000) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        return self._now_us

    def advance(self, seconds: float) -> None:
        """Move by ``seconds``, which may be negative."""
        self._now_us += round(seconds * 1_000_000)


class IdGenerator:
    """Ids that grow: SNOWFLAKE_ID, UUID_V7 and ULID of one node.

    Parameters
    ----------
    clock : Clock
    node_id : callable
        Gives 0 to 1023; two processes of one database should differ in it.

    Notes
    -----
    A snowflake is 41 bits of milliseconds since 2025, 10 bits of node and 12 bits of sequence
    (the layout of Twitter's Snowflake, 2010). A clock that goes backwards, or more than 4,096
    ids in a millisecond, borrow from the future: ids of one generator always grow.
    """

    def __init__(self, clock: Clock, node_id: Callable[[], int]) -> None:
        self._clock = clock
        self._node_id = node_id
        self._lock = threading.Lock()
        self._last_ms = 0
        self._sequence = 0

    def snowflake_id(self) -> int:
        """Return a positive BIGINT, greater than all this generator returned before."""
        return self.snowflake_ids(1)[0]

    def snowflake_ids(self, count: int) -> list[int]:
        """Return ``count`` growing ids."""
        ids: list[int] = []
        # Asked for before the lock is taken: it may wait for a writer that waits for an id.
        node_bits = (self._node_id() & ((1 << _NODE_BITS) - 1)) << _SEQUENCE_BITS
        with self._lock:
            now_ms = self._clock.now_us() // 1_000 - SNOWFLAKE_EPOCH_MS
            if now_ms > self._last_ms:
                self._last_ms, self._sequence = now_ms, 0
            for _ in range(count):
                if self._sequence >> _SEQUENCE_BITS:
                    self._last_ms, self._sequence = self._last_ms + 1, 0
                high = self._last_ms << (_NODE_BITS + _SEQUENCE_BITS)
                ids.append(high | node_bits | self._sequence)
                self._sequence += 1
        return ids

    def uuid_v7(self) -> str:
        """Return a version 7 UUID (RFC 9562) as 36 lower-case characters."""
        now_us = self._clock.now_us()
        return str(uuid_utils.uuid7(nanoseconds=now_us * 1_000))

    def ulid(self) -> str:
        """Return 26 characters of Crockford base 32: 48 bits of ms, 80 random bits."""
        return ulid_text(self._clock.now_us() // 1_000, int.from_bytes(os.urandom(10), "big"))


def ulid_text(ms: int, low: int) -> str:
    """Return a ULID of the milliseconds since 1970 and the 80 bits that follow them."""
    number = ms << 80 | low
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
