"""``jobs.log``: one line for each event of a job, for people and for ``tail -f``."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

JOURNAL_FILE = "jobs.log"

_UNFIT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class JobJournal:
    """Appends to the log of a database directory; several processes may.

    What cannot be written is left out: a full disk must not fail a job that needs no space.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / JOURNAL_FILE

    def write(self, job_id: str, level: str, event: str, text: str = "") -> None:
        """Add ``[job_id] LEVEL - Event: text``; line ends in the text become blanks."""
        line = f"[{job_id}] {level} - {event}"
        if text:
            line += f": {_UNFIT.sub(' ', text).strip()}"
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(line + "\n")
