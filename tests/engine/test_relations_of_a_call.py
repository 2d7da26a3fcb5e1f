"""Arrow tables that one call of `Session.execute` reads, and how far a statement is."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

import kalamdb_lab as kalam
from kalamdb_lab.engine.session import Session
from kalamdb_lab.errors import ClosedError, InvalidDefinitionError, NotFoundError

ROWS = pa.table({"id": [1, 2], "name": ["a", "b"]})


@pytest.fixture
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with kalam.open(tmp_path_factory.mktemp("relations") / "lab.kalam") as db:
        session = db.session()
        session.execute_script(
            "CREATE NAMESPACE shop; USE shop; CREATE USER 'mia' INTERNAL ROLE user;"
            "CREATE TABLE fruit (id BIGINT PRIMARY KEY, name TEXT);"
            "INSERT INTO fruit VALUES (7, 'fig')"
        )
        yield session


def test_are_read_by_that_call_and_by_no_other(session: Session) -> None:
    given = {"box": ROWS}
    assert session.execute("SELECT max(id) FROM Box", relations=given).rows() == [(2,)]
    assert session.execute_script("SELECT 1; SELECT * FROM box", relations=given)[1].rows() == [
        (1, "a"),
        (2, "b"),
    ]
    with pytest.raises(NotFoundError, match=r"^Table 'shop\.box' not found$"):
        session.execute("SELECT max(id) FROM Box")
    assert dict(session.relations) == {}


def test_hide_a_table_in_that_call_only(session: Session) -> None:
    sql = "SELECT name FROM fruit"
    assert session.execute(sql).rows() == [("fig",)]
    assert session.execute(sql, relations={"fruit": ROWS}).rows() == [("a",), ("b",)]
    assert session.execute(sql).rows() == [("fig",)]


def test_of_another_schema_make_another_plan(session: Session) -> None:
    sql = "SELECT * FROM box"
    for column in ("a", "b", "a"):
        table = pa.table({column: [1]})
        assert session.execute(sql, relations={"box": table}).columns == [column]


def test_called_local_are_named_like_that(session: Session) -> None:
    given = {"local.fruit": ROWS}
    sql = "SELECT fruit.id, local.fruit.name FROM local.fruit WHERE local.fruit.id > ?"
    assert session.execute(sql, [1], relations=given).rows() == [(2, "b")]
    both = "SELECT f.name, l.name FROM fruit f, LOCAL.Fruit l ORDER BY 2"
    assert session.execute(both, relations=given).rows() == [("fig", "a"), ("fig", "b")]
    with pytest.raises(NotFoundError, match=r"^Table 'local\.fruit' not found"):
        session.execute("SELECT * FROM local.fruit")
    with pytest.raises(NotFoundError, match=r"^Table 'remote\.fruit' not found"):
        session.execute("SELECT * FROM remote.fruit", relations={"remote.fruit": ROWS})


def test_are_read_by_changes_and_as_another_user(session: Session) -> None:
    given = {"box": ROWS}
    inserted = session.execute("INSERT INTO fruit SELECT * FROM box", relations=given)
    assert inserted.rows_affected == 2
    sql = "SELECT CURRENT_USER(), count(*) FROM box"
    assert session.execute(sql, as_user="mia", relations=given).rows() == [("mia", 2)]


def test_with_columns_of_the_system_are_refused(session: Session) -> None:
    with pytest.raises(InvalidDefinitionError, match="'_seq' is reserved"):
        session.execute("SELECT 1", relations={"box": pa.table({"_seq": [1]})})


@pytest.mark.slow
def test_progress_is_told_when_it_is_followed(session: Session) -> None:
    """What is read from segments is counted; nothing is told of what does not run."""
    session.execute("CREATE TABLE heap (id BIGINT PRIMARY KEY)")
    session.insert("heap", pa.table({"id": range(600_000)}))
    sql = "SELECT sum(levenshtein(md5(id::TEXT), md5((id + 1)::TEXT))) FROM heap"
    shares: list[float] = []
    assert session.progress is None
    session.follow_progress()
    done = threading.Event()

    def run() -> None:
        try:
            session.execute(sql)
        finally:
            done.set()

    thread = threading.Thread(target=run)
    thread.start()
    while not done.wait(0.01):
        if (share := session.progress) is not None:
            shares.append(share)
    thread.join()
    assert shares
    assert all(0 < share <= 1 for share in shares)
    assert session.progress is None


def test_definitions_have_a_revision(session: Session) -> None:
    seen = {session.definitions_revision}
    session.execute("INSERT INTO fruit VALUES (8, 'kiwi')")
    assert session.definitions_revision in seen
    for sql in (
        "CREATE TABLE more (id INT PRIMARY KEY)",
        "ALTER TABLE more ADD COLUMN a INT",
        "CREATE NAMESPACE other",
        "DROP TABLE more",
    ):
        session.execute(sql)
        assert session.definitions_revision not in seen
        seen.add(session.definitions_revision)


def test_a_closed_session_has_no_relations(session: Session) -> None:
    session.close()
    with pytest.raises(ClosedError):
        session.execute("SELECT * FROM box", relations={"box": ROWS})
