"""What the Tab key offers in the shell: keywords, and names that the user may know of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from kalamdb_lab.errors import KalamError
from kalamdb_lab.sql.keywords import KEYWORDS, TYPES

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session

_WORDS: Final = sorted(KEYWORDS - TYPES)
_NAME: Final = r'(?:\w+|"[^"]+")'
_TABLE: Final = re.compile(
    rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|DESCRIBE|DESC)\s+({_NAME}(?:\.{_NAME})?)"
    rf"(?:\s+(?:AS\s+)?(\w+))?",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[\w.]*$")
_PLAIN: Final = re.compile(r"[A-Za-z]\w*", re.ASCII)


class SqlCompleter(Completer):
    """Offers what may follow, from the definitions that the session sees now."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        before = document.text_before_cursor
        if before.startswith("\\") or before.count("'") % 2:
            return
        match = _WORD.search(before)
        word = match[0] if match is not None else ""
        scope, _, start = word.rpartition(".")
        try:
            offered = list(self._offered(document.text, scope, start))
        except KalamError:
            return  # the session has ended: what runs next says so
        for text in dict.fromkeys(offered):
            if text.strip('"').lower().startswith(start.lower()):
                yield Completion(text, start_position=-len(start))

    def _offered(self, text: str, scope: str, start: str) -> Iterator[str]:
        named = _named_tables(text)
        if scope:
            yield from self._columns([named.get(scope.lower(), scope)])
            if scope.lower() in self._session.namespaces():
                yield from self._tables(scope)
            return
        yield from self._columns(named.values())
        yield from self._tables(self._session.namespace)
        yield from self._session.namespaces()
        yield from (word.lower() if start.islower() else word for word in _WORDS)

    def _tables(self, namespace: str) -> Iterator[str]:
        return (table.table_id.name for table in self._session.definitions(namespace))

    def _columns(self, tables: Iterable[str]) -> Iterator[str]:
        for table in tables:
            try:
                definition = self._session.definition(table)
            except KalamError:
                continue
            for column in definition.visible_columns:
                yield column.name if _PLAIN.fullmatch(column.name) else f'"{column.name}"'


def _named_tables(text: str) -> dict[str, str]:
    """Return the tables that a statement names, by their aliases or last names."""
    found = {}
    for table, alias in _TABLE.findall(text):
        name = table.replace('"', "").lower()
        found[name.rpartition(".")[2]] = name
        if alias and alias.upper() not in _WORDS:
            found[alias.lower()] = name
    return found
