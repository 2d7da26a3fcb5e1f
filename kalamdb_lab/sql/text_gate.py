"""What a text must be before any parser sees it."""

from __future__ import annotations

import unicodedata

from kalamdb_lab.errors import SqlSyntaxError, TooLargeError

MAX_TEXT_BYTES = 256 * 1024
MAX_NESTING = 100
"""Parentheses, brackets, CASE, and runs of prefix operators."""
MAX_TOKENS = 10_000
"""Of one statement; placeholders, commas and parentheses are not counted."""


def checked_text(text: str | bytes | bytearray) -> str:
    """Return an SQL text that is fit to be read, unchanged.

    Raises
    ------
    TooLargeError
        It has more than 256 KiB in UTF-8.
    SqlSyntaxError
        It is not valid UTF-8, or holds NUL. Other control, zero-width, no-break and direction
        characters are refused by the lexer where they stand outside quotes and comments.
    """
    if isinstance(text, (bytes, bytearray)):
        if len(text) > MAX_TEXT_BYTES:
            raise _too_large()
        try:
            text = text.decode()
        except UnicodeDecodeError:
            raise _not_utf8() from None
    elif len(text) > MAX_TEXT_BYTES:
        raise _too_large()
    elif not text.isascii():
        try:
            size_bytes = len(text.encode())
        except UnicodeEncodeError:
            raise _not_utf8() from None
        if size_bytes > MAX_TEXT_BYTES:
            raise _too_large()
    if "\0" in text:
        before = text[: text.index("\0")]
        raise SqlSyntaxError("Syntax error: character U+0000 is not allowed").at(
            before.count("\n") + 1, len(before) - before.rfind("\n")
        )
    return text


def is_plain_word(word: str) -> bool:
    """Return whether an unquoted word means what it looks like.

    A letter that a compatibility normalisation changes (a Kelvin sign, a full-width letter) may
    fold to an ASCII letter, so that one name could be written in two ways.
    """
    return word.isascii() or unicodedata.is_normalized("NFKC", word)


def too_deep() -> TooLargeError:
    """Return the error for a statement that nests deeper than the language allows."""
    return TooLargeError("The statement nests deeper than 100")


def too_long() -> TooLargeError:
    """Return the error for a statement with more tokens than the language allows."""
    return TooLargeError("The statement has more than 10,000 words; pass data as parameters")


def _too_large() -> TooLargeError:
    return TooLargeError("The SQL text is larger than 256 KiB; pass data as parameters")


def _not_utf8() -> SqlSyntaxError:
    return SqlSyntaxError("Syntax error: the text is not valid UTF-8")
