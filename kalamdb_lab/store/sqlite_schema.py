"""The tables of the catalog."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('last_seq', 0), ('last_segment_id', 0), ('opens', 0), ('log_start', 0);
CREATE TABLE partitions (
    partition_id INTEGER PRIMARY KEY,
    table_key INTEGER NOT NULL,
    scope TEXT NOT NULL,
    UNIQUE (table_key, scope)
);
CREATE TABLE log (
    seq INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    partition_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    flushed INTEGER NOT NULL DEFAULT 0,
    at_us INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX log_hot ON log (partition_id, seq) WHERE flushed = 0;
CREATE TABLE segments (
    segment_id INTEGER PRIMARY KEY,
    partition_id INTEGER NOT NULL,
    retired_seq INTEGER,
    retired_at_us INTEGER,
    removed_seqs BLOB NOT NULL,
    removed_at BLOB NOT NULL,
    removed_deleted BLOB NOT NULL,
    meta BLOB NOT NULL
);
CREATE INDEX segments_live ON segments (partition_id) WHERE retired_seq IS NULL;
CREATE TABLE checkpoints (seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL);
CREATE TABLE leases (
    node_id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, expires_us INTEGER NOT NULL
);
"""
