"""The docstrings in ``datasets/`` and their vectors are what their README says."""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import kalamdb_lab as kalam

FOLDER = Path(__file__).parents[2] / "datasets" / "pydocs"
DIMENSION = 384
ROW = re.compile(
    r"^\| `(\w+)\.parquet` \| ([\d,]+) \| .* \| ([\d,]+) \| `([0-9a-f]{64})` \|$", re.MULTILINE
)
STATED = {
    name: (int(rows.replace(",", "")), int(size.replace(",", "")), digest)
    for name, rows, size, digest in ROW.findall((FOLDER / "README.md").read_text("utf-8"))
}
NAMES = ("docs", "texts")


def read(name: str) -> pa.Table:
    return pq.read_table(FOLDER / f"{name}.parquet")


def vectors(table: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32).reshape(-1, DIMENSION)


def test_the_readme_states_every_file() -> None:
    assert set(STATED) == {path.stem for path in FOLDER.glob("*.parquet")} == set(NAMES)
    assert sum(size for _, size, _ in STATED.values()) < 5_000_000


@pytest.mark.parametrize("name", NAMES)
def test_file_has_the_stated_rows_bytes_and_digest(name: str) -> None:
    content = (FOLDER / f"{name}.parquet").read_bytes()
    rows = pq.read_metadata(FOLDER / f"{name}.parquet").num_rows
    assert (rows, len(content), hashlib.sha256(content).hexdigest()) == STATED[name]


@pytest.mark.parametrize("name", NAMES)
def test_ids_count_from_one_in_file_order(name: str) -> None:
    ids = read(name)["id"]
    assert ids.equals(pa.chunked_array([pa.array(range(1, len(ids) + 1), pa.int64())]))


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_finite_and_of_length_one(name: str) -> None:
    table = read(name)
    assert table.schema.field("embedding").type == pa.list_(
        pa.field("element", pa.float16()), DIMENSION
    )
    assert table["embedding"].null_count == 0
    lengths = np.linalg.norm(vectors(table), axis=1)
    assert np.abs(lengths - 1).max() < 1e-3


def test_every_thing_has_one_name_and_one_text() -> None:
    docs = read("docs")
    for column in ("name", "doc"):
        assert docs[column].null_count == 0
        assert pc.count_distinct(docs[column]).as_py() == docs.num_rows
    assert docs["name"].to_pylist() == sorted(docs["name"].to_pylist())
    assert set(docs["kind"].to_pylist()) == {"module", "class", "function", "method"}
    assert pc.min(pc.utf8_length(docs["doc"])).as_py() >= 20
    assert pc.max(pc.utf8_length(docs["doc"])).as_py() <= 1_000


def test_texts_are_those_of_the_list_they_were_made_from() -> None:
    with (FOLDER / "texts.csv").open(encoding="utf-8", newline="") as file:
        listed = [
            {name: text or None for name, text in row.items()} for row in csv.DictReader(file)
        ]
    assert read("texts").select(["kind", "user", "text"]).to_pylist() == listed


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("python object from a json document", "json.loads"),
        ("copy a whole directory tree", "shutil.copytree"),
        ("greatest common divisor", "math.gcd"),
        ("shuffle a list in place", "random.shuffle"),
        ("parse an iso formatted date", "datetime.date.fromisoformat"),
        ("check whether a path exists", "os.path.exists"),
        ("read a toml file", "tomllib.load"),
        ("priority queue", "queue.PriorityQueue"),
    ],
)
def test_a_query_finds_what_it_means(query: str, name: str) -> None:
    docs, texts = read("docs"), read("texts")
    wanted = vectors(texts.filter(pc.field("text") == query))
    assert len(wanted) == 1
    best = np.argsort(-(vectors(docs) @ wanted[0]))[:5]
    assert name in docs["name"].take(pa.array(best)).to_pylist()


def test_the_database_takes_them_and_finds_the_same(tmp_path: Path) -> None:
    """Sixteen bits for a component are enough for the order that numpy finds."""
    docs, texts = read("docs"), read("texts")
    columns = ["id", "name", "embedding"]
    with kalam.open(tmp_path / "pydocs.kalam") as db:
        root = db.session()
        root.execute_script(
            "CREATE NAMESPACE lib; USE lib;"
            "CREATE SHARED TABLE docs (id BIGINT PRIMARY KEY, name TEXT, embedding EMBEDDING(384))"
        )
        assert root.insert("docs", docs.select(columns)).rows_affected == docs.num_rows
        nearest = "SELECT id FROM docs ORDER BY COSINE_DISTANCE(embedding, ?) LIMIT 5"
        everything = vectors(docs).astype(np.float64)
        everything /= np.linalg.norm(everything, axis=1, keepdims=True)
        for query in vectors(texts)[:3]:
            found = [row[0] for row in root.execute(nearest, [query]).rows()]
            assert found == (np.argsort(-(everything @ query))[:5] + 1).tolist()
