"""What do the ten nearest of many vectors cost, exactly, beside reading them once?

Sketch: 1,000,000 x 384 floats are 1.54 GB, 39 ms to read at 40 GB/s. Codes of one byte are a
quarter of it, 10 ms to read; their products take as long as loading them, 20 ms in all; then some
50 rows are ranked again in float32, 0.1 ms. So half of the limit, a third of what BLAS takes. SQL
adds parsing, planning and a statement over ten rows, 2 ms. WHERE is evaluated first, by DuckDB on
Arrow, 3 ms for 1,000,000 rows; it leaves 10,000 rows to gather (3 ms) or 100,000 codes (7 ms). A
batch of 64 reads the codes once for all queries: a tenth of the limit for each.
Data: 100,000 and (`--full`) 1,000,000 vectors of 384 float32, seed 384: 2,000 clusters whose sizes
follow a power law; length one; a number `part` from 0 to 99 at random; `WHERE part < 1` and `< 10`.
Queries are of the same clusters and not in the table. Flushed; files in the page cache. The ids of
ours, in order, are those that a float64 pass over all rows finds.
Peers: reading all floats once (numpy's `max`, one thread: the limit); numpy's matrix-vector
product and argpartition, in memory; faiss IndexFlatIP, in memory, one thread; DuckDB's
array_cosine_distance over Arrow in memory and in a file; LanceDB without an index, on disk. Filters
are part of the time of each. `kernel` is the search of vectors in memory without SQL.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import embeddings, vector_peers
from benchmarks.databases import NAMESPACE, create_table, kalam_database
from benchmarks.embeddings import Floats, Truth
from benchmarks.measure import Budget, Figure, Finding, Samples, Scale, interleaved
from benchmarks.vector_peers import ARROW, FAISS, FILE, LANCE, NUMPY, NUMPY_ONE, Peer
from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished
from kalamdb_lab.vectors.codes import encode
from kalamdb_lab.vectors.rows import Metric, VectorRows
from kalamdb_lab.vectors.search import Target, nearest

SQL, KERNEL, LIMIT = "SQL", "kernel", "reading the floats once"
K = 10
BATCH = 64
BUDGET_ROWS = 1_000_000
BUDGETS = {
    ("all", SQL, LIMIT): 0.6,
    ("all", KERNEL, LIMIT): 0.6,
    ("all", KERNEL, NUMPY_ONE): 1 / 2.3,
    ("all", SQL, FILE): 1 / 15,
    ("all", SQL, ARROW): 1 / 15,
    ("10 %", SQL, LIMIT): 0.35,
    ("1 %", SQL, LIMIT): 0.25,
}
"""Of the ratio, where there are `BUDGET_ROWS` rows."""

_CODES_AT_ONCE = 65_536


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Ask at each size for all rows, for some of them, and for many queries at once."""
    found: list[Finding] = []
    for count in scale.of([2_000], [100_000], [100_000, BUDGET_ROWS]):
        repeats = scale.of(1, 15 if count < BUDGET_ROWS else 5)
        asked = scale.of(4, 20)
        vectors, part = embeddings.rows(count), embeddings.parts(count)
        found += _of_size(folder / f"vectors-{count}", vectors, part, asked, repeats)
    return [*found, *vector_peers.missing()]


class Kernel:
    """Our search over arrays, without tables, files and SQL."""

    def __init__(self, vectors: Floats, part: np.ndarray[Any, Any]) -> None:
        self._part = part
        codes = tuple(
            encode(vectors[start : start + _CODES_AT_ONCE], None)
            for start in range(0, len(vectors), _CODES_AT_ONCE)
        )
        self.rows = VectorRows(vectors.shape[1], len(vectors), (vectors,), codes)

    def nearest(self, query: Floats, k: int, below: int | None = None) -> list[int]:
        only = None if below is None else np.flatnonzero(self._part < below)
        return self._found(query[None], k, only)[0]

    def batch(self, queries: Floats, k: int) -> list[list[int]]:
        """Find the rows nearest to each query."""
        return self._found(queries, k, None)

    def _found(self, queries: Floats, k: int, only: Any) -> list[list[int]]:
        found, _ = nearest([Target(self.rows, only)], queries, k, Metric.COSINE)
        return [one.position[:k].tolist() for one in found]


class Statements:
    """Our search as SQL, and of many queries at once."""

    def __init__(self, session: Session, table: str = "t") -> None:
        self._session, self._table = session, table

    def nearest(self, query: Floats, k: int, below: int | None = None) -> list[int]:
        where = "" if below is None else f"WHERE part < {below} "
        text = f"SELECT id FROM {self._table} {where}ORDER BY COSINE_DISTANCE(e, ?) LIMIT {k}"
        return [row[0] for row in self._session.execute(text, [query]).rows()]

    def batch(self, queries: Floats, k: int) -> list[list[int]]:
        """Find the rows nearest to each query."""
        found = self._session.nearest(self._table, "e", queries, k).to_arrow()
        ids, numbers = found.column("id").to_numpy(), found.column("query").to_numpy()
        return [ids[numbers == number].tolist() for number in range(len(queries))]


def _of_size(
    folder: Path, vectors: Floats, part: np.ndarray[Any, Any], asked: int, repeats: int
) -> list[Finding]:
    folder.mkdir()
    queries = embeddings.queries(max(asked, BATCH))
    truths = embeddings.truths(vectors, queries, K, part)
    # Batches of the size of its row groups let DuckDB use every thread.
    table = pa.concat_tables(embeddings.slices(vectors, part, 122_880))
    file = vector_peers.DuckDb.of_file(folder / "vectors.duckdb", vectors, part)
    arrow = vector_peers.DuckDb.over_arrow(table)
    peers: dict[str, Peer] = {
        NUMPY_ONE: vector_peers.Numpy(vectors, part, one_thread=True),
        NUMPY: vector_peers.Numpy(vectors, part, one_thread=False),
        FILE: file,
        ARROW: arrow,
    }
    if find_spec("faiss") is not None:
        peers[FAISS] = vector_peers.Faiss(vectors, part)
    if find_spec("lancedb") is not None:
        peers[LANCE] = vector_peers.Lance(folder / "lance", vectors, part)
    with kalam_database(folder / "vectors.kalam", durability="normal") as database:
        session = database.session(namespace=NAMESPACE)
        create_table(session, "t", table.schema, key="id")
        for some in embeddings.slices(vectors, part):
            session.insert("t", some)
        finished(session, "STORAGE FLUSH TABLE t")
        ours = {SQL: Statements(session), KERNEL: Kernel(vectors, part)}
        found: list[Finding] = []
        for share, below in embeddings.KEEPING.items():
            found += _of_share(vectors, truths[share], asked, repeats, ours, peers, share, below)
        found += _in_batches(vectors, truths["all"], repeats, ours, peers)
    file.close()
    arrow.close()
    return found


def _of_share(
    vectors: Floats,
    truth: Truth,
    asked: int,
    repeats: int,
    ours: dict[str, Any],
    peers: dict[str, Peer],
    share: str,
    keeping: int,
) -> list[Finding]:
    below = None if share == "all" else keeping
    for name, contender in {**ours, **peers}.items():
        for number in range(asked if name in ours else 2):
            ids = contender.nearest(truth.queries[number], K, below)
            right = truth.is_right(number, ids)
            if name in ours:
                # Ours is exact, in order too; a peer may confuse what float32 cannot tell apart.
                right = ids == truth.ids[number].tolist()
            assert right, f"{name}, {share}: query {number} gives {ids}"
    run: dict[str, Callable[[], object]] = {
        name: _in_turns(contender.nearest, truth.queries[:asked], below)
        for name, contender in {**ours, **peers}.items()
    }
    run[LIMIT] = functools.partial(vector_peers.read_once, vectors)
    times = interleaved(run, repeats)
    return _figures(f"{len(vectors):,} rows, {_kept(share)}", times, len(vectors), share)


def _in_batches(
    vectors: Floats, truth: Truth, repeats: int, ours: dict[str, Any], peers: dict[str, Any]
) -> list[Finding]:
    able = {name: one for name, one in {**ours, **peers}.items() if hasattr(one, "batch")}
    able.pop(NUMPY_ONE)
    if len(vectors) >= BUDGET_ROWS:
        able.pop(LANCE, None)  # a minute for each batch
    queries = truth.queries[:BATCH]
    for name, contender in able.items():
        for number, ids in enumerate(contender.batch(queries, K)):
            right = truth.is_right(number, ids)
            if name in ours:
                right = ids == truth.ids[number].tolist()
            assert right, f"{name}, batch: query {number} gives {ids}"
    run: dict[str, Callable[[], object]] = {
        name: functools.partial(contender.batch, queries, K) for name, contender in able.items()
    }
    # Read as often as batches are run: the limit is of one query, as everywhere.
    run[LIMIT] = functools.partial(vector_peers.read_once, vectors)
    times = interleaved(run, min(repeats, 5))
    each = {
        name: samples if name == LIMIT else samples.each(BATCH) for name, samples in times.items()
    }
    return _figures(f"{len(vectors):,} rows, one query of {BATCH} together", each, len(vectors))


def _in_turns(
    search: Callable[[Floats, int, int | None], object], queries: Sequence[Floats], below: Any
) -> Callable[[], object]:
    turns = itertools.cycle(queries)
    return lambda: search(next(turns), K, below)


def _kept(share: str) -> str:
    return "all" if share == "all" else f"WHERE keeps {share}"


def _figures(what: str, times: dict[str, Samples], count: int, share: str = "") -> list[Finding]:
    """Compare SQL with databases, the kernel with libraries, and both with the limit."""
    found: list[Finding] = []
    for name, peers in (
        (SQL, (LIMIT, FILE, ARROW, LANCE)),
        (KERNEL, (LIMIT, NUMPY_ONE, NUMPY, FAISS)),
    ):
        for peer in peers:
            if peer not in times:
                continue
            limit = BUDGETS.get((share, name, peer)) if count >= BUDGET_ROWS else None
            budget = None if limit is None else Budget("ratio", float(f"{limit:.3g}"))
            found.append(Figure(f"{what}: {name}", times[name], peer, times[peer], budget))
    return found


def test_the_nearest_are_those_of_float64(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
