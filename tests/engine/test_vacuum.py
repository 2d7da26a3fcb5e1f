"""VACUUM, ANALYZE and DROP: what goes for good, and what stays for those who need it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from database_files import database, root_of, segments
from job_runs import running

from kalamdb_lab import FakeClock
from kalamdb_lab.engine.session import Session
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.jobs import JobKind
from kalamdb_lab.store.log import EntryKind
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.kalam"


def message(session: Session, sql: str) -> str:
    text: str = session.execute(sql).rows()[0][4]
    return text


# --- versions -------------------------------------------------------------------------------------


def test_vacuum_answers_as_a_flush_does(s: Session) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    for sql, table in (("VACUUM t", "studio.t"), ("VACUUM TABLE t", "studio.t"), ("VACUUM", None)):
        answer = s.execute(sql)
        assert answer.columns == ["job_id", "job_type", "table_name", "status", "message"]
        ((job_id, *others),) = answer.rows()
        assert re.fullmatch(r"CL-[0-9A-Za-z]{6,10}", job_id)
        assert others[:3] == ["cleanup", table, "completed"]


def test_replaced_versions_and_deleted_rows_past_retention_go(fresh: Any) -> None:
    s = fresh.session()
    finished(
        s,
        "CREATE TABLE t (id INT PRIMARY KEY, body TEXT) WITH (DELETED_RETENTION_HOURS = 2);"
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'); STORAGE FLUSH TABLE t;"
        "UPDATE t SET body = 'z' WHERE id = 1; DELETE FROM t WHERE id = 2",
    )
    fresh.clock.advance(3_600)
    s.execute("INSERT INTO t VALUES (4, 'd'); DELETE FROM t WHERE id = 4")
    deleted = "SELECT id FROM t WHERE _deleted ORDER BY id"
    assert s.execute(deleted).rows() == [(2,), (4,)]
    assert message(s, "VACUUM t") == "Removed 1 row version, deleted 1 segment"
    assert s.execute(deleted).rows() == [(2,), (4,)], "kept for two hours"
    fresh.clock.advance(3_600)
    assert message(s, "VACUUM t") == "Removed 1 row version, deleted 1 segment"
    assert s.execute(deleted).rows() == [(4,)]
    fresh.clock.advance(3_600)
    assert message(s, "VACUUM").startswith("Removed 1 row version, deleted 1 segment")
    assert s.execute(deleted).rows() == []
    assert s.execute("SELECT * FROM t ORDER BY id").rows() == [(1, "z"), (3, "c")]
    assert message(s, "VACUUM t") == "Removed 0 row versions: nothing to do"
    ((*_, removed, _, _, _),) = s.execute("SHOW STATS FOR TABLE t").rows()
    assert removed == 0


@pytest.mark.parametrize("flushed", [True, False])
def test_a_retention_of_zero_hours_works_at_the_next_run(fresh: Any, flushed: bool) -> None:
    s = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (DELETED_RETENTION_HOURS = 0)")
    s.execute("INSERT INTO t VALUES (1), (2)")
    if flushed:
        finished(s, "FLUSH TABLE t")
    s.execute("DELETE FROM t WHERE id = 1")
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == [(1,)]
    assert message(s, "VACUUM t").startswith("Removed 1 row version")
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == []
    assert s.execute("SELECT id FROM t").rows() == [(2,)]


def test_all_rows_of_a_statement_go_together(fresh: Any) -> None:
    s = fresh.session()
    s.execute("CREATE TABLE t (n INT) WITH (DELETED_RETENTION_HOURS = 1)")
    s.execute("INSERT INTO t SELECT i FROM range(5) r(i)")
    s.execute("DELETE FROM t WHERE true")
    fresh.clock.advance(7_200)
    s.execute("VACUUM t")
    assert s.execute("SELECT count(*) FROM t WHERE _deleted").rows() == [(0,)]


def test_without_a_retention_deleted_rows_stay_for_ever(fresh: Any) -> None:
    s = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
    finished(s, "FLUSH TABLE t; DELETE FROM t WHERE id = 1")
    fresh.clock.advance(100 * 365 * 86_400)
    finished(s, "VACUUM; OPTIMIZE t; VACUUM t")
    assert s.execute("SELECT id FROM t WHERE _deleted").rows() == [(1,)]


def test_vacuum_evicts_expired_events(fresh: Any) -> None:
    s = fresh.session()
    s.execute("CREATE STREAM TABLE plays (id INT PRIMARY KEY) WITH (TTL_SECONDS = 60)")
    s.execute("INSERT INTO plays VALUES (1), (2)")
    fresh.clock.advance(30)
    s.execute("INSERT INTO plays VALUES (3)")
    fresh.clock.advance(30)
    assert message(s, "VACUUM plays").startswith("Removed 2 row versions")
    assert s.execute("SELECT id FROM plays").rows() == [(3,)]


def test_an_open_transaction_reads_on_what_was_vacuumed(fresh: Any) -> None:
    s, other = fresh.session(), fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, body TEXT)")
    finished(s, "INSERT INTO t VALUES (1, 'old'); FLUSH TABLE t")
    other.execute("BEGIN")
    assert other.execute("SELECT body FROM t").rows() == [("old",)]
    s.execute("UPDATE t SET body = 'new' WHERE id = 1")
    assert (
        message(s, "VACUUM t") == "Removed 1 row version, deleted 0 segments; 1 more stay for now"
    )
    assert message(s, "VACUUM").endswith("; an open transaction keeps freed pages of the catalog")
    assert other.execute("SELECT body FROM t WHERE id + 0 = 1").rows() == [("old",)]
    other.execute("ROLLBACK")
    assert other.execute("SELECT body FROM t").rows() == [("new",)]
    assert message(s, "VACUUM t") == "Removed 0 row versions, deleted 1 segment"


def test_a_stream_of_rows_that_nobody_began_to_read_keeps_its_files(fresh: Any) -> None:
    from kalamdb_lab.sql.queries import parse_expression

    s = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)")
    finished(s, "FLUSH TABLE t")
    tree = parse_expression("(SELECT id FROM t)").unnest()
    reader = s.stream_tree(tree)
    path = Path(fresh.database.path)
    finished(s, "DROP TABLE t")
    assert len(segments(path)) == 1
    assert sorted(reader.read_all().column("id").to_pylist()) == [1, 2, 3]
    del reader
    s.execute("VACUUM")
    assert segments(path) == []


@pytest.mark.parametrize("verb", ["VACUUM", "ANALYZE"])
def test_what_has_no_rows_of_its_own_is_refused(s: Session, refused: Any, verb: str) -> None:
    done = {"VACUUM": "vacuumed", "ANALYZE": "analyzed"}[verb]
    s.execute("CREATE TABLE t (id INT); CREATE VIEW v AS SELECT id FROM t")
    error = refused(s, f"{verb} TABLE v")
    assert (error.code, str(error)) == (
        "NOT_SUPPORTED",
        f"studio.v is a view and cannot be {done}",
    )
    assert str(refused(s, f"{verb} nothere")) == "Table 'studio.nothere' not found"
    s.execute(f"{verb} t")


# --- rights ---------------------------------------------------------------------------------------


def test_vacuum_needs_dba_and_analyze_service(
    s: Session, mia: Session, sven: Session, dora: Session, refused: Any
) -> None:
    s.execute("CREATE TABLE t (id INT)")
    for session, role in ((mia, "user"), (sven, "service")):
        for sql in ("VACUUM", "VACUUM t", "VACUUM nothere"):
            error = refused(session, sql)
            assert (error.code, str(error)) == (
                "PERMISSION_DENIED",
                f"Role '{role}' cannot execute VACUUM; it needs dba or system",
            )
    assert str(refused(mia, "ANALYZE t")) == (
        "Role 'user' cannot execute ANALYZE; it needs service, dba or system"
    )
    for session in (sven, dora, s):
        assert session.execute("ANALYZE t").rows()[0][:2] == ("studio", "t")
    for session in (dora, s):
        assert session.execute("VACUUM t").rows()[0][3] == "completed"


# --- analyze --------------------------------------------------------------------------------------


def test_analyze_recomputes_what_the_manifest_says(fresh: Any) -> None:
    s = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, body TEXT, v EMBEDDING(2))")
    finished(s, "INSERT INTO t VALUES (1, 'a', [1, 0]), (2, NULL, NULL); FLUSH TABLE t")
    s.execute("ALTER TABLE t ADD c INT DEFAULT 7; INSERT INTO t VALUES (3, 'c', NULL, 3)")
    finished(s, "FLUSH TABLE t")
    context = fresh.database._context
    table = context.catalog.tables.get("studio.t")
    key = PartitionKey(table.table_key, "")
    with context.log.store.read() as transaction:
        right = [listed.meta for listed in transaction.segments(key)]
    with context.log.commit() as commit:
        from dataclasses import replace

        for meta in right:
            commit.transaction.restate_segment(replace(meta, statistics={}))
        commit.append_event(key, EntryKind.COMPACT)
    shown = s.execute("SHOW STATS FOR TABLE t")
    answer = s.execute("ANALYZE TABLE t")
    assert (answer.columns, answer.rows()) == (shown.columns, shown.rows())
    with context.log.store.read() as transaction:
        assert [listed.meta for listed in transaction.segments(key)] == right
    assert s.execute("SELECT id, c FROM t ORDER BY id").rows() == [(1, 7), (2, 7), (3, 3)]
    seq = context.log.applied_seq
    s.execute("ANALYZE t")
    with context.log.store.read() as transaction:
        kinds = [entry.kind for entry in transaction.entries_after(seq)]
    assert EntryKind.COMPACT not in kinds, "nothing was wrong: nothing is written"


def test_analyze_reads_the_files_themselves(fresh: Any, refused: Any) -> None:
    s = fresh.session()
    finished(s, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); FLUSH TABLE t")
    s.execute("ANALYZE t")
    (segment,) = Path(fresh.database.path, "storage/studio").rglob("*.parquet")
    segment.write_bytes(segment.read_bytes()[:-9])
    assert refused(s, "ANALYZE t").code == "CORRUPT"


# --- files of dropped tables ----------------------------------------------------------------------


def test_dropping_a_table_deletes_its_files_in_a_job(path: Path) -> None:
    with database(path) as db:
        s = root_of(db)
        finished(s, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); FLUSH TABLE t")
        assert segments(path)
        finished(s, "DROP TABLE t")
        assert not (path / "storage" / "studio").exists()
        (job,) = s.execute(
            "SELECT job_id, message FROM system.jobs WHERE job_type = 'cleanup'"
        ).rows()
        assert job[0].startswith("CL-")
        assert job[1] == "Deleted 1 segment"
        finished(s, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (2); FLUSH TABLE t")
        assert s.execute("SELECT id FROM t").rows() == [(2,)]
        finished(s, "DROP NAMESPACE studio CASCADE")
        assert not (path / "storage" / "studio").exists()


def test_beside_another_process_the_files_wait_for_its_readers(path: Path) -> None:
    clock = FakeClock()
    with database(path, clock=clock) as db, database(path, clock=clock):
        s = root_of(db)
        finished(s, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); FLUSH TABLE t")
        finished(s, "DROP TABLE t")
        assert len(segments(path)) == 1
        told = s.execute("SELECT message FROM system.jobs WHERE job_type = 'cleanup'").rows()
        assert told == [("Deleted 0 segments; 1 more stay for now",)]
        s.execute("VACUUM")
        assert len(segments(path)) == 1
        clock.advance(601)
        s.execute("VACUUM")
        assert segments(path) == []


def test_dropped_tables_keep_their_files_for_the_retention(path: Path) -> None:
    clock = FakeClock()
    with database(path, "dropped_table_retention_hours = 24", clock) as db:
        s = root_of(db)
        finished(s, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); FLUSH TABLE t")
        s.execute("CREATE TABLE u (id INT PRIMARY KEY, n INT); INSERT INTO u VALUES (1, 1)")
        s.execute("DROP TABLE t")
        kept = segments(path, "studio/t")
        assert len(kept) == 1
        finished(s, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (2); FLUSH TABLE t")
        assert s.execute("SELECT id FROM t").rows() == [(2,)], "invisible at once"
        finished(s, "FLUSH TABLE u; UPDATE u SET n = 2 WHERE true")
        clock.advance(23 * 3_600)
        finished(s, "VACUUM; OPTIMIZE u")
        assert set(kept) <= set(segments(path))
        clock.advance(3_600)
        s.execute("VACUUM")
        assert len(segments(path, "studio/t")) == 1
        assert not set(kept) & set(segments(path))
        assert s.execute("SELECT id FROM t").rows() == [(2,)]


def test_a_drop_is_done_whether_or_not_its_files_can_be_deleted(path: Path) -> None:
    with database(path) as db:
        s = root_of(db)
        s.execute("CREATE STORAGE vault TYPE 'filesystem' PATH 'vault'")
        s.execute("CREATE TABLE t (id INT PRIMARY KEY) WITH (STORAGE_ID = 'vault')")
        finished(s, "INSERT INTO t VALUES (1); FLUSH TABLE t")
        (path / "vault").rename(path / "unmounted")
        finished(s, "DROP TABLE t")
        assert s.execute("SHOW TABLES IN studio").rows() == []
        (path / "unmounted").rename(path / "vault")
        assert list((path / "vault").rglob("*.parquet"))
        s.execute("VACUUM")
        assert not list((path / "vault").rglob("*.parquet"))


# --- orphans --------------------------------------------------------------------------------------


def leave(place: Path, *, age_s: float = 700) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"left by a crash")
    at = place.stat().st_mtime - age_s
    os.utime(place, (at, at))
    return place


def test_what_crashes_left_goes_when_it_is_old_enough(path: Path) -> None:
    with database(path) as db:
        s = root_of(db)
        finished(s, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); FLUSH TABLE t")
        place = path / "storage/studio/t"
        orphan = leave(place / "s-000900.parquet")
        half = leave(place / "s-000901.parquet.0123abcd.tmp")
        elsewhere = leave(path / "storage/studio/gone/s-000902.parquet")
        fresh = leave(place / "s-000903.parquet", age_s=500)
        foreign = leave(place / "notes.txt")
        listed = next(place.glob("s-00000*.parquet"))
        os.utime(listed, (0, 0))
        assert message(s, "VACUUM t") == "Removed 0 row versions: nothing to do"
        assert orphan.exists(), "of the whole database only"
        assert message(s, "VACUUM") == "Removed 0 row versions, deleted 0 segments and 3 orphans"
        assert not any(place.exists() for place in (orphan, half, elsewhere.parent))
        assert fresh.exists()
        assert foreign.exists()
        assert s.execute("SELECT id FROM t").rows() == [(1,)]


def test_a_file_that_a_manifest_names_is_no_orphan(path: Path) -> None:
    """It may be all that is left of a table whose definition was lost."""
    with database(path) as db:
        s = root_of(db)
        finished(s, "CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); FLUSH TABLE t")
        kept = path / "storage/studio/lost"
        kept.mkdir()
        for file in (path / "storage/studio/t").iterdir():
            text = file.read_bytes()
            leave(kept / file.name).write_bytes(text)
            os.utime(kept / file.name, (0, 0))
        manifest = (kept / "manifest.json").read_text()
        assert '"path": "studio/t/' in manifest
        finished(s, "DROP TABLE t")
        # Where the manifest names them, not only beside it.
        kept.rename(path / "storage/studio/t")
        s.execute("VACUUM")
        assert len(segments(path, "studio/t")) == 1


def test_while_a_restore_runs_no_file_is_an_orphan(path: Path) -> None:
    with database(path) as db:
        s = root_of(db)
        orphan = leave(path / "storage/studio/t/s-000900.parquet")
        with running(db._context.jobs, "restore", kind=JobKind.RESTORE):
            s.execute("VACUUM")
            assert orphan.exists()
        s.execute("VACUUM")
        assert not orphan.exists()
