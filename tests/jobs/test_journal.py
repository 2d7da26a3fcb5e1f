"""jobs.log: whole lines, whatever the text."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalamdb_lab.jobs.journal import JobJournal


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(text=st.text())
def test_every_event_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "jobs.log").unlink(missing_ok=True)
    journal = JobJournal(tmp_path)
    journal.write("FL-abc123", "INFO", "Completed", text)
    journal.write("FL-abc123", "INFO", "Started")
    lines = (tmp_path / "jobs.log").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[FL-abc123] INFO - Completed")
    assert lines[1] == "[FL-abc123] INFO - Started"


def test_words_stay_as_they_are(tmp_path: Path) -> None:
    JobJournal(tmp_path).write("CL-1234567", "ERROR", "Failed", "one\n  two\tthree\r\nfour")
    expected = "[CL-1234567] ERROR - Failed: one two three four\n"
    assert (tmp_path / "jobs.log").read_text() == expected


def test_what_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    JobJournal(tmp_path / "missing").write("CL-1234567", "INFO", "Started", "x")
