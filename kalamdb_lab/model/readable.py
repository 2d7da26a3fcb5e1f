"""Values, counts and times as people read them, on one line."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any, Final

_DECIMALS: Final = 4
_UNPRINTABLE: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "↵",
    ord("\t"): "→",
    0x2028: "↵",
    0x2029: "↵",
}


def plural(count: int, noun: str) -> str:
    """Return ``1 row``, ``2,000 rows``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(elapsed_ms: float) -> str:
    """Return a time as people say it: ``0.4 ms``, ``12 ms``, ``3.1 s``."""
    if elapsed_ms < 1:
        return f"{elapsed_ms:.1f} ms"
    return f"{elapsed_ms:,.0f} ms" if elapsed_ms < 1_000 else f"{elapsed_ms / 1_000:,.1f} s"


def printable(text: str) -> str:
    """Return a text on one line, its control characters visible."""
    return text.translate(_UNPRINTABLE)


def decimals_for(values: Sequence[object]) -> int | None:
    """Return how many decimals a column of floats is shown with; None for scientific."""
    numbers = [abs(value) for value in values if isinstance(value, float) and value]
    numbers = [number for number in numbers if math.isfinite(number)]
    if numbers and (max(numbers) >= 1e15 or min(numbers) < 10**-_DECIMALS):
        return None
    exact = (d for d in range(1, _DECIMALS) if all(round(n, d) == n for n in numbers))
    return next(exact, _DECIMALS)


def number_text(value: float, decimals: int | None) -> str:
    """Return a float with so many decimals; see `decimals_for`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value}"
    return f"{value:.6g}" if decimals is None else f"{value:.{decimals}f}"


def value_text(value: Any) -> str:
    """Return a value as SQL writes it, but for the quotes around a text."""
    match value:
        case bool():
            return "true" if value else "false"
        case bytes():
            return f"X'{value[:64].hex().upper()}{'…' if len(value) > 64 else ''}'"
        case datetime.datetime():
            text = value.replace(tzinfo=None).isoformat(sep=" ")
            return text if value.tzinfo is None else f"{text}Z"
        case dict():
            return f"{{{', '.join(f'{key}: {_nested(item)}' for key, item in value.items())}}}"
        case list() | tuple():
            return f"[{', '.join(map(_nested, value))}]"
        case _:
            return str(value)


def _nested(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"'{value}'" if isinstance(value, str) else value_text(value)
