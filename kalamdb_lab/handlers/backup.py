"""BACKUP DATABASE, RESTORE DATABASE and SHOW BACKUPS."""

from __future__ import annotations

from pathlib import Path

from kalamdb_lab.catalog.catalog import Catalog, StorageRegistry
from kalamdb_lab.errors import InvalidNameError, InvalidOptionError, NotSupportedError
from kalamdb_lab.handlers.listing import Columns, listing
from kalamdb_lab.jobs.backups import NamespaceCopies
from kalamdb_lab.jobs.manager import JobManager
from kalamdb_lab.model.datatypes import BIGINT, DATETIME, TEXT, StorageValue
from kalamdb_lab.model.ids import RESERVED_NAMESPACES
from kalamdb_lab.model.jobs import Job, JobKind
from kalamdb_lab.query.request import Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.segments.backup_file import check_unused
from kalamdb_lab.segments.base_directory import is_taken, lies_within
from kalamdb_lab.sql.commands import BackupDatabase, RestoreDatabase, ShowBackups

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
    """Backs up and restores namespaces, each as a job that the statement waits for.

    Parameters
    ----------
    directory : Path
        Of the database.
    """

    def __init__(
        self,
        catalog: Catalog,
        jobs: JobManager,
        storages: StorageRegistry,
        copies: NamespaceCopies,
        directory: Path,
    ) -> None:
        self._catalog = catalog
        self._jobs = jobs
        self._storages = storages
        self._copies = copies
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
        place = self._copies.place(shown)
        self._refuse_storages(place, shown)
        check_unused(place, shown)
        return self._run(JobKind.BACKUP, f"backup:{name}:{shown}", statement, request)

    def restore(self, statement: RestoreDatabase, request: Request) -> Result:
        """Run RESTORE DATABASE."""
        name, shown = statement.namespace, statement.directory
        if name in RESERVED_NAMESPACES:
            raise InvalidNameError(f"Namespace '{name}' is reserved")
        if statement.if_not_exists and self._copies.exists(name):
            return Result.of_message(
                statement.kind, f"Namespace '{name}' already exists; nothing was done"
            )
        self._copies.check_restore(name, shown)
        return self._run(JobKind.RESTORE, f"restore:{name}", statement, request)

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
    ) -> Result:
        job = self._jobs.run(
            kind,
            key=key,
            parameters={"namespace_id": statement.namespace, "path": statement.directory},
            created_by=request.context.user_id,
            interruption=request.interruption,
        )
        row = (job.job_id, job.kind.value, job.status.value, job.message)
        return listing(statement.kind, _JOB, [row])

    def _refuse_storages(self, place: Path, shown: str) -> None:
        """Refuse a place where files that the database does not list are cleaned up."""
        if is_taken(place, self._directory):
            raise InvalidOptionError(f"'{shown}' is where the database keeps its own files")
        for storage_id in sorted(self._catalog.storages.all()):
            if lies_within(place, self._storages.storage(storage_id).base_directory):
                raise InvalidOptionError(
                    f"'{shown}' lies in storage '{storage_id}'; choose a directory outside of it"
                )


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
