"""The types that casts name, from sqlglot's words to ours."""

from __future__ import annotations

from typing import Final

from sqlglot import exp

from kalamdb_lab.errors import InvalidDefinitionError
from kalamdb_lab.model import datatypes
from kalamdb_lab.model.datatypes import KalamDataType

_TYPES: Final[dict[exp.DType, KalamDataType]] = {
    exp.DType.BOOLEAN: datatypes.BOOLEAN,
    exp.DType.TINYINT: datatypes.TINYINT,
    exp.DType.SMALLINT: datatypes.SMALLINT,
    exp.DType.INT: datatypes.INT,
    exp.DType.BIGINT: datatypes.BIGINT,
    exp.DType.UTINYINT: datatypes.UTINYINT,
    exp.DType.USMALLINT: datatypes.USMALLINT,
    exp.DType.UINT: datatypes.UINTEGER,
    exp.DType.UBIGINT: datatypes.UBIGINT,
    exp.DType.FLOAT: datatypes.FLOAT,
    exp.DType.DOUBLE: datatypes.DOUBLE,
    exp.DType.TEXT: datatypes.TEXT,
    exp.DType.VARBINARY: datatypes.BYTES,
    exp.DType.JSON: datatypes.JSON,
    exp.DType.TIMESTAMPNTZ: datatypes.TIMESTAMP,
    exp.DType.TIMESTAMP: datatypes.TIMESTAMP,
    exp.DType.TIMESTAMPTZ: datatypes.DATETIME,
    exp.DType.DATE: datatypes.DATE,
    exp.DType.TIME: datatypes.TIME,
    exp.DType.UUID: datatypes.UUID,
    exp.DType.INTERVAL: datatypes.INTERVAL,
}
_LENGTH_IGNORED = frozenset({exp.DType.TEXT, exp.DType.VARBINARY})


def data_type_of(node: exp.Expr) -> KalamDataType:
    """Return the type that a cast names.

    Raises
    ------
    InvalidDefinitionError
        The type is unknown, or has parameters that it does not take.
    """
    kind, inner = node.args.get("this"), node.expressions
    plain = _TYPES.get(kind) if isinstance(kind, exp.DType) else None
    if plain is not None and (not inner or kind in _LENGTH_IGNORED):
        return plain
    if kind is exp.DType.DECIMAL:
        numbers = [_whole_number(part, node) for part in inner[:2]]
        return datatypes.decimal(*numbers) if numbers else datatypes.DECIMAL
    if kind is exp.DType.ARRAY and len(inner) == 1:
        item = data_type_of(inner[0])
        length = node.args.get("values")
        if not length:
            return datatypes.list_of(item)
        if item == datatypes.FLOAT and len(length) == 1:
            return datatypes.embedding(_whole_number(length[0], node))
        raise InvalidDefinitionError(f"Arrays have no fixed length; use {item}[]")
    if kind is exp.DType.MAP and len(inner) == 2:
        return datatypes.map_of(*(data_type_of(part) for part in inner))
    if kind is exp.DType.STRUCT and all(isinstance(part, exp.ColumnDef) for part in inner):
        return datatypes.struct_of((part.name, data_type_of(part.args["kind"])) for part in inner)
    raise _unknown_type(node)


def _whole_number(node: exp.Expr, data_type: exp.Expr) -> int:
    inner = node.this if isinstance(node, exp.DataTypeParam) else node
    text = inner.name if isinstance(inner, exp.Literal) and not node.args.get("expression") else ""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise _unknown_type(data_type)
    return int(text)


def _unknown_type(node: exp.Expr) -> InvalidDefinitionError:
    try:
        text = node.sql(dialect="duckdb", comments=False)
    except Exception:  # noqa: BLE001 - the generator raises anything on an odd tree
        text = str(node.args.get("this"))
    return InvalidDefinitionError(f"Unknown type '{text.upper()[:40]}'")
