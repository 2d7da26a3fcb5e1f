from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kalamdb_lab.segments.cache import SegmentCache
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.storage import Storage

# Test files are not importable under importlib mode; what they share stands beside them.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    made = Storage("local", tmp_path / "storage")
    made.create_base()
    return made


@pytest.fixture
def reader(storage: Storage) -> SegmentReader:
    return SegmentReader({"local": storage}.__getitem__, SegmentCache(50_000_000))
