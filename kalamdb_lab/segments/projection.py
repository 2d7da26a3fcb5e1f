"""The columns of the newest schema version as SQL over a segment's Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from kalamdb_lab.model.datatypes import KalamDataType, StorageValue, TypeKind
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.model.values import from_storage
from kalamdb_lab.segments.layout import SEQ_FIELD_ID
from kalamdb_lab.segments.versions import column_at

_ENGINE_NAMES = {
    TypeKind.INT: "INTEGER",
    TypeKind.TEXT: "VARCHAR",
    TypeKind.BYTES: "BLOB",
    TypeKind.DATETIME: "TIMESTAMP WITH TIME ZONE",
}
_STATED = frozenset({TypeKind.UUID, TypeKind.JSON, TypeKind.EMBEDDING})
_INSTANTS = frozenset({TypeKind.TIMESTAMP, TypeKind.DATETIME})


def projection(
    meta: SegmentMeta, table: TableDef, columns: Sequence[ColumnDef]
) -> list[tuple[str, str]] | None:
    """Return (expression, name) for each column, which has its present type then.

    None where SQL over the file does not give what `SegmentReader.read` gives.
    """
    result: list[tuple[str, str]] = []
    for column in columns:
        expression = _expression(meta, table, column)
        if expression is None:
            return None
        result.append((expression, column.name))
    return result


def engine_type(data_type: KalamDataType) -> str:
    """Return the type as the query engine spells it."""
    match data_type.kind:
        case TypeKind.DECIMAL:
            return f"DECIMAL({data_type.precision}, {data_type.scale})"
        case TypeKind.EMBEDDING:
            return f"FLOAT[{data_type.dimension}]"
        case TypeKind.LIST:
            return f"{engine_type(data_type.item)}[]"
        case TypeKind.STRUCT:
            fields = (f"{_quoted(name)} {engine_type(child)}" for name, child in data_type.children)
            return f"STRUCT({', '.join(fields)})"
        case TypeKind.MAP:
            (_, key), (_, value) = data_type.children
            return f"MAP({engine_type(key)}, {engine_type(value)})"
        case kind:
            return _ENGINE_NAMES.get(kind, kind.name)


def _expression(meta: SegmentMeta, table: TableDef, column: ColumnDef) -> str | None:
    new = column.data_type
    if column.column_id == SEQ_FIELD_ID:
        return _quoted(column.name)
    if new.kind is TypeKind.EMBEDDING:
        return None
    stored = column_at(table, column.column_id, meta.schema_version)
    if stored is None:
        return _constant(column.fill, new)
    old, name = stored.data_type, _quoted(stored.name)
    if old == new:
        if new.kind is TypeKind.INTERVAL:
            # Parquet has no such type; a NULL part makes the sum NULL.
            return (
                f"(to_months({name}.months) + to_days({name}.days)"
                f" + to_microseconds({name}.nanoseconds // 1000))"
            )
        if new.is_nested and _contains(new, frozenset({TypeKind.INTERVAL})):
            return None
        return f"CAST({name} AS {engine_type(new)})" if _contains(new, _STATED) else name
    if _casts_alike(old, new):
        return f"CAST({name} AS {engine_type(new)})"
    return None


def _contains(data_type: KalamDataType, kinds: frozenset[TypeKind]) -> bool:
    return data_type.kind in kinds or any(
        _contains(child, kinds) for _, child in data_type.children
    )


def _casts_alike(old: KalamDataType, new: KalamDataType) -> bool:
    """Return whether the engine's CAST gives what `versions.converted` gives."""
    if new.kind is TypeKind.TEXT and old.is_text_like:
        return True
    pair = (old.kind, new.kind)
    return (
        old.widens_to(new)
        and pair != (TypeKind.DECIMAL, TypeKind.DOUBLE)
        and not _INSTANTS.issuperset(pair)
        and pair != (TypeKind.DATE, TypeKind.DATETIME)
    )


def _constant(value: StorageValue, data_type: KalamDataType) -> str | None:
    name = engine_type(data_type)
    if value is None:
        return f"CAST(NULL AS {name})"
    shown: Any = from_storage(value, data_type)
    match data_type.kind:
        case TypeKind.LIST | TypeKind.STRUCT | TypeKind.MAP:
            return None
        case TypeKind.BYTES:
            text = "".join(f"\\x{byte:02X}" for byte in shown)
        case TypeKind.DECIMAL:
            text = f"{shown:f}"
        case TypeKind.INTERVAL:
            months, days, nanoseconds = cast("tuple[int, int, int]", value)
            text = f"{months} months {days} days {nanoseconds // 1000} microseconds"
        case _:
            text = str(shown)
    return "CAST('" + text.replace("'", "''") + f"' AS {name})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
