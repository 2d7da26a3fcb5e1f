"""Who can come through a ranking: what stands around it decides as if every row were ranked."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.query import vector_scans
from kalamdb_lab.query.binding import Binder
from kalamdb_lab.testing.jobs import finished

TABLES = """
CREATE USER TABLE notes (id INT PRIMARY KEY, topic TEXT, size INT, e EMBEDDING(2), f EMBEDDING(2));
CREATE SHARED TABLE topics (topic TEXT PRIMARY KEY, weight INT) WITH (ACCESS_LEVEL = 'PUBLIC');
INSERT INTO topics VALUES ('sun', 1), ('sea', 2), ('moon', 3)
"""
TOPICS = ("sun", "sea", "mist", None)
QUERY = [3.0, 1.0]


@pytest.fixture
def notes(s: Session, mia: Session) -> Session:
    """Thirty rows, half of them in a segment; topics that no row has, and rows without one."""
    s.execute(TABLES)
    for at in range(30):
        mia.execute(
            "INSERT INTO notes VALUES (?, ?, ?, ?, ?)",
            [
                at,
                TOPICS[at % 4],
                None if at % 7 == 0 else at % 10,
                None if at % 5 == 4 else [at % 6 - 1, at % 11 - 5],
                [at % 3, at % 4 - 1],
            ],
        )
        if at == 14:
            finished(s, "STORAGE FLUSH TABLE notes")
    return mia


def answers(
    session: Session, patch: pytest.MonkeyPatch, sql: str, params: list[Any]
) -> tuple[Any, Any]:
    """Run a statement by vector search, and with every row ranked by the engine."""
    patch.setattr(vector_scans, "SEARCHED_ROWS", 0)
    searched = session.execute(sql, params)
    with patch.context() as plainly:
        plainly.setattr(vector_scans, "SEARCHED_ROWS", 10**9)
        plainly.setattr(Binder, "plain", lambda *_: None)
        ranked = session.execute(sql, params)
    assert not ranked.searches
    assert searched.columns == ranked.columns
    return searched, ranked


@pytest.mark.parametrize(
    "sql",
    [
        # Rows of the other side without a partner have no `_seq`.
        "SELECT n.id, t.topic FROM topics t LEFT JOIN notes n USING (topic) WHERE weight > 1 "
        "ORDER BY COSINE_DISTANCE(n.e, $1) LIMIT 4",
        "SELECT n.id, t.topic FROM notes n RIGHT JOIN topics t ON t.topic = n.topic "
        "ORDER BY L2_DISTANCE(n.e, $1) LIMIT 4",
        # Columns that USING names, and aliases that a condition names.
        "SELECT x.id FROM (SELECT id, topic, e FROM notes WHERE size > 2) x "
        "JOIN topics t USING (topic) ORDER BY COSINE_DISTANCE(x.e, $1) LIMIT 3",
        "SELECT id, size * 2 AS twice FROM notes WHERE twice > 6 "
        "ORDER BY COSINE_DISTANCE(e, $1) LIMIT 3",
        "SELECT t.topic, x.id FROM topics t, LATERAL (SELECT n.id, n.e, n.size + 1 AS weight "
        "FROM notes n WHERE n.topic = t.topic AND weight > 4) x "
        "ORDER BY L2_DISTANCE(x.e, $1), x.id LIMIT 3",
        # The name is that of another column, not of the distance.
        "SELECT id, COSINE_DISTANCE(e, $1) AS d FROM notes, (VALUES (1.9), (size / 10.0)) v (d) "
        "WHERE d < 0.2 ORDER BY COSINE_DISTANCE(e, $1), id LIMIT 5",
        # A ranking inside another.
        "SELECT id FROM notes WHERE id IN (SELECT id FROM notes WHERE id % 2 = 0 "
        "ORDER BY INNER_PRODUCT(e, $1) DESC LIMIT 8) ORDER BY INNER_PRODUCT(e, $1) DESC LIMIT 20",
    ],
)
def test_what_can_come_through_is_searched(
    notes: Session, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    searched, ranked = answers(notes, monkeypatch, sql, [QUERY])
    assert searched.rows() == ranked.rows() != []
    assert searched.searches


@pytest.mark.parametrize(
    "sql",
    [
        # The bound of the distance is another one for each row.
        "SELECT id FROM notes WHERE INNER_PRODUCT(e, $1) > -size "
        "ORDER BY INNER_PRODUCT(e, $1) DESC LIMIT 25",
        # The name is that of another column, not of the distance.
        "SELECT x.id FROM (SELECT *, COSINE_DISTANCE(e, $1) AS size FROM notes) x "
        "WHERE x.id > 3 ORDER BY x.size, x.id LIMIT 3",
        "SELECT x.id FROM (SELECT *, COSINE_DISTANCE(e, $1) AS d FROM notes, range(3) r (d)) x "
        "ORDER BY x.d, x.id LIMIT 3",
        "SELECT p.id FROM notes AS p (id, topic, size, f, e) "
        "ORDER BY COSINE_DISTANCE(p.e, $1), p.id LIMIT 5",
        "SELECT p.size FROM notes AS p (size) WHERE size > 20 "
        "ORDER BY COSINE_DISTANCE(p.e, $1), p.size LIMIT 5",
        # A row as a value has all columns.
        "SELECT x.id FROM (SELECT n.id, n.e FROM notes n WHERE length(n::TEXT) > 60) x "
        "ORDER BY COSINE_DISTANCE(x.e, $1), x.id LIMIT 5",
        "SELECT x.id FROM (SELECT id, e FROM notes) x WHERE length(x::TEXT) > 24 "
        "ORDER BY COSINE_DISTANCE(x.e, $1), x.id LIMIT 5",
        # Windows see all rows, wherever they stand.
        "SELECT id FROM notes ORDER BY L2_DISTANCE(e, $1), "
        "count(*) OVER (PARTITION BY topic), id LIMIT 9",
        # The filter would draw other numbers than the statement.
        "SELECT id FROM notes WHERE random() < 2 ORDER BY COSINE_DISTANCE(e, $1) LIMIT 3",
        "SELECT id FROM notes WHERE uuidv4() IS NOT NULL ORDER BY COSINE_DISTANCE(e, $1) LIMIT 3",
        "SELECT n.id, t.weight FROM notes n FULL JOIN topics t ON n.topic = t.topic "
        "WHERE t.weight > 1 ORDER BY L2_DISTANCE(n.e, $1), n.id LIMIT 1",
    ],
)
def test_what_a_search_would_tell_wrongly_is_ranked_by_the_engine(
    notes: Session, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    searched, ranked = answers(notes, monkeypatch, sql, [QUERY])
    assert searched.rows() == ranked.rows() != []
    assert not searched.searches


@pytest.mark.parametrize("count", ["9223372036854775807", "9223372036854775808"])
def test_the_engine_has_the_words_for_a_limit_that_is_no_bigint(notes: Session, count: str) -> None:
    said = set()
    for shown in ("id", "id + 0"):  # without the engine, and with it
        try:
            sql = f"SELECT {shown} FROM notes ORDER BY COSINE_DISTANCE(e, ?) LIMIT {count}"
            said.add(str(notes.execute(sql, [QUERY]).row_count))
        except KalamError as fault:
            said.add(fault.code)
    assert said == ({"24"} if count.endswith("7") else {"OUT_OF_RANGE"})


def test_a_filter_keeps_each_row_once_however_often_it_comes_through(
    notes: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    ascending = vector_scans.ascending

    def noted(seqs: Any) -> Any:
        given.append(len(seqs))
        return ascending(seqs)

    monkeypatch.setattr(vector_scans, "ascending", noted)
    sql = "SELECT id FROM notes, range(1000) r (n) ORDER BY L2_DISTANCE(e, $1), id, n LIMIT 3"
    searched, ranked = answers(notes, monkeypatch, sql, [QUERY])
    assert searched.rows() == ranked.rows()
    assert given == [30]


# --- Session.nearest --------------------------------------------------------------------------


def test_rows_with_equal_vectors_tie_wherever_they_lie(s: Session) -> None:
    s.execute("CREATE TABLE wide (id INT PRIMARY KEY, e EMBEDDING(384))")
    random = np.random.default_rng(5)
    vector, *queries = random.normal(size=(9, 384)).astype(np.float32)
    for ids in ((7, 3, 11), (5,), (2, 10, 4, 9, 6, 8, 1)):
        s.execute(
            f"INSERT INTO wide VALUES {', '.join('(?, ?)' for _ in ids)}",
            [value for at in ids for value in (at, vector)],
        )
        finished(s, "STORAGE FLUSH TABLE wide")
    for metric in ("cosine", "l2", "inner_product"):
        found = s.nearest("wide", "e", queries, 11, metric=metric, columns=["id"]).rows()
        assert [row[1] for row in found] == 8 * list(range(1, 12))
        assert len({row[2] for row in found}) == 8


def test_a_search_of_many_vectors_can_be_interrupted(notes: Session) -> None:
    vectors = np.random.default_rng(1).normal(size=(10_000, 2))
    faults: list[KalamError] = []

    def search() -> None:
        try:
            notes.nearest("notes", "e", vectors)
        except KalamError as fault:
            faults.append(fault)

    searching = threading.Thread(target=search)
    searching.start()
    while searching.is_alive():
        notes.interrupt()
        searching.join(0.01)
    assert [fault.code for fault in faults] == ["INTERRUPTED"]
    assert notes.nearest("notes", "e", vectors[:70], 1).row_count == 70


def test_a_ranking_in_the_condition_is_not_taken_for_the_search(notes: Session) -> None:
    near = "id IN (SELECT id FROM notes ORDER BY COSINE_DISTANCE(e, '[-1, 0]') LIMIT 2)"
    with pytest.raises(KalamError) as caught:
        notes.nearest("notes", "e", QUERY, 5, where=near)
    assert str(caught.value) == "This condition cannot be searched; use SELECT"


def test_no_columns_leave_the_distance(notes: Session) -> None:
    result = notes.nearest("notes", "e", [QUERY, QUERY], 2, columns=[])
    assert result.columns == ["query", "distance"]
    assert [row[0] for row in result.rows()] == [0, 0, 1, 1]


@pytest.mark.parametrize("vectors", [[], np.array(5.0)])
def test_no_vector_is_refused(notes: Session, vectors: object) -> None:
    with pytest.raises(KalamError) as caught:
        notes.nearest("notes", "e", vectors)
    assert str(caught.value) == "nearest takes a vector, a list of vectors, or a text"
    assert notes.nearest("notes", "e", np.array(["[1, 2]", "[2, 1]"]), 1).row_count == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": ["cosine"]}, "Unknown metric '['cosine']'; use cosine, l2 or inner_product"),
        ({"columns": [5]}, "Column '5' not found in studio.notes"),
    ],
)
def test_options_of_other_types_are_refused(
    notes: Session, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(KalamError) as caught:
        notes.nearest("notes", "e", QUERY, **options)
    assert str(caught.value) == message
