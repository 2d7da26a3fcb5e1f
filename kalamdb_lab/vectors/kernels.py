"""Inner products of vectors in eight bits, by NumKong where it works."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np

from kalamdb_lab.vectors.rows import Float32s, Int8s

_log = logging.getLogger(__name__)


@functools.cache
def eight_bit_kernel() -> Any | None:
    """Return the NumKong module, or None where it cannot be loaded or counts wrongly.

    Searches then read the float32 rows: the same answers, more slowly.
    """
    try:
        import numkong

        if _counts_rightly(numkong):
            return numkong
    except (ImportError, OSError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        _log.warning("Vectors are searched in float32: NumKong does not work here (%s).", error)
        return None
    _log.warning("Vectors are searched in float32: NumKong counts wrongly on this processor.")
    return None


def _counts_rightly(kernel: Any) -> bool:
    random = np.random.default_rng(0)
    for dimension in (1, 37, 384, 2_051):  # no width of a register divides them all
        rows = random.integers(-127, 128, (19, dimension), dtype=np.int8)
        rows[0], rows[1] = 127, -127
        rows.setflags(write=False)  # as those of a mapped file
        queries = rows[:3].copy()
        truth = rows.astype(np.int64) @ queries.T.astype(np.int64)
        one = EightBitQueries(kernel, queries[:1], len(rows)).products(rows)
        many = EightBitQueries(kernel, queries, len(rows)).products(rows)
        if not np.array_equal(one[:, 0], truth[:, 0].astype(np.float32)):
            return False
        if not np.array_equal(many, truth.astype(np.float32)):
            return False
    return True


class EightBitQueries:
    """Queries (b, d) in eight bits, ready to be multiplied with blocks of rows.

    Not for two threads at once: the products are in memory that the next call writes again.

    Parameters
    ----------
    kernel : module
        What `eight_bit_kernel` returned.
    queries : (b, d) int8
    most_rows : int
        Rows of the largest block to come.
    """

    def __init__(self, kernel: Any, queries: Int8s, most_rows: int) -> None:
        self._kernel = kernel
        self._queries = np.ascontiguousarray(queries)
        self._products = np.empty(most_rows * len(queries), np.float32)
        self._packed = kernel.dots_pack(self._queries) if len(queries) > 1 else None
        self._sums: Any = None

    def products(self, rows: Int8s) -> Float32s:
        """Return the inner products (m, b) of rows (m, d), C order.

        Exact below 2^24 (so up to 1,040 dimensions), else rounded once to float32.
        """
        row_count, query_count = len(rows), len(self._queries)
        flat = self._products[: row_count * query_count]
        if self._packed is None:
            self._kernel.cdist(self._queries, rows, metric="dot", out=flat.reshape(1, row_count))
            return flat.reshape(row_count, 1)
        if self._sums is None or self._sums.shape[0] != row_count:
            self._sums = self._kernel.zeros((row_count, query_count), dtype="int32")
        self._kernel.dots_packed(rows, self._packed, out=self._sums)
        products = flat.reshape(row_count, query_count)
        np.copyto(products, np.asarray(self._sums), casting="unsafe")
        return products
