"""Trees say what their texts say: what sqlglot is lenient about is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp
from sqlglot.parser import Parser

from kalamdb_lab.errors import (
    InvalidDefinitionError,
    KalamError,
    NotSupportedError,
    SqlSyntaxError,
    TooLargeError,
)
from kalamdb_lab.sql.dialect import KALAM_SQL
from kalamdb_lab.sql.parse import parse_script
from kalamdb_lab.sql.queries import parse_expression, parse_query

QUERIES = [
    query.strip()
    for query in """
SELECT 1;
SELECT a, b AS c, t.*, "X y" FROM t AS u(a, b);
SELECT DISTINCT ON (a, b) a FROM t ORDER BY a DESC, b NULLS FIRST, c NULLS LAST, d DESC NULLS
  LAST;
SELECT * FROM a LEFT JOIN b USING (i, x) RIGHT JOIN c ON c.i = a.i FULL JOIN d ON true CROSS
  JOIN e, f;
SELECT * FROM a NATURAL JOIN b SEMI JOIN c ON a.x = c.x ANTI JOIN d ON true ASOF JOIN e ON a.t
  >= e.t;
SELECT * FROM a LEFT JOIN (b JOIN c ON b.x = c.x) ON a.x = b.x;
SELECT * FROM a JOIN b JOIN c ON b.x = c.x ON a.x = b.x;
SELECT * FROM a, LATERAL (SELECT * FROM b WHERE b.x = a.x) AS l LEFT JOIN LATERAL (SELECT 1)
  AS m ON true;
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(x, y);
SELECT * FROM range(0, 10) AS r(i), generate_series(1, 5), all_users('a.b') AS x;
SELECT count(*), count(DISTINCT a), sum(a) FILTER (WHERE b) FROM t GROUP BY ROLLUP (a, b);
SELECT a FROM t GROUP BY GROUPING SETS ((a), (b, c), ());
SELECT a FROM t GROUP BY CUBE (a, b) HAVING count(*) > 1;
SELECT sum(y) OVER (w RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM t WINDOW w AS
  (ORDER BY c DESC);
SELECT row_number() OVER (PARTITION BY a ORDER BY b DESC ROWS BETWEEN 1 PRECEDING AND CURRENT
  ROW) FROM t;
SELECT a FROM t QUALIFY row_number() OVER (ORDER BY a) = 1;
SELECT a FROM t UNION ALL SELECT b FROM u EXCEPT SELECT c FROM v INTERSECT ALL SELECT d FROM w
  ORDER BY 1 LIMIT 3 OFFSET 1;
(SELECT 1) UNION (SELECT 2);
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5), s AS (SELECT 1)
  SELECT * FROM r, s;
SELECT CASE WHEN a THEN 1 ELSE 2 END, CASE a WHEN 1 THEN 'x' END;
SELECT CAST(a AS INT), a::TEXT, TRY_CAST(a AS DOUBLE), a::DECIMAL(5, 2), a::EMBEDDING(3),
  a::INT[];
SELECT a IN (1, 2), a NOT IN (SELECT 1), a BETWEEN 1 AND 2, a LIKE 'x%', a NOT ILIKE 'y', a IS
  DISTINCT FROM b;
SELECT a IS NOT DISTINCT FROM b, a IS NOT NULL, NOT a, a IS TRUE, EXISTS (SELECT 1), a > ALL
  (SELECT 1);
SELECT 'a' || 'b' || c, j -> 'a', j ->> 0, j -> '$.a.b', (j ->> 'a') = 'b';
SELECT EXTRACT(YEAR FROM d), date_trunc('month', d), d + INTERVAL '1 day', d - INTERVAL 3
  HOUR, DATE '2020-01-01';
SELECT x[1], x[1:2], x[-1], x[:2], x[2:], {'a': 1, 'from': 2}, [1, 2, 3], MAP {'a': 1}, (a).b,
  ARRAY[1, 2];
SELECT -1, - -1, ~5, 2 ^ 3, 7 // 2, 7 % 2, 7 / 2, 1 << 2, 8 >> 1, 5 & 3, 5 | 2, X'0AFF';
SELECT coalesce(a, b), nullif(a, b), round(a, 2), string_agg(a, ','), array_agg(a ORDER BY b
  DESC);
SELECT SNOWFLAKE_ID(), UUID_V7(), ULID(), CURRENT_USER(), CURRENT_USER, now(), CURRENT_DATE;
SELECT a FROM t WHERE a = ? AND b IN (?, ?) LIMIT ? OFFSET ?;
SELECT * EXCLUDE (a), * REPLACE (a + 1 AS a) FROM t;
SELECT a AS "from", b "Track No", c as Größe, d AS "say ""x"" y" FROM t;
SELECT * FROM default.t, system.users;
SELECT unnest(x), list_transform(l, lambda x: x + 1) FROM t;
SELECT * FROM t WHERE (a, b) IN ((1, 2), (3, 4)) AND (a, b) = (1, 2)
""".split(";")
]


@pytest.mark.parametrize("text", QUERIES)
def test_generated_sql_reparses_to_the_same_tree(text: str) -> None:
    tree = parse_query(text)
    generated = tree.sql(dialect=KALAM_SQL)
    assert parse_query(generated) == tree


def test_null_order_is_that_of_postgresql_in_sql_for_duckdb() -> None:
    tree = parse_query("SELECT a FROM t ORDER BY a, b DESC, c DESC NULLS LAST, d NULLS FIRST")
    assert tree.sql(dialect="duckdb") == (
        "SELECT a FROM t ORDER BY a, b DESC NULLS FIRST, c DESC, d NULLS FIRST"
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("SELECT 5 !", "'!' (line 1, column 10)"),
        ("SELECT TABLE x", "'TABLE' (line 1, column 8)"),
        ("SELECT * FROM (TABLE hr)", "'TABLE' (line 1, column 16)"),
        ("WITH x AS (TABLE hr) SELECT * FROM x", "'TABLE' (line 1, column 12)"),
        ("SELECT * FROM t *", "'*' (line 1, column 17)"),
        ("SELECT * FROM t * WHERE a = 1", "'*' (line 1, column 17)"),
        ("SELECT x <=> y", "'<=>' (line 1, column 10)"),
        ("SELECT @-5", "'@' (line 1, column 8)"),
        ("SELECT a FROM t LIMIT 5, 10", "'LIMIT' (line 1, column 17)"),
        ("SELECT a FROM t CROSS JOIN u ON true", "'JOIN' (line 1, column 23)"),
        ("SELECT FROM t", "'FROM' (line 1, column 8)"),
        ("FROM t", "'FROM' (line 1, column 1)"),
        ("SELECT * FROM (FROM t)", "'*' (line 1, column 8)"),
        ("SELECT a, FROM t", "'FROM' (line 1, column 11)"),
        ("SELECT (1,)", "')' (line 1, column 11)"),
        ("SELECT 1 SELECT 2", "'SELECT' (line 1, column 10)"),
        ("SELECT from FROM t", "'from' (line 1, column 8)"),
        ("SELECT a AS select FROM t", "'select' (line 1, column 13)"),
        ("SELECT (1 AS x)", "'SELECT' (line 1, column 1)"),
        ("SELECT t.* AS x FROM t", "'t' (line 1, column 8)"),
        ("SELECT 1 AS 'x'", "a quoted text (line 1, column 13)"),
        ("SELECT * FROM t 'x'", "a quoted text (line 1, column 17)"),
        ("SELECT * FROM t AS u(a INT)", "'u' (line 1, column 20)"),
        ("SELECT * FROM t WITH (NOLOCK)", "'t' (line 1, column 15)"),
        ("SELECT * FROM t VERSION AS OF 1", "'t' (line 1, column 15)"),
        ("SELECT a := 1", "'a' (line 1, column 8)"),
        ("SELECT {fn abs(1)}", "'fn' (line 1, column 9)"),
        ("SELECT INTERVAL (a) DAY + 2", "'SELECT' (line 1, column 1)"),
    ],
)
def test_leniency_of_the_parser_is_refused_at_its_place(text: str, where: str) -> None:
    with pytest.raises(SqlSyntaxError) as fault:
        parse_query(text)
    if "SELECT'" not in where and "'t' (line 1, column 8)" not in where:
        assert str(fault.value) == f"Syntax error near {where}"
    assert fault.value.line == 1


@pytest.mark.parametrize("kind", ["JOIN", "INNER JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
def test_a_join_needs_a_condition(kind: str) -> None:
    parse_query(f"SELECT * FROM a {kind} b ON a.x = b.x")
    with pytest.raises(SqlSyntaxError, match=r"^Syntax error: expected ON or USING$"):
        parse_query(f"SELECT * FROM a {kind} b")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SELECT a FROM t FOR UPDATE", "FOR UPDATE"),
        ("SELECT a FROM t FOR NO KEY UPDATE", "FOR UPDATE"),
        ("SELECT a INTO x FROM t", "INTO"),
        ("SELECT * FROM t PIVOT (sum(x) FOR y IN (1, 2))", "PIVOT"),
        ("SELECT * FROM (PIVOT t ON x USING sum(y))", "PIVOT"),
        ("SELECT * FROM t UNPIVOT (x FOR y IN (a, b))", "UNPIVOT"),
        ("SELECT * FROM t USING SAMPLE 10", "SAMPLE"),
        ("SELECT * FROM t TABLESAMPLE (10)", "TABLESAMPLE"),
        ("SELECT * FROM t TABLESAMPLE SYSTEM (10)", "TABLESAMPLE"),
        ("SELECT * FROM (SUMMARIZE t)", "SUMMARIZE"),
        ("SELECT * FROM a POSITIONAL JOIN b", "POSITIONAL JOIN"),
        ("SELECT a FROM t GROUP BY a WITH ROLLUP", "WITH ROLLUP"),
        ("SELECT [x FOR x IN y]", "A list comprehension"),
        ("WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT 1", "INSERT inside a query"),
        ("WITH x AS (DELETE FROM t WHERE true) SELECT 1", "DELETE inside a query"),
    ],
)
def test_known_clauses_are_refused_by_name(text: str, name: str) -> None:
    with pytest.raises(NotSupportedError, match=f"^{name} is not supported$"):
        parse_query(text)


@pytest.mark.parametrize("text", ["'file.csv'", "t, 'x'", "t JOIN 'x' ON true"])
def test_a_text_in_from_is_not_a_table_name(text: str) -> None:
    with pytest.raises(SqlSyntaxError, match=r"^A quoted text is not a table name$"):
        parse_query(f"SELECT * FROM {text}")


def test_a_name_has_two_parts_at_most() -> None:
    parse_query("SELECT * FROM a.b")
    for name in ("a.b.c", "a.b.c.d"):
        with pytest.raises(
            SqlSyntaxError, match=f"^Name '{name}' has too many parts; write namespace.table$"
        ):
            parse_query(f"SELECT * FROM {name}")


ORDINARY = (
    "key value values role name status timestamp content user date type level code index view time "
    "json text first last rows range map if filter format schema database session comment options "
    "pivot sample lambda stored local start end_ year month day second interval_ at no top only"
).split()


@pytest.mark.parametrize("word", ORDINARY)
def test_other_words_are_ordinary_names(word: str) -> None:
    tree = parse_query(
        f"SELECT {word}, t.{word}, {word} + 1 AS {word} FROM {word} AS t WHERE {word} = 1 "
        f"GROUP BY {word} ORDER BY {word} DESC LIMIT 5"
    )
    first, second, third = tree.expressions
    assert isinstance(first, exp.Column)
    assert first.name == word
    assert (second.name, second.table) == (word, "t")
    assert third.alias == word
    parse_script(f"INSERT INTO {word} (a, {word}) VALUES (1, 2)")
    parse_script(f"UPDATE {word} SET {word} = {word} + 1 WHERE {word} > 1 RETURNING {word}")


def test_an_unknown_type_is_named() -> None:
    for text in ("CAST(a AS MONEY)", "a::money", "TRY_CAST(a AS Money)"):
        with pytest.raises(InvalidDefinitionError, match=r"^Unknown type 'MONEY'$"):
            parse_expression(text)


@pytest.mark.parametrize("text", ["1, 2", "*", "1 AS a", "1 FROM t", "1; 2", "a b", "SELECT 1", ""])
def test_an_expression_is_one_expression(text: str) -> None:
    with pytest.raises(KalamError):
        parse_expression(text)
    assert parse_expression("(SELECT 1)") is not None


@pytest.mark.parametrize("text", ["DELETE FROM t WHERE true", "SELECT 1; SELECT 2"])
def test_a_query_is_one_query(text: str) -> None:
    with pytest.raises(KalamError):
        parse_query(text)


DEEP = {
    "parentheses": ("(", "1", ")"),
    "calls": ("abs(", "1", ")"),
    "case": ("CASE WHEN a THEN ", "1", " ELSE 0 END"),
    "subqueries": ("(SELECT ", "1", ")"),
    "lists": ("[", "1", "]"),
    "casts": ("CAST(", "1", " AS INT)"),
    "exists": ("EXISTS (SELECT 1 WHERE ", "true", ")"),
    "not": ("NOT ", "true", ""),
    "signs": ("- ", "1", ""),
}


@pytest.mark.parametrize("shape", DEEP)
def test_a_statement_nests_100_deep_and_no_deeper(shape: str) -> None:
    opened, inner, closed = DEEP[shape]
    tree = parse_query("SELECT " + opened * 100 + inner + closed * 100)
    assert tree is not None
    with pytest.raises(TooLargeError, match=r"^The statement nests deeper than 100$"):
        parse_query("SELECT " + opened * 101 + inner + closed * 101)


def test_deep_statements_parse_from_a_deep_stack() -> None:
    def descend(levels: int) -> exp.Expression:
        if levels:
            return descend(levels - 1)
        return parse_query("SELECT " + "(" * 12 + "1" + ")" * 12)

    assert descend(900) == parse_query("SELECT " + "(" * 12 + "1" + ")" * 12)


def test_long_chains_are_no_nesting() -> None:
    for text in ("1" + "+1" * 3_000, "a" + " AND a" * 3_000, "'a'" + "||'a'" * 3_000):
        assert parse_expression(text) is not None


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["row(1, NOT a)", "struct(1, NOT a)", "a::STRUCT(x INT, NOT y)", "f(1, NOT a, NOT (b))"]
)
def test_what_makes_the_parser_run_for_ever_does_not(text: str) -> None:
    try:
        tree = parse_expression(text)
    except SqlSyntaxError:
        assert "::" in text
    else:
        assert tree.find(exp.Not) is not None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["t AS v(x, NOT)", "t v(x, NOT y)", "(SELECT 1) v(x, NOT y)"])
def test_nor_does_a_list_of_columns_that_is_none(text: str) -> None:
    with pytest.raises(SqlSyntaxError):
        parse_query(f"SELECT * FROM {text}")


def test_chains_of_subscripts_are_bounded() -> None:
    parse_expression("a" + "[1]" * 100)
    with pytest.raises(TooLargeError):
        parse_expression("a" + "[1]" * 1_000)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a FROM t WHERE b = ?",
        "INSERT INTO t (a) VALUES (1), (DEFAULT) ON CONFLICT (a) DO UPDATE SET a = 2 RETURNING *",
        "INSERT INTO t SELECT * FROM u",
        "UPDATE t SET a = 1, b = DEFAULT WHERE c",
        "DELETE FROM t WHERE a",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE t AS SELECT 1",
        "EXPLAIN SELECT 1",
        "EXECUTE AS USER 'mia' (SELECT 1)",
    ],
)
def test_sql_is_parsed_once(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    parse = Parser.parse

    def counted(self: Parser, raw_tokens: object, sql: str) -> object:
        calls.append(sql)
        return parse(self, raw_tokens, sql)  # type: ignore[arg-type]

    monkeypatch.setattr(Parser, "parse", counted)
    parse_script(text)
    assert calls == [text]


NAMES = st.sampled_from(["a", "b", "t.a", '"B c"', "key", "date"])
LEAVES = st.one_of(
    NAMES,
    st.integers(0, 10**20).map(str),
    st.sampled_from(["1.5", "2e6", "'it''s'", "NULL", "TRUE", "?", "DATE '2020-01-01'", "X'00'"]),
)
OPERATORS = st.sampled_from("+ - * / % || = <> < >= AND OR LIKE".split())
SHAPES = [
    "NOT ({0})",
    "- ({0})",
    "(({0}) IS NULL)",
    "CAST({0} AS TEXT)",
    "coalesce({0}, {1})",
    "CASE WHEN {0} THEN {1} END",
    "(({0}) IN ({1}, 1))",
    "(SELECT max({0}) FROM u WHERE {1})",
]
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, OPERATORS, inner),
        st.builds(lambda shape, a, b: shape.format(a, b), st.sampled_from(SHAPES), inner, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=60)
@given(st.lists(EXPRESSIONS, min_size=1, max_size=3), EXPRESSIONS, st.sampled_from(["", "DESC"]))
def test_any_query_reparses_to_the_same_tree(
    columns: list[str], condition: str, order: str
) -> None:
    text = f"SELECT {', '.join(columns)} FROM t WHERE {condition} ORDER BY {columns[0]} {order}"
    tree = parse_query(text)
    assert parse_query(tree.sql(dialect=KALAM_SQL)) == tree
