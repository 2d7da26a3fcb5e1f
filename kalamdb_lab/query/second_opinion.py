"""The engine's own parser asked what a generated text says, before the text is run."""

from __future__ import annotations

import json
import logging
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
_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})


def confirm(engine: DuckEngine, sql: str, markers: frozenset[str], ctes: frozenset[str]) -> None:
    """Refuse a text that is not one SELECT from its own relations by allowed functions.

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
    pending: list[Any] = [statements[0]["node"]]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            _check(node, sql, markers, ctes)
            pending.extend(node.values())


def _check(node: dict[str, Any], sql: str, markers: frozenset[str], ctes: frozenset[str]) -> None:
    kind, family = node.get("type"), node.get("class")
    if isinstance(family, str):
        if family not in _CLASSES:
            raise _disagreement(f"expression {family}", sql)
        if "function_name" in node:
            _check_function(node, _FUNCTIONS, sql)
    elif isinstance(kind, str) and _MARKS & node.keys() and kind not in _KINDS:
        raise _disagreement(f"node {kind}", sql)
    if kind == "BASE_TABLE":
        where = (node.get("catalog_name"), node.get("schema_name"))
        name = node.get("table_name")
        path = (node.get("qualified_name") or {}).get("path")
        registered = where == ("temp", "main") and name in markers
        known = registered or (where == ("", "") and name in ctes)
        if not known or node.get("at_clause") or path not in (None, [*filter(None, where), name]):
            raise _disagreement(f"table {name}", sql)
    elif kind == "TABLE_FUNCTION":
        function = node.get("function") or {}
        if function.get("function_name") not in _TABLE_FUNCTIONS:
            raise _disagreement(f"table function {function.get('function_name')}", sql)


def _check_function(node: dict[str, Any], allowed: frozenset[str], sql: str) -> None:
    name = str(node["function_name"])
    if name.lower() not in allowed:
        if name.lower() in functions.REFUSED:
            raise NotAllowedError(f"Function '{name.lower()}' is not allowed")
        raise _disagreement(f"function {name}", sql)
    if node.get("schema", "") not in _SCHEMAS or node.get("catalog", "") not in ("", "system"):
        raise _disagreement(f"qualified function {name}", sql)


def _disagreement(what: str, sql: str) -> InternalError:
    _log.error("the engine reads something else than was planned: %s in %s", what, sql)
    return InternalError("The statement could not be planned safely; it was not run")
