"""One table of statement kind and role, checked before any handler, and the rules per object.

A refusal for lack of role comes before any lookup, so it says the same whether the thing exists
or not.
"""

from __future__ import annotations

import enum

from kalamdb_lab.errors import PermissionDeniedError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.ids import INFORMATION_SCHEMA, SYSTEM_NAMESPACE
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import AccessLevel, TableDef, TableKind


class Needs(enum.Enum):
    """What a kind of statement asks of the role."""

    NOTHING = "nothing"
    DDL = "ddl"
    MAINTENANCE = "maintenance"
    ADMINISTRATION = "administration"
    USERS = "users"


KIND_NEEDS: dict[str, Needs] = {
    "SELECT": Needs.NOTHING,
    "INSERT": Needs.NOTHING,
    "UPDATE": Needs.NOTHING,
    "DELETE": Needs.NOTHING,
    "EXPLAIN": Needs.NOTHING,
    "EXECUTE AS": Needs.NOTHING,
    "USE": Needs.NOTHING,
    "DESCRIBE": Needs.NOTHING,
    "SHOW NAMESPACES": Needs.NOTHING,
    "SHOW TABLES": Needs.NOTHING,
    "SHOW STORAGES": Needs.NOTHING,
    "SHOW STATS": Needs.NOTHING,
    "SHOW MANIFEST": Needs.NOTHING,
    "BEGIN": Needs.NOTHING,
    "COMMIT": Needs.NOTHING,
    "ROLLBACK": Needs.NOTHING,
    "SUBSCRIBE": Needs.NOTHING,
    "SHOW LIVE QUERIES": Needs.NOTHING,
    "KILL LIVE QUERY": Needs.NOTHING,
    "CREATE NAMESPACE": Needs.DDL,
    "ALTER NAMESPACE": Needs.DDL,
    "DROP NAMESPACE": Needs.DDL,
    "CREATE TABLE": Needs.DDL,
    "ALTER TABLE": Needs.DDL,
    "DROP TABLE": Needs.DDL,
    "CREATE VIEW": Needs.DDL,
    "DROP VIEW": Needs.DDL,
    "CREATE INDEX": Needs.DDL,
    "DROP INDEX": Needs.DDL,
    "CREATE STORAGE": Needs.DDL,
    "ALTER STORAGE": Needs.DDL,
    "DROP STORAGE": Needs.DDL,
    "REGISTER TABLE": Needs.DDL,
    "UNREGISTER TABLE": Needs.DDL,
    "STORAGE FLUSH": Needs.MAINTENANCE,
    "STORAGE COMPACT": Needs.MAINTENANCE,
    "ANALYZE": Needs.MAINTENANCE,
    "SHOW JOBS": Needs.MAINTENANCE,
    "STORAGE CHECK": Needs.ADMINISTRATION,
    "VACUUM": Needs.ADMINISTRATION,
    "KILL JOB": Needs.ADMINISTRATION,
    "BACKUP": Needs.ADMINISTRATION,
    "RESTORE": Needs.ADMINISTRATION,
    "SHOW BACKUPS": Needs.ADMINISTRATION,
    "SHOW USERS": Needs.ADMINISTRATION,
    "CREATE USER": Needs.USERS,
    "ALTER USER": Needs.USERS,
    "DROP USER": Needs.USERS,
}
"""Every kind of statement that has a handler; a test holds the two together."""

_LOWEST: dict[Needs, Role] = {
    Needs.NOTHING: Role.USER,
    Needs.DDL: Role.DBA,
    Needs.MAINTENANCE: Role.SERVICE,
    Needs.ADMINISTRATION: Role.DBA,
    Needs.USERS: Role.SYSTEM,
}

_MAY_ACT_AS: dict[Role, frozenset[Role]] = {
    Role.USER: frozenset(),
    Role.SERVICE: frozenset({Role.USER, Role.SERVICE}),
    Role.DBA: frozenset({Role.USER, Role.SERVICE, Role.DBA}),
    Role.SYSTEM: frozenset(Role),
}


def authorize_kind(kind: str, role: Role) -> None:
    """Refuse a statement whose kind the role may not use.

    Raises
    ------
    PermissionDeniedError
        With the words of the kind; before any name is looked up.
    """
    needs = KIND_NEEDS[kind]
    if role >= _LOWEST[needs]:
        return
    match needs:
        case Needs.DDL:
            message = f"Role '{role.value}' cannot execute DDL statements; it needs dba or system"
        case Needs.MAINTENANCE:
            message = f"Role '{role.value}' cannot execute {kind}; it needs service, dba or system"
        case Needs.USERS:
            message = "Only 'system' role can manage users"
        case _:
            message = f"Role '{role.value}' cannot execute {kind}; it needs dba or system"
    raise PermissionDeniedError(message)


def authorize_namespace(namespace: str, role: Role) -> None:
    """Refuse the system namespace to user and service, in every kind of statement."""
    if namespace == SYSTEM_NAMESPACE and role < Role.DBA:
        raise PermissionDeniedError("Only 'dba' and 'system' roles can access system namespace")


def may_read(table: TableDef, role: Role) -> bool:
    """Return whether a role may read a table (of its own scope, where it has scopes)."""
    if table.kind is TableKind.SYSTEM:
        return role >= Role.DBA or table.table_id.namespace == INFORMATION_SCHEMA
    if table.kind is TableKind.SHARED:
        return role >= Role.SERVICE or table.options.access_level is AccessLevel.PUBLIC
    return True


def authorize_read(table: TableDef, context: ExecutionContext) -> None:
    """Refuse reading a closed SHARED table, and any SHARED table inside EXECUTE AS."""
    _refuse_shared_in_execute_as(table, context)
    if not may_read(table, context.role):
        authorize_namespace(table.table_id.namespace, context.role)
        raise PermissionDeniedError(
            f"Permission denied: role '{context.role.value}' may not read {table.table_id}",
            target=str(table.table_id),
        )


def authorize_write(table: TableDef, context: ExecutionContext) -> None:
    """Refuse writing a SHARED table to role user, and any SHARED table inside EXECUTE AS."""
    _refuse_shared_in_execute_as(table, context)
    if table.kind is TableKind.SHARED and context.role < Role.SERVICE:
        raise PermissionDeniedError(
            f"Permission denied: role '{context.role.value}' may not write {table.table_id}",
            target=str(table.table_id),
        )


def authorize_all_users(role: Role) -> None:
    """Refuse reading all scopes of a table to user and service."""
    if role < Role.DBA:
        raise PermissionDeniedError("Permission denied: all_users() needs role dba or system")


def authorize_execute_as(actor_id: str, role: Role, target_id: str, target_role: Role) -> None:
    """Refuse acting as a user whose role is out of reach; everybody may name itself."""
    if actor_id != target_id and target_role not in _MAY_ACT_AS[role]:
        raise PermissionDeniedError(
            f"Permission denied: '{actor_id}' may not execute as user '{target_id}'"
        )


def _refuse_shared_in_execute_as(table: TableDef, context: ExecutionContext) -> None:
    if context.acts_for_other and table.kind is TableKind.SHARED:
        raise PermissionDeniedError(
            "EXECUTE AS USER works on USER and STREAM tables only; "
            f"{table.table_id} is a SHARED table",
            target=str(table.table_id),
        )
