"""Commands: what is asked of the catalog, and work on storages, users, jobs and transactions."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from kalamdb_lab.model.entities import AuthType
from kalamdb_lab.model.roles import Role
from kalamdb_lab.sql.statements import OptionValue, Statement, TableName

# Asking


@dataclass(frozen=True, slots=True, kw_only=True)
class Describe(Statement):
    """DESCRIBE [TABLE] t [HISTORY]."""

    kind = "DESCRIBE"
    table: TableName
    history: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowNamespaces(Statement):
    """SHOW NAMESPACES."""

    kind = "SHOW NAMESPACES"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowTables(Statement):
    """SHOW TABLES [IN [NAMESPACE] ns]."""

    kind = "SHOW TABLES"
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowStorages(Statement):
    """SHOW STORAGES."""

    kind = "SHOW STORAGES"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowStats(Statement):
    """SHOW STATS FOR TABLE t."""

    kind = "SHOW STATS"
    table: TableName


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowManifest(Statement):
    """SHOW MANIFEST [FOR TABLE t]."""

    kind = "SHOW MANIFEST"
    table: TableName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowUsers(Statement):
    """SHOW USERS."""

    kind = "SHOW USERS"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowJobs(Statement):
    """SHOW JOBS."""

    kind = "SHOW JOBS"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowLiveQueries(Statement):
    """SHOW LIVE QUERIES."""

    kind = "SHOW LIVE QUERIES"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowBackups(Statement):
    """SHOW BACKUPS FOR DATABASE ns, SHOW BACKUP FOR DATABASE ns."""

    kind = "SHOW BACKUPS"
    namespace: str


# Maintenance


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushTable(Statement):
    """STORAGE FLUSH TABLE t, FLUSH TABLE t."""

    kind = "STORAGE FLUSH"
    table: TableName


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushAll(Statement):
    """STORAGE FLUSH ALL [IN [NAMESPACE] ns], FLUSH ALL TABLES [IN ns]."""

    kind = "STORAGE FLUSH"
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactTable(Statement):
    """STORAGE COMPACT TABLE t, OPTIMIZE [TABLE] t."""

    kind = "STORAGE COMPACT"
    table: TableName


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactAll(Statement):
    """STORAGE COMPACT ALL [IN [NAMESPACE] ns]."""

    kind = "STORAGE COMPACT"
    namespace: str | None = None


# Users


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateUser(Statement):
    """CREATE USER 'id' WITH PASSWORD 'pw' | OAUTH ['json'] | INTERNAL ROLE role [EMAIL 'e']."""

    kind = "CREATE USER"
    user_id: str
    auth_type: AuthType
    password: str | None = field(default=None, repr=False)
    oauth: str | None = None
    role: Role
    email: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterUser(Statement):
    """ALTER USER 'id' SET PASSWORD 'pw' | ROLE role | EMAIL 'e': one of the three."""

    kind = "ALTER USER"
    user_id: str
    password: str | None = field(default=None, repr=False)
    role: Role | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropUser(Statement):
    """DROP USER [IF EXISTS] 'id'."""

    kind = "DROP USER"
    user_id: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUserStorage(Statement):
    """The storage of a user's own rows; no SQL says it, `Session.set_user_storage` does.

    Attributes
    ----------
    storage_id : str or None
        None for the storage of each table.
    """

    kind = "ALTER USER"
    user_id: str
    storage_id: str | None


# Storages


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateStorage(Statement):
    """CREATE STORAGE [IF NOT EXISTS] id TYPE 'filesystem' ...; texts unchecked, None if not said.

    Attributes
    ----------
    base_directory : str or None
        Of PATH or BASE_DIRECTORY.
    """

    kind = "CREATE STORAGE"
    storage_id: str
    if_not_exists: bool = False
    storage_type: str
    name: str | None = None
    description: str | None = None
    base_directory: str | None = None
    bucket: str | None = None
    region: str | None = None
    shared_tables_template: str | None = None
    user_tables_template: str | None = None
    credentials: str | None = field(default=None, repr=False)
    config: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterStorage(Statement):
    """ALTER STORAGE id SET NAME '' | DESCRIPTION '' | ..._TEMPLATE '' | CONFIG '' [SET ...].

    What is None was not said.
    """

    kind = "ALTER STORAGE"
    storage_id: str
    name: str | None = None
    description: str | None = None
    shared_tables_template: str | None = None
    user_tables_template: str | None = None
    config: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropStorage(Statement):
    """DROP STORAGE [IF EXISTS] id."""

    kind = "DROP STORAGE"
    storage_id: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStorage(Statement):
    """STORAGE CHECK id [EXTENDED]."""

    kind = "STORAGE CHECK"
    storage_id: str
    extended: bool = False


# Registered tables


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterTable(Statement):
    """REGISTER TABLE t FROM 'file or glob' [WITH (...)]; options as CREATE TABLE gives them."""

    kind = "REGISTER TABLE"
    table: TableName
    source: str
    options: tuple[tuple[str, OptionValue], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterTable(Statement):
    """UNREGISTER TABLE t."""

    kind = "UNREGISTER TABLE"
    table: TableName


# Transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Statement):
    """BEGIN [TRANSACTION|WORK], START TRANSACTION."""

    kind = "BEGIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit(Statement):
    """COMMIT [WORK], END."""

    kind = "COMMIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(Statement):
    """ROLLBACK [WORK]."""

    kind = "ROLLBACK"


# Jobs, backup


@dataclass(frozen=True, slots=True, kw_only=True)
class KillJob(Statement):
    """KILL JOB 'id', CANCEL JOB 'id'."""

    kind = "KILL JOB"
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vacuum(Statement):
    """VACUUM [[TABLE] t]; the whole database without a table."""

    kind = "VACUUM"
    table: TableName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyze(Statement):
    """ANALYZE [TABLE] t."""

    kind = "ANALYZE"
    table: TableName


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupDatabase(Statement):
    """BACKUP DATABASE [IF EXISTS] ns TO 'dir'."""

    kind = "BACKUP"
    namespace: str
    directory: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreDatabase(Statement):
    """RESTORE DATABASE [IF NOT EXISTS] ns FROM 'dir'."""

    kind = "RESTORE"
    namespace: str
    directory: str
    if_not_exists: bool = False


# Live queries


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe(Statement):
    """SUBSCRIBE TO t [WHERE ...] [OPTIONS (...)], and its forms with SELECT.

    Attributes
    ----------
    columns : tuple of str or None
        None for all columns.
    last_rows, batch_size, from_seq_id : int or None
        Checked; None if not said.
    """

    kind = "SUBSCRIBE"
    table: TableName
    alias: str | None = None
    columns: tuple[str, ...] | None = None
    where: exp.Expression | None = None
    last_rows: int | None = None
    batch_size: int | None = None
    from_seq_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KillLiveQuery(Statement):
    """KILL LIVE QUERY 'live_id'."""

    kind = "KILL LIVE QUERY"
    live_id: str
