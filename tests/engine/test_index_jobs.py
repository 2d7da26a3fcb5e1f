"""Building vector indexes: by which jobs, for which segments, and what hinders them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from indexed_tracks import (
    CREATE,
    DIMENSION,
    NAME,
    SETTINGS,
    TRACKS,
    built,
    directories,
    flip,
    hold_back,
    mapped,
    metas,
    nearest_ids,
    place,
    rows,
    running,
    tracks_lab,
    work,
)
from scheduled import Lab, lab

from kalamdb_lab.errors import CorruptError
from kalamdb_lab.jobs.run import JobCancelledError, JobRun
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Lab]:
    with tracks_lab(tmp_path / "lab.kalam") as made:
        yield made


# --- building -----------------------------------------------------------------------------------


def test_a_job_builds_an_index_of_each_large_segment_and_measures_its_recall(here: Lab) -> None:
    s = here.session()
    for first, count in ((0, 1200), (2000, 1000)):
        s.insert("tracks", rows(first, count))
    s.insert("tracks", rows(4000, 20))
    finished(s, "STORAGE FLUSH TABLE tracks")
    exact = nearest_ids(s)
    finished(s, CREATE)
    (job,) = [job for job in here.database.jobs.list() if job.job_id.startswith("CO-")]
    assert job.status.value == "completed"
    assert (job.message or "").startswith("Indexed 2,200 rows of 2 segments with a recall of ")
    assert job.idempotency_key == f"index:studio:tracks:{NAME}"
    assert [bool(meta.indexes) for meta in metas(here)] == [True, True, False]
    assert all(0.5 < item.recall <= 1 for item in built(here))
    for meta in metas(here)[:2]:
        index = mapped(here, meta)
        assert index is not None
        assert index.list_count == meta.indexes[3].list_count
        assert place(here, meta).is_dir()
    assert mapped(here, metas(here)[2]) is None
    assert nearest_ids(s) == exact
    assert here.look() == []


def test_the_index_has_the_metric_lists_and_probes_that_were_asked_for(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, f"{CREATE} WITH (METRIC = 'l2', LISTS = 7, PROBES = 7)")
    (item,) = built(here)
    assert (item.metric, item.list_count, item.recall) == ("l2", 7, 1.0)
    (meta,) = metas(here)
    index = mapped(here, meta)
    assert index is not None
    assert (index.metric, index.list_count, index.probes) == ("l2", 7, 7)


def test_all_users_of_a_table_get_their_index(here: Lab) -> None:
    root = here.session()
    root.execute(
        f"CREATE USER TABLE notes (id INT PRIMARY KEY, genre TEXT, mood EMBEDDING({DIMENSION}))"
    )
    for number, user in enumerate(("mia", "tom")):
        root.execute(f"CREATE USER '{user}' INTERNAL ROLE user")
        here.session(user).insert("notes", rows(number * 5000, 1000))
    finished(root, "CREATE INDEX ON notes USING ANN (mood)")
    with here.context.store.read() as transaction:
        found = {
            item.meta.partition.scope for item in transaction.all_segments() if item.meta.indexes
        }
    assert found == {"mia", "tom"}


def test_rows_without_a_vector_do_not_count_and_make_no_job_again_and_again(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000, nulls=600))
    s.insert("tracks", rows(2000, 1000, nulls=400))
    s.execute("INSERT INTO tracks SELECT id + 9000, genre, NULL FROM tracks")
    finished(s, CREATE)
    assert [len(meta.indexes) for meta in metas(here)] == [0, 1, 0]
    assert here.look() == []


def test_a_segment_from_before_the_column_waits_for_its_compaction(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    s.execute("ALTER TABLE tracks ADD COLUMN tone EMBEDDING(2) DEFAULT '[1, 2]'")
    finished(s, "CREATE INDEX ON tracks USING ANN (tone)")
    assert built(here) == []
    finished(s, "STORAGE COMPACT TABLE tracks")
    here.clock.advance(10)
    (told,) = here.look()
    assert told.startswith("compact studio.tracks: Indexed 1,000 rows of 1 segment")


# --- upkeep -------------------------------------------------------------------------------------


def test_what_is_flushed_inserted_in_bulk_or_merged_gets_its_index_by_itself(here: Lab) -> None:
    s = here.session()
    finished(s, CREATE)
    assert here.look() == []
    s.insert("tracks", rows(0, 600))  # hot: bulk_rows is 1,000 here
    assert here.look() == []
    finished(s, "STORAGE FLUSH TABLE tracks")
    assert here.look() == [], "it was built a moment ago"
    here.clock.advance(10)
    (told,) = here.look()
    assert told.startswith("compact studio.tracks: Indexed 600 rows of 1 segment")
    here.clock.advance(10)
    s.insert("tracks", rows(2000, 1000))
    (told,) = here.look()
    assert told.startswith("compact studio.tracks: Indexed 1,000 rows of 1 segment")
    here.clock.advance(10)
    finished(s, "STORAGE COMPACT TABLE tracks")
    (told,) = here.look()
    assert told.startswith("compact studio.tracks: Indexed 1,600 rows of 1 segment")
    here.clock.advance(10)
    assert here.look() == []


def test_new_segments_wait_no_longer_where_deleted_rows_are_kept(here: Lab) -> None:
    s = here.session()
    s.execute(
        f"CREATE TABLE kept (id INT PRIMARY KEY, genre TEXT, mood EMBEDDING({DIMENSION})) "
        "WITH (DELETED_RETENTION_HOURS = 240)"
    )
    finished(s, "CREATE INDEX ON kept USING ANN (mood)")
    here.clock.advance(10)
    s.insert("kept", rows(0, 1000))
    (told,) = here.look()
    assert told.startswith("compact studio.kept: Indexed 1,000 rows of 1 segment")


def test_where_nothing_is_stale_no_work_takes_the_write_lock(here: Lab) -> None:
    s = here.session()
    s.insert("tracks", rows(0, 1000))
    finished(s, CREATE)
    table = here.context.catalog.table(TRACKS)
    with here.context.store.write():
        said = work(here).clear(table, running(lambda _: False))
    assert said == "Deleted the index of 0 segments: nothing to do"
    (item,) = built(here)
    assert item.recall > 0.5


def test_small_inserts_make_no_job(here: Lab) -> None:
    s = here.session()
    finished(s, CREATE)
    for number in range(3):
        s.insert("tracks", rows(number * 100, 10))
        finished(s, "STORAGE FLUSH TABLE tracks")
        here.clock.advance(100)
        assert here.look() == []


def test_an_opening_database_finds_what_was_never_built(here: Lab) -> None:
    here.session().insert("tracks", rows(0, 1000))
    hold_back(here)
    here.close()
    with lab(here.path, SETTINGS, here.clock) as again:
        again.clock.advance(100)
        (told,) = again.look()
        assert told.startswith("compact studio.tracks: Indexed 1,000 rows of 1 segment")


def test_a_job_that_stops_half_way_leaves_whole_segments_and_a_later_one_does_the_rest(
    here: Lab,
) -> None:
    s = here.session()
    for number in range(3):
        s.insert("tracks", rows(number * 2000, 1000))
    hold_back(here)
    with pytest.raises(JobCancelledError):
        work(here).build(TRACKS, NAME, running(lambda _: len(built(here)) == 2))
    assert len(directories(here)) == len(built(here)) == 2
    here.clock.advance(100)
    (told,) = here.look()
    assert told.startswith("compact studio.tracks: Indexed 1,000 rows of 1 segment")
    assert len(directories(here)) == len(built(here)) == 3


def test_a_job_tells_how_many_rows_are_done(here: Lab) -> None:
    here.session().insert("tracks", rows(0, 1000))
    hold_back(here)
    shares: list[tuple[float, str]] = []
    run = JobRun("CO-test0000", lambda: False, lambda share, text: shares.append((share, text)))
    run._next_report_s = 0.0
    work(here).build(TRACKS, NAME, run)
    assert shares
    assert shares[0][1].endswith(" of 1,000 rows")


@pytest.mark.parametrize("question", [4, 6])
def test_a_segment_that_is_merged_while_its_index_is_built_is_no_error(
    here: Lab, question: int
) -> None:
    s = here.session()
    for number in range(2):
        s.insert("tracks", rows(number * 2000, 1000))
    hold_back(here)

    def merges(asked: int) -> bool:
        if asked == question:
            finished(here.session(), "STORAGE COMPACT TABLE tracks")
        return False

    message = work(here).build(TRACKS, NAME, running(merges))
    assert message.startswith("Indexed 2,000 rows of 1 segment")
    (meta,) = metas(here)
    assert directories(here) == [place(here, meta)]


@pytest.mark.parametrize("question", [3, 5])
def test_an_index_that_is_dropped_while_it_is_built_leaves_nothing(
    here: Lab, question: int
) -> None:
    here.session().insert("tracks", rows(0, 1000))
    hold_back(here)

    def drops(asked: int) -> bool:
        if asked == question:
            finished(here.session(), f"DROP INDEX {NAME}")
        return False

    message = work(here).build(TRACKS, NAME, running(drops))
    assert message == "Indexed 0 rows: nothing to do"
    assert built(here) == []
    assert directories(here) == []


def test_a_damaged_segment_fails_the_job_after_the_others_are_done(here: Lab) -> None:
    s = here.session()
    for number in range(2):
        s.insert("tracks", rows(number * 2000, 1000))
    hold_back(here)
    first, second = metas(here)
    flip(here.path / "storage" / first.path.replace(".parquet", ".vectors") / "3/f32/c/0/0")
    here.context.reader.forget([first.segment_id])
    with pytest.raises(CorruptError, match=r"^A segment of studio\.tracks is damaged"):
        work(here).build(TRACKS, NAME, running(lambda _: False))
    assert [bool(meta.indexes) for meta in metas(here)] == [False, True]
    assert second.segment_id == metas(here)[1].segment_id
