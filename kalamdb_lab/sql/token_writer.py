"""Writing the tokens of a statement, spelled so that sqlglot reads what the language means."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

from sqlglot import Token, TokenType

from kalamdb_lab.errors import InvalidDefinitionError
from kalamdb_lab.sql.dialect import OPERATOR_TYPES, WORD_PAIRS, WORD_TYPES
from kalamdb_lab.sql.parameters import ParameterStyle
from kalamdb_lab.sql.statement_tokens import expected, near
from kalamdb_lab.sql.text_gate import MAX_NESTING, too_deep

OPENERS: Final = {
    TokenType.L_PAREN: ")",
    TokenType.L_BRACKET: "]",
    TokenType.L_BRACE: "}",
}
CLOSERS: Final = {
    TokenType.R_PAREN: ")",
    TokenType.R_BRACKET: "]",
    TokenType.R_BRACE: "}",
}
_PREFIXES: Final = frozenset({TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE})
_OPERAND_FOLLOWS = """
ALL AND ANY AS BETWEEN CASE DISTINCT ELSE ESCAPE EXISTS FROM HAVING ILIKE IN INTERVAL IS LIKE
LIMIT NOT OFFSET ON OR QUALIFY RETURNING SELECT SET SOME THEN USING WHEN WHERE WITH
"""
_NO_ELEMENT = """
AND AS BETWEEN ELSE END EXCEPT FROM HAVING ILIKE IN INTERSECT INTO IS JOIN LIKE LIMIT OFFSET ON
OR SET THEN UNION USING WHEN WHERE
"""
BEFORE_OPERAND: Final = frozenset(
    {
        *OPERATOR_TYPES.values(),
        *(WORD_TYPES[word] for word in _OPERAND_FOLLOWS.split()),
        *WORD_PAIRS.values(),
    }
) - {*CLOSERS, TokenType.DOUBLE, TokenType.TEXT}
"""After these an operand begins: a sign is a prefix there."""
_NEVER_AFTER_COMMA: Final = frozenset(
    {
        *CLOSERS,
        TokenType.COMMA,
        TokenType.SEMICOLON,
        TokenType.GROUP_BY,
        TokenType.ORDER_BY,
        *(WORD_TYPES[word] for word in _NO_ELEMENT.split()),
    }
)
NEVER_BEFORE_COMMA: Final = frozenset(
    {
        *OPENERS,
        TokenType.COMMA,
        TokenType.SELECT,
        TokenType.DISTINCT,
        TokenType.FROM,
        TokenType.WHERE,
        TokenType.SET,
        TokenType.VALUES,
        TokenType.GROUP_BY,
        TokenType.ORDER_BY,
    }
)
_GAP = r"(?:[ \t\n\r\f\v]|--[^\n\r]*+|/\*(?:[^*]|\*(?!/))*+\*/)*+"
_NEXT_MARK = re.compile(_GAP + r"(.?)")
_LENGTH = re.compile(rf"{_GAP}\({_GAP}([0-9]{{1,9}}){_GAP}\)")
_PLAIN_NUMBER = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]+)?\s*")


class TokenWriter:
    """The tokens of one statement so far, its open brackets, and what was counted.

    Parameters
    ----------
    source : str
        The whole text.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines = [0, *(match.end() for match in re.finditer("\n", source))]
        self._reset()

    def _reset(self) -> None:
        self._tokens: list[Token] = []
        self._stack: list[tuple[str, str, Token]] = []
        self._counted = 0
        self._depth = 0
        self._run = 0
        self._style = ParameterStyle.NONE
        self._parameter_count = 0
        self._subscripts = 0

    def _token(self, token_type: TokenType, text: str, start: int, end: int) -> Token:
        token = Token(token_type, text, *self._place(start), start, end - 1)
        self._tokens.append(token)
        return token

    def _add(self, token_type: TokenType, text: str, start: int, end: int) -> Token:
        """Append a token, after what every token must answer for."""
        before = self._tokens[-1].token_type if self._tokens else None
        token = self._token(token_type, text, start, end)
        if before is TokenType.COMMA and token_type in _NEVER_AFTER_COMMA:
            raise near(token, self._source)
        if before is TokenType.SELECT and token_type is TokenType.ALIAS:
            raise near(token, self._source)
        if token_type in _PREFIXES and (before is None or before in BEFORE_OPERAND):
            self._run += 1
        else:
            self._run = 0
        if len(self._stack) + self._run > self._depth:
            self._deepen(token)
        return token

    def _deepen(self, token: Token) -> None:
        self._depth = len(self._stack) + self._run
        if self._depth > MAX_NESTING:
            raise too_deep().at(token.line, token.col)

    def _open(self, token: Token, before: Token | None) -> None:
        mark = ""
        if token.token_type is TokenType.L_PAREN and before is not None:
            word = before.text.upper()
            if word in ("CAST", "TRY_CAST"):
                mark = "cast"
            elif word in ("STRUCT", "MAP") and self._is_type_at(-2):
                mark = "type"
            elif before.token_type not in BEFORE_OPERAND:
                mark = "call"
        self._stack.append((OPENERS[token.token_type], mark, token))
        if len(self._stack) > self._depth:
            self._deepen(token)

    def _close(self, token: Token) -> None:
        if not self._stack:
            raise near(token, self._source)
        closer, _, _ = self._stack[-1]
        if closer != CLOSERS[token.token_type]:
            raise expected(closer, token)
        self._stack.pop()

    def _is_type_at(self, index: int) -> bool:
        """Return whether the token at ``index``, a word, stands where a type must."""
        if len(self._tokens) < 1 - index:
            return False
        return self._is_cast_to(index) or (bool(self._stack) and self._stack[-1][1] == "type")

    def _is_cast_to(self, index: int = -1) -> bool:
        """Return whether the token at ``index`` is the first one behind ``::`` or CAST(... AS."""
        if len(self._tokens) < 1 - index:
            return False
        before = self._tokens[index - 1].token_type
        return before is TokenType.DCOLON or (
            before is TokenType.ALIAS and bool(self._stack) and self._stack[-1][1] == "cast"
        )

    def _is_followed_by(self, marks: tuple[str, ...], end: int) -> bool:
        following = _NEXT_MARK.match(self._source, end)
        return following is not None and following[1] in marks

    def _type_word(self, upper: str, token: Token) -> int | None:
        """Spell out what the language means by DECIMAL, and EMBEDDING(n) as sqlglot knows it.

        Returns where to read on, if more than the word was read.
        """
        if upper == "EMBEDDING":
            match = _LENGTH.match(self._source, token.end + 1)
            if match is None:
                raise InvalidDefinitionError(
                    "EMBEDDING needs a dimension, as in EMBEDDING(384)"
                ).at(token.line, token.col)
            token.token_type, token.text = TokenType.FLOAT, "FLOAT"
            self._token(TokenType.L_BRACKET, "[", *match.span(1))
            self._token(TokenType.NUMBER, match[1], *match.span(1))
            self._token(TokenType.R_BRACKET, "]", *match.span(1))
            return match.end()
        if not self._is_followed_by(("(",), token.end + 1):
            self._spell(token.end, "(", 38, ",", 10, ")")
        return None

    def _spell(self, at: int, *parts: str | int) -> None:
        for part in parts:
            token_type = TokenType.NUMBER if isinstance(part, int) else OPERATOR_TYPES[part]
            self._token(token_type, str(part), at, at + 1)

    def _cast(self, text: str, token_type: TokenType, name: str, start: int, end: int) -> None:
        """Append ``CAST('text' AS name)``."""
        self._counted += 1
        self._add(TokenType.VAR, "CAST", start, end)
        self._token(TokenType.L_PAREN, "(", start, end)
        self._token(TokenType.STRING, text, start, end)
        self._token(TokenType.ALIAS, "AS", start, end)
        self._token(token_type, name, start, end)
        self._token(TokenType.R_PAREN, ")", start, end)

    def _joined_interval(self, unit: str) -> bool:
        """Join ``INTERVAL '5' DAY`` and ``INTERVAL 5 DAY`` into one literal, if that is it."""
        tokens = self._tokens
        if len(tokens) < 2 or tokens[-2].token_type is not TokenType.INTERVAL:
            return False
        last = tokens[-1]
        if last.token_type is TokenType.NUMBER:
            word = tokens[-2]
            del tokens[-2:]
            self._cast(f"{last.text} {unit}", TokenType.INTERVAL, "INTERVAL", word.start, last.end)
            return True
        if last.token_type is TokenType.R_PAREN and len(tokens) >= 6:
            number = tokens[-4]  # of CAST ( '5' AS INTERVAL )
            if number.start == last.start and _PLAIN_NUMBER.fullmatch(number.text):
                number.text = f"{number.text} {unit}"
                return True
        return False

    def _guard_from_lambda(self) -> None:
        """Keep sqlglot from reading ``f(doc -> 'key')`` as a lambda."""
        tokens = self._tokens
        if (
            len(tokens) >= 3
            and self._stack
            and self._stack[-1][1] == "call"
            and tokens[-1].token_type is TokenType.ARROW
            and tokens[-3].token_type in (TokenType.L_PAREN, TokenType.COMMA)
        ):
            arrow, name = tokens.pop(), tokens.pop()
            self._spell(name.start, "(", "(")
            tokens.append(name)
            self._spell(name.end, ")", ")")
            tokens.append(arrow)

    def _place(self, at: int) -> tuple[int, int]:
        """Return line and column, from 1, of an offset into the text."""
        line = bisect_right(self._lines, at)
        return line, at - self._lines[line - 1] + 1
