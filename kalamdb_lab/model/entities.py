"""Users, namespaces, storages and live queries as the system tables keep them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from kalamdb_lab.model.roles import Role

MASK = "***"
"""What stands where a secret is."""


class AuthType(enum.Enum):
    """How a user proves who it is."""

    PASSWORD = "password"
    OAUTH = "oauth"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class User:
    """One row of ``system.users``. Times are µs since 1970 in UTC."""

    user_id: str
    role: Role
    auth_type: AuthType
    created_at_us: int
    updated_at_us: int
    email: str | None = None
    auth_data: str | None = None
    storage_id: str | None = None
    last_login_at_us: int | None = None
    deleted_at_us: int | None = None
    password_hash: str | None = None

    def __repr__(self) -> str:
        # The hash must never reach a log or a traceback.
        return f"User({self.user_id!r}, {self.role.value})"


@dataclass(frozen=True, slots=True)
class Namespace:
    """One row of ``system.namespaces``."""

    name: str
    created_at_us: int
    created_by: str
    description: str | None = None
    table_count: int = 0


@dataclass(frozen=True, slots=True)
class StorageDef:
    """One row of ``system.storages``; an empty base directory is that of the database.

    ``credentials`` is the JSON text as it was given. Nothing shows it; like the rows, it lies in
    the files of the database for who can read these.
    """

    storage_id: str
    name: str
    storage_type: str
    base_directory: str
    shared_tables_template: str
    user_tables_template: str
    created_at_us: int
    updated_at_us: int
    description: str | None = None
    credentials: str | None = field(default=None, repr=False)
    config: str | None = None


@dataclass(frozen=True, slots=True)
class LiveQuery:
    """One row of ``system.live_queries``: an open subscription.

    Attributes
    ----------
    query : str
        With its filter.
    options : str
        A JSON object.
    changes : int
        Change events sent, initial rows not counted.
    """

    live_id: str
    user_id: str
    namespace: str
    table_name: str
    query: str
    node_id: str
    created_at_us: int
    options: str = "{}"
    changes: int = 0
    last_seq: int | None = None
    last_update_us: int | None = None
