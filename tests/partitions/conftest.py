"""Fixtures over `partition_world`, which test files import by its name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from partition_world import World, world

from kalamdb_lab.clock import FakeClock


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    made = world(tmp_path, FakeClock())
    yield made
    made.log.store.close()


@pytest.fixture
def there(tmp_path: Path, here: World) -> Iterator[World]:
    """Another process on the same directory, as far as the log can tell."""
    made = world(tmp_path, here.clock)
    yield made
    made.log.store.close()
