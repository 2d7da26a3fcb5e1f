"""Connections, namespaces, views and SQL text, as a user of ibis has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import ibis
import ibis.common.exceptions as exc
import pytest

from kalamdb_lab.errors import (
    ClosedError,
    KalamError,
    NotAllowedError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
)


def test_a_url_names_directory_user_and_namespace(mia: Any, path: Path) -> None:
    con = ibis.connect(f"kalam://{path}?user=mia&namespace=chat")
    try:
        assert (con.session.user, con.current_database) == ("mia", "chat")
        assert con == mia
    finally:
        con.disconnect()


def test_connections_of_two_users_are_not_equal(con: Any, mia: Any) -> None:
    assert con != mia
    assert hash(con) != hash(mia)


def test_connections_to_one_directory_see_each_others_commits(con: Any, path: Path) -> None:
    other = ibis.kalam.connect(str(path))
    con.create_table("t", {"a": [1, 2]})
    assert other.table("t").a.sum().execute() == 3
    other.disconnect()
    assert con.table("t").count().execute() == 2


def test_a_closed_connection_refuses_and_reconnects(path: Path) -> None:
    con = ibis.kalam.connect(path)
    con.create_table("t", {"a": [1]}, temp=True)
    con.disconnect()
    with pytest.raises(ClosedError):
        con.list_tables()
    con.reconnect()
    assert con.list_tables() == []
    con.disconnect()


def test_an_unknown_user_is_refused_and_leaves_nothing_open(con: Any, path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"^User 'ben' not found$"):
        ibis.kalam.connect(path, user="ben")


def test_a_session_can_be_wrapped(con: Any) -> None:
    con.create_table("t", {"a": [1]})
    wrapped = ibis.kalam.from_connection(con.session)
    assert wrapped.table("t").a.execute().tolist() == [1]


def test_importing_the_package_imports_no_ibis() -> None:
    script = "import kalamdb_lab, sys; assert not {'ibis', 'duckdb', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_databases_are_namespaces(con: Any) -> None:
    con.create_database("studio")
    con.create_database("studio", force=True)
    assert "studio" in con.list_databases()
    con.create_table("t", {"a": [1]}, database="studio")
    assert con.list_tables(database="studio") == ["t"]
    with pytest.raises(KalamError, match=r"is not empty"):
        con.drop_database("studio")
    con.drop_database("studio", cascade=True)
    assert "studio" not in con.list_databases()
    for catalog in ("c.default", ("c", "default")):
        with pytest.raises(exc.UnsupportedOperationError, match=r"^There are no catalogs"):
            con.list_tables(database=catalog)
    assert con.list_tables(database=(None, "default")) == con.list_tables(database=("default",))
    with pytest.raises(exc.UnsupportedOperationError):
        con.create_database("x", catalog="c")


def test_a_view_divides_as_the_expression_does(con: Any) -> None:
    t = con.create_table("t", {"a": [9], "b": [4]})
    con.create_view("v", t.select(q=t.a / t.b, w=t.a // t.b))
    assert con.table("v").execute().values.tolist() == [[2.25, 2]]
    con.insert("t", {"a": [1], "b": [2]})
    assert sorted(con.table("v").q.execute()) == [0.5, 2.25]
    con.drop_view("v")
    assert con.list_tables() == ["t"]


@pytest.mark.parametrize("kind", ["int64", "float64", "decimal(9, 2)"])
def test_a_view_means_what_its_expression_means(con: Any, kind: str) -> None:
    rows = {"a": [7, -7, 0, 7, None], "b": [2, 2, 0, 0, 0]}
    t = con.create_table("t", rows, schema={"a": kind, "b": kind})
    x = t.a / t.b / (t.b - 2)
    expr = t.select(q=t.a / t.b, half=t.a / 2, rest=t.a % t.b.nullif(0), nested=x).order_by(
        ibis.desc("q")
    )
    con.create_view("v", expr)
    expected, found = expr.to_pyarrow(), con.table("v").to_pyarrow()
    assert str(found.to_pydict()) == str(expected.to_pydict())


def test_a_view_shows_each_reader_the_own_rows(con: Any, mia: Any) -> None:
    notes = con.create_table(
        "notes", schema={"id": "int64"}, kind="user", primary_key="id", database="chat"
    )
    con.create_view("v", notes.filter(notes.id > 0), database="chat")
    con.insert("notes", {"id": [1]}, database="chat")
    mia.insert("notes", {"id": [2, 3]})
    assert con.table("v", database="chat").id.execute().tolist() == [1]
    assert sorted(mia.table("v").id.execute()) == [2, 3]


def test_a_view_of_private_data_is_refused(con: Any) -> None:
    con.create_table("t", {"a": [1]}, temp=True)
    for private in (con.table("t"), ibis.memtable({"a": [1]})):
        with pytest.raises(NotSupportedError, match=r"create a table of the rows first"):
            con.create_view("v", private)
    assert con.list_tables() == ["t"]


def test_rights_hold_through_expressions(con: Any, mia: Any) -> None:
    con.create_table("plans", {"a": [1]}, database="chat")
    con.create_table("news", {"a": [2]}, database="chat", access_level="public")
    assert mia.table("news").a.execute().tolist() == [2]
    plans = mia.table("plans")
    for query in (plans, mia.table("news").join(plans, "a"), plans.alias("p").a.count()):
        with pytest.raises(PermissionDeniedError, match=r"may not read chat.plans"):
            query.execute()
    with pytest.raises(PermissionDeniedError):
        mia.create_table("x", {"a": [1]})
    with pytest.raises(PermissionDeniedError):
        mia.table("users", database="system")


# --- SQL text -----------------------------------------------------------------------------------


def test_text_and_expressions_mix(con: Any) -> None:
    con.create_table("t", {"a": [1, 2, 3]})
    expr = con.sql("SELECT a, a * 2 AS b FROM t WHERE a > 1")
    assert expr.schema() == ibis.schema({"a": "int64", "b": "int64"})
    assert expr.filter(expr.b > 4).a.execute().tolist() == [3]
    assert expr.alias("e").sql("SELECT max(b) AS m FROM e").m.execute().tolist() == [6]


def test_text_divides_as_our_sql_does(con: Any) -> None:
    assert con.sql("SELECT 9 / 4 AS q").q.execute().tolist() == [2]
    assert con.sql("SELECT 9 / 4 AS q", dialect="duckdb").q.execute().tolist() == [2.25]
    one = con.sql("SELECT 9 AS a").mutate(q=ibis._.a / 4)
    assert one.q.execute().tolist() == [2.25]
    mixed = one.alias("m").sql(
        "WITH x AS (SELECT q, a / 4 AS w FROM m) SELECT q, w, q / 2 AS h FROM x"
    )
    assert mixed.execute().values.tolist() == [[2.25, 2, 1.125]]
    con.create_view("v", mixed)
    assert con.table("v").execute().values.tolist() == [[2.25, 2, 1.125]]


def test_the_text_of_an_expression_means_what_the_expression_means(con: Any) -> None:
    t = con.create_table("t", {"a": [9, None, 4]})
    expr = t.select(q=t.a / 4).order_by(ibis.desc("q"))
    assert con.sql(ibis.to_sql(expr)).to_pyarrow() == expr.to_pyarrow()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELECT 1 AS x; DROP TABLE t", KalamError),
        ("DROP TABLE t", KalamError),
        ("DELETE FROM t WHERE true", KalamError),
        ("SELECT * FROM read_csv('/etc/passwd')", NotAllowedError),
        ("SELECT * FROM '/etc/passwd'", KalamError),
        ("SELECT current_setting('threads') AS x", NotAllowedError),
        ("SELECT * FROM duckdb_settings()", NotAllowedError),
    ],
)
def test_building_an_expression_from_text_runs_nothing(
    con: Any, text: str, error: type[KalamError]
) -> None:
    t = con.create_table("t", {"a": [1]})
    with pytest.raises(error):
        con.sql(text)
    with pytest.raises(error):
        con.sql(text, schema={"x": "int64"}).execute()
    with pytest.raises(error):
        t.alias("t0").sql(text)
    assert con.table("t").a.execute().tolist() == [1]


def test_engine_functions_off_the_list_are_refused(con: Any) -> None:
    @ibis.udf.scalar.builtin
    def current_setting(option: str) -> str: ...

    @ibis.udf.scalar.builtin
    def reverse(text: str) -> str: ...

    assert con.execute(reverse("abc")) == "cba"
    with pytest.raises(NotAllowedError, match=r"^Function 'current_setting' is not allowed$"):
        con.execute(current_setting("threads"))


def test_raw_sql_passes_the_session(con: Any) -> None:
    con.raw_sql("CREATE TABLE t (a INT DEFAULT 7, b INT)")
    con.insert("t", [{"b": 1}])
    assert con.raw_sql("SELECT a, b FROM t").rows() == [(7, 1)]
