"""A checked statement, ready to run for whoever its relations were resolved for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kalamdb_lab.query.duck import PythonFunction
from kalamdb_lab.query.engine_errors import StatementNames
from kalamdb_lab.query.plain_rankings import PlainRanking
from kalamdb_lab.query.relations import ScanRequest
from kalamdb_lab.query.vectors import VectorValue


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked statement, ready to run for whoever the relations were resolved for.

    Attributes
    ----------
    template : str
        The SQL, with a marker for each request.
    arrow_sql : str
        The SQL for scans that are all in memory; the engine's parser has confirmed it.
    ctes : frozenset of str
        The random names of its CTEs.
    is_limited : bool
        True if the query has a LIMIT or OFFSET of its own.
    requests : tuple of (str, ScanRequest)
        What to scan, by marker.
    parameters : tuple of int
        The placeholders in it.
    context : frozenset of str
        What it needs to know of the statement: ``user``, ``now``, ``today``, ``time``.
    sums : bool
        True if a whole number too large for BIGINT may be a sum.
    functions : tuple of PythonFunction
        The session's functions that it calls.
    vectors : tuple of VectorValue
        What distances are measured to.
    operands : frozenset of str
        The placeholders in arithmetic.
    filters : dict of str to Plan
        By marker of a relation of which only the nearest rows are needed: the ``_seq`` of those
        that can come through.
    plain : PlainRanking or None
        What it shows, if it is a ranking of columns and the distance alone.
    """

    template: str
    arrow_sql: str
    requests: tuple[tuple[str, ScanRequest], ...]
    parameters: tuple[int, ...]
    context: frozenset[str]
    sums: bool
    ctes: frozenset[str]
    is_limited: bool
    names: StatementNames = field(compare=False)
    functions: tuple[PythonFunction, ...] = ()
    vectors: tuple[VectorValue, ...] = ()
    operands: frozenset[str] = frozenset()
    filters: Mapping[str, Plan] = field(default_factory=dict)
    plain: PlainRanking | None = None
