"""Registering embedding functions: rights, faults, what is stored, functions that fail."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import toy_embeddings
from toy_embeddings import NOTES, Toy, embedded, made, vectors

import kalamdb_lab as kalam
from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session
from kalamdb_lab.query.request import Interruption
from kalamdb_lab.tables.embedding import EmbeddedColumn, EmbeddingFunctions, StatementVectors

toy, notes = toy_embeddings.toy, toy_embeddings.notes


def test_vectors_of_many_texts_are_in_memory_once() -> None:
    dimension, texts = 2048, [str(number) for number in range(16_384)]
    functions = EmbeddingFunctions()
    functions.provide(Toy(dimension=dimension))
    vectors = StatementVectors(functions, Interruption())
    tracemalloc.start()
    try:
        found = vectors.vectors(EmbeddedColumn("t", "e", "toy", dimension), texts)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (found[[0, 5_000, -1]] == embedded(["0", "5000", "16383"], dimension)).all()
    assert peak_bytes < 1.5 * found.nbytes


# --- functions that fail --------------------------------------------------------------------------


class Wrong(Toy):
    def __init__(self, result: Callable[[int], Any]) -> None:
        super().__init__()
        self.result = result

    def embed(self, texts: Sequence[str]) -> Any:
        return self.result(len(texts))


def _boom(_: int) -> Any:
    raise ValueError("no such word")


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (_boom, "INVALID_VALUE", "Embedding function 'toy' failed: ValueError: no such word"),
        (lambda n: np.zeros((n, 7)), "DIMENSION_MISMATCH", "must return an array of shape (1, 8), not (1, 7)"),
        (lambda n: np.zeros((n + 1, 8)), "DIMENSION_MISMATCH", "must return an array of shape (1, 8), not (2, 8)"),
        (lambda n: np.full((n, 8), np.nan), "INVALID_VALUE", "not a finite number"),
        (lambda n: np.full((n, 8), 1e300), "INVALID_VALUE", "not a finite number"),
        (lambda _: "word", "INVALID_VALUE", "Embedding function 'toy' failed: ValueError"),
        (lambda _: [[1.0], [2.0, 3.0]], "INVALID_VALUE", "Embedding function 'toy' failed: ValueError"),
    ],
)  # fmt: skip
def test_a_function_that_fails_writes_nothing(
    notes: Session, refused: Any, result: Callable[[int], Any], code: str, said: str
) -> None:
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    notes.embed("notes", "embedding", source="body", function=Wrong(result))
    for sql in (
        "INSERT INTO notes (id, body) VALUES (2, 'b')",
        "UPDATE notes SET body = 'b' WHERE id = 1",
        "SELECT id FROM notes ORDER BY COSINE_DISTANCE(embedding, 'b') LIMIT 1",
    ):
        error = refused(notes, sql)
        assert (error.code, said in str(error)) == (code, True), error
    assert vectors(notes) == {1: made("a")[0]}


# --- registering ----------------------------------------------------------------------------------


def test_faults_of_registering_name_what_is_wrong(s: Session, toy: Toy) -> None:
    s.execute_script(f"CREATE USER TABLE notes {NOTES}; CREATE VIEW v AS SELECT * FROM notes")
    for arguments, function, code, said in [
        (("notes", "embedding", "body"), Toy(dimension=3), "DIMENSION_MISMATCH", "Column 'embedding' expects 8 dimensions, 'toy' makes 3"),
        (("notes", "body", "title"), toy, "TYPE_MISMATCH", "Column 'body' is not an EMBEDDING column"),
        (("notes", "embedding", "id"), toy, "TYPE_MISMATCH", "Column 'id' is not a TEXT column"),
        (("notes", "embeding", "body"), toy, "NOT_FOUND", "did you mean 'embedding'"),
        (("gone", "embedding", "body"), toy, "NOT_FOUND", "Table 'studio.gone' not found"),
        (("v", "embedding", "body"), toy, "NOT_SUPPORTED", "studio.v is a view and cannot be altered"),
        (("system.jobs", "embedding", "body"), toy, "NOT_SUPPORTED", "cannot be altered"),
        (("notes", "embedding", "body"), Toy(name=""), "INVALID_NAME", "1 to 128"),
        (("notes", "embedding", "body"), object(), "TYPE_MISMATCH", "embed(texts)"),
        (("notes", "embedding", "body"), Toy(dimension=0), "INVALID_OPTION", "1 to 8192"),
    ]:  # fmt: skip
        table, column, source = arguments
        with pytest.raises(KalamError) as caught:
            s.embed(table, column, source=source, function=function)  # type: ignore[arg-type]
        assert (caught.value.code, said in str(caught.value)) == (code, True), caught.value
    assert s.embeddings() == []


def test_a_plain_callable_is_told_the_way(s: Session) -> None:
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, body TEXT, v EMBEDDING(1))")

    def lengths(texts: list[str]) -> list[list[float]]:
        return [[float(len(text))] for text in texts]

    with pytest.raises(KalamError) as caught:
        s.embed("t", "v", source="body", function=lengths)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "An embedding function has name, dimension and embed(texts); "
        "give kalam.embedding_function(f, name=..., dimension=...)"
    )
    with pytest.raises(KalamError, match=r"has name, dimension and embed\(texts\)$"):
        s.embed("t", "v", source="body", function="lengths")  # type: ignore[arg-type]
    function = kalam.embedding_function(lengths, name="lengths", dimension=1)
    assert s.embed("t", "v", source="body", function=function).message


def test_it_needs_the_right_to_alter_the_table(
    studio: Any, s: Session, mia: Session, sven: Session, dora: Session, toy: Toy
) -> None:
    s.execute(f"CREATE USER TABLE notes {NOTES}")
    for session in (mia, sven):
        with pytest.raises(KalamError) as caught:
            session.embed("notes", "embedding", source="body", function=toy)
        assert caught.value.code == "PERMISSION_DENIED"
    dora.embed("notes", "embedding", source="body", function=toy)
    mia.execute("INSERT INTO notes (id, body) VALUES (1, 'of mia')")
    assert vectors(mia) == {1: made("of mia")[0]}
    rows = s.execute(
        "SELECT actor_user_id, outcome, details FROM system.audit_logs WHERE target = "
        "'studio.notes' AND action = 'ALTER_TABLE' ORDER BY _seq"
    ).rows()[-3:]
    assert [row[0] for row in rows] == ["mia", "sven", "dora"]
    assert (
        '"change": "EMBED", "column": "embedding", "source": "body", "function": "toy"'
        in rows[2][2]
    )


def test_it_is_no_new_schema_version_and_no_part_of_a_transaction(notes: Session, toy: Toy) -> None:
    assert notes.definition("notes").schema_version == 1
    notes.execute("BEGIN")
    with pytest.raises(KalamError, match="not allowed inside a transaction"):
        notes.embed("notes", "embedding", source="title", function=toy)
    notes.execute("ROLLBACK")


def test_another_function_for_vectors_that_are_there_must_be_meant(notes: Session) -> None:
    better = Toy("better")
    notes.embed("notes", "embedding", source="body", function=Toy("first"))  # there are none yet
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    for function, source in ((better, "body"), (Toy("first"), "title")):
        with pytest.raises(KalamError) as caught:
            notes.embed("notes", "embedding", source=source, function=function)
        assert caught.value.code == "IN_USE"
        assert "'first' made from 'body'; replace=True" in str(caught.value)
    notes.execute("INSERT INTO notes (id, body) VALUES (2, 'b')")
    assert better.calls == []
    answer = notes.embed("notes", "embedding", source="body", function=better, replace=True)
    assert "UPDATE studio.notes SET embedding = DEFAULT WHERE true" in answer.rows()[0][0]
    assert better.calls == []
    notes.execute("UPDATE notes SET embedding = DEFAULT WHERE true")
    assert better.texts == ["a", "b"]


def test_vectors_of_another_user_count_as_well(notes: Session, mia: Session) -> None:
    mia.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    with pytest.raises(KalamError, match="holds vectors"):
        notes.embed("notes", "embedding", source="body", function=Toy("better"))


def test_embeddings_are_listed(studio: Any, notes: Session, mia: Session) -> None:
    for session in (notes, mia):
        (found,) = session.embeddings()
        assert (found.table, found.column, found.source) == ("studio.notes", "embedding", "body")
        assert (found.function, found.dimension, found.is_registered) == ("toy", 8, True)
    assert studio.database.embeddings == notes.embeddings()


def test_names_of_columns_may_change(notes: Session) -> None:
    notes.execute_script(
        "ALTER TABLE notes RENAME body TO words; ALTER TABLE notes RENAME embedding TO meaning"
    )
    notes.execute("INSERT INTO notes (id, words) VALUES (1, 'a')")
    assert notes.execute("SELECT meaning FROM notes").rows() == [(made("a")[0],)]
    assert [(e.column, e.source) for e in notes.embeddings()] == [("meaning", "words")]


def test_a_column_of_another_dimension_is_filled_no_more(notes: Session, toy: Toy) -> None:
    notes.execute("ALTER TABLE notes MODIFY title TEXT DEFAULT 'none'")
    assert len(notes.embeddings()) == 1
    notes.execute("ALTER TABLE notes MODIFY embedding EMBEDDING(4)")
    assert notes.embeddings() == []
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    assert toy.calls == []
    notes.embed("notes", "embedding", source="body", function=Toy(dimension=4))
    notes.execute("INSERT INTO notes (id, body) VALUES (2, 'a')")
    assert vectors(notes)[2] == embedded(["a"], 4)[0].tolist()


def test_system_tables_tells_what_fills_a_column(notes: Session) -> None:
    sql = "SELECT options FROM system.tables WHERE table_name = 'notes'"
    said = json.loads(notes.execute(sql).rows()[0][0])
    assert said["embeddings"] == [{"column": "embedding", "source": "body", "function": "toy"}]


def test_without_its_text_column_vectors_are_given_and_texts_still_searched(notes: Session) -> None:
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a cat'), (2, 'b')")
    notes.execute("ALTER TABLE notes DROP body")
    notes.execute("ALTER TABLE notes ADD body TEXT")  # another column of that name
    notes.execute("INSERT INTO notes (id, body) VALUES (3, 'c')")
    assert vectors(notes)[3] is None
    assert notes.embeddings() == []
    sql = "SELECT id FROM notes ORDER BY COSINE_DISTANCE(embedding, 'cat a') LIMIT 1"
    assert notes.execute(sql).rows() == [(1,)]


def test_a_column_dropped_and_added_again_is_not_filled(notes: Session, toy: Toy) -> None:
    notes.execute("ALTER TABLE notes DROP embedding")
    notes.execute("ALTER TABLE notes ADD embedding EMBEDDING(8)")
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    assert vectors(notes) == {1: None}
    assert toy.calls == []
