"""What jobs take away for good: files that nothing names, and users that were dropped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress

from kalamdb_lab.catalog.catalog import Catalog
from kalamdb_lab.clock import Clock, SystemClock
from kalamdb_lab.errors import CorruptError, NotFoundError, StorageError
from kalamdb_lab.jobs.run import JobRun
from kalamdb_lab.model.jobs import JobKind
from kalamdb_lab.model.readable import plural
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.retired import Deleted, RetiredFiles
from kalamdb_lab.partitions.segment_home import SegmentHome
from kalamdb_lab.segments.layout import segment_paths
from kalamdb_lab.segments.manifest_file import orphans, read_manifests
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.store.log import EntryKind

_FRESH_S = 600
"""What is younger may be a file that somebody writes now and that nothing names yet."""

_DAY_US = 86_400_000_000
_WRITERS = frozenset({JobKind.FLUSH, JobKind.COMPACT, JobKind.RESTORE})


class CleanUp:
    """Deletes what is no longer needed, and erases users.

    Parameters
    ----------
    is_active : callable
        Whether a job of one of these kinds runs, in whatever process.
    storage : callable
        A storage by its id.
    grace_s : int
        How old files without a name are left alone, ten minutes at least.
    user_retention_days : int or None
        How long ago a user must have been dropped to be erased; None: never.
    """

    def __init__(
        self,
        catalog: Catalog,
        log: CommitLog,
        home: SegmentHome,
        retired: RetiredFiles,
        is_active: Callable[[Collection[JobKind]], bool],
        storage: Callable[[str], Storage],
        clock: Clock,
        *,
        grace_s: int,
        user_retention_days: int | None,
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._home = home
        self._retired = retired
        self._is_active = is_active
        self._storage = storage
        self._clock = clock
        self._fresh_us = max(grace_s, _FRESH_S) * 1_000_000
        self._user_retention_days = user_retention_days

    # --- files --------------------------------------------------------------------------------

    def delete_retired(self) -> Deleted:
        """Delete files of merged and dropped segments; the calling thread reads none of them."""
        self._log.reads_no_more()
        return self._retired.delete()

    def delete_orphans(self, run: JobRun) -> int:
        """Delete what crashes left in the storages, and return how many files or folders.

        A file that a manifest names stays, listed or not: after a catalog was lost and made
        again, it may be all that is left of a table. A storage that is out of reach is left out.
        """
        deleted = 0
        for storage_id in sorted(self._catalog.storages.all()):
            run.check()
            with suppress(NotFoundError, StorageError):
                deleted += self._delete_orphans(self._storage(storage_id), run.check)
        return deleted

    def has_orphans(self, check: Callable[[], None]) -> bool:
        """Return whether `delete_orphans` would find something; ``check`` may raise to stop."""
        for storage_id in sorted(self._catalog.storages.all()):
            with suppress(NotFoundError, StorageError):
                if any(True for _ in self._orphans(self._storage(storage_id), check)):
                    return True
        return False

    def _delete_orphans(self, storage: Storage, check: Callable[[], None]) -> int:
        found = list(self._orphans(storage, check))
        if not found or self._is_active(_WRITERS):
            return 0  # what a long restore writes may be old before it is listed
        named = self._named(storage)
        deleted = 0
        for path in found:
            if path in named:
                continue
            storage.delete(path)
            storage.delete_empty(path.rpartition("/")[0])
            deleted += 1
        return deleted

    def _orphans(self, storage: Storage, check: Callable[[], None]) -> Iterator[str]:
        # Files carry the machine's time, whatever clock the database runs on.
        before_us = SystemClock().now_us() - self._fresh_us
        named = self._named(storage)
        by_manifest: dict[str, set[str] | None] = {}
        for path in orphans(storage, named, older_than_us=before_us, check=check):
            directory = path.rpartition("/")[0]
            if directory not in by_manifest:
                by_manifest[directory] = _named_beside(storage, directory)
            beside = by_manifest[directory]
            if beside is not None and path not in beside:
                yield path

    def _named(self, storage: Storage) -> set[str]:
        with self._log.store.read() as transaction:
            metas = [listed.meta for listed in transaction.all_segments()]
            metas += [retired.meta for retired in transaction.retired_segments()]
        of_storage = (meta for meta in metas if meta.storage_id == storage.storage_id)
        return {path for meta in of_storage for path in segment_paths(meta)}

    # --- users --------------------------------------------------------------------------------

    def users_to_erase(self) -> list[str]:
        """Return the users who were dropped long enough ago and of whom something is left."""
        if self._user_retention_days is None:
            return []
        before_us = self._clock.now_us() - self._user_retention_days * _DAY_US
        dropped = {
            user.user_id
            for user in self._catalog.users.all().values()
            if user.deleted_at_us is not None and user.deleted_at_us <= before_us
        }
        if not dropped:
            return []
        with self._log.store.read() as transaction:
            left = transaction.remnants(dropped)
        return sorted({key.scope for key in left})

    def erase(self, users: Collection[str], run: JobRun) -> str:
        """Erase all rows of these users: entries of the log, segments, files, what is cached.

        The rows are gone with one commit; the files follow at once, but for those that somebody
        reads now. Until `SqliteStore.scrub`, freed pages of the catalog may still hold their
        bytes.
        """
        run.check()
        with self._log.commit() as commit:
            erased = commit.transaction.remnants(users)
            for key in erased:
                commit.transaction.drop_partition(key, commit.at_us)
                commit.append_event(key, EntryKind.DROP)
            last_segment_id = commit.transaction.last_segment_id()
        self._log.reads_no_more()
        done = self._retired.delete(erased=users)
        for key in erased:
            table = self._catalog.table_by_key(key.table_key)
            if table is not None:
                self._home.sweep(table, key, self._log.store, upto_segment_id=last_segment_id)
        partitions, segments = plural(len(erased), "partition"), plural(done.segments, "segment")
        return f"Erased {partitions} of {plural(len(users), 'user')}, deleted {segments}"


def deletion_message(done: Deleted, *, versions: int | None = None, orphans: int = 0) -> str:
    """Return in words what a clean-up took away.

    Parameters
    ----------
    versions : int or None
        Removed versions that went for good; None if it looked for none.
    """
    head = "" if versions is None else f"Removed {plural(versions, 'row version')}, "
    files = plural(done.segments, "segment")
    if not (versions or done.segments or orphans or done.waiting):
        return f"{head.removesuffix(', ') or f'Deleted {files}'}: nothing to do"
    text = f"{head}deleted {files}"
    if orphans:
        text += f" and {plural(orphans, 'orphan')}"
    if done.waiting:
        text += f"; {done.waiting:,} more stay for now"
    return text[0].upper() + text[1:]


def _named_beside(storage: Storage, directory: str) -> set[str] | None:
    """Return what the manifests of a directory name; None if one cannot be read."""
    try:
        manifests = read_manifests(storage, directory)
    except CorruptError:
        return None
    listed = (item for manifest in manifests for item in manifest.segments)
    return {path for item in listed for path in segment_paths(item.meta)}
