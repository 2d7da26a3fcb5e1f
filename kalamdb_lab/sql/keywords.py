"""The words of the language, for whoever completes what a user types."""

from __future__ import annotations

from typing import Final

from kalamdb_lab.model.ids import RESERVED_KEYWORDS
from kalamdb_lab.sql.dialect import TYPE_TOKENS, WORD_PAIRS, WORD_TYPES
from kalamdb_lab.sql.kalam_parser import SHOWN
from kalamdb_lab.sql.parse import STATEMENT_WORDS

_CLAUSES: Final = """
ACCESS ADD ANN AS USER AUTO_INCREMENT CASCADE CHECK COLUMN COMPACT CONFLICT CREDENTIALS DATABASE
DESCRIPTION DO EMAIL FLUSH HISTORY IF INDEX INTERNAL JOB KEY LEVEL MODIFY NAMESPACE NOTHING NULLS
LAST OAUTH OPTIONS OVER PARTITION PASSWORD PRECEDING FOLLOWING UNBOUNDED PRIMARY QUERY RENAME
REPLACE ROLE SHARED STORAGE STREAM TABLE TABLES TBLPROPERTIES TO TRANSACTION TYPE VECTOR VIEW
"""
"""Words that stand within statements, and are plain names elsewhere."""

_PAIRED: Final = frozenset(word for pair in WORD_PAIRS for word in pair)
_SHOWN: Final = frozenset(" ".join(SHOWN).split())

KEYWORDS: Final = frozenset(
    {word for word in WORD_TYPES if word.isidentifier()}
    | {word.upper() for word in RESERVED_KEYWORDS - {"unique", "references", "constraint"}}
    | STATEMENT_WORDS
    | _PAIRED
    | _SHOWN
    | set(_CLAUSES.split())
)
"""All words, types included."""

TYPES: Final = frozenset(
    {word for word, token in WORD_TYPES.items() if token in TYPE_TOKENS} | {"EMBEDDING"}
)
"""The names of types."""

COMMON: Final = frozenset(word.upper() for word in RESERVED_KEYWORDS) & KEYWORDS
"""Those of queries and changes, which are no names."""

PHRASES: Final = (
    *("SELECT", "WITH", "INSERT INTO", "UPDATE", "DELETE FROM", "EXPLAIN", "VALUES"),
    *("CREATE TABLE", "CREATE USER TABLE", "CREATE SHARED TABLE", "CREATE STREAM TABLE"),
    *("CREATE VIEW", "CREATE OR REPLACE VIEW", "CREATE NAMESPACE", "CREATE USER"),
    *("CREATE INDEX", "CREATE STORAGE", "ALTER TABLE", "ALTER NAMESPACE", "ALTER USER"),
    *("ALTER STORAGE", "DROP INDEX"),
    *("DROP TABLE", "DROP VIEW", "DROP NAMESPACE", "DROP USER", "DROP STORAGE"),
    *("REGISTER TABLE", "UNREGISTER TABLE", "DESCRIBE", "USE"),
    *(f"SHOW {what}" for what in SHOWN if what != "BACKUP"),
    *("STORAGE FLUSH TABLE", "STORAGE FLUSH ALL", "STORAGE COMPACT TABLE", "STORAGE COMPACT ALL"),
    *("STORAGE CHECK", "EXECUTE AS USER", "SUBSCRIBE TO", "LIVE SELECT", "KILL LIVE QUERY"),
    *("KILL JOB", "BACKUP DATABASE", "RESTORE DATABASE", "VACUUM", "ANALYZE"),
    *("BEGIN", "COMMIT", "ROLLBACK"),
)
"""How statements begin."""
