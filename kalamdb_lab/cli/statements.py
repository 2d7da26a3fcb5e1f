"""``kalam open``, ``sql``, ``tables``, ``jobs`` and ``users``: statements and their answers."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kalamdb_lab.cli.connecting import (
    FAILED,
    INTERRUPTED,
    FormatOption,
    Login,
    NamespaceOption,
    PasswordEnvOption,
    PasswordPromptOption,
    PathArgument,
    UserOption,
    coded,
    connected,
    failed,
    opened,
    usage_errors,
)
from kalamdb_lab.cli.formats import STANDARD_STREAM, ResultFormat
from kalamdb_lab.cli.results import SHOWN_ROWS, ResultPrinter
from kalamdb_lab.errors import (
    InterruptedStatementError,
    InvalidOptionError,
    KalamError,
    PermissionDeniedError,
)
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, ROOT_USER, SYSTEM_NAMESPACE
from kalamdb_lab.model.readable import plural

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session
    from kalamdb_lab.query.result import Result

RowsOption = Annotated[
    int,
    typer.Option("--rows", min=0, help="How many rows a table shows; 0 is all."),
]

_WHOLE: Final = re.compile(r"[+-]?\d+", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(\d+\.\d*|\.\d+)", re.ASCII)
_FLOAT: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", re.ASCII)
_WORDS: Final[dict[str, object]] = {"null": None, "true": True, "false": False}


def open_(
    path: PathArgument,
    user: UserOption = ROOT_USER,
    password_prompt: PasswordPromptOption = False,
    password_env: PasswordEnvOption = None,
    result_format: FormatOption = ResultFormat.TABLE,
) -> None:
    """Open a database, create it if it is missing, and say what is there.

    Prints the namespaces, how many tables and (to dba and system) users there are, and the size
    of the directory. The other commands open a database too; only this one creates it.
    """
    login = Login(user, DEFAULT_NAMESPACE, password_prompt, password_env)
    with usage_errors():
        printer = ResultPrinter(result_format, rows=0)
    is_new = not Path(path).exists()
    with opened(path, login, create=True) as (database, session):
        namespaces = session.execute("SHOW NAMESPACES")
        own = [str(name) for name, *_ in namespaces if name != SYSTEM_NAMESPACE]
        said = [
            "new" if is_new else "",
            plural(len(own), "namespace"),
            plural(sum(len(session.definitions(name)) for name in own), "table"),
        ]
        try:
            users = session.execute("SELECT count(*) FROM system.users WHERE deleted_at IS NULL")
        except PermissionDeniedError:
            pass
        else:
            said.append(plural(int(str(users.rows()[0][0])), "user"))
        size = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
        said.append(_size(size))
        line = f"{database.path}: {', '.join(part for part in said if part)}"
        typer.echo(line, err=result_format is not ResultFormat.TABLE)
        if result_format is ResultFormat.TABLE:
            typer.echo()
        printer.show(namespaces)


def _size(size_bytes: int) -> str:
    size, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1_000:
            break
        size, unit = size / 1_000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def sql(
    path: PathArgument,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[SQL]",
            help="Statements; without them, or with -, standard input.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Read the statements from a file."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="VALUE",
            help="Value of the next ? or of $1, $2 ...: a number, true, false, null or a text. "
            "In single quotes it is a text whatever it looks like.",
        ),
    ] = None,
    as_user: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Run each statement as EXECUTE AS USER would."),
    ] = None,
    user: UserOption = ROOT_USER,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    password_prompt: PasswordPromptOption = False,
    password_env: PasswordEnvOption = None,
    result_format: FormatOption = ResultFormat.TABLE,
    rows: RowsOption = SHOWN_ROWS,
) -> None:
    """Run SQL statements and print what each answers.

    Stops at the first error and says at which statement and line; what came before stays. Rows
    go to standard output. With csv, json and arrow nothing else does: how many rows changed, and
    other messages, go to standard error. Of several results csv and json have an empty line
    between them.

    Others may see what stands on a command line: statements with a password belong into a file
    or a pipe.
    """
    login = Login(user, namespace, password_prompt, password_env)
    with usage_errors():
        printer = ResultPrinter(result_format, rows=rows)
        script = _script(text, file)
    values = [parameter(value) for value in param or ()]
    with connected(path, login) as session:
        run_and_print(session, script, values, printer, as_user=as_user)


def _script(text: str | None, file: Path | None) -> str:
    if file is not None:
        if text is not None:
            raise InvalidOptionError("Give statements or --file, not both")
        try:
            return file.read_text("utf-8-sig")
        except UnicodeDecodeError:
            raise InvalidOptionError(f"'{file}' is not UTF-8 text") from None
        except OSError as error:
            raise InvalidOptionError(f"'{file}' cannot be read: {error.strerror}") from None
    if text is not None and text != STANDARD_STREAM:
        return text
    if text is None and sys.stdin.isatty():
        raise InvalidOptionError("There is no SQL to run; give statements, --file or a pipe")
    return standard_input()


def standard_input() -> str:
    """Return all text of standard input; raises `InvalidOptionError` if it is no text."""
    try:
        return typer.get_text_stream("stdin", encoding="utf-8").read()
    except UnicodeDecodeError:
        raise InvalidOptionError("Standard input is not UTF-8 text") from None


def parameter(text: str) -> object:
    """Return the value that an argument of ``--param`` stands for."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return Decimal(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    return text


def run_and_print(
    session: Session,
    script: str,
    values: list[object],
    printer: ResultPrinter,
    *,
    as_user: str | None = None,
) -> None:
    """Run a script, printing each result before the next statement runs.

    Raises
    ------
    typer.Exit
        At the first error, which is printed with its place.
    """
    is_long = "\n" in script.strip() or ";" in script.rstrip("; \n\t")
    # Parameters are for a single statement: of several the session says so.
    texts = iter([script]) if values else statements(script)
    number = 0
    try:
        while True:
            number += 1
            if (text := next(texts, None)) is None:
                return
            printer.show(run_statement(session, text, values, printer.row_limit, as_user))
    except KalamError as error:
        place = ""
        if is_long:
            number = (values and error.statement_number) or number
            place = f"Statement {number}, line {error.line or 1}: "
        code = INTERRUPTED if isinstance(error, InterruptedStatementError) else FAILED
        raise failed(coded(error, place), code) from None


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a script, each at the line and column where it stands in it.

    Raises
    ------
    KalamError
        What cannot be read, when it is reached: what stands before can be run.
    """
    from kalamdb_lab.sql.tokens import tokenize

    for statement in tokenize(script):
        first = statement.tokens[0]
        yield "\n" * (first.line - 1) + " " * (first.col - 1) + statement.text


def run_statement(
    session: Session,
    text: str,
    values: list[object] | None = None,
    row_limit: int | None = None,
    as_user: str | None = None,
) -> Result:
    """Run one statement; Ctrl-C stops it, and raises `InterruptedStatementError`.

    The error says whether the statement had finished all the same: its end is waited for, unless
    Ctrl-C is pressed again.
    """
    from kalamdb_lab.engine.interruptible import Interruptible

    return Interruptible(session.interrupt, grace_s=math.inf).run(
        lambda: session.execute(text, values or None, as_user=as_user, row_limit=row_limit)
    )


def _listing(path: str, login: Login, statement: str, result_format: ResultFormat) -> None:
    with usage_errors():
        printer = ResultPrinter(result_format, rows=0)
    with connected(path, login) as session:
        printer.show(session.execute(statement))


def tables(
    path: PathArgument,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAME", help="Only of this one.", show_default=False
        ),
    ] = None,
    user: UserOption = ROOT_USER,
    password_prompt: PasswordPromptOption = False,
    password_env: PasswordEnvOption = None,
    result_format: FormatOption = ResultFormat.TABLE,
) -> None:
    """List the tables and views: SHOW TABLES."""
    login = Login(user, DEFAULT_NAMESPACE, password_prompt, password_env)
    statement = "SHOW TABLES"
    if namespace is not None:
        with usage_errors():
            statement = f"SHOW TABLES IN {_name(namespace)}"
    _listing(path, login, statement, result_format)


def _name(text: str) -> str:
    from kalamdb_lab.model.ids import checked_name

    return text if text.lower() == SYSTEM_NAMESPACE else checked_name(text, namespace=True)


def jobs(
    path: PathArgument,
    user: UserOption = ROOT_USER,
    password_prompt: PasswordPromptOption = False,
    password_env: PasswordEnvOption = None,
    result_format: FormatOption = ResultFormat.TABLE,
) -> None:
    """List the jobs: SHOW JOBS.

    A service sees its own, dba and system see all.
    """
    login = Login(user, DEFAULT_NAMESPACE, password_prompt, password_env)
    _listing(path, login, "SHOW JOBS", result_format)


def users(
    path: PathArgument,
    user: UserOption = ROOT_USER,
    password_prompt: PasswordPromptOption = False,
    password_env: PasswordEnvOption = None,
    result_format: FormatOption = ResultFormat.TABLE,
) -> None:
    """List the users: SHOW USERS.

    For dba and system.
    """
    login = Login(user, DEFAULT_NAMESPACE, password_prompt, password_env)
    _listing(path, login, "SHOW USERS", result_format)
