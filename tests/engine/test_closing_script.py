"""The closing example of the language runs as printed, statement by statement, as a dba."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kalamdb_lab.sql.tokens import tokenize
from kalamdb_lab.testing.jobs import ended, finished

SCRIPT = """
CREATE NAMESPACE IF NOT EXISTS studio;                                   -- as a dba
ALTER NAMESPACE studio SET DESCRIPTION 'Recordings';
USE studio;
CREATE STORAGE vault TYPE 'filesystem' PATH 'vault' USER_TABLES_TEMPLATE '{namespace}/{tableName}/{shard}/{userId}';
CREATE SHARED TABLE genres (code TEXT PRIMARY KEY, title TEXT NOT NULL) WITH (ACCESS_LEVEL = 'PUBLIC');
INSERT INTO genres VALUES ('jz', 'Jazz'), ('fk', 'Folk') RETURNING code;
CREATE USER TABLE tracks (
  id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), title TEXT NOT NULL, genre TEXT, seconds INT DEFAULT 0,
  mood EMBEDDING(2), added DATETIME DEFAULT NOW()
) WITH (STORAGE_ID = 'vault', FLUSH_POLICY = 'rows:5000,interval:120', DELETED_RETENTION_HOURS = 48);
CREATE STREAM TABLE plays (id TEXT PRIMARY KEY DEFAULT ULID(), track BIGINT, heard DATETIME DEFAULT NOW()) WITH (TTL_SECONDS = 300);
CREATE VIEW long_tracks AS SELECT id, title FROM tracks WHERE seconds > 600;
INSERT INTO tracks (id, title, genre, seconds, mood) VALUES (1, 'Dawn', 'jz', 700, '[0.8, 0.6]'), (2, 'Hill', 'fk', 180, '[-0.6, 0.8]');
INSERT INTO tracks (id, title) VALUES (2, 'Hill (live)') ON CONFLICT (id) DO UPDATE SET title = excluded.title;
UPDATE tracks SET seconds = seconds + 5 WHERE genre = 'fk';
SELECT t.title, g.title AS "Genre" FROM tracks t LEFT JOIN genres g ON g.code = t.genre ORDER BY t.seconds DESC;
SELECT id FROM tracks ORDER BY COSINE_DISTANCE(mood, [0.9, 0.4]) LIMIT 1;
BEGIN;
DELETE FROM tracks WHERE id = 2;
COMMIT;
SELECT id, title FROM tracks WHERE _deleted = true;
ALTER TABLE tracks ADD COLUMN rating SMALLINT DEFAULT 3;
DESCRIBE TABLE tracks HISTORY;
STORAGE FLUSH TABLE tracks;
SHOW JOBS;
EXPLAIN SELECT * FROM long_tracks WHERE id = 1;
EXECUTE AS USER 'mia' (INSERT INTO tracks (title) VALUES ('For Mia'));
SELECT user_id, count(*) FROM all_users('studio.tracks') GROUP BY user_id;
BACKUP DATABASE studio TO 'backups/studio-1';
SELECT action, target, outcome FROM system.audit_logs ORDER BY timestamp DESC LIMIT 5;
"""
"""As it is printed."""


def test_the_closing_example_runs_as_printed(fresh: Any) -> None:
    root = fresh.session(namespace="default")
    root.execute("DROP NAMESPACE studio; CREATE USER 'dora' INTERNAL ROLE dba")
    dora = fresh.session("dora", namespace="default")
    statements = [statement.text for statement in tokenize(SCRIPT)]
    answers = []
    for text in statements:
        answers.append(finished(dora, text))
        fresh.clock.advance(1)
    assert len(answers) == 27
    named = dict(zip(statements, answers, strict=True))

    def rows(start: str) -> list[Any]:
        (found,) = (answer for text, answer in named.items() if text.startswith(start))
        return list(found.rows())

    assert rows("INSERT INTO genres") == [("jz",), ("fk",)]
    writes = ("INSERT INTO tracks", "UPDATE", "DELETE")
    changed = [named[text].rows_affected for text in statements if text.startswith(writes)]
    assert changed == [2, 1, 1, 1]
    assert rows("SELECT t.title") == [("Dawn", "Jazz"), ("Hill (live)", "Folk")]
    assert rows("SELECT id FROM") == [(1,)]
    assert rows("COMMIT") == [("Committed 1 row",)]
    assert rows("SELECT id, title") == [(2, "Hill (live)")]
    assert [(row[0], row[2], row[3]) for row in rows("DESCRIBE")] == [
        (1, "dora", "CREATE TABLE"),
        (2, "dora", "ADD COLUMN rating SMALLINT DEFAULT 3"),
    ]
    ((job_id, *flushed),) = rows("STORAGE FLUSH")
    assert job_id.startswith("FL-")
    assert flushed[:3] == ["flush", "studio.tracks", "completed"]
    assert [(row[0], row[2]) for row in rows("SHOW JOBS")] == [(job_id, "completed")]
    scan = rows("EXPLAIN")[-1]
    assert (scan[2], scan[3], scan[5:7]) == ("Scan", "studio.tracks", (1, 1))
    assert sorted(rows("SELECT user_id, count")) == [("dora", 1), ("mia", 1)]
    ((backup_id, *backed),) = rows("BACKUP")
    assert backup_id.startswith("BK-")
    assert backed[:2] == ["backup", "completed"]
    assert rows("SELECT action") == [
        ("BACKUP", "studio", "ok"),
        ("ALL_USERS", "studio.tracks", "ok"),
        ("EXECUTE_AS", "mia", "ok"),
        ("STORAGE_FLUSH", "studio.tracks", "ok"),
        ("ALTER_TABLE", "studio.tracks", "ok"),
    ]


def test_the_closing_example_runs_as_one_script_too(fresh: Any) -> None:
    root = fresh.session(namespace="default")
    root.execute("DROP NAMESPACE studio; CREATE USER 'dora' INTERNAL ROLE dba")
    dora = fresh.session("dora", namespace="default")
    results = dora.execute_script(SCRIPT)
    assert [result.statement_kind for result in results[-3:]] == ["SELECT", "BACKUP", "SELECT"]
    assert dora.namespace == "studio"
    root.execute("CREATE USER 'mia' INTERNAL ROLE user")
    mia = fresh.session("mia", namespace="studio")
    assert mia.execute("SELECT title, rating FROM tracks").rows() == [("For Mia", 3)]
    assert mia.execute("SELECT * FROM long_tracks").rows() == []
    directory = Path(fresh.database.path)
    ended(dora, next(r for r in results if r.statement_kind == "STORAGE FLUSH").rows()[0][0])
    assert list(directory.glob("vault/studio/tracks/shard_*/dora/*.parquet"))
    assert (directory / "backups" / "studio-1").is_dir()
