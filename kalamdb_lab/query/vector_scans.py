"""Vector search over a statement's snapshot: hot rows and segments, of one scope or of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from kalamdb_lab.arrow.schemas import arrow_type, field_for
from kalamdb_lab.model.datatypes import TypeKind
from kalamdb_lab.model.segments import SegmentIndex
from kalamdb_lab.model.tables import ColumnDef, TableDef, VectorIndex
from kalamdb_lab.partitions.partition import PartitionSnapshot
from kalamdb_lab.partitions.removals import SegmentView, Seqs
from kalamdb_lab.query.batches import Batch, distinct
from kalamdb_lab.query.cancellation import Cancellation
from kalamdb_lab.query.relations import ArrowPart, Part, ScanRequest
from kalamdb_lab.query.repeated_reads import RepeatedReads
from kalamdb_lab.query.scan_parts import prefixed, selected
from kalamdb_lab.query.scans import empty_table
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.vectors import blocks_of
from kalamdb_lab.vectors import inverted_lists
from kalamdb_lab.vectors.inverted_lists import InvertedLists
from kalamdb_lab.vectors.rows import Float32s, Metric, Positions, VectorRows
from kalamdb_lab.vectors.search import BATCH, Found, Target, Work, merged, nearest

SEARCHED_ROWS = 500
"""Fewer rows than these the engine ranks itself in the time that a search would take."""

FEW_FOUND = 10_000
LARGEST_SHARE = 0.1
"""More rows than these, and a larger share of all, the engine finds faster by sorting them."""

Passing: TypeAlias = Callable[[], pa.ChunkedArray | None]
"""Gives the ``_seq`` of the rows that are meant, as `ScanProvider.nearest` says."""


class ReadPartition(NamedTuple):
    """One partition of a request, and the constant first column of its rows, if there is one."""

    prefix: tuple[str, str] | None
    table: TableDef
    snapshot: PartitionSnapshot


@dataclass(frozen=True, slots=True)
class Search:
    """What one vector search did.

    Attributes
    ----------
    table, column : str
        Where.
    path : str
        ``float32``, ``certified int8``, ``inverted lists``, or several of them.
    rows_scanned : int
        Rows of which anything was looked at.
    rows_reranked : int
        Those whose distance was computed from the vectors themselves.
    recall : float or None
        The share of the nearest rows that the index was measured to find, 0 to 1; None where
        the search was exact.
    """

    table: str
    column: str
    path: str
    rows_scanned: int
    rows_reranked: int
    recall: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows of a search come from: the hot rows of a partition, or one of its segments."""

    partition: ReadPartition
    target: Target
    seqs: Seqs | None = None
    view: SegmentView | None = None
    definition: VectorIndex | None = None
    built: SegmentIndex | None = None
    index: InvertedLists | None = None


class VectorScans:
    """Finds the rows nearest to vectors, and reads them.

    Parameters
    ----------
    repeated : RepeatedReads
        Knows which columns of a segment are read again.
    cache_bytes : int
        Decoded columns beyond this are not worth keeping.
    """

    def __init__(self, reader: SegmentReader, repeated: RepeatedReads, *, cache_bytes: int) -> None:
        self._reader = reader
        self._repeated = repeated
        self._cache_bytes = cache_bytes

    def nearest(
        self,
        partitions: Sequence[ReadPartition],
        request: ScanRequest,
        vector: Any,
        count: int,
        passing: Passing | None,
    ) -> tuple[tuple[Part, ...], Search] | None:
        """Return the nearest rows, and what it took; the promise is `ScanProvider.nearest`'s."""
        if not is_searched(partitions, count):
            return None
        wanted = request.nearest
        assert wanted is not None
        seqs = None
        if passing is not None:
            given = passing()
            if given is None:
                return None
            seqs = ascending(given)
        queries = np.asarray(vector, np.float32)[None, :]
        sources = self.sources(partitions, request, seqs)
        (found,), search = self.search(sources, queries, count, request)
        if len(found.position) < count and not wanted.is_null_safe:
            return None
        rows = self.rows(sources, request, found.target, found.position)
        return (ArrowPart(rows),), search

    def batch(
        self,
        partitions: Sequence[ReadPartition],
        request: ScanRequest,
        queries: Float32s,
        count: int,
        passing: pa.ChunkedArray | None,
        cancellation: Cancellation | None = None,
    ) -> tuple[Batch, Search]:
        """Return the nearest rows for each of several vectors, and what it took."""
        wanted = request.nearest
        assert wanted is not None
        seqs = None if passing is None else ascending(passing)
        sources = self.sources(partitions, request, seqs)
        founds, searches = [], []
        for first in range(0, len(queries), BATCH):
            if cancellation is not None:
                cancellation.check()
            found, search = self.search(sources, queries[first : first + BATCH], count, request)
            founds += found
            searches.append(search)
        search = replace(search, rows_reranked=sum(each.rows_reranked for each in searches))
        targets, positions, places = distinct(founds)
        rows = self.rows(sources, request, targets, positions)
        distances = [found.distance for found in founds]
        return Batch(rows, wanted.metric, places, distances), search

    def sources(
        self, partitions: Sequence[ReadPartition], request: ScanRequest, seqs: Seqs | None
    ) -> list[Source]:
        """Return all that holds rows of the request.

        Parameters
        ----------
        seqs : (n,) int64, ascending, or None
            The live rows that are meant; all of them by default.
        """
        assert request.nearest is not None
        return [
            source
            for partition in partitions
            for source in self._sources(partition, request.nearest.column, seqs)
        ]

    def _sources(self, partition: ReadPartition, name: str, seqs: Seqs | None) -> Iterator[Source]:
        table, snapshot = partition.table, partition.snapshot
        column = table.column(name)
        assert column is not None
        hot_seqs: Seqs = snapshot.hot.column("_seq").to_numpy()
        only = None if seqs is None else _places(hot_seqs, seqs)
        if len(hot_seqs) and (only is None or len(only)):
            rows = _rows_of(snapshot.hot.column(name), column)
            yield Source(partition, Target(rows, only), hot_seqs)
        definition = table.index_on(column.column_id)
        for view in snapshot.segments:
            only = None if seqs is None else self._positions(view, table, seqs)
            if only is not None and not len(only):
                continue
            without = None
            if seqs is None and len(view.removed):
                without = self._positions(view, table, view.removed)
            rows = self._reader.vectors(view.meta, table, column)
            source = Source(partition, Target(rows, only, without), None, view, definition)
            built = None if definition is None else view.meta.built(definition)
            if built is not None:
                index = self._reader.vector_index(view.meta, table, column)
                source = replace(source, built=built, index=index)
            yield source

    def _positions(self, view: SegmentView, table: TableDef, seqs: Seqs) -> Positions:
        """Return the places in a segment of those versions that it holds."""
        meta = view.meta
        low, high = np.searchsorted(seqs, [meta.min_seq, meta.max_seq + 1])
        inside = seqs[low:high]
        if meta.max_seq - meta.min_seq + 1 == meta.row_count:
            return inside - meta.min_seq
        return _places(self._reader.seq_numbers(meta, table), inside)

    def search(
        self, sources: Sequence[Source], queries: Float32s, count: int, request: ScanRequest
    ) -> tuple[list[Found], Search]:
        """Return for each query the nearest rows, by source and position, and what it took.

        Segments with an index for the metric are probed, unless exact search is better there.
        """
        wanted = request.nearest
        assert wanted is not None
        parts: list[list[Found]] = [[] for _ in queries]
        works: list[Work] = []
        exact: list[int] = []
        recalls: list[float] = []
        for at, source in enumerate(sources):
            probed = None
            if source.index is not None and fits(source, wanted.metric):
                assert source.definition is not None
                probed = inverted_lists.probe(
                    source.index, source.target, queries, count, probes=source.definition.probes
                )
            if probed is None:
                exact.append(at)
                continue
            if source.built is not None:
                recalls.append(source.built.recall)
            works.append(probed[1])
            for into, found in zip(parts, probed[0], strict=True):
                into.append(replace(found, target=np.full(len(found.position), at, np.int64)))
        if exact:
            targets = [sources[at].target for at in exact]
            founds, work = nearest(targets, queries, count, wanted.metric)
            works.append(work)
            places = np.array(exact, np.int64)
            for into, found in zip(parts, founds, strict=True):
                into.append(replace(found, target=places[found.target]))
        search = Search(
            request.relation.name,
            wanted.column,
            " and ".join(dict.fromkeys(work.path for work in works)) or "float32",
            sum(work.scanned for work in works),
            sum(work.reranked for work in works),
            min(recalls, default=None),
        )
        return [merged(several, count) for several in parts], search

    def rows(
        self,
        sources: Sequence[Source],
        request: ScanRequest,
        targets: Positions,
        positions: Positions,
    ) -> pa.Table:
        """Return the columns of a request of rows found, those of one source together."""
        tables: list[pa.Table] = []
        for at in np.unique(targets):
            source = sources[at]
            places = positions[targets == at]
            prefix = source.partition.prefix
            columns = tuple(n for n in request.columns if prefix is None or n != prefix[0])
            stored = [name for name in columns if name != "_deleted"] or ["_seq"]
            known = {request.nearest.column: source.target.rows} if request.nearest else {}
            rows = self._rows(source, stored, known, places)
            tables.append(prefixed(selected(rows, columns, deleted=False), request.columns, prefix))
        return pa.concat_tables(tables) if tables else empty_table(request)

    def _rows(
        self,
        source: Source,
        names: Sequence[str],
        known: Mapping[str, VectorRows],
        places: Positions,
    ) -> pa.Table:
        """Return rows of one source in the order of ``places``.

        Arrow would join the chunks of a whole column of vectors before it takes ten of them.
        """
        table = source.partition.table
        columns = {column.name: column for column in table.columns}
        others = [
            name
            for name in names
            if name not in columns or columns[name].data_type.kind is not TypeKind.EMBEDDING
        ]
        rows = self._others(source, others or ["_seq"], places)
        arrays, fields = [], []
        for name in names:
            if name in others:
                arrays.append(rows.column(name))
                fields.append(rows.schema.field(name))
                continue
            column = columns[name]
            vectors = known.get(name) or self._vectors(source, column)
            arrays.append(pa.chunked_array([_fixed_lists(vectors, places, column)]))
            fields.append(field_for(column))
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _vectors(self, source: Source, column: ColumnDef) -> VectorRows:
        if source.view is None:
            return _rows_of(source.partition.snapshot.hot.column(column.name), column)
        return self._reader.vectors(source.view.meta, source.partition.table, column)

    def _others(self, source: Source, names: list[str], places: Positions) -> pa.Table:
        """Return columns that are no vectors: of whole columns that are kept, or single ones."""
        table = source.partition.table
        if source.view is None:
            return source.partition.snapshot.hot.select(names).take(pa.array(places))
        meta = source.view.meta
        share = len(names) / max(len(table.columns), 1)
        again = self._repeated.again(meta.segment_id, ("nearest", *names))
        if again and 6 * share * meta.size_bytes < self._cache_bytes:
            return self._reader.read(meta, table, names).take(pa.array(places))
        numbers = self._reader.seq_numbers(meta, table)
        return self._reader.read_rows(meta, table, names, numbers[places].tolist())


def is_searched(partitions: Sequence[ReadPartition], count: int) -> bool:
    """Return whether a search beside the engine is worth while for so many rows."""
    rows = sum(partition.snapshot.row_count for partition in partitions)
    return rows >= SEARCHED_ROWS and is_few(rows, count)


def is_few(rows: int, count: int) -> bool:
    """Return whether so many of these rows are better searched for than sorted out."""
    return count <= max(FEW_FOUND, LARGEST_SHARE * rows)


def fits(source: Source, metric: Metric) -> bool:
    """Return whether there is an index of a source for this metric."""
    return source.index is not None and source.index.metric == metric


def ascending(seqs: pa.ChunkedArray) -> Seqs:
    """Return numbers in ascending order, each once, without the NULLs that outer joins make."""
    numbers: Seqs = seqs.drop_null().to_numpy()
    if len(numbers) > 1 and not bool((numbers[1:] > numbers[:-1]).all()):
        numbers = np.unique(numbers)
    return numbers


def _places(numbers: Seqs, seqs: Seqs) -> Positions:
    """Return where those of ``seqs`` stand that are among ``numbers``; both ascend."""
    at = np.searchsorted(numbers, seqs)
    inside = at < len(numbers)
    at, seqs = at[inside], seqs[inside]
    places: Positions = at[numbers[at] == seqs]
    return places


def _rows_of(array: pa.ChunkedArray, column: ColumnDef) -> VectorRows:
    """Return vectors in memory as they are searched."""
    dimension = column.data_type.dimension
    blocks = list(blocks_of(array, dimension))
    valid = array.is_valid().to_numpy() if array.null_count else None
    return VectorRows(dimension, len(array), tuple(rows for rows, _ in blocks), None, valid)


def _fixed_lists(vectors: VectorRows, places: Positions, column: ColumnDef) -> pa.Array:
    mask = None
    if vectors.valid is not None:
        mask = pa.array(~vectors.valid[places])
    values: Any = pa.array(vectors.at(places).reshape(-1))
    target: Any = arrow_type(column.data_type)
    return pa.FixedSizeListArray.from_arrays(values, type=target, mask=mask)
