"""A namespace into a directory and back: definitions, and the rows of all users."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from kalamdb_lab.catalog.catalog import LOCAL_STORAGE, Catalog
from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.catalog.portable import (
    namespace_from_bytes,
    namespace_to_bytes,
    table_from_bytes,
    table_to_bytes,
)
from kalamdb_lab.catalog.system_tables import FIRST_FREE_TABLE_KEY
from kalamdb_lab.clock import Clock
from kalamdb_lab.errors import AlreadyExistsError, NotSupportedError, StorageError
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, PartitionKey, TableId
from kalamdb_lab.model.tables import TableDef, TableKind
from kalamdb_lab.partitions.backup import PartitionCopier, PartitionRestorer, RestoredPartition
from kalamdb_lab.partitions.commit import Commit
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.leases import Leases
from kalamdb_lab.partitions.partition import loaded
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.backup_file import (
    FORMAT_VERSION,
    BackupFile,
    CopiedTable,
    Step,
    damaged_backup,
    verify_files,
    write_backup,
)
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.store.frozen import FrozenStore
from kalamdb_lab.store.log import EntryKind, ReadTransaction

Progress = Callable[[int, int], None]
"""Called with the pieces of work that are done, and all of them; may raise to stop."""


class NamespaceBackup:
    """Writes backups of namespaces while others read, write, flush and compact."""

    def __init__(
        self,
        log: CommitLog,
        reader: SegmentReader,
        leases: Leases,
        storage: Callable[[str], Storage],
        clock: Clock,
    ) -> None:
        self._log = log
        self._reader = reader
        self._leases = leases
        self._storage = storage
        self._clock = clock

    def write(
        self, namespace: str, target: Storage, *, step: Step, progress: Progress
    ) -> BackupFile:
        """Write all of a namespace as it is at this moment, and ``backup.json`` at the end.

        Raises
        ------
        NotFoundError
            The namespace is gone by now.
        CorruptError
            A segment is damaged; the error names its table.
        NotSupportedError
            The database lies where write-ahead logging does not work.
        """
        store = self._log.store
        with store.read() as transaction:
            seq = transaction.last_seq()
        # Files that the moment held needs are kept from before it on.
        with self._leases.holding(seq, at_once=True):
            try:
                frozen = FrozenStore(store.hold())
            except NotSupportedError:
                raise NotSupportedError(
                    "BACKUP is not supported where write-ahead logging does not work; use kalam "
                    "backup for the database"
                ) from None
            try:
                return self._write(namespace, frozen, target, step, progress)
            finally:
                frozen.close()

    def _write(
        self, name: str, frozen: FrozenStore, target: Storage, step: Step, progress: Progress
    ) -> BackupFile:
        log = CommitLog(frozen, self._clock, self._reader.seq_numbers)
        catalog = Catalog(log, self._reader)
        namespace = catalog.namespace(name)
        tables = catalog.tables_in(name)
        at_us = self._clock.now_us()
        with frozen.read() as transaction:
            keys = [_keys(transaction, table) for table in tables]
            first_free_id = transaction.last_segment_id() + 1
        copier = PartitionCopier(
            self._reader,
            self._storage,
            target,
            first_segment_id=first_free_id,
            at_us=at_us,
            step=step,
        )
        done, total = 0, sum(map(len, keys))
        copied = []
        for table, own in zip(tables, keys, strict=True):
            partitions = []
            for key in own:
                progress(done, total)
                with frozen.read() as transaction:
                    partition = loaded(key, transaction, self._reader.seq_numbers)
                partitions.append(copier.copy(table, partition))
                done += 1
            kept = [item for item in partitions if item.segments]
            copied.append(
                CopiedTable(table.table_id.name, table.kind.value, table_to_bytes(table), kept)
            )
        backup = BackupFile(
            format_version=FORMAT_VERSION,
            digest="",
            namespace=name,
            definition=namespace_to_bytes(namespace),
            seq=log.applied_seq,
            at_us=at_us,
            row_count=copier.row_count,
            size_bytes=copier.size_bytes,
            tables=copied,
        )
        step()
        write_backup(target, backup)
        return backup


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a restore has taken for itself: numbers, keys of tables, ids of segments."""

    shift: int
    tables: list[TableDef]
    segment_ids: Iterator[int]


class NamespaceRestore:
    """Makes the namespace of a backup anew.

    All rows are written as new versions with new numbers, in their old order: those of the backup
    may be taken here, by another database's rows or by what became of these. Deleted versions
    stay deleted, and their retention starts anew; replaced ones are left out.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        home: SegmentHome,
        storage: Callable[[str], Storage],
        system: SystemKeeper,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._home = home
        self._storage = storage
        self._system = system
        self._clock = clock

    def check(self, source: Storage, backup: BackupFile) -> None:
        """Refuse what can be seen not to work before anything is read or written.

        Raises
        ------
        AlreadyExistsError
            The namespace is there. ``default``, which always is, counts while it holds nothing.
        NotFoundError
            A storage that a table names is missing here.
        CorruptError
            A definition is damaged.
        """
        self._check(backup.namespace, _definitions(source, backup))

    def exists(self, namespace: str) -> bool:
        """Return whether a namespace is there, so that none can be restored under its name."""
        return self._catalog.namespaces.get(namespace) is not None and (
            namespace != DEFAULT_NAMESPACE or bool(self._catalog.tables_in(namespace))
        )

    def restore(
        self, source: Storage, backup: BackupFile, *, step: Step, progress: Progress
    ) -> None:
        """Write the rows of a backup, and publish all of it in one commit.

        What fails or is killed before that leaves files that nobody lists, and nothing else.

        Raises
        ------
        CorruptError
            A file of the backup is damaged; the error names its table.
        AlreadyExistsError, NotFoundError
            As `check`.
        """
        old = _definitions(source, backup)
        self._check(backup.namespace, old)
        self._verify(source, backup, old, step)
        plan = self._reserve(backup, old)
        restorer = PartitionRestorer(
            source,
            self._home,
            shift=plan.shift,
            segment_ids=plan.segment_ids,
            now_us=self._clock.now_us(),
            step=step,
        )
        work = [
            (partition, was, table)
            for copied, was, table in zip(backup.tables, old, plan.tables, strict=True)
            for partition in copied.partitions
        ]
        restored: list[RestoredPartition] = []
        try:
            for done, (partition, was, table) in enumerate(work):
                progress(done, len(work))
                restored.append(restorer.restore(partition, was, table))
            step()
            with self._log.commit() as commit:
                self._check(backup.namespace, old)
                self._publish(commit, backup, plan.tables, restored)
        except BaseException:
            for meta in restorer.written:
                self._home.discard_unlisted(meta, self._log.store)
            raise
        for item in restored:
            if item.segments:
                self._home.published(item.table, item.key, self._log.store)
        self._system.keep()

    def _check(self, namespace: str, tables: Sequence[TableDef]) -> None:
        if self.exists(namespace):
            raise AlreadyExistsError("Namespace", namespace)
        for table in tables:
            storage_id = table.options.storage_id
            if table.is_stored and storage_id not in (None, LOCAL_STORAGE):
                self._storage(storage_id)

    def _verify(
        self, source: Storage, backup: BackupFile, tables: Sequence[TableDef], step: Step
    ) -> None:
        for copied, table in zip(backup.tables, tables, strict=True):
            for partition in copied.partitions:
                for segment in partition.segments:
                    verify_files(source, segment, table.table_id, step)

    def _reserve(self, backup: BackupFile, old: Sequence[TableDef]) -> _Plan:
        """Take numbers, table keys and segment ids in a commit that nobody sees anything of.

        So rows can be written with their final numbers without holding up other writers.
        """
        segments = [s for t in backup.tables for p in t.partitions for s in p.segments]
        first_seq = min((s.listed.segment.min_seq for s in segments), default=backup.seq + 1)
        span = backup.seq + 1 - first_seq
        with self._log.commit() as commit:
            transaction = commit.transaction
            base = transaction.last_seq() + 1
            # The first key belongs to no table: it only says what the numbers were taken for.
            nobody = PartitionKey(FIRST_FREE_TABLE_KEY + base, "")
            entry = transaction.append(
                nobody, EntryKind.COMPACT, 1 + len(old) + span, commit.at_us, b""
            )
            commit.staged.append((entry, None))
            segment_ids = [transaction.next_segment_id() for _ in segments]
        tables = [
            replace(table, table_key=FIRST_FREE_TABLE_KEY + base + number)
            for number, table in enumerate(old, start=1)
        ]
        return _Plan(base + len(old) + 1 - first_seq, tables, iter(segment_ids))

    def _publish(
        self,
        commit: Commit,
        backup: BackupFile,
        tables: Sequence[TableDef],
        restored: Sequence[RestoredPartition],
    ) -> None:
        namespace = namespace_from_bytes(backup.definition)
        self._catalog.namespaces.put(commit, replace(namespace, table_count=len(tables)))
        for table in tables:
            self._catalog.tables.put(commit, table)
        for item in restored:
            for listed in item.segments:
                self._home.require(listed.meta)
                if self._storage(listed.meta.storage_id).stat(listed.meta.path) is None:
                    raise StorageError("Files of the restore went meanwhile; nothing was restored")
                commit.transaction.add_segment(listed.meta, listed.removed)
            if item.segments:
                commit.append_event(item.key, EntryKind.COMPACT)
            for at_us, rows in item.events:
                commit.append_rows(item.key, item.table, rows, at_us=at_us)


def _definitions(source: Storage, backup: BackupFile) -> list[TableDef]:
    """Return the tables of a backup with the keys they had; none of another namespace."""
    tables = [table_from_bytes(table.definition) for table in backup.tables]
    ids = [TableId(backup.namespace, table.name) for table in backup.tables]
    if [t.table_id for t in tables] != ids or any(t.kind is TableKind.SYSTEM for t in tables):
        raise damaged_backup(source.storage_id)
    return tables


def _keys(transaction: ReadTransaction, table: TableDef) -> list[PartitionKey]:
    if not table.is_stored:
        return []
    return [PartitionKey(table.table_key, scope) for scope in transaction.scopes(table.table_key)]
