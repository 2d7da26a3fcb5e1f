"""Bulk: many new rows go straight into segments, and the log says so in one entry each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.segments import SegmentMeta
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.partitions.commit import Commit
from kalamdb_lab.partitions.partition import SEQ_FIELD
from kalamdb_lab.partitions.segment_home import SegmentHome

SEGMENT_ROWS = 1_966_080
"""Rows of one segment at most: sixteen row groups."""


def append_bulk(
    commit: Commit, home: SegmentHome, table: TableDef, key: PartitionKey, rows: pa.Table
) -> list[SegmentMeta]:
    """Write rows (the table's columns, newest schema) as segments within a commit.

    The write lock is held meanwhile: the versions of the rows are numbers of this commit, and
    they are in the file. If the commit itself fails, their files stay as orphans that nobody reads.
    """
    written: list[SegmentMeta] = []
    try:
        for start in range(0, rows.num_rows, SEGMENT_ROWS):
            part = rows.slice(start, SEGMENT_ROWS)
            first_seq = commit.transaction.last_seq() + 1
            seqs = pa.array(np.arange(first_seq, first_seq + part.num_rows, dtype=np.int64))
            meta = home.write_as(
                table,
                key,
                part.append_column(SEQ_FIELD, seqs),
                commit.transaction.next_segment_id(),
            )
            written.append(meta)
            commit.append_segment(meta)
    except BaseException:
        for meta in written:
            home.discard(meta)
        raise
    return written
