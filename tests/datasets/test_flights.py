"""The flights in ``datasets/`` are what their README says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

FOLDER = Path(__file__).parents[2] / "datasets" / "flights"
ROW = re.compile(
    r"^\| `(\w+)\.parquet` \| ([\d,]+) \| .* \| ([\d,]+) \| `([0-9a-f]{64})` \|$", re.MULTILINE
)
STATED = {
    name: (int(rows.replace(",", "")), int(size.replace(",", "")), digest)
    for name, rows, size, digest in ROW.findall((FOLDER / "README.md").read_text("utf-8"))
}
KEYS = {
    "flights": ["flight_id"],
    "airports": ["faa"],
    "planes": ["tailnum"],
    "weather": ["origin", "time_hour"],
    "airlines": ["carrier"],
}


def test_the_readme_states_every_file() -> None:
    assert set(STATED) == {path.stem for path in FOLDER.glob("*.parquet")} == set(KEYS)


@pytest.mark.parametrize("name", KEYS)
def test_file_has_the_stated_rows_bytes_and_digest(name: str) -> None:
    content = (FOLDER / f"{name}.parquet").read_bytes()
    rows = pq.read_metadata(FOLDER / f"{name}.parquet").num_rows
    assert (rows, len(content), hashlib.sha256(content).hexdigest()) == STATED[name]


@pytest.mark.parametrize("name", KEYS)
def test_key_is_unique_and_never_null(name: str) -> None:
    table = pq.read_table(FOLDER / f"{name}.parquet", columns=KEYS[name])
    assert sum(column.null_count for column in table.columns) == 0
    assert table.group_by(KEYS[name]).aggregate([]).num_rows == table.num_rows


def test_flight_id_counts_from_one_in_file_order() -> None:
    ids = pq.read_table(FOLDER / "flights.parquet", columns=["flight_id"])["flight_id"]
    assert ids.equals(pa.chunked_array([pa.array(range(1, 336_777), pa.int64())]))


def test_missing_numbers_are_null_in_whole_number_columns() -> None:
    flights = pq.read_table(FOLDER / "flights.parquet")
    cancelled = flights["dep_time"]
    assert cancelled.type == pa.int32()
    assert cancelled.null_count == 8_255
    assert pc.sum(flights["dep_delay"]).as_py() == 4_152_200


def test_all_but_1556_flights_find_the_weather_of_their_hour() -> None:
    """``time_hour`` is the same instant in both tables, in UTC."""
    key = ["origin", "time_hour"]
    flights = pq.read_table(FOLDER / "flights.parquet", columns=key)
    weather = pq.read_table(FOLDER / "weather.parquet", columns=key)
    assert flights.schema.field("time_hour").type == pa.timestamp("us", "UTC")
    assert flights.join(weather, key, join_type="left anti").num_rows == 1_556


def test_no_encoding_that_an_older_engine_cannot_read() -> None:
    """DuckDB below 2.0 refuses BYTE_STREAM_SPLIT of whole numbers."""
    for name in KEYS:
        metadata = pq.read_metadata(FOLDER / f"{name}.parquet")
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                assert "BYTE_STREAM_SPLIT" not in metadata.row_group(group).column(column).encodings
