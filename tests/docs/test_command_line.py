"""The page of the command line: its commands run, in order, and print what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kalamdb_lab.cli import app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "command-line.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SIMPLE = re.compile(
    r"""(?P<env>(?:\w+="[^"]*"\ )*)kalam\ (?P<arguments>(?:"[^"]*"|[^"|<>])*?)(?P<silent>\ >\ /dev/null)?""",
    re.VERBOSE,
)
"""A command that needs no shell; it takes much less time in this process."""
ANYTHING = "…"


def commands(page: str) -> list[tuple[str, str]]:
    """Return the commands of a page, each with what it should print."""
    found = []
    for block in BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def matches(expected: str, printed: str) -> bool:
    """Return whether a text is as expected; ``…`` stands for anything within a line."""
    pattern = "[^\n]*".join(map(re.escape, expected.split(ANYTHING)))
    return re.fullmatch(pattern, printed) is not None


def run(command: str) -> tuple[str, int]:
    """Run a command; return what it printed, to wherever, and its exit code."""
    if match := SIMPLE.fullmatch(command):
        result = run_here(match)
        return "" if match["silent"] else result.output, result.exit_code
    first, _, second = command.partition(" | ")
    if (match := SIMPLE.fullmatch(second)) and "kalam" not in first:
        result = run_here(match, in_shell(first)[0])
        return result.output, result.exit_code
    if second and "kalam" not in second and (match := SIMPLE.fullmatch(first)):
        return in_shell(second, run_here(match).stdout)
    return in_shell(command)


def run_here(match: re.Match[str], given: str = "") -> Result:
    variables = dict(word.split("=", 1) for word in shlex.split(match["env"]))
    return CliRunner().invoke(app, shlex.split(match["arguments"]), given, variables)


def in_shell(command: str, given: str = "") -> tuple[str, int]:
    place = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-c", command],
        input=given.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PATH": f"{place}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )
    return done.stdout.decode(), done.returncode


@pytest.mark.slow
def test_commands_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    monkeypatch.chdir(tmp_path)
    code = 0
    steps = commands(PAGE.read_text("utf-8"))
    assert len(steps) > 15
    for command, expected in steps:
        if command == "echo $?":
            assert expected == f"{code}\n"
            continue
        printed, code = run(command)
        assert matches(expected, printed), f"{command}\n{printed}"


def test_a_page_that_says_something_else_is_found_out() -> None:
    assert commands("```console\n$ a\nx …\n$ b\n```\n") == [("a", "x …\n"), ("b", "")]
    assert matches("x … y\n", "x 1,2 y\n")
    assert not matches("x …\n", "x\n1\n")
    assert not matches("a.b\n", "axb\n")
