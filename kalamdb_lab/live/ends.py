"""Why a live result ends."""

from __future__ import annotations

from typing import Final

from kalamdb_lab.errors import (
    ClosedError,
    KalamError,
    NotFoundError,
    PermissionDeniedError,
    UserDroppedError,
)

CLOSED: Final = "closed"
SESSION_ENDED: Final = "session ended"
DATABASE_CLOSED: Final = "database closed"
KILLED: Final = "killed"

SENTENCES: Final = {
    CLOSED: "The live result was closed",
    SESSION_ENDED: "The session was closed",
    DATABASE_CLOSED: "The database was closed",
    KILLED: "The live query was killed",
}


def why(error: KalamError) -> tuple[str, str]:
    """Return reason and sentence for an error in planning a query that could be planned before."""
    match error:
        case UserDroppedError():
            return "user dropped", str(error)
        case PermissionDeniedError():
            return "access revoked", str(error)
        case ClosedError():
            return SESSION_ENDED, str(error)
        case NotFoundError(kind="Table" | "View" | "Namespace" as kind, name=name):
            return "table dropped", f"{kind} {name} was dropped"
        case _:
            return "schema changed", str(error)
