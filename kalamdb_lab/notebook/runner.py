"""One statement of a cell on its way: values, snippets, dataframes, the engine, the answer."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kalamdb_lab.errors import KalamError, NotFoundError, NotSupportedError
from kalamdb_lab.notebook.answers import ALL_HINT, Answer
from kalamdb_lab.notebook.binding import BoundStatement, bind
from kalamdb_lab.notebook.cell_text import CellStatement, place_of
from kalamdb_lab.notebook.command_line import CommandLine
from kalamdb_lab.notebook.failures import move_into_cell
from kalamdb_lab.notebook.local_frames import LocalTables, frame_names, may_read
from kalamdb_lab.notebook.progress import Progress
from kalamdb_lab.notebook.references import TableReference
from kalamdb_lab.notebook.snippets import Snippet, Snippets
from kalamdb_lab.notebook.source import Source

if TYPE_CHECKING:
    from kalamdb_lab.notebook.connections import Connection, Connections
    from kalamdb_lab.query.result import Result

_EXPLAIN = "EXPLAIN "


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs the statements of one cell.

    Attributes
    ----------
    parsed : CommandLine
        The options of the cell.
    names : mapping
        Where ``:name``, ``{{expression}}`` and dataframes are looked up.
    has_front_end, shows_progress : bool
        Whether displays can be updated; whether a long statement shows how far it is.
    """

    source: Source
    parsed: CommandLine
    names: Mapping[str, Any]
    connection: Connection
    connections: Connections
    snippets: Snippets
    has_front_end: bool
    shows_progress: bool

    def answer(self, statement: CellStatement, limit: int | None) -> Answer:
        """Run a statement; of a query at most ``limit`` rows are read, and the others counted."""
        bound, tables = self._prepared(statement)
        local = self._local(tables)
        if self.parsed.explains:
            bound = bound.inserted(statement.start, _EXPLAIN, shown_at=statement.start)
        session, user = self.connection.session, self.parsed.user

        def execute() -> Result:
            return session.execute(
                bound.sql,
                bound.values,
                as_user=user,
                row_limit=limit,
                relations=local.relations,
            )

        progress = Progress(lambda: session.progress, has_front_end=self.has_front_end)
        try:
            with self._moved(bound, statement):
                result = self.connection.calls.run(execute, watch=self._watch(progress))
        finally:
            progress.end()
        who = session.user if user is None else f"{session.user} as {user}"
        where = f"@{self.connection.name}" if len(self.connections) > 1 else ""
        return Answer(
            result,
            (f"{who} {where}".strip(),),
            ALL_HINT,
            origins=tuple(local.origins),
            is_plan=self.parsed.explains,
        )

    def _watch(self, progress: Progress) -> Callable[[float], None] | None:
        return progress.step if self.shows_progress else None

    def save_name(self, statement: CellStatement) -> str:
        """Return the name under which a statement is to be saved, checked before it runs."""
        assert self.parsed.save is not None
        bound = bind(self.source.text, statement, self.names)
        with self._moved(bound, statement):
            return self.snippets.checked(self.parsed.save, bound, self.connection.session)

    def save(self, name: str, statement: CellStatement, columns: tuple[str, ...]) -> None:
        """Keep the text of a statement as a snippet."""
        text = self.source.text[statement.start : statement.end]
        self.snippets.keep(Snippet(name, text, columns))

    def live(self, statement: CellStatement) -> Any:
        """Return the live table of a query."""
        from kalamdb_lab.widgets import adopted

        bound, tables = self._prepared(statement)
        for name in self._local(tables).relations:
            raise NotSupportedError(
                f"A live table reads tables of the database only; '{name}' is a dataframe"
            )
        alone, session = bound.alone(), self.connection.session
        progress = Progress(lambda: session.progress, has_front_end=self.has_front_end)
        try:
            with self._moved(alone, statement):
                # Read where an interrupt stops it; the widget belongs to this thread.
                result = self.connection.calls.run(
                    lambda: session.live(alone.sql, alone.values), watch=self._watch(progress)
                )
        finally:
            progress.end()
        return adopted(result)

    def _prepared(
        self, statement: CellStatement
    ) -> tuple[BoundStatement, list[tuple[TableReference, int]]]:
        """Return a statement with its values and snippets, and what it reads where in the cell."""
        cell = self.source.text
        bound = bind(cell, statement, self.names)
        if not self.snippets and not may_read(bound.sql, self.names):
            return bound, []
        whole, tables = self.snippets.put_in(bound, cell, self.names, self.connection.session)
        return whole, [(table, bound.offset_in_cell(table.start)) for table in tables]

    def _local(self, tables: list[tuple[TableReference, int]]) -> LocalTables:
        local = LocalTables(self.names, self.connection.session)

        def add() -> None:
            for table, start in tables:
                try:
                    local.add(table)
                except KalamError as error:
                    raise error.at(*place_of(self.source.text, start)) from None

        if tables:  # a large dataframe takes its time, too
            self.connection.calls.run(add)
        return local

    @contextmanager
    def _moved(self, bound: BoundStatement, statement: CellStatement) -> Iterator[None]:
        """Let errors speak of the cell instead of the text that was run."""
        try:
            yield
        except KalamError as error:
            move_into_cell(error, bound, self.source.text, statement)
            if isinstance(error, NotFoundError):
                self._name_nearby(error, statement)
            raise

    def _name_nearby(self, error: NotFoundError, statement: CellStatement) -> None:
        """Say which snippet or dataframe may be meant by a table that is not found."""
        namespace, _, name = error.name.rpartition(".")
        if error.kind != "Table" or error.nearby or namespace != self.connection.session.namespace:
            return
        known = [*(snippet.name for snippet in self.snippets), *frame_names(self.names)]
        # What is named there already, and not found, cannot be read by this statement.
        named = re.findall(r"\w+", self.source.text[statement.start : statement.end])
        known = [item for item in known if not item.startswith("_") and item not in named]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        if near:
            error.message = f"{error.message}; did you mean '{near[0]}'?"
            error.args = (error.message,)
