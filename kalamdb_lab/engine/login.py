"""Opening a session: passwords, how often they may be tried, and the rows that tell of it."""

from __future__ import annotations

import datetime as dt
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from typing import Final, TypeAlias

from sqlglot import exp

from kalamdb_lab.authorization.passwords import hashed, is_outdated, is_right
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.catalog.system_tables import AUDIT_LOGS
from kalamdb_lab.clock import Clock
from kalamdb_lab.engine.audit import PATIENCE_S, AuditTrail, Outcome, Record, details_of
from kalamdb_lab.errors import (
    BusyError,
    KalamError,
    LoginFailedError,
    PasswordNeededError,
    PermissionDeniedError,
    StorageError,
    UserDroppedError,
)
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.entities import User
from kalamdb_lab.model.ids import (
    DEFAULT_NAMESPACE,
    ROOT_USER,
    SYSTEM_NAMESPACE,
    PartitionKey,
    checked_user_id,
)
from kalamdb_lab.model.roles import Role
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.sql.queries import parse_query

FREE_ATTEMPTS: Final = 5
"""So many wrong passwords in a row cost nothing but time."""

FIRST_WAIT_S: Final = 10
LONGEST_WAIT_S: Final = 900
"""Each further one doubles the time in which no password is looked at, up to this."""

WINDOW_S: Final = 3_600
"""Wrong passwords are forgotten after this, or at the first right one."""

_WRONG: Final = "Wrong user or password"
_ATTEMPTS: Final = """
    SELECT audit_id, timestamp, outcome FROM system.audit_logs
    WHERE action = 'LOGIN' AND target = ? AND outcome <> 'refused' AND timestamp > ?
    AND details ->> 'method' = 'password'"""
_AUDIT: Final = PartitionKey(AUDIT_LOGS.table_key, "")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_Try: TypeAlias = tuple[int, str]
"""When a password was looked at, in µs, and the outcome: ok or failed."""


@dataclass(slots=True)
class Login:
    """One try to open a session.

    Attributes
    ----------
    actor_id : str
        Who tries: ``user_id``, unless somebody else opened the database with a password.
    by_password : bool
        True if the user's password was or is asked for.
    request_id : str
        That of the session, once there is one.
    """

    user_id: str
    actor_id: str
    namespace: str
    origin: str
    by_password: bool
    request_id: str = ""


class Logins:
    """Checks passwords and keeps account of who opened sessions.

    The wrong passwords of a user are counted in ``system.audit_logs``: other processes and later
    ones go on counting. A password that was looked at while others were is told only if it would
    have been looked at after them too.
    """

    def __init__(
        self, catalog: Catalog, queries: Queries, log: CommitLog, audit: AuditTrail, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._queries = queries
        self._log = log
        self._audit = audit
        self._clock = clock
        self._postponing = threading.Lock()

    @property
    def asks(self) -> bool:
        """True if the database asks for a password: its root user has one."""
        root = self._catalog.users.get(ROOT_USER)
        return root is not None and root.password_hash is not None

    def admit(self, user_id: str | None, password: str | None, *, shown_as: str) -> None:
        """Raise `LoginFailedError` unless somebody may open the database."""
        if password is None and not self.asks:
            return
        who = checked_user_id(user_id or ROOT_USER)
        login = Login(who, who, DEFAULT_NAMESPACE, origin="open", by_password=password is not None)
        if password is None:
            self._note(login, "failed", PasswordNeededError.code)
            raise PasswordNeededError(
                f"'{shown_as}' asks for a password; open it with password=..."
            )
        if who == ROOT_USER and not self.asks:
            raise self.refusal(
                login,
                "User 'root' has no password: open the database without one, and set one with "
                "ALTER USER",
            )
        self.check_password(login, password)

    def check_password(self, login: Login, password: str) -> None:
        """Raise `LoginFailedError` unless this is the password of the user.

        The words, and about the time, are the same for an unknown user, one without a password
        and a wrong password.
        """
        with self._log.at_newest() as seq:
            pass
        tries = self._tries(login.user_id)
        if wait_s := self._wait_s(login.user_id, tries):
            raise self.refusal(login, _later(wait_s))
        user = self._catalog.users.get(login.user_id)
        password_hash = None if user is None else user.password_hash
        if not is_right(password_hash, password):
            raise self._counted(login, tries, seq)
        if wait_s := self._wait_s(login.user_id, tries | self._tries_after(login.user_id, seq)):
            raise self.refusal(login, _later(wait_s))
        if password_hash is not None and is_outdated(password_hash):
            self._hash_anew(login.user_id, password_hash, password)

    @contextmanager
    def opening(self, login: Login) -> Iterator[None]:
        """Note the outcome of a block that opens a session, and the time with the user.

        A session opens also while the row cannot be written, because the disk is full or another
        process holds the lock: it is written later then.
        """
        try:
            yield
        except LoginFailedError:
            raise  # noted where it was found
        except KalamError as error:
            refused = isinstance(error, PermissionDeniedError)
            self._note(login, "refused" if refused else "failed", error.code)
            raise
        try:
            with self._log.commit(wait_s=PATIENCE_S) as commit:
                user = self._living(login.user_id)
                if user.last_login_at_us != commit.at_us:
                    self._catalog.users.put(commit, replace(user, last_login_at_us=commit.at_us))
                self._audit.append(commit, [_record(login, user, "ok")])
        except (BusyError, StorageError):
            self._audit.postpone([_record(login, self._living(login.user_id), "ok")])
        else:
            self._audit.count(1)

    def refusal(self, login: Login, message: str) -> LoginFailedError:
        """Note that a session is not to be had; return the error to raise."""
        self._note(login, "refused", LoginFailedError.code)
        return LoginFailedError(message)

    def _counted(self, login: Login, tries: dict[str, _Try], seq: int) -> LoginFailedError:
        """Count a wrong password, unless too many others were meanwhile; return what to raise.

        Parameters
        ----------
        tries : dict
            Those that were known before it was looked at.
        seq : int
            The last commit that they are all of.
        """
        user = self._catalog.users.get(login.user_id)

        def judged() -> tuple[int, Record]:
            known = tries | self._tries_after(login.user_id, seq)
            wait_s = self._wait_s(login.user_id, known)
            outcome: Outcome = "refused" if wait_s else "failed"
            return wait_s, _record(login, user, outcome, LoginFailedError.code)

        try:
            with self._log.commit(wait_s=PATIENCE_S) as commit:  # one process after the other
                wait_s, record = judged()
                self._audit.append(commit, [record])
        except KalamError:
            with self._postponing:
                wait_s, record = judged()
                self._audit.postpone([record])
        else:
            self._audit.count(1)
        return LoginFailedError(_later(wait_s) if wait_s else _WRONG)

    def _living(self, user_id: str) -> User:
        user = self._catalog.users.get(user_id)
        if user is None or user.deleted_at_us is not None:
            raise UserDroppedError(f"User '{user_id}' was dropped")
        return user

    def _note(self, login: Login, outcome: Outcome, error: str) -> None:
        user = self._catalog.users.get(login.user_id)
        self._audit.write_if_possible([_record(login, user, outcome, error)])

    def _hash_anew(self, user_id: str, old_hash: str, password: str) -> None:
        new_hash = hashed(password)
        try:
            with self._log.commit(wait_s=PATIENCE_S) as commit:
                user = self._catalog.users.get(user_id)
                if user is not None and user.password_hash == old_hash:
                    self._catalog.users.put(commit, replace(user, password_hash=new_hash))
        except (BusyError, StorageError):
            pass  # the old hash stays good

    def _wait_s(self, user_id: str, tries: dict[str, _Try]) -> int:
        """Return for how many seconds no password of the user is looked at."""
        now_us = self._clock.now_us()
        failures: list[int] = []
        for _, (at_us, outcome) in sorted(tries.items()):
            if now_us - WINDOW_S * 1_000_000 < at_us <= now_us:  # the clock may have gone back
                failures = [] if outcome == "ok" else [*failures, at_us]
        failures += [
            record.at_us
            for record in self._audit.pending()
            if record.action == "LOGIN"
            and record.target == user_id
            and record.outcome == "failed"
            and record.at_us is not None
            and record.at_us <= now_us
            and record.details.get("method") == "password"
        ]
        if len(failures) < FREE_ATTEMPTS:
            return 0
        doublings = min(len(failures) - FREE_ATTEMPTS, 20)
        wait_s: int = min(FIRST_WAIT_S << doublings, LONGEST_WAIT_S)
        return max(0, math.ceil((failures[-1] - now_us) / 1_000_000) + wait_s)

    def _tries(self, user_id: str) -> dict[str, _Try]:
        """Return the passwords that were looked at within the window, by id in order of time."""
        now_us = self._clock.now_us()
        context = ExecutionContext(
            user_id=ROOT_USER,
            actor_id=ROOT_USER,
            role=Role.SYSTEM,
            namespace=SYSTEM_NAMESPACE,
            request_id="",
            origin="login",
            now_us=now_us,
        )
        since = _EPOCH + dt.timedelta(microseconds=now_us - WINDOW_S * 1_000_000)
        table = self._queries.run(_attempts(), Request(context, (user_id, since)))
        ids, outcomes = (table.column(name).to_pylist() for name in ("audit_id", "outcome"))
        times = table.column("timestamp").cast("int64").to_pylist()
        return dict(zip(ids, zip(times, outcomes, strict=True), strict=True))

    def _tries_after(self, user_id: str, seq: int) -> dict[str, _Try]:
        """Return the passwords that were looked at after a commit; may be called within one."""
        found: dict[str, _Try] = {}
        with self._log.at_newest([_AUDIT]):
            rows = self._log.partition(_AUDIT).rows
            for row in [rows[at][1] for at in takewhile(lambda at: at > seq, reversed(rows))]:
                audit_id, at_us, _, _, action, target, outcome, details = row[:8]
                if (action, target) == ("LOGIN", user_id) and outcome != "refused":
                    assert isinstance(audit_id, str)
                    assert isinstance(at_us, int)
                    assert isinstance(details, str)
                    if json.loads(details)["method"] == "password":
                        found[audit_id] = at_us, str(outcome)
        return found


def _later(wait_s: int) -> str:
    return f"{_WRONG}; try again in {wait_s} s"


@cache
def _attempts() -> exp.Expression:
    return parse_query(_ATTEMPTS)


def _record(login: Login, user: User | None, outcome: Outcome, error: str | None = None) -> Record:
    role = Role.USER if user is None else user.role
    context = ExecutionContext(
        user_id=login.user_id,
        actor_id=login.actor_id,
        role=role,
        namespace=login.namespace,
        request_id=login.request_id,
        origin=login.origin,
        now_us=0,
    )
    details = details_of(context)
    details["method"] = "password" if login.by_password else "opener"
    if error is not None:
        details["error"] = error
    return Record("LOGIN", login.user_id, outcome, login.actor_id, login.user_id, details)
