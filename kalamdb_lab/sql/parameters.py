"""Placeholders of a statement and the values that a caller gives for them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from kalamdb_lab.errors import ParametersError

KINDS_WITH_PARAMETERS = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE", "EXPLAIN", "EXECUTE AS", "SUBSCRIBE"}
)


class ParameterStyle(enum.Enum):
    """How placeholders are written; a statement uses one style."""

    NONE = "none"
    IN_ORDER = "?"
    NUMBERED = "$1"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The placeholders of a statement.

    Attributes
    ----------
    count : int
        How many values it needs: the number of ``?``, or the highest ``$n``.
    """

    style: ParameterStyle = ParameterStyle.NONE
    count: int = 0


NO_PARAMETERS = Parameters()


def refuse_placeholders(kind: str, parameters: Parameters) -> None:
    """Raise `ParametersError` if a statement that takes no parameters has placeholders."""
    if parameters.count and kind not in KINDS_WITH_PARAMETERS:
        raise ParametersError(f"Parameters are not allowed in {kind}")


def bind_count(kind: str, parameters: Parameters, values: Sequence[object] | None) -> None:
    """Check the number of values given for a statement.

    Raises
    ------
    ParametersError
        Too few or too many values, values for a kind that takes none, or no sequence.
    """
    if values is None:
        given = 0
    elif isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise ParametersError("Parameters must be a list or a tuple")
    else:
        given = len(values)
    if given and kind not in KINDS_WITH_PARAMETERS:
        raise ParametersError(f"Parameters are not allowed in {kind}")
    if given != parameters.count:
        plural = "" if parameters.count == 1 else "s"
        raise ParametersError(f"Expected {parameters.count} parameter{plural}, got {given}")


def refuse_script_with_values(statement_count: int, values: Sequence[object] | None) -> None:
    """Raise `ParametersError` if values are given for a text of several statements."""
    if values and statement_count > 1:
        raise ParametersError(
            f"Parameters need a single statement; this text has {statement_count}"
        )
