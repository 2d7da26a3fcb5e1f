"""CREATE, ALTER and DROP NAMESPACE, and USE."""

from __future__ import annotations

from dataclasses import replace

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidNameError,
    NotEmptyError,
    NotFoundError,
    NotSupportedError,
)
from kalamdb_lab.handlers.tables import TableDropper
from kalamdb_lab.model.entities import Namespace
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, RESERVED_NAMESPACES
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.queries import Queries
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.statements import (
    AlterNamespace,
    CreateNamespace,
    DropNamespace,
    UseNamespace,
)

_LISTED = 8


class NamespaceHandler:
    """Define namespaces; each change is one commit."""

    def __init__(
        self, catalog: Catalog, queries: Queries, log: CommitLog, dropper: TableDropper
    ) -> None:
        self._catalog = catalog
        self._queries = queries
        self._log = log
        self._dropper = dropper

    def create(self, statement: CreateNamespace, request: Request) -> Result:
        """Run CREATE NAMESPACE."""
        name = statement.name
        if name in RESERVED_NAMESPACES:
            raise InvalidNameError(f"Namespace '{name}' is reserved")
        with self._log.commit() as commit:
            if self._catalog.namespaces.get(name) is not None:
                if statement.if_not_exists:
                    return Result.of_message(
                        statement.kind, f"Namespace '{name}' already exists; nothing was done"
                    )
                raise AlreadyExistsError("Namespace", name)
            entry = Namespace(name, commit.at_us, request.context.user_id)
            self._catalog.namespaces.put(commit, entry)
        return Result.of_message(statement.kind, f"Namespace '{name}' created")

    def alter(self, statement: AlterNamespace, request: Request) -> Result:
        """Run ALTER NAMESPACE ... SET DESCRIPTION."""
        if statement.name in RESERVED_NAMESPACES:
            raise InvalidNameError(f"Namespace '{statement.name}' is reserved")
        with self._log.commit() as commit:
            entry = self._catalog.namespace(statement.name)
            self._catalog.namespaces.put(commit, replace(entry, description=statement.description))
        return Result.of_message(statement.kind, f"Namespace '{statement.name}' altered")

    def drop(self, statement: DropNamespace, request: Request) -> Result:
        """Run DROP NAMESPACE, with CASCADE with all tables and views and all their rows."""
        name = statement.name
        if name in RESERVED_NAMESPACES or name == DEFAULT_NAMESPACE:
            raise NotSupportedError(f"Namespace '{name}' cannot be dropped")
        with self._log.commit() as commit:
            if self._catalog.namespaces.get(name) is None:
                if statement.if_exists:
                    return Result.of_message(
                        statement.kind, f"Namespace '{name}' does not exist; nothing was done"
                    )
                raise NotFoundError("Namespace", name)
            tables = self._catalog.tables_in(name)
            if tables and not statement.cascade:
                listed = ", ".join(table.table_id.name for table in tables[:_LISTED])
                if len(tables) > _LISTED:
                    listed += f" and {len(tables) - _LISTED} more"
                count = f"{len(tables)} table{'s' if len(tables) > 1 else ''}"
                raise NotEmptyError(
                    f"Namespace '{name}' is not empty ({count}: {listed}); use CASCADE to drop them"
                )
            for table in tables:
                self._catalog.tables.delete(commit, str(table.table_id))
                self._dropper.drop_rows(commit, table)
            self._catalog.namespaces.delete(commit, name)
        self._dropper.delete_files(tables, request)
        return Result.of_message(statement.kind, f"Namespace '{name}' dropped")

    def use(self, statement: UseNamespace, request: Request) -> Result:
        """Run USE: changes this session only."""
        self._queries.check_namespace(statement.name, request.context)
        request.use(statement.name)
        return Result.of_message(statement.kind, f"Using namespace '{statement.name}'")
