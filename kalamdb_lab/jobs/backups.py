"""Backups and restores of namespaces as jobs, and where their directories are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.errors import BackupNotFoundError, InvalidOptionError
from kalamdb_lab.jobs.run import Completed, Decision, JobRun
from kalamdb_lab.model.jobs import Job
from kalamdb_lab.model.readable import plural
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.segments.backup_file import BackupFile, new_backup, read_backup
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.tables.backup import NamespaceBackup, NamespaceRestore

_LONGEST_PATH = 400


class NamespaceCopies:
    """Backs up and restores namespaces; the parameters of a job name both and a directory.

    Parameters
    ----------
    directory : Path
        Of the database: relative directories of backups start there.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        backups: NamespaceBackup,
        restores: NamespaceRestore,
        directory: Path,
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._backups = backups
        self._restores = restores
        self._directory = directory

    def place(self, shown: str) -> Path:
        """Return the directory of a backup as the user wrote it; raises `InvalidOptionError`."""
        if not shown.strip():
            raise InvalidOptionError("A backup needs a directory")
        if len(shown) > _LONGEST_PATH or not shown.isprintable():
            raise InvalidOptionError(
                f"The directory of a backup has at most {_LONGEST_PATH} characters, and no control "
                "characters"
            )
        return self._directory / shown

    def exists(self, namespace: str) -> bool:
        """Return whether a namespace is there, so that none can be restored under its name."""
        return self._restores.exists(namespace)

    def check_restore(self, namespace: str, shown: str) -> None:
        """Refuse what can be seen not to work before anything is restored.

        Raises
        ------
        BackupNotFoundError, InvalidOptionError, AlreadyExistsError, NotFoundError, CorruptError
            There is no backup of that namespace there, or it cannot be restored here.
        """
        self._restores.check(*self._read(namespace, shown))

    def _read(self, namespace: str, shown: str) -> tuple[Storage, BackupFile]:
        found = read_backup(self.place(shown), shown)
        if found is None:
            raise BackupNotFoundError(shown)
        held = found[1].namespace
        if held != namespace:
            raise InvalidOptionError(
                f"The backup at '{shown}' holds namespace '{held}', not '{namespace}'"
            )
        return found

    def backup(self, job: Job, run: JobRun) -> Decision:
        """Write a backup.

        Safe to run twice: its directory must be new or empty, and what fails leaves it so.
        """
        namespace, shown = _names(job)
        with new_backup(self.place(shown), shown) as target:
            made = self._backups.write(namespace, target, step=run.check, progress=run.progress)
            self._note(job, made)
        return Completed(f"Backed up {_counted(made)} to '{shown}'")

    def restore(self, job: Job, run: JobRun) -> Decision:
        """Make a namespace anew from a backup.

        Safe to run twice: all of it is published in one commit, and the namespace must not be
        there then.
        """
        namespace, shown = _names(job)
        source, backup = self._read(namespace, shown)
        self._restores.restore(source, backup, step=run.check, progress=run.progress)
        return Completed(f"Restored {_counted(backup)} from '{shown}'")

    def _note(self, job: Job, made: BackupFile) -> None:
        """Let the job's row say what the backup holds, for SHOW BACKUPS."""
        counts = {
            "table_count": len(made.tables),
            "row_count": made.row_count,
            "bytes": made.size_bytes,
        }
        with self._log.commit() as commit:
            row = self._catalog.jobs.get(job.job_id)
            if row is not None:
                parameters = {**row.parameters, **counts}
                self._catalog.jobs.put(commit, replace(row, parameters=parameters))


def _names(job: Job) -> tuple[str, str]:
    return str(job.parameters["namespace_id"]), str(job.parameters["path"])


def _counted(backup: BackupFile) -> str:
    tables, rows = plural(len(backup.tables), "table"), plural(backup.row_count, "row")
    return f"{tables} with {rows}"
