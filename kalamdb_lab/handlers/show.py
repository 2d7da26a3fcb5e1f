"""SHOW and DESCRIBE: answered from the catalog and the manifest, never by the engine."""

from __future__ import annotations

from collections.abc import Sequence

from kalamdb_lab.authorization.gateway import may_read
from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.handlers.listing import Columns, listing
from kalamdb_lab.handlers.targets import Targets
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.datatypes import (
    BIGINT,
    BOOLEAN,
    DATETIME,
    INT,
    TEXT,
    StorageValue,
)
from kalamdb_lab.model.entities import MASK
from kalamdb_lab.model.ids import SYSTEM_NAMESPACE, PartitionKey
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.partition import PartitionSnapshot
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.commands import (
    Describe,
    ShowManifest,
    ShowNamespaces,
    ShowStats,
    ShowStorages,
    ShowTables,
    ShowUsers,
)

_NAMESPACES: Columns = [
    ("namespace_id", TEXT),
    ("description", TEXT),
    ("table_count", BIGINT),
    ("created_at", DATETIME),
]
_TABLES: Columns = [
    ("namespace_id", TEXT),
    ("table_name", TEXT),
    ("table_type", TEXT),
    ("access_level", TEXT),
    ("schema_version", INT),
    ("created_at", DATETIME),
]
_STORAGES: Columns = [
    ("storage_id", TEXT),
    ("storage_name", TEXT),
    ("storage_type", TEXT),
    ("description", TEXT),
    ("base_directory", TEXT),
    ("shared_tables_template", TEXT),
    ("user_tables_template", TEXT),
    ("credentials", TEXT),
]
_STATS: Columns = [
    ("namespace_id", TEXT),
    ("table_name", TEXT),
    ("table_type", TEXT),
    ("row_count", BIGINT),
    ("hot_rows", BIGINT),
    ("segment_count", BIGINT),
    ("bytes", BIGINT),
    ("removed_versions", BIGINT),
    ("min_seq", BIGINT),
    ("max_seq", BIGINT),
    ("scope_count", BIGINT),
]
_MANIFEST: Columns = [
    ("namespace_id", TEXT),
    ("table_name", TEXT),
    ("user_id", TEXT),
    ("segment", TEXT),
    ("row_count", BIGINT),
    ("removed_versions", BIGINT),
    ("bytes", BIGINT),
    ("min_seq", BIGINT),
    ("max_seq", BIGINT),
    ("schema_version", INT),
    ("created_at", DATETIME),
]
_USERS: Columns = [
    ("user_id", TEXT),
    ("role", TEXT),
    ("email", TEXT),
    ("auth_type", TEXT),
    ("created_at", DATETIME),
    ("deleted_at", DATETIME),
]
_DESCRIBE: Columns = [
    ("column_name", TEXT),
    ("data_type", TEXT),
    ("is_nullable", BOOLEAN),
    ("is_primary_key", BOOLEAN),
    ("column_default", TEXT),
    ("ordinal_position", INT),
]
_HISTORY: Columns = [
    ("schema_version", INT),
    ("changed_at", DATETIME),
    ("changed_by", TEXT),
    ("change", TEXT),
]


class ShowHandler:
    """Answers about definitions and the manifest, ordered by their first columns."""

    def __init__(
        self, catalog: Catalog, targets: Targets, queries: Queries, log: CommitLog
    ) -> None:
        self._catalog = catalog
        self._targets = targets
        self._queries = queries
        self._log = log

    def namespaces(self, statement: ShowNamespaces, request: Request) -> Result:
        """Run SHOW NAMESPACES."""
        rows: list[tuple[StorageValue, ...]] = [
            (entry.name, entry.description, entry.table_count, entry.created_at_us)
            for entry in self._catalog.namespaces.all().values()
        ]
        if request.context.role >= Role.DBA:
            created = self._catalog.namespace("default").created_at_us
            listed = len(self._catalog.tables_in(SYSTEM_NAMESPACE))
            rows.append((SYSTEM_NAMESPACE, None, listed, created))
        return listing(statement.kind, _NAMESPACES, sorted(rows, key=lambda row: str(row[0])))

    def tables(self, statement: ShowTables, request: Request) -> Result:
        """Run SHOW TABLES."""
        if statement.namespace is not None:
            self._queries.check_namespace(statement.namespace, request.context)
        rows = [
            (
                table.table_id.namespace,
                table.table_id.name,
                table.kind.value,
                table.options.access_level.value if table.options.access_level else None,
                table.schema_version,
                table.created_at_us,
            )
            for table in self._catalog.tables_in(statement.namespace)
        ]
        return listing(statement.kind, _TABLES, rows)

    def storages(self, statement: ShowStorages, request: Request) -> Result:
        """Run SHOW STORAGES."""
        shows_base = request.context.role >= Role.DBA
        rows = [
            (
                entry.storage_id,
                entry.name,
                entry.storage_type,
                entry.description,
                entry.base_directory if shows_base else None,
                entry.shared_tables_template,
                entry.user_tables_template,
                None if entry.credentials is None else MASK,
            )
            for _, entry in sorted(self._catalog.storages.all().items())
        ]
        return listing(statement.kind, _STORAGES, rows)

    def users(self, statement: ShowUsers, request: Request) -> Result:
        """Run SHOW USERS."""
        rows = [
            (
                user.user_id,
                user.role.value,
                user.email,
                user.auth_type.value,
                user.created_at_us,
                user.deleted_at_us,
            )
            for _, user in sorted(self._catalog.users.all().items())
        ]
        return listing(statement.kind, _USERS, rows)

    def describe(self, statement: Describe, request: Request) -> Result:
        """Run DESCRIBE TABLE."""
        table = self._queries.definition(statement.table, request.context)
        if statement.history:
            shows_who = request.context.role >= Role.DBA
            changes = [
                (
                    change.schema_version,
                    change.changed_at_us,
                    change.changed_by if shows_who else None,
                    change.change,
                )
                for change in table.history
            ]
            return listing(statement.kind, _HISTORY, changes)
        return description(statement.kind, table)

    def stats(self, statement: ShowStats, request: Request) -> Result:
        """Run SHOW STATS FOR TABLE: the own scope, or all scopes for dba and system."""
        table = self._targets.readable(statement.table, request.context)
        snapshots = self._snapshots(table, request.context)
        metas = [view.meta for snapshot in snapshots for view in snapshot.segments]
        expired = self._expired(table, snapshots, request.context.now_us)
        hot = [
            seq
            for snapshot in snapshots
            for seq in snapshot.hot.column("_seq").to_pylist()
            if seq not in expired
        ]
        seqs = [*hot, *(m.min_seq for m in metas), *(m.max_seq for m in metas)]
        row = (
            table.table_id.namespace,
            table.table_id.name,
            table.kind.value,
            None  # what is not stored is counted by reading it, and not here
            if not table.is_stored
            else sum(snapshot.row_count for snapshot in snapshots) - len(expired),
            len(hot),
            len(metas),
            sum(meta.size_bytes for meta in metas),
            sum(
                snapshot.hot_deleted.num_rows + sum(len(view.removed) for view in snapshot.segments)
                for snapshot in snapshots
            ),
            min(seqs, default=None),
            max(seqs, default=None),
            1 if request.context.role < Role.DBA else len(snapshots),
        )
        return listing(statement.kind, _STATS, [row])

    def _expired(
        self, table: TableDef, snapshots: Sequence[PartitionSnapshot], now_us: int
    ) -> frozenset[int]:
        """Return the versions of live events that are too old to be read."""
        if table.options.ttl_seconds is None:
            return frozenset()
        before_us = now_us - table.options.ttl_seconds * 1_000_000
        expired: set[int] = set()
        for snapshot in snapshots:
            with self._log.visible([snapshot.partition]) as state:
                old = state.partition(snapshot.partition).expired_seqs(before_us)
            expired |= set(old.tolist()) & set(snapshot.hot.column("_seq").to_pylist())
        return frozenset(expired)

    def manifest(self, statement: ShowManifest, request: Request) -> Result:
        """Run SHOW MANIFEST: one row per segment that the caller may know of."""
        context = request.context
        if statement.table is not None:
            tables = [self._targets.readable(statement.table, context)]
        else:
            tables = [
                table
                for table in [
                    *self._catalog.tables_in(None),
                    *self._catalog.tables_in(SYSTEM_NAMESPACE),
                ]
                if may_read(table, context.role)
            ]
        rows = [
            (
                table.table_id.namespace,
                table.table_id.name,
                view.meta.partition.scope or None,
                f"s-{view.meta.segment_id:06d}",
                view.meta.row_count,
                len(view.removed),
                view.meta.size_bytes,
                view.meta.min_seq,
                view.meta.max_seq,
                view.meta.schema_version,
                view.meta.created_at_us,
            )
            for table in sorted(tables, key=lambda table: table.table_id)
            for snapshot in self._snapshots(table, context)
            for view in snapshot.segments
        ]
        return listing(statement.kind, _MANIFEST, rows)

    def _snapshots(self, table: TableDef, context: ExecutionContext) -> list[PartitionSnapshot]:
        if not table.is_stored:
            return []
        if context.role >= Role.DBA:
            scopes = self._log.scopes(table.table_key)
            keys = [PartitionKey(table.table_key, scope) for scope in scopes]
        else:
            keys = [context.partition(table)]
        return self._log.snapshot([(key, table) for key in keys])


def description(kind: str, table: TableDef) -> Result:
    """Return the columns of a table as DESCRIBE TABLE answers them."""
    rows = [
        (
            column.name,
            str(column.data_type),
            column.nullable,
            column.primary_key,
            column.default,
            column.position,
        )
        for column in table.visible_columns
    ]
    return listing(kind, _DESCRIBE, rows)
