"""Values of every type, keys of every type, and rows that come many at once."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from kalamdb_lab.engine.session import Session
from kalamdb_lab.testing.jobs import finished

# --- values ---------------------------------------------------------------------------------------

TYPES: list[tuple[str, list[object], object]] = [
    ("BOOLEAN", [True, "true"], True),
    ("SMALLINT", [-32768, "-32768", Decimal("-32768.0")], -32768),
    ("INT", [2**31 - 1], 2**31 - 1),
    ("BIGINT", [2**63 - 1, str(2**63 - 1)], 2**63 - 1),
    ("FLOAT", [0.5, "0.5"], 0.5),
    ("DOUBLE", [0.1, 1e300], None),
    ("DECIMAL(8, 3)", [Decimal("1.2345"), "1.2345", 1.2345], Decimal("1.235")),
    ("TEXT", ["", "Zoë \U0001f600 '' \\ % ? ; --"], None),
    ("BYTES", [b"\x00\xff", b""], None),
    ("JSON", ['{"a": 1}', {"a": 1}], '{"a": 1}'),
    ("TIMESTAMP", [datetime(2031, 4, 30, 18, 5, 0, 123456), "2031-04-30T18:05:00.123456"],
     datetime(2031, 4, 30, 18, 5, 0, 123456)),
    ("DATETIME", [datetime(2031, 4, 30, 18, 5, tzinfo=UTC), "2031-04-30 20:05:00+02:00",
                  "2031-04-30 18:05:00"], datetime(2031, 4, 30, 18, 5, tzinfo=UTC)),
    ("DATE", [date(1, 1, 1), "0001-01-01"], date(1, 1, 1)),
    ("TIME", [time(23, 59, 59, 999999), "23:59:59.999999"], time(23, 59, 59, 999999)),
    ("UUID", [uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"], uuid.UUID(int=7)),
    ("EMBEDDING(2)", [[0.5, 2], (0.5, 2.0), "[0.5, 2]"], [0.5, 2.0]),
    ("INT[]", [[1, None, 3]], [1, None, 3]),
    ("TINYINT", [-128], -128),
    ("UBIGINT", [2**64 - 1], 2**64 - 1),
    ("STRUCT(a INT, b TEXT)", [{"a": 1, "b": "x"}], {"a": 1, "b": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "expected"), TYPES, ids=[kind for kind, *_ in TYPES])
def test_every_type_comes_back_as_it_was_given(
    s: Session, kind: str, given: list[object], expected: object
) -> None:
    s.execute(f"CREATE TABLE t (id INT PRIMARY KEY, v {kind})")
    for number, value in enumerate(given):
        s.execute("INSERT INTO t VALUES (?, ?)", [number, value])
    s.execute("INSERT INTO t VALUES (?, ?)", [99, None])
    want = [*(value if expected is None else expected for value in given), None]
    for after in ("SELECT 1", "STORAGE FLUSH TABLE t", "STORAGE COMPACT TABLE t"):
        finished(s, after)
        assert [row[0] for row in s.execute("SELECT v FROM t ORDER BY id")] == want
        assert s.execute("SELECT v FROM t WHERE id = 0").rows() == [(want[0],)]
        s.execute("UPDATE t SET v = v WHERE true")
    s.execute("CREATE TABLE u (id INT PRIMARY KEY, v " + kind + ")")
    s.execute("INSERT INTO u SELECT * FROM t")
    assert [row[0] for row in s.execute("SELECT v FROM u ORDER BY id")] == want


@pytest.mark.parametrize(
    ("kind", "value", "code", "message"),
    [
        ("SMALLINT", 32768, "OUT_OF_RANGE", "Column 'v': value is out of range for SMALLINT"),
        ("DECIMAL(8, 3)", 10**5, "OUT_OF_RANGE",
         "Column 'v': value is out of range for DECIMAL(8, 3)"),
        ("INT", "ten", "TYPE_MISMATCH", "Column 'v': cannot convert 'ten' to INT"),
        ("INT", 1.5, None, None),
        ("DATE", "2031-04-31", "INVALID_VALUE", "Column 'v': invalid DATE '2031-04-31'"),
        ("TIME", "25:00:00", "INVALID_VALUE", "Column 'v': invalid TIME '25:00:00'"),
        ("TIMESTAMP", "2031-04-30 10:00:00Z", None,
         "Column 'v': TIMESTAMP takes no offset; use DATETIME"),
        ("TIMESTAMP", datetime(2031, 4, 30, tzinfo=UTC), None,
         "Column 'v': TIMESTAMP takes no offset; use DATETIME"),
        ("JSON", "{a: 1}", "INVALID_VALUE", "Column 'v': invalid JSON"),
        ("UUID", "7", "INVALID_VALUE", "Column 'v': invalid UUID"),
        ("EMBEDDING(384)", [0.0] * 383, "DIMENSION_MISMATCH",
         "Column 'v' expects 384 dimensions, got 383"),
        ("EMBEDDING(8)", [0.0] * 6 + [float("nan"), 0.0], None,
         "Column 'v': component 7 is not a finite number"),
        ("TEXT", "a\0b", None, None),
        ("INT", "x" * 100, "TYPE_MISMATCH", None),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named_by_its_column(
    s: Session, refused: Any, kind: str, value: object, code: str | None, message: str | None
) -> None:
    s.execute(f"CREATE TABLE t (id INT PRIMARY KEY, v {kind}, w {kind})")
    error = refused(s, "INSERT INTO t (id, v) VALUES (1, ?)", [value])
    assert code is None or error.code == code
    assert message is None or str(error) == message
    assert "x" * 41 not in str(error)
    assert refused(s, "INSERT INTO t (id, v) VALUES (2, NULL), (1, ?)", [value]).code == error.code
    s.execute("INSERT INTO t VALUES (1, NULL, NULL)")
    assert refused(s, "UPDATE t SET v = ? WHERE id = 1", [value]).code == error.code
    assert refused(s, "UPDATE t SET v = ? WHERE w IS NULL", [value]).code == error.code
    assert s.execute("SELECT * FROM t").rows() == [(1, None, None)]


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize(
    ("kind", "first", "again", "other", "shown"),
    [
        ("TEXT", "Ann", "Ann", "ann", "'Ann'"),
        ("UUID", "AAAAAAAA-0000-0000-0000-00000000000F", "aaaaaaaa-0000-0000-0000-00000000000f",
         "aaaaaaaa-0000-0000-0000-000000000001", "'aaaaaaaa-0000-0000-0000-00000000000f'"),
        ("DECIMAL(9, 4)", "1.5", "1.50000", "1.5001", "1.5000"),
        ("DATE", "2031-04-30", "2031-04-30", "2031-05-01", "'2031-04-30'"),
        ("BYTES", b"\x0a\xff", b"\x0a\xff", b"\x0a", "X'0AFF'"),
        ("BOOLEAN", True, True, False, "True"),
        ("DATETIME", "2031-04-30 20:00:00+02:00", "2031-04-30 18:00:00", "2031-04-30 20:00:00",
         "'2031-04-30 18:00:00+00:00'"),
    ],
)  # fmt: skip
def test_keys_of_every_type_are_unique(
    s: Session, refused: Any, flushed: bool, kind: str, first: object, again: object,
    other: object, shown: str,
) -> None:  # fmt: skip
    s.execute(f"CREATE TABLE t (id {kind} PRIMARY KEY, n INT)")
    s.execute("INSERT INTO t VALUES (?, 1)", [first])
    if flushed:
        finished(s, "STORAGE FLUSH TABLE t")
    error = refused(s, "INSERT INTO t VALUES (?, 2)", [again])
    assert str(error) == f"Duplicate primary key: studio.t already has id = {shown}"
    s.execute("INSERT INTO t VALUES (?, 2)", [other])
    assert s.execute("UPDATE t SET n = 9 WHERE id = ?", [again]).rows_affected == 1
    assert s.execute("SELECT n FROM t WHERE id = ?", [first]).rows() == [(9,)]
    assert s.execute("DELETE FROM t WHERE ? = id", [again]).rows_affected == 1
    assert s.execute("SELECT n FROM t").rows() == [(2,)]


def test_two_users_may_have_equal_keys(s: Session, mia: Session, refused: Any) -> None:
    s.execute("CREATE USER TABLE t (id INT PRIMARY KEY, v TEXT)")
    s.execute("INSERT INTO t VALUES (1, 'root')")
    mia.execute("INSERT INTO t VALUES (1, 'mia')")
    assert refused(mia, "INSERT INTO t VALUES (1, 'again')").code == "DUPLICATE_KEY"
    assert s.execute("UPDATE t SET v = 'r' WHERE true").rows_affected == 1
    assert mia.execute("SELECT * FROM t").rows() == [(1, "mia")]


# --- bulk -----------------------------------------------------------------------------------------


def test_many_rows_become_a_segment_at_once_with_the_same_rules(s: Session, refused: Any) -> None:
    s.execute("CREATE USER TABLE t (id INT PRIMARY KEY, n INT NOT NULL, d TEXT DEFAULT 'x')")
    many = pa.table({"id": range(6000), "n": range(6000)})
    s.insert("t", many)
    assert len(s.execute("SHOW MANIFEST FOR TABLE t")) == 1
    assert s.execute("SELECT count(*), sum(n), min(d), max(_seq) - min(_seq) FROM t").rows() == [
        (6000, 17997000, "x", 5999)
    ]
    for bad, code in [
        (many, "DUPLICATE_KEY"),
        (pa.table({"id": [7000] * 6000, "n": range(6000)}), "DUPLICATE_KEY"),
        (pa.table({"id": range(6000, 12000), "n": [None] * 6000}), "NOT_NULL"),
    ]:
        with pytest.raises(Exception, match=".") as caught:
            s.insert("t", bad)
        assert getattr(caught.value, "code", None) == code
    sql = "INSERT INTO t (id, n) SELECT id + 10000, n FROM t"
    assert s.execute(sql).rows_affected == 6000
    assert s.execute("DELETE FROM t WHERE id % 2 = 0").rows_affected == 6000
    assert s.execute("UPDATE t SET n = -1 WHERE id < 100").rows_affected == 50
    assert s.execute("SELECT count(*), min(n) FROM t").rows() == [(6000, -1)]


def test_ids_of_our_own_are_distinct_and_grow(s: Session) -> None:
    s.execute("CREATE TABLE t (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), n INT)")
    for number in range(3):
        s.execute("INSERT INTO t (n) VALUES (?), (?)", [number, number])
    s.execute("INSERT INTO t (n) SELECT 3 FROM range(50)")
    ids = [row[0] for row in s.execute("SELECT id FROM t ORDER BY n, id")]
    assert len(set(ids)) == 56
    assert ids == sorted(ids)
    assert s.execute("UPDATE t SET n = SNOWFLAKE_ID() % 7 + 100 WHERE true").rows_affected == 56
    (row,) = s.execute(
        "SELECT UUID_V7(), ULID(), CAST(UUID_V7() AS TEXT), SNOWFLAKE_ID() > 0"
    ).rows()
    assert isinstance(row[0], uuid.UUID)
    assert (len(str(row[1])), len(str(row[2])), row[3]) == (26, 36, True)


def test_the_first_id_of_a_process_may_be_made_while_writing(fresh: Any) -> None:
    s = fresh.session()
    s.execute("CREATE TABLE t (id INT PRIMARY KEY, n BIGINT)")
    s.execute("INSERT INTO t VALUES (1, 1)")
    s.execute("UPDATE t SET n = SNOWFLAKE_ID() WHERE id = 1")
    assert s.execute("SELECT n > 1 FROM t").rows() == [(True,)]
