"""Files of tracks that tests register as tables."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

TRACKS = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "Title": ["Dawn", "Hill", None],
        "added": pa.array([dt.date(2031, 4, 30)] * 3),
    }
)


MORE = pa.table(
    {
        "id": pa.array([4, 5], pa.int64()),
        "Title": ["Sea", "Dawn"],
        "added": pa.array([None, dt.date(2031, 5, 1)]),
    }
)


DESCRIBED = [
    ("id", "BIGINT", True, False, None, 1),
    ("Title", "TEXT", True, False, None, 2),
    ("added", "DATE", True, False, None, 3),
]


@contextmanager
def folder_of_files(base: Path) -> Iterator[Path]:
    """A folder below the database that is gone after the test."""
    folder = base / "files"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def write_tracks(folder: Path) -> None:
    """Two files, of three and two rows."""
    pq.write_table(TRACKS, folder / "t1.parquet")
    pq.write_table(MORE, folder / "t2.parquet")


def write_arrow(table: pa.Table, path: Path, *, stream: bool = False) -> None:
    make = ipc.new_stream if stream else ipc.new_file
    with make(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
