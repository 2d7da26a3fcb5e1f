"""From text to the tokens of one statement after the other.

The lexer is ours, the tokens are sqlglot's. sqlglot's own tokenizer hands the rest of many
statements on as raw text, knows strings, comments and operators of twenty dialects, and reads
some of them as something else than they mean; this one knows the language and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from sqlglot import Token, TokenType

from kalamdb_lab.errors import (
    EmptyStatementError,
    InvalidDefinitionError,
    ParametersError,
    SqlSyntaxError,
)
from kalamdb_lab.sql.dialect import (
    INTERVAL_UNITS,
    OPERATOR_TYPES,
    TYPE_TOKENS,
    WORD_PAIRS,
    WORD_TYPES,
)
from kalamdb_lab.sql.parameters import Parameters, ParameterStyle
from kalamdb_lab.sql.statement_tokens import StatementTokens, expected, near
from kalamdb_lab.sql.text_gate import MAX_TOKENS, checked_text, is_plain_word, too_deep, too_long
from kalamdb_lab.sql.token_writer import (
    BEFORE_OPERAND,
    CLOSERS,
    NEVER_BEFORE_COMMA,
    OPENERS,
    TokenWriter,
)

_LEXEME = re.compile(
    r"""[ \t\n\r\f\v]*(?:
      ([xX]'[0-9A-Fa-f]*')
    | ([^\W\d]\w*)
    | ('[^']*+(?:''[^']*+)*+')
    | ([0-9][0-9_]*(?:\.(?!\.)[0-9_]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?)
    | (\?|\$[0-9]{1,9}(?![0-9]))
    | (--[^\n\r]*)
    | (/\*)
    | ("[^"]*+(?:""[^"]*+)*+")
    | (<=>|->>|->|::|:=|\|\||<>|!=|<=|>=|==|<<|>>|//|\*\*|[-+*/%(),.;\[\]{}<>=:^&|~])
    )?""",
    re.VERBOSE,
)
_BYTES, _WORD, _STRING, _NUMBER, _PARAMETER, _LINE, _BLOCK, _QUOTED, _OPERATOR = range(1, 10)
_BLOCK_MARK = re.compile(r"/\*|\*/")
_AFTER_NUMBER = re.compile(r"[\w.'\"$]")
_REST_OF_NUMBER = re.compile(r"[\w.]*")
_MAX_SUBSCRIPTS = 100
"""Subscripts of one statement that follow another one directly."""
_STRING_PREFIXES: Final = frozenset("BENQRUX")
_NEVER_BEFORE_STRING: Final = frozenset(
    {*CLOSERS, TokenType.STRING, TokenType.NUMBER, TokenType.DOT}
)
_LIST_MARKS: Final = (TokenType.COMMA, TokenType.L_PAREN)
_SPELLED_OUT: Final = ("DECIMAL", "NUMERIC", "EMBEDDING")
_WANTS_PAREN: Final = {
    "VALUES": ("(",),
    "IF": ("(",),
    "MAP": ("(", "{"),
    "CONNECT_BY_ROOT": ("(",),
}
"""Ordinary names to us; sqlglot takes them for its own unless they look quoted."""


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


def without_values(text: str) -> str:
    """Return a statement that was parsed, with ``?`` in the place of its texts and numbers."""
    text = without_comments(text)
    pieces: list[str] = []
    end = -1
    for token in next(tokenize(text)).tokens:
        if token.start <= end:
            continue  # the lexer wrote more than one for what stands there
        piece = text[token.start : token.end + 1]
        if piece[0].isdigit() or ("'" in piece and piece[0] != '"'):
            piece = "?"
        pieces.append(piece if token.start == end + 1 else f" {piece}")
        end = token.end
    return "".join(pieces)


def without_comments(text: str) -> str:
    """Return a statement that was parsed, with a space in the place of its comments."""
    pieces: list[str] = []
    at = 0
    while (match := _LEXEME.match(text, at)) is not None and match.lastindex is not None:
        start, end = match.span(match.lastindex)
        if match.lastindex in (_LINE, _BLOCK):
            if pieces[-1:] != [" "]:
                pieces.append(" ")
            at = end if match.lastindex == _LINE else _end_of_block(text, start) or len(text)
        else:
            pieces.append(text[start if pieces[-1:] == [" "] else at : end])
            at = end
    return "".join([*pieces, text[at:]]).strip()


def _end_of_block(text: str, start: int) -> int | None:
    """Return where a comment ends that may hold comments; None if it does not."""
    open_count, at = 1, start + 2
    while open_count:
        mark = _BLOCK_MARK.search(text, at)
        if mark is None:
            return None
        open_count += 1 if mark[0] == "/*" else -1
        at = mark.end()
    return at


class _Lexer(TokenWriter):
    """Reads one statement after the other; the state of a statement is reset at each."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self._at = 0

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
        if (
            before is not None
            and before.token_type is TokenType.R_BRACKET
            and token_type in (TokenType.L_BRACKET, TokenType.DOT)
        ):
            self._subscripted(token)
        if token_type in OPENERS:
            self._open(token, before)
        elif token_type in CLOSERS:
            self._close(token)
        elif token_type is TokenType.COMMA:
            if before is None or before.token_type in NEVER_BEFORE_COMMA:
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
                return before.token_type not in BEFORE_OPERAND  # a match of the whole text
            case TokenType.DOT:
                return before.token_type in (TokenType.STRING, TokenType.NUMBER)
            case TokenType.COLON:
                # ``:name`` is a placeholder to it
                return before.token_type in BEFORE_OPERAND and (
                    before.token_type is not TokenType.L_BRACKET
                )
            case _:
                return False

    def _subscripted(self, token: Token) -> None:
        """Bound ``a[1][1].b[1]``: sqlglot types what it has so far at every subscript."""
        self._subscripts += 1
        if self._subscripts > _MAX_SUBSCRIPTS:
            raise too_deep().at(token.line, token.col)

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
        self._follow(self._add(token_type, text, start, end), upper, before)

    def _follow(self, token: Token, upper: str, before: Token | None) -> None:
        """Do what a word asks for beyond being a token."""
        token_type, end = token.token_type, token.end + 1
        if upper == "NOT" and before is not None and before.token_type in _LIST_MARKS:
            # As a constraint of a column, which it looks for by the text, sqlglot goes back over
            # the comma and reads on from there for ever: ``ROW(1, NOT a)``.
            token.text = "NOT "
        elif upper == "FN" and before is not None and before.token_type is TokenType.L_BRACE:
            if not self._is_followed_by((":",), end):
                raise near(token, self._source)  # {fn abs(1)} of ODBC
        elif token_type is TokenType.CASE:
            self._stack.append(("END", "", token))
            if len(self._stack) > self._depth:
                self._deepen(token)
        elif token_type is TokenType.END and self._stack:
            closer, _, _ = self._stack[-1]
            if closer != "END":
                raise expected(closer, token)
            self._stack.pop()
        elif upper in _SPELLED_OUT and self._is_type_at(-1):
            self._at = self._type_word(upper, token) or self._at
        elif token_type is TokenType.VAR and upper != "CHARACTER" and self._is_cast_to():
            raise InvalidDefinitionError(f"Unknown type '{upper[:40]}'").at(token.line, token.col)

    @staticmethod
    def _paired(before: Token, upper: str, end: int) -> bool:
        """Make one token of two words that sqlglot wants as one."""
        pair = WORD_PAIRS.get((before.text.upper(), upper))
        if pair is None or before.token_type in (TokenType.IDENTIFIER, TokenType.STRING):
            return False
        before.token_type, before.text = pair, f"{before.text} {upper}".upper()
        before.end = end - 1
        return True

    def _literal(self, kind: int, text: str, start: int, end: int) -> None:
        if kind == _STRING:
            self._string(text, start, end)
        elif kind == _NUMBER:
            self._number(text, start, end)
        elif kind == _PARAMETER:
            self._parameter(text, start, end)
        elif kind == _QUOTED:
            self._counted += 1
            token = self._add(TokenType.IDENTIFIER, text[1:-1].replace('""', '"'), start, end)
            if not token.text:
                raise near(token, self._source)
        else:
            digits = text[2:-1]
            if len(digits) % 2:
                raise near(self._token(TokenType.VAR, text, start, end), self._source)
            pairs = (f"\\x{digits[at : at + 2].upper()}" for at in range(0, len(digits), 2))
            self._cast("".join(pairs), TokenType.VARBINARY, "BLOB", start, end)

    def _string(self, text: str, start: int, end: int) -> None:
        self._counted += 1
        before = self._tokens[-1] if self._tokens else None
        value = text[1:-1].replace("''", "'")
        if before is not None:
            adjacent = before.end + 1 == start and before.text.upper() in _STRING_PREFIXES
            if adjacent or before.token_type in _NEVER_BEFORE_STRING:
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

    def _number(self, text: str, start: int, end: int) -> None:
        self._counted += 1
        following = _AFTER_NUMBER.match(self._source, end)
        if following is not None or "__" in text or text.endswith("_") or "_." in text:
            rest = _REST_OF_NUMBER.match(self._source, end)
            stop = end if rest is None else rest.end()
            raise near(self._token(TokenType.NUMBER, text, start, stop), self._source)
        before = self._tokens[-1].token_type if self._tokens else None
        if before is TokenType.DOT or before in TYPE_TOKENS:
            raise near(self._token(TokenType.NUMBER, text, start, end), self._source)
        if before in (TokenType.ARROW, TokenType.DARROW):
            self._guard_from_lambda()
        self._add(TokenType.NUMBER, text.replace("_", ""), start, end)

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
        end = _end_of_block(self._source, start)
        if end is None:
            raise self._fault("unterminated comment", start)
        self._at = end

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
        error = near(self._token(TokenType.VAR, character, self._at, end), self._source)
        if character == "`":
            error.message += "; quote names with double quotes"
        return error

    def _fault(self, what: str, at: int) -> SqlSyntaxError:
        return SqlSyntaxError(f"Syntax error: {what}").at(*self._place(at))
