"""A segment is complete and durable, or not there; its file says what it is."""

from __future__ import annotations

import random
import resource
import struct
import subprocess
import sys
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from segment_samples import KEYS, PARTITION, rows_of, table_of

from kalamdb_lab.errors import StorageError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.tables import ColumnDef, TableDef
from kalamdb_lab.model.values import from_storage
from kalamdb_lab.segments.layout import segment_paths
from kalamdb_lab.segments.manifest_file import orphans
from kalamdb_lab.segments.reader import SegmentReader
from kalamdb_lab.segments.recovery import find_files, recover
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.verification import read_footer
from kalamdb_lab.segments.writer import ROW_GROUP_ROWS, write_segment

TABLE = table_of(
    [
        ColumnDef(4, "id", types.BIGINT, nullable=False, primary_key=True),
        ColumnDef(2, "body", types.TEXT),
        ColumnDef(9, "v", types.embedding(2)),
    ]
)

WIDE = Context(prec=60)


def rows(count: int = 3, table: TableDef = TABLE) -> pa.Table:
    vectors = [struct.pack("<2f", number, -number) for number in range(count)]
    values: dict[str, list[Any]] = {
        "id": list(range(count)),
        "body": [f"text {number}" for number in range(count)],
        "v": vectors,
    }
    return rows_of(table, values)


def files(storage: Storage) -> list[str]:
    return [file.path for file in storage.walk() if not file.is_directory]


def test_the_footer_names_table_scope_version_and_range(storage: Storage) -> None:
    meta = write_segment(
        storage, TABLE, PARTITION, "studio/tracks/alice", 42, rows(), created_at_us=5, replaces=[3]
    )
    assert meta.path == "studio/tracks/alice/s-000042.parquet"
    record = read_footer(storage, meta.path)
    assert (record.table, record.table_key, record.scope) == ("studio.tracks", 7, "alice")
    assert (record.schema_version, record.segment_id, record.format_version) == (1, 42, 1)
    assert (record.row_count, record.min_seq, record.max_seq) == (3, 100, 104)
    assert record.replaces == (3,)
    again = record.meta(
        "local",
        path=meta.path,
        digest=meta.digest,
        size_bytes=storage.absolute(meta.path).stat().st_size,
    )
    assert again == meta


def test_the_parquet_file_is_one_that_others_understand(storage: Storage) -> None:
    meta = write_segment(storage, TABLE, PARTITION, "t", 1, rows(), created_at_us=5)
    file = pq.ParquetFile(storage.absolute(meta.path))
    found = {field.name: field for field in file.schema_arrow}
    ids = {name: field.metadata[b"PARQUET:field_id"] for name, field in found.items()}
    assert ids == {"id": b"4", "body": b"2", "v": b"9", "_seq": b"0"}
    assert found["v"].type == pa.bool_()
    assert found["v"].metadata[b"kalam_type"] == b"EMBEDDING(2)"
    chunk = file.metadata.row_group(0).column(0)
    assert chunk.compression == "ZSTD"
    assert chunk.statistics.max == 2
    path = str(storage.absolute(meta.path))
    bloom = duckdb.sql(
        "SELECT path_in_schema FROM parquet_metadata($1) WHERE bloom_filter_offset IS NOT NULL",
        params=[path],
    ).fetchall()
    assert bloom == [("id",)]
    assert duckdb.sql("SELECT * FROM read_parquet($1)", params=[path]).fetchall() == [
        (0, "text 0", True, 100),
        (1, "text 1", True, 102),
        (2, "text 2", True, 104),
    ]


def test_pages_carry_checksums(storage: Storage) -> None:
    table = table_of([ColumnDef(1, "id", types.BIGINT)])
    meta = write_segment(
        storage,
        table,
        PARTITION,
        "t",
        1,
        rows_of(table, {"id": list(range(2_000))}),
        created_at_us=0,
    )
    place = storage.absolute(meta.path)
    data = bytearray(place.read_bytes())
    pq.ParquetFile(pa.BufferReader(bytes(data)), page_checksum_verification=True).read()
    data[300] ^= 1
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(pa.BufferReader(bytes(data)), page_checksum_verification=True).read()


def test_rows_are_grouped_by_122_880(storage: Storage) -> None:
    count = ROW_GROUP_ROWS + 1
    table = table_of([ColumnDef(1, "id", types.BIGINT), ColumnDef(2, "day", types.TEXT)])
    ids = pa.array(np.arange(count))
    days = pa.array(np.arange(count) // 1000).cast(pa.string())
    given = pa.table({"id": ids, "day": days, "_seq": ids})
    meta = write_segment(storage, table, PARTITION, "t", 1, given, created_at_us=0)
    file = pq.ParquetFile(storage.absolute(meta.path))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [
        ROW_GROUP_ROWS,
        1,
    ]
    by_name = {
        file.metadata.row_group(0).column(i).path_in_schema: file.metadata.row_group(0).column(i)
        for i in range(3)
    }
    assert not by_name["id"].has_dictionary_page
    assert by_name["day"].has_dictionary_page


def test_an_engine_that_trusts_the_bounds_of_the_file_still_finds_nan(storage: Storage) -> None:
    nested = types.struct_of([("x", types.DOUBLE)])
    table = table_of(
        [
            ColumnDef(1, "d", types.DOUBLE),
            ColumnDef(2, "f", types.FLOAT),
            ColumnDef(3, "s", nested),
            ColumnDef(4, "plain", types.DOUBLE),
        ]
    )
    numbers = [1.0, float("nan"), 2.0]
    values = {
        "d": numbers,
        "f": numbers,
        "s": [{"x": number} for number in numbers],
        "plain": [1.0, 2.0, 3.0],
    }
    meta = write_segment(storage, table, PARTITION, "t", 1, rows_of(table, values), created_at_us=0)
    path = str(storage.absolute(meta.path))
    for expression in ("d", "f", "s.x"):
        query = f"SELECT _seq FROM read_parquet($1) WHERE {expression} > 5"
        assert duckdb.sql(query, params=[path]).fetchall() == [(102,)], expression
    group = pq.ParquetFile(path).metadata.row_group(0)
    bounded = {
        group.column(i).path_in_schema: group.column(i).statistics is not None
        for i in range(group.num_columns)
    }
    assert bounded == {"d": False, "f": False, "s.x": False, "plain": True, "_seq": True}


@pytest.mark.parametrize("data_type", [key for key in KEYS if key != types.DATETIME], ids=str)
def test_an_engine_finds_every_key_through_bounds_and_bloom_filter(
    storage: Storage, reader: SegmentReader, data_type: types.KalamDataType
) -> None:
    keys = sample_keys(data_type)
    table = table_of([ColumnDef(1, "id", data_type, nullable=False, primary_key=True)])
    given = rows_of(table, {"id": keys})
    meta = write_segment(storage, table, PARTITION, "t", 1, given, created_at_us=0)
    pairs = reader.parquet_projection(meta, table, ["id"])
    assert pairs is not None
    query = f"SELECT _seq FROM (SELECT {pairs[0][0]} AS k, _seq FROM read_parquet($1)) WHERE k = $2"
    for place, key in enumerate(keys):
        parameter = from_storage(key, data_type)
        found = duckdb.sql(query, params=[reader.verified_path(meta, table), parameter]).fetchall()
        assert found == [(100 + 2 * place,)]


def sample_keys(data_type: types.KalamDataType) -> list[Any]:
    match data_type.kind:
        case types.TypeKind.BOOLEAN:
            return [True, False]
        case types.TypeKind.TEXT:
            return ["", "ä", "text", "x" * 80]
        case types.TypeKind.BYTES:
            return [b"", b"\xff\0", b"x" * 80]
        case types.TypeKind.UUID:
            return [bytes(16), bytes(range(16)), b"\xff" * 16]
        case types.TypeKind.DECIMAL:
            top = 10**data_type.precision - 1
            return [Decimal(n).scaleb(-data_type.scale, WIDE) for n in (0, 1, -1, top, -top)]
    low, high = types.INTEGER_BOUNDS.get(data_type.kind, (0, 80_000_000_000))
    return [low, 5, high] if data_type != types.DATE else [-400_000, 0, 900_000]


def test_statistics_are_storage_values_by_column_id(storage: Storage) -> None:
    table = table_of(
        [
            ColumnDef(1, "day", types.DATE),
            ColumnDef(2, "at", types.DATETIME),
            ColumnDef(3, "price", types.decimal(9, 2)),
            ColumnDef(4, "ratio", types.DOUBLE),
        ]
    )
    values = {
        "day": [10, None, 3],
        "at": [5, 6, 7],
        "price": [None, None, None],
        "ratio": [1.0, float("nan"), None],
    }
    meta = write_segment(storage, table, PARTITION, "t", 1, rows_of(table, values), created_at_us=0)
    found = {key: (item.null_count, item.low, item.high) for key, item in meta.statistics.items()}
    assert found == {1: (1, 3, 10), 2: (0, 5, 7), 3: (3, None, None), 4: (1, None, None)}


def test_hidden_columns_are_written_and_read_by_name(
    storage: Storage, reader: SegmentReader
) -> None:
    table = table_of(
        [ColumnDef(1, "id", types.INT), ColumnDef(2, "secret", types.TEXT, hidden=True)]
    )
    given = rows_of(table, {"id": [1], "secret": ["hash"]})
    meta = write_segment(storage, table, PARTITION, "t", 1, given, created_at_us=0)
    assert reader.read(meta, table, ["secret"]).to_pylist() == [{"secret": "hash"}]


def test_a_file_left_under_the_same_number_is_replaced(
    storage: Storage, reader: SegmentReader
) -> None:
    write_segment(storage, TABLE, PARTITION, "t", 1, rows(50), created_at_us=0)
    meta = write_segment(storage, TABLE, PARTITION, "t", 1, rows(4), created_at_us=0)
    assert reader.read(meta, TABLE, ["id", "v"]).num_rows == 4
    assert set(segment_paths(meta)) == {"t/s-000001.parquet", "t/s-000001.vectors"}


@pytest.mark.parametrize("limit", [1_000, 60_000], ids=["in the vectors", "in the Parquet file"])
def test_a_full_disk_leaves_nothing(storage: Storage, limit: int) -> None:
    chance = random.Random(1)
    count = 3_000
    given = rows(count)
    noise = pa.array(["".join(chance.choices("abcdefghijkl", k=60)) for _ in range(count)])
    given = given.set_column(1, given.schema.field(1), noise)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(StorageError, match=r"^The disk is full; nothing was changed$"):
            write_segment(storage, TABLE, PARTITION, "t", 1, given, created_at_us=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(storage) == []
    write_segment(storage, TABLE, PARTITION, "t", 1, given, created_at_us=0)
    assert "t/s-000001.parquet" in files(storage)


def test_no_rows_are_no_segment(storage: Storage) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        write_segment(storage, TABLE, PARTITION, "t", 1, rows().slice(0, 0), created_at_us=0)


_CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_writer import PARTITION, TABLE, rows
from kalamdb_lab.segments import vectors
from kalamdb_lab.segments.storage import Storage
from kalamdb_lab.segments.writer import write_segment

vectors.CODES_FROM_ROWS = 50
storage, given = Storage("local", sys.argv[2]), rows(50)
countdown = 0

def strike(event, arguments):
    global countdown
    if event == "open" or event.startswith("os."):
        countdown -= 1
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)

for number in range(1, 200):
    pid = os.fork()
    if pid == 0:
        sys.addaudithook(strike)
        countdown = number
        write_segment(storage, TABLE, PARTITION, f"t{number}", number, given, created_at_us=0)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
        print(number)
        break
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_of_its_steps_leaves_a_whole_segment_or_none(
    storage: Storage, reader: SegmentReader
) -> None:
    here = str(Path(__file__).parent)
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, here, str(storage.base_directory)],
        capture_output=True,
        text=True,
        check=True,
    )
    steps = int(child.stdout)
    assert steps > 40
    whole = [listed.meta for listed in recover(find_files(storage)).segments]
    finished = {meta.segment_id for meta in whole}
    # Only the last steps, which make the directory durable, come after the file has its name.
    assert {steps} <= finished <= {steps - 1, steps - 2, steps}
    for meta in whole:
        read = reader.read(meta, TABLE, ["id", "body", "v"])
        assert read.equals(rows(50).select(["id", "body", "v"]))
        assert meta.codes
    left = [path for path in files(storage) if not path.startswith(f"t{steps}/")]
    assert any(".tmp" in path for path in left)
    known = [meta.path for meta in whole]
    for path in list(orphans(storage, known, older_than_us=2**62)):
        storage.delete(path)
    assert {listed.meta.segment_id for listed in recover(find_files(storage)).segments} == finished
    assert {path.split("/")[0] for path in files(storage)} == {f"t{n}" for n in finished}
