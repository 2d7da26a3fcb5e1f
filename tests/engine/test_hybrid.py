"""Words and vectors fused, over what a session sees."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kalamdb_lab as kalam
from kalamdb_lab.engine.hybrid_session import fused
from kalamdb_lab.engine.session import Session
from kalamdb_lab.engine.text_index import TextIndex
from kalamdb_lab.errors import EmbeddingFunctionMissingError, KalamError
from kalamdb_lab.testing.jobs import finished

pytest.importorskip("tantivy")

ROWS = [
    (1, "The quick brown fox", [1, 0], "a"),
    (2, "A lazy dog sleeps; the brown dog", [0, 1], "a"),
    (3, "Foxes and dogs", [0.9, 0.1], "b"),
    (4, None, [1, 0.05], "b"),
    (5, "fox", None, "b"),
    (6, "nothing of it", [0, -1], "c"),
]


@pytest.fixture
def animals(s: Session) -> Session:
    """Hot and flushed rows; row 4 has no text, row 5 no vector."""
    s.execute("CREATE TABLE animals (id INT PRIMARY KEY, body TEXT, v EMBEDDING(2), tag TEXT)")
    for at, row in enumerate(ROWS):
        s.execute("INSERT INTO animals VALUES (?, ?, ?, ?)", row)
        if at == 2:
            finished(s, "STORAGE FLUSH TABLE animals")
    return s


def found(session: Session, query: str, vector: Any = (1, 0), **more: Any) -> list[Any]:
    answer = session.hybrid("animals", "body", "v", query, vector=vector, columns=["id"], **more)
    return [(row[0], *row[2:]) for row in answer.rows()]


def refusal(session: Session, *args: Any, **more: Any) -> KalamError:
    with pytest.raises(KalamError) as caught:
        session.hybrid(*args, **more)
    assert session.execute("SELECT 1").rows() == [(1,)]
    assert not session.in_transaction
    return caught.value


def test_a_row_in_both_rankings_wins(animals: Session) -> None:
    answer = animals.hybrid("animals", "body", "v", "brown fox", vector=[1, 0], k=3)
    assert answer.to_arrow().column_names == [
        "id", "body", "v", "tag", "score", "text_rank", "vector_rank",
    ]  # fmt: skip
    rows = [(row[0], *row[4:]) for row in answer.rows()]
    assert rows == [
        (1, pytest.approx(1 / 61 + 1 / 61), 1, 1),
        (2, pytest.approx(1 / 63 + 1 / 64), 3, 4),
        (4, pytest.approx(1 / 62), None, 2),  # beside row 5 by words: the distance decides
    ]
    assert found(animals, "brown fox", k=9)[3:] == [(5, 2, None), (3, None, 3), (6, None, 5)]


def test_k_may_be_any_number(animals: Session) -> None:
    few = found(animals, "brown fox", k=9)
    assert len(few) == 6
    assert found(animals, "brown fox", k=10**18) == found(animals, "brown fox", k=10**30) == few


def test_words_are_plain(animals: Session) -> None:
    assert found(animals, "FÓX!", k=2) == [(1, 2, 1), (5, 1, None)]
    for odd in ("title:fox AND (", "fox^2 OR [a TO", "-fox +~*?", 'fox "', "\\fox"):
        assert any(words for _, words, _ in found(animals, odd)), odd
    assert [row[1] for row in found(animals, "?!")] == [None] * 5
    assert found(animals, '"brown dog"', [0, 1], k=1) == [(2, 1, 1)]
    assert {key for key, words, _ in found(animals, '"dog brown"') if words} == set()
    assert {key for key, words, _ in found(animals, "\u201cbrown dog\u201d fox") if words} == {2}
    assert {key for key, words, _ in found(animals, '"fox" dog') if words} == {1, 5}


def test_where_is_obeyed_before_ranking(animals: Session) -> None:
    assert found(animals, "fox", where="tag = ?", params=["b"]) == [
        (4, None, 1), (5, 1, None), (3, None, 2),
    ]  # fmt: skip
    assert found(animals, "fox", where="tag = $1 AND id > $2", params=["b", 3]) == [
        (4, None, 1), (5, 1, None),
    ]  # fmt: skip
    assert found(animals, "fox", where="id IN (5, 6) -- these") == [(6, None, 1), (5, 1, None)]
    assert found(animals, "fox", where="false") == []


@pytest.mark.parametrize(
    "where", ["true) OR (true", "true ORDER BY id", "true; DELETE FROM animals", "", "true LIMIT 1"]
)
def test_where_is_one_condition(animals: Session, where: str) -> None:
    error = refusal(animals, "animals", "body", "v", "fox", vector=[1, 0], where=where)
    assert error.code == "SYNTAX"
    assert animals.execute("SELECT COUNT(*) FROM animals").rows() == [(6,)]


def test_parameters_are_counted(animals: Session) -> None:
    for where, params in (("id = ?", None), ("id = $2", [1]), ("id = ?", [1, 2]), (None, [1])):
        error = refusal(
            animals, "animals", "body", "v", "fox", vector=[1, 0], where=where, params=params
        )
        assert error.code == "PARAMETERS", where


def test_changes_are_seen_at_once(animals: Session) -> None:
    def with_words() -> set[int]:
        return {key for key, words, _ in found(animals, "fox") if words}

    assert with_words() == {1, 5}
    animals.execute("DELETE FROM animals WHERE id = 5")
    assert with_words() == {1}
    animals.execute("INSERT INTO animals VALUES (7, 'a fox', NULL, 'd')")
    assert with_words() == {1, 7}
    animals.execute("UPDATE animals SET body = 'cat' WHERE id = 1")
    assert with_words() == {7}
    finished(animals, "STORAGE FLUSH TABLE animals")
    assert with_words() == {7}
    animals.execute("DROP TABLE animals")
    animals.execute("CREATE TABLE animals (id INT PRIMARY KEY, body TEXT, v EMBEDDING(2))")
    assert with_words() == set()


def test_words_are_indexed_once_while_no_row_changes(
    animals: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    build = TextIndex.__init__

    def counted(self: TextIndex, *args: Any) -> None:
        made.append(1)
        build(self, *args)

    monkeypatch.setattr(TextIndex, "__init__", counted)
    for query in ("fox", "dog", "brown"):
        found(animals, query)
    finished(animals, "STORAGE FLUSH TABLE animals")
    animals.execute("CREATE TABLE others (id INT)")
    found(animals, "fox", where="id < 3")
    assert len(made) == 1
    animals.execute("UPDATE animals SET tag = 'z' WHERE id = 1")
    found(animals, "fox")
    assert len(made) == 2


def test_a_transaction_ranks_what_it_sees_and_leaves_nothing(animals: Session) -> None:
    found(animals, "fox")
    animals.execute("BEGIN; INSERT INTO animals VALUES (7, 'fox fox', [1, 0], 'd')")
    assert 7 in {key for key, words, _ in found(animals, "fox") if words}
    assert animals.in_transaction
    animals.execute("ROLLBACK")
    # What was rolled back had the number that the next row has.
    animals.execute("INSERT INTO animals VALUES (8, 'cat', [1, 0], 'd')")
    assert (8, None, 2) in found(animals, "fox")
    assert 7 not in {key for key, *_ in found(animals, "fox")}
    assert not animals.in_transaction


def test_both_rankings_and_the_rows_are_of_one_snapshot(
    animals: Session, sven: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = found(animals, "fox")
    ranked = TextIndex.ranked

    def meanwhile(self: TextIndex, *args: Any) -> Any:
        sven.execute("DELETE FROM animals WHERE id = 1")
        return ranked(self, *args)

    monkeypatch.setattr(TextIndex, "ranked", meanwhile)
    assert found(animals, "fox") == expected
    assert 1 not in {key for key, *_ in found(animals, "fox")}


def test_each_user_ranks_the_own_rows(s: Session, mia: Session, tom: Session) -> None:
    s.execute("CREATE USER TABLE animals (id INT PRIMARY KEY, body TEXT, v EMBEDDING(2))")
    mia.execute("INSERT INTO animals VALUES (1, 'my fox', [1, 0]), (2, 'my dog', [0, 1])")
    tom.execute("INSERT INTO animals VALUES (3, 'fox fox', [1, 0])")
    for _ in range(2):
        assert found(mia, "fox") == [(1, 1, 1), (2, None, 2)]
        assert found(tom, "fox") == [(3, 1, 1)]
        assert found(s, "fox") == []


def test_a_table_that_may_not_be_read_is_refused(s: Session, mia: Session, dora: Session) -> None:
    s.execute("CREATE SHARED TABLE animals (id INT, body TEXT, v EMBEDDING(2)) "
              "WITH (ACCESS_LEVEL = 'private')")  # fmt: skip
    s.execute("INSERT INTO animals VALUES (1, 'fox', [1, 0])")
    assert found(dora, "fox") == [(1, 1, 1)]
    assert refusal(mia, "animals", "body", "v", "fox", vector=[1, 0]).code == "PERMISSION_DENIED"


def test_a_relation_of_the_session_is_not_taken_for_the_table(animals: Session) -> None:
    animals.relations["animals"] = pa.table({"id": [99], "body": ["fox"], "v": [[1.0, 0.0]]})
    assert {key for key, *_ in found(animals, "fox")} == {1, 2, 3, 4, 5, 6}


def test_names_of_any_form(s: Session) -> None:
    s.execute('CREATE TABLE "odd" ("Id ""x" INT PRIMARY KEY, "my text" TEXT, "V" EMBEDDING(2))')
    s.execute("""INSERT INTO odd VALUES (1, 'fox', [1, 0])""")
    answer = s.hybrid("studio.odd", "MY TEXT", "v", "fox", vector=[1, 0])
    assert answer.rows() == [(1, "fox", [1.0, 0.0], pytest.approx(2 / 61), 1, 1)]


def directions(texts: list[str]) -> list[list[float]]:
    """East for foxes, north for all else."""
    return [[1.0, 0.0] if "fox" in text.lower() else [0.0, 1.0] for text in texts]


def test_without_a_vector_the_query_is_embedded(animals: Session, studio: Any) -> None:
    function = kalam.embedding_function(directions, name="directions", dimension=2)
    animals.embed("animals", "v", source="body", function=function, replace=True)
    for query in ("fox", "[fox]"):  # words in brackets are no vector
        assert found(animals, query, None) == found(animals, query, [1, 0])
    assert found(animals, "dog", None) == found(animals, "dog", [0, 1])
    assert found(animals, "dog", "[1, 0]") == found(animals, "dog", [1, 0])


def test_the_quotes_of_a_phrase_are_not_embedded(animals: Session, studio: Any) -> None:
    asked: list[str] = []

    def recorded(texts: list[str]) -> list[list[float]]:
        asked.extend(texts)
        return directions(texts)

    function = kalam.embedding_function(recorded, name="recorded", dimension=2)
    animals.embed("animals", "v", source="body", function=function, replace=True)
    for query in ('the "brown fox"', '\u201cbrown fox\u201d 6" tall', '"'):
        found(animals, query, None)
    assert asked == ["the brown fox", 'brown fox 6" tall', '"']


def test_a_function_that_is_not_here_is_named(fresh: Any, opener: Any) -> None:
    s = fresh.session()
    s.execute("CREATE TABLE animals (id INT PRIMARY KEY, body TEXT, v EMBEDDING(2))")
    function = kalam.embedding_function(directions, name="directions", dimension=2)
    s.embed("animals", "v", source="body", function=function)
    s.execute("INSERT INTO animals (id, body) VALUES (1, 'a fox')")
    path = Path(fresh.database.path)
    fresh.database.close()
    again = opener(path)
    try:
        error = refusal(again.session(), "animals", "body", "v", "fox")
        assert isinstance(error, EmbeddingFunctionMissingError)
        assert "directions" in str(error)
        assert found(again.session(), "fox", [1, 0]) == [(1, 1, 1)]
    finally:
        again.database.close()


def test_what_cannot_be_searched_is_said(animals: Session) -> None:
    def said(*args: Any, **more: Any) -> str:
        return str(refusal(animals, *args, **{"vector": [1, 0], **more}))

    assert said("animals", "v", "v", "fox") == "Column 'v' is not a TEXT column"
    assert said("animals", "body", "tag", "fox") == "Column 'tag' is not an EMBEDDING column"
    assert said("animals", "bodi", "v", "fox") == (
        "Column 'bodi' not found in studio.animals; did you mean 'body'?"
    )
    assert "not found" in said("nowhere", "body", "v", "fox")
    assert said("animals", "body", "v", "fox", columns=["tog"]) == (
        "Column 'tog' not found in studio.animals; did you mean 'tag'?"
    )
    assert said("animals", "body", "v", "fox", columns="id") == "columns must be a list of names"
    assert said("animals", "body", "v", "fox", vector=[1]) == (
        "Column 'v' expects 2 dimensions, got 1"
    )
    assert said("animals", "body", "v", "fox", vector=[1, float("nan")]) == (
        "Column 'v': component 2 is not a finite number"
    )
    assert said("animals", "body", "v", "fox", vector=None) == (
        "Column 'v' has no embedding function; give a vector"
    )
    assert said("animals", "body", "v", " ") == "The query of hybrid is empty"
    assert said("animals", "body", "v", 3) == "The query of hybrid is a text"
    for k in (0, True, 1.5):
        assert said("animals", "body", "v", "x", k) == "k must be a whole number of at least 1"
    animals.execute("CREATE VIEW seen AS SELECT * FROM animals")
    assert said("seen", "body", "v", "fox") == (
        "Hybrid search needs a USER, SHARED or STREAM table; 'studio.seen' is none of them"
    )
    assert said("system.jobs", "job_id", "v", "fox").startswith("Hybrid search needs a USER")
    animals.execute("CREATE TABLE scored (id INT, body TEXT, v EMBEDDING(2), score INT)")
    assert said("scored", "body", "v", "fox") == "Column 'score' already exists in studio.scored"
    assert animals.hybrid("scored", "body", "v", "fox", vector=[1, 0], columns=["id"]).rows() == []


def test_without_tantivy_the_way_out_is_told(
    animals: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tantivy", None)
    error = refusal(animals, "animals", "body", "v", "fox", vector=[1, 0])
    assert (error.code, str(error)) == (
        "NOT_SUPPORTED", "Hybrid search needs tantivy; pip install 'kalamdb-lab[text]'",
    )  # fmt: skip


def test_many_rows_with_few_left_by_where(s: Session) -> None:
    """More matches than are asked for at first; equal scores go by key."""
    s.execute("CREATE TABLE animals (id INT PRIMARY KEY, body TEXT, v EMBEDDING(2))")
    ids = list(range(3000, 0, -1))
    s.insert("animals", {"id": ids, "body": ["a fox"] * 3000, "v": [[1.0, 0.0]] * 3000})
    assert found(s, "fox", where="id % 1000 = 7", k=5) == [(7, 1, 1), (1007, 2, 2), (2007, 3, 3)]
    assert found(s, "fox", k=2) == [(1, 1, 1), (2, 2, 2)]
    assert len(found(s, "fox", k=150)) == 150


@given(
    by_words=st.lists(st.integers(-50, 50), unique=True, max_size=40),
    by_vector=st.lists(st.integers(-50, 50), unique=True, max_size=40),
    k=st.integers(1, 50),
)
def test_fusion_is_the_sum_of_reciprocal_ranks(
    by_words: list[int], by_vector: list[int], k: int
) -> None:
    score: dict[int, float] = {}
    for ranking in (by_words, by_vector):
        for rank, row in enumerate(ranking, start=1):
            score[row] = score.get(row, 0.0) + 1 / (60 + rank)
    table = fused(np.array(by_words, np.int64), np.array(by_vector, np.int64), k)
    assert table["score"].to_pylist() == pytest.approx(sorted(score.values(), reverse=True)[:k])
    for row, total, words, near in zip(
        *(table[name].to_pylist() for name in ("seq", "score", "text_rank", "vector_rank")),
        strict=True,
    ):
        assert total == pytest.approx(score[row])
        assert words == (by_words.index(row) + 1 if row in by_words else None)
        assert near == (by_vector.index(row) + 1 if row in by_vector else None)
