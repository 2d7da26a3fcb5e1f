"""The databases that are compared, new in a folder of their own."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import kalamdb_lab as kalam
from kalamdb_lab.arrow.schemas import kalam_type
from kalamdb_lab.config import SETTINGS_FILE, Durability
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session

NAMESPACE = "bench"


def kalam_database(folder: Path, *, durability: Durability = "full") -> Database:
    """Return a new database with a namespace to work in."""
    folder.mkdir()
    (folder / SETTINGS_FILE).write_text(f'durability = "{durability}"\n', encoding="utf-8")
    database = kalam.open(folder)
    database.session().execute(f"CREATE NAMESPACE {NAMESPACE}")
    return database


def create_table(
    session: Session, name: str, schema: pa.Schema, *, key: str, kind: str = "SHARED"
) -> None:
    """Create a table with the columns of an Arrow schema."""
    columns = ", ".join(
        f'"{field.name}" {kalam_type(field)}{" PRIMARY KEY" * (field.name == key)}'
        for field in schema
    )
    session.execute(f"CREATE {kind} TABLE {name} ({columns})")


def sqlite_file(path: Path, *, durability: Durability = "full") -> sqlite3.Connection:
    """Return a new SQLite file that commits as our catalog does."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={durability.upper()}")
    return connection


def duckdb_file(path: Path) -> Any:
    """Return a connection to a new DuckDB file, with the engine's own settings."""
    return duckdb.connect(str(path))


def segment_files(database_folder: Path) -> list[str]:
    """Return the Parquet files of a database."""
    return sorted(str(path) for path in (database_folder / "storage").rglob("*.parquet"))


def same_rows(ours: pa.Table, theirs: pa.Table) -> bool:
    """Return whether two answers have equal rows in any order; floats may differ in the end."""
    return _comparable(ours) == _comparable(theirs)


def _comparable(table: pa.Table) -> list[tuple[object, ...]]:
    columns = [column.to_pylist() for column in table.columns]
    rows = (tuple(_rounded(value) for value in row) for row in zip(*columns, strict=True))
    return sorted(rows, key=repr)


def _rounded(value: object) -> object:
    return float(f"{value:.9g}") if isinstance(value, float) else value
