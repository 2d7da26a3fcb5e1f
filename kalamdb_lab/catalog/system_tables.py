"""The system tables: ordinary partitions on the same log, with fixed definitions."""

from __future__ import annotations

from dataclasses import replace

from kalamdb_lab.model.datatypes import (
    BIGINT,
    BOOLEAN,
    BYTES,
    DATETIME,
    DOUBLE,
    INT,
    JSON,
    TEXT,
    KalamDataType,
    StorageValue,
)
from kalamdb_lab.model.ids import INFORMATION_SCHEMA, ROOT_USER, SYSTEM_NAMESPACE, TableId
from kalamdb_lab.model.tables import (
    ColumnDef,
    SchemaChange,
    TableDef,
    TableKind,
    TableOptions,
)

FIRST_FREE_TABLE_KEY = 1_000
"""Keys below belong to system tables."""


def _table(
    table_key: int, name: str, key: str, *columns: tuple[str, KalamDataType, str]
) -> TableDef:
    """Define a table; the third part of a column is "", "?" (nullable) or "hidden"."""
    definitions = tuple(
        ColumnDef(
            column_id=at,
            name=column,
            data_type=data_type,
            nullable=note == "?" or (note == "hidden" and column != key),
            position=at,
            primary_key=column == key,
            hidden=note == "hidden",
        )
        for at, (column, data_type, note) in enumerate(columns, start=1)
    )
    return TableDef(
        table_key=table_key,
        table_id=TableId(SYSTEM_NAMESPACE, name),
        kind=TableKind.SYSTEM,
        history=(SchemaChange(1, 0, "root", "CREATE TABLE", definitions),),
        options=TableOptions(deleted_retention_hours=0),
    )


def grown(table: TableDef, *columns: tuple[str, KalamDataType, str, StorageValue]) -> TableDef:
    """Return the next schema version of a system table, with further columns at its end.

    The fourth part of a column is what rows of older versions show in it. A definition that was
    released changes in this way only: ``USERS = grown(_table(...), ("phone", TEXT, "?", None))``.
    """
    last = table.columns[-1].column_id
    added = tuple(
        ColumnDef(
            column_id=at,
            name=name,
            data_type=data_type,
            nullable=note != "",
            position=at,
            fill=fill,
            hidden=note == "hidden",
        )
        for at, (name, data_type, note, fill) in enumerate(columns, start=last + 1)
    )
    assert all(column.nullable or column.fill is not None for column in added)
    names = ", ".join(f"{c.name} {c.data_type}" for c in added if not c.hidden)
    change = f"ADD COLUMN {names}" if names else "INTERNAL"
    step = SchemaChange(table.schema_version + 1, 0, ROOT_USER, change, (*table.columns, *added))
    return replace(table, history=(*table.history, step))


USERS = _table(
    1,
    "users",
    "user_id",
    ("user_id", TEXT, ""),
    ("role", TEXT, ""),
    ("email", TEXT, "?"),
    ("auth_type", TEXT, ""),
    ("auth_data", JSON, "?"),
    ("storage_mode", TEXT, ""),
    ("storage_id", TEXT, "?"),
    ("created_at", DATETIME, ""),
    ("updated_at", DATETIME, ""),
    ("last_login_at", DATETIME, "?"),
    ("deleted_at", DATETIME, "?"),
    ("__kalam_password_hash", TEXT, "hidden"),
)

NAMESPACES = _table(
    2,
    "namespaces",
    "namespace_id",
    ("namespace_id", TEXT, ""),
    ("description", TEXT, "?"),
    ("options", JSON, ""),
    ("table_count", BIGINT, ""),
    ("created_at", DATETIME, ""),
    ("created_by", TEXT, ""),
)

STORAGES = grown(
    _table(
        3,
        "storages",
        "storage_id",
        ("storage_id", TEXT, ""),
        ("storage_name", TEXT, ""),
        ("storage_type", TEXT, ""),
        ("description", TEXT, "?"),
        ("base_directory", TEXT, ""),
        ("shared_tables_template", TEXT, ""),
        ("user_tables_template", TEXT, ""),
        ("credentials", TEXT, "?"),
        ("config", JSON, "?"),
        ("created_at", DATETIME, ""),
        ("updated_at", DATETIME, ""),
    ),
    ("__kalam_credentials", TEXT, "hidden", None),
)

TABLES = _table(
    4,
    "tables",
    "__kalam_table_id",
    ("namespace_id", TEXT, ""),
    ("table_name", TEXT, ""),
    ("table_type", TEXT, ""),
    ("storage_id", TEXT, "?"),
    ("access_level", TEXT, "?"),
    ("schema_version", INT, ""),
    ("primary_key", TEXT, "?"),
    ("options", JSON, ""),
    ("is_registered", BOOLEAN, ""),
    ("view_definition", TEXT, "?"),
    ("created_at", DATETIME, ""),
    ("updated_at", DATETIME, ""),
    ("created_by", TEXT, ""),
    ("__kalam_table_id", TEXT, "hidden"),
    ("__kalam_definition", BYTES, "hidden"),
)

JOBS = _table(
    5,
    "jobs",
    "job_id",
    ("job_id", TEXT, ""),
    ("job_type", TEXT, ""),
    ("status", TEXT, ""),
    ("message", TEXT, "?"),
    ("exception_trace", TEXT, "?"),
    ("parameters", JSON, ""),
    ("idempotency_key", TEXT, "?"),
    ("retry_count", INT, ""),
    ("max_retries", INT, ""),
    ("progress", DOUBLE, ""),
    ("node_id", TEXT, ""),
    ("created_by", TEXT, ""),
    ("created_at", DATETIME, ""),
    ("updated_at", DATETIME, ""),
    ("started_at", DATETIME, "?"),
    ("finished_at", DATETIME, "?"),
)

LIVE_QUERIES = _table(
    6,
    "live_queries",
    "live_id",
    ("live_id", TEXT, ""),
    ("user_id", TEXT, ""),
    ("namespace_id", TEXT, ""),
    ("table_name", TEXT, ""),
    ("query", TEXT, ""),
    ("options", JSON, ""),
    ("status", TEXT, ""),
    ("changes", BIGINT, ""),
    ("last_seq", BIGINT, "?"),
    ("node_id", TEXT, ""),
    ("created_at", DATETIME, ""),
    ("last_update", DATETIME, "?"),
)

AUDIT_LOGS = _table(
    7,
    "audit_logs",
    "audit_id",
    ("audit_id", TEXT, ""),
    ("timestamp", DATETIME, ""),
    ("actor_user_id", TEXT, ""),
    ("subject_user_id", TEXT, "?"),
    ("action", TEXT, ""),
    ("target", TEXT, ""),
    ("outcome", TEXT, ""),
    ("details", JSON, "?"),
    ("ip_address", TEXT, "?"),
)

SYSTEM_TABLES: dict[str, TableDef] = {
    table.table_id.name: table
    for table in (USERS, NAMESPACES, STORAGES, TABLES, JOBS, LIVE_QUERIES, AUDIT_LOGS)
}
SYSTEM_TABLE_ALIASES = {"schemas": "tables", "live": "live_queries", "audit_log": "audit_logs"}


def _derived(
    table_key: int, table_id: TableId, *columns: tuple[str, KalamDataType, str]
) -> TableDef:
    plain = _table(table_key, table_id.name, "metric", *columns)
    return replace(plain, table_id=table_id, options=TableOptions(storage_id=None), is_derived=True)


STATS = _derived(
    100,
    TableId(SYSTEM_NAMESPACE, "stats"),
    ("metric", TEXT, ""),
    ("value", DOUBLE, ""),
    ("unit", TEXT, ""),
)

SCHEMATA = _derived(
    101,
    TableId(INFORMATION_SCHEMA, "schemata"),
    ("catalog_name", TEXT, ""),
    ("schema_name", TEXT, ""),
)

ALL_TABLES = _derived(
    102,
    TableId(INFORMATION_SCHEMA, "tables"),
    ("table_catalog", TEXT, ""),
    ("table_schema", TEXT, ""),
    ("table_name", TEXT, ""),
    ("table_type", TEXT, ""),
)

ALL_COLUMNS = _derived(
    103,
    TableId(INFORMATION_SCHEMA, "columns"),
    ("table_catalog", TEXT, ""),
    ("table_schema", TEXT, ""),
    ("table_name", TEXT, ""),
    ("column_name", TEXT, ""),
    ("ordinal_position", INT, ""),
    ("column_default", TEXT, "?"),
    ("is_nullable", TEXT, ""),
    ("data_type", TEXT, ""),
    ("is_primary_key", TEXT, ""),
)

DERIVED_TABLES = (STATS, SCHEMATA, ALL_TABLES, ALL_COLUMNS)
"""Tables that no log entry is about: their rows are computed from the others when they are read."""
