"""The subscriptions to one partition, and which of them a change concerns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kalamdb_lab.errors import KalamError
from kalamdb_lab.live.comparisons import Index, Value
from kalamdb_lab.live.event_queue import EventQueue
from kalamdb_lab.live.events import DELETE, INSERT, UPDATE, EventRows, Kinds
from kalamdb_lab.live.filters import Filter, parameter_table
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.changes import Change, ChangedRows, ChangeReader
from kalamdb_lab.partitions.removals import Seqs

_FEW: Final = 64
_MOST_PAIRS: Final = 4_000_000
"""How many pairs of a row and a filter are asked about at once: all of them may match."""

Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Failure:
    """A condition that failed for a changed row, and whose it is."""

    subscription: EventQueue
    error: KalamError


@dataclass(frozen=True, slots=True)
class Delivered:
    """Events for one subscription."""

    subscription: EventQueue
    rows: EventRows


@dataclass(frozen=True, slots=True)
class _Group:
    """Subscriptions whose conditions have one shape.

    Attributes
    ----------
    members : list of list of EventQueue
        By the number of their constants in the table of parameters.
    index : Index or None
        Their constants again, where a few rows need no engine.
    """

    filter: Filter
    members: list[list[EventQueue]]
    parameters: pa.Table | None
    index: Index | None

    @classmethod
    def of(cls, by_values: Mapping[tuple[Value, ...], list[EventQueue]]) -> Self:
        """Return a group of subscriptions by their constants."""
        values = list(by_values)
        asked = by_values[values[0]][0].scope.filter
        assert asked is not None, "they are members because of their conditions"
        shape = asked.shape
        index = None if shape.comparisons is None else Index(shape.comparisons, values)
        return cls(asked, list(by_values.values()), parameter_table(shape, values), index)


class Route:
    """The subscriptions of a hub as they are for some time, put into groups.

    Attributes
    ----------
    table : TableDef
        The newest definition that one of them knows.
    is_mixed : bool
        True if they know different ones: some came after an ALTER that the feed has yet to reach.
    plain : list of EventQueue
        Those without a condition.
    columns : list of str
        What of a row one of them needs.
    """

    def __init__(self, subscriptions: Sequence[EventQueue]) -> None:
        tables = [subscription.scope.table for subscription in subscriptions]
        self.table: TableDef = max(tables, key=lambda table: table.schema_version)
        versions = {table.schema_version for table in tables}
        self.is_mixed = len(versions) > 1
        self.plain: list[EventQueue] = []
        read: set[str] = set()
        by_group: dict[object, dict[tuple[Value, ...], list[EventQueue]]] = {}
        for subscription in subscriptions:
            scope = subscription.scope
            read.update(scope.columns)
            if scope.filter is None:
                self.plain.append(subscription)
                continue
            read |= scope.filter.shape.columns
            group = by_group.setdefault(scope.filter.group, {})
            group.setdefault(scope.filter.values, []).append(subscription)
        self.groups = [_Group.of(by_values) for by_values in by_group.values()]
        self.columns = [column.name for column in self.table.columns if column.name in read]


class Hub:
    """The subscriptions to one partition.

    Not thread-safe: its registry holds a lock around every call.
    """

    def __init__(self) -> None:
        self.subscriptions: dict[str, EventQueue] = {}
        self._route: Route | None = None

    def add(self, subscription: EventQueue) -> None:
        """Add a subscription, or take note that its scope is another."""
        self.subscriptions[subscription.live_id] = subscription
        self._route = None

    def discard(self, subscription: EventQueue) -> None:
        """Take a subscription away."""
        del self.subscriptions[subscription.live_id]
        self._route = None

    def route(self) -> Route:
        """Return the subscriptions in groups."""
        if self._route is None:
            self._route = Route(list(self.subscriptions.values()))
        return self._route


def told(route: Route, change: Change, reader: ChangeReader) -> Iterator[Delivered | Failure]:
    """Yield the events of a change, in the order in which each subscription gets them.

    Raises
    ------
    KalamError
        The rows before the change cannot be read.
    """
    for rows in reader.rows(change, route.table, route.columns):
        kinds = _kinds(rows, rows.new_at >= 0, rows.old_at >= 0)
        if route.plain:
            everything = _events(rows, kinds)
            for subscription in route.plain:
                yield Delivered(subscription, everything)
        if route.groups:
            versions = _versions(rows)
            for group in route.groups:
                yield from _of_group(group, rows, versions)


def _of_group(
    group: _Group, rows: ChangedRows, versions: pa.Table
) -> Iterator[Delivered | Failure]:
    if group.index is not None and versions.num_rows <= _FEW:
        met: dict[int, set[int]] = {}
        for seq, number in group.index.matching(versions):
            met.setdefault(number, set()).add(seq)
        known: dict[frozenset[int], EventRows] = {}  # most meet the same versions
        for number, matching in met.items():
            same = frozenset(matching)
            if same not in known:
                known[same] = _few(rows, same)
            yield from _delivered(group.members[number], known[same])
        return
    members, parameters = group.members, group.parameters
    if parameters is None:
        try:
            seqs, _ = group.filter.matching(versions)
        except KalamError as error:
            yield from _one_by_one(members, rows, versions, error)
        else:
            yield from _delivered(members[0], _events_of(rows, seqs))
        return
    step = max(_MOST_PAIRS // max(versions.num_rows, 1), 1)
    for first in range(0, len(members), step):
        part = members[first : first + step]
        try:
            flags = _met(group.filter, parameters.slice(first, step), versions, first)
        except KalamError:
            yield from _one_by_one(part, rows, versions, None)
        else:
            yield from _of_part(part, rows, flags)


def _met(asked: Filter, parameters: pa.Table, versions: pa.Table, first: int) -> Flags:
    """Return which filters, numbered from ``first``, are met by which versions: a row for each."""
    seqs, numbers = asked.matching(versions, parameters)
    assert numbers is not None, "the shape has parameters"
    known = versions.column("_seq").to_numpy()
    order = np.argsort(known)
    met = np.zeros((parameters.num_rows, len(known)), np.bool_)
    met[numbers - first, order[np.searchsorted(known[order], seqs)]] = True
    return met


def _of_part(
    members: Sequence[list[EventQueue]], rows: ChangedRows, met: Flags
) -> Iterator[Delivered]:
    count = rows.new.num_rows
    known, events = None, None
    for number in np.flatnonzero(met.any(axis=1)).tolist():
        flags = met[number]
        if events is None or known is None or not np.array_equal(flags, known):
            known, new, old = flags, flags[:count], flags[count:]
            events = _events(rows, _kinds(rows, _at(new, rows.new_at), _at(old, rows.old_at)))
        # Those that meet the same versions share the events.
        yield from _delivered(members[number], events)


def _one_by_one(
    parts: Sequence[list[EventQueue]],
    rows: ChangedRows,
    versions: pa.Table,
    error: KalamError | None,
) -> Iterator[Delivered | Failure]:
    """Ask each condition for itself, as SELECT would: another one's may be the one that fails.

    With an error it is known already that each fails like that.
    """
    for members in parts:
        try:
            if error is not None:
                raise error
            only = members[0].scope.filter
            assert only is not None, "it is a member because of its condition"
            seqs = only.matching_alone(versions)
        except KalamError as own:
            for subscription in members:
                yield Failure(subscription, own)
        else:
            yield from _delivered(members, _events_of(rows, seqs))


def _events_of(rows: ChangedRows, seqs: Seqs) -> EventRows:
    """Return the events for a filter that these versions meet."""
    if len(rows.seqs) <= _FEW:
        return _few(rows, set(seqs.tolist()))
    new = np.isin(rows.new.column("_seq").to_numpy(), seqs)
    old = np.isin(rows.old.column("_seq").to_numpy(), seqs)
    return _events(rows, _kinds(rows, _at(new, rows.new_at), _at(old, rows.old_at)))


def _delivered(members: Sequence[EventQueue], events: EventRows) -> Iterator[Delivered]:
    if len(events):
        for subscription in members:
            yield Delivered(subscription, events)


def _few(rows: ChangedRows, matching: AbstractSet[int]) -> EventRows:
    """Return the events of some rows; numpy would take longer for a handful."""
    new_seqs = rows.new.column("_seq").to_pylist()
    old_seqs = rows.old.column("_seq").to_pylist()
    places, kinds = [], []
    pairs = zip(rows.new_at.tolist(), rows.old_at.tolist(), strict=True)
    for place, (new_at, old_at) in enumerate(pairs):
        now = new_at >= 0 and new_seqs[new_at] in matching
        before = old_at >= 0 and old_seqs[old_at] in matching
        if now or before:
            places.append(place)
            kinds.append(UPDATE if now and before else INSERT if now else DELETE)
    return EventRows(rows, np.array(places, np.int64), np.array(kinds, np.uint8))


def _at(matches: Flags, places: Seqs) -> Flags:
    """Return for each change whether the version at its place matches; -1 is none."""
    if not len(matches):
        return np.zeros(len(places), np.bool_)
    return matches[places] & (places >= 0)


def _kinds(rows: ChangedRows, now: Flags, before: Flags) -> Kinds:
    kinds = np.zeros(len(rows.seqs), np.uint8)
    kinds[now & ~before] = INSERT
    kinds[now & before] = UPDATE
    kinds[~now & before] = DELETE
    return kinds


def _events(rows: ChangedRows, kinds: Kinds) -> EventRows:
    places = np.flatnonzero(kinds)
    return EventRows(rows, places, kinds[places])


def _versions(rows: ChangedRows) -> pa.Table:
    """Return all versions of a change, new and old: no two have one ``_seq``."""
    if not rows.old.num_rows:
        return rows.new
    return pa.concat_tables([rows.new, rows.old]) if rows.new.num_rows else rows.old
