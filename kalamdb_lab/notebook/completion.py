"""What the Tab key offers in ``%%kalam`` cells and after ``%kalam``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, cast

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from kalamdb_lab.notebook.cell_text import IDENT_FILTER
from kalamdb_lab.notebook.command_line import COMMAND_OPTIONS, COMMANDS, OPTIONS

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session
    from kalamdb_lab.model.tables import TableDef
    from kalamdb_lab.notebook.connections import Connections
    from kalamdb_lab.notebook.cursor_place import Place
    from kalamdb_lab.notebook.known_names import Definitions, KnownNames
    from kalamdb_lab.notebook.snippets import Snippets

MAGIC: Final = "%kalam"
_FIRST: Final = 1_000
"""Before IPython's own matchers, of which none is asked then."""

_PLAIN: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OF_NAMESPACE: Final = ("USE", "NAMESPACE", "DATABASE")


Matcher: TypeAlias = Callable[[CompletionContext], SimpleMatcherResult]


class Candidate(NamedTuple):
    """What may stand where the cursor is, and what it is."""

    text: str
    kind: str


class _Nothing(list[SimpleCompletion]):
    """No completions, where nobody else has any: IPython asks the others unless there are some."""

    def __len__(self) -> int:
        return 1


class Notebook(Protocol):
    """What completion needs of the magic."""

    shell: Any

    @property
    def connections(self) -> Connections:
        """The open databases."""
        ...

    @property
    def snippets(self) -> Snippets:
        """The saved queries."""
        ...

    @property
    def has_connections(self) -> bool:
        """Whether a database is open; asking for it imports nothing."""
        ...


class Completion:
    """Completes what is typed, from what is known already."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook
        self._names: KnownNames | None = None

    def matcher(self) -> Matcher:
        """Return the function for ``shell.Completer.custom_matchers``."""

        @context_matcher(priority=_FIRST, identifier="kalamdb_lab")  # type: ignore[untyped-decorator]
        def kalam_matcher(context: CompletionContext) -> SimpleMatcherResult:
            fragment = ""
            found: list[SimpleCompletion] = []
            if MAGIC in context.full_text:
                at = context.full_text, context.cursor_line, context.cursor_position
                fragment, candidates = self.offered(*at)
                found = [SimpleCompletion(text=c.text, type=c.kind) for c in candidates]
                if not found and self.is_ours(*at):
                    found = _Nothing()
            return {
                "completions": found,
                "matched_fragment": fragment,
                "suppress": bool(found),
                "ordered": True,
            }

        return cast("Matcher", kalam_matcher)

    def close(self) -> None:
        """Wait for what is being read."""
        if self._names is not None:
            self._names.close()

    def offered(self, full_text: str, line: int, column: int) -> tuple[str, list[Candidate]]:
        """Return what is typed of a word, and what it may become, best first.

        Parameters
        ----------
        line, column : int
            Of the cursor, from 0.
        """
        from kalamdb_lab.notebook.cursor_place import magic_at, place_of_cursor

        magic = magic_at(full_text, line, column)
        if magic is None:
            return "", []
        place = place_of_cursor(magic)
        start = place.fragment.lower()
        candidates = self._candidates(place, is_cell=magic.is_cell)
        fitting = (c for c in candidates if c.text.strip('"').lower().startswith(start))
        return place.fragment, list(dict.fromkeys(fitting))

    def is_ours(self, full_text: str, line: int, column: int) -> bool:
        """Return whether no Python and no file can stand there."""
        from kalamdb_lab.notebook.cursor_place import Spot, magic_at, place_of_cursor

        magic = magic_at(full_text, line, column)
        spots = (Spot.SQL, Spot.OPTION, Spot.NOTHING)
        return magic is not None and place_of_cursor(magic).spot in spots

    def _candidates(self, place: Place, *, is_cell: bool) -> Iterator[Candidate]:
        from kalamdb_lab.notebook.cursor_place import Spot

        match place.spot:
            case Spot.OPTION:
                yield from self._options(place, is_cell=is_cell)
            case Spot.COMMAND:
                yield from self._rest_of_command(place)
            case Spot.VALUE | Spot.PYTHON:
                if place.words == ("|",):
                    yield Candidate(IDENT_FILTER, "keyword")
                yield from self._variables()
            case Spot.SQL:
                yield from self._sql(place)

    # --- the line of the magic --------------------------------------------------------------------

    def _options(self, place: Place, *, is_cell: bool) -> Iterator[Candidate]:
        before = place.words[-1] if place.words else ""
        if before == "--debug":
            yield from (Candidate(word, "option") for word in ("on", "off"))
        if before in ("--debug", "--as", "--save"):
            return
        if place.fragment.startswith("@"):
            yield from (Candidate(f"@{name}", "connection") for name in self._connected())
        elif place.fragment.startswith("-"):
            yield from (Candidate(option, "option") for option in OPTIONS)
        else:
            if not is_cell:
                yield from (Candidate(command, "command") for command in COMMANDS)
            yield from self._sql(replace(place, words=()))

    def _rest_of_command(self, place: Place) -> Iterator[Candidate]:
        command, before = place.words[0], place.words[-1]
        if place.fragment.startswith("-"):
            options = COMMAND_OPTIONS.get(command, ())
            yield from (Candidate(option, "option") for option in options)
        elif command == "close":
            yield from (Candidate(name, "connection") for name in self._connected())
        elif command == "tables":
            tables = self._definitions(place).tables
            yield from (Candidate(name, "namespace") for name in tables)
        elif before == "--delete":
            yield from (Candidate(item.name, "snippet") for item in self._notebook.snippets)

    def _connected(self) -> list[str]:
        if not self._notebook.has_connections:
            return []
        return [connection.name for connection in self._notebook.connections]

    # --- Python -----------------------------------------------------------------------------------

    def _variables(self) -> Iterator[Candidate]:
        hidden = self._notebook.shell.user_ns_hidden
        for name in sorted(self._namespace()):
            if not name.startswith("_") and name not in hidden:
                yield Candidate(name, "variable")

    def _namespace(self) -> Mapping[str, Any]:
        names: Mapping[str, Any] = self._notebook.shell.user_ns
        return names

    # --- SQL --------------------------------------------------------------------------------------

    def _sql(self, place: Place) -> Iterator[Candidate]:
        from kalamdb_lab.sql.keywords import COMMON, KEYWORDS, PHRASES, TYPES

        if place.qualifier:
            yield from self._qualified(place)
            return
        before = place.words[-1] if place.words else ""
        if before == "::":
            yield from (_cased(Candidate(word, "type"), place.fragment) for word in sorted(TYPES))
            return
        if before in _OF_NAMESPACE:
            tables = self._definitions(place).tables
            yield from (Candidate(name, "namespace") for name in tables)
            return
        done = len(place.words)
        begun = [phrase.split() for phrase in PHRASES]
        ways_on = [words[done:] for words in begun if tuple(words[:done]) == place.words]
        if any(ways_on) and not place.is_quoted:
            for words in filter(None, ways_on):
                yield _cased(Candidate(" ".join(words), "keyword"), place.fragment)
            return
        if place.wants_table:
            yield from self._tables(place)
        else:
            for parts in dict.fromkeys(place.tables.values()):
                yield from self._columns(parts, place)
            yield from (_named(name, "alias", place) for name in place.tables)
            if place.fragment:
                if not place.is_quoted:
                    yield from self._functions()
                yield from self._tables(place)
        if not place.is_quoted:
            for word in sorted(KEYWORDS if place.fragment else COMMON):
                yield _cased(Candidate(word, "keyword"), place.fragment)

    def _functions(self) -> Iterator[Candidate]:
        from kalamdb_lab.query.functions import ALLOWED, OWN, VECTOR_FUNCTIONS

        names = sorted(ALLOWED | OWN | VECTOR_FUNCTIONS)
        yield from (Candidate(name, "function") for name in names)

    def _tables(self, place: Place) -> Iterator[Candidate]:
        from kalamdb_lab.notebook.local_frames import frame_names

        definitions, session = self._definitions(place), self._session(place)
        if session is not None:
            for table in definitions.tables.get(session.namespace, {}).values():
                yield _named(table.table_id.name, _kind(table), place)
            yield from (_named(name, "table", place) for name in session.relations)
        yield from (_named(item.name, "snippet", place) for item in self._notebook.snippets)
        if place.fragment or place.wants_table:
            frames = sorted(frame_names(self._namespace()))
            yield from (_named(n, "dataframe", place) for n in frames if not n.startswith("_"))
        yield from (_named(name, "namespace", place) for name in definitions.tables)
        if place.wants_table:
            for name, parts in place.tables.items():
                if parts == (name,):
                    yield _named(name, "table", place)

    def _qualified(self, place: Place) -> Iterator[Candidate]:
        from kalamdb_lab.notebook.local_frames import LOCAL, frame_names

        *_, last = place.qualifier
        if len(place.qualifier) > 1:
            yield from self._columns(place.qualifier, place)
            return
        yield from self._columns(place.tables.get(last.lower(), place.qualifier), place)
        for table in self._definitions(place).tables.get(last.lower(), {}).values():
            yield _named(table.table_id.name, _kind(table), place)
        if last.lower() == LOCAL:
            frames = sorted(frame_names(self._namespace()))
            yield from (_named(n, "dataframe", place) for n in frames if not n.startswith("_"))

    def _columns(self, parts: tuple[str, ...], place: Place) -> Iterator[Candidate]:
        for name in self._column_names(parts, place):
            yield _named(name, "column", place)

    def _column_names(self, parts: tuple[str, ...], place: Place) -> Iterable[str]:
        from kalamdb_lab.model.ids import SYSTEM_COLUMNS
        from kalamdb_lab.notebook.local_frames import LOCAL, column_names

        session, namespace, name = self._session(place), parts[0].lower(), parts[-1]
        snippet = self._notebook.snippets.get(name)
        if len(parts) == 1 and session is not None:
            namespace = session.namespace
            if name in session.relations:
                return list(session.relations[name].schema.names)
        table = self._definitions(place).table(namespace, name)
        if table is not None:
            with_system = place.fragment.startswith("_") and table.is_stored
            system = SYSTEM_COLUMNS if with_system else ()
            return [*(column.name for column in table.visible_columns), *system]
        if len(parts) == 1 and snippet is not None:
            return snippet.columns
        if len(parts) == 1 or namespace == LOCAL:
            return column_names(name, self._namespace())
        return ()

    def _session(self, place: Place) -> Session | None:
        if not self._notebook.has_connections:
            return None
        connections, name = self._notebook.connections, place.connection
        if name is not None and name not in self._connected():
            return None
        return connections.get(name).session

    def _definitions(self, place: Place) -> Definitions:
        from kalamdb_lab.notebook.known_names import Definitions, KnownNames

        session = self._session(place)
        if session is None:
            return Definitions()
        if self._names is None:
            self._names = KnownNames()
        return self._names.of(session)


def _kind(table: TableDef) -> str:
    return "view" if table.kind.value == "view" else "table"


def _cased(candidate: Candidate, fragment: str) -> Candidate:
    return candidate._replace(text=candidate.text.lower()) if fragment.islower() else candidate


def _named(name: str, kind: str, place: Place) -> Candidate:
    """Return a name as SQL has to write it there."""
    from kalamdb_lab.model.ids import RESERVED_KEYWORDS

    if place.is_quoted:
        return Candidate(name.replace('"', '""') + '"', kind)
    if _PLAIN.fullmatch(name) and name.lower() not in RESERVED_KEYWORDS:
        return Candidate(name, kind)
    return Candidate('"' + name.replace('"', '""') + '"', kind)
