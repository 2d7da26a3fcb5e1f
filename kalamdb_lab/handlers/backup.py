"""BACKUP DATABASE, RESTORE DATABASE and SHOW BACKUPS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from kalamdb_lab.catalog.catalog import Catalog, StorageRegistry
from kalamdb_lab.errors import (
    BackupNotFoundError,
    InvalidNameError,
    InvalidOptionError,
    NotSupportedError,
)
from kalamdb_lab.handlers.listing import Columns, listing
from kalamdb_lab.jobs.manager import JobManager, JobRun
from kalamdb_lab.model.datatypes import BIGINT, DATETIME, TEXT, StorageValue
from kalamdb_lab.model.ids import RESERVED_NAMESPACES
from kalamdb_lab.model.jobs import Job, JobKind
from kalamdb_lab.model.readable import plural
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.segments.backup_file import BackupFile, check_unused, new_backup, read_backup
from kalamdb_lab.segments.base_directory import is_taken, lies_within
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.sql.commands import BackupDatabase, RestoreDatabase, ShowBackups
from kalamdb_lab.tables.backup import NamespaceBackup, NamespaceRestore

_LONGEST_PATH = 400
_JOB: Columns = [("job_id", TEXT), ("job_type", TEXT), ("status", TEXT), ("message", TEXT)]
_BACKUPS: Columns = [
    ("backup_id", TEXT),
    ("namespace_id", TEXT),
    ("path", TEXT),
    ("status", TEXT),
    ("table_count", BIGINT),
    ("row_count", BIGINT),
    ("bytes", BIGINT),
    ("created_at", DATETIME),
    ("created_by", TEXT),
]


class BackupHandler:
    """Backs up and restores namespaces, each as a job.

    Parameters
    ----------
    directory : Path
        Of the database: relative directories of backups start there.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        jobs: JobManager,
        storages: StorageRegistry,
        backups: NamespaceBackup,
        restores: NamespaceRestore,
        directory: Path,
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._jobs = jobs
        self._storages = storages
        self._backups = backups
        self._restores = restores
        self._directory = directory

    def backup(self, statement: BackupDatabase, request: Request) -> Result:
        """Run BACKUP DATABASE."""
        name, shown = statement.namespace, statement.directory
        if name in RESERVED_NAMESPACES:
            raise NotSupportedError(
                f"Namespace '{name}' cannot be backed up alone; use kalam backup for the database"
            )
        if statement.if_exists and self._catalog.namespaces.get(name) is None:
            return Result.of_message(
                statement.kind, f"Namespace '{name}' does not exist; nothing was done"
            )
        self._catalog.namespace(name)
        place = self._place(shown)
        self._refuse_storages(place, shown)
        check_unused(place, shown)

        def work(run: JobRun) -> str:
            with new_backup(place, shown) as target:
                made = self._backups.write(name, target, step=run.check, progress=run.progress)
                counts = {
                    "table_count": len(made.tables),
                    "row_count": made.row_count,
                    "bytes": made.size_bytes,
                }
                self._note(run, counts)
            return f"Backed up {_counted(made)} to '{shown}'"

        return self._run(JobKind.BACKUP, f"backup:{name}:{shown}", statement, request, work)

    def restore(self, statement: RestoreDatabase, request: Request) -> Result:
        """Run RESTORE DATABASE."""
        name, shown = statement.namespace, statement.directory
        if name in RESERVED_NAMESPACES:
            raise InvalidNameError(f"Namespace '{name}' is reserved")
        if statement.if_not_exists and self._restores.exists(name):
            return Result.of_message(
                statement.kind, f"Namespace '{name}' already exists; nothing was done"
            )
        source, backup = self._read(shown)
        if backup.namespace != name:
            raise InvalidOptionError(
                f"The backup at '{shown}' holds namespace '{backup.namespace}', not '{name}'"
            )
        self._restores.check(source, backup)

        def work(run: JobRun) -> str:
            self._restores.restore(source, backup, step=run.check, progress=run.progress)
            return f"Restored {_counted(backup)} from '{shown}'"

        return self._run(JobKind.RESTORE, f"restore:{name}", statement, request, work)

    def show(self, statement: ShowBackups, request: Request) -> Result:
        """Run SHOW BACKUPS: also of a namespace that is gone and may be restored."""
        name = statement.namespace
        found = [
            job
            for job in self._jobs.jobs()
            if job.kind is JobKind.BACKUP and job.parameters.get("namespace_id") == name
        ]
        if not found:
            self._catalog.namespace(name)
        rows = sorted(map(_backup_row, found), key=lambda row: str(row[0]))
        return listing(statement.kind, _BACKUPS, rows)

    def _run(
        self,
        kind: JobKind,
        key: str,
        statement: BackupDatabase | RestoreDatabase,
        request: Request,
        work: Callable[[JobRun], str],
    ) -> Result:
        job = self._jobs.run(
            kind,
            key=key,
            parameters={"namespace_id": statement.namespace, "path": statement.directory},
            created_by=request.context.user_id,
            work=work,
            interruption=request.interruption,
        )
        row = (job.job_id, job.kind.value, job.status.value, job.message)
        return listing(statement.kind, _JOB, [row])

    def _note(self, run: JobRun, counts: Mapping[str, int]) -> None:
        """Let the job's row say what the backup holds, for SHOW BACKUPS."""
        with self._log.commit() as commit:
            job = self._jobs.job(run.job_id)
            parameters = {**job.parameters, **counts}
            self._catalog.jobs.put(commit, replace(job, parameters=parameters))

    def _place(self, shown: str) -> Path:
        if not shown.strip():
            raise InvalidOptionError("A backup needs a directory")
        if len(shown) > _LONGEST_PATH or not shown.isprintable():
            raise InvalidOptionError(
                f"The directory of a backup has at most {_LONGEST_PATH} characters, and no control "
                "characters"
            )
        return self._directory / shown

    def _refuse_storages(self, place: Path, shown: str) -> None:
        """Refuse a place where files that the database does not list are cleaned up."""
        if is_taken(place, self._directory):
            raise InvalidOptionError(f"'{shown}' is where the database keeps its own files")
        for storage_id in sorted(self._catalog.storages.all()):
            if lies_within(place, self._storages.storage(storage_id).base_directory):
                raise InvalidOptionError(
                    f"'{shown}' lies in storage '{storage_id}'; choose a directory outside of it"
                )

    def _read(self, shown: str) -> tuple[Storage, BackupFile]:
        found = read_backup(self._place(shown), shown)
        if found is None:
            raise BackupNotFoundError(shown)
        return found


def _counted(backup: BackupFile) -> str:
    tables, rows = plural(len(backup.tables), "table"), plural(backup.row_count, "row")
    return f"{tables} with {rows}"


def _backup_row(job: Job) -> tuple[StorageValue, ...]:
    said = job.parameters
    counts = [said.get(name) for name in ("table_count", "row_count", "bytes")]
    return (
        job.job_id,
        str(said.get("namespace_id")),
        str(said.get("path")),
        job.status.value,
        *[count if isinstance(count, int) else None for count in counts],
        job.created_at_us,
        job.created_by,
    )
