"""The audit trail as tests look at it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import KalamError

TABLES = """
    CREATE USER TABLE notes (id INT PRIMARY KEY, body TEXT);
    CREATE STREAM TABLE plays (id INT) WITH (TTL_SECONDS = 60);
    CREATE TABLE plans (id INT PRIMARY KEY);
    CREATE TABLE genres (code TEXT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')"""


@dataclass
class Row:
    """What the tests look at of a row."""

    audit_id: str
    timestamp: Any
    actor: str
    subject: str | None
    action: str
    target: str
    outcome: str
    details: dict[str, Any]

    @property
    def said(self) -> tuple[str, str, str]:
        return self.action, self.target, self.outcome


class Trail:
    """The rows that were added since the last look."""

    def __init__(self, root: Session) -> None:
        self.root = root
        self._seen = 0
        self.new()

    def all(self) -> list[Row]:
        rows = self.root.execute(
            "SELECT audit_id, timestamp, actor_user_id, subject_user_id, action, target, outcome, "
            "details, ip_address FROM system.audit_logs ORDER BY timestamp, audit_id"
        ).rows()
        assert all(row[8] is None for row in rows)
        return [Row(*row[:7], json.loads(row[7])) for row in rows]

    def new(self) -> list[Row]:
        rows = self.all()
        fresh, self._seen = rows[self._seen :], len(rows)
        return fresh

    def said(self) -> list[tuple[str, str, str]]:
        return [row.said for row in self.new()]


def tried(session: Session, sql: str) -> KalamError | None:
    """Return the error of a script that may fail."""
    try:
        session.execute(sql)
    except KalamError as error:
        return error
    return None
