"""KalamDB Lab: a multi-tenant SQL database for the notebook, in one directory.

>>> import kalamdb_lab as kalam
>>> db = kalam.open("lab.kalam")
>>> db.session().execute("SELECT 1 AS one").rows()
[(1,)]
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kalamdb_lab import errors
from kalamdb_lab.clock import Clock, FakeClock
from kalamdb_lab.embeddings import EmbeddingFunction, embedding_function, sentence_transformer
from kalamdb_lab.errors import KalamError

if TYPE_CHECKING:
    from kalamdb_lab.engine.database import Database
    from kalamdb_lab.engine.session import Session
    from kalamdb_lab.ibis_backend.vectors import (
        cosine_distance,
        inner_product,
        l2_distance,
        nearest,
    )
    from kalamdb_lab.widgets.live_table import LiveTable

__all__ = [
    "Clock",
    "EmbeddingFunction",
    "FakeClock",
    "KalamError",
    "__version__",
    "cosine_distance",
    "embedding_function",
    "errors",
    "inner_product",
    "l2_distance",
    "live",
    "nearest",
    "open",
    "sentence_transformer",
]

_OF_IBIS = ("cosine_distance", "inner_product", "l2_distance", "nearest")

__version__ = "0.1.0"


def open(
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
        The directory, such as ``lab.kalam``. The directory it lies in must exist.
    user, password : str, optional
        For a database that asks for a password, because its user root has one
        (``ALTER USER 'root' SET PASSWORD '...'``). The password of root opens it for sessions of
        all users. With the name and password of another user only that user's sessions can be
        opened; so can they, of a database that asks for none, with the name alone. The password
        guards this door and not the files: who can read the directory can read the data.
    clock : Clock, optional
        Time for TTL, retention and NOW(); the machine's clock by default.
    create : bool
        With False a missing directory is an error; it is one too if a user or a password is
        given, as a new database has neither.

    Returns
    -------
    Database
        A context manager with `session` and `close`.

    Raises
    ------
    StorageError
        If the path is missing, no database, read-only, or of a newer format.
    LoginFailedError
        If the user or the password is wrong, or a password is needed and missing
        (`PasswordNeededError`).
    """
    # The engine brings Arrow and DuckDB along; importing this package alone must cost nothing.
    from kalamdb_lab.engine.database import open_database

    return open_database(path, user=user, password=password, clock=clock, create=create)


def live(
    source: Any,
    *,
    session: Session | None = None,
    params: Sequence[object] | None = None,
    key: Sequence[str] | None = None,
    throttle_s: float = 0.1,
) -> LiveTable:
    """Show in a notebook what a query answers, as it changes.

    The table lives as long as the value is held: return it from the cell, or keep it.

    Parameters
    ----------
    source : str, ibis expression, Subscription or LiveResult
        SQL text of a SELECT, by default on the current connection of ``%kalam``; an expression,
        by default on its own connection; or what `Session.subscribe` or `Session.live` gave.
    session : Session, optional
        With whose rights it is read.
    params : sequence, optional
        Values of the placeholders of SQL text.
    key : sequence of str, optional
        The columns that tell rows apart; by default they are inferred where that is possible.
    throttle_s : float
        Changes that come closer together are shown at once.

    Raises
    ------
    KalamError
        What the query raises; `NotSupportedError` without the packages of the extra
        ``notebook``.
    """
    from kalamdb_lab import widgets

    if session is None and isinstance(source, str):
        # Without IPython there is no current connection, which `widgets.live` then says.
        with contextlib.suppress(ModuleNotFoundError):
            from kalamdb_lab.notebook.extension import current_session

            session = current_session()
    return widgets.live(source, session=session, params=params, key=key, throttle_s=throttle_s)


def load_ipython_extension(shell: Any) -> None:
    """Add ``%kalam`` and ``%%kalam`` to a shell: what ``%load_ext kalamdb_lab`` calls."""
    from kalamdb_lab.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away again: what ``%unload_ext kalamdb_lab`` calls."""
    from kalamdb_lab.notebook.extension import unload

    unload(shell)


def __getattr__(name: str) -> Any:
    """Bring ibis along with the first use of a function of its expressions."""
    if name not in _OF_IBIS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kalamdb_lab.ibis_backend import vectors

    return getattr(vectors, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_IBIS})


class _Package(ModuleType):
    """The package itself: its ``live`` is the function, and not the folder of that name."""

    @property
    def live(self) -> Any:
        return self.__dict__["live"]

    @live.setter
    def live(self, folder: ModuleType) -> None:
        """Take no notice: importing a module of the folder sets it."""


sys.modules[__name__].__class__ = _Package
