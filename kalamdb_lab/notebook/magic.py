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
from kalamdb_lab.notebook.answers import Answer
from kalamdb_lab.notebook.binding import ExpressionError, evaluated
from kalamdb_lab.notebook.cell_text import CellStatement, place_of
from kalamdb_lab.notebook.command_line import CommandLine, parse_line
from kalamdb_lab.notebook.commands import Commands
from kalamdb_lab.notebook.completion import Completion
from kalamdb_lab.notebook.display import Grid, Line, Look, show
from kalamdb_lab.notebook.failures import Place, shorten
from kalamdb_lab.notebook.history import mask_history
from kalamdb_lab.notebook.settings import project_settings
from kalamdb_lab.notebook.shown_views import ShownViews
from kalamdb_lab.notebook.source import Source, Use, use_of_value

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session
    from kalamdb_lab.notebook.connections import Connections
    from kalamdb_lab.notebook.plan_tree import PlanTree
    from kalamdb_lab.notebook.runner import Runner
    from kalamdb_lab.notebook.snippets import Snippets
    from kalamdb_lab.query.result import Result

_SHOWN: Final = "_kalam_views"
"""The variable that holds the live views that were shown and given to no other."""

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
    show_progress = Bool(help="Whether a long statement shows how far it is.").tag(config=True)
    debug = Bool(default_value=False, help="Whether errors show their traceback.").tag(config=True)

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._opened: Connections | None = None
        self._latest: tuple[Answer, Look] | None = None
        self._views = ShownViews()
        self._saved: Snippets | None = None
        self.completion = Completion(self)
        self.matcher = self.completion.matcher()
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

    @default("show_progress")
    def _show_progress_default(self) -> bool:
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

    @property
    def snippets(self) -> Snippets:
        """The saved queries."""
        if self._saved is None:
            from kalamdb_lab.notebook.snippets import Snippets

            self._saved = Snippets()
        return self._saved

    @property
    def has_connections(self) -> bool:
        """Whether a database is open."""
        return self._opened is not None and len(self._opened) > 0

    @property
    def current_session(self) -> Session | None:
        """The session of the current connection, if a database is open."""
        return self.connections.get().session if self.has_connections else None

    def close(self) -> None:
        """Close all databases that the magic opened."""
        self.completion.close()
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
        %kalam jobs, %kalam system
            Watch the jobs; look at tables, partitions and system tables.
        %kalam snippets [--delete NAME]
            The queries that --save keeps.
        %kalam --debug on|off
            Whether errors show their whole traceback.
        NAME = %kalam [@NAME] [--as USER] SQL
        %%kalam [@NAME] [--as USER] [--all] [NAME <<]
            Run SQL, in a cell also several statements: on another connection, as
            another user, showing all rows, keeping the last result in a variable.
        %%kalam --save NAME
            Run one query and keep it: later cells read NAME like a table.
        %%kalam --explain
            Show how the statement would be run, and run nothing.
        %%kalam --live [NAME <<]
            Show the query as a live table, which changes with the database.

        :name and {{expression}} in the SQL are values of Python, bound as parameters;
        after IN they may be lists. {{expression|ident}} is a quoted name. A result is
        Arrow inside: to_pandas(), to_polars(), to_arrow(), to_ibis(), rows(), len().
        A pandas, polars or Arrow table is read by the name of its variable where there is
        no such table, and as local.NAME anyhow. The Tab key completes names and words.
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

        %%kalam --save dear
        SELECT * FROM fruit WHERE price > 0.5

        import pandas as pd; stock = pd.DataFrame({"name": ["fig", "plum"], "kg": [3, 8]})

        worth = %kalam SELECT sum(price * kg) AS worth FROM dear JOIN stock USING (name)

        %%kalam --explain
        SELECT * FROM dear ORDER BY price
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
                self._views.begin(self.shell)
                view = Commands(self).run(parsed)
                return None if view is None else self._live(view, parsed, use_of_value())
            found = source.statements(parsed.sql_start)
            if not found and not source.is_cell:
                Commands(self).options_alone(parsed)
                return None
            return self._run(source, found, parsed, names)

    # --- SQL ------------------------------------------------------------------------------------

    def _run(
        self,
        source: Source,
        found: list[CellStatement],
        parsed: CommandLine,
        names: Mapping[str, Any],
    ) -> Any:
        if not found:
            raise EmptyStatementError
        if len(found) > 1 and (parsed.is_live or parsed.save is not None):
            option = "--live" if parsed.is_live else "--save"
            raise InvalidOptionError(f"{option} takes one query; the cell has {len(found)}")
        use = Use.PRINTED if source.is_cell else use_of_value()
        is_shown = parsed.target is None and use is not Use.KEPT
        runner = self._runner(source, parsed, names)
        look = replace(self.look, rows=None, text_rows=None) if parsed.shows_all else self.look
        for number, statement in enumerate(found, start=1):
            is_last = number == len(found)
            reads_all = self.output != "result" or (is_last and not is_shown)
            limit = None if reads_all else look.rows
            place = Place(*place_of(source.text, statement.start), number, len(found))
            with self._placed_errors(source, place):
                if parsed.is_live:
                    self._views.begin(self.shell)
                    return self._live(runner.live(statement), parsed, use)
                saved = None if parsed.save is None else runner.save_name(statement)
                answer = runner.answer(statement, limit)
                if saved is not None:
                    runner.save(saved, statement, tuple(answer.result.columns))
                    answer = replace(answer, origins=(*answer.origins, f"saved as {saved}"))
            if is_last and not is_shown:
                return self._given(answer.value(self.output), parsed, use)
            if is_last and source.is_cell:
                self._latest = answer, look
                return answer.shown_as(self.output, look)
            self._display(answer, look)
        return None

    def _runner(self, source: Source, parsed: CommandLine, names: Mapping[str, Any]) -> Runner:
        from kalamdb_lab.notebook.runner import Runner  # it brings the language's parser along

        return Runner(
            source,
            parsed,
            names,
            self.connections.get(parsed.connection),
            self.connections,
            self.snippets,
            has_front_end=getattr(self.shell, "kernel", None) is not None,
            shows_progress=self.show_progress,
        )

    def _live(self, view: Any, parsed: CommandLine, use: Use) -> Any:
        """Return a live view as `_given` does; the next run of its cell ends one that is shown."""
        if parsed.target is None and use is not Use.KEPT:
            self._views.add(self.shell, view)
        return self._given(view, parsed, use)

    def _given(self, value: Any, parsed: CommandLine, use: Use) -> Any:
        """Return what Python code is given; a view that code drops is shown before."""
        if parsed.target is not None:
            self.shell.push({parsed.target: value})
            return None
        if use is Use.DROPPED:
            show(value)
            # As `Out` keeps what a cell returned: it lives until %reset.
            kept = self.shell.user_ns.setdefault(_SHOWN, [])
            kept[:] = [*(view for view in kept if view.is_open), value]
        return value

    def _display(self, answer: Answer, look: Look) -> None:
        shown = answer.shown_as(self.output, look)
        show(answer.view(look) if shown is answer.result else shown)

    def view_of(self, result: Result) -> Grid | Line | PlanTree:
        """Return how a result looks that a cell returned, or that was assigned before."""
        if self._latest is not None and self._latest[0].result is result:
            answer, look = self._latest
            return answer.view(look)
        return Answer(result).view(self.look)

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
