"""What runs a statement is told beside it: who, with which values, and how to be stopped."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from kalamdb_lab.errors import InvalidDefinitionError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.ids import checked_column_name
from kalamdb_lab.query.duck import PythonFunction
from kalamdb_lab.query.vector_scans import Search
from kalamdb_lab.tables.definition import refuse_repeated_names
from kalamdb_lab.tables.embedding import NO_FUNCTIONS, Embedder


class TransactionControl(Protocol):
    """Begins and ends the transaction of a session."""

    @property
    def is_open(self) -> bool:
        """True between BEGIN and COMMIT or ROLLBACK."""
        ...

    def begin(self) -> None:
        """Take the snapshot."""
        ...

    def commit(self, context: ExecutionContext) -> int:
        """Publish all changes at once; return how many rows changed."""
        ...

    def rollback(self) -> None:
        """Forget all changes."""
        ...


class Interruption:
    """Lets another thread stop the statement that runs now, and see how far it is.

    Attributes
    ----------
    is_watched : bool
        True if somebody asks for `progress`: only then does the engine keep count.
    """

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None
        self._progress: Callable[[], float | None] | None = None
        self.is_watched = False

    def running(
        self,
        stop: Callable[[], None] | None,
        progress: Callable[[], float | None] | None = None,
    ) -> None:
        """Say how to stop what runs now, and how far it is; None when nothing does."""
        self._stop = stop
        self._progress = progress

    def progress(self) -> float | None:
        """Return the share of what runs now that is done, 0 to 1, where it is known."""
        progress = self._progress
        return None if progress is None else progress()

    def interrupt(self) -> None:
        """Stop what runs now, if anything does."""
        stop = self._stop
        if stop is not None:
            stop()


class LocalRelations(MutableMapping[str, pa.Table]):
    """Arrow tables that only one session sees, by name.

    Parameters
    ----------
    tables, functions : mapping, optional
        What is in it from the start.

    Attributes
    ----------
    functions : dict of str to PythonFunction
        Functions by name that only this session may call.
    """

    def __init__(
        self,
        tables: Mapping[str, pa.Table] | None = None,
        functions: Mapping[str, PythonFunction] | None = None,
    ) -> None:
        self._tables: dict[str, pa.Table] = dict(tables or {})
        self.functions: dict[str, PythonFunction] = dict(functions or {})

    @property
    def identity(self) -> Hashable:
        """Equal for equal names with equal schemas: what a plan depends on."""
        tables = tuple((name, hash(table.schema)) for name, table in self._tables.items())
        return tables, tuple(self.functions.values())

    def __getitem__(self, name: str) -> pa.Table:
        return self._tables[name]

    def __setitem__(self, name: str, table: pa.Table) -> None:
        """Keep a table under a name.

        Raises
        ------
        InvalidDefinitionError, InvalidNameError
            Its columns could not be told apart, or from those of the system.
        """
        _check_columns(table.schema.names)
        self._tables[name] = table

    def __delitem__(self, name: str) -> None:
        del self._tables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


def _check_columns(names: Sequence[str]) -> None:
    if not names:
        raise InvalidDefinitionError("A table needs at least one column")
    refuse_repeated_names(names)
    for name in names:
        checked_column_name(name[:100], quoted=True)  # a result may have a longer name


@dataclass(frozen=True, slots=True)
class Request:
    """One statement's surroundings.

    Attributes
    ----------
    params : tuple
        Values of the placeholders, in order.
    use : callable
        Changes the session's namespace.
    row_limit : int or None
        How many rows of a query are wanted; the others are only counted.
    transaction : TransactionControl or None
        The session's; None where no session is.
    all_users : list of str
        The tables of which rows of all users are read; filled when that begins.
    searches : list of Search
        What the vector searches of the statement did; filled when they are done.
    embedder : Embedder
        The embedding functions that the session may use.
    """

    context: ExecutionContext
    params: tuple[Any, ...] = ()
    local: LocalRelations = field(default_factory=LocalRelations)
    interruption: Interruption = field(default_factory=Interruption)
    use: Callable[[str], None] = lambda _: None
    row_limit: int | None = None
    transaction: TransactionControl | None = None
    all_users: list[str] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    embedder: Embedder = NO_FUNCTIONS

    def with_relations(self, relations: Mapping[str, pa.Table]) -> Request:
        """Return the same request with further relations that only it sees."""
        if not relations:
            return self
        local = LocalRelations(self.local, self.local.functions)
        local.update(relations)
        return replace(self, local=local)

    def with_written(self, relations: Mapping[str, pa.Table]) -> Request:
        """Return the same request with rows of the statement itself, system columns and all."""
        return replace(
            self, local=LocalRelations({**self.local, **relations}, self.local.functions)
        )

    def without_relations(self) -> Request:
        """Return the same request without the session's own relations."""
        return replace(self, local=LocalRelations())

    def within(self, context: ExecutionContext) -> Request:
        """Return the same request in another context, as EXECUTE AS needs it."""
        return replace(self, context=context)
