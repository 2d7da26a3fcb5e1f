"""Keeping what must not be kept out of IPython's history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kalamdb_lab.notebook.failures import masked


def mask_history(shell: Any, secrets: Sequence[str]) -> None:
    """Replace secrets of the running cell in ``In``, ``_i`` and the history file.

    The source of the notebook itself belongs to the user and stays as it is.
    """
    history = shell.history_manager
    if not secrets or history is None or len(history.input_hist_raw) < 2:
        return
    number = len(history.input_hist_raw) - 1
    raw = masked(history.input_hist_raw[-1], secrets)
    if raw == history.input_hist_raw[-1]:
        return
    parsed = shell.transform_cell(raw).rstrip("\n")
    history.input_hist_raw[-1] = raw
    history.input_hist_parsed[-1] = parsed
    shell.user_ns[f"_i{number}"] = raw
    history._i00 = raw  # noqa: SLF001 - what becomes _i with the next cell
    if history.enabled:
        history.writeout_cache()  # what still waits to be written would be written as it was
        with history.db:
            history.db.execute(
                "UPDATE history SET source = ?, source_raw = ? WHERE session = ? AND line = ?",
                (parsed, raw, history.session_number, number),
            )
