"""Queries that a notebook keeps by name, for later cells to read like tables."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kalamdb_lab.errors import (
    AmbiguousError,
    InvalidDefinitionError,
    KalamError,
    NotFoundError,
    PermissionDeniedError,
)
from kalamdb_lab.model.ids import checked_name
from kalamdb_lab.notebook.binding import BoundStatement, ExpressionError, bind
from kalamdb_lab.notebook.cell_text import statements
from kalamdb_lab.notebook.references import OuterQuery, TableReference, outer_queries

if TYPE_CHECKING:
    from kalamdb_lab.engine.session import Session


@dataclass(frozen=True, slots=True)
class Snippet:
    """A saved query.

    Attributes
    ----------
    text : str
        As the cell had it, with its ``:name`` and ``{{expression}}``: they are looked up anew
        each time the snippet is used.
    columns : tuple of str
        What it answered when it was saved.
    """

    name: str
    text: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Body:
    """A snippet for one statement: its SQL, and what it reads besides snippets."""

    sql: str
    tables: tuple[TableReference, ...]
    needs: tuple[str, ...]


class Snippets:
    """The snippets of a notebook by name, folded."""

    def __init__(self) -> None:
        self._by_name: dict[str, Snippet] = {}

    def __iter__(self) -> Iterator[Snippet]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name

    def get(self, name: str) -> Snippet | None:
        """Return a snippet, if there is one of that name."""
        return self._by_name.get(name.lower())

    def delete(self, name: str) -> Snippet:
        """Forget a snippet."""
        snippet = self._by_name.pop(name.lower(), None)
        if snippet is None:
            near = difflib.get_close_matches(name.lower(), self._by_name, n=1, cutoff=0.5)
            raise NotFoundError("Snippet", name, nearby=near)
        return snippet

    def keep(self, snippet: Snippet) -> None:
        """Keep a snippet; one of the same name is replaced."""
        self._by_name[snippet.name] = snippet

    def checked(self, name: str, bound: BoundStatement, session: Session) -> str:
        """Return the name under which a query may be saved.

        Raises
        ------
        InvalidNameError
        InvalidDefinitionError
            A table has the name, it is no query, or the snippet would read itself.
        """
        folded = checked_name(name)
        if table_exists(session, (folded,)):
            raise InvalidDefinitionError(
                f"Snippet '{folded}' would have the name of a table in '{session.namespace}'; "
                "give it another one"
            )
        if not _is_query(bound.sql):
            raise InvalidDefinitionError("--save keeps one query; this statement is none")
        # The new one is looked for among what it reads, through the ones that are there.
        self._refuse_cycle((folded,), _names(outer_queries(bound.sql)))
        return folded

    def _refuse_cycle(self, path: tuple[str, ...], read: Iterable[str]) -> None:
        for name in read:
            if name in path:
                loop = " → ".join([*path[path.index(name) :], name])
                raise InvalidDefinitionError(f"Snippets read each other in a circle: {loop}")
            snippet = self._by_name.get(name)
            if snippet is not None:
                self._refuse_cycle((*path, name), _names_in(snippet.text))

    # --- use ------------------------------------------------------------------------------------

    def put_in(
        self, bound: BoundStatement, cell: str, names: Mapping[str, Any], session: Session
    ) -> tuple[BoundStatement, list[TableReference]]:
        """Return a statement with the snippets it reads as CTEs, and what else it reads.

        Parameters
        ----------
        names : mapping
            Where the values in the snippets are looked up.

        Raises
        ------
        AmbiguousError
            A name is a snippet's and a table's.
        InvalidDefinitionError
            Snippets read each other in a circle.
        """
        values = list(bound.values)
        bodies: dict[str, _Body] = {}
        others: list[TableReference] = []
        inserted = BoundStatement(bound.sql, values, bound.pieces)
        for query in reversed(outer_queries(bound.sql)):  # the last first: offsets stay right
            wanted: dict[str, TableReference] = {}
            for table in query.tables:
                name = table.parts[0].lower()
                if len(table.parts) == 1 and name in self._by_name:
                    wanted.setdefault(name, table)
                else:
                    others.append(table)
            if not wanted:
                continue
            order: dict[str, TableReference] = {}
            for name, reference in wanted.items():
                try:
                    self._add(name, (), bodies, names, values, session)
                except KalamError as error:
                    raise bound.placed(error, cell, reference.start) from None
                except ExpressionError as wrapped:
                    at = bound.offset_in_cell(reference.start)
                    raise ExpressionError(wrapped.error, at) from wrapped.error
                _needed(name, bodies, reference, order)
            try:
                _refuse_own_cte(query, order)
            except KalamError as error:
                raise bound.placed(error, cell, query.start) from None
            others += [
                TableReference(table.parts, reference.start)
                for name, reference in order.items()
                for table in bodies[name].tables
            ]
            ctes = ", ".join(f"{name} AS ({bodies[name].sql})" for name in order)
            text = f"{ctes}, " if query.has_with else f"WITH {ctes} "
            first = min(reference.start for reference in wanted.values())
            inserted = inserted.inserted(query.start, text, shown_at=max(first, query.start))
        return inserted, others

    def _add(
        self,
        name: str,
        path: tuple[str, ...],
        bodies: dict[str, _Body],
        names: Mapping[str, Any],
        values: list[Any],
        session: Session,
    ) -> None:
        if name in path:
            loop = " → ".join([*path[path.index(name) :], name])
            raise InvalidDefinitionError(f"Snippets read each other in a circle: {loop}")
        if name in bodies:
            return
        if table_exists(session, (name,)):
            raise AmbiguousError(
                f"'{name}' is a snippet and a table; write {session.namespace}.{name} for the "
                f"table, or delete the snippet with %kalam snippets --delete {name}"
            )
        text = self._by_name[name].text
        (statement,) = statements(text)
        try:
            body = bind(text, statement, names, values)
        except KalamError as error:
            error.line = error.column = None  # of the snippet; the cell has only its name
            error.message = f"{error.message} (in snippet '{name}')"
            raise
        tables = [table for query in outer_queries(body.sql) for table in query.tables]
        needs = dict.fromkeys(
            table.parts[0].lower()
            for table in tables
            if len(table.parts) == 1 and table.parts[0].lower() in self._by_name
        )
        for other in needs:
            self._add(other, (*path, name), bodies, names, values, session)
        rest = tuple(
            table for table in tables if len(table.parts) > 1 or table.parts[0].lower() not in needs
        )
        bodies[name] = _Body(body.sql.strip(), rest, tuple(needs))


def table_exists(session: Session, parts: tuple[str, ...]) -> bool:
    """Return whether a session calls a table so: its own relation, or one of the database."""
    if len(parts) == 1 and any(name.lower() == parts[0].lower() for name in session.relations):
        return True
    try:
        session.definition(parts)
    except PermissionDeniedError:
        return True
    except NotFoundError as error:
        # A view whose query names something that is gone is there all the same.
        return getattr(error, "kind", None) not in ("Table", "Namespace")
    return True


def _needed(
    name: str,
    bodies: Mapping[str, _Body],
    reference: TableReference,
    order: dict[str, TableReference],
) -> None:
    """Add a snippet to ``order``, after the ones that it reads."""
    for other in bodies[name].needs:
        _needed(other, bodies, reference, order)
    order.setdefault(name, reference)


def _refuse_own_cte(query: OuterQuery, order: Iterable[str]) -> None:
    for name in order:
        if name in query.ctes:
            raise InvalidDefinitionError(
                f"CTE '{name}' has the name of a snippet that the statement reads too; give it "
                "another one"
            )


def _names_in(text: str) -> list[str]:
    """Return what the text of a snippet reads; a value that is not known now reads nothing."""
    (statement,) = statements(text)
    filled = text
    for hole in reversed(statement.holes):
        word = "(NULL)" if hole.is_whole_list and not hole.has_parentheses else "NULL"
        filled = filled[: hole.start] + word + filled[hole.end :]
    return _names(outer_queries(filled[statement.start :]))


def _names(queries: Iterable[OuterQuery]) -> list[str]:
    tables = [table for query in queries for table in query.tables if len(table.parts) == 1]
    return list(dict.fromkeys(table.parts[0].lower() for table in tables))


def _is_query(sql: str) -> bool:
    from kalamdb_lab.sql.parse import parse_script
    from kalamdb_lab.sql.statements import Select

    parsed = parse_script(sql)
    return len(parsed) == 1 and isinstance(parsed[0], Select)
