"""What a marker stands for when a statement runs: registered Arrow, Parquet files, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa

from kalamdb_lab.arrow.schemas import field_for
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind
from kalamdb_lab.query.duck import VERSION
from kalamdb_lab.query.markers import marker_sql
from kalamdb_lab.query.relations import ArrowPart, ParquetPart, Part, ScanRequest

_ENGINE_TYPES = {
    TypeKind.INT: "INTEGER",
    TypeKind.TEXT: "VARCHAR",
    TypeKind.BYTES: "BLOB",
    TypeKind.DATETIME: "TIMESTAMPTZ",
    TypeKind.UINTEGER: "UINTEGER",
}
_CAST_KINDS = frozenset({TypeKind.UUID, TypeKind.JSON})
_NAN_KINDS = frozenset({TypeKind.FLOAT, TypeKind.DOUBLE})
_PUSHES_NAN_WRONGLY = VERSION < (2, 0)
"""1.5.6 hands comparisons to pyarrow, where NaN is greater than nothing, and UBIGINT overflows."""


@dataclass(slots=True)
class Source:
    """SQL that yields the columns of a request, and what it reads."""

    sql: str
    relations: dict[str, pa.Table] = field(default_factory=dict)
    directories: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()


@lru_cache(maxsize=4096)
def engine_type(data_type: KalamDataType) -> str:
    """Return the engine's spelling of a type."""
    match data_type.kind:
        case TypeKind.DECIMAL:
            return f"DECIMAL({data_type.precision}, {data_type.scale})"
        case TypeKind.EMBEDDING:
            return f"FLOAT[{data_type.dimension}]"
        case TypeKind.LIST:
            return f"{engine_type(data_type.item)}[]"
        case TypeKind.MAP:
            (_, key), (_, item) = data_type.children
            return f"MAP({engine_type(key)}, {engine_type(item)})"
        case TypeKind.STRUCT:
            fields = (f"{quoted(name)} {engine_type(child)}" for name, child in data_type.children)
            return f"STRUCT({', '.join(fields)})"
        case _:
            return _ENGINE_TYPES.get(data_type.kind, data_type.kind.name)


def quoted(name: str) -> str:
    """Return a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def empty_table(request: ScanRequest) -> pa.Table:
    """Return no rows of what a request asks for."""
    known = {column.name: column for column in request.relation.columns}
    system = {"_seq": pa.field("_seq", pa.int64()), "_deleted": pa.field("_deleted", pa.bool_())}
    fields = [field_for(known[name]) if name in known else system[name] for name in request.columns]
    return pa.schema(fields).empty_table()


def arrow_source(marker: str, request: ScanRequest) -> str:
    """Return the SQL that reads the Arrow table registered as ``marker``.

    UUID and JSON are plain bytes and text in Arrow and get their types here.
    """
    expressions, plain = [], True
    bar_pushdown = False
    known = {column.name: column for column in request.relation.columns}
    for name in request.columns:
        column = known.get(name)
        expression = quoted(name)
        if column is not None:
            kinds = _kinds(column.data_type)
            if kinds & _CAST_KINDS:
                kind = engine_type(column.data_type)
                expression = f"CAST({expression} AS {kind}) AS {expression}"
                plain = False
            if _PUSHES_NAN_WRONGLY:
                bar_pushdown = bar_pushdown or bool(kinds & _NAN_KINDS)
                if column.data_type.kind is TypeKind.UBIGINT:
                    expression = f"CAST(CAST({expression} AS HUGEINT) AS UBIGINT) AS {expression}"
                    plain = False
        expressions.append(expression)
    if plain and not bar_pushdown:
        return marker_sql(marker)
    barrier = " OFFSET 0" if bar_pushdown else ""
    return f"(SELECT {', '.join(expressions)} FROM {marker_sql(marker)}{barrier})"


@lru_cache(maxsize=4096)
def _kinds(data_type: KalamDataType) -> frozenset[TypeKind]:
    kinds = frozenset({data_type.kind})
    for _, child in data_type.children:
        kinds |= _kinds(child)
    return kinds


def joined(parts: Sequence[Part]) -> pa.Table:
    """Return the Arrow parts of a scan as one table, sharing their memory."""
    tables = [part.table for part in parts if isinstance(part, ArrowPart)]
    if len(tables) == 1:
        return tables[0]
    kept = [table for table in tables if table.num_rows] or tables[:1]
    return kept[0] if len(kept) == 1 else pa.concat_tables(_encoded_alike(kept))


def _encoded_alike(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Make text columns dictionaries in all tables if they are so in one."""
    schemas = [table.schema for table in tables]
    if all(schema.equals(schemas[0]) for schema in schemas):
        return list(tables)
    alike = []
    for table in tables:
        columns = [
            column.dictionary_encode()
            if not pa.types.is_dictionary(column.type)
            and any(pa.types.is_dictionary(schema.field(at).type) for schema in schemas)
            else column
            for at, column in enumerate(table.columns)
        ]
        alike.append(pa.table(columns, names=table.column_names))
    return alike


def mixed_source(marker: str, request: ScanRequest, parts: Sequence[Part]) -> Source:
    """Return the SQL that reads Parquet files and, beside them, what is in memory."""
    source = Source("")
    selects: list[str] = []
    arrow = [part for part in parts if isinstance(part, ArrowPart) and part.table.num_rows]
    if arrow:
        source.relations[marker] = joined(arrow)
        columns = ", ".join(map(quoted, request.columns))
        selects.append(f"SELECT {columns} FROM {arrow_source(marker, request)}")
    files = [part for part in parts if isinstance(part, ParquetPart) and part.paths]
    for number, part in enumerate(files):
        source.directories |= frozenset(part.directories)
        source.files |= frozenset(part.paths)
        selects.append(_parquet_select(f"{marker}_{number}", request, part, source))
    if not selects:
        source.relations[marker] = empty_table(request)
        return Source(arrow_source(marker, request), source.relations)
    source.sql = f"({' UNION ALL '.join(selects)})"
    return source


def _parquet_select(name: str, request: ScanRequest, part: ParquetPart, source: Source) -> str:
    given = {output: expression for expression, output in part.projections}
    types = {column.name: column.data_type for column in request.relation.columns}
    seq = f"f.{quoted(part.seq_column)}"
    columns: list[str] = []
    for output in request.columns:
        if output == "_deleted":
            expression = "false"
            if request.include_deleted and part.deleted is not None and len(part.deleted):
                versions = _versions(f"{name}_d", part.deleted, source)
                expression = f"({seq} IN (SELECT v FROM {versions}))"
        else:
            expression = given[output]
        if output in types and _kinds(types[output]) & _CAST_KINDS:
            expression = f"CAST({expression} AS {engine_type(types[output])})"
        columns.append(f"{expression} AS {quoted(output)}")
    paths = ", ".join("'" + path.replace("'", "''") + "'" for path in part.paths)
    sql = f"SELECT {', '.join(columns)} FROM read_parquet([{paths}]) AS f"
    if part.removed is not None and len(part.removed):
        versions = _versions(f"{name}_r", part.removed, source)
        sql += f" ANTI JOIN {versions} AS r ON {seq} = r.v"
    return sql


def _versions(name: str, versions: object, source: Source) -> str:
    source.relations[name] = pa.table({"v": pa.array(versions, pa.int64())})
    return marker_sql(name)
