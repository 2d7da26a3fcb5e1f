"""The flights of ``datasets/``, repeated until there are enough of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import kalamdb_lab as kalam
from benchmarks.databases import NAMESPACE, create_table, kalam_database
from kalamdb_lab.engine.database import Database
from kalamdb_lab.testing.jobs import finished

DATA = Path(__file__).parent.parent / "datasets" / "flights"
KEY = "flight_id"
ROWS = 336_776
_AT_ONCE = 5


@cache
def one_year() -> pa.Table:
    """Return the 336,776 flights as they are in the data set."""
    return pq.read_table(DATA / "flights.parquet")


def airlines() -> pa.Table:
    """Return the 16 airlines."""
    return pq.read_table(DATA / "airlines.parquet")


def repeated(rows: int, *, start: int = 0) -> pa.Table:
    """Return so many flights, each with a key of its own that goes on from ``start``."""
    flights = one_year()
    copies = -(-rows // ROWS)
    at = flights.schema.get_field_index(KEY)
    field = flights.schema.field(at)
    parts = [
        flights.set_column(at, field, pc.add(flights.column(KEY), start + number * ROWS))
        for number in range(copies)
    ]
    return pa.concat_tables(parts).slice(0, rows)


def flushed_database(folder: Path, copies: int) -> Path:
    """Return a database whose table ``flights`` is all in segments; made once per folder."""
    path = folder / f"flights-{copies}.kalam"
    if not path.exists():
        with kalam_database(path) as database:
            _load(database, copies)
    return path


def _load(database: Database, copies: int) -> None:
    session = database.session(namespace=NAMESPACE)
    create_table(session, "flights", one_year().schema, key=KEY)
    create_table(session, "airlines", airlines().schema, key="carrier")
    for start in range(0, copies, _AT_ONCE):
        count = min(_AT_ONCE, copies - start)
        session.insert("flights", repeated(count * ROWS, start=start * ROWS))
    session.insert("airlines", airlines())
    finished(session, "STORAGE FLUSH TABLE airlines")


def opened(path: Path) -> Database:
    """Open a database that `flushed_database` made."""
    return kalam.open(path, create=False)
