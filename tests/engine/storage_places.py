"""A storage named vault, rows that lie in two places of it, and where segments are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

SECRET = "s3cr3t-k3y"


VAULT = (
    "CREATE STORAGE vault TYPE 'filesystem' PATH 'vault'"
    " USER_TABLES_TEMPLATE '{namespace}/{tableName}/{shard}/{userId}'"
)


SHARED, USER = "{namespace}/{tableName}", "{namespace}/{tableName}/{userId}"


def places(lab: Path, pattern: str = "*.parquet") -> set[str]:
    """Directories that hold segments of tables in studio, relative to the database."""
    found = (file.parent.relative_to(lab).as_posix() for file in lab.rglob(pattern))
    return {place for place in found if "studio" in place}


def described(session: Session) -> dict[str, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in session.execute("SHOW STORAGES").rows()}


def check_rows(session: Session, table: str, rows: list[tuple[Any, ...]]) -> None:
    assert session.execute(f"SELECT * FROM {table} ORDER BY 1").rows() == rows


def moving(root: Session, mia: Session) -> list[tuple[int, str]]:
    """Flush rows of mia into two places of storage vault; change what lies in the first."""
    root.execute(VAULT)
    root.execute(
        "CREATE USER TABLE notes (id INT PRIMARY KEY, body TEXT) WITH (STORAGE_ID = 'vault')"
    )
    mia.execute("INSERT INTO notes VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    finished(root, "STORAGE FLUSH TABLE notes")
    root.execute(
        "ALTER STORAGE vault SET USER_TABLES_TEMPLATE 'u/{namespace}/{tableName}/{userId}'"
    )
    mia.execute("INSERT INTO notes VALUES (4, 'd'); DELETE FROM notes WHERE id = 2")
    mia.execute("UPDATE notes SET body = 'A' WHERE id = 1")
    finished(root, "STORAGE FLUSH TABLE notes")
    return [(1, "A"), (3, "c"), (4, "d")]
