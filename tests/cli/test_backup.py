"""`kalam backup`, as a shell sees it; what a copy holds is tested with the engine."""

from __future__ import annotations

import json
from pathlib import Path


def test_a_copy_opens_like_its_original(run, lab: str) -> None:
    done = run("backup", lab, "copy.kalam")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("copy.kalam: ")
    ask = ["SELECT * FROM plans ORDER BY id", "--format", "json"]
    assert run("sql", "copy.kalam", *ask).stdout == run("sql", lab, *ask).stdout
    assert len(json.loads(run("users", "copy.kalam", "--format", "json").stdout)) == 3
    assert run("check", "copy.kalam").exit_code == 0
    ask = "SELECT details ->> 'origin' AS origin FROM system.audit_logs WHERE action = 'BACKUP'"
    assert json.loads(run("sql", lab, ask, "--format", "json").stdout) == [{"origin": "cli"}]


def test_a_copy_takes_the_place_of_nothing(run, lab: str) -> None:
    Path("full").mkdir()
    Path("full", "mine.txt").touch()
    done = run("backup", lab, "full")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("[NOT_EMPTY] ")
    assert [path.name for path in Path("full").iterdir()] == ["mine.txt"]


def test_only_dba_and_system_copy(run, lab: str) -> None:
    done = run("backup", lab, "copy.kalam", "--user", "mia")
    assert done.exit_code == 1
    assert done.stderr.startswith("[PERMISSION_DENIED] ")
    assert not Path("copy.kalam").exists()


def test_without_a_database_there_is_no_copy(run) -> None:
    done = run("backup", "gone.kalam", "copy.kalam")
    assert (done.exit_code, done.stderr) == (2, "There is no database at 'gone.kalam'\n")
