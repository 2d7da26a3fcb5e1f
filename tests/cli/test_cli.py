"""The command as a whole: help, version, and what starting it costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from kalamdb_lab.cli import app

HEAVY = {"duckdb", "ibis", "msgspec", "numpy", "pandas", "prompt_toolkit", "pyarrow", "sqlglot"}
COMMANDS = (
    "open",
    "sql",
    "shell",
    "tables",
    "jobs",
    "users",
    "import",
    "export",
    "backup",
    "check",
)


def test_every_command_is_in_the_help(run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert [command.name for command in app.registered_commands] == list(COMMANDS)
    for command in COMMANDS:
        assert f" {command} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_says_what_its_exit_codes_mean(run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Exit code: 0" in result.stdout


def test_version_is_that_of_the_package(run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"kalam {version('kalamdb-lab')}\n")


def test_wrong_usage_gives_2(run) -> None:
    for arguments in ([], ["slq"], ["sql"], ["sql", "lab.kalam", "SELECT 1", "--format", "xml"]):
        assert run(*arguments).exit_code == 2
        assert not run(*arguments).stdout or not arguments


def test_help_does_not_wait_for_the_engine() -> None:
    code = "import sys, kalamdb_lab.cli; print(sorted(set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.strip("'[],") for name in done.stdout.split()}
    assert not loaded & HEAVY
    assert "typer" in loaded


def test_the_package_alone_brings_nothing_of_the_command_line() -> None:
    code = "import sys, kalamdb_lab; print(sorted({'typer', 'rich', 'prompt_toolkit'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
