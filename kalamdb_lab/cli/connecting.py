"""What all commands share: their options, opening a database, and how they fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kalamdb_lab.cli.formats import ResultFormat
from kalamdb_lab.errors import (
    InterruptedStatementError,
    InvalidOptionError,
    KalamError,
    PasswordNeededError,
)
from kalamdb_lab.model.ids import ROOT_USER
from kalamdb_lab.model.readable import printable

if TYPE_CHECKING:
    from kalamdb_lab.engine.database import Database
    from kalamdb_lab.engine.session import Session

FAILED: Final = 1
UNUSABLE: Final = 2
INTERRUPTED: Final = 130

EXIT_CODES: Final = (
    "Exit code: 0 fine, 1 a statement failed, 2 wrong usage or no database, 130 interrupted."
)

PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="Directory of the database, such as air.kalam.")
]
UserOption = Annotated[str, typer.Option("--user", "-u", metavar="NAME", help="Who you are.")]
NamespaceOption = Annotated[
    str,
    typer.Option("--namespace", "-n", metavar="NAME", help="Where names without one are found."),
]
PasswordPromptOption = Annotated[
    bool, typer.Option("--password-prompt", "-W", help="Ask for the password of the user.")
]
PasswordEnvOption = Annotated[
    str | None,
    typer.Option(
        "--password-env", metavar="VARIABLE", help="Environment variable that holds the password."
    ),
]
FormatOption = Annotated[
    ResultFormat,
    typer.Option(
        "--format",
        help="Rows as a table, CSV, a JSON array of objects, or an Arrow stream.",
    ),
]


@dataclass(frozen=True, slots=True)
class Login:
    """Whom a command speaks for, as its options say."""

    user: str
    namespace: str
    password_prompt: bool
    password_env: str | None

    def password(self) -> str | None:
        """Return the password, asked for or from the environment; None if there is none."""
        if self.password_prompt and self.password_env is not None:
            raise InvalidOptionError("Use --password-prompt or --password-env, not both")
        if self.password_prompt:
            answer: str = typer.prompt("Password", hide_input=True, err=True)
            return answer
        if self.password_env is None:
            return None
        password = os.environ.get(self.password_env)
        if password is None:
            raise InvalidOptionError(f"There is no environment variable '{self.password_env}'")
        return password


@contextmanager
def connected(path: str, login: Login, *, create: bool = False) -> Iterator[Session]:
    """Open a database and a session in it; errors end the command with a line and its code."""
    with opened(path, login, create=create) as (_, session):
        yield session


@contextmanager
def opened(path: str, login: Login, *, create: bool = False) -> Iterator[tuple[Database, Session]]:
    """Open a database, and a session in it; see `connected`."""
    from kalamdb_lab.engine.database import open_database

    with usage_errors():
        password = login.password()
        # A database that is to be created has no users to name, but root.
        is_root = login.user == ROOT_USER and password is None
        user = None if is_root else login.user
        try:
            database = open_database(path, user=user, password=password, create=create)
        except PasswordNeededError:
            raise PasswordNeededError(
                f"'{path}' asks for a password; use --password-prompt or --password-env"
            ) from None
    with database:
        with usage_errors():
            session = database.session(login.user, namespace=login.namespace, origin="cli")
        with session, statement_errors():
            yield database, session


@contextmanager
def usage_errors() -> Iterator[None]:
    """End the command with exit code 2 if it cannot begin."""
    try:
        yield
    except KalamError as error:
        raise failed(str(error), UNUSABLE) from None


@contextmanager
def statement_errors() -> Iterator[None]:
    """End the command with exit code 1 and one line if a statement fails."""
    try:
        yield
    except KalamError as error:
        code = INTERRUPTED if isinstance(error, InterruptedStatementError) else FAILED
        raise failed(coded(error), code) from None
    except BrokenPipeError:
        raise  # who reads our output has seen enough
    except OSError as error:
        name = f"'{error.filename}': " if error.filename is not None else ""
        raise failed(f"{name}{error.strerror or error}", FAILED) from None


def coded(error: KalamError, place: str = "") -> str:
    """Return an error as one line: its code, where it happened, what is wrong."""
    return f"[{error.code}] {place}{error}"


def failed(line: str, code: int) -> typer.Exit:
    """Print a line to standard error and return what ends the command."""
    typer.echo(printable(line), err=True)
    return typer.Exit(code)
