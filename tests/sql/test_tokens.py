"""The lexer: strings, numbers, comments, operators, and where statements end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import TokenType, exp

from kalamdb_lab.errors import InvalidDefinitionError, ParametersError, SqlSyntaxError
from kalamdb_lab.sql.queries import parse_expression
from kalamdb_lab.sql.tokens import tokenize, without_comments, without_values


def texts(sql: str) -> list[str]:
    return [statement.text for statement in tokenize(sql)]


def sql_of(text: str) -> str:
    return parse_expression(text).sql(dialect="duckdb")


def test_statements_end_at_semicolons_outside_quotes_comments_and_parentheses() -> None:
    assert texts(
        "SELECT ';' ; SELECT \";\" -- ;\n;; EXECUTE AS USER 'x' (SELECT 1; SELECT 2);"
    ) == [
        "SELECT ';'",
        'SELECT ";"',
        "EXECUTE AS USER 'x' (SELECT 1; SELECT 2)",
    ]


def test_lines_and_columns_count_from_one_over_the_whole_text() -> None:
    first, second = tokenize("SELECT 1;\n\n  SELECT\n 'a\nb' , 2")
    assert (first.tokens[0].line, first.tokens[0].col) == (1, 1)
    assert [(token.line, token.col) for token in second.tokens] == [(3, 3), (4, 2), (5, 4), (5, 6)]


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_survives_quoting(text: str) -> None:
    literal = parse_expression("'" + text.replace("'", "''") + "'")
    assert literal == exp.Literal.string(text)


@pytest.mark.parametrize("text", ["a\\nb", "100%", "?", "$1", ";", "it''s", "--", "/*", '"', "{%"])
def test_nothing_inside_a_string_is_special(text: str) -> None:
    assert parse_expression(f"'{text}'").this == text.replace("''", "'")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("SELECT 'abc", "unterminated string"),
        ("SELECT 'abc''", "unterminated string"),
        ('SELECT "abc', "unterminated quoted name"),
        ("SELECT /* a /* b */", "unterminated comment"),
        ("SELECT (1", "expected \\)"),
        ("SELECT (1]", "expected \\)"),
        ("SELECT [1)", "expected \\]"),
        ("SELECT CASE WHEN a THEN 1", "expected END"),
        ("SELECT (CASE WHEN a THEN 1)", "expected END"),
    ],
)
def test_what_is_opened_must_be_closed(text: str, fault: str) -> None:
    with pytest.raises(SqlSyntaxError, match=f"^Syntax error: {fault}$"):
        list(tokenize(text))


def test_comments_nest_and_part_words() -> None:
    assert sql_of("1/* a /* b */ ' */+/**/2 -- ' ;") == "1 + 2"
    assert texts("SELECT a FROM t GROUP /* x */ BY\n-- y\n a") == [
        "SELECT a FROM t GROUP /* x */ BY\n-- y\n a"
    ]


@pytest.mark.parametrize(
    ("number", "kept"),
    [("12345678901234567", "12345678901234567"), ("0.25", "0.25"), ("2e6", "2e6"), (".5", ".5")],
)
def test_numbers_keep_their_kind(number: str, kept: str) -> None:
    assert parse_expression(number) == exp.Literal.number(kept)


def test_digits_may_be_parted_by_underscores() -> None:
    assert sql_of("1_000_000") == "1000000"


@pytest.mark.parametrize("text", ["123abc", "1__0", "1_", "1..2", "1.2.3", "0x1F", "5'a'", "1e"])
def test_numbers_with_something_at_their_end_are_refused(text: str) -> None:
    with pytest.raises(SqlSyntaxError, match=f"^Syntax error near '{text[:2]}"):
        list(tokenize(f"SELECT {text}"))


def test_bytes_are_hexadecimal() -> None:
    assert sql_of("X'0aFF'") == "CAST('\\x0A\\xFF' AS BLOB)"
    assert sql_of("x''") == "CAST('' AS BLOB)"


@pytest.mark.parametrize("text", ["X'0'", "x'zz'", "E'a'", "B'1'", "N'a'", "$$a$$", "$a$b$a$"])
def test_other_databases_literals_are_refused(text: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
        list(tokenize(f"SELECT {text}"))


@pytest.mark.parametrize(
    "operator", ["!", "@", "#", "<=>", "`", "\\", "||/", "~*", "!~", "@>", "<->"]
)
def test_operators_of_other_databases_are_refused(operator: str) -> None:
    for text in (f"SELECT a {operator} b", f"SELECT {operator} 5", f"SELECT 5 {operator}"):
        with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
            parse_expression(text.removeprefix("SELECT "))


@pytest.mark.parametrize(
    "text", ["a ~ 'x'", "1 < < 2", "'a' 'b'", "a.'b'", "'a'.b", ":x", "a, , b"]
)
def test_what_would_be_read_as_something_else_is_refused(text: str) -> None:
    with pytest.raises(SqlSyntaxError, match="^Syntax error near "):
        list(tokenize(f"SELECT {text}"))


def test_signs_and_shifts_are_read_as_they_stand() -> None:
    assert sql_of("- -1 + ~5 << 2") == "- -1 + ~5 << 2"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("INTERVAL '3 hours 5 minutes'", "CAST('3 hours 5 minutes' AS INTERVAL)"),
        ("INTERVAL '1 year 12:30:00'", "CAST('1 year 12:30:00' AS INTERVAL)"),
        ("INTERVAL '1' DAY", "CAST('1 DAY' AS INTERVAL)"),
        ("INTERVAL 5 minutes", "CAST('5 MINUTES' AS INTERVAL)"),
        ("INTERVAL '1' DAY + 3", "CAST('1 DAY' AS INTERVAL) + 3"),
        ("DATETIME '2031-04-30'", "CAST('2031-04-30' AS TIMESTAMPTZ)"),
        ("TIMESTAMP '2031-04-30'", "CAST('2031-04-30' AS TIMESTAMP)"),
        ("a::DECIMAL", "CAST(a AS DECIMAL(38, 10))"),
        ("CAST(a AS numeric)", "CAST(a AS DECIMAL(38, 10))"),
        ("CAST(a AS DECIMAL(9))", "CAST(a AS DECIMAL(9))"),
        ("a::STRUCT(x DECIMAL, y TEXT)[]", "CAST(a AS STRUCT(x DECIMAL(38, 10), y TEXT)[])"),
        ("CAST(a AS EMBEDDING( 3 ))", "CAST(a AS REAL[3])"),
        ("a::VARCHAR(10)", "CAST(a AS TEXT)"),
        ("doc -> 'a.b'", "doc -> '/a.b'"),
        ("doc ->> 'a/b~c'", "doc ->> '/a~1b~0c'"),
        ("doc -> 0", "doc -> '$[0]'"),
        ("doc -> '$.a.b'", "doc -> '$.a.b'"),
        ("(doc -> 'a') = 'b'", "(doc -> '/a') = 'b'"),
        ("doc ->> 'a' = 'b'", "(doc ->> '/a') = 'b'"),
        ("upper(doc -> 'a')", "UPPER(((doc)) -> '/a')"),
        ("list_transform(l, x -> x + 1)", "LIST_TRANSFORM(l, x -> x + 1)"),
        ("list_transform(l, lambda x: x + 1)", "LIST_TRANSFORM(l, LAMBDA x : x + 1)"),
    ],
)
def test_literals_and_types_are_spelled_as_the_language_means_them(text: str, meaning: str) -> None:
    assert sql_of(text) == meaning


def test_an_embedding_needs_a_dimension() -> None:
    with pytest.raises(
        InvalidDefinitionError, match=r"^EMBEDDING needs a dimension, as in EMBEDDING\(384\)$"
    ):
        list(tokenize("SELECT CAST(a AS EMBEDDING)"))


def test_decimal_is_an_ordinary_name_where_no_type_stands() -> None:
    assert sql_of("decimal + t.decimal") == "decimal + t.decimal"


def test_both_styles_of_parameters_make_the_same_tokens() -> None:
    (in_order,) = tokenize("SELECT ?, ?")
    (numbered,) = tokenize("SELECT $1, $2")
    assert [(token.token_type, token.text) for token in in_order.tokens] == [
        (token.token_type, token.text) for token in numbered.tokens
    ]
    assert in_order.tokens[1].token_type is TokenType.PARAMETER
    assert in_order.parameters.count == numbered.parameters.count == 2


def test_the_styles_of_parameters_do_not_mix() -> None:
    with pytest.raises(ParametersError, match=r"^Use \? or \$1 for parameters, not both$"):
        list(tokenize("SELECT ?, $1"))


def test_a_string_is_never_quoted_in_an_error() -> None:
    with pytest.raises(SqlSyntaxError) as fault:
        list(tokenize("SELECT 'a' 'secret'"))
    assert str(fault.value) == "Syntax error near a quoted text (line 1, column 12)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT 'it''s', -12.5e3, X'0A', c[3] FROM t1", "SELECT ?, -?, ?, c[?] FROM t1"),
        ('SELECT "a 1", t.x2, $1 FROM t', 'SELECT "a 1", t.x2, $1 FROM t'),
        ("SELECT 1 -- don't\nFROM t WHERE n = 'secret'", "SELECT ? FROM t WHERE n = ?"),
        ("SELECT /* a /* b */ don't */ 1 FROM t WHERE n = 'secret'", "SELECT ? FROM t WHERE n = ?"),
        ("SELECT DATE '2031-04-30' + INTERVAL '3 hours'", "SELECT DATE ? + ?"),
        (
            "EXECUTE AS USER 'mia' (SELECT j -> 'key' FROM t)",
            "EXECUTE AS USER ? (SELECT j -> ? FROM t)",
        ),
    ],
)
def test_a_statement_can_be_shown_without_its_values(text: str, shown: str) -> None:
    assert without_values(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("DROP TABLE  t", "DROP TABLE  t"),
        ("/* a */ DROP/* b /* c */ */TABLE -- d\n /* e */ t -- f", "DROP TABLE t"),
        ("SELECT '-- a', \"/* b */\"", "SELECT '-- a', \"/* b */\""),
        (
            "SELECT 1 FROM t GROUP /* a */ BY INTERVAL -- b\n '1 day'",
            "SELECT 1 FROM t GROUP BY INTERVAL '1 day'",
        ),
    ],
)
def test_a_statement_can_be_shown_without_its_comments(text: str, shown: str) -> None:
    assert without_comments(text) == shown
