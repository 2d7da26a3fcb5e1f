"""Opening a session: passwords, how often they may be tried, and the rows that tell of it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from sqlglot import exp

from kalamdb_lab.authorization.passwords import hashed, is_outdated, is_right
from kalamdb_lab.catalog.catalog import Catalog
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
    SELECT timestamp, outcome FROM system.audit_logs
    WHERE action = 'LOGIN' AND target = ? AND outcome <> 'refused' AND timestamp > ?
    AND details ->> 'method' = 'password' ORDER BY audit_id"""
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


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
    ones go on counting.
    """

    def __init__(
        self, catalog: Catalog, queries: Queries, log: CommitLog, audit: AuditTrail, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._queries = queries
        self._log = log
        self._audit = audit
        self._clock = clock

    @property
    def asks(self) -> bool:
        """True if the database asks for a password: its root user has one."""
        root = self._catalog.users.get(ROOT_USER)
        return root is not None and root.password_hash is not None

    def admit(self, user_id: str | None, password: str | None, *, shown_as: str) -> None:
        """Raise `LoginFailedError` unless somebody may open the database."""
        if password is None:
            if self.asks:
                raise PasswordNeededError(
                    f"'{shown_as}' asks for a password; open it with password=..."
                )
        elif user_id in (None, ROOT_USER) and not self.asks:
            raise LoginFailedError(
                "User 'root' has no password: open the database without one, and set one with "
                "ALTER USER"
            )
        else:
            who = checked_user_id(user_id or ROOT_USER)
            login = Login(who, who, DEFAULT_NAMESPACE, origin="open", by_password=True)
            self.check_password(login, password)

    def check_password(self, login: Login, password: str) -> None:
        """Raise `LoginFailedError` unless this is the password of the user.

        The words, and about the time, are the same for an unknown user, one without a password
        and a wrong password.
        """
        wait_s = self._wait_s(login.user_id)
        if wait_s:
            self._note(login, "refused", LoginFailedError.code)
            raise LoginFailedError(f"{_WRONG}; try again in {wait_s} s")
        user = self._catalog.users.get(login.user_id)
        password_hash = None if user is None else user.password_hash
        if not is_right(password_hash, password):
            self._note(login, "failed", LoginFailedError.code)
            raise LoginFailedError(_WRONG)
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

    def _wait_s(self, user_id: str) -> int:
        """Return for how many seconds no password of the user is looked at."""
        now_us = self._clock.now_us()
        failures = self._failures_us(user_id, now_us - WINDOW_S * 1_000_000)
        if len(failures) < FREE_ATTEMPTS:
            return 0
        doublings = min(len(failures) - FREE_ATTEMPTS, 20)
        wait_s: int = min(FIRST_WAIT_S << doublings, LONGEST_WAIT_S)
        left_s = math.ceil((failures[-1] - now_us) / 1_000_000) + wait_s
        return max(0, min(left_s, wait_s))  # the clock may have gone backwards

    def _failures_us(self, user_id: str, since_us: int) -> list[int]:
        """Return when wrong passwords were given since the last right one, in order."""
        context = ExecutionContext(
            user_id=ROOT_USER,
            actor_id=ROOT_USER,
            role=Role.SYSTEM,
            namespace=SYSTEM_NAMESPACE,
            request_id="",
            origin="login",
            now_us=self._clock.now_us(),
        )
        since = _EPOCH + dt.timedelta(microseconds=since_us)
        table = self._queries.run(_attempts(), Request(context, (user_id, since)))
        failures: list[int] = []
        times = table.column("timestamp").cast("int64").to_pylist()
        for at_us, outcome in zip(times, table.column("outcome").to_pylist(), strict=True):
            if outcome == "ok":
                failures = []
            else:
                failures.append(at_us)
        failures += [
            record.at_us
            for record in self._audit.pending()
            if record.action == "LOGIN"
            and record.target == user_id
            and record.outcome == "failed"
            and record.at_us is not None
            and record.details.get("method") == "password"
        ]
        return failures


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
