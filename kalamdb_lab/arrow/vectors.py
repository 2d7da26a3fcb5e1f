"""Vectors of numpy as Arrow arrays, without a loop over rows or a copy that is not needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from kalamdb_lab.model import faults
from kalamdb_lab.model.datatypes import KalamDataType

Float32s: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

_shape_and_type = attrgetter("ndim", "size", "dtype")


def vector_array(values: Any, data_type: KalamDataType, column: str) -> pa.Array | None:
    """Return a numpy array (n, d), or n arrays (d,) and missing ones, as lists of float32.

    None where the values are something else, or one of the arrays does not fit: then they are
    taken one by one. Components are not checked.

    Parameters
    ----------
    values : object
        A column as users give it: an array, a list, a Series.

    Raises
    ------
    DimensionMismatchError
        An array (n, 0).
    """
    if isinstance(values, np.ma.MaskedArray):
        return None
    if isinstance(values, np.ndarray) and values.ndim == 2:
        if not _is_numeric(values.dtype):
            return None
        if values.size:
            rows = _float32(np.asarray(values))
            return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        if len(values):
            raise faults.wrong_dimension(data_type, 0, column)
        return pa.array([], pa.list_(pa.float32(), data_type.dimension))
    if isinstance(values, (list, tuple)) or str(getattr(values, "dtype", "")) == "object":
        return _stacked(list(values), data_type.dimension)
    return None


def _stacked(values: list[Any], dimension: int) -> pa.Array | None:
    kinds = set(map(type, values))
    if np.ndarray not in kinds or kinds - {np.ndarray, type(None), float}:
        return None
    present = None
    if len(kinds) > 1:
        present = np.fromiter((type(value) is np.ndarray for value in values), np.bool_)
        # Dataframes have NaN where something is missing; other numbers are no vectors.
        if not all(math.isnan(value) for value in values if type(value) is float):
            return None
        values = [value for value in values if type(value) is np.ndarray]
    found = set(map(_shape_and_type, values))
    if any((ndim, size) != (1, dimension) or not _is_numeric(dtype) for ndim, size, dtype in found):
        return None
    components = _joined(values, (dtype for _, _, dtype in found))
    if present is None:
        return pa.FixedSizeListArray.from_arrays(pa.array(components), dimension)
    rows = np.zeros((len(present), dimension), np.float32)
    rows[present] = components.reshape(-1, dimension)
    missing = pa.array(~present)
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), dimension, mask=missing)


def _joined(arrays: list[Any], dtypes: Iterable[np.dtype[Any]]) -> Float32s:
    if any(dtype.kind != "f" for dtype in dtypes):
        return _float32(np.concatenate(arrays))
    with np.errstate(over="ignore"):
        return np.concatenate(arrays, dtype=np.float32, casting="same_kind")


def _float32(values: np.ndarray[Any, Any]) -> Float32s:
    """Round to float32 as single values are: whole numbers go by float64. Too large is infinite."""
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


def _is_numeric(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fiu" and dtype.itemsize <= 8
