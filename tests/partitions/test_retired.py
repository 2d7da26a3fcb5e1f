"""Which retired files go: those that no read needs, told by what is known of reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from partition_world import ALICE, BOB, TABLE, World

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.partitions.compaction import compact_partition
from kalamdb_lab.partitions.flush import flush_partition
from kalamdb_lab.partitions.leases import Leases
from kalamdb_lab.partitions.retired import Deleted, RetiredFiles
from kalamdb_lab.store.log import EntryKind

GRACE_S = 600
DROPPED_S = 3_600


@dataclass
class Setting:
    world: World
    leases: Leases
    retired: RetiredFiles
    is_alone: bool = True
    is_dropped: bool = False
    synced: int = 0

    def sync(self) -> None:
        self.synced += 1

    def files(self) -> list[str]:
        base = Path(self.world.home._storage("local").base_directory)
        return sorted(str(path.relative_to(base)) for path in base.rglob("*"))


@pytest.fixture
def setting(here: World) -> Setting:
    leases = Leases(here.log.store, here.clock, grace_s=GRACE_S)
    made: Setting
    retired = RetiredFiles(
        here.log,
        here.home,
        leases,
        here.clock,
        is_alone=lambda: made.is_alone,
        is_dropped=lambda _: made.is_dropped,
        sync=lambda: made.sync(),  # noqa: PLW0108 - it is made later
        grace_s=GRACE_S,
        dropped_retention_s=DROPPED_S,
    )
    made = Setting(here, leases, retired)
    return made


def _merge(world: World, key: PartitionKey = ALICE) -> None:
    """Leave two retired segments and a live one."""
    for row in (1, 2):
        world.insert(row, key=key)
        flush_partition(world.log, world.home, lambda: TABLE, key, purge_before_seq=0)
    compact_partition(world.log, world.home, world.reader, lambda: TABLE, key, purge_before_seq=0)


def _drop(world: World, key: PartitionKey = ALICE) -> None:
    with world.log.commit() as commit:
        commit.transaction.drop_partition(key, commit.at_us)
        commit.append_event(key, EntryKind.DROP)


def test_alone_and_without_reads_files_go_at_once_when_commits_are_durable(
    setting: Setting,
) -> None:
    _merge(setting.world)
    assert len([name for name in setting.files() if name.endswith(".parquet")]) == 3
    assert setting.retired.delete() == Deleted(2, 0)
    assert setting.synced == 1
    assert [name for name in setting.files() if name.endswith(".parquet")] == [
        "lab/events/alice/s-000003.parquet"
    ]
    assert setting.world.ids() == [1, 2]
    assert setting.retired.delete() == Deleted(0, 0)
    assert setting.synced == 1, "nothing to do costs nothing"


def test_beside_other_processes_files_outlive_the_grace_time(setting: Setting) -> None:
    setting.is_alone = False
    _merge(setting.world)
    assert setting.retired.delete() == Deleted(0, 2)
    setting.world.clock.advance(GRACE_S)
    assert setting.retired.delete() == Deleted(0, 2)
    setting.world.clock.advance(1)
    store, clock = setting.world.log.store, setting.world.clock
    store.lease(99, setting.world.log.applied_seq - 2, clock.now_us() + 60_000_000)
    assert setting.retired.delete() == Deleted(0, 2), "a long read of another process"
    store.release(99)
    assert setting.retired.delete() == Deleted(2, 0)
    assert setting.world.ids() == [1, 2]


def test_own_reads_keep_what_they_may_open(setting: Setting) -> None:
    world = setting.world
    with setting.leases.holding(world.log.applied_seq):
        _merge(world)
        assert setting.retired.delete() == Deleted(0, 2)
        with setting.leases.holding(world.log.applied_seq):
            assert setting.retired.delete() == Deleted(0, 2)
    with setting.leases.holding(world.log.applied_seq):
        assert setting.retired.delete() == Deleted(2, 0), "it began after they were retired"


@pytest.mark.parametrize("is_alone", [True, False])
def test_own_reads_keep_it_however_long_they_last(setting: Setting, is_alone: bool) -> None:
    setting.is_alone = is_alone
    with setting.leases.holding(setting.world.log.applied_seq):
        _merge(setting.world)
        setting.world.clock.advance(10 * GRACE_S)
        assert setting.retired.delete() == Deleted(0, 2)
    assert setting.retired.delete() == Deleted(2, 0)


def test_files_of_dropped_tables_stay_for_their_retention(setting: Setting) -> None:
    _merge(setting.world)
    setting.is_dropped = True
    _drop(setting.world)
    assert setting.retired.delete() == Deleted(0, 3)
    setting.world.clock.advance(DROPPED_S - 1)
    assert setting.retired.delete() == Deleted(0, 3)
    setting.world.clock.advance(1)
    assert setting.retired.delete() == Deleted(3, 0)
    assert setting.files() == [], "manifest and directories went too"


def test_erased_scopes_wait_for_nothing_but_reads(setting: Setting) -> None:
    setting.is_alone = False
    setting.is_dropped = True
    _merge(setting.world)
    _merge(setting.world, BOB)
    with setting.leases.holding(setting.world.log.applied_seq):
        _drop(setting.world)
        _drop(setting.world, BOB)
        assert setting.retired.delete(erased={"alice"}) == Deleted(2, 4), "the read needs one"
    assert setting.retired.delete(erased={"alice"}) == Deleted(1, 3)
    assert {name.split("/")[2] for name in setting.files() if name.count("/") > 1} == {"bob"}


def test_a_new_segment_in_the_place_keeps_manifest_and_directory(setting: Setting) -> None:
    _merge(setting.world)
    _drop(setting.world)
    setting.world.insert(7)
    flush_partition(setting.world.log, setting.world.home, lambda: TABLE, ALICE, purge_before_seq=0)
    assert setting.retired.delete() == Deleted(3, 0)
    assert setting.files()[2:] == [
        "lab/events/alice",
        "lab/events/alice/manifest.json",
        "lab/events/alice/s-000004.parquet",
    ]
    assert setting.world.ids() == [7]


def test_a_sweep_takes_what_crashes_left_but_nothing_newer(setting: Setting) -> None:
    world = setting.world
    _merge(world)
    base = world.home._storage("local").base_directory / "lab/events/alice"
    for name in ("s-000002.vectors.0123abcd.tmp", "s-000009.parquet", "notes.txt"):
        (base / name).write_bytes(b"left")
    with world.log.commit() as commit:
        commit.transaction.drop_partition(ALICE, commit.at_us)
        commit.append_event(ALICE, EntryKind.DROP)
        last = commit.transaction.last_segment_id()
    setting.retired.delete(erased={"alice"})
    world.home.sweep(TABLE, ALICE, world.log.store, upto_segment_id=last)
    assert sorted(path.name for path in base.iterdir()) == ["notes.txt", "s-000009.parquet"]
