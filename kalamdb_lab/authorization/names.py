"""Names of the system namespace: refused before anything is looked up, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from sqlglot import exp

from kalamdb_lab.authorization.gateway import authorize_kind, authorize_namespace
from kalamdb_lab.model.ids import SYSTEM_NAMESPACE
from kalamdb_lab.model.roles import Role
from kalamdb_lab.sql.statements import Statement


def authorize_statement(statement: Statement, role: Role) -> None:
    """Refuse what a role may not say, whether or not the things it names exist.

    Raises
    ------
    PermissionDeniedError
        For the kind of the statement first, then for a name in the system namespace.
    """
    authorize_kind(statement.kind, role)
    if role >= Role.DBA or SYSTEM_NAMESPACE not in statement.text.lower():
        return
    for namespace in _namespaces(statement):
        authorize_namespace(namespace.lower(), role)


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
            if field.name in ("table", "view"):
                yield from held[:-1]
            elif field.name in ("name", "namespace") and isinstance(held, str):
                yield held
            else:
                yield from _namespaces(held)
