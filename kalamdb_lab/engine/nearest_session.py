"""The rows nearest to vectors, without SQL around them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from kalamdb_lab.engine.conditions import column_of, condition_of, quoted
from kalamdb_lab.engine.pipeline import Pipeline, RequestFor, listed
from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidOptionError,
    NotSupportedError,
    TypeMismatchError,
)
from kalamdb_lab.model.datatypes import TypeKind
from kalamdb_lab.query.batches import Batch, ranked
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.statements import Select
from kalamdb_lab.tables.definition import column_not_found

if TYPE_CHECKING:
    import threading

    import pyarrow as pa

    from kalamdb_lab.engine.app_context import AppContext
    from kalamdb_lab.engine.session import Session

_FUNCTIONS: Final = {
    "cosine": ("COSINE_DISTANCE", ""),
    "l2": ("L2_DISTANCE", ""),
    "inner_product": ("INNER_PRODUCT", " DESC"),
}


class NearestSession:
    """The part of a `Session` that searches vectors."""

    _context: AppContext
    _pipeline: Pipeline
    _lock: threading.RLock
    _request: RequestFor

    def nearest(
        self,
        table: str,
        column: str,
        vectors: object,
        k: int = 10,
        *,
        metric: str = "cosine",
        where: str | None = None,
        params: Sequence[object] | None = None,
        columns: Sequence[str] | None = None,
        distance: str = "distance",
    ) -> Result:
        """Return the rows whose vectors are nearest to one vector, or to each of several.

        The rows are those that ``SELECT ... FROM table WHERE where ORDER BY
        COSINE_DISTANCE(column, vector) LIMIT k`` gives for each vector: exact, but for the stated
        recall of an ANN index, with the scope, rights and snapshot of a SELECT. Several vectors
        are searched in one pass, which takes a fraction of the time that they take one by one.

        Parameters
        ----------
        table : str
            ``table`` or ``namespace.table``: a USER, SHARED or STREAM table.
        column : str
            An EMBEDDING column of it.
        vectors : array, list or str
            One vector: a list of numbers, an array of shape (d,), a text. Or several: a list of
            such, or an array of shape (n, d); for n = 0 no row is found. A text that is no
            ``[...]`` is embedded by the embedding function of the column.
        k : int
            How many rows at most, for each vector.
        metric : str
            ``cosine``, ``l2`` or ``inner_product``.
        where : str, optional
            A condition of SQL that rows must meet before they are ranked.
        params : sequence, optional
            Values of its placeholders.
        columns : sequence of str, optional
            Which columns of the table to return; by default all.
        distance : str
            The name of the column with the distances.

        Returns
        -------
        Result
            Vector by vector, the nearest row first, equal distances by primary key. For several
            vectors the first column is ``query`` (BIGINT), the number of the vector from 0; then
            the columns, and the distance (DOUBLE): what COSINE_DISTANCE, L2_DISTANCE or
            INNER_PRODUCT gives. ``Result.searches`` says what the search did.

        Raises
        ------
        NotFoundError, TypeMismatchError, NotSupportedError
            The column is not there or holds no vectors; the table is no table of ours; the
            condition changes by itself or measures distances, as only a SELECT may.
        DimensionMismatchError, InvalidValueError
            A vector is none of the column's.
        """
        count = _checked_count(k)
        measured = _FUNCTIONS.get(str(metric))
        if measured is None:
            raise InvalidOptionError(
                f"Unknown metric '{str(metric)[:40]}'; use cosine, l2 or inner_product"
            )
        several, is_numbered = _several(vectors)
        _check_name(distance)
        given = listed(params)
        with self._lock:
            known = cast("Session", self).definition(table)
            searched = column_of(known, column, TypeKind.EMBEDDING)
            if not known.is_stored:
                raise NotSupportedError(
                    f"nearest searches USER, SHARED and STREAM tables; {known.table_id} is none; "
                    "use SELECT ... ORDER BY ... LIMIT"
                )
            names = [item.name for item in known.visible_columns]
            if columns is not None:
                if isinstance(columns, str):
                    raise InvalidOptionError("columns must be a list of names")
                found = [(name, known.column(str(name))) for name in columns]
                for name, item in found:
                    if item is None:
                        raise column_not_found(known, str(name))
                names = [item.name for _, item in found if item is not None]
            taken = [name.lower() for name in names]
            for added in ("query", distance) if is_numbered else (distance,):
                if added.lower() in taken:
                    raise AlreadyExistsError("Column", added, within=str(known.table_id))
                taken.append(added.lower())
            key = known.primary_key
            ties = "_seq" if key is None else key.name
            source = f"{quoted(known.table_id.namespace)}.{quoted(known.table_id.name)}"
            condition = condition_of(self._context.parsed, source, where, given)
            function, descending = measured
            shown = ", ".join(map(quoted, dict.fromkeys([*names, ties])))
            (ranking,) = self._context.parsed.statements(
                f"SELECT {shown} FROM {source}{condition.text} ORDER BY {function}("
                f"{quoted(searched.name)}, {condition.next_parameter}){descending} LIMIT {count}"
            )
            assert isinstance(ranking, Select)

            def answer(batch: Batch | None) -> pa.Table:
                if batch is None:
                    raise NotSupportedError("This condition cannot be searched; use SELECT")
                rows = ranked(batch, names, count, ties=ties, is_numbered=is_numbered)
                rows = rows.rename_columns([*rows.column_names[:-1], distance])
                return rows if len(several) else rows.slice(0, 0)

            # No vectors are one whose rows nobody sees: its columns and rights are the same.
            asked = list(several) or [np.zeros(np.asarray(several).shape[1])]
            return self._pipeline.run_batch(ranking, given, asked, self._request, answer)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidOptionError("distance must be the name of a column")


def _checked_count(k: object) -> int:
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise InvalidOptionError("k must be a whole number of at least 1")
    return int(k)


def _several(vectors: object) -> tuple[Sequence[object], bool]:
    """Return the vectors one by one, and whether several were meant."""
    is_empty_batch = isinstance(vectors, np.ndarray) and vectors.ndim == 2 and not len(vectors)
    if isinstance(vectors, np.ndarray) and (vectors.size or (is_empty_batch and vectors.shape[1])):
        if vectors.ndim == 1 and vectors.dtype.kind not in "OUS":
            return [vectors], False
        if is_empty_batch:
            return cast("Sequence[object]", vectors), True
        if vectors.ndim:
            return vectors.tolist() if vectors.dtype.kind == "U" else list(vectors), True
    if isinstance(vectors, str):
        return [vectors], False
    if isinstance(vectors, (list, tuple)) and vectors:
        if all(isinstance(item, (int, float, np.number)) for item in vectors):
            return [vectors], False
        return vectors, True
    to_numpy: Any = getattr(vectors, "to_numpy", None) or getattr(vectors, "numpy", None)
    if to_numpy is None or isinstance(vectors, np.ndarray):
        raise TypeMismatchError("nearest takes a vector, a list of vectors, or a text")
    return _several(np.asarray(to_numpy()))
