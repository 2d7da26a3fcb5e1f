"""What is left of a live table where there is no page: converters, scripts, other machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import kalamdb_lab

OPEN = """import kalamdb_lab as kalam
from kalamdb_lab import widgets
db = kalam.open("lab.kalam")
root = db.session()
_ = root.execute("CREATE SHARED TABLE fruit (name TEXT PRIMARY KEY, price DOUBLE)")
live = kalam.live("SELECT * FROM fruit ORDER BY name", session=root)
live"""
FILL = """_ = root.execute("INSERT INTO fruit VALUES ('<b>', 1.5), ('fig', NULL)")
live.wait(rows=2, timeout=20)"""
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"anywidget", "ipywidgets", "IPython", "traitlets"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import kalamdb_lab as kalam
from kalamdb_lab import widgets
session = kalam.open(sys.argv[1]).session()
for show in (lambda: kalam.live("SELECT 1", session=session), lambda: widgets.jobs(session),
             lambda: kalam.live("SELECT 1"), lambda: widgets.system(session)):
    try:
        show()
    except kalam.KalamError as error:
        print(error)
"""
SCRIPT = """
import sys
import kalamdb_lab as kalam
root = kalam.open(sys.argv[1]).session()
live = kalam.live("SELECT 1 AS one", session=root)
live._ipython_display_()
"""


def run(folder: Path, *cells: str) -> Any:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


@pytest.mark.slow
def test_a_notebook_run_by_a_program_keeps_the_last_state(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        OPEN,
        FILL,
        "live.stop()\nlive.ended",
        "import threading\n[t.name for t in threading.enumerate()]",
    )
    shown, waited, stopped, threads = (cell.outputs for cell in done.cells)
    (output,) = shown
    assert output["output_type"] == "display_data"
    html, text = output["data"]["text/html"], output["data"]["text/plain"]
    assert "<td>&lt;b&gt;</td>" in html
    assert '<td class="n z">NULL</td>' in html
    assert "2 rows · live · ended" in html
    assert "fig NULL" in " ".join(text.split())
    assert "VBox" not in text
    assert [out["data"]["text/plain"] for out in (*waited, *stopped)] == ["True", "'stopped'"]
    assert "kalam-live-view" not in threads[0]["data"]["text/plain"]
    assert [
        out for cell in done.cells for out in cell.outputs if out["output_type"] == "stream"
    ] == []


@pytest.mark.slow
def test_reset_ends_it_and_its_subscription(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        OPEN,
        "%reset -f",
        "import threading, time, gc, kalamdb_lab\n"
        "gc.collect()\n"
        "until = time.monotonic() + 20\n"
        "while any('kalam-live-view' == t.name for t in threading.enumerate()):\n"
        "    assert time.monotonic() < until; time.sleep(0.01)\n"
        "kalamdb_lab.open('lab.kalam').session().execute('SHOW LIVE QUERIES').row_count",
    )
    assert done.cells[2].outputs[-1]["data"]["text/plain"] == "0"


@pytest.mark.slow
def test_monitors_leave_tables_too(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        OPEN,
        "jobs = widgets.jobs(root)\njobs",
        "explorer = widgets.system(root)\nexplorer",
        "job = root.execute('STORAGE FLUSH TABLE fruit').rows()[0][0]\n"
        "_ = db.jobs.wait(job, timeout=20)\n"
        "while jobs.snapshot()['status'].to_pylist() != ['completed']:\n"
        "    assert jobs.wait(timeout=20)\n"
        "jobs.stop(); explorer.stop()",
    )
    jobs, explorer = (cell.outputs[0]["data"]["text/html"] for cell in done.cells[1:3])
    assert "<td>default.fruit</td>" in jobs
    assert "<td>100%</td>" in jobs
    assert "cancel" not in jobs
    assert "<td>fruit</td>" in explorer


def test_a_script_prints_the_rows_and_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "lab.kalam")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[:3] == [" one", " ───", "   1"]
    assert done.stderr == ""


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path / "lab.kalam")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert (
        done.stdout.splitlines()
        == ['Live tables need more packages; run pip install "kalamdb-lab[notebook]"'] * 4
    )


def test_the_module_of_the_page_is_small_and_asks_nobody() -> None:
    folder = Path(kalamdb_lab.__file__).parent / "widgets"
    script = (folder / "grid.js").read_text("utf-8")
    assert len(script.splitlines()) <= 250
    for text in (script, (folder / "grid.css").read_text("utf-8")):
        for word in ("http:", "https:", "//cdn", "import(", "url(", "innerHTML ="):
            assert word not in text
