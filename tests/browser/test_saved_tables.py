"""A notebook that is opened again shows the last state of its live tables, or the live table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_pages import FrontEnd, Jupyter, NotebookPage
from playwright.sync_api import Locator, expect

NOTE = "last state saved; run the cell to go on"
OPEN = """
import kalamdb_lab as kalam
from IPython.display import display
%load_ext kalamdb_lab
%kalam open {name}.kalam
"""
TABLE = """%%kalam
CREATE NAMESPACE port;
CREATE SHARED TABLE port.departures (id BIGINT PRIMARY KEY, dest TEXT);
INSERT INTO port.departures SELECT range, 'dest ' || range FROM range(3)
"""
LIVE = "%%kalam --live\nSELECT * FROM port.departures ORDER BY id"
JOBS = "%kalam jobs"
# Another package's widget, with its own HTML beside it.
FOREIGN = """import ipywidgets
slider = ipywidgets.IntSlider()
bundle = slider._repr_mimebundle_()
bundle["text/html"] = '<div class="other">their own</div>'
display(bundle, raw=True)
"""
CONTEXT = "[...jupyterapp.shell.widgets('main')].find(w => w.context?.path === path).context"


@pytest.fixture
def saved(
    jupyter: Jupyter, front_end: FrontEnd, request: pytest.FixtureRequest
) -> Iterator[NotebookPage]:
    """A saved notebook: a live table in cell 2, jobs in cell 3, a foreign widget in cell 4."""
    name = f"saved-{front_end}-{request.node.originalname}"
    notebook = jupyter.open([OPEN.format(name=name), TABLE, LIVE, JOBS, FOREIGN], front_end)
    notebook.run_all()
    for index in (2, 3):
        expect(notebook.output(index).get_by_role("grid")).to_be_visible()
    expect(notebook.output(4).locator(".widget-slider")).to_be_visible()
    outputs: list[dict[str, Any]] = notebook.save()["cells"][2]["outputs"]
    assert "<td>dest 2</td>" in "".join(outputs[0]["data"]["text/html"])
    yield notebook
    jupyter.close(notebook)


def expect_last_state(outputs: Locator, cell: str) -> None:
    expect(outputs.get_by_text(NOTE)).to_be_visible()
    expect(outputs.get_by_text(cell).first).to_be_visible()
    expect(outputs).not_to_contain_text("model not found")
    expect(outputs).not_to_contain_text("Loading widget")
    expect(outputs.get_by_role("grid")).to_have_count(0)


def test_a_new_kernel_leaves_the_last_state_in_sight(saved: NotebookPage) -> None:
    saved.shut_down_kernel()
    saved.reload()
    for cell in ("dest 0", "dest 1", "dest 2"):
        expect_last_state(saved.outputs(2), cell)
    expect_last_state(saved.outputs(3), "jobs")
    expect(saved.outputs(2).locator("table")).to_have_count(1)
    foreign = saved.outputs(4)
    expect(foreign).to_contain_text("model not found")
    expect(foreign).not_to_contain_text("their own")
    expect(foreign).not_to_contain_text(NOTE)


def test_running_the_cell_again_makes_the_table_live(saved: NotebookPage) -> None:
    saved.shut_down_kernel()
    saved.reload()
    expect_last_state(saved.outputs(2), "dest 2")
    saved.run_cell(0)
    saved.run_cell(2)
    expect(saved.outputs(2).get_by_role("grid")).to_be_visible()
    expect(saved.outputs(2)).not_to_contain_text(NOTE)
    saved.execute("%%kalam\nINSERT INTO port.departures VALUES (7, 'Nome')")
    expect(saved.outputs(2).get_by_role("gridcell", name="Nome")).to_be_visible()


def test_a_kernel_that_goes_on_keeps_the_table_live(saved: NotebookPage) -> None:
    saved.reload()
    expect(saved.outputs(2).get_by_role("grid")).to_be_visible()
    saved.execute("%%kalam\nINSERT INTO port.departures VALUES (7, 'Nome')")
    expect(saved.outputs(2).get_by_role("gridcell", name="Nome")).to_be_visible()
    expect(saved.outputs(2)).not_to_contain_text(NOTE)


def test_without_a_kernel_the_last_state_is_shown(saved: NotebookPage) -> None:
    saved.evaluate(
        f"""async path => {{
            const context = {CONTEXT};
            await context.sessionContext.shutdown();
            await context.revert();
        }}""",
        saved.file.name,
    )
    expect_last_state(saved.outputs(2), "dest 2")
