"""Only the first rows of a query, and how many there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    db = kalam.open(tmp_path_factory.mktemp("limit") / "lab.kalam")
    session = db.session()
    session.execute_script(
        "CREATE NAMESPACE shop; USE shop; CREATE USER 'mia' INTERNAL ROLE user;"
        "CREATE USER TABLE fruit (id BIGINT PRIMARY KEY);"
        "INSERT INTO fruit SELECT range FROM range(10)"
    )
    yield session
    db.close()


@given(
    size=st.integers(0, 12),
    limit=st.integers(1, 12),
    own=st.none() | st.integers(0, 12),
    offset=st.none() | st.integers(0, 12),
    bound=st.booleans(),
)
def test_first_rows_are_those_of_the_whole(
    session: Session, size: int, limit: int, own: int | None, offset: int | None, bound: bool
) -> None:
    """The law: as many first rows of the same answer as were asked for, and the true count."""
    sql = "SELECT range AS n, -range AS n FROM range($1) ORDER BY 2"
    params: list[object] = [size]
    if own is not None:
        sql += " LIMIT $2" if bound else f" LIMIT {own}"
        params += [own] if bound else []
    if offset is not None:
        sql += f" OFFSET {offset}"
    whole = session.execute(sql, params)
    first = session.execute(sql, params, row_limit=limit)
    assert first.columns == whole.columns
    assert first.total_rows == whole.total_rows == len(whole)
    assert first.rows() == whole.rows()[:limit]


@pytest.mark.parametrize(
    ("sql", "total"),
    [
        ("SELECT id FROM fruit UNION ALL SELECT id FROM fruit ORDER BY id", 20),
        ("WITH a AS (SELECT id FROM fruit) SELECT a.id, b.id FROM a, a AS b", 100),
        ("SELECT DISTINCT ON (id % 4) id FROM fruit ORDER BY id % 4, id DESC", 4),
        ("VALUES (1), (2), (3), (4)", 4),
        ("SELECT user_id FROM all_users('shop.fruit')", 10),
        ("SELECT 1 AS one", 1),
    ],
)
def test_every_form_of_query_can_be_limited(session: Session, sql: str, total: int) -> None:
    result = session.execute(sql, row_limit=3)
    assert (result.total_rows, len(result)) == (total, min(total, 3))


def test_a_limit_holds_as_another_user(session: Session) -> None:
    session.execute("INSERT INTO fruit VALUES (1), (2)", as_user="mia")
    result = session.execute("SELECT id FROM fruit", as_user="mia", row_limit=1)
    assert (result.total_rows, len(result)) == (2, 1)


def test_a_limit_is_for_queries_only(session: Session) -> None:
    sql = "INSERT INTO fruit SELECT range + 100 FROM range(5) RETURNING id"
    result = session.execute(sql, row_limit=2)
    assert (result.rows_affected, len(result), result.total_rows) == (5, 5, 5)
    assert session.execute("DELETE FROM fruit WHERE id >= 100", row_limit=2).rows_affected == 5
