"""``kalam import`` and ``kalam export``: rows from files into a table, and out again."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kalamdb_lab.cli.connecting import (
    Login,
    NamespaceOption,
    PasswordEnvOption,
    PasswordPromptOption,
    PathArgument,
    UserOption,
    connected,
    usage_errors,
)
from kalamdb_lab.cli.formats import STANDARD_STREAM, FileFormat, format_of
from kalamdb_lab.cli.results import progress, standard_output
from kalamdb_lab.errors import (
    InterruptedStatementError,
    InvalidDefinitionError,
    InvalidOptionError,
    InvalidValueError,
    KalamError,
    NotFoundError,
    TypeMismatchError,
    ValueOutOfRangeError,
)
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, ROOT_USER, TableId
from kalamdb_lab.model.readable import plural

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

    from kalamdb_lab.cli.reading import RowFile, Types
    from kalamdb_lab.engine.session import Session

_BATCH_ROWS: Final = 20_000


_MISFITS: Final = (TypeMismatchError, InvalidValueError, ValueOutOfRangeError)


class NewTableKind(enum.StrEnum):
    """What kind of table an import creates."""

    USER = "user"
    SHARED = "shared"


def import_(
    path: PathArgument,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="table or namespace.table.")],
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="Files of rows; - is standard input.")
    ],
    input_format: Annotated[
        FileFormat | None,
        typer.Option("--input-format", help="What the files are; else their suffixes say it."),
    ] = None,
    delimiter: Annotated[
        str, typer.Option("--delimiter", metavar="CHARACTER", help="Between the cells of CSV.")
    ] = ",",
    create: Annotated[
        bool,
        typer.Option("--create", help="Create the table if it is missing, as the first file is."),
    ] = False,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="COLUMN", help="Primary key of a table to be created."),
    ] = None,
    kind: Annotated[
        NewTableKind | None,
        typer.Option("--type", help="Kind of a table to be created; shared if not said."),
    ] = None,
    user: UserOption = ROOT_USER,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    password_prompt: PasswordPromptOption = False,
    password_env: PasswordEnvOption = None,
) -> None:
    """Insert the rows of CSV, Parquet, Arrow or JSON lines files into a table.

    Columns are matched by name, without regard to case; those that a file lacks take their
    default. A file is read in portions of up to 1,966,080 rows or 256 MiB, so that it may be
    larger than memory. Each portion is inserted as a whole or not at all, and so is a file of
    one portion; if a later portion fails, the message says how many rows are in. A table that the
    command itself created is dropped again if anything fails.

    CSV has a first line with the names of the columns. An empty cell is NULL, "" is an empty text.
    """
    login = Login(user, namespace, password_prompt, password_env)
    with usage_errors():
        if (key is not None or kind is not None) and not create:
            raise InvalidOptionError("--key and --type describe a new table; add --create")
        if len(delimiter.encode()) != 1:
            raise InvalidOptionError("--delimiter is one character")
        formats = [format_of(file, input_format, "--input-format") for file in files]
        for file in files:
            _refuse_missing(file)
    with connected(path, login) as session:
        target = _Target(session, table)
        with target.undone_on_failure():
            for file, file_format in zip(files, formats, strict=True):
                with _named(file), _opened(file, file_format, delimiter) as rows:
                    if create:
                        target.create(rows, key, kind or NewTableKind.SHARED)
                    count = target.insert(rows)
                typer.echo(f"{file}: {plural(count, 'row')} inserted into {target.name}")


def _refuse_missing(file: str) -> None:
    if file == STANDARD_STREAM:
        return
    if not Path(file).exists():
        raise InvalidOptionError(f"There is no file '{file}'")
    if Path(file).is_dir():
        raise InvalidOptionError(f"'{file}' is a directory")


@contextmanager
def _opened(file: str, file_format: FileFormat, delimiter: str) -> Iterator[RowFile]:
    from kalamdb_lab.cli.reading import open_rows

    with open_rows(file, file_format, delimiter=delimiter) as rows:
        yield rows


@contextmanager
def _named(file: str) -> Iterator[None]:
    """Let an error begin with the file that it is about."""
    try:
        yield
    except KalamError as error:
        if not (isinstance(error, NotFoundError) and error.kind == "Table"):
            error.message = f"{file}: {error.message}"
        raise


class _Target:
    """The table that rows are inserted into."""

    def __init__(self, session: Session, name: str) -> None:
        from kalamdb_lab.engine.interruptible import Interruptible

        self._session = session
        # What went in is counted: the end of a portion is waited for.
        self._calls = Interruptible(session.interrupt, grace_s=math.inf)
        self._id = TableId.of(tuple(name.split(".")), namespace=session.namespace)
        self._is_ours = False
        self.name = str(self._id)

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Drop the table if it was created within the block and the block fails."""
        try:
            yield
        except BaseException:
            if self._is_ours:
                self._session.execute(f"DROP TABLE IF EXISTS {_spelled(self._id)}")
            raise

    def _types(self) -> Types | None:
        """Return the types of the table's columns; None if there is no table."""
        try:
            definition = self._session.definition((self._id.namespace, self._id.name))
        except NotFoundError:
            return None
        return {column.name.lower(): column.data_type for column in definition.visible_columns}

    def create(self, rows: RowFile, key: str | None, kind: NewTableKind) -> None:
        """Create the table with the columns of a file, if it does not exist."""
        if self._types() is not None:
            return
        columns = rows.columns()
        if not all(name for name, _ in columns):
            raise InvalidDefinitionError("A column of the file has no name")
        if key is not None and key.lower() not in (name.lower() for name, _ in columns):
            raise NotFoundError("Column", key)
        parts = [
            f"{_quoted(name)} {data_type}"
            + (" PRIMARY KEY" if key is not None and name.lower() == key.lower() else "")
            for name, data_type in columns
        ]
        self._session.execute(f"CREATE {kind} TABLE {_spelled(self._id)} ({', '.join(parts)})")
        self._is_ours = True

    def insert(self, rows: RowFile) -> int:
        """Insert the rows of a file, a portion at a time; return how many."""
        types = self._types()
        if types is None:
            missing = NotFoundError("Table", self.name)
            missing.message += "; --create makes it"
            raise missing
        count = 0

        def put(portion: pa.Table) -> None:
            nonlocal count
            self._session.insert(self.name, portion)
            count += portion.num_rows

        try:
            with progress(f"Inserting into {self.name}") as told:
                for portion in rows.portions(types):
                    self._calls.run(partial(put, portion))
                    told(count)
        except (KalamError, KeyboardInterrupt) as caught:
            error = caught if isinstance(caught, KalamError) else InterruptedStatementError()
            if self._is_ours and isinstance(error, _MISFITS):
                error.message += (
                    "; the first rows gave the types: create the table to choose others"
                )
            elif count and not self._is_ours:
                stopped = isinstance(error, InterruptedStatementError)
                what = "Interrupted" if stopped else error.message
                error.message = f"{what}; inserted before: {plural(count, 'row')}"
            raise error from None
        return count


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _spelled(table: TableId) -> str:
    return f"{_quoted(table.namespace)}.{_quoted(table.name)}"


def export(
    path: PathArgument,
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[TABLE] FILE",
            help="table or namespace.table, unless there is a --query; then the file to write. "
            "- is standard output.",
        ),
    ],
    query: Annotated[
        str | None,
        typer.Option("--query", "-q", metavar="SQL", help="Write the rows of a SELECT."),
    ] = None,
    output_format: Annotated[
        FileFormat | None,
        typer.Option("--format", help="What the file is to be; else its suffix says it."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    user: UserOption = ROOT_USER,
    namespace: NamespaceOption = DEFAULT_NAMESPACE,
    password_prompt: PasswordPromptOption = False,
    password_env: PasswordEnvOption = None,
) -> None:
    """Write the rows of a table or a query to a CSV, Parquet, Arrow or JSON lines file.

    All rows are of one moment. They are written as they are read, so that they may be more than
    memory holds. The file gets its name when it is whole; if anything fails there is none, and a
    file that was to be replaced stays as it was. Of a USER table your own rows are written.
    """
    login = Login(user, namespace, password_prompt, password_env)
    with usage_errors():
        if len(what) != (2 if query is None else 1):
            raise InvalidOptionError("Give a table and a file, or --query and a file")
        file = what[-1]
        file_format = format_of(file, output_format, "--format")
        if file != STANDARD_STREAM:
            _refuse_existing(Path(file), is_forced=force)
        elif standard_output().isatty():
            _refuse_terminal(file_format)
    with connected(path, login) as session:
        tree = _rows_of(session, what[0]) if query is None else _query(query)
        count = _write(session, tree, file, file_format)
        typer.echo(f"{file}: {plural(count, 'row')} written", err=file == STANDARD_STREAM)


def _refuse_existing(file: Path, *, is_forced: bool) -> None:
    if file.is_dir():
        raise InvalidOptionError(f"'{file}' is a directory")
    if file.exists() and not is_forced:
        raise InvalidOptionError(f"'{file}' exists; use --force to replace it")
    if not file.parent.is_dir():
        raise InvalidOptionError(f"There is no directory '{file.parent}'")


def _refuse_terminal(file_format: FileFormat) -> None:
    if file_format in (FileFormat.ARROW, FileFormat.PARQUET):
        raise InvalidOptionError(f"{file_format.spoken} is binary; send it to a file or a pipe")


def _rows_of(session: Session, name: str) -> exp.Expression:
    from sqlglot import exp

    table = TableId.of(tuple(name.split(".")), namespace=session.namespace)
    source = exp.table_(table.name, db=table.namespace, quoted=True)
    return exp.select("*").from_(source)


def _query(text: str) -> exp.Expression:
    from kalamdb_lab.sql.queries import parse_query

    return parse_query(text)


def _write(session: Session, tree: exp.Expression, file: str, file_format: FileFormat) -> int:
    from kalamdb_lab.cli.writing import refuse_equal_names, replaced_file, row_writer
    from kalamdb_lab.engine.interruptible import Interruptible

    calls = Interruptible(session.interrupt)
    reader = calls.run(
        lambda: session.stream_tree(tree, batch_rows=_BATCH_ROWS, text_semantics=True)
    )
    refuse_equal_names(reader.schema)
    is_standard = file == STANDARD_STREAM
    # A pipe that has a name is no place to seek in either.
    is_stream = is_standard or (Path(file).exists() and not Path(file).is_file())
    count = 0
    with ExitStack() as stack:
        if is_standard:
            out = standard_output()
            stack.callback(out.flush)
        else:
            out = stack.enter_context(replaced_file(Path(file)))
        write = stack.enter_context(
            row_writer(out, reader.schema, file_format, is_stream=is_stream)
        )
        told = stack.enter_context(progress(f"Writing {file}"))
        while (batch := calls.run(lambda: next(reader, None))) is not None:
            write(batch)
            count += batch.num_rows
            told(count)
    return count
