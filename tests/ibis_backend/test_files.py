"""Files of the Python user in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kalamdb_lab.errors import NotFoundError

ROWS = {"a": [1, 2, 3], "g": ["x", "y", "x"]}


@pytest.fixture
def table(con: Any) -> Any:
    return con.create_table("t", ROWS)


def test_parquet_there_and_back(con: Any, table: Any, tmp_path: Path) -> None:
    table.to_parquet(tmp_path / "t.parquet", compression="zstd")
    back = con.read_parquet(tmp_path / "t.parquet", table_name="back")
    assert back.to_pyarrow().to_pydict() == ROWS
    assert con.list_tables() == ["back", "t"]


def test_parquet_partitions_become_a_column(con: Any, table: Any, tmp_path: Path) -> None:
    table.to_parquet(tmp_path / "parts", partition_by="g")
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["g=x", "g=y"]
    back = con.read_parquet(tmp_path / "parts")
    assert sorted(back.select("a", "g").execute().values.tolist()) == [
        [1, "x"], [2, "y"], [3, "x"],
    ]  # fmt: skip


def test_csv_there_and_back(con: Any, table: Any, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "t.csv")
    assert con.read_csv(tmp_path / "*.csv").to_pyarrow().to_pydict() == ROWS
    typed = con.read_csv(tmp_path / "t.csv", types={"a": "float32"})
    assert str(typed.schema()["a"]) == "float32"


def test_json_lines_in_and_an_array_out(con: Any, table: Any, tmp_path: Path) -> None:
    pd.DataFrame(ROWS).to_json(tmp_path / "t.json", orient="records", lines=True)
    assert con.read_json(tmp_path / "t.json").to_pyarrow().to_pydict() == ROWS
    table.to_json(tmp_path / "out.json")
    assert pd.read_json(tmp_path / "out.json").to_dict("list") == ROWS


def test_a_missing_file_is_named(con: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing.parquet' not found"):
        con.read_parquet(tmp_path / "nothing.parquet")
