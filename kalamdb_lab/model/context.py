"""Who runs a statement, where and when."""

from __future__ import annotations

from dataclasses import dataclass

from kalamdb_lab.model.ids import PartitionKey
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import TableDef


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """The facts of one statement; EXECUTE AS runs its inner statement in another one.

    Attributes
    ----------
    user_id : str
        The effective user: scope of USER and STREAM tables, CURRENT_USER().
    actor_id : str
        Who opened the session.
    request_id : str
        Of this statement; those of one session share what stands before the ``-`` and grow.
    origin : str
        The face it came through: "session", "ibis", "notebook" or "cli".
    now_us : int
        What NOW() shows during the whole statement, µs since 1970 in UTC.
    acts_for_other : bool
        True inside EXECUTE AS USER.
    """

    user_id: str
    actor_id: str
    role: Role
    namespace: str
    request_id: str
    origin: str
    now_us: int
    acts_for_other: bool = False

    def partition(self, table: TableDef) -> PartitionKey:
        """Return the partition of ``table`` that this context reads and writes."""
        return PartitionKey(table.table_key, self.user_id if table.kind.is_scoped else "")
