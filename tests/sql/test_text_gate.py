"""What a text must be before any parser sees it."""

from __future__ import annotations

import pytest

from kalamdb_lab.errors import EmptyStatementError, SqlSyntaxError, TooLargeError
from kalamdb_lab.sql.parse import parse_script
from kalamdb_lab.sql.text_gate import MAX_TEXT_BYTES, checked_text


def test_a_text_of_256_kib_passes_and_one_byte_more_is_refused() -> None:
    assert checked_text("x" * MAX_TEXT_BYTES) == "x" * MAX_TEXT_BYTES
    with pytest.raises(
        TooLargeError, match=r"^The SQL text is larger than 256 KiB; pass data as parameters$"
    ):
        checked_text("x" * (MAX_TEXT_BYTES + 1))


@pytest.mark.parametrize("text", ["é" * (MAX_TEXT_BYTES // 2 + 1), b"x" * (MAX_TEXT_BYTES + 1)])
def test_the_size_is_counted_in_bytes(text: str | bytes) -> None:
    with pytest.raises(TooLargeError):
        checked_text(text)


def test_bytes_in_utf8_are_read_as_text() -> None:
    assert checked_text("SELECT 'größe'".encode()) == "SELECT 'größe'"


@pytest.mark.parametrize("text", [b"SELECT '\xff'", "SELECT '\ud800'", b"\xed\xa0\x80"])
def test_what_is_not_utf8_is_refused(text: str | bytes) -> None:
    with pytest.raises(SqlSyntaxError, match=r"^Syntax error: the text is not valid UTF-8$"):
        checked_text(text)


def test_nul_is_refused_even_inside_a_string_and_its_place_is_told() -> None:
    with pytest.raises(SqlSyntaxError, match=r"character U\+0000 is not allowed$") as fault:
        checked_text("SELECT\n 'a\0b'")
    assert (fault.value.line, fault.value.column) == (2, 4)


INVISIBLE = ["\u200b", "\u200d", "\ufeff", "\xa0", "\u202e", "\u2066", "\x01", "\x85", "\u2028"]


@pytest.mark.parametrize("character", INVISIBLE)
def test_invisible_characters_are_refused_outside_quotes(character: str) -> None:
    code = f"U\\+{ord(character):04X}"
    for text in (f"SELECT a{character}b", f"SELECT{character}1", f"{character}SELECT 1"):
        with pytest.raises(SqlSyntaxError, match=rf"^Syntax error: character {code} is not"):
            parse_script(text)


@pytest.mark.parametrize("character", INVISIBLE)
def test_invisible_characters_are_plain_text_inside_quotes_and_comments(character: str) -> None:
    (statement,) = parse_script(
        f"SELECT '{character}' AS \"{character}\" -- {character.strip()}\n/* {character} */"
    )
    (item,) = statement.query.expressions  # type: ignore[attr-defined]
    assert (item.this.this, item.alias) == (character, character)


@pytest.mark.parametrize("word", ["\u212aey", "ｓelect", "ﬁle", "a²"])
def test_letters_that_only_look_like_others_make_no_names(word: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
        parse_script(f"SELECT {word} FROM t")


def test_letters_of_other_languages_make_aliases() -> None:
    (statement,) = parse_script("SELECT 1 AS größe")
    assert statement.query.expressions[0].alias == "größe"  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["", " \n\t", ";", " ; ;; -- nothing\n /* a /* b */ c */ ;"])
def test_a_text_without_a_statement_is_refused(text: str) -> None:
    with pytest.raises(EmptyStatementError, match=r"^Empty statement: there is no SQL to run$"):
        parse_script(text)


def test_a_statement_of_too_many_words_is_refused_and_many_parameters_are_not() -> None:
    with pytest.raises(TooLargeError, match=r"^The statement has more than 10,000 words"):
        parse_script(f"SELECT {','.join(['1'] * 10_000)}")
    (statement,) = parse_script(f"SELECT 1 WHERE 1 IN ({','.join('?' * 10_001)})")
    assert statement.parameters.count == 10_001
