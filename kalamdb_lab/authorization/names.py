"""Names that a role may not say: refused before anything is looked up, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from sqlglot import exp

from kalamdb_lab.authorization.gateway import (
    authorize_all_users,
    authorize_kind,
    authorize_namespace,
)
from kalamdb_lab.model.ids import SYSTEM_NAMESPACE
from kalamdb_lab.model.roles import Role
from kalamdb_lab.sql.statements import (
    AlterNamespace,
    CreateNamespace,
    DropNamespace,
    Statement,
    UseNamespace,
)

ALL_USERS = "all_users"
_NAMED_BY_NAMESPACE = (CreateNamespace, AlterNamespace, DropNamespace, UseNamespace)
"""What ``name`` is in these; elsewhere it is a column or the text that a storage is shown by."""


def authorize_statement(statement: Statement, role: Role) -> None:
    """Refuse what a role may not say, whether or not the things it names exist.

    Raises
    ------
    PermissionDeniedError
        For the kind of the statement first, then for a name in the system namespace, then for
        ``all_users``.
    """
    authorize_kind(statement.kind, role)
    if role >= Role.DBA:
        return
    text = statement.text.lower()
    if SYSTEM_NAMESPACE in text:
        for namespace in _namespaces(statement):
            authorize_namespace(namespace.lower(), role)
    if ALL_USERS in text and any(map(_reads_all_users, _trees(statement))):
        authorize_all_users(role)


def authorize_tree(tree: exp.Expression, role: Role) -> None:
    """Refuse what a role may not name in a query, whether or not it exists."""
    if role < Role.DBA:
        for namespace in _namespaces(tree):
            authorize_namespace(namespace.lower(), role)
        if _reads_all_users(tree):
            authorize_all_users(role)


def _reads_all_users(tree: exp.Expression) -> bool:
    return any(call.name.lower() == ALL_USERS for call in tree.find_all(exp.Anonymous))


def _trees(value: object) -> Iterator[exp.Expression]:
    if isinstance(value, exp.Expression):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _trees(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _trees(getattr(value, field.name))


def _namespaces(value: object) -> Iterator[str]:
    """Yield the namespaces that a statement names, in its trees too."""
    if isinstance(value, exp.Expression):
        for table in value.find_all(exp.Table):
            yield table.db
    elif isinstance(value, tuple):
        for item in value:
            yield from _namespaces(item)
    elif is_dataclass(value):
        for field in fields(value):
            held = getattr(value, field.name)
            if held is None:
                continue
            if field.name in ("table", "view"):
                yield from held[:-1]
            elif field.name == "namespace" or (
                field.name == "name" and isinstance(value, _NAMED_BY_NAMESPACE)
            ):
                yield held
            else:
                yield from _namespaces(held)
