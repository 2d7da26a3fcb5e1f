"""What is built of a vector index: when it goes, when it is read, and what copies have of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from indexed_tracks import (
    CREATE,
    NAME,
    SETTINGS,
    TRACKS,
    built,
    directories,
    flip,
    mapped,
    metas,
    nearest_ids,
    place,
    rows,
    tracks_lab,
)
from scheduled import Lab, lab

from kalamdb_lab.catalog.table_rows import table_of, table_row
from kalamdb_lab.engine.check import CatalogParts, _Check, check_database
from kalamdb_lab.engine.rebuild import rebuild_database
from kalamdb_lab.store.log import EntryKind
from kalamdb_lab.store.segment_record import decode_segment, encode_segment
from kalamdb_lab.store.wire import encoder
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with tracks_lab(tmp_path / "lab.kalam") as made:
        yield made


# --- going --------------------------------------------------------------------------------------


def test_a_dropped_index_loses_its_files_and_is_built_anew_when_it_comes_back(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    before = directories(here)
    finished(s, f"DROP INDEX {NAME}")
    assert (directories(here), built(here)) == ([], [])
    assert here.look() == []
    finished(s, f"{CREATE} WITH (METRIC = 'l2')")
    assert [item.metric for item in built(here)] == ["l2"]
    assert len(directories(here)) == 1
    assert directories(here) != before


def test_merged_segments_and_dropped_tables_take_their_indexes_along(here: Lab) -> None:
    s = here.session()
    for number in range(2):
        s.insert("tracks", rows(number * 2000, 1000))
    finished(s, CREATE)
    assert len(directories(here)) == 2
    finished(s, "STORAGE COMPACT TABLE tracks")
    assert directories(here) == []
    here.clock.advance(100)
    here.look()
    assert len(directories(here)) == 1
    finished(s, "DROP TABLE tracks")
    assert directories(here) == []


def test_analyze_keeps_what_is_built(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    (right,) = metas(here)
    with here.context.log.commit() as commit:
        commit.transaction.restate_segment(replace(right, statistics={}))
        commit.append_event(right.partition, EntryKind.COMPACT)
    s.execute("ANALYZE TABLE tracks")
    assert metas(here) == [right]
    assert right.indexes


KILLED = """
import os, sys
import kalamdb_lab as kalam
from kalamdb_lab.partitions import indexing

indexing._publish = lambda *_: os.kill(os.getpid(), 9)
database = kalam.open(sys.argv[1])
database.session(namespace="studio").execute("CREATE INDEX ON tracks USING ANN (mood)")
database.close()
"""


@pytest.mark.slow
def test_a_process_killed_before_it_lists_an_index_leaves_the_work_to_others(here: Lab) -> None:
    here.session().insert("tracks", rows(0, 1000))
    exact = nearest_ids(here.session())
    command = [sys.executable, "-c", KILLED, str(here.path)]
    assert subprocess.run(command, check=False).returncode == -9
    (orphan,) = directories(here)
    assert built(here) == []
    assert nearest_ids(here.session()) == exact
    here.context.jobs.release_abandoned()
    here.clock.advance(10)
    (told,) = here.look()
    assert told.startswith("compact studio.tracks: Indexed 1,000 rows of 1 segment")
    (meta,) = metas(here)
    assert directories(here) == sorted([orphan, place(here, meta)])


def test_a_catalog_made_anew_keeps_the_definition_and_builds_the_rest(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    finished(s, "STORAGE FLUSH ALL IN system")
    (old,) = directories(here)
    here.close()
    (here.path / "catalog.sqlite").unlink()
    assert rebuild_database(here.path).is_whole
    with lab(here.path, SETTINGS, here.clock) as again:
        assert built(again) == []
        again.clock.advance(1_000)
        assert any("Indexed 1,000 rows of 1 segment" in told for told in again.look())
        for path in (old, *old.rglob("*")):
            os.utime(path, (1_000, 1_000))
        finished(again.session(), "VACUUM")
        assert directories(again) == [place(again, metas(again)[0])]


def test_a_crash_before_the_commit_leaves_an_orphan_that_vacuum_removes(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    (listed,) = directories(here)
    orphan = listed.with_name(f"{listed.name}99")
    unfinished = listed.with_name(f"{listed.name}98.0a1b2c3d.tmp")
    for left in (orphan, unfinished):
        shutil.copytree(listed, left)
    finished(s, "VACUUM")
    assert orphan.is_dir(), "somebody may be writing it now"
    for left in (orphan, unfinished, listed):
        for path in (left, *left.rglob("*")):
            os.utime(path, (1_000, 1_000))
    assert check_database(here.path).orphans == 2
    finished(s, "VACUUM")
    assert directories(here) == [listed]
    assert check_database(here.path).orphans == 0


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_index_is_done_without_and_check_tells_of_it(here: Lab, how: str) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    exact = nearest_ids(s)
    finished(s, CREATE)
    (meta,) = metas(here)
    assert mapped(here, meta) is not None
    assert check_database(here.path).tables[0].damaged_indexes == 0
    chunks = [file for file in place(here, meta).rglob("*") if file.name.isdigit()]
    largest = max(chunks, key=lambda file: file.stat().st_size)
    if how == "flipped":
        flip(largest)
    elif how == "cut":
        largest.write_bytes(largest.read_bytes()[:-1])
    else:
        shutil.rmtree(place(here, meta))
    here.context.reader.forget([meta.segment_id])
    assert mapped(here, meta) is None
    assert nearest_ids(s) == exact
    report = check_database(here.path)
    assert report.is_sound, "every row can be read"
    assert {t.name: t.damaged_indexes for t in report.tables}["studio.tracks"] == 1
    finished(s, f"DROP INDEX {NAME}; {CREATE}")
    assert mapped(here, metas(here)[0]) is not None
    assert check_database(here.path).tables[0].damaged_indexes == 0


def test_an_index_that_is_dropped_while_it_is_checked_is_no_damage(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    context = here.context
    check = _Check("lab", CatalogParts(here.path, context.store, here.clock), here.clock)
    check._name_tables()
    (meta,) = metas(here)
    with context.store.read() as transaction:
        (segment,) = transaction.segments(meta.partition)
    finished(s, f"DROP INDEX {NAME}")
    check._count_segment(segment)
    counted = check._tables[meta.partition.table_key]
    assert (counted.rows, counted.damaged_indexes) == (1000, 0)


def test_an_index_is_read_again_when_its_storage_is_back(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    (meta,) = metas(here)
    place(here, meta).parents[2].rename(here.path / "elsewhere")
    here.context.reader.forget([meta.segment_id])
    assert mapped(here, meta) is None
    (here.path / "elsewhere").rename(here.path / "storage")
    assert mapped(here, meta) is not None


def test_an_index_of_before_is_not_used_for_the_one_of_now(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    (old,) = metas(here)
    here.database.jobs.pause()  # what was built stays listed
    s.execute(f"DROP INDEX {NAME}")
    assert metas(here) == [old]
    assert mapped(here, old) is None
    s.execute(CREATE)
    assert mapped(here, old) is None


def test_another_process_and_the_next_opening_find_what_was_built(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    other = Lab(here.path, here.clock)
    try:
        assert nearest_ids(other.session()) == nearest_ids(s)
        finished(s, CREATE)
        session = other.session()
        assert nearest_ids(session) == nearest_ids(s)
        (view,) = other.context.log.snapshot(
            [(metas(other)[0].partition, other.context.catalog.table(TRACKS))]
        )[0].segments
        assert mapped(other, view.meta) is not None, "its partition is in step"
        finished(session, f"DROP INDEX {NAME}")
        assert built(here) == []
    finally:
        other.close()
    finished(s, CREATE)
    here.close()
    with lab(here.path, SETTINGS, here.clock) as again:
        assert mapped(again, metas(again)[0]) is not None
        assert again.look() == []


def test_stats_tell_recall_and_rows_of_each_index(here: Lab) -> None:
    s = here.session()

    def told() -> dict[str, tuple[float, str]]:
        sql = "SELECT metric, value, unit FROM system.stats WHERE metric LIKE 'index %'"
        return {
            row[0].removeprefix(f"index studio.{NAME} "): row[1:] for row in s.execute(sql).rows()
        }

    assert told() == {}
    finished(s, CREATE)
    assert told() == {"rows indexed": (0, "rows"), "rows not indexed": (0, "rows")}
    s.insert("tracks", rows(0, 1000))
    s.insert("tracks", rows(2000, 30))
    assert told()["rows not indexed"] == (1030, "rows")
    here.clock.advance(10)
    here.look()
    s.execute("DELETE FROM tracks WHERE id = 2000")
    (item,) = built(here)
    assert told() == {
        "recall": (item.recall, "ratio"),
        "rows indexed": (1000, "rows"),
        "rows not indexed": (29, "rows"),
    }


# --- copies -------------------------------------------------------------------------------------


def test_a_backup_keeps_the_definition_and_what_is_restored_is_built_anew(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    s.execute("BACKUP DATABASE studio TO 'saved'")
    finished(here.session(), "USE default; DROP NAMESPACE studio CASCADE")
    s.execute("RESTORE DATABASE studio FROM 'saved'")
    assert (here.context.catalog.table(TRACKS).indexes[0].name, built(here)) == (NAME, [])
    here.clock.advance(100)
    (told,) = here.look()
    assert told.startswith("compact studio.tracks: Indexed 1,000 rows of 1 segment")


def test_a_copy_of_the_database_is_sound_and_builds_its_own(here: Lab, tmp_path: Path) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    here.database.backup(tmp_path / "copy.kalam")
    assert check_database(tmp_path / "copy.kalam").tables[0].damaged_indexes == 0
    with lab(tmp_path / "copy.kalam", SETTINGS, here.clock) as copy:
        assert built(copy) == []
        copy.clock.advance(100)
        (told,) = copy.look()
        assert told.startswith("compact studio.tracks: Indexed 1,000 rows of 1 segment")
    assert built(here)


def test_definitions_and_manifests_from_before_there_were_indexes_are_read(here: Lab) -> None:
    here.session().insert("tracks", rows(0, 1000))
    table, (meta,) = here.context.catalog.table(TRACKS), metas(here)
    row = list(table_row(table))
    definition = msgspec.msgpack.decode(row[14])
    assert definition.pop() == []
    row[14] = encoder.encode(definition)
    assert table_of(row) == table
    record = msgspec.msgpack.decode(encode_segment(meta), strict=False)
    assert record.pop() == {}
    assert decode_segment(encoder.encode(record), meta.partition) == meta
