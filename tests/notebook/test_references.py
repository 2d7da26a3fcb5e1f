"""Which tables a statement reads that it does not define itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalamdb_lab.notebook.binding import BoundStatement, bind
from kalamdb_lab.notebook.cell_text import statements
from kalamdb_lab.notebook.references import outer_queries


def read(sql: str) -> list[str]:
    return [".".join(table.parts) for query in outer_queries(sql) for table in query.tables]


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT a FROM b, c.d AS e JOIN f USING (g)", ["b", "c.d", "f"]),
        ("SELECT (SELECT 1 FROM a) FROM b WHERE c IN (SELECT 1 FROM d)", ["a", "b", "d"]),
        ("WITH a AS (SELECT * FROM a), b AS (SELECT * FROM a) SELECT * FROM a, b", ["a"]),
        ("WITH RECURSIVE a AS (SELECT 1 UNION SELECT * FROM a) SELECT * FROM a, c", ["c"]),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a", ["a"]),
        ("WITH a AS (SELECT 1) SELECT 1 FROM a UNION SELECT 2 FROM a, b", ["b"]),
        ("(SELECT 1 FROM a) UNION SELECT 2 FROM b", ["a", "b"]),
        ("INSERT INTO t SELECT 1 FROM a RETURNING (SELECT 2 FROM b)", ["a", "b"]),
        ("INSERT INTO t (SELECT 1 FROM a) ON CONFLICT (id) DO NOTHING", ["a"]),
        ("UPDATE t SET a = (SELECT 1 FROM b) WHERE c = (SELECT 2 FROM d)", ["b", "d"]),
        ("EXPLAIN DELETE FROM t WHERE a IN (SELECT 1 FROM b)", ["b"]),
        ("EXECUTE AS USER 'mia' (SELECT * FROM a;)", ["a"]),
        ("CREATE TABLE t WITH (TYPE = 'SHARED') AS SELECT * FROM a", ["a"]),
        ("CREATE USER 'mia' WITH PASSWORD 'FROM a' ROLE user", []),
        ("SELECT 'FROM a' -- FROM b", []),
        ("SELECT * FROM range(5), unnest([1])", []),
        ("SHOW TABLES IN a", []),
        ("SELECT FROM WHERE", []),
        ("", []),
    ],
)
def test_are_found_whatever_the_statement(sql: str, tables: list[str]) -> None:
    assert read(sql) == tables


def test_stand_where_they_say() -> None:
    sql = 'SELECT 1 FROM a, "B b" WHERE c IN (SELECT 2 FROM d . e)'
    (query,) = outer_queries(sql)
    assert [sql[table.start] for table in query.tables] == ["a", '"', "d"]


@given(
    st.lists(st.sampled_from([":a", "{{a}}", "{{\n a\n}}", "IN :items", "x", "\n", "'q'"])),
    st.lists(st.tuples(st.integers(0, 200), st.text("ab\n ", max_size=9)), max_size=3),
)
def test_what_is_put_in_moves_no_other_place(
    words: list[str], insertions: list[tuple[int, str]]
) -> None:
    """Every offset maps to the cell as it did before, wherever texts were put in."""
    cell = "%%kalam\n" + " + ".join([*words, "here"])
    at = cell.index("\n")
    (statement,) = statements(" " * at + cell[at:])
    bound = bind(cell, statement, {"a": 1, "items": [1, 2, 3]})
    before = [bound.offset_in_cell(offset) for offset in range(len(bound.sql))]
    kept = list(range(len(bound.sql)))
    changed: BoundStatement = bound
    for wanted, text in insertions:
        place = min(wanted, len(changed.sql))
        changed = changed.inserted(place, text, shown_at=0)
        kept = [offset + len(text) if offset >= place else offset for offset in kept]
    assert [changed.sql[offset] for offset in kept] == list(bound.sql)
    assert [changed.offset_in_cell(offset) for offset in kept] == before
    alone = changed.alone()
    skipped = len(changed.sql) - len(changed.sql.lstrip())
    for offset in range(len(alone.sql)):
        assert alone.offset_in_cell(offset) == changed.offset_in_cell(offset + skipped)
