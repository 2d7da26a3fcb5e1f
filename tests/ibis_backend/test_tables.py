"""Tables found, created, filled and dropped through ibis."""

from __future__ import annotations

import uuid
from typing import Any

import ibis
import ibis.common.exceptions as exc
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kalamdb_lab.errors import (
    AlreadyExistsError,
    InvalidOptionError,
    KalamError,
    NotFoundError,
    NotSupportedError,
)
from kalamdb_lab.model.tables import TableKind

ROWS = {"id": [1, 2, 3], "name": ["a", "b", None]}


def test_a_schema_comes_back_as_it_was_given(con: Any) -> None:
    schema = ibis.schema(
        {
            "i": "int8", "n": "!int64", "u": "uint32", "f": "float32", "d": "decimal(9, 4)",
            "s": "string", "b": "boolean", "y": "binary", "t": "timestamp(6)",
            "z": "timestamp('UTC', 6)", "day": "date", "at": "time", "j": "json", "id": "uuid",
            "v": "array<float32, 3>", "l": "array<int64>", "m": "map<string, float64>",
            "r": "struct<a: int32, b: string>",
        }
    )  # fmt: skip
    assert con.create_table("t", schema=schema).schema() == schema
    assert con.table("t").execute().empty


@pytest.mark.parametrize(
    "obj",
    [
        ROWS,
        pd.DataFrame(ROWS),
        pl.DataFrame(ROWS),
        pl.LazyFrame(ROWS),
        pa.table(ROWS),
        pa.table(ROWS).to_batches()[0],
        [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": None}],
        ibis.memtable(ROWS),
    ],
    ids=["dict", "pandas", "polars", "lazy", "arrow", "batch", "dicts", "memtable"],
)
@pytest.mark.parametrize("temp", [False, True])
def test_a_table_takes_rows_of_any_kind(con: Any, obj: Any, temp: bool) -> None:
    made = con.create_table("t", obj, temp=temp)
    assert made.order_by("id").to_pyarrow().to_pydict() == ROWS


def test_an_expression_makes_a_table_with_the_types_of_ibis(con: Any) -> None:
    t = con.create_table("t", {"a": [1, 2, 3]})
    made = con.create_table("u", t.agg(total=t.a.sum(), mean=t.a.mean()))
    assert made.schema() == ibis.schema({"total": "int64", "mean": "float64"})
    assert made.execute().values.tolist() == [[6, 2.0]]


def test_values_that_ibis_has_no_arrow_type_for_keep_theirs(con: Any) -> None:
    some = uuid.uuid4()
    rows = {"u": [str(some), None], "j": ['{"a":1}', "[2]"]}
    t = con.create_table("t", rows, schema={"u": "uuid", "j": "json"})
    assert t.u.execute().tolist()[0] == some
    assert t.j.execute().tolist() == [{"a": 1}, [2]]
    assert t.u.to_pyarrow().to_pylist() == [str(some), None]
    again = con.create_table("again", t.mutate(n=t.j["a"].int))
    assert again.schema() == ibis.schema({"u": "uuid", "j": "json", "n": "int64"})


def test_kinds_and_options_of_create_table(con: Any) -> None:
    schema = {"id": "int64", "body": "string"}
    con.create_table("a", schema=schema, kind="user", primary_key="id", flush_policy="rows:50")
    con.create_table("b", schema=schema, kind="stream", ttl_seconds=60)
    con.create_table(
        "c", schema=schema, access_level="public", defaults={"id": "SNOWFLAKE_ID()"},
        deleted_retention_hours=4,
    )  # fmt: skip
    a, b, c = (con.session.definition(name) for name in "abc")
    assert (a.kind, a.primary_key.name, str(a.options.flush_policy)) == (
        TableKind.USER, "id", "rows:50",
    )  # fmt: skip
    assert (b.kind, b.options.ttl_seconds) == (TableKind.STREAM, 60)
    assert (c.kind, c.options.access_level.value) == (TableKind.SHARED, "public")
    con.insert("c", [{"body": "x"}])
    assert con.table("c").id.execute()[0] > 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"kind": "gold"}, InvalidOptionError),
        ({"kind": "user"}, KalamError),
        ({"ttl_seconds": 5}, InvalidOptionError),
        ({"primary_key": "nope"}, NotFoundError),
        ({"defaults": {"nope": "1"}}, NotFoundError),
        ({"defaults": {"id": "1, extra INT"}}, KalamError),
        ({"access_level": "PUBLIC') ; DROP TABLE t --"}, InvalidOptionError),
    ],
)
def test_what_does_not_go_together_is_refused(
    con: Any, options: dict[str, Any], error: type[KalamError]
) -> None:
    with pytest.raises(error):
        con.create_table("t", schema={"id": "int64"}, **options)
    assert con.list_tables() == []


def test_names_cannot_break_out_of_their_quotes(con: Any) -> None:
    con.create_table("keep", {"a": [1]})
    odd = 'x" INT); DROP TABLE keep; --'
    t = con.create_table("t", {odd: [1]})
    assert t.columns == (odd,)
    assert t[odd].execute().tolist() == [1]
    with pytest.raises(KalamError):
        con.create_table(odd, {"a": [1]})
    assert con.list_tables() == ["keep", "t"]


def test_a_table_whose_rows_do_not_fit_is_not_there(con: Any) -> None:
    with pytest.raises(KalamError):
        con.create_table("t", {"id": [1, 1]}, primary_key="id")
    with pytest.raises(KalamError):
        con.create_table("t", {"a": ["ten"]}, schema={"a": "int64"})
    with pytest.raises(exc.IbisTypeError):
        con.create_table("t", ibis.memtable({"a": [1]}).mutate(n=ibis.null()))
    assert con.list_tables() == []


def test_overwriting_reads_the_old_rows_first(con: Any) -> None:
    t = con.create_table("t", {"a": [1, 2, 3]})
    with pytest.raises(AlreadyExistsError):
        con.create_table("t", {"a": [9]})
    con.create_table("t", t.filter(t.a > 1), overwrite=True)
    assert sorted(con.table("t").a.execute()) == [2, 3]


def test_a_missing_table_is_an_error_of_both_kinds(con: Any) -> None:
    con.create_table("flights", {"a": [1]})
    with pytest.raises(exc.TableNotFound):
        con.table("planes")
    with pytest.raises(NotFoundError, match=r"'default.flight' not found; did you mean"):
        con.table("flight")
    with pytest.raises(NotFoundError):
        con.table("t", database="nowhere")


def test_temporary_tables_are_the_connections_own(con: Any, path: Any) -> None:
    con.create_table("t", {"a": [1, 2]}, temp=True)
    other = ibis.kalam.connect(path)
    assert other.list_tables() == []
    other.disconnect()
    con.insert("t", {"a": [3]})
    assert con.table("t").a.sum().execute() == 6
    with pytest.raises(AlreadyExistsError):
        con.create_table("t", {"a": [1]}, temp=True)
    con.create_table("t", {"a": [5]}, temp=True, overwrite=True)
    con.truncate_table("t")
    assert con.table("t").count().execute() == 0
    con.drop_table("t")
    assert con.list_tables() == []


def test_insert_goes_by_name_and_else_by_position(con: Any) -> None:
    con.create_table("t", {"a": [1], "b": ["x"]})
    con.insert("t", {"b": ["y"], "a": [2]})
    con.insert("t", [(3, "z")])
    con.insert("t", con.table("t").filter(ibis._.a == 1))
    assert sorted(con.table("t").execute().values.tolist()) == [
        [1, "x"], [1, "x"], [2, "y"], [3, "z"],
    ]  # fmt: skip
    with pytest.raises(NotFoundError, match=r"^Column 'c' not found in t$"):
        con.insert("t", {"c": [1], "a": [1], "b": ["x"]})
    con.insert("t", {"a": [9]}, overwrite=True)
    assert con.table("t").to_pyarrow().to_pydict() == {"a": [9], "b": [None]}


def test_an_overwriting_insert_that_fails_leaves_the_old_rows(con: Any) -> None:
    con.create_table("kept", {"a": [1, 2]}, primary_key="a")
    with pytest.raises(KalamError, match="appears twice"):
        con.insert("kept", {"a": [3, 3]}, overwrite=True)
    assert sorted(con.table("kept").a.to_pyarrow().to_pylist()) == [1, 2]
    with con.session.transaction():
        con.insert("kept", {"a": [3, 4]}, overwrite=True)
        assert sorted(con.table("kept").a.to_pyarrow().to_pylist()) == [3, 4]
    assert sorted(con.table("kept").a.to_pyarrow().to_pylist()) == [3, 4]


@pytest.mark.parametrize("key", ["id", None])
def test_upsert_changes_what_is_there_and_adds_the_rest(con: Any, key: str | None) -> None:
    con.create_table("t", {"id": [1, 2], "a": ["x", "y"], "b": [1.0, 2.0]}, primary_key=key)
    con.upsert("t", {"id": [2, 3], "a": ["new", "z"]}, on="id")
    assert con.table("t").order_by("id").to_pyarrow().to_pydict() == {
        "id": [1, 2, 3],
        "a": ["x", "new", "z"],
        "b": [1.0, 2.0, None],
    }
    with pytest.raises(NotFoundError):
        con.upsert("t", {"a": ["x"]}, on="id")
    with pytest.raises(KalamError, match=r"no column to set"):
        con.upsert("t", {"id": [5]}, on="id")
    assert not [name for name in con.list_tables() if name != "t"]


def test_truncating_a_user_table_leaves_the_rows_of_others(con: Any, mia: Any) -> None:
    con.create_table("t", schema={"id": "int64"}, kind="user", primary_key="id", database="chat")
    con.insert("t", {"id": [1]}, database="chat")
    mia.insert("t", {"id": [2]})
    mia.truncate_table("t")
    assert mia.table("t").count().execute() == 0
    assert con.table("t", database="chat").id.execute().tolist() == [1]


def test_dropping_and_renaming(con: Any) -> None:
    con.create_table("t", {"a": [1]})
    with pytest.raises(NotSupportedError, match=r"create_table"):
        con.rename_table("t", "u")
    con.drop_table("t")
    con.drop_table("t", force=True)
    with pytest.raises(NotFoundError):
        con.drop_table("t")


def test_embeddings_come_and_go_as_arrays(con: Any) -> None:
    vectors = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))
    t = con.create_table("t", pa.table({"v": vectors}))
    assert t.schema() == ibis.schema({"v": "array<float32, 2>"})
    assert t.to_pyarrow()["v"].to_pylist() == vectors.to_pylist()
