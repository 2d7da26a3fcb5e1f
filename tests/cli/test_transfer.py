"""`kalam import` and `kalam export`: rows out to files and in again, all of them or none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kalamdb_lab as kalam
from kalamdb_lab.cli import reading

KALAM = (sys.executable, "-c", "from kalamdb_lab.cli import main; main()")
ALL_TYPES = """
    CREATE TABLE kinds (
      id BIGINT PRIMARY KEY, yes BOOLEAN, tiny TINYINT, small SMALLINT, i INT, big BIGINT,
      utiny UTINYINT, usmall USMALLINT, uint UINTEGER, ubig UBIGINT, f FLOAT, d DOUBLE,
      amount DECIMAL(38, 10), "two words" TEXT, raw BYTES, doc JSON, t TIMESTAMP, dt DATETIME,
      day DATE, clock TIME, u UUID, e EMBEDDING(2), span INTERVAL, many INT[],
      pair STRUCT(a INT, b UUID), named MAP(TEXT, DOUBLE), numbered MAP(INT, DATE)
    )"""
FULL = """
    INSERT INTO kinds VALUES (
      9223372036854775807, true, -128, -32768, -2147483648, -9223372036854775808,
      255, 65535, 4294967295, 18446744073709551615, 0.1, 0.30000000000000004,
      1234567890123456789012345678.0123456789, 'a "b", c
next', X'00FF', '{"k": [1, "x"]}', '2031-04-30 18:05:00.123456', '2031-04-30 18:05:00+02:00',
      '0001-01-01', '23:59:59.999999', '0190a6b4-8c1b-7c3e-9f00-0123456789ab', '[0.25, -1.5]',
      INTERVAL '14 months 3 days 4 seconds', [1, NULL, 3],
      {'a': 1, 'b': '0190a6b4-8c1b-7c3e-9f00-0123456789ab'}, MAP {'x': 0.5, 'y': NULL},
      MAP {7: DATE '2031-04-30'}
    )"""


@pytest.fixture(scope="module")
def made_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "kinds.kalam"
    with kalam.open(path) as db:
        db.session().execute_script(f"""
            {ALL_TYPES}; {FULL};
            INSERT INTO kinds (id, "two words", raw, doc, many, f, d)
            VALUES (2, '', X'', '[]', [], 'nan', '-inf');
            INSERT INTO kinds (id) VALUES (3);
            CREATE TABLE copied AS SELECT * FROM kinds WHERE false
        """)
    return path


@pytest.fixture
def kinds(run, made_kinds: Path) -> str:
    """A table with a column of each type: a row full of values, a row of empty ones, NULLs."""
    shutil.copytree(made_kinds, "kinds.kalam")
    return "kinds.kalam"


def rows_of(path: str, table: str, order: str = "id") -> list[str]:
    with kalam.open(path) as db:
        return [
            repr(row) for row in db.session().execute(f"SELECT * FROM {table} ORDER BY {order}")
        ]


@pytest.mark.parametrize(
    "file",
    ["out.csv", "out.csv.gz", "out.parquet", "out.arrow", "out.jsonl", "out.jsonl.zst"],
)
def test_every_type_goes_out_and_comes_back(run, kinds: str, file: str) -> None:
    done = run("export", kinds, "kinds", file)
    assert (done.exit_code, done.stdout) == (0, f"{file}: 3 rows written\n")
    done = run("import", kinds, "copied", file)
    assert (done.exit_code, done.stdout) == (0, f"{file}: 3 rows inserted into default.copied\n")
    assert rows_of(kinds, "copied") == rows_of(kinds, "kinds")


@pytest.mark.parametrize("file", ["out.parquet", "out.arrow"])
def test_parquet_and_arrow_carry_the_types_of_a_new_table(run, kinds: str, file: str) -> None:
    run("export", kinds, "kinds", file)
    assert run("import", kinds, "fresh", file, "--create", "--key", "ID").exit_code == 0
    with kalam.open(kinds) as db:
        session = db.session()
        types = [(c.name, c.data_type, c.primary_key) for c in session.definition("fresh").columns]
        assert types == [
            (c.name, c.data_type, c.primary_key) for c in session.definition("kinds").columns
        ]
    assert rows_of(kinds, "fresh") == rows_of(kinds, "kinds")


def test_a_new_table_has_the_types_that_a_csv_looks_like(run, lab: str) -> None:
    Path("trips.csv").write_text(
        "id,day,at,zoned,clock,price,zip,phone,key,late,note,nothing\n"
        "1,2031-04-30,2031-04-30T18:05:00,2031-04-30 18:05:00Z,18:05,0.5,01234,+49123,"
        "0190a6b4-8c1b-7c3e-9f00-0123456789ab,true,2 days,\n"
        "2,,,,,7,00500,+1,,false,,\n"
    )
    done = run("import", lab, "trips", "trips.csv", "--create", "--key", "id", "--type", "user")
    assert done.exit_code == 0
    described = json.loads(run("sql", lab, "DESCRIBE trips", "--format", "json").stdout)
    assert {row["column_name"]: row["data_type"] for row in described} == {
        "id": "BIGINT", "day": "DATE", "at": "TIMESTAMP", "zoned": "DATETIME", "clock": "TIME",
        "price": "DOUBLE", "zip": "TEXT", "phone": "TEXT", "key": "UUID", "late": "BOOLEAN",
        "note": "TEXT", "nothing": "TEXT",
    }  # fmt: skip
    (row, _) = json.loads(run("sql", lab, "SELECT * FROM trips", "--format", "json").stdout)
    assert (row["zip"], row["phone"], row["price"]) == ("01234", "+49123", 0.5)
    with kalam.open(lab) as db:
        assert db.session().definition("trips").kind.value == "user"


def test_a_new_table_has_the_types_of_json(run, lab: str) -> None:
    Path("trips.jsonl").write_text(
        '{"id": 1, "x": 0.5, "s": "5", "day": "2031-04-30", "deep": {"a": [1]}, "late": true}\n'
        '{"id": 12345678901, "x": 7, "s": "b", "more": [1, 2]}\n'
    )
    assert run("import", lab, "trips", "trips.jsonl", "--create").exit_code == 0
    described = json.loads(run("sql", lab, "DESCRIBE trips", "--format", "json").stdout)
    assert {row["column_name"]: row["data_type"] for row in described} == {
        "id": "BIGINT", "x": "DOUBLE", "s": "TEXT", "day": "DATE", "deep": "JSON",
        "late": "BOOLEAN", "more": "JSON",
    }  # fmt: skip


# --- all or nothing ---------------------------------------------------------------------------


def test_a_file_that_does_not_fit_leaves_no_row(run, lab: str) -> None:
    Path("more.csv").write_text("id,title\n3,run\nfour,fly\n")
    done = run("import", lab, "plans", "more.csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "[TYPE_MISMATCH] more.csv: Column 'id': cannot convert 'four' to INT\n"
    assert len(rows_of(lab, "plans")) == 2


def test_files_before_the_one_that_fails_stay(run, lab: str) -> None:
    Path("a.csv").write_text("id\n3\n")
    Path("b.csv").write_text("id\n3\n")
    done = run("import", lab, "plans", "a.csv", "b.csv")
    assert done.exit_code == 1
    assert done.stdout == "a.csv: 1 row inserted into default.plans\n"
    assert done.stderr == (
        "[DUPLICATE_KEY] b.csv: Duplicate primary key: default.plans already has id = 3\n"
    )
    assert len(rows_of(lab, "plans")) == 3


def test_portions_before_the_one_that_fails_are_counted(
    run, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PORTION_ROWS", 1)
    monkeypatch.setattr(reading, "_BLOCK_ROWS", 1)
    Path("more.jsonl").write_text('{"id": 3}\n{"id": 4}\n{"id": "five"}\n')
    done = run("import", lab, "plans", "more.jsonl")
    assert done.stderr == (
        "[TYPE_MISMATCH] more.jsonl: Column 'id': cannot convert 'five' to INT; "
        "inserted before: 1 row\n"
    )
    assert len(rows_of(lab, "plans")) == 3


def test_a_table_made_for_a_file_that_fails_is_gone_again(
    run, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PORTION_ROWS", 1)
    monkeypatch.setattr(reading, "_BLOCK_ROWS", 1)
    Path("more.jsonl").write_text('{"id": 3}\n{"id": "four"}\n')
    done = run("import", lab, "fresh", "more.jsonl", "--create")
    assert done.stderr == (
        "[TYPE_MISMATCH] more.jsonl: Column 'id': cannot convert 'four' to BIGINT; "
        "the first rows gave the types: create the table to choose others\n"
    )
    assert run("sql", lab, "SELECT * FROM fresh").exit_code == 1


@pytest.mark.slow
def test_a_table_made_for_an_interrupted_file_is_gone_again(run, lab: str) -> None:
    os.mkfifo("endless.jsonl")
    command = [*KALAM, "import", lab, "fresh", "endless.jsonl", "--create"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running,
        Path("endless.jsonl").open("w", encoding="utf-8") as pipe,
        kalam.open(lab) as db,
    ):
        pipe.write('{"id": 1}\n' * (reading._BLOCK_ROWS + 1))
        pipe.flush()
        session = db.session()
        until = time.monotonic() + 60
        while "fresh" not in [table.table_id.name for table in session.definitions()]:
            assert time.monotonic() < until
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
        assert "fresh" not in [table.table_id.name for table in session.definitions()]


def test_a_table_that_was_there_stays_when_its_file_fails(run, lab: str) -> None:
    Path("more.csv").write_text("id\nfour\n")
    assert run("import", lab, "plans", "more.csv", "--create").exit_code == 1
    assert len(rows_of(lab, "plans")) == 2


def test_a_file_is_taken_by_its_names(run, lab: str) -> None:
    Path("more.csv").write_text("TITLE,id\nrun,3\n")
    assert run("import", lab, "plans", "more.csv").exit_code == 0
    assert rows_of(lab, "plans")[-1] == "(3, 'run', None)"
    Path("odd.csv").write_text("id,tempo\n4,1\n")
    done = run("import", lab, "plans", "odd.csv")
    assert (done.exit_code, done.stderr) == (
        1,
        "[NOT_FOUND] odd.csv: Column 'tempo' not found in default.plans\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plans", "gone.csv"], "There is no file 'gone.csv'"),
        (["plans", "."], "Nothing tells the format of '.'; use --input-format csv, parquet, arrow, jsonl"),
        (["plans", "a.xyz"], "Nothing tells the format of 'a.xyz'; use --input-format csv, parquet, arrow, jsonl"),
        (["plans", "a.parquet.gz"], "Nothing tells the format of 'a.parquet.gz'; use --input-format csv, parquet, arrow, jsonl"),
        (["plans", "a.csv", "--key", "id"], "--key and --type describe a new table; add --create"),
        (["plans", "a.csv", "--delimiter", "ab"], "--delimiter is one character"),
    ],
)  # fmt: skip
def test_wrong_usage_of_import_gives_2(run, lab: str, arguments: list[str], message: str) -> None:
    done = run("import", lab, *arguments)
    assert (done.exit_code, done.stderr) == (2, message + "\n")


def test_tables_that_cannot_be_filled_give_1(run, lab: str) -> None:
    Path("a.csv").write_text("id\n1\n")
    done = run("import", lab, "gone", "a.csv")
    assert (done.exit_code, done.stderr) == (
        1,
        "[NOT_FOUND] Table 'default.gone' not found; --create makes it\n",
    )
    assert run("import", lab, "plans", "a.csv", "--user", "mia").stderr.startswith(
        "[PERMISSION_DENIED] "
    )
    for name in ("x; DROP TABLE plans", 'x" (a INT); DROP TABLE plans; --', "a.b.c"):
        done = run("import", lab, name, "a.csv", "--create")
        assert done.exit_code == 1
    assert len(rows_of(lab, "plans")) == 2
    done = run("import", lab, "fresh", "a.csv", "--create", "--key", "code")
    assert done.stderr == "[NOT_FOUND] a.csv: Column 'code' not found\n"
    done = run("import", lab, "fresh", "a.csv", "--create", "--type", "user")
    assert "USER tables require a PRIMARY KEY column" in done.stderr


def test_cells_may_be_parted_by_another_character(run, lab: str) -> None:
    Path("more.csv").write_text('id;title\n3;"a;b"\n')
    assert run("import", lab, "plans", "more.csv", "--delimiter", ";").exit_code == 0
    assert rows_of(lab, "plans")[-1] == "(3, 'a;b', None)"


# --- export -----------------------------------------------------------------------------------


def test_a_query_is_written_with_the_arithmetic_of_sql(run, lab: str) -> None:
    done = run(
        "export", lab, "q.csv", "--query", "SELECT 9 / 4 AS n, title FROM plans WHERE id = 1"
    )
    assert (done.exit_code, done.stdout) == (0, "q.csv: 1 row written\n")
    assert Path("q.csv").read_bytes() == b"n,title\n2,walk\n"


def test_nothing_is_replaced_without_force(run, lab: str) -> None:
    Path("out.csv").write_text("mine")
    done = run("export", lab, "plans", "out.csv")
    assert (done.exit_code, done.stderr) == (2, "'out.csv' exists; use --force to replace it\n")
    assert Path("out.csv").read_text() == "mine"
    assert run("export", lab, "gone", "out.csv", "--force").exit_code == 1
    assert Path("out.csv").read_text() == "mine"
    assert run("export", lab, "plans", "out.csv", "--force").exit_code == 0
    assert Path("out.csv").read_text() == "id,title,cost\n1,walk,0.5\n2,,\n"


def test_an_export_that_fails_leaves_no_file(run, lab: str) -> None:
    fails_late = "SELECT 10 / (150000 - range) AS n FROM range(200000)"
    for query in (fails_late, "SELECT 1 AS a, 2 AS a", "DELETE FROM plans WHERE true"):
        done = run("export", lab, "out.parquet", "--query", query)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("[")
    assert [path.name for path in Path().iterdir()] == [lab]
    assert len(rows_of(lab, "plans")) == 2


def test_rights_hold_for_what_is_written(run, lab: str) -> None:
    run("sql", lab, "INSERT INTO air.notes VALUES (1, 'hers')", "--as", "mia")
    assert run("export", lab, "plans", "-", "--format", "csv", "--user", "mia").exit_code == 1
    mine = run("export", lab, "notes", "-", "--format", "csv", "-n", "air", "--user", "mia")
    assert mine.stdout == "id,body\n1,hers\n"
    assert run("export", lab, "air.notes", "-", "--format", "csv").stdout == "id,body\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plans"], "Give a table and a file, or --query and a file"),
        (["plans", "a.csv", "--query", "SELECT 1"], "Give a table and a file, or --query and a file"),
        (["plans", "-"], "Nothing tells the format of standard input or output; use --format csv, parquet, arrow, jsonl"),
        (["plans", "no/where.csv"], "There is no directory 'no'"),
        (["plans", "lab.kalam", "--format", "csv"], "'lab.kalam' is a directory"),
    ],
)  # fmt: skip
def test_wrong_usage_of_export_gives_2(run, lab: str, arguments: list[str], message: str) -> None:
    done = run("export", lab, *arguments)
    assert (done.exit_code, done.stderr) == (2, message + "\n")


def test_an_empty_table_is_a_file_with_its_columns(run, lab: str) -> None:
    for file in ("e.csv", "e.parquet", "e.arrow", "e.jsonl"):
        assert run("export", lab, "air.notes", file).stdout == f"{file}: 0 rows written\n"
        done = run("import", lab, "air.notes", file)
        assert (done.exit_code, done.stderr) == (0, "")
    assert pq.read_schema("e.parquet").names == ["id", "body"]


# --- pipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["csv", "jsonl", "arrow"])
def test_what_standard_output_gives_standard_input_takes(run, kinds: str, name: str) -> None:
    out = run("export", kinds, "kinds", "-", "--format", name)
    assert out.stderr == "-: 3 rows written\n"
    done = run("import", kinds, "copied", "-", "--input-format", name, stdin=out.stdout_bytes)
    assert (done.exit_code, done.stdout) == (0, "-: 3 rows inserted into default.copied\n")
    assert rows_of(kinds, "copied") == rows_of(kinds, "kinds")


@pytest.mark.slow
def test_one_database_fills_another_through_a_pipe(run, lab: str) -> None:
    with kalam.open("other.kalam") as db:
        db.session().execute("CREATE TABLE plans (id INT PRIMARY KEY, title TEXT, cost DOUBLE)")
    out = [*KALAM, "export", lab, "plans", "-", "--format", "arrow"]
    into = [*KALAM, "import", "other.kalam", "plans", "-", "--input-format", "arrow"]
    with subprocess.Popen(out, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        done = subprocess.run(into, stdin=writer.stdout, capture_output=True, check=False)
        assert writer.communicate()[1] == b"-: 2 rows written\n"
    assert (done.returncode, done.stdout) == (0, b"-: 2 rows inserted into default.plans\n")
    assert rows_of("other.kalam", "plans") == rows_of(lab, "plans")


@pytest.mark.slow
def test_parquet_needs_a_file_to_read(run, lab: str) -> None:
    run("export", lab, "plans", "plans.parquet")
    with subprocess.Popen(["cat", "plans.parquet"], stdout=subprocess.PIPE) as source:
        into = [*KALAM, "import", lab, "plans", "-", "--input-format", "parquet"]
        done = subprocess.run(into, stdin=source.stdout, capture_output=True, check=False)
    assert done.stderr == (b"[INVALID_VALUE] -: Parquet cannot be read from a pipe; give a file\n")


def test_many_rows_go_out_and_in(run, lab: str) -> None:
    ask = "SELECT range AS id, repeat('x', 100) AS body FROM range(300000)"
    assert run("export", lab, "big.parquet", "--query", ask).exit_code == 0
    schema = pa.schema([("id", pa.int64()), ("body", pa.string())])
    assert pq.read_schema("big.parquet").equals(schema, check_metadata=False)
    done = run("import", lab, "big", "big.parquet", "--create", "--key", "id")
    assert done.stdout == "big.parquet: 300,000 rows inserted into default.big\n"
    ask = "SELECT count(*) AS n, sum(id) AS total FROM big"
    assert run("sql", lab, ask, "--format", "csv").stdout == "n,total\n300000,44999850000\n"
