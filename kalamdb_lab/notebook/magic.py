"""`%kalam` and `%%kalam`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from IPython.core.magic import (
    Magics,
    line_cell_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from traitlets import Bool, Enum, Int, TraitError, default

from kalamdb_lab.errors import (
    EmptyStatementError,
    InterruptedStatementError,
    InvalidOptionError,
    KalamError,
)
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, ROOT_USER
from kalamdb_lab.notebook.answers import ALL_HINT, Answer
from kalamdb_lab.notebook.binding import ExpressionError, bind, evaluated
from kalamdb_lab.notebook.cell_text import CellStatement, place_of
from kalamdb_lab.notebook.command_line import CommandLine, parse_line
from kalamdb_lab.notebook.display import Grid, Line, Look, show
from kalamdb_lab.notebook.failures import Place, move_into_cell, shorten
from kalamdb_lab.notebook.history import mask_history
from kalamdb_lab.notebook.settings import project_settings
from kalamdb_lab.notebook.source import Source, is_value_dropped

if TYPE_CHECKING:
    from kalamdb_lab.notebook.connections import Connection, Connections
    from kalamdb_lab.query.result import Result

_QUIET: Final = "KALAMDB_LAB_TESTING"
"""Set to 1 it leaves times out, so that outputs can be compared."""


@magics_class
class KalamMagic(Magics):
    """Settings of ``%kalam`` and ``%%kalam``."""

    output = Enum(
        ["result", "pandas", "polars", "arrow"],
        default_value="result",
        help="What a cell returns. With other values than 'result' all rows are read.",
    ).tag(config=True)
    display_limit = Int(1_000, min=1, help="How many rows of an answer are shown.").tag(config=True)
    text_limit = Int(20, min=1, help="How many of them where there is no HTML.").tag(config=True)
    cell_width = Int(60, min=2, help="Longer texts are cut where they are shown.").tag(config=True)
    show_time = Bool(help="Whether footers say how long it took.").tag(config=True)
    debug = Bool(default_value=False, help="Whether errors show their traceback.").tag(config=True)

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._opened: Connections | None = None
        self._latest: tuple[Answer, Look] | None = None
        own = shell.config.get(type(self).__name__, {})
        for name, value in project_settings(Path.cwd(), self.trait_names(config=True)).items():
            if name not in own:
                try:
                    setattr(self, name, value)
                except TraitError as error:
                    raise InvalidOptionError(f"[tool.kalamdb_lab] {error}") from None

    @default("show_time")
    def _show_time_default(self) -> bool:
        return os.environ.get(_QUIET) != "1"

    @property
    def look(self) -> Look:
        """What the settings say of how much is shown."""
        return Look(self.display_limit, self.text_limit, self.cell_width, self.show_time)

    @property
    def connections(self) -> Connections:
        """The open databases; made at the first use, as the engine takes long to import."""
        if self._opened is None:
            from kalamdb_lab.notebook.connections import Connections

            self._opened = Connections()
        return self._opened

    def close(self) -> None:
        """Close all databases that the magic opened."""
        if self._opened is not None:
            self._opened.close_all()

    @needs_local_scope
    @no_var_expand
    @line_cell_magic
    def kalam(
        self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None
    ) -> Any:
        """Ask an open KalamDB Lab database in SQL.

        %kalam open PATH [--user U] [--namespace NS] [--name N]
            Open a database; made if it is missing. The name is that of the directory.
            If it wants the user's password, it asks for it.
        %kalam close [NAME]
        %kalam connections (or status)
            What is open, and which one is current; %kalam @NAME changes that.
        %kalam tables [NAMESPACE]
        %kalam --debug on|off
            Whether errors show their whole traceback.
        NAME = %kalam [@NAME] [--as USER] SQL
        %%kalam [@NAME] [--as USER] [--all] [NAME <<]
            Run SQL, in a cell also several statements: on another connection, as
            another user, showing all rows, keeping the last result in a variable.

        :name and {{expression}} in the SQL are values of Python, bound as parameters;
        after IN they may be lists. {{expression|ident}} is a quoted name. A result is
        Arrow inside: to_pandas(), to_polars(), to_arrow(), to_ibis(), rows(), len().
        Settings: %config KalamMagic, or [tool.kalamdb_lab] in pyproject.toml.

        Examples (each block is a cell)
        -------------------------------
        %kalam open lab.kalam

        %%kalam
        CREATE NAMESPACE IF NOT EXISTS shop;
        USE shop;
        CREATE TABLE fruit (name TEXT PRIMARY KEY, price DOUBLE);
        INSERT INTO fruit VALUES ('apple', 0.4), ('fig', 1.5), ('plum', 0.9)

        most, names = 1.0, ["apple", "fig"]

        %%kalam cheap <<
        SELECT * FROM fruit WHERE price <= :most ORDER BY price

        cheap.to_pandas()

        %%kalam
        SELECT name, price * {{ 2 + 1 }} AS three FROM fruit WHERE name IN :names

        fig = %kalam SELECT price FROM fruit WHERE name = 'fig'
        """
        names = self.shell.user_ns
        if local_ns is not None and local_ns is not names:
            names = {**names, **local_ns}
        source = Source.of(line, cell)
        with self._short_errors(source):

            def evaluate(code: str, offset: int) -> object:
                return evaluated(code, names, source.line_start + offset)

            parsed = parse_line(line, evaluate=evaluate, is_cell=source.is_cell)
            if parsed.debug is not None:
                self.debug = parsed.debug
            if parsed.command is not None:
                return getattr(self, f"_{parsed.command}")(parsed)
            found = source.statements(parsed.sql_start)
            if not found and not source.is_cell:
                return self._options_alone(parsed)
            is_shown = parsed.target is None and (source.is_cell or is_value_dropped())
            return self._run(source, found, parsed, names, is_shown=is_shown)

    # --- SQL ------------------------------------------------------------------------------------

    def _run(
        self,
        source: Source,
        found: list[CellStatement],
        parsed: CommandLine,
        names: Mapping[str, Any],
        *,
        is_shown: bool,
    ) -> Any:
        if not found:
            raise EmptyStatementError
        connection = self.connections.get(parsed.connection)
        look = replace(self.look, rows=None, text_rows=None) if parsed.shows_all else self.look
        for number, statement in enumerate(found, start=1):
            is_last = number == len(found)
            reads_all = self.output != "result" or (is_last and not is_shown)
            limit = None if reads_all else look.rows
            place = Place(*place_of(source.text, statement.start), number, len(found))
            with self._placed_errors(source, place):
                answer = self._answer(source, statement, connection, parsed.user, names, limit)
            if is_last and not is_shown:
                value = answer.value(self.output)
                if parsed.target is None:
                    return value
                self.shell.push({parsed.target: value})
            elif is_last and source.is_cell:
                self._latest = answer, look
                return answer.shown_as(self.output, look)
            else:
                self._display(answer, look)
        return None

    def _answer(
        self,
        source: Source,
        statement: CellStatement,
        connection: Connection,
        user: str | None,
        names: Mapping[str, Any],
        limit: int | None,
    ) -> Answer:
        bound = bind(source.text, statement, names)
        session = connection.session
        try:
            result = connection.calls.run(
                lambda: session.execute(bound.sql, bound.values, as_user=user, row_limit=limit)
            )
        except KalamError as error:
            move_into_cell(error, bound, source.text, statement)
            raise
        who = session.user if user is None else f"{session.user} as {user}"
        where = f"@{connection.name}" if len(self.connections) > 1 else ""
        return Answer(result, (f"{who} {where}".strip(),), ALL_HINT)

    def _display(self, answer: Answer, look: Look) -> None:
        shown = answer.shown_as(self.output, look)
        show(answer.view(look) if shown is answer.result else shown)

    def view_of(self, result: Result) -> Grid | Line:
        """Return how a result looks that a cell returned, or that was assigned before."""
        if self._latest is not None and self._latest[0].result is result:
            answer, look = self._latest
            return answer.view(look)
        return Answer(result).view(self.look)

    # --- commands -------------------------------------------------------------------------------

    def _open(self, parsed: CommandLine) -> None:
        if len(parsed.words) != 1:
            raise InvalidOptionError("%kalam open takes one path")
        (path,) = parsed.words
        is_new = not Path(path).exists()
        connection = self.connections.open(
            path,
            user=parsed.options.get("user", ROOT_USER),
            namespace=parsed.options.get("namespace", DEFAULT_NAMESPACE),
            name=parsed.options.get("name", parsed.connection),
        )
        self._say(connection, "new" if is_new else "")

    def _close(self, parsed: CommandLine) -> None:
        name = _one_word(parsed, "close")
        connection = self.connections.close(name or parsed.connection)
        show(Line(f"{connection.name} is closed"))

    def _connections(self, parsed: CommandLine) -> None:
        if _one_word(parsed, parsed.command or "") is not None:
            raise InvalidOptionError(f"%kalam {parsed.command} takes no name")
        if not len(self.connections):
            show(Line("No database is open", "%kalam open PATH opens one"))
            return
        rows = [
            {
                "connection": connection.name,
                "current": self.connections.is_current(connection),
                "user": connection.session.user,
                "role": connection.session.role.value,
                "namespace": connection.session.namespace,
                "path": connection.database.path,
            }
            for connection in self.connections
        ]
        import pyarrow as pa

        show(Grid(pa.Table.from_pylist(rows), len(rows), (), self.look))

    _status = _connections

    def _tables(self, parsed: CommandLine) -> None:
        namespace = _one_word(parsed, "tables")
        connection = self.connections.get(parsed.connection)
        text = "SHOW TABLES" if namespace is None else f"SHOW TABLES IN {namespace}"
        result = connection.calls.run(lambda: connection.session.execute(text))
        self._display(Answer(result, (connection.session.user,)), self.look)

    def _options_alone(self, parsed: CommandLine) -> None:
        if parsed.user is not None or parsed.target is not None or parsed.shows_all:
            raise EmptyStatementError
        if parsed.connection is not None:
            self._say(self.connections.use(parsed.connection))
        elif parsed.debug is not None:
            show(Line(f"debug is {'on' if self.debug else 'off'}"))
        else:
            self._connections(parsed)

    def _say(self, connection: Connection, note: str = "") -> None:
        session = connection.session
        who = f"{session.user} in {session.namespace}"
        show(Line(f"{connection.name}: {who}", connection.database.path, note))

    # --- errors ---------------------------------------------------------------------------------

    @contextmanager
    def _short_errors(self, source: Source) -> Iterator[None]:
        """Show errors that have no place in the SQL, and hide secrets from the history."""
        secrets = source.secrets()
        try:
            yield
        except ExpressionError as wrapped:
            place = Place(*place_of(source.text, wrapped.offset))
            raise self._shown(wrapped.error, source, place, secrets) from None
        except Exception as error:
            place = None
            if isinstance(error, KalamError) and error.line is not None:
                place = Place(error.line, error.column or 1)
            self._shown(error, source, place, secrets)
            raise
        finally:
            mask_history(self.shell, secrets)

    @contextmanager
    def _placed_errors(self, source: Source, place: Place) -> Iterator[None]:
        """Show where in the cell a statement failed."""
        try:
            yield
        except (ExpressionError, InterruptedStatementError):
            raise
        except Exception as error:
            if isinstance(error, KalamError):
                error.statement_number = place.statement
                if error.line is not None:
                    place = replace(place, line=error.line, column=error.column or 1)
            self._shown(error, source, place, source.secrets())
            raise

    def _shown(
        self, error: Exception, source: Source, place: Place | None, secrets: list[str]
    ) -> Exception:
        if not self.debug and not hasattr(error, "_render_traceback_"):
            shorten(error, source.text, place, secrets)
        return error


def _one_word(parsed: CommandLine, command: str) -> str | None:
    if len(parsed.words) > 1:
        raise InvalidOptionError(f"%kalam {command} takes one name at most")
    return parsed.words[0] if parsed.words else None
