"""Scalars of numpy, pandas and pyarrow, known by their manners and never imported."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any, cast

_OWN = frozenset(
    {
        *(bool, int, float, str, bytes, list, tuple, dict, Decimal, uuid.UUID),
        *(dt.datetime, dt.date, dt.time, dt.timedelta),
    }
)


def unwrapped(value: object) -> object:
    """Return a scalar of numpy, pandas or pyarrow as a Python value; missing ones as None.

    A datetime64 or timedelta64 finer than a microsecond comes back as text.
    """
    cls = type(value)
    if cls in _OWN:
        return value
    library = cls.__module__.partition(".")[0]
    if library == "pyarrow" and hasattr(value, "as_py"):
        return cast("object", value.as_py())
    # NaT is a datetime and pd.NA has no truth value: only their names tell them apart.
    if library == "pandas" and cls.__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        scalar: Any = value
        if scalar.dtype.kind in "mM":
            return _plain_time(scalar)
        return cast("object", scalar.item())
    return value


def _plain_time(scalar: Any) -> object:
    if str(scalar) == "NaT":
        return None
    exact = scalar.astype(f"{scalar.dtype.kind}8[us]")
    plain = exact.item()
    if exact != scalar or not isinstance(plain, (dt.datetime, dt.timedelta)):
        return str(scalar)
    return plain
