"""What the shell remembers between two runs, without the secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

_SECRET: Final = re.compile(
    r"\b(?:PASSWORD|CREDENTIALS)\b|\b(?:CREATE|ALTER)\s+(?:USER\s+(?!TABLE\b)|STORAGE\b)",
    re.IGNORECASE,
)
"""Statements that hold secrets, or were meant to: the word may be spelled wrongly."""


def history_file() -> Path:
    """Return where the history is kept: in the state directory of the person."""
    stated = os.environ.get("XDG_STATE_HOME", "")
    # A relative one is to be ignored, says the standard.
    home = Path(stated) if Path(stated).is_absolute() else Path.home() / ".local" / "state"
    return home / "kalamdb-lab" / "history"


def may_hold_secret(text: str) -> bool:
    """Return whether a text is not to be kept."""
    return _SECRET.search(text) is not None


def shell_history() -> History:
    """Return the history of former runs; one that is not kept where nothing can be written."""
    path = history_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.read_bytes()
    except OSError:
        return InMemoryHistory()
    return _StatementHistory(path)


class _StatementHistory(FileHistory):
    def store_string(self, string: str) -> None:
        """Keep a statement for later runs; this one remembers all of them anyway."""
        if not may_hold_secret(string):
            super().store_string(string)
