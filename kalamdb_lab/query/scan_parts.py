"""The parts of a scan, cut to what a request asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from kalamdb_lab.arrow.arrays import array_from_storage
from kalamdb_lab.model.datatypes import TEXT
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.partition import PartitionSnapshot
from kalamdb_lab.partitions.removals import SegmentView, Seqs
from kalamdb_lab.query.relations import ArrowPart, BoundPredicate, ParquetPart, Part, ScanRequest
from kalamdb_lab.segments.layout import SEQ_FIELD_ID
from kalamdb_lab.segments.pruning import Predicate as SegmentPredicate


def selected(
    rows: pa.Table, columns: Sequence[str], *, deleted: bool | pa.Array | None
) -> pa.Table:
    """Return columns of a segment or of hot rows, with ``_deleted`` as told if it is asked for."""
    arrays, fields = [], []
    for name in columns:
        if name == "_deleted":
            flags = (
                deleted
                if isinstance(deleted, pa.Array)
                else pa.array(np.full(rows.num_rows, bool(deleted)))
            )
            arrays.append(flags)
            fields.append(pa.field("_deleted", pa.bool_()))
        else:
            arrays.append(rows.column(name))
            fields.append(rows.schema.field(name))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def prefixed(rows: pa.Table, order: Sequence[str], prefix: tuple[str, str] | None) -> pa.Table:
    """Return rows with a constant column before them, if it is asked for."""
    if prefix is None or prefix[0] not in order:
        return rows
    constant = array_from_storage([prefix[1]] * rows.num_rows, TEXT)
    return rows.append_column(prefix[0], constant).select(list(order))


def together(files: Sequence[ParquetPart]) -> ParquetPart:
    """Return files that are read alike as one part: the engine plans one scan, not a union."""
    return replace(
        files[0],
        paths=tuple(path for file in files for path in file.paths),
        directories=tuple(dict.fromkeys(name for file in files for name in file.directories)),
    )


def is_empty(part: Part) -> bool:
    """Return whether a part surely has no rows."""
    return isinstance(part, ArrowPart) and part.table.num_rows == 0


def segment_predicates(
    table: TableDef, predicates: tuple[BoundPredicate, ...]
) -> list[SegmentPredicate]:
    """Return predicates of a scan as those that prune segments; unknown columns prune nothing."""
    conditions = []
    for predicate in predicates:
        column = table.column(predicate.column)
        if predicate.column != "_seq" and column is None:
            continue
        column_id = SEQ_FIELD_ID if column is None else column.column_id
        values = predicate.values
        operand = values if predicate.op == "in" else values[0] if values else None
        conditions.append(SegmentPredicate(column_id, predicate.op, operand))
    return conditions


def unexpired(snapshot: PartitionSnapshot, expired: Seqs) -> PartitionSnapshot:
    """Return a stream's rows without what expired; deleted events are gone at once."""
    hot = snapshot.hot
    if len(expired):
        hot = hot.filter(pa.array(~np.isin(hot.column("_seq").to_numpy(), expired)))
    return replace(snapshot, hot=hot, hot_deleted=snapshot.hot_deleted.slice(0, 0))


def left_out(view: SegmentView, request: ScanRequest) -> Seqs:
    """Return the versions of a segment that a request does not want."""
    if not request.include_deleted:
        return view.removed
    return np.setdiff1d(view.removed, view.deleted, assume_unique=True)
