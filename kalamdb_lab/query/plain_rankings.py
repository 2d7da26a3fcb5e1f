"""Rankings that show columns and the distance alone: their answer needs no engine.

Waking the engine costs more than ranking a few thousand vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sqlglot import exp

from kalamdb_lab.arrow.schemas import logical_field
from kalamdb_lab.model.datatypes import BIGINT, DOUBLE, KalamDataType
from kalamdb_lab.query.batches import Batch, distances_of, ranks
from kalamdb_lab.query.rankings import Distance
from kalamdb_lab.query.relation_keys import TableRef
from kalamdb_lab.query.row_filters import is_star
from kalamdb_lab.query.scopes import Occurrence

_SEQ = "_seq"


@dataclass(frozen=True, slots=True)
class PlainRanking:
    """What a ranking shows.

    Attributes
    ----------
    outputs : tuple of (str, str or None, KalamDataType)
        Name of each result column, and the column that it shows; None is the distance.
    ties : str
        The column that rows of equal distance go by.
    """

    outputs: tuple[tuple[str, str | None, KalamDataType], ...]
    ties: str

    def answer(self, batch: Batch, limit: int, offset: int) -> pa.Table:
        """Return the rows of a batch of one vector."""
        (places,), (distances,) = batch.places, distances_of(batch)
        ascending = batch.distances[0]
        tied = ranks(batch.rows.column(self.ties))[places]
        order = np.lexsort((tied, ascending))[offset : offset + limit]
        rows = batch.rows.take(pa.array(places[order]))
        arrays = [
            pa.chunked_array([distances[order]]) if column is None else rows.column(column)
            for _, column, _ in self.outputs
        ]
        fields = [logical_field(name, data_type) for name, _, data_type in self.outputs]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def plain_ranking(
    select: exp.Select, occurrence: Occurrence, distance: Distance
) -> PlainRanking | None:
    """Return what a SELECT shows that ranks the rows of its only source; None if more than that."""
    is_whole = isinstance(select.parent, exp.Paren) and select.parent.parent is None
    if not is_whole or not isinstance(occurrence.relation.key, TableRef):
        return None
    if select.args.get("with_") or select.args.get("joins") or select.args.get("laterals"):
        return None
    ties = _ties(select, occurrence)
    outputs = list(_outputs(select, occurrence, distance))
    if ties is None or None in outputs:
        return None
    return PlainRanking(tuple(output for output in outputs if output is not None), ties)


def _ties(select: exp.Select, occurrence: Occurrence) -> str | None:
    """Return the column that tells the rows apart, if ORDER BY goes on with it and ends there."""
    keys = select.args["order"].expressions[1:]
    if len(keys) != 1 or keys[0].args.get("desc") or not isinstance(keys[0].this, exp.Column):
        return None
    found = _column(keys[0].this, occurrence)
    key = next((c.name for c in occurrence.relation.columns if c.primary_key), _SEQ)
    return key if found is not None and found[0] == key else None


def _outputs(
    select: exp.Select, occurrence: Occurrence, distance: Distance
) -> Iterator[tuple[str, str | None, KalamDataType] | None]:
    for item in select.expressions:
        value = item.unalias()
        if value is distance.call:
            yield item.alias, None, DOUBLE
        elif is_star(item):
            star = item.this if isinstance(item, exp.Column) else item
            if star.args.get("except_"):
                yield None
            for column in occurrence.relation.columns:
                yield column.name, column.name, column.data_type
        elif isinstance(value, exp.Column):
            found = _column(value, occurrence)
            yield None if found is None else (item.alias or found[0], *found)
        else:
            yield None


def _column(named: exp.Column, occurrence: Occurrence) -> tuple[str, KalamDataType] | None:
    """Return the column of the relation that is named, as it spells it, and its type."""
    if named.table and named.table.lower() != occurrence.alias.lower():
        return None
    name = named.name.lower()
    if name == _SEQ:
        return _SEQ, BIGINT
    for column in occurrence.relation.columns:
        if column.name.lower() == name:
            return column.name, column.data_type
    return None
