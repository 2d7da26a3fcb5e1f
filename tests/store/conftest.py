"""Each kind of store; what the tests list in it stands in ``stored_segments.py``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kalamdb_lab.store.log import Store
from kalamdb_lab.store.sqlite import SqliteStore
from kalamdb_lab.testing.memory_store import MemoryStore

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = (
        MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "catalog.sqlite")
    )
    yield made
    made.close()
