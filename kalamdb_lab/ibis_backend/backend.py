"""The backend as ibis knows it: connections, namespaces, views and SQL text."""

from __future__ import annotations

import os
from importlib.metadata import version as distribution_version
from typing import TYPE_CHECKING, Any
from urllib.parse import ParseResult, unquote

import ibis.expr.schema as sch
import ibis.expr.types as ir
from ibis.backends import CanCreateDatabase, DirectExampleLoader, HasCurrentDatabase
from ibis.expr.sql import SQLString
from sqlglot import exp

from kalamdb_lab.engine.database import Database, open_database
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import NotSupportedError
from kalamdb_lab.ibis_backend import definitions
from kalamdb_lab.ibis_backend.compiler import as_text, transpiled, view_text
from kalamdb_lab.ibis_backend.datatypes import arrow_schema
from kalamdb_lab.ibis_backend.tables import Namespace, Tables, namespace_of, no_catalogs, parts_of
from kalamdb_lab.model.ids import DEFAULT_NAMESPACE, ROOT_USER
from kalamdb_lab.sql.dialect import KalamSql
from kalamdb_lab.sql.queries import parse_query

if TYPE_CHECKING:
    from kalamdb_lab.query.result import Result


class Backend(Tables, CanCreateDatabase, HasCurrentDatabase, DirectExampleLoader):  # type: ignore[misc]
    """A connection of one user to one database directory.

    What ibis calls a database is a namespace; there are no catalogs. Everything goes through
    `session`, with the rights of its user.

    Attributes
    ----------
    session : Session
        Runs SQL as the same user: ``con.session.execute("...")``.
    """

    name = "kalam"
    supports_temporary_tables = True
    _top_level_methods = ("from_connection",)

    _database: Database | None = None
    _identity: str = "kalam"
    _con_kwargs: dict[str, Any]

    # --- connections ------------------------------------------------------------------------------

    def do_connect(
        self,
        path: str | os.PathLike[str],
        user: str = ROOT_USER,
        namespace: str = DEFAULT_NAMESPACE,
        *,
        password: str | None = None,
    ) -> None:
        """Connect to a database directory, and create it if it is missing.

        Parameters
        ----------
        path
            The directory, such as ``lab.kalam``. Connections of one process to the same
            directory share one engine.
        user
            Whose rights and rows the connection has.
        namespace
            Where tables are that are named without a database.
        password
            Of the user; needed for a database that asks for one.

        Raises
        ------
        StorageError
            If the path is missing, no database, read-only, or of a newer format.
        NotFoundError
            If the user or the namespace does not exist.
        LoginFailedError
            If the password is wrong or missing.

        Examples
        --------
        >>> import ibis
        >>> con = ibis.kalam.connect("lab.kalam", user="root")
        >>> con = ibis.connect("kalam://lab.kalam?user=root&namespace=default")
        """
        # What is pickled with the backend, and shown by debuggers, has no password.
        self._con_kwargs = {
            name: value for name, value in self._con_kwargs.items() if name != "password"
        }
        if password is None:
            database = open_database(path)
        else:
            database = open_database(path, user=user, password=password)
        try:
            session = database.session(user, namespace=namespace, origin="ibis")
        except BaseException:
            database.close()
            raise
        self._bind(session, database)
        place = os.path.realpath(path)
        self._identity = f"kalam {place!r} {session.user!r} {session.namespace!r}"

    def _bind(self, session: Session, database: Database | None) -> None:
        self._forget()
        self.session = session
        self._database = database

    @classmethod
    def from_connection(cls, session: Session, /) -> Backend:
        """Return a backend that runs expressions on a session that is open already."""
        backend = cls()
        backend._can_reconnect = False
        backend._bind(session, None)
        backend._identity = f"kalam session {session.session_id}"
        return backend

    def _from_url(self, url: ParseResult, **kwargs: Any) -> Backend:
        """Connect to ``kalam:///absolute/path?user=UA``; with two slashes the path is relative."""
        backend: Backend = self.connect(unquote(url.netloc + url.path), **kwargs)
        return backend

    @property
    def db_identity(self) -> str:
        """Equal for connections that see the same: directory, user and namespace."""
        return self._identity

    def disconnect(self) -> None:
        """End the session; the directory is closed with the last connection to it."""
        self.session.close()
        if self._database is not None:
            self._database.close()

    @property
    def con(self) -> Session:
        """The session: where other backends keep their connection."""
        return self.session

    @property
    def version(self) -> str:
        """The version of KalamDB Lab."""
        return distribution_version("kalamdb-lab")

    # --- namespaces -------------------------------------------------------------------------------

    @property
    def current_database(self) -> str:
        """The namespace of tables that are named without one."""
        return self.session.namespace

    def list_databases(self, *, like: str | None = None, catalog: str | None = None) -> list[str]:
        """Return the namespaces that the user may use, in order."""
        _refuse_catalog(catalog)
        listed: list[str] = self._filter_with_like(self.session.namespaces(), like)
        return listed

    def create_database(
        self, name: str, /, *, catalog: str | None = None, force: bool = False
    ) -> None:
        """Create a namespace; with ``force`` one that is there is kept."""
        _refuse_catalog(catalog)
        self.session.execute(definitions.create_namespace(name, force=force))

    def drop_database(
        self,
        name: str,
        /,
        *,
        catalog: str | None = None,
        force: bool = False,
        cascade: bool = False,
    ) -> None:
        """Drop a namespace.

        Parameters
        ----------
        force
            True if it need not be there.
        cascade
            True to drop its tables and views with the rows of all users.
        """
        _refuse_catalog(catalog)
        self.session.execute(definitions.drop("NAMESPACE", [name], force=force, cascade=cascade))

    # --- views ------------------------------------------------------------------------------------

    def create_view(
        self,
        name: str,
        /,
        obj: ir.Table,
        *,
        database: Namespace = None,
        overwrite: bool = False,
    ) -> ir.Table:
        """Create a view: a stored expression that runs with the rights of who reads it.

        Raises
        ------
        NotSupportedError
            The expression uses data or functions that only this connection has.
        """
        namespace = namespace_of(database)
        if self.is_private(obj.op()):
            raise NotSupportedError(
                "A view of in-memory or temporary tables, or of Python functions, is not "
                "supported; create a table of the rows first"
            )
        query = view_text(self.compiler.to_sqlglot(obj))
        parts = parts_of(name, namespace)
        self.session.execute(definitions.create_view(parts, query, replace=overwrite))
        return self.table(name, database=namespace)

    def drop_view(self, name: str, /, *, database: Namespace = None, force: bool = False) -> None:
        """Drop a view; with ``force`` it need not be there."""
        parts = parts_of(name, namespace_of(database))
        self.session.execute(definitions.drop("VIEW", parts, force=force))

    # --- SQL text ---------------------------------------------------------------------------------

    def raw_sql(self, query: str | exp.Expression, **_: Any) -> Result:
        """Run statements of our SQL as the user of the session; the result of the last one."""
        text = query if isinstance(query, str) else query.sql(KalamSql)
        return self.session.execute(text)

    def _transpile_sql(self, query: str, *, dialect: str | None = None) -> str:
        if dialect is None and isinstance(query, SQLString):
            dialect = "duckdb"  # ibis.to_sql(expr) means by it what the expression means
        return query if dialect in (None, self.name) else transpiled(query, dialect)

    def _get_schema_using_query(self, query: str) -> sch.Schema:
        """Return the columns of a query; it is not run, and nothing but one query is accepted."""
        return self._described(as_text(parse_query(query)))

    def _get_sql_string_view_schema(self, *, name: str, table: ir.Table, query: str) -> sch.Schema:
        self._run_pre_execute_hooks(table)
        return self._described(self.compiler.view_over(name, table, query))

    def _described(self, tree: exp.Expression) -> sch.Schema:
        return arrow_schema(self.session.describe_tree(tree))


def _refuse_catalog(catalog: str | None) -> None:
    if catalog is not None:
        raise no_catalogs()
