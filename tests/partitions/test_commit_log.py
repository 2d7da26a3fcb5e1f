"""The log as partitions see it: own commits, those of others, and what was trimmed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from partition_world import ALICE, BOB, TABLE, World, with_column

from kalamdb_lab.model.datatypes import TEXT
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.partitions.compaction import compact_partition
from kalamdb_lab.partitions.eviction import evict_expired
from kalamdb_lab.partitions.flush import flush_partition
from kalamdb_lab.partitions.partition import Partition
from kalamdb_lab.partitions.payload import RowChanges
from kalamdb_lab.store.log import EntryKind

FOR_EVER = 0


def flush(world: World) -> int:
    return flush_partition(
        world.log, world.home, lambda: TABLE, ALICE, purge_before_seq=FOR_EVER
    ).row_count


def compact(world: World, *, purge_before_seq: int = FOR_EVER) -> int:
    return compact_partition(
        world.log,
        world.home,
        world.reader,
        lambda: TABLE,
        ALICE,
        purge_before_seq=purge_before_seq,
    ).retired


def test_each_row_version_has_its_own_number(here: World) -> None:
    first = here.insert(1, 2, 3)
    assert here.insert(4) == first + 3
    assert here.snapshot().hot.column("_seq").to_pylist() == [
        first,
        first + 1,
        first + 2,
        first + 3,
    ]


def test_a_commit_that_raises_changes_nothing(here: World) -> None:
    def fail() -> None:
        with here.log.commit() as commit:
            commit.append_rows(ALICE, TABLE, [(2, None, None)])
            raise RuntimeError

    here.insert(1)
    with pytest.raises(RuntimeError):
        fail()
    assert here.ids() == [1]
    here.insert(3)
    assert here.ids() == [1, 3]


def test_a_snapshot_never_changes(here: World) -> None:
    here.insert(1, 2)
    before = here.snapshot()
    here.delete(1)
    here.insert(3)
    flush(here)
    assert before.hot.column("id").to_pylist() == [1, 2]
    assert here.ids() == [2, 3]


def test_partitions_of_one_read_stand_at_one_number(here: World) -> None:
    with here.log.commit() as commit:
        commit.append_rows(ALICE, TABLE, [(1, None, None)])
        commit.append_rows(BOB, TABLE, [(2, None, None)])
    alice, bob = here.log.snapshot([(ALICE, TABLE), (BOB, TABLE)])
    assert (alice.row_count, bob.row_count) == (1, 1)


@pytest.mark.parametrize("loaded", [True, False])
def test_commits_of_another_process_are_followed(here: World, there: World, loaded: bool) -> None:
    if loaded:
        assert there.ids() == []
    here.insert(1, 2, 3)
    here.delete(2)
    here.replace(1, 1)
    assert there.ids() == [1, 3]
    flush(here)
    assert there.ids() == [1, 3]
    there.insert(9)
    compact(here)
    assert here.ids() == there.ids() == [1, 3, 9]


def test_a_reader_that_missed_trimmed_entries_starts_anew(here: World, there: World) -> None:
    here.insert(1)
    assert there.ids() == [1]
    here.insert(2)
    flush(here)
    here.clock.advance(7_200)
    here.insert(3)
    with here.log.store.write() as transaction:
        assert transaction.trim_log(here.clock.now_us() - 3_600_000_000) > 0
    assert there.ids() == [1, 2, 3]


def test_of_two_flushes_at_once_one_wins_and_no_row_comes_twice(
    here: World, there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.insert(1, 2)
    write = here.home.write

    def write_slowly(*arguments: object, **named: object) -> object:
        meta = write(*arguments, **named)  # type: ignore[arg-type]
        assert flush(there) == 2  # the other process publishes while our file is being written
        return meta

    monkeypatch.setattr(here.home, "write", write_slowly)
    assert flush(here) == 0
    assert here.ids() == there.ids() == [1, 2]


def test_writes_during_a_flush_are_neither_lost_nor_doubled(
    here: World, there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.insert(1, 2)
    write = here.home.write

    def write_slowly(*arguments: object, **named: object) -> object:
        meta = write(*arguments, **named)  # type: ignore[arg-type]
        there.insert(3)
        there.delete(1)
        return meta

    monkeypatch.setattr(here.home, "write", write_slowly)
    flush(here)
    assert here.ids() == there.ids() == [2, 3]
    assert here.snapshot().row_count == 2


def test_counts_are_exact_where_segments_have_holes(here: World) -> None:
    here.insert(1)
    here.insert(50, key=BOB)
    hot = here.insert(2)
    flush(here)
    in_hole = here.insert(3)
    here.insert(4)
    flush(here)
    compact(here)
    here.replace(in_hole, 3)
    here.delete(hot)
    assert here.ids() == [1, 3, 4]
    assert here.snapshot().row_count == 3
    flush(here)
    assert here.snapshot().row_count == 3


def test_deleted_rows_are_kept_and_replaced_ones_go(here: World) -> None:
    first = here.insert(1, 2)
    here.replace(first, 1)
    here.delete(first + 1)
    flush(here)
    compact(here)
    (view,) = here.snapshot().segments
    assert view.deleted.tolist() == view.removed.tolist() == [first + 1]
    assert view.meta.row_count == 2


def test_deleted_rows_past_their_retention_are_dropped_for_good(here: World) -> None:
    first = here.insert(1, 2)
    flush(here)
    here.delete(first)
    flush(here)
    compact(here, purge_before_seq=here.log.applied_seq + 1)
    (view,) = here.snapshot().segments
    assert (view.meta.row_count, len(view.removed)) == (1, 0)
    assert here.ids() == [2]


def test_a_segment_of_which_nothing_goes_is_not_written_anew(here: World) -> None:
    first = here.insert(1, 2)
    here.delete(first)
    flush(here)
    before = here.snapshot().segments
    assert compact(here) == 0
    assert [view.meta for view in here.snapshot().segments] == [view.meta for view in before]
    assert compact(here, purge_before_seq=here.log.applied_seq + 1) == 1
    assert here.ids() == [2]


def test_without_merging_only_segments_with_versions_that_go_are_written(here: World) -> None:
    first = here.insert(1, 2)
    flush(here)
    here.insert(3)
    flush(here)
    here.replace(first, 1)
    flush(here)
    _, untouched, newest = here.snapshot().segments
    done = compact_partition(
        here.log, here.home, here.reader, lambda: TABLE, ALICE, purge_before_seq=0, merges=False
    )
    assert (done.retired, done.written, done.dropped_versions) == (1, 1, 1)
    now = [view.meta for view in here.snapshot().segments]
    assert now[:2] == [untouched.meta, newest.meta]
    assert here.ids() == [1, 2, 3]


def test_a_table_altered_while_it_is_looked_up_is_flushed_as_it_is_then(
    here: World, there: World
) -> None:
    """Another process adds a column and a row between the look at the log and the definition."""
    here.insert(1)
    wider = with_column(TABLE, ColumnDef(4, "mood", TEXT, position=4, fill="calm"))
    known = [TABLE]

    def definition() -> TableDef:
        if known == [TABLE]:
            there.insert(2, table=wider)
            known[:] = [wider]
            table = TABLE
        else:
            table = wider
        here.ids(table=wider)  # follows the log, as the catalog does
        return table

    done = flush_partition(here.log, here.home, definition, ALICE, purge_before_seq=FOR_EVER)
    assert (done.row_count, done.segment_count) == (2, 1)
    (view,) = here.snapshot(table=wider).segments
    assert view.meta.schema_version == 2
    assert here.reader.read(view.meta, wider, ["mood"]).column(0).to_pylist() == ["calm", None]


def test_nothing_of_a_dropped_table_is_flushed_or_merged(here: World) -> None:
    here.insert(1)
    gone = flush_partition(here.log, here.home, lambda: None, ALICE, purge_before_seq=FOR_EVER)
    assert (gone.row_count, gone.segment_count) == (0, 0)
    none = compact_partition(
        here.log, here.home, here.reader, lambda: None, ALICE, purge_before_seq=FOR_EVER
    )
    assert none.retired == 0


@pytest.mark.parametrize("stops_at", [1, 2])
def test_work_that_is_stopped_on_its_way_leaves_no_file(
    here: World, tmp_path: Path, stops_at: int
) -> None:
    here.insert(1)
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == stops_at:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        flush_partition(
            here.log, here.home, lambda: TABLE, ALICE, purge_before_seq=FOR_EVER, check=check
        )
    assert not list(tmp_path.glob("storage/**/*.*"))
    assert here.ids() == [1]
    assert flush(here) == 1


def test_segments_that_leave_a_partition_are_forgotten(here: World, there: World) -> None:
    gone: list[set[int]] = []
    there.log.on_retired(lambda ids: gone.append(set(ids)))
    for row in (1, 2):
        here.insert(row)
        flush(here)
    ids = {view.meta.segment_id for view in there.snapshot().segments}
    compact(here)
    assert there.ids() == [1, 2]
    assert gone == [ids]


def test_a_statement_of_another_thread_tells_where_it_began(here: World) -> None:
    here.insert(1)
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with here.log.statement(), here.log.statement():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=other)
    with here.log.statement():
        assert here.log.oldest_statement() is None, "the own one does not count"
        thread.start()
        inside.wait(10)
        began = here.log.applied_seq
        here.insert(2)
        assert here.log.oldest_statement() == began < here.log.applied_seq
        done.set()
        thread.join()
        assert here.log.oldest_statement() is None


def test_rows_of_older_schema_versions_show_the_fill(here: World) -> None:
    here.insert(1)
    flush(here)
    here.insert(2)
    wider = with_column(TABLE, ColumnDef(4, "mood", TEXT, position=4, fill="calm"))
    here.insert(3, table=wider)
    assert here.snapshot(table=wider).hot.column("mood").to_pylist() == ["calm", None]
    (view,) = here.snapshot(table=wider).segments
    assert here.reader.read(view.meta, wider, ["mood"]).column(0).to_pylist() == ["calm"]


def test_evicted_entries_leave_memory_and_disk(here: World, there: World) -> None:
    here.insert(1)
    here.clock.advance(100)
    here.insert(2)
    assert there.ids() == [1, 2]
    with here.log.commit() as commit:
        before_us = here.clock.now_us() - 50_000_000
        assert evict_expired(here.log, commit, ALICE, before_us) == 1
    assert here.ids() == there.ids() == [2]
    with here.log.store.read() as transaction:
        assert len(list(transaction.hot_entries(ALICE))) == 1


def test_a_reader_that_comes_late_takes_a_flush_of_a_dropped_table(
    here: World, there: World
) -> None:
    """Dropping deletes all entries, those that others did not read yet too."""
    here.insert(1)
    assert there.ids() == [1]
    flush(here)
    with here.log.commit() as commit:
        commit.transaction.drop_partition(ALICE, commit.at_us)
        commit.append_event(ALICE, EntryKind.DROP)
    assert there.ids() == []
    here.insert(7, key=BOB)
    assert there.ids(BOB) == [7]


@pytest.mark.parametrize("work", [flush, compact])
def test_an_interrupt_after_the_commit_leaves_the_published_files(
    here: World, monkeypatch: pytest.MonkeyPatch, work: Callable[[World], int]
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    for row in (1, 2):
        here.insert(row)
        flush(here)
    here.insert(3)
    monkeypatch.setattr(here.log, "_apply_own", interrupt)
    with pytest.raises(KeyboardInterrupt):
        work(here)
    monkeypatch.undo()
    assert here.ids() == [1, 2, 3]
    assert len(here.snapshot().segments) == (3 if work is flush else 1)


def test_an_interrupt_while_an_entry_is_applied_doubles_no_row(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_and_stop(self: Partition, seq: int, at_us: int, changes: RowChanges) -> None:
        add_rows(self, seq, at_us, changes)
        raise KeyboardInterrupt

    here.insert(1)
    assert here.ids() == [1]
    add_rows = Partition.add_rows
    monkeypatch.setattr(Partition, "add_rows", add_and_stop)
    with pytest.raises(KeyboardInterrupt):
        here.insert(2)
    monkeypatch.undo()
    assert here.ids() == [1, 2]
    assert flush(here) == 2
    assert here.ids() == [1, 2]


def test_a_partition_that_was_loaded_anew_has_another_revision(here: World, there: World) -> None:
    here.insert(1)
    flush(here)
    assert there.ids() == [1]
    with there.log.at_newest([ALICE]):
        before = there.log.partition(ALICE).revision
    here.insert(2)
    flush(here)
    here.clock.advance(10)
    with here.log.store.write() as transaction:
        assert transaction.trim_log(here.clock.now_us())
    with there.log.at_newest([ALICE]):
        assert there.log.partition(ALICE).revision != before
    assert there.ids() == [1, 2]
