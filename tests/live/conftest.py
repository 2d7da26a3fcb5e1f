"""A database that the tests of live results share, and its sessions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("results") / "lab.kalam"
    path.mkdir()
    (path / "kalam.toml").write_text('durability = "normal"\n')
    opened = kalam.open(path)
    root = opened.session("root")
    root.execute("CREATE NAMESPACE studio")
    for user, role in {"mia": "user", "tom": "user", "dora": "dba"}.items():
        root.execute(f"CREATE USER '{user}' WITH INTERNAL ROLE {role}")
    yield opened
    opened.close()


@pytest.fixture
def root(database: Database) -> Iterator[Session]:
    session = database.session("root", namespace="studio")
    session.execute("CREATE SHARED TABLE tracks (id BIGINT PRIMARY KEY, title TEXT, seconds INT)")
    session.execute("CREATE SHARED TABLE plays (track BIGINT, listener TEXT)")
    session.execute("INSERT INTO tracks VALUES (1, 'Dawn', 700), (2, 'Hill', 180)")
    yield session
    session.close()
    cleaner = database.session("root", namespace="studio")
    cleaner.execute("DROP NAMESPACE studio CASCADE; CREATE NAMESPACE studio")
    cleaner.close()


@pytest.fixture
def session_of(database: Database) -> Iterator[Callable[[str], Session]]:
    opened: list[Session] = []

    def of(user: str) -> Session:
        opened.append(database.session(user, namespace="studio"))
        return opened[-1]

    yield of
    for session in opened:
        session.close()
