"""From tokens to sqlglot trees: the one place that calls sqlglot's Parser."""

from __future__ import annotations

import re
from functools import lru_cache

from sqlglot import Token, TokenType, exp
from sqlglot.errors import ErrorLevel, ParseError

from kalamdb_lab.errors import KalamError, NotSupportedError, SqlSyntaxError
from kalamdb_lab.model.ids import RESERVED_KEYWORDS as _RESERVED
from kalamdb_lab.sql.dialect import KALAM_SQL
from kalamdb_lab.sql.stack import with_deep_stack
from kalamdb_lab.sql.statement_tokens import StatementTokens, expected, near
from kalamdb_lab.sql.text_gate import too_deep
from kalamdb_lab.sql.tokens import tokenize
from kalamdb_lab.sql.tree_checks import check_tree

_EXPECTED_MARK = re.compile(r"Expect(?:ing|ed) ([()\[\]{}])")
_NODES_PER_TOKEN = 60
"""sqlglot tries and gives up; a text that makes it try without end is refused."""
_COSINE_DISTANCES = frozenset({"COSINE_DISTANCE", "LIST_COSINE_DISTANCE"})

_RARE_WORDS = frozenset(
    {"FOR", "SAMPLE", "POSITIONAL", "PIVOT", "UNPIVOT", "SUMMARIZE", "TABLESAMPLE", "ROLLUP"}
)
_REFUSED_PAIRS = {
    ("FOR", "UPDATE"): "FOR UPDATE",
    ("FOR", "SHARE"): "FOR SHARE",
    ("FOR", "NO"): "FOR UPDATE",
    ("FOR", "KEY"): "FOR SHARE",
    ("USING", "SAMPLE"): "SAMPLE",
    ("WITH", "ROLLUP"): "WITH ROLLUP",
    ("POSITIONAL", "JOIN"): "POSITIONAL JOIN",
    ("PIVOT", "("): "PIVOT",
    ("UNPIVOT", "("): "UNPIVOT",
    ("(", "PIVOT"): "PIVOT",
    ("(", "UNPIVOT"): "UNPIVOT",
    ("(", "SUMMARIZE"): "SUMMARIZE",
    ("TABLESAMPLE", "("): "TABLESAMPLE",
    ("TABLESAMPLE", "BERNOULLI"): "TABLESAMPLE",
    ("TABLESAMPLE", "SYSTEM"): "TABLESAMPLE",
    ("TABLESAMPLE", "RESERVOIR"): "TABLESAMPLE",
}
"""Known clauses that are refused by name. Their words are ordinary names elsewhere."""


def parse_tokens(statement: StatementTokens) -> exp.Expression:
    """Return the checked tree of one SELECT, INSERT, UPDATE or DELETE.

    Raises
    ------
    SqlSyntaxError, NotSupportedError, InvalidDefinitionError
        With line and column, whatever sqlglot stumbles over.
    TooLargeError
        It nests too deep to be read.
    """
    _refuse_by_name(statement)
    try:
        return with_deep_stack(lambda: _parsed(statement), depth=statement.depth)
    except RecursionError:
        first = statement.tokens[0]
        raise too_deep().at(first.line, first.col) from None


def parse_query(text: str) -> exp.Expression:
    """Return the tree of a text that is one query: the SELECT of a stored view."""
    statement = _only_statement(text)
    return as_query(parse_tokens(statement), statement)


def parse_expression(text: str) -> exp.Expression:
    """Return the tree of a text that is one scalar expression."""
    return expression_of(_only_statement(text))


@lru_cache(maxsize=1_024)
def parse_default(text: str) -> exp.Expression:
    """Return the tree of a stored DEFAULT, parsed once: copy it before it goes into another."""
    return parse_expression(text)


def expression_of(statement: StatementTokens) -> exp.Expression:
    """Return the tree of tokens that are one scalar expression."""
    first = statement.tokens[0]
    select = Token(TokenType.SELECT, "SELECT", first.line, first.col, first.start, first.start)
    part = StatementTokens(
        [select, *statement.tokens], statement.source, statement.depth, statement.parameters
    )
    tree = parse_tokens(part)
    if (
        isinstance(tree, exp.Select)
        and len(tree.expressions) == 1
        and all(not value or key == "expressions" for key, value in tree.args.items())
        and not isinstance(tree.expressions[0], (exp.Alias, exp.Star))
    ):
        value: exp.Expression = tree.expressions[0].pop()
        return value
    raise near(first, statement.source)


def as_query(tree: exp.Expression, statement: StatementTokens) -> exp.Expression:
    """Return a tree if it is a query; VALUES alone becomes a SELECT from it."""
    if isinstance(tree, exp.Values):
        return exp.Select(expressions=[exp.Star()], from_=exp.From(this=tree))
    if isinstance(tree, (exp.Select, exp.SetOperation, exp.Subquery)):
        return tree
    raise near(statement.tokens[0], statement.source)


def _only_statement(text: str) -> StatementTokens:
    statements = list(tokenize(text))
    if len(statements) > 1:
        raise near(statements[1].tokens[0], statements[1].source)
    return statements[0]


def _parsed(statement: StatementTokens) -> exp.Expression:
    tokens = statement.tokens
    parser = KALAM_SQL.parser(
        error_level=ErrorLevel.IMMEDIATE,
        error_message_context=0,
        max_nodes=_NODES_PER_TOKEN * (len(tokens) + 20),
    )
    try:
        trees = parser.parse(tokens, statement.source)
        tree = trees[0] if len(trees) == 1 else None
        if tree is not None:
            check_tree(tree, statement)
            if any(token.text.upper() in _COSINE_DISTANCES for token in tokens):
                _name_cosine_distances(tree, statement.source)
    except ParseError as error:
        raise _translated(error, statement) from None
    except (KalamError, RecursionError):
        raise
    except Exception:  # noqa: BLE001 - it raises anything on odd input
        raise near(tokens[0], statement.source) from None
    if not isinstance(tree, exp.Expression):
        raise near(tokens[0], statement.source)
    return tree


def _name_cosine_distances(tree: exp.Expr, source: str) -> None:
    """Let a tree say which is called; sqlglot has one node for ours and the one on lists."""
    for node in list(tree.find_all(exp.CosineDistance)):
        written = source[node.meta.get("start", 0) : node.meta.get("end", -1) + 1].strip('"')
        name = written.upper() if written.upper() in _COSINE_DISTANCES else "COSINE_DISTANCE"
        arguments = [node.this, node.expression]
        node.replace(exp.Anonymous(this=name, expressions=arguments))


def _translated(error: ParseError, statement: StatementTokens) -> SqlSyntaxError:
    details = error.errors[0] if error.errors else {}
    place = (details.get("line"), details.get("col"))
    token = next(
        (token for token in statement.tokens if (token.line, token.col) == place),
        statement.tokens[-1],
    )
    mark = _EXPECTED_MARK.match(details.get("description") or "")
    return near(token, statement.source) if mark is None else expected(mark[1], token)


def _refuse_by_name(statement: StatementTokens) -> None:
    tokens = statement.tokens
    words = [
        "" if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER) else token.text.upper()
        for token in tokens
    ]
    if _RARE_WORDS.isdisjoint(words):
        return
    words.append("")
    for at in range(1, len(tokens)):
        first, second = words[at - 1], words[at]
        name = _REFUSED_PAIRS.get((first, second))
        if first == "TABLESAMPLE" and tokens[at].token_type is TokenType.NUMBER:
            name = first
        if name is None:
            continue
        if first == "(":
            # ``(PIVOT t ON ...``, but not ``count(pivot)``
            is_clause = words[at + 1][:1].isalpha() and words[at + 1].lower() not in _RESERVED
        elif second == "(":
            # ``FROM t PIVOT (``, but not ``INSERT INTO pivot (``
            before = words[at - 2]
            is_clause = before in (")", "") or (
                before[:1].isalpha() and before.lower() not in _RESERVED
            )
        else:
            is_clause = True
        if is_clause:
            raise NotSupportedError(f"{name} is not supported").at(
                tokens[at - 1].line, tokens[at - 1].col
            )
