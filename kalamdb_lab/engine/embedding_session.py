"""What a session says of columns that are filled by embedding functions."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from kalamdb_lab.embeddings import EmbeddingFunction, check_function
from kalamdb_lab.engine.pipeline import Pipeline, RequestFor
from kalamdb_lab.errors import NotFoundError
from kalamdb_lab.model.roles import Role
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.statements import AlterTable, EmbedColumn
from kalamdb_lab.tables.embedding import Embedding, EmbeddingFunctions, fillings

if TYPE_CHECKING:
    from kalamdb_lab.engine.app_context import AppContext


class EmbeddingSession:
    """The part of a `Session` that registers embedding functions."""

    user: str
    _context: AppContext
    _functions: EmbeddingFunctions
    _lock: threading.RLock
    _pipeline: Pipeline
    _request: RequestFor

    def embed(
        self,
        table: str,
        column: str,
        *,
        source: str,
        function: EmbeddingFunction,
        replace: bool = False,
    ) -> Result:
        """Fill an EMBEDDING column from the texts of another column from now on.

        INSERT makes the vector of a row that has a text and leaves the column out (an explicit
        NULL stays), UPDATE that of a row whose text it changes; a text beside the column in a
        distance is embedded too. Rows that are there stay as they are: ``UPDATE t SET column =
        DEFAULT WHERE column IS NULL`` makes the vectors that are missing.

        The name of the function is stored with the column. The function is not: a process that
        opens the database later gives it again, in the same words, and until then the column
        must be given vectors and is searched by vectors. One that is given serves all columns
        with its name and dimension, and all sessions of this opening.

        Parameters
        ----------
        table : str
            ``table`` or ``namespace.table``, of kind USER, SHARED or STREAM.
        column, source : str
            An EMBEDDING column with the dimension of the function, and a TEXT column.
        function : EmbeddingFunction
        replace : bool
            Let a column that holds vectors of another function, or of another source, keep
            them; nothing is embedded anew.

        Raises
        ------
        PermissionDeniedError
            The role may not alter tables. Any role may give a function that the column names
            already, for its own sessions only.
        DimensionMismatchError, TypeMismatchError, NotFoundError
        InUseError
            The column holds vectors of another function and ``replace`` is False.
        """
        check_function(function)
        action = EmbedColumn(column, source, function.name, int(function.dimension), replace)
        parts = tuple(table.split("."))
        with self._lock:
            may_alter = self._request(()).context.role >= Role.DBA
            if not may_alter and self._names_it(parts, action):
                self._functions.provide(function)
                said = f"'{function.name}' is registered for the sessions of '{self.user}'"
                return Result.of_message("ALTER TABLE", said)
            statement = AlterTable(text="", line=1, column=1, table=parts, action=action)
            result = self._pipeline.run_statement(statement, self._request)
            self._context.embedding_functions.provide(function)
            return result

    def _names_it(self, parts: tuple[str, ...], action: EmbedColumn) -> bool:
        """Return whether a column is filled by this function already; definitions are public."""
        with suppress(NotFoundError):
            table = self._pipeline.definition(parts, self._request(()))
            return any(
                filling.column == table.column(action.name)
                and filling.source == table.column(action.source)
                and filling.embedded.function == action.function
                and filling.embedded.dimension == action.dimension
                for filling in fillings(table)
            )
        return False

    def embeddings(self) -> list[Embedding]:
        """Return the columns that functions fill, by table, and whether their function is here."""
        return [
            Embedding(
                filling.embedded.table,
                filling.embedded.column,
                filling.source.name,
                filling.embedded.function,
                filling.embedded.dimension,
                self._functions.find(filling.embedded.function, filling.embedded.dimension)
                is not None,
            )
            for namespace in self._pipeline.namespaces(self._request(()))
            for table in self._pipeline.definitions(namespace, self._request(()))
            for filling in fillings(table)
        ]
