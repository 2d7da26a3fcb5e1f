"""Words and vectors together: two rankings of the same rows, fused."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import pyarrow as pa

from kalamdb_lab.engine.conditions import column_of, condition_of, quoted
from kalamdb_lab.engine.pipeline import listed
from kalamdb_lab.engine.text_index import Seqs, TextIndex, unquoted
from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidOptionError,
    InvalidValueError,
    NotSupportedError,
    TypeMismatchError,
)
from kalamdb_lab.model.datatypes import TypeKind
from kalamdb_lab.model.ids import SYSTEM_COLUMNS
from kalamdb_lab.model.tables import ColumnDef, TableDef, TableKind
from kalamdb_lab.query.result import Result
from kalamdb_lab.tables.definition import column_not_found
from kalamdb_lab.tables.embedding import EmbeddingFunctions, embedded_column

if TYPE_CHECKING:
    import threading

    from kalamdb_lab.engine.app_context import AppContext
    from kalamdb_lab.engine.session import Session

RANK_CONSTANT: Final = 60
"""Added to every rank: Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms
Condorcet and individual rank learning methods", SIGIR 2009, section 2."""

_LEAST_DEPTH: Final = 100
_MOST_DEPTH: Final = 2**31 - 1
_KEPT_INDEXES: Final = 8
_KINDS: Final = (TableKind.USER, TableKind.SHARED, TableKind.STREAM)
_ADDED: Final = ("score", "text_rank", "vector_rank")
_RANKS: Final = "local.hybrid_ranks"


class HybridSession:
    """The part of a `Session` that ranks by words and vectors."""

    _context: AppContext
    _functions: EmbeddingFunctions
    _lock: threading.RLock

    def hybrid(
        self,
        table: str,
        text_column: str,
        embedding_column: str,
        query: str,
        k: int = 10,
        *,
        vector: object = None,
        where: str | None = None,
        params: Sequence[object] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Result:
        """Return the rows that fit a query best by their words and by their vectors.

        Two rankings, by BM25 over the words of a text column and by the cosine distance of an
        EMBEDDING column, are fused: each row scores the sum of ``1 / (60 + rank)`` over the
        rankings that it is in [1]_. Both see the same snapshot, and of it what a SELECT of this
        session sees. Each is as deep as ``5 * k`` rows, 100 at least.

        Parameters
        ----------
        table : str
            ``table`` or ``namespace.table``: a USER, SHARED or STREAM table.
        text_column, embedding_column : str
            A TEXT and an EMBEDDING column of it.
        query : str
            Plain words, without operators; a text must have words in double quotes as they
            stand, in order.
        k : int
            How many rows at most.
        vector : list, 1-D array or str, optional
            What to measure distances to. By default ``query``, without its double quotes, is
            embedded by the embedding function of the column.
        where : str, optional
            A condition of SQL; rows that it leaves out are not ranked.
        params : sequence, optional
            Values of its placeholders.
        columns : sequence of str, optional
            Which columns of the table to return; by default all.

        Returns
        -------
        Result
            The best row first, equal scores by distance and then by ``_seq``: the columns,
            ``score`` (DOUBLE), and ``text_rank`` and ``vector_rank`` (INT, from 1), which are
            NULL for rows that are not in that ranking.

        Raises
        ------
        NotSupportedError
            The package tantivy is missing (``pip install "kalamdb-lab[text]"``), or the table is
            a view or no table of ours.
        NotFoundError, TypeMismatchError
            A column is not there, or of another type; there is no vector, and the column has no
            embedding function.
        DimensionMismatchError, InvalidValueError
            The vector is none of the column's.

        Notes
        -----
        The words of the rows that this session sees are indexed in memory at the first call, and
        again when one of the rows changed. Inside a transaction every call indexes them.

        References
        ----------
        .. [1] G. Cormack, C. Clarke, S. Büttcher, "Reciprocal rank fusion outperforms Condorcet
           and individual rank learning methods", SIGIR 2009.
        """
        _check_query(query, k)
        given = listed(params)
        with self._lock:
            asked = self._asked(table, text_column, embedding_column, columns)
            condition = condition_of(self._context.parsed, asked.name, where, given)
            if vector is None:
                embedded = embedded_column(str(asked.table.table_id), asked.vectors)
                if embedded is None:
                    raise TypeMismatchError(
                        f"Column '{asked.vectors.name}' has no embedding function; give a vector"
                    )
                vector = self._functions.vectors(embedded, [unquoted(query)])[0]
            session = cast("Session", self)
            is_own = not session.in_transaction
            with session.transaction() if is_own else nullcontext():
                depth = min(max(_LEAST_DEPTH, 5 * int(k)), _MOST_DEPTH)
                index = self._text_index(asked, may_keep=is_own)
                only = None
                if where is not None:
                    only = self._seqs(f"SELECT _seq FROM {asked.name}{condition.text}", given)
                by_words = index.ranked(query, depth, only)
                by_vector = self._seqs(
                    f"SELECT _seq FROM {asked.name}{condition.text} ORDER BY "
                    f"COSINE_DISTANCE({quoted(asked.vectors.name)}, {condition.next_parameter}) "
                    f"LIMIT {depth}",
                    (*given, vector),
                )
                ranks = fused(by_words, by_vector, int(k))
                shown = ", ".join(f"t.{quoted(name)}" for name in asked.columns)
                return session.execute(
                    f"SELECT {shown}{', ' if shown else ''}"
                    f"r.score, r.text_rank, r.vector_rank FROM {asked.name} AS t "
                    f"JOIN {_RANKS} AS r ON t._seq = r.seq ORDER BY r.place",
                    relations={_RANKS: ranks},
                )

    @cached_property
    def _text_indexes(self) -> OrderedDict[tuple[int, int], tuple[tuple[object, ...], TextIndex]]:
        """By table and column, with what told the rows apart that they are of.

        They are of one session, so nobody finds the words of others in them.
        """
        return OrderedDict()

    def _text_index(self, asked: _Asked, *, may_keep: bool) -> TextIndex:
        session = cast("Session", self)
        key = (asked.table.table_key, asked.texts.column_id)
        # Every version of a row has a greater _seq than all before it: where the greatest is the
        # same, nothing came, and where the count is the same too, nothing went.
        state = session.execute(f"SELECT COUNT(*), MAX(_seq) FROM {asked.name}").rows()[0]
        known = self._text_indexes.get(key)
        if may_keep and known is not None and known[0] == state:
            self._text_indexes.move_to_end(key)
            return known[1]
        text, key_column = quoted(asked.texts.name), asked.table.primary_key
        order = "_seq" if key_column is None else f"{quoted(key_column.name)}, _seq"
        rows = session.execute(
            f"SELECT _seq, {text} AS words FROM {asked.name} WHERE {text} IS NOT NULL "
            f"ORDER BY {order}"
        ).to_arrow()
        texts = (text for batch in rows["words"].chunks for text in batch.to_pylist())
        made = TextIndex(rows["_seq"].to_numpy(), texts)
        if may_keep:
            self._text_indexes[key] = (state, made)
            while len(self._text_indexes) > _KEPT_INDEXES:
                self._text_indexes.popitem(last=False)
        return made

    def _asked(
        self, table: str, text: str, embedding: str, columns: Sequence[str] | None
    ) -> _Asked:
        known = cast("Session", self).definition(table)
        if not known.is_stored or known.kind not in _KINDS:
            raise NotSupportedError(
                "Hybrid search needs a USER, SHARED or STREAM table; "
                f"'{known.table_id}' is none of them"
            )
        texts = column_of(known, text, TypeKind.TEXT)
        vectors = column_of(known, embedding, TypeKind.EMBEDDING)
        names = [column.name for column in known.visible_columns] if columns is None else columns
        if isinstance(names, str):
            raise InvalidOptionError("columns must be a list of names")
        for name in names:
            if known.column(str(name)) is None and name not in SYSTEM_COLUMNS:
                raise column_not_found(known, str(name))
            if str(name).lower() in _ADDED:
                raise AlreadyExistsError("Column", name, within=str(known.table_id))
        namespace, own_name = known.table_id.namespace, known.table_id.name
        return _Asked(known, f"{quoted(namespace)}.{quoted(own_name)}", texts, vectors, names)

    def _seqs(self, sql: str, params: Sequence[object]) -> Seqs:
        rows = cast("Session", self).execute(sql, params).to_arrow()
        return cast("Seqs", rows["_seq"].to_numpy())


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a search is about; ``name`` is the table's as SQL has it."""

    table: TableDef
    name: str
    texts: ColumnDef
    vectors: ColumnDef
    columns: Sequence[str]


def fused(by_words: Seqs, by_vector: Seqs, k: int) -> pa.Table:
    """Return the k best of two rankings, best first.

    Parameters
    ----------
    by_words, by_vector : (n,), (m,) int64
        Rows, best first, each at most once.

    Returns
    -------
    pyarrow.Table
        ``place`` from 1, ``seq``, ``score``, ``text_rank`` and ``vector_rank`` from 1 or NULL.
    """
    seqs = np.union1d(by_words, by_vector)
    score = np.zeros(len(seqs))
    ranks = []
    for ranking in (by_words, by_vector):
        rank = np.zeros(len(seqs), np.int32)
        rank[np.searchsorted(seqs, ranking)] = np.arange(1, len(ranking) + 1)
        score += np.where(rank > 0, 1.0 / (RANK_CONSTANT + rank), 0.0)
        ranks.append(rank)
    by_distance = np.where(ranks[1] > 0, ranks[1], len(seqs) + 1)
    best = np.lexsort((seqs, by_distance, -score))[:k]
    texts, vectors = (pa.array(rank[best], mask=rank[best] == 0) for rank in ranks)
    return pa.table({
        "place": np.arange(1, len(best) + 1, dtype=np.int64),
        "seq": seqs[best],
        "score": score[best],
        "text_rank": texts,
        "vector_rank": vectors,
    })  # fmt: skip


def _check_query(query: object, k: object) -> None:
    if not isinstance(query, str):
        raise TypeMismatchError("The query of hybrid is a text")
    if not query.strip():
        raise InvalidValueError("The query of hybrid is empty")
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise InvalidOptionError("k must be a whole number of at least 1")
