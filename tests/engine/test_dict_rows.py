"""Rows given as dicts: a key that one does not have is left out, and None is NULL."""

from __future__ import annotations

import pytest

from kalamdb_lab import KalamError
from kalamdb_lab.engine.session import Session


def _rows(s: Session) -> list[tuple[object, ...]]:
    return s.execute("SELECT * FROM people ORDER BY id").rows()


def test_a_dict_without_a_key_takes_the_default_and_none_is_null(s: Session) -> None:
    s.execute(
        "CREATE TABLE dd (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), a INT DEFAULT 7, "
        "j JSON DEFAULT '{}', t TEXT)"
    )
    s.insert("dd", [{"id": 1}, {"id": 2, "a": 3, "j": [1], "t": "x"}])
    s.insert("dd", [{"id": 3, "a": None}, {"id": 5, "j": None}])
    rows = [{"id": at, "a": 1} if at % 2 else {"id": at} for at in range(6, 30)]
    s.insert("dd", [*rows, {"a": 0}])
    found = s.execute("SELECT * FROM dd ORDER BY id").rows()
    assert found[:4] == [
        (1, 7, "{}", None),
        (2, 3, "[1]", "x"),
        (3, None, "{}", None),
        (5, 7, None, None),
    ]
    assert [row[:2] for row in found[4:-1]] == [(at, 1 if at % 2 else 7) for at in range(6, 30)]
    assert found[-1][0] > 2**40
    assert found[-1][1] == 0


def test_dicts_with_other_keys_are_inserted_together_or_not_at_all(s: Session) -> None:
    s.execute(
        "CREATE TABLE people (id INT PRIMARY KEY, name TEXT NOT NULL, phone TEXT, age INT DEFAULT 18)"
    )
    s.insert("people", [{"id": 2, "name": "Bob"}])
    with pytest.raises(KalamError, match=r"^Column 'name' of studio.people cannot be NULL$"):
        s.insert("people", [{"id": 9, "name": "Ida"}, {"id": 10}])
    with pytest.raises(KalamError, match=r"^Column 'nam' not found in"):
        s.insert("people", [{"id": 9, "name": "Ida"}, {"id": 10, "nam": "J"}])
    with pytest.raises(KalamError, match=r"^Duplicate primary key: .* has id = 2"):
        s.insert("people", [{"id": 9, "name": "Ida"}, {"id": 2, "name": "J", "age": 2}])
    assert _rows(s) == [(2, "Bob", None, 18)]
    s.insert("people", [{"id": 9, "name": "Ida"}, {"id": 8, "name": "J", "age": 2}])
    assert _rows(s)[1:] == [(8, "J", None, 2), (9, "Ida", None, 18)]
