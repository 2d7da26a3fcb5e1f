"""Bare names by which the engine would speak of itself are columns, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import kalamdb_lab as kalam
from kalamdb_lab.errors import NotFoundError, ParametersError


@pytest.mark.parametrize("name", ["user", "session_user", "current_role", "current_catalog"])
def test_a_name_that_is_no_column_is_not_found(tmp_path: Path, name: str) -> None:
    with kalam.open(tmp_path / "lab.kalam") as db:
        session = db.session()
        session.execute(f'CREATE TABLE t (id INT PRIMARY KEY, "{name}" TEXT)')
        session.execute("CREATE TABLE other (id INT PRIMARY KEY, body TEXT)")
        session.execute("INSERT INTO t VALUES (1, 'mine')")
        for sql in (f"SELECT {name}", f'SELECT "{name}" FROM other', f"SELECT ({name}) FROM other"):
            with pytest.raises(NotFoundError):
                session.execute(sql)
        with pytest.raises(NotFoundError):
            session.execute(f"UPDATE other SET body = {name} WHERE true")
        assert session.execute(f'SELECT "{name}" FROM t').rows() == [("mine",)]
        inner = f"SELECT (SELECT {name}), EXISTS (SELECT 1 FROM other WHERE {name} = 'mine') FROM t"
        session.execute("INSERT INTO other VALUES (1, 'theirs')")
        assert session.execute(inner).rows() == [("mine", True)]


@pytest.mark.parametrize("params", [{"s": "a"}, "a", {1}, 1])
def test_parameters_are_a_list_or_a_tuple(tmp_path: Path, params: object) -> None:
    with kalam.open(tmp_path / "lab.kalam") as db:
        session = db.session()
        with pytest.raises(ParametersError, match="^Parameters must be a list or a tuple$"):
            session.execute("SELECT ?", params)  # type: ignore[arg-type]
        assert session.execute("SELECT ?", ("a",)).rows() == [("a",)]
