"""Dataframes and other tables that users hand over, as Arrow tables of our own types."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.arrow.results import canonical_column, column_type
from kalamdb_lab.arrow.schemas import logical_field
from kalamdb_lab.arrow.vectors import vector_array
from kalamdb_lab.errors import InvalidDefinitionError, TypeMismatchError
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind
from kalamdb_lab.model.values import storage_converter

_POLARS_ONLY = ("Object", "Int128", "UInt128")


def normalise_table(data: object, *, wanted: Mapping[str, KalamDataType] | None = None) -> pa.Table:
    """Return a dataframe or the like as an Arrow table whose columns all have a Kalam type.

    Parameters
    ----------
    data : object
        A dataframe of pandas or polars, a table, batch or reader of pyarrow, any object with
        ``__arrow_c_stream__``, a dict of columns, or a list of dicts, one per row.
    wanted : mapping of str to KalamDataType, optional
        Types by column name, matched without regard to case. Python objects (not arrays) are
        read as these: a dict as JSON, a text as UUID. Other columns keep their own type.

    Returns
    -------
    pyarrow.Table
        Columns in the order given; each field carries its logical type. A pandas index becomes
        columns if it has names and is dropped if not.

    Raises
    ------
    TypeMismatchError
        ``data`` is no table, or a column has no type; names the column.
    InvalidDefinitionError
        Two columns have one name.
    """
    types = {name.lower(): data_type for name, data_type in (wanted or {}).items()}
    table = _table(data, types)
    seen: set[str] = set()
    columns: list[pa.ChunkedArray] = []
    fields: list[pa.Field] = []
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.name.lower() in seen:
            raise InvalidDefinitionError(f"Column '{field.name}' appears twice")
        seen.add(field.name.lower())
        own = column_type(field, column)
        columns.append(canonical_column(column, own, field.name))
        fields.append(logical_field(field.name, own))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def left_out_rows(data: object, columns: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of the dicts without a key, by the column that it would be.

    `normalise_table` has None there, as for a key with None. Empty for all other data.

    Parameters
    ----------
    columns : sequence of str
        Those that `normalise_table` returned for the data.
    """
    if not isinstance(data, Sequence) or not data or not isinstance(data[0], Mapping):
        return {}
    left: dict[str, list[int]] = {}
    for at, count in enumerate(map(len, data)):
        if count != len(columns):
            has = set(map(str, data[at]))
            for name in columns:
                if name not in has:
                    left.setdefault(name, []).append(at)
    return left


def _table(data: Any, types: Mapping[str, KalamDataType]) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    library = type(data).__module__.partition(".")[0]
    if library == "pandas" and hasattr(data, "columns"):
        return _from_pandas(data, types)
    if library == "polars":
        data = data.collect() if hasattr(data, "collect") else data
        for name, dtype in getattr(data, "schema", {}).items():
            if str(dtype) in _POLARS_ONLY:
                raise TypeMismatchError(f"Column '{name}': there is no type for {dtype} values")
    if hasattr(data, "__arrow_c_stream__") and not hasattr(data, "_export_to_c"):
        try:
            return pa.table(data)
        except (pa.ArrowException, TypeError):
            raise _no_table(data) from None
    if isinstance(data, Mapping):
        return _from_columns([(str(name), column) for name, column in data.items()], types)
    if isinstance(data, Sequence) and data and all(isinstance(row, Mapping) for row in data):
        names = dict.fromkeys(name for row in data for name in row)
        columns = [(str(name), [row.get(name) for row in data]) for name in names]
        return _from_columns(columns, types)
    raise _no_table(data)


def _no_table(data: object) -> TypeMismatchError:
    return TypeMismatchError(
        f"{type(data).__name__} is not a table; give a dataframe, an Arrow table, a dict of "
        "columns or a list of dicts"
    )


def _from_pandas(frame: Any, types: Mapping[str, KalamDataType]) -> pa.Table:
    named = [name for name in frame.index.names if name is not None]
    if named and len(named) == len(frame.index.names):
        index = [(str(name), frame.index.get_level_values(name)) for name in named]
    else:
        index = []
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise TypeMismatchError("Column names of several levels are not supported; flatten them")
    columns = [(str(name), frame.iloc[:, at]) for at, name in enumerate(frame.columns)]
    return _from_columns(index + columns, types)


def _from_columns(
    columns: Sequence[tuple[str, Any]], types: Mapping[str, KalamDataType]
) -> pa.Table:
    fields: list[pa.Field] = []
    arrays: list[pa.Array | pa.ChunkedArray] = []
    for name, values in columns:
        wanted = types.get(name.lower())
        vectors = None
        if wanted is not None and wanted.kind is TypeKind.EMBEDDING:
            vectors = vector_array(values, wanted, name)
        if vectors is not None:
            arrays.append(vectors)
            fields.append(pa.field(name, vectors.type))
        elif wanted is not None and _holds_objects(values):
            convert = storage_converter(wanted)
            stored = [convert(_missing(value), name) for value in values]
            arrays.append(array_from_storage(stored, wanted))
            fields.append(logical_field(name, wanted))
        else:
            arrays.append(_array(name, values))
            fields.append(pa.field(name, arrays[-1].type))
    if len({len(array) for array in arrays}) > 1:
        raise TypeMismatchError("The columns have different numbers of values")
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _holds_objects(values: Any) -> bool:
    """Return whether these are Python objects, whose type is not settled yet."""
    return isinstance(values, (list, tuple)) or str(getattr(values, "dtype", "")) == "object"


def _array(name: str, values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise TypeMismatchError(f"Column '{name}': a column is a list or an array of values")
    if getattr(values, "ndim", 1) > 2:
        raise TypeMismatchError(
            f"Column '{name}': an array of {values.ndim} axes is no column; give (rows, dimension)"
        )
    try:
        if type(values).__module__.partition(".")[0] == "polars":
            return pa.chunked_array(values)
        if isinstance(values, np.ndarray) and not values.dtype.isnative:
            values = values.astype(values.dtype.newbyteorder("="))
        if getattr(values, "ndim", 1) == 2:
            rows = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
            return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        # Only dataframes mean a missing value by NaN.
        return pa.array(values, from_pandas=hasattr(values, "dtype"))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise TypeMismatchError(f"Column '{name}': its values have no common type") from None


def _missing(value: object) -> object:
    """Return None for NaN, which stands for a missing value among Python objects."""
    return None if isinstance(value, float) and math.isnan(value) else value
