"""Python values become parameters, whatever they hold."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.errors import InvalidNameError, NotFoundError, ParametersError
from kalamdb_lab.notebook.binding import BoundStatement, ExpressionError, as_list, bind
from kalamdb_lab.notebook.cell_text import statements
from kalamdb_lab.sql.tokens import tokenize


def bound(text: str, **names: Any) -> BoundStatement:
    (statement,) = statements(text)
    return bind(text, statement, names)


def shape(sql: str) -> list[str]:
    """The kinds of the tokens of an SQL text, which must be one statement."""
    (statement,) = tokenize(sql)
    return [token.token_type.name for token in statement.tokens]


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(),
    st.sampled_from(["'", '"', "a' OR '1'='1", "'; DROP TABLE t; --", "/*", "$1", ":a", "{{a}}"]),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.uuids(),
    st.timedeltas(),
)


@given(values, values)
def test_no_value_changes_the_statement(first: Any, second: Any) -> None:
    text = "SELECT a, :x FROM t WHERE b = {{y}} AND c > :x -- :x"
    result = bound(text, x=first, y=second)
    assert result.sql == bound(text, x=1, y=2).sql
    assert [id(value) for value in result.values] == [id(first), id(second)]


@given(st.lists(values, min_size=1, max_size=5))
def test_a_list_changes_the_statement_by_its_length_only(items: list[Any]) -> None:
    for text in ("SELECT a IN :x", "SELECT a NOT IN (:x)", "SELECT a IN {{x}}"):
        result = bound(text, x=items)
        assert result.sql == bound(text, x=[0] * len(items)).sql
        assert result.values == items
        assert shape(result.sql).count("PARAMETER") == len(items)


@given(st.text(min_size=1, max_size=128).filter(str.isprintable))
def test_no_name_changes_the_statement(name: str) -> None:
    text = "SELECT {{x|ident}} FROM t WHERE {{ x | ident }} > 0"
    assert shape(bound(text, x=name).sql) == shape(
        "SELECT a FROM t WHERE a > 0".replace("a", '"a"')
    )


def test_a_variable_is_one_parameter_wherever_it_stands() -> None:
    result = bound("SELECT :a + 1 GROUP BY :a + 1", a=5)
    assert result.sql.split() == ["SELECT", "$1", "+", "1", "GROUP", "BY", "$1", "+", "1"]
    assert result.values == [5]


@pytest.mark.parametrize(
    "items",
    [
        [1, 2],
        (1, 2),
        range(1, 3),
        np.array([1, 2]),
        pd.Series([1, 2]),
        pd.Index([1, 2]),
        pl.Series([1, 2]),
        pa.array([1, 2]),
        pa.chunked_array([[1], [2]]),
    ],
    ids=lambda items: type(items).__name__,
)
def test_every_kind_of_list_expands(items: Any) -> None:
    assert bound("SELECT x IN :items", items=items).values == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "ab",
        b"ab",
        1,
        np.float64(1.5),
        decimal.Decimal(1),
        datetime.date(2013, 1, 1),
        {"a": 1},
        pd.Timestamp("2013-01-01"),
        pd.DataFrame({"a": [1]}),
        np.ones((2, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_no_lists(value: Any) -> None:
    assert as_list(value) is None


def test_an_empty_list_holds_nothing() -> None:
    assert " ".join(bound("SELECT 1 IN :x", x=[]).sql.split()) == (
        "SELECT 1 IN (SELECT NULL WHERE FALSE)"
    )
    assert bound("SELECT 1 IN (:x)", x=()).sql.endswith("IN (SELECT NULL WHERE FALSE)")


def test_a_list_outside_in_is_one_value() -> None:
    result = bound("INSERT INTO t VALUES (:id, :v)", id=1, v=np.array([0.5, 1.0]))
    assert result.values == [1, [0.5, 1.0]]


def test_a_list_among_other_items_is_refused() -> None:
    with pytest.raises(ParametersError, match="^':b' is a list; it must stand alone after IN$"):
        bound("SELECT 1 IN (:a, :b)", a=1, b=[2, 3])
    assert bound("SELECT 1 IN (:a, :b)", a=1, b=2).values == [1, 2]


def test_a_missing_variable_is_told_with_the_near_one() -> None:
    with pytest.raises(
        NotFoundError, match="^Variable 'limt' not found; did you mean 'limit'\\?$"
    ) as raised:
        bound("SELECT 1\nLIMIT :limt", limit=3)
    assert (raised.value.line, raised.value.column) == (2, 7)


def test_builtins_are_no_variables_and_expressions_may_use_them() -> None:
    with pytest.raises(NotFoundError):
        bound("SELECT :max")
    assert bound(
        "SELECT {{ max(x for x in items if x < limit) }}", items=[1, 9], limit=5
    ).values == [1]


def test_a_failing_expression_names_its_place() -> None:
    with pytest.raises(ExpressionError) as raised:
        bound("SELECT {{ 1 / 0 }}")
    assert isinstance(raised.value.error, ZeroDivisionError)
    assert raised.value.offset == 7


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dest", '"dest"'), ('a"b', '"a""b"'), (("air", "flights"), '"air"."flights"')],
)
def test_names_are_quoted(name: Any, expected: str) -> None:
    assert bound("SELECT {{name|ident}}", name=name).sql.split()[1] == expected


@pytest.mark.parametrize("name", ["", "a\n", "x" * 129, 5, None, ["a"], "\0"])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidNameError):
        bound("SELECT {{name|ident}}", name=name)


@given(
    st.lists(
        st.sampled_from([":a", ":long_name", "{{a}}", "{{\n a\n}}", "IN :items", "x", "\n", "'q'"]),
        min_size=1,
    )
)
def test_every_place_maps_back_to_the_cell(words: list[str]) -> None:
    """A word after any number of holes is found where the cell has it."""
    cell = "%%kalam\n" + " + ".join(words) + " + here"
    at = cell.index("\n")
    (statement,) = statements(" " * at + cell[at:])
    result = bind(cell, statement, {"a": 1, "long_name": 2, "items": list(range(30))})
    (tokens,) = tokenize(result.sql)
    last = tokens.tokens[-1]
    line, column = result.place_in_cell(cell, last.line, last.col)
    assert cell.splitlines()[line - 1][column - 1 :] == "here"
