"""Registered tables as the planner reads them: files, listed anew for each statement."""

from __future__ import annotations

from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.query.relations import ArrowPart, BoundPredicate, Part, ScanRequest
from kalamdb_lab.query.scan_parts import segment_predicates
from kalamdb_lab.segments.registered_files import RegisteredFilesReader


class RegisteredScans:
    """The rows of registered tables, decoded and kept as those of small segments are."""

    def __init__(self, reader: RegisteredFilesReader) -> None:
        self._reader = reader

    def read(
        self, table: TableDef, request: ScanRequest, predicates: tuple[BoundPredicate, ...]
    ) -> tuple[Part, ...]:
        """Return the rows of a request; the promise is that of `ScanProvider`."""
        conditions = segment_predicates(table, predicates)
        return tuple(map(ArrowPart, self._reader.read(table, request.columns, conditions)))

    def row_count(self, table: TableDef, predicates: tuple[BoundPredicate, ...]) -> int | None:
        """Return how many rows `read` gives, if the files say so without being read."""
        return self._reader.row_count(table, segment_predicates(table, predicates))
