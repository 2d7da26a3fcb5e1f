"""The rows of one partition as a scan wants them: decoded, or left to the engine in files."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.partition import PartitionSnapshot
from kalamdb_lab.partitions.removals import SegmentView
from kalamdb_lab.query.relations import (
    ArrowPart,
    BoundPredicate,
    ParquetPart,
    Part,
    ScanRequest,
)
from kalamdb_lab.query.repeated_reads import LiveColumns, RepeatedReads, mask_of
from kalamdb_lab.query.scan_parts import (
    is_empty,
    left_out,
    prefixed,
    segment_predicates,
    selected,
    together,
)
from kalamdb_lab.query.vector_scans import VectorScans
from kalamdb_lab.segments.pruning import may_match
from kalamdb_lab.segments.reader import SegmentReader

SMALL_ROWS = 200_000
"""Segments of a partition up to this many rows in all are decoded once and kept as Arrow."""


class PartitionScans:
    """Reads partitions.

    Parameters
    ----------
    cache_bytes : int
        Decoded columns beyond this are not worth keeping.
    """

    def __init__(self, reader: SegmentReader, *, cache_bytes: int) -> None:
        self._reader = reader
        self._cache_bytes = cache_bytes
        self._repeated = RepeatedReads()
        self._live = LiveColumns(reader, budget_bytes=cache_bytes // 4)
        self.vectors = VectorScans(reader, self._repeated, cache_bytes=cache_bytes)

    def forget(self, segment_ids: Collection[int]) -> None:
        """Drop what is kept of retired segments."""
        self._live.forget(segment_ids)

    def read(
        self,
        table: TableDef,
        snapshot: PartitionSnapshot,
        request: ScanRequest,
        predicates: tuple[BoundPredicate, ...],
        prefix: tuple[str, str] | None,
        *,
        from_files: bool = False,
    ) -> list[Part]:
        """Return the parts of one partition.

        Parameters
        ----------
        prefix : (str, str) or None
            A constant first column: its name and its value.
        from_files : bool
            True to leave to the engine whatever it can read itself.
        """
        columns = tuple(name for name in request.columns if prefix is None or name != prefix[0])
        parts: list[Part] = [self._hot(snapshot, request, columns, prefix)]
        conditions = segment_predicates(table, predicates)
        views = [v for v in snapshot.segments if may_match(v.meta, table, conditions)]
        if not views:
            return parts
        files: dict[tuple[int, tuple[tuple[str, str], ...]], list[ParquetPart]] = {}
        decoded = not from_files and self._decode_now(table, views, columns, predicates)
        for view in views:
            direct = (
                None
                if decoded
                else self._reader.parquet_projection(
                    view.meta, table, [name for name in columns if name != "_deleted"]
                )
            )
            if direct is None:
                parts.append(self._from_arrow(table, view, request, columns, prefix))
            else:
                file = self._from_parquet(table, view, request, direct, prefix)
                alike = (view.meta.schema_version, file.projections)
                if file.removed is not None or file.deleted is not None:
                    parts.append(file)
                else:
                    files.setdefault(alike, []).append(file)
        parts += map(together, files.values())
        return [part for part in parts if not is_empty(part)] or parts[:1]

    def _decode_now(
        self,
        table: TableDef,
        views: Sequence[SegmentView],
        columns: tuple[str, ...],
        predicates: tuple[BoundPredicate, ...],
    ) -> bool:
        rows = sum(view.meta.row_count for view in views)
        if rows <= SMALL_ROWS:
            return True
        seen = [self._repeated.again(view.meta.segment_id, columns) for view in views]
        # Decoding gives up skipping row groups, so what asks for few rows stays with Parquet: by
        # its key, that is. Values of other columns are all over the segment as a rule.
        key = table.primary_key
        selective = key is not None and any(
            predicate.op in ("=", "in") and predicate.column == key.name for predicate in predicates
        )
        share = len(columns) / max(len(table.columns), 1)
        decoded_bytes = 6 * share * sum(view.meta.size_bytes for view in views)
        return all(seen) and not selective and decoded_bytes < self._cache_bytes

    def _hot(
        self,
        snapshot: PartitionSnapshot,
        request: ScanRequest,
        columns: tuple[str, ...],
        prefix: tuple[str, str] | None,
    ) -> ArrowPart:
        hot, hot_deleted = snapshot.hot, snapshot.hot_deleted
        columns = columns or ("_seq",)  # a table without columns would have no rows
        rows = selected(hot, columns, deleted=None)
        if request.include_deleted and hot_deleted.num_rows:
            rows = pa.concat_tables([rows, selected(hot_deleted, columns, deleted=True)])
        return ArrowPart(prefixed(rows, request.columns, prefix))

    def _from_arrow(
        self,
        table: TableDef,
        view: SegmentView,
        request: ScanRequest,
        columns: tuple[str, ...],
        prefix: tuple[str, str] | None,
    ) -> ArrowPart:
        shown = columns or ("_seq",)
        stored = [name for name in shown if name != "_deleted"] or ["_seq"]
        if len(view.removed) and not request.include_deleted:
            rows = self._live.read(view.meta, table, stored, view.removed)
            return ArrowPart(
                prefixed(selected(rows, shown, deleted=False), request.columns, prefix)
            )
        needs_seq = len(view.removed) > 0 and "_seq" not in stored
        rows = self._reader.read(
            view.meta, table, [*stored, *(["_seq"] if needs_seq else [])], keep_dictionaries=True
        )
        flags = None
        if "_deleted" in columns and len(view.deleted):
            flags = mask_of(rows.column("_seq").to_numpy(), view.deleted)
        hidden = left_out(view, request)
        if len(hidden):
            kept = ~mask_of(rows.column("_seq").to_numpy(), hidden)
            rows = rows.filter(pa.array(kept))
            flags = None if flags is None else flags[kept]
        chosen = selected(rows, shown, deleted=False if flags is None else pa.array(flags))
        return ArrowPart(prefixed(chosen, request.columns, prefix))

    def _from_parquet(
        self,
        table: TableDef,
        view: SegmentView,
        request: ScanRequest,
        direct: list[tuple[str, str]],
        prefix: tuple[str, str] | None,
    ) -> ParquetPart:
        projections = list(direct)
        if prefix is not None:
            quoted = "'" + prefix[1].replace("'", "''") + "'"
            projections.append((quoted, prefix[0]))
        order = {name: at for at, name in enumerate(request.columns)}
        projections.sort(key=lambda item: order[item[1]])
        path = self._reader.verified_path(view.meta, table)
        hidden = left_out(view, request)
        return ParquetPart(
            paths=(path,),
            directories=(path.rpartition("/")[0],),
            projections=tuple(projections),
            removed=hidden if len(hidden) else None,
            deleted=view.deleted if request.include_deleted and len(view.deleted) else None,
        )
