"""The documentation builds strictly, and its pages ask no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kalamdb_lab import errors
from kalamdb_lab.authorization.gateway import KIND_NEEDS, Needs

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"""<(?:script|img|iframe|link|source|embed)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//"""
)
IMPORTED = re.compile(r"""(?:@import\s|url\()\s*["']?https?://""")
DIAGRAM = re.compile(r"""<pre class=["']?mermaid""")
"""Pages of notebooks fetch a script from another host as soon as they hold a diagram."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder


@pytest.mark.slow
def test_site_has_the_pages_that_readers_need(site: Path) -> None:
    for page in ("index", "quickstart", "architecture", "reference/python", "adr/index"):
        assert (site / f"{page}.html").is_file()
    assert "KalamError" in (site / "reference" / "errors.html").read_text("utf-8")


@pytest.mark.slow
def test_no_page_asks_a_foreign_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8").replace('<link rel="canonical"', "<canonical")
        for pattern in (LOADED, IMPORTED, DIAGRAM):
            assert pattern.search(text) is None, (page, pattern.pattern)


def test_the_language_page_lists_every_statement_and_the_role_it_needs() -> None:
    """The table of statements says what authorization does."""
    text = (ROOT / "docs" / "sql.md").read_text("utf-8")
    listed = dict(
        re.findall(r"^\| `([A-Z ]+)` \| (user|service|dba|system) \|", text, re.MULTILINE)
    )
    lowest = {
        Needs.NOTHING: "user",
        Needs.MAINTENANCE: "service",
        Needs.DDL: "dba",
        Needs.ADMINISTRATION: "dba",
        Needs.USERS: "system",
    }
    assert listed == {kind: lowest[needs] for kind, needs in KIND_NEEDS.items()}


def test_the_page_of_errors_lists_every_code() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `([A-Z_]+)` \| `(\w+)` \|", text, re.MULTILINE))
    raised = {
        (kind.code, name)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.KalamError)
    }
    assert listed == raised - {(errors.KalamError.code, "KalamError")}
