"""Primary keys across hot rows and segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

import numpy as np
import pyarrow as pa

from kalamdb_lab.arrow.arrays import storage_from_array
from kalamdb_lab.errors import DuplicateKeyError
from kalamdb_lab.model.datatypes import StorageValue
from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.model.values import from_storage
from kalamdb_lab.partitions.commit_log import CommitLog
from kalamdb_lab.partitions.partition import Partition, fold_rows, key_reader
from kalamdb_lab.partitions.payload import Row
from kalamdb_lab.segments.keys import SegmentKeys
from kalamdb_lab.segments.reader import SegmentReader


class KeyLookup:
    """Finds the live version of a primary key in one partition.

    Parameters
    ----------
    log : CommitLog
    segment_keys : SegmentKeys
        Finds keys in segments: manifest bounds first, the key column only then.
    """

    def __init__(self, log: CommitLog, segment_keys: SegmentKeys, reader: SegmentReader) -> None:
        self._log = log
        self._reader = reader
        self._segment_keys = segment_keys

    def find(
        self, table: TableDef, key: PartitionKey, values: Sequence[StorageValue]
    ) -> dict[StorageValue, int]:
        """Return the live version of each key that is taken; the rest are left out.

        Within a commit the answer holds until the commit ends.
        """
        with self._log.visible([key]) as state:
            return self._find(table, state.partition(key), values)

    def _find(
        self, table: TableDef, partition: Partition, values: Sequence[StorageValue]
    ) -> dict[StorageValue, int]:
        found: dict[StorageValue, int] = {}
        missing: list[StorageValue] = []
        for value in values:
            seq = partition.live_seq(value, table)
            if seq is None:
                missing.append(value)
            else:
                found[value] = seq
        if not missing:
            return found
        for view in partition.segment_views(table):
            for value, seq in self._segment_keys.find(view.meta, table, missing).items():
                at = int(np.searchsorted(view.removed, seq))
                if at == len(view.removed) or view.removed[at] != seq:
                    found[value] = seq
        return found

    def rows(
        self, table: TableDef, key: PartitionKey, versions: dict[StorageValue, int]
    ) -> dict[StorageValue, tuple[int, Row]]:
        """Return (version, row) of live versions by key, hot or flushed, in the newest schema."""
        with self._log.visible([key]) as state:
            held = state.partition(key)
            hot_rows = {seq: held.rows.get(seq) for seq in versions.values()}
            views = held.segment_views(table)
        found: dict[StorageValue, tuple[int, Row]] = {}
        flushed: dict[int, StorageValue] = {}
        for value, seq in versions.items():
            hot = hot_rows[seq]
            if hot is None:
                flushed[seq] = value
            elif hot[0] == table.schema_version:
                found[value] = (seq, hot[1])
            else:
                (row,) = storage_rows(table, fold_rows(table, [(seq, *hot)]))
                found[value] = (seq, row)
        names = [column.name for column in table.columns]
        for view in views if flushed else ():
            meta = view.meta
            wanted = [seq for seq in flushed if meta.min_seq <= seq <= meta.max_seq]
            if wanted:
                rows = self._reader.read_rows(meta, table, [*names, "_seq"], wanted)
                seqs = rows.column("_seq").to_pylist()
                for seq, row in zip(seqs, storage_rows(table, rows), strict=True):
                    found[flushed[seq]] = (seq, row)
        return found

    def key_of(self, table: TableDef, key: PartitionKey, seq: int) -> StorageValue:
        """Return the primary key of a version that the partition holds, removed or not."""
        column = table.primary_key
        assert column is not None
        with self._log.visible([key]) as state:
            partition = state.partition(key)
            hot = partition.rows.get(seq)
            if hot is not None:
                return key_reader(table, hot[0])(hot[1])
            views = partition.segment_views(table)
        for view in views:
            if view.meta.min_seq <= seq <= view.meta.max_seq:
                rows = self._reader.read_rows(view.meta, table, [column.name], [seq])
                if rows.num_rows:
                    return storage_from_array(rows.column(column.name), column.data_type)[0]
        return None


def storage_rows(table: TableDef, rows: pa.Table) -> list[Row]:
    """Return the rows of an Arrow table as storage values in the order of ``table.columns``."""
    columns = [
        storage_from_array(rows.column(column.name), column.data_type) for column in table.columns
    ]
    return list(zip(*columns, strict=True))


def refuse_repeated(column: ColumnDef, values: Sequence[StorageValue]) -> None:
    """Refuse a statement that offers one key twice."""
    if len(set(values)) == len(values):
        return
    value, _ = Counter(values).most_common(1)[0]
    raise DuplicateKeyError(
        f"Duplicate primary key: {column.name} = {shown(value, column)} "
        "appears twice in this statement"
    )


def duplicate_key(table: TableDef, column: ColumnDef, value: StorageValue) -> DuplicateKeyError:
    """Return the error for a key that the caller's own partition holds already."""
    return DuplicateKeyError(
        f"Duplicate primary key: {table.table_id} already has "
        f"{column.name} = {shown(value, column)}"
    )


def shown(value: StorageValue, column: ColumnDef) -> str:
    """Return a key that the statement itself gave, as a reader would write it."""
    plain = from_storage(value, column.data_type)
    match plain:
        case str():
            return repr(plain[:40])
        case bytes():
            return f"X'{plain[:20].hex().upper()}'"
        case UUID() | datetime() | date() | time():
            return f"'{plain}'"
        case Decimal() | int() | bool():
            return str(plain)
        case _:
            return repr(plain)[:40]
