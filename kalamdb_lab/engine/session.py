"""A session: one user, one namespace, and the relations that only it sees."""

from __future__ import annotations

import itertools
import threading
import uuid
import weakref
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kalamdb_lab.authorization.gateway import authorize_namespace
from kalamdb_lab.engine.embedding_session import EmbeddingSession
from kalamdb_lab.engine.hybrid_session import HybridSession
from kalamdb_lab.engine.live_results import LiveResultSession
from kalamdb_lab.engine.nearest_session import NearestSession
from kalamdb_lab.engine.pipeline import Pipeline, listed
from kalamdb_lab.engine.tree_session import TreeSession
from kalamdb_lab.errors import ClosedError, NotFoundError, UserDroppedError
from kalamdb_lab.model.context import ExecutionContext
from kalamdb_lab.model.ids import INFORMATION_SCHEMA, SYSTEM_NAMESPACE, checked_user_id
from kalamdb_lab.model.roles import Role
from kalamdb_lab.model.tables import TableDef
from kalamdb_lab.query.request import Interruption, LocalRelations, Request
from kalamdb_lab.query.result import Result
from kalamdb_lab.sql.commands import SetUserStorage
from kalamdb_lab.tables.embedding import EmbeddingFunctions

if TYPE_CHECKING:
    import pyarrow as pa

    from kalamdb_lab.catalog.catalog import Catalog
    from kalamdb_lab.engine.app_context import AppContext


class Session(TreeSession, EmbeddingSession, LiveResultSession, NearestSession, HybridSession):
    """Runs statements as one user. Made by `Database.session`.

    Statements of one session run one after the other; sessions run beside each other. The role
    of the user is read at every statement.

    Attributes
    ----------
    user : str
        The user id.
    namespace : str
        Where unqualified table names are looked up.
    relations : LocalRelations
        Arrow tables by name that only this session sees; they hide tables of the same name.
    origin : str
        The face that statements come through, as the audit trail shows it.
    """

    def __init__(
        self,
        context: AppContext,
        user: str,
        namespace: str,
        *,
        origin: str = "session",
        functions: EmbeddingFunctions | None = None,
    ) -> None:
        self._context = context
        self._functions = functions or EmbeddingFunctions(context.embedding_functions)
        self._transaction = context.transaction()
        self._pipeline = Pipeline(context, self._transaction)
        self._lock = threading.RLock()
        self._interruption = Interruption()
        self._closed = False
        self._forgets: weakref.finalize[Any, Any] | None = None
        self._live_results = weakref.WeakSet()
        self.session_id = uuid.uuid4().hex[:12]
        self.origin = origin
        self._statements = itertools.count(1)
        self.user = checked_user_id(user)
        self.relations = LocalRelations()
        role = living_role(context.catalog, self.user, must_exist=True)
        self.namespace = namespace.lower()
        authorize_namespace(self.namespace, role)
        if self.namespace not in (SYSTEM_NAMESPACE, INFORMATION_SCHEMA):
            context.catalog.namespace(self.namespace)
        context.sessions.add(self)

    # --- statements -----------------------------------------------------------------------------

    def execute(
        self,
        sql: str,
        params: Sequence[object] | None = None,
        *,
        as_user: str | None = None,
        row_limit: int | None = None,
        relations: Mapping[str, pa.Table] | None = None,
    ) -> Result:
        """Run SQL and return the result of its last statement.

        Parameters
        ----------
        sql : str
            One statement, or several separated by ``;`` (then without parameters).
        params : sequence, optional
            Values for ``?`` in order, or for ``$1``, ``$2`` by number.
        as_user : str, optional
            Run it as ``EXECUTE AS USER`` would, with the same rules.
        row_limit : int, optional
            Compute at most so many rows of a query, and count the others:
            ``Result.total_rows`` is how many there are.
        relations : mapping, optional
            Further Arrow tables by name, for this call only. They hide tables of the same name;
            one called ``local.name`` is named like that.

        Raises
        ------
        KalamError
            With ``code``, ``statement_number``, ``line`` and ``column``. What statements before
            the failing one did, stays.
        """
        return self.execute_script(
            sql, params, as_user=as_user, row_limit=row_limit, relations=relations
        )[-1]

    def execute_script(
        self,
        sql: str,
        params: Sequence[object] | None = None,
        *,
        as_user: str | None = None,
        row_limit: int | None = None,
        relations: Mapping[str, pa.Table] | None = None,
    ) -> list[Result]:
        """Run SQL and return the results of all its statements, in order."""
        request_for = partial(self._request, row_limit=row_limit, relations=relations)
        with self._lock:
            return self._pipeline.run_text(sql, listed(params), request_for, as_user)

    def insert(self, table: str, rows: object) -> Result:
        """Insert many rows at once.

        Parameters
        ----------
        table : str
            ``table`` or ``namespace.table``.
        rows : DataFrame, pyarrow.Table, RecordBatch, RecordBatchReader, dict or list of dict
            Columns are matched by name, without regard to case; columns left out take their
            default, the vector of their embedding function, or NULL. So does a key that one of
            several dicts does not have; a key with None is NULL.

        Returns
        -------
        Result
            With ``rows_affected``. All rows are durable when this returns, or none is there.
        """
        with self._lock:
            return self._pipeline.insert_rows(table, rows, self._request)

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """Run the statements of a ``with`` block as one transaction.

        COMMIT at its end, ROLLBACK if it raises. Reads see the moment at which the block began
        and what it wrote itself.

        Raises
        ------
        TransactionStateError
            If a transaction is open already.
        ConflictError
            At the end, if others changed what the block changed; nothing of it stays.
        """
        self.execute("BEGIN")
        try:
            yield self
            self.execute("COMMIT")
        finally:
            self._transaction.close()

    @property
    def in_transaction(self) -> bool:
        """True between BEGIN and COMMIT or ROLLBACK."""
        return self._transaction.is_open

    def set_user_storage(self, user_id: str, storage_id: str | None) -> Result:
        """Let new segments of a user's rows go to a storage of its own.

        It holds in tables with USE_USER_STORAGE; what was flushed before stays where it lies.
        Role system only.

        Parameters
        ----------
        storage_id : str or None
            None for the storage of each table again.
        """
        statement = SetUserStorage(
            text="",
            line=1,
            column=1,
            user_id=user_id,
            storage_id=None if storage_id is None else storage_id.lower(),
        )
        with self._lock:
            return self._pipeline.run_statement(statement, self._request)

    def definition(self, table: str | tuple[str, ...]) -> TableDef:
        """Return the definition of a table or view that this user may know of."""
        parts = tuple(table.split(".")) if isinstance(table, str) else table
        return self._pipeline.definition(parts, self._request())

    def definitions(self, namespace: str | None = None) -> list[TableDef]:
        """Return the tables and views of a namespace (the session's by default), by name."""
        return self._pipeline.definitions(namespace or self.namespace, self._request())

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces that this user may use, in order."""
        return self._pipeline.namespaces(self._request())

    def interrupt(self) -> None:
        """Stop the statement that runs in another thread; it raises and changes nothing."""
        self._interruption.interrupt()

    def follow_progress(self) -> None:
        """Let the statements from now on tell `progress`; it costs each some 0.3 ms."""
        self._interruption.is_watched = True

    @property
    def progress(self) -> float | None:
        """The share of the running statement that is done, 0 to 1; None where it is not known.

        Asked from another thread, after `follow_progress`. It is known of statements that read
        large segments, and not where rows in memory are read, too.
        """
        return self._interruption.progress()

    @property
    def definitions_revision(self) -> Hashable:
        """Another value whenever a definition, or what this user may know of them, changes."""
        return self.role, self._context.catalog.revision

    @property
    def position(self) -> int:
        """The number of the newest commit: while it stays the same, the stored rows do.

        Inside a transaction a negative number that is no other state's.
        """
        self._request()
        view = self._transaction.view
        if view is not None:
            return view.position
        with self._context.log.at_newest() as seq:
            return seq

    @property
    def role(self) -> Role:
        """The user's role as of now."""
        return self._context.catalog.role_of(self.user)

    # --- life ------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the session: its transaction is rolled back, its live queries and relations go."""
        self._closed = True
        self._context.live.end_session(self.session_id)
        self._end_live_results()
        self._context.sessions.discard(self)
        self._transaction.close()
        self.relations.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kalamdb_lab.Session of '{self.user}' in '{self.namespace}'>"

    def _use(self, namespace: str) -> None:
        self.namespace = namespace

    def _request(
        self,
        params: tuple[Any, ...] = (),
        *,
        row_limit: int | None = None,
        relations: Mapping[str, pa.Table] | None = None,
    ) -> Request:
        if self._closed:
            raise ClosedError("The session was closed")
        try:
            role = living_role(self._context.catalog, self.user)
        except UserDroppedError:
            self._transaction.close()  # its user can end it no more
            raise
        context = ExecutionContext(
            user_id=self.user,
            actor_id=self.user,
            role=role,
            namespace=self.namespace,
            request_id=f"{self.session_id}-{next(self._statements)}",
            origin=self.origin,
            now_us=self._context.clock.now_us(),
        )
        request = Request(
            context,
            params,
            self.relations,
            self._interruption,
            self._use,
            row_limit,
            self._transaction,
            embedder=self._functions,
        )
        return request.with_relations(relations or {})


def living_role(catalog: Catalog, user_id: str, *, must_exist: bool = False) -> Role:
    """Return the role of a user who may act; a user who was erased counts as role user.

    Raises
    ------
    UserDroppedError
    NotFoundError
        If there is no such user, and there must be.
    """
    user = catalog.users.get(user_id)
    if user is None:
        if must_exist:
            raise NotFoundError("User", user_id)
        return Role.USER
    if user.deleted_at_us is not None:
        raise UserDroppedError(f"User '{user_id}' was dropped")
    return user.role
