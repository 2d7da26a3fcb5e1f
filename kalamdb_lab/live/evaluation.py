"""One live result's query: what it depends on, with whose rights, and its next state."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.system_tables import NAMESPACES, STATS, TABLES, USERS
from kalamdb_lab.errors import (
    BusyError,
    ConflictError,
    InterruptedStatementError,
    KalamError,
    NotSupportedError,
    StorageError,
)
from kalamdb_lab.live.aggregates import AggregateState, TooManyGroups, Unsure
from kalamdb_lab.live.shapes import NotMaintained, shape_of
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.entities import LiveQuery as Listed
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.changes import Change, ChangeReader, Watched
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.plan import Plan
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.relation_keys import AllScopesRef, DerivedRef, RegisteredRef, TableRef
from kalamdb_lab.query.request import Request
from kalamdb_lab.store.log import EntryKind
from kalamdb_lab.tables.writing import SchemaChangedError

DEFINITIONS: Final = frozenset(
    PartitionKey(table.table_key, "") for table in (USERS, NAMESPACES, TABLES)
)
"""What any query depends on: who may read, and what its names mean."""

PASSING: Final = (BusyError, ConflictError, StorageError)
"""What fails for reasons that pass without a change of the data."""

_ATTEMPTS: Final = 5
_MOST_PENDING_CHANGES: Final = 1_000
_MOST_PENDING_ROWS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class LiveQuery:
    """A query, and as whom it runs.

    Attributes
    ----------
    tree : exp.Expression
        One query.
    text : str
        As it is shown.
    text_semantics : bool
        False for trees of ibis.
    cache_key : Hashable
        What its plan is remembered by.
    namespace : str
        Where unqualified names are looked up.
    request_for : callable
        Returns a request with the user's rights as of now; raises if the user may not act.
    """

    tree: exp.Expression
    text: str
    text_semantics: bool
    cache_key: Hashable
    namespace: str
    request_for: Callable[[], Request]


@dataclass(frozen=True, slots=True)
class State:
    """A result at one number of the log.

    Attributes
    ----------
    expires_us : int or None
        When the first event of a STREAM table among its rows expires.
    """

    table: pa.Table
    seq: int
    at_us: int
    expires_us: int | None = None


class MeaningError(Exception):
    """The query can no longer be planned: rights, tables or columns are gone.

    Attributes
    ----------
    error : KalamError
        What planning it says.
    """

    def __init__(self, error: KalamError) -> None:
        super().__init__(error)
        self.error = error


class Evaluator:
    """Evaluates one query again and again; one call of `evaluate` at a time.

    Parameters
    ----------
    follow : callable
        Told what to watch whenever that changes, before it is read.

    Attributes
    ----------
    polls : bool
        True if it reads what nobody tells changes of: files, figures of the database.
    reads : frozenset
        The partitions whose rows it reads, or the keys of tables for all of them.
    user_id : str
        Whose rows they are.
    """

    def __init__(
        self,
        query: LiveQuery,
        queries: Queries,
        catalog: Catalog,
        log: CommitLog,
        changes: ChangeReader,
        follow: Callable[[frozenset[Watched]], None],
    ) -> None:
        self.query = query
        self._queries = queries
        self._catalog = catalog
        self._log = log
        self._changes = changes
        self._follow = follow
        self._lock = threading.Lock()
        self._pending: list[Change] = []
        self._pending_rows = 0
        self._must_read = True
        self._plan: Plan | None = None
        self._schema: pa.Schema | None = None
        self._aggregate: AggregateState | None = None
        self.polls = False
        self.reads: frozenset[Watched] = frozenset()
        self.user_id = ""

    @property
    def is_maintained(self) -> bool:
        """True if changes alone give the next state."""
        return self._aggregate is not None

    def listed(self, live_id: str, node_id: str, throttle_s: float) -> Listed:
        """Return its row of ``system.live_queries``; of several tables their names together."""
        requests = () if self._plan is None else self._plan.requests
        names = list(dict.fromkeys(scan.relation.name for _, scan in requests))
        namespace, _, table = names[0].partition(".") if len(names) == 1 else ("", "", "")
        return Listed(
            live_id=live_id,
            user_id=self.user_id,
            namespace=namespace if table else self.query.namespace,
            table_name=table or ", ".join(names),
            query=self.query.text,
            node_id=node_id,
            created_at_us=0,
            options=json.dumps({"result": True, "throttle_s": throttle_s}),
        )

    @property
    def plan(self) -> Plan | None:
        """The plan of the newest evaluation."""
        return self._plan

    # --- what happened, on the feed's thread --------------------------------------------------

    def note(self, change: Change) -> bool:
        """Take note of a change of what was watched; return whether to evaluate."""
        if change.partition not in self.reads and change.partition.table_key not in self.reads:
            return change.partition in DEFINITIONS
        with self._lock:
            self._pending_rows += change.last_seq - change.seq + 1
            if (
                self._aggregate is None
                or change.kind is EntryKind.DROP
                or len(self._pending) >= _MOST_PENDING_CHANGES
                or self._pending_rows > _MOST_PENDING_ROWS
            ):
                self._must_read, self._pending = True, []
            elif not self._must_read:
                self._pending.append(change)
        return True

    def forget(self) -> None:
        """Take note that changes were missed, or that something changed untold."""
        with self._lock:
            self._must_read, self._pending = True, []

    # --- the next state -----------------------------------------------------------------------

    def evaluate(self) -> State | None:
        """Return the newest state; None if nothing that the query reads has changed.

        Raises
        ------
        MeaningError
            The user may not ask it any more, or it means nothing any more.
        KalamError
            It failed on the present rows.
        """
        with self._lock:
            must_read, pending = self._must_read, self._pending
            self._must_read, self._pending, self._pending_rows = False, [], 0
        try:
            with self._log.statement():
                return self._evaluate(pending, must_read=must_read)
        except BaseException:
            self.forget()
            raise

    def _evaluate(self, pending: Sequence[Change], *, must_read: bool) -> State | None:
        for _ in range(_ATTEMPTS):
            try:
                request, is_new = self._planned()
                if is_new or must_read:
                    return self._read(request)
                if pending:
                    return self._maintain(pending, request)
                return None
            except SchemaChangedError:
                must_read = True
        raise ConflictError("The table is being altered by others; run the statement again")

    def _planned(self) -> tuple[Request, bool]:
        """Plan anew, which is free while nothing changed; return whether the plan is another."""
        try:
            request = self.query.request_for()
            plan = self._queries.plan(
                self.query.tree,
                request,
                text_semantics=self.query.text_semantics,
                cache_key=self.query.cache_key,
            )
            if self._plan is not None and _means_the_same(plan, self._plan):
                self._plan = plan
                return request, False
            reads = self._read_by(plan, request)
            if reads != self.reads or self._plan is None:
                self._follow(reads | DEFINITIONS)
                self.reads = reads
            self._schema = self._queries.described(plan, request)
        except (*PASSING, InterruptedStatementError):
            raise
        except KalamError as error:
            raise MeaningError(error) from None
        self._plan, self.user_id = plan, request.context.user_id
        self._aggregate = self._maintained(plan, request)
        return request, True

    def _read_by(self, plan: Plan, request: Request) -> frozenset[Watched]:
        wanted: set[Watched] = set()
        self.polls = False
        for _, scan in plan.requests:
            match scan.relation.key:
                case TableRef(table_key=table_key):
                    wanted.add(request.context.partition(self._table(table_key)))
                case AllScopesRef():
                    # Each use leaves a row in the audit log, and this one would be used for ever.
                    raise NotSupportedError("all_users() is not supported in a live query")
                case RegisteredRef():
                    self.polls = True
                case DerivedRef(name=name):
                    self.polls = self.polls or name == str(STATS.table_id)
                    wanted |= DEFINITIONS
        return frozenset(wanted)

    def _table(self, table_key: int) -> TableDef:
        table = self._catalog.table_by_key(table_key)
        if table is None:
            raise SchemaChangedError
        return table

    def _maintained(self, plan: Plan, request: Request) -> AggregateState | None:
        try:
            shape = shape_of(self.query.tree, plan, self.query.namespace)
        except NotMaintained:
            return None
        key = shape.relation.key
        assert isinstance(key, TableRef)
        table = self._table(key.table_key)
        if table.kind is TableKind.STREAM or table.schema_version != key.schema_version:
            return None  # events expire untold
        assert self._schema is not None
        return AggregateState(
            self._queries,
            self._changes,
            shape,
            table,
            self._schema,
            text_semantics=self.query.text_semantics,
        )

    def _read(self, request: Request) -> State:
        aggregate = self._aggregate
        if aggregate is not None:
            try:
                aggregate.begin(request)
                return State(aggregate.result(request), aggregate.seq, request.context.now_us)
            except (KalamError, Unsure, TooManyGroups):
                pass  # if the engine has an answer, it is asked from now on
        plan = self._plan
        assert plan is not None
        scans = self._queries.provider(plan, request)
        table = self._queries.execute(plan, request, scans)
        self._aggregate = None
        expires_us = self._expires_us(plan, request.context)
        return State(table, scans.seq, request.context.now_us, expires_us)

    def _maintain(self, pending: Sequence[Change], request: Request) -> State:
        aggregate = self._aggregate
        if aggregate is None:
            return self._read(request)
        try:
            aggregate.apply(pending, request)
            return State(aggregate.result(request), aggregate.seq, request.context.now_us)
        except TooManyGroups:
            self._aggregate = None
        except (KalamError, Unsure):
            pass  # what the whole table says is right, an error too
        return self._read(request)

    def _expires_us(self, plan: Plan, context: ExecutionContext) -> int | None:
        """Return when the oldest event of the STREAM tables expires that has not yet."""
        times = []
        with self._log.at_newest():
            for _, scan in plan.requests:
                if not isinstance(scan.relation.key, TableRef):
                    continue
                table = self._catalog.table_by_key(scan.relation.key.table_key)
                if table is None or table.kind is not TableKind.STREAM:
                    continue
                ttl_us = (table.options.ttl_seconds or 0) * 1_000_000
                living = (
                    at_us + ttl_us
                    for _, _, at_us in self._log.partition(context.partition(table)).entries
                    if at_us + ttl_us > context.now_us
                )
                times += [next(living, None)]
        return min((at_us for at_us in times if at_us is not None), default=None)


def _means_the_same(plan: Plan, other: Plan) -> bool:
    """Return whether two plans of one query read the same in the same way."""
    if plan is other:
        return True
    wanted = [scan for _, scan in plan.requests]
    return wanted == [scan for _, scan in other.requests] and _shape(plan) == _shape(other)


def _shape(plan: Plan) -> str:
    """Return the SQL of a plan without the random names in it."""
    sql = plan.template
    names = [marker for marker, _ in plan.requests]
    names += sorted(plan.ctes, key=sql.find)
    for at, name in enumerate(names):
        sql = sql.replace(name, f"__{at}")
    return sql
