"""``kalam backup``: a copy of a whole database while it is in use."""

from __future__ import annotations

from typing import Annotated

import typer

from kalamdb_lab.cli.connecting import (
    Login,
    PasswordEnvOption,
    PasswordPromptOption,
    PathArgument,
    UserOption,
    opened,
)
from kalamdb_lab.cli.results import progress
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, ROOT_USER
from kalamdb_lab.model.readable import plural


def backup(
    path: PathArgument,
    directory: Annotated[
        str, typer.Argument(metavar="DIRECTORY", help="Where the copy goes; new or empty.")
    ],
    user: UserOption = ROOT_USER,
    password_prompt: PasswordPromptOption = False,
    password_env: PasswordEnvOption = None,
) -> None:
    """Copy a whole database while it is in use.

    The copy is of one moment, with all users and their rows, and is compared with the digests of
    the original. It is a database itself: open it where it lies, or move it to where the lost one
    was. Single namespaces: BACKUP DATABASE and RESTORE DATABASE in SQL. For dba and system.
    """
    login = Login(user, DEFAULT_NAMESPACE, password_prompt, password_env)
    with opened(path, login) as (database, _):
        with progress(f"Copying {path}"):
            report = database.backup(directory, origin="cli")
        files, rows = plural(report.files, "file"), plural(report.rows, "row")
        typer.echo(f"{directory}: {files}, {rows}, {report.bytes:,} bytes")
