"""The four roles and their order."""

from __future__ import annotations

import enum
from functools import total_ordering

from kalamdb_lab.errors import InvalidOptionError

_ALIASES = {
    "user": "user",
    "viewer": "user",
    "readonly": "user",
    "service": "service",
    "developer": "service",
    "analyst": "service",
    "dba": "dba",
    "admin": "dba",
    "system": "system",
}


@total_ordering
class Role(enum.Enum):
    """``user < service < dba < system``."""

    USER = "user"
    SERVICE = "service"
    DBA = "dba"
    SYSTEM = "system"

    @property
    def rank(self) -> int:
        return _RANKS[self]

    def __lt__(self, other: Role) -> bool:
        return self.rank < other.rank

    @classmethod
    def parse(cls, text: str) -> Role:
        """Return the role of a name or alias, in any case."""
        name = _ALIASES.get(text.lower())
        if name is None:
            raise InvalidOptionError(f"Unknown role '{text}'; use user, service, dba or system")
        return cls(name)


_RANKS = {Role.USER: 0, Role.SERVICE: 1, Role.DBA: 2, Role.SYSTEM: 3}
