"""The code of the README and the pages runs, in order, and gives what its comments say.

Python blocks share their names; ``# -> value`` after an expression is checked. An SQL block runs
through the session that its title names. IPython blocks are cells of one shell.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/quickstart.md",
    "docs/ibis.md",
    "docs/sql.md",
    "docs/live.md",
    "docs/embeddings.md",
    "docs/backup.md",
    "docs/security.md",
)
BLOCK = re.compile(
    r'^```(python|sql|ipython)(?: title="(\w+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL
)
CLAIM = "  # -> "


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a new directory that holds the data as a checkout does."""
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_python(code: str, names: dict[str, Any]) -> None:
    lines = code.splitlines()
    for statement in ast.parse(code).body:
        assert statement.end_lineno is not None
        _, claimed, expected = lines[statement.end_lineno - 1].partition(CLAIM)
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), "<page>", "eval"), names)
            if claimed:
                assert value == ast.literal_eval(expected), lines[statement.end_lineno - 1]
        else:
            assert not claimed, "a claim stands after an expression"
            exec(compile(ast.Module([statement], []), "<page>", "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_runs_from_top_to_bottom(page: str, checkout: Path) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    blocks = BLOCK.findall((ROOT / page).read_text("utf-8"))
    assert blocks
    names: dict[str, Any] = {"__name__": "__main__"}
    shell = InteractiveShell(user_ns=names)
    try:
        for language, session, code in blocks:
            if language == "python":
                run_python(code, names)
            elif language == "sql":
                names[session].execute_script(code)
            else:
                shell.run_cell(code).raise_error()
    finally:
        if "db" in names:
            names["db"].close()


def test_claims_are_checked() -> None:
    """A page that says something else than what happens is found out."""
    run_python("x = 2\nx + 1  # -> 3\n", {})
    with pytest.raises(AssertionError, match="x \\+ 1"):
        run_python("x = 2\nx + 1  # -> 4\n", {})


@pytest.mark.parametrize("page", PAGES)
def test_page_names_a_session_for_every_sql_block(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert text.count("```sql") == len(re.findall(r'^```sql title="\w+"$', text, re.MULTILINE))
