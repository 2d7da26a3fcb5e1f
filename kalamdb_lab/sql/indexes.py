"""CREATE INDEX and DROP INDEX, and ALTER TABLE where it means the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kalamdb_lab.errors import InvalidOptionError, KalamError, NotSupportedError
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.cursor import Cursor
from kalamdb_lab.sql.definitions import with_options

_METRICS: Final[Mapping[str, str]] = {"COSINE": "cosine", "L2": "l2", "DOT": "inner_product"}
"""What ALTER TABLE calls them, and the values of the option METRIC."""


def create_index(cursor: Cursor) -> s.CreateIndex:
    """Read what follows CREATE INDEX."""
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = None
    if cursor.word() != "ON":
        name = cursor.plain_name("an index name or ON", "CREATE INDEX", new=True)
        if cursor.word() == ".":
            raise cursor.missing("ON after the index name, which is in the namespace of its table")
    cursor.expect("ON")
    table = cursor.table_name("ON")
    if cursor.word() != "USING":
        raise cursor.missing("USING ANN after the table name")
    cursor.expect("USING")
    at = cursor.at
    method = cursor.name_or_none()
    if method is None:
        raise cursor.missing("ANN after USING")
    if method[0].upper() != "ANN":
        shown = method[0].upper()[:40]
        raise cursor.located(
            NotSupportedError(f"Index method '{shown}' is not supported; use ANN"), at
        )
    cursor.expect("(")
    column, _ = cursor.column_name("a column name after USING ANN (")
    if cursor.word() == ",":
        raise _too_many(cursor)
    cursor.expect(")")
    options = with_options(cursor) if cursor.accept("WITH") else ()
    cursor.end()
    return s.CreateIndex(
        name=name,
        table=table,
        indexed_column=column,
        if_not_exists=if_not_exists,
        options=options,
        **cursor.place(),
    )


def drop_index(cursor: Cursor) -> s.DropIndex:
    """Read what follows DROP INDEX."""
    if_exists = cursor.accept("IF", "EXISTS")
    name = cursor.table_name("DROP INDEX", thing="an index name")
    cursor.end()
    return s.DropIndex(name=name, if_exists=if_exists, **cursor.place())


def of_table(cursor: Cursor) -> s.CreateIndex | s.DropIndex | None:
    """Read what follows ALTER TABLE; None, and no step, if it concerns no index."""
    start = cursor.at
    table = cursor.table_name("ALTER TABLE")
    if cursor.accept("CREATE"):
        return _create_of_table(cursor, table)
    if cursor.word() == "DROP" and _is_index(cursor):
        return _drop_of_table(cursor, table)
    cursor.at = start
    return None


def _create_of_table(cursor: Cursor, table: s.TableName) -> s.CreateIndex:
    cursor.accept("VECTOR")
    cursor.expect("INDEX")
    column, _ = cursor.column_name("a column name after CREATE INDEX")
    cursor.expect("USING")
    at = cursor.at
    metric = cursor.name_or_none()
    if metric is None:
        raise cursor.missing("COSINE, L2 or DOT after USING")
    known = _METRICS.get(metric[0].upper())
    if known is None:
        shown = metric[0].upper()[:40]
        raise cursor.located(
            InvalidOptionError(f"Unknown metric '{shown}'; use COSINE, L2 or DOT"), at
        )
    cursor.end()
    return s.CreateIndex(
        table=table, indexed_column=column, options=(("METRIC", known),), **cursor.place()
    )


def _is_index(cursor: Cursor) -> bool:
    """Return whether [VECTOR] INDEX column stands behind DROP, not a column of such a name."""
    at = 2 if cursor.word(1) == "VECTOR" and cursor.word(2) == "INDEX" else 1
    return cursor.word(at) == "INDEX" and cursor.at + at + 1 < len(cursor.tokens)


def _drop_of_table(cursor: Cursor, table: s.TableName) -> s.DropIndex:
    cursor.expect("DROP")
    cursor.accept("VECTOR")
    cursor.expect("INDEX")
    column, _ = cursor.column_name("a column name after DROP INDEX")
    cursor.end()
    return s.DropIndex(table=table, indexed_column=column, **cursor.place())


def _too_many(cursor: Cursor) -> KalamError:
    return cursor.located(NotSupportedError("An index has one column; create one for each"))
