"""The ``kalam`` command.

What a command needs is imported when it runs: ``kalam --help`` must not wait for Arrow.
"""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Final

import typer

from kalamdb_lab.cli.backup import backup
from kalamdb_lab.cli.check import check
from kalamdb_lab.cli.connecting import EXIT_CODES
from kalamdb_lab.cli.shell import shell
from kalamdb_lab.cli.statements import jobs, open_, sql, tables, users
from kalamdb_lab.cli.transfer import export, import_

app = typer.Typer(
    name="kalam",
    help="KalamDB Lab: a multi-tenant SQL database in one directory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"kalam {version('kalamdb-lab')}")
        raise typer.Exit


@app.callback()
def _options(
    version_asked: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    pass


_COMMANDS: Final = (open_, sql, shell, tables, jobs, users, import_, export, backup, check)

for _command in _COMMANDS:
    app.command(
        _command.__name__.rstrip("_"),
        # In its paragraphs the terminal breaks the lines, not the source.
        help=re.sub(r"(?<=\S)\n(?=\S)", " ", inspect.getdoc(_command) or ""),
        epilog=None if _command is check else EXIT_CODES,
    )(_command)


def main() -> None:
    """Run the command line; the entry point of ``kalam``."""
    app()
