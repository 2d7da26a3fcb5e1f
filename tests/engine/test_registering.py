"""REGISTER TABLE: which files it takes, which columns and types follow, and what it refuses."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from registered_files import DESCRIBED, MORE, TRACKS, folder_of_files, write_arrow, write_tracks

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
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


def test_a_glob_is_one_table_and_answers_its_columns(s: Session, tracks: Path) -> None:
    answer = s.execute("REGISTER TABLE studio.t FROM 'files/*.parquet'")
    assert answer.columns == s.execute("DESCRIBE TABLE t").columns
    assert answer.rows() == s.execute("DESCRIBE TABLE t").rows() == DESCRIBED
    assert s.execute("SELECT id, title FROM t ORDER BY id").rows() == [
        (1, "Dawn"), (2, "Hill"), (3, None), (4, "Sea"), (5, "Dawn"),
    ]  # fmt: skip
    assert s.execute("SELECT count(*) FROM t").rows() == [(5,)]
    assert s.execute("SELECT * FROM t WHERE id = 4").rows() == [(4, "Sea", None)]


def test_absolute_paths_and_single_files(s: Session, tracks: Path, tmp_path: Path) -> None:
    shutil.copy(tracks / "t1.parquet", tmp_path / "a [1].parquet")
    s.execute(f"REGISTER TABLE one FROM '{tmp_path}/a [1].parquet'")
    assert s.execute("SELECT count(*) FROM one").rows() == [(3,)]
    (tracks / "deep" / "er").mkdir(parents=True)
    shutil.copy(tracks / "t2.parquet", tracks / "deep" / "er" / "t3.parquet")
    s.execute("REGISTER TABLE every FROM 'files/**/*.parquet'")
    assert s.execute("SELECT count(*) FROM every").rows() == [(7,)]
    s.execute("REGISTER TABLE some FROM 'files/deep/../t[2-9].parquet'")
    assert s.execute("SELECT count(*) FROM some").rows() == [(2,)]


@pytest.mark.parametrize("name", ["t.arrow", "t.feather", "t.ipc", "T.ARROW"])
@pytest.mark.parametrize("stream", [False, True])
def test_arrow_files_and_streams(s: Session, files: Path, name: str, stream: bool) -> None:
    write_arrow(TRACKS, files / name, stream=stream)
    assert s.execute(f"REGISTER TABLE t FROM 'files/{name}'").rows() == DESCRIBED
    assert s.execute("SELECT title FROM t WHERE id < 3 ORDER BY 1").rows() == [("Dawn",), ("Hill",)]
    assert s.execute("SELECT * FROM t").to_arrow().num_rows == 3


def test_csv_types_follow_from_all_values(s: Session, files: Path) -> None:
    (files / "a.csv").write_text(
        'id,price,name,on,at,day,note\n1,1,"a;""b""",true,2031-04-30 10:00:00,2031-04-30,\n'
        '2,,"",false,2031-04-30T11:00:00.25,,\n'
    )
    (files / "b.csv").write_text("id,price,name,on,at,day,note\n3,2.5,c,true,,2031-05-01,\n")
    answer = s.execute("REGISTER TABLE t FROM 'files/*.csv'")
    assert [row[:2] for row in answer] == [
        ("id", "BIGINT"), ("price", "DOUBLE"), ("name", "TEXT"), ("on", "BOOLEAN"),
        ("at", "TIMESTAMP"), ("day", "DATE"), ("note", "TEXT"),
    ]  # fmt: skip
    at = dt.datetime(2031, 4, 30, 10)
    assert s.execute("SELECT * FROM t ORDER BY id").rows() == [
        (1, 1.0, 'a;"b"', True, at, dt.date(2031, 4, 30), None),
        (2, None, "", False, at + dt.timedelta(seconds=3600, microseconds=250_000), None, None),
        (3, 2.5, "c", True, None, dt.date(2031, 5, 1), None),
    ]


def test_a_late_value_widens_a_csv_column(s: Session, files: Path) -> None:
    rows = 300_000
    lines = "\n".join(f"{number},1,2031-04-30" for number in range(rows))
    (files / "a.csv").write_text(f"id,code,day\n{lines}\n-1,x7,2031-04-30 10:00:00\n")
    answer = s.execute("REGISTER TABLE t FROM 'files/a.csv'")
    assert [row[1] for row in answer] == ["BIGINT", "TEXT", "TIMESTAMP"]
    assert s.execute("SELECT count(*), sum(id), max(code) FROM t").rows() == [
        (rows + 1, rows * (rows - 1) // 2 - 1, "x7")
    ]


CSV_COLUMNS = {
    "zip": (["007", "100"], "TEXT"),
    "huge": (["12345678901234567890", "1"], "TEXT"),
    "sure": (["9007199254740993", "-9223372036854775808"], "BIGINT"),
    "mixed": (["9007199254740993", "0.5"], "TEXT"),
    "small": (["-3", "0.5"], "DOUBLE"),
    "far": (["1e400", "1"], "TEXT"),
    "zero": (["-0", "1"], "DOUBLE"),
    "phone": (["+49", "1"], "TEXT"),
    "day": (["2031-02-30", "2031-02-28"], "TEXT"),
    "either": (["2031-02-28", "2031-02-28T10:00"], "TIMESTAMP"),
    "fine": (["2031-02-28 10:00:00.123456789", ""], "TEXT"),
    "key": (["0190a6b4-8c1b-7c3e-9f00-0123456789ab", ""], "UUID"),
}


@pytest.mark.parametrize("count", [1, 2])
def test_csv_values_are_never_changed(s: Session, files: Path, count: int) -> None:
    lines = [[cells[at] for cells, _ in CSV_COLUMNS.values()] for at in (0, 1)]
    header = ",".join(CSV_COLUMNS)
    parts = [lines] if count == 1 else [[line] for line in lines]
    for at, part in enumerate(parts):
        text = "\n".join([header, *(",".join(line) for line in part)])
        (files / f"{at}.csv").write_text(text + "\n")
    answer = s.execute("REGISTER TABLE t FROM 'files/*.csv'")
    assert {row[0]: row[1] for row in answer} == {n: t for n, (_, t) in CSV_COLUMNS.items()}
    assert sorted(s.execute("SELECT zip, huge, sure, mixed FROM t").rows()) == [
        ("007", "12345678901234567890", 2**53 + 1, "9007199254740993"),
        ("100", "1", -(2**63), "0.5"),
    ]


def test_an_empty_line_of_one_column_is_null(s: Session, files: Path) -> None:
    (files / "one.csv").write_text("x\n1\n\n3\n")
    s.execute("REGISTER TABLE t FROM 'files/one.csv'")
    assert s.execute("SELECT x FROM t").rows() == [(1,), (None,), (3,)]
    s.execute("REGISTER TABLE bare FROM 'files/one.csv' WITH (HEADER = FALSE)")
    assert s.execute("SELECT column1 FROM bare").rows() == [("x",), ("1",), (None,), ("3",)]


@pytest.mark.parametrize(
    "data", [b"gr\xf6\xdfe\n1\n", b"a\n1,\xff\n", b"id,a\n1,\xff\n", b"", b"\n"]
)
def test_what_is_no_text_is_no_csv(s: Session, files: Path, refused: Any, data: bytes) -> None:
    (files / "a.csv").write_bytes(data)
    error = refused(s, "REGISTER TABLE t FROM 'files/a.csv'")
    assert str(error) == "A file of 'files/a.csv' cannot be read as CSV"


def test_texts_with_nul_are_refused(s: Session, files: Path, refused: Any) -> None:
    pq.write_table(pa.table({"a": ["x\0y"]}), files / "a.parquet")
    s.execute("REGISTER TABLE t FROM 'files/a.parquet'")
    assert str(refused(s, "SELECT * FROM t")) == (
        "A file of studio.t no longer fits: a value of column 'a' is no TEXT"
    )


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (pa.array([1], pa.timestamp("ns")), "TIMESTAMP"),
        (pa.array([1], pa.time64("ns")), "TIME"),
        (pa.array([1], pa.duration("ns")), "INTERVAL"),
        (pa.array([1], pa.timestamp("ns", "UTC")), "DATETIME"),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_times_finer_than_ours_are_refused_by_column(
    s: Session, files: Path, refused: Any, values: pa.Array, name: str, kind: str
) -> None:
    place, table = files / f"t.{kind}", pa.table({"n": [1], "at": values})
    pq.write_table(table, place) if kind == "parquet" else write_arrow(table, place)
    assert str(refused(s, f"REGISTER TABLE t FROM 'files/t.{kind}'")) == (
        f"Column 'at': {name} is exact to the microsecond; round the values first"
    )


def test_names_that_no_file_has_are_not_found(s: Session, files: Path, refused: Any) -> None:
    long = "x" * 300
    for path in (f"{long}.csv", f"{long}/a.csv", f"files/[{long}]/a.csv", f"files/*{long}.csv"):
        assert str(refused(s, f"REGISTER TABLE t FROM '{path}'")) == f"File '{path}' not found"
    for sql in (
        f"CREATE STORAGE s TYPE filesystem PATH '{long}'",
        f"BACKUP DATABASE studio TO '{long}'",
    ):
        error = refused(s, sql)
        assert error.code != "INTERNAL"
        assert str(files.parent) not in str(error)
        assert long in str(error)


def test_csv_options(s: Session, files: Path) -> None:
    (files / "a.txt").write_text("1;x\n2;y\n")
    s.execute(
        "REGISTER TABLE t FROM 'files/a.txt' WITH (FORMAT = 'csv', HEADER = FALSE, DELIMITER = ';')"
    )
    assert s.execute("SELECT column1, column2 FROM t ORDER BY 1").rows() == [(1, "x"), (2, "y")]
    assert s.execute("SELECT column2 FROM t WHERE column1 = 2").rows() == [("y",)]
    (files / "b.tsv").write_text("a\tb\n1\tx, y\n")
    s.execute("REGISTER TABLE tabs FROM 'files/b.tsv'")
    assert s.execute("SELECT * FROM tabs").rows() == [(1, "x, y")]
    s.execute(r"REGISTER TABLE typed FROM 'files/b.tsv' WITH (FORMAT = 'csv', DELIMITER = '\t')")
    assert s.execute("SELECT * FROM typed").rows() == [(1, "x, y")]
    with gzip.open(files / "c.csv.gz", "wt") as file:
        file.write("a,b\n1,x\n")
    s.execute("REGISTER TABLE packed FROM 'files/*.csv.gz'")
    assert s.execute("SELECT * FROM packed").rows() == [(1, "x")]
    for suffix, name in (("bz2", "bz2"), ("zst", "zstd"), ("lz4", "lz4")):
        with pa.output_stream(files / f"d.csv.{suffix}", compression=name) as packed:
            packed.write(b"a,b\n1,x\n")
        s.execute(f"REGISTER TABLE {name} FROM 'files/d.csv.{suffix}'")
        assert s.execute(f"SELECT * FROM {name}").rows() == [(1, "x")]
    options = s.execute("SELECT options FROM system.tables WHERE table_name = 't'").rows()[0][0]
    assert '"DELIMITER": ";"' in options


def test_every_type_has_a_place_or_is_refused_by_column_and_type(
    s: Session, files: Path, refused: Any
) -> None:
    vector = pa.array([[0.5, 1.0], None], pa.list_(pa.float32(), 2))
    table = pa.table(
        {
            "tiny": pa.array([1, None], pa.int8()),
            "large": pa.array(["x", None], pa.large_string()),
            "category": pa.array(["x", "y"]).dictionary_encode(),
            "money": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
            "at": pa.array([1_000, None], pa.timestamp("ns")),
            "zoned": pa.array([0, None], pa.timestamp("ms", "Europe/Paris")),
            "mood": vector,
            "tags": pa.array([["a"], None]),
            "pair": pa.array([{"a": 1, "b": "x"}, None]),
            "nothing": pa.nulls(2),
            "a.b": pa.array([7, 8]),
        }
    )
    pq.write_table(table, files / "all.parquet")
    answer = s.execute("REGISTER TABLE t FROM 'files/all.parquet'")
    assert [row[1] for row in answer] == [
        "TINYINT", "TEXT", "TEXT", "DECIMAL(9, 2)", "TIMESTAMP", "DATETIME", "EMBEDDING(2)",
        "TEXT[]", "STRUCT(a BIGINT, b TEXT)", "TEXT", "BIGINT",
    ]  # fmt: skip
    assert s.execute("SELECT * FROM t").rows()[0] == (
        1, "x", "x", Decimal("1.50"), dt.datetime(1970, 1, 1, 0, 0, 0, 1),
        dt.datetime(1970, 1, 1, tzinfo=dt.UTC), [0.5, 1.0], ["a"], {"a": 1, "b": "x"}, None, 7,
    )  # fmt: skip
    assert s.execute('SELECT "a.b" FROM t WHERE "a.b" > 7').rows() == [(8,)]
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    write_arrow(pa.table({"u": union}), files / "u.arrow")
    message = str(refused(s, "REGISTER TABLE u FROM 'files/u.arrow'"))
    assert message.startswith("Column 'u': there is no type for sparse_union")
    for name in ("_seq", "_Deleted", "__kalam_x"):
        pq.write_table(pa.table({name: [1]}), files / "n.parquet")
        with pytest.raises(KalamError, match=f"^Column name '{name}' is reserved$"):
            s.execute("REGISTER TABLE u FROM 'files/n.parquet'")
    write_arrow(pa.table([[1], [2]], names=["a", "A"]), files / "d.arrow")
    assert str(refused(s, "REGISTER TABLE u FROM 'files/d.arrow'")) == "Column 'A' appears twice"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("FROM 'files/gone.parquet'", "File 'files/gone.parquet' not found"),
        ("FROM 'files/*.arrow'", "File 'files/*.arrow' not found"),
        ("FROM 'nowhere/*/x.csv'", "File 'nowhere/*/x.csv' not found"),
        ("FROM 'files'", "The format of 'files' does not follow from its name; say WITH (FORMAT = '...')"),
        ("FROM 'files' WITH (FORMAT = 'parquet')", "File 'files' not found"),
        ("FROM 'files/*.parquet' WITH (FORMAT = 'arrow')",
         "A file of 'files/*.parquet' cannot be read as ARROW"),
        ("FROM 'files/*.parquet' WITH (FORMAT = 'xml')",
         "Unknown FORMAT 'xml'; use PARQUET, ARROW or CSV"),
        ("FROM 'files/*.parquet' WITH (HEADER = TRUE)", "HEADER is only supported for CSV files"),
        ("FROM 'files/*.parquet' WITH (DELIMITER = ';')",
         "DELIMITER is only supported for CSV files"),
        ("FROM 'files/*.csv' WITH (DELIMITER = ';;')",
         "DELIMITER must be one character, as in ';'"),
        ("FROM 'files/*.csv' WITH (HEADER = 'yes')", "HEADER must be TRUE or FALSE"),
        ("FROM 'files/*.parquet' WITH (COLOR = 'red')", "Unknown table option 'COLOR'"),
        ("FROM 'files/*.parquet' WITH (TTL_SECONDS = 1)", "Unknown table option 'TTL_SECONDS'"),
        ("FROM 'files/*.parquet' WITH (FORMAT = 'parquet', format = 'csv')",
         "Table option 'FORMAT' appears twice"),
        ("FROM 'files/*.parquet' WITH (ACCESS_LEVEL = 'open')",
         "Unknown ACCESS_LEVEL 'open'; use PUBLIC, PRIVATE or RESTRICTED"),
        ("FROM 'files/x.parquet.gz'",
         "Compressed files are only supported as CSV, not 'files/x.parquet.gz'"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered(
    s: Session, tracks: Path, refused: Any, sql: str, message: str
) -> None:
    assert str(refused(s, f"REGISTER TABLE studio.t {sql}")) == message
    assert s.execute("SHOW TABLES IN studio").rows() == []


def test_files_must_agree(s: Session, tracks: Path, refused: Any) -> None:
    begin = "The files of 'files/*.parquet' do not agree: "
    for odd, message in (
        (
            MORE.set_column(0, "id", [pa.array([1, 2], pa.int32())]),
            "column 'id' is BIGINT in one and INT in another",
        ),
        (MORE.drop_columns(["added"]), "not all have a column 'added'"),
        (MORE.append_column("more", [[1, 2]]), "not all have a column 'more'"),
    ):
        pq.write_table(odd, tracks / "t3.parquet")
        assert str(refused(s, "REGISTER TABLE t FROM 'files/*.parquet'")) == begin + message
    for fine in (MORE.select(["added", "id", "Title"]), MORE.set_column(1, "Title", [pa.nulls(2)])):
        pq.write_table(fine, tracks / "t3.parquet")
        s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
        assert s.execute("SELECT count(*), count(title) FROM t").rows()[0][0] == 7
        s.execute("UNREGISTER TABLE t")


def test_names_and_namespaces_are_checked_as_for_any_table(
    s: Session, mia: Session, tracks: Path, refused: Any
) -> None:
    s.execute("CREATE TABLE taken (a INT); CREATE VIEW shown AS SELECT 1 AS a")
    for name, message in {
        "taken": "Table 'studio.taken' already exists",
        "shown": "View 'studio.shown' already exists",
        "gone.t": "Namespace 'gone' not found",
        "system.t": "Namespace 'system' is reserved",
        "information_schema.t": "Namespace 'information_schema' is reserved",
    }.items():
        assert str(refused(s, f"REGISTER TABLE {name} FROM 'files/*.parquet'")) == message
    for sql in ("REGISTER TABLE t FROM 'files/gone.parquet'", "UNREGISTER TABLE gone"):
        assert str(refused(mia, sql)) == (
            "Role 'user' cannot execute DDL statements; it needs dba or system"
        )


def test_files_of_the_database_itself_are_out_of_reach(
    s: Session, base: Path, tracks: Path, refused: Any
) -> None:
    finished(s, "CREATE TABLE own (a INT); INSERT INTO own VALUES (1); STORAGE FLUSH TABLE own")
    own = "Files of the database itself cannot be registered"
    for path in (
        "storage/system/users/*.parquet", "storage/**/*.parquet", "**/*.parquet",
        "files/../storage/studio/own/*.parquet", f"{base}/storage/*/*/*.parquet",
    ):  # fmt: skip
        assert str(refused(s, f"REGISTER TABLE t FROM '{path}'")) == own, path
    for path in ("catalog.sqlite", "kalam.toml", "catalog.*", "storage/system/users/manifest.json"):
        error = refused(s, f"REGISTER TABLE t FROM '{path}' WITH (FORMAT = 'csv')")
        assert str(error) == own, path
    (tracks / "link.parquet").symlink_to(
        next((base / "storage" / "system" / "users").glob("*.parquet"))
    )
    assert str(refused(s, "REGISTER TABLE t FROM 'files/link.parquet'")) == own
    os.mkfifo(tracks / "endless.parquet")
    error = refused(s, "REGISTER TABLE t FROM 'files/endless.parquet'")
    assert str(error) == "File 'files/endless.parquet' not found"
    (tracks / "link.parquet").unlink()
    s.execute("REGISTER TABLE t FROM 'files/*.parquet'")
    (tracks / "link.parquet").symlink_to(
        next((base / "storage" / "system" / "users").glob("*.parquet"))
    )
    assert str(refused(s, "SELECT * FROM t")) == "studio.t names files of the database itself"
