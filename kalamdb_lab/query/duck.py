"""The locked engine. No other module imports duckdb; it knows versions 1.5.6 and 2.0.

Nothing is ever created in an instance after it is locked: the relations of a statement are
registered on the statement's own cursor, which no other cursor sees, and go with it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from kalamdb_lab.clock import IdGenerator
from kalamdb_lab.errors import ClosedError, InterruptedStatementError, LimitError
from kalamdb_lab.query.cancellation import WATCHED, Cancellation

VERSION: tuple[int, ...] = tuple(int(part) for part in duckdb.__version__.split(".")[:2])
COUNTS_ARROW_ROWS = VERSION >= (2, 0)
"""False where the optimizer takes every Arrow table for one row, which makes joins of many go
wrong by orders of magnitude; it knows how many rows files have."""
NO_DIRECTION_IS_NAN = VERSION >= (2, 0)
"""What the cosine distance of a zero vector is; before it was 2."""
_FILTERS_BELOW_LIMIT = VERSION < (2, 0)
"""True where what a join asks for is looked for below the LIMIT of a subquery, so that other rows
than the first come through (duckdb/duckdb#22963)."""

_KEPT_INSTANCES = 8
_BATCH_ROWS = 122_880
_MIB = 1 << 20


class EngineError(Exception):
    """What the engine says of a failed statement; never shown as it is.

    Attributes
    ----------
    kind : str
        ``Binder``, ``Conversion``, ``Out of Range`` and so on.
    text : str
        The engine's message, which may quote values, paths and internal names.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind, self.text = kind, text


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one result may cost; None is no bound."""

    rows: int | None = None
    size_bytes: int | None = None
    time_s: float | None = None

    def check(self, rows: int, size_bytes: int) -> None:
        """Raise `LimitError` if a result of this size costs more."""
        if self.rows is not None and rows > self.rows:
            raise LimitError(f"The result exceeds the limit of {self.rows:,} rows; use LIMIT")
        if self.size_bytes is not None and size_bytes > self.size_bytes:
            raise LimitError(
                f"The result exceeds the limit of {self.size_bytes // _MIB:,} MiB; use LIMIT"
            )


NO_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class PythonFunction:
    """A scalar function of the Python user, which statements of one session may call.

    Attributes
    ----------
    name : str
        In lower case, and of no function of the engine.
    arguments, returns : types as the engine spells them
    takes_arrow : bool
        True if it takes and gives Arrow arrays, False for a value at a time.
    options : tuple of (str, object)
        Further arguments of the engine's ``create_function``.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    returns: str
    takes_arrow: bool
    options: tuple[tuple[str, object], ...] = ()

    def define(self, connection: Any) -> None:
        """Define it in an instance."""
        connection.create_function(
            self.name,
            self.function,
            [duckdb.sqltype(kind) for kind in self.arguments],
            duckdb.sqltype(self.returns),
            type="arrow" if self.takes_arrow else "native",
            **dict(self.options),
        )


_Key = tuple[frozenset[str], tuple[PythonFunction, ...]]


class _Instance:
    """One private database in memory that can open ``directories`` and nothing else."""

    def __init__(self, key: _Key, engine: DuckEngine) -> None:
        directories, functions = key
        temporary = tempfile.mkdtemp(prefix="kalamdb-")
        connection = duckdb.connect(":memory:")
        self._connection = connection
        self._lock = threading.Lock()
        self._close = weakref.finalize(self, _close_instance, connection, temporary)
        for name, value in engine.settings(temporary, directories):
            connection.execute(f"SET GLOBAL {name} = {value}")
        engine.define_functions(connection)
        for function in functions:
            function.define(connection)
        connection.execute("SET GLOBAL lock_configuration = true")

    def cursor(self) -> Any:
        with self._lock:
            return self._connection.cursor()


def _close_instance(connection: Any, temporary: str) -> None:
    connection.close()
    shutil.rmtree(temporary, ignore_errors=True)


class DuckEngine:
    """Runs generated SQL over registered Arrow tables and allowed Parquet directories.

    Parameters
    ----------
    ids : IdGenerator
        Source of SNOWFLAKE_ID() and ULID() in statements.
    threads, memory_bytes, temporary_bytes : int or None
        Of each instance; None leaves the engine's own choice (all cores, 80 % of memory).
    """

    def __init__(
        self,
        ids: IdGenerator,
        *,
        threads: int | None = None,
        memory_bytes: int | None = None,
        temporary_bytes: int | None = None,
    ) -> None:
        self._ids = ids
        self._threads = threads or os.cpu_count() or 1
        self._memory_bytes = memory_bytes
        self._temporary_bytes = temporary_bytes
        self._lock = threading.Lock()
        self._shared: _Instance | None = None
        self._readers: OrderedDict[_Key, _Instance] = OrderedDict()
        self._closed = False

    # --- instances ----------------------------------------------------------------------

    def settings(self, temporary: str, directories: frozenset[str]) -> Iterator[tuple[str, str]]:
        """Yield the settings of an instance, in order; all but the last lock."""
        yield "TimeZone", "'UTC'"
        yield "arrow_lossless_conversion", "true"
        yield "errors_as_json", "true"
        if VERSION >= (2, 0):
            # Guards in the SQL make it an error where it is one, alike on both versions.
            yield "error_on_division_by_zero", "false"
        if _FILTERS_BELOW_LIMIT:
            yield "disabled_optimizers", "'join_filter_pushdown'"
        yield "threads", str(self._threads)
        if self._memory_bytes is not None:
            yield "memory_limit", f"'{self._memory_bytes // _MIB} MiB'"
        yield "temp_directory", _text(temporary)
        if self._temporary_bytes is not None:
            yield "max_temp_directory_size", f"'{self._temporary_bytes // _MIB} MiB'"
        yield "autoinstall_known_extensions", "false"
        yield "autoload_known_extensions", "false"
        yield "allow_community_extensions", "false"
        yield "allow_persistent_secrets", "false"
        yield "python_enable_replacements", "false"
        yield "python_scan_all_frames", "false"
        yield "allowed_configs", f"[{', '.join(map(_text, WATCHED))}]"
        if directories:
            yield "parquet_metadata_cache", "true"
            yield "allowed_directories", f"[{', '.join(map(_text, sorted(directories)))}]"
        yield "enable_external_access", "false"

    def define_functions(self, connection: Any) -> None:
        """Define our own functions; their one argument only says how many rows there are."""
        dummy = [duckdb.sqltype("TINYINT")]
        for name, values, returns in (
            ("__kalam_snowflake_id", self._snowflake_ids, "BIGINT"),
            ("__kalam_ulid", self._ulids, "VARCHAR"),
        ):
            connection.create_function(
                name, values, dummy, duckdb.sqltype(returns), type="arrow", side_effects=True
            )

    def _snowflake_ids(self, rows: Any) -> Any:
        return pa.array(self._ids.snowflake_ids(len(rows)), pa.int64())

    def _ulids(self, rows: Any) -> Any:
        return pa.array([self._ids.ulid() for _ in range(len(rows))], pa.string())

    def _instance(self, key: _Key) -> _Instance:
        with self._lock:
            if self._closed:
                raise ClosedError("The database is closed")
            if not any(key):
                if self._shared is None:
                    self._shared = _Instance(key, self)
                return self._shared
            instance = self._readers.pop(key, None) or _Instance(key, self)
            self._readers[key] = instance
            while len(self._readers) > _KEPT_INSTANCES:
                self._readers.popitem(last=False)
            return instance

    def forget(self, directory: str | None = None) -> None:
        """Drop the instances that may open ``directory`` (all readers' if None)."""
        with self._lock:
            for key in list(self._readers):
                if directory is None or directory in key[0]:
                    del self._readers[key]

    def close(self) -> None:
        """Refuse further statements; running ones end by themselves."""
        with self._lock:
            self._closed = True
            self._shared = None
            self._readers.clear()

    # --- statements ---------------------------------------------------------------------

    def run(
        self,
        sql: str,
        relations: Mapping[str, pa.Table],
        parameters: Mapping[str, object],
        *,
        directories: frozenset[str] = frozenset(),
        functions: tuple[PythonFunction, ...] = (),
        bounds: Bounds = NO_BOUNDS,
        cancellation: Cancellation | None = None,
    ) -> pa.Table:
        """Run one SELECT and return all its rows.

        Raises
        ------
        LimitError, InterruptedStatementError
        EngineError
            Whatever else the engine says.
        """
        with self._cursor(relations, (directories, functions), bounds, cancellation) as cursor:
            reader = _open(cursor, sql, parameters, _BATCH_ROWS)
            batches: list[pa.RecordBatch] = []
            rows = size = 0
            for batch in reader:
                rows += batch.num_rows
                size += batch.nbytes if bounds.size_bytes is not None else 0
                bounds.check(rows, size)
                batches.append(batch)
            return pa.Table.from_batches(batches, reader.schema)

    def stream(
        self,
        sql: str,
        relations: Mapping[str, pa.Table],
        parameters: Mapping[str, object],
        *,
        batch_rows: int = _BATCH_ROWS,
        directories: frozenset[str] = frozenset(),
        functions: tuple[PythonFunction, ...] = (),
        bounds: Bounds = NO_BOUNDS,
        cancellation: Cancellation | None = None,
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Run one SELECT; return its schema and its batches, read as they are asked for.

        The cursor lives until the iterator is exhausted, closed or collected.
        """

        def batches() -> Iterator[Any]:
            with self._cursor(relations, (directories, functions), bounds, cancellation) as cursor:
                reader = _open(cursor, sql, parameters, batch_rows)
                yield reader.schema
                rows = size = 0
                for batch in reader:
                    rows += batch.num_rows
                    size += batch.nbytes if bounds.size_bytes is not None else 0
                    bounds.check(rows, size)
                    yield batch

        opened = batches()
        return next(opened), opened

    def serialized(self, sql: str) -> tuple[int, str]:
        """Return how many statements the engine sees in ``sql``, and its own tree as JSON."""
        with self._cursor({}, (frozenset(), ()), NO_BOUNDS, None) as cursor:
            count = len(cursor.extract_statements(sql))
            row = cursor.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchone()
            return count, str(row[0])

    @contextmanager
    def _cursor(
        self,
        relations: Mapping[str, pa.Table],
        key: _Key,
        bounds: Bounds,
        cancellation: Cancellation | None,
    ) -> Iterator[Any]:
        cursor = self._instance(key).cursor()
        stop = cancellation
        timer: threading.Timer | None = None
        if bounds.time_s is not None:
            stop = stop or Cancellation()
            timer = threading.Timer(bounds.time_s, _time_out, [stop])
            timer.daemon = True
        try:
            if stop is not None:
                stop.begin(cursor)
            if timer is not None:
                timer.start()
            for name, table in relations.items():
                cursor.register(name, table)
            yield cursor
        except (duckdb.Error, pa.ArrowException, OSError, RuntimeError) as error:
            fault = _fault(error)
            if fault.kind != "INTERRUPT":
                raise fault from None
            if stop is not None and stop.timed_out:
                raise LimitError(
                    f"The statement exceeds the limit of {bounds.time_s:g} seconds"
                ) from None
            raise InterruptedStatementError from None
        finally:
            if timer is not None:
                timer.cancel()
            if stop is not None:
                stop.end()
            # Closing frees what is registered; unregistering first would cost as much again.
            cursor.close()


def _open(cursor: Any, sql: str, parameters: Mapping[str, object], batch_rows: int) -> Any:
    values = dict(parameters) if parameters else None
    if VERSION >= (2, 0):
        return cursor.sql(sql, params=values).to_arrow_reader(batch_rows)
    return cursor.execute(sql, values).to_arrow_reader(batch_rows)


def _time_out(stop: Cancellation) -> None:
    stop.timed_out = True
    stop.cancel()


def _fault(error: Exception) -> EngineError:
    """Return the fault in the words of the engine, which reach us through pyarrow too."""
    whole = str(error)
    kind, _, text = ("", "", whole) if whole.startswith("{") else whole.partition(" Error: ")
    if text.startswith("{"):
        with suppress(ValueError, KeyError):
            told = json.loads(text)
            kind, text = kind or told["exception_type"], told["exception_message"]
    return EngineError(kind, (text or kind).partition("\n\nLINE ")[0])


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
