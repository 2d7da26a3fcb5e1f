"""A table with rows in a segment and a hot one, for tests of transactions."""

from __future__ import annotations

from typing import Any

from kalamdb_lab.engine.session import Session

TRACKS = """
    CREATE TABLE tracks (id INT PRIMARY KEY, title TEXT NOT NULL);
    INSERT INTO tracks VALUES (1, 'Dawn'), (2, 'Hill'), (3, 'Rain');
    STORAGE FLUSH TABLE tracks;
    INSERT INTO tracks VALUES (4, 'Tide')"""


def rows_of(session: Session, table: str = "tracks") -> list[tuple[Any, ...]]:
    """All rows, in the order of their first column."""
    return session.execute(f"SELECT * FROM {table} ORDER BY 1").rows()
