"""The statements that ibis' methods stand for, as text with every name quoted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from kalamdb_lab.errors import InvalidOptionError, NotFoundError
from kalamdb_lab.ibis_backend.datatypes import kalam_type_of
from kalamdb_lab.model.datatypes import KalamDataType, TypeKind
from kalamdb_lab.sql.queries import parse_expression

if TYPE_CHECKING:
    import ibis.expr.schema as sch

_KINDS = ("user", "shared", "stream")


def quoted(*parts: str) -> str:
    """Return a name as SQL text: ``"ns"."t"``."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def _literal(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def _type(data_type: KalamDataType) -> str:
    """Return a type as SQL text; a field of a STRUCT may have a keyword's name."""
    match data_type.kind:
        case TypeKind.LIST:
            return f"{_type(data_type.item)}[]"
        case TypeKind.STRUCT:
            fields = (f"{quoted(name)} {_type(child)}" for name, child in data_type.children)
            return f"STRUCT({', '.join(fields)})"
        case TypeKind.MAP:
            (_, key), (_, item) = data_type.children
            return f"MAP({_type(key)}, {_type(item)})"
        case _:
            return str(data_type)


def create_table(
    parts: Sequence[str],
    schema: sch.Schema,
    *,
    kind: str,
    primary_key: str | None,
    defaults: Mapping[str, str],
    options: Mapping[str, str | int | bool | None],
) -> str:
    """Return CREATE TABLE.

    Parameters
    ----------
    kind : str
        ``user``, ``shared`` or ``stream``, in any case.
    defaults : mapping
        SQL expressions by column.
    options : mapping
        Options of CREATE TABLE by name; those that are None are left out.

    Raises
    ------
    InvalidOptionError
        The kind is unknown.
    NotFoundError
        The key, or a column with a default, is no column of the schema.
    """
    if kind.lower() not in _KINDS:
        raise InvalidOptionError(f"Unknown table type '{kind}'; use USER, SHARED or STREAM")
    for name in [*defaults, *([primary_key] if primary_key is not None else [])]:
        if name not in schema:
            raise NotFoundError("Column", name, within=".".join(parts))
    columns = []
    for name, dtype in schema.items():
        words = [quoted(name), _type(kalam_type_of(dtype, name))]
        if name == primary_key:
            words.append("PRIMARY KEY")
        elif not dtype.nullable:
            words.append("NOT NULL")
        if name in defaults:
            parse_expression(defaults[name])  # one expression, and nothing after it
            words.append(f"DEFAULT {defaults[name]}")
        columns.append(" ".join(words))
    text = f"CREATE {kind.upper()} TABLE {quoted(*parts)} ({', '.join(columns)})"
    given = [
        f"{name.upper()} = {_literal(value)}"
        for name, value in options.items()
        if value is not None
    ]
    return f"{text} WITH ({', '.join(given)})" if given else text


def create_view(parts: Sequence[str], query: str, *, replace: bool) -> str:
    """Return CREATE VIEW."""
    return f"CREATE {'OR REPLACE ' if replace else ''}VIEW {quoted(*parts)} AS {query}"


def drop(what: str, parts: Sequence[str], *, force: bool, cascade: bool = False) -> str:
    """Return DROP of a TABLE, VIEW or NAMESPACE."""
    words = ["DROP", what, "IF EXISTS" if force else "", quoted(*parts)]
    return " ".join(word for word in [*words, "CASCADE" if cascade else ""] if word)


def create_namespace(name: str, *, force: bool) -> str:
    """Return CREATE NAMESPACE."""
    return f"CREATE NAMESPACE {'IF NOT EXISTS ' if force else ''}{quoted(name)}"


def delete_all(parts: Sequence[str]) -> str:
    """Return the DELETE of all rows."""
    return f"DELETE FROM {quoted(*parts)} WHERE true"


def upsert_by_key(parts: Sequence[str], columns: Sequence[str], key: str, source: str) -> str:
    """Return the INSERT that changes the rows whose key is there."""
    names = _names(columns)
    changes = ", ".join(
        f"{quoted(name)} = excluded.{quoted(name)}" for name in columns if name != key
    )
    return (
        f"INSERT INTO {quoted(*parts)} ({names}) SELECT {names} FROM {quoted(source)} "
        f"ON CONFLICT ({quoted(key)}) DO UPDATE SET {changes}"
    )


def upsert_by_column(
    parts: Sequence[str], columns: Sequence[str], on: str, source: str
) -> tuple[str, str]:
    """Return the UPDATE of the rows that are there and the INSERT of the others."""
    table, offered, by = quoted(*parts), quoted(source), quoted(on)
    changes = ", ".join(
        f"{quoted(name)} = (SELECT s.{quoted(name)} FROM {offered} AS s WHERE s.{by} = t.{by})"
        for name in columns
        if name != on
    )
    update = f"UPDATE {table} AS t SET {changes} WHERE {by} IN (SELECT {by} FROM {offered})"
    names = ", ".join(f"s.{quoted(name)}" for name in columns)
    insert = (
        f"INSERT INTO {table} ({_names(columns)}) SELECT {names} FROM {offered} AS s "
        f"WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE t.{by} = s.{by})"
    )
    return update, insert


def _names(columns: Iterable[str]) -> str:
    return ", ".join(quoted(name) for name in columns)
