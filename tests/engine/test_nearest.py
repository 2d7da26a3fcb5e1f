"""Top-k by vector search: the answer is that of ranking every row, whatever stands around it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.query import vector_scans
from kalamdb_lab.query.binding import Binder
from kalamdb_lab.testing.jobs import finished

NOTES = """
CREATE USER TABLE notes (id INT PRIMARY KEY, topic TEXT, size INT, e EMBEDDING(3));
CREATE SHARED TABLE topics (topic TEXT PRIMARY KEY, weight INT) WITH (ACCESS_LEVEL = 'PUBLIC');
INSERT INTO topics VALUES ('sun', 1), ('sea', 2);
CREATE VIEW small AS SELECT id, topic, e AS v FROM notes WHERE size < 5
"""
QUERY = [0.3, -0.2, 0.9]


@pytest.fixture
def searching(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows there are."""
    monkeypatch.setattr(vector_scans, "SEARCHED_ROWS", 0)


def engine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the engine ranks all rows."""
    monkeypatch.setattr(vector_scans, "SEARCHED_ROWS", 10**9)
    monkeypatch.setattr(Binder, "plain", lambda *_: None)


@pytest.fixture
def notes(s: Session, mia: Session, searching: None) -> Session:
    """Twenty rows in two segments and hot, some of them gone, changed, or without a vector."""
    s.execute(NOTES)
    for start in (0, 8, 16):
        for at in range(start, start + 8):
            vector = None if at % 7 == 3 else [math.sin(at), math.cos(at * at), at % 3 - 1]
            mia.execute(
                "INSERT INTO notes VALUES (?, ?, ?, ?)",
                [at, ("sun", "sea", "fog")[at % 3], at % 10, vector],
            )
        if start < 16:
            finished(s, "STORAGE FLUSH TABLE notes")
    mia.execute("DELETE FROM notes WHERE id IN (1, 17)")
    mia.execute("UPDATE notes SET e = '[0.3, -0.2, 0.8]' WHERE id = 5")
    mia.execute("INSERT INTO notes VALUES (50, 'sea', 1, '[1, 1, 1]'), (49, 'sun', 2, '[2, 2, 2]')")
    return mia


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM notes ORDER BY COSINE_DISTANCE(e, $1) LIMIT 4",
        "SELECT * FROM notes ORDER BY L2_DISTANCE($1, e) LIMIT 4 OFFSET 3",
        "SELECT id, INNER_PRODUCT(e, $1) AS likeness FROM notes ORDER BY 2 DESC LIMIT 4",
        "SELECT id, COSINE_DISTANCE(e, $1) AS d FROM notes WHERE size > 3 ORDER BY d LIMIT 4",
        "SELECT id FROM notes WHERE topic = 'sun' OR size < 2 "
        "ORDER BY COSINE_DISTANCE(e, $1), size LIMIT 4",
        "SELECT n.id, t.weight FROM notes n JOIN topics t ON n.topic = t.topic "
        "ORDER BY COSINE_DISTANCE(n.e, $1) LIMIT 4",
        "SELECT n.id, t.weight FROM topics t LEFT JOIN notes n USING (topic) WHERE weight > 1 "
        "ORDER BY COSINE_DISTANCE(n.e, $1) LIMIT 4",
        "SELECT id FROM notes, topics ORDER BY COSINE_DISTANCE(e, $1), weight LIMIT 7",
        "SELECT s.id, t.weight FROM (SELECT id, topic FROM notes "
        "ORDER BY COSINE_DISTANCE(e, $1) LIMIT 6) s JOIN topics t USING (topic) ORDER BY id",
        "WITH near AS (SELECT id FROM notes ORDER BY COSINE_DISTANCE(e, $1) LIMIT 3) "
        "SELECT count(*), min(id) FROM near",
        "WITH big AS (SELECT id AS b FROM notes WHERE size > 4) SELECT id FROM notes "
        "WHERE id IN (SELECT b FROM big) ORDER BY COSINE_DISTANCE(e, $1) LIMIT 3",
        "SELECT id, topic FROM notes WHERE topic IN (SELECT topic FROM topics WHERE weight = 1) "
        "ORDER BY COSINE_DISTANCE(e, $1) LIMIT 3",
        "SELECT n.*, _seq FROM notes AS n WHERE n.id > 2 ORDER BY L2_DISTANCE(e, $1), id LIMIT 3",
        "SELECT ID AS k, Size, e FROM studio.notes ORDER BY L2_DISTANCE(e, $1) LIMIT 3",
        "SELECT id FROM small ORDER BY COSINE_DISTANCE(v, $1) LIMIT 3",
        "SELECT id, v FROM small WHERE topic <> 'fog' ORDER BY COSINE_DISTANCE(v, $1) LIMIT 3",
        "SELECT x.id FROM (SELECT *, COSINE_DISTANCE(e, $1) AS d FROM notes WHERE size > 1) AS x "
        "WHERE x.topic = 'sea' ORDER BY x.d LIMIT 3",
        "SELECT id, d FROM (SELECT *, COSINE_DISTANCE(e, $1) AS d FROM notes) "
        "WHERE d IS NOT NULL AND size % 2 = 0 ORDER BY d LIMIT 30",
        "SELECT id FROM notes WHERE COSINE_DISTANCE(e, $1) < 0.5 AND size > 1 "
        "ORDER BY COSINE_DISTANCE(e, $1) LIMIT 30",
        "SELECT id FROM notes WHERE INNER_PRODUCT(e, $1) >= 0.1 "
        "ORDER BY INNER_PRODUCT(e, $1) DESC LIMIT 30",
        "(SELECT id FROM notes ORDER BY COSINE_DISTANCE(e, $1) LIMIT 2) "
        "UNION ALL SELECT id FROM notes WHERE size = 3",
        "SELECT (SELECT id FROM notes ORDER BY COSINE_DISTANCE(e, $1) LIMIT 1) AS nearest",
        "SELECT id FROM notes WHERE id IN (SELECT id FROM notes "
        "ORDER BY L2_DISTANCE(e, $1) LIMIT 5) AND size > 2 ORDER BY id",
        "SELECT id FROM notes ORDER BY COSINE_DISTANCE(e, '[1, 1, 1]') LIMIT length('ab')",
        "SELECT id AS size FROM notes WHERE size > 5 ORDER BY COSINE_DISTANCE(e, $1) LIMIT 3",
        "SELECT COSINE_DISTANCE(e, $1) AS size, id FROM notes WHERE size < 3 ORDER BY size LIMIT 4",
    ],
)
def test_a_search_answers_as_ranking_every_row_does(
    notes: Session, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    params = [QUERY] if "$1" in sql else []
    searched = notes.execute(sql, params)
    engine_only(monkeypatch)
    ranked = notes.execute(sql, params)
    assert searched.columns == ranked.columns
    assert searched.to_arrow().schema.equals(ranked.to_arrow().schema)
    for row, wanted in zip(searched.rows(), ranked.rows(), strict=True):
        for value, other in zip(row, wanted, strict=True):
            is_float = isinstance(value, float)
            assert value == (pytest.approx(other, rel=1e-12, abs=1e-15) if is_float else other)
    assert bool(searched.searches) is ("length(" not in sql)
    assert not ranked.searches


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM notes ORDER BY COSINE_DISTANCE(e, $1) DESC, id LIMIT 4",
        "SELECT id FROM notes ORDER BY COSINE_DISTANCE(e, $1) NULLS FIRST, id LIMIT 4",
        "SELECT id FROM notes ORDER BY INNER_PRODUCT(e, $1), id LIMIT 4",
        "SELECT id FROM notes ORDER BY COSINE_DISTANCE(e, $1), id",
        "SELECT id FROM notes ORDER BY size, COSINE_DISTANCE(e, $1) LIMIT 4",
        "SELECT id FROM notes WHERE COSINE_DISTANCE(e, $1) > 0.2 "
        "ORDER BY COSINE_DISTANCE(e, $1) LIMIT 4",
        "SELECT id FROM notes WHERE L2_DISTANCE(e, [0, 0, 1]) < 1 "
        "ORDER BY COSINE_DISTANCE(e, $1) LIMIT 4",
        "SELECT id, COSINE_DISTANCE(e, $1) AS d FROM notes GROUP BY id, e ORDER BY d, id LIMIT 2",
        "SELECT DISTINCT topic, COSINE_DISTANCE(e, $1) AS d FROM notes ORDER BY d LIMIT 4",
        "SELECT id, count(*) OVER () FROM notes ORDER BY COSINE_DISTANCE(e, $1) LIMIT 4",
        "SELECT id, unnest([1, 2]) AS n FROM notes ORDER BY COSINE_DISTANCE(e, $1), n LIMIT 4",
        "SELECT a.id FROM notes a JOIN notes b ON a.id < b.id "
        "ORDER BY COSINE_DISTANCE(a.e, b.e), a.id, b.id, length($1::TEXT) LIMIT 4",
        "WITH big AS (SELECT * FROM notes WHERE size > 4) "
        "SELECT id FROM big ORDER BY COSINE_DISTANCE(e, $1) LIMIT 3",
        "SELECT id FROM notes WHERE _deleted = false ORDER BY COSINE_DISTANCE(e, $1) LIMIT 4",
        "SELECT t.topic, (SELECT id FROM notes n WHERE n.topic = t.topic "
        "ORDER BY COSINE_DISTANCE(e, $1) LIMIT 1) AS best FROM topics t ORDER BY 1",
    ],
)
def test_what_is_no_plain_ranking_is_ranked_by_the_engine(
    notes: Session, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    searched = notes.execute(sql, [QUERY])
    engine_only(monkeypatch)
    assert searched.rows() == notes.execute(sql, [QUERY]).rows()
    assert not searched.searches


def test_rows_without_a_distance_stand_last_where_the_distance_is_a_column(notes: Session) -> None:
    sql = "SELECT id FROM (SELECT id, COSINE_DISTANCE(e, $1) AS d FROM notes) ORDER BY d LIMIT {}"
    assert len(notes.execute(sql.format(100), [QUERY]).rows()) == 24
    assert not notes.execute(sql.format(100), [QUERY]).searches
    assert notes.execute(sql.format(10), [QUERY]).searches


def test_a_search_says_what_it_did(notes: Session) -> None:
    result = notes.execute(
        "SELECT id FROM notes WHERE size > 3 ORDER BY COSINE_DISTANCE(e, ?) LIMIT 2", [QUERY]
    )
    (search,) = result.searches
    passing = notes.execute("SELECT count(*) FROM notes WHERE size > 3").rows()[0][0]
    assert (search.table, search.column, search.path) == ("studio.notes", "e", "float32")
    assert (search.rows_scanned, search.recall) == (passing, None)
    assert 2 <= search.rows_reranked <= passing


def test_explain_says_how_it_would_search(notes: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = "EXPLAIN SELECT id FROM notes WHERE size > 3 ORDER BY L2_DISTANCE(e, ?) LIMIT 2"

    def said() -> str:
        (detail,) = [row[4] for row in notes.execute(sql, [QUERY]).rows() if row[2] == "Nearest"]
        return str(detail)

    assert said() == "by l2 to e: 24 rows, filtered, by float32 scan, exact"
    monkeypatch.setattr(vector_scans, "SEARCHED_ROWS", 10**9)
    assert said() == "by l2 to e: 24 rows ranked by the engine, exact"


# --- scope ------------------------------------------------------------------------------------


def test_a_search_finds_rows_of_the_own_scope_only(
    notes: Session, tom: Session, s: Session
) -> None:
    tom.execute("INSERT INTO notes VALUES (900, 'sun', 1, ?)", [QUERY])
    sql = "SELECT id FROM notes ORDER BY L2_DISTANCE(e, ?) LIMIT 3"
    assert [row[0] for row in tom.execute(sql, [QUERY]).rows()] == [900]
    assert 900 not in [row[0] for row in notes.execute(sql, [QUERY]).rows()]
    assert s.execute(sql, [QUERY]).rows() == []
    assert [row[0] for row in tom.nearest("notes", "e", QUERY, 3, columns=["id"]).rows()] == [900]


def test_all_users_are_searched_together(notes: Session, tom: Session, dora: Session) -> None:
    tom.execute("INSERT INTO notes VALUES (900, 'sun', 1, ?)", [QUERY])
    result = dora.execute(
        "SELECT user_id, id FROM all_users('studio.notes') ORDER BY L2_DISTANCE(e, ?) LIMIT 2",
        [QUERY],
    )
    assert result.rows() == [("tom", 900), ("mia", 5)]
    assert result.searches


def test_a_transaction_searches_its_own_rows(notes: Session) -> None:
    sql = "SELECT id FROM notes ORDER BY L2_DISTANCE(e, ?) LIMIT 1"
    notes.execute("BEGIN")
    notes.execute("INSERT INTO notes VALUES (901, 'sun', 1, ?)", [QUERY])
    notes.execute("DELETE FROM notes WHERE id = 5")
    assert notes.execute(sql, [QUERY]).rows() == [(901,)]
    notes.execute("ROLLBACK")
    assert notes.execute(sql, [QUERY]).rows() == [(5,)]


# --- Session.nearest --------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_a_batch_answers_as_the_vectors_one_by_one(notes: Session, metric: str) -> None:
    queries = np.array([QUERY, [1, 0, 0], [-1, 2, 0.5]], np.float32)
    call, order = {
        "cosine": ("COSINE_DISTANCE(e, $2)", ""),
        "l2": ("L2_DISTANCE(e, $2)", ""),
        "inner_product": ("INNER_PRODUCT(e, $2)", "DESC"),
    }[metric]
    batch = notes.nearest(
        "notes", "e", queries, 5, metric=metric, where="size > $1", params=[2], columns=["id", "e"]
    )
    assert batch.columns == ["query", "id", "e", "distance"]
    rows = batch.rows()
    for number, query in enumerate(queries):
        own = [row[1:] for row in rows if row[0] == number]
        wanted = notes.execute(
            f"SELECT id, e, {call} AS d FROM notes WHERE size > $1 ORDER BY d {order} LIMIT 5",
            [2, query],
        ).rows()
        assert [row[:2] for row in own] == [row[:2] for row in wanted]
        assert [row[2] for row in own] == pytest.approx([row[2] for row in wanted], rel=1e-12)
        (alone,) = [notes.nearest("notes", "e", query, 5, metric=metric, where="size > 2")]
        assert [row[0] for row in alone.rows()] == [row[0] for row in own]
    assert len(batch.searches) == 1


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_no_vectors_find_nothing_in_the_columns_of_a_batch(notes: Session, metric: str) -> None:
    options: Any = {"metric": metric, "columns": ["topic", "e"], "where": "size > ?", "params": [2]}
    some = notes.nearest("notes", "e", [QUERY], **options).to_arrow()
    none = notes.nearest("notes", "e", np.empty((0, 3)), **options).to_arrow()
    assert none.schema.equals(some.schema, check_metadata=True)
    assert (none.num_rows, some.num_rows > 0) == (0, True)


def test_the_distance_has_the_name_that_is_asked_for(notes: Session) -> None:
    rows = notes.nearest("notes", "e", QUERY, 1, columns=["id"], distance="how_far")
    assert rows.columns == ["id", "how_far"]
    assert rows.rows() == notes.nearest("notes", "e", QUERY, 1, columns=["id"]).rows()


def test_without_columns_there_are_distances_only(notes: Session) -> None:
    assert notes.nearest("notes", "e", QUERY, columns=[]).columns == ["distance"]
    assert notes.nearest("notes", "e", [QUERY], columns=[]).columns == ["query", "distance"]


def test_ties_go_by_primary_key(notes: Session) -> None:
    rows = notes.nearest("notes", "e", [1, 1, 1], 2, columns=["id"]).rows()
    assert [row[0] for row in rows] == [49, 50]
    (only,) = notes.nearest("notes", "e", [1, 1, 1], 1, columns=["id"]).rows()
    assert only[0] == 49


@pytest.mark.parametrize(
    ("table", "column", "vectors", "options", "code", "message"),
    [
        ("notes", "topic", QUERY, {}, "TYPE_MISMATCH", "Column 'topic' is not an EMBEDDING column"),
        ("notes", "w", QUERY, {}, "NOT_FOUND", "Column 'w' not found in studio.notes"),
        ("plays", "e", QUERY, {}, "NOT_FOUND", "Table 'studio.plays' not found"),
        ("small", "v", QUERY, {}, "NOT_SUPPORTED",
         "nearest searches USER, SHARED and STREAM tables; studio.small is none; "
         "use SELECT ... ORDER BY ... LIMIT"),
        ("notes", "e", np.empty((0, 4)), {}, "DIMENSION_MISMATCH",
         "Column 'e' expects 3 dimensions, got 4"),
        ("notes", "e", np.empty((2, 0)), {}, "TYPE_MISMATCH",
         "nearest takes a vector, a list of vectors, or a text"),
        ("notes", "e", QUERY, {"distance": "Size"}, "ALREADY_EXISTS",
         "Column 'Size' already exists in studio.notes"),
        ("notes", "e", [QUERY], {"distance": "query"}, "ALREADY_EXISTS",
         "Column 'query' already exists in studio.notes"),
        ("notes", "e", QUERY, {"distance": ""}, "INVALID_OPTION",
         "distance must be the name of a column"),
        ("notes", "e", [1, 2], {}, "DIMENSION_MISMATCH", "Column 'e' expects 3 dimensions, got 2"),
        ("notes", "e", [QUERY, [1, 2]], {}, "DIMENSION_MISMATCH",
         "Column 'e' expects 3 dimensions, got 2"),
        ("notes", "e", [1, 2, math.nan], {}, "INVALID_VALUE",
         "Column 'e': component 3 is not a finite number"),
        ("notes", "e", [QUERY, None], {}, "TYPE_MISMATCH",
         "A vector to search for cannot be NULL"),
        ("notes", "e", 7, {}, "TYPE_MISMATCH",
         "nearest takes a vector, a list of vectors, or a text"),
        ("notes", "e", QUERY, {"k": 0}, "INVALID_OPTION", "k must be a whole number of at least 1"),
        ("notes", "e", QUERY, {"distance": 5}, "INVALID_OPTION",
         "distance must be the name of a column"),
        ("notes", "e", QUERY, {"metric": "hamming"}, "INVALID_OPTION",
         "Unknown metric 'hamming'; use cosine, l2 or inner_product"),
        ("notes", "e", QUERY, {"columns": ["id", "w"]}, "NOT_FOUND",
         "Column 'w' not found in studio.notes"),
        ("notes", "e", QUERY, {"where": "w > 1"}, "NOT_FOUND", "Column 'w' not found"),
        ("notes", "e", QUERY, {"where": "size > 1) OR (true"}, "SYNTAX",
         "Syntax error: where must be one condition"),
        ("notes", "e", QUERY, {"where": "size > ?"}, "PARAMETERS", "Expected 1 parameter, got 0"),
        ("notes", "e", QUERY, {"where": "10 / (size - size) > 1"}, "DIVISION_BY_ZERO",
         "Division by zero"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(
    notes: Session,
    table: str,
    column: str,
    vectors: Any,
    options: dict[str, Any],
    code: str,
    message: str,
) -> None:
    with pytest.raises(KalamError) as caught:
        notes.nearest(table, column, vectors, **options)
    assert (caught.value.code, str(caught.value)) == (code, message)
    assert notes.nearest("notes", "e", QUERY, 1).row_count == 1


def test_who_may_not_read_may_not_search(s: Session, mia: Session, sven: Session) -> None:
    s.execute("CREATE TABLE plans (id INT PRIMARY KEY, e EMBEDDING(3)); ")
    s.execute("INSERT INTO plans VALUES (1, '[1, 2, 3]')")
    assert sven.nearest("plans", "e", QUERY).row_count == 1
    with pytest.raises(KalamError) as caught:
        mia.nearest("plans", "e", QUERY)
    assert str(caught.value) == "Permission denied: role 'user' may not read studio.plans"
