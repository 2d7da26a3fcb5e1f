"""`kalam shell` in a pseudo-terminal, as fingers and eyes have it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kalamdb_lab.cli.shell import is_whole

# The new session takes the terminal as its own, so that Ctrl-C becomes a signal.
LAUNCH = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "from kalamdb_lab.cli import main; main()"
)
PATIENCE_S = 60
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\r")
PROMPT = r"(\w+@\w+\*?>)"
CTRL_C, CTRL_D, TAB, UP = "\x03", "\x04", "\t", "\x1b[A"


class Terminal:
    """A shell in a terminal of its own."""

    def __init__(self, *arguments: str, state: Path) -> None:
        self._fd, inner = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, "shell", *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env=os.environ
            | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(state)},
        )
        os.close(inner)

    def until(self, pattern: str, *, again: str = "") -> str:
        """Read until a line matches; ``again`` is typed whenever nothing comes."""
        text = ""
        end = time.monotonic() + PATIENCE_S
        while re.search(pattern, text) is None:
            assert time.monotonic() < end, text
            ready, _, _ = select.select([self._fd], [], [], 0.2)
            if not ready:
                self.type(again)
                continue
            try:
                data = os.read(self._fd, 65_536)
            except OSError:  # the other end was closed
                data = b""
            assert data, text
            text += ESCAPES.sub("", data.decode())
        return text

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def answer(self, text: str) -> str:
        """Type a line; return what is there when the next prompt is."""
        self.type(text + "\r")
        return self.until(rf"\n{PROMPT}\s*$")

    def close(self) -> int:
        self.process.terminate()
        status = self.process.wait(PATIENCE_S)
        os.close(self._fd)
        return status


@pytest.fixture
def terminal(run, lab: str) -> Iterator[Terminal]:
    opened = Terminal(lab, state=Path("state").absolute())
    opened.until(PROMPT)
    yield opened
    opened.close()


@pytest.mark.slow
def test_statements_are_answered_one_after_the_other(terminal: Terminal) -> None:
    shown = terminal.answer("SELECT * FROM plans ORDER BY id;")
    assert re.search(r" 1  walk    0\.5\n 2  NULL   NULL\n2 rows · [\d.,]+ ms\n", shown)

    terminal.type("SELECT 'one;\r")  # the statement goes on: the semicolon is in a text
    assert "one;↵two" in terminal.answer("two' AS c;")

    assert terminal.answer("USE air;").endswith("root@air>")
    assert re.search(r"air +notes", terminal.answer(r"\d"))
    assert re.search(r"body +TEXT", terminal.answer(r"\d notes"))
    assert "Statements end with ;" in terminal.answer(r"\?")
    assert "There is no command \\x; \\? lists them" in terminal.answer(r"\x")

    assert terminal.answer("BEGIN;").endswith("root@air*>")
    terminal.type(CTRL_D)
    terminal.until("The open transaction is rolled back")
    assert terminal.process.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_an_error_shows_its_place_and_the_shell_goes_on(terminal: Terminal) -> None:
    shown = terminal.answer("SELECT title, cots FROM plans;")
    assert "[NOT_FOUND] Column 'cots' not found; did you mean 'cost'?\n" in shown
    assert "\n    SELECT title, cots FROM plans;\n                  ^\n" in shown
    terminal.type("SELECT 1;\x1b\r")  # Escape, Enter accepts in any case
    assert "1 row" in terminal.until(PROMPT + r"\s*$")
    shown = terminal.answer("ALTER USER 'ben' SET PASSWORD 'open sesame';")
    assert shown.count("sesame") == shown.count("ALTER USER")  # only where it was typed
    terminal.type("\\q\r")
    assert terminal.process.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_ctrl_c_stops_the_statement_and_not_the_shell(terminal: Terminal) -> None:
    terminal.type("SELECT count(*) FROM range(1000000000000) a, range(1000) b;\r")
    terminal.until("Interrupted; nothing was changed", again=CTRL_C)
    terminal.type("SELECT half of a statement" + CTRL_C)
    terminal.type("SELECT 41 + 1 AS answer;\r")
    terminal.until(r"\n +42\n1 row")


@pytest.mark.slow
def test_tab_completes_and_up_brings_back_what_another_run_kept(
    run, lab: str, terminal: Terminal
) -> None:
    for begun, rest in (("sel", "ect"), (" title fro", "m"), (" pla", "ns")):
        terminal.type(begun + TAB)
        terminal.until(rest)  # completions come when they are found
    assert "\nwalk\n" in terminal.answer(" WHERE id = 1;")
    terminal.answer("ALTER USER 'sam' SET PASSWORD 'open barley';")
    terminal.type(CTRL_D)
    assert terminal.process.wait(PATIENCE_S) == 0
    kept = Path("state/kalamdb-lab/history").read_text("utf-8")
    assert "+select title from plans WHERE id = 1;" in kept
    assert "barley" not in kept

    other = Terminal(lab, "--user", "sam", state=Path("state").absolute())
    other.until(PROMPT)
    assert "\nwalk\n" in other.answer(UP)
    other.close()


@pytest.mark.slow
def test_what_is_binary_does_not_go_to_a_terminal(run, lab: str) -> None:
    opened = Terminal(lab, "--format", "arrow", state=Path("state").absolute())
    opened.until("Arrow is binary; send it to a file or a pipe")
    assert opened.process.wait(PATIENCE_S) == 2
    opened.close()


def test_without_a_terminal_it_runs_what_it_reads(run, lab: str) -> None:
    done = run(
        "shell", lab, "--format", "csv", stdin="SELECT id FROM plans;\nSELECT gone;\nSELECT 1"
    )
    assert done.exit_code == 1
    assert done.stdout == "id\n1\n2\n"
    assert done.stderr == "[NOT_FOUND] Statement 2, line 2: Column 'gone' not found\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "SELECT 1;",
        "SELECT 1; SELECT 2 ;\n",
        "SELECT 1; -- that was it",
        "SELECT 1 /* ; */ ;",
        "SELECT 'it''s';",
        "-- don't\nSELECT 1;",
        "SELECT 1 /* don't /* really */ */;",
        'SELECT 1 AS "a;b";',
        "SELECT (1;",
        r"\d",
        r"\d notes",
        "exit",
    ],
)
def test_a_whole_text_is_run(text: str) -> None:
    assert is_whole(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT ';",
        "SELECT 'it''s;",
        'SELECT ";',
        "SELECT 1 -- ;",
        "SELECT 1 /* ;",
        "SELECT 1 /* /* */ ;",
        "-- nothing yet",
        "/* -- */ SELECT 1",
    ],
)
def test_a_text_that_is_not_whole_goes_on(text: str) -> None:
    assert not is_whole(text)
