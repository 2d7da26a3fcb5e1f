"""Opening a directory: `open_database` and the `Database` it gives."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

from kalamdb_lab.clock import Clock, SystemClock
from kalamdb_lab.engine.app_context import AppContext
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import ClosedError, StorageError
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, ROOT_USER

_shared: dict[str, tuple[AppContext, int]] = {}
_shared_lock = threading.Lock()


def open_database(
    path: str | os.PathLike[str], *, clock: Clock | None = None, create: bool = True
) -> Database:
    """Open a database directory, and create it if it is missing.

    Parameters
    ----------
    path : str or PathLike
        The directory, such as ``lab.kalam``. Its parent must exist.
    clock : Clock, optional
        Time for TTL, retention and NOW(); the machine's clock by default.
    create : bool
        With False a missing directory is an error.

    Returns
    -------
    Database
        A context manager. All databases that one process opens at the same path share one
        engine; it closes with the last of them.

    Raises
    ------
    StorageError
        If the path is missing, no database, read-only, or of a newer format.
    """
    shown = os.fspath(path)
    real = os.path.realpath(shown)
    if clock is not None:
        return Database(AppContext(Path(real), clock, shown_as=shown, create=create), shown, None)
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
    return Database(context, shown, real)


class Database:
    """An open database directory; made by `open_database`.

    Closing it ends its sessions. Nothing is lost by not closing: every commit is durable when it
    returns.
    """

    def __init__(self, context: AppContext, path: str, shared_as: str | None) -> None:
        self._context = context
        self._shared_as = shared_as
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._closed = False
        self.path = path

    def session(self, user: str = ROOT_USER, *, namespace: str = DEFAULT_NAMESPACE) -> Session:
        """Open a session of a registered user.

        Raises
        ------
        NotFoundError
            If the user or the namespace does not exist.
        UserDroppedError
            If the user was dropped.
        """
        if self._closed:
            raise ClosedError("The database was closed")
        session = Session(self._context, user, namespace)
        self._sessions.add(session)
        return session

    def close(self) -> None:
        """End all sessions and give the files back."""
        if self._closed:
            return
        self._closed = True
        for session in list(self._sessions):
            session.close()
        if self._shared_as is None:
            self._context.close()
            return
        with _shared_lock:
            context, users = _shared.get(self._shared_as, (self._context, 1))
            if context is not self._context:
                self._context.close()
            elif users == 1:
                del _shared[self._shared_as]
                self._context.close()
            else:
                _shared[self._shared_as] = (context, users - 1)

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
