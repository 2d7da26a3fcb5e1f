"""How far a running statement is."""

from __future__ import annotations

import re
import sys

import pytest

from kalamdb_lab.notebook.progress import Progress, line
from tests.notebook.conftest import Kernel

LONG = "SELECT sum(a.range * b.range % 7) AS s FROM range(30000) a, range(4000) b"


def test_is_one_display_that_is_empty_in_the_end(kernel: Kernel) -> None:
    code = f"result = %kalam {LONG}"
    cell = kernel.show(code)
    while cell.elapsed_s < 1:  # a faster machine has more to do
        code = code.replace("range(4000)", "range(40000)")
        cell = kernel.show(code)
    assert len(cell.shown) == 1
    for state in cell.updates[:-1]:
        assert re.fullmatch(r"(running|[█░]{24} \d+%) · [0-9.,]+ m?s", state["text/plain"])
        assert state["text/html"].startswith('<div class="kalam-progress"><progress max="1"')
    assert len(cell.updates) > 1
    assert cell.updates[-1] == {"text/plain": "", "text/html": ""}


@pytest.mark.slow
def test_tells_the_share_of_what_is_read_from_segments(kernel: Kernel) -> None:
    kernel.show("import pyarrow as pa\nmany = pa.table({'id': range(400_000)})")
    kernel.show("%kalam CREATE TABLE heap (id BIGINT PRIMARY KEY)")
    kernel.show("%kalam INSERT INTO heap SELECT id FROM many")
    query = "levenshtein(md5(id::TEXT), md5((id + 1)::TEXT))"
    cell = kernel.show(f"r = %kalam SELECT sum({query} + {query.replace('1', '2')}) FROM heap")
    texts = [item["text/plain"] for item in cell.updates]
    shares = [int(found[1]) for text in texts if (found := re.search(r"(\d+)% ·", text))]
    assert shares == sorted(shares)
    assert shares[-1] > 0
    assert any(re.search(r'<progress max="1" value="0\.\d+"', u["text/html"]) for u in cell.updates)


def test_is_not_there_for_quick_statements(kernel: Kernel) -> None:
    cell = kernel.show("%%kalam\nSELECT 1 AS a;\nSELECT count(*) FROM numbers")
    assert len(cell.shown) == 2
    assert cell.updates == []


def test_goes_when_the_statement_fails(kernel: Kernel) -> None:
    failing = f"SELECT CAST('x' || s AS INT) FROM ({LONG.replace('4000', '40000')})"
    cell = kernel.run(f"%kalam {failing}")
    assert cell.status == "error"
    assert len(cell.shown) == 1
    assert cell.data == []


def test_can_be_turned_off(kernel: Kernel) -> None:
    kernel.show("%config KalamMagic.show_progress = False")
    try:
        cell = kernel.show(f"result = %kalam {LONG.replace('4000', '20000')}")
        assert cell.shown == cell.updates == []
    finally:
        kernel.show("%config KalamMagic.show_progress = True")


def test_without_a_front_end_writes_over_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = iter([0.25, 0.5, 0.4])
    progress = Progress(lambda: next(shares), has_front_end=False)
    progress.step(9)
    assert capsys.readouterr().err == ""  # no terminal: nothing
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress.step(10)
    progress.step(11)
    progress.end()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.split("\r\x1b[K")[1:] == [
        f"{'█' * 12}{'░' * 12} 50% · 10.0 s",
        f"{'█' * 12}{'░' * 12} 50% · 11.0 s",  # it never goes back
        "",
    ]


def test_without_a_share_is_the_time() -> None:
    assert line(None, 3.14) == "running · 3.1 s"
