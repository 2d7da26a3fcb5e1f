"""The words that are offered are the language's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import kalamdb_lab.sql
from kalamdb_lab.errors import KalamError
from kalamdb_lab.sql.keywords import COMMON, KEYWORDS, PHRASES
from kalamdb_lab.sql.parse import STATEMENT_WORDS, parse_script

_REFUSED = {
    "AUTOINCREMENT",
    "CHARACTER",
    "CONSTRAINT",
    "EXTENDED",
    "FOREIGN",
    "REFERENCES",
    "UNIQUE",
    "WORK",
}
"""Read so that they can be refused in words, or for those who are used to them."""


def test_every_word_that_the_parser_accepts_is_there() -> None:
    accepted = set()
    for path in Path(kalamdb_lab.sql.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            function = node.func if isinstance(node, ast.Call) else None
            if isinstance(function, ast.Attribute) and function.attr in ("accept", "expect"):
                assert isinstance(node, ast.Call)
                texts = [str(item.value) for item in node.args if isinstance(item, ast.Constant)]
                accepted |= {text for text in texts if re.fullmatch("[A-Z_]+", text)}
    assert len(accepted) > 40
    assert accepted - KEYWORDS - _REFUSED == set()


def test_every_statement_begins_with_a_keyword() -> None:
    assert STATEMENT_WORDS <= KEYWORDS
    assert {"SELECT", "FROM", "WHERE"} < COMMON < KEYWORDS


@pytest.mark.parametrize("phrase", PHRASES)
def test_every_phrase_begins_a_statement(phrase: str) -> None:
    """Whatever is missing after it, it is no unknown statement."""
    assert set(phrase.split()) <= KEYWORDS
    first = phrase.partition(" ")[0]
    try:
        parse_script(f"{phrase} 1 + 1")
    except KalamError as error:
        assert f"near '{first}'" not in error.message
    with pytest.raises(KalamError, match=f"near '{first}X'"):
        parse_script(f"{first}X 1 + 1")
