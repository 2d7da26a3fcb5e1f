"""Queries given as trees, as ibis expressions and the statements of tools are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

from kalamdb_lab.engine.pipeline import Pipeline, RequestFor
from kalamdb_lab.query.result import Result

if TYPE_CHECKING:
    import threading

    import pyarrow as pa
    from sqlglot import exp


class TreeSession:
    """The part of a `Session` that runs trees."""

    _pipeline: Pipeline
    _lock: threading.RLock
    _request: RequestFor

    def query_tree(
        self,
        tree: exp.Expression,
        params: tuple[object, ...] = (),
        *,
        relations: Mapping[str, pa.Table] | None = None,
        cache_key: Hashable | None = None,
    ) -> Result:
        """Run a query given as a tree, as an ibis expression compiles to; same rules as text.

        Parameters
        ----------
        tree : sqlglot.exp.Expression
            One query; its arithmetic is DuckDB's.
        params : tuple
            Values of its placeholders.
        relations : mapping, optional
            Further Arrow tables by name, for this query only.
        cache_key : hashable, optional
            Identifies the tree: a plan made for an equal key is used again.
        """
        with self._lock:
            return self._pipeline.run_tree(tree, params, self._request, relations or {}, cache_key)

    def stream_tree(
        self,
        tree: exp.Expression,
        *,
        relations: Mapping[str, pa.Table] | None = None,
        batch_rows: int = 100_000,
        text_semantics: bool = False,
    ) -> pa.RecordBatchReader:
        """Run a query given as a tree and read its rows in batches, at one snapshot.

        Parameters
        ----------
        batch_rows : int
            Rows of one batch at most.
        text_semantics : bool
            True if the tree was parsed from SQL text, whose arithmetic is PostgreSQL's.
        """
        with self._lock:
            return self._pipeline.stream_tree(
                tree,
                self._request,
                relations or {},
                batch_rows,
                text_semantics=text_semantics,
            )

    def describe_tree(
        self,
        tree: exp.Expression,
        *,
        relations: Mapping[str, pa.Table] | None = None,
        text_semantics: bool = False,
    ) -> pa.Schema:
        """Return the columns that a query would give, without running it.

        Parameters
        ----------
        text_semantics : bool
            True if the tree was parsed from SQL text, whose arithmetic is PostgreSQL's.
        """
        with self._lock:
            return self._pipeline.describe_tree(
                tree, self._request, relations or {}, text_semantics=text_semantics
            )
