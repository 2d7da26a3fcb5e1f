"""How fast are vectors stored, many at once and one by one?

Sketch: 100,000 x 384 float32 are 154 MB. Written to a file and synced that is 0.35 s at 0.45 GB/s,
which is all that `numpy.save` does. Ours writes them as they are (the same), their codes of one
byte (a quarter more; 2 us a row to make, 0.2 s), a digest of both (0.02 s), looks for NaN and
infinity (0.05 s), and writes a Parquet file with the other columns. So twice `numpy.save`. One
vector by itself is a row of 1.5 kB in the log: 0.05 ms more than a row of numbers, and a sync.
Data: vectors of 384 float32 (seed 384) with a BIGINT key; 100,000 as one Arrow table into a new
table each time, and single rows with a numpy vector as a parameter. Rows are read back.
Peers: numpy.save, pyarrow's write_table (uncompressed, and with zstd), both synced; zarr-python,
uncompressed, 16,384 rows to a chunk, not synced; LanceDB; a DuckDB file, checkpointed. For single
rows: sqlite3 with a BLOB, synced as ours is, a DuckDB file and LanceDB.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import embeddings, vector_peers
from benchmarks.databases import (
    NAMESPACE,
    create_table,
    duckdb_file,
    kalam_database,
    sqlite_file,
)
from benchmarks.embeddings import DIMENSION, Floats
from benchmarks.measure import Figure, Finding, Samples, Scale, Skipped, interleaved
from kalamdb_lab.engine.session import Session

OURS = "ours"
NUMPY, ZARR, LANCE, FILE, SQLITE = (
    "numpy.save",
    "zarr-python",
    "LanceDB",
    "a DuckDB file",
    "sqlite3",
)
PARQUET, ZSTD = "pyarrow, Parquet uncompressed", "pyarrow, Parquet with zstd"


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Store many vectors at once, and single ones."""
    vectors = embeddings.rows(scale.of(6_000, 100_000))
    place = folder / "vector-insert"
    place.mkdir()
    with kalam_database(place / "vectors.kalam") as database:
        session = database.session(namespace=NAMESPACE)
        found = [
            *_at_once(session, place, vectors, scale.of(1, 4)),
            *_one_by_one(session, place, vectors, scale.of(2, 200)),
        ]
    found += vector_peers.missing(faiss=False)
    if find_spec("zarr") is None:
        reason = "it is not installed; the extra bench brings it"
        found.append(Skipped(f"the comparison with {ZARR}", reason))
    return found


def _at_once(session: Session, folder: Path, vectors: Floats, repeats: int) -> list[Finding]:
    rows = embeddings.table(vectors, embeddings.parts(len(vectors))).drop_columns(["part"])
    for number in range(repeats + 1):
        create_table(session, f"many_{number}", rows.schema, key="id")
    tables, numbers = count(), count()
    duck = duckdb_file(folder / "many.duckdb")
    duck.register("given", rows)

    def ours() -> None:
        assert session.insert(f"many_{next(tables)}", rows).rows_affected == len(vectors)

    def numpy_save() -> None:
        with (folder / f"{next(numbers)}.npy").open("wb") as sink:
            np.save(sink, vectors)
            _sync(sink)

    def parquet(compression: str) -> None:
        with (folder / f"{next(numbers)}.parquet").open("wb") as sink:
            pq.write_table(rows, sink, compression=compression)
            _sync(sink)

    def duckdb_insert() -> None:
        duck.execute(f"CREATE TABLE many_{next(numbers)} AS FROM given")
        duck.execute("CHECKPOINT")

    run: dict[str, Callable[[], object]] = {
        OURS: ours,
        NUMPY: numpy_save,
        PARQUET: lambda: parquet("none"),
        ZSTD: lambda: parquet("zstd"),
        FILE: duckdb_insert,
    }
    if find_spec("zarr") is not None:
        run[ZARR] = lambda: _write_zarr(folder / f"{next(numbers)}.zarr", vectors)
    if find_spec("lancedb") is not None:
        import lancedb

        lance = lancedb.connect(str(folder / "lance"))
        run[LANCE] = lambda: lance.create_table(f"many_{next(numbers)}", rows)
    times = interleaved(run, repeats)
    stored = session.execute("SELECT id, e FROM many_0 ORDER BY id").to_arrow()
    e: Any = stored.column("e").combine_chunks()
    assert np.array_equal(stored.column("id").to_numpy(), np.arange(len(vectors)))
    assert np.array_equal(e.flatten().to_numpy().reshape(vectors.shape), vectors)
    duck.close()
    rate = len(vectors) / times[OURS].wall_ms * 1_000
    return _figures(f"{len(vectors):,} vectors from Arrow", times, f"{rate:,.0f} vectors a second")


def _one_by_one(session: Session, folder: Path, vectors: Floats, repeats: int) -> list[Finding]:
    columns = f"(id BIGINT PRIMARY KEY, e FLOAT[{DIMENSION}])"
    insert = "INSERT INTO one VALUES (?, ?)"
    session.execute(f"CREATE TABLE one (id BIGINT PRIMARY KEY, e EMBEDDING({DIMENSION}))")
    duck = duckdb_file(folder / "one.duckdb")
    duck.execute(f"CREATE TABLE one {columns}")
    sqlite = sqlite_file(folder / "one.sqlite")
    sqlite.execute("CREATE TABLE one (id INTEGER PRIMARY KEY, e BLOB)")
    numbers = {name: count() for name in (OURS, FILE, SQLITE, LANCE)}

    def into(name: str, execute: Callable[[str, Any], object]) -> None:
        number = next(numbers[name])
        vector: Any = vectors[number]
        execute(insert, [number, vector.tobytes() if name == SQLITE else vector])

    run: dict[str, Callable[[], object]] = {
        OURS: lambda: into(OURS, session.execute),
        SQLITE: lambda: into(SQLITE, sqlite.execute),
        FILE: lambda: into(FILE, duck.execute),
    }
    if find_spec("lancedb") is not None:
        import lancedb

        schema = embeddings.table(vectors[:1], embeddings.parts(1)).drop_columns(["part"]).schema
        lance = lancedb.connect(str(folder / "lance")).create_table("one", schema=schema)

        def lance_add() -> None:
            number = next(numbers[LANCE])
            lance.add([{"id": number, "e": vectors[number]}])

        run[LANCE] = lance_add
    times = interleaved(run, repeats, warm_up=min(repeats, 10))
    stored = session.execute("SELECT e FROM one ORDER BY id").to_arrow().column("e")
    expected = vectors[: len(stored)].reshape(-1)
    assert len(stored) == next(numbers[OURS])
    assert np.array_equal(stored.combine_chunks().flatten().to_numpy(), expected)
    duck.close()
    sqlite.close()
    return _figures("one vector, INSERT with a parameter, durable", times, "")


def _figures(what: str, times: dict[str, Samples], note: str) -> list[Finding]:
    return [
        Figure(what, times[OURS], peer, times[peer], note=note) for peer in times if peer != OURS
    ]


def _write_zarr(path: Path, vectors: Floats) -> None:
    import zarr

    array = zarr.create_array(
        str(path), shape=vectors.shape, chunks=(16_384, DIMENSION), dtype="f4", compressors=None
    )
    array[:] = vectors


def _sync(sink: Any) -> None:
    sink.flush()
    os.fsync(sink.fileno())


def test_stored_vectors_come_back_as_they_were(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
