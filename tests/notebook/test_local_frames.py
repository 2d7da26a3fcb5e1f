"""Dataframes of the notebook, read by the name of their variable."""

from __future__ import annotations

import pytest

from tests.notebook.conftest import Kernel

FRAMES = """
import pandas as pd, polars as pl, pyarrow as pa
sales = pd.DataFrame({"id": [1, 2, 2], "Unit price": [1.5, 2.0, 2.5]})
people = pl.DataFrame({"id": [1, 2], "name": ["Ann", "Bo"]})
arrow = pa.table({"id": [2, 3]})
batch = arrow.to_batches()[0]
"""


@pytest.fixture(scope="module")
def frames(kernel: Kernel) -> Kernel:
    kernel.show(FRAMES)
    return kernel


def rows(kernel: Kernel, sql: str) -> object:
    kernel.show(f"%%kalam answer <<\n{sql}")
    return kernel.value("answer.rows()")


def test_are_read_by_name_and_the_footer_says_so(frames: Kernel) -> None:
    cell = frames.show(
        '%%kalam\nSELECT name, sum("Unit price") AS paid FROM sales s JOIN people USING (id)\n'
        "GROUP BY name ORDER BY name"
    )
    assert " Ann   1.5\n Bo    4.5\n" in cell.text
    assert cell.text.endswith(
        "root · sales: local pandas DataFrame, 3 rows · people: local polars DataFrame, 2 rows"
    )
    assert "sales: local pandas DataFrame, 3 rows" in cell.html


def test_of_every_kind(frames: Kernel) -> None:
    assert rows(frames, "SELECT id FROM arrow JOIN batch USING (id) ORDER BY id") == [(2,), (3,)]
    frames.show("kept = %kalam SELECT id FROM people WHERE id > 1")
    assert rows(frames, "SELECT id FROM kept") == [(2,)]


def test_are_looked_up_each_time(frames: Kernel) -> None:
    frames.show("some = pd.DataFrame({'a': [1]})")
    assert rows(frames, "SELECT * FROM some") == [(1,)]
    frames.show("some = pd.DataFrame({'b': ['x'], 'c': [2]})")
    assert rows(frames, "SELECT * FROM some") == [("x", 2)]
    frames.show("del some")
    assert frames.fails("%kalam SELECT * FROM some")[0] == (
        "NotFoundError: Table 'studio.some' not found"
    )
    frames.show("def first(some):\n    r = %kalam SELECT * FROM some\n    return r.rows()[0]")
    assert frames.value("first(arrow)") == (2,)


def test_never_hide_a_table(frames: Kernel) -> None:
    frames.show("tracks = pd.DataFrame({'id': [-1]})")
    cell = frames.show("%%kalam\nSELECT min(id) AS id FROM tracks")
    assert "  1\n1 row" in cell.text
    assert "local" not in cell.text
    assert rows(frames, "SELECT min(id) FROM local.tracks") == [(-1,)]
    both = "SELECT t.id, local.tracks.id FROM tracks t, local.tracks WHERE t.id = 1"
    assert rows(frames, both) == [(1, -1)]


def test_as_local_name_must_exist(frames: Kernel) -> None:
    assert frames.fails("%%kalam\nSELECT *\nFROM local.peopel") == [
        "NotFoundError: Local dataframe 'local.peopel' not found; did you mean 'local.people'?",
        "line 3:",
        "    FROM local.peopel",
        "         ^^^^^",
    ]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM peopl", "Table 'studio.peopl' not found; did you mean 'people'?"),
        ("SELECT * FROM People", "Table 'studio.people' not found; did you mean 'people'?"),
        ("SELECT * FROM track", "Table 'studio.track' not found; did you mean 'studio.tracks'?"),
        ("SELECT * FROM chat.peopl", "Table 'chat.peopl' not found"),
        ("DROP TABLE people", "Table 'studio.people' not found"),
    ],
)
def test_a_name_that_is_nearly_one_is_named(frames: Kernel, sql: str, message: str) -> None:
    lines = frames.fails(f"%%kalam\n{sql}")
    assert lines[0] == f"NotFoundError: {message}"
    assert lines[-1].strip().strip("^") == ""


def test_are_read_by_inserts(frames: Kernel) -> None:
    frames.show("%kalam CREATE TABLE folk (id BIGINT PRIMARY KEY, name TEXT)")
    cell = frames.show("%%kalam\nINSERT INTO folk SELECT id, name FROM people WHERE id < 2")
    assert cell.text.startswith("1 row inserted · ")
    assert cell.text.endswith(" · people: local polars DataFrame, 2 rows")
    frames.show("%kalam UPDATE folk SET name = 'x' WHERE id IN (SELECT id FROM local.people)")
    assert rows(frames, "SELECT * FROM folk") == [(1, "x")]


def test_are_read_in_snippets_and_as_another_user(frames: Kernel) -> None:
    frames.show("%%kalam --save named\nSELECT name FROM people")
    assert rows(frames, "SELECT count(*) FROM named, tracks WHERE tracks.id = 1") == [(2,)]
    frames.show("%%kalam --as mia seen <<\nSELECT CURRENT_USER() AS me, count(*) AS n FROM people")
    assert frames.value("seen.rows()") == [("mia", 2)]
    frames.show("%kalam snippets --delete named")


def test_are_gone_after_the_statement(frames: Kernel) -> None:
    rows(frames, "SELECT * FROM people")
    frames.show("session = get_ipython().magics_manager.registry['KalamMagic'].current_session")
    assert frames.value("len(session.relations)") == 0
    lines = frames.fails("session.execute('SELECT * FROM people')")
    assert "Table 'studio.people' not found" in lines[-1]
    assert frames.fails("%kalam CREATE VIEW v AS SELECT * FROM people")[0] == (
        "NotFoundError: Table 'studio.people' not found"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("people.lazy()", "'it' is a polars LazyFrame; read what it.collect() returns"),
        ("people['id']", "'it' is a polars Series; read what it.to_frame() returns"),
        ("sales['id']", "'it' is a pandas Series; read what it.to_frame() returns"),
        ("arrow.to_reader()", "'it' is an Arrow reader; read what it.read_all() returns"),
    ],
)
def test_what_is_no_table_yet_says_what_to_call(frames: Kernel, value: str, message: str) -> None:
    frames.show(f"it = {value}")
    assert frames.fails("%kalam SELECT * FROM it") == [
        f"NotSupportedError: {message}",
        "    %kalam SELECT * FROM it",
        "                         ^^",
    ]
    assert rows(frames, "SELECT 'it' AS it") == [("it",)]


def test_with_columns_that_cannot_be_are_refused(frames: Kernel) -> None:
    frames.show("odd = pd.DataFrame({'_seq': [1]})")
    assert frames.fails("%kalam SELECT * FROM odd")[0] == (
        "InvalidDefinitionError: 'odd': Column name '_seq' is reserved"
    )
    frames.show("odd = pd.DataFrame({'a': [object()]})")
    assert frames.fails("%kalam SELECT * FROM odd")[0].startswith(
        "TypeMismatchError: 'odd': Column"
    )


def test_cut_results_are_not_taken_for_the_whole(frames: Kernel) -> None:
    frames.show("%%kalam\nSELECT n FROM numbers")
    frames.show("cut = _")
    assert (
        "Only 1,000 of 1,500 rows were read" in frames.fails("%kalam SELECT count(*) FROM cut")[0]
    )
