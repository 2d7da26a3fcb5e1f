"""Vector indexes as statements write them."""

from __future__ import annotations

from typing import TypeVar

import pytest

from kalamdb_lab.errors import (
    InvalidNameError,
    InvalidOptionError,
    KalamError,
    NotSupportedError,
    ParametersError,
    SqlSyntaxError,
)
from kalamdb_lab.sql import statements as s
from kalamdb_lab.sql.parse import parse_script

Kind = TypeVar("Kind", bound=s.Statement)


def one(sql: str, kind: type[Kind]) -> Kind:
    (statement,) = parse_script(sql)
    assert isinstance(statement, kind)
    return statement


def test_create_index_says_name_table_column_and_options() -> None:
    create = one(
        "CREATE INDEX IF NOT EXISTS Moods ON Studio.Tracks USING ann (Mood) "
        "WITH (metric = 'l2', LISTS = 32, PROBES = 4)",
        s.CreateIndex,
    )
    assert (create.name, create.table) == ("moods", ("studio", "tracks"))
    assert (create.indexed_column, create.if_not_exists) == ("Mood", True)
    assert create.options == (("METRIC", "l2"), ("LISTS", 32), ("PROBES", 4))


def test_create_index_needs_no_name_and_no_options() -> None:
    create = one('CREATE INDEX ON t USING ANN ("my mood")', s.CreateIndex)
    assert (create.name, create.table, create.indexed_column) == (None, ("t",), "my mood")
    assert (create.if_not_exists, create.options) == (False, ())


@pytest.mark.parametrize("vector", ["", "VECTOR "])
@pytest.mark.parametrize(
    ("word", "metric"), [("COSINE", "cosine"), ("l2", "l2"), ("Dot", "inner_product")]
)
def test_alter_table_creates_an_index_too(vector: str, word: str, metric: str) -> None:
    create = one(f"ALTER TABLE studio.t CREATE {vector}INDEX mood USING {word}", s.CreateIndex)
    assert (create.name, create.table, create.indexed_column) == (None, ("studio", "t"), "mood")
    assert create.options == (("METRIC", metric),)


def test_drop_index_names_an_index_and_alter_table_its_column() -> None:
    drop = one("DROP INDEX IF EXISTS Studio.Moods", s.DropIndex)
    assert (drop.name, drop.if_exists, drop.table) == (("studio", "moods"), True, None)
    for vector in ("", "VECTOR "):
        drop = one(f"ALTER TABLE t DROP {vector}INDEX mood", s.DropIndex)
        assert (drop.name, drop.table, drop.indexed_column) == (None, ("t",), "mood")


@pytest.mark.parametrize("sql", ["DROP INDEX", "DROP vector", "DROP COLUMN index"])
def test_a_column_may_be_called_index_or_vector(sql: str) -> None:
    action = one(f"ALTER TABLE t {sql}", s.AlterTable).action
    assert action == s.DropColumn(sql.rsplit(maxsplit=1)[-1])


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        (
            "CREATE INDEX i ON t USING HASH (mood)",
            NotSupportedError,
            "Index method 'HASH' is not supported; use ANN",
        ),
        (
            "CREATE INDEX i ON t USING ANN (a, b)",
            NotSupportedError,
            "An index has one column; create one for each",
        ),
        (
            "CREATE INDEX i ON t (a)",
            SqlSyntaxError,
            "Syntax error: expected USING ANN after the table name",
        ),
        (
            "CREATE INDEX studio.i ON t USING ANN (a)",
            SqlSyntaxError,
            "Syntax error: expected ON after the index name, which is in the namespace of its "
            "table",
        ),
        (
            "CREATE INDEX i USING ANN (a)",
            SqlSyntaxError,
            "Syntax error: expected ON",
        ),
        (
            "CREATE INDEX _i ON t USING ANN (a)",
            InvalidNameError,
            "Name '_i' is reserved: names cannot start with an underscore",
        ),
        (
            "CREATE INDEX i ON t USING ANN ()",
            SqlSyntaxError,
            "Syntax error: expected a column name after USING ANN (",
        ),
        ("DROP INDEX", SqlSyntaxError, "Syntax error: expected an index name after DROP INDEX"),
        (
            "ALTER TABLE t CREATE INDEX mood USING JACCARD",
            InvalidOptionError,
            "Unknown metric 'JACCARD'; use COSINE, L2 or DOT",
        ),
        (
            "ALTER TABLE t CREATE INDEX mood",
            SqlSyntaxError,
            "Syntax error: expected USING",
        ),
        ("ALTER TABLE t CREATE COLUMN a INT", SqlSyntaxError, "Syntax error: expected INDEX"),
        (
            "CREATE INDEX i ON t USING ANN (a) WITH (LISTS = ?)",
            ParametersError,
            "Parameters are not allowed in CREATE INDEX",
        ),
        ("DROP INDEX ?", ParametersError, "Parameters are not allowed in DROP INDEX"),
        (
            "EXECUTE AS USER 'mia' (CREATE INDEX i ON t USING ANN (a))",
            NotSupportedError,
            "CREATE INDEX is not allowed in EXECUTE AS USER; it takes SELECT, INSERT, UPDATE, "
            "DELETE or EXPLAIN",
        ),
    ],
)
def test_what_no_index_can_be_is_refused(sql: str, error: type[KalamError], message: str) -> None:
    with pytest.raises(error) as fault:
        parse_script(sql)
    assert str(fault.value) == message
