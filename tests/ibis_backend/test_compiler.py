"""Trees of expressions, and the text that stands for them in views."""

from __future__ import annotations

import ibis
import ibis.common.exceptions as exc
import pytest
import sqlglot

from kalamdb_lab.errors import KalamError
from kalamdb_lab.ibis_backend.compiler import KalamCompiler, transpiled, view_text

T = ibis.table({"a": "int64", "b": "int64"}, name="t")


def text_of(expr: ibis.Table) -> str:
    return view_text(KalamCompiler().to_sqlglot(expr))


def test_division_of_whole_numbers_is_written_as_a_true_one() -> None:
    assert 'CAST("t0"."a" AS DOUBLE) / "t0"."b"' in text_of(T.select(q=T.a / T.b))


def test_order_of_nulls_is_written_where_ours_differs() -> None:
    assert text_of(T.order_by(ibis.desc("a"))).endswith("DESC NULLS LAST")


def test_what_needs_an_extension_is_not_offered() -> None:
    import ibis.expr.operations as ops

    assert not ibis.kalam.has_operation(ops.GeoDistance)
    assert ibis.kalam.has_operation(ops.ArrayStringJoin)
    with pytest.raises(exc.OperationNotDefinedError):
        KalamCompiler().to_sqlglot(ibis.table({"g": "geometry"}, name="t").g.area())


def test_the_dialect_has_the_name_of_the_backend() -> None:
    assert sqlglot.parse_one("SELECT 1", read="kalam").sql(dialect="kalam") == "SELECT 1"


def test_other_dialects_are_translated() -> None:
    assert transpiled("SELECT `a` FROM `t`", "mysql") == 'SELECT "a" FROM "t"'
    assert transpiled("SELECT a / 2 FROM t", "duckdb") == "SELECT CAST(a AS DOUBLE) / 2 FROM t"
    assert transpiled("SELECT a / b FROM t", "postgres") == "SELECT a / b FROM t"


@pytest.mark.parametrize(
    "text", ["SELECT 1; DROP TABLE t", "DROP TABLE t", "", "SELEC 1", "COPY t TO 'x'"]
)
def test_only_one_query_is_translated(text: str) -> None:
    with pytest.raises(KalamError):
        transpiled(text, "duckdb")
