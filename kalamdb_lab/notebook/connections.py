"""The databases that a notebook has open, by name."""

from __future__ import annotations

import difflib
import getpass
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from kalamdb_lab.engine.database import Database, open_database
from kalamdb_lab.engine.interruptible import Interruptible
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import ClosedError, NotFoundError, PasswordNeededError


@dataclass(frozen=True, slots=True)
class Connection:
    """One user in one open database."""

    name: str
    database: Database
    session: Session
    calls: Interruptible

    def close(self) -> None:
        """End the session, and give the database back."""
        self.session.close()
        self.database.close()


def _asked(user: str, error: PasswordNeededError) -> str:
    try:
        return getpass.getpass(f"Password of '{user}': ")
    except (EOFError, NotImplementedError):  # nobody sits there: a notebook that runs by itself
        raise error from None


class Connections:
    """Connections by name, one of them current."""

    def __init__(self) -> None:
        self._by_name: dict[str, Connection] = {}
        self._current: str | None = None

    def open(self, path: str, *, user: str, namespace: str, name: str | None = None) -> Connection:
        """Open a database and make it the current one; one of the same name is closed.

        Parameters
        ----------
        name : str, optional
            By default the name of the directory without its suffix.

        Raises
        ------
        KalamError
            What `open_database` and `Database.session` raise; then nothing is changed.

        Notes
        -----
        A database that asks for a password makes the notebook ask for that of the user: what is
        typed there is in no cell and no history.
        """
        try:
            database = open_database(path)
        except PasswordNeededError as error:
            database = open_database(path, user=user, password=_asked(user, error))
        try:
            session = database.session(user, namespace=namespace, origin="notebook")
        except BaseException:
            database.close()
            raise
        session.follow_progress()
        name = name or PurePath(path).stem or "kalam"
        former = self._by_name.pop(name, None)
        connection = Connection(name, database, session, Interruptible(session.interrupt))
        self._by_name[name] = connection
        self._current = name
        if former is not None:
            former.close()
        return connection

    def get(self, name: str | None = None) -> Connection:
        """Return a connection by name, the current one by default."""
        if name is None:
            if self._current is None:
                raise ClosedError("No database is open; use %kalam open PATH")
            return self._by_name[self._current]
        if name not in self._by_name:
            raise NotFoundError("Connection", name, nearby=self._nearby(name))
        return self._by_name[name]

    def use(self, name: str) -> Connection:
        """Make a connection the current one."""
        connection = self.get(name)
        self._current = name
        return connection

    def close(self, name: str | None = None) -> Connection:
        """Close a connection, the current one by default; the last opened becomes current."""
        connection = self.get(name)
        del self._by_name[connection.name]
        if self._current == connection.name:
            self._current = next(reversed(self._by_name), None)
        connection.close()
        return connection

    def close_all(self) -> None:
        """Close all of them."""
        while self._by_name:
            self.close(next(iter(self._by_name)))

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def is_current(self, connection: Connection) -> bool:
        """Return whether cells without a name run on it."""
        return connection.name == self._current

    def _nearby(self, name: str) -> list[str]:
        return difflib.get_close_matches(name, self._by_name, n=1, cutoff=0.5)
