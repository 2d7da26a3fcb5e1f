"""`kalam open`, `sql`, `tables`, `jobs` and `users`: what they print, where, and their exit codes."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import kalamdb_lab as kalam
from kalamdb_lab.cli.statements import parameter, statements

KALAM = (sys.executable, "-c", "from kalamdb_lab.cli import main; main()")


# --- open -------------------------------------------------------------------------------------


def test_open_makes_a_database_and_says_what_is_there(run) -> None:
    first = run("open", "new.kalam")
    assert first.exit_code == 0
    assert first.stdout.startswith("new.kalam: new, 1 namespace, 0 tables, 1 user, ")
    assert run("open", "new.kalam").stdout.startswith("new.kalam: 1 namespace, 0 tables, 1 user, ")


def test_open_says_to_each_what_they_may_see(run, lab: str) -> None:
    assert run("open", lab).stdout.startswith("lab.kalam: 2 namespaces, 2 tables, 3 users, ")
    mine = run("open", lab, "--user", "mia").stdout
    assert mine.startswith("lab.kalam: 2 namespaces, 2 tables, ")
    assert "users" not in mine.splitlines()[0]
    assert "system" not in mine


def test_only_open_makes_one(run) -> None:
    for arguments in (["sql", "gone", "SELECT 1"], ["tables", "gone"], ["shell", "gone"]):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == "There is no database at 'gone'\n"
    assert not Path("gone").exists()


# --- sql: what it runs ------------------------------------------------------------------------


def test_statements_come_from_the_line_a_file_or_a_pipe(run, lab: str) -> None:
    Path("ask.sql").write_text("-- one\nSELECT 1 AS one;\n", encoding="utf-8")
    by_line = run("sql", lab, "SELECT 1 AS one")
    for arguments, stdin in (
        (["--file", "ask.sql"], None),
        (["-"], "SELECT 1 AS one"),
        ([], "SELECT 1 AS one;\n"),
    ):
        assert run("sql", lab, *arguments, stdin=stdin).stdout == by_line.stdout
    assert run("sql", lab, "SELECT 1", "-f", "ask.sql").exit_code == 2
    missing = run("sql", lab, "-f", "none.sql")
    assert (missing.exit_code, missing.stderr) == (
        2,
        "'none.sql' cannot be read: No such file or directory\n",
    )


def test_what_is_no_text_is_no_script(run, lab: str) -> None:
    Path("latin.sql").write_bytes("SELECT 'grün'".encode("latin-1"))
    for arguments in (["sql", lab], ["shell", lab]):
        done = run(*arguments, stdin=Path("latin.sql").read_bytes())
        assert (done.exit_code, done.stderr) == (2, "Standard input is not UTF-8 text\n")
    done = run("sql", lab, "-f", "latin.sql")
    assert (done.exit_code, done.stderr) == (2, "'latin.sql' is not UTF-8 text\n")


def test_a_script_stops_at_its_first_error_and_keeps_what_came_before(run, lab: str) -> None:
    script = "INSERT INTO plans VALUES (3, 'run', 1);\nSELECT 1 AS one;\nSELECT nothing;\nDELETE FROM plans WHERE true"
    result = run("sql", lab, script, "--format", "csv")
    assert result.exit_code == 1
    assert result.stdout == "one\n1\n"
    assert result.stderr == (
        "1 row inserted\n[NOT_FOUND] Statement 3, line 3: Column 'nothing' not found\n"
    )
    assert run("sql", lab, "SELECT count(*) AS n FROM plans", "--format", "csv").stdout == "n\n3\n"


def test_one_statement_has_no_number(run, lab: str) -> None:
    result = run("sql", lab, "SELECT * FROM gone;")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "[NOT_FOUND] Table 'default.gone' not found\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("SELECT 1;\n\nSELCT 2", "[SYNTAX] Statement 2, line 3: Syntax error near 'SELCT' (line 3, column 1)"),
        ("SELECT 1;\n'open", "[SYNTAX] Statement 2, line 2: Syntax error: unterminated string"),
        ("", "[EMPTY_STATEMENT] Empty statement: there is no SQL to run"),
        ("SELECT ?", "[PARAMETERS] Expected 1 parameter, got 0"),
    ],
)  # fmt: skip
def test_faults_of_the_text_are_told_with_their_place(
    run, lab: str, script: str, message: str
) -> None:
    result = run("sql", lab, "-", stdin=script)
    assert result.exit_code == 1
    assert result.stderr == message + "\n"


def test_a_statement_keeps_its_place_in_the_script() -> None:
    script = "SELECT 1;;\n  SELECT ';' -- one\n, 2 ; /* none */ SELECT 3"
    found = list(statements(script))
    assert [text.strip() for text in found] == ["SELECT 1", "SELECT ';' -- one\n, 2", "SELECT 3"]
    lines = script.split("\n")
    for text in found:
        row = text.count("\n", 0, len(text) - len(text.lstrip()))
        column = len(text.split("\n")[row]) - len(text.split("\n")[row].lstrip())
        assert lines[row].startswith(text.lstrip().split("\n")[0], column)


def test_a_transaction_that_a_script_leaves_open_is_rolled_back(run, lab: str) -> None:
    run("sql", lab, "BEGIN; DELETE FROM plans WHERE true; SELECT nothing")
    run("sql", lab, "BEGIN; DELETE FROM plans WHERE true")
    assert run("sql", lab, "SELECT count(*) AS n FROM plans", "--format", "csv").stdout == "n\n2\n"
    run("sql", lab, "BEGIN; DELETE FROM plans WHERE id = 1; COMMIT")
    assert run("sql", lab, "SELECT count(*) AS n FROM plans", "--format", "csv").stdout == "n\n1\n"


def test_use_holds_for_the_rest_of_the_script(run, lab: str) -> None:
    result = run("sql", lab, "USE air; SELECT count(*) AS n FROM notes", "--format", "csv")
    assert result.stdout == "n\n0\n"
    result = run("sql", lab, "-n", "air", "SELECT count(*) AS n FROM notes", "--format", "csv")
    assert result.stdout == "n\n0\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0.25", Decimal("0.25")),
        ("2e6", 2e6),
        ("true", True),
        ("NULL", None),
        ("mia", "mia"),
        ("'12'", "12"),
        ("'it''s'", "it's"),
        ("", ""),
        ("2031-04-30", "2031-04-30"),
        ("'", "'"),
    ],
)
def test_a_parameter_is_what_it_looks_like(text: str, value: object) -> None:
    found = parameter(text)
    assert found == value
    assert type(found) is type(value)


def test_parameters_are_values_in_order(run, lab: str) -> None:
    text = "SELECT id FROM plans WHERE title = ? AND id < ?"
    result = run("sql", lab, text, "-p", "walk", "-p", "5", "--format", "csv")
    assert result.stdout == "id\n1\n"
    result = run("sql", lab, text, "-p", "' OR true --", "--param", "5", "--format", "csv")
    assert result.stdout == "id\n"
    result = run("sql", lab, "SELECT 1; SELECT ?", "-p", "1")
    assert result.stderr.endswith("Parameters need a single statement; this text has 2\n")


def test_as_runs_statements_for_another_user(run, lab: str) -> None:
    insert = "INSERT INTO air.notes VALUES (1, 'hers')"
    assert run("sql", lab, insert, "--as", "mia").exit_code == 0
    count = "SELECT count(*) AS n FROM air.notes"
    assert run("sql", lab, count, "--format", "csv").stdout == "n\n0\n"
    assert run("sql", lab, count, "--user", "mia", "--format", "csv").stdout == "n\n1\n"
    refused = run("sql", lab, count, "--user", "mia", "--as", "sam")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("[PERMISSION_DENIED] ")


# --- sql: what it prints ----------------------------------------------------------------------


def test_a_table_has_numbers_on_the_right_and_counts_its_rows(run, lab: str) -> None:
    assert run("sql", lab, "SELECT * FROM plans ORDER BY id").stdout == (
        "id  title  cost\n"
        "──  ─────  ────\n"
        " 1  walk    0.5\n"
        " 2  NULL   NULL\n"
        "2 rows\n"
    )  # fmt: skip


def test_csv_json_and_arrow_print_rows_and_nothing_else(run, lab: str) -> None:
    ask = "SELECT * FROM plans ORDER BY id"
    assert run("sql", lab, ask, "--format", "csv").stdout == "id,title,cost\n1,walk,0.5\n2,,\n"
    assert json.loads(run("sql", lab, ask, "--format", "json").stdout) == [
        {"id": 1, "title": "walk", "cost": 0.5},
        {"id": 2, "title": None, "cost": None},
    ]
    stream = pa.ipc.open_stream(run("sql", lab, ask, "--format", "arrow").stdout_bytes)
    assert stream.read_all().to_pylist()[1] == {"id": 2, "title": None, "cost": None}
    for name, nothing in (("csv", "id\n"), ("json", "[]\n")):
        none = run("sql", lab, "SELECT id FROM plans WHERE id > 5", "--format", name)
        assert none.stdout == nothing
    done = run("sql", lab, "CREATE TABLE t (a INT)", "--format", "json")
    assert (done.stdout, done.stderr) == ("", "Table 'default.t' created\n")


def test_several_results_are_told_apart(run, lab: str) -> None:
    script = "SELECT 1 AS a; INSERT INTO plans (id) VALUES (7); SELECT 2 AS b"
    assert run("sql", lab, script, "--format", "csv").stdout == "a\n1\n\nb\n2\n"
    run("sql", lab, "DELETE FROM plans WHERE id = 7")
    assert run("sql", lab, script, "--format", "json").stdout == '[{"a": 1}]\n\n[{"b": 2}]\n'
    run("sql", lab, "DELETE FROM plans WHERE id = 7")
    data = io.BytesIO(run("sql", lab, script, "--format", "arrow").stdout_bytes)
    assert pa.ipc.open_stream(data).read_all().to_pydict() == {"a": [1]}
    assert pa.ipc.open_stream(data).read_all().to_pydict() == {"b": [2]}


def test_returning_shows_rows_and_the_count(run, lab: str) -> None:
    result = run("sql", lab, "UPDATE plans SET cost = 2 WHERE id = 1 RETURNING id, cost")
    assert result.stdout.splitlines()[-1] == "1 row · 1 row updated"


def test_a_long_result_is_shown_in_part(run, lab: str) -> None:
    ask = "SELECT range AS n FROM range(1000)"
    lines = run("sql", lab, ask).stdout.splitlines()
    assert len(lines) == 203
    assert lines[-1] == "showing 200 of 1,000 rows · --rows and --format show more"
    assert len(run("sql", lab, ask, "--rows", "0").stdout.splitlines()) == 1_003
    assert len(run("sql", lab, ask, "--format", "csv").stdout.splitlines()) == 1_001


def test_columns_of_one_name_have_no_place_in_an_object(run, lab: str) -> None:
    ask = "SELECT 1 AS a, 2 AS a"
    assert run("sql", lab, ask, "--format", "csv").stdout == "a,a\n1,2\n"
    result = run("sql", lab, ask, "--format", "json")
    assert (result.exit_code, result.stdout) == (1, "")


# --- who --------------------------------------------------------------------------------------


def test_who_is_not_there_or_was_dropped_gets_2(run, lab: str) -> None:
    result = run("sql", lab, "SELECT 1", "--user", "ben")
    assert (result.exit_code, result.stderr) == (2, "User 'ben' not found\n")
    run("sql", lab, "DROP USER 'mia'")
    result = run("sql", lab, "SELECT 1", "--user", "mia")
    assert (result.exit_code, result.stderr) == (2, "User 'mia' was dropped\n")
    result = run("sql", lab, "SELECT 1", "-n", "sea")
    assert (result.exit_code, result.stderr) == (2, "Namespace 'sea' not found\n")


def test_a_password_comes_from_a_prompt_or_the_environment(
    run, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMS", "open sesame")
    monkeypatch.setenv("WRONG", "open barley")
    ask = ["sql", lab, "SELECT CURRENT_USER() AS who", "--user", "sam", "--format", "csv"]
    assert run(*ask, "--password-env", "SAMS").stdout == "who\nsam\n"
    prompted = run(*ask, "--password-prompt", stdin="open sesame\n")
    assert prompted.stdout.endswith("who\nsam\n")
    assert "Password:" in prompted.stderr
    assert "sesame" not in prompted.output
    wrong = run(*ask, "--password-env", "WRONG")
    assert (wrong.exit_code, wrong.stdout, wrong.stderr) == (2, "", "Wrong user or password\n")
    assert run(*ask, "--password-env", "NONE").exit_code == 2
    assert run(*ask, "--password-env", "SAMS", "--password-prompt").exit_code == 2
    assert run(*ask, "--password", "open sesame").exit_code == 2


def test_a_database_that_asks_for_a_password_says_how_to_give_it(
    run, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("sql", lab, "-", stdin="ALTER USER 'root' SET PASSWORD 'open sesame'")
    result = run("sql", lab, "SELECT 1")
    assert result.exit_code == 2
    assert result.stderr == (
        "'lab.kalam' asks for a password; use --password-prompt or --password-env\n"
    )
    monkeypatch.setenv("ROOTS", "open sesame")
    assert run("tables", lab, "--password-env", "ROOTS").exit_code == 0


# --- lists ------------------------------------------------------------------------------------


def test_tables_are_listed(run, lab: str) -> None:
    rows = json.loads(run("tables", lab, "--format", "json").stdout)
    assert [(row["namespace_id"], row["table_name"]) for row in rows] == [
        ("air", "notes"),
        ("default", "plans"),
    ]
    rows = json.loads(run("tables", lab, "--namespace", "air", "--format", "json").stdout)
    assert [row["table_name"] for row in rows] == ["notes"]
    assert run("tables", lab, "--namespace", "air; DROP TABLE plans").exit_code == 2
    assert run("tables", lab, "--namespace", "sea").exit_code == 1


def test_jobs_and_users_are_listed_to_those_who_may_see_them(run, lab: str) -> None:
    run("sql", lab, "STORAGE FLUSH TABLE plans")
    jobs = json.loads(run("jobs", lab, "--format", "json").stdout)
    assert ("flush", "completed") in [(job["job_type"], job["status"]) for job in jobs]
    users = json.loads(run("users", lab, "--format", "json").stdout)
    assert [row["user_id"] for row in users] == ["mia", "root", "sam"]
    for command in ("jobs", "users"):
        refused = run(command, lab, "--user", "mia")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert refused.stderr.startswith("[PERMISSION_DENIED] ")


# --- as a process -----------------------------------------------------------------------------


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*KALAM, *arguments], capture_output=True, check=False, **options)


@pytest.mark.slow
def test_pipes_and_exit_codes_of_a_process(run, lab: str) -> None:
    done = process("sql", lab, "--format", "csv", input=b"SELECT 'gr\xc3\xbcn' AS c; SELECT gone")
    assert (done.returncode, done.stdout.decode()) == (1, "c\ngrün\n")
    assert done.stderr.decode() == "[NOT_FOUND] Statement 2, line 1: Column 'gone' not found\n"


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_sees_no_trace(run, lab: str) -> None:
    ask = "SELECT range AS n, repeat('x', 1000) AS x FROM range(100000)"
    with subprocess.Popen(
        [*KALAM, "sql", lab, ask, "--format", "csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"n,x\n"
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(30) != 0


@pytest.mark.slow
def test_ctrl_c_gives_130(run, lab: str) -> None:
    script = "SELECT 1 AS one; SELECT count(*) FROM range(1000000000000) a, range(1000) b"
    with subprocess.Popen(
        [*KALAM, "sql", lab, script, "--format", "csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"one\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
        assert b"Traceback" not in running.stderr.read()


def test_nothing_is_left_open(run, lab: str) -> None:
    """After a command that failed the directory can be opened, and moved, as before."""
    run("sql", lab, "SELECT gone")
    Path(lab).rename("moved.kalam")
    with kalam.open("moved.kalam", create=False) as db:
        assert db.session().execute("SELECT count(*) FROM plans").rows() == [(2,)]
