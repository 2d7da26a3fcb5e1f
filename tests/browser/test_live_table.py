"""The live table in a page: it follows the data, and stays usable with a million rows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from jupyter_pages import FrontEnd, Jupyter, NotebookPage, OpenNotebook
from playwright.sync_api import Locator, expect

OPEN = """
import kalamdb_lab as kalam
db = kalam.open("{name}.kalam")
root = db.session()
run = root.execute
_ = root.execute_script('''
    CREATE NAMESPACE IF NOT EXISTS port; USE port;
    CREATE SHARED TABLE IF NOT EXISTS departures
        (id BIGINT PRIMARY KEY, carrier TEXT, dest TEXT, delay DOUBLE)''')
"""
FILL = (
    "_ = run(\"INSERT INTO departures SELECT range, 'UA', 'dest ' || range, 1.5 FROM range(40)\")"
)
LIVE = 'live = kalam.live("SELECT * FROM departures ORDER BY id", session=root)\nlive'
# The last 1.5 seconds of a flash may be over when a test looks: so all classes are written down.
WATCH = """() => {
    window.seen = new Set();
    const note = ({target}) => (target.classList || []).forEach(name => window.seen.add(name));
    new MutationObserver(all => all.forEach(change => {
        note(change);
        change.addedNodes.forEach(target => note({target}));
    })).observe(document.querySelector('.kalam-grid'),
        {subtree: true, childList: true, attributes: true, attributeFilter: ['class']});
}"""
MILLION = """
import numpy as np, pyarrow as pa
n = 1_000_000
_ = root.insert("departures", pa.table({
    "id": np.arange(n), "carrier": pa.array(np.array(["UA", "AA", "DL"])[np.arange(n) % 3]),
    "dest": pa.array([f"dest {i % 977}" for i in range(n)]), "delay": np.arange(n) % 1000 / 10}))
"""


def cells_of(output: Locator, row: int) -> list[str]:
    """Return the texts of a row by its number, from 0."""
    return output.locator(f'[aria-rowindex="{row + 2}"] [role=gridcell]').all_inner_texts()


def column(output: Locator, name: str) -> Locator:
    return output.get_by_role("columnheader", name=name, exact=True)


def expect_row(output: Locator, row: int, *texts: str) -> None:
    cells = output.locator(f'[aria-rowindex="{row + 2}"] [role=gridcell]')
    for at, text in enumerate(texts):
        expect(cells.nth(at)).to_have_text(text)


def saw(notebook: NotebookPage, name: str) -> None:
    """Wait until a row or cell has had a class."""
    notebook.page.wait_for_function("name => window.seen.has(name)", arg=name, timeout=10_000)


@pytest.fixture(scope="module", params=["lab", "notebook"])
def board(jupyter: Jupyter, request: pytest.FixtureRequest) -> Iterator[NotebookPage]:
    """A live table of 40 departures in cell 0."""
    name = f"board-{request.param}"
    notebook = jupyter.open([OPEN.format(name=name) + FILL + "\n" + LIVE], request.param)
    notebook.run_all()
    expect(notebook.output(0).get_by_role("grid")).to_be_visible()
    yield notebook
    jupyter.close(notebook)
    assert notebook.foreign_requests == []


def test_rows_appear_as_a_grid(board: NotebookPage) -> None:
    output = board.output(0)
    expect(output.get_by_role("grid")).to_have_attribute("aria-rowcount", "41")
    expect_row(output, 3, "3", "UA", "dest 3", "1.5")
    expect(output.locator(".kg-count")).to_have_text("40 rows")
    expect(output.get_by_role("status")).to_have_text("live")


def test_what_changes_flashes(board: NotebookPage) -> None:
    board.evaluate(WATCH)
    output = board.output(0)
    board.execute("_ = run(\"INSERT INTO departures VALUES (-1, 'DL', 'Nome', NULL)\")")
    expect_row(output, 0, "-1", "DL", "Nome", "NULL")
    saw(board, "kg-ins")
    board.execute("_ = run('UPDATE departures SET delay = 9.5 WHERE id = 2')")
    expect_row(output, 3, "2", "UA", "dest 2", "9.5")
    saw(board, "kg-upd")
    saw(board, "kg-new")
    board.execute("_ = run('DELETE FROM departures WHERE id = -1')")
    expect_row(output, 0, "0", "UA")
    saw(board, "kg-del")
    expect(output.locator(".kg-del")).to_have_count(0)


def test_changes_wait_while_it_is_paused(board: NotebookPage) -> None:
    output = board.output(0)
    output.get_by_role("button", name="Pause").click()
    expect(output.get_by_role("status")).to_have_text("paused · +0 waiting")
    board.execute("_ = run('UPDATE departures SET delay = 77.5 WHERE id < 8')")
    expect(output.get_by_role("status")).to_have_text("paused · +8 waiting")
    assert cells_of(output, 0) == ["0", "UA", "dest 0", "1.5"]
    output.get_by_role("button", name="Resume").click()
    expect_row(output, 0, "0", "UA", "dest 0", "77.5")
    expect(output.get_by_role("status")).to_have_text("live")


def test_renewing_what_is_saved_keeps_place_and_focus(board: NotebookPage) -> None:
    """The application draws an output anew when its HTML changes."""
    output = board.output(0)
    grid = output.get_by_role("grid")
    board.execute(
        "import threading\n"
        "def renew():\n"
        "    run('UPDATE departures SET delay = 3.5 WHERE id = 39')\n"
        "    live.wait(rows=1)\n"
        "threading.Timer(1, renew).start()"
    )
    grid.press("End")
    expect_row(output, 39, "39", "UA", "dest 39", "1.5")
    board.evaluate("() => { document.querySelector('.kalam-grid').parentNode.id = 'first'; }")
    board.page.wait_for_function("() => !document.getElementById('first')")
    expect_row(output, 39, "39", "UA", "dest 39", "3.5")
    board.page.wait_for_function("() => document.activeElement.role === 'grid'")
    expect(output.locator(".kalam-grid")).to_have_count(1)
    board.page.wait_for_function(
        """() => {
            const grid = document.activeElement;
            grid.dispatchEvent(new KeyboardEvent('keydown', {key: 'Home', bubbles: true}));
            return grid.role === 'grid' && grid.querySelector('[aria-rowindex="2"]');
        }"""
    )


def test_the_saved_notebook_has_the_last_state(board: NotebookPage) -> None:
    board.execute("_ = run(\"UPDATE departures SET dest = 'last' WHERE id = 1\")")
    expect_row(board.output(0), 1, "1", "UA", "last")
    board.execute("live.wait(rows=1)")
    (output,) = board.save()["cells"][0]["outputs"]
    html = "".join(output["data"]["text/html"])
    assert "<td>last</td>" in html
    assert re.search(r"40 rows · live · as of \d\d:\d\d:\d\d", html)
    assert "application/vnd.jupyter.widget-view+json" in output["data"]


def test_a_stopped_table_says_so_and_can_still_be_sorted(board: NotebookPage) -> None:
    board.execute("live.stop()")
    output = board.output(0)
    expect(output.get_by_role("status")).to_have_text(re.compile(r"^ended \d\d:\d\d:\d\d$"))
    column(output, "id").click()
    column(output, "id").click()
    expect_row(output, 0, "39")


@pytest.fixture(scope="module")
def million(jupyter: Jupyter) -> Iterator[NotebookPage]:
    """A live table of 1,000,000 departures in cell 0."""
    notebook = jupyter.open([OPEN.format(name="million") + MILLION + LIVE])
    notebook.run_all()
    expect(notebook.output(0).locator(".kg-count")).to_have_text("1,000,000 rows")
    yield notebook
    jupyter.close(notebook)


def test_a_million_rows_are_scrolled_to_the_end_and_back(million: NotebookPage) -> None:
    output, page = million.output(0), million.page
    grid = output.get_by_role("grid")
    grid.press("End")
    expect_row(output, 999_999, "999999", "UA")
    grid.press("PageUp")
    expect(output.locator(".kg-at")).to_have_attribute("aria-rowindex", "999988")
    grid.evaluate("pane => { pane.scrollTop = pane.scrollHeight / 2; }")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.kg-body > .kg-row')].some(row => "
        "Math.abs(Number(row.getAttribute('aria-rowindex')) - 500000) < 100)"
    )
    middle = grid.evaluate("pane => pane.scrollTop")
    grid.hover()
    page.mouse.wheel(0, 240)
    page.wait_for_function(
        "middle => document.querySelector('.kg-pane').scrollTop !== middle", arg=middle
    )
    rows = output.locator(".kg-body > .kg-row").count()
    assert rows < 60  # the rest is not in the page
    grid.press("Home")
    expect_row(output, 0, "0", "UA", "dest 0", "0.0")


def test_a_million_rows_are_sorted_and_filtered_in_the_kernel(million: NotebookPage) -> None:
    output = million.output(0)
    header = column(output, "delay")
    header.press("Enter")
    expect(header).to_have_attribute("aria-sort", "ascending")
    header.press("Enter")
    expect(header).to_have_attribute("aria-sort", "descending")
    expect_row(output, 0, "999", "UA", "dest 22", "99.9")
    box = output.get_by_role("searchbox")
    box.fill("carrier:dl delay>99 dest:976")
    expect(output.locator(".kg-count")).to_have_text(re.compile(r"^\d+ of 1,000,000 rows$"))
    shown = int(output.locator(".kg-count").inner_text().split()[0].replace(",", ""))
    wanted = sum(i % 3 == 2 and i % 1000 > 990 and i % 977 == 976 for i in range(1_000_000))
    assert shown == wanted > 0
    box.fill("")
    expect(output.locator(".kg-count")).to_have_text("1,000,000 rows")
    header.click()
    expect(header).to_have_attribute("aria-sort", "none")
    expect_row(output, 0, "0")


def test_an_insert_of_another_notebook_arrives(
    open_notebook: OpenNotebook, front_end: FrontEnd
) -> None:
    setting = OPEN.format(name=f"shared-{front_end}")
    reader = open_notebook([setting + LIVE], front_end)
    reader.run_all()
    expect(reader.output(0).locator(".kg-count")).to_have_text("0 rows")
    writer = open_notebook(
        [setting, "_ = run(\"INSERT INTO departures VALUES (7, 'WN', 'Reno', 1)\")"]
    )
    writer.run_all()
    expect_row(reader.output(0), 0, "7", "WN", "Reno", "1.0")


def test_a_reloaded_page_goes_on_and_a_dead_kernel_is_seen(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook([OPEN.format(name="reloaded") + FILL + "\n" + LIVE])
    notebook.run_all()
    expect_row(notebook.output(0), 0, "0", "UA")
    notebook.save()
    notebook.reload()
    output = notebook.output(0)
    expect_row(output, 0, "0", "UA")
    notebook.execute("_ = run('UPDATE departures SET delay = 4.25 WHERE id = 0')")
    expect_row(output, 0, "0", "UA", "dest 0", "4.25")
    notebook.restart_kernel()
    expect(output.get_by_role("status")).to_have_text("kernel gone")
    expect(output.get_by_role("button", name="Pause")).to_be_disabled()
    expect_row(output, 0, "0", "UA", "dest 0", "4.25")


def test_a_table_that_nobody_holds_leaves_its_picture(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook(
        [
            OPEN.format(name="held")
            + FILL
            + "\n"
            + LIVE.replace("\nlive", "\nlive._ipython_display_()")
        ]
    )
    notebook.run_all()
    output = notebook.output(0)
    expect(output.get_by_role("grid")).to_be_visible()
    notebook.execute("import gc; del live; gc.collect(); run('SHOW LIVE QUERIES').row_count")
    expect(output.locator("table")).to_be_visible()
    expect(output).to_contain_text("ended")
    expect(output.get_by_role("grid")).to_have_count(0)
    count = notebook.execute(
        "from ipywidgets.widgets.widget import _instances\n"
        "run('SHOW LIVE QUERIES').row_count, len(_instances)"
    )
    expect(notebook.output(count)).to_have_text("(0, 0)")


def test_texts_stay_texts(open_notebook: OpenNotebook) -> None:
    image = '<img src=x onerror="window.broken=1">'
    query = f'SELECT id, carrier AS "{image.replace(chr(34), chr(34) * 2)}", dest FROM departures'
    notebook = open_notebook(
        [
            OPEN.format(name="texts") + f"image = {image!r}\n"
            "_ = run('INSERT INTO departures VALUES (1, ?, NULL, 0)', [image])\n"
            f"live = kalam.live({query!r}, session=root)\nlive"
        ]
    )
    notebook.run_all()
    output = notebook.output(0)
    expect_row(output, 0, "1", image, "NULL")
    notebook.execute("live._view.say(image)")
    expect(output.get_by_role("alert")).to_have_text(image)
    expect(output.locator(".kg-null")).to_have_count(1)
    notebook.execute("_ = run(\"UPDATE departures SET dest = 'NULL' WHERE id = 1\")")
    expect(output.locator(".kg-null")).to_have_count(0)
    expect_row(output, 0, "1", image, "NULL")
    notebook.execute("import gc; live.stop(); del live, _; gc.collect();")
    expect(output.locator("img")).to_have_count(0)
    assert notebook.evaluate("() => window.broken") is None


def test_dark_pages_and_readers_who_want_calm(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook([OPEN.format(name="dark") + FILL + "\n" + LIVE])
    notebook.page.emulate_media(reduced_motion="reduce")
    notebook.run_all()
    output = notebook.output(0)
    expect_row(output, 0, "0", "UA")
    notebook.evaluate(WATCH)
    notebook.evaluate(
        "() => jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
    )
    page_colour = "() => getComputedStyle(document.querySelector('.kg-pane')).backgroundColor"
    notebook.page.wait_for_function(f"() => ({page_colour})() === 'rgb(17, 17, 17)'")
    notebook.execute("_ = run('UPDATE departures SET delay = 8.5 WHERE id = 0')")
    notebook.execute("_ = run('DELETE FROM departures WHERE id = 1')")
    expect_row(output, 1, "2", "UA")
    expect_row(output, 0, "0", "UA", "dest 0", "8.5")
    saw(notebook, "kg-upd")
    assert (
        notebook.evaluate(
            "() => document.getAnimations().filter(a => a.effect.target.closest('.kalam-grid')).length"
        )
        == 0
    )
    expect(output.locator(".kg-del")).to_have_count(0)
    notebook.evaluate(
        "() => jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})"
    )
