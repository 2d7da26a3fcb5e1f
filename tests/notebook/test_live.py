"""``--live``, ``%kalam jobs`` and ``%kalam system`` in a kernel; tests/browser looks at the page."""

from __future__ import annotations

import time

import pytest

from tests.notebook.conftest import Cell, Kernel


@pytest.fixture(scope="module")
def lab(kernel: Kernel) -> Kernel:
    kernel.show("%kalam CREATE TABLE tides (id BIGINT PRIMARY KEY, height DOUBLE)")
    kernel.show("%kalam INSERT INTO tides VALUES (1, 0.5), (2, 1.5)")
    kernel.show("least = 1.0")
    return kernel


def ids(kernel: Kernel, name: str) -> object:
    return kernel.value(f"sorted({name}.snapshot()['id'].to_pylist())")


def test_a_live_table_follows_the_database(lab: Kernel) -> None:
    for code in (
        "%%kalam --live high <<\nSELECT id, height FROM tides WHERE height > :least",
        "high = %kalam --live SELECT id, height FROM tides WHERE height > :least",
    ):
        assert lab.show(code).shown == []
        assert lab.value("type(high).__name__") == "LiveTable"
        assert ids(lab, "high") == [2]
        lab.show("%kalam INSERT INTO tides VALUES (3, 2.5)")
        assert lab.value("high.wait(rows=2, timeout=20)")
        assert ids(lab, "high") == [2, 3]
        lab.show("%kalam DELETE FROM tides WHERE id = 3")
        lab.show("high.stop()")
        assert lab.value("high.is_open") is False


def shown_table(cell: Cell) -> dict[str, object]:
    (shown,) = cell.data
    assert "application/vnd.jupyter.widget-view+json" in shown
    assert "1.5" in shown["text/html"]
    assert "1.5" in shown["text/plain"]
    return shown


@pytest.mark.parametrize(
    "code",
    [
        "%%kalam --live\nSELECT id, height FROM tides",
        "%kalam --live SELECT id, height FROM tides",
        "kept = 1\n%kalam --live SELECT id, height FROM tides\nkept = 2",
    ],
)
def test_is_shown_once_with_html_and_text(lab: Kernel, code: str) -> None:
    shown_table(lab.show(code))


def test_what_a_cell_returned_stays_live(lab: Kernel) -> None:
    lab.show("%%kalam --live\nSELECT id, height FROM tides")
    lab.show("table = _")
    assert lab.value("table.is_open") is True
    lab.show("table.stop(); del table")


def test_reads_snippets(lab: Kernel) -> None:
    lab.show("%%kalam --save above\nSELECT id, height FROM tides WHERE height > :least")
    lab.show("%%kalam --live above_now <<\nSELECT id FROM above")
    assert ids(lab, "above_now") == [2]
    lab.show("above_now.stop()\n%kalam snippets --delete above")


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("SELECT id,\n  heigth FROM tides", "NotFoundError: Column 'heigth' not found"),
        ("DELETE FROM tides WHERE id = 1", "NotSupportedError"),
        ("SELECT 1; SELECT 2", "InvalidOptionError: --live takes one query; the cell has 2"),
        ("SELECT * FROM rows", "NotSupportedError: A live table reads tables of the database only"),
    ],
)
def test_what_cannot_be_live_is_refused(lab: Kernel, cell: str, error: str) -> None:
    lab.show("import pyarrow as pa\nrows = pa.table({'a': [1]})")
    lines = lab.fails(f"%%kalam --live\n{cell}")
    assert lines[0].startswith(error)
    assert len(lines) <= 6
    if "heigth" in cell:
        assert lines[-2:] == ["      heigth FROM tides", "      ^^^^^^"]
    assert "2 rows" in lab.show("%kalam SELECT * FROM tides").text


def test_the_current_connection_is_that_of_live(lab: Kernel) -> None:
    lab.show("import kalamdb_lab as kalam\nall_of = kalam.live('SELECT id FROM tides')")
    assert ids(lab, "all_of") == [1, 2]
    lab.show("all_of.stop()")


def test_jobs_and_system_are_shown(lab: Kernel) -> None:
    lab.show("%kalam STORAGE FLUSH TABLE tides")
    for command, text in (("jobs", "flush"), ("system", "studio")):
        cell = lab.show(f"%kalam {command}")
        assert any("application/vnd.jupyter.widget-view+json" in item for item in cell.data)
        assert text in cell.html
    assert lab.fails("%kalam jobs x")[0] == "InvalidOptionError: %kalam jobs takes no name"


def test_ends_with_its_connection(lab: Kernel) -> None:
    lab.show("%kalam open lab.kalam --namespace studio --name second")
    lab.show("t = %kalam @second --live SELECT id FROM tides")
    lab.show("%kalam close second\n%kalam @lab")
    until = time.monotonic() + 20
    while lab.value("t.is_open"):
        assert time.monotonic() < until


def test_interrupting_its_first_reading_gives_the_prompt_back(lab: Kernel) -> None:
    long = "SELECT sum(a.range * b.range % 7) AS s FROM range(2000000) a, range(2000000) b, tides"
    message_id = lab.send(f"%%kalam --live\n{long}")
    time.sleep(0.6)
    pressed = time.monotonic()
    lab.interrupt()
    cell = lab.answer(message_id, timeout_s=60)
    assert cell.status == "error"
    assert time.monotonic() - pressed < 0.5
    assert "Interrupted" in cell.error[0]
    assert "1 row" in lab.show("%%kalam\nSELECT 1 AS a").text


def test_each_that_a_cell_shows_stays_live_until_reset(kernel: Kernel) -> None:
    kernel.show("%kalam open other.kalam")
    try:
        kernel.show("%kalam CREATE TABLE t (id BIGINT PRIMARY KEY)")
        kernel.show("%kalam --live SELECT id FROM t\n%kalam --live SELECT id + 1 AS n FROM t")
        kernel.show("for i in range(2):\n    %kalam jobs")
        kernel.show("import gc; gc.collect();")
        kernel.show("%%kalam rows <<\nSHOW LIVE QUERIES")
        assert kernel.value("rows.row_count") == 4
        kernel.show("%reset -f")
        kernel.show("import gc; gc.collect();")
        until = time.monotonic() + 20
        while kernel.show("%kalam SHOW LIVE QUERIES").text.splitlines()[-1][:7] != "no rows":
            assert time.monotonic() < until
    finally:
        kernel.show("%kalam close other\n%kalam @lab")


OPEN = "[row[0] for row in root.execute('SELECT live_id FROM system.live_queries').rows()]"


@pytest.fixture
def listed(lab: Kernel) -> Kernel:
    """A session that lists what is live."""
    lab.show("from kalamdb_lab.notebook.extension import current_session")
    lab.show("root = current_session()")
    return lab


@pytest.mark.parametrize("code", ["%%kalam --live\nSELECT id FROM tides", "%kalam jobs"])
def test_a_cell_that_runs_again_ends_what_it_showed(listed: Kernel, code: str) -> None:
    others = listed.value(OPEN)
    for _ in range(3):
        assert listed.run_cell(f"{code} 1", code).error == []
    (first,) = [live_id for live_id in listed.value(OPEN) if live_id not in others]
    listed.run_cell(f"{code} 2", code)
    now = listed.value(OPEN)
    assert first in now, "another cell ends nothing of this one"
    assert len(now) == len(others) + 2


def test_two_views_of_one_run_stay_and_one_that_code_keeps_too(listed: Kernel) -> None:
    others = listed.value(OPEN)
    both = "%kalam --live SELECT id FROM tides\nheld = %kalam --live SELECT height FROM tides"
    listed.run_cell("three", both)
    assert len(listed.value(OPEN)) == len(others) + 2
    listed.run_cell("three", "%kalam --live SELECT 1 AS one FROM tides")
    assert len(listed.value(OPEN)) == len(others) + 2
    assert listed.value("held.is_open") is True
    listed.show("held.stop()")
