"""The definitions that a session may know, kept for completion."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.ids import INFORMATION_SCHEMA
from kalamdb_lab.model.tables import TableDef

PATIENCE_S: Final = 0.03
"""How long reading anew is waited for, before what was known last is given."""


@dataclass(frozen=True, slots=True)
class Definitions:
    """Tables and views by namespace and name, as they were at ``revision``."""

    revision: Hashable = None
    tables: Mapping[str, Mapping[str, TableDef]] = field(default_factory=dict)

    def table(self, namespace: str, name: str) -> TableDef | None:
        """Return a definition; names in any case."""
        return self.tables.get(namespace.lower(), {}).get(name.lower())


class KnownNames:
    """Definitions by session, read again when the catalog has changed.

    They are read in a thread of their own: a database that is busy makes nobody wait.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Session, Definitions] = weakref.WeakKeyDictionary()
        self._reading: weakref.WeakKeyDictionary[Session, threading.Thread] = (
            weakref.WeakKeyDictionary()
        )

    def of(self, session: Session) -> Definitions:
        """Return what a session may know; what it knew last where reading takes long."""
        thread = self._reading.get(session)
        if thread is None or not thread.is_alive():
            thread = threading.Thread(
                target=self._read, args=(session,), name="kalam-names", daemon=True
            )
            self._reading[session] = thread
            thread.start()
        thread.join(PATIENCE_S)
        return self._known.get(session, Definitions())

    def close(self) -> None:
        """Wait for what is being read."""
        for thread in list(self._reading.values()):
            thread.join(1)
        self._reading.clear()

    def _read(self, session: Session) -> None:
        try:
            revision = session.definitions_revision
            known = self._known.get(session)
            if known is not None and known.revision == revision:
                return
            tables = {
                namespace: {t.table_id.name: t for t in session.definitions(namespace)}
                for namespace in (*session.namespaces(), INFORMATION_SCHEMA)
            }
        except KalamError:
            self._known.pop(session, None)  # it was closed, or its user dropped
        else:
            self._known[session] = Definitions(revision, tables)
