"""CREATE, ALTER and DROP STORAGE, and STORAGE CHECK."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from kalamdb_lab.catalog.catalog import LOCAL_STORAGE, Catalog, StorageRegistry
from kalamdb_lab.errors import (
    AlreadyExistsError,
    InUseError,
    InvalidOptionError,
    NotFoundError,
    NotSupportedError,
    StorageError,
)
from kalamdb_lab.handlers.listing import Columns, listing
from kalamdb_lab.model.datatypes import BIGINT, TEXT, StorageValue
from kalamdb_lab.model.entities import StorageDef
from kalamdb_lab.model.ids import checked_name
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.partitions.commit import Commit
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.segments.base_directory import claiming, is_taken, lies_within, release
from kalamdb_lab.segments.manifest_file import clear
from kalamdb_lab.segments.templates import SHARED_TEMPLATE, USER_TEMPLATE, json_object
from kalamdb_lab.sql.commands import AlterStorage, CheckStorage, CreateStorage, DropStorage

Text = TypeVar("Text", str, str | None)

_FILESYSTEM = "filesystem"
_RESERVED_TYPES = ("s3", "gcs", "azure")
_LONGEST_PATH = 500

_CHECK: Columns = [("storage_id", TEXT), ("status", TEXT), ("message", TEXT)]
_EXTENDED: Columns = [
    *_CHECK,
    ("total_bytes", BIGINT),
    ("free_bytes", BIGINT),
    ("used_bytes", BIGINT),
    ("segment_count", BIGINT),
]


class StorageHandler:
    """Define the places where segments lie; each change is one commit.

    No message names a directory but as the user wrote it, and none says anything of credentials.
    """

    def __init__(self, catalog: Catalog, log: CommitLog, storages: StorageRegistry) -> None:
        self._catalog = catalog
        self._log = log
        self._storages = storages

    def create(self, statement: CreateStorage, request: Request) -> Result:
        """Run CREATE STORAGE: claims the directory, which is made if it is missing."""
        storage_id = checked_name(statement.storage_id)
        _check_type(statement)
        path = _checked_path(statement.base_directory)
        if statement.credentials is not None:
            json_object("CREDENTIALS", statement.credentials)
        definition = StorageDef(
            storage_id=storage_id,
            name=storage_id if statement.name is None else statement.name,
            storage_type=_FILESYSTEM,
            base_directory=path,
            shared_tables_template=_or(statement.shared_tables_template, SHARED_TEMPLATE),
            user_tables_template=_or(statement.user_tables_template, USER_TEMPLATE),
            created_at_us=0,
            updated_at_us=0,
            description=statement.description,
            credentials=statement.credentials,
            config=statement.config,
        )
        storage = self._storages.make(definition)
        # The directory goes again if the commit fails, at its very end too.
        with ExitStack() as claimed, self._log.commit() as commit:
            if self._catalog.storages.get(storage_id) is not None:
                if statement.if_not_exists:
                    return Result.of_message(
                        statement.kind, f"Storage '{storage_id}' already exists; nothing was done"
                    )
                raise AlreadyExistsError("Storage", storage_id)
            self._refuse_overlap(storage.base_directory, path)
            claimed.enter_context(
                claiming(
                    storage.base_directory,
                    shown_as=path,
                    with_parents=not Path(path).is_absolute(),
                    owner=self._storages.directory,
                )
            )
            self._catalog.storages.put(
                commit, replace(definition, created_at_us=commit.at_us, updated_at_us=commit.at_us)
            )
        return Result.of_message(statement.kind, f"Storage '{storage_id}' created")

    def alter(self, statement: AlterStorage, request: Request) -> Result:
        """Run ALTER STORAGE: templates hold for new segments, old ones stay where they lie."""
        with self._log.commit() as commit:
            old = self._storage(statement.storage_id)
            new = replace(
                old,
                name=_or(statement.name, old.name),
                description=_or(statement.description, old.description),
                shared_tables_template=_or(
                    statement.shared_tables_template, old.shared_tables_template
                ),
                user_tables_template=_or(statement.user_tables_template, old.user_tables_template),
                config=_or(statement.config, old.config),
                updated_at_us=commit.at_us,
            )
            self._storages.make(new)
            self._catalog.storages.put(commit, new)
        return Result.of_message(statement.kind, f"Storage '{statement.storage_id}' altered")

    def drop(self, statement: DropStorage, request: Request) -> Result:
        """Run DROP STORAGE: nothing may be in it but files that wait for their deletion."""
        storage_id = statement.storage_id
        if storage_id == LOCAL_STORAGE:
            raise NotSupportedError(f"Storage '{LOCAL_STORAGE}' cannot be dropped")
        with self._log.commit() as commit:
            definition = self._catalog.storages.get(storage_id)
            if definition is None and statement.if_exists:
                return Result.of_message(
                    statement.kind, f"Storage '{storage_id}' does not exist; nothing was done"
                )
            storage = self._storages.make(self._storage(storage_id))
            self._refuse_if_used(commit, storage_id)
            transaction = commit.transaction
            retired = [
                segment
                for segment in transaction.retired_segments()
                if segment.meta.storage_id == storage_id
            ]
            leased_from = transaction.oldest_lease(commit.at_us)
            if any(leased_from is not None and leased_from < s.retired_seq for s in retired):
                raise InUseError(
                    f"Storage '{storage_id}' is in use by a query that still runs; try again later"
                )
            transaction.forget_segments([segment.meta.segment_id for segment in retired])
            self._catalog.storages.delete(commit, storage_id)
            # After a crash behind the commit nothing would know of the files.
            with suppress(StorageError):
                clear(storage)
        with suppress(StorageError):
            clear(storage)
            release(storage.base_directory)
        return Result.of_message(statement.kind, f"Storage '{storage_id}' dropped")

    def check(self, statement: CheckStorage, request: Request) -> Result:
        """Run STORAGE CHECK: writes, reads and deletes a file."""
        storage_id = statement.storage_id
        self._storage(storage_id)
        storage = self._storages.storage(storage_id)
        usage = None
        try:
            storage.probe()
            if statement.extended:
                usage = storage.usage()
            row: tuple[StorageValue, ...] = (
                storage_id,
                "healthy",
                "Files can be written and read",
            )
        except StorageError as error:
            row = (storage_id, "unreachable", str(error))
        if not statement.extended:
            return listing(statement.kind, _CHECK, [row])
        with self._log.store.read() as transaction:
            live = (listed.meta for listed in transaction.all_segments())
            segment_count = len(_lying_in(storage_id, live))
        sizes: tuple[StorageValue, ...] = (None, None, None)
        if usage is not None:
            sizes = (usage.total_bytes, usage.free_bytes, usage.used_bytes)
        return listing(statement.kind, _EXTENDED, [(*row, *sizes, segment_count)])

    def _storage(self, storage_id: str) -> StorageDef:
        definition = self._catalog.storages.get(storage_id)
        if definition is None:
            raise NotFoundError("Storage", storage_id)
        return definition

    def _refuse_overlap(self, base: Path, path: str) -> None:
        """Refuse a directory whose files would be those of two storages, or of the catalog."""
        if lies_within(self._storages.directory, base):
            raise InvalidOptionError(f"PATH '{path}' holds the database itself")
        if is_taken(base, self._storages.directory):
            raise InvalidOptionError(f"PATH '{path}' is where the database keeps its own files")
        for other in sorted(self._catalog.storages.all()):
            taken = self._storages.storage(other).base_directory
            if lies_within(base, taken) or lies_within(taken, base):
                raise InvalidOptionError(f"PATH '{path}' overlaps with storage '{other}'")

    def _refuse_if_used(self, commit: Commit, storage_id: str) -> None:
        for table in self._catalog.tables_in(None):
            if table.options.storage_id == storage_id:
                raise InUseError(f"Storage '{storage_id}' is in use by table {table.table_id}")
        for user_id, user in sorted(self._catalog.users.all().items()):
            if user.storage_id == storage_id and user.deleted_at_us is None:
                raise InUseError(f"Storage '{storage_id}' is in use by user '{user_id}'")
        # Rows stay in the storage that a user had when they were flushed.
        live = (listed.meta for listed in commit.transaction.all_segments())
        for meta in _lying_in(storage_id, live):
            owner = self._catalog.table_by_key(meta.partition.table_key)
            by = "" if owner is None else f" by table {owner.table_id}"
            raise InUseError(f"Storage '{storage_id}' is in use{by}")


def _check_type(statement: CreateStorage) -> None:
    storage_type = statement.storage_type.lower()
    if storage_type in _RESERVED_TYPES:
        raise NotSupportedError(f"Storage type '{storage_type}' is not supported yet")
    if storage_type != _FILESYSTEM:
        raise InvalidOptionError(f"Unknown storage type '{storage_type[:64]}'; use {_FILESYSTEM}")
    for name, value in (("BUCKET", statement.bucket), ("REGION", statement.region)):
        if value is not None:
            raise InvalidOptionError(f"{name} is not supported for {_FILESYSTEM} storages")


def _checked_path(path: str | None) -> str:
    """Return PATH as it was written, or refuse it."""
    if not path:
        raise InvalidOptionError(f"A {_FILESYSTEM} storage needs a PATH")
    if len(path) > _LONGEST_PATH:
        raise InvalidOptionError(f"PATH is longer than {_LONGEST_PATH} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise InvalidOptionError("PATH must not contain control characters")
    if "://" in path:
        raise InvalidOptionError(f"PATH '{path}' is a URL; name a directory")
    if ".." in path.replace("\\", "/").split("/"):
        raise InvalidOptionError("PATH must not contain '..'")
    if path.startswith("~"):
        raise InvalidOptionError(f"PATH '{path}' starts with '~'; write the directory out")
    return path


def _lying_in(storage_id: str, metas: Iterable[SegmentMeta]) -> list[SegmentMeta]:
    return [meta for meta in metas if meta.storage_id == storage_id]


def _or(said: str | None, default: Text) -> str | Text:
    return default if said is None else said
