"""INSERT, UPDATE and DELETE: counts, defaults, keys, refusals, and all or nothing."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

STATES = ["hot", "flushed", "mixed"]


@pytest.fixture(params=STATES)
def people(request: pytest.FixtureRequest, s: Session) -> Session:
    """Root with ``people`` 1 to 4, hot, flushed or both."""
    s.execute(
        """CREATE USER TABLE people (id INT PRIMARY KEY, name TEXT NOT NULL, phone TEXT,
        age INT DEFAULT 18);
        INSERT INTO people VALUES (1, 'Ann', '11', 30), (2, 'Bob', NULL, 40)"""
    )
    if request.param != "hot":
        finished(s, "STORAGE FLUSH TABLE people")
    s.execute("INSERT INTO people (id, name) VALUES (3, 'Cid'), (4, 'Dan')")
    if request.param == "flushed":
        finished(s, "STORAGE FLUSH TABLE people")
    return s


def people_rows(s: Session) -> list[tuple[object, ...]]:
    return s.execute("SELECT * FROM people ORDER BY id").rows()


PEOPLE = [(1, "Ann", "11", 30), (2, "Bob", None, 40), (3, "Cid", None, 18), (4, "Dan", None, 18)]


# --- INSERT ---------------------------------------------------------------------------------------


def test_a_write_answers_its_count_and_no_rows(people: Session) -> None:
    result = people.execute("INSERT INTO people VALUES (5, 'Eve', '5', 1), (6, 'Fay', '6', 2)")
    assert (result.rows_affected, result.columns, result.row_count) == (2, [], 0)
    assert people.execute("UPDATE people SET age = 0 WHERE id > 4").rows_affected == 2
    assert people.execute("DELETE FROM people WHERE id > 4").rows_affected == 2
    assert people.execute("DELETE FROM people WHERE id > 4").rows_affected == 0
    assert people.execute("UPDATE people SET age = 0 WHERE id > 4").rows_affected == 0
    assert people_rows(people) == PEOPLE


def test_what_is_left_out_takes_its_default_and_null_stays_null(s: Session) -> None:
    s.execute(
        """CREATE TABLE t (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), a TEXT DEFAULT 'x''y',
        n INT DEFAULT 2 + 3, u TEXT DEFAULT upper('abc'), d DECIMAL(5, 2) DEFAULT -1.5, e TEXT)"""
    )
    s.execute("INSERT INTO t (a, n) VALUES (NULL, DEFAULT), (DEFAULT, NULL)")
    s.execute("INSERT INTO t DEFAULT VALUES")
    assert sorted(s.execute("SELECT a, n, u, d, e FROM t").rows(), key=repr) == sorted(
        [
            (None, 5, "ABC", Decimal("-1.50"), None),
            ("x'y", None, "ABC", Decimal("-1.50"), None),
            ("x'y", 5, "ABC", Decimal("-1.50"), None),
        ],
        key=repr,
    )
    assert s.execute("SELECT count(DISTINCT id) FROM t").rows() == [(3,)]


def test_values_are_any_scalar_expressions(people: Session) -> None:
    people.execute(
        """INSERT INTO people (id, name, age) VALUES
        (5, upper('eve') || '!', (SELECT max(age) FROM people)),
        (2 * 3, CASE WHEN 1 < 2 THEN 'Fay' END, CAST('7' AS INT) % 4),
        (length('seven77'), CURRENT_USER(), 9 / 4)"""
    )
    assert people_rows(people)[4:] == [
        (5, "EVE!", None, 40),
        (6, "Fay", None, 3),
        (7, "root", None, 2),
    ]


def test_a_default_is_evaluated_for_each_row_as_the_inserting_user(s: Session) -> None:
    s.execute(
        """CREATE USER TABLE t (id INT PRIMARY KEY, who TEXT DEFAULT CURRENT_USER(),
        u UUID DEFAULT UUID_V7(), l TEXT DEFAULT ULID(), at DATETIME DEFAULT NOW(),
        x TEXT DEFAULT UUID_V7())"""
    )
    s.execute("EXECUTE AS USER 'mia' (INSERT INTO t (id) VALUES (1), (2), (3))")
    rows = s.execute("SELECT who, u, l, at, x FROM all_users('studio.t')").rows()
    assert {row[0] for row in rows} == {"mia"}
    assert len({row[1] for row in rows}) == len({row[2] for row in rows}) == 3
    assert len({row[3] for row in rows}) == 1
    assert all(uuid.UUID(str(row[4])).version == 7 for row in rows)


def test_an_insert_reads_the_rows_before_itself(people: Session) -> None:
    sql = "INSERT INTO people (id, name) SELECT id + 10, name FROM people"
    assert people.execute(sql).rows_affected == 4
    assert people.execute("SELECT count(*) FROM people").rows() == [(8,)]
    assert people.execute("INSERT INTO people SELECT * FROM people WHERE false").rows_affected == 0


def test_an_insert_from_a_query_takes_parameters_and_casts_only_safely(
    people: Session, refused: Any
) -> None:
    people.execute("INSERT INTO people (id, name) SELECT id + $1, $2 FROM people", [20, "copy"])
    assert people.execute("SELECT count(*) FROM people WHERE name = 'copy'").rows() == [(4,)]
    error = refused(
        people, "INSERT INTO people (id, name) SELECT 5000000000 + id, name FROM people"
    )
    assert str(error) == "Column 'id': value is out of range for INT"
    error = refused(people, "INSERT INTO people (id, name, age) SELECT 9, name, name FROM people")
    assert str(error) == "Cannot cast TEXT to INT in column 'age'"


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        (
            "INSERT INTO people VALUES (5, 'a', 'b', 1), (6, 'a', 'b', 1), (7, 'a', 'b')",
            "INVALID_DEFINITION",
            "INSERT has 3 values for 4 columns in row 3",
        ),
        ("INSERT INTO people (id, name) VALUES (5)", None, None),
        ("INSERT INTO people (id, name) SELECT 1", None, None),
        ("INSERT INTO people (id, ID) VALUES (5, 6)", None, "Column 'ID' appears twice"),
        ("UPDATE people SET age = 1, AGE = 2 WHERE true", None, "Column 'AGE' appears twice"),
        (
            "INSERT INTO people (id, tempo) VALUES (5, 6)",
            "NOT_FOUND",
            "Column 'tempo' not found in studio.people",
        ),
        (
            "UPDATE people SET tempo = 6 WHERE true",
            "NOT_FOUND",
            "Column 'tempo' not found in studio.people",
        ),
        ("INSERT INTO people (id, user_id) VALUES (5, 'mia')", "NOT_FOUND", None),
        ("INSERT INTO people (id, nmae) VALUES (5, 'x')", "NOT_FOUND",
         "Column 'nmae' not found in studio.people; did you mean 'name'?"),
        (
            "INSERT INTO people (id, _seq) VALUES (5, 6)",
            "READ_ONLY",
            "_seq is a system column and cannot be written",
        ),
        (
            "UPDATE people SET _deleted = true WHERE id = 1",
            "READ_ONLY",
            "_deleted is a system column and cannot be written",
        ),
        (
            "INSERT INTO people (id, phone) VALUES (5, 'x')",
            "NOT_NULL",
            "Column 'name' of studio.people cannot be NULL",
        ),
        (
            "UPDATE people SET name = NULL WHERE id = 1",
            "NOT_NULL",
            "Column 'name' of studio.people cannot be NULL",
        ),
        (
            "INSERT INTO people (name) VALUES ('x')",
            "NOT_NULL",
            "Column 'id' of studio.people cannot be NULL: it is the primary key",
        ),
        (
            "INSERT INTO people (id, name) VALUES (NULL, 'x')",
            "NOT_NULL",
            "Column 'id' of studio.people cannot be NULL: it is the primary key",
        ),
        (
            "INSERT INTO people (id, name) VALUES (9, 'x'), (2, 'y')",
            "DUPLICATE_KEY",
            "Duplicate primary key: studio.people already has id = 2",
        ),
        (
            "INSERT INTO people (id, name) VALUES (17, 'x'), (18, 'y'), (17, 'z')",
            "DUPLICATE_KEY",
            "Duplicate primary key: id = 17 appears twice in this statement",
        ),
        (
            "INSERT INTO people (id, name) SELECT id, name FROM people",
            "DUPLICATE_KEY",
            None,
        ),
        (
            "UPDATE people SET id = 9 WHERE id = 1",
            "READ_ONLY",
            "Primary key column 'id' cannot be updated",
        ),
        (
            "UPDATE people SET age = 1",
            "MISSING_WHERE",
            "UPDATE needs a WHERE clause; use WHERE true for all rows",
        ),
        (
            "DELETE FROM people",
            "MISSING_WHERE",
            "DELETE needs a WHERE clause; use WHERE true for all rows",
        ),
        (
            "UPDATE people SET age = 1 FROM other WHERE true",
            "NOT_SUPPORTED",
            "UPDATE ... FROM is not supported",
        ),
        (
            "DELETE FROM people USING other WHERE true",
            "NOT_SUPPORTED",
            "DELETE ... USING is not supported",
        ),
        ("DELETE FROM people WHERE true LIMIT 1", "NOT_SUPPORTED",
         "DELETE ... LIMIT is not supported"),
        ("MERGE INTO people USING o ON true", "NOT_SUPPORTED", "MERGE is not supported"),
        ("INSERT OR REPLACE INTO people VALUES (1, 'a', 'b', 1)", "NOT_SUPPORTED",
         "INSERT OR REPLACE is not supported"),
        ("INSERT INTO gone VALUES (1)", "NOT_FOUND", "Table 'studio.gone' not found"),
        ("UPDATE gone SET a = 1 WHERE true", "NOT_FOUND", "Table 'studio.gone' not found"),
        ("DELETE FROM gone WHERE true", "NOT_FOUND", "Table 'studio.gone' not found"),
        ("INSERT INTO system.users VALUES (1)", "READ_ONLY",
         "System table system.users is read-only"),
        ("UPDATE system.tables SET table_name = 'x' WHERE true", "READ_ONLY",
         "System table system.tables is read-only"),
        ("DELETE FROM system.namespaces WHERE true", "READ_ONLY",
         "System table system.namespaces is read-only"),
        ("INSERT INTO people (id, name) VALUES (5, 'x') AS USER 'mia'", "SYNTAX", None),
        ("INSERT INTO people VALUES (5, Bob, 'x', 1)", None, None),
        ("UPDATE people SET age = 1 / (age - 30) WHERE true", "DIVISION_BY_ZERO",
         "Division by zero"),
        ("UPDATE people SET age = age + 2147483640 WHERE true", "OUT_OF_RANGE", None),
        ("UPDATE people SET age = 3000000000 WHERE id = 1", "OUT_OF_RANGE",
         "Column 'age': value is out of range for INT"),
        ("UPDATE people SET age = 'ten' WHERE id = 1", "TYPE_MISMATCH",
         "Column 'age': cannot convert 'ten' to INT"),
        ("DELETE FROM people WHERE tempo = 1", "NOT_FOUND", None),
        ("DELETE FROM people AS p WHERE people.id = 1", "NOT_FOUND", None),
        ("DELETE FROM people WHERE count(*) > 1", None, None),
        ("INSERT INTO people (id, name) VALUES (5, 'x') RETURNING wobble(id)", "NOT_FOUND",
         "Function 'wobble' not found"),
        ("UPDATE people SET name = 'x' WHERE id = 1 RETURNING gone", "NOT_FOUND", None),
        ("DELETE FROM people WHERE id = 1 RETURNING 1 / 0", "DIVISION_BY_ZERO", None),
    ],
)  # fmt: skip
def test_a_bad_write_says_why_and_changes_nothing(
    people: Session, refused: Any, sql: str, code: str | None, message: str | None
) -> None:
    error = refused(people, sql)
    assert code is None or error.code == code, str(error)
    assert message is None or str(error) == message
    assert people_rows(people) == PEOPLE


def test_a_key_can_be_used_again_after_its_row_was_deleted(people: Session) -> None:
    people.execute("DELETE FROM people WHERE id IN (1, 4)")
    people.execute("INSERT INTO people (id, name) VALUES (1, 'Amy'), (4, 'Dee')")
    people.execute("DELETE FROM people WHERE id = 1")
    finished(people, "STORAGE FLUSH TABLE people; INSERT INTO people (id, name) VALUES (1, 'Abe')")
    assert [row[1] for row in people_rows(people)] == ["Abe", "Bob", "Cid", "Dee"]


# --- UPDATE and DELETE ----------------------------------------------------------------------------


def test_all_assignments_see_the_old_row(people: Session) -> None:
    people.execute(
        "UPDATE people SET phone = name, name = coalesce(phone, '?'), age = age + id "
        "WHERE age >= 30"
    )
    assert people_rows(people)[:2] == [(1, "11", "Ann", 31), (2, "?", "Bob", 42)]


def test_an_update_reads_other_rows_as_they_were(people: Session) -> None:
    people.execute(
        "UPDATE people AS p SET age = (SELECT sum(age) FROM people q WHERE q.id <> p.id) "
        "WHERE p.id IN (SELECT id FROM people WHERE age > 18)"
    )
    assert [row[3] for row in people_rows(people)] == [76, 66, 18, 18]


def test_an_update_takes_defaults_parameters_and_functions(people: Session) -> None:
    people.execute("UPDATE people SET age = DEFAULT, phone = $2 WHERE name = $1", ["Ann", "99"])
    assert people_rows(people)[0] == (1, "Ann", "99", 18)
    people.execute("UPDATE people SET name = upper(name), age = NULL WHERE id = ?", [1])
    assert people_rows(people)[0] == (1, "ANN", "99", None)


def test_a_row_that_stays_the_same_is_no_new_version(people: Session) -> None:
    before = people.execute("SELECT id, _seq FROM people ORDER BY id").rows()
    for sql in (
        "UPDATE people SET name = name WHERE true",
        "UPDATE people SET name = 'Ann' WHERE id = 1",
        "UPDATE people SET phone = NULL WHERE id = 2",
    ):
        result = people.execute(f"{sql} RETURNING id")
        assert (result.rows_affected, result.rows()) == (0, [])
    assert people.execute("UPDATE people SET age = 18 WHERE true").rows_affected == 2
    after = people.execute("SELECT id, _seq FROM people ORDER BY id").rows()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True, True]
    assert after[0][1] > before[0][1]


@pytest.mark.parametrize(
    "where",
    [
        "id = 2",
        "2 = id",
        "people.id = 2",
        "ID = '2'",
        "id = 2.0",
        "id BETWEEN 2 AND 2",
        "name LIKE 'B%' AND phone IS NULL",
        "EXISTS (SELECT 1 FROM people q WHERE q.id = people.id AND q.age = 40)",
        "_seq = (SELECT min(_seq) FROM people WHERE name = 'Bob')",
        "NOT _deleted AND age = 40",
    ],
)
def test_a_condition_finds_its_row(people: Session, where: str) -> None:
    people.execute("ALTER TABLE people ADD COLUMN mark TEXT")
    assert people.execute(f"UPDATE people SET mark = 'x' WHERE {where}").rows_affected == 1
    assert people.execute(f"SELECT id, mark FROM people WHERE {where}").rows() == [(2, "x")]
    assert people.execute(f"DELETE FROM people WHERE {where}").rows_affected == 1
    assert [row[0] for row in people_rows(people)] == [1, 3, 4]


@pytest.mark.parametrize("where", ["id = NULL", "id = 7", "id = 2.5", "NULL", "false"])
def test_a_condition_that_fits_nothing_changes_nothing(people: Session, where: str) -> None:
    assert people.execute(f"DELETE FROM people WHERE {where}").rows_affected == 0
    assert people_rows(people) == PEOPLE


# --- RETURNING ------------------------------------------------------------------------------------


def test_returning_answers_rows_beside_the_count(people: Session) -> None:
    made = people.execute(
        "INSERT INTO people (id, name) VALUES (9, 'Ida'), (8, 'Hal') "
        'RETURNING id, upper(name) AS "N", age, CURRENT_USER() AS who'
    )
    assert (made.rows_affected, made.columns) == (2, ["id", "N", "age", "who"])
    assert made.rows() == [(9, "IDA", 18, "root"), (8, "HAL", 18, "root")]
    changed = people.execute(
        "UPDATE people AS p SET age = age + 1 WHERE id > 7 RETURNING p.id, age"
    )
    assert sorted(changed.rows()) == [(8, 19), (9, 19)]
    gone = people.execute("DELETE FROM people WHERE id > 7 RETURNING *")
    assert sorted(gone.rows()) == [(8, "Hal", None, 19), (9, "Ida", None, 19)]
    assert people.execute("DELETE FROM people WHERE id > 7 RETURNING *").rows() == []


def test_returning_names_system_columns_when_asked(people: Session) -> None:
    ((seq, deleted),) = people.execute(
        "INSERT INTO people (id, name) VALUES (9, 'x') RETURNING _seq, _deleted"
    ).rows()
    assert deleted is False
    assert people.execute("SELECT id FROM people WHERE _seq = ?", [seq]).rows() == [(9,)]
    ((next_seq,),) = people.execute("UPDATE people SET age = 1 WHERE id = 9 RETURNING _seq").rows()
    assert next_seq > seq
    assert people.execute("DELETE FROM people WHERE id = 9 RETURNING _deleted").rows() == [(True,)]


def test_returning_may_ask_a_subquery(people: Session) -> None:
    answer = people.execute(
        "UPDATE people SET age = 1 WHERE id = 1 RETURNING id, (SELECT count(*) FROM people) AS n"
    )
    assert answer.rows() == [(1, 4)]


# --- frames ---


def test_rows_come_from_frames_and_arrow(people: Session, refused: Any) -> None:
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame({"NAME": ["Eve", "Fay"], "id": [5, 6]})
    assert people.insert("people", frame).rows_affected == 2
    assert people.insert("studio.people", pa.table({"id": [7], "name": ["Gus"]})).rows_affected == 1
    assert people_rows(people)[4:] == [
        (5, "Eve", None, 18), (6, "Fay", None, 18), (7, "Gus", None, 18),
    ]  # fmt: skip
    for rows, message in [
        ({"id": [8], "tempo": [1]}, "Column 'tempo' not found in studio.people"),
        ({"id": [8]}, "Column 'name' of studio.people cannot be NULL"),
        ({"id": [1], "name": ["x"]}, "Duplicate primary key: studio.people already has id = 1"),
        ({"id": [8], "_seq": [1]}, "_seq is a system column and cannot be written"),
        ({"id": ["ten"], "name": ["x"]}, "Column 'id': cannot convert 'ten' to INT"),
    ]:
        with pytest.raises(Exception, match=".") as caught:
            people.insert("people", rows)
        assert str(caught.value) == message
    assert people.execute("SELECT count(*) FROM people").rows() == [(7,)]
