"""``kalam shell``: statements from a terminal, one after the other."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

import typer

from kalamdb_lab.cli.connecting import (
    FormatOption,
    Login,
    NamespaceOption,
    PasswordEnvOption,
    PasswordPromptOption,
    PathArgument,
    UserOption,
    coded,
    connected,
    usage_errors,
)
from kalamdb_lab.cli.formats import ResultFormat
from kalamdb_lab.cli.results import SHOWN_ROWS, ResultPrinter, terminal
from kalamdb_lab.cli.statements import (
    RowsOption,
    run_and_print,
    run_statement,
    standard_input,
    statements,
)
from kalamdb_lab.errors import InterruptedStatementError, KalamError
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, ROOT_USER
from kalamdb_lab.model.readable import printable

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from kalamdb_lab.engine.session import Session

HELP: Final = r"""Statements end with ; and may go over several lines.
  \d          tables of the namespace     Tab     offers names and keywords
  \d NAME     columns of a table          Up      former statements
  \?          this help                   Ctrl-C  stops a statement, empties the line
  \q          leave                       Ctrl-D  leaves too"""

_LEAVE: Final = (r"\q", "exit", "quit")
_PIECE: Final = re.compile(
    r"""--[^\n]* | '(?:[^']|'')*' | "(?:[^"]|"")*" | /\* | \w+ | \S""", re.VERBOSE
)
_BLOCK_MARK: Final = re.compile(r"/\*|\*/")


def shell(
    path: PathArgument,
    user: UserOption = ROOT_USER,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    password_prompt: PasswordPromptOption = False,
    password_env: PasswordEnvOption = None,
    result_format: FormatOption = ResultFormat.TABLE,
    rows: RowsOption = SHOWN_ROWS,
) -> None:
    r"""Ask a database in SQL, statement by statement.

    Tab completes keywords and names, the history is kept in the state directory of your home, and
    Ctrl-C stops a running statement. \? says more. Without a terminal it runs the statements of
    standard input like kalam sql.
    """
    login = Login(user, namespace, password_prompt, password_env)
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with usage_errors():
        printer = ResultPrinter(result_format, rows=rows, is_shell=is_interactive)
        script = "" if is_interactive else standard_input()
    with connected(path, login) as session:
        if is_interactive:
            _Shell(session, printer).run(path)
        else:
            run_and_print(session, script, [], printer)


def is_whole(text: str) -> bool:
    """Return whether a text is to be run: it ends with ``;``, or needs none."""
    stripped = text.strip()
    if not stripped or stripped.startswith("\\") or stripped in _LEAVE:
        return True
    last, depth, at = "", 0, 0
    while (match := (_BLOCK_MARK if depth else _PIECE).search(text, at)) is not None:
        piece, at = match[0], match.end()
        if piece == "/*":
            depth += 1
        elif piece == "*/":
            depth -= 1
        elif piece in ("'", '"'):
            return False  # the quote is open: all that follows is in it
        elif not piece.startswith("--"):
            last = piece
    return last == ";" and not depth


class _Shell:
    def __init__(self, session: Session, printer: ResultPrinter) -> None:
        self._session = session
        self._printer = printer
        self._console = terminal(err=True)

    def run(self, path: str) -> None:
        """Read and run statements until the user leaves."""
        from importlib.metadata import version

        typer.echo(f"kalam {version('kalamdb-lab')} · {path} · \\? for help")
        prompt = self._prompt()
        while True:
            try:
                text = prompt.prompt(self._question).strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            if text in _LEAVE:
                break
            try:
                if text:
                    self._answer(text)
            except KeyboardInterrupt:
                typer.echo("Interrupted", err=True)
        if self._session.in_transaction:
            typer.echo("The open transaction is rolled back", err=True)

    def _prompt(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.filters import is_searching
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

        from kalamdb_lab.cli.completion import SqlCompleter
        from kalamdb_lab.cli.history import shell_history

        keys = KeyBindings()

        @keys.add("enter", filter=~is_searching)
        def _enter(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if is_whole(buffer.text):
                buffer.validate_and_handle()
            else:
                buffer.newline(copy_margin=False)

        return PromptSession(
            multiline=True,
            key_bindings=keys,
            completer=SqlCompleter(self._session),
            complete_while_typing=False,
            history=shell_history(),
            prompt_continuation=lambda width, _line, _wrapped: "> ".rjust(width),
        )

    def _question(self) -> str:
        mark = "*" if self._session.in_transaction else ""
        return f"{printable(self._session.user)}@{self._session.namespace}{mark}> "

    def _answer(self, text: str) -> None:
        if not text.startswith("\\"):
            self._run(text)
            return
        command, _, name = text.rstrip("; ").partition(" ")
        if command == r"\d":
            name = name.strip()
            self._run(f"DESCRIBE {name}" if name else f"SHOW TABLES IN {self._session.namespace}")
        elif command == r"\?":
            typer.echo(HELP)
        else:
            typer.echo(f"There is no command {printable(command)}; \\? lists them", err=True)

    def _run(self, text: str) -> None:
        try:
            for statement in statements(text):
                self._printer.show(
                    run_statement(self._session, statement, row_limit=self._printer.row_limit)
                )
        except InterruptedStatementError as error:
            typer.echo(str(error), err=True)
        except KalamError as error:
            self._show_error(error, text)

    def _show_error(self, error: KalamError, text: str) -> None:
        from rich.cells import cell_len
        from rich.text import Text

        from kalamdb_lab.cli.history import may_hold_secret

        self._console.print(Text(printable(coded(error)), "red"), soft_wrap=True)
        if error.line is None or error.column is None or may_hold_secret(text):
            return
        lines = text.split("\n")
        offset = sum(len(line) + 1 for line in lines[: error.line - 1]) + error.column - 1
        offset = _first_named(error, text, offset)
        number = text.count("\n", 0, offset) + 1
        line = lines[number - 1]
        column = offset - text.rfind("\n", 0, offset) - 1
        where = f"line {number}: " if len(lines) > 1 else "    "
        self._console.print(Text(f"{where}{printable(line)}"), soft_wrap=True)
        blanks = " " * cell_len(where + printable(line[:column]))
        self._console.print(Text(f"{blanks}^", "red"), soft_wrap=True)


def _first_named(error: KalamError, text: str, start: int) -> int:
    """Return the offset of the first thing that an error names, if it stands behind ``start``."""
    for name in error.message.split("'")[1::2]:
        last = name.rpartition(".")[2]
        pattern = re.compile(rf"(?<!\w){re.escape(last)}(?!\w)", re.IGNORECASE)
        if last and (found := pattern.search(text, start)) is not None:
            return found.start()
    return start
