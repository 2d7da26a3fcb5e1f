"""What vectors are searched with elsewhere: numpy, faiss, DuckDB and LanceDB, one call each.

All return ids, nearest first. ``below`` is the number of ``part < below``, or None for all rows.
faiss and LanceDB are loaded when they are first asked; `missing` says what is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks import embeddings
from benchmarks.databases import duckdb_file
from benchmarks.embeddings import Floats
from benchmarks.measure import Skipped

NUMPY, NUMPY_ONE, FAISS = "numpy", "numpy, one thread", "faiss IndexFlatIP, one thread"
ARROW, FILE, LANCE = "DuckDB over Arrow", "a DuckDB file", "LanceDB"
_GEMV_ROWS = 1_024  # below that BLAS starts no second thread
_GATHER_ROWS = 4_096


class Peer(Protocol):
    """Finds the ids of the k rows nearest to one query by cosine."""

    def nearest(self, query: Floats, k: int, below: int | None = None) -> list[int]: ...


def missing(*, faiss: bool = True, lance: bool = True) -> list[Skipped]:
    """Return what cannot be compared here."""
    wanted = {"faiss": faiss, "lancedb": lance}
    return [
        Skipped(f"the comparison with {name}", "it is not installed; the extra bench brings it")
        for name, is_wanted in wanted.items()
        if is_wanted and find_spec(name) is None
    ]


def read_once(rows: Floats) -> object:
    """Read all numbers from memory, in one thread: the fastest way that numpy has."""
    return rows.reshape(-1).view(np.int32).max()


class Numpy:
    """Products with all rows, and a partial sort."""

    def __init__(self, rows: Floats, part: np.ndarray[Any, Any], *, one_thread: bool) -> None:
        self._rows, self._part = rows, part
        self._at_once = _GEMV_ROWS if one_thread else len(rows)
        self._gathered = np.empty((_GATHER_ROWS, rows.shape[1]), np.float32)

    def nearest(self, query: Floats, k: int, below: int | None = None) -> list[int]:
        if below is not None:
            return self._nearest_kept(query, k, below)
        products = np.empty(len(self._rows), np.float32)
        for start in range(0, len(products), self._at_once):
            part = slice(start, start + self._at_once)
            np.dot(self._rows[part], query, out=products[part])
        return _largest(products, k)[0].tolist()

    def _nearest_kept(self, query: Floats, k: int, below: int) -> list[int]:
        kept = np.flatnonzero(self._part < below)
        products = np.empty(len(kept), np.float32)
        # One large gather would cost ten times as much: its memory is new each time.
        for start in range(0, len(kept), _GATHER_ROWS):
            ids = kept[start : start + _GATHER_ROWS]
            block = self._gathered[: len(ids)]
            np.take(self._rows, ids, axis=0, out=block, mode="clip")
            for at in range(0, len(ids), _GEMV_ROWS):
                end = min(at + _GEMV_ROWS, len(ids))
                np.dot(block[at:end], query, out=products[start + at : start + end])
        return kept[_largest(products, k)[0]].tolist()

    def batch(self, queries: Floats, k: int) -> list[list[int]]:
        """Find the rows nearest to each query, block after block of all of them."""
        ids: Any = np.empty((len(queries), 0), np.int64)
        known: Any = np.empty((len(queries), 0), np.float32)
        for start in range(0, len(self._rows), 16_384):
            products = queries @ self._rows[start : start + 16_384].T
            some = np.argpartition(products, -min(k, products.shape[1]), axis=1)[:, -k:]
            ids = np.hstack([ids, some + start])
            known = np.hstack([known, np.take_along_axis(products, some, 1)])
        order = np.argsort(-known, axis=1)[:, :k]
        found: list[list[int]] = np.take_along_axis(ids, order, 1).tolist()
        return found


def _largest(products: np.ndarray[Any, Any], k: int) -> tuple[Any, Any]:
    some = np.argpartition(products, -min(k, len(products)))[-k:]
    some = some[np.argsort(-products[some])]
    return some, products[some]


class Faiss:
    """A flat index over a copy of the rows, searched in one thread.

    With more, its threads spin while they wait, and a busy machine makes it ten times slower.
    """

    def __init__(self, rows: Floats, part: np.ndarray[Any, Any]) -> None:
        import faiss

        self._part = part
        self._index = faiss.IndexFlatIP(rows.shape[1])
        self._parameters = faiss.SearchParameters
        self._selector = faiss.IDSelectorBitmap
        self._index.add(rows)
        faiss.omp_set_num_threads(1)

    def nearest(self, query: Floats, k: int, below: int | None = None) -> list[int]:
        parameters = None
        if below is not None:
            bits = np.packbits(self._part < below, bitorder="little")
            parameters = self._parameters(sel=self._selector(bits))
        ids = self._index.search(query[None], k, params=parameters)[1]
        return ids[0].tolist()

    def batch(self, queries: Floats, k: int) -> list[list[int]]:
        """Find the rows nearest to each query."""
        found: list[list[int]] = self._index.search(queries, k)[1].tolist()
        return found


class DuckDb:
    """``ORDER BY array_cosine_distance`` over a table ``t`` of a connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    def over_arrow(cls, table: pa.Table) -> DuckDb:
        """Query Arrow in memory; its vectors are not copied."""
        connection = duckdb.connect()
        connection.register("t", table)
        return cls(connection)

    @classmethod
    def of_file(cls, path: Path, rows: Floats, part: np.ndarray[Any, Any]) -> DuckDb:
        """Query a table of a new database file."""
        connection = duckdb_file(path)
        for number, some in enumerate(embeddings.slices(rows, part)):
            connection.register("arrived", some)
            start = "INSERT INTO t FROM arrived" if number else "CREATE TABLE t AS FROM arrived"
            connection.execute(start)
            connection.unregister("arrived")
        connection.execute("CHECKPOINT")
        return cls(connection)

    def nearest(self, query: Floats, k: int, below: int | None = None) -> list[int]:
        return self.nearest_where(query, k, "true" if below is None else f"part < {below}")

    def nearest_where(self, query: Floats, k: int, where: str) -> list[int]:
        """Find the rows nearest to a query among those of which a condition is true."""
        text = (
            f"SELECT id FROM t WHERE {where} "
            f"ORDER BY array_cosine_distance(e, ?::FLOAT[{len(query)}]) LIMIT {k}"
        )
        return [row[0] for row in self._connection.execute(text, [query]).fetchall()]

    def close(self) -> None:
        self._connection.close()


class Lance:
    """A LanceDB table on disk; without an index it looks at every row."""

    def __init__(self, folder: Path, rows: Floats, part: np.ndarray[Any, Any]) -> None:
        import lancedb

        database = lancedb.connect(str(folder))
        tables = embeddings.slices(rows, part)
        self.table = database.create_table("t", next(tables))
        for some in tables:
            self.table.add(some)

    def nearest(self, query: Floats, k: int, below: int | None = None) -> list[int]:
        return self.nearest_where(query, k, None if below is None else f"part < {below}")

    def nearest_where(self, query: Floats, k: int, where: str | None) -> list[int]:
        """Find the rows nearest to a query among those of which a condition is true."""
        search = self.search(query, k)
        found = search if where is None else search.where(where, prefilter=True)
        ids: list[int] = found.to_arrow().column("id").to_pylist()
        return ids

    def batch(self, queries: Floats, k: int) -> list[list[int]]:
        """Find the rows nearest to each query."""
        found = self.search(queries, k).to_arrow()
        numbers = found.column("query_index").to_numpy()
        ids = found.column("id").to_numpy()
        return [ids[numbers == number].tolist() for number in range(len(queries))]

    def index_numbers(self) -> None:
        """Index the column ``part``, to find its rows without looking at all."""
        from lancedb.index import BTree

        self.table.create_index("part", config=BTree())

    def search(self, query: Floats, k: int) -> Any:
        """Return a search that was not run yet, for one query or many."""
        search = self.table.search(query, vector_column_name="e").distance_type("cosine")
        return search.limit(k).select(["id", "_distance"])
