"""Running expressions: compiled once, memory freed, caches fresh, results in batches."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from kalamdb_lab.errors import InvalidValueError, NotAllowedError, NotFoundError, NotSupportedError


def test_a_memtable_goes_with_its_last_expression(con: Any) -> None:
    table = ibis.memtable({"a": [1, 2]})
    name = table.op().name
    assert con.execute(table.a.sum()) == 3
    assert con.execute(table.a.max()) == 2
    assert name in con.list_tables()
    del table
    gc.collect()
    assert con.list_tables() == []


def test_a_memtable_joins_stored_rows(con: Any) -> None:
    con.create_table("t", {"a": [1, 2, 3]})
    wanted = ibis.memtable({"a": [2, 3, 4]})
    assert sorted(con.table("t").join(wanted, "a").a.execute()) == [2, 3]


def test_a_repeated_expression_is_compiled_once(con: Any) -> None:
    con.create_table("t", {"a": [1]})

    def expr() -> Any:
        t = con.table("t")
        return t.filter(t.a > 0).agg(n=ibis._.a.max())

    first = con.compiled(expr())
    assert con.compiled(expr()) is first
    assert con.compiled(expr(), limit=5) is not first
    assert con.compiled(ibis.memtable({"a": [1]})).cache_key is None


def test_a_kept_plan_still_sees_new_rows_and_new_columns(con: Any) -> None:
    t = con.create_table("t", {"a": [1]})
    total = t.a.sum()
    assert total.execute() == 1
    con.insert("t", {"a": [2]})
    assert total.execute() == 3
    con.session.execute("ALTER TABLE t ADD COLUMN b INT DEFAULT 5")
    assert total.execute() == 3
    assert con.table("t").b.sum().execute() == 10


def test_columns_that_only_a_window_names_are_read(con: Any) -> None:
    t = con.create_table("t", {"a": [1, 2, 3], "b": [3, 2, 1]})
    window = ibis.window(order_by=t.b, preceding=0, following=1)
    assert sorted(t.select(x=t.a.sum().over(window)).x.execute()) == [1, 3, 5]
    assert sorted(t.select(x=ibis.rank().over(order_by=t.b)).x.execute()) == [0, 1, 2]


def test_functions_that_only_a_window_calls_are_checked(con: Any) -> None:
    @ibis.udf.scalar.builtin
    def current_setting(option: str) -> str: ...

    t = con.create_table("t", {"a": [1, 2]})
    ranked = t.select(x=ibis.rank().over(order_by=current_setting("threads")))
    with pytest.raises(NotAllowedError):
        ranked.execute()


def test_parameters_are_values_of_the_call(con: Any) -> None:
    t = con.create_table("t", {"a": [1, 2, 3]})
    least = ibis.param("int64")
    expr = t.filter(t.a >= least).a.count()
    assert [expr.execute(params={least: n}) for n in (1, 3, 1, 9)] == [3, 1, 3, 0]


def test_cache_is_kept_while_nothing_changes_and_made_anew_after(con: Any) -> None:
    t = con.create_table("t", {"a": [1]})
    expr = t.mutate(b=t.a + 1)
    first = expr.cache()
    assert expr.cache().op() is first.op()
    con.insert("t", {"a": [2]})
    second = expr.cache()
    assert (first.count().execute(), second.count().execute()) == (1, 2)
    first.release()
    assert second.count().execute() == 2
    assert expr.cache().op() is second.op()
    second.release()
    second.release()
    assert con.list_tables() == ["t"]


def test_cache_of_another_users_rows_is_not_shared(con: Any, mia: Any) -> None:
    con.create_table("t", schema={"id": "int64"}, kind="user", primary_key="id", database="chat")
    con.insert("t", {"id": [1]}, database="chat")
    mia.insert("t", {"id": [2]})
    assert con.table("t", database="chat").cache().id.execute().tolist() == [1]
    assert mia.table("t").cache().id.execute().tolist() == [2]


def test_batches_hold_the_rows_in_order_at_one_snapshot(con: Any) -> None:
    t = con.create_table("t", {"a": list(range(5000))})
    reader = t.order_by("a").to_pyarrow_batches(chunk_size=2048)
    con.truncate_table("t")
    batches = list(reader)
    assert max(batch.num_rows for batch in batches) <= 2048
    assert pa.Table.from_batches(batches)["a"].to_pylist() == list(range(5000))


def test_two_open_readers_do_not_hinder_each_other(con: Any) -> None:
    t = con.create_table("t", {"a": list(range(5000))})
    one, two = (t.order_by("a").to_pyarrow_batches(chunk_size=1000) for _ in range(2))
    assert one.read_next_batch() == two.read_next_batch()
    assert t.count().execute() == 5000
    assert one.read_all().num_rows == two.read_all().num_rows


def test_results_have_the_types_of_the_expression(con: Any) -> None:
    t = con.create_table("t", {"a": [1, 2], "s": ["x", None]})
    assert t.agg(n=t.a.sum()).to_pyarrow().schema == pa.schema([("n", pa.int64())])
    assert t.to_polars().rows() == [(1, "x"), (2, None)]
    assert t.a.mean().to_pyarrow() == pa.scalar(1.5)
    assert t.s.execute().tolist()[0] == "x"
    assert pa.table(t).num_rows == 2


def test_division_by_zero_is_ibis_and_no_error(con: Any) -> None:
    t = con.create_table("t", {"a": [1.0], "b": [0.0]})
    assert t.select(q=t.a / t.b).execute().q[0] == pytest.approx(float("inf"))


# --- functions ----------------------------------------------------------------------------------


@ibis.udf.scalar.python
def plus(x: int, by: int = 1) -> int:
    return x + by


@ibis.udf.scalar.pyarrow
def twice(x: int) -> int:
    return pc.multiply(x, 2)


def test_python_functions_run_by_value_and_by_array(con: Any) -> None:
    t = con.create_table("t", {"a": [1, 2, None]}, schema={"a": "int64"})
    expr = t.select(one=plus(t.a), ten=plus(t.a, 10), two=twice(t.a)).order_by("one")
    assert expr.to_pyarrow().to_pylist() == [
        {"one": 2, "ten": 11, "two": 2},
        {"one": 3, "ten": 12, "two": 4},
        {"one": None, "ten": None, "two": None},
    ]
    assert pa.Table.from_batches(expr.to_pyarrow_batches(chunk_size=2)).num_rows == 3


def test_a_python_function_belongs_to_one_session(con: Any, path: Path) -> None:
    t = con.create_table("t", {"a": [1]})
    assert plus(t.a).execute().tolist() == [2]
    name = type(plus(t.a).op()).__name__
    text = f"SELECT {name}(a, 5) AS x FROM t"
    assert con.sql(text).x.execute().tolist() == [6]
    other = ibis.kalam.connect(path)
    with pytest.raises(NotFoundError, match=rf"^Function '{name}' not found"):
        other.sql(text)
    with pytest.raises(NotSupportedError):
        con.create_view("v", t.mutate(b=plus(t.a)))
    other.disconnect()


def test_a_failing_python_function_says_what_it_raised(con: Any) -> None:
    @ibis.udf.scalar.python
    def fussy(x: int) -> int:
        raise ValueError(f"not {x}")

    t = con.create_table("t", {"a": [3]})
    with pytest.raises(InvalidValueError, match=r"^A Python function failed: ValueError: not 3$"):
        fussy(t.a).execute()
    assert t.a.execute().tolist() == [3]


def test_a_python_function_goes_with_its_definition(con: Any) -> None:
    t = con.create_table("t", {"a": [3]})

    def use() -> None:
        @ibis.udf.scalar.python
        def passing(x: int) -> int:
            return x

        assert passing(t.a).execute().tolist() == [3]
        assert con.session.relations.functions

    use()
    gc.collect()
    assert not con.session.relations.functions


def test_functions_over_pandas_are_refused(con: Any) -> None:
    @ibis.udf.scalar.pandas
    def same(x: int) -> int:
        return x

    with pytest.raises(NotImplementedError, match=r"use ibis.udf.scalar.pyarrow"):
        con.execute(same(ibis.literal(1)))


def test_sampling_keeps_a_part_of_the_rows(con: Any) -> None:
    t = con.create_table("t", {"a": list(range(2000))})
    assert 500 < t.sample(0.5, seed=7).count().execute() < 1500


def test_row_ids_are_different(con: Any) -> None:
    t = con.create_table("t", {"a": [1, 1, 1]})
    assert t.rowid().execute().is_unique
