"""System tables as they are stored, compared with what this version of the code defines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kalamdb_lab.errors import StorageError
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.tables import TableDef


def newer_error(table_id: TableId, stored: int, known: int) -> StorageError:
    """Return the error for rows or definitions that only a newer version can read."""
    return StorageError(
        f"The database was written by a newer KalamDB Lab ({table_id} has version {stored}, this "
        f"one reads {known}); upgrade kalamdb-lab"
    )


def refuse_newer(stored: TableDef, known: Mapping[TableId, TableDef]) -> None:
    """Raise `StorageError` for a system table that this version does not know, or not so far."""
    table = known.get(stored.table_id)
    version = 0 if table is None else table.schema_version
    if stored.schema_version > version:
        raise newer_error(stored.table_id, stored.schema_version, version)


def upgraded(stored: TableDef | None, table: TableDef, at_us: int) -> TableDef | None:
    """Return what is to be stored of a system table now; None if it is stored already.

    Versions that were stored keep the time at which they were; the rows written in them stay as
    they are and are read through the history, as those of any table that was altered.
    """
    versions = 0 if stored is None else stored.schema_version
    if versions == table.schema_version:
        return None
    added = tuple(replace(step, changed_at_us=at_us) for step in table.history[versions:])
    return replace(
        table,
        history=(*(() if stored is None else stored.history), *added),
        created_at_us=at_us if stored is None else stored.created_at_us,
        updated_at_us=at_us,
    )
