"""CREATE, ALTER and DROP STORAGE, STORAGE CHECK, REGISTER and UNREGISTER TABLE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlglot import Token

from kalamdb_lab.errors import InvalidOptionError
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql.cursor import Cursor
from kalamdb_lab.sql.definitions import with_options

_ALTERED: Final[Mapping[str, str]] = {
    "NAME": "name",
    "DESCRIPTION": "description",
    "SHARED_TABLES_TEMPLATE": "shared_tables_template",
    "USER_TABLES_TEMPLATE": "user_tables_template",
    "CONFIG": "config",
}
_CREATED: Final[Mapping[str, str]] = {
    "TYPE": "storage_type",
    "PATH": "base_directory",
    "BASE_DIRECTORY": "base_directory",
    "BUCKET": "bucket",
    "REGION": "region",
    "CREDENTIALS": "credentials",
    **_ALTERED,
}
"""A clause, and the field of the statement that holds what it says."""
_JSON: Final = ("CREDENTIALS", "CONFIG")
_IN_A_DIRECTORY: Final = "filesystem"
"""The one type that needs PATH; another one is refused by its name, whatever it lacks."""


def create_storage(cursor: Cursor) -> c.CreateStorage:
    """Read what follows CREATE STORAGE."""
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    storage_id = cursor.plain_name("a storage name", "CREATE STORAGE", new=True)
    said: dict[str, str] = {}
    masked: Token | None = None
    while not cursor.is_at_end():
        clause = cursor.word()
        _clause(cursor, _CREATED, said)
        if clause == "CREDENTIALS":
            masked = cursor.tokens[cursor.at - 1]
    storage_type = said.pop("storage_type", None)
    if storage_type is None:
        raise cursor.missing("TYPE")
    if storage_type.lower() == _IN_A_DIRECTORY and "base_directory" not in said:
        raise cursor.missing("PATH")
    return c.CreateStorage(
        storage_id=storage_id,
        if_not_exists=if_not_exists,
        storage_type=storage_type.lower(),
        **said,
        **cursor.place(masked=masked),
    )


def alter_storage(cursor: Cursor) -> c.AlterStorage:
    """Read what follows ALTER STORAGE."""
    storage_id = cursor.plain_name("a storage name", "ALTER STORAGE")
    said: dict[str, str] = {}
    cursor.expect("SET")
    while True:
        if cursor.word() not in _ALTERED:
            found = f", not '{cursor.word()[:40]}'" if cursor.word() else ""
            raise cursor.missing(f"{_listed(_ALTERED)} after SET{found}")
        _clause(cursor, _ALTERED, said)
        if not cursor.accept("SET"):
            break
    cursor.end()
    return c.AlterStorage(storage_id=storage_id, **said, **cursor.place())


def drop_storage(cursor: Cursor) -> c.DropStorage:
    """Read what follows DROP STORAGE."""
    if_exists = cursor.accept("IF", "EXISTS")
    storage_id = cursor.plain_name("a storage name", "DROP STORAGE")
    cursor.end()
    return c.DropStorage(storage_id=storage_id, if_exists=if_exists, **cursor.place())


def check_storage(cursor: Cursor) -> c.CheckStorage:
    """Read what follows STORAGE CHECK."""
    storage_id = cursor.plain_name("a storage name", "STORAGE CHECK")
    extended = cursor.accept("EXTENDED")
    cursor.end()
    return c.CheckStorage(storage_id=storage_id, extended=extended, **cursor.place())


def register_table(cursor: Cursor) -> c.RegisterTable:
    """Read what follows REGISTER."""
    cursor.expect("TABLE")
    table = cursor.table_name("REGISTER TABLE", new=True)
    cursor.expect("FROM")
    source = cursor.string("a quoted file or pattern after FROM")
    options = with_options(cursor) if cursor.accept("WITH") else ()
    cursor.end()
    return c.RegisterTable(table=table, source=source, options=options, **cursor.place())


def unregister_table(cursor: Cursor) -> c.UnregisterTable:
    """Read what follows UNREGISTER."""
    cursor.expect("TABLE")
    table = cursor.table_name("UNREGISTER TABLE")
    cursor.end()
    return c.UnregisterTable(table=table, **cursor.place())


def _clause(cursor: Cursor, known: Mapping[str, str], said: dict[str, str]) -> None:
    """Read a clause and its text into ``said``."""
    at, clause = cursor.at, cursor.word()
    field = known.get(clause)
    if field is None:
        raise cursor.near()
    cursor.at += 1
    bare = cursor.name_or_none() if clause == "TYPE" else None
    if bare is None:
        what = "a quoted JSON object" if clause in _JSON else "a quoted text"
        text = cursor.string(f"{what} after {clause}")
    else:
        text = bare[0]
    if field in said:
        raise cursor.located(InvalidOptionError(f"Storage option '{clause}' appears twice"), at)
    said[field] = text


def _listed(clauses: Mapping[str, str]) -> str:
    *others, last = clauses
    return f"{', '.join(others)} or {last}"
