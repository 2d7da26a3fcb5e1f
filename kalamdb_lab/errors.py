"""Every error that KalamDB Lab raises on purpose.

A class stands for one thing that a caller can do about it, and its ``code`` is stable: match on
it, not on the sentence. The sentence names the thing, says what is wrong and then the way out;
it never quotes a value of another row, another user, or a path of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Self

QUOTED_TEXT_LIMIT = 40
"""A literal or parameter is quoted in an error up to this many characters."""

MESSAGE_LIMIT = 700
"""Every message is shorter, whatever names it tells."""

_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class KalamError(Exception):
    """Base class of all errors raised on purpose.

    Attributes
    ----------
    code : str
        Stable name of the fault, in capitals.
    statement_number : int or None
        1-based number of the statement in its script, when the fault has one.
    line, column : int or None
        1-based position in the text that was given.
    """

    code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(self.message)
        self.statement_number: int | None = None
        self.line: int | None = None
        self.column: int | None = None

    @property
    def message(self) -> str:
        """The sentence: one line, cut in its middle where a name makes it too long."""
        return self._message

    @message.setter
    def message(self, text: str) -> None:
        text = _BREAKS.sub(" ", text)
        self._message = text if len(text) < MESSAGE_LIMIT else f"{text[:420]}...{text[-260:]}"

    def __str__(self) -> str:
        return self.message

    def at(self, line: int | None, column: int | None) -> Self:
        """Note the place in the text, unless a more exact one is known already."""
        if self.line is None:
            self.line, self.column = line, column
        return self


class SqlSyntaxError(KalamError):
    """The text is not a statement of the language."""

    code = "SYNTAX"


class EmptyStatementError(KalamError):
    """The text holds no statement."""

    code = "EMPTY_STATEMENT"

    def __init__(self) -> None:
        super().__init__("Empty statement: there is no SQL to run")

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return (type(self), ())


class TooLargeError(KalamError):
    """The text is longer or nests deeper than the language allows."""

    code = "TOO_LARGE"


class NotSupportedError(KalamError):
    """The statement is known and refused by design, or not built yet."""

    code = "NOT_SUPPORTED"


class NotAllowedError(KalamError):
    """A function or table function that is off the allow-list."""

    code = "NOT_ALLOWED"


class PermissionDeniedError(KalamError, PermissionError):
    """The role of the caller does not allow the statement.

    Attributes
    ----------
    target : str or None
        The thing that was asked for, ``ns.table`` say, where the refusal concerns one.
    """

    code = "PERMISSION_DENIED"

    def __init__(self, message: str, *, target: str | None = None) -> None:
        super().__init__(message)
        self.target = target


class NotFoundError(KalamError, LookupError):
    """A named thing does not exist, or the caller may not see it."""

    code = "NOT_FOUND"

    def __init__(
        self, kind: str, name: str, *, within: str | None = None, nearby: Iterable[str] = ()
    ) -> None:
        self.kind, self.name, self.within, self.nearby = kind, name, within, tuple(nearby)
        where = f" in {within}" if within else ""
        hint = f"; did you mean {' or '.join(repr(near) for near in self.nearby)}?"
        super().__init__(f"{kind} '{name}' not found{where}{hint if self.nearby else ''}")

    def __reduce__(self) -> tuple[object, ...]:
        own = (self.kind, self.name, self.within, self.nearby)
        return (_not_found, own, {"message": self.message})


def _not_found(kind: str, name: str, within: str | None, nearby: tuple[str, ...]) -> NotFoundError:
    return NotFoundError(kind, name, within=within, nearby=nearby)


class BackupNotFoundError(NotFoundError):
    """A directory that holds no backup, or none that was finished."""

    def __init__(self, directory: str) -> None:
        super().__init__("Backup", directory)
        self.message = f"Backup not found at '{directory}'"

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.name,))


class EmbeddingFunctionMissingError(NotFoundError):
    """A column is filled by an embedding function that was not registered since the opening."""

    def __init__(self, table: str, column: str, function: str) -> None:
        super().__init__("Embedding function", function, within=table)
        self.filled = column
        self.message = (
            f"Column '{column}' of {table} is filled by the embedding function '{function}', "
            "which is not registered; call db.embed(...) or give a vector"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.within, self.filled, self.name))


class AlreadyExistsError(KalamError):
    """A name is taken."""

    code = "ALREADY_EXISTS"

    def __init__(self, kind: str, name: str, *, within: str | None = None) -> None:
        self.kind, self.name, self.within = kind, name, within
        where = f" in {within}" if within else ""
        super().__init__(f"{kind} '{name}' already exists{where}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_already_exists, (self.kind, self.name, self.within))


def _already_exists(kind: str, name: str, within: str | None) -> AlreadyExistsError:
    return AlreadyExistsError(kind, name, within=within)


class InvalidNameError(KalamError, ValueError):
    """A name breaks the rules for names."""

    code = "INVALID_NAME"


class InvalidOptionError(KalamError, ValueError):
    """An option is unknown, doubled, out of range or does not go with the rest."""

    code = "INVALID_OPTION"


class InvalidDefinitionError(KalamError, ValueError):
    """A definition (table, column, view, type) cannot hold."""

    code = "INVALID_DEFINITION"


class TypeMismatchError(KalamError, TypeError):
    """A value is not of the type that the place asks for."""

    code = "TYPE_MISMATCH"


class ValueOutOfRangeError(KalamError, OverflowError):
    """A number does not fit its type."""

    code = "OUT_OF_RANGE"


class InvalidValueError(KalamError, ValueError):
    """A value has the right type and a wrong content (a date, a UUID, a JSON text)."""

    code = "INVALID_VALUE"


class DimensionMismatchError(KalamError, ValueError):
    """A vector has another dimension than its column."""

    code = "DIMENSION_MISMATCH"


class DivisionByZeroError(KalamError, ZeroDivisionError):
    """An expression divides by zero."""

    code = "DIVISION_BY_ZERO"


class NotNullError(KalamError):
    """NULL was given to a column that does not take it."""

    code = "NOT_NULL"


class DuplicateKeyError(KalamError):
    """A primary key is taken in its partition, or stands twice in one statement."""

    code = "DUPLICATE_KEY"


class MissingWhereError(KalamError):
    """UPDATE or DELETE without WHERE."""

    code = "MISSING_WHERE"


class ReadOnlyError(KalamError):
    """The thing cannot be written: a view, a system table, a system column, a directory."""

    code = "READ_ONLY"


class AmbiguousError(KalamError):
    """A column name fits several relations."""

    code = "AMBIGUOUS"


class GroupingError(KalamError):
    """A column is neither grouped nor aggregated."""

    code = "GROUPING"


class ParametersError(KalamError, ValueError):
    """Parameters and placeholders do not fit each other or the statement."""

    code = "PARAMETERS"


class TransactionStateError(KalamError):
    """The statement does not go with the session's transaction."""

    code = "TRANSACTION_STATE"


class ConflictError(KalamError):
    """Somebody else changed the same thing first."""

    code = "CONFLICT"


class BusyError(KalamError, TimeoutError):
    """The write lock was not free in time."""

    code = "BUSY"

    def __init__(self) -> None:
        super().__init__("The database is busy; try again")

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return (type(self), ())


class JobRunningError(KalamError):
    """A job that would do the same is not at its end yet."""

    code = "JOB_RUNNING"

    def __init__(self, job_id: str, status: str, created_ms: int) -> None:
        self.job_id, self.status, self.created_ms = job_id, status, created_ms
        super().__init__(
            f"Job already running: {job_id} (status: {status.capitalize()}, created: {created_ms})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.job_id, self.status, self.created_ms))


class JobStateError(KalamError):
    """What was asked does not go with where the job stands, or with paused jobs."""

    code = "JOB_STATE"


class JobTimeoutError(JobStateError, TimeoutError):
    """The job was not over in the time that was given; it goes on."""


class InUseError(KalamError):
    """The thing is used by another and cannot go."""

    code = "IN_USE"


class NotEmptyError(KalamError):
    """The namespace still holds tables or views."""

    code = "NOT_EMPTY"


class UserDroppedError(KalamError, PermissionError):
    """The user of the session was dropped."""

    code = "USER_DROPPED"


class LoginFailedError(KalamError, PermissionError):
    """The user or the password is wrong."""

    code = "LOGIN_FAILED"


class PasswordNeededError(LoginFailedError):
    """The database asks for a password and none was given."""


class LimitError(KalamError):
    """A result or a value grew beyond its bound."""

    code = "LIMIT"


class InterruptedStatementError(KalamError):
    """The statement was interrupted; nothing was changed."""

    code = "INTERRUPTED"

    def __init__(self) -> None:
        super().__init__("Interrupted; nothing was changed")

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return (type(self), ())


class StorageError(KalamError, OSError):
    """The disk or the directory cannot be used: missing, full, read-only, not a database."""

    code = "STORAGE"


class CorruptError(KalamError):
    """A file of the database is damaged."""

    code = "CORRUPT"


class ClosedError(KalamError):
    """The database or the session was closed."""

    code = "CLOSED"


class InternalError(KalamError):
    """A fault of ours; the number finds the details in the log."""

    code = "INTERNAL"
