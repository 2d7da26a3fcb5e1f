"""Notebooks run in JupyterLab and in Notebook 7 as a user runs them."""

from __future__ import annotations

from jupyter_pages import FrontEnd, OpenNotebook
from playwright.sync_api import expect

SLIDER = """
import ipywidgets
slider, button, said = ipywidgets.IntSlider(max=9), ipywidgets.Button(description="Add"), ipywidgets.Label()
def say(_=None):
    said.value = f"slider at {slider.value}"
def add(_):
    slider.value += 1
slider.observe(say, "value")
button.on_click(add)
ipywidgets.VBox([slider, button, said])
"""


def test_a_cell_prints_and_the_saved_file_has_it(
    open_notebook: OpenNotebook, front_end: FrontEnd
) -> None:
    notebook = open_notebook(
        ["import kalamdb_lab", "print(kalamdb_lab.__name__, 6 * 7)"], front_end
    )
    notebook.run_all()
    expect(notebook.output(1)).to_have_text("kalamdb_lab 42")
    expect(notebook.output(0)).to_have_count(0)
    (output,) = notebook.save()["cells"][1]["outputs"]
    assert "".join(output["text"]) == "kalamdb_lab 42\n"


def test_a_click_reaches_the_kernel_and_its_answer_the_page(
    open_notebook: OpenNotebook, front_end: FrontEnd
) -> None:
    notebook = open_notebook([SLIDER], front_end)
    notebook.run_all()
    output = notebook.output(0)
    output.get_by_role("button", name="Add").click()
    expect(output.get_by_text("slider at 1")).to_be_visible()
    output.locator(".noUi-base").click()  # in the middle
    expect(output.get_by_text("slider at 5")).to_be_visible()
    expect(output.locator(".widget-readout")).to_have_text("5")


def test_a_kernel_is_interrupted_by_keys_and_restarted(
    open_notebook: OpenNotebook, front_end: FrontEnd
) -> None:
    notebook = open_notebook(["import time; kept = 1; print('on'); time.sleep(60)"], front_end)
    notebook.run_cell(0, wait=False)
    expect(notebook.output(0)).to_have_text("on")
    notebook.press("i", "i")
    notebook.wait_idle(10)
    expect(notebook.outputs(0)).to_contain_text("KeyboardInterrupt")
    notebook.edit(0, "'kept' in globals()")
    notebook.run_cell(0)
    expect(notebook.output(0)).to_have_text("True")
    notebook.restart_kernel()
    notebook.run_cell(0)
    expect(notebook.output(0)).to_have_text("False")


def test_notebooks_of_both_are_open_at_once_and_a_reload_keeps_the_kernel(
    open_notebook: OpenNotebook,
) -> None:
    first = open_notebook(["kept = 'first'"], "lab")
    second = open_notebook(["kept = 'second'"], "notebook")
    first.run_all()
    second.run_all()
    first.save()
    first.reload()
    shown = first.output(first.execute("kept"))
    expect(shown).to_have_text("'first'")
    expect(second.output(second.execute("kept"))).to_have_text("'second'")


def test_foreign_hosts_are_out_of_reach_and_asking_is_noted(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook(["1"])
    ask = "address => fetch(address, {mode: 'no-cors'}).then(() => 'reached', () => 'refused')"
    assert notebook.evaluate(ask, "https://example.com/widget.js") == "refused"
    assert notebook.foreign_requests == ["https://example.com/widget.js"]
    notebook.foreign_requests.clear()
    assert notebook.evaluate(ask, f"{notebook.page.url}") == "reached"
