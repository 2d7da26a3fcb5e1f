"""Statements that are known and refused: by design, or until they are built."""

from __future__ import annotations

from typing import Final

from kalamdb_lab.errors import NotSupportedError
from kalamdb_lab.sql.cursor import Cursor

_NO_CREATE = """
AGGREGATE EXTENSION EXTERNAL FUNCTION MACRO MATERIALIZED PROCEDURE ROLE RULE SECRET SEQUENCE
SERVER TABLESPACE TRIGGER TYPE UNLOGGED
"""
_NO_CHANGE = "EXTENSION FUNCTION MACRO MATERIALIZED PROCEDURE ROLE SECRET SEQUENCE TRIGGER TYPE"
_NO_STATEMENT = """
ATTACH CALL CHECKPOINT COMMENT COPY DEALLOCATE DECLARE DETACH DO EXPORT GRANT IMPORT INSTALL
LISTEN LOAD LOCK MERGE NOTIFY PIVOT PRAGMA PREPARE REFRESH REINDEX RELEASE RESET REVOKE SAVEPOINT
SUMMARIZE UNPIVOT
"""
_NOT_SUPPORTED: Final[dict[tuple[str, ...], str]] = {
    **{("CREATE", thing): "" for thing in _NO_CREATE.split()},
    **{(verb, thing): "" for verb in ("ALTER", "DROP") for thing in _NO_CHANGE.split()},
    **{(word,): "" for word in _NO_STATEMENT.split()},
    **{
        (verb, thing): f"; use {verb} NAMESPACE"
        for verb in ("CREATE", "ALTER", "DROP")
        for thing in ("SCHEMA", "DATABASE")
    },
    **{(verb, "MATERIALIZED", "VIEW"): "" for verb in ("CREATE", "ALTER", "DROP")},
    ("ALTER", "INDEX"): "; drop the index and create it again",
    ("ALTER", "VIEW"): "; use CREATE OR REPLACE VIEW",
    ("CREATE", "VECTOR", "INDEX"): "; use CREATE INDEX ... USING ANN",
    ("DROP", "VECTOR", "INDEX"): "; use DROP INDEX",
    ("PREPARE", "TRANSACTION"): "",
    ("REPLACE", "INTO"): "; use INSERT ... ON CONFLICT",
    ("SET", "TRANSACTION"): "",
    ("TRUNCATE",): "; use DELETE FROM t WHERE true",
}
"""By design: "X is not supported", and the way out."""

_NOT_YET_OBJECTS = """
CREATE_TOPIC ALTER_TOPIC DROP_TOPIC CLEAR_TOPIC CONSUME ACK CLUSTER
"""
_NOT_YET: Final = tuple(tuple(words.split("_")) for words in _NOT_YET_OBJECTS.split())
"""Part of the language, not built: "X is not supported yet"."""

_KINDS: Final[dict[tuple[str, ...], str]] = {
    ("SHOW", "LIVE"): "SHOW LIVE QUERIES",
    ("SHOW", "BACKUP"): "SHOW BACKUPS",
    ("KILL", "LIVE"): "KILL LIVE QUERY",
    **{
        (word,): word
        for word in (
            *("SELECT", "INSERT", "UPDATE", "DELETE", "EXPLAIN", "USE", "DESCRIBE"),
            *("BEGIN", "COMMIT", "ROLLBACK", "SUBSCRIBE"),
            *("VACUUM", "ANALYZE", "BACKUP", "RESTORE"),
        )
    },
    ("CANCEL",): "KILL JOB",
    ("DESC",): "DESCRIBE",
    ("END",): "COMMIT",
    ("EXECUTE",): "EXECUTE AS",
    ("FLUSH",): "STORAGE FLUSH",
    ("KILL",): "KILL JOB",
    ("LIVE",): "SUBSCRIBE",
    ("OPTIMIZE",): "STORAGE COMPACT",
    ("REGISTER",): "REGISTER TABLE",
    ("SET",): "USE",
    ("START",): "BEGIN",
    ("UNREGISTER",): "UNREGISTER TABLE",
    ("VALUES",): "SELECT",
    ("WITH",): "SELECT",
    ("(",): "SELECT",
}
_TWO_WORDS: Final = frozenset({"CREATE", "ALTER", "DROP", "SHOW", "STORAGE"})


def refuse_known(cursor: Cursor) -> None:
    """Raise `NotSupportedError` if the statement begins like one that is known and refused."""
    name = _not_yet(cursor)
    if name is not None:
        raise NotSupportedError(f"{name} is not supported yet")
    words = tuple(cursor.words[:3])
    if words[:1] == ("CREATE",) and words[1:2] in (("TEMP",), ("TEMPORARY",)):
        raise NotSupportedError("TEMPORARY is not supported")
    if words[:2] == ("CREATE", "UNIQUE"):
        raise NotSupportedError("UNIQUE is not supported")
    for known in (words, words[:2], words[:1]):
        hint = _NOT_SUPPORTED.get(known)
        if hint is not None:
            raise NotSupportedError(f"{' '.join(known)} is not supported{hint}")
    if words[:1] == ("SET",) and words[1:2] != ("NAMESPACE",):
        raise NotSupportedError("SET is not supported")


def spoken_kind(cursor: Cursor) -> str | None:
    """Return the kind of a statement by its first words alone; None if it is no statement."""
    words = [word for word in cursor.words[:5] if word not in ("OR", "REPLACE")]
    if len(words) > 2 and words[2] == "TABLE" and words[1] in ("USER", "SHARED", "STREAM"):
        del words[1]
    kind = _KINDS.get(tuple(words[:2])) or _KINDS.get(tuple(words[:1]))
    if kind is not None:
        return kind
    first = words[0]
    if first in _TWO_WORDS and len(words) > 1:
        return f"{first} {words[1]}"[:64]
    return _not_yet(cursor) or (first if (first,) in _NOT_SUPPORTED else None)


def _not_yet(cursor: Cursor) -> str | None:
    words = cursor.words
    for known in _NOT_YET:
        if tuple(words[: len(known)]) == known:
            return " ".join(known)
    return None
