"""A real JupyterLab and Notebook 7, and notebooks open in a headless Chromium.

The fixtures stand in ``conftest.py``::

    def test_a_click_counts(open_notebook: OpenNotebook, front_end: FrontEnd) -> None:
        notebook = open_notebook(["import kalamdb_lab as kalam", "print(6 * 7)"], front_end)
        notebook.run_all()
        expect(notebook.output(1)).to_have_text("42")

- ``front_end`` runs a test twice, in ``"lab"`` (JupyterLab) and in ``"notebook"`` (Notebook 7).
- ``open_notebook(cells, front_end="lab", *, name=None)`` writes a notebook of code cells that
  have no outputs into `JupyterServer.folder`, where its kernel runs too, and opens it in a page of
  its own, with a kernel of its own. At the end of the test both are closed, and the test fails if
  a page asked a foreign host for anything. Call it twice for two notebooks at once.
- ``jupyter`` (one for a file) is what ``open_notebook`` uses. Opening takes seconds, so tests that
  can share a notebook do: a fixture of scope ``module`` yields what `Jupyter.open` returns and
  gives it to `Jupyter.close`.

Locators wait and retry by themselves: ``expect(notebook.output(2).get_by_role("grid"))``. Look for
things in outputs (`NotebookPage.output`), because a page's text contains the sources too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self
from urllib.parse import quote, urlsplit

from jupyter_server import HOST, JupyterServer
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

FrontEnd = Literal["lab", "notebook"]


_PANEL = "[...jupyterapp.shell.widgets('main')].find(w => w.context?.path === path)"

_READY = f"""path => {{
    const panel = window.jupyterapp && {_PANEL};
    const kernel = panel?.sessionContext?.session?.kernel;
    return panel?.context.isReady && kernel?.connectionStatus === 'connected'
        && kernel.status === 'idle' && !!document.querySelector('.jp-Notebook .jp-Cell');
}}"""

_DONE = """() => !window.kalamRunning
    && ![...document.querySelectorAll('.jp-Notebook .jp-InputPrompt')]
        .some(prompt => prompt.textContent.includes('[*]'))"""

_RUN = f"""([path, command, index]) => {{
    const panel = {_PANEL};
    jupyterapp.shell.activateById(panel.id);
    if (index !== null) {{ panel.content.deselectAll(); panel.content.activeCellIndex = index; }}
    window.kalamRunning = (window.kalamRunning || 0) + 1;
    jupyterapp.commands.execute(command).catch(() => null)
        .finally(() => {{ window.kalamRunning -= 1; }});
}}"""


class OpenNotebook(Protocol):
    """What the fixture ``open_notebook`` is."""

    def __call__(
        self, cells: Sequence[str], front_end: FrontEnd = "lab", *, name: str | None = None
    ) -> NotebookPage: ...


class NotebookPage:
    """A notebook that is open in a page of Chromium; ``page`` is Playwright's."""

    def __init__(self, page: Page, file: Path, front_end: FrontEnd, server: JupyterServer) -> None:
        self.page = page
        self.file = file
        """The notebook on disk."""
        self.front_end = front_end
        self.page_errors: list[str] = []
        """Uncaught errors of the page's scripts, in order."""
        self.console_errors: list[str] = []
        """What the page wrote to its console as errors and warnings, in order."""
        self.foreign_requests: list[str] = []
        """Addresses of other hosts that the page asked for; clear it where that was meant."""
        self._server = server
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        page.on("console", self._note_console)
        page.on("request", self._note_request)

    # What is there

    def cell(self, index: int) -> Locator:
        """Return cell ``index``, from 0."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def editor(self, index: int) -> Locator:
        """Return the text of the source of a cell; its lines are ``.cm-line``."""
        return self.cell(index).locator(".jp-Cell-inputWrapper .cm-content")

    def output(self, index: int) -> Locator:
        """Return each output of a cell, and nothing of its source."""
        return self.cell(index).locator(".jp-Cell-outputWrapper .jp-OutputArea-output")

    def outputs(self, index: int) -> Locator:
        """Return the one element that all outputs of a cell are in, with or without any."""
        return self.cell(index).locator(".jp-Cell-outputWrapper .jp-OutputArea").first

    def evaluate(self, expression: str, argument: Any = None) -> Any:
        """Run JavaScript in the page; ``window.jupyterapp`` is the application in both fronts."""
        return self.page.evaluate(expression, argument)

    # Running

    def run_all(self, *, wait: bool = True, timeout_s: float = 60) -> None:
        """Run all cells from the top; a failing cell stops it, as in the menu."""
        self._run("notebook:run-all-cells", None, wait=wait, timeout_s=timeout_s)

    def run_cell(self, index: int, *, wait: bool = True, timeout_s: float = 60) -> None:
        """Run one cell; ``wait=False`` returns while it may still be running."""
        self._run("notebook:run-cell", index, wait=wait, timeout_s=timeout_s)

    def wait_idle(self, timeout_s: float = 60) -> None:
        """Wait until no cell runs or is queued."""
        self.page.wait_for_function(_DONE, timeout=timeout_s * 1000)

    def add_cell(self, source: str) -> int:
        """Add a code cell at the end, by what the application itself does; return its index."""
        return int(
            self.page.evaluate(
                f"""([path, source]) => {{
                    const model = ({_PANEL}).content.model.sharedModel;
                    const index = model.cells.length;
                    model.insertCell(index, {{ cell_type: 'code', source }});
                    return index;
                }}""",
                [self.file.name, source],
            )
        )

    def execute(self, source: str, *, wait: bool = True, timeout_s: float = 60) -> int:
        """Add a cell at the end, run it, and return its index."""
        index = self.add_cell(source)
        self.run_cell(index, wait=wait, timeout_s=timeout_s)
        return index

    def edit(self, index: int, source: str) -> None:
        """Replace the source of a cell by the keyboard."""
        self.editor(index).click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(source)

    def press(self, *keys: str) -> None:
        """Press keys in command mode: ``press("i", "i")`` interrupts the kernel."""
        self.page.evaluate(
            f"""path => {{
                const panel = {_PANEL};
                jupyterapp.shell.activateById(panel.id);
                panel.content.mode = 'command';
                panel.content.activate();
            }}""",
            self.file.name,
        )
        for key in keys:
            self.page.keyboard.press(key)

    # The kernel, the page, the file

    def restart_kernel(self) -> None:
        """Restart the kernel and wait until it is ready; outputs stay as they are."""
        self.page.evaluate(f"path => ({_PANEL}).sessionContext.restartKernel()", self.file.name)
        self._wait_ready()

    def shut_down_kernel(self) -> None:
        """End the kernel for good."""
        self._server.shut_down_kernel(self.file.name)

    def reload(self) -> None:
        """Load the page again, without saving first; the kernel goes on."""
        self.page.once("dialog", lambda dialog: dialog.accept())
        self.page.reload()
        self._wait_ready()

    def save(self) -> dict[str, Any]:
        """Save, and return the notebook as it then stands on disk (nbformat 4)."""
        self.page.evaluate(f"path => ({_PANEL}).context.save()", self.file.name)
        saved: dict[str, Any] = json.loads(self.file.read_text("utf-8"))
        return saved

    def screenshot(self, path: Path | str, index: int | None = None) -> None:
        """Write a PNG of the page, or of one cell."""
        target: Page | Locator = self.page if index is None else self.cell(index)
        target.screenshot(path=str(path))

    def open(self) -> Self:
        place = (
            f"lab/workspaces/{quote(self.file.stem)}/tree"
            if self.front_end == "lab"
            else "notebooks"
        )
        name = quote(self.file.name)
        self.page.goto(f"{self._server.url}{place}/{name}?token={self._server.token}")
        self._wait_ready()
        return self

    def _run(self, command: str, index: int | None, *, wait: bool, timeout_s: float) -> None:
        self.page.evaluate(_RUN, [self.file.name, command, index])
        if wait:
            self.wait_idle(timeout_s)

    def _wait_ready(self) -> None:
        try:
            self.page.wait_for_function(_READY, arg=self.file.name, timeout=60_000)
        except PlaywrightTimeoutError as error:
            said = "\n".join(self.page_errors + self.console_errors)
            message = f"{self.page.url} was not ready in 60 s. Its console says:\n{said}"
            raise RuntimeError(message) from error

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.console_errors.append(message.text)

    def _note_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob", "about"} and parts.hostname != HOST:
            self.foreign_requests.append(request.url)


class Jupyter:
    """The server and the browser together: opens notebooks."""

    def __init__(self, server: JupyterServer, browser: Browser) -> None:
        self.server = server
        # One context, hence one cache: the second page loads in a fraction of the time.
        self._context = browser.new_context(viewport={"width": 1280, "height": 2400})
        self._count = 0

    def open(
        self, cells: Sequence[str], front_end: FrontEnd = "lab", *, name: str | None = None
    ) -> NotebookPage:
        """Write a notebook ``name`` (a new one by default) and open it; it has a kernel then."""
        self._count += 1
        file = self.server.folder / (name or f"{front_end}-{id(self):x}-{self._count}.ipynb")
        file.write_text(json.dumps(_notebook(cells)), "utf-8")
        return NotebookPage(self._context.new_page(), file, front_end, self.server).open()

    def close(self, notebook: NotebookPage) -> None:
        """Close the page and end its kernel; raise if the page asked another host for anything."""
        notebook.page.close()
        notebook.shut_down_kernel()
        assert notebook.foreign_requests == []


def _notebook(cells: Sequence[str]) -> dict[str, Any]:
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{index}",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for index, source in enumerate(cells)
        ],
    }
