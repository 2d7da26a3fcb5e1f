"""SHOW LIVE QUERIES and KILL LIVE QUERY, and who may ask for what before anything is looked up."""

from __future__ import annotations

from typing import Any

import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.model.entities import LiveQuery

COLUMNS = ["live_id", "user_id", "namespace_id", "table_name", "query", "changes", "created_at"]
SYSTEM_NAMESPACE = "Only 'dba' and 'system' roles can access system namespace"


def test_everybody_sees_the_own_ones_and_a_dba_all(studio: Any) -> None:
    context = studio.database._context
    store, node_id = context.catalog.live_queries, context.presence.node_id
    entries = [
        LiveQuery(f"L{at}", user, "studio", "plays", "SUBSCRIBE TO plays", node_id, 1_000_000)
        for at, user in ((2, "mia"), (1, "tom"))
    ]
    with context.log.commit() as commit:
        for entry in entries:
            store.put(commit, entry)
    for user, seen in (("mia", ["L2"]), ("sven", []), ("dora", ["L1", "L2"])):
        answer = studio.session(user).execute("SHOW LIVE QUERIES")
        assert answer.columns == COLUMNS
        assert [row[0] for row in answer.rows()] == seen
    listed = studio.session().execute("SELECT live_id, status FROM system.live ORDER BY 1").rows()
    assert listed == [("L1", "active"), ("L2", "active")]
    assert store.get("L2") == entries[0]
    with context.log.commit() as commit:
        for entry in entries:
            store.delete(commit, entry.live_id)
    assert studio.session().execute("SHOW LIVE QUERIES").rows() == []


def test_an_unknown_one_is_not_found(mia: Session, refused: Any) -> None:
    error = refused(mia, "KILL LIVE QUERY 'x'")
    assert (error.code, str(error)) == ("NOT_FOUND", "Live query 'x' not found")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SUBSCRIBE TO system.users", SYSTEM_NAMESPACE),
        ("LIVE SELECT * FROM System.gone", SYSTEM_NAMESPACE),
        ('SUBSCRIBE TO SELECT * FROM "SYSTEM".users', SYSTEM_NAMESPACE),
        ("SHOW BACKUPS FOR DATABASE system",
         "Role 'user' cannot execute SHOW BACKUPS; it needs dba or system"),
        ("BACKUP DATABASE system TO 'x'",
         "Role 'user' cannot execute BACKUP; it needs dba or system"),
        ("RESTORE DATABASE system FROM 'x'",
         "Role 'user' cannot execute RESTORE; it needs dba or system"),
        ("ANALYZE system.users",
         "Role 'user' cannot execute ANALYZE; it needs service, dba or system"),
        ("VACUUM gone", "Role 'user' cannot execute VACUUM; it needs dba or system"),
        ("KILL JOB 'gone'", "Role 'user' cannot execute KILL JOB; it needs dba or system"),
        ("STORAGE CHECK gone", "Role 'user' cannot execute STORAGE CHECK; it needs dba or system"),
        ("DROP STORAGE gone", "Role 'user' cannot execute DDL statements; it needs dba or system"),
        ("UNREGISTER TABLE gone",
         "Role 'user' cannot execute DDL statements; it needs dba or system"),
    ],
)  # fmt: skip
def test_a_refusal_for_lack_of_role_comes_first(
    mia: Session, refused: Any, sql: str, message: str
) -> None:
    error = refused(mia, sql)
    assert (error.code, str(error)) == ("PERMISSION_DENIED", message)
