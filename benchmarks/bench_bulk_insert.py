"""What does a bulk insert from Arrow cost beside writing the same Parquet file?

Sketch: the segment is that file, so encoding and zstd are the same work, about 1 s of processor
time for 1,000,000 flights of 20 columns. On top: the digest of 15 MB (2 ms), minima and maxima
(20 columns of 1 ms), a bloom filter and a uniqueness check of the key (40 ms), `_seq` (10 ms), one
commit. A budget of 1.5x has room for it.
Data: 1,000,000 flights (the data set three times over, keys counted up), 20 columns, into an empty
table with a primary key.
Peers: pyarrow's write_table of the same rows with the same codec (zstd) and row groups, synced.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import flights
from benchmarks.databases import NAMESPACE, create_table, kalam_database, segment_files
from benchmarks.measure import Budget, Figure, Finding, Scale, interleaved


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Insert the rows into a new table each time, and write them to a new file each time."""
    rows = flights.repeated(scale.of(6_000, 1_000_000))
    repeats = scale.of(1, 5)
    path = folder / "bulk.kalam"
    database = kalam_database(path)
    session = database.session(namespace=NAMESPACE)
    for number in range(repeats + 1):
        create_table(session, f"flights_{number}", rows.schema, key=flights.KEY)
    tables, files = count(), count()

    def ours() -> None:
        result = session.insert(f"flights_{next(tables)}", rows)
        assert result.rows_affected == rows.num_rows

    def theirs() -> None:
        with (folder / f"{next(files)}.parquet").open("wb") as sink:
            pq.write_table(rows, sink, compression="zstd", row_group_size=122_880)
            sink.flush()
            os.fsync(sink.fileno())

    times = interleaved({"ours": ours, "pyarrow": theirs}, repeats)
    segments = segment_files(path)
    stored = pq.read_table(segments[0], columns=rows.column_names)
    assert all(map(pa.ChunkedArray.equals, stored.columns, rows.columns))
    size_mb = (folder / "0.parquet").stat().st_size / 1e6
    own_mb = Path(segments[0]).stat().st_size / 1e6
    database.close()
    return [
        Figure(
            f"{rows.num_rows:,} rows from Arrow",
            times["ours"],
            "pyarrow writing the file",
            times["pyarrow"],
            Budget("ratio", 1.5),
            f"segment {own_mb:.1f} MB, file of the peer {size_mb:.1f} MB",
        )
    ]


def test_the_segment_holds_the_rows_that_were_given(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
