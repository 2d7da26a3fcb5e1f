"""What the row of a failed job says of the error."""

from __future__ import annotations

import traceback
from pathlib import PurePath

from kalamdb_lab.errors import KalamError

_PACKAGE = "kalamdb_lab"


def reason_of(error: BaseException) -> str:
    """Return the message: one sentence, without what an error that is not ours may quote."""
    if isinstance(error, KalamError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted"
    return f"Internal error: {type(error).__name__}"


def trace_of(error: BaseException) -> str:
    """Return where an error arose, without a path of the machine: rows travel in backups."""
    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        parts = PurePath(frame.filename).with_suffix("").parts
        if _PACKAGE in parts:
            at = len(parts) - 1 - parts[::-1].index(_PACKAGE)
            parts = parts[at:]
        else:
            parts = parts[-1:]
        lines.append(f"{'.'.join(parts)}:{frame.lineno} in {frame.name}")
    # What is no sentence of ours may quote a value of somebody's row.
    text = f": {error}" if isinstance(error, KalamError) else ""
    lines.append(f"{type(error).__name__}{text}")
    return "\n".join(lines)
