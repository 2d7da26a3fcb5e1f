"""What does the work of each kind of jobs.

All that an executor needs is in the parameters of its job, as another process may run it, or
this one after a restart. Each says why running it twice is safe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.jobs.backups import NamespaceCopies
from kalamdb_lab.jobs.cleanup import CleanUp, deletion_message
from kalamdb_lab.jobs.indexes import INDEX, IndexWork
from kalamdb_lab.jobs.run import Completed, Decision, Executor, JobRun
from kalamdb_lab.jobs.upkeep import TableUpkeep
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.jobs import Job, JobKind
from kalamdb_lab.model.readable import plural
from kalamdb_lab.model.tables import TableDef, TableKind

TASK: Final = "task"
"""The parameter that says what a clean-up takes away; without it, all that a VACUUM does."""
DROPPED: Final = "dropped"
"""Files of segments that were dropped or merged."""
ORPHANS: Final = "orphans"
"""These, and files that crashes left and nothing names."""
INDEXES: Final = "indexes"
"""What was built for dropped indexes of a table."""


def table_parameters(table: TableDef) -> dict[str, object]:
    """Return the parameters of a job on a table."""
    return {"namespace_id": table.table_id.namespace, "table_name": table.table_id.name}


class Executors:
    """The executors of one database.

    Parameters
    ----------
    scrub : callable
        Takes what was deleted out of the catalog's file for good; False if a reader hinders it.
    """

    def __init__(
        self,
        catalog: Catalog,
        upkeep: TableUpkeep,
        cleanup: CleanUp,
        copies: NamespaceCopies,
        indexes: IndexWork,
        scrub: Callable[[], bool],
    ) -> None:
        self._indexes = indexes
        self._catalog = catalog
        self._upkeep = upkeep
        self._cleanup = cleanup
        self._scrub = scrub
        self.by_kind: dict[JobKind, Executor] = {
            JobKind.FLUSH: self.flush,
            JobKind.COMPACT: self.compact,
            JobKind.CLEANUP: self.clean_up,
            JobKind.RETENTION: self.retain,
            JobKind.STREAM_EVICTION: self.evict,
            JobKind.USER_CLEANUP: self.erase_users,
            JobKind.BACKUP: copies.backup,
            JobKind.RESTORE: copies.restore,
        }

    def flush(self, job: Job, run: JobRun) -> Decision:
        """Move the hot rows of a table into segments.

        Safe to run twice: entries are marked flushed in the commit that lists their segment, so
        the second run finds none.
        """
        table = self._table(job)
        if table is None or table.kind is TableKind.STREAM:
            return _is_gone(job)
        return Completed(self._upkeep.flush(table, run))

    def compact(self, job: Job, run: JobRun) -> Decision:
        """Merge the segments of a table, or build one of its indexes.

        Safe to run twice: segments are retired in the commit that lists the merged one, and who
        finds one of them retired throws its own away. What was built of an index is not built
        again.
        """
        table = self._table(job)
        if table is None or table.kind is TableKind.STREAM:
            return _is_gone(job)
        if INDEX in job.parameters:
            name = str(job.parameters[INDEX])
            return Completed(self._indexes.build(table.table_id, name, run))
        return Completed(self._upkeep.compact(table, run))

    def retain(self, job: Job, run: JobRun) -> Decision:
        """Remove deleted rows past their retention, and versions that were replaced.

        Safe to run twice: it rewrites segments as `compact` does, and what is gone is not found.
        """
        table = self._table(job)
        if table is None:
            return _is_gone(job)
        dropped = self._upkeep.purge([table], run)
        return Completed(deletion_message(self._cleanup.delete_retired(), versions=dropped))

    def evict(self, job: Job, run: JobRun) -> Decision:
        """Remove the expired events of a STREAM table.

        Safe to run twice: an event that is gone is not found again.
        """
        table = self._table(job)
        if table is None or table.kind is not TableKind.STREAM:
            return _is_gone(job)
        count = self._upkeep.purge([table], run)
        return Completed(f"Evicted {plural(count, 'event')}")

    def clean_up(self, job: Job, run: JobRun) -> Decision:
        """Delete files that nothing needs; as VACUUM also row versions, of a table or of all.

        Safe to run twice: files are deleted before the catalog forgets them, one that is gone
        already counts as deleted, and versions are removed as `retain` does.
        """
        task = job.parameters.get(TASK)
        if task == DROPPED:
            return Completed(deletion_message(self._cleanup.delete_retired()))
        if task == ORPHANS:
            deleted = self._cleanup.delete_retired()
            orphans = self._cleanup.delete_orphans(run)
            return Completed(deletion_message(deleted, orphans=orphans))
        if "table_name" not in job.parameters:
            return Completed(self._vacuum_everything(run))
        table = self._table(job)
        if table is None:
            return _is_gone(job)
        if task == INDEXES:
            return Completed(self._indexes.clear(table, run))
        versions = self._upkeep.purge([table], run)
        self._upkeep.trim(forgets=True)
        return Completed(deletion_message(self._cleanup.delete_retired(), versions=versions))

    def erase_users(self, job: Job, run: JobRun) -> Decision:
        """Erase the users who were dropped long enough ago.

        Safe to run twice: they are looked up anew, and one of whom nothing is left is not found.
        """
        users = self._cleanup.users_to_erase()
        if not users:
            return Completed("Erased 0 users: nothing to do")
        return Completed(self._cleanup.erase(users, run))

    def _vacuum_everything(self, run: JobRun) -> str:
        versions = self._upkeep.purge(self._upkeep.tables(None, streams=True), run)
        self._upkeep.trim(forgets=True)
        deleted = self._cleanup.delete_retired()
        orphans = self._cleanup.delete_orphans(run)
        run.check()
        message = deletion_message(deleted, versions=versions, orphans=orphans)
        if not self._scrub():
            message += "; an open transaction keeps freed pages of the catalog"
        return message

    def _table(self, job: Job) -> TableDef | None:
        """Return the table of a job as it is now; None if it has no rows of its own any more."""
        table = self._catalog.find_table(_table_id(job))
        return table if table is not None and table.is_stored else None


def _table_id(job: Job) -> TableId:
    return TableId(str(job.parameters["namespace_id"]), str(job.parameters["table_name"]))


def _is_gone(job: Job) -> Completed:
    return Completed(f"Table '{_table_id(job)}' was dropped meanwhile: nothing to do")
