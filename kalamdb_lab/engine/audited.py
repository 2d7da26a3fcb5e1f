"""What leaves a row in ``system.audit_logs``, and what its target is: one table by statement."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

from sqlglot import exp

from kalamdb_lab.catalog.system_tables import JOBS, NAMESPACES, STORAGES, TABLES, USERS
from kalamdb_lab.model.ids import SYSTEM_NAMESPACE
from kalamdb_lab.sql import commands as c
from kalamdb_lab.sql import statements as s
from kalamdb_lab.store.log import EntryKind

EVERYTHING: Final = "*"
"""The target of what concerns no thing in particular."""


class When(enum.Enum):
    """When a statement of a class leaves a row; a refused one does in any case."""

    ALWAYS = "always"
    DML = "with the setting audit_dml"
    REFUSED = "refused"


def _no_specifics(_: Any) -> Mapping[str, object]:
    return {}


@dataclass(frozen=True, slots=True)
class Audited:
    """How one class of statements is audited.

    Attributes
    ----------
    target : callable
        Gives the target of a statement in a namespace.
    rides_on : frozenset of int or None
        The row is part of the commit that changes rows of a system table with one of these keys;
        of any commit that the statement makes if None. Where there is no such commit, it gets
        one of its own.
    specifics : callable
        What ``details`` say beyond the statement.
    names_user : bool
        True if the target is the user whom the statement concerns.
    """

    target: Callable[[Any, str], str]
    when: When = When.REFUSED
    rides_on: frozenset[int] | None = None
    specifics: Callable[[Any], Mapping[str, object]] = _no_specifics
    names_user: bool = False

    def carries(self, entries: list[tuple[int, EntryKind]]) -> bool:
        """Return whether a commit of these entries is the one that the row belongs to."""
        return self.rides_on is None or any(
            kind is EntryKind.ROWS and table_key in self.rides_on for table_key, kind in entries
        )


def action_of(statement: s.Statement) -> str:
    """Return what the column ``action`` says of a statement."""
    return statement.kind.replace(" ", "_")


def qualified(name: tuple[str, ...], namespace: str) -> str:
    """Return ``namespace.table``, also of names that no table can have."""
    return ".".join(name if len(name) > 1 else (namespace, *name)).lower()


# --- targets ------------------------------------------------------------------------------------


def _table(statement: Any, namespace: str) -> str:
    return EVERYTHING if statement.table is None else qualified(statement.table, namespace)


def _view(statement: Any, namespace: str) -> str:
    return qualified(statement.view, namespace)


def _dropped_index(statement: s.DropIndex, namespace: str) -> str:
    # DROP INDEX names no table; which it is may not be known, nor told.
    return qualified(statement.name or statement.table or (), namespace)


def _name(statement: Any, _: str) -> str:
    return str(statement.name)


def _namespace(statement: Any, _: str) -> str:
    return EVERYTHING if statement.namespace is None else str(statement.namespace)


def _user(statement: Any, _: str) -> str:
    return str(statement.user_id)


def _storage(statement: Any, _: str) -> str:
    return str(statement.storage_id)


def _job(statement: Any, _: str) -> str:
    return str(statement.job_id)


def _live(statement: Any, _: str) -> str:
    return str(statement.live_id)


def _everything(_: Any, __: str) -> str:
    return EVERYTHING


def _explained(statement: s.Explain, namespace: str) -> str:
    return AUDITED[type(statement.statement)].target(statement.statement, namespace)


def _query(statement: Any, namespace: str) -> str:
    return next((qualified(parts, namespace) for parts in _tables(statement)), EVERYTHING)


def closed_table(statement: s.Statement) -> str | None:
    """Return the first table of the system namespace that a statement names."""
    named = (qualified(parts, "") for parts in _tables(statement))
    return next((name for name in named if name.startswith(f"{SYSTEM_NAMESPACE}.")), None)


def _tables(value: object) -> Iterator[tuple[str, ...]]:
    if isinstance(value, exp.Expression):
        for table in value.find_all(exp.Table):
            if isinstance(table.this, exp.Identifier):
                yield tuple(part.name for part in table.parts)
        for call in value.find_all(exp.Anonymous):
            if call.name.lower() == "all_users" and call.expressions:
                yield tuple(call.expressions[0].name.split("."))
    elif isinstance(value, tuple):
        for item in value:
            yield from _tables(item)
    elif is_dataclass(value):
        for item in fields(value):
            yield from _tables(getattr(value, item.name))


# --- specifics ----------------------------------------------------------------------------------


def _alteration(statement: s.AlterTable) -> Mapping[str, object]:
    match statement.action:
        case s.AddColumn(column):
            return {"change": "ADD COLUMN", "column": column.name}
        case s.DropColumn(name):
            return {"change": "DROP COLUMN", "column": name}
        case s.RenameColumn(name, new_name):
            return {"change": "RENAME COLUMN", "column": name, "to": new_name}
        case s.ModifyColumn(column):
            return {"change": "MODIFY COLUMN", "column": column.name}
        case s.SetAccessLevel(level):
            return {"change": "ACCESS_LEVEL", "to": level.lower()}
        case s.EmbedColumn(name, source, function):
            change = {"change": "EMBED", "column": name, "source": source, "function": function}
            return change | ({"replace": True} if statement.action.replace else {})


def _index(statement: s.CreateIndex | s.DropIndex) -> Mapping[str, object]:
    column = statement.indexed_column
    return {} if column is None else {"column": column}


def _user_change(statement: c.AlterUser) -> Mapping[str, object]:
    if statement.role is not None:
        return {"change": "ROLE", "to": statement.role.value}
    return {"change": "PASSWORD" if statement.password is not None else "EMAIL"}


def _user_storage(statement: c.SetUserStorage) -> Mapping[str, object]:
    return {"change": "STORAGE", "to": statement.storage_id}


def _user_made(statement: c.CreateUser) -> Mapping[str, object]:
    return {"user_role": statement.role.value, "auth_type": statement.auth_type.value}


def _inner(statement: s.ExecuteAs) -> Mapping[str, object]:
    return {"action": action_of(statement.statement)}


_DEFINITIONS: Final = frozenset(table.table_key for table in (USERS, NAMESPACES, STORAGES, TABLES))
_KILLED: Final = frozenset({JOBS.table_key})
_ALWAYS, _DML = When.ALWAYS, When.DML

AUDITED: Final[dict[type[s.Statement], Audited]] = {
    s.CreateNamespace: Audited(_name, _ALWAYS, _DEFINITIONS),
    s.AlterNamespace: Audited(_name, _ALWAYS, _DEFINITIONS),
    s.DropNamespace: Audited(_name, _ALWAYS, _DEFINITIONS),
    s.CreateTable: Audited(_table, _ALWAYS, _DEFINITIONS),
    s.AlterTable: Audited(_table, _ALWAYS, _DEFINITIONS, _alteration),
    s.DropTable: Audited(_table, _ALWAYS, _DEFINITIONS),
    s.CreateView: Audited(_view, _ALWAYS, _DEFINITIONS),
    s.DropView: Audited(_view, _ALWAYS, _DEFINITIONS),
    s.CreateIndex: Audited(_table, _ALWAYS, _DEFINITIONS, _index),
    s.DropIndex: Audited(_dropped_index, _ALWAYS, _DEFINITIONS, _index),
    c.RegisterTable: Audited(_table, _ALWAYS, _DEFINITIONS),
    c.UnregisterTable: Audited(_table, _ALWAYS, _DEFINITIONS),
    c.CreateStorage: Audited(_storage, _ALWAYS, _DEFINITIONS),
    c.AlterStorage: Audited(_storage, _ALWAYS, _DEFINITIONS),
    c.DropStorage: Audited(_storage, _ALWAYS, _DEFINITIONS),
    c.CheckStorage: Audited(_storage, _ALWAYS),
    c.CreateUser: Audited(_user, _ALWAYS, _DEFINITIONS, _user_made, names_user=True),
    c.AlterUser: Audited(_user, _ALWAYS, _DEFINITIONS, _user_change, names_user=True),
    c.SetUserStorage: Audited(_user, _ALWAYS, _DEFINITIONS, _user_storage, names_user=True),
    c.DropUser: Audited(_user, _ALWAYS, _DEFINITIONS, names_user=True),
    c.FlushTable: Audited(_table, _ALWAYS, frozenset()),
    c.FlushAll: Audited(_namespace, _ALWAYS, frozenset()),
    c.CompactTable: Audited(_table, _ALWAYS, frozenset()),
    c.CompactAll: Audited(_namespace, _ALWAYS, frozenset()),
    c.Vacuum: Audited(_table, _ALWAYS, frozenset()),
    c.Analyze: Audited(_table, _ALWAYS, frozenset()),
    c.BackupDatabase: Audited(_namespace, _ALWAYS, frozenset()),
    c.RestoreDatabase: Audited(_namespace, _ALWAYS, _DEFINITIONS),
    c.KillJob: Audited(_job, _ALWAYS, _KILLED),
    c.KillLiveQuery: Audited(_live, _ALWAYS),
    s.ExecuteAs: Audited(_user, _ALWAYS, specifics=_inner, names_user=True),
    s.Insert: Audited(_table, _DML),
    s.Update: Audited(_table, _DML),
    s.Delete: Audited(_table, _DML),
    s.Select: Audited(_query),
    s.Explain: Audited(_explained),
    s.UseNamespace: Audited(_name),
    c.Describe: Audited(_table),
    c.ShowNamespaces: Audited(_everything),
    c.ShowTables: Audited(_namespace),
    c.ShowStorages: Audited(_everything),
    c.ShowStats: Audited(_table),
    c.ShowManifest: Audited(_table),
    c.ShowUsers: Audited(_everything),
    c.ShowJobs: Audited(_everything),
    c.ShowLiveQueries: Audited(_everything),
    c.ShowBackups: Audited(_namespace),
    c.Subscribe: Audited(_table),
    c.Begin: Audited(_everything),
    c.Commit: Audited(_everything),
    c.Rollback: Audited(_everything),
}
"""Every class of statements; a test holds it together with the handlers and the gateway."""
