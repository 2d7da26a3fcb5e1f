"""A database with flights; ``pages.py`` stands in for a page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session

# Test files are not importable under importlib mode; what they share stands beside them.
sys.path.insert(0, str(Path(__file__).parent))

from pages import view_threads


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = kalam.open(tmp_path / "lab.kalam")
    with database.session() as root:
        root.execute_script(
            """CREATE NAMESPACE port;
            CREATE SHARED TABLE port.departures (id BIGINT PRIMARY KEY, dest TEXT, delay DOUBLE)
                WITH (ACCESS_LEVEL = 'PUBLIC');
            CREATE SHARED TABLE port.plans (id BIGINT PRIMARY KEY, text TEXT);
            CREATE USER TABLE port.notes (id BIGINT PRIMARY KEY, text TEXT);
            CREATE USER 'mia' INTERNAL ROLE user;
            CREATE USER 'sam' INTERNAL ROLE service;
            INSERT INTO port.departures VALUES (1, 'Rome', 2.5), (2, 'Nome', NULL), (3, 'Oslo', 0)"""
        )
    yield database
    database.close()
    assert view_threads() == []


@pytest.fixture
def root(db: Database) -> Iterator[Session]:
    with db.session(namespace="port") as session:
        yield session
