"""What ``%kalam`` does besides running SQL: connections, lists and views."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kalamdb_lab.errors import EmptyStatementError, InvalidOptionError
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, ROOT_USER
from kalamdb_lab.notebook.answers import Answer
from kalamdb_lab.notebook.command_line import CommandLine
from kalamdb_lab.notebook.display import Grid, Line, Look, show

if TYPE_CHECKING:
    from kalamdb_lab.notebook.connections import Connection, Connections
    from kalamdb_lab.notebook.snippets import Snippets


class Notebook(Protocol):
    """What the commands need of the magic."""

    debug: Any

    @property
    def connections(self) -> Connections:
        """The open databases."""
        ...

    @property
    def snippets(self) -> Snippets:
        """The saved queries."""
        ...

    @property
    def look(self) -> Look:
        """How much is shown."""
        ...


class Commands:
    """Runs the command of a line."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._connections = notebook.connections

    def run(self, parsed: CommandLine) -> Any:
        """Run a command; what it returns is a view that stays alive, or None."""
        commands = {
            "open": self._open,
            "close": self._close,
            "connections": self._status,
            "status": self._status,
            "tables": self._tables,
            "snippets": self._snippets,
            "jobs": self._jobs,
            "system": self._system,
        }
        return commands[parsed.command or "status"](parsed)

    def options_alone(self, parsed: CommandLine) -> None:
        """Do what a line without a command and without SQL says."""
        if parsed.needs_sql:
            raise EmptyStatementError
        if parsed.connection is not None:
            self._say(self._connections.use(parsed.connection))
        elif parsed.debug is not None:
            show(Line(f"debug is {'on' if self._notebook.debug else 'off'}"))
        else:
            self._status(parsed)

    # --- connections ----------------------------------------------------------------------------

    def _open(self, parsed: CommandLine) -> None:
        if len(parsed.words) != 1:
            raise InvalidOptionError("%kalam open takes one path")
        (path,) = parsed.words
        is_new = not Path(path).exists()
        connection = self._connections.open(
            path,
            user=parsed.options.get("user", ROOT_USER),
            namespace=parsed.options.get("namespace", DEFAULT_NAMESPACE),
            name=parsed.options.get("name", parsed.connection),
        )
        self._say(connection, "new" if is_new else "")

    def _close(self, parsed: CommandLine) -> None:
        name = _one_word(parsed)
        connection = self._connections.close(name or parsed.connection)
        show(Line(f"{connection.name} is closed"))

    def _status(self, parsed: CommandLine) -> None:
        _refuse_words(parsed)
        if not len(self._connections):
            show(Line("No database is open", "%kalam open PATH opens one"))
            return
        self._list(
            {
                "connection": connection.name,
                "current": self._connections.is_current(connection),
                "user": connection.session.user,
                "role": connection.session.role.value,
                "namespace": connection.session.namespace,
                "path": connection.database.path,
            }
            for connection in self._connections
        )

    def _say(self, connection: Connection, note: str = "") -> None:
        session = connection.session
        who = f"{session.user} in {session.namespace}"
        show(Line(f"{connection.name}: {who}", connection.database.path, note))

    # --- lists ----------------------------------------------------------------------------------

    def _tables(self, parsed: CommandLine) -> None:
        namespace = _one_word(parsed)
        connection = self._connections.get(parsed.connection)
        text = "SHOW TABLES"
        if namespace is not None:
            text += ' IN "' + namespace.replace('"', '""') + '"'
        result = connection.calls.run(lambda: connection.session.execute(text))
        show(Answer(result, (connection.session.user,)).view(self._notebook.look))

    def _snippets(self, parsed: CommandLine) -> None:
        _refuse_words(parsed)
        snippets = self._notebook.snippets
        name = parsed.options.get("delete")
        if name is not None:
            show(Line(f"Snippet '{snippets.delete(name).name}' deleted"))
        elif not len(snippets):
            show(Line("No query is saved", "%%kalam --save NAME saves one"))
        else:
            self._list(
                {
                    "snippet": snippet.name,
                    "columns": ", ".join(snippet.columns),
                    "query": " ".join(snippet.text.split()),
                }
                for snippet in snippets
            )

    def _list(self, rows: Any) -> None:
        import pyarrow as pa

        table = pa.Table.from_pylist(list(rows))
        show(Grid(table, table.num_rows, (), self._notebook.look))

    # --- views ----------------------------------------------------------------------------------

    def _jobs(self, parsed: CommandLine) -> Any:
        from kalamdb_lab import widgets

        _refuse_words(parsed)
        return widgets.jobs(self._connections.get(parsed.connection).session)

    def _system(self, parsed: CommandLine) -> Any:
        from kalamdb_lab import widgets

        _refuse_words(parsed)
        return widgets.system(self._connections.get(parsed.connection).session)


def _one_word(parsed: CommandLine) -> str | None:
    if len(parsed.words) > 1:
        raise InvalidOptionError(f"%kalam {parsed.command} takes one name at most")
    return parsed.words[0] if parsed.words else None


def _refuse_words(parsed: CommandLine) -> None:
    if parsed.words:
        raise InvalidOptionError(f"%kalam {parsed.command} takes no name")
