"""What does looking an Arrow schema up cost, beside building it?

Sketch: a look-up is a tuple and a dict access, 0.2 us; building makes a field with metadata for
each of 20 columns, 1.5 us each. A schema of 20 columns takes 2 KB or less, so 1,000 tables stay
below 2 MB.
Data: 1,000 definitions with the 20 columns of the flights, looked up in random order, seed 5.
Peers: `schema_of`, which builds the same schema.
"""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pyarrow as pa

from benchmarks import flights
from benchmarks.databases import NAMESPACE, create_table, kalam_database
from benchmarks.measure import Budget, Figure, Finding, Scale, interleaved
from kalamdb_lab.arrow.schemas import ArrowSchemas, schema_of

SEED = 5
TABLES = 1_000


def measure(scale: Scale, folder: Path) -> list[Finding]:
    """Look schemas up and build them, in turns."""
    with kalam_database(folder / "schemas.kalam") as database:
        session = database.session(namespace=NAMESPACE)
        create_table(session, "flights", flights.one_year().schema, key=flights.KEY)
        one = session.definition("flights")
    tables = [(*one.columns,) for _ in range(TABLES)]  # 1,000 objects, not one
    order = random.Random(SEED).choices(tables, k=scale.of(200, 20_000))
    schemas = ArrowSchemas()
    arrow_before = pa.total_allocated_bytes()
    tracemalloc.start()
    for table in tables:
        schemas.of(table)
    python_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held_mb = (python_bytes + pa.total_allocated_bytes() - arrow_before) / 1e6
    assert all(schemas.of(table).equals(schema_of(table)) for table in tables)

    def look_up() -> None:
        for table in order:
            schemas.of(table)

    few = order[:200]

    def build() -> None:
        for table in few:
            schema_of(table)

    times = interleaved({"memoised": look_up, "built": build}, scale.of(1, 15))
    memoised, built = times["memoised"].each(len(order)), times["built"].each(len(few))
    rate = schemas.hits / (schemas.hits + schemas.misses)
    assert schemas.misses == TABLES
    return [
        Figure(
            "one Arrow schema, memoised",
            memoised,
            "building it",
            built,
            Budget("ms", 0.002),
            f"hit rate {rate:.2%}; 1,000 schemas hold {held_mb:.2f} MB of Python objects",
        ),
        Figure(
            "one Arrow schema, memoised",
            memoised,
            "building it",
            built,
            Budget("ratio", 1 / 50),
        ),
    ]


def test_a_memoised_schema_is_the_one_that_is_built(tmp_path: Path) -> None:
    assert measure(Scale.SMALL, tmp_path)
