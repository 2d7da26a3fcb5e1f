"""Running expressions: compiled once, in-memory data registered, results in ibis' types."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
from ibis import util
from ibis.backends import CacheEntry
from ibis.backends.sql import SQLBackend
from ibis.expr.operations.udf import InputType

from kalamdb_lab.errors import NotSupportedError
from kalamdb_lab.ibis_backend.compiler import KalamCompiler
from kalamdb_lab.ibis_backend.results import (
    KalamArrowData,
    in_schema,
    pandas_frame,
    plain_columns,
    relation_table,
)
from kalamdb_lab.ibis_backend.vectors import without_vectors
from kalamdb_lab.query.duck import PythonFunction

if TYPE_CHECKING:
    import pandas as pd
    import sqlglot.expressions as sge

    from kalamdb_lab.engine.session import Session

_COMPILED_LIMIT = 256
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Compiled:
    """The tree of an expression, and what its plan is remembered by, if it may be."""

    tree: sge.Expression
    cache_key: Hashable | None


class Execution(SQLBackend):  # type: ignore[misc]
    """The part of the backend that runs expressions, on `session`."""

    compiler = KalamCompiler()
    session: Session

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forget()

    def _forget(self) -> None:
        """Forget what belongs to a session."""
        self._memtables: weakref.WeakSet[ops.InMemoryTable] = weakref.WeakSet()
        self._compiled: dict[Hashable, Compiled] = {}
        self._cache_positions: dict[str, Hashable] = {}
        self._cache_op_to_entry: dict[ops.Relation, CacheEntry] = {}
        self._cache_name_to_entry: dict[str, CacheEntry] = {}
        self._local_changes = 0

    # --- expressions to trees ---------------------------------------------------------------------

    def compiled(
        self,
        expr: ir.Expr,
        *,
        params: Mapping[ir.Scalar, Any] | None = None,
        limit: int | str | None = None,
    ) -> Compiled:
        """Return the tree of an expression, ready to run; a repeated one is not compiled again.

        ibis takes 0.6 to 50 ms to compile. Expressions over in-memory and temporary tables are
        not kept, for that would keep the data.
        """
        if limit == "default":
            limit = ibis.options.sql.default_limit
        given = tuple((param.op(), value) for param, value in (params or {}).items())
        key: Hashable = (expr.op(), limit, given, ibis.options.sql.fuse_selects)
        try:
            found = self._compiled.get(key)
        except TypeError:  # a parameter that has no hash
            key, found = None, None
        if found is not None:
            self._log_tree(found.tree)
            return found
        self._run_pre_execute_hooks(expr)
        tree = self.compiler.to_sqlglot(expr.as_table(), params=params, limit=limit)
        self._log_tree(tree)
        if key is None or self.is_private(expr.op()):
            return Compiled(tree, None)
        made = self._compiled[key] = Compiled(tree, ("ibis", next(_numbers)))
        if len(self._compiled) > _COMPILED_LIMIT:
            self._compiled = {key: made}
        return made

    def is_private(self, op: ops.Node) -> bool:
        """Return whether an expression uses what only this connection has: data or functions."""
        if op.find(ops.InMemoryTable):
            return True
        if any(udf.__input_type__ is not InputType.BUILTIN for udf in op.find(ops.ScalarUDF)):
            return True
        return any(
            table.namespace.database is None and self.relation(table.name) is not None
            for table in op.find(ops.DatabaseTable)
        )

    def _log_tree(self, tree: sge.Expression) -> None:
        if ibis.options.verbose:
            self._log(tree.sql(self.dialect))

    # --- results ----------------------------------------------------------------------------------

    def _table(
        self,
        expr: ir.Expr,
        params: Mapping[ir.Scalar, Any] | None,
        limit: int | str | None,
    ) -> pa.Table:
        expr, vectors = without_vectors(expr)
        compiled = self.compiled(expr, params=params, limit=limit)
        result = self.session.query_tree(compiled.tree, vectors, cache_key=compiled.cache_key)
        return result.to_arrow()

    def execute(
        self,
        expr: ir.Expr,
        /,
        *,
        params: Mapping[ir.Scalar, Any] | None = None,
        limit: int | str | None = None,
        **_: Any,
    ) -> pd.DataFrame | pd.Series[Any] | Any:
        """Run an expression and return pandas: a dataframe, a series or a scalar."""
        frame = pandas_frame(self._table(expr, params, limit), expr.as_table().schema())
        return expr.__pandas_result__(frame)

    def to_pyarrow(
        self,
        expr: ir.Expr,
        /,
        *,
        params: Mapping[ir.Scalar, Any] | None = None,
        limit: int | str | None = None,
        **_: Any,
    ) -> pa.Table | pa.Array | pa.Scalar:
        """Run an expression and return Arrow: a table, an array or a scalar."""
        table = plain_columns(self._table(expr, params, limit))
        return expr.__pyarrow_result__(table, data_mapper=KalamArrowData)

    def to_pyarrow_batches(
        self,
        expr: ir.Expr,
        /,
        *,
        params: Mapping[ir.Scalar, Any] | None = None,
        limit: int | str | None = None,
        chunk_size: int = 1_000_000,
        **_: Any,
    ) -> pa.RecordBatchReader:
        """Run an expression and read its rows in batches of ``chunk_size`` rows at most.

        All batches come from the snapshot of this call.
        """
        compiled = self.compiled(expr, params=params, limit=limit)
        schema = expr.as_table().schema()
        arrow = schema.to_pyarrow()
        reader = self.session.stream_tree(compiled.tree, batch_rows=chunk_size)
        batches = (in_schema(batch, schema, arrow) for batch in reader)
        return pa.RecordBatchReader.from_batches(arrow, batches)

    def live_query(self, expr: ir.Expr) -> tuple[sge.Expression, Hashable | None]:
        """Return the tree of an expression for `Session.live`, and what its plan is kept by."""
        compiled = self.compiled(expr)
        return compiled.tree, compiled.cache_key

    # --- in-memory tables -------------------------------------------------------------------------

    def relation(self, name: str) -> str | None:
        """Return how the session spells its own relation of this name, if it has one."""
        relations = self.session.relations
        if name in relations:
            return name
        return next((known for known in relations if known.lower() == name.lower()), None)

    def _set_local(self, name: str, rows: pa.Table) -> None:
        self.session.relations[name] = rows
        self._local_changes += 1

    def _register_in_memory_table(self, op: ops.InMemoryTable) -> None:
        self.session.relations[op.name] = relation_table(memtable_rows(op), op.schema)
        forget = weakref.finalize(op, _drop_relation, weakref.ref(self.session), op.name)
        forget.atexit = False

    def _make_memtable_finalizer(self, name: str) -> None:
        """Return nothing: the relation goes with the expression, not with the process."""

    # --- functions --------------------------------------------------------------------------------

    def _register_udfs(self, expr: ir.Expr) -> None:
        """Make the Python functions of an expression callable by this session, and no other."""
        for node in expr.op().find(ops.ScalarUDF):
            kind = node.__input_type__
            if kind is InputType.BUILTIN:
                continue
            name = type(node).__name__.lower()
            if kind is InputType.PANDAS:
                raise NotImplementedError(
                    "Functions over pandas are not supported; use ibis.udf.scalar.pyarrow"
                )
            if name not in self.session.relations.functions:
                self.session.relations.functions[name] = _python_function(name, node)
                forget = weakref.finalize(
                    type(node), self.session.relations.functions.pop, name, None
                )
                forget.atexit = False

    # --- Table.cache() ----------------------------------------------------------------------------

    def _cached_table(self, table: ir.Table) -> ir.CachedTable:
        """Return the cached rows of a table, anew if anything was committed since."""
        op = table.op()
        position = (self.session.position, self._local_changes)
        known = self._cache_op_to_entry.get(op)
        cached = known.cached_op_ref() if known is not None else None
        if cached is None or self._cache_positions.get(cached.name) != position:
            name = util.gen_name("cached")
            rows = self._table(table, None, None)
            schema = table.schema()
            self.session.relations[name] = relation_table(rows, schema)
            cached = ops.DatabaseTable(name, schema=schema, source=self)
            finalizer = weakref.finalize(cached, self._finalize_cached_table, name)
            entry = CacheEntry(op, weakref.ref(cached), finalizer)
            self._cache_op_to_entry[op] = entry
            self._cache_name_to_entry[name] = entry
            self._cache_positions[name] = position
        return ir.CachedTable(cached)

    def _finalize_cached_table(self, name: str) -> None:
        if name not in self._cache_name_to_entry:
            return
        entry: Any = self._cache_name_to_entry.pop(name)
        op = entry.orig_op
        if self._cache_op_to_entry.get(op) is entry:
            del self._cache_op_to_entry[op]
        self._cache_positions.pop(name, None)
        entry.finalizer.detach()
        self.session.relations.pop(name, None)

    # --- text -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _safe_raw_sql(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield self.raw_sql(*args, **kwargs)


def _python_function(name: str, node: Any) -> PythonFunction:
    known = {"null_handling", "exception_handling", "side_effects"}
    if unknown := sorted(set(node.__config__) - known):
        raise NotSupportedError(f"Option '{unknown[0]}' of a function is not supported")
    spelled = KalamCompiler.type_mapper.to_string
    return PythonFunction(
        name,
        node.__func__,
        tuple(spelled(p.annotation.pattern.dtype) for p in node.__signature__.parameters.values()),
        spelled(node.dtype),
        takes_arrow=node.__input_type__ is InputType.PYARROW,
        options=tuple(node.__config__.items()),
    )


def memtable_rows(op: ops.InMemoryTable) -> pa.Table:
    """Return the data of an in-memory table, its columns in the order of its schema."""
    if hasattr(op.data, "to_pyarrow_dataset"):
        return op.data.to_pyarrow_dataset(op.schema).to_table()
    return op.data.to_pyarrow(op.schema)


def _drop_relation(session: weakref.ref[Session], name: str) -> None:
    alive = session()
    if alive is not None:
        alive.relations.pop(name, None)
