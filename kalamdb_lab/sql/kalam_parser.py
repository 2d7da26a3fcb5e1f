"""The statements made of KalamDB's own words: namespaces, SHOW, DESCRIBE, STORAGE, users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlglot import Token

from kalamdb_lab.errors import KalamError
from kalamdb_lab.model.entities import AuthType
from kalamdb_lab.model.ids import checked_user_id
from kalamdb_lab.model.roles import Role
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql import storage_statements
from kalamdb_lab.sql.cursor import Cursor


def create_namespace(cursor: Cursor) -> s.CreateNamespace:
    """Read what follows CREATE NAMESPACE."""
    if_not_exists = cursor.accept("IF", "NOT", "EXISTS")
    name = cursor.plain_name("a namespace name", "CREATE NAMESPACE", new=True)
    cursor.end()
    return s.CreateNamespace(**cursor.place(), name=name, if_not_exists=if_not_exists)


def drop_namespace(cursor: Cursor) -> s.DropNamespace:
    """Read what follows DROP NAMESPACE."""
    if_exists = cursor.accept("IF", "EXISTS")
    name = cursor.plain_name("a namespace name", "DROP NAMESPACE")
    cascade = cursor.accept("CASCADE")
    cursor.end()
    return s.DropNamespace(**cursor.place(), name=name, if_exists=if_exists, cascade=cascade)


def alter_namespace(cursor: Cursor) -> s.AlterNamespace:
    """Read what follows ALTER NAMESPACE."""
    name = cursor.plain_name("a namespace name", "ALTER NAMESPACE")
    cursor.expect("SET", "DESCRIPTION")
    description = cursor.string("a quoted text after DESCRIPTION")
    cursor.end()
    return s.AlterNamespace(**cursor.place(), name=name, description=description)


def use(cursor: Cursor) -> s.UseNamespace:
    """Read what follows USE or SET."""
    if not cursor.is_last():
        cursor.accept("NAMESPACE")
    name = cursor.plain_name("a namespace name", cursor.words[0])
    cursor.end()
    return s.UseNamespace(**cursor.place(), name=name)


def describe(cursor: Cursor) -> c.Describe:
    """Read what follows DESCRIBE or DESC."""
    after = cursor.words[0]
    if cursor.accept("TABLE"):
        after += " TABLE"
    table = cursor.table_name(after)
    history = cursor.accept("HISTORY")
    cursor.end()
    return c.Describe(**cursor.place(), table=table, history=history)


def show(cursor: Cursor) -> s.Statement:
    """Read what follows SHOW."""
    for words, read in _SHOW.items():
        if cursor.accept(*words):
            statement = read(cursor)
            cursor.end()
            return statement
    raise cursor.missing(
        "NAMESPACES, TABLES, STORAGES, STATS, MANIFEST, JOBS, LIVE QUERIES, USERS or BACKUPS "
        "after SHOW"
    )


def _show_tables(cursor: Cursor) -> c.ShowTables:
    return c.ShowTables(namespace=_in_namespace(cursor, "SHOW TABLES"), **cursor.place())


def _show_stats(cursor: Cursor) -> c.ShowStats:
    cursor.expect("FOR", "TABLE")
    return c.ShowStats(table=cursor.table_name("SHOW STATS FOR TABLE"), **cursor.place())


def _show_manifest(cursor: Cursor) -> c.ShowManifest:
    table = None
    if cursor.accept("FOR"):
        cursor.expect("TABLE")
        table = cursor.table_name("SHOW MANIFEST FOR TABLE")
    return c.ShowManifest(table=table, **cursor.place())


def _show_backups(cursor: Cursor) -> c.ShowBackups:
    cursor.expect("FOR", "DATABASE")
    namespace = cursor.plain_name("a namespace name", "FOR DATABASE")
    return c.ShowBackups(namespace=namespace, **cursor.place())


_SHOW: dict[tuple[str, ...], Callable[[Cursor], s.Statement]] = {
    ("NAMESPACES",): lambda cursor: c.ShowNamespaces(**cursor.place()),
    ("TABLES",): _show_tables,
    ("STORAGES",): lambda cursor: c.ShowStorages(**cursor.place()),
    ("STATS",): _show_stats,
    ("MANIFEST",): _show_manifest,
    ("USERS",): lambda cursor: c.ShowUsers(**cursor.place()),
    ("JOBS",): lambda cursor: c.ShowJobs(**cursor.place()),
    ("LIVE", "QUERIES"): lambda cursor: c.ShowLiveQueries(**cursor.place()),
    ("BACKUPS",): _show_backups,
    ("BACKUP",): _show_backups,
}
SHOWN: Final = tuple(" ".join(words) for words in _SHOW)
"""What may follow SHOW."""


def _in_namespace(cursor: Cursor, after: str) -> str | None:
    if not cursor.accept("IN"):
        return None
    after += " IN"
    if not cursor.is_last() and cursor.accept("NAMESPACE"):
        after += " NAMESPACE"
    return cursor.plain_name("a namespace name", after)


def storage(cursor: Cursor) -> s.Statement:
    """Read what follows STORAGE: FLUSH, COMPACT or CHECK."""
    if cursor.accept("FLUSH"):
        return _flush(cursor, "STORAGE FLUSH")
    if cursor.accept("COMPACT"):
        return _compact(cursor, "STORAGE COMPACT")
    if cursor.accept("CHECK"):
        return storage_statements.check_storage(cursor)
    raise cursor.missing("FLUSH, COMPACT or CHECK after STORAGE")


def flush(cursor: Cursor) -> s.Statement:
    """Read what follows FLUSH: TABLE or ALL TABLES."""
    return _flush(cursor, "FLUSH")


def _flush(cursor: Cursor, after: str) -> s.Statement:
    if cursor.accept("TABLE"):
        table = cursor.table_name(f"{after} TABLE")
        cursor.end()
        return c.FlushTable(table=table, **cursor.place())
    if not cursor.accept("ALL"):
        raise cursor.missing(f"TABLE or ALL after {after}")
    after += " ALL"
    if cursor.accept("TABLES"):
        after += " TABLES"
    namespace = _in_namespace(cursor, after)
    cursor.end()
    return c.FlushAll(namespace=namespace, **cursor.place())


def optimize(cursor: Cursor) -> c.CompactTable:
    """Read what follows OPTIMIZE."""
    after = "OPTIMIZE"
    if cursor.accept("TABLE"):
        after += " TABLE"
    table = cursor.table_name(after)
    cursor.end()
    return c.CompactTable(table=table, **cursor.place())


def _compact(cursor: Cursor, after: str) -> s.Statement:
    if cursor.accept("TABLE"):
        table = cursor.table_name(f"{after} TABLE")
        cursor.end()
        return c.CompactTable(table=table, **cursor.place())
    if not cursor.accept("ALL"):
        raise cursor.missing(f"TABLE or ALL after {after}")
    namespace = _in_namespace(cursor, f"{after} ALL")
    cursor.end()
    return c.CompactAll(namespace=namespace, **cursor.place())


def user_id(cursor: Cursor, after: str) -> str:
    """Return the id that stands here: a quoted text, or a bare word that is no keyword."""
    at = cursor.at
    if not cursor.is_at_end() and cursor.source[cursor.tokens[at].start] == "'":
        text = cursor.string("a user id")
    else:
        name = cursor.name_or_none()
        if name is None or name[1]:
            cursor.at = at
            raise cursor.missing(f"a user id after {after}")
        text = name[0]
    try:
        return checked_user_id(text)
    except KalamError as error:
        raise cursor.located(error, at) from None


def create_user(cursor: Cursor) -> c.CreateUser:
    """Read what follows CREATE USER."""
    name = user_id(cursor, "CREATE USER")
    password = oauth = masked = None
    has_with = cursor.accept("WITH")
    if has_with and cursor.accept("PASSWORD"):
        auth_type = AuthType.PASSWORD
        password, masked = _password(cursor)
    elif cursor.accept("OAUTH"):
        auth_type = AuthType.OAUTH
        if cursor.word() not in ("ROLE", "EMAIL") and not cursor.is_at_end():
            oauth = cursor.string("a quoted JSON object or ROLE after OAUTH")
            masked = cursor.tokens[cursor.at - 1]  # one that is refused may hold a secret
    elif cursor.accept("INTERNAL"):
        auth_type = AuthType.INTERNAL
    else:
        if has_with:
            cursor.at -= 1
        raise cursor.missing("WITH PASSWORD, OAUTH or INTERNAL")
    email = _email(cursor) if cursor.accept("EMAIL") else None
    if not cursor.accept("ROLE"):
        raise cursor.missing("ROLE")
    role = _role(cursor)
    if email is None and cursor.accept("EMAIL"):
        email = _email(cursor)
    cursor.end()
    return c.CreateUser(
        user_id=name,
        auth_type=auth_type,
        password=password,
        oauth=oauth,
        role=role,
        email=email,
        **cursor.place(masked=masked),
    )


def alter_user(cursor: Cursor) -> c.AlterUser:
    """Read what follows ALTER USER."""
    name = user_id(cursor, "ALTER USER")
    cursor.expect("SET")
    password = role = email = masked = None
    if cursor.accept("PASSWORD"):
        password, masked = _password(cursor)
    elif cursor.accept("ROLE"):
        role = _role(cursor)
    elif cursor.accept("EMAIL"):
        email = _email(cursor)
    else:
        found = f", not '{cursor.word()[:40]}'" if cursor.word() else ""
        raise cursor.missing(f"PASSWORD, ROLE or EMAIL after SET{found}")
    cursor.end()
    return c.AlterUser(
        user_id=name, password=password, role=role, email=email, **cursor.place(masked=masked)
    )


def drop_user(cursor: Cursor) -> c.DropUser:
    """Read what follows DROP USER."""
    if_exists = cursor.accept("IF", "EXISTS")
    name = user_id(cursor, "DROP USER")
    cursor.end()
    return c.DropUser(user_id=name, if_exists=if_exists, **cursor.place())


def _password(cursor: Cursor) -> tuple[str, Token]:
    return cursor.string("a quoted password after PASSWORD"), cursor.tokens[cursor.at - 1]


def _email(cursor: Cursor) -> str:
    return cursor.string("a quoted text after EMAIL")


def _role(cursor: Cursor) -> Role:
    at = cursor.at
    if cursor.is_at_end() or not (cursor.word()[:1].isalpha() or cursor.word() == ""):
        raise cursor.missing("a role after ROLE")
    cursor.at += 1
    try:
        return Role.parse(cursor.tokens[at].text[:40])
    except KalamError as error:
        raise cursor.located(error, at) from None
