"""The engine, and planners of two users on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kalamdb_lab.clock import FakeClock, IdGenerator
from kalamdb_lab.query.duck import DuckEngine
from kalamdb_lab.query.planner import Planner

# Modules of one folder are not importable by name in pytest's importlib mode.
sys.path.insert(0, str(Path(__file__).parent))

from query_world import Catalog, World


@pytest.fixture(scope="session")
def engine() -> Iterator[DuckEngine]:
    engine = DuckEngine(IdGenerator(FakeClock(), lambda: 7), threads=2)
    yield engine
    engine.close()


@pytest.fixture
def world(engine: DuckEngine) -> World:
    return World(Planner(engine), Catalog())


@pytest.fixture
def dba(engine: DuckEngine) -> World:
    return World(Planner(engine), Catalog(user="root", role="dba"))
