"""Results and in-memory data between ibis and the engine's Arrow."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import ibis.expr.datatypes as dt
import pandas as pd
import pyarrow as pa
from ibis.formats.pandas import PandasData
from ibis.formats.pyarrow import PyArrowData, PyArrowType

from kalamdb_lab.arrow.arrays import coerce_array, python_from_array
from kalamdb_lab.arrow.results import canonical_column
from kalamdb_lab.arrow.schemas import arrow_type, kalam_type, logical_field
from kalamdb_lab.ibis_backend.datatypes import kalam_type_of
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind

if TYPE_CHECKING:
    import ibis.expr.schema as sch


class KalamArrowData(PyArrowData):  # type: ignore[misc]
    """Arrow results in the types of an expression."""

    @classmethod
    def convert_scalar(cls, scalar: Any, dtype: dt.DataType) -> Any:
        if dtype.is_null():
            return pa.scalar(None)
        return super().convert_scalar(scalar, dtype)

    @classmethod
    def convert_column(cls, column: Any, dtype: dt.DataType) -> Any:
        if dtype.is_null():
            return pa.nulls(len(column))
        return super().convert_column(column, dtype)


class KalamPandasData(PandasData):  # type: ignore[misc]
    """Pandas results in the types of an expression."""

    @staticmethod
    def convert_Array(s: Any, dtype: dt.DataType, pandas_type: Any) -> Any:  # noqa: N802, ARG004
        return s.replace(float("nan"), None)


def plain_columns(table: pa.Table) -> pa.Table:
    """Return a result with UUIDs as text, the form that ibis' converters take."""
    for at, field in enumerate(table.schema):
        own = kalam_type(field)
        if _holds_uuid(own):
            column = _with_uuid_text(table.column(at), own)
            table = table.set_column(at, pa.field(field.name, column.type), column)
    return table


def _holds_uuid(data_type: KalamDataType) -> bool:
    return data_type.kind is TypeKind.UUID or any(
        _holds_uuid(child) for _, child in data_type.children
    )


def _with_uuid_text(column: pa.ChunkedArray, data_type: KalamDataType) -> pa.ChunkedArray:
    values = [_text(value) for value in python_from_array(column, data_type)]
    return pa.chunked_array([pa.array(values, _text_type(data_type))])


def _text(value: Any) -> Any:
    match value:
        case uuid.UUID():
            return str(value)
        case dict():
            return {_text(key): _text(item) for key, item in value.items()}
        case list():
            return [_text(item) for item in value]
        case _:
            return value


def _text_type(data_type: KalamDataType) -> pa.DataType:
    match data_type.kind:
        case TypeKind.UUID:
            return pa.string()
        case TypeKind.LIST:
            return pa.list_(_text_type(data_type.item))
        case TypeKind.STRUCT:
            return pa.struct([(name, _text_type(child)) for name, child in data_type.children])
        case TypeKind.MAP:
            (_, key), (_, item) = data_type.children
            return pa.map_(_text_type(key), _text_type(item))
        case _:
            return arrow_type(data_type)


def pandas_frame(table: pa.Table, schema: sch.Schema) -> pd.DataFrame:
    """Return a result as a dataframe in the types of ``schema``."""
    columns = {
        name: column.to_pylist() if _needs_objects(column) else column.to_pandas()
        for name, column in zip(table.column_names, plain_columns(table).columns, strict=True)
    }
    frame: pd.DataFrame = KalamPandasData.convert_table(pd.DataFrame(columns), schema)
    return frame


def _needs_objects(column: pa.ChunkedArray) -> bool:
    # With nulls, pyarrow makes floats of whole numbers; ibis' converters want the values.
    return bool(pa.types.is_nested(column.type) or column.null_count)


def in_schema(batch: pa.RecordBatch, schema: sch.Schema, arrow: pa.Schema) -> pa.RecordBatch:
    """Return one batch of a result in the Arrow types of an expression's schema."""
    table = plain_columns(pa.Table.from_batches([batch]))
    columns = [
        KalamArrowData.convert_column(column, dtype)
        for column, dtype in zip(table.columns, schema.types, strict=True)
    ]
    flat = [
        column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        for column in columns
    ]
    return pa.RecordBatch.from_arrays(flat, schema=arrow)


def relation_table(data: pa.Table, schema: sch.Schema) -> pa.Table:
    """Return in-memory data as an Arrow table that carries the logical types of ``schema``.

    Raises
    ------
    TypeMismatchError, InvalidValueError, ValueOutOfRangeError
        A value does not fit its column; names the column.
    """
    columns, fields = [], []
    for at, (name, dtype) in enumerate(schema.items()):
        wanted = kalam_type_of(dtype, name)
        column = data.column(at)
        given = kalam_type(data.schema.field(at))
        if given == wanted or arrow_type(given) == arrow_type(wanted):
            column = canonical_column(column, wanted, name)
        else:
            column = pa.chunked_array(
                [
                    coerce_array(chunk, data.schema.field(at), wanted, column=name)
                    for chunk in column.chunks
                ],
                arrow_type(wanted),
            )
        columns.append(column)
        fields.append(logical_field(name, wanted, nullable=dtype.nullable))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def ibis_arrow_type(dtype: dt.DataType) -> pa.DataType:
    """Return the Arrow type that ibis gives values of a type."""
    return PyArrowType.from_ibis(dtype)
