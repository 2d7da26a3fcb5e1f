"""Texts in distances, and databases that are opened without the function that filled them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import toy_embeddings
from subscribed import SOON, ids, nexts
from toy_embeddings import NOTES, Toy, embedded

import kalamdb_lab as kalam
from kalamdb_lab import KalamError
from kalamdb_lab.catalog.portable import table_from_bytes, table_to_bytes
from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

MISSING = (
    "Column 'embedding' of studio.notes is filled by the embedding function 'toy', "
    "which is not registered; call db.embed(...) or give a vector"
)
TEXTS = {1: "a cat sleeps", 2: "two dogs run", 3: "the stock market", 4: "cat and dogs"}


toy = toy_embeddings.toy


@pytest.fixture
def notes(s: Session, toy: Toy) -> Session:
    """Root, with four rows, two of them flushed."""
    s.execute(f"CREATE USER TABLE notes {NOTES}")
    s.embed("notes", "embedding", source="body", function=toy)
    for at, text in TEXTS.items():
        s.execute("INSERT INTO notes (id, body) VALUES (?, ?)", [at, text])
        if at == 2:
            finished(s, "STORAGE FLUSH TABLE notes")
    toy.calls.clear()
    return s


def vector(text: str) -> list[float]:
    found: list[float] = embedded([text])[0].tolist()
    return found


# --- distances ----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["COSINE_DISTANCE", "L2_DISTANCE", "INNER_PRODUCT"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, {}(embedding, ?) AS d FROM notes ORDER BY d, id",
        "SELECT id, {}(?, embedding) AS d FROM notes ORDER BY d, id",
        "SELECT id FROM notes ORDER BY {}(embedding, ?) LIMIT 2",
        "SELECT n.id FROM (SELECT * FROM notes) AS n ORDER BY {}(n.embedding, ?) LIMIT 2",
        "WITH n AS (SELECT id, embedding AS e FROM notes) SELECT id FROM n WHERE {}(e, ?) < 30 ORDER BY 1",
        "SELECT id FROM nearby ORDER BY {}(embedding, ?) LIMIT 2",
        "SELECT a.id FROM notes AS a JOIN notes AS b USING (id) ORDER BY {}(b.embedding, ?) LIMIT 3",
        "SELECT id FROM all_users('notes') ORDER BY {}(embedding, ?) LIMIT 2",
    ],
)  # fmt: skip
def test_a_text_is_the_vector_that_the_function_makes(
    notes: Session, toy: Toy, function: str, sql: str
) -> None:
    notes.execute("CREATE VIEW nearby AS SELECT * FROM notes WHERE id > 0")
    sql = sql.format(function)
    wanted = notes.execute(sql, [vector("sleeps cat")]).rows()
    assert wanted
    assert toy.calls == []
    assert notes.execute(sql, ["sleeps cat"]).rows() == wanted
    assert notes.execute(sql.replace("?", "'sleeps cat'")).rows() == wanted
    assert toy.calls == [["sleeps cat"]]  # kept for a while


def test_nearest_takes_texts(notes: Session, toy: Toy) -> None:
    asked = ["sleeps cat", "the market"]
    wanted = notes.nearest("notes", "embedding", [vector(text) for text in asked], 2).rows()
    assert toy.calls == []
    assert notes.nearest("notes", "embedding", asked, 2).rows() == wanted
    assert sorted(toy.texts) == sorted(asked)
    one = notes.nearest("notes", "embedding", asked[0], 2, columns=["id"]).rows()
    assert [row[0] for row in one] == [row[1] for row in wanted[:2]]


def test_every_text_of_a_statement_is_embedded_once_in_one_call(notes: Session, toy: Toy) -> None:
    notes.execute(
        "SELECT COSINE_DISTANCE(embedding, 'x'), L2_DISTANCE(embedding, 'x'), "
        "L2_DISTANCE(embedding, ?) FROM notes WHERE L2_DISTANCE(embedding, ?) < 9",
        ["y", "y"],
    )
    assert toy.calls == [["x", "y"]]


def test_a_text_in_brackets_is_a_vector_and_null_is_null(notes: Session, toy: Toy) -> None:
    one = "[1, 0, 0, 0, 0, 0, 0, 0]"
    sql = "SELECT L2_DISTANCE(embedding, ?) FROM notes WHERE id = 1 AND true"
    assert notes.execute(sql, [one]).rows() == notes.execute(sql.replace("?", f"' {one} '")).rows()
    assert notes.execute(sql, [None]).rows() == [(None,)]
    assert toy.calls == []


def test_what_is_no_vector_and_no_text_is_refused_as_before(notes: Session, refused: Any) -> None:
    sql = "SELECT id FROM notes ORDER BY COSINE_DISTANCE(embedding, {}) LIMIT 1"
    assert "expects 8 dimensions, got 2" in str(refused(notes, sql.format("[1, 2]")))
    assert "expects 8 dimensions, got 1" in str(refused(notes, sql.format("'[1]'")))
    assert refused(notes, sql.format("?"), [7]).code == "TYPE_MISMATCH"
    assert refused(notes, sql.format("'[cat]'")).code == "TYPE_MISMATCH"


def test_a_text_beside_a_column_without_a_function_is_refused_as_before(
    s: Session, notes: Session, refused: Any
) -> None:
    s.execute("CREATE USER TABLE plain (id INT PRIMARY KEY, embedding EMBEDDING(8))")
    texts = []
    for table in (
        "plain",
        "(SELECT embedding FROM notes UNION ALL SELECT embedding FROM plain) AS u",
    ):
        sql = f"SELECT COSINE_DISTANCE(embedding, 'cat') FROM {table}"
        texts.append(str(refused(s, sql)))
    assert len(set(texts)) == 1
    assert "'embedding'" in texts[0]


def test_a_plan_made_before_is_not_used_after_the_function_is_there(
    s: Session, toy: Toy, refused: Any
) -> None:
    s.execute(f"CREATE USER TABLE notes {NOTES}")
    sql = "SELECT id FROM notes ORDER BY COSINE_DISTANCE(embedding, ?) LIMIT 1"
    s.execute("INSERT INTO notes (id, body, embedding) VALUES (1, 'a', ?)", [[1.0] * 8])
    assert s.execute(sql, [[1.0] * 8]).row_count == 1
    assert refused(s, sql, ["cat"]).code == "TYPE_MISMATCH"
    s.embed("notes", "embedding", source="body", function=toy)
    assert s.execute(sql, ["cat"]).row_count == 1
    toy.calls.clear()
    other = Toy("toy")
    s.embed("notes", "embedding", source="body", function=other)
    assert s.execute(sql, ["cat"]).row_count == 1
    assert (toy.calls, other.calls) == ([], [["cat"]])


def test_explain_and_describe_call_nothing(notes: Session, toy: Toy) -> None:
    sql = "SELECT id FROM notes ORDER BY COSINE_DISTANCE(embedding, 'cat') LIMIT 1"
    assert notes.execute(f"EXPLAIN {sql}").row_count
    assert toy.calls == []


def test_texts_of_one_user_are_not_kept_for_another(
    notes: Session, mia: Session, tom: Session, toy: Toy
) -> None:
    sql = "SELECT id FROM notes ORDER BY COSINE_DISTANCE(embedding, 'secret') LIMIT 1"
    for session in (mia, tom, mia, tom):
        assert session.execute(sql).rows() == []
    assert toy.calls == [["secret"], ["secret"]]


def test_execute_as_uses_the_functions_of_the_actor(notes: Session, mia: Session) -> None:
    notes.execute("INSERT INTO notes (id, body) VALUES (1, 'a cat')", as_user="mia")
    assert mia.execute("SELECT embedding FROM notes").rows() == [(vector("a cat"),)]


# --- live ---------------------------------------------------------------------------------------


def test_a_subscription_compares_changes_with_a_text_that_is_embedded_once(
    notes: Session, toy: Toy
) -> None:
    live = notes.subscribe(
        "SELECT id FROM notes WHERE COSINE_DISTANCE(embedding, ?) < 0.2", ["cat a sleeps"]
    )
    assert ids(nexts(live, 1)[0]) == [1]
    for at in range(100, 400, 60):  # more texts than a session keeps
        texts = [f"stock{number}" for number in range(at, at + 60)]
        notes.insert("notes", pa.table({"id": list(range(at, at + 60)), "body": texts}))
    notes.execute("INSERT INTO notes (id, body) VALUES (8, 'stock'), (9, 'sleeps a cat')")
    assert ids(nexts(live, 1)[0]) == [9]
    live.close()
    assert toy.texts.count("cat a sleeps") == 1


def test_a_live_result_ranks_by_a_text(notes: Session) -> None:
    live = notes.live(
        "SELECT id FROM notes ORDER BY COSINE_DISTANCE(embedding, 'the stock market') LIMIT 1"
    )
    assert live.snapshot().column("id").to_pylist() == [3]
    notes.execute("INSERT INTO notes (id, body) VALUES (0, 'the stock market')")
    assert live.wait(timeout=SOON)
    assert live.snapshot().column("id").to_pylist() == [0]
    live.close()


# --- opened without the function ------------------------------------------------------------------

WITHOUT = """
import sys
import kalamdb_lab as kalam
session = kalam.open(sys.argv[1]).session(namespace="studio")
for sql in sys.stdin:
    try:
        print(session.execute(sql).rows(), flush=True)
    except kalam.KalamError as error:
        print(error.code, error, flush=True)
"""


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "lab.kalam"
    with kalam.open(path) as db:
        root = db.session()
        root.execute_script(
            f"CREATE NAMESPACE studio; USE studio; CREATE USER TABLE notes {NOTES};"
            "CREATE USER 'mia' WITH INTERNAL ROLE user"
        )
        db.embed("studio.notes", "embedding", source="body", function=Toy())
        root.execute("INSERT INTO notes (id, body) VALUES (1, 'a cat')")
    return path


def test_another_process_is_told_which_function_is_missing(filled: Path) -> None:
    asked = {
        "INSERT INTO notes (id, body) VALUES (2, 'b')": f"NOT_FOUND {MISSING}",
        "UPDATE notes SET body = 'b' WHERE id = 1": f"NOT_FOUND {MISSING}",
        "SELECT id FROM notes ORDER BY L2_DISTANCE(embedding, 'b') LIMIT 1": f"NOT_FOUND {MISSING}",
        "INSERT INTO notes (id, body) VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET body = 'c'": f"NOT_FOUND {MISSING}",
        # What needs no function works as ever.
        "INSERT INTO notes (id, body, embedding) VALUES (3, 'b', '[1,1,1,1,1,1,1,1]')": "[]",
        "INSERT INTO notes (id, title, embedding) VALUES (4, 't', NULL)": "[]",
        "INSERT INTO notes (id, title) VALUES (5, 't')": "[]",
        "UPDATE notes SET title = 'x' WHERE true": "[]",
        "SELECT id FROM notes ORDER BY L2_DISTANCE(embedding, '[1,1,1,1,1,1,1,1]') LIMIT 1": "[(3,)]",
        "SELECT body FROM notes WHERE id = 1": "[('a cat',)]",
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(filled)],
        input="\n".join(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines() == list(asked.values())


def test_opened_again_it_goes_on_once_the_function_is_given(filled: Path) -> None:
    with kalam.open(filled) as db:
        session = db.session(namespace="studio")
        with pytest.raises(KalamError) as caught:
            session.insert("notes", pa.table({"id": [2], "body": ["b"]}))
        assert str(caught.value) == MISSING
        assert [e.is_registered for e in db.embeddings] == [False]
        before = session.definition("notes")
        db.embed("studio.notes", "embedding", source="body", function=Toy())
        assert session.definition("notes") == before
        assert [e.is_registered for e in db.embeddings] == [True]
        session.insert("notes", pa.table({"id": [2], "body": ["b"]}))
        assert session.execute(
            "SELECT id FROM notes ORDER BY L2_DISTANCE(embedding, 'b') LIMIT 1"
        ).rows() == [(2,)]


def test_a_function_of_another_dimension_is_not_taken_for_it(filled: Path) -> None:
    with kalam.open(filled) as db, pytest.raises(KalamError) as caught:
        db.embed("studio.notes", "embedding", source="body", function=Toy(dimension=4))
    assert caught.value.code == "DIMENSION_MISMATCH"


def test_a_user_may_give_the_function_for_the_own_sessions_only(filled: Path) -> None:
    toy = Toy()
    with kalam.open(filled, user="mia") as hers, kalam.open(filled) as db:
        insert = "INSERT INTO notes (id, body) VALUES (1, 'of mia')"
        with pytest.raises(KalamError) as caught:
            hers.embed("studio.notes", "embedding", source="title", function=toy)
        assert caught.value.code == "PERMISSION_DENIED"
        hers.embed("studio.notes", "embedding", source="body", function=toy)
        hers.session(namespace="studio").execute(insert)
        assert toy.texts == ["of mia"]
        for user in ("root", "mia"):
            with pytest.raises(KalamError) as caught:
                db.session(user, namespace="studio").execute(insert.replace("1", "2"))
            assert str(caught.value) == MISSING


def test_definitions_written_before_there_were_functions_still_load(s: Session, toy: Toy) -> None:
    s.execute(f"CREATE USER TABLE notes {NOTES}")
    s.embed("notes", "embedding", source="body", function=toy)
    table = s.definition("notes")
    assert table_from_bytes(table_to_bytes(table)) == table
    values = msgspec.msgpack.decode(table_to_bytes(table))
    (name,) = [key for key, value in values.items() if isinstance(value, bytes)]
    definition = msgspec.msgpack.decode(values[name])
    for change in definition[2]:
        change[4] = [column[:9] for column in change[4]]
    values[name] = msgspec.msgpack.encode(definition)
    older = table_from_bytes(msgspec.msgpack.encode(values))
    assert [c.name for c in older.columns] == [c.name for c in table.columns]
    assert [c.embedding for c in older.columns] == [None] * 4
