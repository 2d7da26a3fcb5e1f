"""The job monitor and the system explorer in a page."""

from __future__ import annotations

import re

from jupyter_pages import FrontEnd, OpenNotebook
from playwright.sync_api import expect

MANY = """
import kalamdb_lab as kalam
from kalamdb_lab import widgets
db = kalam.open("{name}.kalam")
root = db.session()
_ = root.execute_script(
    "CREATE NAMESPACE chat; CREATE USER TABLE chat.messages (id BIGINT PRIMARY KEY, body TEXT)")
for number in range({users}):
    _ = root.execute("INSERT INTO chat.messages VALUES (1, 'hello')", as_user=f"user {{number}}")
"""
JOBS = "jobs = widgets.jobs(root)\njobs"
FLUSH = "_ = root.execute('STORAGE FLUSH TABLE chat.messages')"
BARS = """() => {
    window.bars = new Set();
    const note = () => document.querySelectorAll('.kg-meter').forEach(
        bar => window.bars.add(Number(bar.getAttribute('aria-valuenow'))));
    new MutationObserver(note).observe(document.querySelector('.kalam-grid'),
        {subtree: true, childList: true, attributes: true});
}"""


def test_the_bar_of_a_job_moves_and_cancel_cancels(
    open_notebook: OpenNotebook, front_end: FrontEnd
) -> None:
    setting = MANY.format(name=f"jobs-{front_end}", users=900)
    notebook = open_notebook([setting + JOBS, FLUSH], front_end)
    notebook.run_cell(0)
    expect(notebook.output(0).locator(".kg-count")).to_have_text(
        "0 rows · jobs of the last 10 minutes; SHOW JOBS lists all"
    )
    notebook.evaluate(BARS)
    notebook.run_cell(1)
    output = notebook.output(0)
    expect(output.get_by_text("running", exact=True)).to_be_visible()
    notebook.page.wait_for_function(
        "() => [...window.bars].filter(share => share > 0 && share < 100).length >= 2"
    )
    expect(output.get_by_text(re.compile(r"^\d+ of 900 partitions$"))).to_be_visible()
    output.get_by_role("button", name="Cancel").click()
    expect(output.get_by_text("cancelled", exact=True)).to_be_visible()
    expect(output.get_by_role("button", name="Cancel")).to_have_count(0)
    notebook.execute("jobs.stop()")
    (saved,) = notebook.save()["cells"][0]["outputs"]
    assert "cancelled" in "".join(saved["data"]["text/html"])


def test_the_explorer_shows_tables_columns_and_rows(open_notebook: OpenNotebook) -> None:
    setting = MANY.format(name="explored", users=3)
    notebook = open_notebook([setting + "explorer = widgets.system(root)\nexplorer"])
    notebook.run_all()
    output = notebook.output(0)
    cells = output.locator("[role=gridcell]")
    expect(cells.get_by_text("messages", exact=True)).to_be_visible()
    output.get_by_role("listbox").select_option("chat.messages")
    expect(cells.get_by_text("body", exact=True)).to_be_visible()
    output.get_by_role("listbox").select_option("system.users")
    output.get_by_role("button", name="Rows").click()
    expect(cells.get_by_text("root", exact=True).first).to_be_visible()
    notebook.execute("_ = root.execute(\"CREATE USER 'mia' INTERNAL ROLE user\")")
    expect(cells.get_by_text("mia", exact=True)).to_be_visible()
    notebook.execute("explorer.stop()")
    (saved,) = notebook.save()["cells"][0]["outputs"]
    assert "<td>mia</td>" in "".join(saved["data"]["text/html"])
