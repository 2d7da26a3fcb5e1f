"""Loading, settings, help and unloading."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kalamdb_lab.notebook.command_line import COMMAND_OPTIONS, COMMANDS, OPTIONS
from tests.notebook.conftest import Kernel

LOAD = """
import json, sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
started = time.perf_counter()
shell.run_line_magic("load_ext", "kalamdb_lab")
heavy = [name for name in ("duckdb", "pyarrow", "ibis", "pandas", "sqlglot") if name in sys.modules]
print(json.dumps([time.perf_counter() - started, heavy]))
"""


def test_loading_is_quick_and_brings_nothing_heavy(tmp_path: Path) -> None:
    def load() -> tuple[float, list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", LOAD], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        elapsed_s, heavy = json.loads(done.stdout.splitlines()[-1])
        return elapsed_s, heavy

    runs = [load() for _ in range(2)]
    assert min(elapsed_s for elapsed_s, _ in runs) < 0.3
    assert runs[0][1] == []


def test_loading_twice_doubles_nothing(bare_kernel: Kernel) -> None:
    count = (
        "sum(type(c).__name__ == 'KalamMagic' for c in get_ipython().configurables), "
        "len(get_ipython().Completer.custom_matchers), "
        "len(get_ipython().input_transformers_post), "
        "len(get_ipython().events.callbacks['post_execute'])"
    )
    before = bare_kernel.value(count)
    assert "already loaded" in bare_kernel.run("%load_ext kalamdb_lab").streams
    bare_kernel.show("import kalamdb_lab; kalamdb_lab.load_ipython_extension(get_ipython())")
    bare_kernel.show("%reload_ext kalamdb_lab")
    assert bare_kernel.value(count) == before
    assert before[:2] == (1, 1)


def test_unloading_leaves_nothing(bare_kernel: Kernel) -> None:
    bare_kernel.show("%kalam open gone.kalam")
    bare_kernel.show("r = %kalam SELECT 1 AS a")
    assert "stats" in bare_kernel.complete("%kalam SELECT * FROM system.|")
    bare_kernel.show("%unload_ext kalamdb_lab")
    try:
        assert "not found" in bare_kernel.run("%kalam SELECT 1").streams
        names = "[t.name for t in __import__('threading').enumerate() if 'kalam' in t.name]"
        assert bare_kernel.value(names) == []
        left = "[c for c in get_ipython().configurables if 'Kalam' in type(c).__name__]"
        assert bare_kernel.value(left) == []
        formatters = (
            "[k for f in get_ipython().display_formatter.formatters.values()"
            " for k in [*f.type_printers, *f.deferred_printers] if 'kalamdb_lab' in repr(k)]"
        )
        assert bare_kernel.value(f"repr({formatters})") == "[]"
        assert bare_kernel.value("len(get_ipython().Completer.custom_matchers)") == 0
        assert bare_kernel.value("r.rows()") == [(1,)]
    finally:
        bare_kernel.show("%load_ext kalamdb_lab")


def test_a_result_looks_alike_wherever_it_is_shown(bare_kernel: Kernel) -> None:
    bare_kernel.show("%kalam open looks.kalam")
    bare_kernel.show("r = %kalam SELECT range AS n FROM range(1500)")
    cell = bare_kernel.show("r")
    assert re.search(r">showing 1,000 of 1,500 rows · [0-9.,]+ m?s<", cell.html)
    assert "--all" not in cell.text


class TestSettings:
    def test_come_from_the_nearest_pyproject(self, bare_kernel: Kernel) -> None:
        folder = bare_kernel.directory
        (folder / "pyproject.toml").write_text(
            "[tool.kalamdb_lab]\ndisplay_limit = 7\noutput = 'arrow'\nshow_time = false\n"
        )
        (folder / "deep" / "er").mkdir(parents=True)
        bare_kernel.show("get_ipython().config.pop('KalamMagic', None);")
        own = "m = get_ipython().magics_manager.registry['KalamMagic']"
        try:
            bare_kernel.show(
                "os.chdir('deep/er')\nget_ipython().config.KalamMagic.output = 'polars'"
            )
            bare_kernel.show(f"%reload_ext kalamdb_lab\n{own}")
            assert bare_kernel.value("m.display_limit, m.output, m.show_time") == (
                7,
                "polars",
                False,
            )
        finally:
            (folder / "pyproject.toml").unlink()
            bare_kernel.show("os.chdir('../..'); del get_ipython().config['KalamMagic']")
            bare_kernel.show(f"%reload_ext kalamdb_lab\n{own}")
        assert bare_kernel.value("m.display_limit, m.output, m.show_time") == (1000, "result", True)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("display_limt = 7", "unknown setting 'display_limt'; did you mean 'display_limit'?"),
            ("output = 'excel'", "'output' trait of a KalamMagic instance"),
            ("display_limit = 0", "'display_limit' trait of a KalamMagic instance"),
            ("display_limit", "pyproject.toml is not valid TOML"),
        ],
    )
    def test_that_cannot_hold_are_refused(
        self, bare_kernel: Kernel, text: str, message: str
    ) -> None:
        path = bare_kernel.directory / "pyproject.toml"
        path.write_text(f"[tool.kalamdb_lab]\n{text}\n")
        try:
            lines = bare_kernel.fails("%reload_ext kalamdb_lab")
            assert message in lines[-1]
        finally:
            path.unlink()
            bare_kernel.show("%load_ext kalamdb_lab")

    def test_times_are_left_out_where_outputs_are_compared(self, bare_kernel: Kernel) -> None:
        bare_kernel.show("os.environ['KALAMDB_LAB_TESTING'] = '1'\n%reload_ext kalamdb_lab")
        try:
            bare_kernel.show("%kalam open quiet.kalam")
            assert bare_kernel.show("%%kalam\nSELECT 1 AS a").text == " a\n ─\n 1\n1 row · root"
            assert " ms" not in bare_kernel.show("%%kalam\nCREATE NAMESPACE a").text
        finally:
            bare_kernel.show("del os.environ['KALAMDB_LAB_TESTING']\n%reload_ext kalamdb_lab")


class TestHelp:
    def test_is_shown_by_a_question_mark(self, bare_kernel: Kernel) -> None:
        for question in ("%kalam?", "%%kalam?", "?%kalam"):
            bare_kernel.show(question)
        text = bare_kernel.value("get_ipython().find_line_magic('kalam').__doc__")
        assert text == bare_kernel.value("get_ipython().find_cell_magic('kalam').__doc__")
        for word in (
            *COMMANDS,
            *OPTIONS,
            *(o for known in COMMAND_OPTIONS.values() for o in known),
        ):
            assert word in text

    def test_has_examples_that_run(self, bare_kernel: Kernel) -> None:
        text = bare_kernel.value(
            "__import__('inspect').getdoc(get_ipython().find_line_magic('kalam'))"
        )
        blocks = text.partition("Examples")[2].split("\n", 2)[2].strip().split("\n\n")
        assert len(blocks) == 11
        for block in blocks:
            bare_kernel.show(block)
        assert bare_kernel.value("cheap.rows(), fig.rows(), worth.rows()") == (
            [("apple", 0.4), ("plum", 0.9)],
            [(1.5,)],
            [(11.7,)],
        )
        bare_kernel.show("%kalam snippets --delete dear")
