"""The one dialect that all SQL text is parsed in, and what its words and operators are.

sqlglot's Parser, Tokenizer and Generator are used as they are: its compiled build does not let
them be subclassed. Where the language differs from DuckDB's, the tokens differ (see `tokens`).
"""

from __future__ import annotations

from typing import Final

from sqlglot import TokenType
from sqlglot.dialects.duckdb import DuckDB


class KalamSql(DuckDB):
    """DuckDB's grammar with PostgreSQL's order of NULLs: last ascending, first descending.

    SQL generated from a tree for the dialect ``duckdb`` has NULLS FIRST or LAST wherever the
    two defaults differ.
    """

    NULL_ORDERING = "nulls_are_large"


KALAM_SQL: Final = KalamSql()

_SAME_AS_DUCKDB = """
ALL AND ANTI ANY ARRAY AS ASC ASOF BETWEEN CASE COLLATE CROSS CUBE CURRENT_DATE CURRENT_TIME
CURRENT_TIMESTAMP CURRENT_USER DEFAULT DELETE DESC DISTINCT ELSE END ESCAPE EXCEPT EXISTS FALSE
FILTER FIRST FOR FROM FULL HAVING ILIKE IN INNER INSERT INTERSECT INTERVAL INTO IS ISNULL JOIN
LATERAL LEFT LIKE LIMIT MAP NATURAL NOT NOTNULL NULL OFFSET ON OR OUTER OVER QUALIFY RANGE
RECURSIVE RETURNING RIGHT ROLLUP ROW ROWS SELECT SEMI SET SOME STRUCT THEN TRUE UNION UNNEST
UPDATE USING VALUES WHEN WHERE WINDOW WITH
"""
_TYPES_AS_DUCKDB = """
BOOLEAN BOOL TINYINT SMALLINT INT2 INT INTEGER INT4 BIGINT INT8 UTINYINT USMALLINT UINTEGER
UBIGINT FLOAT REAL FLOAT4 DOUBLE FLOAT8 DECIMAL NUMERIC TEXT VARCHAR CHAR STRING BINARY VARBINARY
BLOB BYTEA JSON TIMESTAMP TIMESTAMPTZ DATE TIME UUID
"""

_TYPE_WORDS: Final[dict[str, TokenType]] = {
    **{word: DuckDB.Tokenizer.KEYWORDS[word] for word in _TYPES_AS_DUCKDB.split()},
    "BYTES": TokenType.VARBINARY,
    "DATETIME": TokenType.TIMESTAMPTZ,
    "FLOAT64": TokenType.DOUBLE,
    "JSONB": TokenType.JSON,
    "MEDIUMINT": TokenType.INT,
    "NVARCHAR": TokenType.TEXT,
}
WORD_TYPES: Final[dict[str, TokenType]] = {
    **{word: DuckDB.Tokenizer.KEYWORDS[word] for word in _SAME_AS_DUCKDB.split()},
    **_TYPE_WORDS,
}
"""The words that are more than names. sqlglot knows many others; here they are plain names."""

TYPE_TOKENS: Final = frozenset(_TYPE_WORDS.values())

WORD_PAIRS: Final[dict[tuple[str, str], TokenType]] = {
    ("GROUP", "BY"): TokenType.GROUP_BY,
    ("ORDER", "BY"): TokenType.ORDER_BY,
    ("PARTITION", "BY"): TokenType.PARTITION_BY,
    ("GROUPING", "SETS"): TokenType.GROUPING_SETS,
    ("SIMILAR", "TO"): TokenType.SIMILAR_TO,
    ("DOUBLE", "PRECISION"): TokenType.DOUBLE,
    ("CHARACTER", "VARYING"): TokenType.TEXT,
}
"""Two words that sqlglot wants as one token."""

OPERATOR_TYPES: Final[dict[str, TokenType]] = {
    "(": TokenType.L_PAREN,
    ")": TokenType.R_PAREN,
    "[": TokenType.L_BRACKET,
    "]": TokenType.R_BRACKET,
    "{": TokenType.L_BRACE,
    "}": TokenType.R_BRACE,
    ",": TokenType.COMMA,
    ".": TokenType.DOT,
    ";": TokenType.SEMICOLON,
    ":": TokenType.COLON,
    "::": TokenType.DCOLON,
    ":=": TokenType.COLON_EQ,
    "+": TokenType.PLUS,
    "-": TokenType.DASH,
    "*": TokenType.STAR,
    "/": TokenType.SLASH,
    "//": TokenType.DIV,
    "%": TokenType.MOD,
    "^": TokenType.CARET,
    "**": TokenType.DSTAR,
    "=": TokenType.EQ,
    "==": TokenType.EQ,
    "<>": TokenType.NEQ,
    "!=": TokenType.NEQ,
    "<": TokenType.LT,
    "<=": TokenType.LTE,
    ">": TokenType.GT,
    ">=": TokenType.GTE,
    "||": TokenType.DPIPE,
    "|": TokenType.PIPE,
    "&": TokenType.AMP,
    "~": TokenType.TILDE,
    "->": TokenType.ARROW,
    "->>": TokenType.DARROW,
}
"""All operators and marks. What is not here (``!``, ``@``, ``<=>``, ``#``) is a syntax error.

``<<`` and ``>>`` are two tokens each, as sqlglot wants them.
"""

_UNITS = "MICROSECOND MILLISECOND SECOND MINUTE HOUR DAY WEEK MONTH QUARTER YEAR DECADE CENTURY"
INTERVAL_UNITS: Final = frozenset(
    f"{unit}{plural}" for unit in _UNITS.split() for plural in ("", "S")
)
