"""BEGIN, COMMIT and ROLLBACK."""

from __future__ import annotations

from kalamdb_lab.errors import TransactionStateError
from kalamdb_lab.query.request import Request, TransactionControl
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.commands import Begin, Commit, Rollback
from kalamdb_lab.sql.statements import Statement


class TransactionHandler:
    """Begins and ends the transaction of the session that asks."""

    def begin(self, statement: Begin, request: Request) -> Result:
        """Run BEGIN: reads see this moment from now on."""
        _control(request).begin()
        return Result.of_message(statement.kind, "Transaction begun")

    def commit(self, statement: Commit, request: Request) -> Result:
        """Run COMMIT: all changes at once, or none and a conflict."""
        count = _control(request).commit(request.context)
        rows = "1 row" if count == 1 else f"{count:,} rows"
        return Result.of_message(statement.kind, f"Committed {rows}")

    def rollback(self, statement: Rollback, request: Request) -> Result:
        """Run ROLLBACK."""
        _control(request).rollback()
        return Result.of_message(statement.kind, "Rolled back")


_BY_NAME = frozenset(
    {
        "CREATE STORAGE",
        "ALTER STORAGE",
        "DROP STORAGE",
        "STORAGE CHECK",
        "STORAGE FLUSH",
        "STORAGE COMPACT",
        "ANALYZE",
        "VACUUM",
        "KILL JOB",
        "BACKUP",
        "RESTORE",
        "CREATE USER",
        "ALTER USER",
        "DROP USER",
    }
)
_DDL = frozenset(
    {
        "CREATE NAMESPACE",
        "ALTER NAMESPACE",
        "DROP NAMESPACE",
        "CREATE TABLE",
        "ALTER TABLE",
        "DROP TABLE",
        "CREATE VIEW",
        "DROP VIEW",
        "CREATE INDEX",
        "DROP INDEX",
        "REGISTER TABLE",
        "UNREGISTER TABLE",
    }
)


def refuse_in_transaction(statement: Statement, request: Request) -> None:
    """Raise `TransactionStateError` for what an open transaction cannot hold."""
    if request.transaction is None or not request.transaction.is_open:
        return
    if statement.kind in _DDL:
        raise TransactionStateError("DDL is not allowed inside a transaction")
    if statement.kind in _BY_NAME:
        raise TransactionStateError(f"{statement.kind} is not allowed inside a transaction")


def _control(request: Request) -> TransactionControl:
    assert request.transaction is not None, "only a session runs BEGIN, COMMIT and ROLLBACK"
    return request.transaction
