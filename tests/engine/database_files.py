"""A database directory of a test's own, and the files in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kalamdb_lab as kalam
from kalamdb_lab import FakeClock
from kalamdb_lab.engine.database import Database
from kalamdb_lab.engine.session import Session


@contextmanager
def database(path: Path, settings: str = "", clock: FakeClock | None = None) -> Iterator[Database]:
    if not path.exists():
        path.mkdir()
        text = f'durability = "normal"\nbulk_rows = 6\n{settings}\n'
        (path / "kalam.toml").write_text(text)
    with kalam.open(path, clock=clock or FakeClock()) as db:
        root = db.session()
        root.execute("CREATE NAMESPACE IF NOT EXISTS studio")
        yield db


def root_of(db: Database) -> Session:
    return db.session(namespace="studio")


def files(path: Path, table: str = "studio") -> list[str]:
    base = path / "storage"
    found = (item for item in (base / table).rglob("*") if item.is_file())
    return sorted(str(item.relative_to(base)) for item in found)


def segments(path: Path, table: str = "studio") -> list[str]:
    return [name for name in files(path, table) if name.endswith(".parquet")]


def everything(path: Path) -> bytes:
    names = (str(item).encode() for item in path.rglob("*"))
    data = (item.read_bytes() for item in path.rglob("*") if item.is_file())
    return b"".join([*names, *data])
