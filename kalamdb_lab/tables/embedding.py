"""Columns that an embedding function fills: which they are, and the vectors of a statement.

A function may take seconds. So it is called before the write lock is taken; what turns out to be
needed while it is held is made after it was given back, and the statement begins again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from kalamdb_lab.embeddings import EmbeddingFunction, check_function
from kalamdb_lab.errors import (
    ConflictError,
    DimensionMismatchError,
    EmbeddingFunctionMissingError,
    InterruptedStatementError,
    InvalidValueError,
    KalamError,
)
from kalamdb_lab.model.datatypes import TypeKind
from kalamdb_lab.model.tables import ColumnDef, TableDef

Float32 = npt.NDArray[np.float32]
T = TypeVar("T")

CHUNK_TEXTS: Final = 1_024
"""How many texts a function gets at once; an interrupt is noticed between two calls."""

_ATTEMPTS: Final = 8
_KEPT_TEXTS: Final = 256
_KEPT_CALL_TEXTS: Final = 64


@dataclass(frozen=True, slots=True)
class EmbeddedColumn:
    """An EMBEDDING column whose vectors are made from texts by a function.

    Attributes
    ----------
    table : str
        ``namespace.table``.
    function : str
        The name of the function.
    dimension : int
        Of the column, and so of the function.
    """

    table: str
    column: str
    function: str
    dimension: int


@dataclass(frozen=True, slots=True)
class Filling:
    """An `EmbeddedColumn` of a table, and where it and its texts stand in a row."""

    embedded: EmbeddedColumn
    column: ColumnDef
    at: int
    source: ColumnDef
    source_at: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """A column that an embedding function fills, as it is listed.

    Attributes
    ----------
    table, column, source : str
        ``namespace.table``, the EMBEDDING column, and the TEXT column that it is filled from.
    function : str
        The name of the function, whose vectors have ``dimension`` components.
    is_registered : bool
        True if the function was given since the database was opened.
    """

    table: str
    column: str
    source: str
    function: str
    dimension: int
    is_registered: bool


def embedded_column(table: str, column: ColumnDef) -> EmbeddedColumn | None:
    """Return what is known of the function of a column of ``namespace.table``, if it has one."""
    if column.embedding is None or column.data_type.kind is not TypeKind.EMBEDDING:
        return None
    return EmbeddedColumn(table, column.name, column.embedding.function, column.data_type.dimension)


def fillings(table: TableDef) -> tuple[Filling, ...]:
    """Return the columns that are filled from a column that is still there and still TEXT."""
    found = []
    for at, column in enumerate(table.columns):
        if column.embedding is None:
            continue
        embedded = embedded_column(str(table.table_id), column)
        source_id = column.embedding.column_id
        for source_at, source in enumerate(table.columns):
            is_text = source.data_type.kind is TypeKind.TEXT
            if embedded is not None and source.column_id == source_id and is_text:
                found.append(Filling(embedded, column, at, source, source_at))
    return tuple(found)


class Embedder(Protocol):
    """Makes the vectors of texts for a column."""

    def vectors(self, column: EmbeddedColumn, texts: Sequence[str]) -> Float32:
        """Return the (n, dimension) vectors of n texts, in their order.

        Raises
        ------
        EmbeddingFunctionMissingError
            No function of this name and dimension was registered here.
        KalamError
            The function fails, or returns what are no such vectors.
        """
        ...


class EmbeddingFunctions:
    """The functions that were registered, by name and dimension; safe for threads.

    The vectors of the texts asked for last are kept, in each of these objects for itself, so
    that no session can tell from the time it takes what another one asked.

    Parameters
    ----------
    shared : EmbeddingFunctions, optional
        Where functions are looked up that are not here.
    """

    def __init__(self, shared: EmbeddingFunctions | None = None) -> None:
        self._shared = shared
        self._functions: dict[tuple[str, int], EmbeddingFunction] = {}
        self._lock = threading.Lock()
        self._recent: OrderedDict[tuple[str, int, str], tuple[EmbeddingFunction, Float32]] = (
            OrderedDict()
        )

    def provide(self, function: EmbeddingFunction) -> None:
        """Let a function be used for the columns that name it."""
        check_function(function)
        self._functions[function.name, int(function.dimension)] = function

    def find(self, name: str, dimension: int) -> EmbeddingFunction | None:
        """Return a function, if it is registered."""
        found = self._functions.get((name, dimension))
        if found is None and self._shared is not None:
            return self._shared.find(name, dimension)
        return found

    def vectors(self, column: EmbeddedColumn, texts: Sequence[str]) -> Float32:
        """Return the vectors of texts; the promise is that of `Embedder`."""
        function = self.find(column.function, column.dimension)
        if function is None:
            raise EmbeddingFunctionMissingError(column.table, column.column, column.function)
        if len(texts) > _KEPT_CALL_TEXTS:
            return _computed(function, column.dimension, texts)
        key = (column.function, column.dimension)
        with self._lock:
            kept = {text: self._recent.get((*key, text)) for text in texts}
        known = {
            text: found[1]
            for text, found in kept.items()
            if found is not None and found[0] is function
        }
        missing = [text for text in kept if text not in known]
        if missing:
            made = _computed(function, column.dimension, missing)
            known.update(zip(missing, made, strict=True))
        with self._lock:
            for text, vector in known.items():
                self._recent[*key, text] = (function, vector)
                self._recent.move_to_end((*key, text))
            while len(self._recent) > _KEPT_TEXTS:
                self._recent.popitem(last=False)
        return _stacked([known[text] for text in texts], column.dimension)


class Unread:
    """An `Embedder` for statements that are described and not run: no function is called."""

    def vectors(self, column: EmbeddedColumn, texts: Sequence[str]) -> Float32:
        """Return vectors that nobody looks at."""
        return np.zeros((len(texts), column.dimension), np.float32)


NO_FUNCTIONS: Final = EmbeddingFunctions()
"""Of a request that no session made."""


class Remembered:
    """An `Embedder` that asks another one for each text once, as long as it lives."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[tuple[EmbeddedColumn, str], Float32] = {}

    def vectors(self, column: EmbeddedColumn, texts: Sequence[str]) -> Float32:
        """Return the vectors of texts; the promise is that of `Embedder`."""
        missing = [text for text in dict.fromkeys(texts) if (column, text) not in self._known]
        if missing:
            made = self._embedder.vectors(column, missing)
            self._known.update(
                ((column, text), row) for text, row in zip(missing, made, strict=True)
            )
        return _stacked([self._known[column, text] for text in texts], column.dimension)


class _VectorsNeededError(Exception):
    """A change that holds the write lock needs vectors that nobody has made yet."""

    def __init__(self, column: EmbeddedColumn, texts: list[str]) -> None:
        super().__init__()
        self.column, self.texts = column, texts


class StatementVectors:
    """The `Embedder` of one statement that writes: each text is embedded once, without the lock.

    Parameters
    ----------
    embedder : Embedder
        Makes them.
    interruption
        Has ``running(stop)``: how another thread stops what runs.
    """

    def __init__(self, embedder: Embedder, interruption: Any) -> None:
        self._embedder = embedder
        self._interruption = interruption
        self._known: dict[tuple[str, int], dict[str, Float32]] = {}
        self._is_locked = False

    def vectors(self, column: EmbeddedColumn, texts: Sequence[str]) -> Float32:
        """Return the vectors of texts; the promise is that of `Embedder`."""
        known = self._known.setdefault((column.function, column.dimension), {})
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing and self._is_locked:
            raise _VectorsNeededError(column, missing)
        if missing:
            made = self._make(column, missing)
            if len(missing) == len(texts):
                return made
        return _stacked([known[text] for text in texts], column.dimension)

    def settled(self, change: Callable[[], T], table: TableDef) -> T:
        """Run what takes the write lock, and run it again when it needed vectors.

        Nothing of a run that did stays: what it staged goes with the commit that it broke off.

        Raises
        ------
        ConflictError
            The texts were others each time.
        """
        # A run ends at the first column without its vectors.
        for _ in range(_ATTEMPTS + len(fillings(table))):
            self._is_locked = True
            try:
                return change()
            except _VectorsNeededError as needed:
                column, texts = needed.column, needed.texts
            finally:
                self._is_locked = False
            self._make(column, texts)
        raise ConflictError(
            f"Conflict: texts of {table.table_id} changed while their vectors were made; "
            "run it again"
        )

    def _make(self, column: EmbeddedColumn, texts: list[str]) -> Float32:
        made = np.empty((len(texts), column.dimension), np.float32)
        known = self._known.setdefault((column.function, column.dimension), {})
        stopped = threading.Event()
        self._interruption.running(stopped.set)
        try:
            for at in range(0, len(texts), CHUNK_TEXTS):
                if stopped.is_set():
                    raise InterruptedStatementError
                chunk = texts[at : at + CHUNK_TEXTS]
                vectors = made[at : at + CHUNK_TEXTS]
                vectors[:] = self._embedder.vectors(column, chunk)
                known.update(zip(chunk, vectors, strict=True))
            if stopped.is_set():
                raise InterruptedStatementError
        finally:
            self._interruption.running(None)
        return made


def _computed(function: EmbeddingFunction, dimension: int, texts: Sequence[str]) -> Float32:
    """Return what a function makes of texts, none of them twice, checked."""
    name, distinct = function.name, list(dict.fromkeys(texts))
    try:
        with np.errstate(over="ignore"):  # it becomes an infinity, which is refused below
            vectors = np.array(function.embed(distinct), np.float32, ndmin=1)
    except KalamError:
        raise
    except Exception as fault:  # noqa: BLE001 - whatever the user's function raises
        said = f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
        raise InvalidValueError(f"Embedding function '{name}' failed: {said}") from None
    if vectors.shape != (len(distinct), dimension):
        raise DimensionMismatchError(
            f"Embedding function '{name}' must return an array of shape "
            f"({len(distinct)}, {dimension}), not {vectors.shape}"
        )
    if not np.isfinite(vectors).all():
        raise InvalidValueError(
            f"Embedding function '{name}' returned a component that is not a finite number"
        )
    if len(distinct) == len(texts):
        return vectors
    place = {text: at for at, text in enumerate(distinct)}
    return vectors[[place[text] for text in texts]]


def _stacked(vectors: Sequence[Float32], dimension: int) -> Float32:
    if not vectors:
        return np.empty((0, dimension), np.float32)
    return np.stack(vectors)
