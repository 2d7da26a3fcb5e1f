"""JupyterLab, Notebook 7 and Chromium; what a test does with them is in ``jupyter_pages.py``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

# Test files are not importable under importlib mode; what they share stands beside them.
sys.path.insert(0, str(Path(__file__).parent))

from jupyter_pages import FrontEnd, Jupyter, NotebookPage, OpenNotebook
from jupyter_server import CHROMIUM_FLAGS, JupyterServer
from playwright.sync_api import Browser, expect, sync_playwright

expect.set_options(timeout=20_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever stands in this folder needs a browser, and is slow."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    return path


@pytest.fixture(scope="session")
def jupyter_server(
    chromium_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JupyterServer]:
    server = JupyterServer(tmp_path_factory.mktemp("jupyter"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """A Chromium for one file: while Playwright runs, nothing else can use asyncio in its thread."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def jupyter(jupyter_server: JupyterServer, browser: Browser) -> Jupyter:
    return Jupyter(jupyter_server, browser)


@pytest.fixture(scope="module", params=["lab", "notebook"])
def front_end(request: pytest.FixtureRequest) -> FrontEnd:
    """JupyterLab, then Notebook 7."""
    chosen: FrontEnd = request.param
    return chosen


@pytest.fixture
def open_notebook(jupyter: Jupyter) -> Iterator[OpenNotebook]:
    """Open a notebook; all are closed when the test ends, and none may have asked other hosts."""
    with ExitStack() as opened:

        def open_one(
            cells: Sequence[str], front_end: FrontEnd = "lab", *, name: str | None = None
        ) -> NotebookPage:
            notebook = jupyter.open(cells, front_end, name=name)
            opened.callback(jupyter.close, notebook)
            return notebook

        yield open_one
