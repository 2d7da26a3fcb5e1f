"""The engine's own parser asked what a generated text says, before the text is run."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from kalamdb_lab.errors import InternalError, NotAllowedError
from kalamdb_lab.query import functions
from kalamdb_lab.query.duck import DuckEngine

_log = logging.getLogger(__name__)

_FROM = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "EXPRESSION_LIST", "EMPTY", "TABLE_FUNCTION"})
_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_MODIFIERS = frozenset(
    {"ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"}
)
_KINDS = _FROM | _NODES | _MODIFIERS
_MARKS = frozenset({"modifiers", "cte_map", "sample"})
"""One of these keys is in every node of FROM and of a query."""
_CLASS_NAMES = """
BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA OPERATOR
PARAMETER POSITIONAL_REFERENCE STAR SUBQUERY TYPE WINDOW
"""
_CLASSES = frozenset(_CLASS_NAMES.split())
_OURS = frozenset({"error", "__kalam_snowflake_id", "__kalam_ulid", "__kalam_barrier"})
_FUNCTIONS = functions.ALLOWED | functions.OPERATORS | _OURS
_SCHEMAS = frozenset({"", "main", "system", "pg_catalog"})
_CATALOGS = frozenset({"", "system"})
_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})


def confirm(
    engine: DuckEngine,
    sql: str,
    markers: frozenset[str],
    ctes: frozenset[str],
    files: frozenset[str] = frozenset(),
    *,
    local: frozenset[str] = frozenset(),
) -> None:
    """Refuse a text that is not one SELECT from its own relations by allowed functions.

    Parameters
    ----------
    markers, ctes : frozenset of str
        The relations that are registered for the text, and the names of its CTEs.
    files : frozenset of str
        The Parquet files that it may read.
    local : frozenset of str
        Functions of the session that it may call.

    Raises
    ------
    NotAllowedError
        A function that got past the checks of the tree.
    InternalError
        Anything else: the tree and the text say different things.
    """
    count, serialized = engine.serialized(sql)
    answer = json.loads(serialized)
    statements = answer.get("statements", [])
    if count != 1 or answer.get("error") or len(statements) != 1:
        raise _disagreement("not one SELECT", sql)
    reading = _Reading(sql, markers, ctes, files, _FUNCTIONS | local)
    pending: list[Any] = [statements[0]["node"]]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            pending.extend(reading.check(node))


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a text may name."""

    sql: str
    markers: frozenset[str]
    ctes: frozenset[str]
    files: frozenset[str]
    functions: frozenset[str]

    def check(self, node: dict[str, Any]) -> list[Any]:
        """Refuse a node, or return what is in it."""
        kind, family = node.get("type"), node.get("class")
        if isinstance(family, str):
            if family not in _CLASSES:
                raise _disagreement(f"expression {family}", self.sql)
            if "function_name" in node:
                self._check_function(node)
        elif isinstance(kind, str) and _MARKS & node.keys() and kind not in _KINDS:
            raise _disagreement(f"node {kind}", self.sql)
        if kind == "BASE_TABLE":
            self._check_table(node)
        elif kind == "TABLE_FUNCTION":
            function = node.get("function") or {}
            if function.get("function_name") == "read_parquet":
                if not self.files or not _texts(function) <= self.files:
                    raise _disagreement("files", self.sql)
                return [value for key, value in node.items() if key != "function"]
            if function.get("function_name") not in _TABLE_FUNCTIONS:
                raise _disagreement("table function", self.sql)
        return list(node.values())

    def _check_table(self, node: dict[str, Any]) -> None:
        where = (node.get("catalog_name"), node.get("schema_name"))
        name = node.get("table_name")
        path = (node.get("qualified_name") or {}).get("path")
        registered = where == ("temp", "main") and name in self.markers
        known = registered or (where == ("", "") and name in self.ctes)
        if not known or node.get("at_clause") or path not in (None, [*filter(None, where), name]):
            raise _disagreement(f"table {name}", self.sql)

    def _check_function(self, node: dict[str, Any]) -> None:
        name = str(node["function_name"])
        if name.lower() not in self.functions:
            if name.lower() in functions.REFUSED:
                raise NotAllowedError(f"Function '{name.lower()}' is not allowed")
            raise _disagreement(f"function {name}", self.sql)
        if node.get("schema", "") not in _SCHEMAS or node.get("catalog", "") not in _CATALOGS:
            raise _disagreement(f"qualified function {name}", self.sql)


def _texts(function: dict[str, Any]) -> set[str]:
    """Return the constants of a call of `read_parquet`, and something else for any other node."""
    found: set[str] = set()
    arguments = function.get("children") or function.get("arguments") or []
    pending = [argument.get("expression", argument) for argument in arguments]
    while pending:
        node = pending.pop()
        if node.get("class") == "CONSTANT":
            constant = node.get("literal") or node.get("value") or {}
            found.add(str(constant.get("text", constant.get("value"))))
        elif node.get("function_name") == "list_value":
            inner = node.get("children") or node.get("arguments") or []
            pending += [argument.get("expression", argument) for argument in inner]
        else:
            found.add("")
    return found


def _disagreement(what: str, sql: str) -> InternalError:
    _log.error("the engine reads something else than was planned: %s in %s", what, sql)
    return InternalError("The statement could not be planned safely; it was not run")
