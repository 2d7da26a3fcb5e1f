"""Distances between vectors and the nearest rows, as ibis expressions.

A vector that is known is one text in them, ``COSINE_DISTANCE(v, '[0.1,2]')``: an array literal
of ibis would be a node per component, and would not say how long it is. To run an expression is
to bind it as a parameter, so one that differs in its vector alone is not compiled again.
"""

from __future__ import annotations

import struct
from functools import partial
from numbers import Integral
from typing import Any, Final

import ibis
import ibis.expr.datashape as ds
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.rules as rlz
import ibis.expr.types as ir
from ibis.common.annotations import attribute
from ibis.common.deferred import Call, Deferred, Just

from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidOptionError,
    NotSupportedError,
    TypeMismatchError,
)
from kalamdb_lab.model.datatypes import MAX_EMBEDDING_DIMENSION, embedding
from kalamdb_lab.model.values import to_storage

_FUNCTIONS: Final = {
    "cosine": "cosine_distance",
    "l2": "l2_distance",
    "inner_product": "inner_product",
}


class VectorText(str):
    """The text of a vector. Where expressions are printed, only its length is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<vector of {self.count(',') + 1}>"


class GivenVector(ops.Value):  # type: ignore[misc]
    """A vector, or a text that is to be embedded, as text."""

    text: str

    shape = ds.scalar
    dtype = dt.string


class VectorParameter(ops.Value):  # type: ignore[misc]
    """The place of a `GivenVector`, counted from 1."""

    number: int

    shape = ds.scalar
    dtype = dt.string


class VectorDistance(ops.Value):  # type: ignore[misc]
    """One of the functions of SQL over two vectors; it gives a DOUBLE or NULL."""

    arg: ops.Value[dt.Array]
    vector: ops.Value
    function: str

    dtype = dt.float64

    @attribute  # type: ignore[untyped-decorator]
    def shape(self) -> Any:
        """A column, unless it is of two scalars."""
        return rlz.highest_precedence_shape([self.arg, self.vector])

    @property
    def name(self) -> str:
        """What the column is called without a name of its own, such as ``l2_distance(v)``."""
        return f"{self.function}({self.arg.name})"


def cosine_distance(column: Any, vector: Any, /) -> ir.FloatingValue:
    """Return 1 minus the cosine of the angle between vectors: ``COSINE_DISTANCE`` of SQL.

    Parameters
    ----------
    column : ibis column
        Of type EMBEDDING(n), which is ``array<float32, n>`` in ibis; ``_.v`` does, too.
    vector : list, tuple, 1-D array, ibis column or str
        n numbers; another EMBEDDING(n); or a text, which the embedding function of the column
        embeds, if it has one, and which is a vector such as ``[0.1, 2]`` else.

    Returns
    -------
    ibis column of float64
        0 for equal directions, 1 for a right angle, 2 for opposite ones; NULL for a vector that
        is NULL or zero.

    Raises
    ------
    DimensionMismatchError, InvalidValueError, TypeMismatchError
        The vectors do not go together; at once if the column says its dimension, else when the
        expression runs.
    """
    return _distance("cosine_distance", column, vector)


def l2_distance(column: Any, vector: Any, /) -> ir.FloatingValue:
    """Return the Euclidean distance of vectors: ``L2_DISTANCE`` of SQL.

    Parameters and errors are those of `cosine_distance`. NULL for a vector that is NULL.
    """
    return _distance("l2_distance", column, vector)


def inner_product(column: Any, vector: Any, /) -> ir.FloatingValue:
    """Return the inner product of vectors, which grows with likeness: ``INNER_PRODUCT`` of SQL.

    Parameters and errors are those of `cosine_distance`. NULL for a vector that is NULL.
    """
    return _distance("inner_product", column, vector)


def nearest(
    table: ir.Table,
    column: Any,
    vector: Any,
    k: int = 10,
    *,
    metric: str = "cosine",
    distance: str = "distance",
) -> ir.Table:
    """Return the k rows whose vectors are nearest to one, best first.

    It is ``ORDER BY COSINE_DISTANCE(column, vector) LIMIT k`` of SQL: what filters and joins
    before it leave out is not ranked, rows without a distance never come, and equal distances go
    by primary key. Filters and joins after it see the k rows only.

    Parameters
    ----------
    table : ibis table
        A table of KalamDB Lab, or what was filtered, selected or joined from it.
    column : str or ibis column
        Its EMBEDDING column: ``"v"``, ``table.v`` or ``_.v``.
    vector : list, tuple, 1-D array or str
        As for `cosine_distance`.
    k : int
        How many rows at most.
    metric : {"cosine", "l2", "inner_product"}
    distance : str
        The name of the column to add: the value of the function of that metric. By
        ``inner_product`` the rows come in descending order of it.

    Raises
    ------
    DimensionMismatchError, InvalidValueError, TypeMismatchError
        As for `cosine_distance`.
    InvalidOptionError
        The metric or ``k`` is none.
    AlreadyExistsError
        The table has a column called ``distance``.

    Examples
    --------
    >>> t = con.table("notes")
    >>> kalam.nearest(t.filter(t.topic == "birds"), "v", query, k=5).to_pandas()
    """
    if not isinstance(table, ir.Table):
        raise TypeMismatchError("nearest takes an ibis table; for SQL there is session.nearest")
    function = _FUNCTIONS.get(str(metric))
    if function is None:
        raise InvalidOptionError(
            f"Unknown metric '{str(metric)[:40]}'; use cosine, l2 or inner_product"
        )
    count = _count(k)
    if distance in table.columns:
        raise AlreadyExistsError("Column", distance)
    (vectors,) = table.bind(column)
    if vector is None:
        raise TypeMismatchError("nearest takes a vector or a text, not None")
    if _is_two_dimensional(vector):
        raise NotSupportedError("nearest takes one vector; use session.nearest for a batch")
    ranked = table.mutate(**{distance: _distance(function, vectors, vector)})
    order = ibis.desc(distance) if function == "inner_product" else ibis.asc(distance)
    return ranked.order_by(order).limit(count)


def without_vectors(expr: ir.Expr) -> tuple[ir.Expr, tuple[str, ...]]:
    """Return an expression with parameters in the places of its vectors, and these as text."""
    op = expr.op()
    given = op.find(GivenVector)
    if not given:
        return expr, ()
    places = {vector: VectorParameter(number) for number, vector in enumerate(given, start=1)}
    return op.replace(places).to_expr(), tuple(vector.text for vector in given)


def _count(k: object) -> int:
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise InvalidOptionError("k must be a whole number of at least 1")
    return int(k)


def _distance(function: str, column: Any, vector: Any) -> Any:
    if isinstance(column, Deferred) or isinstance(vector, Deferred):
        later = vector if isinstance(vector, Deferred) else Just(vector)
        made = Call(partial(_distance, function), column, later)
        return Deferred(made, repr=f"<{function} of {column!r}>")
    if not isinstance(column, ir.Value):
        raise TypeMismatchError(f"{function} takes an EMBEDDING column, such as table.v or _.v")
    name = column.op().name if isinstance(column.op(), ops.Field) else None
    dtype = column.type()
    if not dtype.is_array():
        is_named = "This expression" if name is None else f"Column '{name}'"
        raise TypeMismatchError(f"{is_named} is not an EMBEDDING column")
    return VectorDistance(
        column, _operand(function, vector, dtype.length, name), function
    ).to_expr()


def _operand(function: str, vector: Any, dimension: int | None, column: str | None) -> ops.Value:
    if isinstance(vector, ir.Value):
        length = getattr(vector.type(), "length", None)
        if dimension is not None and length is not None and length != dimension:
            to_storage([0.0] * length, embedding(dimension), column=column)  # raises
        return vector.op()
    if vector is None:
        return ibis.null("string").op()
    if isinstance(vector, str):
        return GivenVector(vector)
    if _is_two_dimensional(vector):
        raise TypeMismatchError(f"{function} takes one vector, a list of numbers")
    components = _listed(vector)
    if dimension is None and isinstance(components, list) and components:
        dimension = min(len(components), MAX_EMBEDDING_DIMENSION)
    packed = to_storage(components, embedding(dimension or 1), column=column)
    assert isinstance(packed, bytes)
    count = len(packed) // 4
    # Nine digits tell all float32 apart, and are half the text of as many float64.
    text = ("%.9g," * count % struct.unpack(f"<{count}f", packed))[:-1]
    return GivenVector(VectorText(f"[{text}]"))


def _listed(vector: Any) -> Any:
    """Return what numpy, pandas, pyarrow and Python call a row of numbers as a list."""
    for method in ("to_pylist", "tolist", "as_py"):
        if hasattr(vector, method):
            return getattr(vector, method)()
    return list(vector) if isinstance(vector, tuple) else vector


def _is_two_dimensional(vector: Any) -> bool:
    if isinstance(vector, str | ir.Expr | Deferred):
        return False
    shape = getattr(vector, "shape", None)
    if isinstance(shape, tuple):
        return len(shape) > 1
    if isinstance(vector, list | tuple):
        return bool(vector) and (
            isinstance(vector[0], list | tuple) or bool(getattr(vector[0], "shape", ()))
        )
    kind = str(getattr(vector, "type", ""))  # of Arrow: an array of lists
    return "list<" in kind and hasattr(vector, "to_pylist")
