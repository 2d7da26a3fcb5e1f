"""The audit trail: rows of ``system.audit_logs``, written with what they tell of."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Literal, Self

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.catalog.system_tables import AUDIT_LOGS
from kalamdb_lab.clock import Clock, ulid_text
from kalamdb_lab.engine.audited import AUDITED, When, action_of, closed_table
from kalamdb_lab.errors import KalamError, PermissionDeniedError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit import Commit, RowCommit
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.partitions.transaction_view import TransactionView
from kalamdb_lab.query.request import Request
from kalamdb_lab.sql.commands import AlterStorage, CreateStorage
from kalamdb_lab.sql.dialect import KALAM_SQL
from kalamdb_lab.sql.statements import CreateTable, Select, Statement
from kalamdb_lab.sql.tokens import without_comments, without_values

_PARTITION: Final = PartitionKey(AUDIT_LOGS.table_key, "")
_ABOUT_ROWS: Final = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE", "EXPLAIN", "EXECUTE AS", "SUBSCRIBE"}
)
"""Kinds whose text may hold what belongs to a user, and must be gone when the user is erased."""
_TEXT_LIMIT: Final = 1_000
_TARGET_LIMIT: Final = 300
_ROWS_KEPT_HOT: Final = 2_000
_MOST_PENDING: Final = 1_000

PATIENCE_S: Final = 1.0
"""What need not wait for its row does not wait longer than this for the write lock."""

Outcome = Literal["ok", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Record:
    """One row of ``system.audit_logs`` to be.

    Attributes
    ----------
    at_us : int or None
        When it happened; None for the moment of its commit.
    """

    action: str
    target: str
    outcome: Outcome
    actor_id: str
    subject_id: str | None
    details: Mapping[str, object]
    at_us: int | None = None


class AuditTrail:
    """Appends rows to ``system.audit_logs``; reads nothing.

    Parameters
    ----------
    system : SystemKeeper
        Flushes the system tables now and then: nobody else does if nothing but rows of the
        audit trail is written.
    table : TableDef
        ``system.audit_logs`` as it is stored.
    audits_dml : bool
        Whether INSERT, UPDATE and DELETE that are allowed leave rows.

    Attributes
    ----------
    quiet : frozenset of type
        The statement classes that leave rows only if they are refused or read all users' rows.
    """

    def __init__(
        self,
        log: CommitLog,
        clock: Clock,
        system: SystemKeeper,
        table: TableDef,
        *,
        audits_dml: bool,
    ) -> None:
        self.log = log
        self._table = table
        self._fills = tuple(column.fill for column in table.columns[len(AUDIT_LOGS.columns) :])
        self._clock = clock
        self._system = system
        owed = {When.ALWAYS, When.DML} if audits_dml else {When.ALWAYS}
        self.quiet = frozenset(kind for kind, rule in AUDITED.items() if rule.when not in owed)
        self._lock = threading.Lock()
        self._pending: list[Record] = []
        self._written = 0

    def watch(self, statement: Statement, view: TransactionView | None = None) -> Attempt:
        """Return the block in which a statement runs, within a transaction if there is one."""
        return Attempt(self, statement, view)

    def append(self, commit: Commit, records: Iterable[Record]) -> None:
        """Stage rows for the end of a commit, whose number makes their ids grow."""
        for record in records:
            at_us = commit.at_us if record.at_us is None else record.at_us
            seq = commit.transaction.last_seq() + 1
            low = (seq << 16) | int.from_bytes(os.urandom(2), "big")
            row: Row = (
                ulid_text(at_us // 1_000, low),
                at_us,
                record.actor_id,
                record.subject_id,
                record.action,
                _plain(record.target, _TARGET_LIMIT),
                record.outcome,
                json.dumps(record.details),
                None,
            )
            commit.append_rows(_PARTITION, self._table, [(*row, *self._fills)])

    def write(self, records: Iterable[Record], *, wait_s: float | None = None) -> Commit:
        """Give rows a commit of their own, with those that could not be written before.

        Parameters
        ----------
        wait_s : float, optional
            Wait no longer than this for others to let go of the write lock.

        Raises
        ------
        KalamError
            If they cannot be made durable: what they tell of must fail then.
        """
        with self._lock:
            pending, self._pending = self._pending, []
        rows = [*pending, *records]
        try:
            with self.log.commit(wait_s=wait_s) as commit:
                self.append(commit, rows)
        except BaseException:
            with self._lock:
                self._pending[:0] = pending
            raise
        self.count(len(rows))
        return commit

    def write_if_possible(self, records: Sequence[Record]) -> None:
        """Commit rows; where that fails they are kept for when the next ones are written.

        For refusals, which stand in any case, and for what must work on a disk that is full.
        """
        try:
            self.write(records, wait_s=PATIENCE_S)
        except KalamError:
            self.postpone(records)

    def postpone(self, records: Sequence[Record]) -> None:
        """Keep rows, as of now, for when the next ones are written."""
        now_us = self._clock.now_us()
        late = [replace(record, at_us=now_us) for record in records]
        with self._lock:
            self._pending = (self._pending + late)[-_MOST_PENDING:]

    def pending(self) -> list[Record]:
        """Return the rows that could not be written yet."""
        with self._lock:
            return list(self._pending)

    def count(self, rows: int) -> None:
        """Note rows that are durable; flush the system tables when they have become many."""
        with self._lock:
            self._written += rows
            is_due = self._written >= _ROWS_KEPT_HOT
            if is_due:
                self._written = 0
        if is_due:
            with suppress(KalamError):
                self._system.keep()

    def close(self) -> None:
        """Try once more to write what could not be written."""
        if self._pending:
            with suppress(KalamError):
                self.write((), wait_s=PATIENCE_S)


class Attempt:
    """One statement on its way, as a block; leaves the rows that it owes.

    Rows about a change are part of the commit that makes it: if they cannot be written, it
    fails. What commits nothing gets a commit for its rows afterwards.

    Attributes
    ----------
    request : Request or None
        What the statement runs with, once that is known.
    """

    __slots__ = (
        "_audit",
        "_block",
        "_carrier",
        "_is_audited",
        "_is_writing",
        "_statement",
        "_view",
        "request",
    )

    def __init__(
        self, audit: AuditTrail, statement: Statement, view: TransactionView | None
    ) -> None:
        self._audit = audit
        self._statement = statement
        self._view = view
        self._is_audited = type(statement) not in audit.quiet
        self._block = audit.log.statement(view, self._stage)
        self._carrier: Commit | None = None
        self._is_writing = False
        self.request: Request | None = None

    def __enter__(self) -> Self:
        self._block.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, trace)
        if self.request is None:
            return  # it never began
        if error is None and not self._is_audited and not self.request.all_users:
            return  # most statements
        if isinstance(error, PermissionDeniedError):
            self._audit.write_if_possible([self._refusal(error)])
        elif not self._owes():
            return
        elif self._carrier is not None and self._carrier.is_done:
            self._audit.count(1)
        elif error is None:
            self._audit.write(self._records("ok"))
        elif isinstance(error, Exception):
            code = error.code if isinstance(error, KalamError) else "INTERNAL"
            self._audit.write_if_possible(self._records("failed", error=code))

    def _owes(self) -> bool:
        """Return whether rows are due even if nothing is refused."""
        return self._is_audited or (self.request is not None and bool(self.request.all_users))

    def _stage(self, commit: RowCommit) -> None:
        """Add the rows to the commit that they belong to."""
        if self.request is None or self._is_writing or self._carrier or not self._owes():
            return
        if not isinstance(commit, Commit):
            # The transaction may be rolled back; that somebody acted must not be lost then.
            self._is_writing = True
            try:
                self._carrier = self._audit.write(self._records("ok"))
            finally:
                self._is_writing = False
            return
        entries = [(entry.partition.table_key, entry.kind) for entry, _ in commit.staged]
        if not self._is_audited or AUDITED[type(self._statement)].carries(entries):
            self._audit.append(commit, self._records("ok"))
            self._carrier = commit

    def _records(self, outcome: Outcome, **facts: object) -> list[Record]:
        assert self.request is not None
        statement = self._statement
        records = []
        if self._is_audited:
            rule = AUDITED[type(statement)]
            target = rule.target(statement, self.request.context.namespace)
            records.append(
                self._record(
                    action_of(statement),
                    target,
                    outcome,
                    subject=target if rule.names_user else None,
                    facts={**rule.specifics(statement), **facts},
                )
            )
        return records + [
            self._record("ALL_USERS", table, outcome, subject=None, facts=facts)
            for table in dict.fromkeys(self.request.all_users)
        ]

    def _refusal(self, error: PermissionDeniedError) -> Record:
        assert self.request is not None
        statement = self._statement
        rule = AUDITED[type(statement)]
        target = rule.target(statement, self.request.context.namespace)
        subject = target if rule.names_user else None
        if rule.when is not When.ALWAYS:
            target = error.target or closed_table(statement) or target
        return self._record(
            action_of(statement),
            target,
            "refused",
            subject=subject,
            facts={**rule.specifics(statement), "error": error.code},
        )

    def _record(
        self,
        action: str,
        target: str,
        outcome: Outcome,
        *,
        subject: str | None,
        facts: Mapping[str, object],
    ) -> Record:
        assert self.request is not None
        context = self.request.context
        details = details_of(context)
        if self._view is not None:
            details["in_transaction"] = True
        details |= facts
        if text := _text_of(self._statement, outcome):
            details["statement"] = text
        return Record(action, target, outcome, context.actor_id, subject, details)


def details_of(context: ExecutionContext) -> dict[str, object]:
    """Return what the details of every row say."""
    return {
        "request_id": context.request_id,
        "origin": context.origin,
        "role": context.role.value,
        "namespace": context.namespace,
    }


def _text_of(statement: Statement, outcome: Outcome) -> str:
    """Return the statement as it may be kept for ever: what it says of rows holds no values."""
    text = statement.text
    if not text and isinstance(statement, Select):  # it came as a tree
        with suppress(RecursionError, ValueError):
            tree = statement.query.transform(
                lambda node: exp.Placeholder() if isinstance(node, exp.Literal) else node
            )
            text = tree.sql(dialect=KALAM_SQL, comments=False, unsupported_level=ErrorLevel.IGNORE)
    elif _may_tell_values(statement, outcome):
        text = without_values(text) if text else text
    else:
        text = without_comments(text)
    return text if len(text) <= _TEXT_LIMIT else f"{text[: _TEXT_LIMIT - 1]}…"


def _may_tell_values(statement: Statement, outcome: Outcome) -> bool:
    match statement:
        case CreateTable(query=query):
            return query is not None
        case CreateStorage() | AlterStorage():
            # What is refused may be a secret at the wrong place, that nobody masked.
            return outcome != "ok"
    return statement.kind in _ABOUT_ROWS


def _plain(text: str, limit: int) -> str:
    """Return what a TEXT column takes: names in a refusal may be anything."""
    return text[:limit].encode("utf-8", "replace").decode().replace("\0", "?")
