"""Opening a directory: `open_database` and the `Database` it gives."""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from kalamdb_lab.authorization.gateway import authorize_kind
from kalamdb_lab.clock import Clock, SystemClock
from kalamdb_lab.embeddings import EmbeddingFunction
from kalamdb_lab.engine.app_context import AppContext
from kalamdb_lab.engine.audited import EVERYTHING
from kalamdb_lab.engine.copy import BackupReport
from kalamdb_lab.engine.jobs import DatabaseJobs
from kalamdb_lab.engine.login import Login
from kalamdb_lab.engine.session import Session, living_role
from kalamdb_lab.errors import ClosedError, StorageError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, ROOT_USER, checked_user_id
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.commands import BackupDatabase
from kalamdb_lab.tables.embedding import Embedding, EmbeddingFunctions

_shared: dict[str, tuple[AppContext, int]] = {}
_shared_lock = threading.Lock()


def open_database(
    path: str | os.PathLike[str],
    *,
    user: str | None = None,
    password: str | None = None,
    clock: Clock | None = None,
    create: bool = True,
) -> Database:
    """Open a database directory, and create it if it is missing.

    Parameters
    ----------
    path : str or PathLike
        The directory, such as ``lab.kalam``. Its parent must exist.
    user, password : str, optional
        For a database that asks for a password, because its user root has one
        (``ALTER USER 'root' SET PASSWORD '...'``). The password of root opens it for sessions of
        all users. With the name and password of another user only that user's sessions can be
        opened; so can they, of a database that asks for none, with the name alone. The password
        guards this door and not the files: who can read the directory can read the data.
    clock : Clock, optional
        Time for TTL, retention and NOW(); the machine's clock by default. The waits after wrong
        passwords go by it too: do not let it be chosen by who must not guess them.
    create : bool
        With False a missing directory is an error; it is one too if a user or a password is
        given, as a new database has neither.

    Returns
    -------
    Database
        A context manager. All databases that one process opens at the same path share one
        engine; it closes with the last of them.

    Raises
    ------
    StorageError
        If the path is missing, no database, read-only, or of a newer format.
    LoginFailedError
        If the user or the password is wrong, or a password is needed and missing
        (`PasswordNeededError`).
    """
    shown = os.fspath(path)
    real = os.path.realpath(shown)
    create = create and user is None and password is None
    if clock is not None:
        context, shared_as = AppContext(Path(real), clock, shown_as=shown, create=create), None
    else:
        context, shared_as = _shared_context(real, shown, create=create), real
    database = Database(context, shown, shared_as, user=user, has_password=password is not None)
    try:
        context.logins.admit(user, password, shown_as=shown)
    except BaseException:
        database.close()
        raise
    return database


def _shared_context(real: str, shown: str, *, create: bool) -> AppContext:
    with _shared_lock:
        context, users = _shared.get(real, (None, 0))
        if context is None or context.is_stale():
            context, users = (
                AppContext(Path(real), SystemClock(), shown_as=shown, create=create),
                0,
            )
        elif not Path(real).is_dir():
            raise StorageError(f"'{shown}' is gone; it was open in this process")
        _shared[real] = (context, users + 1)
        return context


class Database:
    """An open database directory; made by `open_database`.

    Closing it ends its sessions. Nothing is lost by not closing: every commit is durable when it
    returns.

    Attributes
    ----------
    user : str or None
        The only user who may have sessions here; None for any.
    """

    def __init__(
        self,
        context: AppContext,
        path: str,
        shared_as: str | None,
        *,
        user: str | None = None,
        has_password: bool = False,
    ) -> None:
        self._context = context
        self._opener = (user or ROOT_USER) if has_password else None
        self.user = None if user == ROOT_USER else user
        self._shared_as = shared_as
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        # All sessions of an opening for one user are that user's.
        self._functions = (
            None if self.user is None else EmbeddingFunctions(context.embedding_functions)
        )
        self._closed = False
        self.path = path

    def session(
        self,
        user: str | None = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        password: str | None = None,
        origin: str = "session",
    ) -> Session:
        """Open a session of a registered user.

        Parameters
        ----------
        user : str, optional
            By default the one whom the database was opened as, or root.
        password : str, optional
            If it is given it must be the user's; who opened the database need not give it.
        origin : str
            What the audit trail calls the way that statements come.

        Raises
        ------
        NotFoundError
            If the user or the namespace does not exist.
        UserDroppedError
            If the user was dropped.
        LoginFailedError
            If the password is wrong, or the database was opened as another user.
        """
        if self._closed:
            raise ClosedError("The database was closed")
        logins = self._context.logins
        user_id = checked_user_id(user if user is not None else self.user or ROOT_USER)
        login = Login(
            user_id=user_id,
            actor_id=self.user or user_id,
            namespace=namespace.lower(),
            origin=origin,
            by_password=password is not None or user_id == self._opener,
        )
        if self.user is not None and user_id != self.user:
            raise logins.refusal(
                login, f"This database was opened as user '{self.user}', for its sessions only"
            )
        if password is not None:
            logins.check_password(login, password)
        with logins.opening(login):
            session = Session(
                self._context, user_id, namespace, origin=origin, functions=self._functions
            )
            login.request_id = f"{session.session_id}-0"
        self._sessions.add(session)
        return session

    def embed(
        self,
        table: str,
        column: str,
        *,
        source: str,
        function: EmbeddingFunction,
        replace: bool = False,
    ) -> Result:
        """Fill an EMBEDDING column from the texts of another column from now on.

        As `Session.embed`, by the user whom the database was opened as, or root.

        Parameters
        ----------
        table : str
            ``namespace.table``; a bare name is one of namespace ``default``.
        column, source : str
            An EMBEDDING column with the dimension of the function, and a TEXT column.
        function : EmbeddingFunction
            What `kalam.embedding_function` or `kalam.sentence_transformer` made, or any object
            with a name, a dimension and ``embed(texts)``.
        replace : bool
            Let vectors stay that another function made.
        """
        with self.session() as session:
            return session.embed(table, column, source=source, function=function, replace=replace)

    @property
    def embeddings(self) -> list[Embedding]:
        """The columns that embedding functions fill, and whether their function was given."""
        with self.session() as session:
            return session.embeddings()

    @property
    def jobs(self) -> DatabaseJobs:
        """The jobs: to list them, to wait for one, to pause and resume them here."""
        if self._closed:
            raise ClosedError("The database was closed")
        return DatabaseJobs(self._context, self.user or ROOT_USER)

    def backup(self, directory: str | os.PathLike[str], *, origin: str = "session") -> BackupReport:
        """Copy the whole database as it is now into a directory that opens as it is.

        Others read and write on meanwhile, in this process and in others.

        Parameters
        ----------
        directory : str or PathLike
            A new or an empty one, outside of the storages of this database.
        origin : str
            What the audit trail calls the way that it is asked for.

        Returns
        -------
        BackupReport
            ``files`` and ``bytes`` of the copy, ``rows`` of its tables but the system's, and
            ``seq``, the number of the last commit in it.

        Raises
        ------
        PermissionDeniedError
            If the database was opened as a user whose role is neither dba nor system.
        NotFoundError, UserDroppedError
            If that user does not exist, or was dropped.
        NotEmptyError
            If the directory holds something; nothing was changed.
        CorruptError
            If a segment is damaged; the error names its table.
        StorageError
            If a disk is full, or cannot be read or written. The directory is as it was then.
        """
        if self._closed:
            raise ClosedError("The database was closed")
        user_id = self.user or ROOT_USER
        context = ExecutionContext(
            user_id=user_id,
            actor_id=user_id,
            role=self._context.catalog.role_of(user_id),
            namespace=EVERYTHING,
            request_id=f"{uuid.uuid4().hex[:12]}-1",
            origin=origin,
            now_us=self._context.clock.now_us(),
        )
        whole = BackupDatabase(
            namespace=EVERYTHING, directory=os.fspath(directory), text="", line=1, column=1
        )
        with self._context.audit.watch(whole) as attempt:
            attempt.request = Request(context)
            authorize_kind(whole.kind, living_role(self._context.catalog, user_id, must_exist=True))
            return self._context.back_up(directory)

    def close(self) -> None:
        """End all sessions and give the files back.

        The last one of a process to close a path first finishes the jobs that this process made,
        unless they are paused. An interrupt cancels the running ones, leaves the waiting ones to
        who opens the database next, and closes all the same.
        """
        if self._closed:
            return
        self._closed = True
        with ExitStack() as ends:  # one that fails leaves the others to be ended all the same
            ends.push(lambda _, error, __: self._leave(isinstance(error, KeyboardInterrupt)))
            for session in list(self._sessions):
                ends.callback(session.close)
                ends.callback(
                    self._context.live.end_session,
                    session.session_id,
                    "database closed",
                    "The database was closed",
                )

    def _leave(self, is_interrupted: bool) -> None:
        if self._shared_as is None:
            self._context.close(is_interrupted=is_interrupted)
            return
        with _shared_lock:
            context, users = _shared.get(self._shared_as, (self._context, 1))
            is_last = context is not self._context or users == 1
            if context is self._context:
                if is_last:
                    del _shared[self._shared_as]
                else:
                    _shared[self._shared_as] = (context, users - 1)
        if is_last:
            # Not under the lock: jobs are finished first, and others may open other databases.
            self._context.close(is_interrupted=is_interrupted)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kalamdb_lab.Database '{self.path}'{', closed' if self._closed else ''}>"
