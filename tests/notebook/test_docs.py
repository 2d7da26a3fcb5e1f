"""The cells of docs/notebook.md run, in order, in one kernel."""

from __future__ import annotations

import re
from pathlib import Path

from tests.notebook.conftest import Kernel

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"
BLOCK = re.compile(r"^```(ipython|text|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIME = re.compile(r" · [0-9.,]+ m?s")


def test_cells_run_and_show_what_the_page_says(bare_kernel: Kernel) -> None:
    shown = ""
    for kind, text in BLOCK.findall(PAGE.read_text("utf-8")):
        if kind == "ipython":
            cell = bare_kernel.run(text)
            assert cell.status == "ok", (text, cell.error)
            shown = cell.text
        elif kind == "text" and not text.startswith("NotFoundError"):
            assert TIME.sub("", shown) == TIME.sub("", text).rstrip("\n")


def test_the_error_is_the_one_on_the_page(bare_kernel: Kernel) -> None:
    texts = [text for kind, text in BLOCK.findall(PAGE.read_text("utf-8")) if kind == "text"]
    (expected,) = (text for text in texts if text.startswith("NotFoundError"))
    assert bare_kernel.fails("%kalam SELECT pirce FROM fruit") == expected.splitlines()


def test_the_settings_on_the_page_are_settings(bare_kernel: Kernel) -> None:
    (settings,) = (text for kind, text in BLOCK.findall(PAGE.read_text("utf-8")) if kind == "toml")
    names = re.findall(r"^(\w+) =", settings, re.MULTILINE)
    own = "sorted(get_ipython().magics_manager.registry['KalamMagic'].trait_names(config=True))"
    assert bare_kernel.value(own) == sorted(names)
