"""What the shell keeps between two runs, and what it never does."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from prompt_toolkit.history import InMemoryHistory

from kalamdb_lab.cli.history import history_file, may_hold_secret, shell_history

SECRETS = (
    "CREATE USER 'mia' WITH PASSWORD 'open sesame' ROLE user;",
    "alter user 'mia' set\npassword 'open sesame';",
    "SELECT 1; ALTER USER 'mia' SET PASSWORD 'open sesame';",
    "CREATE STORAGE s TYPE 'filesystem' PATH 's' CREDENTIALS '{\"key\": \"open sesame\"}';",
    "CREATE USER 'mia' WITH PASWORD 'open sesame' ROLE user;",
    "EXPLAIN ALTER STORAGE s SET CREDENTIAL 'open sesame';",
    "-- open sesame\nCREATE USER 'mia' WITH PASSWORD",
)
HARMLESS = (
    "SELECT 1;",
    "CREATE USER TABLE notes (id INT PRIMARY KEY);",
    "DROP USER 'mia';",
    "SHOW STORAGES;",
    "SELECT passwords FROM t;",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_statements_with_secrets_are_never_written(home: Path) -> None:
    history = shell_history()
    for text in (*SECRETS, *HARMLESS):
        history.append_string(text)
    kept = history_file().read_text("utf-8")
    assert "sesame" not in kept
    for text in HARMLESS:
        assert f"+{text}" in kept
    assert list(shell_history().load_history_strings()) == list(reversed(HARMLESS))
    # Within the run the Up key brings back all of them.
    assert set(history.get_strings()) == {*SECRETS, *HARMLESS}


@pytest.mark.parametrize("text", SECRETS)
def test_what_may_hold_a_secret_is_known(text: str) -> None:
    assert may_hold_secret(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_statements_are_kept(text: str) -> None:
    assert not may_hold_secret(text)


def test_the_file_lies_in_the_state_directory_of_its_reader_alone(home: Path) -> None:
    assert history_file() == home / "kalamdb-lab" / "history"
    shell_history()
    assert stat.S_IMODE(history_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(history_file().parent.stat().st_mode) == 0o700


def test_without_a_state_directory_it_is_below_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for stated in ("", "relative/ones/do/not/count"):
        monkeypatch.setenv("XDG_STATE_HOME", stated)
        assert history_file() == tmp_path / ".local" / "state" / "kalamdb-lab" / "history"


def test_where_nothing_can_be_written_nothing_is_kept(home: Path) -> None:
    (home / "kalamdb-lab").touch()
    assert isinstance(shell_history(), InMemoryHistory)
