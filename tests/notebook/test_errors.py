"""What a failing cell shows."""

from __future__ import annotations

import pytest

from tests.notebook.conftest import Kernel


def test_the_name_the_line_and_a_caret_in_at_most_six_lines(kernel: Kernel) -> None:
    lines = kernel.fails("%%kalam\n\nSELECT id,\n       titel -- :x\nFROM tracks")
    assert lines == [
        "NotFoundError: Column 'titel' not found; did you mean 'title'?",
        "line 4:",
        "           titel -- :x",
        "           ^^^^^",
    ]


@pytest.mark.parametrize(
    ("cell", "first", "line", "marked"),
    [
        ("SELECT * FROM trakcs", "NotFoundError: Table 'studio.trakcs' not found", 2, "trakcs"),
        (
            "SELECT 1;\nSELCT 2",
            "SqlSyntaxError: Syntax error near 'SELCT' (line 3, col",
            3,
            "SELCT",
        ),
        ("SELECT 1 +\n  wobble(2)", "NotFoundError: Function 'wobble' not found", 3, "wobble"),
        ("SELECT :nope", "NotFoundError: Variable 'nope' not found", 2, ":nope"),
        ("SELECT\n {{ 1 / 0 }}", "ZeroDivisionError: division by zero", 3, "{{ 1 / 0 }}"),
        ("SELECT {{ 1 + }}", "SqlSyntaxError: Syntax error: what stands between", 2, "{{"),
        ("SELECT ?", "ParametersError: '?' has no value in a cell", 2, "?"),
        ("SELECT id FROM tracks WHERE id IN :ids AND x = 1", "NotFoundError: Column 'x'", 2, "x"),
        ("INSERT INTO tracks VALUES (1, 'b', 2, 3)", "DuplicateKeyError: Duplicate", 2, ""),
        ("UPDATE tracks SET seconds =\n 'ten' WHERE id = 1", "TypeMismatchError: Colu", 0, ""),
        ("-- nothing", "EmptyStatementError: Empty statement", 0, ""),
    ],
)
def test_the_place_is_that_of_the_cell(
    kernel: Kernel, cell: str, first: str, line: int, marked: str
) -> None:
    kernel.show("ids = list(range(20))")
    code = f"%%kalam\n{cell}"
    lines = kernel.fails(code)
    assert lines[0].startswith(first)
    assert len(lines) <= 6
    if line:
        assert lines[-3].endswith(f"line {line}:")
        assert lines[-2] == f"    {code.splitlines()[line - 1]}"
    if marked:
        start, end = lines[-1].index("^"), len(lines[-1])
        assert lines[-2][start:end].startswith(marked) or marked.startswith(lines[-2][start:end])


def test_a_line_magic_shows_itself(kernel: Kernel) -> None:
    assert kernel.fails("rows = %kalam SELECT nme FROM tracks") == [
        "NotFoundError: Column 'nme' not found",
        "    %kalam SELECT nme FROM tracks",
        "                  ^^^",
    ]


def test_options_before_the_sql_leave_the_caret_as_wide_as_the_word(kernel: Kernel) -> None:
    for option in ("--explain", "--live", "--as mia"):
        assert kernel.fails(f"%kalam {option} SELECT nme FROM tracks")[-1].strip() == "^^^"


def test_a_long_line_is_cut_around_the_place(kernel: Kernel) -> None:
    lines = kernel.fails("%%kalam\nSELECT " + "1, " * 200 + "nme, " + "1, " * 200 + "1")
    assert all(len(line) <= 110 for line in lines)
    assert lines[-2][lines[-1].index("^") :].startswith("nme,")


def test_the_error_is_an_ordinary_one_to_python(kernel: Kernel) -> None:
    code = """
import kalamdb_lab as kalam, pickle
try:
    %kalam SELECT 1; SELECT nme FROM tracks
except kalam.KalamError as error:
    seen = error.code, error.line, error.column, error.statement_number
    again = str(pickle.loads(pickle.dumps(error)))
"""
    kernel.show(code)
    assert kernel.value("seen, again") == (("NOT_FOUND", 1, 25, 2), "Column 'nme' not found")


def test_debug_shows_the_whole_traceback(kernel: Kernel) -> None:
    assert kernel.show("%kalam --debug on").text == "debug is on"
    try:
        lines = kernel.fails("%%kalam\nSELECT nme FROM tracks")
        assert len(lines) > 20
        assert any("engine/session.py" in line for line in lines)
    finally:
        kernel.show("%kalam --debug off")
    assert len(kernel.fails("%%kalam\nSELECT nme FROM tracks")) <= 6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--alive SELECT 1",
            "Unknown option '--alive'; use --all, --as, --explain, --live, --save or --debug",
        ),
        ("conections", "Unknown command 'conections'; did you mean 'connections'?"),
        (
            "graph",
            "Unknown command 'graph'; use open, close, connections, status, tables, snippets, "
            "jobs, system, or SQL",
        ),
        ("open", "%kalam open takes one path"),
        ("open x --pasword y", "Unknown option '--pasword'; use --user, --namespace or --name"),
        ("open x --user", "'--user' needs a value"),
        ("close a b", "%kalam close takes one name at most"),
        ("tables --all", "Unknown option '--all'; it takes no options"),
        ("snippets --drop x", "Unknown option '--drop'; use --delete"),
        ("snippets x", "%kalam snippets takes no name"),
        ("--all tables", "--all goes with SQL, not with tables"),
        ("--explain --live SELECT 1", "--explain and --live cannot be used together"),
        ("--live --as mia SELECT 1", "--live and --as cannot be used together"),
        ("--debug maybe", "--debug is on or off, not 'maybe'"),
        ("--as", "'--as' needs a value"),
        ("class << SELECT 1", "'class' cannot be the name of a variable"),
    ],
)
def test_what_is_not_known_is_refused(kernel: Kernel, line: str, message: str) -> None:
    assert kernel.fails(f"%kalam {line}")[0] == f"InvalidOptionError: {message}"
    assert not (kernel.directory / "x").exists()


class TestSecrets:
    SECRET = "open sesame"
    PASSWORD = f"{SECRET}, it''s me"

    def test_are_not_in_errors(self, kernel: Kernel) -> None:
        for sql in (
            f"CREATE USER 'eve' WITH PASSWORD '{self.PASSWORD}' ROLE captain",
            f"CREATE USER 'mia' WITH PASSWORD '{self.PASSWORD}' ROLE user",
            f"CREATE USER 'eve' WITH PASSWORD '{self.PASSWORD}' ROLL user",
        ):
            for code in (f"%%kalam\n{sql}", f"%kalam --all {sql}"):
                lines = kernel.fails(code)
                assert self.SECRET not in "\n".join(lines)
                assert any("PASSWORD '***'" in line for line in lines)

    def test_are_not_in_the_history(self, kernel: Kernel) -> None:
        cell = kernel.show(f"%%kalam\nCREATE USER 'eve' WITH PASSWORD '{self.PASSWORD}' ROLE user")
        assert self.SECRET not in cell.text + cell.html
        kernel.run(f"%kalam ALTER USER 'nobody' SET PASSWORD '{self.PASSWORD}'")
        assert self.SECRET not in kernel.show("repr((In, _i, _ii, _iii, _ih))").text
        kernel.show("history = get_ipython().history_manager; history.writeout_cache()")
        stored = kernel.show("repr(list(history.db.execute('SELECT * FROM history')))").text
        assert self.SECRET not in stored
        assert stored.count("***") >= 2
