"""`kalam check`, as a shell sees it: words and exit codes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.cli import app
from kalamdb_lab.testing.jobs import finished


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def made_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "lab.kalam"
    with kalam.open(path, clock=FakeClock()) as db:
        finished(
            db.session(),
            "CREATE TABLE plans (id INT); CREATE TABLE notes (id INT);"
            "INSERT INTO plans VALUES (1), (2), (3); INSERT INTO notes VALUES (1);"
            "STORAGE FLUSH ALL",
        )
    return path


@pytest.fixture
def lab(made_lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with two flushed tables, named by a relative path."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made_lab, Path("lab.kalam"))


def damage(path: Path, pattern: str) -> None:
    (place,) = path.glob(pattern)
    data = bytearray(place.read_bytes())
    data[30] ^= 1
    place.write_bytes(bytes(data))


def lose_catalog(path: Path) -> None:
    for file in path.glob("catalog.sqlite*"):
        file.unlink()


def test_a_sound_database_gives_0(lab: Path) -> None:
    result = run("check", lab)
    assert result.exit_code == 0
    assert "default.plans" in result.output
    assert result.output.splitlines()[-1] == "'lab.kalam' is sound."


def test_damage_gives_1_and_names_the_table_and_no_path_of_ours(lab: Path, tmp_path: Path) -> None:
    damage(lab, "storage/default/plans/*.parquet")
    result = run("check", lab)
    assert result.exit_code == 1
    assert "default.plans: 1 segment damaged, 3 rows cannot be read" in result.output
    assert "default.notes:" not in result.output
    for word in ("parquet", "sqlite", str(tmp_path), "storage/"):
        assert word not in result.output


def test_a_lost_catalog_gives_1_until_it_is_rebuilt(lab: Path) -> None:
    lose_catalog(lab)
    result = run("check", lab)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "Run: kalam check lab.kalam --rebuild"
    result = run("check", lab, "--rebuild")
    assert result.exit_code == 0
    assert "has a new catalog: 2 tables, 1 user, 2 segments, 4 rows." in result.output
    assert run("check", lab).exit_code == 0


def test_a_rebuild_that_meets_damage_gives_1(lab: Path) -> None:
    lose_catalog(lab)
    damage(lab, "storage/default/plans/*.parquet")
    result = run("check", lab, "--rebuild")
    assert result.exit_code == 1
    assert "default.plans: 1 segment damaged or missing" in result.output


def test_what_cannot_be_done_gives_2_and_one_sentence(lab: Path) -> None:
    for arguments, message in {
        ("check", "gone"): "There is no database at 'gone'\n",
        (
            "check",
            str(lab),
            "--rebuild",
        ): "The catalog of 'lab.kalam' is sound: there is nothing to rebuild\n",
    }.items():
        result = run(*arguments)
        assert (result.exit_code, result.stderr, result.stdout) == (2, message, "")
    assert run("check").exit_code == 2
    assert run("chekc", lab).exit_code == 2


def test_help_says_what_the_exit_codes_mean() -> None:
    result = run("check", "--help")
    assert result.exit_code == 0
    for words in ("--rebuild", "Exit code", "changes nothing"):
        assert words in result.output
    assert "check" in run("--help").output
