"""What stays in a notebook that was run and saved: text and HTML, and nothing else is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbconvert
import nbformat
import pytest

CELLS = (
    "%load_ext kalamdb_lab\n%kalam open lab.kalam",
    "%%kalam\nCREATE TABLE fruit (name TEXT PRIMARY KEY, price DOUBLE);\n"
    "INSERT INTO fruit VALUES ('apple', 0.4), ('fig', 1.5)",
    "import pandas as pd\nstock = pd.DataFrame({'name': ['fig'], 'kg': [3]})",
    "%%kalam --save cheap\nSELECT * FROM fruit WHERE price < 1",
    "%kalam SELECT name, kg FROM fruit JOIN stock USING (name)",
    "%%kalam --explain\nSELECT * FROM cheap ORDER BY price",
    "%%kalam slow <<\nSELECT sum(a.range * b.range % 7) AS s FROM range(60000) a, range(9000) b",
    "%kalam snippets",
)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "lab.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_show_all_of_it_without_a_front_end(notebook: Path) -> None:
    read = nbformat.read(notebook, as_version=4)
    nbclient.NotebookClient(
        read, timeout=60, resources={"metadata": {"path": notebook.parent}}
    ).execute()
    outputs = [output for cell in read.cells for output in cell.get("outputs", [])]
    assert {output.output_type for output in outputs} <= {"display_data", "execute_result"}
    assert {mime for output in outputs for mime in output.data} == {"text/plain", "text/html"}
    (progress,) = read.cells[6].outputs or [None]
    assert progress is None or progress.data["text/plain"] == ""
    body, _ = nbconvert.HTMLExporter().from_notebook_node(read)
    for text in ("<td>fig</td>", "stock: local pandas DataFrame, 1 row", "saved as cheap"):
        assert text in body
    assert "<b>Sort</b>" in body
    assert "<progress" not in body


@pytest.mark.slow
def test_are_compared_alike_by_nbval(notebook: Path) -> None:
    environment = os.environ | {"KALAMDB_LAB_TESTING": "1"}
    read = nbformat.read(notebook, as_version=4)
    os.environ["KALAMDB_LAB_TESTING"] = "1"
    try:
        nbclient.NotebookClient(
            read, timeout=60, resources={"metadata": {"path": notebook.parent}}
        ).execute()
    finally:
        del os.environ["KALAMDB_LAB_TESTING"]
    nbformat.write(read, notebook)
    again = notebook.parent / "again"
    again.mkdir()
    notebook.rename(again / notebook.name)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval"]
    done = subprocess.run(
        [*command, "--nbval-current-env", "--nbval-cell-timeout=60", "lab.ipynb"],
        cwd=again,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{len(CELLS)} passed" in done.stdout, done.stdout
