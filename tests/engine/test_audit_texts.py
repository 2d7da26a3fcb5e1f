"""What the audit trail keeps of the text of statements: no comments, no values of rows."""

from __future__ import annotations

from typing import Any

import pytest
from audit_trail import Trail, tried

from kalamdb_lab.testing.jobs import finished

SECRET = "hunter2secret"


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        (
            f"ALTER USER 'tom' SET /* {SECRET} */ PASSWORD '{SECRET}'",
            "ALTER USER 'tom' SET PASSWORD '***'",
        ),
        (f"FLUSH ALL -- {SECRET}", "FLUSH ALL"),
        (
            f"CREATE TABLE c AS SELECT '{SECRET}' AS x, 7 AS y",
            "CREATE TABLE c AS SELECT ? AS x, ? AS y",
        ),
        ("CREATE TABLE t (a TEXT DEFAULT 'x')", "CREATE TABLE t (a TEXT DEFAULT 'x')"),
        (
            f"CREATE STORAGE y TYPE filesystem PATH 'y' CONFIG '{{\"key\": \"{SECRET}\"}}'",
            "CREATE STORAGE y TYPE filesystem PATH ? CONFIG ?",
        ),
        (
            f'ALTER STORAGE local SET CONFIG \'{{"key": "{SECRET}"}}\'',
            "ALTER STORAGE local SET CONFIG ?",
        ),
    ],
)
def test_texts_that_are_kept(fresh: Any, sql: str, kept: str) -> None:
    root = fresh.session()
    root.execute("CREATE USER 'tom' INTERNAL ROLE user") if "'tom'" in sql else None
    trail = Trail(root)
    tried(root, sql)
    assert [row.details["statement"] for row in trail.new()] == [kept]


def test_a_storage_that_was_made_is_kept_as_it_was_said(fresh: Any) -> None:
    root = fresh.session()
    trail = Trail(root)
    sql = "CREATE STORAGE y TYPE filesystem PATH 'y' CONFIG '{\"shards\": 4}'"
    root.execute(sql)
    assert [row.details["statement"] for row in trail.new()] == [sql]


@pytest.mark.parametrize("statement", ["FLUSH ALL", "COMPACT ALL"])
def test_service_works_on_system_tables_and_is_told_nothing_of_them(
    fresh: Any, statement: str
) -> None:
    root = fresh.session()
    root.execute(
        "CREATE USER 'sue' INTERNAL ROLE service; CREATE USER 'dot' INTERNAL ROLE dba; "
        "CREATE TABLE t (id INT); INSERT INTO t VALUES (1)"
    )

    def told(user: str) -> set[str]:
        rows = finished(fresh.session(user), f"STORAGE {statement}").rows()
        return {row[2].split(".")[0] for row in rows}

    assert told("sue") == {"studio"}
    jobs = root.execute("SELECT DISTINCT parameters ->> 'namespace_id' FROM system.jobs").rows()
    assert ("system",) in jobs
    assert told("dot") == {"studio", "system"}
