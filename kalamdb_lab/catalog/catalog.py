"""The catalog of one database: users, namespaces, storages, tables and views."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kalamdb_lab.catalog.definitions import (
    job_of,
    job_row,
    live_query_of,
    live_query_row,
    namespace_of,
    namespace_row,
    storage_of,
    storage_row,
    user_of,
    user_row,
)
from kalamdb_lab.catalog.entity_store import EntityStore
from kalamdb_lab.catalog.system_tables import (
    DERIVED_TABLES,
    SYSTEM_TABLE_ALIASES,
    SYSTEM_TABLES,
)
from kalamdb_lab.catalog.table_rows import table_of, table_row
from kalamdb_lab.catalog.upgrade import refuse_newer, upgraded
from kalamdb_lab.errors import AlreadyExistsError, NotFoundError
from kalamdb_lab.model.entities import AuthType, LiveQuery, Namespace, StorageDef, User
from kalamdb_lab.model.ids import (
    DEFAULT_NAMESPACE,
    INFORMATION_SCHEMA,
    ROOT_USER,
    SYSTEM_NAMESPACE,
    TableId,
)
from kalamdb_lab.model.jobs import Job
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.commit import Commit
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.templates import SHARED_TEMPLATE, USER_TEMPLATE, shards_of

LOCAL_STORAGE = "local"


class Catalog:
    """Every definition of the database, as of the newest commit.

    Lookups cost a dictionary access after the log was followed; changes are staged on a
    `Commit`, so that one statement is one commit.

    Parameters
    ----------
    system : mapping of str to TableDef
        The stored system tables by name, as this version of the code defines them.
    """

    def __init__(
        self,
        log: CommitLog,
        reader: SegmentReader,
        *,
        system: Mapping[str, TableDef] = SYSTEM_TABLES,
    ) -> None:
        self._log = log
        self._known = {table.table_id: table for table in (*system.values(), *DERIVED_TABLES)}
        self.users: EntityStore[User] = EntityStore(log, reader, system["users"], user_row, user_of)
        self.namespaces: EntityStore[Namespace] = EntityStore(
            log, reader, system["namespaces"], namespace_row, namespace_of
        )
        self.storages: EntityStore[StorageDef] = EntityStore(
            log, reader, system["storages"], storage_row, storage_of
        )
        self.tables: EntityStore[TableDef] = EntityStore(
            log, reader, system["tables"], table_row, self._table_of
        )
        self.jobs: EntityStore[Job] = EntityStore(log, reader, system["jobs"], job_row, job_of)
        self.live_queries: EntityStore[LiveQuery] = EntityStore(
            log, reader, system["live_queries"], live_query_row, live_query_of
        )
        self._by_table_key: tuple[int, dict[int, TableDef]] = (-1, {})

    def bootstrap(self) -> None:
        """Give a new database its root user, default namespace and local storage.

        Each only if it is missing: a catalog made from segments may know some of them.
        """
        if self._is_complete():
            return
        with self._log.commit() as commit:
            if self._is_complete():
                return  # another process opened the new directory at the same moment
            now_us = commit.at_us
            if ROOT_USER not in self.users.all():
                root = User(ROOT_USER, Role.SYSTEM, AuthType.INTERNAL, now_us, now_us)
                self.users.put(commit, root)
            if DEFAULT_NAMESPACE not in self.namespaces.all():
                self.namespaces.put(commit, Namespace(DEFAULT_NAMESPACE, now_us, ROOT_USER))
            if LOCAL_STORAGE not in self.storages.all():
                local = StorageDef(
                    storage_id=LOCAL_STORAGE,
                    name=LOCAL_STORAGE,
                    storage_type="filesystem",
                    base_directory="",
                    shared_tables_template=SHARED_TEMPLATE,
                    user_tables_template=USER_TEMPLATE,
                    created_at_us=now_us,
                    updated_at_us=now_us,
                )
                self.storages.put(commit, local)
            for table_id, table in self._listed():
                now = upgraded(self.tables.get(str(table_id)), table, now_us)
                if now is not None:
                    self.tables.put(commit, now)

    def _listed(self) -> list[tuple[TableId, TableDef]]:
        """Return the system tables that have a row in ``system.tables``."""
        return [item for item in self._known.items() if item[0].namespace == SYSTEM_NAMESPACE]

    def _table_of(self, row: Any) -> TableDef:
        table = table_of(row)
        if table.kind is TableKind.SYSTEM:
            # Also while the database is open: a newer version in another process may upgrade it.
            refuse_newer(table, self._known)
        return table

    def _is_complete(self) -> bool:
        return (
            all(
                upgraded(self.tables.get(str(table_id)), table, 0) is None
                for table_id, table in self._listed()
            )
            and ROOT_USER in self.users.all()
            and DEFAULT_NAMESPACE in self.namespaces.all()
            and LOCAL_STORAGE in self.storages.all()
        )

    # --- tables and views ---------------------------------------------------------------------

    @property
    def revision(self) -> tuple[int, int]:
        """Changes with every change of a table, view or namespace."""
        return self.tables.revision, self.namespaces.revision

    def find_table(self, table_id: TableId) -> TableDef | None:
        """Return a table, view or system table, or None."""
        if table_id.namespace == SYSTEM_NAMESPACE:
            table_id = TableId(
                SYSTEM_NAMESPACE, SYSTEM_TABLE_ALIASES.get(table_id.name, table_id.name)
            )
        found = self.tables.get(str(table_id)) or self._known.get(table_id)
        if found is not None and table_id.namespace == INFORMATION_SCHEMA:
            # As old as the database, whose first commit defined the system tables.
            since = self.tables.get(f"{SYSTEM_NAMESPACE}.tables")
            at_us = 0 if since is None else since.created_at_us
            return replace(found, created_at_us=at_us, updated_at_us=at_us)
        return found

    def table(self, table_id: TableId) -> TableDef:
        """Return a table, view or system table; raises `NotFoundError` with near misses."""
        found = self.find_table(table_id)
        if found is None:
            raise NotFoundError("Table", str(table_id), nearby=self._nearby(table_id))
        return found

    def table_by_key(self, table_key: int) -> TableDef | None:
        """Return the table that has this key now, or None if it was dropped."""
        # The revision is read before the tables, and both are put in place together: another
        # thread may commit in between.
        revision = self.tables.revision
        at, tables = self._by_table_key
        if at != revision:
            tables = {t.table_key: t for t in self._known.values()} | {
                t.table_key: t for t in self.tables.all().values()
            }
            self._by_table_key = (revision, tables)
        return tables.get(table_key)

    def tables_in(self, namespace: str | None) -> list[TableDef]:
        """Return tables and views of one namespace, or of all with tables of users, by name."""
        if namespace in (SYSTEM_NAMESPACE, INFORMATION_SCHEMA):
            named = [table_id for table_id in self._known if table_id.namespace == namespace]
            return [self.table(table_id) for table_id in sorted(named)]
        chosen = (
            table
            for table in self.tables.all().values()
            if table.kind is not TableKind.SYSTEM
            and (namespace is None or table.table_id.namespace == namespace)
        )
        return sorted(chosen, key=lambda table: table.table_id)

    def check_free(self, table_id: TableId) -> None:
        """Raise `AlreadyExistsError` if a table or view has this name."""
        taken = self.tables.get(str(table_id))
        if taken is not None:
            kind = "View" if taken.kind is TableKind.VIEW else "Table"
            raise AlreadyExistsError(kind, str(table_id))

    def create_table(self, commit: Commit, table: TableDef) -> None:
        """Stage a new table or view, and count it in its namespace."""
        self.tables.put(commit, table)
        self._count(commit, table.table_id.namespace, 1)

    def drop_tables(self, commit: Commit, tables: Iterable[TableDef]) -> None:
        """Stage the removal of tables and views of one namespace."""
        dropped = list(tables)
        for table in dropped:
            self.tables.delete(commit, str(table.table_id))
        if dropped:
            self._count(commit, dropped[0].table_id.namespace, -len(dropped))

    def _count(self, commit: Commit, namespace: str, change: int) -> None:
        entry = self.namespace(namespace)
        self.namespaces.put(commit, replace(entry, table_count=entry.table_count + change))

    def _nearby(self, table_id: TableId) -> list[str]:
        in_place = [t.table_id.name for t in self.tables_in(table_id.namespace)]
        near = difflib.get_close_matches(table_id.name, in_place, n=1, cutoff=0.6)
        if near:
            return [f"{table_id.namespace}.{near[0]}"]
        elsewhere = [
            str(t.table_id) for t in self.tables_in(None) if t.table_id.name == table_id.name
        ]
        return sorted(elsewhere)[:1]

    # --- namespaces and users -----------------------------------------------------------------

    def namespace(self, name: str) -> Namespace:
        """Return a namespace; raises `NotFoundError` with near misses."""
        found = self.namespaces.get(name)
        if found is None:
            near = difflib.get_close_matches(name, list(self.namespaces.all()), n=1, cutoff=0.6)
            raise NotFoundError("Namespace", name, nearby=near)
        return found

    def role_of(self, user_id: str) -> Role:
        """Return the role of a user; an id that nobody registered counts as role user."""
        user = self.users.get(user_id)
        return Role.USER if user is None else user.role


class StorageRegistry:
    """Storages as objects that open files; made once per definition.

    Parameters
    ----------
    catalog : Catalog
    directory : Path
        Of the database: relative base directories start here.
    local_directory : Path
        Where ``local`` lies.
    """

    def __init__(self, catalog: Catalog, directory: Path, local_directory: Path) -> None:
        self._catalog = catalog
        self.directory = directory
        # System tables lie here, the one with the storages too: it is known without asking them.
        self._local = Storage(LOCAL_STORAGE, local_directory)
        self._made: dict[str, tuple[StorageDef, Storage]] = {}

    def storage(self, storage_id: str) -> Storage:
        """Return a storage for files that lie already; raises `NotFoundError`."""
        return self._local if storage_id == LOCAL_STORAGE else self._defined(storage_id)

    def place(self, table: TableDef, scope: str) -> tuple[Storage, str]:
        """Return where new segments of a partition go: storage and relative directory."""
        if table.kind is TableKind.SYSTEM:
            storage = self._local
        else:
            storage = self._defined(self._storage_id(table, scope))
        return storage, storage.directory(table.table_id, scope if table.kind.is_scoped else None)

    def make(self, definition: StorageDef) -> Storage:
        """Return the storage of a definition, which may not be in the catalog yet.

        Raises
        ------
        InvalidOptionError
            Its templates or its configuration do not hold.
        """
        is_local = definition.storage_id == LOCAL_STORAGE
        base = self.directory / definition.base_directory
        return Storage(
            definition.storage_id,
            self._local.base_directory if is_local else base,
            shared_template=definition.shared_tables_template,
            user_template=definition.user_tables_template,
            shards=shards_of(definition.config),
            is_claimed=not is_local,
        )

    def _storage_id(self, table: TableDef, scope: str) -> str:
        """Return the user's own storage where the table follows it, else the table's."""
        if table.options.use_user_storage:
            user = self._catalog.users.get(scope)
            if user is not None and user.storage_id in self._catalog.storages.all():
                return str(user.storage_id)
        return table.options.storage_id or LOCAL_STORAGE

    def _defined(self, storage_id: str) -> Storage:
        definition = self._catalog.storages.get(storage_id)
        if definition is None:
            raise NotFoundError("Storage", storage_id)
        made = self._made.get(storage_id)
        if made is None or made[0] != definition:
            made = (definition, self.make(definition))
            self._made[storage_id] = made
        return made[1]
