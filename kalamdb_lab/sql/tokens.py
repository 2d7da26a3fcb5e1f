"""From text to the tokens of one statement after the other.

The lexer is ours, the tokens are sqlglot's. sqlglot's own tokenizer hands the rest of many
statements on as raw text, knows strings, comments and operators of twenty dialects, and pairs
some texts with another tree than they mean; this one knows the language and nothing else.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlglot import Token, TokenType

from kalamdb_lab.errors import (
    EmptyStatementError,
    InvalidDefinitionError,
    ParametersError,
    SqlSyntaxError,
)
from kalamdb_lab.sql.dialect import INTERVAL_UNITS, OPERATOR_TYPES, WORD_PAIRS, WORD_TYPES
from kalamdb_lab.sql.parameters import Parameters, ParameterStyle
from kalamdb_lab.sql.text_gate import (
    MAX_NESTING,
    MAX_TOKENS,
    checked_text,
    is_plain_word,
    too_deep,
    too_long,
)

_LEXEME = re.compile(
    r"""[ \t\n\r\f\v]*(?:
      ([xX]'[0-9A-Fa-f]*')
    | ([^\W\d]\w*)
    | ('[^']*(?:''[^']*)*')
    | ([0-9][0-9_]*(?:\.(?!\.)[0-9_]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?)
    | (\?|\$[0-9]{1,9}(?![0-9]))
    | (--[^\n\r]*)
    | (/\*)
    | ("[^"]*(?:""[^"]*)*")
    | (<=>|->>|->|::|:=|\|\||<>|!=|<=|>=|==|<<|>>|//|\*\*|[-+*/%(),.;\[\]{}<>=:^&|~])
    )?""",
    re.VERBOSE,
)
_BYTES, _WORD, _STRING, _NUMBER, _PARAMETER, _LINE, _BLOCK, _QUOTED, _OPERATOR = range(1, 10)
_BLOCK_MARK = re.compile(r"/\*|\*/")
_AFTER_NUMBER = re.compile(r"[\w.'\"$]")

_OPENERS: Final = {
    TokenType.L_PAREN: ")",
    TokenType.L_BRACKET: "]",
    TokenType.L_BRACE: "}",
}
_CLOSERS: Final = {
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
_BEFORE_OPERAND: Final = frozenset(
    {
        *OPERATOR_TYPES.values(),
        *(WORD_TYPES[word] for word in _OPERAND_FOLLOWS.split()),
        *WORD_PAIRS.values(),
    }
) - {*_CLOSERS, TokenType.DOUBLE}
"""After these an operand begins: a sign is a prefix there."""
_NEVER_AFTER_COMMA: Final = frozenset(
    {
        *_CLOSERS,
        TokenType.COMMA,
        TokenType.SEMICOLON,
        TokenType.GROUP_BY,
        TokenType.ORDER_BY,
        *(WORD_TYPES[word] for word in _NO_ELEMENT.split()),
    }
)
_NEVER_BEFORE_COMMA: Final = frozenset(
    {
        *_OPENERS,
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
_STRING_PREFIXES: Final = frozenset("BENQRUX")
_WANTS_PAREN: Final = {
    "VALUES": ("(",),
    "IF": ("(",),
    "MAP": ("(", "{"),
    "CONNECT_BY_ROOT": ("(",),
}
"""Ordinary names to us; sqlglot takes them for its own unless they look quoted."""
_GAP = r"(?:[ \t\n\r\f\v]|--[^\n\r]*+|/\*(?:[^*]|\*(?!/))*+\*/)*+"
_SPELLED_OUT: Final = ("DECIMAL", "NUMERIC", "EMBEDDING")
_NEXT_MARK = re.compile(_GAP + r"(.?)")
_LENGTH = re.compile(rf"{_GAP}\({_GAP}([0-9]{{1,9}}){_GAP}\)")
_PLAIN_NUMBER = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]+)?\s*")
_REST_OF_NUMBER = re.compile(r"[\w.]*")


@dataclass(slots=True)
class StatementTokens:
    """The tokens of one statement, with where it stands in its text.

    Attributes
    ----------
    source : str
        The whole text: ``start`` and ``end`` of a token are offsets into it.
    depth : int
        How deep it nests.
    """

    tokens: list[Token]
    source: str
    depth: int
    parameters: Parameters

    @property
    def text(self) -> str:
        """The statement as it was written, comments within it included."""
        return self.source[self.tokens[0].start : self.tokens[-1].end + 1]

    def part(self, start: int, stop: int) -> StatementTokens:
        """Return the tokens from ``start`` up to ``stop`` as a statement of their own."""
        return StatementTokens(self.tokens[start:stop], self.source, self.depth, self.parameters)


def near(token: Token, source: str) -> SqlSyntaxError:
    """Return the error for a token that cannot stand where it stands.

    A string is not quoted: it may be a password.
    """
    if token.token_type is TokenType.STRING:
        what = "a quoted text"
    else:
        what = f"'{source[token.start : token.end + 1][:40]}'"
    return SqlSyntaxError(f"Syntax error near {what} (line {token.line}, column {token.col})").at(
        token.line, token.col
    )


def expected(what: str, token: Token) -> SqlSyntaxError:
    """Return the error for something that is missing at ``token``."""
    return SqlSyntaxError(f"Syntax error: expected {what}").at(token.line, token.col)


def tokenize(text: str | bytes) -> Iterator[StatementTokens]:
    """Yield the statements of a text one by one, empty ones left out.

    Each is read when it is asked for, so that what stands before a fault can be run.

    Raises
    ------
    EmptyStatementError
        There is no statement in the text.
    SqlSyntaxError, TooLargeError
        With line and column.
    """
    source = checked_text(text)
    lexer = _Lexer(source)
    none = True
    while (statement := lexer.next_statement()) is not None:
        none = False
        yield statement
    if none:
        raise EmptyStatementError


class _Lexer:
    """Reads one statement after the other; the state of a statement is reset at each."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
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

    def next_statement(self) -> StatementTokens | None:
        """Return the next statement that is not empty, or None at the end of the text."""
        self._reset()
        match_at, source, size = _LEXEME.match, self._source, len(self._source)
        while True:
            match = match_at(source, self._at)
            assert match is not None
            kind = match.lastindex
            if kind is None:
                self._at = match.end()
                if self._at < size:
                    raise self._bad_character()
                break
            start, end = match.span(kind)
            self._at = end
            if kind == _OPERATOR:
                if source[start] == ";" and not self._stack:
                    if self._tokens:
                        break
                    continue
                self._operator(match[kind], start, end)
            elif kind == _WORD:
                self._word(match[kind], start, end)
            elif kind == _BLOCK:
                self._skip_block_comment(start)
            elif kind != _LINE:
                self._literal(kind, match[kind], start, end)
        return self._finished()

    def _finished(self) -> StatementTokens | None:
        tokens = self._tokens
        if not tokens:
            return None
        if self._stack:
            closer, _, opener = self._stack[-1]
            raise expected(closer, opener)
        if tokens[-1].token_type is TokenType.COMMA:
            raise near(tokens[-1], self._source)
        if self._counted > MAX_TOKENS:
            raise too_long().at(tokens[0].line, tokens[0].col)
        parameters = Parameters(self._style, self._parameter_count)
        return StatementTokens(tokens, self._source, self._depth, parameters)

    def _token(self, token_type: TokenType, text: str, start: int, end: int) -> Token:
        line = bisect_right(self._lines, start)
        token = Token(token_type, text, line, start - self._lines[line - 1] + 1, start, end - 1)
        self._tokens.append(token)
        return token

    def _add(self, token_type: TokenType, text: str, start: int, end: int) -> Token:
        """Append a token, after what every token must answer for."""
        before = self._tokens[-1].token_type if self._tokens else None
        token = self._token(token_type, text, start, end)
        if before is TokenType.COMMA and token_type in _NEVER_AFTER_COMMA:
            raise near(token, self._source)
        if token_type in _PREFIXES and (before is None or before in _BEFORE_OPERAND):
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

    def _operator(self, text: str, start: int, end: int) -> None:
        token_type = OPERATOR_TYPES.get(text)
        if token_type is None:
            if text in ("<<", ">>"):
                half = TokenType.LT if text == "<<" else TokenType.GT
                self._add(half, text[0], start, start + 1)
                self._token(half, text[1], start + 1, end)
                return
            raise near(self._token(TokenType.VAR, text, start, end), self._source)
        before = self._tokens[-1] if self._tokens else None
        token = self._add(token_type, text, start, end)
        if token_type in _OPENERS:
            self._open(token, before)
        elif token_type in _CLOSERS:
            self._close(token)
        elif token_type is TokenType.COMMA:
            if before is None or before.token_type in _NEVER_BEFORE_COMMA:
                raise near(token, self._source)
        elif before is not None and self._is_misplaced(token, before):
            raise near(token, self._source)
        else:
            self._counted += 1

    @staticmethod
    def _is_misplaced(token: Token, before: Token) -> bool:
        """Return whether sqlglot would read an operator as something else than it says."""
        match token.token_type:
            case TokenType.LT | TokenType.GT:
                return before.token_type is token.token_type  # it would be a shift
            case TokenType.TILDE:
                return before.token_type not in _BEFORE_OPERAND  # a match of the whole text
            case TokenType.DOT:
                return before.token_type is TokenType.STRING
            case TokenType.COLON:
                # ``:name`` is a placeholder to it
                return before.token_type in _BEFORE_OPERAND and (
                    before.token_type is not TokenType.L_BRACKET
                )
            case _:
                return False

    def _open(self, token: Token, before: Token | None) -> None:
        mark = ""
        if token.token_type is TokenType.L_PAREN and before is not None:
            word = before.text.upper()
            if word in ("CAST", "TRY_CAST"):
                mark = "cast"
            elif word in ("STRUCT", "MAP") and self._is_type_at(-2):
                mark = "type"
        self._stack.append((_OPENERS[token.token_type], mark, token))
        if len(self._stack) > self._depth:
            self._deepen(token)

    def _close(self, token: Token) -> None:
        if not self._stack:
            raise near(token, self._source)
        closer, _, _ = self._stack[-1]
        if closer != _CLOSERS[token.token_type]:
            raise expected(closer, token)
        self._stack.pop()

    def _is_type_at(self, index: int) -> bool:
        """Return whether the token at ``index``, a word, stands where a type must."""
        if len(self._tokens) < 1 - index:
            return False
        before = self._tokens[index - 1].token_type
        mark = self._stack[-1][1] if self._stack else ""
        return (
            before is TokenType.DCOLON
            or (before is TokenType.ALIAS and mark == "cast")
            or mark == "type"
        )

    def _word(self, text: str, start: int, end: int) -> None:
        self._counted += 1
        if not is_plain_word(text):
            raise near(self._token(TokenType.VAR, text, start, end), self._source)
        upper = text.upper()
        before = self._tokens[-1] if self._tokens else None
        if before is not None and before.token_type is TokenType.DOT:
            self._add(TokenType.VAR, text, start, end)
            return
        if (before is not None and self._paired(before, upper, end)) or (
            upper in INTERVAL_UNITS and self._joined_interval(upper)
        ):
            return
        token_type = WORD_TYPES.get(upper, TokenType.VAR)
        if upper in _WANTS_PAREN and not (
            self._is_followed_by(_WANTS_PAREN[upper], end)
            or (before is not None and before.token_type is TokenType.DEFAULT)
        ):
            token_type = TokenType.IDENTIFIER
        token = self._add(token_type, text, start, end)
        if token_type is TokenType.CASE:
            self._stack.append(("END", "", token))
            if len(self._stack) > self._depth:
                self._deepen(token)
        elif token_type is TokenType.END and self._stack:
            closer, _, _ = self._stack[-1]
            if closer != "END":
                raise expected(closer, token)
            self._stack.pop()
        elif upper in _SPELLED_OUT and self._is_type_at(-1):
            self._type_word(upper, token)

    @staticmethod
    def _paired(before: Token, upper: str, end: int) -> bool:
        """Make one token of two words that sqlglot wants as one."""
        pair = WORD_PAIRS.get((before.text.upper(), upper))
        if pair is None or before.token_type in (TokenType.IDENTIFIER, TokenType.STRING):
            return False
        before.token_type, before.text = pair, f"{before.text} {upper}".upper()
        before.end = end - 1
        return True

    def _is_followed_by(self, marks: tuple[str, ...], end: int) -> bool:
        following = _NEXT_MARK.match(self._source, end)
        return following is not None and following[1] in marks

    def _type_word(self, upper: str, token: Token) -> None:
        """Spell out what the language means by DECIMAL, and EMBEDDING(n) as sqlglot knows it."""
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
            self._at = match.end()
        elif not self._is_followed_by(("(",), token.end + 1):
            self._spell(token.end, "(", 38, ",", 10, ")")

    def _spell(self, at: int, *parts: str | int) -> None:
        for part in parts:
            token_type = TokenType.NUMBER if isinstance(part, int) else OPERATOR_TYPES[part]
            self._token(token_type, str(part), at, at + 1)

    def _literal(self, kind: int, text: str, start: int, end: int) -> None:
        before = self._tokens[-1] if self._tokens else None
        match kind:
            case 3:
                self._string(text, start, end, before)
            case 4:
                self._number(text, start, end)
            case 5:
                self._parameter(text, start, end)
            case 8:
                self._counted += 1
                self._add(TokenType.IDENTIFIER, text[1:-1].replace('""', '"'), start, end)
            case _:
                digits = text[2:-1]
                if len(digits) % 2:
                    raise near(self._token(TokenType.VAR, text, start, end), self._source)
                pairs = (f"\\x{digits[at : at + 2].upper()}" for at in range(0, len(digits), 2))
                self._cast("".join(pairs), TokenType.VARBINARY, "BLOB", start, end)

    def _string(self, text: str, start: int, end: int, before: Token | None) -> None:
        self._counted += 1
        value = text[1:-1].replace("''", "'")
        if before is not None:
            adjacent = before.end + 1 == start and before.text.upper() in _STRING_PREFIXES
            if adjacent or before.token_type in (TokenType.STRING, TokenType.DOT):
                raise near(
                    before if adjacent else self._token(TokenType.STRING, value, start, end),
                    self._source,
                )
            if before.token_type is TokenType.INTERVAL:
                self._tokens.pop()
                self._cast(value, TokenType.INTERVAL, "INTERVAL", before.start, end)
                return
            if before.token_type in (TokenType.ARROW, TokenType.DARROW):
                # sqlglot reads a key as a path; a pointer is taken as it is.
                if not value.startswith(("/", "$")):
                    value = "/" + value.replace("~", "~0").replace("/", "~1")
                self._guard_from_lambda()
        self._add(TokenType.STRING, value, start, end)

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

    def _number(self, text: str, start: int, end: int) -> None:
        self._counted += 1
        following = _AFTER_NUMBER.match(self._source, end)
        if following is not None or "__" in text or text.endswith("_") or "_." in text:
            rest = _REST_OF_NUMBER.match(self._source, end)
            stop = end if rest is None else rest.end()
            raise near(self._token(TokenType.NUMBER, text, start, stop), self._source)
        before = self._tokens[-1].token_type if self._tokens else None
        if before in (TokenType.ARROW, TokenType.DARROW):
            self._guard_from_lambda()
        self._add(TokenType.NUMBER, text.replace("_", ""), start, end)

    def _guard_from_lambda(self) -> None:
        """Keep sqlglot from reading ``f(doc -> 'key')`` as a lambda."""
        tokens = self._tokens
        if (
            len(tokens) >= 3
            and self._stack
            and tokens[-1].token_type is TokenType.ARROW
            and tokens[-3].token_type in (*_OPENERS, TokenType.COMMA)
        ):
            arrow, name = tokens.pop(), tokens.pop()
            self._spell(name.start, "(", "(")
            tokens.append(name)
            self._spell(name.end, ")", ")")
            tokens.append(arrow)

    def _parameter(self, text: str, start: int, end: int) -> None:
        style = ParameterStyle.IN_ORDER if text == "?" else ParameterStyle.NUMBERED
        number = self._parameter_count + 1 if text == "?" else int(text[1:])
        before = self._tokens[-1].token_type if self._tokens else None
        if before in (TokenType.ARROW, TokenType.DARROW):
            self._guard_from_lambda()
        token = self._add(TokenType.PARAMETER, "$", start, end)
        if number == 0:
            raise near(token, self._source)
        if self._style not in (ParameterStyle.NONE, style):
            raise ParametersError("Use ? or $1 for parameters, not both").at(token.line, token.col)
        self._style = style
        self._parameter_count = max(self._parameter_count, number)
        self._token(TokenType.NUMBER, str(number), start, end)

    def _skip_block_comment(self, start: int) -> None:
        open_count, at = 1, start + 2
        while open_count:
            mark = _BLOCK_MARK.search(self._source, at)
            if mark is None:
                raise self._fault("unterminated comment", start)
            open_count += 1 if mark[0] == "/*" else -1
            at = mark.end()
        self._at = at

    def _bad_character(self) -> SqlSyntaxError:
        character = self._source[self._at]
        if character == "'":
            return self._fault("unterminated string", self._at)
        if character == '"':
            return self._fault("unterminated quoted name", self._at)
        if not character.isascii() or not character.isprintable():
            # It may be invisible, so that the place says more than the character.
            return self._fault(f"character U+{ord(character):04X} is not allowed", self._at)
        end = self._at + 1
        return near(self._token(TokenType.VAR, character, self._at, end), self._source)

    def _fault(self, what: str, at: int) -> SqlSyntaxError:
        line = bisect_right(self._lines, at)
        return SqlSyntaxError(f"Syntax error: {what}").at(line, at - self._lines[line - 1] + 1)
