"""Rows whose vectors an embedding function makes: INSERT, ON CONFLICT, UPDATE, transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import toy_embeddings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_embeddings import NOTES, Toy, embedded, made, vectors

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session

toy, notes = toy_embeddings.toy, toy_embeddings.notes

# --- INSERT -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("INSERT INTO notes (id, body) VALUES (1, 'a cat'), (2, 'two dogs')", None),
        ("INSERT INTO notes (id, body) VALUES (?, ?), (?, ?)", [1, "a cat", 2, "two dogs"]),
        ("INSERT INTO notes (id, body, embedding) VALUES (1, 'a cat', DEFAULT), (2, 'two dogs', DEFAULT)", None),
        ("INSERT INTO notes (id, body) SELECT * FROM (VALUES (1, 'a cat'), (2, 'two dogs')) v", None),
        ("INSERT INTO notes (id, body) SELECT * FROM (VALUES (1, 'a cat'), (2, 'two dogs')) v RETURNING id", None),
        ("INSERT INTO notes (id, body) VALUES (1, 'a cat'), (2, 'two ' || 'dogs') ON CONFLICT DO NOTHING", None),
    ],
)  # fmt: skip
def test_insert_without_a_vector_makes_it_from_the_text(
    notes: Session, toy: Toy, sql: str, params: list[Any] | None
) -> None:
    notes.execute(sql, params)
    assert vectors(notes) == dict(zip([1, 2], made("a cat", "two dogs"), strict=True))
    assert toy.calls == [["a cat", "two dogs"]]


@pytest.mark.parametrize("rows", [3, 20], ids=["few", "as a segment"])
@pytest.mark.parametrize("form", [pd.DataFrame, pa.table], ids=["pandas", "arrow"])
def test_bulk_insert_makes_the_vectors_of_all_rows_in_one_call(
    notes: Session, toy: Toy, form: Callable[[Any], Any], rows: int
) -> None:
    texts = [f"note {at % 7}" for at in range(rows)]
    notes.insert("notes", form({"id": list(range(rows)), "body": texts}))
    assert [vectors(notes)[at] for at in range(rows)] == made(*texts)
    assert toy.calls == [list(dict.fromkeys(texts))]


def test_ibis_inserts_and_upserts_make_vectors(studio: Any, notes: Session) -> None:
    con = ibis.kalam.from_connection(notes)
    con.insert("notes", ibis.memtable({"id": [1, 2], "body": ["a cat", "two dogs"]}))
    con.upsert("notes", pd.DataFrame({"id": [2, 3], "body": ["three dogs", "d"]}), on="id")
    assert vectors(notes) == dict(zip([1, 2, 3], made("a cat", "three dogs", "d"), strict=True))


def test_a_given_vector_wins_and_an_explicit_null_stays(notes: Session, toy: Toy) -> None:
    given = [1.0] * 8
    notes.execute(
        "INSERT INTO notes (id, body, embedding) VALUES (1, 'a', ?), (2, 'b', NULL), (3, NULL, DEFAULT)",
        [given],
    )
    notes.insert("notes", pa.table({"id": [4, 5], "body": ["c", "d"], "embedding": [given, None]}))
    assert vectors(notes) == {1: given, 2: None, 3: None, 4: given, 5: None}
    assert toy.calls == []


@pytest.mark.parametrize("repeated", [1, 20], ids=["few", "as a segment"])
def test_a_dict_without_the_key_is_filled_and_none_stays_null(
    notes: Session, toy: Toy, repeated: int
) -> None:
    given = [1.0] * 8
    some = [{"body": "a"}, {"body": "b", "embedding": given}, {"body": "c", "embedding": None}, {}]
    rows = [{"id": at, **row} for at, row in enumerate(some * repeated)]
    assert notes.insert("notes", rows).rows_affected == len(rows)
    assert list(vectors(notes).items()) == list(
        enumerate([made("a")[0], given, None, None] * repeated)
    )
    assert toy.calls == [["a"]]


def test_dicts_with_arrays_and_without_are_filled(notes: Session) -> None:
    given = np.ones(8, np.float32)
    notes.insert("notes", [{"id": 1, "body": "a"}, {"id": 2, "body": "b", "embedding": given}])
    assert vectors(notes) == {1: made("a")[0], 2: [1.0] * 8}


def test_a_null_text_in_a_bulk_insert_gives_null(notes: Session) -> None:
    texts = ["a cat", None, "", *["x"] * 10]
    notes.insert("notes", pa.table({"id": list(range(13)), "body": texts}))
    found = vectors(notes)
    assert found[0] == made("a cat")[0]
    assert found[1] is None
    assert found[2] == made("")[0]


def test_a_default_vector_is_not_replaced(s: Session, toy: Toy) -> None:
    s.execute(
        "CREATE SHARED TABLE t (id INT, body TEXT, embedding EMBEDDING(8) DEFAULT '[1,1,1,1,1,1,1,1]')"
    )
    s.embed("t", "embedding", source="body", function=toy)
    s.execute("INSERT INTO t (id, body) VALUES (1, 'a')")
    s.insert("t", pa.table({"id": list(range(2, 20)), "body": ["b"] * 18}))
    assert set(map(tuple, vectors(s, "t").values())) == {(1.0,) * 8}
    assert toy.calls == []


def test_rows_that_a_default_leaves_without_a_vector_are_filled(s: Session, toy: Toy) -> None:
    ones = [1.0] * 8
    s.execute(
        "CREATE SHARED TABLE t (id INT, body TEXT, embedding EMBEDDING(8) "
        f"DEFAULT CASE WHEN random() < 0.5 THEN '{ones}' END)"
    )
    s.embed("t", "embedding", source="body", function=toy)
    texts = [None if at % 5 == 4 else f"n {at}" for at in range(60)]
    s.insert("t", pa.table({"id": list(range(60)), "body": texts}))
    found = vectors(s, "t")
    by_default = {at for at in found if found[at] == ones}
    assert 0 < len(by_default) < 60
    for at in found.keys() - by_default:
        assert found[at] == (None if texts[at] is None else made(str(texts[at]))[0])
    assert sorted(toy.texts) == sorted(
        text for at, text in enumerate(texts) if text is not None and at not in by_default
    )


def test_a_column_that_is_not_null_can_be_filled(s: Session, toy: Toy, refused: Any) -> None:
    s.execute(
        "CREATE SHARED TABLE t (id INT PRIMARY KEY, body TEXT, embedding EMBEDDING(8) NOT NULL)"
    )
    s.embed("t", "embedding", source="body", function=toy)
    s.execute("INSERT INTO t (id, body) VALUES (1, 'a') ON CONFLICT (id) DO NOTHING")
    s.execute("INSERT INTO t (id, body) VALUES (2, 'b')")
    assert len(vectors(s, "t")) == 2
    for sql in (
        "INSERT INTO t (id) VALUES (3)",
        "INSERT INTO t (id) VALUES (3) ON CONFLICT DO NOTHING",
        "UPDATE t SET body = NULL WHERE id = 1",
    ):
        assert refused(s, sql).code == "NOT_NULL"


def test_streams_are_filled_too(s: Session, toy: Toy) -> None:
    s.execute(
        "CREATE STREAM TABLE events (id INT, body TEXT, embedding EMBEDDING(8)) WITH (TTL_SECONDS = 60)"
    )
    s.embed("events", "embedding", source="body", function=toy)
    s.execute("INSERT INTO events (id, body) VALUES (1, 'a cat')")
    assert vectors(s, "events") == {1: made("a cat")[0]}


def test_returning_shows_the_vector(notes: Session) -> None:
    sql = "INSERT INTO notes (id, body) VALUES (1, 'a cat') RETURNING embedding"
    assert notes.execute(sql).rows() == [(made("a cat")[0],)]


def test_two_columns_are_filled_each_from_its_text(s: Session) -> None:
    s.execute("CREATE SHARED TABLE t (id INT, a TEXT, b TEXT, ea EMBEDDING(8), eb EMBEDDING(4))")
    s.embed("t", "ea", source="a", function=Toy("one", 8))
    s.embed("t", "eb", source="b", function=Toy("two", 4))
    s.execute("INSERT INTO t (id, a, b) VALUES (1, 'x', 'y')")
    s.execute("UPDATE t SET a = 'v w', b = 'w' WHERE id = 1")
    assert s.execute("SELECT ea, eb FROM t").rows() == [
        (embedded(["v w"], 8)[0].tolist(), embedded(["w"], 4)[0].tolist())
    ]


def test_update_fills_as_many_columns_as_there_are(s: Session) -> None:
    columns = [f"e{number}" for number in range(12)]
    wanted = ", ".join(f"{column} EMBEDDING(2)" for column in columns)
    s.execute(f"CREATE SHARED TABLE t (id INT PRIMARY KEY, body TEXT, {wanted})")
    for column in columns:
        s.embed("t", column, source="body", function=Toy(f"of {column}", 2))
    s.execute("INSERT INTO t (id, body) VALUES (1, 'x')")
    s.execute("UPDATE t SET body = 'v w' WHERE id = 1")
    (row,) = s.execute(f"SELECT {', '.join(columns)} FROM t").rows()
    assert list(row) == [embedded(["v w"], 2)[0].tolist()] * 12


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_what_is_read_is_what_the_function_makes(studio: Any, texts: list[str | None]) -> None:
    s = studio.session()
    s.execute_script(f"DROP TABLE IF EXISTS law; CREATE SHARED TABLE law {NOTES}")
    s.embed("law", "embedding", source="body", function=Toy())
    s.insert(
        "law",
        pa.table(
            {"id": pa.array(range(len(texts)), pa.int64()), "body": pa.array(texts, pa.string())}
        ),
    )
    for at, text in enumerate(texts):
        s.execute("INSERT INTO law (id, body) VALUES (?, ?)", [1000 + at, text])
    found = vectors(s, "law")
    for at, text in enumerate(texts):
        wanted = None if text is None else embedded([text])[0].tolist()
        assert found[at] == wanted == found[1000 + at]


# --- ON CONFLICT --------------------------------------------------------------------------------


def test_do_nothing_embeds_only_what_is_new(notes: Session, toy: Toy) -> None:
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a'), (2, 'b')")
    toy.calls.clear()
    notes.execute(
        "INSERT INTO notes (id, body) VALUES (2, 'other'), (3, 'c') ON CONFLICT DO NOTHING"
    )
    assert toy.texts == ["c"]
    assert vectors(notes) == dict(zip([1, 2, 3], made("a", "b", "c"), strict=True))


def test_do_update_makes_vectors_of_changed_texts_and_of_nothing_else(
    notes: Session, toy: Toy
) -> None:
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    toy.calls.clear()
    notes.execute(
        "INSERT INTO notes (id, body) VALUES (1, 'a'), (2, 'bb'), (3, 'never'), (4, 'd') ON CONFLICT (id) "
        "DO UPDATE SET body = excluded.body WHERE notes.id < 3"
    )
    assert sorted(toy.texts) == ["bb", "d"]
    assert vectors(notes) == dict(zip([1, 2, 3, 4], made("a", "bb", "c", "d"), strict=True))


def test_do_update_can_take_the_vector_of_the_offered_row(notes: Session) -> None:
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    notes.execute(
        "INSERT INTO notes (id, body) VALUES (1, 'other') ON CONFLICT (id) "
        "DO UPDATE SET embedding = excluded.embedding"
    )
    assert notes.execute("SELECT body, embedding FROM notes").rows() == [("a", made("other")[0])]


# --- UPDATE -------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["id = 1", "id < 2", "title IS NULL AND id = 1"])
def test_update_of_the_text_makes_a_new_vector(notes: Session, toy: Toy, where: str) -> None:
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a'), (2, 'b')")
    notes.execute(f"UPDATE notes SET body = 'changed' WHERE {where}")
    assert vectors(notes) == dict(zip([1, 2], made("changed", "b"), strict=True))
    notes.execute(f"UPDATE notes SET body = NULL WHERE {where}")
    assert vectors(notes)[1] is None


def test_update_that_leaves_the_text_or_gives_a_vector_calls_nothing(
    notes: Session, toy: Toy
) -> None:
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    toy.calls.clear()
    notes.execute("UPDATE notes SET title = 't', body = 'a' WHERE id = 1")
    notes.execute("UPDATE notes SET body = 'b', embedding = ? WHERE id = 1", [[1.0] * 8])
    assert vectors(notes) == {1: [1.0] * 8}
    notes.execute("UPDATE notes SET body = 'c', embedding = NULL WHERE id = 1")
    assert vectors(notes) == {1: None}
    assert toy.calls == []


def test_set_to_default_makes_vectors_for_rows_that_were_there_before(s: Session, toy: Toy) -> None:
    s.execute(f"CREATE USER TABLE notes {NOTES}")
    s.insert(
        "notes", pa.table({"id": list(range(20)), "body": [f"n {at % 3}" for at in range(20)]})
    )
    s.embed("notes", "embedding", source="body", function=toy)
    assert set(vectors(s).values()) == {None}
    assert (
        s.execute("UPDATE notes SET embedding = DEFAULT WHERE embedding IS NULL").rows_affected
        == 20
    )
    assert [vectors(s)[at] for at in range(20)] == made(*[f"n {at % 3}" for at in range(20)])
    assert len(toy.texts) == 3
    assert s.execute("UPDATE notes SET embedding = DEFAULT WHERE true").rows_affected == 0


# --- the write lock, transactions, interrupts -----------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO notes (id, body) VALUES (7, 'new')",
        "INSERT INTO notes (id, body) VALUES (1, 'new') ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        "UPDATE notes SET body = 'new' WHERE id = 1",
        "UPDATE notes SET body = 'new ' || body WHERE id < 3",
        "UPDATE notes SET title = 'near' WHERE COSINE_DISTANCE(embedding, 'new') < 2",
        "DELETE FROM notes WHERE COSINE_DISTANCE(embedding, 'new') < 2",
    ],
)
def test_the_function_runs_while_others_write(
    studio: Any, notes: Session, toy: Toy, sql: str
) -> None:
    other = studio.session("tom")
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a'), (2, 'b')")
    other.execute("INSERT INTO notes (id, body, embedding) VALUES (0, 'x', NULL)")
    seen: list[int] = []

    def write() -> None:
        seen.append(other.execute("UPDATE notes SET title = title || 'x' WHERE true").row_count)

    toy.before = write
    assert notes.execute(sql).rows_affected > 0
    assert len(seen) == 1


def test_update_embeds_the_text_that_is_there_in_the_end(
    studio: Any, notes: Session, toy: Toy
) -> None:
    other = studio.session()
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    changed: list[bool] = []

    def change() -> None:
        if not changed:
            changed.append(True)
            other.execute("UPDATE notes SET title = 'elsewhere' WHERE id = 1")

    toy.before = change
    notes.execute("UPDATE notes SET body = coalesce(title, 'nowhere') WHERE id = 1")
    assert notes.execute("SELECT body, embedding FROM notes").rows() == [
        ("elsewhere", made("elsewhere")[0])
    ]


def test_update_whose_texts_are_never_the_same_is_refused(notes: Session, refused: Any) -> None:
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    error = refused(notes, "UPDATE notes SET body = body || random() WHERE id = 1")
    assert error.code == "CONFLICT"
    assert vectors(notes) == {1: made("a")[0]}


def test_transactions_make_vectors_and_roll_them_back(notes: Session, refused: Any) -> None:
    with notes.transaction():
        notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
        notes.execute("UPDATE notes SET body = 'b' WHERE id = 1")
        assert vectors(notes) == {1: made("b")[0]}
    assert vectors(notes) == {1: made("b")[0]}
    notes.execute("BEGIN")
    notes.execute("UPDATE notes SET body = 'c' WHERE id = 1")
    assert vectors(notes) == {1: made("c")[0]}
    notes.execute("ROLLBACK")
    assert vectors(notes) == {1: made("b")[0]}


def test_a_transaction_conflicts_with_another_function_for_its_table(
    studio: Any, notes: Session
) -> None:
    other = studio.session()
    notes.execute("BEGIN")
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a')")
    other.embed("notes", "embedding", source="body", function=Toy("better"))
    with pytest.raises(KalamError, match="altered"):
        notes.execute("COMMIT")
    assert vectors(notes) == {}


def test_an_interrupt_ends_between_two_calls_and_writes_nothing(notes: Session, toy: Toy) -> None:
    toy.before = notes.interrupt
    rows = pa.table({"id": list(range(1500)), "body": [f"text {at}" for at in range(1500)]})
    with pytest.raises(KalamError, match="Interrupted"):
        notes.insert("notes", rows)
    assert len(toy.calls) == 1
    toy.before = lambda: None
    assert vectors(notes) == {}
    notes.insert("notes", rows)
    assert len(vectors(notes)) == 1500
    assert [len(call) for call in toy.calls[1:]] == [1024, 476]
