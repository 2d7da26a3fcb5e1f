"""A table with vectors, and what is built of its index, in the catalog and on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from scheduled import Lab, lab

from kalamdb_lab.engine.session import Session
from kalamdb_lab.jobs.indexes import IndexWork
from kalamdb_lab.jobs.run import JobRun
from kalamdb_lab.model.ids import TableId
from kalamdb_lab.model.segments import SegmentIndex, SegmentMeta
from kalamdb_lab.segments.layout import index_path
from kalamdb_lab.vectors.inverted_lists import InvertedLists

DIMENSION = 8
TRACKS = TableId("studio", "tracks")
NAME = "tracks_mood_ann"
CREATE = "CREATE INDEX ON tracks USING ANN (mood)"
SETTINGS = 'index_from_rows = 500\nflush_policy = "none"'


@contextmanager
def tracks_lab(path: Path) -> Iterator[Lab]:
    """A database with an empty table ``tracks``, where indexes are for segments of 500 rows."""
    with lab(path, SETTINGS) as made:
        made.session().execute(
            f"CREATE TABLE tracks (id INT PRIMARY KEY, genre TEXT, mood EMBEDDING({DIMENSION}))"
        )
        yield made


def rows(first: int, count: int, *, nulls: int = 0) -> pa.Table:
    """Rows with vectors around sixteen centres; the last ``nulls`` have none."""
    generator = np.random.default_rng(first)
    centres = np.random.default_rng(0).normal(size=(16, DIMENSION))
    moods = centres[generator.integers(0, 16, count)] + generator.normal(0, 0.2, (count, DIMENSION))
    values: list[list[float] | None] = moods.astype(np.float32).tolist()
    values[count - nulls :] = [None] * nulls
    return pa.table(
        {
            "id": pa.array(range(first, first + count), pa.int32()),
            "genre": pa.array(["jz"] * count),
            "mood": pa.array(values, pa.list_(pa.float32(), DIMENSION)),
        }
    )


def metas(made: Lab) -> list[SegmentMeta]:
    """The segments of tracks, of all scopes."""
    table = made.context.catalog.table(TRACKS)
    with made.context.store.read() as transaction:
        listed = [item.meta for item in transaction.all_segments()]
    return [meta for meta in listed if meta.partition.table_key == table.table_key]


def built(made: Lab) -> list[SegmentIndex]:
    return [item for meta in metas(made) for item in meta.indexes.values()]


def directories(made: Lab) -> list[Path]:
    return sorted((made.path / "storage").rglob("*.index-*"))


def place(made: Lab, meta: SegmentMeta) -> Path:
    ((column_id, item),) = meta.indexes.items()
    return made.path / "storage" / index_path(meta.path, column_id, item.number)


def mapped(made: Lab, meta: SegmentMeta) -> InvertedLists | None:
    table = made.context.catalog.table(TRACKS)
    column = table.column("mood")
    assert column is not None
    return made.context.reader.vector_index(meta, table, column)


def nearest_ids(session: Session) -> list[int]:
    query = [1.0] * DIMENSION
    result = session.execute("SELECT id FROM tracks ORDER BY L2_DISTANCE(mood, ?) LIMIT 5", [query])
    return [row[0] for row in result.rows()]


def work(made: Lab) -> IndexWork:
    context = made.context
    return IndexWork(context.catalog, context.log, context.home, context.reader, from_rows=500)


def running(at_check: Callable[[int], bool]) -> JobRun:
    """A job that is cancelled when ``at_check`` says so; it gets the number of the question."""
    asked = iter(range(10_000_000))
    return JobRun("CO-test0000", lambda: at_check(next(asked)), lambda _share, _message: None)


def hold_back(made: Lab) -> None:
    """Define the index while no job runs, and cancel the one that would build it."""
    made.database.jobs.pause()
    made.session().execute(CREATE)
    for job in made.database.jobs.list():
        if job.status.is_active:
            made.context.jobs.cancel(job.job_id, by="root")
    made.database.jobs.resume()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
