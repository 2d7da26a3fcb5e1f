"""Transactions, jobs, upkeep and backup: BEGIN, KILL, VACUUM, ANALYZE, BACKUP, RESTORE."""

from __future__ import annotations

from typing import Final

from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.cursor import Cursor

_REFUSED_IN_BEGIN: Final = (
    ("ISOLATION", "LEVEL"),
    ("READ", "ONLY"),
    ("READ", "WRITE"),
    ("NOT", "DEFERRABLE"),
    ("DEFERRABLE",),
)


def begin(cursor: Cursor) -> c.Begin:
    """Read what follows BEGIN."""
    if not cursor.accept("TRANSACTION"):
        cursor.accept("WORK")
    return _begin(cursor)


def start_transaction(cursor: Cursor) -> c.Begin:
    """Read what follows START."""
    cursor.expect("TRANSACTION")
    return _begin(cursor)


def _begin(cursor: Cursor) -> c.Begin:
    for words in _REFUSED_IN_BEGIN:
        if cursor.accept(*words):
            cursor.at -= len(words)
            raise cursor.refused(" ".join(words))
    cursor.end()
    return c.Begin(**cursor.place())


def commit(cursor: Cursor) -> c.Commit:
    """Read what follows COMMIT."""
    if cursor.word() == "PREPARED":
        raise cursor.refused("COMMIT PREPARED")
    cursor.accept("WORK")
    cursor.end()
    return c.Commit(**cursor.place())


def end(cursor: Cursor) -> c.Commit:
    """Read what follows END: nothing."""
    cursor.end()
    return c.Commit(**cursor.place())


def rollback(cursor: Cursor) -> c.Rollback:
    """Read what follows ROLLBACK."""
    if cursor.word() == "PREPARED":
        raise cursor.refused("ROLLBACK PREPARED")
    cursor.accept("WORK")
    if cursor.word() == "TO":
        raise cursor.refused("ROLLBACK TO")
    cursor.end()
    return c.Rollback(**cursor.place())


def kill(cursor: Cursor) -> s.Statement:
    """Read what follows KILL: JOB or LIVE QUERY."""
    if cursor.accept("LIVE", "QUERY"):
        live_id = cursor.string("a quoted id after KILL LIVE QUERY")
        cursor.end()
        return c.KillLiveQuery(live_id=live_id, **cursor.place())
    if cursor.word() != "JOB":
        raise cursor.missing("JOB or LIVE QUERY after KILL")
    return cancel(cursor)


def cancel(cursor: Cursor) -> c.KillJob:
    """Read what follows CANCEL: a job."""
    verb = cursor.words[0]
    if not cursor.accept("JOB"):
        raise cursor.missing(f"JOB after {verb}")
    job_id = cursor.string(f"a quoted id after {verb} JOB")
    cursor.end()
    return c.KillJob(job_id=job_id, **cursor.place())


def vacuum(cursor: Cursor) -> c.Vacuum:
    """Read what follows VACUUM."""
    if cursor.is_at_end():
        return c.Vacuum(**cursor.place())
    after = "VACUUM TABLE" if cursor.accept("TABLE") else "VACUUM"
    table = cursor.table_name(after)
    cursor.end()
    return c.Vacuum(table=table, **cursor.place())


def analyze(cursor: Cursor) -> c.Analyze:
    """Read what follows ANALYZE."""
    after = "ANALYZE TABLE" if cursor.accept("TABLE") else "ANALYZE"
    table = cursor.table_name(after)
    cursor.end()
    return c.Analyze(table=table, **cursor.place())


def backup(cursor: Cursor) -> c.BackupDatabase:
    """Read what follows BACKUP."""
    cursor.expect("DATABASE")
    if_exists = cursor.accept("IF", "EXISTS")
    namespace = cursor.plain_name("a namespace name", "BACKUP DATABASE")
    cursor.expect("TO")
    directory = cursor.string("a quoted directory after TO")
    cursor.end()
    return c.BackupDatabase(
        namespace=namespace, directory=directory, if_exists=if_exists, **cursor.place()
    )


def restore(cursor: Cursor) -> c.RestoreDatabase:
    """Read what follows RESTORE."""
    cursor.expect("DATABASE")
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    namespace = cursor.plain_name("a namespace name", "RESTORE DATABASE")
    cursor.expect("FROM")
    directory = cursor.string("a quoted directory after FROM")
    cursor.end()
    return c.RestoreDatabase(
        namespace=namespace, directory=directory, if_not_exists=if_not_exists, **cursor.place()
    )
