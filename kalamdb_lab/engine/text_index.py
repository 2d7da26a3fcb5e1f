"""The words of a column, ranked by BM25 in memory with tantivy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from kalamdb_lab.errors import NotSupportedError

if TYPE_CHECKING:
    import tantivy

Seqs = npt.NDArray[np.int64]

_HEAP_BYTES: Final = 50_000_000
"""Of the writer. More text than that makes several segments, which rank as one."""
_LONGEST_WORD: Final = 255
_PHRASE: Final = re.compile('["\u201c\u201d]([^"\u201c\u201d]*)["\u201c\u201d]')


def unquoted(query: str) -> str:
    """Return a query without the double quotes around its phrases."""
    return _PHRASE.sub(r"\1", query)


class TextIndex:
    """Some rows' texts, searched by their words.

    A word is a run of letters and digits, without regard to case and accents. Nothing in a
    query is an operator but double quotes: what is in them are words in a row, which a text must
    have; of the other words it must have one, unless there are quotes.

    Parameters
    ----------
    seqs : (n,) int64
        ``_seq`` of the rows, in the order in which equal scores come.
    texts : iterable of n str

    Raises
    ------
    NotSupportedError
        The package tantivy is not installed.
    """

    def __init__(self, seqs: Seqs, texts: Iterable[str]) -> None:
        try:
            import tantivy
        except ModuleNotFoundError:
            raise NotSupportedError(
                "Hybrid search needs tantivy; pip install 'kalamdb-lab[text]'"
            ) from None
        self._tantivy = tantivy
        self._analyzer = (
            tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
            .filter(tantivy.Filter.remove_long(_LONGEST_WORD))
            .filter(tantivy.Filter.lowercase())
            .filter(tantivy.Filter.ascii_fold())
            .build()
        )
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("text", tokenizer_name="words")
        builder.add_integer_field("place", fast=True)
        self._schema = builder.build()
        index = tantivy.Index(self._schema)
        index.register_tokenizer("words", self._analyzer)
        # One thread: rows then lie in the order in which they are given.
        writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        for place, text in enumerate(texts):
            document = tantivy.Document()
            document.add_text("text", text)
            document.add_integer("place", place)
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        self._searcher = index.searcher()
        self._seqs = seqs

    def ranked(self, query: str, limit: int, only: Seqs | None = None) -> Seqs:
        """Return ``_seq`` of the rows that match best, best first; equal scores in their order.

        Parameters
        ----------
        only : (m,) int64, optional
            ``_seq`` of the rows to rank; by default all.
        """
        wanted = self._query(query)
        if wanted is None:
            return np.empty(0, np.int64)
        most = max(len(self._seqs), 1)
        ask = min(limit, most)  # for so many there is memory at once
        while True:
            hits = self._searcher.search(wanted, ask, count=False).hits
            found = self._searcher.fast_field_values("place", [address for _, address in hits])
            places = np.array(found, np.int64)
            # Segments of an index, if there are several, come in any order.
            order = np.lexsort((places, -np.array([score for score, _ in hits])))
            seqs = self._seqs[places[order]]
            if only is not None:
                seqs = seqs[np.isin(seqs, only)]
            if len(seqs) >= limit or len(hits) < ask or ask == most:
                return seqs[:limit]
            ask = min(8 * ask, most)

    def _query(self, text: str) -> tantivy.Query | None:
        queries, occur = self._tantivy.Query, self._tantivy.Occur
        phrases = [self._analyzer.analyze(phrase) for phrase in _PHRASE.findall(text)]
        words = self._analyzer.analyze(_PHRASE.sub(" ", text))
        parts = [(occur.Must, self._phrase(phrase)) for phrase in phrases if phrase]
        parts += [
            (occur.Should, queries.term_query(self._schema, "text", word, "freq"))
            for word in dict.fromkeys(words)
        ]
        return queries.boolean_query(parts) if parts else None

    def _phrase(self, words: list[str]) -> tantivy.Query:
        queries = self._tantivy.Query
        if len(words) == 1:
            return queries.term_query(self._schema, "text", words[0], "freq")
        return queries.phrase_query(self._schema, "text", list(words))
