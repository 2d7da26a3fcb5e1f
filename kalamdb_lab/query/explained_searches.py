"""What EXPLAIN says of a search for the nearest rows."""

from __future__ import annotations

from collections.abc import Sequence

from kalamdb_lab.query.relations import Nearest
from kalamdb_lab.query.vector_scans import Source, fits
from kalamdb_lab.vectors import inverted_lists
from kalamdb_lab.vectors.rows import Metric
from kalamdb_lab.vectors.search import path_of


def ranked_by_engine(nearest: Nearest, row_count: int) -> str:
    """Return in words that the engine ranks all rows."""
    return f"{_subject(nearest)}: {row_count:,} rows ranked by the engine, exact"


def searched(nearest: Nearest, sources: Sequence[Source], count: int, *, is_filtered: bool) -> str:
    """Return in words how so many nearest rows would be found in these sources."""
    rows = "rows, filtered," if is_filtered else "rows"
    asked = [source for source in sources if _is_asked(source, nearest.metric, count)]
    said = [
        f"{_live(source):,} {rows} by index {source.definition.name}, "
        f"recall {source.built.recall:.3f}"
        for source in asked
        if source.definition is not None and source.built is not None
    ]
    others = [source for source in sources if not _is_asked(source, nearest.metric, count)]
    if others:
        path = path_of([source.target for source in others])
        said.append(f"{sum(map(_live, others)):,} {rows} by {path} scan, exact")
    if any(fits(source, nearest.metric) for source in others):
        said.append("an index would look at too many of them")
    return f"{_subject(nearest)}: {'; '.join(said)}"


def _subject(nearest: Nearest) -> str:
    return f"by {nearest.metric} to {nearest.column}"


def _is_asked(source: Source, metric: Metric, count: int) -> bool:
    if source.index is None or source.definition is None or not fits(source, metric):
        return False
    probes = source.definition.probes
    return inverted_lists.is_asked(source.index, source.target, count, probes=probes)


def _live(source: Source) -> int:
    without = source.target.without
    return source.target.rows.row_count - (0 if without is None else len(without))
