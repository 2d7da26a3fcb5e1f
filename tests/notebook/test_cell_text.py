"""What in a cell is a parameter, and where its statements end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.errors import ParametersError, SqlSyntaxError
from kalamdb_lab.notebook.cell_text import scan, secret_literals, statements


def holes(text: str) -> list[str]:
    return [
        text[hole.start : hole.end] for statement in statements(text) for hole in statement.holes
    ]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ':a', 'it''s :b'",
        'SELECT ":a" FROM "t :b"',
        "SELECT 1 -- :a\n",
        "SELECT 1 /* :a /* :b */ :c */",
        "SELECT '1'::int, x::text, (x)::a",
        "SELECT x[1:2], x[:2], x[a:b], x[:b], x [ :b ], f(x)[:b], 'abc'[:b]",
        "SELECT {'a':b}, {'a' :b, 'c' :d}, {a:{b :c}}, MAP {'k' :v}",
        "SELECT payload:name, total: a, TIME '12:30:00', 12:30",
        "SELECT a:=b, f(x :=y)",
        "SELECT '{{a}}', \"{{b}}\" -- {{c}}",
        "SELECT 'unclosed :a",
        "SELECT /* unclosed :a",
    ],
)
def test_other_colons_and_quoted_text_are_no_parameters(text: str) -> None:
    assert holes(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT :a, :_b1", [":a", ":_b1"]),
        ("SELECT x=:a, f(:b), -:c", [":a", ":b", ":c"]),
        ("SELECT [:a, :b], ARRAY[:c], [[:d]]", [":a", ":b", ":c", ":d"]),
        ("SELECT x[(:a)], x[f(:b):2]", [":a", ":b"]),
        ("SELECT {'k': :a, 'l':(:b)}", [":a", ":b"]),
        ("SELECT :a::int, :b.c", [":a", ":b"]),
        ("SELECT ':x' || :a /* :y */ || :b -- :z", [":a", ":b"]),
        ("SELECT {{a}}, {{ {'k': {'l': 1}} }}", ["{{a}}", "{{ {'k': {'l': 1}} }}"]),
        ("SELECT {{a['}}']}}, {{\n  f(1,\n 2)\n}}", ["{{a['}}']}}", "{{\n  f(1,\n 2)\n}}"]),
        ("SELECT {{a|b}}, {{ c | ident }}", ["{{a|b}}", "{{ c | ident }}"]),
    ],
)
def test_parameters_are_found(text: str, expected: list[str]) -> None:
    assert holes(text) == expected


@given(st.text().map(lambda text: text.replace("'", "''")))
def test_nothing_in_a_string_is_looked_at(text: str) -> None:
    sql = f"SELECT '{text}', :a; SELECT 2"
    assert holes(sql) == [":a"]
    assert len(statements(sql)) == 2


@given(st.text().filter(lambda text: "*/" not in text and "/*" not in text and text[-1:] != "/"))
def test_nothing_in_a_comment_is_looked_at(text: str) -> None:
    assert holes(f"SELECT /*{text} */ :a") == [":a"]


@given(st.text(alphabet="a1 :'\"/*-{}[]()|?$;,.=\n"))
def test_any_text_is_scanned_once_from_left_to_right(text: str) -> None:
    try:
        lexemes = scan(text)
    except SqlSyntaxError:
        return
    ends = [0, *(lexeme.end for lexeme in lexemes)]
    for end, lexeme in zip(ends, lexemes, strict=False):
        assert text[end : lexeme.start].strip() == ""
        assert end <= lexeme.start < lexeme.end <= len(text)


def test_statements_end_at_semicolons_outside_brackets_and_quotes() -> None:
    text = ";; SELECT ';' ; -- ;\nEXECUTE AS USER 'mia' (SELECT 1;) ;\n/* ; */"
    assert [text[s.start : s.end] for s in statements(text)] == [
        "SELECT ';'",
        "EXECUTE AS USER 'mia' (SELECT 1;)",
    ]


@pytest.mark.parametrize("text", ["SELECT a FROM t WHERE b = ?", "SELECT $1"])
def test_placeholders_without_values_are_refused(text: str) -> None:
    with pytest.raises(ParametersError, match=r"^'(\?|\$1)' has no value in a cell; write :name"):
        statements(text)


@pytest.mark.parametrize("text", ["SELECT * FROM t_{{x}}", "SELECT {{x}}0", "SELECT X{{x}}"])
def test_a_value_cannot_be_part_of_a_word(text: str) -> None:
    with pytest.raises(SqlSyntaxError, match="stands for a whole value") as raised:
        statements(text)
    assert raised.value.column == text.index("{{") + 1


def test_a_hole_that_is_no_python_is_refused_with_its_place() -> None:
    with pytest.raises(SqlSyntaxError, match="not a Python expression") as raised:
        statements("SELECT\n  {{ 1 + }}")
    assert (raised.value.line, raised.value.column) == (2, 3)


def test_secrets_are_known() -> None:
    text = "CREATE USER 'mia' WITH PASSWORD 'open sesame' ROLE user"
    assert secret_literals(text) == ["'open sesame'"]
