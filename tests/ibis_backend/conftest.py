"""Connections of two users to one directory, through the entry point as users have it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lab.kalam"


@pytest.fixture
def con(path: Path) -> Iterator[Any]:
    """Root's connection."""
    connection = ibis.kalam.connect(path)
    yield connection
    connection.disconnect()


@pytest.fixture
def mia(con: Any, path: Path) -> Iterator[Any]:
    """The connection of a plain user, in namespace chat."""
    con.session.execute("CREATE NAMESPACE chat; CREATE USER 'mia' WITH INTERNAL ROLE user")
    connection = ibis.kalam.connect(path, user="mia", namespace="chat")
    yield connection
    connection.disconnect()
