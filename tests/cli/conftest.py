"""A database named by a relative path, and the command line in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import kalamdb_lab as kalam
from kalamdb_lab.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``kalam`` with arguments in a new directory, and the text of its standard input."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture(scope="session")
def made_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "lab.kalam"
    with kalam.open(path) as db:
        db.session().execute_script("""
            CREATE TABLE plans (id INT PRIMARY KEY, title TEXT, cost DOUBLE);
            INSERT INTO plans VALUES (1, 'walk', 0.5), (2, NULL, NULL);
            CREATE NAMESPACE air;
            CREATE USER TABLE air.notes (id INT PRIMARY KEY, body TEXT);
            CREATE USER 'mia' INTERNAL ROLE user;
            CREATE USER 'sam' WITH PASSWORD 'open sesame' ROLE service;
        """)
    return path


@pytest.fixture
def lab(run: Run, made_lab: Path) -> str:
    """A database with a table of two rows, a namespace and three users."""
    shutil.copytree(made_lab, "lab.kalam")
    return "lab.kalam"
