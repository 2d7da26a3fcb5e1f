"""Files of rows: whole or not there, and read back as they were."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalamdb_lab.arrow.arrays import array_from_storage, storage_from_array
from kalamdb_lab.arrow.schemas import kalam_type, logical_field
from kalamdb_lab.cli.formats import FileFormat
from kalamdb_lab.cli.reading import _ArrowRows, _ParquetRows, open_rows
from kalamdb_lab.cli.writing import refuse_equal_names, replaced_file, row_writer
from kalamdb_lab.errors import InvalidDefinitionError, InvalidValueError
from kalamdb_lab.model import datatypes as types
from kalamdb_lab.model.datatypes import KalamDataType
from kalamdb_lab.testing.strategies import cells, data_types

NUMBERS = pa.record_batch(
    [pa.array([1, 2, 3], pa.int64())], schema=pa.schema([logical_field("n", types.BIGINT)])
)


def written(batch: pa.RecordBatch, file_format: FileFormat, *, is_stream: bool = False) -> bytes:
    out = io.BytesIO()
    with row_writer(out, batch.schema, file_format, is_stream=is_stream) as write:
        write(batch)
    return out.getvalue()


@settings(max_examples=100)
@given(
    typed=data_types.flatmap(
        lambda data_type: st.tuples(st.just(data_type), st.lists(cells(data_type), max_size=4))
    )
)
def test_parquet_and_arrow_keep_values_and_types(typed: tuple[KalamDataType, list[Any]]) -> None:
    data_type, values = typed
    schema = pa.schema([logical_field("c", data_type)])
    batch = pa.record_batch([array_from_storage(values, data_type)], schema=schema)
    for rows in (
        _ParquetRows(io.BytesIO(written(batch, FileFormat.PARQUET))),
        _ArrowRows(io.BytesIO(written(batch, FileFormat.ARROW))),
        _ArrowRows(io.BytesIO(written(batch, FileFormat.ARROW, is_stream=True))),
    ):
        assert rows.columns() == [("c", data_type)]
        found: list[Any] = []
        for block in rows.blocks({}):
            assert kalam_type(block.schema.field(0)) == data_type
            found += storage_from_array(block.column(0), data_type)
        assert repr(found) == repr(values)


def test_other_readers_know_the_types_of_parquet() -> None:
    schema = pa.schema([logical_field("u", types.UUID), logical_field("j", types.JSON)])
    arrays = [pa.array([bytes(16)], pa.binary(16)), pa.array(["{}"], pa.string())]
    batch = pa.record_batch(arrays, schema=schema)
    file = pq.ParquetFile(io.BytesIO(written(batch, FileFormat.PARQUET)))
    assert [str(file.schema.column(at).logical_type) for at in range(2)] == ["UUID", "JSON"]


def test_parquet_of_others_has_the_types_of_its_values(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    table = pa.table(
        {"d": pa.array(["a", None]).dictionary_encode(), "t": pa.array([1, 2], "int8")}
    )
    pq.write_table(table, path)
    with open_rows(str(path), FileFormat.PARQUET) as rows:
        assert rows.columns() == [("d", types.TEXT), ("t", types.TINYINT)]
        (block,) = rows.portions({})
    assert block.to_pydict() == {"d": ["a", None], "t": [1, 2]}


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with replaced_file(path) as out:
        out.write(b"n\n")
        assert not path.exists()
    assert path.read_bytes() == b"n\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replaced_file(path) as out:
        out.write(bytes(1 // 0))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["gz", "bz2", "zst", "lz4"])
def test_texts_are_compressed_as_their_suffix_says(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.csv.{suffix}"
    with replaced_file(path) as out:
        out.write(written(NUMBERS, FileFormat.CSV))
    if suffix == "gz":
        assert gzip.decompress(path.read_bytes()) == b"n\n1\n2\n3\n"
    with open_rows(str(path), FileFormat.CSV) as rows:
        assert rows.columns() == [("n", types.BIGINT)]
        (block,) = rows.portions({})
    assert block.to_pydict() == {"n": ["1", "2", "3"]}


def test_columns_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidDefinitionError, match=r"^Column 'a' appears twice; name one by AS$"):
        refuse_equal_names(pa.schema([("a", pa.int8()), ("b", pa.int8()), ("a", pa.int8())]))
    refuse_equal_names(pa.schema([("a", pa.int8()), ("A", pa.int8())]))


@pytest.mark.parametrize(
    ("file_format", "data", "message"),
    [
        ("csv", b"a,b\n1,2,3\n", "This is not valid CSV: Expected 2 columns, got 3: 1,2,3"),
        ("csv", b"a\n\xff\n", "This is not valid CSV: its text is not UTF-8"),
        ("csv", b"", "This is not valid CSV: it is empty; its first line should name the columns"),
        ("csv", b"a,A\n1,2\n", "Column 'A' appears twice"),
        ("jsonl", b'{"a": 1}\n{"a": \n', "Line 2 is not a JSON object"),
        ("jsonl", b"[1]", "Line 1 is not a JSON object; a list is not read, one object on each line is"),
        ("arrow", b"nothing of this kind", "This is not valid Arrow: "),
        ("parquet", b"nothing of this kind", "This is not valid Parquet: "),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_told(
    tmp_path: Path, file_format: str, data: bytes, message: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with (
        pytest.raises((InvalidValueError, InvalidDefinitionError)) as raised,
        open_rows(str(path), FileFormat(file_format)) as rows,
    ):
        list(rows.portions({}))
    assert str(raised.value).startswith(message)
    assert str(tmp_path) not in str(raised.value)


def test_what_no_portion_could_hold_comes_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of a portion are bounded, and none is lost between two."""
    from kalamdb_lab.cli import reading
    from kalamdb_lab.segments import csv_files

    monkeypatch.setattr(reading, "PORTION_ROWS", 25_000)
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 50_000)
    path = tmp_path / "numbers.csv"
    # Wherever a block ends, it is likely to be within a quoted cell.
    path.write_text("n,s\n" + "".join(f'{number},"a\nb\nc"\n' for number in range(60_000)))
    with open_rows(str(path), FileFormat.CSV) as rows:
        portions = list(rows.portions({}))
    assert len(portions) > 2
    assert max(portion.num_rows for portion in portions) <= 25_000
    found = [int(text) for portion in portions for text in portion.column("n").to_pylist()]
    assert found == list(range(60_000))


def test_an_object_may_lack_a_key(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text('{"a": 1}\n\n{"b": "x", "a": null}\n{"A": 5}\n')
    with open_rows(str(path), FileFormat.JSONL) as rows:
        (block,) = rows.portions({"a": types.INT, "b": types.TEXT})
    assert block.to_pydict() == {"a": [1, None, None], "b": [None, "x", None], "A": [None, None, 5]}
