"""Registered tables: files that stay where they are, read as they are at each query."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from registered_files import DESCRIBED, MORE, TRACKS, folder_of_files, write_tracks

from kalamdb_lab.engine.session import Session
from kalamdb_lab.ibis_backend import Backend
from kalamdb_lab.testing.jobs import finished


@pytest.fixture
def base(studio: Any) -> Path:
    """The directory of the database: where relative paths start."""
    return Path(os.path.realpath(studio.database.path))


@pytest.fixture
def files(base: Path) -> Iterator[Path]:
    with folder_of_files(base) as folder:
        yield folder


@pytest.fixture
def tracks(files: Path) -> Path:
    write_tracks(files)
    return files


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("INSERT INTO t VALUES (1, 'x', NULL)", "studio.t is a registered table and is read-only"),
        ("UPDATE t SET id = 1 WHERE true", "studio.t is a registered table and is read-only"),
        ("DELETE FROM t WHERE true", "studio.t is a registered table and is read-only"),
        ("EXPLAIN DELETE FROM t WHERE true", "studio.t is a registered table and is read-only"),
        ("STORAGE FLUSH TABLE t", "studio.t is a registered table and cannot be flushed"),
        ("STORAGE COMPACT TABLE t", "studio.t is a registered table and cannot be compacted"),
        ("ALTER TABLE t ADD COLUMN a INT", "studio.t is a registered table and cannot be altered"),
        ("ALTER TABLE t SET ACCESS LEVEL public",
         "studio.t is a registered table and cannot be altered"),
        ("DROP TABLE t", "studio.t is a registered table; use UNREGISTER TABLE"),
        ("DROP TABLE IF EXISTS t", "studio.t is a registered table; use UNREGISTER TABLE"),
        ("DROP VIEW t", "studio.t is a table, not a view; use DROP TABLE"),
        ("SELECT _seq FROM t", "Column '_seq' not found"),
        ("SELECT * FROM t WHERE _deleted", "Column '_deleted' not found"),
        ("SELECT * FROM all_users('studio.t')", "all_users() works on USER and STREAM tables only"),
        ("UNREGISTER TABLE own", "studio.own is not a registered table; use DROP TABLE"),
        ("UNREGISTER TABLE v", "studio.v is a view, not a registered table; use DROP VIEW"),
        ("UNREGISTER TABLE gone", "Table 'studio.gone' not found"),
        ("CREATE TABLE t (a INT)", "Table 'studio.t' already exists"),
    ],
)  # fmt: skip
def test_what_a_registered_table_refuses(
    s: Session, tracks: Path, refused: Any, sql: str, message: str
) -> None:
    s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
    s.execute("CREATE TABLE own (a INT); CREATE VIEW v AS SELECT 1 AS a")
    assert str(refused(s, sql)) == message
    assert s.execute("SELECT count(*) FROM t").rows() == [(5,)]


def test_unregistering_leaves_the_files(s: Session, tracks: Path, refused: Any) -> None:
    s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tracks.iterdir())
    s.execute("UNREGISTER TABLE t")
    assert str(refused(s, "SELECT * FROM t")) == "Table 'studio.t' not found"
    s.execute("CREATE NAMESPACE films; REGISTER TABLE films.t FROM 'files/*.parquet'")
    assert refused(s, "DROP NAMESPACE films").code == "NOT_EMPTY"
    s.execute("DROP NAMESPACE films CASCADE")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tracks.iterdir()) == before
    s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
    assert s.execute("SELECT count(*) FROM t").rows() == [(5,)]


def test_access_levels(s: Session, mia: Session, sven: Session, tracks: Path, refused: Any) -> None:
    s.execute("REGISTER TABLE closed FROM 'files/*.parquet'")
    s.execute("REGISTER TABLE shown FROM 'files/*.parquet' WITH (ACCESS_LEVEL = 'PUBLIC')")
    assert str(refused(mia, "SELECT * FROM closed")) == (
        "Permission denied: role 'user' may not read studio.closed"
    )
    assert sven.execute("SELECT count(*) FROM closed").rows() == [(5,)]
    assert mia.execute("SELECT count(*) FROM shown").rows() == [(5,)]
    assert str(refused(s, "EXECUTE AS USER 'mia' (SELECT * FROM shown)")) == (
        "EXECUTE AS USER works on USER and STREAM tables only; studio.shown is a SHARED table"
    )
    kinds = s.execute(
        "SELECT table_name, table_type, access_level, is_registered, storage_id, primary_key "
        "FROM system.tables WHERE namespace_id = 'studio' ORDER BY 1"
    ).rows()
    assert kinds == [
        ("closed", "shared", "private", True, None, None),
        ("shown", "shared", "public", True, None, None),
    ]
    assert [row[1:4] for row in mia.execute("SHOW TABLES IN studio")] == [
        ("closed", "shared", "private"), ("shown", "shared", "public"),
    ]  # fmt: skip


def test_files_are_listed_at_each_query(s: Session, tracks: Path, refused: Any) -> None:
    s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
    count = "SELECT count(*), sum(id) FROM t"
    assert s.execute(count).rows() == [(5, 15)]
    pq.write_table(MORE, tracks / "t3.parquet")
    assert s.execute(count).rows() == [(7, 24)]
    pq.write_table(TRACKS.slice(0, 1), tracks / "t2.parquet")
    assert s.execute(count).rows() == [(6, 16)], "a file that was replaced is read anew"
    (tracks / "t3.parquet").unlink()
    assert s.execute(count).rows() == [(4, 7)]
    for path in tracks.iterdir():
        path.unlink()
    assert str(refused(s, count)) == "The files of studio.t are gone"
    tracks.rmdir()
    assert str(refused(s, "SELECT * FROM t")) == "The files of studio.t are gone"
    tracks.mkdir()
    pq.write_table(TRACKS, tracks / "t1.parquet")
    assert s.execute(count).rows() == [(3, 6)]


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (MORE.set_column(0, "id", [pa.array(["x", "y"])]), "column 'id' is TEXT, not BIGINT"),
        (MORE.drop_columns(["id"]), "it has no column 'id'"),
        (MORE.set_column(0, "id", [pa.array([1, 2], pa.duration("s"))]),
         "column 'id' is INTERVAL, not BIGINT"),
    ],
)  # fmt: skip
def test_a_file_that_no_longer_fits_is_an_error_that_names_the_table(
    s: Session, mia: Session, tracks: Path, refused: Any, later: pa.Table, why: str
) -> None:
    s.execute("REGISTER TABLE t FROM 'files/*.parquet' WITH (ACCESS_LEVEL = 'PUBLIC')")
    assert mia.execute("SELECT sum(id) FROM t").rows() == [(15,)]
    pq.write_table(later, tracks / "t2.parquet")
    for session in (s, mia):
        for what in ("sum(id)", "count(title)", "count(*)"):
            error = refused(session, f"SELECT {what} FROM t")
            assert str(error) == f"A file of studio.t no longer fits: {why}"
    (tracks / "t2.parquet").write_bytes(b"PAR1 is no file")
    assert (
        str(refused(mia, "SELECT sum(id) FROM t"))
        == "A file of studio.t cannot be read in its format"
    )


def test_values_that_no_longer_fit(s: Session, files: Path, refused: Any) -> None:
    (files / "a.csv").write_text("id,name\n1,x\n")
    s.execute("REGISTER TABLE t FROM 'files/*.csv'")
    for text, why in {
        "id,name\none,x\n": "a value is not of its column's type",
        "name\nx\n": "it has no column 'id'",
        "id\n1\n": "it has no column 'name'",
        "id,name\n1,x,y\n": "a row has not as many values as there are columns",
        f"id,name\n{'1' * 33 * 2**20},x\n2,y\n": "a row is longer than 16 MiB",
    }.items():
        (files / "a.csv").write_text(text)
        assert str(refused(s, "SELECT id FROM t")) == f"A file of studio.t no longer fits: {why}"
    (files / "a.csv").write_bytes(b"")
    assert (
        str(refused(s, "SELECT id FROM t"))
        == "A file of studio.t no longer fits: it is empty; its first line should name the columns"
    )
    at = {"at": pa.array([1_000], pa.timestamp("ns"))}
    pq.write_table(pa.table(at), files / "n.parquet")
    s.execute("REGISTER TABLE n FROM 'files/n.parquet'")
    pq.write_table(pa.table({"at": pa.array([1], pa.timestamp("ns"))}), files / "n.parquet")
    assert str(refused(s, "SELECT * FROM n")) == (
        "A file of studio.n no longer fits: a value of column 'at' is no TIMESTAMP"
    )


def test_a_file_changed_behind_its_size_and_time_is_read_anew(s: Session, files: Path) -> None:
    path = files / "a.csv"
    path.write_text("id\n1\n")
    s.execute("REGISTER TABLE t FROM 'files/a.csv'")
    assert s.execute("SELECT id FROM t").rows() == [(1,)]
    times = path.stat()
    path.write_text("id\n2\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert s.execute("SELECT id FROM t").rows() == [(2,)]


def test_an_odd_file_name_hides_no_other_file(s: Session, files: Path) -> None:
    (files / "a1.csv").write_text("id\n1\n")
    s.execute("REGISTER TABLE t FROM 'files/a*.csv'")
    (files / "a\\2.csv").write_text("id\n2\n")
    assert s.execute("SELECT id FROM t").rows() == [(1,)]


def test_it_joins_and_stands_in_views_and_inserts(s: Session, mia: Session, tracks: Path) -> None:
    s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
    s.execute(
        """CREATE TABLE genres (id INT PRIMARY KEY, name TEXT);
        INSERT INTO genres VALUES (1, 'jazz'), (4, 'folk');
        CREATE VIEW named AS SELECT t.title, g.name FROM t JOIN genres g USING (id)"""
    )
    assert sorted(s.execute("SELECT * FROM named").rows()) == [("Dawn", "jazz"), ("Sea", "folk")]
    s.execute("CREATE TABLE copied AS SELECT * FROM t WHERE id > 2")
    s.execute("INSERT INTO copied SELECT * FROM t WHERE id = 1")
    assert s.execute("SELECT count(*) FROM copied").rows() == [(4,)]
    assert [row[:2] for row in s.execute("DESCRIBE named")] == [("Title", "TEXT"), ("name", "TEXT")]
    s.execute("BEGIN")
    assert s.execute("SELECT count(*) FROM t").rows() == [(5,)]
    s.execute("ROLLBACK")


def test_explain_and_stats(s: Session, tracks: Path) -> None:
    s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
    (scan,) = [r for r in s.execute("EXPLAIN SELECT * FROM t WHERE id > 3") if r[2] == "Scan"]
    assert scan[3:] == ("studio.t", "columns id, Title, added; pruned by id", 0, 0, 2)
    (row,) = s.execute("SHOW STATS FOR TABLE t").rows()
    assert row[:7] == ("studio", "t", "shared", None, 0, 0, 0)
    assert [r for r in s.execute("SHOW MANIFEST") if r[1] == "t"] == []
    answers = (
        finished(s, "STORAGE FLUSH ALL IN studio").rows()
        + finished(s, "STORAGE COMPACT ALL").rows()
    )
    assert not any("studio.t" in row for row in answers)


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("id >= 250", range(250, 300)),
        ("id = 17", [17]),
        ("id IN (5, 205)", [5, 205]),
        ("at < TIMESTAMP '2031-01-01 00:01:00'", range(60)),
        ("name = 'n00299'", [299]),
        ("x > 1e9", [50]),  # NaN is greater than all numbers
        ("x IS NULL", [60]),
        ("id > 1000", []),
        ("NOT flag", []),
    ],
)  # fmt: skip
def test_row_groups_are_left_out_by_their_statistics_and_no_row_is_lost(
    s: Session, files: Path, condition: str, ids: Any
) -> None:
    values: list[float | None] = [float(n) for n in range(300)]
    values[50], values[60] = float("nan"), None
    start = dt.datetime(2031, 1, 1)
    table = pa.table(
        {
            "id": pa.array(range(300), pa.int32()),
            "at": pa.array(
                [start + dt.timedelta(seconds=n) for n in range(300)], pa.timestamp("ns")
            ),
            "name": [f"n{n:05}" for n in range(300)],
            "x": values,
            "flag": [True] * 300,
        }
    )
    pq.write_table(table, files / "t.parquet", row_group_size=50)
    s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
    for _ in range(2):
        found = s.execute(f"SELECT id FROM t WHERE {condition} ORDER BY id").rows()
        assert [row[0] for row in found] == list(ids)
        s.execute("SELECT * FROM t")  # from now on all of it is in memory
    estimate = s.execute(f"EXPLAIN SELECT id FROM t WHERE {condition}").rows()[-1][7]
    assert estimate <= 300
    if condition.startswith(("id", "at", "name")):
        assert estimate <= 100


def test_definitions_survive_restarts_and_rebuilds(
    tmp_path: Path, opener: Any, tracks: Path
) -> None:
    path = tmp_path / "own.kalam"
    opened = opener(path)
    s = opened.session(namespace="default")
    s.execute("CREATE NAMESPACE studio; CREATE TABLE studio.own (id INT PRIMARY KEY)")
    s.execute(f"REGISTER TABLE studio.t FROM '{tracks}/*.parquet' WITH (ACCESS_LEVEL = 'PUBLIC')")
    finished(s, "INSERT INTO studio.own VALUES (1); STORAGE FLUSH ALL")
    opened.database.close()

    from kalamdb_lab.engine.check import check_database
    from kalamdb_lab.engine.rebuild import rebuild_database

    opened = opener(path)
    assert opened.session().execute("SELECT count(*) FROM t").rows() == [(5,)]
    opened.database.close()
    report = check_database(path)
    assert report.is_sound
    assert "studio.t" not in {table.name for table in report.tables}
    for file in path.glob("catalog.sqlite*"):
        file.unlink()
    rebuilt = rebuild_database(path)
    assert rebuilt.is_whole
    assert (rebuilt.tables, rebuilt.rows) == (1, 1)
    opened = opener(path)
    assert opened.session().execute("SELECT count(*) FROM t").rows() == [(5,)]
    assert opened.session().execute("DESCRIBE t").rows() == DESCRIBED
    opened.database.close()


def test_ibis_reads_it(s: Session, tracks: Path) -> None:
    s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
    con = Backend.from_connection(s)
    assert con.list_tables(database="studio") == ["t"]
    t = con.table("t", database="studio")
    assert t.filter(t.id > 3).count().execute() == 2
    assert t.group_by("Title").agg(n=t.count()).filter(
        lambda r: r.n > 1
    ).execute().Title.tolist() == ["Dawn"]
