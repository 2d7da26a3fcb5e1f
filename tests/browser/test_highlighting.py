"""Cells that begin with %%kalam are coloured as SQL, and no other cell is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from jupyter_pages import FrontEnd, Jupyter, NotebookPage
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from kalamdb_lab.notebook.cell_text import statements

# What stands in one of the editor's colours in a cell; the theme has a variable for each.
COLOURED = """([index, kind]) => {
    const probe = document.body.appendChild(document.createElement('span'));
    probe.style.color = `var(--jp-mirror-editor-${kind}-color)`;
    const wanted = getComputedStyle(probe).color;
    probe.remove();
    const editor = document.querySelectorAll('.jp-Notebook .jp-Cell')[index]
        .querySelector('.cm-content');
    const walker = document.createTreeWalker(editor, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
        const style = getComputedStyle(walker.currentNode.parentElement);
        const isBold = Number(style.fontWeight) >= 700;
        if (style.color === wanted && (kind !== 'keyword' || isBold)) {
            found.push(walker.currentNode.textContent);
        }
    }
    return found;
}"""

CELL = """%%kalam @prod --as mia kept <<
-- SELECT nothing
SELECT title, user.name, :least, {{ {'a': 1} }} FROM chat.messages /* from
here */ WHERE title = 'it''s from' AND id IN (1, 2.5e3);
subscribe to chat.messages where status = 'new' options (last_rows = 5);
STORAGE FLUSH ALL IN chat; EXECUTE AS USER 'mia' (SELECT role, CAST(x AS INT))"""
KEYWORDS = """SELECT FROM WHERE AND IN subscribe to where options STORAGE FLUSH ALL IN EXECUTE AS USER SELECT
CAST AS""".split()

PYTHON = 'for row in select("FROM"):\n    print(row, min(row))  # %%kalam'
PYTHON_KEYWORDS = ["for", "in"]
OTHERS = {
    "%%sql\nSELECT 1": ["1"],
    "%kalam SELECT 1": ["1"],
    "%%kalamity\nSELECT 1": ["1"],
    "x = 2\n%%kalam\nSELECT 1": ["2", "1"],
}
"""Cells that are not ours, and the numbers in them."""
TYPED = "for x in y: SELECT"
SAMPLES = [
    "SELECT :a, x::INT, TIME '12:00:b', ':c' AS \":d\", :größe -- :e",
    "SELECT x[a:b], x[:a], f(x)[a:b], [:a, :b], x[{{ a }}:{{ b }}]",
    "SELECT {'a': :b, 'c': d}, {'a' :x}, {a: {'b': :c}}",
    "SELECT /* :a /* :b */ :c */ :d, j->:e, x :y, x:y, (:z)",
    "SELECT CASE WHEN :a THEN :b ELSE :c END FROM t WHERE n IN :d AND m IN (:e)",
    "SELECT {{ {1: {2: 3}} }}, {{ x |ident }}, {{ a }}:b",
    "SELECT ARRAY[:a], t.x [:b], 'it''s :c',\n:d, X'0A', 1.5[:e], 'open :f\n:g'",
]


def coloured(notebook: NotebookPage, index: int, kind: str) -> list[str]:
    found: list[str] = notebook.evaluate(COLOURED, [index, kind])
    return found


def expect_coloured(notebook: NotebookPage, index: int, kind: str, texts: list[str]) -> None:
    """Wait until just these are: the application loads its languages after the page."""
    same = f"argument => JSON.stringify(({COLOURED})(argument[0])) === JSON.stringify(argument[1])"
    with contextlib.suppress(PlaywrightTimeoutError):
        notebook.page.wait_for_function(same, arg=[[index, kind], texts], timeout=10_000)
    assert coloured(notebook, index, kind) == texts


@pytest.fixture(scope="module")
def notebook(jupyter: Jupyter, front_end: FrontEnd) -> Iterator[NotebookPage]:
    samples = [f"%%kalam\n{sample}" for sample in SAMPLES]
    opened = jupyter.open(
        [CELL, "\n%%kalam\nSELECT 1", PYTHON, TYPED, *OTHERS, *samples], front_end
    )
    yield opened
    jupyter.close(opened)


def test_a_kalam_cell_is_coloured_as_sql(notebook: NotebookPage) -> None:
    expect_coloured(notebook, 0, "keyword", KEYWORDS)
    assert coloured(notebook, 0, "meta") == ["%%kalam", "@prod", "--as"]
    assert coloured(notebook, 0, "def") == ["kept"]
    assert coloured(notebook, 0, "string") == ["mia", "'it''s from'", "'new'", "'mia'"]
    assert coloured(notebook, 0, "comment") == ["-- SELECT nothing", "/* from", "here */"]
    assert coloured(notebook, 0, "number") == ["1", "2.5e3", "5"]
    assert coloured(notebook, 0, "property") == [":least", "{{ {'a': 1} }}"]


def test_blank_lines_may_stand_before_the_magic(notebook: NotebookPage) -> None:
    expect_coloured(notebook, 1, "keyword", ["SELECT"])


def test_a_python_cell_stays_python(notebook: NotebookPage) -> None:
    expect_coloured(notebook, 2, "keyword", PYTHON_KEYWORDS)
    assert coloured(notebook, 2, "comment") == ["# %%kalam"]
    assert coloured(notebook, 2, "string") == ['"FROM"']


@pytest.mark.parametrize("index", range(len(OTHERS)))
def test_the_magic_elsewhere_and_other_magics_change_nothing(
    notebook: NotebookPage, index: int
) -> None:
    expect_coloured(notebook, 4 + index, "number", list(OTHERS.values())[index])
    assert coloured(notebook, 4 + index, "keyword") == []


def test_the_first_line_decides_while_it_is_typed(notebook: NotebookPage) -> None:
    expect_coloured(notebook, 3, "keyword", PYTHON_KEYWORDS)
    notebook.editor(3).click()
    keyboard = notebook.page.keyboard
    keyboard.press("Control+Home")
    keyboard.type("%%kalam\n")
    expect_coloured(notebook, 3, "keyword", ["for", "in", "SELECT"])
    keyboard.press("Control+Home")
    keyboard.press("Delete")
    expect_coloured(notebook, 3, "keyword", PYTHON_KEYWORDS)
    keyboard.type("%")
    expect_coloured(notebook, 3, "keyword", ["for", "in", "SELECT"])
    keyboard.press("Control+End")
    keyboard.press("Control+/")
    expect_coloured(notebook, 3, "comment", ["-- for x in y: SELECT"])


@pytest.mark.parametrize("sample", SAMPLES)
def test_parameters_are_coloured_where_the_magic_binds_them(
    notebook: NotebookPage, sample: str
) -> None:
    bound = [sample[hole.start : hole.end] for each in statements(sample) for hole in each.holes]
    assert bound
    expect_coloured(notebook, 4 + len(OTHERS) + SAMPLES.index(sample), "property", bound)
