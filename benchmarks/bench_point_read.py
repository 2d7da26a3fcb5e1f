"""What does reading one row by its key cost, while it is hot and after it was flushed?

Sketch: hot rows are found in a dict, flushed ones by bisection in the sorted keys of a segment
that the manifest's bounds chose; no engine is woken. One row becomes Arrow (a few us a column) and
Python values again: 0.1 ms hot, 0.15 ms flushed. DuckDB finds the row by its key's index in about
0.3 ms.
Data: (id BIGINT key, body TEXT of 200 bytes, n INT), seed 7, keys in random order; 20,000 hot rows
in one table, 1,000,000 flushed ones in another. Each read asks for another key. The first read
after opening has to decode the key column.
Peers: the same text with a parameter on a DuckDB file with the same rows and a primary key.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import kalamdb_lab as kalam
from benchmarks.databases import NAMESPACE, duckdb_file, kalam_database
from benchmarks.measure import Budget, Figure, Finding, Scale, interleaved, timed
from kalamdb_lab.engine.session import Session

COLUMNS = "(id BIGINT PRIMARY KEY, body TEXT, n INT)"
SEED = 7
_BELOW_BULK = 4_000


def rows(count: int) -> pa.Table:
    """Return rows whose keys are 0 to ``count - 1`` in random order."""
    ids = np.random.default_rng(SEED).permutation(count)
    body = pa.array([f"{number:0200d}" for number in ids.tolist()])
    return pa.table({"id": ids, "body": body, "n": (ids % 1_000).astype(np.int32)})


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Read single rows of both tables here and there, in turns."""
    repeats = scale.of(3, 1_000)
    counts = {"hot": scale.of(500, 20_000), "flushed": scale.of(6_000, 1_000_000)}
    path = folder / "points.kalam"
    peer = duckdb_file(folder / "points.duckdb")
    with kalam_database(path) as database:
        session = database.session(namespace=NAMESPACE)
        for table, count in counts.items():
            made = rows(count)
            session.execute(f"CREATE TABLE {table} {COLUMNS}")
            step = _BELOW_BULK if table == "hot" else count
            for start in range(0, count, step):
                session.insert(table, made.slice(start, step))
            peer.execute(f"CREATE TABLE {table} {COLUMNS}")
            peer.register("made", made)
            peer.execute(f"INSERT INTO {table} FROM made")
    found: list[Finding] = []
    with kalam.open(path) as database:
        session = database.session(namespace=NAMESPACE)
        for table, count in counts.items():
            keys = np.random.default_rng(SEED + 1).integers(0, count, 4 * repeats + 50).tolist()
            query = f"SELECT id, body, n FROM {table} WHERE id = ?"
            first, cold = timed(_read(session, query, itertools.repeat(keys[0])))
            assert first == [(keys[0], f"{keys[0]:0200d}", keys[0] % 1_000)]
            assert first == peer.execute(query, [keys[0]]).fetchall()
            times = interleaved(
                {
                    "ours": _read(session, query, iter(keys)),
                    "duckdb": _read_duckdb(peer, query, iter(keys)),
                },
                repeats,
                warm_up=min(repeats, 20),
            )
            found += [
                Figure(
                    f"one row by key, {table}",
                    times["ours"],
                    "a DuckDB file",
                    times["duckdb"],
                    Budget("ratio", 3),
                    f"{count:,} rows",
                ),
                Figure(f"one row by key, {table}: the first after opening", cold),
            ]
    peer.close()
    return found


def _read(session: Session, query: str, keys: Any) -> Any:
    return lambda: session.execute(query, [next(keys)]).rows()


def _read_duckdb(peer: Any, query: str, keys: Any) -> Any:
    return lambda: peer.execute(query, [next(keys)]).fetchall()


def test_both_find_the_row_of_a_key(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
