"""Eviction: expired events of a stream leave the log."""

from __future__ import annotations

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.partitions.commit import Commit
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.payload import encode_evicted
from kalamdb_lab.store.log import EntryKind


def evict_expired(log: CommitLog, commit: Commit, key: PartitionKey, before_us: int) -> int:
    """Stage the end of a partition's entries that are not younger than ``before_us``.

    Reads leave expired events out whether they were evicted or not; this gives their space back.
    Returns the number of entries evicted.
    """
    expired = [seq for seq, _, at_us in log.partition(key).entries if at_us <= before_us]
    if expired:
        commit.transaction.delete_entries(key, expired)
        commit.append_event(key, EntryKind.EVICT, encode_evicted(expired))
    return len(expired)
